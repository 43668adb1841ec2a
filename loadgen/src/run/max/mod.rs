//! `pelton bench max`: the highest rate that meets an objective as an interval, and its limit.

mod search;

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::time::Duration;

use super::cell::{self, Label};
use super::choices::{Rate, duration};
use super::options::RunArgs;
use super::result_file::{ResultFile, was_interrupted};
use super::site::Site;
use super::{
    EXIT_ERROR, EXIT_INTEGRITY, EXIT_INTERRUPTED, EXIT_OK, EXIT_SLO, RunError, abort_on_signals,
};
use crate::integrity::IntegrityVerdict;
use crate::report::{Run, Unit};
use crate::schedule::Arrivals;
use crate::slo::Slo;
use search::{Outcome, Search, Step};

/// Name and version of the schema of a search.
pub const MAX_SCHEMA: &str = "pelton.bench.max/1";
/// A run's records are read back for this long.
const READ_BACK_MAX: Duration = Duration::from_secs(3);
/// The closed loop that tells where to begin.
const GUESS: Duration = Duration::from_secs(1);
/// The search begins at this share of the closed loop's rate.
const BEGIN_AT_PERCENT: u64 = 40;

/// What a rate has to meet where `--slo` does not say.
const DEFAULT_SLO: &str = "p99<10ms";

/// Finds the highest rate that meets --slo (p99<10ms unless it says otherwise)
#[derive(Args, Clone, Debug)]
pub struct MaxArgs {
    /// Length of each probe; --duration is that of the hold that confirms the answer
    #[arg(long, default_value = "3s", value_name = "DUR", value_parser = duration)]
    probe: Duration,
    /// Begin with this rate instead of a guess by a closed loop
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    from: Option<u64>,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

/// The result of a search.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Max {
    /// [`MAX_SCHEMA`].
    pub schema: String,
    /// What a rate had to meet.
    pub slo: String,
    /// The highest rate that held for the whole hold; null if none did.
    pub capacity_records_per_s: Option<u64>,
    /// The lowest rate that failed; null if none did.
    pub fails_at_records_per_s: Option<u64>,
    /// Why it failed.
    pub limited_by: Option<String>,
    /// Whether it ended before the search did.
    pub interrupted: bool,
    /// All probes and holds, in order.
    pub probes: Vec<Probe>,
    /// Their results, in the same order.
    pub runs: Vec<Run>,
}

/// One rate that was tried.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Probe {
    /// Records per second.
    pub offered_records_per_s: u64,
    /// Whether this was the long confirmation.
    pub hold: bool,
    /// Whether it met the objective.
    pub passed: bool,
    /// Why not.
    pub why: Option<String>,
}

/// Searches.
pub(super) fn run(args: &MaxArgs) -> Result<u8, RunError> {
    if args.probe.is_zero() {
        return Err(RunError::Usage("--probe is above zero".to_owned()));
    }
    let file = ResultFile::of(&args.run, "max");
    let mut result = Max {
        schema: MAX_SCHEMA.to_owned(),
        slo: objective(args).to_string(),
        capacity_records_per_s: None,
        fails_at_records_per_s: None,
        limited_by: None,
        interrupted: true,
        probes: Vec::new(),
        runs: Vec::new(),
    };
    let ended = search(args, &mut result);
    file.keep(&result)?;
    result.interrupted = was_interrupted(ended)?;
    file.finish(&result, || render(&result))?;
    Ok(result.exit_code())
}

fn search(args: &MaxArgs, result: &mut Max) -> Result<(), RunError> {
    let mut site = Site::open(&args.run, abort_on_signals()?)?;
    let first = match args.from {
        Some(rate) => rate,
        None => {
            let closed = RunArgs { rate: Rate::Max, duration: GUESS, ..args.run.clone() };
            let label = label("closed loop:");
            let guess = cell::measure(&mut site, &closed, &label)?;
            let rate = guess.load.achieved_records_per_s.unwrap_or(0);
            (rate.saturating_mul(BEGIN_AT_PERCENT) / 100).max(1)
        }
    };
    let mut search = Search::new(first);
    loop {
        let step = search.step();
        if step == Step::End {
            return Ok(());
        }
        let outcome = one(&mut site, args, step, result)?;
        search.note(step, outcome);
        (result.capacity_records_per_s, result.fails_at_records_per_s) = search.answer();
        let lowest = result.probes.iter().filter(|probe| !probe.passed);
        let lowest = lowest.min_by_key(|probe| probe.offered_records_per_s);
        result.limited_by = lowest.and_then(|probe| probe.why.clone());
    }
}

fn objective(args: &MaxArgs) -> Slo {
    let default = || DEFAULT_SLO.parse().expect("a constant that is well-formed");
    args.run.slo.clone().unwrap_or_else(default)
}

fn label(text: &str) -> Label {
    Label { text: text.to_owned(), read_back_max: Some(READ_BACK_MAX), ..Label::default() }
}

/// Measures one rate, and notes it.
fn one(site: &mut Site, args: &MaxArgs, step: Step, result: &mut Max) -> Result<Outcome, RunError> {
    let (rate, hold) = match step {
        Step::Probe(rate) => (rate, false),
        Step::Hold(rate) => (rate, true),
        Step::End => return Ok(Outcome::Failed),
    };
    let what = if hold { "hold" } else { "probe" };
    let name = format!("{what} {}:", Unit::PerSecond.show(Some(rate)));
    let probe = RunArgs {
        rate: Rate::Open(Arrivals::Constant { rate }),
        duration: if hold { args.run.duration } else { args.probe },
        ..args.run.clone()
    };
    let run = cell::measure(site, &probe, &label(&name))?;
    let why = failure(&run, &objective(args));
    if !args.run.quiet {
        eprintln!("{name} {}", why.as_deref().unwrap_or("ok"));
    }
    let passed = why.is_none();
    result.probes.push(Probe { offered_records_per_s: rate, hold, passed, why });
    result.runs.push(run);
    Ok(if passed { Outcome::Passed } else { Outcome::Failed })
}

/// Why a run does not pass.
fn failure(run: &Run, slo: &Slo) -> Option<String> {
    // What makes the figures worthless comes first.
    let stops = ["integrity_failed", "starved", "clock", "errors", "client_limited", "overloaded"];
    let named = |reason: &&String| stops.iter().any(|name| reason.starts_with(name));
    if let Some(reason) = run.validity.reasons.iter().find(named) {
        return Some(reason.clone());
    }
    slo.outcomes(run).into_iter().find_map(|outcome| outcome.why)
}

fn render(result: &Max) -> String {
    let mut text = String::new();
    let mut put = |line: &str| writeln!(text, "{line}").expect("writing to a string does not fail");
    let show = |rate: Option<u64>| Unit::PerSecond.show(rate);
    put(&format!("objective    {}", result.slo));
    for (probe, run) in result.probes.iter().zip(&result.runs) {
        let latency = |summary: &Option<crate::latency::Summary>| {
            Unit::Nanoseconds.show(summary.as_ref().and_then(|summary| summary.p99))
        };
        put(&format!(
            "{:<6} {:>14} offered, {:>14} achieved, p99 {:>9}  {}",
            if probe.hold { "hold" } else { "probe" },
            show(Some(probe.offered_records_per_s)),
            show(run.load.achieved_records_per_s),
            latency(&run.latency_ns.response),
            probe.why.as_deref().unwrap_or("ok"),
        ));
    }
    match (result.capacity_records_per_s, result.fails_at_records_per_s) {
        (Some(capacity), Some(fails)) => put(&format!(
            "capacity     {} records/s (held), fails at {}",
            show(Some(capacity)),
            show(Some(fails))
        )),
        (Some(capacity), None) => {
            put(&format!("capacity     {} records/s or more", show(Some(capacity))));
        }
        (None, _) => put("capacity     no rate held"),
    }
    if let Some(why) = &result.limited_by {
        put(&format!("limited by   {why}"));
    }
    if result.interrupted {
        put("interrupted: the search is not finished");
    }
    text
}

impl Max {
    fn exit_code(&self) -> u8 {
        let failed = |run: &Run| run.integrity.verdict == IntegrityVerdict::Failed;
        if self.runs.iter().any(failed) {
            EXIT_INTEGRITY
        } else if self.interrupted {
            EXIT_INTERRUPTED
        } else if self.runs.is_empty() {
            EXIT_ERROR
        } else if self.capacity_records_per_s.is_none() {
            EXIT_SLO
        } else {
            EXIT_OK
        }
    }
}
