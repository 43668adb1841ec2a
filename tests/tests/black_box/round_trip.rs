//! Records come back: at every level of acks, after a restart, and from the disk.

use pelton_tests::broker::Broker;
use tempfile::tempdir;

#[test]
fn every_level_of_acks_delivers() {
    let dir = tempdir().expect("a folder");
    let broker = Broker::start(dir.path());
    broker.run(&["topic", "create", "t"], b"").expect_success();
    for acks in ["none", "memory", "written", "durable"] {
        let line = format!("{acks}\n");
        broker.run(&["produce", "t", "--acks", acks], line.as_bytes()).expect_success();
        // Waits for the record, however its flush is scheduled.
        let offset = ["none", "memory", "written", "durable"].iter().position(|a| *a == acks);
        let offset = offset.expect("it is one of them").to_string();
        let read = broker.run(&["consume", "t", "--from", &offset, "-c", "1"], b"");
        assert_eq!(read.expect_success(), line, "acks {acks}");
    }
}

#[test]
fn a_restart_keeps_topics_records_and_deletions() {
    let dir = tempdir().expect("a folder");
    let input: String = (0..1000).map(|number| format!("record {number}\n")).collect();
    let broker = Broker::start(dir.path());
    broker.run(&["topic", "create", "kept"], b"").expect_success();
    broker.run(&["topic", "create", "gone"], b"").expect_success();
    broker.run(&["produce", "kept"], input.as_bytes()).expect_success();
    broker.run(&["topic", "delete", "gone"], b"").expect_success();
    assert_eq!(broker.stop().code, Some(0));

    let broker = Broker::start(dir.path());
    let read = broker.run(&["consume", "kept", "--exit-at-end"], b"").expect_success();
    assert_eq!(read, input);
    assert_eq!(broker.run(&["topic", "describe", "gone"], b"").code, Some(1));
    // Offsets go on where they ended.
    broker.run(&["produce", "kept"], b"after\n").expect_success();
    let read = broker.run(&["consume", "kept", "--from", "1000", "-c", "1"], b"");
    assert_eq!(read.expect_success(), "after\n");
}

#[test]
fn large_records_take_the_direct_path_and_older_data_comes_from_disk() {
    let dir = tempdir().expect("a folder");
    let broker = Broker::start(dir.path());
    broker.run(&["topic", "create", "t", "--segment-bytes", "4MiB"], b"").expect_success();
    // More than the broker's memory in lines of 200 KB, so that reading them back needs the disk.
    let letters = ('a'..='z').cycle().take(400);
    let input: String = letters.map(|letter| letter.to_string().repeat(200_000) + "\n").collect();
    broker.run(&["produce", "t", "--batch", "512KiB"], input.as_bytes()).expect_success();
    let read = broker.run(&["consume", "t", "--exit-at-end"], b"").expect_success();
    assert_eq!(read.len(), input.len());
    assert!(read == input, "the same bytes in the same order");
}
