//! Pages about many rates: the search for the highest, and the curve.

use maud::{Markup, html};

use super::plot::{Plot, Scale};
use super::run::nanoseconds;
use super::{double, figure, figures, legend};
use crate::report::{Percentile, Run, Unit};
use crate::run::{Curve, Max};

/// The page of a search.
pub(super) fn search(max: &Max) -> Markup {
    let rate = |rate: Option<u64>| Unit::PerSecond.show(rate);
    html! {
        p.soft { "Objective: " (max.slo) }
        @if max.interrupted { p.bad { "Interrupted: the search is not finished." } }
        div.cards {
            div.card {
                b { (rate(max.capacity_records_per_s)) }
                span { "records per second held" }
            }
            div.card {
                b { (rate(max.fails_at_records_per_s)) }
                span { "records per second failed" }
            }
        }
        @if let Some(why) = &max.limited_by { p { "Limited by " (why) } }
        (latencies(&max.runs))
        h2 { "Probes" }
        div.scroll { table {
            tr {
                @for name in ["", "offered", "achieved", "p50", "p99"] { th { (name) } }
                th.text {}
            }
            @for (probe, run) in max.probes.iter().zip(&max.runs) {
                tr {
                    td { (if probe.hold { "hold" } else { "probe" }) }
                    td { (rate(Some(probe.offered_records_per_s))) }
                    td { (rate(run.load.achieved_records_per_s)) }
                    td { (Unit::Nanoseconds.show(run.response(Percentile::P50))) }
                    td { (Unit::Nanoseconds.show(run.response(Percentile::P99))) }
                    td.text { (probe.why.as_deref().unwrap_or("ok")) }
                }
            }
        } }
        @if let Some(run) = max.runs.last() { (figures::disclosure(run)) }
    }
}

/// The page of a curve.
pub(super) fn curve(curve: &Curve) -> Markup {
    html! {
        @if curve.interrupted { p.bad { "Interrupted: not all rates were offered." } }
        @if let Some(rate) = curve.closed_loop_records_per_s {
            p.soft {
                "A closed loop of the same settings reached " (Unit::PerSecond.show(Some(rate)))
                " records per second."
            }
        }
        (latencies(&curve.runs))
        h2 { "Points" }
        div.scroll { table {
            tr {
                @for name in ["offered", "achieved", "p50", "p99", "p99.9", "validity"] {
                    th { (name) }
                }
            }
            @for run in &curve.runs {
                tr {
                    td { (Unit::PerSecond.show(run.options.rate_records_per_s)) }
                    td { (Unit::PerSecond.show(run.load.achieved_records_per_s)) }
                    @for percentile in [Percentile::P50, Percentile::P99, Percentile::P999] {
                        td { (Unit::Nanoseconds.show(run.response(percentile))) }
                    }
                    td { (run.validity.status) }
                }
            }
        } }
        @if let Some(run) = curve.runs.first() { (figures::disclosure(run)) }
    }
}

/// Latency against the rate that was offered.
fn latencies(runs: &[Run]) -> Markup {
    let mut runs: Vec<&Run> =
        runs.iter().filter(|run| run.options.rate_records_per_s.is_some()).collect();
    runs.sort_by_key(|run| run.options.rate_records_per_s);
    let rate = |run: &Run| double(run.options.rate_records_per_s.unwrap_or(0));
    let lines =
        [(Percentile::P999, "second"), (Percentile::P99, "third"), (Percentile::P50, "main")];
    let values = runs
        .iter()
        .flat_map(|run| lines.iter().filter_map(|&(percentile, _)| run.response(percentile)))
        .map(double);
    let x = Scale::from_zero(runs.iter().map(|run| rate(run)));
    let mut plot = Plot::new(x, Scale::log(values), 330.0);
    for (percentile, class) in lines {
        let points: Vec<_> =
            runs.iter().map(|run| (rate(run), run.response(percentile).map(double))).collect();
        plot.line(&points, class);
        for run in &runs {
            if let Some(ns) = run.response(percentile) {
                let bad = run.validity.status != "ok";
                let text = format!(
                    "{} at {}{}",
                    nanoseconds(double(ns)),
                    Unit::PerSecond.show(run.options.rate_records_per_s),
                    if bad { format!(" ({})", run.validity.status) } else { String::new() }
                );
                plot.dot(rate(run), double(ns), if bad { "bad" } else { class }, &text);
            }
        }
    }
    let count = |n: f64| Unit::PerSecond.show(Some(crate::latency::whole(n)));
    html! {
        h2 { "Response time against rate" }
        (legend(&[("p50", "main"), ("p99", "third"), ("p99.9", "second")]))
        (figure("By the rate that was offered; red points are not valid without reservation.",
            &plot.render("latency against rate", &count, &nanoseconds)))
    }
}
