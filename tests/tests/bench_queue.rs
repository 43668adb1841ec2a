//! Black box: `pelton bench` over queues, with the real binary, over very short loads.

use std::fs;
use std::path::Path;

use pelton_tests::program::{self, Finished};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

/// Loads that short measure nothing worth knowing, but everything happens, also on a machine that
/// stalls for half a second now and then.
const SHORT: &str = "--mode=queue --duration=1500ms --warmup=0s --batch=10rec --inflight=100 \
                     --broker=journal-bytes=8MiB --broker=memory-bytes=64MiB";

fn run(dir: &TempDir, flags: &str) -> Finished {
    let json = dir.path().join("run.json");
    let (dir, json) = (dir.path().display(), json.display());
    let line = format!("bench run -q {SHORT} --data-dir={dir} --json={json} {flags}");
    program::run(&line.split_whitespace().collect::<Vec<_>>(), b"")
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("written")).expect("JSON")
}

fn result(dir: &TempDir, flags: &str) -> Value {
    run(dir, flags).expect_success();
    json(&dir.path().join("run.json"))
}

/// Nothing was lost, and what was asked for stands in the result.
fn expect_ok(run: &Value) {
    assert_eq!(run["schema"], "pelton.bench.run/1");
    assert_eq!(run["integrity"]["verdict"], "ok", "{run:#}");
    assert_eq!(run["integrity"]["passes_cut_short"], 0, "{run:#}");
    assert_eq!(run["queue"]["delivered_after_ack"], 0, "{run:#}");
    assert!(run["load"]["acked_records"].as_u64() > Some(0), "{run:#}");
    assert!(run["queue"]["confirm_ns"]["count"].as_u64() > Some(0), "{run:#}");
}

#[test]
fn publishers_beside_consumers_that_give_some_back() {
    let dir = tempdir().expect("a folder");
    let flags = "--producers=2 --consumers=2 --prefetch=50 --ack-mode=batched:20 --nack-share=0.2 \
                 --persistent-share=0.5 --sizes=uniform:60..900 --entropy=0.5";
    let run = result(&dir, flags);
    expect_ok(&run);
    // 480 bytes on average.
    let per_s = |name: &str| run["load"][name].as_u64().expect("measured");
    let bytes = per_s("bytes_per_s") / per_s("achieved_records_per_s").max(1);
    assert!((400..560).contains(&bytes), "{run:#}");
    for name in ["acked_records", "consumed_records"] {
        let counts = run["series"][name].as_array().expect("a timeline");
        let total: u64 = counts.iter().filter_map(Value::as_u64).sum();
        assert_eq!(run["load"][name].as_u64(), Some(total), "{run:#}");
    }
    assert!(run["queue"]["deliver_ns"]["count"].as_u64() > Some(0), "{run:#}");
    assert!(run["queue"]["redelivered"].as_u64() > Some(0), "{run:#}");
    assert_eq!((&run["queue"]["dead_lettered"], &run["integrity"]["lost"]), (&0.into(), &0.into()));
    let options = &run["options"]["queue"];
    assert_eq!(options["ack_mode"], "batched:20");
    assert_eq!(
        (&options["prefetch"], &options["nack_share_millionths"]),
        (&50.into(), &200_000.into())
    );
    assert_eq!(options["persistent_share_millionths"], 500_000);
}

#[test]
fn messages_that_come_back_too_often_are_found_among_the_dead_letters() {
    let dir = tempdir().expect("a folder");
    let flags = "--consumers=1 --ack-mode=each --nack-share=0.5 --delivery-limit=2 --rate=2000";
    let run = result(&dir, flags);
    expect_ok(&run);
    assert!(run["queue"]["dead_lettered"].as_u64() > Some(0), "{run:#}");
    assert!(run["integrity"]["checked_records"].as_u64() > run["load"]["acked_records"].as_u64());
}

#[test]
fn what_nobody_consumed_is_read_back_and_a_backlog_is_there_at_the_start() {
    let dir = tempdir().expect("a folder");
    let run = result(&dir, "--producers=2 --partitions=2");
    expect_ok(&run);
    assert!(run["queue"]["deliver_ns"].is_null(), "{run:#}");
    assert!(run["queue"]["messages_at_close"].as_u64() > Some(0), "{run:#}");

    let run = result(&dir, "--backlog=20000 --consumers=1 --rate=1000");
    expect_ok(&run);
    assert_eq!(run["queue"]["messages_at_start"], 20_000);
    assert!(run["integrity"]["checked_records"].as_u64() > Some(20_000), "{run:#}");

    self::run(&dir, "--preload=2MB --consumers=1 --ack-mode=auto").expect_success();
    let run = json(&dir.path().join("run.json"));
    assert_eq!(
        (&run["integrity"]["verdict"], &run["load"]["acked_records"]),
        (&"ok".into(), &Value::Null)
    );
    assert_eq!(run["queue"]["messages_at_start"], 20_000);
}

#[test]
fn the_parts_of_a_publish_are_told_and_take_no_longer_than_the_whole() {
    let dir = tempdir().expect("a folder");
    for flags in ["--producers=2 --partitions=2", "--rate=2000 --consumers=1 --linger=2ms"] {
        let run = result(&dir, &format!("--anatomy {flags}"));
        expect_ok(&run);
        let (parts, service) = (&run["anatomy_ns"], &run["latency_ns"]["service"]);
        let of_broker = ["network", "shard_queue", "append", "commit"];
        let means = of_broker.map(|name| {
            assert_eq!(parts[name]["count"], service["count"], "{name}: {run:#}");
            parts[name]["mean"].as_u64().expect("measured")
        });
        // A histogram keeps three digits of what it is told.
        let whole = service["mean"].as_u64().expect("measured");
        assert!(means.iter().sum::<u64>() <= whole + whole / 100, "{parts:#} of {whole}");
        assert!(parts["commit"]["min"].as_u64() > Some(0), "a disk takes its time: {parts:#}");
        assert_eq!(parts["client_queue"].is_null(), !flags.contains("--rate"), "{parts:#}");
    }
    assert!(result(&dir, "")["anatomy_ns"].is_null(), "nobody asked");
}

#[test]
fn sweeps_and_comparisons_know_queues() {
    let dir = tempdir().expect("a folder");
    let set = dir.path().join("set.json");
    let set = set.to_str().expect("text");
    let line = format!(
        "bench sweep {SHORT} --without-floor --consumers=1 --vary ack-mode=auto,each,batched:10 \
         --json={set} --data-dir={}",
        dir.path().display()
    );
    let table = program::run(&line.split_whitespace().collect::<Vec<_>>(), b"");
    assert!(table.expect_success().contains("batched:10"));
    let result = json(Path::new(set));
    for run in result["cells"].as_array().expect("a list") {
        expect_ok(run);
    }
    let text = program::run(&["bench", "compare", set, set], b"").expect_success();
    assert!(text.contains("settings: the same") && text.contains("queue.ack_mode=each"), "{text}");
}

#[test]
fn what_was_kept_in_queues_is_proven_afterwards() {
    let dir = tempdir().expect("a folder");
    let file = dir.path().join("run.json").display().to_string();
    let verify = |more: &[&str]| {
        let mut words = vec!["bench", "verify", &file];
        words.extend(more);
        program::run(&words, b"")
    };
    let run = result(&dir, "--rate=2000 --producers=2 --partitions=2 --keep");
    expect_ok(&run);
    // Those too whose confirm came after the window.
    let confirmed = run["integrity"]["checked_records"].as_u64().expect("looked at");
    assert!(Some(confirmed) >= run["load"]["acked_records"].as_u64(), "{run:#}");
    let sentence = format!("ok: all {confirmed} confirmed messages");
    // Looking changes nothing.
    for _ in 0..2 {
        let text = verify(&[]).expect_success();
        assert!(text.starts_with(&sentence), "{text}");
    }
    let tampered = |field: &str, range: Value, says: &str| {
        let mut run = run.clone();
        run["queue_proof"][field].as_array_mut().expect("ranges").push(range);
        fs::write(&file, run.to_string()).expect("writable");
        let found = verify(&[]);
        assert_eq!(found.code, Some(4), "{}", found.stderr);
        assert!(found.stdout.contains(says), "{}", found.stdout);
    };
    tampered("confirmed", serde_json::json!([900_000, 900_003]), "3 are lost");
    // The first number of all.
    tampered("settled", serde_json::json!([0, 1]), "1 are there twice, or although");

    let run = result(&dir, "--rate=2000 --consumers=1 --keep");
    expect_ok(&run);
    let found = dir.path().join("found.json").display().to_string();
    verify(&["-q", "--json", &found]).expect_success();
    let page = dir.path().join("page.html");
    let report = ["bench", "report", &found, "--html", &page.display().to_string()];
    program::run(&report, b"").expect_success();
    let page = fs::read_to_string(page).expect("written");
    assert!(page.contains("were acknowledged by a consumer, or are there once"), "{page}");
}

#[test]
fn what_makes_no_sense_is_refused_with_a_sentence() {
    let dir = tempdir().expect("a folder");
    for (flags, says) in [
        ("--ack-mode=sometimes", "expected auto, each or batched:N"),
        ("--nack-share=1.5", "a share from 0 to 1"),
        ("--nack-share=1", "give it a --delivery-limit"),
        ("--ack-mode=auto --nack-share=0.1", "settled by being sent"),
        ("--ack-mode=auto --prefetch=5", "there are none"),
        ("--ack-mode=batched:50 --prefetch=10", "--prefetch lets a consumer have 10 at once"),
        ("--acks=none", "a publish is always confirmed"),
        ("--producers=0 --consumers=1", "publishers of its own"),
        ("--preload=1MB --backlog=5 --consumers=1", "choose one"),
        ("--preload=1MB", "--consumers is above zero"),
        ("--partitions=3", "each queue needs a publisher"),
        ("--cold --preload=1MB --consumers=1", "--cold is for --mode topic"),
        ("--batch=20000rec", "--batch"),
    ] {
        let finished = run(&dir, flags);
        assert_eq!(finished.code, Some(2), "{flags}: {}", finished.stderr);
        assert!(finished.stderr.contains(says), "{flags}: {}", finished.stderr);
    }
    let finished = program::run(&["bench", "run", "--prefetch=5"], b"");
    assert_eq!(finished.code, Some(2), "{}", finished.stderr);
    assert!(finished.stderr.contains("--prefetch is for --mode queue"), "{}", finished.stderr);
}
