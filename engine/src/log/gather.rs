//! Group commit: which bytes go into which commit, and when.
//!
//! A partition with many uncommitted bytes commits them with its run; all others share journal
//! frames, up to `commits_in_flight` at a time. Bytes that somebody waits for leave at once;
//! bytes that nobody waits for gather for `lazy_commit_ns` or until they fill a frame.

use wire::crc::crc32c;
use zerocopy::IntoBytes;

use super::cursors::Via;
use super::journal::{FileState, FrameInFlight, Room};
use super::partition::PartitionId;
use super::store::{Store, StoreTag};
use crate::frame::{ENTRY_BYTES, EntryHeader, FrameKind, FrameMeta, HEADER_BYTES};
use crate::frame::{block_ceil, seal_frame};
use crate::pool::{BufId, Bytes, Pool, Source};
use crate::port::{Extent, Fault, Now, Op, OpBatch, Sync, Time};
use crate::settings::FRAME_ENTRIES_MAX;
use crate::units::{u32_of, u64_of, usize_of};

/// Frames that may wait for a flush: beyond it they are flushed at once, whatever their topics say.
const UNFLUSHED_FRAMES_MAX: usize = 256;

/// Part of a run that goes into a journal frame.
#[derive(Debug, Clone, Copy)]
struct Pick {
    partition: PartitionId,
    run: u64,
    buf: BufId,
    from: usize,
    len: usize,
    base_offset: u64,
    count: u32,
}

/// What a frame has gathered; kept between frames for its memory.
#[derive(Debug, Default)]
pub struct Gathered {
    picks: Vec<Pick>,
    data_bytes: usize,
    waits: usize,
    wants_durable: bool,
    flush_by: Option<Time>,
}

impl Gathered {
    fn clear(&mut self) {
        self.picks.clear();
        self.data_bytes = 0;
        self.waits = 0;
        self.wants_durable = false;
        self.flush_by = None;
    }
}

impl Store {
    /// Emits the commits that are due.
    pub fn commit(&mut self, pool: &mut Pool, now: Now, batch: &mut OpBatch) {
        if self.failed.is_some() || self.journal.unopened > 0 || self.journal.remedy.is_quiet() {
            return;
        }
        self.commit_large(now);
        if self.dirty.is_empty() {
            self.lazy_since = None;
            self.is_urgent = false;
            return;
        }
        let since = *self.lazy_since.get_or_insert(now.time);
        let lazy_due = now.time.since(since) >= self.settings.lazy_commit_ns;
        if !self.is_urgent && !lazy_due && !self.fills_a_frame() {
            return;
        }
        while !self.dirty.is_empty() && self.is_worth_a_frame() {
            if !self.emit_frame(pool, now, batch) {
                return;
            }
        }
        if self.dirty.is_empty() {
            self.lazy_since = None;
            self.is_urgent = false;
        }
    }

    /// Whether a frame leaves now or gathers more. With frames in flight another one leaves only
    /// if as many wait for it as for each of those: closed loops of many producers then settle in
    /// equal shares, where leaving at once would send one record ahead and make the rest wait for
    /// two commits.
    fn is_worth_a_frame(&self) -> bool {
        let in_flight = self.journal.writes_in_flight;
        if in_flight == 0 {
            return true;
        }
        let has_share = self.waits * in_flight >= self.journal.waits_in_flight;
        in_flight < self.settings.commits_in_flight && (has_share || self.fills_a_frame())
    }

    fn fills_a_frame(&self) -> bool {
        self.uncommitted_bytes >= self.settings.journal_frame_bytes_max / 2
    }

    /// When bytes that nobody waits for are due, if there are any.
    pub fn lazy_deadline(&self) -> Option<Time> {
        let blocked = self.is_journal_full || self.journal.remedy.is_quiet();
        if blocked || self.failed.is_some() || self.dirty.is_empty() {
            return None;
        }
        // What is in flight brings a turn when it ends: until then a deadline would only spin.
        if self.is_journal_busy() || !self.is_worth_a_frame() {
            return None;
        }
        self.lazy_since.map(|since| since.plus_ns(self.settings.lazy_commit_ns))
    }

    /// Whether no frame can leave before something ends that the journal has in flight.
    pub(super) fn is_journal_busy(&self) -> bool {
        let journal = &self.journal;
        journal.unopened > 0 || journal.beginning.is_some() || journal.free_bufs.is_empty()
    }

    /// Partitions with many uncommitted bytes leave the journal's queue: their run is sealed.
    fn commit_large(&mut self, now: Now) {
        let mut large = std::mem::take(&mut self.large);
        for id in large.drain(..) {
            let Some(partition) = self.partitions.get(id.0) else { continue };
            if partition.pending_bytes() >= self.settings.direct_run_bytes_min {
                self.seal_open(id, Via::Run, now.time);
            }
        }
        self.large = large;
        // What was committed with its run needs no frame.
        while let Some(&id) = self.dirty.front() {
            if self.partition(id).pending_bytes() > 0 {
                break;
            }
            self.dirty.pop_front();
            self.partition_mut(id).is_dirty = false;
        }
    }

    /// Builds one frame from the front of the dirty list and submits it. False if it could not.
    fn emit_frame(&mut self, pool: &mut Pool, now: Now, batch: &mut OpBatch) -> bool {
        if self.journal.beginning.is_some() {
            return false;
        }
        let bytes_max = self.settings.journal_frame_bytes_max;
        let Some(room) = self.journal_room(bytes_max, now.time) else { return false };
        if room == Room::NextFile {
            self.relieve_next_file(now.time);
        }
        let Some(buf) = self.journal.free_bufs.pop() else { return false };
        if self.journal.position == 0 {
            // A file begins with one durable block, alone: later frames never stand behind the
            // first frame of the file's earlier life, whose rest they overwrite.
            self.submit_watermark(pool, now, batch, buf);
            return false;
        }
        let mut gathered = std::mem::take(&mut self.gathered);
        self.gather(bytes_max, now.time, &mut gathered);
        if gathered.picks.is_empty() {
            // All of it had been committed with its runs meanwhile.
            assert!(self.dirty.is_empty(), "a partition's bytes fit into an empty frame");
            self.journal.free_bufs.push(buf);
        } else {
            self.write_frame(pool, now, batch, buf, &gathered);
        }
        gathered.clear();
        self.gathered = gathered;
        true
    }

    pub(super) fn journal_room(&mut self, bytes: usize, now: Time) -> Option<Room> {
        let room = self.journal.room(bytes);
        if room == Room::None {
            if !self.is_journal_full {
                self.counters.journal_stalls += 1;
                self.is_journal_full = true;
            }
            self.relieve_next_file(now);
            return None;
        }
        self.is_journal_full = false;
        if room == Room::NextFile {
            self.forget_proofs();
        }
        Some(room)
    }

    /// Sends the runs that the next journal file still pins to their segments, so that it is
    /// free when its turn comes.
    fn relieve_next_file(&mut self, now: Time) {
        let Some(next) = self.journal.next_place() else { return };
        for frame in self.journal.frames.iter_mut().filter(|frame| frame.file == next) {
            frame.flush_by = now;
        }
        let pinned = std::mem::take(&mut self.journal.files[next].pinned);
        for &(id, base_offset) in &pinned {
            let Some(partition) = self.partitions.get_mut(id.0) else { continue };
            let is_open = partition.open_run().is_some_and(|run| run.base_offset == base_offset);
            if is_open {
                self.seal_open(id, Via::Journal, now);
            }
        }
        self.journal.files[next].pinned = pinned;
    }

    fn gather(&mut self, bytes_max: usize, now: Time, gathered: &mut Gathered) {
        while let Some(&id) = self.dirty.front() {
            if !self.pick(id, bytes_max, now, gathered) {
                break;
            }
            self.dirty.pop_front();
            self.partition_mut(id).is_dirty = false;
        }
    }

    /// Takes a partition's uncommitted bytes into the frame; false if they do not all fit.
    fn pick(&mut self, id: PartitionId, max: usize, now: Time, gathered: &mut Gathered) -> bool {
        let active = self.journal.active;
        let partition = self.partitions.get_mut(id.0).expect("dirty partitions live");
        let mut whole = true;
        let first = partition.runs.partition_point(|run| run.pending_bytes() == 0);
        for run in partition.runs.range_mut(first..) {
            let len = run.pending_bytes();
            let rows = HEADER_BYTES + (gathered.picks.len() + 1) * ENTRY_BYTES;
            let fits = rows + gathered.data_bytes + len <= max;
            if !fits || gathered.picks.len() == FRAME_ENTRIES_MAX {
                whole = false;
                break;
            }
            gathered.picks.push(Pick {
                partition: id,
                run: run.base_offset,
                buf: run.buf,
                from: run.committed,
                len,
                base_offset: run.committed_offset,
                count: u32::try_from(run.next_offset - run.committed_offset)
                    .expect("a run has fewer records than bytes"),
            });
            gathered.data_bytes += len;
            self.uncommitted_bytes -= run.commit_all();
            // Even if it is in its segment: a run before it, which is not, may take it out again.
            if run.journal_files & (1 << active) == 0 {
                run.journal_files |= 1 << active;
                self.journal.files[active].pinned.push((id, run.base_offset));
                self.journal.files[active].pins += 1;
            }
            if partition.proven_in != self.journal.file_sequence {
                partition.proven_in = self.journal.file_sequence;
                self.journal.files[active].proves.push(id);
            }
            let end = run.next_offset;
            partition.progress.submit(end, Via::Journal, now);
        }
        gathered.wants_durable |= partition.wants_durable;
        let flush_by = now.plus_ns(partition.flush_ns);
        let earlier = gathered.flush_by.is_none_or(|other| flush_by < other);
        gathered.flush_by = if earlier { Some(flush_by) } else { gathered.flush_by };
        if whole {
            partition.wants_durable = false;
            partition.wants_written = false;
            let waits = std::mem::take(&mut partition.waits);
            gathered.waits += waits;
            self.waits -= waits;
        }
        whole
    }

    fn write_frame(
        &mut self,
        pool: &mut Pool,
        now: Now,
        batch: &mut OpBatch,
        buf: BufId,
        gathered: &Gathered,
    ) {
        let mut commits = self.journal.free_commits.pop().unwrap_or_default();
        let mut data_at = HEADER_BYTES + gathered.picks.len() * ENTRY_BYTES;
        for (index, pick) in gathered.picks.iter().enumerate() {
            let source = Bytes { source: Source::Buf(pick.buf), at: pick.from, len: pick.len };
            pool.copy_from(source, buf, data_at);
            let partition = self.partition(pick.partition);
            let bytes = pool.bytes_mut(buf);
            let entry = EntryHeader {
                topic: partition.topic,
                partition: partition.number.into(),
                kind: (partition.kind as u16).into(),
                flags: 0.into(),
                base_offset: pick.base_offset.into(),
                count: pick.count.into(),
                length: u32_of(pick.len).into(),
                crc: crc32c(&bytes[data_at..data_at + pick.len]).into(),
                reserved: 0.into(),
            };
            let row = HEADER_BYTES + index * ENTRY_BYTES;
            bytes[row..row + ENTRY_BYTES].copy_from_slice(entry.as_bytes());
            data_at += pick.len;
            commits.push((pick.partition, pick.base_offset + u64::from(pick.count)));
            // Until the frame is settled the partition's number means this partition.
            self.partition_mut(pick.partition).users += 1;
            debug_assert!(pick.run <= pick.base_offset);
        }
        self.counters.journal_entries += u64_of(gathered.picks.len());
        // A durable frame behind unflushed ones is only as safe as they are: then all are
        // flushed together.
        let behind_plain = self.journal.frames.iter().any(|f| f.written && !f.durable);
        let sync = match gathered.wants_durable {
            true if !behind_plain => Sync::Durable,
            _ => Sync::Written,
        };
        let flush_by = match gathered.wants_durable {
            true => now.time,
            false => gathered.flush_by.unwrap_or(now.time),
        };
        if gathered.wants_durable {
            for frame in &mut self.journal.frames {
                frame.flush_by = now.time;
            }
        }
        let entries = gathered.picks.len();
        let (waits, data_bytes) = (gathered.waits, gathered.data_bytes);
        let frame = PreparedFrame { buf, waits, entries, data_bytes, sync, flush_by };
        self.submit_frame(pool, now, batch, frame, commits);
    }

    pub(super) fn submit_frame(
        &mut self,
        pool: &mut Pool,
        now: Now,
        batch: &mut OpBatch,
        frame: PreparedFrame,
        commits: Vec<(PartitionId, u64)>,
    ) {
        let journal = &mut self.journal;
        let lsn = journal.next_lsn;
        let meta = FrameMeta {
            kind: FrameKind::Journal,
            key: self.identity.key,
            boot_epoch: self.identity.boot_epoch,
            broker_id: self.identity.broker_id,
            lsn,
            watermark: journal.durable_lsn,
            file_sequence: journal.file_sequence,
            position: journal.position,
            wall_ns: now.wall_ns,
        };
        let bytes = pool.bytes_mut(frame.buf);
        let frame_bytes = seal_frame(bytes, &meta, frame.entries, frame.data_bytes);
        batch.ops.push(Op::Write {
            file: journal.files[journal.active].slot,
            tag: StoreTag::Frame(lsn).tag(),
            slice: pool.slice(frame.buf, 0, frame_bytes),
            position: journal.position,
            sync: frame.sync,
            extent: Extent::Written,
        });
        journal.frames.push_back(FrameInFlight {
            lsn,
            file: journal.active,
            buf: Some(frame.buf),
            bytes: frame_bytes,
            written: false,
            durable: false,
            waits: frame.waits,
            sync: frame.sync,
            in_flush: false,
            flush_by: frame.flush_by,
            commits,
        });
        if journal.position == 0 {
            journal.beginning = Some(lsn);
        }
        journal.next_lsn += 1;
        journal.position += u64_of(frame_bytes);
        journal.published_lsn = journal.durable_lsn;
        journal.writes_in_flight += 1;
        journal.waits_in_flight += frame.waits;
        journal.last_submit = now.time;
        self.counters.journal_frames += 1;
        self.counters.journal_bytes += u64_of(frame_bytes);
        self.counters.durable_writes += u64::from(frame.sync == Sync::Durable);
    }

    /// A journal frame's write ended.
    pub fn frame_wrote(&mut self, lsn: u64, result: Result<u32, Fault>) {
        let Some(frame) = self.journal.frame_mut(lsn) else { return };
        let (bytes, waits, file) = (frame.bytes, frame.waits, frame.file);
        let held = result.map(|written| usize_of(written) == bytes);
        if let Some(buf) = frame.buf.take() {
            self.journal.free_bufs.push(buf);
        }
        self.journal.writes_in_flight -= 1;
        self.journal.waits_in_flight -= waits;
        match held {
            Ok(true) => {}
            Ok(false) => return self.journal_failed(file, Fault::EIO, "a write was short"),
            Err(fault) => return self.journal_failed(file, fault, "a write failed"),
        }
        if self.journal.files[file].state != FileState::Ready {
            return;
        }
        if self.journal.beginning == Some(lsn) {
            self.journal.beginning = None;
        }
        let frame = self.journal.frame_mut(lsn).expect("just seen");
        frame.written = true;
        frame.durable = frame.sync == Sync::Durable;
        self.settle_journal();
    }

    /// Counts frames as written and durable in order, and moves what waits for them.
    pub fn settle_journal(&mut self) {
        while let Some(frame) = self.journal.frames.get(self.journal.written_front) {
            if !frame.written {
                break;
            }
            for index in 0..frame.commits.len() {
                let front = self.journal.written_front;
                let (id, end) = self.journal.frames[front].commits[index];
                if let Some(partition) = self.partitions.get_mut(id.0) {
                    partition.progress.journal_written(end);
                    self.advance(id);
                }
            }
            self.journal.written_front += 1;
        }
        while self.journal.frames.front().is_some_and(|frame| frame.written && frame.durable) {
            let mut frame = self.journal.frames.pop_front().expect("just seen");
            self.journal.written_front = self.journal.written_front.saturating_sub(1);
            self.journal.durable_lsn = frame.lsn;
            if frame.commits.iter().all(|&(_, end)| end == 0)
                && self.journal.published_lsn + 1 == frame.lsn
            {
                // All before it is published, and it has nothing of its own at stake.
                self.journal.published_lsn = frame.lsn;
            }
            for &(id, end) in &frame.commits {
                let partition = self.partitions.get_mut(id.0).expect("kept by its users");
                partition.users -= 1;
                partition.progress.journal_durable(end);
                self.advance(id);
            }
            frame.commits.clear();
            self.journal.free_commits.push(frame.commits);
        }
    }

    /// Submits the journal flushes that are due.
    pub fn flush_journal(&mut self, now: Time, batch: &mut OpBatch) {
        let crowded = self.journal.frames.len() > UNFLUSHED_FRAMES_MAX;
        if self.failed.is_some() || self.journal.remedy.is_quiet() {
            return;
        }
        for index in 0..self.journal.files.len() {
            if self.journal.files[index].flushing {
                continue;
            }
            let mine = |frame: &&mut FrameInFlight| {
                frame.file == index && frame.written && !frame.durable && !frame.in_flush
            };
            let mut waiting = self.journal.frames.iter_mut().filter(mine);
            let due = waiting.any(|frame| crowded || frame.flush_by <= now);
            if !due {
                continue;
            }
            for frame in self.journal.frames.iter_mut().filter(mine) {
                frame.in_flush = true;
            }
            self.journal.files[index].flushing = true;
            self.counters.flushes += 1;
            let file = self.journal.files[index].slot;
            batch.ops.push(Op::Flush { file, tag: StoreTag::JournalFlush(u32_of(index)).tag() });
        }
    }

    /// When the next journal flush is due, if one is.
    pub fn flush_deadline(&self) -> Option<Time> {
        if self.failed.is_some() || self.journal.remedy.is_quiet() {
            return None;
        }
        let waiting = self.journal.frames.iter().filter(|frame| {
            let flushing = self.journal.files[frame.file].flushing;
            frame.written && !frame.durable && !frame.in_flush && !flushing
        });
        waiting.map(|frame| frame.flush_by).min()
    }

    /// A journal flush ended: what it covered is durable.
    pub fn journal_flushed(&mut self, index: u32, result: Result<(), Fault>) {
        let file = usize_of(index);
        self.journal.files[file].flushing = false;
        if let Err(fault) = result {
            return self.journal_failed(file, fault, "a flush failed");
        }
        if self.journal.files[file].state != FileState::Ready {
            return;
        }
        for frame in self.journal.frames.iter_mut().filter(|frame| frame.file == file) {
            if frame.in_flush {
                frame.in_flush = false;
                frame.durable = true;
            }
        }
        self.settle_journal();
    }
}

/// A frame whose table and data lie in its buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct PreparedFrame {
    pub(super) buf: BufId,
    pub(super) waits: usize,
    pub(super) entries: usize,
    pub(super) data_bytes: usize,
    pub(super) sync: Sync,
    pub(super) flush_by: Time,
}

const _: () = assert!(block_ceil(HEADER_BYTES + FRAME_ENTRIES_MAX * ENTRY_BYTES) < 64 * 1024);
