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
//!                 └─ no space, or failed ──► a spare is written, durable ──► renamed ──┘
//! ```
//!
//! On a full device nothing may have to be allocated for this: a file gets both its blocks with
//! its first write, and one that cannot be made or has failed is replaced by a spare, whose blocks
//! are there ([`super::start_spares`]).

use std::collections::VecDeque;

use wire::ErrorCode;

use super::cursors::Via;
use super::partition::{Partition, PartitionId};
use super::segment::{Segment, SegmentFile};
use super::slab::Slab;
use super::start_file::{LogStart, START_FILE_BYTES, fill_slot};
use super::start_spares::StartSpares;
use super::store::{Store, StoreTag};
use crate::frame::BLOCK_BYTES;
use crate::layout::FilePath;
use crate::pool::{BufId, Pool};
use crate::port::{Extent, Fault, FileSlot, Level, Notice, Now, Op, OpBatch, Open, Sync, Time};
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
    /// Why the file is not written as it is.
    refusal: Refusal,
}

/// Why a spare takes the place of a start file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Refusal {
    /// None does.
    #[default]
    None,
    /// There was no space for it.
    NoSpace,
    /// It could not be opened or written: it is never written again.
    Failed,
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
            refusal: Refusal::None,
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
    /// The spare gets its name.
    Moving,
    Moved(Result<(), Fault>),
}

/// A start file that is open.
#[derive(Debug)]
struct Writing {
    partition: PartitionId,
    file: FileSlot,
    start: LogStart,
    /// The spare that is to become it.
    spare: Option<u32>,
    /// What is written of it.
    bytes: usize,
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
    /// Partitions without records whose last segment goes too, once all of it is stored.
    emptied: Vec<PartitionId>,
    /// What a full device has for them.
    pub spares: StartSpares,
}

impl Starts {
    /// Whether nothing is on its way.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.writing.is_empty() && self.spares.is_idle()
    }

    /// Forgets a partition that is deleted.
    pub fn forget(&mut self, id: PartitionId) {
        self.queue.retain(|&other| other != id);
        self.retiring.retain(|&other| other != id);
        self.emptied.retain(|&other| other != id);
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
        let is_short = self.space.is_short();
        let partition = self.partitions.get_mut(id.0).expect("named by the caller");
        partition.start.wanted = partition.start.wanted.max(offset);
        if is_short && partition.has_no_more() && !self.starts.emptied.contains(&id) {
            self.starts.emptied.push(id);
        }
        self.queue_start(id);
    }

    fn queue_start(&mut self, id: PartitionId) {
        let partition = self.partition_mut(id);
        if !std::mem::replace(&mut partition.start.is_queued, true) {
            self.starts.queue.push_back(id);
        }
    }

    /// There is little space, or none: what empty partitions still hold goes.
    pub(super) fn empty_ends(&mut self) {
        let partitions = self.partitions.iter();
        let empty = partitions.filter(|(_, partition)| {
            partition.has_no_more() && !partition.is_deleted && !partition.segments.is_empty()
        });
        let ids: Vec<PartitionId> = empty.map(|(id, _)| PartitionId(id)).collect();
        for id in ids {
            if !self.starts.emptied.contains(&id) {
                self.starts.emptied.push(id);
            }
        }
    }

    /// Ends the last segments of partitions without records, once nothing of them is under way.
    fn end_emptied(&mut self, now: Time) {
        for id in std::mem::take(&mut self.starts.emptied) {
            let Some(partition) = self.partitions.get_mut(id.0) else { continue };
            if !partition.has_no_more() || !partition.writable {
                continue;
            }
            if partition.end_last_if_quiet() {
                self.queue_start(id);
            } else {
                self.starts.emptied.push(id);
                self.seal_open(id, Via::Journal, now);
            }
        }
    }

    /// Takes in what became of the start files: [`Starts::ended`] has the outcome.
    pub fn settle_starts(&mut self, pool: &mut Pool, batch: &mut OpBatch) {
        let slots: Vec<u32> = self.starts.writing.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let writing = self.starts.writing.get(slot).expect("listed just now");
            match writing.phase {
                Phase::Opening | Phase::Opened | Phase::Writing(_) | Phase::Moving => {}
                Phase::Written(Ok(())) if writing.spare.is_some() => self.name_start(batch, slot),
                Phase::Moved(Ok(())) | Phase::Written(Ok(())) => self.end_start(pool, batch, slot),
                Phase::Written(Err(fault)) => {
                    batch.ops.push(Op::FileClose { file: writing.file });
                    self.start_refused(batch, slot, fault);
                }
                Phase::NotOpened(fault) | Phase::Moved(Err(fault)) => {
                    self.start_refused(batch, slot, fault);
                }
            }
        }
    }

    /// Goes on with the start files, and with the segments that they let go.
    pub fn write_starts(&mut self, pool: &mut Pool, now: Now, batch: &mut OpBatch) {
        if self.failed.is_some() {
            // Whoever waits is told so; the next start may try again.
            self.starts.queue.clear();
            self.starts.emptied.clear();
        }
        self.end_emptied(now.time);
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
        self.keep_start_spares(batch);
    }

    /// Opens a partition's start file, or the spare that is to become it. False if there is no
    /// file number.
    fn open_start(&mut self, batch: &mut OpBatch, id: PartitionId) -> bool {
        let partition = self.partition(id);
        let refusal = partition.start.refusal;
        let mut spare = None;
        if refusal != Refusal::None {
            // The last one is kept for a start whose segments give space back.
            let kept = usize::from(!partition.frees_segments());
            spare = self.starts.spares.first(kept);
            if spare.is_none() {
                self.start_has_no_file(id, refusal);
                return true;
            }
        }
        let Some(file) = self.take_file_slot(batch) else { return false };
        if spare.is_some() {
            self.starts.spares.take();
        }
        let partition = self.partition_mut(id);
        partition.start.is_queued = false;
        partition.start.is_created = true;
        partition.users += 1;
        let (path, open) = match spare {
            Some(number) => (FilePath::StartSpare { number }, Open::Existing),
            None if partition.start.writes == 0 => (partition.start_path(), Open::Create),
            None => (partition.start_path(), Open::Existing),
        };
        let is_new = spare.is_some() || partition.start.writes == 0;
        let bytes = if is_new { START_FILE_BYTES } else { BLOCK_BYTES };
        let (start, phase) = (partition.next_start(), Phase::Opening);
        self.starts.writing.insert(Writing { partition: id, file, start, spare, bytes, phase });
        batch.ops.push(Op::FileOpen { file, path, open });
        true
    }

    /// Writes the block that says where the partition begins; to a new file both, so that the
    /// other one has its space.
    fn write_start(&mut self, pool: &mut Pool, now: Now, batch: &mut OpBatch, slot: u32) {
        let bytes = self.starts.writing.get(slot).expect("named by the caller").bytes;
        let Some(buf) = self.alloc(pool, bytes) else { return };
        let identity = self.identity;
        let writing = self.starts.writing.get_mut(slot).expect("named by the caller");
        let partition = self.partitions.get(writing.partition.0).expect("kept by its users");
        // More may be wanted than when the file was opened.
        writing.start = partition.next_start();
        let stream = (partition.topic, partition.number);
        let writes = partition.start.writes;
        let content = &mut pool.bytes_mut(buf)[..bytes];
        content.fill(0);
        let blocks = bytes / BLOCK_BYTES;
        let at = if blocks > 1 && writes % 2 == 1 { BLOCK_BYTES } else { 0 };
        let block = &mut content[at..at + BLOCK_BYTES];
        let position = fill_slot(block, &writing.start, stream, &identity, writes, now.wall_ns);
        writing.phase = Phase::Writing(buf);
        batch.ops.push(Op::Write {
            file: writing.file,
            tag: StoreTag::Start(slot).tag(),
            slice: pool.slice(buf, 0, bytes),
            position: if blocks == 1 { position } else { 0 },
            sync: Sync::Durable,
            extent: Extent::Fresh,
        });
        self.counters.durable_writes += 1;
    }

    /// The spare is durable: it becomes the start file.
    fn name_start(&mut self, batch: &mut OpBatch, slot: u32) {
        let writing = self.starts.writing.get_mut(slot).expect("named by the caller");
        let number = writing.spare.expect("seen by the caller");
        writing.phase = Phase::Moving;
        let (id, file) = (writing.partition, writing.file);
        let path = self.partition(id).start_path();
        let open = Open::Adopt { from: FilePath::StartSpare { number } };
        batch.ops.push(Op::FileClose { file });
        batch.ops.push(Op::FileOpen { file, path, open });
    }

    /// Whether a file is a start file; then it was opened, or not.
    pub(super) fn start_opened(&mut self, file: FileSlot, result: Result<u64, Fault>) -> bool {
        let Some(slot) = self.starts.slot_of(file) else { return false };
        let writing = self.starts.writing.get_mut(slot).expect("found just now");
        writing.phase = match result {
            _ if writing.phase == Phase::Moving => Phase::Moved(result.map(drop)),
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
        let held = result.and_then(|bytes| match usize_of(bytes) == writing.bytes {
            true => Ok(()),
            false => Err(Fault::EIO),
        });
        writing.phase = Phase::Written(held);
    }

    /// A start file could not be opened or written, or a spare could not take its place. What the
    /// file says stays true: a spare is written instead, if it was not one.
    fn start_refused(&mut self, batch: &mut OpBatch, slot: u32, fault: Fault) {
        let Some(writing) = self.starts.writing.remove(slot) else { return };
        let (id, spare) = (writing.partition, writing.spare);
        self.files.give(writing.file);
        if let Some(number) = spare {
            self.drop_start_spare(batch, number);
        }
        let partition = self.partition_mut(id);
        partition.users -= 1;
        if partition.is_deleted {
            return;
        }
        let Fault(errno) = fault;
        let path = partition.start_path();
        let refusal = if fault == Fault::ENOSPC { Refusal::NoSpace } else { Refusal::Failed };
        partition.start.refusal = refusal;
        self.counters.storage_failures += 1;
        if fault == Fault::EROFS {
            self.fail(fault, "a partition's start could not be written");
        } else if refusal == Refusal::Failed {
            let text = format!("{path} could not be written (errno {errno}): a spare replaces it");
            self.notices.push(Notice { level: Level::Error, conn: None, text });
        }
        if spare.is_none() && self.failed.is_none() {
            self.queue_start(id);
        } else {
            self.start_has_no_file(id, refusal);
        }
    }

    /// Where the partition begins cannot be told to the disk now: whoever asked may ask again.
    fn start_has_no_file(&mut self, id: PartitionId, refusal: Refusal) {
        let partition = self.partition_mut(id);
        partition.start.is_queued = false;
        let code = match refusal {
            Refusal::Failed => ErrorCode::StorageFailed,
            Refusal::NoSpace | Refusal::None => {
                // There may be some by then.
                partition.start.refusal = Refusal::None;
                ErrorCode::StorageFull
            }
        };
        self.starts.ended.push((id, Err(code)));
    }

    fn end_start(&mut self, pool: &mut Pool, batch: &mut OpBatch, slot: u32) {
        let Some(Writing { partition: id, file, start, .. }) = self.starts.writing.remove(slot)
        else {
            return;
        };
        self.files.give(file);
        batch.ops.push(Op::FileClose { file });
        let partition = self.partition_mut(id);
        partition.users -= 1;
        partition.start.refusal = Refusal::None;
        if !partition.is_deleted {
            self.move_start(pool, id, start);
        }
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
        if self.mending.is_some() {
            // Files that failed stay until what they did not take is elsewhere.
            return LogStart { offset, sequence: self.start.sequence, base: self.start.base };
        }
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

    /// Whether no record is left, nor will be, once what is wanted is done.
    fn has_no_more(&self) -> bool {
        self.start.wanted.max(self.log_start) >= self.progress.appended()
    }

    /// Ends the last segment, if nothing of the partition is under way.
    pub(super) fn end_last_if_quiet(&mut self) -> bool {
        let end = self.progress.appended();
        let is_quiet = self.runs_stored == end && self.progress.is_settled();
        let last = self.segments.back_mut().filter(|last| is_quiet && last.end > 0);
        let Some(last) = last.filter(|_| self.writable) else { return false };
        last.next_offset = Some(end);
        self.writable = false;
        true
    }

    /// Whether segments go once the start file is written.
    fn frees_segments(&self) -> bool {
        self.next_start().sequence > self.start.sequence
    }

    /// Whether segments could go that the start file still counts.
    pub fn has_waste(&self) -> bool {
        self.next_start().sequence > self.start.sequence
            && self.segments.front().is_some_and(|first| self.is_below(first, self.log_start))
    }
}
