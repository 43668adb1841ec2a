//! What the stream of a queue store holds: records, each with one offset.
//!
//! ```text
//! ├─ head 48 B ─┼─ rows or messages ─┤
//! ```
//!
//! A record is never divided, so whatever one says becomes durable at once: a dead letter and its
//! removal are one record.

use std::ops::Range;

use wire::queue::{QueueId, Reason};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::units::{u32_of, u64_of, usize_of};

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// Messages were published; or moved within the store, if it is [`RECORD_RELOCATED`].
    Messages = 1,
    /// Messages were delivered: rows.
    Delivered = 2,
    /// Messages are gone: rows.
    Removed = 3,
    /// Messages are to become dead letters: rows.
    Died = 4,
    /// A message came from another queue, and is gone there: a [`MovedHead`], then the message.
    Moved = 5,
    /// A checkpoint begins.
    CheckpointBegin = 6,
    /// A part of what a queue was when the checkpoint began: [`StateRow`]s.
    CheckpointPart = 7,
    /// The checkpoint that began at offset `first` is whole.
    CheckpointEnd = 8,
    /// Messages were published to several queues: `first` times a [`SharedRow`], then they.
    Shared = 9,
}

impl RecordKind {
    /// Every kind.
    pub const ALL: [RecordKind; 9] = [
        RecordKind::Messages,
        RecordKind::Delivered,
        RecordKind::Removed,
        RecordKind::Died,
        RecordKind::Moved,
        RecordKind::CheckpointBegin,
        RecordKind::CheckpointPart,
        RecordKind::CheckpointEnd,
        RecordKind::Shared,
    ];

    /// The kind with this number.
    pub fn from_u8(value: u8) -> Option<RecordKind> {
        RecordKind::ALL.into_iter().find(|kind| *kind as u8 == value)
    }

    /// Its name in `docs/FORMAT.md`.
    pub const fn name(self) -> &'static str {
        match self {
            RecordKind::Messages => "messages",
            RecordKind::Delivered => "delivered",
            RecordKind::Removed => "removed",
            RecordKind::Died => "died",
            RecordKind::Moved => "moved",
            RecordKind::CheckpointBegin => "checkpoint_begin",
            RecordKind::CheckpointPart => "checkpoint_part",
            RecordKind::CheckpointEnd => "checkpoint_end",
            RecordKind::Shared => "shared",
        }
    }
}

/// Some of the messages need not survive a restart.
pub const RECORD_TRANSIENT: u8 = 0x01;
/// Some of the messages expire by themselves.
pub const RECORD_TTL: u8 = 0x02;
/// The messages are in the queue already: this is where they lie from now on.
pub const RECORD_RELOCATED: u8 = 0x04;
/// The broker ended with this checkpoint, and did nothing after it.
pub const RECORD_CLEAN: u8 = 0x08;

/// The fixed start of a record.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RecordHead {
    /// Bytes of the record, this field included.
    pub length: U32,
    /// [`RecordKind`].
    pub kind: u8,
    /// `RECORD_*` bits.
    pub flags: u8,
    /// For deaths, the [`Reason`]; else zero.
    pub reason: U16,
    /// The queue; zero for the marks of a checkpoint.
    pub queue: QueueId,
    /// Messages: sequence number of the first. Parts of a checkpoint: of the queue's next.
    pub first: U64,
    /// Messages, or rows; of the end of a checkpoint: its parts.
    pub count: U32,
    /// Zero.
    pub reserved: U32,
    /// Bytes of messages that come or go.
    pub bytes: U64,
}

/// Bytes of a [`RecordHead`].
pub const RECORD_HEAD_BYTES: usize = size_of::<RecordHead>();

/// Sequence numbers, half open.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RangeRow {
    /// First.
    pub from: U64,
    /// Behind the last.
    pub to: U64,
}

impl RangeRow {
    /// The row for a range.
    pub fn of(range: &Range<u64>) -> RangeRow {
        RangeRow { from: range.start.into(), to: range.end.into() }
    }

    /// Its range.
    pub fn range(&self) -> Range<u64> {
        self.from.get()..self.to.get().max(self.from.get())
    }
}

/// Where a moved message comes from.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct MovedHead {
    /// The queue it leaves.
    pub source: QueueId,
    /// Its sequence number there.
    pub source_sequence: U64,
    /// Its bytes there.
    pub source_bytes: U64,
}

/// A queue that has messages which others have too.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct SharedRow {
    /// The queue.
    pub queue: QueueId,
    /// Sequence number of the first of them in it.
    pub first: U64,
}

/// What a [`StateRow`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum StateTag {
    /// Messages `a..b` are there.
    Live = 1,
    /// Messages `a..b` are dying, of reason `value`.
    Dying = 2,
    /// Messages `a..b` were delivered `value` times.
    Deliveries = 3,
    /// From message `a` on they are found from offset `b` on.
    Index = 4,
    /// The queue holds `b` bytes; messages below `a` may have been delivered; `value` is 1 if
    /// messages can expire.
    Facts = 5,
}

/// One fact of a checkpoint.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct StateRow {
    /// [`StateTag`].
    pub tag: U32,
    /// See there.
    pub value: U32,
    /// See there.
    pub a: U64,
    /// See there.
    pub b: U64,
}

impl StateRow {
    /// A row.
    pub fn new(tag: StateTag, a: u64, b: u64, value: u32) -> StateRow {
        StateRow { tag: (tag as u32).into(), value: value.into(), a: a.into(), b: b.into() }
    }
}

const _: () = assert!(RECORD_HEAD_BYTES == 48 && size_of::<StateRow>() == 24);

impl RecordHead {
    /// The head of a record with `data_bytes` bytes behind it.
    pub fn new(kind: RecordKind, queue: QueueId, data_bytes: usize) -> RecordHead {
        RecordHead {
            length: u32_of(RECORD_HEAD_BYTES + data_bytes).into(),
            kind: kind as u8,
            flags: 0,
            reason: 0.into(),
            queue,
            first: 0.into(),
            count: 0.into(),
            reserved: 0.into(),
            bytes: 0.into(),
        }
    }
}

/// A record that lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its head.
    pub head: &'a RecordHead,
    /// What it says.
    pub kind: RecordKind,
    /// The rest.
    pub data: &'a [u8],
}

impl<'a> Record<'a> {
    /// Takes the record at the front of `bytes`; gives it and the rest.
    pub fn split(bytes: &'a [u8]) -> Option<(Record<'a>, &'a [u8])> {
        let (head, _) = RecordHead::ref_from_prefix(bytes).ok()?;
        let (record, rest) = bytes.split_at_checked(usize_of(head.length.get()))?;
        let data = record.get(RECORD_HEAD_BYTES..)?;
        Some((Record { head, kind: RecordKind::from_u8(head.kind)?, data }, rest))
    }

    /// Its rows.
    pub fn rows(&self) -> &'a [RangeRow] {
        <[RangeRow]>::ref_from_bytes(self.data).unwrap_or(&[])
    }

    /// Its facts.
    pub fn facts(&self) -> &'a [StateRow] {
        <[StateRow]>::ref_from_bytes(self.data).unwrap_or(&[])
    }

    /// Why messages die.
    pub fn reason(&self) -> Option<Reason> {
        Reason::from_u8(u8::try_from(self.head.reason.get()).ok()?)
    }

    /// Where a moved message comes from.
    pub fn moved(&self) -> Option<&'a MovedHead> {
        let is_moved = self.kind == RecordKind::Moved;
        MovedHead::ref_from_prefix(self.data).ok().filter(|_| is_moved).map(|(head, _)| head)
    }

    /// The queues that have the messages of a shared record, and the messages.
    pub fn shared(&self) -> Option<(&'a [SharedRow], &'a [u8])> {
        if self.kind != RecordKind::Shared {
            return None;
        }
        let rows = usize::try_from(self.head.first.get()).ok()?;
        let (rows, messages) =
            self.data.split_at_checked(rows.checked_mul(size_of::<SharedRow>())?)?;
        Some((<[SharedRow]>::ref_from_bytes(rows).ok()?, messages))
    }

    /// The messages of it that a queue has, with their numbers there.
    pub fn messages_of(&self, queue: &QueueId) -> Option<(Range<u64>, &'a [u8])> {
        let Some((rows, messages)) = self.shared() else {
            return self.messages().filter(|_| self.head.queue == *queue);
        };
        let first = rows.iter().find(|row| row.queue == *queue)?.first.get();
        Some((first..first.saturating_add(u64::from(self.head.count.get())), messages))
    }

    /// The messages of it that lie in its queue, with their numbers.
    pub fn messages(&self) -> Option<(Range<u64>, &'a [u8])> {
        let first = self.head.first.get();
        let range = first..first.saturating_add(u64::from(self.head.count.get()));
        match self.kind {
            RecordKind::Messages => Some((range, self.data)),
            RecordKind::Moved => Some((range, self.data.get(size_of::<MovedHead>()..)?)),
            _ => None,
        }
    }
}

/// Appends a record of rows.
pub fn put_rows<T: IntoBytes + Immutable>(
    out: &mut Vec<u8>,
    kind: RecordKind,
    queue: &QueueId,
    rows: &[T],
    fill: impl FnOnce(&mut RecordHead),
) {
    let mut head = RecordHead::new(kind, *queue, size_of_val(rows));
    head.count = u32_of(rows.len()).into();
    fill(&mut head);
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(rows.as_bytes());
}

/// Why the records in `bytes` are not what their entry says, if so.
pub fn invalid(bytes: &[u8], count: u32) -> Option<&'static str> {
    let mut rest = bytes;
    let mut found = 0u64;
    while !rest.is_empty() {
        let Some((_, tail)) = Record::split(rest) else {
            return Some("a queue record is cut short or of an unknown kind");
        };
        found += 1;
        rest = tail;
    }
    (found != u64::from(count)).then_some("the entry counts other records than it holds")
}

/// Bytes of one message, as a length.
pub fn size_of_message(bytes: usize) -> u32 {
    u32::try_from(u64_of(bytes)).expect("messages are bounded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back_in_a_row_and_survive_being_cut() {
        let mut bytes = Vec::new();
        let rows = [RangeRow::of(&(3..9)), RangeRow::of(&(11..12))];
        put_rows(&mut bytes, RecordKind::Died, &[7; 16], &rows, |head| {
            head.reason = u16::from(Reason::Expired as u8).into();
        });
        let facts = [StateRow::new(StateTag::Index, 4, 99, 0)];
        put_rows(&mut bytes, RecordKind::CheckpointPart, &[7; 16], &facts, |_| {});
        assert_eq!(invalid(&bytes, 2), None);
        assert!(invalid(&bytes, 3).is_some());
        let (died, rest) = Record::split(&bytes).expect("whole");
        assert_eq!((died.kind, died.reason()), (RecordKind::Died, Some(Reason::Expired)));
        assert_eq!(died.rows(), rows);
        let (part, rest) = Record::split(rest).expect("whole");
        assert_eq!((part.facts(), rest.len()), (facts.as_slice(), 0));
        for cut in 1..bytes.len() {
            let _ = invalid(&bytes[..cut], 2);
        }
    }
}
