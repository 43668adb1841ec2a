//! Black box: `pelton bench` when brokers go away, on purpose or not, with the real binary. The
//! loads are short; what they measure means nothing.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Stdio};
use std::time::Instant;

use pelton_tests::broker::Broker;
use pelton_tests::program::{self, PATIENCE};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

/// Brokers that start fast.
const SMALL: &str = "--broker=journal-bytes=8MiB --broker=memory-bytes=64MiB";
/// A load that ends only if something happens.
const LONG: &str = "--rate 2000 --producers 2 --consumers 1 --warmup 0s --duration 3h";

/// A run under way.
struct Running {
    child: Child,
    /// Nobody reads on; but the pipe stays.
    _stderr: BufReader<ChildStderr>,
}

impl Running {
    /// Begins a run, and waits until a line says that it measures, and that records come in.
    fn begin(dir: &TempDir, flags: &str) -> Self {
        let json = dir.path().join("result.json").display().to_string();
        let mut words = vec!["bench", "run", "--json", &json];
        // A fault has a space in its value.
        words.extend(flags.split('|').flat_map(|part| match part.starts_with('@') {
            true => vec![part],
            false => part.split_whitespace().collect(),
        }));
        let mut command = program::command(&words);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        while !line.starts_with("  measuring ") || line.contains("  0/s in") {
            line.clear();
            let bytes = stderr.read_line(&mut line).expect("readable");
            assert!(bytes > 0, "it ended before it had measured");
        }
        Self { child, _stderr: stderr }
    }

    /// The broker that it has spawned, if there is one now.
    fn broker(&self) -> Option<Pid> {
        let processes = fs::read_dir("/proc").expect("readable").flatten();
        let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let is_child = |pid: &i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
            fields.split_whitespace().nth(1) == Some(self.child.id().to_string().as_str())
        };
        numbers.into_iter().find(is_child).and_then(Pid::from_raw)
    }

    /// Its exit code and its result.
    fn end(mut self, dir: &TempDir) -> (Option<i32>, Value) {
        let status = program::wait(&mut self.child, PATIENCE).expect("it ends by itself");
        let path = dir.path().join("result.json");
        let result = fs::read(path).expect("what was measured is kept");
        (status.code(), serde_json::from_slice(&result).expect("JSON"))
    }
}

fn spawned(dir: &TempDir, flags: &str) -> Running {
    Running::begin(dir, &format!("{LONG} {SMALL} --data-dir {} {flags}", dir.path().display()))
}

fn page_of(dir: &Path) -> String {
    let (file, page) = (dir.join("result.json"), dir.join("page.html"));
    let [file, page] = [file, page].map(|path| path.display().to_string());
    program::run(&["bench", "report", &file, "--html", &page], b"").expect_success();
    fs::read_to_string(page).expect("written")
}

#[test]
fn a_broker_that_somebody_kills_ends_the_run_and_has_kept_what_it_acknowledged() {
    for mode in ["topic", "queue"] {
        let dir = tempdir().expect("a folder");
        let run = spawned(&dir, &format!("--mode {mode}"));
        kill_process(run.broker().expect("a child"), Signal::KILL).expect("it runs");
        let (code, run) = run.end(&dir);
        assert_eq!(code, Some(1), "{run:#}");
        let how = run["broker_end"]["how"].as_str().expect("it is told");
        assert!(how.contains("signal: 9"), "{how}");
        assert_eq!(run["validity"]["status"], "broker_ended", "{run:#}");
        assert_eq!(run["validity"]["verdict"], "invalid", "{run:#}");
        assert!(run["load"]["acked_records"].as_u64() > Some(0), "{run:#}");
        let window_ns = run["load"]["window_ns"].as_u64().expect("measured");
        assert!(window_ns < 3_600_000_000_000, "{window_ns}: up to the end of the broker");
        // It was started again for that.
        assert_eq!(run["integrity"]["verdict"], "ok", "{run:#}");
        assert!(run["integrity"]["checked_records"].as_u64() > Some(0), "{run:#}");
        assert!(page_of(dir.path()).contains("the broker had ended"));
    }
}

#[test]
fn a_broker_of_somebody_else_that_goes_away_ends_the_run() {
    let (dir, data) = (tempdir().expect("a folder"), tempdir().expect("a folder"));
    let broker = Broker::start(data.path());
    let flags = format!("{LONG} --target pelton://{}", broker.address());
    let run = Running::begin(&dir, &flags);
    drop(broker);
    let (code, run) = run.end(&dir);
    assert_eq!(code, Some(1), "{run:#}");
    assert!(run["broker_end"]["how"].is_string(), "{run:#}");
    assert_eq!(run["integrity"]["verdict"], "not_checked", "{run:#}");
    assert!(run["load"]["acked_records"].as_u64() > Some(0), "{run:#}");
}

#[test]
fn an_interrupt_during_an_outage_keeps_what_was_measured() {
    for mode in ["topic", "queue"] {
        let dir = tempdir().expect("a folder");
        let fault = "@3s kill-broker,restart=1h";
        let run = spawned(&dir, &format!("--mode {mode} --fault|{fault}"));
        let patience = Instant::now() + PATIENCE;
        while run.broker().is_some() {
            assert!(Instant::now() < patience, "it is not killed");
            std::thread::yield_now();
        }
        kill_process(Pid::from_child(&run.child), Signal::INT).expect("it runs");
        let (code, run) = run.end(&dir);
        assert_eq!((code, &run["interrupted"]), (Some(130), &true.into()), "{run:#}");
        assert!(run["load"]["acked_records"].as_u64() > Some(0), "{run:#}");
        let fault = &run["faults"]["faults"][0];
        assert!(fault["first_ack_after_ns"].is_null() && fault["down_ns"].is_u64(), "{run:#}");
    }
}

#[test]
fn queues_survive_kills_and_dropped_connections() {
    let dir = tempdir().expect("a folder");
    let json = dir.path().join("result.json").display().to_string();
    let data = dir.path().display().to_string();
    let flags = "bench run -q --mode queue --rate 2000 --producers 2 --consumers 2 --batch 10rec \
                 --inflight 100 --nack-share 0.05 --warmup 0s --duration 8s";
    let mut words: Vec<&str> = flags.split_whitespace().chain(SMALL.split_whitespace()).collect();
    words.extend(["--json", &json, "--data-dir", &data]);
    words.extend(["--fault", "@500ms drop-connections"]);
    words.extend(["--fault", "@1s kill-broker,restart=100ms"]);
    words.extend(["--fault", "@2s stop-broker,for=100ms"]);
    program::run(&words, b"").expect_success();
    let run: Value = serde_json::from_slice(&fs::read(&json).expect("written")).expect("JSON");
    assert_eq!(run["integrity"]["verdict"], "ok", "{run:#}");
    assert_eq!(run["integrity"]["passes_cut_short"], 0, "{run:#}");
    let [drop, kill, stop] = run["faults"]["faults"].as_array().expect("a list").as_slice() else {
        panic!("three faults: {run:#}");
    };
    for fault in [drop, kill, stop] {
        assert!(fault["first_ack_after_ns"].is_u64(), "{fault:#}");
    }
    assert!(drop["recovery_ns"].is_null() && stop["recovery_ns"].is_null(), "{run:#}");
    assert!(kill["recovery_ns"].as_u64() > Some(0), "{kill:#}");
    // Two publishers and two consumers, twice if all were there again by then.
    let [lost, again] =
        ["connections_lost", "reconnected"].map(|name| run["faults"][name].as_u64());
    assert!((Some(4)..=Some(8)).contains(&lost), "{run:#}");
    assert!((Some(4)..=lost).contains(&again), "{run:#}");
    assert!(run["validity"]["status"] != "errors", "they are what faults are for: {run:#}");
    let page = page_of(dir.path());
    // Each fault in each plot over time.
    assert_eq!(page.matches("class=\"fault\" x=").count(), 9);
}

#[test]
fn producers_connect_again_after_their_connections_were_dropped() {
    let dir = tempdir().expect("a folder");
    let json = dir.path().join("result.json").display().to_string();
    let data = dir.path().display().to_string();
    let flags = "bench run -q --rate 2000 --producers 2 --consumers 1 --partitions 3 --warmup 0s \
                 --duration 4s --acks memory";
    let mut words: Vec<&str> = flags.split_whitespace().chain(SMALL.split_whitespace()).collect();
    words.extend(["--json", &json, "--data-dir", &data, "--fault", "@500ms drop-connections"]);
    program::run(&words, b"").expect_success();
    let run: Value = serde_json::from_slice(&fs::read(&json).expect("written")).expect("JSON");
    assert_eq!(run["integrity"]["verdict"], "ok", "{run:#}");
    assert_eq!(run["faults"]["connections_lost"], 3, "{run:#}");
    assert_eq!(run["faults"]["reconnected"], 3, "{run:#}");
    assert!(run["efficiency"]["broker_cpu_ns_total"].is_u64(), "the broker is the same");
}

#[test]
fn a_run_on_a_disk_that_takes_no_more_says_so() {
    let (dir, data) = (tempdir().expect("a folder"), tempdir().expect("a folder"));
    let json = dir.path().join("result.json").display().to_string();
    let broker = Broker::start(data.path());
    broker.run(&["topic", "create", "events"], b"").expect_success();
    broker.stop().expect_success();
    // More than any disk has, so that all producing is refused from the first request on.
    let broker = Broker::try_start(data.path(), &["--free-bytes-min=16TiB"]).expect("it serves");
    let target = format!("pelton://{}", broker.address());
    for place in ["--mode=topic --topic=events", "--mode=queue"] {
        let mut words = vec!["bench", "run", "--duration=500ms", "--warmup=0s"];
        words.extend(place.split_whitespace());
        words.extend(["--json", &json, "--target", &target]);
        let finished = program::run(&words, b"");
        assert_eq!(finished.code, Some(1), "{place}: {}", finished.stderr);
        let text = &finished.stdout;
        assert!(text.contains("validity     INVALID"), "{text}");
        assert!(text.contains("requests since its disk has no room for more; give"), "{text}");
        assert!(text.contains("nothing_measured: no record was acknowledged or read"), "{text}");
        let run: Value = serde_json::from_slice(&fs::read(&json).expect("kept")).expect("JSON");
        assert_eq!(run["validity"]["status"], "disk_full", "{run:#}");
        assert_eq!(run["validity"]["verdict"], "invalid", "{run:#}");
        // It goes on: there may be room again.
        assert_eq!(run["load"]["window_ns"], 500_000_000, "{run:#}");
        assert!(run["load"]["errors"]["storage_full"].as_u64() > Some(0), "{run:#}");
        assert_eq!(run["load"]["acked_records"], 0, "{run:#}");
        words.push("-q");
        let quiet = program::run(&words, b"");
        assert_eq!((quiet.code, quiet.stdout.as_str()), (Some(1), ""));
        assert!(quiet.stderr.starts_with("error: disk_full: the broker refused"), "{quiet:?}");
    }
}
