//! Where runs go in their segments, and what becomes of the segments' files.
//!
//! Runs of a partition get their places in offset order, so a segment is dense. A run is stored
//! once its frame is durable there; only then may the journal forget it and memory drop it.

use wire::TopicId;
use zerocopy::IntoBytes;

use super::cursors::Via;
use super::partition::{Partition, PartitionId};
use super::run::{Proof, Run, RunState};
use super::segment::{Segment, SegmentFile};
use super::store::{RunWrite, Store, StoreTag};
use crate::frame::seal_frame;
use crate::frame::{EntryHeader, EntryKind, FrameKind, FrameMeta, HEADER_BYTES, RUN_PREFIX_BYTES};
use crate::pool::Pool;
use crate::port::{Extent, Fault, FileSlot, Now, Op, OpBatch, Sync, Time};
use crate::settings::INDEX_SPACING_BYTES;
use crate::units::{u32_of, u64_of, usize_of};

/// Why a run did not get its place yet.
enum Delay {
    /// The segment's file is being opened.
    File,
    /// Enough background writes are in flight.
    Background,
    /// The segment's space is being reserved, or there is none.
    Space,
}

impl Store {
    /// Writes sealed runs to their segments, as far as files and limits allow.
    pub fn place_runs(&mut self, pool: &mut Pool, now: Now, batch: &mut OpBatch) {
        if self.failed.is_some() {
            return;
        }
        self.seal_if_stuck(now.time);
        self.reserve_wanted(batch);
        for _ in 0..self.placing.len() {
            let Some(id) = self.placing.pop_front() else { return };
            if self.partitions.get(id.0).is_none() {
                continue;
            }
            match self.place_partition(pool, now, batch, id) {
                Ok(()) => self.partition_mut(id).is_placing = false,
                Err(Delay::File | Delay::Background | Delay::Space) => self.placing.push_back(id),
            }
            if self.space.is_full {
                self.note_starved(id);
            }
        }
    }

    /// What waits for space was not refused in time: whoever waits for it is told now.
    fn note_starved(&mut self, id: PartitionId) {
        let partition = self.partition(id);
        let waits = !partition.durable_waiters.is_empty() || !partition.written_waiters.is_empty();
        let mut waiting = partition.runs.iter().filter(|run| run.state == RunState::Sealed);
        let from = waiting.find(|run| run.direct).filter(|_| waits).map(|run| run.base_offset);
        self.space.starved.extend(from.map(|from| (id, from)));
    }

    /// When producers wait for bytes to be stored, or for memory in one piece, and all that is
    /// left lies in runs that are still open, nothing else would ever send these on their way.
    fn seal_if_stuck(&mut self, now: Time) {
        let full = std::mem::take(&mut self.is_stuck)
            || self.unstored_bytes > self.settings.unstored_bytes_max;
        if !full || !self.placing.is_empty() || !self.run_writes.is_empty() {
            return;
        }
        let ids: Vec<u32> = self.partitions.iter().map(|(id, _)| id).collect();
        for id in ids {
            self.seal_open(PartitionId(id), Via::Journal, now);
        }
    }

    fn place_partition(
        &mut self,
        pool: &mut Pool,
        now: Now,
        batch: &mut OpBatch,
        id: PartitionId,
    ) -> Result<(), Delay> {
        loop {
            let partition = self.partitions.get_mut(id.0).expect("checked by the caller");
            // Runs get their places in order, so those that have one stand in front.
            let index = partition.runs.partition_point(|run| run.state > RunState::Sealed);
            let next = partition.runs.get(index);
            let Some(next) = next.filter(|run| run.state == RunState::Sealed) else {
                return Ok(());
            };
            if partition.mending.as_deref().is_some_and(|mending| !mending.allows(next.base_offset))
            {
                return Err(Delay::File);
            }
            let direct = partition.runs.range(index..).any(|run| run.direct);
            if !direct && self.background_writes >= self.settings.background_writes_max {
                return Err(Delay::Background);
            }
            let bytes = u64_of(partition.runs[index].frame_bytes());
            let file = self.ensure_segment(batch, id, bytes, index)?;
            if !self.has_space(batch, id, bytes) {
                return Err(Delay::Space);
            }
            if !self.place_run(id, index) {
                self.write_run(pool, now, batch, id, index, file);
            }
            self.reserve_ahead(batch, id);
            self.open_ahead(batch, id);
        }
    }

    /// The file of a segment with room for `bytes` more: the current one, the one opened ahead,
    /// or a new one, which must be opened first.
    fn ensure_segment(
        &mut self,
        batch: &mut OpBatch,
        id: PartitionId,
        bytes: u64,
        run: usize,
    ) -> Result<FileSlot, Delay> {
        let partition = self.partitions.get_mut(id.0).expect("checked by the caller");
        let base_offset = partition.runs[run].base_offset;
        if let Some(last) = partition.segments.back_mut().filter(|_| partition.writable) {
            let room = last.end == 0 || last.end + bytes <= partition.segment_bytes;
            if room {
                let (file, sequence) = (last.file, last.sequence);
                return match file {
                    SegmentFile::Open(slot) => Ok(slot),
                    SegmentFile::Opening(_) | SegmentFile::Missing => Err(Delay::File),
                    SegmentFile::Closed => {
                        self.reopen(batch, id, sequence);
                        Err(Delay::File)
                    }
                };
            }
            last.next_offset = Some(base_offset);
            partition.writable = false;
        }
        if partition.next.is_none() {
            self.open_next(batch, id);
        }
        let partition = self.partitions.get_mut(id.0).expect("checked by the caller");
        let is_open = partition.next.as_ref().is_some_and(|next| next.open_file().is_some());
        if !is_open {
            return Err(Delay::File);
        }
        let mut next = partition.next.take().expect("just seen");
        next.base_offset = base_offset;
        let file = next.open_file().expect("just seen");
        if let Some(last) = partition.segments.back_mut() {
            last.next_offset = Some(base_offset);
        }
        partition.segments.push_back(*next);
        partition.writable = true;
        self.retention.rolled(id);
        Ok(file)
    }

    /// Gives a run its place at the end of the last segment. True if it is not to be written now.
    fn place_run(&mut self, id: PartitionId, index: usize) -> bool {
        let partition = self.partitions.get_mut(id.0).expect("checked by the caller");
        let segment = partition.segments.back_mut().expect("ensured by the caller");
        let run = &mut partition.runs[index];
        run.segment = segment.sequence;
        run.position = segment.end;
        run.state = RunState::Placed;
        if run.proof == Proof::Owed {
            run.proof = Proof::Rewritten;
        }
        let bytes = u64_of(run.frame_bytes());
        segment.push(run.base_offset, bytes, run.max_timestamp_ms, INDEX_SPACING_BYTES);
        partition.mending.as_deref().is_some_and(|mending| mending.holds(run.base_offset))
    }

    /// Writes a run to its place.
    pub(super) fn write_run(
        &mut self,
        pool: &mut Pool,
        now: Now,
        batch: &mut OpBatch,
        id: PartitionId,
        index: usize,
        file: FileSlot,
    ) {
        let identity = self.identity;
        let partition = self.partitions.get_mut(id.0).expect("checked by the caller");
        let run = &mut partition.runs[index];
        run.state = RunState::Writing;
        let bytes = run.frame_bytes();
        let (sequence, is_first) = (run.segment, run.position == 0);
        let end = run.position + u64_of(bytes);
        let place = partition.segments.iter().rposition(|segment| segment.sequence == sequence);
        let place = place.expect("it has its place there");
        let segment = &mut partition.segments[place];
        let extent = if end <= segment.written_to { Extent::Written } else { Extent::Fresh };
        segment.users += 1;
        partition.users += 1;
        let before = place.checked_sub(1).map(|before| &partition.segments[before]);
        let before = before.filter(|_| is_first);
        let meta = FrameMeta {
            kind: FrameKind::Segment,
            key: identity.key,
            boot_epoch: identity.boot_epoch,
            broker_id: identity.broker_id,
            lsn: before.map_or(0, |before| before.newest.recorded()),
            // Not `durable()`: that counts what only the journal holds, and a lost background
            // write below it would look like damage to acknowledged data.
            watermark: partition.runs_stored,
            file_sequence: u64::from(run.segment),
            position: run.position,
            wall_ns: now.wall_ns,
        };
        seal_run(pool, partition.topic, partition.number, partition.kind, run, &meta);
        pool.retain(run.buf);
        let (buf, sync, direct) = (run.buf, run.sync, run.direct);
        let (base_offset, position) = (run.base_offset, run.position);
        let write = RunWrite { partition: id, base_offset, buf, bytes, background: !direct };
        let tag = StoreTag::Run(self.run_writes.insert(write)).tag();
        let slice = pool.slice(buf, 0, bytes);
        self.journal.last_submit = now.time;
        batch.ops.push(Op::Write { file, tag, slice, position, sync, extent });
        self.counters.durable_writes += u64::from(sync == Sync::Durable);
        if direct {
            self.counters.direct_runs += 1;
            self.counters.direct_bytes += u64_of(bytes);
        } else {
            self.background_writes += 1;
            self.counters.background_runs += 1;
            self.counters.background_bytes += u64_of(bytes);
        }
    }

    /// A run's write ended.
    pub fn run_wrote(&mut self, pool: &mut Pool, slot: u32, result: Result<u32, Fault>) {
        let Some(write) = self.run_writes.remove(slot) else { return };
        pool.release(write.buf);
        self.background_writes -= usize::from(write.background);
        let id = write.partition;
        let partition = self.partitions.get_mut(id.0).expect("kept by its users");
        partition.users -= 1;
        let Some(run) = partition.run_at(write.base_offset) else { return };
        let (sync, sequence) = (run.sync, run.segment);
        let Some(segment) = partition.segment_mut(sequence) else { return };
        segment.users -= 1;
        let has_failed = segment.has_failed;
        match result {
            Ok(written) if usize_of(written) == write.bytes => {}
            Ok(_) => return self.segment_failed(id, sequence, Fault::EIO, "a write was short"),
            Err(fault) => return self.segment_failed(id, sequence, fault, "a write failed"),
        }
        if has_failed {
            return;
        }
        let run = partition.run_at(write.base_offset).expect("just seen");
        match sync {
            Sync::Durable if run.proof == Proof::None => run.state = RunState::Stored,
            Sync::Durable => {
                run.state = RunState::Proving;
                self.failures.prove(id, write.base_offset);
            }
            Sync::Written => {
                run.state = RunState::Written;
                if !self.flushing.contains(&id) {
                    self.flushing.push(id);
                }
            }
        }
        self.settle_partition_runs(id);
    }

    pub(super) fn settle_partition_runs(&mut self, id: PartitionId) {
        let partition = self.partitions.get_mut(id.0).expect("named by an op");
        let stored_before = partition.runs_stored;
        partition.settle_runs();
        let stored = partition.runs_stored;
        let from = partition.runs.partition_point(|run| run.base_offset < stored_before);
        let mut direct = false;
        for run in partition.runs.range_mut(from..) {
            if run.next_offset > stored {
                break;
            }
            self.unstored_bytes -= run.data_bytes();
            direct |= run.direct;
            if run.pending_bytes() > 0 {
                // Stored before a frame took it: it needs none, and may leave memory now.
                self.uncommitted_bytes -= run.commit_all();
                partition.progress.submit(run.next_offset, Via::Run, run.opened);
            }
            self.evictable.push_back((id, run.base_offset));
            let mut files = std::mem::take(&mut run.journal_files);
            while files != 0 {
                let index = files.trailing_zeros();
                self.journal.files[usize_of(index)].pins -= 1;
                files &= files - 1;
            }
        }
        if direct {
            self.note_unproven(id);
        }
        self.advance(id);
    }

    /// Submits the segment flushes that are due: at once, since consumers wait for them.
    pub fn flush_segments(&mut self, batch: &mut OpBatch) {
        if self.failed.is_some() {
            return;
        }
        for id in std::mem::take(&mut self.flushing) {
            let Some(partition) = self.partitions.get_mut(id.0) else { continue };
            if partition.is_quieting() {
                self.flushing.push(id);
                continue;
            }
            // One at a time: the end of a flush says nothing of what a later one covers. Its
            // end asks again.
            if partition.runs.iter().any(|run| run.state == RunState::Flushing) {
                continue;
            }
            let first = partition.runs.iter().find(|run| run.state == RunState::Written);
            let Some(sequence) = first.map(|run| run.segment) else { continue };
            let Some(segment) = partition.segment_mut(sequence) else { continue };
            let Some(file) = segment.open_file() else { continue };
            segment.users += 1;
            partition.users += 1;
            // What is written by now is covered; later runs of the segment ask again.
            for run in &mut partition.runs {
                if run.state == RunState::Written && run.segment == sequence {
                    run.state = RunState::Flushing;
                }
            }
            self.counters.flushes += 1;
            let tag = StoreTag::SegmentFlush(self.segment_flushes.insert((id, sequence))).tag();
            batch.ops.push(Op::Flush { file, tag });
        }
    }

    /// A segment flush ended.
    pub fn segment_flushed(&mut self, slot: u32, result: Result<(), Fault>) {
        let Some((id, sequence)) = self.segment_flushes.remove(slot) else { return };
        let partition = self.partitions.get_mut(id.0).expect("kept by its users");
        partition.users -= 1;
        let Some(segment) = partition.segment_mut(sequence) else { return };
        segment.users -= 1;
        let has_failed = segment.has_failed;
        if let Err(fault) = result {
            return self.segment_failed(id, sequence, fault, "a flush failed");
        }
        if has_failed {
            return;
        }
        let flushed = partition.runs.iter_mut();
        let flushed = flushed.filter(|r| r.state == RunState::Flushing && r.segment == sequence);
        for run in flushed {
            if run.proof == Proof::None {
                run.state = RunState::Stored;
            } else {
                run.state = RunState::Proving;
                self.failures.prove(id, run.base_offset);
            }
        }
        let more = partition.runs.iter().any(|run| run.state == RunState::Written);
        if more && !self.flushing.contains(&id) {
            self.flushing.push(id);
        }
        self.settle_partition_runs(id);
    }

    /// A recovered run was stored by recovery itself.
    pub(crate) fn settle_replayed(&mut self, id: PartitionId, end: u64, now: Time) {
        self.partition_mut(id).progress.submit(end, Via::Run, now);
        self.settle_partition_runs(id);
    }

    /// Marks a partition deleted: nothing of it will be served, written or waited for any more.
    pub fn delete_partition(&mut self, pool: &mut Pool, id: PartitionId) {
        let Some(partition) = self.partitions.get_mut(id.0) else { return };
        partition.is_deleted = true;
        self.streams.remove_partition(pool, id);
        let had_open = partition.open_run().is_some();
        self.open_runs -= usize::from(had_open);
        for run in partition.runs.drain(..) {
            if run.next_offset > partition.runs_stored {
                self.unstored_bytes -= run.data_bytes();
            }
            let mut files = run.journal_files;
            while files != 0 {
                self.journal.files[usize_of(files.trailing_zeros())].pins -= 1;
                files &= files - 1;
            }
            self.uncommitted_bytes -= run.pending_bytes();
            pool.release(run.buf);
        }
        self.waits -= std::mem::take(&mut partition.waits);
        self.dirty.retain(|&other| other != id);
        self.placing.retain(|&other| other != id);
        self.flushing.retain(|&other| other != id);
        self.starts.forget(id);
        self.retention.forget(id);
        self.forget_scrub(id);
        self.failures.forget(id);
        self.journal.remedy.forget(id);
    }

    /// Frees deleted partitions that nothing names any more: closes and deletes their files.
    pub fn reap(&mut self, batch: &mut OpBatch, deleted: &mut Vec<PartitionId>) {
        deleted.retain(|&id| {
            let Some(partition) = self.partitions.get(id.0) else { return false };
            if partition.users > 0 {
                return true;
            }
            let sequences: Vec<u32> = all_segments(partition).map(|s| s.sequence).collect();
            let mut paths: Vec<_> =
                sequences.iter().map(|&sequence| partition.path(sequence)).collect();
            if partition.start.is_there() {
                paths.push(partition.start_path());
            }
            if partition.has_lost_file {
                paths.push(partition.lost_path());
            }
            paths.append(&mut self.failures.reap(id));
            for &sequence in &sequences {
                self.close_segment_file(batch, id, sequence);
            }
            let gone = self.partitions.remove(id.0);
            for segment in gone.iter().flat_map(all_segments) {
                let path = gone.as_ref().expect("it has segments").path(segment.sequence);
                // The paths stay on the list: with their last file the directories go.
                self.recycle(batch, &path, segment);
            }
            if !paths.is_empty() {
                batch.ops.push(Op::FilesDelete { tag: StoreTag::Delete.tag(), paths });
            }
            false
        });
    }
}

fn all_segments(partition: &Partition) -> impl Iterator<Item = &Segment> {
    partition.segments.iter().chain(&partition.retired).chain(partition.next.as_deref())
}

/// Writes the header and the entry table of a run's frame into its buffer.
pub fn seal_run(
    pool: &mut Pool,
    topic: TopicId,
    partition: u32,
    kind: EntryKind,
    run: &Run,
    meta: &FrameMeta,
) {
    let entry = EntryHeader {
        topic,
        partition: partition.into(),
        kind: (kind as u16).into(),
        flags: 0.into(),
        base_offset: run.base_offset.into(),
        count: u32::try_from(run.next_offset - run.base_offset).expect("bounded by bytes").into(),
        length: u32_of(run.data_bytes()).into(),
        crc: run.crc.into(),
        reserved: 0.into(),
    };
    let frame = pool.bytes_mut(run.buf);
    frame[HEADER_BYTES..RUN_PREFIX_BYTES].copy_from_slice(entry.as_bytes());
    let sealed = seal_frame(frame, meta, 1, run.data_bytes());
    assert_eq!(sealed, run.frame_bytes(), "a run's frame is as long as its place");
}
