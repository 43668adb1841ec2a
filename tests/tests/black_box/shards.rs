//! Several shards: several threads and ports, one broker.

use pelton_tests::broker::Broker;
use pelton_tests::program::{self, Finished};
use tempfile::tempdir;

const RECORDS: usize = 600;

fn start(data_dir: &std::path::Path, flags: &[&str]) -> Broker {
    Broker::try_start(data_dir, flags).unwrap_or_else(|finished| panic!("{}", finished.stderr))
}

/// All records of the topic, sorted: partitions have no common order.
fn all_records(read: Finished) -> Vec<String> {
    let mut lines: Vec<String> = read.expect_success().lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

fn lines() -> Vec<String> {
    (0..RECORDS).map(|number| format!("record {number:04}")).collect()
}

#[test]
fn records_outlive_a_change_of_the_number_of_shards() {
    let dir = tempdir().expect("a folder");
    let broker = start(dir.path(), &["--shards=3"]);
    broker.run(&["topic", "create", "t", "--partitions", "7"], b"").expect_success();
    let input = lines().join("\n") + "\n";
    broker.run(&["produce", "t"], input.as_bytes()).expect_success();
    let read = broker.run(&["consume", "t", "--exit-at-end"], b"");
    assert_eq!(all_records(read), lines());
    let ended = broker.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("192 MiB, 64 MiB for each shard"), "{}", ended.stderr);
    for shards in ["--shards=1", "--shards=2"] {
        let broker = start(dir.path(), &[shards]);
        let read = broker.run(&["consume", "t", "--exit-at-end"], b"");
        assert_eq!(all_records(read), lines(), "{shards}");
        assert_eq!(broker.stop().code, Some(0), "{shards}");
    }
}

#[test]
fn every_shard_answers_on_its_own_port_for_all() {
    let dir = tempdir().expect("a folder");
    let broker = start(dir.path(), &["--shards=2", "--shard-ports=on"]);
    let log = broker.log();
    let line = log.lines().find_map(|line| line.trim().strip_prefix("ports")).expect("in the log");
    let (shared, own) = line.split_once("for all shards, then").expect("then the others");
    assert!(broker.address().ends_with(shared.trim()), "{line}");
    let own: Vec<&str> = own.split(',').map(str::trim).collect();
    assert_eq!(own.len(), 2, "{line}");
    for (number, port) in own.iter().enumerate() {
        let server = format!("127.0.0.1:{port}");
        let run = |args: &[&str], stdin: &[u8]| {
            program::run(&[args, &["--server", &server]].concat(), stdin).expect_success()
        };
        let topic = format!("t{number}");
        run(&["topic", "create", &topic, "--partitions", "4"], b"");
        let input = lines().join("\n") + "\n";
        run(&["produce", &topic], input.as_bytes());
    }
    for topic in ["t0", "t1"] {
        let read = broker.run(&["consume", topic, "--exit-at-end"], b"");
        assert_eq!(all_records(read), lines());
    }
    assert_eq!(broker.stop().code, Some(0));
}

#[test]
fn a_port_that_shards_share_is_not_shared_with_another_broker() {
    let (dir, other) = (tempdir().expect("a folder"), tempdir().expect("a folder"));
    let broker = start(dir.path(), &["--shards=2"]);
    for shards in ["--shards=1", "--shards=2"] {
        let listen = format!("--listen={}", broker.address());
        let refused = Broker::try_start(other.path(), &[&listen, shards]).expect_err("in use");
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
        assert!(refused.stderr.contains("is in use"), "{}", refused.stderr);
    }
}

#[test]
fn a_number_of_shards_that_makes_no_sense_is_refused() {
    let dir = tempdir().expect("a folder");
    for (flags, names) in [
        (["--shards=0", "--spin-us=1"], "shards is 0, but must be 1 to 64"),
        (["--shards=65", "--spin-us=1"], "shards is 65, but must be 1 to 64"),
        (["--shards=many", "--spin-us=1"], "--shards"),
        (["--cores=9999", "--shards=2"], "cores names CPU 9999"),
        (["--shards=2", "--shard-ports=maybe"], "neither on nor off"),
    ] {
        let refused = Broker::try_start(dir.path(), &flags).expect_err("it makes no sense");
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
        assert!(refused.stderr.contains(names), "{names}: {}", refused.stderr);
    }
}
