//! Runs against a broker that lies, refuses or hangs up: each harm must be noticed and named, and
//! an honest broker must not be accused.

mod broker;

use broker::{Lie, LyingBroker, VICTIM};
use clap::Parser;
use pelton_loadgen::run::{BenchArgs, EXIT_INTEGRITY, EXIT_INVALID, EXIT_OK, ServeFlags, bench};
use serde_json::Value;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    bench: BenchArgs,
}

/// The window of a run, and what it becomes where the machine gave the run no time for its work.
const WINDOWS_MS: [u64; 5] = [80, 320, 1_280, 5_120, 20_480];

/// Runs against `target` with a window of `window_ms`; gives exit code and result.
fn run(target: &str, flags: &str, window_ms: u64) -> (u8, Value) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let line = format!(
        "bench run --quiet --target {target} --duration {window_ms}ms --warmup 20ms --json {} \
         {flags}",
        file.path().display()
    );
    let args = Line::try_parse_from(line.split_whitespace()).expect("valid flags");
    let serve = ServeFlags { names: Vec::new(), check: |_| Ok(()) };
    let code = bench(&args.bench, &serve);
    let json = std::fs::read(file.path()).expect("written");
    (code, serde_json::from_slice(&json).expect("the result is JSON"))
}

/// Runs against brokers with this lie until one window saw records pass, and its broker more
/// batches than the victim: a machine that others keep busy may give 80 ms no time at all.
fn run_with(lie: Lie, flags: &str) -> (LyingBroker, u8, Value) {
    for window_ms in WINDOWS_MS {
        let broker = LyingBroker::start(lie);
        let (code, json) = run(&format!("pelton://{}", broker.address), flags, window_ms);
        if has_records(&json) && broker.batches_seen() > VICTIM {
            return (broker, code, json);
        }
    }
    panic!("{lie:?} {flags}: no window saw {VICTIM} batches");
}

fn has_records(json: &Value) -> bool {
    let some = |name| json["load"][name].as_u64().is_some_and(|records| records > 0);
    some("acked_records") || some("consumed_records")
}

fn number(json: &Value, pointer: &str) -> u64 {
    json.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer}: {json:#}"))
}

#[test]
fn an_honest_broker_is_ok_in_every_mode() {
    for flags in [
        "--batch 1rec --inflight 1 --busy-poll",
        "--batch 100rec --producers 3 --partitions 2",
        "--batch 64KiB --size 1KiB --inflight 4 --busy-poll --producers 2",
        "--rate 20000 --linger 1ms --producers 5",
        "--rate 20000 --batch 1rec --consumers 1",
        "--acks none --batch 10rec",
        "--batch 50rec --producers 2 --partitions 3 --consumers 2",
        "--consumers 2 --busy-poll --batch 10rec",
        "--partitioner keyed --partitions 7 --producers 2 --batch 20rec",
        "--partitioner one-each --partitions 5 --consumers 1 --rate 20000",
        "--partitions 1500 --route any --partitioner keyed",
        "--sizes uniform:100..2KiB --entropy 0.5 --consumers 1",
        "--sizes lognormal:300,0.7 --batch 1rec --producers 2",
        "--partitioner keyed --keys zipf:1k,1.1 --partitions 5 --batch 20rec",
    ] {
        let (broker, code, json) = run_with(Lie::None, flags);
        assert_eq!(code, EXIT_OK, "{flags}: {json:#}");
        assert_eq!(json["integrity"]["verdict"], "ok", "{flags}: {json:#}");
        assert!(number(&json, "/load/acked_records") > 0, "{flags}");
        assert!(number(&json, "/integrity/checked_records") > 0, "{flags}");
        assert!(broker.topic_deleted(), "{flags}");
        // Response is delay and service, of each record.
        if flags.contains("rate") && !flags.contains("one-each") {
            let count = |name| number(&json, &format!("/latency_ns/{name}/count"));
            assert_eq!(count("schedule_delay"), count("response"), "{flags}: {json:#}");
            assert_eq!(count("client_queue"), count("response"), "{flags}: {json:#}");
        }
        let none = flags.contains("acks none");
        assert_eq!(json["latency_ns"]["response"].is_null(), none, "{flags}");
        for name in ["e2e", "e2e_service"] {
            let is_null = json["latency_ns"][name].is_null();
            assert_eq!(is_null, !flags.contains("consumers"), "{flags}: {name}");
        }
    }
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let broker = LyingBroker::start(Lie::None);
    let target = format!("pelton://{}", broker.address);
    let (_, json) = run(&target, "--rate 10000 --batch 20rec --producers 4", WINDOWS_MS[0]);
    assert_eq!(json["latency_ns"]["closed_loop"], false);
    // Records due in the window, however late they were: 80 ms at 10,000 per second.
    assert!(number(&json, "/latency_ns/response/count").abs_diff(800) <= 1, "{json:#}");
    // And never more than were due since the start of the warm-up.
    assert!(number(&json, "/load/acked_records") <= 1_001, "{json:#}");
}

#[test]
fn echo_proves_what_it_takes() {
    for flags in ["--batch 100rec --producers 3 --partitions 2", "--rate poisson:20k --busy-poll"] {
        let mut runs = WINDOWS_MS.iter().map(|window_ms| run("echo", flags, *window_ms));
        let (code, json) = runs.find(|(_, json)| has_records(json)).expect("a window with records");
        assert_eq!((code, &json["integrity"]["verdict"]), (EXIT_OK, &"ok".into()), "{json:#}");
        let (acked, checked) =
            (number(&json, "/load/acked_records"), number(&json, "/integrity/checked_records"));
        assert!(0 < acked && acked <= checked, "{json:#}");
    }
}

#[test]
fn preloaded_records_are_read_again_and_again() {
    /// What 1 MiB holds of records of 100 bytes: more than these is more than one pass.
    const RECORDS: u64 = 10_485;
    let flags = "--preload 1MiB --batch 500rec --partitions 2 --busy-poll";
    let mut runs = WINDOWS_MS.iter().map(|window_ms| {
        let broker = LyingBroker::start(Lie::None);
        run(&format!("pelton://{}", broker.address), flags, *window_ms)
    });
    let checked = |json: &Value| json["integrity"]["checked_records"].as_u64().unwrap_or(0);
    let (code, json) = runs.find(|(_, json)| checked(json) > RECORDS).expect("a second pass");
    assert_eq!(code, EXIT_OK, "{json:#}");
    assert!(json["load"]["acked_records"].is_null());
    assert!(number(&json, "/load/consumed_records") > 0);
    assert_eq!(json["integrity"]["verdict"], "ok", "{json:#}");
}

#[test]
fn each_lie_is_named() {
    for (lie, field, exactly) in [
        (Lie::Lose, "lost", 10),
        (Lie::Duplicate, "duplicated", 10),
        (Lie::Reorder, "reordered", 10),
        (Lie::Corrupt, "corrupted", 1),
    ] {
        for flags in
            ["--batch 10rec", "--batch 10rec --consumers 1", "--preload 100KB --batch 10rec"]
        {
            let (_, code, json) = run_with(lie, flags);
            assert_eq!(code, EXIT_INTEGRITY, "{lie:?} {flags}: {json:#}");
            assert_eq!(json["integrity"]["verdict"], "failed", "{lie:?} {flags}");
            assert_eq!(json["validity"]["verdict"], "invalid", "{lie:?} {flags}");
            let found = number(&json, &format!("/integrity/{field}"));
            assert!(found > 0, "{lie:?} {flags}: {json:#}");
            if !flags.contains("preload") {
                // The victim is a batch of ten; of a damaged one nothing is believed.
                assert_eq!(found, exactly, "{lie:?} {flags}: {json:#}");
            }
        }
    }
}

#[test]
fn refusals_and_lost_connections_are_no_loss() {
    let (_, code, json) = run_with(Lie::Refuse, "--batch 10rec");
    assert_eq!((code, number(&json, "/load/errors/overloaded")), (EXIT_OK, 1), "{json:#}");
    let (_, code, json) = run_with(Lie::Refuse, "--batch 10rec --strict");
    assert_eq!((code, &json["validity"]["status"]), (EXIT_INVALID, &"errors".into()), "{json:#}");
    assert!(json["validity"]["evidence"]["generator_busy_percent"].is_u64(), "{json:#}");
    let (_, _, json) = run_with(Lie::HangUp, "--batch 10rec --inflight 1 --producers 2");
    assert_eq!(json["integrity"]["verdict"], "ok", "{json:#}");
    assert_eq!(number(&json, "/load/errors/connection_lost"), 1);
    assert_eq!(number(&json, "/integrity/in_doubt"), 10);
    assert_eq!(number(&json, "/integrity/in_doubt_found"), 10);
}
