//! Black box: `pelton bench` over brokers that are killed and stopped, with backlogs, and for long,
//! with the real binary. The loads are short; what they measure means nothing.

use std::fs;
use std::path::{Path, PathBuf};

use pelton_tests::broker::Broker;
use pelton_tests::program::{self, Finished};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

/// Brokers that start fast.
const SMALL: &str = "--broker=journal-bytes=8MiB --broker=memory-bytes=64MiB";
/// Records a second where faults befall the broker.
const RATE: u64 = 2_000;

fn bench(dir: &TempDir, flags: &[&str]) -> Finished {
    let json = dir.path().join("result.json").display().to_string();
    let data = dir.path().display().to_string();
    let mut words = vec!["bench"];
    words.extend(flags);
    words.extend(["-q", "--json", &json, "--data-dir", &data]);
    words.extend(SMALL.split_whitespace());
    program::run(&words, b"")
}

fn result(dir: &TempDir) -> Value {
    let path = dir.path().join("result.json");
    serde_json::from_slice(&fs::read(path).expect("written")).expect("JSON")
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// Runs with a window of `seconds`, in which the broker is stopped, and killed.
fn struck(dir: &TempDir, seconds: u64) -> Value {
    let line = format!(
        "run --rate {RATE} --producers 2 --consumers 1 --partitions 3 --warmup 0s --duration \
         {seconds}s"
    );
    let mut flags = words(&line);
    flags.extend(["--fault", "@500ms stop-broker,for=100ms"]);
    flags.extend(["--fault", "@1s kill-broker,restart=100ms"]);
    bench(dir, &flags).expect_success();
    result(dir)
}

#[test]
fn a_broker_that_is_stopped_and_killed_loses_nothing_and_comes_back() {
    let dir = tempdir().expect("a folder");
    // On a machine that others keep busy a window may be over before the broker is back.
    let mut runs = [4, 16, 64].into_iter().map(|seconds| (seconds, struck(&dir, seconds)));
    let is_back = |run: &Value| run["faults"]["faults"][1]["first_ack_after_ns"].is_u64();
    let (seconds, run) = runs.find(|(_, run)| is_back(run)).expect("a broker that comes back");
    assert_eq!(run["integrity"]["verdict"], "ok", "{run:#}");
    assert_eq!(run["integrity"]["passes_cut_short"], 0, "{run:#}");
    let [stop, kill] = run["faults"]["faults"].as_array().expect("a list").as_slice() else {
        panic!("two faults: {run:#}");
    };
    assert!(stop["recovery_ns"].is_null(), "{stop:#}");
    for fault in [stop, kill] {
        // As long as was asked for, however late it struck.
        assert!(fault["down_ns"].as_u64() >= Some(100_000_000), "{fault:#}");
        assert!(fault["first_ack_after_ns"].is_u64(), "{fault:#}");
    }
    assert!(kill["recovery_ns"].as_u64() > Some(0), "{kill:#}");
    // Two producers and a consumer.
    assert_eq!(run["faults"]["connections_lost"], 3, "{run:#}");
    assert_eq!(run["faults"]["reconnected"], 3, "{run:#}");
    let status = run["validity"]["status"].as_str().expect("text");
    assert!(status != "errors", "they are what faults are for: {run:#}");
    assert!(run["efficiency"]["broker_cpu_ns_total"].is_null(), "of which process?");
    // What was due meanwhile leaves late; how much of it a busy machine has room for is open.
    let in_doubt = run["faults"]["unacknowledged_records"].as_u64().expect("known");
    let acked = run["load"]["acked_records"].as_u64().expect("measured");
    assert!(acked > 0 && acked + in_doubt <= RATE * seconds, "{acked} and {in_doubt}");

    let file = dir.path().join("result.json").display().to_string();
    let page = dir.path().join("page.html");
    let flags = ["bench", "report", &file, "--html", &page.display().to_string()];
    program::run(&flags, b"").expect_success();
    let page = fs::read_to_string(page).expect("written");
    assert!(page.contains("<h2>Faults</h2>") && page.contains("kill-broker,restart=100ms"));
    assert!(fs::read_dir(dir.path()).expect("readable").count() == 2, "only results stay");
}

#[test]
fn faults_that_cannot_be_are_refused_with_a_sentence() {
    let dir = tempdir().expect("a folder");
    let kill = "@1s kill-broker,restart=1s";
    for (flags, fault, says) in [
        ("run", "@1s kill", "expected '@TIME KIND'"),
        ("run", "kill-broker", "'@20s kill-broker,restart=2s'"),
        ("run --duration 2s", kill, "pass a --duration above 2s"),
        ("run --acks memory", kill, "use written or durable"),
        ("run --mode queue --persistent-share 0.5", kill, "transient messages go"),
        ("run --preload 1MiB", kill, "--fault needs producers"),
        ("backlog --producers 0", kill, "publishes and consumes"),
        ("soak --duration 1s", "@1ms stop-broker,for=1ms", "window of 2s or more"),
    ] {
        let mut flags = words(flags);
        flags.extend(["--fault", fault]);
        let finished = bench(&dir, &flags);
        assert_eq!(finished.code, Some(2), "{flags:?}: {}", finished.stderr);
        assert!(finished.stderr.contains(says), "{flags:?}: {}", finished.stderr);
    }
    let elsewhere = ["bench", "run", "--target", "pelton://127.0.0.1:1", "--fault", kill];
    let finished = program::run(&elsewhere, b"");
    assert_eq!(finished.code, Some(2), "{}", finished.stderr);
    assert!(finished.stderr.contains("that the run has spawned"), "{}", finished.stderr);
}

#[test]
fn a_backlog_is_drained_beside_publishing() {
    let dir = tempdir().expect("a folder");
    for mode in ["topic", "queue"] {
        let line = format!(
            "backlog --mode {mode} --backlog 20000 --repeat 1 --rate 2000 --duration 1s --batch \
             10rec --inflight 100"
        );
        bench(&dir, &words(&line)).expect_success();
        let all = result(&dir);
        assert_eq!(all["schema"], "pelton.bench.backlog/1");
        let figures = &all["figures"];
        // A busy machine may publish nothing in the moment that draining takes.
        assert!(figures["publish_ratio_hundredths"].is_u64(), "{figures:#}");
        assert!(figures["published_without"].as_u64() > Some(0), "{figures:#}");
        // More come out than go in.
        assert!(figures["drain_ratio_hundredths"].as_u64() > Some(100), "{figures:#}");
        let run = &all["runs_with"][0];
        let load = &run["load"];
        let (acked, consumed) = (&load["acked_records"], &load["consumed_records"]);
        assert!(consumed.as_u64() > acked.as_u64(), "the backlog too: {run:#}");
        assert_eq!(run["integrity"]["verdict"], "ok", "{run:#}");
    }
    let file = dir.path().join("result.json").display().to_string();
    program::run(&["bench", "report", &file], b"").expect_success();
}

#[test]
fn a_soak_says_what_drifts_and_a_slow_consumer_falls_behind() {
    let dir = tempdir().expect("a folder");
    let flags = "soak --rate 4000 --linger 2ms --consumers 1 --consume-rate 500 --warmup 0s \
                 --duration 3s --size 1KiB";
    let finished = bench(&dir, &words(flags));
    // A load that short may seem to drift.
    assert!(matches!(finished.code, Some(0 | 3)), "{}", finished.stderr);
    let soak = result(&dir);
    assert_eq!(soak["schema"], "pelton.bench.soak/1");
    let names: Vec<&str> = soak["drifts"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|drift| drift["name"].as_str())
        .collect();
    assert!(names.contains(&"records_per_s") && names.contains(&"broker_rss_bytes"), "{names:?}");
    assert_eq!(soak["run"]["integrity"]["verdict"], "ok", "{soak:#}");
    let load = &soak["run"]["load"];
    let (acked, consumed) = (&load["acked_records"], &load["consumed_records"]);
    assert!(consumed.as_u64() < acked.as_u64(), "{load:#}");
    let file = dir.path().join("result.json").display().to_string();
    program::run(&["bench", "report", &file], b"").expect_success();
    assert!(Path::new(&file).with_extension("html").exists());
}

#[test]
fn what_was_kept_is_proven_afterwards() {
    let dir = tempdir().expect("a folder");
    let flags = words("run --rate 1000 --partitions 2 --duration 1s --warmup 0s --keep");
    bench(&dir, &flags).expect_success();
    let mut run = result(&dir);
    let kept = PathBuf::from(run["target"]["data_dir"].as_str().expect("a path"));
    let file = dir.path().join("result.json").display().to_string();
    let verify = |more: &[&str]| {
        let mut words = vec!["bench", "verify", &file];
        words.extend(more);
        program::run(&words, b"")
    };
    let text = verify(&[]).expect_success();
    assert!(text.starts_with("ok: all 1000 acknowledged records"), "{text}");

    let broker = Broker::start(&kept);
    let target = format!("pelton://{}", broker.address());
    let found = verify(&["--target", &target, "--json", "-"]).expect_success();
    let found: Value = serde_json::from_str(&found).expect("JSON");
    assert_eq!(found["schema"], "pelton.bench.verify/1");
    assert_eq!(found["integrity"]["checked_records"], 1_000, "{found:#}");
    let busy = verify(&[]);
    assert!(busy.code != Some(0) && busy.stderr.contains("pelton"), "{}", busy.stderr);
    drop(broker);

    // As if one more had been acknowledged.
    let last = &mut run["proof"]["outcomes"][0]["acked"][0][1];
    *last = (last.as_u64().expect("a number") + 1).into();
    fs::write(&file, run.to_string()).expect("writable");
    let found = verify(&[]);
    assert_eq!(found.code, Some(4), "{}", found.stderr);
    assert!(found.stdout.contains("1 are lost"), "{}", found.stdout);

    fs::remove_dir_all(&kept).expect("it was kept");
    let gone = verify(&[]);
    assert!(gone.code == Some(2) && gone.stderr.contains("is gone"), "{}", gone.stderr);
    run["proof"] = Value::Null;
    fs::write(&file, run.to_string()).expect("writable");
    let none = verify(&[]);
    assert!(none.code == Some(2) && none.stderr.contains("--keep"), "{}", none.stderr);
}

#[test]
fn a_line_a_second_where_stderr_is_no_terminal() {
    let line = "bench run --target echo --rate 2000 --warmup 0s --duration 3s";
    let finished = program::run(&words(line), b"");
    let lines: Vec<&str> =
        finished.stderr.lines().filter(|line| line.starts_with("  measuring ")).collect();
    assert!((1..=3).contains(&lines.len()), "{}", finished.stderr);
    assert!(lines.iter().any(|line| line.contains("p99 ")), "{}", finished.stderr);
    let quiet = program::run(&words(&format!("{line} -q --json -")), b"");
    assert_eq!(quiet.stderr, "");
    let missed = "bench run --target echo --rate 2000 --duration 1s -q --slo p99<1ns";
    let missed = program::run(&words(missed), b"");
    assert_eq!((missed.code, missed.stdout.as_str()), (Some(3), ""), "{}", missed.stderr);
    assert!(missed.stderr.starts_with("error: objective missed: p99<1ns: it is "), "{missed:?}");
}
