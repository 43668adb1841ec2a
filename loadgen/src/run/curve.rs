//! `pelton bench curve`: latency against rate, from idle to beyond saturation.

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::cell::{self, Label};
use super::choices::Rate;
use super::options::RunArgs;
use super::result_file::{ResultFile, was_interrupted};
use super::site::Site;
use super::{EXIT_ERROR, EXIT_INTEGRITY, EXIT_INTERRUPTED, EXIT_OK, RunError, abort_on_signals};
use crate::integrity::IntegrityVerdict;
use crate::random::Random;
use crate::report::{Figure, Run, Unit};
use crate::schedule::Arrivals;

/// Name and version of the schema of a curve.
pub const CURVE_SCHEMA: &str = "pelton.bench.curve/1";
/// Per cent of the closed loop's rate.
const STEPS_PERCENT: [u64; 11] = [5, 10, 20, 35, 50, 65, 75, 85, 95, 100, 110];
/// A run's records are read back for this long.
const READ_BACK_MAX: Duration = Duration::from_secs(3);

/// Measures latency against rate, from idle to beyond saturation
#[derive(Args, Clone, Debug)]
pub struct CurveArgs {
    /// Rates to offer, e.g. 10k,50k,100k [default: 5 % to 110 % of a closed loop's]
    #[arg(long, value_name = "N,..", value_delimiter = ',')]
    rates: Vec<Arrivals>,
    /// Seed of the order of the runs [default: random]
    #[arg(long, value_name = "N")]
    order_seed: Option<u64>,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

/// A curve.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Curve {
    /// [`CURVE_SCHEMA`].
    pub schema: String,
    /// What a closed loop reached; null where rates were given.
    pub closed_loop_records_per_s: Option<u64>,
    /// Seed of the order in which the rates were offered.
    pub order_seed: u64,
    /// Whether it ended before all rates were offered.
    pub interrupted: bool,
    /// The runs, by rising rate.
    pub runs: Vec<Run>,
}

/// Measures the curve.
pub(super) fn run(args: &CurveArgs) -> Result<u8, RunError> {
    let file = ResultFile::of(&args.run, "curve");
    let mut curve = Curve {
        schema: CURVE_SCHEMA.to_owned(),
        closed_loop_records_per_s: None,
        order_seed: args.order_seed.unwrap_or_else(crate::clock::monotonic_ns),
        interrupted: true,
        runs: Vec::new(),
    };
    let ended = measure(args, &mut curve);
    curve.runs.sort_by_key(|run| run.options.rate_records_per_s);
    curve.interrupted = was_interrupted(ended)?;
    file.finish(&curve, || render(&curve))?;
    Ok(curve.exit_code())
}

fn measure(args: &CurveArgs, curve: &mut Curve) -> Result<(), RunError> {
    let mut site = Site::open(&args.run, abort_on_signals()?)?;
    let label =
        |text: String| Label { text, read_back_max: Some(READ_BACK_MAX), ..Label::default() };
    let mut rates = args.rates.clone();
    if rates.is_empty() {
        let closed = RunArgs { rate: Rate::Max, ..args.run.clone() };
        let run = cell::measure(&mut site, &closed, &label("closed loop:".to_owned()))?;
        let most = run.load.achieved_records_per_s.unwrap_or(0);
        curve.closed_loop_records_per_s = Some(most);
        let share = |percent: u64| (most.saturating_mul(percent) / 100).max(1);
        rates = STEPS_PERCENT.map(|percent| Arrivals::Constant { rate: share(percent) }).into();
    }
    // So that a machine that gets slower does not bend the curve.
    Random::stream(curve.order_seed, 5).shuffle(&mut rates);
    for (index, arrivals) in rates.iter().enumerate() {
        if site.abort.load(Ordering::Relaxed) {
            return Err(RunError::Interrupted);
        }
        let name = format!("[{}/{}] {arrivals}:", index + 1, rates.len());
        let point = RunArgs { rate: Rate::Open(arrivals.clone()), ..args.run.clone() };
        let run = cell::measure(&mut site, &point, &label(name.clone()))?;
        if !args.run.quiet {
            let p99 = Unit::Nanoseconds.show(run.response(crate::report::Percentile::P99));
            eprintln!("{name} p99 {p99} ({})", run.validity.status);
        }
        curve.runs.push(run);
    }
    Ok(())
}

fn render(curve: &Curve) -> String {
    const NAMES: [&str; 6] = [
        "records_per_s",
        "response_p50_ns",
        "response_p99_ns",
        "response_p999_ns",
        "service_p99_ns",
        "broker_cpu_ns_per_record",
    ];
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    let columns = ["offered", "achieved", "p50", "p99", "p99.9", "service p99", "CPU/record"];
    table.set_header(columns.iter().chain(&["validity"]).copied());
    for run in &curve.runs {
        let figures = NAMES.iter().map(|name| {
            let figure = Figure::named(name);
            figure.unit.show((figure.of)(run))
        });
        let offered = std::iter::once(Unit::PerSecond.show(run.options.rate_records_per_s));
        table.add_row(offered.chain(figures).chain([run.validity.status.clone()]));
    }
    for index in 0..columns.len() {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = table.to_string();
    if let Some(rate) = curve.closed_loop_records_per_s {
        text += &format!("\nclosed loop: {} records/s", Unit::PerSecond.show(Some(rate)));
    }
    if curve.interrupted {
        text += "\ninterrupted: not all rates were offered";
    }
    text
}

impl Curve {
    fn exit_code(&self) -> u8 {
        let failed = |run: &Run| run.integrity.verdict == IntegrityVerdict::Failed;
        if self.runs.iter().any(failed) {
            EXIT_INTEGRITY
        } else if self.interrupted {
            EXIT_INTERRUPTED
        } else if self.runs.is_empty() {
            EXIT_ERROR
        } else {
            EXIT_OK
        }
    }
}
