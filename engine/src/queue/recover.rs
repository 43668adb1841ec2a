//! Queues out of their store's records: the newest whole checkpoint, and what came after it.

use std::collections::BTreeMap;

use wire::queue::{QueueId, Reason};

use super::queues::Queue;
use super::record::{RECORD_CLEAN, RECORD_RELOCATED, RECORD_TTL, Record, RecordKind, StateTag};
use super::state::{Ending, Snapshot};

/// Queues of a store while its records are replayed.
#[derive(Debug, Default)]
pub struct Recovery {
    /// The queues that there are.
    pub queues: BTreeMap<QueueId, Queue>,
    parts: BTreeMap<QueueId, Part>,
    /// The checkpoint that is being read began here.
    begun: Option<u64>,
    ending: Option<Ending>,
    /// Records that were replayed.
    pub records: u64,
    /// Bytes of records that were replayed.
    pub taken: u64,
    /// How many there had been at the newest checkpoint.
    pub checkpoint_at: u64,
}

#[derive(Debug, Default)]
struct Part {
    snapshot: Snapshot,
    may_expire: bool,
    index: BTreeMap<u64, u64>,
}

impl Recovery {
    /// Replays the record at `offset`. Those of queues that are gone mean nothing.
    pub fn replay(&mut self, offset: u64, record: &Record<'_>) {
        self.taken += u64::from(record.head.length.get());
        self.records += 1;
        self.ending = Some(Ending::Sudden);
        match record.kind {
            RecordKind::CheckpointBegin => {
                self.parts.clear();
                self.begun = Some(offset);
            }
            RecordKind::CheckpointPart => self.part(record),
            RecordKind::CheckpointEnd => self.checkpoint(record),
            RecordKind::Messages | RecordKind::Moved => self.messages(offset, record),
            RecordKind::Shared => self.shared(offset, record),
            RecordKind::Delivered | RecordKind::Removed | RecordKind::Died => self.rows(record),
        }
    }

    fn part(&mut self, record: &Record<'_>) {
        let part = self.parts.entry(record.head.queue).or_default();
        part.snapshot.next = record.head.first.get();
        for fact in record.facts() {
            let (a, b, value) = (fact.a.get(), fact.b.get(), fact.value.get());
            let range = a..b.max(a);
            let tag = fact.tag.get();
            if tag == StateTag::Live as u32 {
                part.snapshot.live.add(range);
            } else if tag == StateTag::Dying as u32 {
                let reason = u8::try_from(value).ok().and_then(Reason::from_u8);
                part.snapshot.dying.insert(range, reason.unwrap_or(Reason::Rejected));
            } else if tag == StateTag::Deliveries as u32 {
                part.snapshot.deliveries.insert(range, value);
            } else if tag == StateTag::Index as u32 {
                part.index.insert(a, b);
            } else if tag == StateTag::Facts as u32 {
                (part.snapshot.suspect, part.snapshot.bytes) = (a, b);
                part.may_expire = value != 0;
            }
        }
    }

    /// A checkpoint is whole: it replaces whatever was replayed before it.
    fn checkpoint(&mut self, record: &Record<'_>) {
        if self.begun.take() != Some(record.head.first.get()) {
            return;
        }
        self.checkpoint_at = self.taken;
        for (id, part) in std::mem::take(&mut self.parts) {
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            queue.state.restore(part.snapshot);
            queue.state.may_expire |= part.may_expire;
            queue.index = part.index;
            queue.marked_at = None;
        }
        if record.head.flags & RECORD_CLEAN != 0 {
            self.ending = Some(Ending::Clean);
        }
    }

    fn messages(&mut self, offset: u64, record: &Record<'_>) {
        let head = record.head;
        let Some((range, _)) = record.messages() else { return };
        if let Some(moved) = record.moved()
            && let Some(source) = self.queues.get_mut(&moved.source)
        {
            let at = moved.source_sequence.get();
            source.state.replay_removed(at..at + 1);
            source.state.replay_freed(moved.source_bytes.get());
        }
        let Some(queue) = self.queues.get_mut(&head.queue) else { return };
        if head.flags & RECORD_RELOCATED != 0 {
            return queue.moved(range.start, range.end - range.start, offset);
        }
        queue.state.replay_published(range.start, head.count.get(), head.bytes.get());
        queue.state.may_expire |= head.flags & RECORD_TTL != 0;
        queue.mark(range.start, offset, self.taken);
    }

    fn shared(&mut self, offset: u64, record: &Record<'_>) {
        let head = record.head;
        for row in record.shared().map_or(&[][..], |(rows, _)| rows) {
            let Some(queue) = self.queues.get_mut(&row.queue) else { continue };
            let first = row.first.get();
            queue.state.replay_published(first, head.count.get(), head.bytes.get());
            queue.state.may_expire |= head.flags & RECORD_TTL != 0;
            queue.mark(first, offset, self.taken);
        }
    }

    fn rows(&mut self, record: &Record<'_>) {
        let Some(queue) = self.queues.get_mut(&record.head.queue) else { return };
        for row in record.rows() {
            match record.kind {
                RecordKind::Delivered => queue.state.replay_delivered(row.range()),
                RecordKind::Died => {
                    let reason = record.reason().unwrap_or(Reason::Rejected);
                    queue.state.replay_died(row.range(), reason);
                }
                _ => queue.state.replay_removed(row.range()),
            }
        }
        queue.state.replay_freed(record.head.bytes.get());
    }

    /// The replay is over. Leases of this start are told from those of earlier ones by
    /// `boot_epoch`.
    pub fn finish(&mut self, boot_epoch: u32) {
        let ending = self.ending.unwrap_or(Ending::Clean);
        for queue in self.queues.values_mut() {
            queue.state.replayed(ending);
            queue.state.begin_leases(boot_epoch);
        }
    }

    /// Messages that are there, of all queues.
    pub fn messages_alive(&self) -> u64 {
        self.queues.values().map(|queue| queue.state.messages()).sum()
    }
}

impl Queue {
    /// Messages of the queue lie from `offset` on from now on.
    pub fn moved(&mut self, first: u64, count: u64, offset: u64) {
        let end = first + count;
        // What follows is found where it was.
        if let Some(behind) = self.place_of(end)
            && end < self.state.next()
        {
            self.index.entry(end).or_insert(behind);
        }
        let inside: Vec<u64> = self.index.range(first..end).map(|(&at, _)| at).collect();
        for at in inside {
            self.index.remove(&at);
        }
        self.index.insert(first, offset);
    }
}
