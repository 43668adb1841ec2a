//! What happens to messages, recorded in their store.

use wire::queue::{DeathNote, MESSAGE_DEAD, MessageHead, QueueId, Reason};
use wire::{Acks, ErrorCode};
use zerocopy::{FromBytes, IntoBytes};

use super::queues::Pending;
use super::record::{
    MovedHead, RECORD_HEAD_BYTES, RECORD_TTL, RangeRow, RecordHead, RecordKind, SharedRow, put_rows,
};
use crate::log::partition::PartitionId;
use crate::pool::Bytes;
use crate::port::Time;
use crate::shard::Shard;
use crate::units::{u64_of, usize_of};

/// Rows of one record of removals or deaths.
const ROWS_MAX: usize = 1024;
/// Longest record of rows.
pub(crate) const ROWS_RECORD_BYTES_MAX: usize = RECORD_HEAD_BYTES + ROWS_MAX * 16;

/// Why a message leaves one queue for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passage {
    /// It has died.
    Death(Reason),
    /// It is a dead letter that goes back.
    Return,
}

/// What of a record's messages is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NewMessages {
    /// How many.
    pub(crate) count: u32,
    /// `RECORD_*` bits.
    pub(crate) flags: u8,
}

impl Shard {
    /// The stream of a queue's store.
    pub(crate) fn stream_of(&mut self, slot: u32) -> PartitionId {
        let store = self.queues.queue(slot).store;
        self.queues.stores[&store].stream
    }

    /// Accounts for a record of a store; gives how many bytes it had taken before.
    fn note_taken(&mut self, store: u32, bytes: usize) -> u64 {
        let store = self.queues.stores.get_mut(&store).expect("a queue's store is there");
        store.is_closed = false;
        let before = store.taken;
        store.taken += u64_of(bytes);
        before
    }

    /// Records messages of a queue that lie in the pool. Gives the number of the first and the
    /// offset behind the record.
    pub(crate) fn record_messages(
        &mut self,
        now: Time,
        slot: u32,
        at: Bytes,
        new: NewMessages,
        acks: Acks,
    ) -> Result<(u64, u64), ErrorCode> {
        let wall_ms = self.queues.wall_ms;
        let stream = self.stream_of(slot);
        let queue = self.queues.queue(slot);
        let (store, first) = (queue.store, queue.state.next());
        let mut head = RecordHead::new(RecordKind::Messages, queue.id, at.len);
        head.first = first.into();
        head.count = new.count.into();
        head.flags = new.flags;
        head.bytes = u64_of(at.len).into();
        let pool = &mut self.pool;
        let end =
            self.store.append_messages(pool, now, stream, (&head, &[]), (at, wall_ms), acks)?;
        let taken = self.note_taken(store, RECORD_HEAD_BYTES + at.len);
        let queue = self.queues.queue(slot);
        queue.state.publish(new.count, u64_of(at.len));
        queue.mark(first, end - 1, taken);
        self.store.counters.queue_messages_published += u64::from(new.count);
        Ok((first, end))
    }

    /// Records messages that several queues of a store get, once. Gives their first numbers and the
    /// offset behind the record.
    pub(crate) fn record_shared(
        &mut self,
        now: Time,
        slots: &[u32],
        at: Bytes,
        new: NewMessages,
        acks: Acks,
    ) -> Result<(Vec<u64>, u64), ErrorCode> {
        let wall_ms = self.queues.wall_ms;
        let stream = self.stream_of(slots[0]);
        let store = self.queues.queue(slots[0]).store;
        let row = |&slot: &u32| {
            let queue = self.queues.queue(slot);
            SharedRow { queue: queue.id, first: queue.state.next().into() }
        };
        let rows: Vec<SharedRow> = slots.iter().map(row).collect();
        let rows_bytes = size_of_val(rows.as_slice());
        let mut head = RecordHead::new(RecordKind::Shared, [0; 16], rows_bytes + at.len);
        head.first = u64_of(rows.len()).into();
        head.count = new.count.into();
        head.flags = new.flags;
        head.bytes = u64_of(at.len).into();
        let head = (&head, rows.as_bytes());
        let pool = &mut self.pool;
        let end = self.store.append_messages(pool, now, stream, head, (at, wall_ms), acks)?;
        let taken = self.note_taken(store, RECORD_HEAD_BYTES + rows_bytes + at.len);
        for (&slot, row) in slots.iter().zip(&rows) {
            let queue = self.queues.queue(slot);
            queue.state.publish(new.count, u64_of(at.len));
            queue.state.may_expire |= new.flags & RECORD_TTL != 0;
            queue.mark(row.first.get(), end - 1, taken);
            self.store.counters.queue_messages_published += u64::from(new.count);
        }
        Ok((rows.iter().map(|row| row.first.get()).collect(), end))
    }

    /// Records that messages are delivered, or are settled by that.
    pub(crate) fn record_rows(
        &mut self,
        now: Time,
        slot: u32,
        kind: RecordKind,
        rows: &[RangeRow],
        freed: u64,
    ) -> Result<u64, ErrorCode> {
        let stream = self.stream_of(slot);
        let (id, store) = (self.queues.queue(slot).id, self.queues.queue(slot).store);
        let mut bytes = std::mem::take(&mut self.queues.bytes);
        bytes.clear();
        put_rows(&mut bytes, kind, &id, rows, |head| head.bytes = freed.into());
        let acks = Acks::None;
        let end = self.store.append_record(&mut self.pool, now, stream, &[&bytes], acks);
        if end.is_ok() {
            self.note_taken(store, bytes.len());
        }
        self.queues.bytes = bytes;
        end
    }

    /// Records what has happened to a queue's messages and was not recorded yet. Gives the offset
    /// behind it, if there was anything.
    pub(crate) fn record_changes(
        &mut self,
        now: Time,
        slot: u32,
        acks: Acks,
    ) -> Result<Option<u64>, ErrorCode> {
        let stream = self.stream_of(slot);
        let mut end = None;
        loop {
            let queue = self.queues.queue(slot);
            let (id, store) = (queue.id, queue.store);
            if queue.changes.is_empty() {
                return Ok(end);
            }
            let mut bytes = std::mem::take(&mut self.queues.bytes);
            bytes.clear();
            let queue = self.queues.queue(slot);
            // What died may be gone since, but what is gone does not die.
            let died = usize::from(!queue.changes.died.is_empty());
            let removed = queue.changes.removed.len().min(ROWS_MAX) * (1 - died);
            if removed > 0 {
                let mut rows = std::mem::take(&mut self.queues.ranges);
                let changes = &self.queues.queue(slot).changes;
                rows.clear();
                rows.extend(changes.removed[..removed].iter().map(RangeRow::of));
                let freed = changes.removed_bytes;
                put_rows(&mut bytes, RecordKind::Removed, &id, &rows, |head| {
                    head.bytes = freed.into();
                });
                self.queues.ranges = rows;
            } else {
                let (range, reason) = &queue.changes.died[0];
                let rows = [RangeRow::of(range)];
                let reason = u16::from(*reason as u8);
                put_rows(&mut bytes, RecordKind::Died, &id, &rows, |head| {
                    head.reason = reason.into();
                });
            }
            let appended = self.store.append_record(&mut self.pool, now, stream, &[&bytes], acks);
            let length = bytes.len();
            self.queues.bytes = bytes;
            end = Some(appended?);
            self.note_taken(store, length);
            let changes = &mut self.queues.queue(slot).changes;
            changes.removed.drain(..removed);
            changes.removed_bytes = if removed > 0 { 0 } else { changes.removed_bytes };
            changes.died.drain(..died);
        }
    }

    /// Records that a message leaves its queue for another one of the same store, as one record:
    /// it is never in both, nor in neither. The message is in the queue's window.
    pub(crate) fn record_move(
        &mut self,
        now: Time,
        from: u32,
        at: u64,
        to: u32,
        passage: Passage,
    ) -> Result<(), ErrorCode> {
        let wall_ms = self.queues.wall_ms;
        let mut bytes = std::mem::take(&mut self.queues.bytes);
        let source = self.queues.queue(from);
        let (source_id, store) = (source.id, source.store);
        let deliveries = source.state.delivered(at);
        let message = source.window.message(at).expect("the caller brought it");
        let size = message.len();
        let origin = Origin { queue: source_id, at, deliveries };
        rewrite(message, &origin, passage, wall_ms, &mut bytes);
        let target = self.queues.queue(to);
        let first = target.state.next();
        let data_bytes = size_of::<MovedHead>() + bytes.len();
        let mut head = RecordHead::new(RecordKind::Moved, target.id, data_bytes);
        head.first = first.into();
        head.count = 1.into();
        head.bytes = u64_of(bytes.len()).into();
        let moved = MovedHead {
            source: source_id,
            source_sequence: at.into(),
            source_bytes: u64_of(size).into(),
        };
        let stream = self.queues.stores[&store].stream;
        let parts = [head.as_bytes(), moved.as_bytes(), bytes.as_slice()];
        let appended = self.store.append_record(&mut self.pool, now, stream, &parts, Acks::Durable);
        let length = u64_of(bytes.len());
        self.queues.bytes = bytes;
        let end = appended?;
        let taken = self.note_taken(store, usize_of(head.length.get()));
        let target = self.queues.queue(to);
        target.state.publish(1, length);
        target.mark(first, end - 1, taken);
        let target_id = target.id;
        self.reveal_at(store, end, target_id, first + 1, length);
        let size = super::record::size_of_message(size);
        let source = &mut self.queues.queue(from).state;
        match passage {
            Passage::Death(_) => source.bury(at, size),
            Passage::Return => source.move_away(at, size),
        }
        Ok(())
    }

    /// Records that a message for which its queue had no room is a dead letter. Gives the offset
    /// behind the record.
    pub(crate) fn record_refused(
        &mut self,
        now: Time,
        from: u32,
        to: u32,
        message: &[u8],
        reason: Reason,
    ) -> Result<u64, ErrorCode> {
        let wall_ms = self.queues.wall_ms;
        let mut bytes = std::mem::take(&mut self.queues.bytes);
        let source = self.queues.queue(from);
        let origin = Origin { queue: source.id, at: source.state.next(), deliveries: 0 };
        rewrite(message, &origin, Passage::Death(reason), wall_ms, &mut bytes);
        source.state.tally.dead_lettered += 1;
        let target = self.queues.queue(to);
        let (store, id, first) = (target.store, target.id, target.state.next());
        let mut head = RecordHead::new(RecordKind::Messages, id, bytes.len());
        head.first = first.into();
        head.count = 1.into();
        head.bytes = u64_of(bytes.len()).into();
        let stream = self.queues.stores[&store].stream;
        let parts = [head.as_bytes(), bytes.as_slice()];
        let appended = self.store.append_record(&mut self.pool, now, stream, &parts, Acks::Durable);
        let length = u64_of(bytes.len());
        self.queues.bytes = bytes;
        let end = appended?;
        let taken = self.note_taken(store, usize_of(head.length.get()));
        let target = self.queues.queue(to);
        target.state.publish(1, length);
        target.mark(first, end - 1, taken);
        self.reveal_at(store, end, id, first + 1, length);
        Ok(end)
    }

    /// Messages up to `to` are revealed once the record that ends at `end` is durable.
    pub(crate) fn reveal_at(&mut self, store: u32, end: u64, queue: QueueId, to: u64, bytes: u64) {
        let store = self.queues.stores.get_mut(&store).expect("a queue's store is there");
        store.pending.push_back((end, Pending::Reveal(queue, to, bytes)));
    }
}

/// Where a message was.
pub(super) struct Origin {
    pub(super) queue: QueueId,
    pub(super) at: u64,
    pub(super) deliveries: u32,
}

/// The message as it arrives: with a note of its death, or without any.
pub(super) fn rewrite(
    message: &[u8],
    origin: &Origin,
    passage: Passage,
    wall_ms: u64,
    out: &mut Vec<u8>,
) {
    out.clear();
    let (head, rest) = MessageHead::ref_from_prefix(message).expect("checked once");
    let (note, rest) = match head.flags & MESSAGE_DEAD {
        0 => (None, rest),
        _ => {
            DeathNote::ref_from_prefix(rest).map(|(note, rest)| (Some(note), rest)).expect("whole")
        }
    };
    let mut head = *head;
    let first_published_ms = note.map_or(head.published_ms, |note| note.first_published_ms);
    head.published_ms = wall_ms.into();
    match passage {
        Passage::Return => {
            head.flags &= !MESSAGE_DEAD;
            out.extend_from_slice(head.as_bytes());
        }
        Passage::Death(reason) => {
            head.flags |= MESSAGE_DEAD;
            // What expired once shall not expire again among the dead letters.
            head.ttl_ms = 0.into();
            let note = DeathNote {
                origin: origin.queue,
                origin_sequence: origin.at.into(),
                died_ms: wall_ms.into(),
                first_published_ms,
                deaths: note.map_or(1, |note| note.deaths.get().saturating_add(1)).into(),
                deliveries: origin.deliveries.into(),
                reason: reason as u8,
                reserved: [0; 7],
            };
            out.extend_from_slice(head.as_bytes());
            out.extend_from_slice(note.as_bytes());
        }
    }
    out.extend_from_slice(rest);
}
