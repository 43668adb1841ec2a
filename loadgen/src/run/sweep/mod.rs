//! `pelton bench sweep`: the same load over a grid of settings, in random order, several times.

mod csv;
pub(super) mod knob;
mod plan;
mod table;

use clap::Args;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::cell::{self, Label};
use super::options::RunArgs;
use super::result_file::ResultFile;
use super::site::Site;
use super::{
    EXIT_ERROR, EXIT_INTEGRITY, EXIT_INTERRUPTED, EXIT_OK, RunError, ServeFlags, abort_on_signals,
    write_text,
};
use crate::floor::{CellChoice, SliceBudget};
use crate::integrity::IntegrityVerdict;
use crate::page::Document;
use crate::report::{Analysis, Attempt, Knob, Run, Set, Sweep};
use plan::{Plan, parse_vary};

/// Most rounds.
const REPEAT_MAX: i64 = 1_000;
/// The limits are measured this long before each run ..
const BEFORE: SliceBudget = SliceBudget {
    durable_write: Duration::from_millis(200),
    plain_write: Duration::from_millis(80),
    echo: Duration::from_millis(120),
    disk_cell: Duration::from_millis(10),
    disk_cells: CellChoice::All,
    loopback: Duration::from_millis(120),
    lateness: Duration::from_millis(100),
};
/// .. and this long after it.
const AFTER: SliceBudget = SliceBudget {
    durable_write: Duration::from_millis(200),
    plain_write: Duration::from_millis(80),
    echo: Duration::from_millis(120),
    disk_cell: Duration::from_millis(40),
    disk_cells: CellChoice::Best(2),
    loopback: Duration::from_millis(120),
    lateness: Duration::from_millis(100),
};
/// A run's records are read back for this long.
const READ_BACK_MAX: Duration = Duration::from_secs(5);

/// Measures a load over a grid of settings, each cell beside this machine's limits
#[derive(Args, Clone, Debug)]
pub struct SweepArgs {
    /// A knob and its values, repeatable: a flag of `bench run` without dashes, or broker.KEY for
    /// a flag of `serve`; values that hold commas are separated by semicolons
    #[arg(long, required = true, value_name = "KEY=A,B,..", value_parser = parse_vary)]
    vary: Vec<Knob>,
    /// Rounds; each runs every cell once, in an order of its own
    #[arg(
        long,
        default_value_t = 1,
        value_name = "N",
        value_parser = clap::value_parser!(i64).range(1..=REPEAT_MAX)
    )]
    repeat: i64,
    /// Seed of the order of the runs [default: random]
    #[arg(long, value_name = "N")]
    order_seed: Option<u64>,
    /// Write a row per run to this file
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Do not measure this machine's limits beside each run
    #[arg(long, conflicts_with = "floor")]
    without_floor: bool,
    /// Go on with an interrupted sweep, whose result this is: the same flags, and the same file
    /// unless --json names another
    #[arg(long, value_name = "FILE", conflicts_with = "order_seed")]
    resume: Option<PathBuf>,
    /// Check and print the plan, and run nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    run: RunArgs,
}

/// Runs the sweep.
pub(super) fn run(args: &SweepArgs, serve: &ServeFlags) -> Result<u8, RunError> {
    let base = RunArgs { floor: !args.without_floor, ..args.run.clone() };
    let repeat = u32::try_from(args.repeat).expect("its range is checked when it is parsed");
    let begun = args.resume.as_deref().map(begun).transpose()?;
    let order_seed = match &begun {
        Some((_, sweep)) => sweep.order_seed,
        None => args.order_seed.unwrap_or_else(crate::clock::monotonic_ns),
    };
    let plan =
        Plan::new(args.vary.clone(), repeat, order_seed, &base, serve).map_err(RunError::Usage)?;
    if !args.run.quiet {
        eprintln!("{}", plan.sentence());
    }
    if args.dry_run {
        return Ok(EXIT_OK);
    }
    let set = match begun {
        Some((set, sweep)) => continued(set, &sweep, &plan)?,
        None => fresh(&plan),
    };
    let json = args.run.json.clone().or_else(|| args.resume.clone());
    let file = ResultFile::of(&RunArgs { json, ..args.run.clone() }, "sweep");
    let abort = abort_on_signals()?;
    let mut set = drive(&plan, set, &file, &abort)?;
    set.analysis = Analysis::of(&set);
    if let Some(path) = &args.csv {
        write_text(path, &csv::rows(&plan, &set))?;
    }
    file.finish(&set, || table::render(&plan, &set))?;
    Ok(exit_code(&set))
}

/// A sweep that was begun before.
fn begun(path: &Path) -> Result<(Set, Sweep), RunError> {
    let usage = |reason: String| RunError::Usage(format!("--resume {}: {reason}", path.display()));
    match Document::read(path).map_err(|error| RunError::Usage(error.to_string()))? {
        Document::Set(set) => match set.sweep.clone() {
            Some(sweep) => Ok((*set, sweep)),
            None => Err(usage("it is the result of no sweep".to_owned())),
        },
        _ => Err(usage("it is the result of no sweep".to_owned())),
    }
}

/// The sweep of before, if it had the same plan.
fn continued(mut set: Set, sweep: &Sweep, plan: &Plan) -> Result<Set, RunError> {
    let cells: Vec<_> = plan.cells.iter().map(|cell| cell.settings.clone()).collect();
    if sweep.vary != plan.knobs || sweep.cells != cells || sweep.repeat != plan.repeat {
        return Err(RunError::Usage(
            "--resume: it had another plan: pass the same --vary and --repeat".to_owned(),
        ));
    }
    if let Some(sweep) = &mut set.sweep {
        sweep.interrupted = true;
    }
    Ok(set)
}

/// A sweep that has not begun.
fn fresh(plan: &Plan) -> Set {
    let mut set = Set::new(Vec::new());
    set.sweep = Some(Sweep {
        vary: plan.knobs.clone(),
        cells: plan.cells.iter().map(|cell| cell.settings.clone()).collect(),
        repeat: plan.repeat,
        order_seed: plan.order_seed,
        // Until it has come to its end.
        interrupted: true,
        attempts: Vec::new(),
    });
    set
}

/// Makes the runs that are not made yet. What was measured by then is in the file after each.
fn drive(
    plan: &Plan,
    mut set: Set,
    file: &ResultFile,
    abort: &Arc<AtomicBool>,
) -> Result<Set, RunError> {
    let made = set.sweep.as_ref().map_or(0, |sweep| sweep.attempts.len());
    let total = plan.cells.len() * plan.repeat as usize;
    let runs = (0..plan.repeat)
        .flat_map(|round| plan.order(round).into_iter().map(move |cell| (round, cell)));
    for (index, (round, number)) in runs.enumerate().skip(made) {
        let cell = &plan.cells[number];
        let name = cell.name(&plan.knobs);
        let label = Label {
            text: format!("[{}/{total}] {name}:", index + 1),
            read_back_max: Some(READ_BACK_MAX),
            ..Label::default()
        };
        let outcome = match abort.load(Ordering::Relaxed) {
            true => Err(RunError::Interrupted),
            false => measure_apart(&cell.args, &label, abort),
        };
        let attempt = Attempt { cell: number, round, run: None, error: None };
        let attempt = match outcome {
            Ok(mut run) => {
                // Thousands of them would be a file that nobody opens.
                run.histograms.clear();
                if !cell.args.quiet {
                    eprintln!("{} {}", label.text, table::line(&run));
                }
                set.cells.push(run);
                Attempt { run: Some(set.cells.len() - 1), ..attempt }
            }
            Err(RunError::Interrupted) => return Ok(set),
            Err(error) => {
                eprintln!("{name} (round {}): {error}", round + 1);
                Attempt { error: Some(error.to_string()), ..attempt }
            }
        };
        set.sweep.as_mut().expect("set above").attempts.push(attempt);
        file.keep(&set)?;
    }
    set.sweep.as_mut().expect("set above").interrupted = false;
    Ok(set)
}

/// A run with its limits, on a broker of its own.
pub(super) fn measure_apart(
    args: &RunArgs,
    label: &Label,
    abort: &Arc<AtomicBool>,
) -> Result<Run, RunError> {
    let mut site = Site::open(args, Arc::clone(abort))?;
    site.floor_slice(&BEFORE);
    let mut run = cell::measure(&mut site, args, label)?;
    site.floor_slice(&AFTER);
    site.add_floor(&mut run);
    Ok(run)
}

fn exit_code(set: &Set) -> u8 {
    let sweep = set.sweep.as_ref().expect("this is a sweep");
    if set.cells.iter().any(|run| run.integrity.verdict == IntegrityVerdict::Failed) {
        EXIT_INTEGRITY
    } else if sweep.interrupted {
        EXIT_INTERRUPTED
    } else if sweep.attempts.iter().any(|attempt| attempt.error.is_some()) {
        EXIT_ERROR
    } else {
        EXIT_OK
    }
}
