//! Kills the broker with SIGKILL under load and in its recovery, again and again, on one data
//! directory. After each restart every acknowledged durable record is there, once, in order and
//! with its bytes; what was in doubt is there at most once; nothing else is there; and what was
//! seen never changes.

use std::path::Path;
use std::time::Duration;

use super::ledger::Ledger;
use super::load::{Killed, produce_until};
use super::{PARTITIONS, TOPIC, create_topic, start, stop};
use crate::broker::Broker;

/// Goes through so many cycles in an empty directory, numbered from `first`: each has another
/// moment of death. Gives the number of records that survived all of them.
///
/// # Panics
/// If a record did not.
pub fn survive(dir: &Path, first: u64, cycles: u64, flags: &[&str]) -> u64 {
    let mut broker = start(dir, flags);
    create_topic(&broker, &[]);
    let mut ledger = Ledger::new(PARTITIONS);
    for cycle in first..first + cycles {
        // Odd amounts, so that the kill hits another moment of journal and segments each time.
        let acked = 1 + cycle * 137 % 1500;
        let Killed = produce_until(acked, broker, &mut ledger);
        // Recovery is cut off, too: in most cycles, before, in or behind one of its steps.
        for cut in 0..cycle % 3 {
            let after = Duration::from_millis(3 + (cycle * 7 + cut * 19) % 60);
            Broker::kill_at_start(dir, flags, after);
        }
        broker = start(dir, flags);
        ledger.check_all(broker.address(), TOPIC);
    }
    let totals = ledger.totals();
    assert!(totals.settled > cycles * 100, "there was load: {totals:?}");
    stop(broker);
    let broker = start(dir, flags);
    ledger.check_all(broker.address(), TOPIC);
    totals.settled
}
