//! What was found of a run's records afterwards.

use maud::{Markup, html};

use crate::integrity::IntegrityVerdict;
use crate::run::Verified;

/// The whole page.
pub(super) fn whole(found: &Verified) -> Markup {
    let integrity = &found.integrity;
    let class = match integrity.verdict {
        IntegrityVerdict::Ok => "good",
        IntegrityVerdict::Failed => "bad",
        IntegrityVerdict::NotChecked => "soft",
    };
    let rows = [
        ("acknowledged by the broker", Some(found.acknowledged)),
        ("of these lost", integrity.lost),
        ("there twice", integrity.duplicated),
        ("out of order", integrity.reordered),
        ("damaged", integrity.corrupted),
        ("there, and never sent or refused", integrity.unexpected),
        ("sent and never answered", integrity.in_doubt),
        ("of these there", integrity.in_doubt_found),
    ];
    let facts = [
        (if found.is_queue { "queues" } else { "topic" }, Some(&found.topic)),
        ("the run began", found.run_started_utc.as_ref()),
        ("looked", Some(&found.started_utc)),
        ("broker", Some(&found.address)),
        ("data directory", found.data_dir.as_ref()),
    ];
    html! {
        p class=(class) { (found.sentence()) }
        table {
            @for (name, count) in rows {
                @if let Some(count) = count { tr { td { (name) } td { (count) } } }
            }
        }
        h2 { "Where and when" }
        table {
            @for (name, text) in facts {
                @if let Some(text) = text { tr { td { (name) } td.text { (text) } } }
            }
        }
    }
}
