//! Black box: `pelton log` on the directories of real brokers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pelton_tests::broker::Broker;
use pelton_tests::program::{self, Finished};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

const RECORDS: usize = 400;

fn log(command: &str, dir: &Path, flags: &[&str]) -> Finished {
    let dir = dir.to_str().expect("text");
    program::run(&[&["log", command, dir], flags].concat(), b"")
}

/// Each line of JSON.
fn lines(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn of_type<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["type"] == kind).collect()
}

/// A directory with keyed records in two partitions, and one topic that was deleted.
fn written() -> TempDir {
    let dir = tempdir().expect("a folder");
    let broker = Broker::start(dir.path());
    broker.run(&["topic", "create", "orders", "--partitions=2"], b"").expect_success();
    broker.run(&["topic", "create", "gone"], b"").expect_success();
    let input: String = (0..RECORDS).map(|n| format!("k{n}:value {n} \u{7}\n")).collect();
    broker.run(&["produce", "orders", "-K", ":"], input.as_bytes()).expect_success();
    broker.run(&["produce", "gone"], b"a\nb\n").expect_success();
    broker.run(&["topic", "delete", "gone"], b"").expect_success();
    broker.kill();
    dir
}

/// Every file with its bytes.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).expect("readable").flatten() {
            if entry.path().is_dir() {
                open.push(entry.path());
            } else {
                found.insert(entry.path(), std::fs::read(entry.path()).expect("readable"));
            }
        }
    }
    found
}

#[test]
fn records_read_back_and_nothing_is_written() {
    let dir = written();
    let before = contents(dir.path());
    let verified = log("verify", dir.path(), &["--json"]).expect_success();
    let verified = lines(&verified);
    let summary = of_type(&verified, "summary")[0];
    assert_eq!((&summary["is_sound"], &summary["records"]), (&true.into(), &RECORDS.into()));

    let flags = ["--json", "--records", "--topic", "orders"];
    let dumped = lines(&log("dump", dir.path(), &flags).expect_success());
    let mut seen = BTreeMap::new();
    for record in of_type(&dumped, "record") {
        let place = (record["partition"].as_u64(), record["offset"].as_u64());
        let (key, value) = (record["key"].as_str(), record["value"].as_str());
        seen.insert(place, (key.expect("a key").to_owned(), value.expect("a value").to_owned()));
    }
    assert_eq!(seen.len(), RECORDS, "each offset once, in journal or segment or both");
    for (key, value) in seen.values() {
        assert_eq!(*value, format!("value {} \u{7}", &key[1..]));
    }
    let batches = of_type(&dumped, "batch");
    assert!(batches.iter().all(|batch| batch["fault"].is_null() && batch["compression"] == "none"));
    assert!(contents(dir.path()) == before, "looking changes nothing");
}

#[test]
fn several_shards_are_one_directory() {
    let dir = tempdir().expect("a folder");
    let broker = Broker::try_start(dir.path(), &["--shards=2"]).expect("a new directory");
    broker.run(&["topic", "create", "t", "--partitions=8"], b"").expect_success();
    let input: String = (0..RECORDS).map(|n| format!("k{n}:v\n")).collect();
    broker.run(&["produce", "t", "-K", ":"], input.as_bytes()).expect_success();
    broker.kill();
    let verified = lines(&log("verify", dir.path(), &["--json"]).expect_success());
    let summary = of_type(&verified, "summary")[0];
    assert_eq!((&summary["is_sound"], &summary["records"]), (&true.into(), &RECORDS.into()));
    let journals = of_type(&verified, "file");
    let is_second = |file: &&&Value| file["file"] == "journal/1/0000.jnl";
    assert!(journals.iter().any(|file| is_second(&file)), "each shard has a journal");
}

#[test]
fn filters_leave_out_what_is_not_asked_for() {
    let dir = written();
    let dump = |flags: &[&str]| {
        let flags = [&["--json", "--records"], flags].concat();
        lines(&log("dump", dir.path(), &flags).expect_success())
    };
    let few = dump(&["--topic", "orders", "--partition", "1", "--offsets", "5..8"]);
    let mut offsets: Vec<u64> =
        of_type(&few, "record").iter().filter_map(|record| record["offset"].as_u64()).collect();
    offsets.dedup();
    assert_eq!(offsets, [5, 6, 7]);
    assert!(of_type(&few, "entry").iter().all(|entry| entry["partition"] == 1));
    let journal = dump(&["--journal"]);
    let files = of_type(&journal, "file");
    let is_journal = |file: &&Value| file["file"].as_str().is_some_and(|f| f.ends_with(".jnl"));
    assert!(!files.is_empty() && files.iter().all(is_journal));
    let names: Vec<&Value> = of_type(&journal, "change").iter().map(|c| &c["change"]).collect();
    assert_eq!(names, ["create", "create", "delete"]);
    let human = log("dump", dir.path(), &[]).expect_success();
    for part in ["<- counts", "orders/1", "gone (deleted)/0", "crc ok", "blank"] {
        assert!(human.contains(part), "{part} is missing in\n{human}");
    }
    let unknown = log("dump", dir.path(), &["--topic", "order"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("it has: orders"), "{}", unknown.stderr);
}

#[test]
fn damage_is_exit_code_4_and_names_the_place() {
    let dir = written();
    // The second frame of the journal; those behind it prove that it was acknowledged.
    let journal = dir.path().join("journal/0/0000.jnl");
    let mut bytes = std::fs::read(&journal).expect("readable");
    bytes[4096 + 100] ^= 1;
    std::fs::write(&journal, bytes).expect("writable");
    let verified = log("verify", dir.path(), &["-q"]);
    assert_eq!(verified.code, Some(4), "{}", verified.stdout);
    let line = "journal/0/0000.jnl: CORRUPT at byte 4096";
    assert!(verified.stdout.contains(line), "{}", verified.stdout);
    assert!(verified.stderr.contains("would not start"), "{}", verified.stderr);
    let refused = Broker::try_start(dir.path(), &[]).expect_err("recovery refuses as well");
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    let dumped = log("dump", dir.path(), &["--journal"]).expect_success();
    assert!(dumped.contains("NO FRAME"), "{dumped}");

    std::fs::write(dir.path().join("superblock"), [7; 8192]).expect("writable");
    for command in ["verify", "dump"] {
        let finished = log(command, dir.path(), &[]);
        assert_eq!(finished.code, Some(4), "{}", finished.stderr);
        assert!(finished.stderr.contains("superblock"), "{}", finished.stderr);
    }
}

#[test]
fn repair_says_what_it_would_do_and_does_it_only_when_told() {
    let dir = written();
    let dumped = lines(&log("dump", dir.path(), &["--json", "--journal"]).expect_success());
    let is_batch = |line: &&&Value| line["kind"] == "record_batch";
    let entries = of_type(&dumped, "entry");
    let first = entries.iter().find(is_batch).expect("records are in the journal");
    let position = first["position"].as_u64().expect("a position");
    let position = usize::try_from(position).expect("small");
    let journal = dir.path().join(first["file"].as_str().expect("a path"));
    let mut bytes = std::fs::read(&journal).expect("readable");
    bytes[position + 20] ^= 1;
    std::fs::write(&journal, bytes).expect("writable");

    let before = contents(dir.path());
    let planned = log("repair", dir.path(), &[]);
    assert_eq!(planned.code, Some(4), "{}{}", planned.stdout, planned.stderr);
    assert!(planned.stdout.contains("give --apply"), "{}", planned.stdout);
    assert!(contents(dir.path()) == before, "without --apply nothing is written");
    let mends = lines(&log("repair", dir.path(), &["--json"]).stdout);
    assert!(!of_type(&mends, "mend").is_empty(), "{mends:?}");

    log("repair", dir.path(), &["--apply"]).expect_success();
    let after = contents(dir.path());
    let is_lock = |path: &Path| path.file_name().is_some_and(|name| name == "LOCK");
    let mut kept = before.iter().filter(|(path, _)| !is_lock(path));
    assert!(kept.all(|(path, bytes)| after.get(path) == Some(bytes)), "all is kept");
    let broker = Broker::start(dir.path());
    let described = broker.run(&["topic", "describe", "orders"], b"").expect_success();
    assert!(described.contains("DAMAGED"), "{described}");
    broker.run(&["produce", "orders", "-K", ":"], b"a:1\nb:2\nc:3\nd:4\n").expect_success();
}

#[test]
fn a_directory_in_use_or_of_nobody_is_refused() {
    let dir = tempdir().expect("a folder");
    for place in [dir.path().to_path_buf(), dir.path().join("nowhere")] {
        let refused = log("verify", &place, &[]);
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    }
    assert_eq!(contents(dir.path()).len(), 0, "not even a lock");
    let broker = Broker::start(dir.path());
    for command in ["verify", "dump"] {
        let refused = log(command, dir.path(), &[]);
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""));
        assert!(refused.stderr.contains(&broker.pid().to_string()), "{}", refused.stderr);
    }
}
