//! The memory bound holds, whatever clients do: many connections, data beyond the cache, and
//! readers that ask and never read.

use pelton_tests::broker::Broker;
use pelton_tests::crowd::{
    CONNECTION_BYTES_MAX, PROGRAM_BYTES, bystander, fetch_from_the_beginning, fill, rss_bytes_max,
};
use pelton_tests::raw::Raw;
use tempfile::tempdir;

pub const MIB: u64 = 1 << 20;
pub const MEMORY_BYTES: u64 = 64 * MIB;
/// Below the limit of open files that shells usually give.
const CONNECTIONS: u64 = 800;
/// What glommio registers for file buffers.
const GLOMMIO_BYTES: u64 = 8 * MIB;

/// Twice the memory, so that caches are full.
pub const FILL_BYTES: u64 = 2 * MEMORY_BYTES;

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
    let mut connection = bystander(broker.address());
    let settings = client::topic_settings(1);
    let topic_id = connection.create_topic("t", &settings).expect("a new topic");
    fill(broker.address(), "t", FILL_BYTES);

    let mut crowd: Vec<Raw> = (0..CONNECTIONS).map(|_| Raw::greeted(broker.address())).collect();
    let requests = fetch_from_the_beginning(topic_id).repeat(100);
    for stalled in &mut crowd[..50] {
        stalled.send_until_full(&requests, requests.len());
    }
    // Work goes on beside them, and has filled what memory there is by then.
    fill(broker.address(), "t", FILL_BYTES);
    connection.ping().expect("everyone else is served");

    let bound = bound + CONNECTIONS * CONNECTION_BYTES_MAX;
    let used = rss_bytes_max(broker.pid());
    assert!(used <= bound, "{} MiB are above the bound of {} MiB", used / MIB, bound / MIB);
}
