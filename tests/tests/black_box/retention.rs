//! Old records go, their files serve again or are deleted, and what stays is whole.

use std::path::Path;
use std::time::{Duration, Instant};

use pelton_tests::broker::Broker;
use serde_json::Value;
use tempfile::tempdir;

const MIB: u64 = 1024 * 1024;

fn counter(broker: &Broker, name: &str) -> u64 {
    let stats = broker.run(&["stats", "--format", "json"], b"").expect_success();
    let stats: Value = serde_json::from_str(&stats).expect("JSON");
    stats[name].as_u64().unwrap_or_else(|| panic!("no counter {name} in {stats}"))
}

/// Bytes of the files below a folder.
fn bytes_in(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let bytes = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_in(&entry.path()),
        Ok(found) => found.len(),
        // It went meanwhile.
        Err(_) => 0,
    };
    entries.flatten().map(bytes).sum()
}

/// Waits until it holds; asking the broker is what passes the time.
#[track_caller]
fn wait_for(broker: &Broker, what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "it never comes: {what}");
        counter(broker, "turns");
    }
}

/// What waits to become start files lies beside the spare segments.
const START_SPARES_BYTES: u64 = 2 * 8192;

fn lines(from: u32, count: u32) -> String {
    let padding = "p".repeat(2000);
    (from..from + count).map(|number| format!("{number:06}{padding}\n")).collect()
}

/// The first and the last number of what stays, which is whole. More may go while it is read, and
/// leave a gap in what is read; it is read again then.
#[track_caller]
fn first_and_last(broker: &Broker) -> (u32, u32) {
    let consume = ["consume", "t", "--exit-at-end", "--out-of-range", "earliest"];
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let read = broker.run(&consume, b"").expect_success();
        let numbers: Vec<u32> =
            read.lines().map(|line| line[..6].parse().expect("a number")).collect();
        assert!(numbers.is_sorted_by(|one, next| one < next), "in order, each once");
        let (first, last) = (numbers[0], numbers[numbers.len() - 1]);
        if numbers.iter().copied().eq(first..=last) {
            return (first, last);
        }
        assert!(Instant::now() < deadline, "records are missing between {first} and {last}");
    }
}

#[test]
fn a_topic_of_limited_size_reuses_its_files() {
    let dir = tempdir().expect("a folder");
    let flags = ["--segment-bytes=4MiB", "--recycle-bytes=8MiB"];
    let start = || Broker::try_start(dir.path(), &flags).expect("it starts");
    let broker = start();
    broker.run(&["topic", "create", "t", "--retention-bytes", "8MiB"], b"").expect_success();
    for round in 0..8 {
        broker.run(&["produce", "t"], lines(round * 4000, 4000).as_bytes()).expect_success();
    }
    wait_for(&broker, "old segments go", || counter(&broker, "segments_retired") >= 8);
    wait_for(&broker, "files serve again", || counter(&broker, "segments_recycled") >= 4);
    let streams = dir.path().join("streams");
    let spare = dir.path().join("spare");
    wait_for(&broker, "space is free", || bytes_in(&streams) <= 24 * MIB);
    wait_for(&broker, "spares are few", || bytes_in(&spare) <= 8 * MIB + START_SPARES_BYTES);
    let (first, last) = first_and_last(&broker);
    assert!(first > 0, "the oldest are gone");
    assert_eq!(last, 31_999);
    broker.kill();

    let broker = start();
    // More may have gone meanwhile.
    let (first_now, last_now) = first_and_last(&broker);
    assert!(first_now >= first && last_now == last, "nothing comes back: {first_now}");
    broker.run(&["produce", "t"], lines(32_000, 4000).as_bytes()).expect_success();
    assert_eq!(first_and_last(&broker).1, 35_999);
    let verified = broker.stop();
    assert_eq!(verified.code, Some(0));
}

#[test]
fn deleted_topics_leave_no_files_but_spares() {
    let dir = tempdir().expect("a folder");
    let flags = ["--segment-bytes=4MiB", "--recycle-bytes=4MiB"];
    let broker = Broker::try_start(dir.path(), &flags).expect("it starts");
    broker.run(&["topic", "create", "t"], b"").expect_success();
    broker.run(&["produce", "t"], lines(0, 12_000).as_bytes()).expect_success();
    let delete = ["topic", "delete-records", "t", "--before", "100"];
    broker.run(&delete, b"").expect_success();
    broker.run(&["topic", "delete", "t"], b"").expect_success();
    let streams = dir.path().join("streams");
    // The catalog's own stream stays.
    wait_for(&broker, "its files go", || {
        std::fs::read_dir(&streams).expect("it stays").count() <= 1
    });
    let spare = dir.path().join("spare");
    wait_for(&broker, "one file serves again", || bytes_in(&spare) == 4 * MIB + START_SPARES_BYTES);
    assert_eq!(broker.stop().code, Some(0));
}
