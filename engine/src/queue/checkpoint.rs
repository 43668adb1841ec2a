//! What stores tell when their records become durable; checkpoints, which keep recovery short; and
//! the space of what is gone.
//!
//! A store's stream grows at its end. What lies before the newest checkpoint and before every
//! message that is still there is deleted, in whole segments. When most of what is left is dead,
//! the messages of the oldest segment are appended again, so that one stuck message keeps no
//! space behind it.

use wire::{Acks, ErrorCode, Kind};
use zerocopy::IntoBytes;

use super::load::Hand;
use super::queues::{MARK_BYTES, Pending, Queue, QueueStore};
use super::record::{
    RECORD_CLEAN, RECORD_HEAD_BYTES, RECORD_RELOCATED, RecordHead, RecordKind, StateRow, StateTag,
    put_rows,
};
use crate::log::partition::PartitionId;
use crate::port::{Now, OpBatch, Time};
use crate::request::Request;
use crate::shard::Shard;
use crate::units::u64_of;

/// Facts of one record of a checkpoint.
const FACTS_MAX: usize = 512;
/// Messages that move to the end of a store in one turn of a queue.
const MOVES_PER_TURN: u64 = 256;

/// What a checkpoint is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Recovery shall be short.
    Shorten,
    /// The broker ends: nothing comes after it.
    Goodbye,
}

impl Shard {
    /// Records of a store have become written or durable; the newest of them were submitted then.
    pub(crate) fn queue_store_advanced(&mut self, stream: PartitionId, now: Time, submitted: Time) {
        let Some(&number) = self.queues.streams.get(&stream) else { return };
        let progress = &self.store.partition(stream).progress;
        let (written, durable) = (progress.written(), progress.durable());
        while let Some(pending) = self.queues.next_pending(number, written, durable) {
            self.settle_pending(number, pending, (now, submitted));
        }
        let store = &self.queues.stores[&number];
        for slot in store.returning.iter().copied().collect::<Vec<_>>() {
            self.queues.touch(slot);
        }
    }

    fn settle_pending(&mut self, number: u32, pending: Pending, (now, submitted): (Time, Time)) {
        match pending {
            Pending::Reveal(id, to, bytes) => {
                if let Some(slot) = self.queues.slot(&id) {
                    self.queues.queue(slot).state.reveal(to, bytes);
                    self.queues.touch(slot);
                }
            }
            Pending::Published(published) => self.answer_published(&published, now, submitted),
            Pending::Routed(part) => self.route_part_done(part),
            Pending::Answer(request, kind, body) => self.answer_queue(&request, kind, &body),
            Pending::Checkpoint(begin, floor) => {
                let store = self.queues.stores.get_mut(&number).expect("just looked at");
                store.is_checkpointing = false;
                let stream = store.stream;
                self.free_store(stream, begin.min(floor));
            }
        }
    }

    /// Whole segments before `offset` go.
    fn free_store(&mut self, stream: PartitionId, offset: u64) {
        let partition = self.store.partition(stream);
        let second = partition.segments.get(1).map(|segment| segment.base_offset);
        let is_stored = second.is_some_and(|second| second <= partition.runs_stored);
        if is_stored && second.is_some_and(|second| second <= offset) {
            self.store.begin_at(stream, offset);
        }
    }

    /// Begins the checkpoints that are due.
    pub(crate) fn checkpoint_stores(&mut self, now: Now) {
        let every = self.store.settings.queue_checkpoint_bytes;
        let is_leaving = self.stopping.is_some() && self.conns.is_empty();
        let mut first = self.queues.stores.first_key_value();
        while let Some((&number, store)) = first {
            let is_due = store.taken - store.checkpoint_at >= every && !store.is_checkpointing;
            let says_goodbye = is_leaving
                && !store.is_closed
                && store.pending.is_empty()
                && self.queues.dirty.is_empty();
            if self.store.failed.is_none() && (is_due || says_goodbye) {
                let purpose = if says_goodbye { Purpose::Goodbye } else { Purpose::Shorten };
                let is_full = self.write_checkpoint(now.time, number, purpose).is_err();
                if !is_full && purpose == Purpose::Shorten {
                    self.begin_moving(number);
                }
            }
            first = self.queues.stores.range(number + 1..).next();
        }
    }

    /// Whether every store has said goodbye, as far as it can.
    pub(crate) fn has_said_goodbye(&self) -> bool {
        let failed = self.store.failed.is_some() || self.store.space.is_full;
        let is_closed = |store: &QueueStore| {
            // Nothing can be recorded in one whose end nobody knows.
            store.is_closed || self.store.partition(store.stream).damaged.is_end_unknown()
        };
        failed || self.queues.stores.values().all(is_closed)
    }

    fn write_checkpoint(
        &mut self,
        now: Time,
        number: u32,
        purpose: Purpose,
    ) -> Result<(), ErrorCode> {
        let stream = self.queues.stores[&number].stream;
        let begin = self.store.partition(stream).progress.appended();
        let mark = RecordHead::new(RecordKind::CheckpointBegin, [0; 16], 0);
        self.append_fact(now, stream, mark.as_bytes(), Acks::None)?;
        let slots: Vec<u32> = self.queues.slots.iter().map(|(slot, _)| slot).collect();
        let (mut floor, mut parts) = (begin, 0);
        for slot in slots {
            let queue = self.queues.queue(slot);
            if queue.store != number {
                continue;
            }
            if let Some(first) = queue.trim_index() {
                floor = floor.min(first);
            }
            parts += self.write_parts(now, slot, stream)?;
        }
        let mut end = RecordHead::new(RecordKind::CheckpointEnd, [0; 16], 0);
        end.first = begin.into();
        end.count = parts.into();
        end.flags = if purpose == Purpose::Goodbye { RECORD_CLEAN } else { 0 };
        let end = self.append_fact(now, stream, end.as_bytes(), Acks::Durable)?;
        self.store.counters.queue_checkpoints += 1;
        let store = self.queues.stores.get_mut(&number).expect("just looked at");
        store.is_closed = purpose == Purpose::Goodbye;
        store.checkpoint_at = store.taken;
        store.is_checkpointing = true;
        store.pending.push_back((end, Pending::Checkpoint(begin, floor)));
        Ok(())
    }

    /// Writes what a queue is. Gives how many records that were.
    fn write_parts(&mut self, now: Time, slot: u32, stream: PartitionId) -> Result<u32, ErrorCode> {
        let mut facts = std::mem::take(&mut self.queues.facts);
        facts.clear();
        let queue = self.queues.queue(slot);
        let (id, next) = (queue.id, facts_of(queue, &mut facts));
        let mut written = Ok(0);
        for some in facts.chunks(FACTS_MAX) {
            let mut bytes = std::mem::take(&mut self.queues.bytes);
            bytes.clear();
            put_rows(&mut bytes, RecordKind::CheckpointPart, &id, some, |head| {
                head.first = next.into();
            });
            let appended = self.append_fact(now, stream, &bytes, Acks::None);
            self.queues.bytes = bytes;
            written = written.and_then(|count| appended.map(|_| count + 1));
            if written.is_err() {
                break;
            }
        }
        self.queues.facts = facts;
        written
    }

    fn append_fact(
        &mut self,
        now: Time,
        stream: PartitionId,
        bytes: &[u8],
        acks: Acks,
    ) -> Result<u64, ErrorCode> {
        self.store.append_record(&mut self.pool, now, stream, &[bytes], acks)
    }

    /// If most of a store is dead, what is alive in its oldest segments moves to the end: in so
    /// many of them that half of what then stays is alive.
    fn begin_moving(&mut self, number: u32) {
        let stream = self.queues.stores[&number].stream;
        let mine = |queue: &&Queue| queue.store == number;
        let queues = self.queues.slots.iter().map(|(_, queue)| &**queue).filter(mine);
        let alive: u64 = queues.map(|queue| queue.state.bytes()).sum();
        let segments = &self.store.partition(stream).segments;
        let mut left: u64 = segments.iter().map(|segment| segment.end).sum();
        let mut boundary = None;
        for (segment, next) in segments.iter().zip(segments.iter().skip(1)) {
            if alive > left / 2 {
                break;
            }
            left = left.saturating_sub(segment.end);
            boundary = Some(next.base_offset);
        }
        let Some(boundary) = boundary else { return };
        let slots: Vec<u32> = self.queues.slots.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let queue = self.queues.queue(slot);
            if queue.store != number || !queue.moving.is_empty() {
                continue;
            }
            // Marks of a queue are in the order of its messages, not in that of their places.
            let marks: Vec<(u64, u64)> = queue.index.iter().map(|(&at, &to)| (at, to)).collect();
            let ends = marks.iter().skip(1).map(|&(at, _)| at).chain([queue.state.next()]);
            let living = queue.state.living();
            for (&(from, place), end) in marks.iter().zip(ends) {
                if place < boundary {
                    for (part, ()) in living.within(from..end) {
                        queue.moving.add(part);
                    }
                }
            }
            if !queue.moving.is_empty() {
                self.queues.touch(slot);
            }
        }
    }

    /// Appends messages again that lie where space is to be freed.
    pub(crate) fn move_to_end(&mut self, slot: u32, now: Now, batch: &mut OpBatch) {
        let mut left = MOVES_PER_TURN;
        while left > 0 {
            let queue = self.queues.queue(slot);
            let Some((range, ())) = queue.moving.first() else { return };
            if !queue.state.is_living(range.start) {
                queue.moving.remove(range.start..range.start + 1);
                continue;
            }
            match self.bring(slot, range.start, batch) {
                Hand::Here => {}
                Hand::Unreadable => continue,
                Hand::Later => return,
            }
            // What is gone meanwhile is not written again: it would be there again if nothing but
            // this were left on the disk.
            let most = range.start..range.end.min(range.start + left);
            let state = &self.queues.queue(slot).state;
            let end = most.clone().find(|&at| !state.is_living(at)).unwrap_or(most.end);
            match self.append_again(now.time, slot, most.start..end) {
                Ok(moved) => left -= moved,
                Err(_) => {
                    if self.store.failed.is_none() {
                        self.queues.again.push(slot);
                    }
                    return;
                }
            }
        }
        self.queues.touch(slot);
    }

    fn append_again(
        &mut self,
        now: Time,
        slot: u32,
        range: std::ops::Range<u64>,
    ) -> Result<u64, ErrorCode> {
        let stream = self.stream_of(slot);
        let queue = self.queues.slots.get_mut(slot).expect("it is there");
        let most = usize::try_from(MARK_BYTES).expect("small");
        let (count, bytes) = queue.window.take(range.clone(), most).expect("just brought");
        let mut head = RecordHead::new(RecordKind::Messages, queue.id, bytes.len());
        head.first = range.start.into();
        head.count = u32::try_from(count).expect("bounded by its bytes").into();
        head.flags = RECORD_RELOCATED;
        let length = u64_of(RECORD_HEAD_BYTES + bytes.len());
        let parts = [head.as_bytes(), bytes];
        let end = self.store.append_record(&mut self.pool, now, stream, &parts, Acks::None)?;
        queue.moved(range.start, count, end - 1);
        queue.moving.remove(range.start..range.start + count);
        let number = queue.store;
        self.store.counters.queue_messages_moved += count;
        let store = self.queues.stores.get_mut(&number).expect("a queue's store is there");
        store.taken += length;
        store.is_closed = false;
        Ok(count)
    }

    /// The device has failed: whoever waits for a store is told so.
    pub(crate) fn fail_queues(&mut self, code: ErrorCode) {
        let numbers: Vec<u32> = self.queues.stores.keys().copied().collect();
        for number in numbers {
            while let Some(pending) = self.queues.next_pending(number, u64::MAX, u64::MAX) {
                let (request, kind) = match pending {
                    Pending::Published(published) => (published.request, Kind::QueuePublish),
                    Pending::Answer(request, kind, _) => (request, kind),
                    Pending::Routed(part) => {
                        self.route_failed(part, code);
                        continue;
                    }
                    Pending::Reveal(..) | Pending::Checkpoint(..) => continue,
                };
                self.refuse_queue(&request, kind, code, "the device failed");
            }
        }
    }

    /// Answers a request about a queue with an error.
    pub(crate) fn refuse_queue(
        &mut self,
        request: &Request,
        kind: Kind,
        code: ErrorCode,
        detail: &str,
    ) {
        if self.conns.live(request.conn).is_some() {
            let id = request.correlation_id;
            self.reply_error(request.conn.0, kind.number(), id, code, detail);
        }
        self.request_ended(request.conn, request.frame_bytes);
    }
}

/// What a queue is, in rows. Gives its next number.
fn facts_of(queue: &Queue, facts: &mut Vec<StateRow>) -> u64 {
    let snapshot = queue.state.snapshot();
    let may_expire = u32::from(queue.state.may_expire);
    facts.push(StateRow::new(StateTag::Facts, snapshot.suspect, snapshot.bytes, may_expire));
    for (range, ()) in snapshot.live.iter() {
        facts.push(StateRow::new(StateTag::Live, range.start, range.end, 0));
    }
    for (range, reason) in snapshot.dying.iter() {
        facts.push(StateRow::new(StateTag::Dying, range.start, range.end, reason as u32));
    }
    for (range, count) in snapshot.deliveries.iter() {
        facts.push(StateRow::new(StateTag::Deliveries, range.start, range.end, count));
    }
    for (&first, &offset) in &queue.index {
        facts.push(StateRow::new(StateTag::Index, first, offset, 0));
    }
    snapshot.next
}
