//! What a sweep says, on its page: a recommendation, what each knob does, and the unbeaten cells.

use maud::{Markup, html};

use crate::report::{Analysis, Effect, Figure, Set, Spread, Sweep};

/// Empty of a set that is no sweep.
pub(super) fn analysis(set: &Set) -> Markup {
    let (Some(sweep), Some(found)) = (&set.sweep, Analysis::of(set)) else { return html! {} };
    html! {
        @if let Some(recommended) = &found.recommended {
            p class=(if recommended.cells.is_empty() { "bad" } else { "good" }) {
                "Recommended: " (recommended.sentence) "."
            }
        }
        (effects(&found.effects))
        (front(set, sweep, &found.pareto))
    }
}

fn effects(effects: &[Effect]) -> Markup {
    let mut names: Vec<&str> = Vec::new();
    for name in effects.iter().flat_map(|effect| effect.changes.keys()) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    html! {
        @if !effects.is_empty() {
            h2 { "What each knob does" }
            p.soft {
                "Against the first value, all else equal; with a 95 % interval where there are "
                "three pairs of runs or more. Bold changes are certain."
            }
            div.scroll { table {
                tr { th { "knob" } th { "change" } @for name in &names { th { (name) } } }
                @for effect in effects {
                    tr {
                        td { (effect.knob) }
                        td { (effect.from) " → " (effect.to) }
                        @for name in &names {
                            @match effect.changes.get(*name) {
                                Some(change) if change.is_certain() => td { b { (change.text()) } },
                                Some(change) => td { (change.text()) },
                                None => td { "--" },
                            }
                        }
                    }
                }
            } }
        }
    }
}

fn front(set: &Set, sweep: &Sweep, cells: &[usize]) -> Markup {
    const NAMES: [&str; 3] = ["records_per_s", "response_p99_ns", "broker_cpu_ns_per_record"];
    let median = |cell: usize, figure: &Figure| {
        Spread::of(set.runs_of(cell).filter_map(figure.of)).map(|spread| spread.median)
    };
    let name = |cell: usize| {
        let pairs = sweep.cells[cell].iter().map(|(key, value)| format!("{key}={value}"));
        pairs.collect::<Vec<_>>().join(" ")
    };
    html! {
        @if !cells.is_empty() {
            h2 { "Cells that no other beats in rate, p99 and CPU" }
            div.scroll { table {
                tr { th { "cell" } @for name in NAMES { th { (name) } } }
                @for &cell in cells {
                    tr {
                        td { (name(cell)) }
                        @for figure in NAMES.map(Figure::named) {
                            td { (figure.unit.show(median(cell, figure))) }
                        }
                    }
                }
            } }
        }
    }
}
