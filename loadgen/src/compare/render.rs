//! A comparison as a person reads it.

use comfy_table::{CellAlignment, Table, presets};
use std::collections::BTreeMap;
use std::fmt::Write;

use super::arms::Weighed;
use super::pair::{Compared, Judgement, Pair};
use super::{Comparison, Difference, Side};
use crate::report::{Spread, Unit};
use crate::statistics::Verdict;

/// Most runs that are named one by one.
const NAMED_MAX: usize = 5;

/// What differs, then a table for each pair of cells.
#[must_use]
pub fn render(comparison: &Comparison) -> String {
    let mut text = String::new();
    for (name, side) in [("A", &comparison.a), ("B", &comparison.b)] {
        put(&mut text, &side_line(name, side));
        named(&mut text, name, "failed", &side.failed);
        named(&mut text, name, "INVALID, left out", &side.invalid);
        named(&mut text, name, "doubtful", &side.doubtful);
    }
    differing(&mut text, "settings", &comparison.settings);
    differing(&mut text, "environment", &comparison.environment);
    for pair in &comparison.pairs {
        text.push('\n');
        pair_text(&mut text, pair);
    }
    for (name, cells) in [("A", &comparison.only_a), ("B", &comparison.only_b)] {
        for cell in cells {
            put(&mut text, &format!("only in {name}: {}", cell_name(cell)));
        }
    }
    if comparison.pairs.is_empty() {
        put(&mut text, "no cell is in both files: nothing can be compared");
    }
    text
}

fn put(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a string does not fail");
}

fn side_line(name: &str, side: &Side) -> String {
    let started = side.started_utc.as_deref().unwrap_or("at an unknown time");
    let Side { file, runs, cells, .. } = side;
    format!("{name}: {file}: {runs} run(s) of {cells} cell(s), begun {started}")
}

fn named(text: &mut String, side: &str, what: &str, runs: &[String]) {
    for run in runs.iter().take(NAMED_MAX) {
        put(text, &format!("   {side} {what}: {run}"));
    }
    if runs.len() > NAMED_MAX {
        put(text, &format!("   {side} {what}: and {} more", runs.len() - NAMED_MAX));
    }
}

fn differing(text: &mut String, what: &str, differences: &[Difference]) {
    if differences.is_empty() {
        put(text, &format!("{what}: the same"));
        return;
    }
    put(text, &format!("{what} that differ:"));
    for Difference { name, a, b } in differences {
        let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "--".to_owned());
        put(text, &format!("   {name}: A {} | B {}", show(a), show(b)));
    }
}

fn cell_name(cell: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = cell.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(" ")
}

fn pair_text(text: &mut String, pair: &Pair) {
    if !pair.cell.is_empty() {
        put(text, &cell_name(&pair.cell));
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(["figure", "A", "A range", "B", "B range", "B / A", "says"]);
    for figure in &pair.figures {
        table.add_row(row(figure));
    }
    for index in 1..6 {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    put(text, &table.to_string());
    for (side, count) in ["A", "B"].iter().zip(pair.invalid).filter(|(_, count)| *count > 0) {
        put(text, &format!("note: {count} invalid run(s) of {side} are left out"));
    }
    if let Some(why) = &pair.absolute_void {
        let left = match pair.relative_void {
            None => "compare limit_hundredths, the ratio to the limit, instead",
            Some(_) => "neither figures nor ratios to the limit can be compared",
        };
        put(text, &format!("VOID: {why}; {left}"));
    }
    for row in &pair.weighed {
        put(text, &weighed_line(row));
    }
    for note in &pair.notes {
        put(text, &format!("note: {note}"));
    }
}

/// One figure with its interval.
fn weighed_line(row: &Weighed) -> String {
    let share = |ppm: Option<u64>| match ppm {
        Some(ppm) => format!("{}.{:03}", ppm / 1_000_000, ppm / 1_000 % 1_000),
        None => "--".to_owned(),
    };
    let verdict = match (row.verdict, row.runs_needed) {
        (Verdict::Better, _) => "better".to_owned(),
        (Verdict::Worse, _) => "worse".to_owned(),
        (Verdict::Same, _) => "the same within 5 %".to_owned(),
        (Verdict::Inconclusive, Some(runs)) => {
            format!("inconclusive, about {runs} runs of each would decide")
        }
        (Verdict::Inconclusive, None) => "inconclusive".to_owned(),
    };
    let [ratio, low, high] = [row.ratio_ppm, row.ratio_low_ppm, row.ratio_high_ppm].map(share);
    let p = share(row.p_ppm);
    format!("{}: B is {verdict}: {ratio} ({low} .. {high}), p {p}", row.name)
}

fn row(figure: &Compared) -> Vec<String> {
    let median = |spread: Option<Spread>| figure.unit.show(spread.map(|spread| spread.median));
    let range = |spread: Option<Spread>| match spread {
        Some(spread) if spread.count > 1 => {
            let (min, max) =
                (figure.unit.show(Some(spread.min)), figure.unit.show(Some(spread.max)));
            format!("{min} .. {max}")
        }
        Some(_) => "one run".to_owned(),
        None => "--".to_owned(),
    };
    vec![
        figure.name.clone(),
        median(figure.a),
        range(figure.a),
        median(figure.b),
        range(figure.b),
        Unit::Hundredths.show(figure.ratio_hundredths),
        word(figure.judgement).to_owned(),
    ]
}

fn word(judgement: Judgement) -> &'static str {
    match judgement {
        Judgement::Higher => "higher",
        Judgement::Lower => "lower",
        Judgement::WithinSpread => "within the spread",
        Judgement::SpreadUnknown => "spread unknown",
        Judgement::Void => "void",
        Judgement::Missing => "not in both",
    }
}
