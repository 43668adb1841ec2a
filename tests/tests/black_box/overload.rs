//! Crowds: connections that come and go, and consumers that ask and never read. Nobody else
//! notices, and memory stays within its bound.

use client::{ConnectOptions, Connection};
use pelton_tests::broker::Broker;
use pelton_tests::raw::{self, Raw};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::tempdir;
use wire::Kind;

use crate::memory::{
    CONNECTION_BYTES_MAX, MEMORY_BYTES, MIB, PROGRAM_BYTES, fetch_from_the_beginning, fill,
    rss_bytes_max,
};

const VISITORS: u64 = 10_000;
const STALLED: u64 = 1_000;

/// What the broker has counted under this name.
fn counted(connection: &mut Connection, name: &str) -> u64 {
    let rows = connection.stats().expect("it is answered");
    rows.into_iter().find(|(other, _)| other == name).expect("a counter").1
}

#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    let dir = tempdir().expect("a folder");
    let broker = Broker::start(dir.path());
    let mut bystander =
        Connection::connect(broker.address(), &ConnectOptions::default()).expect("it serves");
    let topic_id = bystander.create_topic("t", &client::topic_settings(1)).expect("a new topic");
    let half_a_frame = &fetch_from_the_beginning(topic_id)[..40];
    for visitor in 0..VISITORS {
        match visitor % 4 {
            0 => drop(Raw::connect(broker.address())),
            1 => Raw::connect(broker.address()).send(&raw::hello()),
            2 => Raw::greeted(broker.address()).send(half_a_frame),
            _ => Raw::greeted(broker.address()).send(&raw::request(Kind::Ping, 1, &[])),
        }
    }
    // The last of them are still on their way out.
    while counted(&mut bystander, "connections_open") > 1 {}
    assert_eq!(counted(&mut bystander, "connections_accepted"), VISITORS + 1);
    let used = rss_bytes_max(broker.pid());
    let bound = MEMORY_BYTES + PROGRAM_BYTES;
    assert!(used <= bound, "{} MiB are above the bound of {} MiB", used / MIB, bound / MIB);
}

#[test]
fn a_thousand_consumers_that_never_read_stop_nobody() {
    let limits = getrlimit(Resource::Nofile);
    let enough = Rlimit { current: limits.maximum, maximum: limits.maximum };
    setrlimit(Resource::Nofile, enough).expect("up to its maximum");
    let dir = tempdir().expect("a folder");
    let broker = Broker::start(dir.path());
    let mut bystander =
        Connection::connect(broker.address(), &ConnectOptions::default()).expect("it serves");
    let topic_id = bystander.create_topic("t", &client::topic_settings(1)).expect("a new topic");
    fill(broker.address());
    let requests = fetch_from_the_beginning(topic_id).repeat(20);
    let stalled = (0..STALLED).map(|_| {
        let mut consumer = Raw::greeted(broker.address());
        consumer.send_until_full(&requests, requests.len());
        consumer
    });
    let _stalled: Vec<Raw> = stalled.collect();
    // Every record is acknowledged beside them.
    fill(broker.address());
    bystander.ping().expect("everyone else is served");
    let used = rss_bytes_max(broker.pid());
    let bound = MEMORY_BYTES + PROGRAM_BYTES + STALLED * CONNECTION_BYTES_MAX;
    assert!(used <= bound, "{} MiB are above the bound of {} MiB", used / MIB, bound / MIB);
}
