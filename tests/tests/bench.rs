//! Black box: sweeps and comparisons, with the real binary, over very short loads.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use pelton_tests::program::{self, Finished, PATIENCE};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

/// Loads that short measure nothing worth knowing, but everything happens, also on a machine that
/// stalls for a third of a second now and then.
const SHORT: &str = "--duration=500ms --warmup=10ms --batch=10rec --without-floor \
                     --broker=journal-bytes=8MiB --broker=memory-bytes=64MiB";

/// The same for two arms.
const SHORT_AB: &str = "--duration=500ms --warmup=10ms --batch=10rec --anatomy \
                        --broker=journal-bytes=8MiB --broker=memory-bytes=64MiB";

fn sweep(dir: &TempDir, flags: &str) -> Finished {
    let json = dir.path().join("set.json");
    let line = format!("bench sweep {SHORT} --json={} {flags}", json.display());
    program::run(&line.split_whitespace().collect::<Vec<_>>(), b"")
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("written")).expect("JSON")
}

fn count(value: &Value) -> usize {
    value.as_array().map_or(0, Vec::len)
}

#[test]
fn two_cells_twice_and_a_comparison_with_itself() {
    let dir = tempdir().expect("a folder");
    let (set, csv) = (dir.path().join("set.json"), dir.path().join("rows.csv"));
    let flags = format!(
        "--vary inflight=1,8 --vary broker.spin-us=0 --repeat 2 --order-seed 5 --data-dir {} \
         --csv {}",
        dir.path().display(),
        csv.display()
    );
    let finished = sweep(&dir, &flags);
    assert!(finished.stderr.contains("2 cell(s) x 2 repeat(s) = 4 run(s)"), "{}", finished.stderr);
    let table = finished.expect_success();
    assert!(table.contains("broker.spin-us") && table.contains("records_per_s"), "{table}");
    assert!(table.contains("with fewer than 3 repeats the spread is unknown"), "{table}");

    let result = json(&set);
    assert_eq!(result["schema"], "pelton.bench.set/1");
    assert_eq!((count(&result["cells"]), result["sweep"]["order_seed"].as_u64()), (4, Some(5)));
    assert_eq!(result["sweep"]["cells"][1]["inflight"], "8");
    assert_eq!(result["sweep"]["interrupted"], false);
    for (index, attempt) in
        result["sweep"]["attempts"].as_array().expect("a list").iter().enumerate()
    {
        assert_eq!(
            (attempt["run"].as_u64(), &attempt["error"]),
            (Some(index as u64), &Value::Null)
        );
        assert_eq!(attempt["round"].as_u64(), Some(index as u64 / 2), "round by round");
        let run = &result["cells"][index];
        let inflight = if attempt["cell"] == 0 { 1 } else { 8 };
        assert_eq!(run["options"]["inflight"], inflight);
        assert!(run["target"]["broker_flags"].to_string().contains("spin-us=0"), "{run:#}");
        assert_eq!(run["integrity"]["verdict"], "ok");
        assert!(run["efficiency"]["durable_writes_per_s"].as_u64() > Some(0), "{run:#}");
    }
    let effect = &result["analysis"]["effects"][0];
    assert_eq!((&effect["from"], &effect["to"]), (&"1".into(), &"8".into()), "{effect:#}");
    assert_eq!(effect["changes"]["records_per_s"]["pairs"], 2, "{effect:#}");
    assert!(table.contains("inflight 1 -> 8") && table.contains("beaten by no other"), "{table}");
    let rows = fs::read_to_string(&csv).expect("written");
    assert_eq!(rows.lines().count(), 5, "{rows}");
    assert!(rows.starts_with("cell,round,inflight,broker.spin-us,records_per_s"), "{rows}");

    let page = program::run(&["bench", "report", set.to_str().expect("text"), "--md", "-"], b"");
    let page = page.expect_success();
    assert!(page.contains("--inflight=8 --broker=spin-us=0"), "{page}");

    let (file, other) = (set.to_str().expect("text"), dir.path().join("compared.json"));
    let other = other.to_str().expect("text");
    let text = program::run(&["bench", "compare", file, file, "--json", other], b"");
    let text = text.expect_success();
    assert!(text.contains("settings: the same") && text.contains("inflight=8"), "{text}");
    let compared = json(Path::new(other));
    assert_eq!(
        (&compared["schema"], count(&compared["pairs"])),
        (&"pelton.bench.compare/1".into(), 2)
    );
}

#[test]
fn a_cell_that_fails_is_recorded_and_the_others_run() {
    let dir = tempdir().expect("a folder");
    let flags = format!("--vary data-dir={},/no/such/place", dir.path().display());
    let finished = sweep(&dir, &flags);
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    assert!(finished.stdout.contains("failed: no data in /no/such/place"), "{}", finished.stdout);
    let result = json(&dir.path().join("set.json"));
    assert_eq!((count(&result["cells"]), count(&result["sweep"]["attempts"])), (1, 2));
}

#[test]
fn what_cannot_be_run_is_refused_before_anything_runs() {
    let dir = tempdir().expect("a folder");
    for (flags, says) in [
        ("--vary inflght=1,2", "did you mean \"inflight\"?"),
        ("--vary broker.spinus=1,2", "did you mean \"broker.spin-us\"?"),
        ("--vary broker.journal-bytes=8MiB,1", "journal-bytes is 1"),
        ("--vary inflight=1,0", "inflight"),
        ("--vary inflight=1,2 --vary inflight=3", "twice"),
        ("--vary cold=on,off", "with cold=on: --cold needs something to read"),
        ("--vary inflight=1 --repeat 0", "--repeat"),
        ("--repeat 2", "--vary"),
    ] {
        let finished = sweep(&dir, flags);
        assert_eq!(finished.code, Some(2), "{flags}: {}", finished.stderr);
        assert!(finished.stderr.contains(says), "{flags}: {}", finished.stderr);
        assert!(!dir.path().join("set.json").exists(), "{flags}");
    }
    let finished = sweep(&dir, "--vary inflight=1,2 --repeat 3 --dry-run");
    assert!(finished.stderr.contains("= 6 run(s), about"), "{}", finished.stderr);
    assert_eq!(finished.expect_success(), "");
}

#[test]
fn an_interrupt_keeps_what_was_measured() {
    let dir = tempdir().expect("a folder");
    let path = dir.path().join("set.json");
    let line =
        format!("bench sweep {SHORT} --vary inflight=1 --repeat 1000 --json={}", path.display());
    let mut command = program::command(&line.split_whitespace().collect::<Vec<_>>());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut told = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let first = told.find(|line| line.as_ref().is_ok_and(|line| line.starts_with("[1/1000]")));
    assert!(first.is_some(), "the first run is told");
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    let status = program::wait(&mut child, PATIENCE).expect("it ends");
    assert_eq!(status.code(), Some(130));
    let result = json(&path);
    assert_eq!(result["sweep"]["interrupted"], true);
    assert!(count(&result["cells"]) >= 1);
    assert_eq!(count(&result["cells"]), count(&result["sweep"]["attempts"]));
}

#[test]
fn an_interrupted_run_keeps_its_window() {
    let dir = tempdir().expect("a folder");
    let path = dir.path().join("run.json");
    let line =
        format!("bench run --target echo --duration 1h --warmup 0s --json={}", path.display());
    let mut command = program::command(&line.split_whitespace().collect::<Vec<_>>());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("it starts");
    // The window is open once so much work was done.
    let patience = std::time::Instant::now() + PATIENCE;
    while cpu_ticks(child.id()) < 30 {
        assert!(std::time::Instant::now() < patience, "it does nothing");
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    let status = program::wait(&mut child, PATIENCE).expect("it ends");
    assert_eq!(status.code(), Some(130));
    let result = json(&path);
    assert_eq!(result["interrupted"], true);
    assert_eq!(result["integrity"]["verdict"], "ok", "the target proves what it takes");
    let window_ns = result["load"]["window_ns"].as_u64().expect("measured");
    assert!((1_000_000..60_000_000_000).contains(&window_ns), "{window_ns}");
    assert!(result["load"]["acked_records"].as_u64() > Some(0));
}

/// User and system time of a process, in hundredths of a second.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, fields) = stat.rsplit_once(')').expect("the name is in brackets");
    fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().expect("a number"))
        .sum()
}

#[test]
fn cold_reads_and_readers_beside_a_load_are_measured() {
    let dir = tempdir().expect("a folder");
    let file = dir.path().join("run.json");
    let run = |flags: &str| {
        let line = format!(
            "bench run -q --duration=500ms --warmup=10ms --size=1KiB --data-dir={} --json={} \
             --broker=journal-bytes=8MiB --broker=memory-bytes=64MiB {flags}",
            dir.path().display(),
            file.display()
        );
        program::run(&line.split_whitespace().collect::<Vec<_>>(), b"").expect_success();
        json(&file)
    };
    let cold = run("--preload 4MiB --cold --batch 64KiB");
    assert_eq!(
        (&cold["options"]["cold"], &cold["integrity"]["verdict"]),
        (&true.into(), &"ok".into())
    );
    assert!(cold["load"]["consumed_records"].as_u64() >= Some(1), "{cold:#}");
    assert!(cold["efficiency"]["broker_cpu_ps_per_consumed_byte"].is_u64(), "{cold:#}");

    let beside = run("--rate 500 --batch 1rec --beside-reader 4MiB --cold");
    assert_eq!(beside["integrity"]["verdict"], "ok", "{beside:#}");
    assert!(beside["beside"]["consumed_records"].as_u64() > Some(0), "{beside:#}");
    assert!(beside["load"]["acked_records"].as_u64() > Some(0), "{beside:#}");

    let spread = run("--partitioner one-each --partitions 300 --batch 256KiB");
    assert_eq!(spread["integrity"]["verdict"], "ok", "{spread:#}");
    assert_eq!(spread["options"]["partitioner"], "one-each");
    assert!(fs::read_dir(dir.path()).expect("readable").count() <= 1, "only the result stays");
}

#[test]
fn a_result_is_run_again_and_two_binaries_are_weighed() {
    let dir = tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let bench = |line: &str| program::run(&line.split_whitespace().collect::<Vec<_>>(), b"");
    let (old, new) = (path("old.json"), path("new.json"));
    let flags = "--target null --duration 500ms --warmup 10ms --batch 7rec --rate poisson:20k";
    bench(&format!("bench run -q {flags} --json {old}")).expect_success();
    let again = bench(&format!("bench rerun {old} --json {new}"));
    assert!(again.stderr.contains("--batch 7rec --rate poisson:20k"), "{}", again.stderr);
    again.expect_success();
    let (old, new) = (json(Path::new(&old)), json(Path::new(&new)));
    assert_eq!(old["options"], new["options"]);
    assert_eq!(old["seed"], new["seed"]);

    let (binary, weighed) = (program::pelton().display().to_string(), path("ab.json"));
    let finished = bench(&format!(
        "bench ab {SHORT_AB} --b broker-binary={binary} --repeat 2 --data-dir {} --json {weighed}",
        dir.path().display()
    ));
    let text = finished.expect_success();
    assert!(text.contains("broker-binary=") && text.contains("inconclusive"), "{text}");
    let result = json(Path::new(&weighed));
    assert_eq!(result["runs_b"][0]["target"]["broker_binary"], binary);
    assert_eq!((count(&result["runs_a"]), count(&result["runs_b"])), (2, 2));
    assert!(result["runs_a"][0]["host"]["broker_per_s"]["kernel_entries"].is_array());
    assert!(result["runs_a"][0]["anatomy_ns"]["commit"]["p50"].as_u64() > Some(0));
}
