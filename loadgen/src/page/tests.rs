//! Pages are whole, small, and speak to nobody.

use super::*;
use crate::latency::Latencies;
use crate::report::{Phase, QueueFigures, Run, Set, fixture};
use crate::sampler::HostSeries;
use crate::timeline::Timeline;
use std::collections::BTreeMap;

/// A run with everything that pages show.
fn rich() -> Run {
    let mut run = fixture();
    let (mut response, mut service) = (Latencies::new(), Latencies::new());
    let mut timeline = Timeline::new(0, 12_000_000_000);
    for at in 0..200_000u64 {
        let latency_ns = 100_000 + at * 7 % 900_000;
        response.record(latency_ns * 2);
        service.record(latency_ns);
        let stretch = timeline.at(at * 60_000).expect("within twelve seconds");
        stretch.acked(1);
        stretch.response(latency_ns * 2, 1);
    }
    run.histograms = BTreeMap::from([
        ("response".to_owned(), response.encoded()),
        ("service".to_owned(), service.encoded()),
    ]);
    run.series = timeline.series();
    run.load.achieved_records_per_s = Some(16_666);
    run.command = vec!["pelton".to_owned(), "<script>alert(1)</script>".to_owned()];
    run
}

fn checked(document: &Document) -> String {
    let page = page(document);
    assert!(page.len() < PAGE_BYTES_MAX, "{} bytes", page.len());
    for word in
        ["<script", "http:", "https:", "@import", "src=", "NaN", "\"inf", ",inf", "Minf", "Linf"]
    {
        assert!(!page.contains(word), "{word} in {}", &page[..2_000]);
    }
    assert!(page.contains("prefers-color-scheme: dark") && page.contains("@media print"));
    well_formed(&page);
    page
}

#[test]
fn a_run_shows_all_its_plots() {
    let page = checked(&Document::Run(Box::new(rich())));
    // Percentiles, the heat map, rates and latencies over time.
    assert_eq!(page.matches("<svg").count(), 4);
    assert!(page.contains("Full disclosure") && page.contains("overloaded: 50 %"));
    assert!(page.contains("p99.9") && page.contains("class=\"cell\""));
}

/// Everything that a page can hold, and as much of it as there can be.
fn fullest() -> Run {
    let mut run = rich();
    let series = run.series.as_mut().expect("it has one");
    series.heatmap = (0..120u64)
        .map(|at| (0..108).map(|bucket| (bucket, 1 + at * u64::from(bucket) % 997)).collect())
        .collect();
    for values in [&mut series.p50_ns, &mut series.p99_ns, &mut series.max_ns] {
        *values = (0..120).map(|at| Some(100_000 + at * 7_919)).collect();
    }
    series.acked_records = (0..120).map(|at| at * 7_919 % 10_000).collect();
    series.consumed_records.clone_from(&series.acked_records);
    let readings = || (0..600u64).map(|at| at * 7_919 % 99_991);
    let shares = || readings().map(|value| Some(value % 1_000)).collect();
    run.host = Some(HostSeries {
        at_ns: (1..=600).map(|at| at * 20_000_000).collect(),
        cpu_busy_percent: vec![readings().map(|value| value % 100).collect(); 128],
        cpu_pressure_per_mille: shares(),
        io_pressure_per_mille: shares(),
        memory_pressure_per_mille: shares(),
        disk_read_bytes_per_s: readings().collect(),
        disk_written_bytes_per_s: readings().collect(),
        broker_per_s: ["kernel_entries", "durable_writes", "flushes", "parks"]
            .map(|name| (name.to_owned(), readings().collect()))
            .into(),
        ..HostSeries::default()
    });
    run.queue = Some(QueueFigures {
        confirm_ns: run.latency_ns.response.clone(),
        redelivered: 77_001,
        ..QueueFigures::default()
    });
    let step = Phase { name: "step1".to_owned(), steady_after_ns: Some(5), ..Phase::default() };
    run.phases = vec![step; 18];
    let counters = (0..400).map(|number| (format!("a_counter_with_a_long_name_{number}"), number));
    run.efficiency.broker_counters = Some(counters.collect());
    run
}

/// Checks that elements are closed in the order in which they were opened, and that attributes are
/// quoted: there is no browser here to complain.
fn well_formed(page: &str) {
    let mut open = Vec::new();
    let mut rest = page;
    while let Some((_, behind)) = rest.split_once('<') {
        let (tag, behind) = behind.split_once('>').expect("a tag ends");
        rest = behind;
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes of <{tag}>");
        let name = tag.split_ascii_whitespace().next().expect("a tag has a name");
        let is_void = ["!DOCTYPE", "meta", "link", "br"].contains(&name) || tag.ends_with('/');
        match name.strip_prefix('/') {
            Some(closed) => assert_eq!(open.pop(), Some(closed), "</{closed}>"),
            None if is_void => {}
            None => open.push(name),
        }
    }
    assert!(open.is_empty(), "not closed: {open:?}");
}

#[test]
fn the_fullest_page_is_small_and_marks_commits() {
    let page = checked(&Document::Run(Box::new(fullest())));
    // Percentiles, the heat map, rates and latencies; cores, disks, pressure, counters.
    assert_eq!(page.matches("<svg").count(), 8);
    assert!(page.matches("class=\"mark\"").count() > 500, "commits are marked");
    assert!(page.contains("commits/s") && page.contains("the busiest"));
    assert!(page.contains("77,001") && page.contains("step1"));
}

#[test]
fn a_run_of_which_little_is_known_has_a_page_too() {
    let page = checked(&Document::Run(Box::new(fixture())));
    assert_eq!(page.matches("<svg").count(), 0);
}

#[test]
fn a_grid_has_its_cells() {
    let page = checked(&Document::Set(Box::new(Set::new(vec![rich(), rich(), rich()]))));
    assert!(page.contains("Rate against p99") && page.contains("All cells"));
}

#[test]
fn documents_are_told_apart_by_their_schema() {
    let text = serde_json::to_string(&rich()).expect("serialises");
    assert!(matches!(Document::parse(&text), Ok(Document::Run(_))));
    let text = serde_json::to_string(&Set::new(vec![rich()])).expect("serialises");
    assert_eq!(Document::parse(&text).expect("a set").runs().len(), 1);
    for (text, says) in [
        ("", "is no JSON"),
        ("{}", "its schema is none"),
        (r#"{"schema":"pelton.bench.ab/1"}"#, "is no whole pelton.bench.ab/1: missing field"),
    ] {
        let error = Document::parse(text).expect_err(text);
        assert!(error.contains(says), "{text}: {error}");
    }
}
