//! Crowds of clients that are no use to anybody, for those who measure or check what everyone
//! else notices of them.

use client::{ConnectOptions, Connection, Producer, ProducerOptions, Record};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use wire::{Kind, fetch};

use crate::raw::{self, Raw};

/// What a connection may cost the broker at most, in bytes.
pub const CONNECTION_BYTES_MAX: u64 = 16 * 1024;
/// The program itself, and the 5 % that are allowed beside `--memory-bytes`.
pub const PROGRAM_BYTES: u64 = 24 << 20;

/// The largest resident set of a process so far, in bytes.
///
/// # Panics
/// If it does not run.
pub fn rss_bytes_max(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib * 1024
}

/// This process may open as many files as it is ever allowed to.
///
/// # Panics
/// If the kernel does not allow what it said it would.
pub fn allow_many_files() {
    let limits = getrlimit(Resource::Nofile);
    let enough = Rlimit { current: limits.maximum, maximum: limits.maximum };
    setrlimit(Resource::Nofile, enough).expect("up to its maximum");
}

/// What the broker has counted under this name.
///
/// # Panics
/// If it does not answer.
pub fn counted(connection: &mut Connection, name: &str) -> u64 {
    let rows = connection.stats().expect("it is answered");
    rows.into_iter().find(|(other, _)| other == name).expect("a counter").1
}

/// Produces so many bytes to a topic, in long records.
///
/// # Panics
/// If not all of it is acknowledged.
pub fn fill(address: &str, topic: &str, bytes: u64) {
    let value = vec![b'x'; 200_000];
    let options = ProducerOptions { batch_bytes: 512 * 1024, ..ProducerOptions::default() };
    let connect = ConnectOptions::default();
    let mut producer = Producer::connect(address, topic, &connect, options).expect("it serves");
    for _ in 0..bytes / 200_000 {
        producer.send(&Record::value(&value)).expect("it is taken");
    }
    assert!(producer.flush().expect("it is answered").all_well());
}

/// A request for 1 MiB of a topic's first partition.
pub fn fetch_from_the_beginning(topic_id: wire::TopicId) -> Vec<u8> {
    let (head, entry) = raw::fetch_one(topic_id, 0, 0, 1 << 20);
    let mut body = Vec::new();
    fetch::Request { head: &head, entries: &[entry] }.encode(&mut body);
    raw::request(Kind::Fetch, 1, &body)
}

/// Consumers that ask for this topic until the broker takes no more requests, and read nothing.
pub fn stalled_consumers(address: &str, topic_id: wire::TopicId, count: u64) -> Vec<Raw> {
    let requests = fetch_from_the_beginning(topic_id).repeat(20);
    let stalled = |_| {
        let mut consumer = Raw::greeted(address);
        consumer.send_until_full(&requests, requests.len());
        consumer
    };
    (0..count).map(stalled).collect()
}

/// The visitor of this number: some say nothing, some only hello, some half a request, and some
/// do not wait for their answer.
pub fn visit(address: &str, topic_id: wire::TopicId, visitor: u64) {
    match visitor % 4 {
        0 => drop(Raw::connect(address)),
        1 => Raw::connect(address).send(&raw::hello()),
        2 => Raw::greeted(address).send(&fetch_from_the_beginning(topic_id)[..40]),
        _ => Raw::greeted(address).send(&raw::request(Kind::Ping, 1, &[])),
    }
}

/// A connection to a broker that serves.
///
/// # Panics
/// If it does not.
pub fn bystander(address: &str) -> Connection {
    Connection::connect(address, &ConnectOptions::default()).expect("it serves")
}
