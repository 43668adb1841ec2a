//! Requests that cross from one shard to another: whole, in order, and only where they must.

use pelton_tests::broker::Broker;
use tempfile::tempdir;

fn start(dir: &std::path::Path, flags: &[&str]) -> Broker {
    let started = Broker::try_start(dir, flags);
    started.unwrap_or_else(|finished| panic!("no broker: {}", finished.stderr))
}

fn lines(range: std::ops::Range<u32>) -> String {
    range.map(|number| format!("record {number:05}\n")).collect()
}

/// Every record of the topic, sorted: partitions come in no particular order.
fn all(broker: &Broker) -> Vec<String> {
    let read = broker.run(&["consume", "t", "--exit-at-end"], b"").expect_success();
    let mut lines: Vec<String> = read.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

fn expected(records: u32) -> Vec<String> {
    lines(0..records).lines().map(str::to_owned).collect()
}

fn counter(broker: &Broker, name: &str) -> u64 {
    let stats = broker.run(&["stats"], b"").expect_success();
    let row = stats.lines().find(|line| line.split_whitespace().any(|word| word == name));
    let value = row.and_then(|row| row.split_whitespace().last());
    let value = value.unwrap_or_else(|| panic!("no counter {name} in {stats}"));
    value.replace(',', "").parse().expect("a number")
}

#[test]
fn one_port_serves_partitions_of_every_shard() {
    let dir = tempdir().expect("a folder");
    let broker = start(dir.path(), &["--shards=3"]);
    broker.run(&["topic", "create", "t", "--partitions", "7"], b"").expect_success();
    broker.run(&["produce", "t"], lines(0..2000).as_bytes()).expect_success();
    assert_eq!(all(&broker), expected(2000));
    assert!(counter(&broker, "requests_forwarded") > 0, "some shard asked another");
    let described = broker.run(&["topic", "describe", "t"], b"").expect_success();
    assert_eq!(described.lines().filter(|line| line.contains('/')).count() % 7, 0);
    broker.run(&["topic", "delete", "t"], b"").expect_success();
    assert_eq!(broker.run(&["topic", "describe", "t"], b"").code, Some(1));
    assert_eq!(broker.stop().code, Some(0));
}

#[test]
fn large_batches_cross_shards_whole() {
    let dir = tempdir().expect("a folder");
    let broker = start(dir.path(), &["--shards=2"]);
    broker.run(&["topic", "create", "t", "--partitions", "2"], b"").expect_success();
    let letters = ('a'..='z').cycle().take(200);
    let mut lines: Vec<String> = letters
        .zip(100..)
        .map(|(letter, n)| format!("{n}{}", letter.to_string().repeat(100_000)))
        .collect();
    let input: String = lines.iter().map(|line| format!("{line}\n")).collect();
    broker.run(&["produce", "t", "--batch", "512KiB"], input.as_bytes()).expect_success();
    lines.sort_unstable();
    assert!(all(&broker) == lines, "the same bytes");
}

#[test]
fn a_restart_with_another_number_of_shards_keeps_everything() {
    let dir = tempdir().expect("a folder");
    let mut records = 0;
    for (flags, is_killed) in [("--shards=2", true), ("--shards=3", false), ("--shards=1", true)] {
        let broker = start(dir.path(), &[flags]);
        if records == 0 {
            broker.run(&["topic", "create", "t", "--partitions", "5"], b"").expect_success();
        }
        assert_eq!(all(&broker), expected(records), "with {flags}");
        let more = lines(records..records + 500);
        broker.run(&["produce", "t"], more.as_bytes()).expect_success();
        records += 500;
        if is_killed {
            broker.kill();
        } else {
            assert_eq!(broker.stop().code, Some(0));
        }
    }
    let broker = start(dir.path(), &["--shards=2"]);
    assert_eq!(all(&broker), expected(records));
}

#[test]
fn with_ports_of_their_own_clients_go_straight_to_the_owner() {
    let dir = tempdir().expect("a folder");
    let broker = start(dir.path(), &["--shards=2", "--shard-ports=on"]);
    broker.run(&["topic", "create", "t", "--partitions", "4"], b"").expect_success();
    let before = counter(&broker, "requests_forwarded");
    broker.run(&["produce", "t"], lines(0..1000).as_bytes()).expect_success();
    assert_eq!(all(&broker), expected(1000));
    // What counters are gathered with is sent on as well: one request to the other shard.
    let after = counter(&broker, "requests_forwarded");
    assert!(after - before <= 4, "{} requests were sent on", after - before);
}
