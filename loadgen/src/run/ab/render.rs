//! The arms as a person reads them.

use comfy_table::{CellAlignment, Table, presets};
use std::fmt::Write;

use super::Ab;
use crate::compare::Weighed;
use crate::report::{Figure, Run};
use crate::statistics::Verdict;

/// A run in a few words, while the others are made.
pub(super) fn line(run: &Run) -> String {
    let show = |name: &str| {
        let figure = Figure::named(name);
        figure.unit.show((figure.of)(run))
    };
    let validity = match run.validity.status.as_str() {
        "ok" => String::new(),
        status => format!(" ({status})"),
    };
    format!("{} records/s, p99 {}{validity}", show("records_per_s"), show("response_p99_ns"))
}

/// A table of verdicts, and what must be said beside it.
pub(super) fn render(result: &Ab) -> String {
    let mut text = String::new();
    let mut put = |line: &str| writeln!(text, "{line}").expect("writing to a string does not fail");
    for (name, settings, runs) in
        [("A", &result.a, &result.runs_a), ("B", &result.b, &result.runs_b)]
    {
        let settings = if settings.is_empty() { "as given".to_owned() } else { settings.join(" ") };
        put(&format!("{name}: {settings}: {} run(s)", runs.len()));
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(["figure", "A", "B", "B / A", "95 % interval", "noise", "p", "B is"]);
    for row in &result.figures {
        table.add_row(cells(row));
    }
    for index in 1..7 {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    put(&table.to_string());
    for (name, count) in ["A", "B"].iter().zip(result.invalid).filter(|(_, count)| *count > 0) {
        put(&format!("note: {count} invalid run(s) of {name} are left out"));
    }
    if result.a == result.b {
        put("note: the arms are equal: what differs is noise");
    }
    if result.figures.iter().any(|row| row.ratio_ppm.is_none()) {
        put("note: with fewer than two runs of an arm nothing can be said");
    }
    for gate in &result.gates {
        let word = match (gate.failed, gate.measured) {
            (true, _) => "FAILED",
            (false, true) => "not shown",
            (false, false) => "not measured",
        };
        put(&format!("gate {}: {word}", gate.expression));
    }
    if result.interrupted {
        put("interrupted: not all runs were made");
    }
    text
}

fn cells(row: &Weighed) -> Vec<String> {
    let median =
        |spread: Option<crate::report::Spread>| row.unit.show(spread.map(|spread| spread.median));
    let ratio = |ppm: Option<u64>| thousandths(ppm.map(|ppm| ppm / 1_000));
    let verdict = match (row.verdict, row.runs_needed) {
        (Verdict::Better, _) => "better".to_owned(),
        (Verdict::Worse, _) => "worse".to_owned(),
        (Verdict::Same, _) => "the same".to_owned(),
        (Verdict::Inconclusive, Some(runs)) if runs >= 1_000 => {
            "inconclusive (on the edge of the margin)".to_owned()
        }
        (Verdict::Inconclusive, Some(runs)) => format!("inconclusive (about {runs} runs needed)"),
        (Verdict::Inconclusive, None) => "inconclusive".to_owned(),
    };
    let percent = |ppm: u64| format!("{}.{} %", ppm / 10_000, ppm / 1_000 % 10);
    vec![
        row.name.clone(),
        median(row.a),
        median(row.b),
        ratio(row.ratio_ppm),
        format!("{} .. {}", ratio(row.ratio_low_ppm), ratio(row.ratio_high_ppm)),
        row.noise_floor_ppm.map_or_else(|| "--".to_owned(), percent),
        thousandths(row.p_ppm.map(|ppm| ppm / 1_000)),
        verdict,
    ]
}

fn thousandths(value: Option<u64>) -> String {
    value.map_or_else(|| "--".to_owned(), |value| format!("{}.{:03}", value / 1_000, value % 1_000))
}
