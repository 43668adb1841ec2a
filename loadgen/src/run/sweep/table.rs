//! A row per cell: medians over its runs, their spread, and ratios.

use comfy_table::{CellAlignment, Table, presets};

use super::plan::Plan;
use crate::report::{
    Analysis, Change, Effect, Figure, Limit, Run, SPREAD_REPEATS_MIN, Set, Spread, Unit,
    ratio_hundredths,
};
use crate::validity::ValidityVerdict;

/// The table and what must be said beside it.
pub(super) fn render(plan: &Plan, set: &Set) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    let knobs = plan.knobs.iter().map(|knob| knob.key.clone());
    let rate = throughput(set);
    let figures = [
        rate.name,
        "spread",
        "/ first",
        "bytes/s",
        "p50",
        "p99",
        "p99.9",
        "CPU/record",
        "limit",
        "/ limit",
        "runs",
    ];
    table.set_header(knobs.chain(figures.map(str::to_owned)));
    let first = set.runs_of(0).filter_map(rate.of);
    let first = Spread::of(first).map(|spread| spread.median);
    for (number, cell) in plan.cells.iter().enumerate() {
        let runs: Vec<&Run> = set.runs_of(number).collect();
        table.add_row(cell.values.iter().cloned().chain(row(rate, first, &runs)));
    }
    for index in plan.knobs.len()..plan.knobs.len() + figures.len() {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = table.to_string();
    if let Some(analysis) = &set.analysis {
        text += &conclusions(plan, analysis);
    }
    for note in notes(plan, set) {
        text += "\nnote: ";
        text += &note;
    }
    text
}

/// What the runs say together: the effects of knobs, the unbeaten cells, the recommended one.
fn conclusions(plan: &Plan, analysis: &Analysis) -> String {
    let mut text = String::new();
    let mut names: Vec<&String> = Vec::new();
    for name in analysis.effects.iter().flat_map(|effect| effect.changes.keys()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if !names.is_empty() {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY);
        let head = ["all else equal".to_owned()].into_iter();
        table.set_header(head.chain(names.iter().map(|name| (*name).clone())));
        for Effect { knob, from, to, changes } in &analysis.effects {
            let change =
                |name: &&String| changes.get(*name).map_or_else(|| "--".to_owned(), Change::text);
            let name = format!("{knob} {from} -> {to}");
            table.add_row(std::iter::once(name).chain(names.iter().map(change)));
        }
        text += &format!("\n{table}");
    }
    if plan.cells.len() > 1 && !analysis.pareto.is_empty() {
        let cells = analysis.pareto.iter().map(|&cell| plan.cells[cell].name(&plan.knobs));
        let cells = cells.collect::<Vec<_>>().join("; ");
        text += &format!("\nbeaten by no other in rate, p99 and CPU: {cells}");
    }
    if let Some(recommended) = &analysis.recommended {
        text += &format!("\nrecommended: {}", recommended.sentence);
    }
    text
}

/// A run in a few words, while the others are made.
pub(super) fn line(run: &Run) -> String {
    let show = |name: &str| {
        let figure = Figure::named(name);
        figure.unit.show((figure.of)(run))
    };
    let rate = match run.load.achieved_records_per_s {
        Some(_) => show("records_per_s"),
        None => show("consumed_records_per_s"),
    };
    let p99 = show("response_p99_ns");
    format!("{rate} records/s, {}, p99 {p99}", show("bytes_per_s"))
}

/// What the runs are about: records that were acknowledged, or consumed where none were.
fn throughput(set: &Set) -> &'static Figure {
    let produced = Figure::named("records_per_s");
    match set.cells.iter().any(|run| (produced.of)(run).is_some()) {
        true => produced,
        false => Figure::named("consumed_records_per_s"),
    }
}

fn row(rate: &Figure, first: Option<u64>, runs: &[&Run]) -> Vec<String> {
    let spread_of = |of: fn(&Run) -> Option<u64>| Spread::of(runs.iter().filter_map(|run| of(run)));
    let median = |name: &str| {
        let figure = Figure::named(name);
        figure.unit.show(spread_of(figure.of).map(|spread| spread.median))
    };
    let rates = spread_of(rate.of);
    let limits = spread_of(|run| Some(Limit::of(run)?.figure()));
    let unit = match runs.first().and_then(|run| Limit::of(run)) {
        Some(Limit::P50Ns(_)) => Unit::Nanoseconds,
        Some(Limit::BytesPerS(_)) | None => Unit::BytesPerSecond,
    };
    vec![
        rate.unit.show(rates.map(|rates| rates.median)),
        match rates.and_then(|rates| rates.half_range_percent()) {
            Some(percent) => format!("±{percent} %"),
            None => "unknown".to_owned(),
        },
        Unit::Hundredths.show(
            first.zip(rates).and_then(|(first, rates)| ratio_hundredths(first, rates.median)),
        ),
        median("bytes_per_s"),
        median("response_p50_ns"),
        median("response_p99_ns"),
        median("response_p999_ns"),
        median("broker_cpu_ns_per_record"),
        unit.show(limits.map(|limits| limits.median)),
        median("limit_hundredths"),
        runs.len().to_string(),
    ]
}

/// What a reader of the table must know.
fn notes(plan: &Plan, set: &Set) -> Vec<String> {
    let sweep = set.sweep.as_ref().expect("this is a sweep");
    let mut notes = Vec::new();
    let planned = plan.cells.len() * plan.repeat as usize;
    if sweep.interrupted {
        let made = sweep.attempts.len();
        notes.push(format!("interrupted: {made} of {planned} planned runs were made"));
    }
    if (plan.repeat as usize) < SPREAD_REPEATS_MIN {
        notes.push(format!(
            "with fewer than {SPREAD_REPEATS_MIN} repeats the spread is unknown: a difference \
             between two rows may be chance"
        ));
    }
    for attempt in &sweep.attempts {
        if let Some(error) = &attempt.error {
            let name = plan.cells[attempt.cell].name(&plan.knobs);
            let error = error.lines().next().unwrap_or_default();
            notes.push(format!("{name}, round {}: failed: {error}", attempt.round + 1));
        }
    }
    for (number, cell) in plan.cells.iter().enumerate() {
        let not_valid: Vec<&Run> = set
            .runs_of(number)
            .filter(|run| run.validity.verdict != ValidityVerdict::Valid)
            .collect();
        if let Some(run) = not_valid.first() {
            notes.push(format!(
                "{}: {} run(s) not valid, e.g. {}",
                cell.name(&plan.knobs),
                not_valid.len(),
                run.validity.reasons.first().map_or("", String::as_str)
            ));
        }
    }
    notes
}
