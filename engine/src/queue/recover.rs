//! Queues out of their store's records: the newest whole checkpoint, and what came after it.

use std::collections::BTreeMap;

use wire::queue::{QueueId, Reason};

use super::queues::Queue;
use super::record::{RECORD_CLEAN, RECORD_RELOCATED, RECORD_TTL, Record, RecordKind, StateTag};
use super::state::{Ending, Snapshot};
use crate::units::u64_of;

/// Queues of a store while its records are replayed.
#[derive(Debug, Default)]
pub struct Recovery {
    /// The queues that there are.
    pub queues: BTreeMap<QueueId, Queue>,
    parts: BTreeMap<QueueId, Part>,
    /// The checkpoint that is being read began here, and so many parts of it were read.
    begun: Option<(u64, u32)>,
    /// A whole checkpoint was read.
    pub has_checkpoint: bool,
    /// It begins without a checkpoint, and what the first records knew of is not there any more.
    pub is_partial: bool,
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
    /// Queues without messages.
    pub fn of(queues: BTreeMap<QueueId, Queue>) -> Recovery {
        Recovery { queues, ..Recovery::default() }
    }

    /// Replays the record at `offset`. Those of queues that are gone mean nothing.
    pub fn replay(&mut self, offset: u64, record: &Record<'_>) {
        self.taken += u64::from(record.head.length.get());
        self.records += 1;
        self.ending = Some(Ending::Sudden);
        match record.kind {
            RecordKind::CheckpointBegin => {
                self.parts.clear();
                self.begun = Some((offset, 0));
            }
            RecordKind::CheckpointPart => self.part(record),
            RecordKind::CheckpointEnd => self.checkpoint(record),
            RecordKind::Messages | RecordKind::Moved => self.messages(offset, record),
            RecordKind::Shared => self.shared(offset, record),
            RecordKind::Delivered | RecordKind::Removed | RecordKind::Died => self.rows(record),
        }
    }

    fn part(&mut self, record: &Record<'_>) {
        if let Some((_, parts)) = &mut self.begun {
            *parts += 1;
        }
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

    /// A checkpoint is whole, unless parts of it are damaged: it replaces whatever was replayed
    /// before it.
    fn checkpoint(&mut self, record: &Record<'_>) {
        if self.begun.take() != Some((record.head.first.get(), record.head.count.get())) {
            return;
        }
        self.has_checkpoint = true;
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
        let Some((range, messages)) = record.messages() else { return };
        if let Some(moved) = record.moved()
            && let Some(source) = self.queues.get_mut(&moved.source)
        {
            let at = moved.source_sequence.get();
            source.state.replay_removed(at..at + 1);
            source.state.replay_freed(moved.source_bytes.get());
        }
        let gaps = self.gaps();
        let Some(queue) = self.queues.get_mut(&head.queue) else { return };
        if head.flags & RECORD_RELOCATED != 0 {
            if gaps == Gaps::First {
                queue.state.replay_found(range.clone(), u64_of(messages.len()));
            }
            return queue.moved(range.start, range.end - range.start, offset);
        }
        queue.replay_gap(range.start, gaps);
        queue.state.replay_published(range.start, head.count.get(), head.bytes.get());
        queue.state.may_expire |= head.flags & RECORD_TTL != 0;
        queue.mark(range.start, offset, self.taken);
    }

    fn shared(&mut self, offset: u64, record: &Record<'_>) {
        let head = record.head;
        let gaps = self.gaps();
        for row in record.shared().map_or(&[][..], |(rows, _)| rows) {
            let Some(queue) = self.queues.get_mut(&row.queue) else { continue };
            let first = row.first.get();
            queue.replay_gap(first, gaps);
            queue.state.replay_published(first, head.count.get(), head.bytes.get());
            queue.state.may_expire |= head.flags & RECORD_TTL != 0;
            queue.mark(first, offset, self.taken);
        }
    }

    fn gaps(&self) -> Gaps {
        if self.is_partial && !self.has_checkpoint { Gaps::First } else { Gaps::None }
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

    /// Messages that are damaged, of all queues, as far as that is known without reading them.
    pub fn messages_lost(&self) -> u64 {
        self.queues.values().map(|queue| queue.state.unreadable()).sum()
    }

    /// Messages that are there, of all queues.
    pub fn messages_alive(&self) -> u64 {
        self.queues.values().map(|queue| queue.state.messages()).sum()
    }
}

/// Numbers of a queue that may lack in front of its next messages, and nothing is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gaps {
    /// None.
    None,
    /// Those in front of the first that there are.
    First,
}

impl Queue {
    /// Messages from `first` on were published next: those before them that nothing was said of
    /// are damaged.
    fn replay_gap(&mut self, first: u64, gaps: Gaps) {
        let next = self.state.next();
        if next < first && (gaps == Gaps::None || next > 0) {
            self.state.replay_lost(next..first);
        }
    }

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
