//! `pelton queue redrive`: dead letters back to where they died, no faster than asked. The broker
//! does it; this shows how far it is, also over connections that are lost.

use std::time::{Duration, Instant};

use clap::Args;
use client::Connection;
use serde_json::json;
use wire::queue::{RedriveJobReply, RedriveJobRequest, RedriveState, RedriveVerb};

use super::name;
use crate::failure::Failure;
use crate::output::{self, Format, FormatArgs};
use crate::server::{self, ServerArgs};

/// How often the broker is asked.
const LOOK: Duration = Duration::from_millis(100);
/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(1);

/// Flags of `queue redrive`.
#[derive(Debug, Args)]
pub struct RedriveArgs {
    /// The queue of dead letters
    #[arg(value_name = "QUEUE", value_parser = name)]
    queue: String,
    /// Most messages; all that are there, if not given
    #[arg(short = 'c', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Most messages per second; as fast as it goes, if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Do not wait until it is done
    #[arg(long)]
    detach: bool,
    /// Show the one that runs, or ran last, instead of starting one
    #[arg(long, conflicts_with_all = ["count", "rate", "stop"])]
    show: bool,
    /// Stop the one that runs
    #[arg(long, conflicts_with_all = ["count", "rate"])]
    stop: bool,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs the command.
pub fn redrive(args: &RedriveArgs) -> Result<(), Failure> {
    let mut connection = args.server.connect()?;
    let verb = match (args.show, args.stop) {
        (true, _) => RedriveVerb::Show,
        (_, true) => RedriveVerb::Stop,
        _ => RedriveVerb::Start,
    };
    let mut job = ask(args, &mut connection, verb)?;
    let mut told = Instant::now();
    while verb == RedriveVerb::Start && !args.detach && is_running(&job) {
        std::thread::sleep(LOOK);
        job = match ask(args, &mut connection, RedriveVerb::Show) {
            Ok(job) => job,
            Err(client::ClientError::Lost { .. }) => {
                connection = connect_again(args)?;
                output::note("the connection was lost, and is there again");
                ask(args, &mut connection, RedriveVerb::Show)?
            }
            Err(error) => return Err(error.into()),
        };
        if job.state.get() == RedriveState::None as u32 {
            let left = job.left;
            return Err(Failure::Error(format!(
                "the broker has started anew and knows nothing of the redrive: what had gone back \
                 stays so, {left} are left; run it again for these"
            )));
        }
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            output::note(&format!("{} sent back, {} to go", job.moved, job.left));
        }
    }
    show(args, &job)
}

fn is_running(job: &RedriveJobReply) -> bool {
    job.state.get() == RedriveState::Running as u32
}

fn ask(
    args: &RedriveArgs,
    connection: &mut Connection,
    verb: RedriveVerb,
) -> Result<RedriveJobReply, client::ClientError> {
    let queue = connection.describe_queue(&args.queue)?.queue;
    connection.redrive_job(&RedriveJobRequest {
        queue,
        verb: verb as u8,
        reserved: [0; 3],
        rate: args.rate.unwrap_or(0).into(),
        max_messages: args.count.unwrap_or(0).into(),
    })
}

/// The broker may be on its way back.
fn connect_again(args: &RedriveArgs) -> Result<Connection, Failure> {
    let until = Instant::now() + server::options().reconnect_for;
    loop {
        match args.server.connect() {
            Ok(connection) => return Ok(connection),
            Err(error) if Instant::now() >= until => return Err(error.into()),
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}

fn show(args: &RedriveArgs, job: &RedriveJobReply) -> Result<(), Failure> {
    let (moved, kept) = (job.moved.get(), job.kept.get());
    let state = match RedriveState::from_u32(job.state.get()) {
        Some(RedriveState::None) => "none",
        Some(RedriveState::Running) => "running",
        Some(RedriveState::Done) => "done",
        Some(RedriveState::Stopped) => "stopped",
        None => "unknown",
    };
    match args.format.format {
        Format::Table => {
            output::note(&format!("{state}: sent {moved} messages back from {}", args.queue));
            if kept > 0 {
                output::note("some stay: they never died, or their queue is gone");
            }
            Ok(())
        }
        Format::Json => output::print_json(&json!({
            "name": args.queue,
            "state": state,
            "moved": moved,
            "kept": kept,
            "left": job.left.get(),
        })),
    }
}
