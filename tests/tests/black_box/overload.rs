//! Crowds: connections that come and go, and consumers that ask and never read. Nobody else
//! notices, and memory stays within its bound.

use pelton_tests::broker::Broker;
use pelton_tests::crowd::{
    CONNECTION_BYTES_MAX, PROGRAM_BYTES, allow_many_files, bystander, counted, fill, rss_bytes_max,
    stalled_consumers, visit,
};
use tempfile::tempdir;

use crate::memory::{FILL_BYTES, MEMORY_BYTES, MIB};

const VISITORS: u64 = 10_000;
const STALLED: u64 = 1_000;

#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    let dir = tempdir().expect("a folder");
    let broker = Broker::start(dir.path());
    let mut bystander = bystander(broker.address());
    let topic_id = bystander.create_topic("t", &client::topic_settings(1)).expect("a new topic");
    (0..VISITORS).for_each(|visitor| visit(broker.address(), topic_id, visitor));
    // The last of them are still on their way out.
    while counted(&mut bystander, "connections_open") > 1 {}
    assert_eq!(counted(&mut bystander, "connections_accepted"), VISITORS + 1);
    let used = rss_bytes_max(broker.pid());
    let bound = MEMORY_BYTES + PROGRAM_BYTES;
    assert!(used <= bound, "{} MiB are above the bound of {} MiB", used / MIB, bound / MIB);
}

#[test]
fn a_thousand_consumers_that_never_read_stop_nobody() {
    allow_many_files();
    let dir = tempdir().expect("a folder");
    let broker = Broker::start(dir.path());
    let mut bystander = bystander(broker.address());
    let topic_id = bystander.create_topic("t", &client::topic_settings(1)).expect("a new topic");
    fill(broker.address(), "t", FILL_BYTES);
    let _stalled = stalled_consumers(broker.address(), topic_id, STALLED);
    // Every record is acknowledged beside them.
    fill(broker.address(), "t", FILL_BYTES);
    bystander.ping().expect("everyone else is served");
    let used = rss_bytes_max(broker.pid());
    let bound = MEMORY_BYTES + PROGRAM_BYTES + STALLED * CONNECTION_BYTES_MAX;
    assert!(used <= bound, "{} MiB are above the bound of {} MiB", used / MIB, bound / MIB);
}
