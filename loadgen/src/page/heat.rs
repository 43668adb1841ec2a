//! Time against response time: how many records took how long, when, and when commits were made.

use maud::{Markup, html};

use super::plot::{Cell, Plot, Scale};
use super::run::{nanoseconds, seconds};
use super::{double, faults, figure, legend};
use crate::report::{Run, Unit};
use crate::sampler::HostSeries;
use crate::timeline::Series;

/// With more cells, buckets of response times are joined.
const CELLS_MAX: usize = 4_000;
/// Shades of cells.
const SHADES: u32 = 10;
/// What makes records durable, of the broker's counters.
const COMMITS: [&str; 2] = ["durable_writes", "flushes"];

/// The map.
pub(super) fn map(run: &Run, series: &Series) -> Markup {
    let joined = joined(series);
    let columns = joined_columns(series, joined);
    let counts = || columns.iter().flatten();
    let Some(most) = counts().map(|&(_, count)| count).max() else { return html! {} };
    let lowest = counts().map(|&(bucket, _)| bucket).min().unwrap_or(0);
    let highest = counts().map(|&(bucket, _)| bucket).max().unwrap_or(0);
    let begins = |bucket: u32| double(Series::bucket_ns(bucket * joined));
    let x = Scale::Linear { low: 0.0, high: seconds(series, series.heatmap.len()) };
    let y = Scale::Log { low: begins(lowest), high: begins(highest + 1) };
    let mut plot = Plot::new(x, y, 260.0);
    for shade in 1..=SHADES {
        let mut cells = Vec::new();
        for (index, column) in columns.iter().enumerate() {
            let (left, right) = (seconds(series, index), seconds(series, index + 1));
            let alike = column.iter().filter(|&&(_, count)| shade_of(count, most) == shade);
            cells.extend(alike.map(|&(bucket, _)| Cell {
                from: (left, begins(bucket)),
                to: (right, begins(bucket + 1)),
            }));
        }
        plot.cells(&cells, f64::from(shade) / f64::from(SHADES));
    }
    for index in 0..columns.len() {
        plot.column(seconds(series, index), seconds(series, index + 1), &title(series, index));
    }
    faults::shade(&mut plot, run);
    let commits = run.host.as_ref().map(commits).unwrap_or_default();
    let most = commits.iter().map(|&(.., per_s)| per_s).max().unwrap_or(0);
    for &(from_ns, to_ns, per_s) in commits.iter().filter(|&&(.., per_s)| per_s > 0) {
        let strength = double(per_s + 1).ln() / double(most + 1).ln();
        let title = format!("{} commits/s", Unit::PerSecond.show(Some(per_s)));
        plot.mark(double(from_ns) / 1e9, double(to_ns) / 1e9, strength, &title);
    }
    let picture = plot.render("response times over time", &|s| format!("{s} s"), &nanoseconds);
    html! {
        h2 { "Response times over time" }
        (faults::shading(run))
        @if most > 0 { (legend(&[("commits (durable writes and flushes)", "third")])) }
        (figure(
            "Records by when they were acknowledged and how long they took; the darker, the more \
             (logarithmic). The strip above shows when the broker committed.",
            &picture,
        ))
    }
}

/// How many neighbouring buckets are shown as one.
fn joined(series: &Series) -> u32 {
    let cells =
        |joined: &u32| -> usize { joined_columns(series, *joined).iter().map(Vec::len).sum() };
    [1, 2, 4, 8].into_iter().find(|joined| cells(joined) <= CELLS_MAX).unwrap_or(16)
}

/// The columns of the map, with that many buckets in one.
fn joined_columns(series: &Series, joined: u32) -> Vec<Vec<(u32, u64)>> {
    let join = |column: &Vec<(u32, u64)>| {
        let mut cells: Vec<(u32, u64)> = Vec::new();
        for &(bucket, count) in column {
            match cells.last_mut() {
                Some((last, sum)) if *last == bucket / joined => *sum += count,
                _ => cells.push((bucket / joined, count)),
            }
        }
        cells
    };
    series.heatmap.iter().map(join).collect()
}

/// From 1 to [`SHADES`]: rare ones must be seen, too.
fn shade_of(count: u64, most: u64) -> u32 {
    let strength = double(count + 1).ln() / double(most + 1).ln() * f64::from(SHADES);
    u32::try_from(crate::latency::whole(strength)).unwrap_or(SHADES).clamp(1, SHADES)
}

/// What a column says to whoever points at it.
fn title(series: &Series, index: usize) -> String {
    let time =
        |values: &[Option<u64>]| Unit::Nanoseconds.show(values.get(index).copied().flatten());
    format!(
        "{:.1} s: p50 {}, p99 {}, longest {}",
        seconds(series, index),
        time(&series.p50_ns),
        time(&series.p99_ns),
        time(&series.max_ns)
    )
}

/// From when to when there were how many commits per second.
fn commits(host: &HostSeries) -> Vec<(u64, u64, u64)> {
    let rates: Vec<&Vec<u64>> =
        COMMITS.iter().filter_map(|name| host.broker_per_s.get(*name)).collect();
    let mut from_ns = 0;
    let mut found = Vec::new();
    for (index, &to_ns) in host.at_ns.iter().enumerate() {
        let per_s = rates.iter().filter_map(|rates| rates.get(index)).sum();
        found.push((from_ns, to_ns, per_s));
        from_ns = to_ns;
    }
    found
}
