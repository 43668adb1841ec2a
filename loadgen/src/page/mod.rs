//! A result as a page: one file, no network, no script.

mod arms;
mod document;
mod endurance;
mod faults;
mod figures;
mod grid;
mod heat;
mod host;
mod plot;
mod proof;
mod queue;
mod rates;
mod run;
mod sweep;

pub use document::{Document, DocumentError};

use maud::{DOCTYPE, Markup, PreEscaped, html};

/// A page is shorter than this.
pub const PAGE_BYTES_MAX: usize = 400 << 10;
const STYLE: &str = include_str!("style.css");

/// The page of a result.
#[must_use]
pub fn page(document: &Document) -> String {
    let (title, body) = match document {
        Document::Run(run) => ("A load, measured", run::whole(run)),
        Document::Set(set) => ("A grid of settings", grid::whole(set)),
        Document::Ab(ab) => ("Two arms", arms::whole(ab)),
        Document::Max(max) => ("The highest rate", rates::search(max)),
        Document::Curve(curve) => ("Latency against rate", rates::curve(curve)),
        Document::Backlog(all) => ("With a backlog and without", endurance::backlog(all)),
        Document::Soak(soak) => ("A long load", endurance::soak(soak)),
        Document::Verified(found) => ("What is still there", proof::whole(found)),
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Pelton: " (title) }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                (body)
            }
        }
    };
    page.into_string()
}

/// A figure with what it shows.
fn figure(caption: &str, picture: &Markup) -> Markup {
    html! { figure { (picture) figcaption { (caption) } } }
}

/// Names of lines, as they are drawn.
fn legend(entries: &[(&str, &str)]) -> Markup {
    html! {
        p.legend {
            @for (name, class) in entries {
                span { i class=(class) {} (name) }
            }
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "pictures need three digits")]
fn double(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests;
