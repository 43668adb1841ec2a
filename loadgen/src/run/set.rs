//! Bare `pelton bench`: what this machine can do, and what the broker makes of it, in a minute.

use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

use super::cell::{self, Label};
use super::choices::{AcksChoice, BatchSize, WarmUp, duration};
use super::options::RunArgs;
use super::site::{FIRST_SLICE, Site};
use super::{EXIT_ERROR, EXIT_INTEGRITY, EXIT_OK, RunError};
use crate::floor::{CellChoice, SliceBudget};
use crate::integrity::IntegrityVerdict;
use crate::report::{FloorFigures, Run, Set, render_floor, render_set};

const WARM_UP: Duration = Duration::from_millis(300);
/// A cell's records are read back for this long.
const READ_BACK_MAX: Duration = Duration::from_millis(1000);
/// Between cells and after the last.
const SLICE: SliceBudget = SliceBudget {
    durable_write: Duration::from_millis(150),
    plain_write: Duration::from_millis(60),
    echo: Duration::from_millis(100),
    disk_cell: Duration::from_millis(25),
    disk_cells: CellChoice::Best(2),
    loopback: Duration::from_millis(100),
    lateness: Duration::from_millis(100),
};
const BATCH_BYTES: u32 = 64 << 10;
const LINGER: Duration = Duration::from_millis(1);

/// Measures acks x linger x batch beside this machine's limits
#[derive(Args, Clone, Debug)]
pub struct SetArgs {
    /// Length of each cell's window
    #[arg(long, default_value = "4s", value_name = "DUR", value_parser = duration)]
    duration: Duration,
    /// Directory (and so the disk) for the broker's data
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Poll sockets instead of sleeping, yielding the core each round
    #[arg(long)]
    busy_poll: bool,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
}

/// Runs the set, prints the table, and writes the JSON into the current folder.
pub(super) fn run(args: &SetArgs) -> Result<u8, RunError> {
    let base = RunArgs {
        data_dir: args.data_dir.clone(),
        busy_poll: args.busy_poll,
        quiet: args.quiet,
        floor: true,
        duration: args.duration,
        warmup: WarmUp::For(WARM_UP),
        ..RunArgs::defaults()
    };
    let mut site = Site::open(&base, super::abort_on_signals()?)?;
    if !args.quiet {
        eprintln!("measuring this machine's limits ...");
    }
    site.floor_slice(&FIRST_SLICE);
    if !args.quiet {
        println!("{}", render_floor(&site.floor_figures()));
    }
    let cells = cells(&base);
    let mut runs = Vec::with_capacity(cells.len());
    for (index, (name, cell)) in cells.iter().enumerate() {
        let label = Label {
            text: format!("[{}/{}] {name}:", index + 1, cells.len()),
            read_back_max: Some(READ_BACK_MAX),
            ..Label::default()
        };
        runs.push(cell::measure(&mut site, cell, &label)?);
        site.floor_slice(&SLICE);
    }
    for run in &mut runs {
        site.add_floor(run);
    }
    let floor = site.floor_figures();
    drop(site);
    finish(runs, &floor)
}

fn finish(runs: Vec<Run>, floor: &FloorFigures) -> Result<u8, RunError> {
    let set = Set::new(runs);
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let path = std::env::current_dir()?.join(format!("pelton-bench-{stamp}.json"));
    super::write_json(Some(&path), &set)?;
    println!("{}", render_set(&set));
    println!("{}", render_floor(floor));
    println!("closed loop: every batch is full, so that linger has nothing to wait for");
    for run in &set.cells {
        for reason in &run.validity.reasons {
            println!("note: acks {}: {reason}", run.durability.acks);
        }
    }
    println!("result: {}", path.display());
    let any = |verdict| set.cells.iter().any(|run| run.integrity.verdict == verdict);
    if any(IntegrityVerdict::Failed) {
        return Ok(EXIT_INTEGRITY);
    }
    let idle = set.cells.iter().any(|run| run.load.acked_records.unwrap_or(0) == 0);
    Ok(if idle { EXIT_ERROR } else { EXIT_OK })
}

/// acks x (single records with one in flight; full batches without and with linger).
fn cells(base: &RunArgs) -> Vec<(String, RunArgs)> {
    let mut cells = Vec::new();
    for (name, acks) in [
        ("memory", AcksChoice::Memory),
        ("written", AcksChoice::Written),
        ("durable", AcksChoice::Durable),
    ] {
        let single = RunArgs { acks, batch: BatchSize::Records(1), inflight: 1, ..base.clone() };
        cells.push((format!("acks {name}, 1rec"), single));
        let batch = BatchSize::Bytes(BATCH_BYTES);
        for linger in [Duration::ZERO, LINGER] {
            let batched = RunArgs { acks, batch, linger, ..base.clone() };
            let linger_ms = linger.as_millis();
            cells.push((format!("acks {name}, 64KiB, linger {linger_ms} ms"), batched));
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_cells_that_can_be_run() {
        let cells = cells(&RunArgs::defaults());
        assert_eq!(cells.len(), 9);
        assert!(cells.iter().all(|(_, cell)| cell.invalid().is_none()));
    }
}
