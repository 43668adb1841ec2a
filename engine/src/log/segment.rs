//! One segment file of a partition, as the engine knows it.

use crate::port::FileSlot;

/// Where a stretch of a segment begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// Offset of the first record of the frame at `position`.
    pub base_offset: u64,
    /// Position of that frame in bytes.
    pub position: u64,
    /// Newest time in ms of the records from here to the next entry.
    pub max_timestamp_ms: i64,
}

/// The file of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentFile {
    /// Not open.
    Closed,
    /// Being opened.
    Opening(FileSlot),
    /// Open.
    Open(FileSlot),
    /// It could not be opened; what it holds cannot be read in this life.
    Missing,
}

/// The newest time of a segment's records, in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Newest {
    /// It is this; `i64::MIN` without records.
    Known(i64),
    /// Nobody has looked; by this time they were written.
    WrittenBy(i64),
}

impl Newest {
    /// What its age is judged by.
    pub const fn at_most(self) -> i64 {
        match self {
            Newest::Known(ms) | Newest::WrittenBy(ms) => ms,
        }
    }

    /// Whether a record of that time, or a later one, may be there.
    pub const fn may_reach(self, timestamp_ms: i64) -> bool {
        match self {
            Newest::Known(ms) => ms >= timestamp_ms,
            Newest::WrittenBy(_) => true,
        }
    }

    /// As the segment behind it records it; 0 is not known.
    pub const fn recorded(self) -> u64 {
        match self {
            Newest::Known(ms) if ms > 0 => ms.cast_unsigned(),
            Newest::Known(_) | Newest::WrittenBy(_) => 0,
        }
    }
}

/// One segment.
#[derive(Debug)]
pub struct Segment {
    /// Counts the partition's segments.
    pub sequence: u32,
    /// Offset of its first record.
    pub base_offset: u64,
    /// Offset behind its last record; `None` while it is written to or not yet scanned.
    pub next_offset: Option<u64>,
    /// Position behind its last frame.
    pub end: u64,
    /// Newest time of its records.
    pub newest: Newest,
    /// Its file.
    pub file: SegmentFile,
    /// Its file once more, opened to be sent out of the page cache.
    pub buffered: SegmentFile,
    /// It was opened so in this life: sockets may hold pages of it, so it is deleted when it is
    /// no longer needed, and never written to again.
    pub was_buffered: bool,
    /// Its file was begun in this life, so all that was ever written to it since is known to hold.
    pub is_own: bool,
    /// A write or a flush of it failed: nothing rests on it that did not before, and it is never
    /// written to again.
    pub has_failed: bool,
    /// Ops on its file that are open.
    pub users: u32,
    /// Up to here blocks are allocated.
    pub reserved_to: u64,
    /// Up to here blocks have been written, so that a durable write needs no transaction.
    pub written_to: u64,
    /// Whether an extension is under way.
    pub extending: bool,
    /// Sparse index: every frame that begins at least the spacing behind the last entry.
    pub index: Vec<IndexEntry>,
    /// Whether `index` covers the whole segment.
    pub indexed: bool,
}

impl Segment {
    /// A segment that is about to be created.
    pub fn new(sequence: u32, base_offset: u64) -> Segment {
        Segment {
            sequence,
            base_offset,
            next_offset: None,
            end: 0,
            newest: Newest::Known(i64::MIN),
            file: SegmentFile::Closed,
            buffered: SegmentFile::Closed,
            was_buffered: false,
            is_own: false,
            has_failed: false,
            users: 0,
            reserved_to: 0,
            written_to: 0,
            extending: false,
            index: Vec::new(),
            indexed: true,
        }
    }

    /// Its open file.
    pub const fn open_file(&self) -> Option<FileSlot> {
        match self.file {
            SegmentFile::Open(slot) => Some(slot),
            SegmentFile::Closed | SegmentFile::Opening(_) | SegmentFile::Missing => None,
        }
    }

    /// Accounts for a frame at its end.
    pub fn push(&mut self, base_offset: u64, bytes: u64, max_timestamp_ms: i64, spacing: u64) {
        let far = self.index.last().is_none_or(|last| self.end >= last.position + spacing);
        if far {
            self.index.push(IndexEntry { base_offset, position: self.end, max_timestamp_ms });
        } else if let Some(last) = self.index.last_mut() {
            last.max_timestamp_ms = last.max_timestamp_ms.max(max_timestamp_ms);
        }
        if let Newest::Known(newest) = &mut self.newest {
            *newest = (*newest).max(max_timestamp_ms);
        }
        self.end += bytes;
    }

    /// It goes on at this offset and position, behind frames that are damaged.
    pub fn skip_to(&mut self, base_offset: u64, position: u64) {
        let max_timestamp_ms = i64::MIN;
        self.index.push(IndexEntry { base_offset, position, max_timestamp_ms });
        self.end = position;
    }

    /// Position of a frame at or before the one that holds `offset`.
    pub fn seek(&self, offset: u64) -> u64 {
        let behind = self.index.partition_point(|entry| entry.base_offset <= offset);
        behind.checked_sub(1).map_or(0, |i| self.index[i].position)
    }
}
