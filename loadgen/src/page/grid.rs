//! The page of a grid of settings: a heat map per figure, rate against latency, and all cells.

use maud::{Markup, html};
use std::collections::BTreeMap;

use super::plot::{Plot, Scale};
use super::run::nanoseconds;
use super::{double, figure, figures, sweep};
use crate::report::{Figure, Knob, Run, Set, Spread, Unit, pareto_front};
use crate::validity::ValidityVerdict::{Invalid, Valid};

/// Figures that have a heat map.
const MAPPED: [&str; 4] =
    ["records_per_s", "response_p99_ns", "e2e_p99_ns", "broker_cpu_ns_per_record"];

/// A cell: its settings, and its runs.
struct Cell<'a> {
    settings: BTreeMap<String, String>,
    runs: Vec<&'a Run>,
}

impl Cell<'_> {
    fn median(&self, name: &str) -> Option<u64> {
        let figure = Figure::named(name);
        Spread::of(self.runs.iter().filter_map(|run| (figure.of)(run))).map(|spread| spread.median)
    }

    fn name(&self) -> String {
        let pairs = self.settings.iter().map(|(key, value)| format!("{key}={value}"));
        pairs.collect::<Vec<_>>().join(" ")
    }
}

/// The whole page.
pub(super) fn whole(set: &Set) -> Markup {
    let cells = cells(set);
    html! {
        p.soft { (cells.len()) " cells, " (set.cells.len()) " runs." }
        (doubts(&cells))
        @if let Some(plan) = &set.sweep {
            @if plan.interrupted { p.bad { "Interrupted: not all runs were made." } }
            @for attempt in plan.attempts.iter().filter(|attempt| attempt.error.is_some()) {
                p.bad {
                    "Cell " (attempt.cell) ", round " (attempt.round + 1) ": "
                    (attempt.error.as_deref().unwrap_or(""))
                }
            }
            (sweep::analysis(set))
            @if let [rows, columns, ..] = &plan.vary[..] {
                @for name in MAPPED { (heat_map(name, rows, columns, &cells)) }
            }
        }
        (scatter(&cells))
        (table(&cells))
        @if let Some(run) = set.cells.first() { (figures::disclosure(run)) }
    }
}

/// Which cells have runs that are not valid, and why.
fn doubts(cells: &[Cell<'_>]) -> Markup {
    let doubtful = cells.iter().filter_map(|cell| {
        let doubtful = cell.runs.iter().filter(|run| run.validity.verdict != Valid);
        // The worst is named.
        let worst = doubtful.clone().max_by_key(|run| run.validity.verdict)?;
        Some((cell.name(), doubtful.count(), &worst.validity))
    });
    html! {
        ul.reasons {
            @for (name, count, validity) in doubtful {
                li.bad[validity.verdict == Invalid] {
                    (name) ": " (count) " run(s) not valid, e.g. "
                    (validity.reasons.first().map_or("", String::as_str))
                }
            }
        }
    }
}

fn cells(set: &Set) -> Vec<Cell<'_>> {
    match &set.sweep {
        Some(sweep) => (0..)
            .zip(&sweep.cells)
            .map(|(at, settings)| Cell {
                settings: settings.clone(),
                runs: set.runs_of(at).collect(),
            })
            .collect(),
        None => set
            .cells
            .iter()
            .map(|run| {
                let mut settings = BTreeMap::new();
                settings.insert("acks".to_owned(), run.durability.acks.clone());
                let batch = match (run.options.batch_records, run.options.batch_bytes) {
                    (Some(records), _) => format!("{records}rec"),
                    (_, bytes) => format!("{}B", bytes.unwrap_or(0)),
                };
                settings.insert("batch".to_owned(), batch);
                let linger = Unit::Nanoseconds.show(Some(run.options.linger_ns));
                settings.insert("linger".to_owned(), linger);
                Cell { settings, runs: vec![run] }
            })
            .collect(),
    }
}

/// Two knobs against each other; of further knobs, the median over all their values.
fn heat_map(name: &str, rows: &Knob, columns: &Knob, cells: &[Cell<'_>]) -> Markup {
    let Knob { key: row_key, values: rows } = rows;
    let Knob { key: column_key, values: columns } = columns;
    let figure = Figure::named(name);
    let value = |row: &String, column: &String| {
        let here = cells.iter().filter(|cell| {
            cell.settings.get(row_key) == Some(row) && cell.settings.get(column_key) == Some(column)
        });
        Spread::of(here.filter_map(|cell| cell.median(name))).map(|spread| spread.median)
    };
    let all = rows.iter().flat_map(|row| columns.iter().filter_map(|column| value(row, column)));
    let Some(spread) = Spread::of(all) else { return html! {} };
    let strength = |value: u64| match spread.max > spread.min {
        true => double(value - spread.min) / double(spread.max - spread.min),
        false => 0.5,
    };
    html! {
        h2 { (name) }
        div.scroll { table {
            tr { th { (row_key) " \\ " (column_key) } @for column in columns { th { (column) } } }
            @for row in rows {
                tr {
                    td { (row) }
                    @for column in columns {
                        @match value(row, column) {
                            Some(value) => td style={
                                "background: color-mix(in srgb, var(--main) "
                                (format!("{:.0}", 8.0 + 52.0 * strength(value))) "%, transparent)"
                            } { (figure.unit.show(Some(value))) },
                            None => td { "--" },
                        }
                    }
                }
            }
        } }
    }
}

/// Rate against latency; the cells that no other beats in both are marked.
fn scatter(cells: &[Cell<'_>]) -> Markup {
    let points: Vec<(usize, f64, f64)> = cells
        .iter()
        .enumerate()
        .filter_map(|(index, cell)| {
            let (rate, p99) = (cell.median("records_per_s")?, cell.median("response_p99_ns")?);
            Some((index, double(rate), double(p99)))
        })
        .collect();
    if points.len() < 2 {
        return html! {};
    }
    let front =
        pareto_front(&points.iter().map(|&(_, rate, p99)| [-rate, p99]).collect::<Vec<_>>());
    let x = Scale::from_zero(points.iter().map(|&(_, rate, _)| rate));
    let mut plot = Plot::new(x, Scale::log(points.iter().map(|&(.., p99)| p99)), 330.0);
    for (place, &(index, rate, p99)) in points.iter().enumerate() {
        let class = if front.contains(&place) { "" } else { "second" };
        let rate_text = Unit::PerSecond.show(Some(crate::latency::whole(rate)));
        let text = format!("{}: {rate_text}/s, p99 {}", cells[index].name(), nanoseconds(p99));
        plot.dot(rate, p99, class, &text);
    }
    let count = |n: f64| Unit::PerSecond.show(Some(crate::latency::whole(n)));
    html! {
        h2 { "Rate against p99" }
        (figure("Each cell; blue ones are beaten by no other in both rate and latency.",
            &plot.render("rate against p99", &count, &nanoseconds)))
    }
}

fn table(cells: &[Cell<'_>]) -> Markup {
    const NAMES: [&str; 5] = [
        "records_per_s",
        "response_p50_ns",
        "response_p99_ns",
        "response_p999_ns",
        "broker_cpu_ns_per_record",
    ];
    html! {
        h2 { "All cells" }
        div.scroll { table {
            tr { th { "cell" } @for name in NAMES { th { (name) } } th { "runs" } }
            @for cell in cells {
                tr {
                    td { (cell.name()) }
                    @for name in NAMES { td { (Figure::named(name).unit.show(cell.median(name))) } }
                    td { (cell.runs.len()) }
                }
            }
        } }
    }
}
