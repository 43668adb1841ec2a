//! Pages of loads that last: with a backlog, and for long.

use maud::{Markup, html};

use super::{figures, run};
use crate::report::Unit;
use crate::run::{Backlog, DriftVerdict, Soak};

/// The page of a backlog.
pub(super) fn backlog(all: &Backlog) -> Markup {
    html! {
        p.soft {
            "A backlog of " (Unit::PerSecond.show(Some(all.backlog))) " records; medians over "
            (all.runs_with.len()) " rounds."
        }
        @if all.interrupted { p.bad { "Interrupted: not all rounds were made." } }
        @if let Some(found) = &all.figures {
            table {
                tr { th {} th { "without a backlog" } th { "with it" } th { "ratio" } }
                @for row in found.rows() { tr { @for cell in row { td { (cell) } } } }
            }
            p { (found.sentence()) "." }
        }
        @for (name, runs) in [("With a backlog", &all.runs_with), ("Without", &all.runs_without)] {
            @for one in runs.iter() {
                details { summary { (name) } (run::whole(one)) }
            }
        }
        @if let Some(one) = all.runs_with.first() { (figures::disclosure(one)) }
    }
}

/// The page of a long load.
pub(super) fn soak(soak: &Soak) -> Markup {
    let class = |verdict| match verdict {
        DriftVerdict::Steady => "good",
        DriftVerdict::Unknown => "soft",
        DriftVerdict::Drifts => "bad",
    };
    html! {
        h2 { "Drift" }
        div.scroll { table {
            tr { th { "figure" } th { "mean" } th { "change over the window" } th { "verdict" } }
            @for drift in &soak.drifts {
                tr {
                    @let [name, mean, change, verdict] = drift.texts();
                    td { (name) }
                    td { (mean) }
                    td { (change) }
                    td class=(class(drift.verdict)) { (verdict) }
                }
            }
        } }
        (run::whole(&soak.run))
    }
}
