//! Dead letters that go to a partition of a topic, on whatever shard that is: each batch is
//! durable there before its messages are gone here. If the broker dies between the two they come
//! again, so a dead letter is there at least once.

use wire::batch::BatchBuilder;
use wire::limits::DEAD_LETTER_BYTES_MAX;
use wire::queue::{Message, Messages, QueueId, Reason};
use wire::{Acks, ErrorCode};

use super::journal::{Origin, Passage, rewrite};
use super::load::Hand;
use super::pump::{MOVES_PER_TURN, NS_PER_MS};
use super::queues::DELIVER_BYTES_MAX;
use crate::port::{Level, Notice, Now, OpBatch, Time};
use crate::request::{Purpose, RoutePart, put_record};
use crate::shard::Shard;
use crate::units::u32_of;

/// How long dead letters wait after they could not be taken.
const RETRY_NS: u64 = 500 * NS_PER_MS;

/// Dead letters on their way to a partition.
#[derive(Debug, Default)]
pub struct Ferry {
    /// Their numbers and lengths; none while it waits to try again.
    aboard: Vec<(u64, u32)>,
    /// When to try again.
    pub due: Option<Time>,
}

impl Shard {
    /// Sends messages that are dying to the partition that the queue names.
    pub(super) fn ferry_dying(&mut self, slot: u32, now: Now, batch: &mut OpBatch) {
        let queue = self.queues.queue(slot);
        if let Some(ferry) = &queue.ferry
            && ferry.due.is_none_or(|due| due > now.time)
        {
            return;
        }
        queue.ferry = None;
        let wall_ms = self.queues.wall_ms;
        let mut records = BatchBuilder::with_capacity(4096);
        let mut aboard = Vec::new();
        let (mut next, mut left) = (0, MOVES_PER_TURN);
        while left > 0 && records.len() < DELIVER_BYTES_MAX {
            let Some((at, reason)) = self.queues.queue(slot).state.next_dying(next) else { break };
            match self.bring(slot, at, batch) {
                Hand::Here => {}
                Hand::Unreadable => continue,
                Hand::Later => break,
            }
            let mut letter = std::mem::take(&mut self.queues.bytes);
            let queue = self.queues.queue(slot);
            let deliveries = queue.state.delivered(at);
            let origin = Origin { queue: queue.id, at, deliveries };
            let bytes = queue.window.message(at).expect("just brought");
            let size = u32_of(bytes.len());
            rewrite(bytes, &origin, Passage::Death(reason), wall_ms, &mut letter);
            if aboard.is_empty() || records.len() + letter.len() <= DELIVER_BYTES_MAX {
                put_letter(&mut records, &letter, reason, wall_ms);
                aboard.push((at, size));
                left -= 1;
            } else {
                left = 0;
            }
            self.queues.bytes = letter;
            next = at + 1;
        }
        if aboard.is_empty() {
            return;
        }
        let queue = self.queues.queue(slot);
        let id = queue.id;
        let settings = &queue.state.settings;
        let place = (settings.dead_letter, settings.dead_letter_partition.get());
        queue.ferry = Some(Box::new(Ferry { aboard, due: None }));
        let purpose = Purpose::Ferry(id);
        self.produce_inside(now.time, place, records.finish(), Acks::Durable, purpose);
    }

    /// Dead letters are durable in their partition, or are not.
    pub(crate) fn ferry_landed(
        &mut self,
        now: Time,
        queue: &QueueId,
        outcome: Result<u64, ErrorCode>,
    ) {
        let Some(slot) = self.queues.slot(queue) else { return };
        let queue = self.queues.queue(slot);
        let Some(ferry) = queue.ferry.take() else { return };
        match outcome {
            Ok(_) => {
                for (at, size) in ferry.aboard {
                    queue.state.ferry_over(at, size, &mut queue.changes);
                }
            }
            Err(ErrorCode::UnknownTopic | ErrorCode::UnknownPartition) => {
                let count = ferry.aboard.len();
                for (at, _) in ferry.aboard {
                    queue.state.drop_dying(at, &mut queue.changes);
                }
                let text = format!(
                    "{count} dead letters of queue {:032x} are dropped: the topic that they go to \
                     is gone",
                    u128::from_be_bytes(queue.id)
                );
                self.notices.push(Notice { level: Level::Warn, conn: None, text });
            }
            Err(_) => {
                let due = Some(now.max(self.queues.now).plus_ns(RETRY_NS));
                let ferry = Ferry { aboard: Vec::new(), due };
                self.queues.queue(slot).ferry = Some(Box::new(ferry));
            }
        }
        self.queues.touch(slot);
    }
}

impl Shard {
    /// Sends messages for which a queue has no room to the partition that it names, all at once:
    /// who published them waits for it.
    pub(crate) fn ferry_refused(
        &mut self,
        now: Time,
        slot: u32,
        messages: &[u8],
        (part, row): (RoutePart, usize),
    ) {
        let wall_ms = self.queues.wall_ms;
        let mut letter = std::mem::take(&mut self.queues.bytes);
        let source = self.queues.queue(slot);
        let (id, settings) = (source.id, source.state.settings);
        let origin = Origin { queue: id, at: source.state.next(), deliveries: 0 };
        let place = (settings.dead_letter, settings.dead_letter_partition.get());
        let mut records = BatchBuilder::with_capacity(4096);
        let mut rest = messages;
        while !rest.is_empty() {
            let (message, behind) = Message::split(rest).expect("checked before");
            let passage = Passage::Death(Reason::Overflow);
            rewrite(message.bytes, &origin, passage, wall_ms, &mut letter);
            put_letter(&mut records, &letter, Reason::Overflow, wall_ms);
            rest = behind;
            let next = Messages::new(rest).next().and_then(Result::ok);
            let next = next.map_or(usize::MAX, |next| next.bytes.len() + DEAD_LETTER_BYTES_MAX);
            if records.len().saturating_add(next) > DELIVER_BYTES_MAX {
                let count = records.record_count();
                let purpose = Purpose::Refused { queue: id, count, part, row };
                self.route_waits(part);
                self.produce_inside(now, place, records.finish(), Acks::Durable, purpose);
                records.clear();
            }
        }
        self.queues.bytes = letter;
    }

    /// Messages for which a queue had no room are durable in their partition, or are not.
    pub(crate) fn refused_landed(
        &mut self,
        queue: &QueueId,
        count: u32,
        outcome: Result<u64, ErrorCode>,
        (part, row): (RoutePart, usize),
    ) {
        let slot = self.queues.slot(queue);
        let tally = slot.map(|slot| &mut self.queues.queue(slot).state.tally);
        match outcome {
            Ok(_) => {
                if let Some(tally) = tally {
                    tally.dead_lettered += u64::from(count);
                }
            }
            // There is no place for them any more.
            Err(ErrorCode::UnknownTopic | ErrorCode::UnknownPartition) => {
                if let Some(tally) = tally {
                    tally.dropped += u64::from(count);
                }
            }
            Err(code) => self.route_row(part, row, Err(code)),
        }
    }
}

/// Appends the record that a dead letter becomes.
fn put_letter(records: &mut BatchBuilder, letter: &[u8], reason: Reason, wall_ms: u64) {
    let (message, _) = Message::split(letter).expect("just made");
    let note = message.death.expect("just made");
    let origin = format!("{:032x}", u128::from_be_bytes(note.origin));
    let numbers = [
        note.origin_sequence.get(),
        note.deaths.get().into(),
        note.deliveries.get().into(),
        note.died_ms.get(),
        note.first_published_ms.get(),
    ];
    let [sequence, deaths, deliveries, died_ms, published_ms] =
        numbers.map(|number| number.to_string());
    let headers: [(&[u8], Option<&[u8]>); 7] = [
        (b"pelton.death.reason", Some(reason.name().as_bytes())),
        (b"pelton.death.origin", Some(origin.as_bytes())),
        (b"pelton.death.origin_sequence", Some(sequence.as_bytes())),
        (b"pelton.death.deaths", Some(deaths.as_bytes())),
        (b"pelton.death.deliveries", Some(deliveries.as_bytes())),
        (b"pelton.death.died_ms", Some(died_ms.as_bytes())),
        (b"pelton.death.first_published_ms", Some(published_ms.as_bytes())),
    ];
    put_record(records, &message, wall_ms, &headers);
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::limits::{BATCH_BYTES_MAX, MESSAGE_BYTES_MAX};
    use wire::queue::put_message;

    #[test]
    fn every_message_fits_a_batch_with_the_longest_story_of_its_death() {
        let properties = vec![b'p'; usize::from(u16::MAX)];
        let mut message = Vec::new();
        put_message(
            &mut message,
            0,
            0,
            &properties,
            &vec![0; MESSAGE_BYTES_MAX - properties.len()],
        );
        let origin = Origin { queue: [0xff; 16], at: u64::MAX, deliveries: u32::MAX };
        for reason in Reason::ALL {
            let passage = Passage::Death(reason);
            let before = message.clone();
            rewrite(&before, &origin, passage, u64::MAX, &mut message);
            let mut records = BatchBuilder::with_capacity(0);
            put_letter(&mut records, &message, reason, u64::MAX);
            let len = records.finish().len();
            assert!((MESSAGE_BYTES_MAX..=BATCH_BYTES_MAX).contains(&len), "{len}");
        }
    }
}
