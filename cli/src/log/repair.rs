//! `pelton log repair`.

use std::process::ExitCode;

use broker::clock;
use broker::directory::DataDir;
use broker::disk::FileDisk;
use broker::lock::Lock;
use clap::Args;
use engine::inspect::{self, Directory, Mend, Plan};
use engine::log::damage::END_UNKNOWN;
use serde_json::{Value, json};

use super::DirArgs;
use super::line::{hex, topic_name};
use crate::failure::Failure;
use crate::output;

/// Flags of `log repair`.
#[derive(Debug, Args)]
pub struct RepairArgs {
    #[command(flatten)]
    dir: DirArgs,
    /// Do it: without this flag nothing is written
    #[arg(long)]
    apply: bool,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &RepairArgs) -> Result<ExitCode, Failure> {
    let failed = |error| super::failure(&args.dir.dir, &error);
    let plan = {
        let (_lock, mut disk) = args.dir.open()?;
        let mut directory = Directory::open(&mut disk).map_err(failed)?;
        let plan = inspect::plan(&mut directory).map_err(failed)?;
        for mend in &plan.mends {
            let name = topic_name(directory.topics(), &mend.stream.0);
            let line = if args.json { json_line(mend).to_string() } else { words(mend, &name) };
            output::print(&line)?;
        }
        plan
    };
    if args.apply && !plan.mends.is_empty() {
        apply(args, &plan)?;
    }
    sum_up(args, &plan)
}

fn apply(args: &RepairArgs, plan: &Plan) -> Result<(), Failure> {
    let failed = |error| super::failure(&args.dir.dir, &error);
    let dir = &args.dir.dir;
    let _lock = Lock::take(dir).map_err(|refusal| Failure::Usage(refusal.to_string()))?;
    let mut disk = FileDisk::new(DataDir::new(dir.clone()));
    let mut directory = Directory::open(&mut disk).map_err(failed)?;
    directory.apply(plan, clock::now().wall_ns).map_err(failed)
}

fn sum_up(args: &RepairArgs, plan: &Plan) -> Result<ExitCode, Failure> {
    let dir = args.dir.dir.display();
    if let Some(refusal) = &plan.refusal {
        return Err(Failure::Damaged(format!(
            "{dir}: this cannot be repaired: {refusal}. Restore the file from a copy"
        )));
    }
    if !args.json {
        let sentence = match (plan.mends.len(), args.apply) {
            (0, _) => "nothing is damaged".to_owned(),
            (count, true) => format!(
                "{count} ranges are marked as lost; every other record is kept, and no file was \
                 deleted"
            ),
            (count, false) => format!(
                "{count} ranges are damaged; nothing was written: give --apply to do what is said"
            ),
        };
        output::print(&sentence)?;
    }
    let is_done = plan.mends.is_empty() || args.apply;
    if is_done { Ok(ExitCode::SUCCESS) } else { Ok(ExitCode::from(4)) }
}

fn words(mend: &Mend, name: &str) -> String {
    let Mend { stream: (_, partition), damaged, lost, what } = mend;
    let (from, to) = (lost.start, lost.end);
    match damaged.end {
        END_UNKNOWN => format!(
            "{name}/{partition}: records from offset {from} on may be lost, and nobody knows how \
             many ({what}): offsets up to {to} are left out, and producing goes on there"
        ),
        _ => format!(
            "{name}/{partition}: offsets {from}..{to} are damaged ({what}): they are marked as \
             lost, and the next start answers them with an error at once"
        ),
    }
}

fn json_line(mend: &Mend) -> Value {
    let Mend { stream: (topic, partition), damaged, lost, what } = mend;
    let end = Some(damaged.end).filter(|end| *end != END_UNKNOWN);
    json!({
        "type": "mend", "topic_id": hex(topic), "partition": partition,
        "damaged_from": damaged.start, "damaged_to": end,
        "lost_from": lost.start, "lost_to": lost.end, "what": what,
    })
}
