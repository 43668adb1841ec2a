//! A segment that ended by a failure, and its partition's way into the next one.
//!
//! What the file holds up to the first void record stays, and is read from there. What follows is
//! written to the next segment, all but its first frame. That is written when the rest was read
//! back: until then whoever starts after a kill finds the next segment without a first frame, takes
//! it for nothing, and what was acknowledged as written in the file that failed. From then on the
//! next segment counts, and all of it is there. Files in which nothing counts any more go then.
//!
//! ```text
//!  quiet ──► the others rewritten ──► the first rewritten ──► void files deleted ──► goes on
//! ```

use super::super::partition::{Mending, Partition, PartitionId};
use super::super::run::{Proof, Run, RunState};
use super::super::segment::{Segment, SegmentFile};
use super::super::store::{Store, StoreTag};
use crate::layout::FilePath;
use crate::pool::Pool;
use crate::port::{Fault, FileSlot, Now, Op, OpBatch, Sync};

/// A partition whose segment failed.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) partition: PartitionId,
    phase: Phase,
    /// Files in which nothing will count.
    pub(super) void: Vec<FilePath>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Until nothing of the partition is in flight.
    Quiet,
    /// What is void is written again.
    Rewriting,
    /// All of it is safe.
    Safe,
    /// Files are being deleted.
    Deleting,
}

impl Store {
    /// A write to a segment, or a flush of it, failed.
    pub(in super::super) fn segment_failed(
        &mut self,
        id: PartitionId,
        sequence: u32,
        fault: Fault,
        what: &str,
    ) {
        self.counters.storage_failures += 1;
        let Some(partition) = self.partitions.get_mut(id.0) else { return };
        if partition.is_deleted || self.failed.is_some() {
            return;
        }
        let what = format!("{}: {what}", partition.path(sequence));
        let Some(segment) = partition.segment_mut(sequence) else { return };
        if std::mem::replace(&mut segment.has_failed, true) {
            return;
        }
        let unsettled = |run: &&Run| {
            run.segment == sequence
                && run.state > RunState::Sealed
                && run.next_offset > partition.runs_stored
        };
        let mut void = partition.runs.iter().filter(unsettled);
        let is_second = void.any(|run| run.proof == Proof::Rewritten);
        if is_second || fault == Fault::EROFS {
            return self.fail(fault, &what);
        }
        let then = "what it did not take is written again to another file and read back";
        self.note_failure(&what, fault, then);
        self.begin_ending(id, Phase::Quiet, None);
    }

    /// One that is under way begins anew if a file with records failed, unless its files are being
    /// deleted: then it looks again when they are. A file without any is only deleted with them.
    fn begin_ending(&mut self, id: PartitionId, phase: Phase, void: Option<FilePath>) {
        let is_under_way = self.partition(id).mending.is_some();
        if phase == Phase::Quiet || !is_under_way {
            self.partition_mut(id).mending = Some(Box::new(Mending::Quiet));
        }
        let mut endings = self.failures.ending.iter_mut();
        match endings.find(|ending| ending.partition == id) {
            Some(ending) => {
                if phase == Phase::Quiet && ending.phase != Phase::Deleting {
                    ending.phase = Phase::Quiet;
                }
                ending.void.extend(void);
            }
            None => {
                let void = void.into_iter().collect();
                self.failures.ending.push(Ending { partition: id, phase, void });
            }
        }
    }

    /// A segment that was to be written to could not be opened.
    pub(in super::super) fn segment_not_opened(
        &mut self,
        id: PartitionId,
        file: FileSlot,
        sequence: u32,
        fault: Fault,
    ) {
        self.segment_files.remove(&file);
        self.files.give(file);
        self.counters.storage_failures += 1;
        let partition = self.partition_mut(id);
        let what = format!("{} could not be opened", partition.path(sequence));
        if fault == Fault::EROFS {
            if let Some(segment) = partition.segment_mut(sequence) {
                // Readers who wait for it are told.
                segment.file = SegmentFile::Missing;
            }
            return self.fail(fault, &what);
        }
        let waiting = partition.runs.iter_mut().filter(|run| run.state == RunState::Sealed);
        if partition.next.as_ref().is_none_or(|next| next.sequence != sequence) {
            // The last one, closed while it was idle: all of it is stored.
            let end = waiting.map(|run| run.base_offset).next();
            let end = end.unwrap_or(partition.progress.appended());
            partition.writable = false;
            if let Some(last) = partition.segments.back_mut() {
                last.file = SegmentFile::Closed;
                last.next_offset = Some(end);
            }
            return self.note_failure(&what, fault, "its partition goes on in another file");
        }
        let mut is_second = false;
        for run in waiting {
            is_second |= run.proof != Proof::None;
            run.proof = Proof::Owed;
        }
        partition.next = None;
        let path = partition.path(sequence);
        if is_second {
            return self.fail(fault, &what);
        }
        self.note_failure(&what, fault, "its partition goes on in another file");
        self.begin_ending(id, Phase::Safe, Some(path));
    }

    /// Goes on with the segments that failed.
    pub fn end_segments(&mut self, pool: &mut Pool, now: Now, batch: &mut OpBatch) {
        if self.failed.is_some() {
            return;
        }
        let mut left = std::mem::take(&mut self.failures.ending);
        let mut kept = Vec::new();
        while let Some(mut ending) = left.pop() {
            let id = ending.partition;
            let is_deleted = self.partition(id).is_deleted;
            if !is_deleted && ending.phase == Phase::Quiet && self.is_quiet_for(id) {
                ending.void.append(&mut self.void_runs(batch, id));
                ending.phase = Phase::Rewriting;
                self.resume(id);
            }
            if !is_deleted && ending.phase == Phase::Rewriting && self.rewrite(pool, now, batch, id)
            {
                ending.phase = Phase::Safe;
            }
            if !is_deleted && ending.phase == Phase::Safe {
                if ending.void.is_empty() {
                    self.goes_on(id);
                    left.append(&mut self.failures.ending);
                    continue;
                }
                self.partition_mut(id).users += 1;
                let (tag, paths) = (StoreTag::Void(id.0).tag(), std::mem::take(&mut ending.void));
                batch.ops.push(Op::FilesDelete { tag, paths });
                ending.phase = Phase::Deleting;
            }
            kept.push(ending);
        }
        self.failures.ending = kept;
    }

    /// Writes the first void run once those behind it were read back. True when all are safe.
    fn rewrite(&mut self, pool: &mut Pool, now: Now, batch: &mut OpBatch, id: PartitionId) -> bool {
        let partition = self.partition_mut(id);
        let Some(&Mending::Rewriting { from, to }) = partition.mending.as_deref() else {
            return true;
        };
        if partition.runs_stored >= to {
            return true;
        }
        let first = partition.runs.partition_point(|run| run.base_offset < from);
        let void = partition.runs.range(first..).take_while(|run| run.base_offset < to);
        let are_others_safe = void.skip(1).all(|run| run.state == RunState::Stored);
        let run = &partition.runs[first];
        if run.state != RunState::Placed || !are_others_safe {
            return false;
        }
        let sequence = run.segment;
        match partition.segment_mut(sequence).map(|segment| segment.file) {
            Some(SegmentFile::Open(file)) => self.write_run(pool, now, batch, id, first, file),
            Some(SegmentFile::Closed) => self.reopen(batch, id, sequence),
            Some(SegmentFile::Opening(_)) => {}
            Some(SegmentFile::Missing) | None => {
                self.fail(Fault::EIO, "a segment cannot be opened again");
            }
        }
        false
    }

    /// Whether nothing that was submitted for the partition's runs is in flight.
    fn is_quiet_for(&self, id: PartitionId) -> bool {
        let partition = self.partition(id);
        let failed = partition.segments.iter().position(|segment| segment.has_failed);
        let mut void = partition.segments.iter().skip(failed.unwrap_or(0));
        let is_free = |segment: &Segment| {
            let is_opening = matches!(segment.file, SegmentFile::Opening(_));
            !segment.extending && !is_opening
        };
        self.run_writes.iter().all(|(_, write)| write.partition != id)
            && self.segment_flushes.iter().all(|(_, (other, _))| *other != id)
            && self.failures.reading.iter().all(|(_, read)| read.partition != id)
            && void.all(is_free)
    }

    /// Everything from the first run on that the failed segment did not take is sealed again.
    /// Gives the files that hold nothing else.
    fn void_runs(&mut self, batch: &mut OpBatch, id: PartitionId) -> Vec<FilePath> {
        let partition = self.partition_mut(id);
        let Some(first) = partition.first_void() else {
            // All of it had been stored before.
            partition.end_last();
            return Vec::new();
        };
        let run = &partition.runs[first];
        let (sequence, position, base_offset) = (run.segment, run.position, run.base_offset);
        let mut to = base_offset;
        for run in partition.runs.range_mut(first..).filter(|run| run.state > RunState::Sealed) {
            run.state = RunState::Sealed;
            run.proof = Proof::Owed;
            run.sync = Sync::Durable;
            to = run.next_offset;
        }
        partition.mending = Some(Box::new(Mending::Rewriting { from: base_offset, to }));
        partition.writable = false;
        let keeps = u32::from(position > 0);
        let gone = partition.segments.iter().map(|segment| segment.sequence);
        let gone: Vec<u32> = gone.filter(|&other| other >= sequence + keeps).collect();
        for &sequence in &gone {
            self.close_segment_file(batch, id, sequence);
        }
        let partition = self.partition_mut(id);
        partition.segments.retain(|segment| !gone.contains(&segment.sequence));
        if let Some(last) = partition.segments.back_mut().filter(|_| keeps == 1) {
            last.end = position;
            last.index.retain(|entry| entry.position < position);
        }
        if let Some(last) = partition.segments.back_mut() {
            last.next_offset = Some(base_offset);
        }
        gone.iter().map(|&sequence| partition.path(sequence)).collect()
    }

    /// All is safe: the partition's runs get their places as before, unless another file failed
    /// meanwhile.
    fn goes_on(&mut self, id: PartitionId) {
        let partition = self.partition_mut(id);
        partition.mending = None;
        if partition.first_void().is_some() {
            return self.begin_ending(id, Phase::Quiet, None);
        }
        // Segments may go again.
        self.retention.rolled(id);
        self.resume(id);
    }

    /// Runs of the partition may get their places, and flushes may begin.
    fn resume(&mut self, id: PartitionId) {
        let partition = self.partition_mut(id);
        // The flush that failed was to ask for the next one.
        let asks = partition.runs.iter().any(|run| run.state == RunState::Written);
        if !std::mem::replace(&mut partition.is_placing, true) {
            self.placing.push_back(id);
        }
        if asks && !self.flushing.contains(&id) {
            self.flushing.push(id);
        }
    }

    /// Files that held nothing but what failed were deleted, or not.
    pub fn void_deleted(&mut self, id: PartitionId, result: Result<(), Fault>) {
        self.partition_mut(id).users -= 1;
        let mut endings = self.failures.ending.iter_mut();
        let Some(ending) = endings.find(|ending| ending.partition == id) else { return };
        ending.phase = Phase::Safe;
        if let Err(fault) = result {
            self.fail(fault, "a file that failed could not be deleted");
        }
    }
}

impl Partition {
    /// The first run that a failed segment did not take.
    fn first_void(&self) -> Option<usize> {
        let failed = self.segments.iter().rev().filter(|segment| segment.has_failed);
        self.runs.iter().position(|run| {
            run.state > RunState::Sealed
                && run.next_offset > self.runs_stored
                && failed.clone().any(|segment| segment.sequence == run.segment)
        })
    }

    /// No more is written to the last segment if it failed, though it is stored whole.
    fn end_last(&mut self) {
        self.writable = false;
        if self.segments.back().is_none_or(|last| !last.has_failed) {
            return;
        }
        let next = self.runs.iter().find(|run| run.state <= RunState::Sealed);
        let end = next.map_or(self.progress.appended(), |run| run.base_offset);
        if let Some(last) = self.segments.back_mut() {
            last.next_offset = Some(end);
        }
    }
}
