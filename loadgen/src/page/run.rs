//! The page of one run: what it says, how far that can be trusted, and everything it rests on.

use maud::{Markup, html};
use std::collections::BTreeMap;

use super::plot::{Plot, Scale};
use super::{double, faults, figure, figures, heat, host, legend, queue};
use crate::integrity::IntegrityVerdict;
use crate::latency::{Latencies, Summary};
use crate::report::{Percentile, Phase, Run, Unit};
use crate::timeline::Series;
use crate::validity::ValidityVerdict;

/// The whole page.
pub(super) fn whole(run: &Run) -> Markup {
    html! {
        p.soft { (figures::sentence(run)) }
        (strip(run))
        (doubts(run))
        (faults::faults(run))
        (spectrum(run))
        @if let Some(series) = &run.series {
            (heat::map(run, series))
            (time_lines(run, series))
        }
        (phases(&run.phases))
        @if let Some(figures) = &run.queue { (queue::figures(figures)) }
        @if let Some(parts) = &run.anatomy_ns { (host::anatomy(parts)) }
        (host::time_lines(run))
        (latencies(run))
        (figures::efficiency(run))
        (figures::disclosure(run))
    }
}

/// The few figures that are looked at first.
fn strip(run: &Run) -> Markup {
    let response = |percentile| Unit::Nanoseconds.show(run.response(percentile));
    let rate = run.load.achieved_records_per_s.or(run.load.consumed_records_per_s);
    let (validity, validity_class) = match run.validity.verdict {
        ValidityVerdict::Valid => ("valid", "good"),
        ValidityVerdict::Doubtful => ("doubtful", "bad"),
        ValidityVerdict::Invalid => ("invalid", "bad"),
    };
    let (integrity, integrity_class) = match run.integrity.verdict {
        IntegrityVerdict::Ok => ("ok", "good"),
        IntegrityVerdict::Failed => ("failed", "bad"),
        IntegrityVerdict::NotChecked => ("not checked", ""),
    };
    let cpu = Unit::Nanoseconds.show(run.efficiency.broker_cpu_ns_per_record);
    let cards = [
        ("records per second", Unit::PerSecond.show(rate), ""),
        ("response p50", response(Percentile::P50), ""),
        ("response p99", response(Percentile::P99), ""),
        ("response p99.9", response(Percentile::P999), ""),
        ("acknowledged when", run.durability.acks.clone(), ""),
        ("broker CPU per record", cpu, ""),
        ("integrity", integrity.to_owned(), integrity_class),
        ("validity", validity.to_owned(), validity_class),
    ];
    html! {
        div.cards {
            @for (name, value, class) in cards {
                div.card { b class=(class) { (value) } span { (name) } }
            }
        }
    }
}

fn doubts(run: &Run) -> Markup {
    html! {
        ul.reasons {
            @for outcome in &run.slo {
                @match &outcome.why {
                    Some(why) => li.bad { "objective missed: " (why) },
                    None => li.good { "objective met: " (outcome.expression) },
                }
            }
            @for reason in &run.validity.reasons { li { (reason) } }
        }
    }
}

/// All percentiles, on an axis that gives each nine the same room.
fn spectrum(run: &Run) -> Markup {
    let decoded: BTreeMap<&str, Vec<(f64, u64)>> = run
        .histograms
        .iter()
        .filter_map(|(name, text)| Some((name.as_str(), Latencies::decode(text)?.quantiles())))
        .filter(|(_, points)| !points.is_empty())
        .collect();
    let Some(response) = decoded.get("response") else { return html! {} };
    let beyond = |share: f64| 1.0 / (1.0 - share);
    let all = || decoded.values().flatten();
    let x =
        Scale::Log { low: 1.0, high: all().map(|&(share, _)| beyond(share)).fold(10.0, f64::max) };
    let y = Scale::log(all().map(|&(_, ns)| double(ns)));
    let mut plot = Plot::new(x, y, 330.0);
    if let Some(service) = decoded.get("service") {
        let area: Vec<(f64, f64, f64)> = response
            .iter()
            .map(|&(share, ns)| (beyond(share), double(at(service, share)), double(ns)))
            .collect();
        plot.between(&area, "");
    }
    let mut drawn = Vec::new();
    for (name, label, class) in [
        ("e2e", "end-to-end", "third"),
        ("schedule_delay", "schedule delay", "second dash"),
        ("service", "service", "second"),
        ("response", "response", "main"),
    ] {
        let Some(points) = decoded.get(name) else { continue };
        drawn.insert(0, (label, class));
        let points = points.iter();
        let points: Vec<_> = points.map(|&(share, ns)| (beyond(share), Some(double(ns)))).collect();
        plot.line(&points, class);
    }
    let picture = plot.render("percentiles", &nines, &nanoseconds);
    html! {
        h2 { "Percentiles" }
        (legend(&drawn))
        (figure(
            "The shaded gap between service and response is what records waited before they were \
             sent: what a tool that measures from the send would have hidden. As far as ten \
             samples lie beyond.",
            &picture,
        ))
    }
}

/// The value of a list of percentiles at a share.
fn at(points: &[(f64, u64)], share: f64) -> u64 {
    let next = points.iter().find(|&&(there, _)| there >= share);
    next.or(points.last()).map_or(0, |&(_, ns)| ns)
}

fn nines(beyond: f64) -> String {
    let percent = 100.0 * (1.0 - 1.0 / beyond);
    let digits = (beyond.log10() - 2.0).ceil().max(0.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to about 7")]
    let digits = digits as usize;
    format!("p{percent:.digits$}")
}

pub(super) fn nanoseconds(ns: f64) -> String {
    Unit::Nanoseconds.show(Some(crate::latency::whole(ns)))
}

pub(super) fn seconds(series: &Series, stretch: usize) -> f64 {
    f64::from(u32::try_from(stretch).expect("few stretches")) * series.interval_s()
}

fn time_lines(run: &Run, series: &Series) -> Markup {
    let middle = |index: usize| seconds(series, index) + series.interval_s() / 2.0;
    let x = Scale::Linear { low: 0.0, high: seconds(series, series.heatmap.len()) };
    let per_s = |records: &u64| double(*records) / series.interval_s();
    let rates = || series.acked_records.iter().chain(&series.consumed_records).map(per_s);
    let mut rate = Plot::new(x, Scale::from_zero(rates()), 190.0);
    let line = |records: &[u64]| -> Vec<(f64, Option<f64>)> {
        records.iter().enumerate().map(|(index, n)| (middle(index), Some(per_s(n)))).collect()
    };
    let mut drawn = vec![("acknowledged", "main")];
    if series.consumed_records.iter().any(|&records| records > 0) {
        rate.line(&line(&series.consumed_records), "third");
        drawn.push(("consumed", "third"));
    }
    rate.line(&line(&series.acked_records), "main");
    faults::shade(&mut rate, run);
    let times = [(&series.max_ns, "second"), (&series.p99_ns, "third"), (&series.p50_ns, "main")];
    let all = times.iter().flat_map(|(values, _)| values.iter().flatten().map(|&ns| double(ns)));
    let mut latency = Plot::new(x, Scale::log(all), 220.0);
    for (values, class) in times {
        let points: Vec<_> =
            values.iter().enumerate().map(|(index, ns)| (middle(index), ns.map(double))).collect();
        latency.line(&points, class);
    }
    faults::shade(&mut latency, run);
    let second = |s: f64| format!("{s} s");
    let count = |n: f64| Unit::PerSecond.show(Some(crate::latency::whole(n)));
    html! {
        h2 { "Over time" }
        (legend(&drawn))
        (faults::shading(run))
        (figure("Records per second.", &rate.render("records per second", &second, &count)))
        (legend(&[("p50", "main"), ("p99", "third"), ("longest", "second")]))
        (figure("Response time of what was acknowledged in each stretch.",
            &latency.render("latency over time", &second, &nanoseconds)))
    }
}

/// What each part of the run offered and got, where there is more to tell than that it warmed up.
fn phases(phases: &[Phase]) -> Markup {
    if phases.len() <= 2 && phases.iter().all(|phase| phase.steady_after_ns.is_none()) {
        return html! {};
    }
    let time = |ns: u64| Unit::Nanoseconds.show(Some(ns));
    let names =
        ["phase", "from", "to", "offered", "achieved", "p50", "p99", "p99.9", "steady since"];
    html! {
        h2 { "Phases" }
        div.scroll { table {
            tr { @for name in names { th { (name) } } }
            @for phase in phases {
                @let response = phase.response_ns.clone().unwrap_or_default();
                tr {
                    td { (phase.name) }
                    td { (time(phase.from_ns)) }
                    td { (time(phase.to_ns)) }
                    td { (Unit::PerSecond.show(phase.offered_records_per_s)) }
                    td { (Unit::PerSecond.show(phase.achieved_records_per_s)) }
                    @for value in [response.p50, response.p99, response.p999] {
                        td { (Unit::Nanoseconds.show(value)) }
                    }
                    td { @if let Some(ns) = phase.steady_after_ns { (time(ns)) } }
                }
            }
        } }
    }
}

const COLUMNS: [&str; 9] =
    ["samples", "min", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"];

/// In the order of the columns behind the first.
fn values(row: &Summary) -> [Option<u64>; 8] {
    [row.min, row.mean, row.p50, row.p90, row.p99, row.p999, row.p9999, row.max]
}

fn latencies(run: &Run) -> Markup {
    let set = &run.latency_ns;
    let rows: [(&str, &Option<Summary>); 7] = [
        ("response", &set.response),
        ("service", &set.service),
        ("schedule delay", &set.schedule_delay),
        ("of it, asked for by the load", &set.client_queue),
        ("generator's own lateness", &set.generator_slip),
        ("end-to-end", &set.e2e),
        ("end-to-end from the request", &set.e2e_service),
    ];
    let show = |value: Option<u64>| Unit::Nanoseconds.show(value);
    html! {
        h2 { "Latencies" }
        div.scroll { table {
            tr { th {} @for name in COLUMNS { th { (name) } } }
            @for (name, summary) in rows {
                @if let Some(row) = summary {
                    tr {
                        td { (name) }
                        td { (Unit::PerSecond.show(Some(row.count))) }
                        @for value in values(row) {
                            td { (show(value)) }
                        }
                    }
                }
            }
        } }
        @if set.closed_loop {
            p.soft {
                "A closed loop: waiting for a free slot does not count, and a slow broker is asked \
                 less."
            }
        }
    }
}
