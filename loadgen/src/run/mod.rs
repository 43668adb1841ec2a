//! `pelton bench run`: one load against one broker, measured.
//!
//! [`BenchArgs`] are the flags; [`bench()`] does what they say and gives the exit code. A run makes
//! its topic, loads it from generator threads that multiplex many connections each, and reads
//! everything back to prove that nothing was lost.

mod ab;
mod backlog;
mod broker_process;
mod cell;
mod choices;
mod consumer;
mod curve;
mod efficiency;
mod fault;
mod files;
mod flight;
mod generator;
mod lane;
mod launch;
mod max;
mod options;
mod producer;
mod progress_line;
mod queue;
mod records;
mod result;
mod result_file;
mod routing;
mod scatter;
mod scenario;
mod set;
#[cfg(test)]
mod simulated;
mod site;
mod soak;
mod stretches;
mod sweep;
mod tally;
mod target;
mod template;
mod timing;
mod topic;
mod usage_series;
mod verdict;
mod verify;
mod watch;
mod work;

pub use ab::{AB_SCHEMA, Ab, AbArgs};
pub use backlog::{BACKLOG_SCHEMA, Backlog, BacklogArgs, BacklogFigures};
pub use choices::{
    AcksChoice, BatchSize, FetchPath, Partitioner, Pin, Rate, Route, TargetChoice, WarmUp,
};
pub use curve::{CURVE_SCHEMA, Curve, CurveArgs};
pub use fault::Fault;
pub use files::schemas;
pub use max::{MAX_SCHEMA, Max, MaxArgs};
pub use options::RunArgs;
pub use queue::{AckMode, Mode, QueueFlags, Share};
pub use records::{Keys, Sizes};
pub use set::SetArgs;
pub use soak::{Drift, DriftVerdict, SOAK_SCHEMA, Soak, SoakArgs};
pub use sweep::SweepArgs;
pub use verify::{VERIFY_SCHEMA, Verified};

use clap::{Args, Parser, Subcommand};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::{fmt, io};

use crate::compare::CompareArgs;
use crate::integrity::IntegrityVerdict;
use crate::report::Run;
use crate::validity::ValidityVerdict;
use site::Site;

/// Everything went as asked.
pub const EXIT_OK: u8 = 0;
/// The run could not be made or finished.
pub const EXIT_ERROR: u8 = 1;
/// The flags make no sense.
pub const EXIT_USAGE: u8 = 2;
/// An objective was missed.
pub const EXIT_SLO: u8 = 3;
/// Records were lost, duplicated, reordered or corrupted.
pub const EXIT_INTEGRITY: u8 = 4;

/// `--fail-on`: a figure of the second arm is certainly worse.
pub const EXIT_REGRESSION: u8 = 5;
/// `--strict`, and a result that cannot be trusted without reservation.
pub const EXIT_INVALID: u8 = 6;
/// SIGINT or SIGTERM came; what was measured before was kept.
pub const EXIT_INTERRUPTED: u8 = 130;

/// Measures this machine's limits and the broker beside them
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BenchArgs {
    #[command(subcommand)]
    command: Option<BenchCommand>,
    #[command(flatten)]
    set: SetArgs,
}

#[derive(Subcommand, Clone, Debug)]
enum BenchCommand {
    /// Measures one load
    Run(Box<RunArgs>),
    /// Measures a load over a grid of settings, each cell beside this machine's limits
    Sweep(Box<SweepArgs>),
    /// Measures the floor of latency: single records, one at a time
    Ping(Box<RunArgs>),
    /// Finds the highest rate that meets an objective
    Max(Box<MaxArgs>),
    /// Measures latency against rate, from idle to beyond saturation
    Curve(Box<CurveArgs>),
    /// Runs two settings, or two binaries, in turn, and says which is better
    Ab(Box<AbArgs>),
    /// Builds up a backlog, then drains it beside publishing, and the same without one
    Backlog(Box<BacklogArgs>),
    /// Loads a broker for long, and says whether latencies, memory or CPU drift
    Soak(Box<SoakArgs>),
    /// Lists, shows and runs loads that are shipped, or in a file
    Scenario(scenario::ScenarioArgs),
    /// Makes a page of a result, or other files
    Report(files::ReportArgs),
    /// Runs the command of a result again
    Rerun(files::RerunArgs),
    /// Prints the JSON schema of a result
    Schema(files::SchemaArgs),
    /// Says what differs between two results, in settings and figures
    Compare(CompareArgs),
    /// Proves that the records of a run that was made with --keep are all still there
    Verify(verify::VerifyArgs),
}

impl BenchArgs {
    /// Takes the words behind `pelton bench`.
    fn from_line(words: &[String]) -> Result<Self, clap::Error> {
        #[derive(Parser)]
        #[command(no_binary_name = true)]
        struct Line {
            #[command(flatten)]
            bench: BenchArgs,
        }
        Line::try_parse_from(words).map(|line| line.bench)
    }

    /// What is wrong with the flags of one load, as a usage error.
    #[must_use]
    pub fn invalid(&self) -> Option<String> {
        match self.command.as_ref()? {
            BenchCommand::Run(run) | BenchCommand::Ping(run) => run.invalid(),
            BenchCommand::Max(max) => max.run.invalid(),
            BenchCommand::Curve(curve) => curve.run.invalid(),
            BenchCommand::Backlog(backlog) => backlog.invalid(),
            BenchCommand::Soak(soak) => soak.invalid(),
            BenchCommand::Sweep(_)
            | BenchCommand::Ab(_)
            | BenchCommand::Compare(_)
            | BenchCommand::Scenario(_)
            | BenchCommand::Report(_)
            | BenchCommand::Rerun(_)
            | BenchCommand::Verify(_)
            | BenchCommand::Schema(_) => None,
        }
    }
}

/// What must be known of `serve` to check the flags of brokers before they are started.
#[derive(Clone, Debug)]
pub struct ServeFlags {
    /// Its flags, without dashes, apart from those that a run sets itself.
    pub names: Vec<String>,
    /// Whether a broker would start with such flags (`KEY=VALUE`), or why not.
    pub check: fn(&[String]) -> Result<(), String>,
}

/// Why there is no result.
#[derive(Debug)]
pub enum RunError {
    /// What was asked for cannot be: the flags, or what they pass to the broker.
    Usage(String),
    /// The broker or its directory could not be set up. The sentence says how.
    Setup(String),
    /// The broker refused, or the connection to it failed.
    Client(client::ClientError),
    /// A system call failed.
    Io(io::Error),
    /// SIGINT or SIGTERM came.
    Interrupted,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(sentence) | Self::Setup(sentence) => f.write_str(sentence),
            Self::Client(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for RunError {}

impl From<io::Error> for RunError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<client::ClientError> for RunError {
    fn from(error: client::ClientError) -> Self {
        Self::Client(error)
    }
}

/// Does what `args` say; gives the process's exit code.
#[must_use]
pub fn bench(args: &BenchArgs, serve: &ServeFlags) -> u8 {
    let outcome = match &args.command {
        Some(BenchCommand::Run(run)) => usable(run).and_then(|()| run_once(run)),
        Some(BenchCommand::Ping(run)) => {
            let single = BatchSize::Records(1);
            let one = RunArgs { rate: Rate::Max, batch: single, inflight: 1, ..(**run).clone() };
            usable(&one).and_then(|()| run_once(&one))
        }
        Some(BenchCommand::Max(max)) => usable(&max.run).and_then(|()| max::run(max)),
        Some(BenchCommand::Curve(curve)) => usable(&curve.run).and_then(|()| curve::run(curve)),
        Some(BenchCommand::Backlog(args)) => backlog::run(args),
        Some(BenchCommand::Soak(args)) => soak::run(args),
        Some(BenchCommand::Sweep(sweep)) => sweep::run(sweep, serve),
        Some(BenchCommand::Ab(arms)) => ab::run(arms, serve),
        Some(BenchCommand::Compare(files)) => compare(files),
        Some(BenchCommand::Scenario(args)) => scenario::run(args, serve),
        Some(BenchCommand::Report(args)) => files::report(args),
        Some(BenchCommand::Rerun(args)) => files::rerun(args, serve),
        Some(BenchCommand::Schema(args)) => files::schema(args),
        Some(BenchCommand::Verify(args)) => verify::run(args),
        None => set::run(&args.set),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        match error {
            RunError::Usage(_) => EXIT_USAGE,
            RunError::Interrupted => EXIT_INTERRUPTED,
            _ => EXIT_ERROR,
        }
    })
}

fn usable(args: &RunArgs) -> Result<(), RunError> {
    args.invalid().map_or(Ok(()), |reason| Err(RunError::Usage(reason)))
}

fn run_once(args: &RunArgs) -> Result<u8, RunError> {
    let mut site = Site::open(args, abort_on_signals()?)?;
    site.floor_slice(&site::FIRST_SLICE);
    let label = cell::Label { partial: cell::Partial::Keep, ..cell::Label::default() };
    let run = cell::measure(&mut site, args, &label);
    if run.as_ref().is_ok_and(|run| !run.interrupted && run.broker_end.is_none()) {
        site.floor_slice(&site::LAST_SLICE);
    }
    let mut run = run?;
    site.add_floor(&mut run);
    let kept = if args.keep { site.keep_data() } else { None };
    drop(site);
    write_json(args.json.as_deref(), &run)?;
    if !args.quiet {
        print!("{}", crate::report::render_run(&run));
        if let Some(dir) = kept {
            println!("{:<12} {}", "kept", dir.display());
        }
    }
    if run.interrupted {
        return Ok(EXIT_INTERRUPTED);
    }
    let code = match exit_code(&run) {
        EXIT_OK if run.broker_end.is_some() => EXIT_ERROR,
        EXIT_OK if run.slo.iter().any(|outcome| !outcome.met) => EXIT_SLO,
        EXIT_OK if args.strict && run.validity.verdict != ValidityVerdict::Valid => EXIT_INVALID,
        code => code,
    };
    if args.quiet {
        explain(&run, code);
    }
    Ok(code)
}

/// Why a run ends with this code, where its report is not shown.
fn explain(run: &Run, code: u8) {
    match code {
        EXIT_OK => {}
        EXIT_SLO => {
            let missed = run.slo.iter().filter_map(|outcome| outcome.why.as_ref());
            missed.for_each(|why| eprintln!("error: objective missed: {why}"));
        }
        _ => run.validity.reasons.iter().for_each(|reason| eprintln!("error: {reason}")),
    }
}

fn compare(args: &CompareArgs) -> Result<u8, RunError> {
    let comparison = crate::compare::compare(&args.a, &args.b)
        .map_err(|error| RunError::Setup(error.to_string()))?;
    write_json(args.json.as_deref(), &comparison)?;
    if args.json.as_deref() != Some(Path::new("-")) {
        print!("{}", crate::compare::render(&comparison));
    }
    Ok(EXIT_OK)
}

fn exit_code(run: &Run) -> u8 {
    match run.integrity.verdict {
        IntegrityVerdict::Failed => EXIT_INTEGRITY,
        // Nothing was measured: whatever went wrong stands in the result's errors.
        IntegrityVerdict::Ok | IntegrityVerdict::NotChecked if run.load.is_empty() => EXIT_ERROR,
        IntegrityVerdict::Ok | IntegrityVerdict::NotChecked => EXIT_OK,
    }
}

fn write_json<T: serde::Serialize>(path: Option<&Path>, result: &T) -> Result<(), RunError> {
    let Some(path) = path else { return Ok(()) };
    let mut text = serde_json::to_string_pretty(result).map_err(io::Error::from)?;
    text.push('\n');
    if path == Path::new("-") {
        print!("{text}");
        return Ok(());
    }
    write_text(path, &text)
}

fn write_text(path: &Path, text: &str) -> Result<(), RunError> {
    std::fs::write(path, text)
        .map_err(|error| RunError::Setup(format!("cannot write {}: {error}", path.display())))
}

/// A flag that SIGINT and SIGTERM set, so that the run ends in order and removes what it made.
fn abort_on_signals() -> io::Result<Arc<AtomicBool>> {
    let abort = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // However often it comes (a terminal and `timeout` may both send it): a spawned broker and
        // its data must not stay behind.
        signal_hook::flag::register(signal, Arc::clone(&abort))?;
    }
    Ok(abort)
}
