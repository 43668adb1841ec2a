//! What only pages of queues have.

use maud::{Markup, html};

use crate::report::{QueueFigures, Unit};

/// What became of the messages.
pub(super) fn figures(queue: &QueueFigures) -> Markup {
    let count = |figure: u64| Unit::PerSecond.show(Some(figure));
    let time = |figure: Option<u64>| Unit::Nanoseconds.show(figure);
    let waits = [("due to confirmed", &queue.confirm_ns), ("due to delivered", &queue.deliver_ns)];
    let rows = [
        ("delivered again, and marked so", Some(queue.redelivered)),
        ("found among the dead letters", Some(queue.dead_lettered)),
        ("delivered after their acknowledgement", Some(queue.delivered_after_ack)),
        ("in the queues before the load", queue.messages_at_start),
        ("in the queues when the window closed", queue.messages_at_close),
    ];
    html! {
        h2 { "Queues" }
        table {
            tr { @for name in ["from when a message was", "p50", "p99", "p99.9", "max"] {
                th { (name) }
            } }
            @for (name, summary) in waits {
                @if let Some(summary) = summary {
                    tr {
                        td { (name) }
                        @for value in [summary.p50, summary.p99, summary.p999, summary.max] {
                            td { (time(value)) }
                        }
                    }
                }
            }
        }
        table {
            tr { th { "messages" } th {} }
            @for (name, figure) in rows {
                @if let Some(figure) = figure { tr { td { (name) } td { (count(figure)) } } }
            }
        }
    }
}
