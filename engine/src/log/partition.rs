//! One partition: its runs in memory, its segments on disk, and who waits for it.

use std::collections::VecDeque;

use wire::topic::Settings;
use wire::{Acks, TopicId};

use super::cursors::Progress;
use super::damage::Damaged;
use super::run::{Run, RunState};
use super::segment::Segment;
use super::start::Start;
use crate::frame::{EntryKind, SegmentPlace};
use crate::layout::FilePath;

/// A partition's number within its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub u32);

/// A produce request that waits for a partition.
#[derive(Debug, Clone, Copy)]
pub struct Waiter {
    /// Answer once the cursor that `acks` names has reached this offset.
    pub end: u64,
    /// Number of the request.
    pub request: u32,
}

/// What a segment that failed leaves of its partition's way on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mending {
    /// No run gets its place, until nothing is in flight.
    Quiet,
    /// Those that the file did not take do, and the first of them is written last.
    Rewriting {
        /// Offset of the first.
        from: u64,
        /// Offset behind the last.
        to: u64,
    },
}

impl Mending {
    /// Whether a run that begins there may get its place.
    pub const fn allows(self, base_offset: u64) -> bool {
        match self {
            Mending::Quiet => false,
            Mending::Rewriting { to, .. } => base_offset < to,
        }
    }

    /// Whether a run that begins there is written last.
    pub const fn holds(self, base_offset: u64) -> bool {
        matches!(self, Mending::Rewriting { from, .. } if from == base_offset)
    }
}

/// One partition.
#[derive(Debug)]
pub struct Partition {
    /// Topic it belongs to; zero for the catalog.
    pub topic: TopicId,
    /// Its number within the topic.
    pub number: u32,
    /// What its entries hold.
    pub kind: EntryKind,
    /// Length at which a segment is full.
    pub segment_bytes: u64,
    /// How long written records may wait for a flush.
    pub flush_ns: u64,
    /// How long records are kept, in ms; 0 keeps them for ever.
    pub retention_ms: u64,
    /// Bytes of segments that are kept; 0 keeps all.
    pub retention_bytes: u64,
    /// Offset of the oldest record.
    pub log_start: u64,
    /// Offsets that are not served, since what is left of them is not what was written.
    pub damaged: Damaged,
    /// A lost file of it exists.
    pub has_lost_file: bool,
    /// What the start file says, and shall say.
    pub start: Start,
    /// Cursors and commits.
    pub progress: Progress,
    /// Runs in memory, contiguous up to the newest record.
    pub runs: VecDeque<Run>,
    /// Segments, oldest first; the last is written to if `writable`.
    pub segments: VecDeque<Segment>,
    /// Segments that are no part of it any more, until their last reader has finished.
    pub retired: Vec<Segment>,
    /// Whether the last segment may be written to: it was begun by this start.
    pub writable: bool,
    /// A file of it has failed: which runs get their places until that file is done with; apart,
    /// since few partitions have one.
    pub mending: Option<Box<Mending>>,
    /// The segment after the last one, opened ahead; apart, since few partitions have one.
    pub next: Option<Box<Segment>>,
    /// Sequence of the next segment to create.
    pub next_sequence: u32,
    /// Offset up to which all runs are written to the segment.
    pub runs_written: u64,
    /// Offset up to which all runs are stored in the segment.
    pub runs_stored: u64,
    /// On the list of partitions whose stored end no watermark covers.
    pub is_unproven: bool,
    /// Sequence of the newest journal file with an entry of it; 0 if this start has none.
    pub proven_in: u64,
    /// On the list of partitions with uncommitted bytes.
    pub is_dirty: bool,
    /// On the list of partitions with runs to place.
    pub is_placing: bool,
    /// Batches among the uncommitted bytes that somebody waits for.
    pub waits: usize,
    /// Someone waits for the uncommitted bytes to be durable.
    pub wants_durable: bool,
    /// Someone waits for the uncommitted bytes to be written.
    pub wants_written: bool,
    /// Produce requests that wait for `written`.
    pub written_waiters: VecDeque<Waiter>,
    /// Produce requests that wait for `durable`.
    pub durable_waiters: VecDeque<Waiter>,
    /// Fetches that wait for more.
    pub fetch_waiters: Vec<u64>,
    /// Where the last disk read ended, so that the next one begins there: offset, segment,
    /// position.
    pub read_hints: [(u64, u32, u64); 4],
    /// Which hint is replaced next.
    pub read_hint_next: u8,
    /// Ops and fetches in flight that name it.
    pub users: u32,
    /// Deleted; freed when nothing names it any more.
    pub is_deleted: bool,
}

impl Partition {
    /// Whether a file of it has failed, and things are still in flight.
    pub fn is_quieting(&self) -> bool {
        self.mending.as_deref() == Some(&Mending::Quiet)
    }

    /// An empty partition whose records begin at `offset`.
    pub fn new(topic: TopicId, number: u32, kind: EntryKind, offset: u64) -> Partition {
        Partition {
            topic,
            number,
            kind,
            segment_bytes: u64::MAX,
            flush_ns: 0,
            retention_ms: 0,
            retention_bytes: 0,
            log_start: offset,
            damaged: Damaged::default(),
            has_lost_file: false,
            start: Start::at(offset),
            progress: Progress::at(offset),
            runs: VecDeque::new(),
            segments: VecDeque::new(),
            retired: Vec::new(),
            writable: false,
            mending: None,
            next: None,
            next_sequence: 0,
            runs_written: offset,
            runs_stored: offset,
            is_unproven: false,
            proven_in: 0,
            is_dirty: false,
            is_placing: false,
            waits: 0,
            wants_durable: false,
            wants_written: false,
            written_waiters: VecDeque::new(),
            durable_waiters: VecDeque::new(),
            fetch_waiters: Vec::new(),
            read_hints: [(u64::MAX, 0, 0); 4],
            read_hint_next: 0,
            users: 0,
            is_deleted: false,
        }
    }

    /// Takes over what the topic's settings say; `segment_bytes` is what the broker's settings say.
    pub fn take_settings(&mut self, settings: &Settings, segment_bytes: u64) {
        self.segment_bytes = match settings.segment_bytes.get() {
            0 => segment_bytes,
            bytes => u64::from(bytes),
        };
        self.flush_ns = u64::from(settings.flush_ms.get()) * 1_000_000;
        self.retention_ms = settings.retention_ms.get();
        self.retention_bytes = settings.retention_bytes.get();
    }

    /// Path of its start file.
    pub const fn start_path(&self) -> FilePath {
        FilePath::Start { topic: self.topic, partition: self.number }
    }

    /// Path of its lost file.
    pub const fn lost_path(&self) -> FilePath {
        FilePath::Lost { topic: self.topic, partition: self.number }
    }

    /// The place of a frame in one of its segments.
    pub const fn place(&self, sequence: u32, position: u64) -> SegmentPlace {
        SegmentPlace { topic: self.topic, partition: self.number, sequence, position }
    }

    /// Path of its segment with this sequence.
    pub const fn path(&self, sequence: u32) -> FilePath {
        FilePath::Segment { topic: self.topic, partition: self.number, sequence }
    }

    /// Its open run.
    pub fn open_run(&mut self) -> Option<&mut Run> {
        self.runs.back_mut().filter(|run| run.state == RunState::Open)
    }

    /// The run that begins at this offset.
    pub fn run_at(&mut self, base_offset: u64) -> Option<&mut Run> {
        let index = self.runs.partition_point(|run| run.base_offset < base_offset);
        self.runs.get_mut(index).filter(|run| run.base_offset == base_offset)
    }

    /// Bytes that belong to no commit yet.
    pub fn pending_bytes(&self) -> usize {
        // Only the newest runs can have any: older ones were committed to get there.
        let pending = self.runs.iter().rev().map(Run::pending_bytes);
        pending.take_while(|&bytes| bytes > 0).sum()
    }

    /// Offset behind the newest record that a level of acks may call done.
    pub const fn reached(&self, acks: Acks) -> u64 {
        match acks {
            Acks::None | Acks::Memory => self.progress.appended(),
            Acks::Written => self.progress.written(),
            Acks::Durable => self.progress.durable(),
        }
    }

    /// Recomputes up to where runs are written and stored, after one changed its state.
    pub fn settle_runs(&mut self) {
        let from = self.runs.partition_point(|run| run.next_offset <= self.runs_stored);
        for run in self.runs.range(from..) {
            if run.state < RunState::Written {
                break;
            }
            if run.state == RunState::Stored && run.base_offset <= self.runs_stored {
                self.runs_stored = self.runs_stored.max(run.next_offset);
            }
            self.runs_written = self.runs_written.max(run.next_offset);
        }
    }

    /// The segment with this sequence.
    pub fn segment_mut(&mut self, sequence: u32) -> Option<&mut Segment> {
        if self.next.as_ref().is_some_and(|next| next.sequence == sequence) {
            return self.next.as_deref_mut();
        }
        let retired = self.retired.iter_mut();
        let mut all = self.segments.iter_mut().rev().chain(retired);
        all.find(|segment| segment.sequence == sequence)
    }
}
