//! What befell the broker during a run.

use maud::{Markup, html};

use crate::report::{Run, Unit};

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
