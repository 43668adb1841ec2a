//! Kills the broker with SIGKILL under load and in its recovery, again and again, on one data
//! directory. After each restart every acknowledged durable record is there, once, in order and
//! with its bytes; what was in doubt is there at most once; nothing else is there; and what was
//! seen never changes.

mod ledger;
mod load;

use std::path::Path;
use std::time::Duration;

use ledger::Ledger;
use load::{Killed, produce_until};
use pelton_tests::broker::Broker;
use tempfile::tempdir;

const CYCLES: u64 = 20;
const CYCLES_GLOMMIO: u64 = 3;
const TOPIC: &str = "crash";
const PARTITIONS: u32 = 3;

#[test]
fn acknowledged_records_survive_every_kill() {
    survive(CYCLES, &[]);
}

#[test]
fn they_survive_on_glommio_too() {
    survive(CYCLES_GLOMMIO, &["--io=glommio"]);
}

fn survive(cycles: u64, flags: &[&str]) {
    let start = |dir: &Path| Broker::try_start(dir, flags).expect("it starts");
    let dir = tempdir().expect("a folder");
    let mut broker = start(dir.path());
    let partitions = PARTITIONS.to_string();
    broker.run(&["topic", "create", TOPIC, "--partitions", &partitions], b"").expect_success();
    let mut ledger = Ledger::new(PARTITIONS);
    for cycle in 0..cycles {
        // Odd amounts, so that the kill hits another moment of journal and segments each time.
        let acked = 1 + cycle * 137 % 1500;
        let Killed = produce_until(acked, broker, &mut ledger);
        // Recovery is cut off, too: in most cycles, before, in or behind one of its steps.
        for cut in 0..cycle % 3 {
            let after = Duration::from_millis(3 + (cycle * 7 + cut * 19) % 60);
            Broker::kill_at_start(dir.path(), flags, after);
        }
        broker = start(dir.path());
        ledger.check_all(broker.address(), TOPIC);
    }
    let totals = ledger.totals();
    assert!(totals.settled > cycles * 100, "there was load: {totals:?}");
    let finished = broker.stop();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let broker = start(dir.path());
    ledger.check_all(broker.address(), TOPIC);
}
