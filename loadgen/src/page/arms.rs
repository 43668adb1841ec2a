//! The page of two arms: ratios with their intervals, and each run as a dot.

use maud::{Markup, html};

use super::plot::{Plot, Scale};
use super::{double, figure, figures};
use crate::compare::Weighed;
use crate::report::{Figure, Run};
use crate::run::Ab;
use crate::statistics::Verdict;

/// The whole page.
pub(super) fn whole(ab: &Ab) -> Markup {
    let named = |settings: &[String]| match settings {
        [] => "as given".to_owned(),
        some => some.join(" "),
    };
    html! {
        p.soft {
            "A: " (named(&ab.a)) "; B: " (named(&ab.b)) "; " (ab.runs_a.len()) " and "
            (ab.runs_b.len()) " runs in the order " (ab.order) "; seed " (ab.order_seed)
        }
        @if ab.interrupted { p.bad { "Interrupted: not all runs were made." } }
        (table(ab))
        (forest(ab))
        @for row in &ab.figures { (dots(row, ab)) }
        @if let Some(run) = ab.runs_a.first() {
            h2 { "The first run of A" }
            p.soft { (figures::sentence(run)) }
            (figures::disclosure(run))
        }
    }
}

fn share(ppm: Option<u64>) -> String {
    ppm.map_or_else(|| "--".to_owned(), |ppm| format!("{:.3}", double(ppm) / 1e6))
}

fn word(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Better => ("better", "good"),
        Verdict::Worse => ("worse", "bad"),
        Verdict::Same => ("the same", ""),
        Verdict::Inconclusive => ("inconclusive", ""),
    }
}

const COLUMNS: [&str; 8] = ["figure", "A", "B", "B / A", "95 % interval", "noise", "p", "B is"];

fn table(ab: &Ab) -> Markup {
    html! {
        h2 { "Verdicts" }
        div.scroll { table {
            tr { @for name in COLUMNS { th { (name) } } }
            @for row in &ab.figures {
                @let (word, class) = word(row.verdict);
                tr {
                    td { (row.name) }
                    td { (row.unit.show(row.a.map(|spread| spread.median))) }
                    td { (row.unit.show(row.b.map(|spread| spread.median))) }
                    td { (share(row.ratio_ppm)) }
                    td { (share(row.ratio_low_ppm)) " .. " (share(row.ratio_high_ppm)) }
                    td { (share(row.noise_floor_ppm)) }
                    td { (share(row.p_ppm)) }
                    td class=(class) {
                        (word)
                        @if let Some(runs) = row.runs_needed { " (about " (runs) " runs needed)" }
                    }
                }
            }
        } }
        @for gate in &ab.gates {
            p class=(if gate.failed { "bad" } else { "" }) {
                "gate " (gate.expression) ": " (if gate.failed { "failed" } else { "not shown" })
            }
        }
    }
}

/// Each ratio with its interval, beside the margin that does not matter.
fn forest(ab: &Ab) -> Markup {
    let known: Vec<&Weighed> = ab.figures.iter().filter(|row| row.ratio_ppm.is_some()).collect();
    if known.is_empty() {
        return html! {};
    }
    let ends = known.iter().flat_map(|row| [row.ratio_low_ppm, row.ratio_high_ppm]);
    let margin = double(ab.margin_ppm) / 1e6;
    let edges = [1.0 / (1.0 + margin), 1.0 + margin];
    let ends = ends.flatten().map(|ppm| double(ppm) / 1e6).chain(edges);
    let rows = double(known.len() as u64);
    let y = Scale::Linear { low: -0.6, high: rows - 0.4 };
    let x = Scale::log(ends.flat_map(|ratio| [ratio, 1.0 / ratio]));
    let mut plot = Plot::new(x, y, 60.0 + 34.0 * rows);
    let bottom_to_top = [(edges[0], -0.6, rows), (edges[1], -0.6, rows)];
    plot.between(&bottom_to_top, "second");
    plot.rule(1.0, "");
    for (place, row) in known.iter().enumerate() {
        let y = rows - 1.0 - double(place as u64);
        let (low, high) = (row.ratio_low_ppm.unwrap_or(0), row.ratio_high_ppm.unwrap_or(0));
        plot.bar(double(low) / 1e6, double(high) / 1e6, y, "");
        let ratio = double(row.ratio_ppm.unwrap_or(0)) / 1e6;
        plot.dot(ratio, y, "", &format!("{}: {ratio:.3}", row.name));
        plot.text(0.0, y + 0.33, &row.name);
    }
    let picture = plot.render("ratios", &|ratio| format!("{ratio:.2}"), &|_| String::new());
    html! {
        h2 { "B / A" }
        (figure(
            "Ratios with their 95 % intervals; the band is the margin that does not matter.",
            &picture,
        ))
    }
}

/// Every run of one figure, never only means.
fn dots(row: &Weighed, ab: &Ab) -> Markup {
    let figure_of = Figure::named(&row.name);
    let values = |runs: &[Run]| -> Vec<f64> {
        runs.iter().filter_map(|run| (figure_of.of)(run)).map(double).collect()
    };
    let (a, b) = (values(&ab.runs_a), values(&ab.runs_b));
    let x = Scale::from_zero(a.iter().chain(&b).copied());
    let mut plot = Plot::new(x, Scale::Linear { low: -0.6, high: 1.6 }, 110.0);
    for (values, y, class, name) in [(&a, 1.0, "second", "A"), (&b, 0.0, "", "B")] {
        for &value in values {
            let text = row.unit.show(Some(crate::latency::whole(value)));
            plot.dot(value, y, class, &format!("{name}: {text}"));
        }
    }
    let unit = row.unit;
    let show = move |value: f64| unit.show(Some(crate::latency::whole(value)));
    let name = |y: f64| match y {
        _ if (y - 1.0).abs() < 1e-9 => "A".to_owned(),
        _ if y.abs() < 1e-9 => "B".to_owned(),
        _ => String::new(),
    };
    figure(&format!("{}: every run.", row.name), &plot.render(&row.name, &show, &name))
}
