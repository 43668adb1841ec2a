//! Real processes on real files: killed at will, out of power or space, and with flipped bits.
//! Every record is a number whose bytes follow from it; the ledger knows which must be there.

pub mod cuts;
pub mod flips;
pub mod full;
pub mod kill;
pub mod ledger;
pub mod load;
pub mod read_only;
pub mod reading;
pub mod stalled;
mod volume;

use std::path::Path;

use crate::broker::Broker;

pub use volume::FileSystem;

/// The topic that all is about.
pub const TOPIC: &str = "crash";
/// Its partitions.
pub const PARTITIONS: u32 = 3;

/// Serves a data directory that it must be able to serve.
fn start(dir: &Path, flags: &[&str]) -> Broker {
    match Broker::try_start(dir, flags) {
        Ok(broker) => broker,
        Err(ended) => panic!("no broker (exit {:?}): {}", ended.code, ended.stderr),
    }
}

fn create_topic(broker: &Broker, flags: &[&str]) {
    let partitions = PARTITIONS.to_string();
    let create = ["topic", "create", TOPIC, "--partitions", &partitions];
    broker.run(&[&create, flags].concat(), b"").expect_success();
}

/// Stops a broker in good order.
fn stop(broker: Broker) {
    let ended = broker.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}
