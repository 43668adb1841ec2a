//! What is in queues when all is over: looked at, and left there.

use std::time::{Duration, Instant};

use super::super::RunError;
use super::super::site::Site;
use super::task::Place;
use crate::integrity::queue::QueueLedger;
use crate::payload;

/// Messages of one look.
const LOOK_MESSAGES: u32 = 1_000;
/// What consumers had returns to the queue within this time after they have left.
const RETURN_WAIT_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

/// Notes all messages of `run` that are in the queues. Gives how many there are.
pub(super) fn look(
    site: &mut Site,
    places: &[Place],
    run: u32,
    ledger: &QueueLedger,
) -> Result<u64, RunError> {
    let mut seen = 0;
    for place in places {
        await_rest(site, place)?;
        let mut from = 0;
        loop {
            let messages = site.control.peek_queue(&place.id, from, LOOK_MESSAGES)?;
            let Some(last) = messages.last() else { break };
            from = last.sequence + 1;
            for message in &messages {
                match payload::verify(&message.body) {
                    Ok(header) if header.run == run => ledger.kept(header.sequence),
                    // Somebody else's.
                    Ok(_) => continue,
                    Err(_) => ledger.corrupt(),
                }
                seen += 1;
            }
        }
    }
    Ok(seen)
}

/// Waits until every message of a queue can be looked at.
fn await_rest(site: &mut Site, place: &Place) -> Result<(), RunError> {
    let until = Instant::now() + RETURN_WAIT_MAX;
    loop {
        let counts = site.control.describe_queue(&place.name)?.counts;
        let away = counts.leased.get() + counts.dying.get();
        if away == 0 {
            return Ok(());
        }
        if Instant::now() >= until {
            let name = &place.name;
            return Err(RunError::Setup(format!(
                "{away} messages of queue {name} are with consumers: nobody may consume from it \
                 while it is looked into"
            )));
        }
        std::thread::sleep(POLL);
    }
}
