//! Black box: `pelton consume` over many partitions and topics, against a real broker.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use loadgen::port;
use pelton_tests::broker::Broker;
use pelton_tests::program;
use serde_json::Value;
use tempfile::TempDir;

fn broker() -> (Broker, TempDir) {
    let dir = TempDir::new().expect("a temporary folder");
    (Broker::start(dir.path()), dir)
}

#[track_caller]
fn ok(broker: &Broker, args: &[&str]) -> String {
    broker.run(args, b"").expect_success()
}

/// Produces lines to one partition. Each call is at least a millisecond after the one before it.
#[track_caller]
fn produce(broker: &Broker, topic: &str, partition: &str, lines: &str) {
    broker.run(&["produce", topic, "-p", partition], lines.as_bytes()).expect_success();
}

/// What consume prints up to the end, joined.
#[track_caller]
fn consume(broker: &Broker, more: &[&str]) -> String {
    let args = [&["consume", "--exit-at-end", "-f", "%t%p:%v "], more].concat();
    ok(broker, &args)
}

#[test]
fn records_of_many_partitions_and_topics_come_in_the_order_of_their_times() {
    let (broker, _dir) = broker();
    ok(&broker, &["topic", "create", "a", "--partitions", "3"]);
    ok(&broker, &["topic", "create", "b", "--partitions", "2"]);
    produce(&broker, "a", "2", "first\nsecond\n");
    produce(&broker, "b", "1", "third\n");
    produce(&broker, "a", "0", "fourth\n");
    produce(&broker, "a", "2", "fifth\n");
    produce(&broker, "b", "0", "sixth\n");
    let in_time = "a2:first a2:second b1:third a0:fourth a2:fifth b0:sixth ";
    assert_eq!(consume(&broker, &["a", "b"]), in_time);
    assert_eq!(consume(&broker, &["b", "a", "-c", "3"]), "a2:first a2:second b1:third ");
    assert_eq!(consume(&broker, &["a", "-p", "0-1"]), "a0:fourth ");
    assert_eq!(consume(&broker, &["a", "b", "-p", "0,1"]), "b1:third a0:fourth b0:sixth ");
    assert_eq!(
        consume(&broker, &["a", "b", "--from", "end-1"]),
        "b1:third a0:fourth a2:fifth b0:sixth "
    );
    assert_eq!(consume(&broker, &["a", "--from", "latest"]), "");
    assert_eq!(consume(&broker, &["a", "--from", "1h ago", "--until", "1"]), "a2:first a0:fourth ");

    let all = consume(&broker, &["a", "--order", "arrival"]);
    let mut all: Vec<&str> = all.split_whitespace().collect();
    all.sort_unstable();
    assert_eq!(all, ["a0:fourth", "a2:fifth", "a2:first", "a2:second"]);

    let finished = broker.run(&["consume", "a", "a"], b"");
    assert_eq!(finished.code, Some(2));
    assert!(finished.stderr.contains("named twice"), "{}", finished.stderr);
    let finished = broker.run(&["consume", "a", "-p", "3"], b"");
    assert_eq!(finished.code, Some(1));
    assert!(finished.stderr.contains("there is no partition 3"), "{}", finished.stderr);
}

#[test]
fn times_bound_what_is_printed() {
    let (broker, _dir) = broker();
    ok(&broker, &["topic", "create", "t", "--partitions", "2"]);
    produce(&broker, "t", "0", "one\n");
    produce(&broker, "t", "1", "two\n");
    produce(&broker, "t", "0", "three\n");
    let lines = ok(&broker, &["consume", "t", "--until", "end", "--format", "json"]);
    let records: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let values: Vec<&Value> = records.iter().map(|record| &record["value"]).collect();
    assert_eq!(values, ["one", "two", "three"]);
    assert_eq!(records[1]["topic"], "t");
    assert_eq!((&records[1]["partition"], &records[1]["offset"]), (&1.into(), &0.into()));
    // Times that have passed end by themselves.
    let of_two = format!("@{}", records[1]["timestamp_ms"]);
    let of_three = records[2]["time"].as_str().expect("a time");
    let between = ["consume", "t", "-f", "%v ", "--from", &of_two, "--until", of_three];
    assert_eq!(ok(&broker, &between), "two ");
    assert_eq!(ok(&broker, &["consume", "t", "-f", "%v ", "--until", &of_two]), "one ");
}

#[test]
fn many_records_keep_their_order_in_each_partition() {
    let (broker, _dir) = broker();
    ok(&broker, &["topic", "create", "t", "--partitions", "5"]);
    let lines: String = (0..50_000).map(|n| format!("k{}:{n}\n", n % 11)).collect();
    broker.run(&["produce", "t", "-K", ":"], lines.as_bytes()).expect_success();
    let printed = ok(&broker, &["consume", "t", "--exit-at-end", "-f", r"%p %o %v\n"]);
    let mut next = [0u64; 5];
    let mut values: Vec<u64> = Vec::new();
    for line in printed.lines() {
        let mut parts = line.split(' ').map(|part| part.parse::<u64>().expect("a number"));
        let mut part = || parts.next().expect("three");
        let (partition, offset, value) = (part(), part(), part());
        let next = &mut next[usize::try_from(partition).expect("few")];
        assert_eq!(offset, *next, "partition {partition}");
        *next += 1;
        values.push(value);
    }
    values.sort_unstable();
    assert!(values.into_iter().eq(0..50_000), "each once");
}

#[test]
fn a_waiting_consumer_prints_what_comes_and_ends_when_nobody_reads() {
    let (broker, _dir) = broker();
    ok(&broker, &["topic", "create", "t", "--partitions", "3"]);
    produce(&broker, "t", "0", "before\n");
    let mut waiting = program::command(&["consume", "t", "-f", r"%p %v\n"])
        .env("PELTON_SERVER", broker.address())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut lines = BufReader::new(waiting.stdout.take().expect("a pipe")).lines();
    assert_eq!(lines.next().expect("a line").expect("text"), "0 before");
    produce(&broker, "t", "2", "later\n");
    assert_eq!(lines.next().expect("a line").expect("text"), "2 later");
    // Nothing comes any more: it notices by itself that its output is closed.
    drop(lines);
    let status = program::wait(&mut waiting, program::PATIENCE).expect("it ends");
    assert!(status.success(), "{status}");
}

#[test]
fn a_consumer_goes_on_when_the_broker_comes_back() {
    let dir = TempDir::new().expect("a temporary folder");
    let listen = format!("--listen=127.0.0.1:{}", port::lasting());
    let broker = Broker::try_start(dir.path(), &[&listen]).expect("it starts");
    ok(&broker, &["topic", "create", "t", "--partitions", "3"]);
    produce(&broker, "t", "0", "before\n");
    let address = broker.address().to_owned();
    let mut waiting = program::command(&["consume", "t", "-c", "2", "-f", r"%p %v\n"])
        .args(["--reconnect-for", "60s", "--server", &address])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut lines = BufReader::new(waiting.stdout.take().expect("a pipe")).lines();
    assert_eq!(lines.next().expect("a line").expect("text"), "0 before");
    broker.kill();
    let broker = Broker::try_start(dir.path(), &[&listen]).expect("its port is free again");
    produce(&broker, "t", "1", "after\n");
    assert_eq!(lines.next().expect("a line").expect("text"), "1 after");
    let output = waiting.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", output.status);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("trying again"), "{told}");
}

#[test]
fn several_shards_are_written_and_read_like_one_with_ports_of_their_own_or_without() {
    for ports in ["on", "off"] {
        let dir = TempDir::new().expect("a temporary folder");
        let flags = ["--shards=2", &format!("--shard-ports={ports}")];
        let broker = Broker::try_start(dir.path(), &flags).expect("two shards");
        ok(&broker, &["topic", "create", "a", "--partitions", "4"]);
        ok(&broker, &["topic", "create", "b", "--partitions", "3"]);
        produce(&broker, "a", "3", "first\n");
        produce(&broker, "b", "2", "second\n");
        produce(&broker, "a", "0", "third\n");
        produce(&broker, "b", "1", "fourth\n");
        let expected = "a3:first b2:second a0:third b1:fourth ";
        assert_eq!(consume(&broker, &["a", "b"]), expected, "ports {ports}");
        let lines: String = (0..1000).map(|n| format!("k{}:{n}\n", n % 13)).collect();
        let produced = broker.run(&["produce", "a", "-K", ":"], lines.as_bytes());
        assert_eq!(produced.stderr.trim(), "1000 records acknowledged", "ports {ports}");
        let printed = ok(&broker, &["consume", "a", "--exit-at-end", "-f", r"%p %k %v\n"]);
        assert_eq!(printed.lines().count(), 1002, "ports {ports}");
    }
}
