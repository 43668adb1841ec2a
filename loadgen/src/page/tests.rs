//! Pages are whole, small, and speak to nobody.

use super::*;
use crate::latency::Latencies;
use crate::report::{Run, Set, fixture};
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
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
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
