//! File systems that are not what they should be, and files that change behind the broker's back:
//! a sentence, an error for the records concerned, and no effect on anything else.

use std::path::{Path, PathBuf};

use pelton_tests::broker::Broker;
use pelton_tests::program::Finished;
use tempfile::{TempDir, tempdir};

/// Long enough that a partition has several segments of 4 MiB.
const RECORDS: usize = 12_000;

fn line(topic: &str, number: usize) -> String {
    format!("{topic} {number:06} {}", "x".repeat(1000))
}

/// Two topics of several segments, served by a broker that has none of it in memory.
fn served() -> (Broker, TempDir) {
    let dir = tempdir().expect("a folder");
    let broker = Broker::start(dir.path());
    for topic in ["harmed", "beside"] {
        broker.run(&["topic", "create", topic], b"").expect_success();
        let input: String = (0..RECORDS).map(|number| line(topic, number) + "\n").collect();
        broker.run(&["produce", topic], input.as_bytes()).expect_success();
    }
    assert_eq!(broker.stop().code, Some(0));
    (Broker::start(dir.path()), dir)
}

/// Segments of the topic, oldest first.
fn segments(broker: &Broker, dir: &Path, topic: &str) -> Vec<PathBuf> {
    let described = broker.run(&["topic", "describe", topic, "--format=json"], b"");
    let described: serde_json::Value =
        serde_json::from_str(&described.expect_success()).expect("JSON");
    let id = described["topic_id"].as_str().expect("an id");
    let folder = dir.join("streams").join(id).join("0");
    let entries = std::fs::read_dir(folder).expect("it has segments").flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    found.sort();
    assert!(found.len() >= 3, "{found:?}");
    found
}

fn consume(broker: &Broker, topic: &str, from: &str) -> Finished {
    let args = ["consume", topic, "--from", from, "--exit-at-end", "-f", r"%o %v\n"];
    broker.run(&args, b"")
}

/// What was printed are whole records, each under its own offset. Gives the offsets.
#[track_caller]
fn offsets(topic: &str, finished: &Finished) -> Vec<usize> {
    let read = |printed: &str| {
        let (offset, value) = printed.split_once(' ').expect("two parts");
        let offset = offset.parse().expect("a number");
        assert!(value == line(topic, offset), "no wrong bytes at {offset}");
        offset
    };
    finished.stdout.lines().map(read).collect()
}

/// Everything else goes on: the other topic can be read, and both can be written to.
#[track_caller]
fn assert_unharmed(broker: &Broker) {
    let beside = consume(broker, "beside", "beginning");
    assert_eq!(beside.code, Some(0), "{}", beside.stderr);
    assert_eq!(offsets("beside", &beside).len(), RECORDS);
    for topic in ["harmed", "other"] {
        let input = line(topic, RECORDS) + "\n";
        let _ = broker.run(&["topic", "create", "other"], b"");
        broker.run(&["produce", topic], input.as_bytes()).expect_success();
    }
    let newest = consume(broker, "harmed", &RECORDS.to_string());
    assert_eq!(offsets("harmed", &newest), [RECORDS], "{}", newest.stderr);
    let log = broker.log();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn a_segment_that_is_removed_while_it_is_open_stays_readable() {
    let (broker, dir) = served();
    let oldest = segments(&broker, dir.path(), "harmed").remove(0);
    let before = consume(&broker, "harmed", "beginning");
    assert_eq!(offsets("harmed", &before).len(), RECORDS);
    std::fs::remove_file(oldest).expect("it is there");
    let after = consume(&broker, "harmed", "beginning");
    assert_eq!(offsets("harmed", &after).len(), RECORDS, "{}", after.stderr);
    assert_unharmed(&broker);
}

#[test]
fn a_segment_that_is_missing_fails_its_own_offsets_only() {
    let (broker, dir) = served();
    let gone = segments(&broker, dir.path(), "harmed").remove(1);
    std::fs::remove_file(&gone).expect("it is there");
    let front = consume(&broker, "harmed", "beginning");
    assert_eq!(front.code, Some(1), "{}", front.stderr);
    let read = offsets("harmed", &front);
    let first_lost = read.len();
    assert!((1..RECORDS).contains(&first_lost), "{first_lost}");
    assert!(read.into_iter().eq(0..first_lost), "the front is served");
    assert!(front.stderr.contains("data_corrupt"), "{}", front.stderr);
    // What lies behind it is served as well.
    let back = offsets("harmed", &consume(&broker, "harmed", &(RECORDS - 1).to_string()));
    assert_eq!(back, [RECORDS - 1]);
    let name = gone.file_name().expect("a file").to_str().expect("text");
    assert!(broker.log().contains(name), "the log names it: {}", broker.log());
    assert_unharmed(&broker);
}

#[test]
fn what_a_flipped_bit_spoils_is_skipped_if_that_is_wanted_and_counted() {
    let (broker, dir) = served();
    let harmed = segments(&broker, dir.path(), "harmed").remove(1);
    assert_eq!(broker.stop().code, Some(0));
    let mut bytes = std::fs::read(&harmed).expect("a segment");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&harmed, bytes).expect("writable");
    let broker = Broker::start(dir.path());
    let refused = consume(&broker, "harmed", "beginning");
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("data_corrupt"), "{}", refused.stderr);
    let args = ["consume", "harmed", "--skip-damaged", "--exit-at-end", "-f", r"%o %v\n"];
    let skipping = broker.run(&args, b"");
    assert_eq!(skipping.code, Some(0), "{}", skipping.stderr);
    let read = offsets("harmed", &skipping);
    let lost = RECORDS - read.len();
    assert!((1..RECORDS / 4).contains(&lost), "{lost}");
    assert!(read.is_sorted() && read.last() == Some(&(RECORDS - 1)));
    let told = format!("{lost} offsets are damaged and were skipped, in all");
    assert!(skipping.stderr.contains(&told), "{lost}: {}", skipping.stderr);
    assert_unharmed(&broker);
}

#[test]
fn a_segment_that_is_cut_short_while_serving_fails_what_was_cut_only() {
    for reads_before in ["none", "all"] {
        let (broker, dir) = served();
        let paths = segments(&broker, dir.path(), "harmed");
        if reads_before == "all" {
            assert_eq!(offsets("harmed", &consume(&broker, "harmed", "beginning")).len(), RECORDS);
        }
        let file = std::fs::OpenOptions::new().write(true).open(&paths[1]).expect("it is there");
        file.set_len(2 * 1024 * 1024 + 1000).expect("it is cut");
        let front = consume(&broker, "harmed", "beginning");
        let read = offsets("harmed", &front);
        assert!(read.iter().copied().eq(0..read.len()), "the front is served");
        // What lies in memory may still be served.
        assert!(front.code == Some(1) || read.len() == RECORDS, "{:?}", front.code);
        if reads_before == "none" {
            assert!((1..RECORDS).contains(&read.len()), "{}", read.len());
            assert!(front.stderr.contains("data_corrupt"), "{}", front.stderr);
        }
        let back = offsets("harmed", &consume(&broker, "harmed", &(RECORDS - 1).to_string()));
        assert_eq!(back, [RECORDS - 1]);
        assert_unharmed(&broker);
    }
}

#[test]
fn memory_is_refused_as_a_place_for_data() {
    let shm = Path::new("/dev/shm");
    let Ok(dir) = tempfile::tempdir_in(shm) else { return };
    let is_memory = rustix::fs::statfs(shm).is_ok_and(|found| found.f_type == 0x0102_1994);
    if is_memory {
        let refused = Broker::try_start(dir.path(), &[]).expect_err("nothing is durable there");
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
        assert!(refused.stderr.contains("tmpfs"), "{}", refused.stderr);
    }
}

/// Root is exempt from the limit; everyone else gets shorter queues and unregistered buffers.
#[test]
fn little_locked_memory_is_enough() {
    let dir = tempdir().expect("a folder");
    match Broker::try_start_limited(dir.path(), "-l 64") {
        Ok(broker) => {
            broker.run(&["topic", "create", "t"], b"").expect_success();
            broker.run(&["produce", "t"], b"a\n").expect_success();
        }
        Err(refused) => panic!("exit {:?}: {}", refused.code, refused.stderr),
    }
}
