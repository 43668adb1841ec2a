//! `pelton bench ab`: two settings, or two binaries, run in turn and weighed against each other.

mod fail_on;
mod order;
mod render;

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::cell::Label;
use super::choices::TargetChoice;
use super::options::RunArgs;
use super::result_file::ResultFile;
use super::sweep::{knob, measure_apart};
use super::{
    EXIT_ERROR, EXIT_INTEGRITY, EXIT_INTERRUPTED, EXIT_OK, EXIT_REGRESSION, RunError, ServeFlags,
    abort_on_signals,
};
use crate::compare::{Weighed, weigh};
use crate::integrity::IntegrityVerdict;
use crate::report::Run;
use crate::validity::ValidityVerdict;
use fail_on::{Gate, GateOutcome, parse_gates};
use order::{Arm, order};

/// Name and version of the schema of a comparison of two arms.
pub const AB_SCHEMA: &str = "pelton.bench.ab/1";
/// Most runs of each arm.
const REPEAT_MAX: i64 = 500;
/// A run's records are read back for this long.
const READ_BACK_MAX: Duration = Duration::from_secs(5);

/// Runs two settings, or two binaries, in turn, and says which is better
#[derive(Args, Clone, Debug)]
pub struct AbArgs {
    /// A setting of arm A only, repeatable: a flag of `bench run` without dashes, or broker.KEY
    /// for a flag of `serve`; broker-binary=FILE for another program
    #[arg(long = "a", value_name = "KEY=VALUE")]
    a: Vec<String>,
    /// The same for arm B. With neither, the arms are equal, and show the noise
    #[arg(long = "b", value_name = "KEY=VALUE")]
    b: Vec<String>,
    /// Runs of each arm
    #[arg(
        long,
        default_value_t = 5,
        value_name = "N",
        value_parser = clap::value_parser!(i64).range(2..=REPEAT_MAX)
    )]
    repeat: i64,
    /// Differences up to this do not matter
    #[arg(long, default_value = "5%", value_name = "PERCENT", value_parser = fail_on::percent)]
    margin: f64,
    /// End with exit code 5 if a figure of B has certainly changed so much, e.g.
    /// records_per_s<-3%,response_p99_ns>+5%
    #[arg(long, value_name = "FIGURE<-N%,..", value_parser = parse_gates)]
    fail_on: Option<Gates>,
    /// Seed of the order of the runs [default: random]
    #[arg(long, value_name = "N")]
    order_seed: Option<u64>,
    #[command(flatten)]
    run: RunArgs,
}

/// What `--fail-on` holds.
#[derive(Clone, Debug, Default, PartialEq)]
struct Gates(Vec<Gate>);

/// The result of a comparison of two arms.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Ab {
    /// [`AB_SCHEMA`].
    pub schema: String,
    /// Settings of arm A only.
    pub a: Vec<String>,
    /// Settings of arm B only.
    pub b: Vec<String>,
    /// Runs of each arm that were planned.
    pub repeat: u32,
    /// Differences up to this do not matter.
    pub margin_ppm: u64,
    /// Seed of the order.
    pub order_seed: u64,
    /// The order in which the runs were made: a letter each.
    pub order: String,
    /// Whether it ended before its plan did.
    pub interrupted: bool,
    /// The runs of A.
    pub runs_a: Vec<Run>,
    /// The runs of B.
    pub runs_b: Vec<Run>,
    /// Runs of A and B that are invalid and left out.
    pub invalid: [usize; 2],
    /// The verdicts.
    pub figures: Vec<Weighed>,
    /// What `--fail-on` asked for.
    pub gates: Vec<GateOutcome>,
}

/// Runs both arms.
pub(super) fn run(args: &AbArgs, serve: &ServeFlags) -> Result<u8, RunError> {
    let arm = |name, settings| arm(&args.run, name, settings, serve).map_err(RunError::Usage);
    let arms = [arm("a", &args.a)?, arm("b", &args.b)?];
    let repeat = u32::try_from(args.repeat).expect("its range is checked when it is parsed");
    let order_seed = args.order_seed.unwrap_or_else(crate::clock::monotonic_ns);
    let file = ResultFile::of(&args.run, "ab");
    let mut result = Ab {
        schema: AB_SCHEMA.to_owned(),
        a: args.a.clone(),
        b: args.b.clone(),
        repeat,
        margin_ppm: crate::latency::whole(args.margin * 1e6),
        order_seed,
        order: String::new(),
        interrupted: true,
        runs_a: Vec::new(),
        runs_b: Vec::new(),
        invalid: [0; 2],
        figures: Vec::new(),
        gates: Vec::new(),
    };
    let abort = abort_on_signals()?;
    let ended = drive(&arms, &mut result, &file, &abort);
    result.conclude(args.margin, args.fail_on.as_ref());
    file.finish(&result, || render::render(&result))?;
    ended?;
    Ok(result.exit_code())
}

/// The flags of one arm, or why they make none.
fn arm(
    base: &RunArgs,
    name: &str,
    settings: &[String],
    serve: &ServeFlags,
) -> Result<RunArgs, String> {
    let mut args = base.clone();
    for setting in settings {
        let (key, value) = setting
            .split_once('=')
            .ok_or_else(|| format!("--{name} {setting}: expected KEY=VALUE"))?;
        knob::set(&mut args, key, value, serve)
            .map_err(|reason| format!("--{name} {setting}: {reason}"))?;
    }
    if let Some(reason) = args.invalid() {
        return Err(format!("arm {name}: {reason}"));
    }
    if args.target == TargetChoice::Spawn && args.broker_binary.is_none() {
        (serve.check)(&args.serve_flags()).map_err(|reason| format!("arm {name}: {reason}"))?;
    }
    Ok(args)
}

/// Makes the runs. What was measured by then is in the file after each of them.
fn drive(
    arms: &[RunArgs; 2],
    result: &mut Ab,
    file: &ResultFile,
    abort: &Arc<AtomicBool>,
) -> Result<(), RunError> {
    let order = order(result.repeat, result.order_seed);
    for (index, &arm) in order.iter().enumerate() {
        if abort.load(Ordering::Relaxed) {
            return Ok(());
        }
        let args = &arms[arm as usize];
        let text = format!("[{}/{}] {}:", index + 1, order.len(), arm.name());
        let label = Label { text, read_back_max: Some(READ_BACK_MAX), ..Label::default() };
        let run = match measure_apart(args, &label, abort) {
            Ok(run) => run,
            Err(RunError::Interrupted) => return Ok(()),
            Err(error) => return Err(error),
        };
        if !args.quiet {
            eprintln!("{} {}", label.text, render::line(&run));
        }
        result.order.push(arm.letter());
        match arm {
            Arm::A => result.runs_a.push(run),
            Arm::B => result.runs_b.push(run),
        }
        file.keep(result)?;
    }
    result.interrupted = false;
    Ok(())
}

impl Ab {
    /// Weighs what was measured.
    fn conclude(&mut self, margin: f64, gates: Option<&Gates>) {
        let usable = |runs: &'_ [Run]| -> Vec<Run> {
            let valid = |run: &&Run| run.validity.verdict != ValidityVerdict::Invalid;
            runs.iter().filter(valid).cloned().collect()
        };
        let (a, b) = (usable(&self.runs_a), usable(&self.runs_b));
        self.invalid = [self.runs_a.len() - a.len(), self.runs_b.len() - b.len()];
        let (a, b): (Vec<&Run>, Vec<&Run>) = (a.iter().collect(), b.iter().collect());
        self.figures = weigh(&a, &b, margin, self.order_seed);
        let gates = gates.iter().flat_map(|gates| &gates.0);
        self.gates = gates.map(|gate| gate.outcome(&self.figures)).collect();
    }

    fn exit_code(&self) -> u8 {
        let mut runs = self.runs_a.iter().chain(&self.runs_b);
        if runs.any(|run| run.integrity.verdict == IntegrityVerdict::Failed) {
            EXIT_INTEGRITY
        } else if self.interrupted {
            EXIT_INTERRUPTED
        } else if self.gates.iter().any(|gate| gate.failed) {
            EXIT_REGRESSION
        } else if self.figures.is_empty() {
            EXIT_ERROR
        } else {
            EXIT_OK
        }
    }
}
