//! A set of runs as one table: acks × linger × batch.

use super::limit::{Limit, ratio_text};
use super::terminal::{bandwidth, count, duration};
use super::{Integrity, Run, Set};
use crate::integrity::IntegrityVerdict;
use comfy_table::{CellAlignment, Table, presets};

const COLUMNS: [&str; 11] = [
    "acks",
    "batch",
    "linger",
    "records/s",
    "bytes/s",
    "p50",
    "p99",
    "p99.9",
    "limit",
    "ratio",
    "integrity",
];
const FIRST_FIGURE: usize = 3;

/// One row per cell. The limit is what this machine could do at best for such a cell.
#[must_use]
pub fn render_set(set: &Set) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(COLUMNS);
    for run in &set.cells {
        table.add_row(row(run));
    }
    for index in FIRST_FIGURE..COLUMNS.len() - 1 {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

fn row(run: &Run) -> Vec<String> {
    let response = run.latency_ns.response.as_ref();
    let (limit, ratio) = limit(run);
    let options = &run.options;
    let batch = match (options.batch_records, options.batch_bytes) {
        (Some(records), _) => format!("{records}rec"),
        (None, Some(bytes)) => format!("{}KiB", bytes / 1024),
        (None, None) => "--".to_owned(),
    };
    let integrity = match run.integrity.verdict {
        IntegrityVerdict::Ok => ok_cell(&run.integrity),
        IntegrityVerdict::Failed => "FAILED".to_owned(),
        IntegrityVerdict::NotChecked => "not checked".to_owned(),
    };
    vec![
        run.durability.acks.clone(),
        batch,
        duration(Some(options.linger_ns)),
        count(run.load.achieved_records_per_s),
        bandwidth(run.load.bytes_per_s),
        duration(response.and_then(|summary| summary.p50)),
        duration(response.and_then(|summary| summary.p99)),
        duration(response.and_then(|summary| summary.p999)),
        limit,
        ratio,
        integrity,
    ]
}

/// Says how many records were read where time did not allow for all.
fn ok_cell(integrity: &Integrity) -> String {
    match (integrity.passes_cut_short, integrity.checked_records) {
        (Some(1..), Some(records)) => format!("ok (first {})", count(Some(records))),
        _ => "ok".to_owned(),
    }
}

/// The limit that binds a cell, and how the run compares with it.
fn limit(run: &Run) -> (String, String) {
    let Some(limit) = Limit::of(run) else { return ("--".to_owned(), "--".to_owned()) };
    let (text, unit) = match limit {
        Limit::P50Ns(ns) => (format!("p50 {}", duration(Some(ns))), " x"),
        Limit::BytesPerS(rate) => (bandwidth(Some(rate)), ""),
    };
    let ratio = limit.hundredths(run).map(|ratio| format!("{}{unit}", ratio_text(ratio)));
    (text, ratio.unwrap_or_else(|| "--".to_owned()))
}
