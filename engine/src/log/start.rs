//! Where a partition's records begin, made durable before anything is removed.
//!
//! A start file says three things: the offset of the oldest record, the sequence below which no
//! segment belongs to the partition any more, and the offset at which the first segment kept
//! begins. Only once it is durable does the log start move and do segments leave; so whatever a
//! crash leaves behind of them is known to be waste, in any order, and no segment's number is
//! ever used twice.
//!
//! ```text
//!  wanted ──► file opened ──► one block written, durable ──► log start moves, segments retire
//! ```

use std::collections::VecDeque;

use wire::ErrorCode;

use super::partition::{Partition, PartitionId};
use super::segment::{Segment, SegmentFile};
use super::slab::Slab;
use super::start_file::{LogStart, fill_slot};
use super::store::{Store, StoreTag};
use crate::frame::BLOCK_BYTES;
use crate::pool::{BufId, Pool};
use crate::port::{Extent, Fault, FileSlot, Level, Notice, Now, Op, OpBatch, Open, Sync};
use crate::units::usize_of;

/// Start files open at once.
pub const STARTS_IN_FLIGHT_MAX: usize = 4;

/// A partition's start file, as the engine knows it.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// How often it was written; with 0 there is none.
    pub writes: u64,
    /// Segments with a lower sequence are no part of the partition.
    pub sequence: u32,
    /// Where the records of the first segment kept begin.
    pub base: u64,
    /// Where records shall begin.
    wanted: u64,
    /// On the list of those to be written.
    is_queued: bool,
    /// It was created, or is about to be.
    is_created: bool,
    /// A write of it failed: it is never written again in this life.
    has_failed: bool,
}

impl Start {
    /// A partition whose records begin at `offset`, without a start file.
    pub const fn at(offset: u64) -> Start {
        Start {
            writes: 0,
            sequence: 0,
            base: offset,
            wanted: offset,
            is_queued: false,
            is_created: false,
            has_failed: false,
        }
    }

    /// There is a file, and nothing in it.
    pub const fn blank(offset: u64) -> Start {
        Start { is_created: true, ..Start::at(offset) }
    }

    /// Whether there may be a file.
    pub const fn is_there(&self) -> bool {
        self.is_created
    }

    /// What recovery found: `start`, written `writes` times.
    pub const fn found(start: LogStart, writes: u64) -> Start {
        Start {
            writes,
            sequence: start.sequence,
            wanted: start.offset,
            is_created: true,
            ..Start::at(start.base)
        }
    }
}

/// How far the writing of a start file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    NotOpened(Fault),
    Opened,
    Writing(BufId),
    Written(Result<(), Fault>),
}

/// A start file that is open.
#[derive(Debug)]
struct Writing {
    partition: PartitionId,
    file: FileSlot,
    start: LogStart,
    phase: Phase,
}

/// Start files to be written, and being written.
#[derive(Debug, Default)]
pub struct Starts {
    queue: VecDeque<PartitionId>,
    writing: Slab<Writing>,
    /// Partitions whose log start has moved, or could not.
    pub ended: Vec<(PartitionId, Result<(), ErrorCode>)>,
    /// Partitions with retired segments that are not deleted yet.
    retiring: Vec<PartitionId>,
}

impl Starts {
    /// Whether nothing is on its way.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.writing.is_empty()
    }

    /// Forgets a partition that is deleted.
    pub fn forget(&mut self, id: PartitionId) {
        self.queue.retain(|&other| other != id);
        self.retiring.retain(|&other| other != id);
    }

    fn is_writing(&self, id: PartitionId) -> bool {
        self.writing.iter().any(|(_, writing)| writing.partition == id)
    }

    fn slot_of(&self, file: FileSlot) -> Option<u32> {
        self.writing.iter().find(|(_, writing)| writing.file == file).map(|(slot, _)| slot)
    }
}

impl Store {
    /// Records below `offset`, which is durable, shall go. [`Starts::ended`] tells when they have.
    pub fn begin_at(&mut self, id: PartitionId, offset: u64) {
        let partition = self.partitions.get_mut(id.0).expect("named by the caller");
        if partition.start.has_failed {
            return self.starts.ended.push((id, Err(ErrorCode::StorageFailed)));
        }
        partition.start.wanted = partition.start.wanted.max(offset);
        if !partition.start.is_queued {
            partition.start.is_queued = true;
            self.starts.queue.push_back(id);
        }
    }

    /// Takes in what became of the start files: [`Starts::ended`] has the outcome.
    pub fn settle_starts(&mut self, pool: &mut Pool, batch: &mut OpBatch) {
        let slots: Vec<u32> = self.starts.writing.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let writing = self.starts.writing.get(slot).expect("listed just now");
            match writing.phase {
                Phase::Opening | Phase::Opened | Phase::Writing(_) => {}
                Phase::NotOpened(fault) => self.start_refused(pool, slot, fault),
                Phase::Written(result) => self.end_start(pool, batch, slot, result),
            }
        }
    }

    /// Goes on with the start files, and with the segments that they let go.
    pub fn write_starts(&mut self, pool: &mut Pool, now: Now, batch: &mut OpBatch) {
        if self.failed.is_some() {
            // Whoever waits is told so; the next start may try again.
            self.starts.queue.clear();
        }
        let slots = self.starts.writing.iter();
        let opened: Vec<u32> = slots
            .filter(|(_, writing)| writing.phase == Phase::Opened)
            .map(|(slot, _)| slot)
            .collect();
        for slot in opened {
            self.write_start(pool, now, batch, slot);
        }
        for _ in 0..self.starts.queue.len() {
            if self.starts.writing.len() >= STARTS_IN_FLIGHT_MAX {
                break;
            }
            let Some(id) = self.starts.queue.pop_front() else { break };
            // One at a time per file.
            if self.starts.is_writing(id) || !self.open_start(batch, id) {
                self.starts.queue.push_back(id);
            }
        }
        self.reap_retired(batch);
    }

    /// Opens a partition's start file. False if there is no file number.
    fn open_start(&mut self, batch: &mut OpBatch, id: PartitionId) -> bool {
        let Some(file) = self.take_file_slot(batch) else { return false };
        let partition = self.partition_mut(id);
        partition.start.is_queued = false;
        partition.start.is_created = true;
        partition.users += 1;
        let open = if partition.start.writes == 0 { Open::Create } else { Open::Existing };
        let (start, path) = (partition.next_start(), partition.start_path());
        self.starts.writing.insert(Writing { partition: id, file, start, phase: Phase::Opening });
        batch.ops.push(Op::FileOpen { file, path, open });
        true
    }

    /// Writes the block that says where the partition begins.
    fn write_start(&mut self, pool: &mut Pool, now: Now, batch: &mut OpBatch, slot: u32) {
        let Some(buf) = self.alloc(pool, BLOCK_BYTES) else { return };
        let identity = self.identity;
        let writing = self.starts.writing.get_mut(slot).expect("named by the caller");
        let partition = self.partitions.get(writing.partition.0).expect("kept by its users");
        // More may be wanted than when the file was opened.
        writing.start = partition.next_start();
        let stream = (partition.topic, partition.number);
        let (writes, block) = (partition.start.writes, pool.bytes_mut(buf));
        let position = fill_slot(block, &writing.start, stream, &identity, writes, now.wall_ns);
        writing.phase = Phase::Writing(buf);
        batch.ops.push(Op::Write {
            file: writing.file,
            tag: StoreTag::Start(slot).tag(),
            slice: pool.slice(buf, 0, BLOCK_BYTES),
            position,
            sync: Sync::Durable,
            extent: Extent::Fresh,
        });
        self.counters.durable_writes += 1;
    }

    /// Whether a file is a start file; then it was opened, or not.
    pub(super) fn start_opened(&mut self, file: FileSlot, result: Result<u64, Fault>) -> bool {
        let Some(slot) = self.starts.slot_of(file) else { return false };
        let writing = self.starts.writing.get_mut(slot).expect("found just now");
        writing.phase = match result {
            Ok(_) => Phase::Opened,
            Err(fault) => Phase::NotOpened(fault),
        };
        true
    }

    /// The write of a start file ended.
    pub fn start_wrote(&mut self, pool: &mut Pool, slot: u32, result: Result<u32, Fault>) {
        let Some(writing) = self.starts.writing.get_mut(slot) else { return };
        if let Phase::Writing(buf) = writing.phase {
            pool.release(buf);
        }
        let held = result.and_then(|bytes| match usize_of(bytes) == BLOCK_BYTES {
            true => Ok(()),
            false => Err(Fault::EIO),
        });
        writing.phase = Phase::Written(held);
    }

    /// A start file could not be opened.
    fn start_refused(&mut self, pool: &mut Pool, slot: u32, fault: Fault) {
        let Some(Writing { partition: id, file, .. }) = self.starts.writing.remove(slot) else {
            return;
        };
        self.files.give(file);
        let partition = self.partitions.get_mut(id.0).expect("kept by its users");
        partition.users -= 1;
        match fault {
            _ if partition.is_deleted => {}
            Fault::ENOSPC => self.start_without_space(pool, id),
            fault => self.start_failed(id, fault),
        }
    }

    fn end_start(
        &mut self,
        pool: &mut Pool,
        batch: &mut OpBatch,
        slot: u32,
        result: Result<(), Fault>,
    ) {
        let Some(Writing { partition: id, file, start, .. }) = self.starts.writing.remove(slot)
        else {
            return;
        };
        self.files.give(file);
        batch.ops.push(Op::FileClose { file });
        let partition = self.partitions.get_mut(id.0).expect("kept by its users");
        partition.users -= 1;
        match result {
            _ if partition.is_deleted => {}
            Ok(()) => self.move_start(pool, id, start),
            Err(fault) => self.start_failed(id, fault),
        }
    }

    fn start_failed(&mut self, id: PartitionId, fault: Fault) {
        if fault == Fault::EROFS {
            self.fail(fault, "a partition's start could not be written");
        }
        let Fault(errno) = fault;
        self.counters.storage_failures += 1;
        let partition = self.partition_mut(id);
        partition.start.has_failed = true;
        let text = format!(
            "{} could not be written (errno {errno}): no records of this partition are deleted \
             until the broker is restarted",
            partition.start_path()
        );
        self.notices.push(Notice { level: Level::Error, conn: None, text });
        self.starts.ended.push((id, Err(ErrorCode::StorageFailed)));
    }

    /// The start is durable: what lies before it goes.
    fn move_start(&mut self, pool: &mut Pool, id: PartitionId, start: LogStart) {
        self.counters.log_starts_moved += 1;
        let partition = self.partition_mut(id);
        partition.start.writes += 1;
        partition.start.sequence = start.sequence;
        partition.start.base = start.base;
        partition.log_start = start.offset;
        partition.damaged.begin_at(start.offset);
        let first = |partition: &Partition| partition.segments.front().map(|s| s.sequence);
        while first(self.partition(id)).is_some_and(|first| first < start.sequence) {
            self.retire_first(pool, id);
        }
        self.starts.ended.push((id, Ok(())));
    }

    /// A full device has no room for a start file. The oldest segment goes without one if another
    /// is left: that begins the partition then, and its number stays used.
    fn start_without_space(&mut self, pool: &mut Pool, id: PartitionId) {
        self.starts.ended.push((id, Err(ErrorCode::StorageFull)));
        let partition = self.partition_mut(id);
        let offset = partition.start.wanted.max(partition.log_start);
        let waste = partition.segments.front().filter(|first| partition.is_below(first, offset));
        let second = partition.segments.get(1).filter(|_| waste.is_some());
        if let Some(base) = second.map(|second| second.base_offset) {
            partition.log_start = partition.log_start.max(base);
            partition.start.base = base;
            self.retire_first(pool, id);
        }
    }

    fn retire_first(&mut self, pool: &mut Pool, id: PartitionId) {
        let partition = self.partition_mut(id);
        let Some(segment) = partition.segments.pop_front() else { return };
        // Its readers look for their offsets again; what is being read for them ends first.
        self.streams.remove_segment(pool, id, segment.sequence);
        self.partition_mut(id).retired.push(segment);
        self.counters.segments_retired += 1;
        if !self.starts.retiring.contains(&id) {
            self.starts.retiring.push(id);
        }
    }

    /// Closes and deletes retired segments that nobody reads any more.
    fn reap_retired(&mut self, batch: &mut OpBatch) {
        let mut paths = Vec::new();
        for id in std::mem::take(&mut self.starts.retiring) {
            let Some(partition) = self.partitions.get(id.0) else { continue };
            let free = partition.retired.iter().filter(|segment| is_free(segment));
            let free: Vec<u32> = free.map(|segment| segment.sequence).collect();
            for &sequence in &free {
                self.close_segment_file(batch, id, sequence);
            }
            let partition = self.partition_mut(id);
            let (gone, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut partition.retired)
                .into_iter()
                .partition(|segment| free.contains(&segment.sequence));
            partition.retired = kept;
            if !partition.retired.is_empty() {
                self.starts.retiring.push(id);
            }
            for segment in gone {
                let path = self.partition(id).path(segment.sequence);
                if !self.recycle(batch, &path, &segment) {
                    paths.push(path);
                }
            }
        }
        if !paths.is_empty() {
            batch.ops.push(Op::FilesDelete { tag: StoreTag::Delete.tag(), paths });
        }
    }
}

fn is_free(segment: &Segment) -> bool {
    let opening = |file: SegmentFile| matches!(file, SegmentFile::Opening(_));
    let is_opening = opening(segment.file) || opening(segment.buffered);
    segment.users == 0 && !segment.extending && !is_opening
}

impl Partition {
    /// Whether a segment, complete and stored, holds nothing from `offset` on.
    fn is_below(&self, segment: &Segment, offset: u64) -> bool {
        let end = segment.next_offset.unwrap_or(u64::MAX);
        end <= offset && end <= self.runs_stored && !self.is_written(segment)
    }

    /// Recovery found that its records on disk begin here.
    pub fn begin_with(&mut self, base: u64) {
        self.log_start = base.max(self.start.wanted);
    }

    /// Whether more may be written to a segment.
    pub fn is_written(&self, segment: &Segment) -> bool {
        let last = self.segments.back().filter(|_| self.writable);
        last.is_some_and(|last| last.sequence == segment.sequence)
    }

    /// What the start file is to say.
    fn next_start(&self) -> LogStart {
        let offset = self.start.wanted.max(self.log_start);
        let gone = self.segments.iter().take_while(|segment| self.is_below(segment, offset));
        let gone = gone.count();
        let (sequence, base) = match self.segments.get(gone) {
            Some(kept) => (kept.sequence, kept.base_offset),
            None => {
                let next = self.next.as_ref().map_or(self.next_sequence, |next| next.sequence);
                let ended = self.segments.back().and_then(|last| last.next_offset);
                (next, ended.unwrap_or(self.start.base))
            }
        };
        LogStart { offset, sequence, base }
    }

    /// Whether segments could go that the start file still counts.
    pub fn has_waste(&self) -> bool {
        self.next_start().sequence > self.start.sequence
            && self.segments.front().is_some_and(|first| self.is_below(first, self.log_start))
    }
}
