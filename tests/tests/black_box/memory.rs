//! The memory bound holds, whatever clients do: many connections, data beyond the cache, and
//! readers that ask and never read.

use client::{ConnectOptions, Connection, Producer, ProducerOptions, Record};
use pelton_tests::broker::Broker;
use pelton_tests::raw::{self, Raw};
use tempfile::tempdir;
use wire::{Kind, fetch};

pub const MIB: u64 = 1 << 20;
pub const MEMORY_BYTES: u64 = 64 * MIB;
/// Below the limit of open files that shells usually give.
const CONNECTIONS: u64 = 800;
/// What a connection may cost at most.
pub const CONNECTION_BYTES_MAX: u64 = 16 * 1024;
/// The program itself, and the 5 % that are allowed beside the bound.
pub const PROGRAM_BYTES: u64 = 24 * MIB;
/// What glommio registers for file buffers.
const GLOMMIO_BYTES: u64 = 8 * MIB;

/// The largest resident set so far.
pub fn rss_bytes_max(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib * 1024
}

/// Twice the memory, so that caches are full.
pub fn fill(address: &str) {
    let value = vec![b'x'; 200_000];
    let options = ProducerOptions { batch_bytes: 512 * 1024, ..ProducerOptions::default() };
    let connect = ConnectOptions::default();
    let mut producer = Producer::connect(address, "t", &connect, options).expect("it serves");
    for _ in 0..2 * MEMORY_BYTES / 200_000 {
        producer.send(&Record::value(&value)).expect("it is taken");
    }
    assert!(producer.flush().expect("it is answered").all_well());
}

pub fn fetch_from_the_beginning(topic_id: wire::TopicId) -> Vec<u8> {
    let head = fetch::RequestHead {
        max_wait_ms: 0.into(),
        min_bytes: 1.into(),
        max_bytes: (1 << 20).into(),
        isolation: 0,
        flags: 0,
        partition_count: 1.into(),
    };
    let entry = fetch::RequestEntry {
        topic_id,
        partition: 0.into(),
        leader_epoch: u32::MAX.into(),
        offset: 0.into(),
        partition_max_bytes: (1 << 20).into(),
        reserved: 0.into(),
    };
    let mut body = Vec::new();
    fetch::Request { head: &head, entries: &[entry] }.encode(&mut body);
    raw::request(Kind::Fetch, 1, &body)
}

#[test]
fn memory_stays_within_its_bound() {
    stays_within(MEMORY_BYTES + PROGRAM_BYTES, &[]);
}

#[test]
fn glommio_adds_its_own_buffers_only() {
    stays_within(MEMORY_BYTES + PROGRAM_BYTES + GLOMMIO_BYTES, &["--io=glommio"]);
}

fn stays_within(bound: u64, flags: &[&str]) {
    let dir = tempdir().expect("a folder");
    let broker = Broker::try_start(dir.path(), flags).expect("it starts");
    let mut connection =
        Connection::connect(broker.address(), &ConnectOptions::default()).expect("it serves");
    let settings = client::topic_settings(1);
    let topic_id = connection.create_topic("t", &settings).expect("a new topic");
    fill(broker.address());

    let mut crowd: Vec<Raw> = (0..CONNECTIONS).map(|_| Raw::greeted(broker.address())).collect();
    let requests = fetch_from_the_beginning(topic_id).repeat(100);
    for stalled in &mut crowd[..50] {
        stalled.send_until_full(&requests, requests.len());
    }
    // Work goes on beside them, and has filled what memory there is by then.
    fill(broker.address());
    connection.ping().expect("everyone else is served");

    let bound = bound + CONNECTIONS * CONNECTION_BYTES_MAX;
    let used = rss_bytes_max(broker.pid());
    assert!(used <= bound, "{} MiB are above the bound of {} MiB", used / MIB, bound / MIB);
}
