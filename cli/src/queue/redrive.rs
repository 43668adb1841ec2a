//! `pelton queue redrive`: dead letters back to where they died, no faster than asked.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::name;
use crate::failure::Failure;
use crate::output::{self, Format, FormatArgs};
use crate::server::ServerArgs;

/// Messages of one request.
const BATCH: u32 = 500;
/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(1);

/// Flags of `queue redrive`.
#[derive(Debug, Args)]
pub struct RedriveArgs {
    /// The queue of dead letters
    #[arg(value_name = "QUEUE", value_parser = name)]
    queue: String,
    /// Most messages; all, if not given
    #[arg(short = 'c', long, value_name = "N")]
    count: Option<u64>,
    /// Most messages per second; as fast as it goes, if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs the command.
pub fn redrive(args: &RedriveArgs) -> Result<(), Failure> {
    let mut connection = args.server.connect()?;
    let found = connection.describe_queue(&args.queue)?;
    // What dies again while this runs is not for this run.
    let mut left = args.count.unwrap_or(u64::MAX).min(found.counts.ready.get());
    let (mut moved, mut kept) = (0u64, 0u64);
    let start = Instant::now();
    let mut told = start;
    while left > 0 {
        let batch = args.rate.map_or(BATCH, |rate| BATCH.min(rate.div_ceil(10)));
        let batch = u32::try_from(left).unwrap_or(u32::MAX).min(batch);
        let reply = connection.redrive_queue(&found.queue, batch)?;
        moved += u64::from(reply.moved.get());
        kept += u64::from(reply.kept.get());
        left -= u64::from(reply.moved.get()).min(left);
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            output::note(&format!("{moved} sent back, {left} to go"));
        }
        if reply.moved.get() == 0 {
            break;
        }
        if let Some(rate) = args.rate {
            let due = Duration::from_secs_f64(precise(moved) / f64::from(rate));
            std::thread::sleep(due.saturating_sub(start.elapsed()));
        }
    }
    match args.format.format {
        Format::Table => {
            output::note(&format!("sent {moved} messages back from {}", args.queue));
            if kept > 0 {
                output::note("some stay: they never died, or their queue is gone");
            }
            Ok(())
        }
        Format::Json => {
            output::print_json(&json!({ "name": args.queue, "moved": moved, "kept": kept }))
        }
    }
}

/// A count as a number to divide.
fn precise(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
