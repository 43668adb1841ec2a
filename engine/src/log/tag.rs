//! The names of the store's ops.

use crate::port::Tag;

/// What an op of the store was, by its tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreTag {
    /// Write of the journal frame with this number.
    Frame(u64),
    /// Write of a run; number in `Store::run_writes`.
    Run(u32),
    /// Flush of the journal file at this ring place.
    JournalFlush(u32),
    /// Flush of a segment; number in `Store::segment_flushes`.
    SegmentFlush(u32),
    /// Deletion of files.
    Delete,
    /// Write of a start file; number in `Store::starts`.
    Start(u32),
    /// Read back of a run that was written again; number in `Store::failures`.
    Proof(u32),
    /// Deletion of files that hold nothing but what failed; number of the partition.
    Void(u32),
    /// Deletion of the journal file at this ring place.
    Journal(u32),
    /// A read of the scrubber.
    Scrub,
    /// Not the store's: the read of a search by time.
    Search(u32),
    /// Not the store's: the read of a fetch.
    Read(u32),
    /// Not the store's: the read of a queue's messages.
    Queue(u32),
}

impl StoreTag {
    /// As an op carries it.
    pub fn tag(self) -> Tag {
        let (kind, value) = match self {
            StoreTag::Frame(lsn) => (0u64, lsn),
            StoreTag::Run(slot) => (1, u64::from(slot)),
            StoreTag::JournalFlush(index) => (2, u64::from(index)),
            StoreTag::SegmentFlush(slot) => (3, u64::from(slot)),
            StoreTag::Delete => (4, 0),
            StoreTag::Read(slot) => (5, u64::from(slot)),
            StoreTag::Start(slot) => (6, u64::from(slot)),
            StoreTag::Search(slot) => (7, u64::from(slot)),
            StoreTag::Proof(slot) => (8, u64::from(slot)),
            StoreTag::Void(partition) => (9, u64::from(partition)),
            StoreTag::Journal(place) => (10, u64::from(place)),
            StoreTag::Queue(slot) => (11, u64::from(slot)),
            StoreTag::Scrub => (12, 0),
        };
        assert!(value < 1 << 56, "tags have 56 bits for a number");
        Tag(kind << 56 | value)
    }

    /// What a done's tag says.
    pub fn of(tag: Tag) -> StoreTag {
        let value = tag.0 & ((1 << 56) - 1);
        let slot = u32::try_from(value & u64::from(u32::MAX)).expect("masked");
        match tag.0 >> 56 {
            0 => StoreTag::Frame(value),
            1 => StoreTag::Run(slot),
            2 => StoreTag::JournalFlush(slot),
            3 => StoreTag::SegmentFlush(slot),
            4 => StoreTag::Delete,
            5 => StoreTag::Read(slot),
            6 => StoreTag::Start(slot),
            7 => StoreTag::Search(slot),
            8 => StoreTag::Proof(slot),
            9 => StoreTag::Void(slot),
            10 => StoreTag::Journal(slot),
            11 => StoreTag::Queue(slot),
            12 => StoreTag::Scrub,
            kind => unreachable!("no op of the store has tag kind {kind}"),
        }
    }
}
