//! A run: batches of one partition, back to back in one buffer, that will be one segment frame.

use wire::batch::{BATCH_HEADER_BYTES, Batch, CRC_FROM};
use wire::crc::{crc32c, crc32c_append, crc32c_combine};

use crate::frame::{RUN_PREFIX_BYTES, block_ceil};
use crate::pool::{BufId, Pool};
use crate::port::{Sync, Time};
use crate::settings::MARK_SPACING_BYTES;
use crate::units::{u32_of, usize_of};

/// Batches at least this long add their checksum to the run's by combination, not by a second
/// pass over their bytes.
const COMBINE_BYTES_MIN: usize = 16 * 1024;

/// How far a run is on its way to the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunState {
    /// Batches are still added.
    Open,
    /// Complete; waits for its place.
    Sealed,
    /// Has its place, and is written last of those that failed together.
    Placed,
    /// Being written.
    Writing,
    /// Written; waits for a flush.
    Written,
    /// Written, and a flush that covers it is in flight.
    Flushing,
    /// Durable in the segment, and to be read back before anything rests on it.
    Proving,
    /// Durable in the segment.
    Stored,
}

/// What a run owes before anything may rest on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Its write is proof enough.
    None,
    /// A write of its records failed: a durable one to another file must be read back.
    Owed,
    /// That write was submitted.
    Rewritten,
}

/// Where a batch begins within a run.
#[derive(Debug, Clone, Copy)]
struct Mark {
    offset: u64,
    at: u32,
}

/// Batches of one partition in one buffer, behind room for the frame's header.
#[derive(Debug)]
pub struct Run {
    /// The buffer; the run holds one reference.
    pub buf: BufId,
    /// Offset of its first record.
    pub base_offset: u64,
    /// Offset behind its last record.
    pub next_offset: u64,
    /// Position in the buffer behind the last batch.
    pub end: usize,
    /// Position in the buffer up to which the bytes belong to a commit.
    pub committed: usize,
    /// Offset that belongs to `committed`.
    pub committed_offset: u64,
    /// Newest time of its records in ms.
    pub max_timestamp_ms: i64,
    /// CRC32C of its batches.
    pub crc: u32,
    /// How far it is.
    pub state: RunState,
    /// What its write shall promise.
    pub sync: Sync,
    /// What it owes before anything may rest on it.
    pub proof: Proof,
    /// Ring places of the journal files that hold parts of it, one bit each.
    pub journal_files: u64,
    /// Whether a produce waits for this run to be stored.
    pub direct: bool,
    /// Sequence of its segment, once it has a place.
    pub segment: u32,
    /// Position in its segment, once it has a place.
    pub position: u64,
    /// When it was opened.
    pub opened: Time,
    marks: Vec<Mark>,
}

impl Run {
    /// An empty run in a buffer, whose reference it takes over.
    pub fn new(buf: BufId, base_offset: u64, now: Time) -> Run {
        Run {
            buf,
            base_offset,
            next_offset: base_offset,
            end: RUN_PREFIX_BYTES,
            committed: RUN_PREFIX_BYTES,
            committed_offset: base_offset,
            max_timestamp_ms: i64::MIN,
            crc: 0,
            state: RunState::Open,
            sync: Sync::Durable,
            proof: Proof::None,
            journal_files: 0,
            direct: false,
            segment: 0,
            position: 0,
            opened: now,
            marks: Vec::new(),
        }
    }

    /// Bytes of batches.
    pub const fn data_bytes(&self) -> usize {
        self.end - RUN_PREFIX_BYTES
    }

    /// Bytes that belong to no commit yet.
    pub const fn pending_bytes(&self) -> usize {
        self.end - self.committed
    }

    /// Length of its frame.
    pub const fn frame_bytes(&self) -> usize {
        block_ceil(self.end)
    }

    /// Accounts for `len` bytes with `count` records that now lie at its end.
    pub fn push(
        &mut self,
        bytes: &[u8],
        count: u32,
        max_timestamp_ms: i64,
        batch_crc: Option<u32>,
    ) {
        let far =
            self.marks.last().is_none_or(|mark| self.end - usize_of(mark.at) >= MARK_SPACING_BYTES);
        if far && self.end > RUN_PREFIX_BYTES {
            self.marks.push(Mark { offset: self.next_offset, at: u32_of(self.end) });
        }
        self.crc = match batch_crc {
            // The batch's own checksum covers byte 21 to its end.
            Some(batch_crc) if bytes.len() >= COMBINE_BYTES_MIN => {
                let head = crc32c_append(self.crc, &bytes[..CRC_FROM]);
                crc32c_combine(head, batch_crc, bytes.len() - CRC_FROM)
            }
            _ if self.end == RUN_PREFIX_BYTES => crc32c(bytes),
            _ => crc32c_append(self.crc, bytes),
        };
        self.end += bytes.len();
        self.next_offset += u64::from(count);
        self.max_timestamp_ms = self.max_timestamp_ms.max(max_timestamp_ms);
    }

    /// All its bytes belong to a commit now. Gives how many did not before.
    pub fn commit_all(&mut self) -> usize {
        let pending = self.pending_bytes();
        self.committed = self.end;
        self.committed_offset = self.next_offset;
        pending
    }

    /// Position in the buffer of the batch that holds `offset`, or of the run's end if `offset`
    /// is the offset behind it.
    pub fn locate(&self, pool: &Pool, offset: u64) -> usize {
        if offset >= self.next_offset {
            return self.end;
        }
        let behind = self.marks.partition_point(|mark| mark.offset <= offset);
        let mut at = behind.checked_sub(1).map_or(RUN_PREFIX_BYTES, |i| usize_of(self.marks[i].at));
        let bytes = &pool.bytes(self.buf)[..self.end];
        while at + BATCH_HEADER_BYTES <= self.end {
            let (batch, _) = Batch::split(&bytes[at..]).expect("runs hold validated batches");
            if batch.next_offset() > offset {
                break;
            }
            at += batch.bytes().len();
        }
        at
    }

    /// A record at or before `offset`, which is in the run: its offset and its position.
    pub fn mark_before(&self, offset: u64) -> (u64, usize) {
        let behind = self.marks.partition_point(|mark| mark.offset <= offset);
        let mark =
            behind.checked_sub(1).map(|i| (self.marks[i].offset, usize_of(self.marks[i].at)));
        mark.unwrap_or((self.base_offset, RUN_PREFIX_BYTES))
    }

    /// Position behind the last whole batch that ends within `budget` bytes from `from` and at
    /// or before `limit`; at least one batch if `at_least_one`.
    pub fn fit(
        &self,
        pool: &Pool,
        from: usize,
        limit: usize,
        budget: usize,
        first: First,
    ) -> usize {
        if limit - from <= budget {
            return limit;
        }
        let bytes = &pool.bytes(self.buf)[..limit];
        let mut at = from;
        while at < limit {
            let (batch, _) = Batch::split(&bytes[at..]).expect("runs hold validated batches");
            let next = at + batch.bytes().len();
            let forced = first == First::Always && at == from;
            if next - from > budget && !forced {
                break;
            }
            at = next;
        }
        at
    }
}

/// Whether the first batch is taken even if it is longer than the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// Take it: a reader must make progress.
    Always,
    /// Only if it fits.
    IfItFits,
}
