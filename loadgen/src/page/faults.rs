//! What befell the broker during a run.

use maud::{Markup, html};

use super::legend;
use super::plot::Plot;
use crate::report::{Run, Unit};

/// Shows when the broker was down, in a plot over the seconds of the window.
pub(super) fn shade(plot: &mut Plot, run: &Run) {
    let seconds = |ns: u64| super::double(ns) / 1e9;
    for fault in run.faults.iter().flat_map(|found| &found.faults) {
        let end_ns = fault.struck_ns + fault.down_ns;
        plot.shade(seconds(fault.struck_ns), seconds(end_ns), &fault.sentence());
    }
    if let (Some(end), Some(series)) = (&run.broker_end, &run.series) {
        let close = super::run::seconds(series, series.heatmap.len());
        plot.shade(seconds(end.after_ns), close, &format!("the broker ended: {}", end.how));
    }
}

/// Says what the shading means, where there is some.
pub(super) fn shading(run: &Run) -> Markup {
    let what = match (&run.faults, &run.broker_end) {
        (_, Some(_)) => "the broker had ended",
        (Some(_), None) => "down by a fault",
        (None, None) => return html! {},
    };
    legend(&[(what, "fault")])
}

/// Empty of a run without faults.
pub(super) fn faults(run: &Run) -> Markup {
    let Some(found) = &run.faults else { return html! {} };
    let time = |ns: Option<u64>| Unit::Nanoseconds.show(ns);
    let count = |count: Option<u64>| count.map_or_else(|| "--".to_owned(), |n| n.to_string());
    html! {
        h2 { "Faults" }
        div.scroll { table {
            tr {
                th { "fault" } th { "down for" } th { "start and recovery" }
                th { "first acknowledgement after" } th { "outage" } th { "p99 settled after" }
            }
            @for fault in &found.faults {
                tr {
                    td { (fault.fault) }
                    td { (time(Some(fault.down_ns))) }
                    td { (time(fault.recovery_ns)) }
                    td { (time(fault.first_ack_after_ns)) }
                    td { (time(fault.outage_ns)) }
                    td { (time(fault.p99_settled_after_ns)) }
                }
            }
        } }
        p {
            (found.connections_lost) " connections were lost and " (found.reconnected)
            " made again; " (count(found.unacknowledged_records))
            " records were sent and never acknowledged, of which "
            (count(found.unacknowledged_found)) " are there."
        }
    }
}
