//! What the machine did meanwhile, on the time axis of the run, and where requests spent theirs.

use maud::{Markup, html};

use super::plot::{Plot, Scale};
use super::{double, figure, legend};
use crate::report::{Anatomy, Run, Unit};
use crate::sampler::HostSeries;

/// Lines of a plot: name, class, values.
type Lines<'a> = Vec<(&'a str, &'a str, Vec<Option<f64>>)>;
/// More cores are not told apart.
const CORES_SHOWN_MAX: usize = 6;
const CLASSES: [&str; 3] = ["main", "third", "second"];

/// Time lines of the host.
pub(super) fn time_lines(run: &Run) -> Markup {
    let Some(host) = &run.host else { return html! {} };
    let names: Vec<String> =
        (0..host.cpu_busy_percent.len()).map(|core| format!("core {core}")).collect();
    let cores = cores(&host.cpu_busy_percent, &names);
    let pressure = |values: &[Option<u64>]| -> Vec<Option<f64>> {
        values.iter().map(|value| value.map(|per_mille| double(per_mille) / 10.0)).collect()
    };
    let pressures: Lines<'_> = vec![
        ("cpu", "main", pressure(&host.cpu_pressure_per_mille)),
        ("io", "third", pressure(&host.io_pressure_per_mille)),
        ("memory", "second", pressure(&host.memory_pressure_per_mille)),
    ];
    let disk: Lines<'_> = vec![
        ("written", "main", known(&host.disk_written_bytes_per_s)),
        ("read", "third", known(&host.disk_read_bytes_per_s)),
    ];
    let counter = |name: &str| host.broker_per_s.get(name).map(|rates| known(rates));
    let mut broker: Lines<'_> = Vec::new();
    for (name, key, class) in [
        ("kernel entries", "kernel_entries", "second"),
        ("durable writes", "durable_writes", "main"),
        ("parks", "parks", "third"),
    ] {
        broker.extend(counter(key).map(|rates| (name, class, rates)));
    }
    let percent = |value: f64| format!("{value:.0} %");
    let bytes = |value: f64| Unit::BytesPerSecond.show(Some(crate::latency::whole(value)));
    let count = |value: f64| Unit::PerSecond.show(Some(crate::latency::whole(value)));
    html! {
        h2 { "The machine meanwhile" }
        (plot(host, "Busy share of each core.", &cores, &percent))
        (plot(host, "Bytes per second of all disks.", &disk, &bytes))
        (plot(
            host,
            "Share of the time in which something waited for a CPU, input and output, or memory.",
            &pressures,
            &percent,
        ))
        (plot(host, "The broker's own counters, per second.", &broker, &count))
        p.soft {
            "Ten readings a second; they took "
            (format!("{:.2}", double(host.sampler_cpu_ppm) / 1e4)) " % of a core."
        }
    }
}

/// A line for each core; of many, their mean and the busiest at each time.
fn cores<'a>(busy: &[Vec<u64>], names: &'a [String]) -> Lines<'a> {
    if busy.len() <= CORES_SHOWN_MAX {
        let cores = names.iter().zip(busy).zip(CLASSES.iter().cycle());
        return cores.map(|((name, busy), class)| (&**name, *class, known(busy))).collect();
    }
    let readings = busy.iter().map(Vec::len).max().unwrap_or(0);
    let at = |index: usize| busy.iter().filter_map(move |core| core.get(index).copied());
    let mean = |index| Some(double(at(index).sum()) / double(busy.len() as u64));
    let busiest = |index| at(index).max().map(double);
    vec![
        ("mean of all cores", "main", (0..readings).map(mean).collect()),
        ("the busiest", "third", (0..readings).map(busiest).collect()),
    ]
}

fn known(values: &[u64]) -> Vec<Option<f64>> {
    values.iter().map(|&value| Some(double(value))).collect()
}

fn plot(
    host: &HostSeries,
    caption: &str,
    lines: &Lines<'_>,
    text: &dyn Fn(f64) -> String,
) -> Markup {
    let values = lines.iter().flat_map(|(.., values)| values.iter().flatten().copied());
    let highest = values.fold(0.0, f64::max);
    if lines.is_empty() || highest <= 0.0 {
        return html! {};
    }
    let seconds = |ns: u64| double(ns) / 1e9;
    let end = host.at_ns.last().copied().map_or(1.0, seconds);
    let x = Scale::Linear { low: 0.0, high: end.max(0.1) };
    let mut plot = Plot::new(x, Scale::from_zero(std::iter::once(highest)), 150.0);
    for (_, class, values) in lines {
        let points: Vec<_> =
            host.at_ns.iter().map(|&ns| seconds(ns)).zip(values.iter().copied()).collect();
        plot.line(&points, class);
    }
    let names: Vec<(&str, &str)> = lines.iter().map(|(name, class, _)| (*name, *class)).collect();
    html! {
        (legend(&names))
        (figure(caption, &plot.render(caption, &|s| format!("{s} s"), text)))
    }
}

/// Where the time of requests went.
pub(super) fn anatomy(anatomy: &Anatomy) -> Markup {
    let parts = [
        ("in the client, as the load has it", &anatomy.client_queue),
        ("network, sockets, reply", &anatomy.network),
        ("queue of the shard", &anatomy.shard_queue),
        ("append", &anatomy.append),
        ("commit", &anatomy.commit),
    ];
    let show = |value: Option<u64>| Unit::Nanoseconds.show(value);
    let known: Vec<_> =
        parts.iter().filter_map(|(name, summary)| Some((*name, summary.as_ref()?))).collect();
    let total: f64 = known.iter().filter_map(|(_, summary)| summary.mean).map(double).sum();
    html! {
        h2 { "Where the time went" }
        div.scroll { table {
            tr { @for name in ["part", "mean", "share", "p50", "p99", "p99.9"] { th { (name) } } }
            @for (name, summary) in known {
                @let share = 100.0 * double(summary.mean.unwrap_or(0)) / total.max(1.0);
                tr {
                    td { (name) }
                    td { (show(summary.mean)) }
                    td style={
                        "background: linear-gradient(to right, color-mix(in srgb, var(--main) 35%, \
                         transparent) " (format!("{share:.0}")) "%, transparent 0)"
                    } { (format!("{share:.0} %")) }
                    td { (show(summary.p50)) }
                    td { (show(summary.p99)) }
                    td { (show(summary.p999)) }
                }
            }
        } }
        p.soft { "Each part has a distribution of its own: means add up, percentiles do not." }
    }
}
