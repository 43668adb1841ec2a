//! Comparisons of small files, good and bad.

use std::path::PathBuf;

use super::pair::Judgement;
use super::*;
use crate::report::{Percentiles, Run, Set, Validity, fixture};
use crate::validity::Reason;

/// A run with a rate and a limit.
fn run(rate: u64, inflight: u32, durable_ns: u64) -> Run {
    let mut run = fixture();
    run.options.inflight = inflight;
    run.load.achieved_records_per_s = Some(rate);
    run.load.acked_records = Some(rate);
    run.validity = Validity::of(&[]);
    run.floor.durable_write_ns = Some(Percentiles { p50: Some(durable_ns), p99: None, count: 99 });
    run.floor.echo_rtt_ns = Some(Percentiles { p50: Some(10_000), p99: None, count: 99 });
    run
}

fn file(dir: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, text).expect("a small file");
    path
}

fn compared(a: Vec<Run>, b: Vec<Run>) -> Comparison {
    let dir = tempfile::tempdir().expect("a folder");
    let json = |runs| serde_json::to_string(&Set::new(runs)).expect("serialises");
    let (a, b) = (file(&dir, "a.json", &json(a)), file(&dir, "b.json", &json(b)));
    compare(&a, &b).expect("both are sets")
}

fn rate(pair: &Pair) -> Judgement {
    let figure = pair.figures.iter().find(|figure| figure.name == "records_per_s");
    figure.expect("measured").judgement
}

#[test]
fn repeats_decide_what_may_be_said() {
    let runs = |rates: &[u64]| rates.iter().map(|&rate| run(rate, 1, 100_000)).collect::<Vec<_>>();
    let low = [100, 110, 105];
    for (high, says) in [
        (&[120, 130, 125][..], Judgement::Higher),
        (&[50, 60, 99], Judgement::Lower),
        (&[108, 130, 125], Judgement::WithinSpread),
        (&[120, 130], Judgement::SpreadUnknown),
    ] {
        let comparison = compared(runs(&low), runs(high));
        assert_eq!(comparison.pairs.len(), 1, "repeats are one cell");
        assert_eq!(rate(&comparison.pairs[0]), says, "{high:?}");
        let unknown = render(&comparison).contains("spread unknown");
        assert_eq!(unknown, says == Judgement::SpreadUnknown, "{high:?}");
    }
}

#[test]
fn what_chance_leaves_is_said_beside_the_ranges() {
    let runs = |rates: &[u64]| rates.iter().map(|&rate| run(rate, 1, 100_000)).collect::<Vec<_>>();
    let comparison = compared(runs(&[100, 101, 99, 100, 102]), runs(&[80, 81, 79, 80, 82]));
    let weighed = &comparison.pairs[0].weighed;
    let rate = weighed.iter().find(|row| row.name == "records_per_s").expect("measured");
    assert_eq!(rate.verdict, crate::statistics::Verdict::Worse, "{rate:?}");
    assert!(render(&comparison).contains("records_per_s: B is worse: 0.8"), "{rate:?}");
    let few = compared(runs(&[100]), runs(&[80, 81]));
    assert!(few.pairs[0].weighed.is_empty());
}

#[test]
fn cells_are_paired_by_what_varies_and_the_rest_is_told() {
    let mut other = run(300, 8, 100_000);
    other.durability.acks = "written".to_owned();
    let mut first = run(200, 1, 100_000);
    first.durability.acks = "written".to_owned();
    first.target.broker_flags = vec!["spin-us=0".to_owned()];
    other.target.broker_flags = first.target.broker_flags.clone();
    let comparison = compared(
        vec![run(1, 1, 100_000), run(2, 8, 100_000), run(3, 64, 100_000)],
        vec![other, first],
    );
    let names: Vec<&str> =
        comparison.settings.iter().map(|difference| difference.name.as_str()).collect();
    assert_eq!(names, ["acks", "broker.spin-us"]);
    assert_eq!(comparison.pairs.len(), 2);
    assert_eq!(comparison.pairs[0].cell["inflight"], "1");
    assert_eq!(comparison.only_a[0]["inflight"], "64");
    assert!(comparison.only_b.is_empty() && comparison.environment.is_empty());
    let text = render(&comparison);
    assert!(text.contains("only in A: inflight=64"), "{text}");
    assert!(text.contains("broker.spin-us: A -- | B 0"), "{text}");
}

#[test]
fn other_limits_make_it_void() {
    let same = |durable_ns| vec![run(100, 1, durable_ns); 3];
    let comparison = compared(same(100_000), same(105_000));
    assert_eq!(comparison.pairs[0].absolute_void, None);

    let comparison = compared(same(100_000), same(160_000));
    let pair = &comparison.pairs[0];
    assert_eq!((rate(pair), pair.relative_void.is_some()), (Judgement::Void, false));
    assert!(render(&comparison).contains("the ratio to the limit, instead"));

    let comparison = compared(same(100_000), same(900_000));
    assert!(comparison.pairs[0].relative_void.is_some());
    assert!(render(&comparison).contains("neither figures nor ratios"));

    let mut without = same(100_000);
    without.iter_mut().for_each(|run| run.floor = crate::report::FloorFigures::default());
    let comparison = compared(same(100_000), without);
    assert!(render(&comparison).contains("were not measured beside both"));
}

#[test]
fn invalid_runs_are_named_and_left_out() {
    let mut bad = run(900, 1, 100_000);
    bad.validity = Validity::of(&[Reason::IntegrityFailed]);
    let comparison = compared(vec![run(1, 1, 100_000), bad], vec![run(2, 1, 100_000)]);
    let pair = &comparison.pairs[0];
    assert_eq!((pair.repeats, pair.invalid), ([1, 1], [1, 0]));
    let text = render(&comparison);
    assert!(text.contains("A INVALID, left out: run 1: integrity_failed"), "{text}");
}

#[test]
fn single_runs_compare_whatever_their_settings_are() {
    let dir = tempfile::tempdir().expect("a folder");
    let json = |run: &Run| serde_json::to_string(run).expect("serialises");
    let a = file(&dir, "a.json", &json(&run(10, 1, 100_000)));
    let b = file(&dir, "b.json", &json(&run(20, 8, 100_000)));
    let comparison = compare(&a, &b).expect("both are runs");
    assert_eq!((comparison.pairs.len(), comparison.settings.len()), (1, 1));
}

#[test]
fn files_that_are_no_results_are_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let good = serde_json::to_string(&run(1, 1, 1)).expect("serialises");
    let ok = file(&dir, "ok.json", &good);
    for (text, names) in [
        ("", "is no JSON"),
        (&good[..good.len() / 2], "is no JSON"),
        ("{}", "its schema is none"),
        ("[1]", "its schema is none"),
        (r#"{"schema":"pelton.bench.run/2"}"#, "its schema is pelton.bench.run/2"),
        (r#"{"schema":"pelton.bench.run/1"}"#, "is no whole pelton.bench.run/1: missing field"),
        (r#"{"schema":"pelton.bench.set/1","cells":[{}]}"#, "is no whole pelton.bench.set/1"),
        (r#"{"schema":"pelton.bench.set/1","cells":[]}"#, "holds no run"),
    ] {
        let bad = file(&dir, "bad.json", text);
        for (a, b) in [(&ok, &bad), (&bad, &ok)] {
            let error = compare(a, b).expect_err(text).to_string();
            assert!(error.contains(names) && error.contains("bad.json"), "{text}: {error}");
        }
    }
    let error = compare(&ok, &dir.path().join("gone")).expect_err("not there").to_string();
    assert!(error.contains("gone: cannot be read"), "{error}");
}
