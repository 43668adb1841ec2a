//! Everything of a shard that reaches the disk: partitions, journal, memory for runs.
//!
//! This file takes records in and absorbs completions; `gather` decides which bytes go into
//! which commit, `placement` where runs go in their segments.

use std::collections::VecDeque;

use wire::batch::Batch;
use wire::{Acks, ErrorCode, TopicId};

use super::cursors::Via;
use super::failure::{Failures, Pulse};
use super::files::FileSlots;
use super::journal::Journal;
use super::partition::{Partition, PartitionId};
use super::recycle::Spares;
use super::retention::Retention;
use super::run::{Run, RunState};
use super::scrub::Scrub;
use super::slab::Slab;
use super::space::Space;
use super::start::Starts;
use super::stream::Streams;
use super::watermark::Unproven;
use crate::counters::Counters;
use crate::frame::{EntryKind, FrameKey, RUN_PREFIX_BYTES, block_ceil};
use crate::pool::{BufId, Bytes, Pool, Source};
use crate::port::{Fault, FileSlot, Notice, Sync, Time};
use crate::settings::Settings;
use crate::units::u64_of;

pub use super::tag::StoreTag;

/// What every frame is signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The broker's id.
    pub broker_id: [u8; 16],
    /// What every frame's checksum begins with.
    pub key: FrameKey,
    /// How often it has started.
    pub boot_epoch: u32,
}

/// A run's write that is in flight.
#[derive(Debug, Clone, Copy)]
pub struct RunWrite {
    /// Whose run.
    pub partition: PartitionId,
    /// Which run.
    pub base_offset: u64,
    /// The buffer, held by the write.
    pub buf: BufId,
    /// Length of the frame.
    pub bytes: usize,
    /// Whether it counts against the background limit.
    pub background: bool,
}

/// What a batch says of itself, for the append.
#[derive(Debug, Clone, Copy)]
pub struct BatchFacts {
    /// Number of records.
    pub count: u32,
    /// Newest time in ms.
    pub max_timestamp_ms: i64,
}

/// Everything of a shard that reaches the disk.
#[derive(Debug)]
pub struct Store {
    /// Bounds.
    pub settings: Settings,
    /// Signature of frames.
    pub identity: Identity,
    /// Partitions by number.
    pub partitions: Slab<Partition>,
    /// The journal.
    pub journal: Journal,
    /// File numbers.
    pub files: FileSlots,
    /// Which segment each open or opening segment file belongs to.
    pub segment_files: std::collections::BTreeMap<FileSlot, (PartitionId, u32)>,
    /// Which segment each file belongs to that was opened to be sent, or is being opened.
    pub buffered_files: std::collections::BTreeMap<FileSlot, (PartitionId, u32)>,
    /// Nothing can be sent out of files here.
    pub has_no_send_file: bool,
    /// Runs being written.
    pub run_writes: Slab<RunWrite>,
    /// Segment flushes in flight: partition, sequence.
    pub segment_flushes: Slab<(PartitionId, u32)>,
    /// Partitions with bytes that belong to no commit.
    pub dirty: VecDeque<PartitionId>,
    /// Dirty partitions that have reached the size of a direct run.
    pub large: Vec<PartitionId>,
    /// Bytes that belong to no commit.
    pub uncommitted_bytes: usize,
    /// Batches among the uncommitted bytes that somebody waits for.
    pub waits: usize,
    /// Somebody waits for dirty bytes.
    pub is_urgent: bool,
    /// There was no memory for something since this was last looked at.
    pub is_short: bool,
    /// There was none although every stored run had been dropped: open runs may lie in the way.
    pub is_stuck: bool,
    /// Partitions with runs to place.
    pub placing: VecDeque<PartitionId>,
    /// Partitions whose segment needs a flush.
    pub flushing: Vec<PartitionId>,
    /// Partitions whose cursors moved since this list was last taken, each with the time its
    /// newest safe commit was submitted.
    pub advanced: Vec<(PartitionId, Time)>,
    /// Stored runs, oldest first: what may be dropped from memory.
    pub evictable: VecDeque<(PartitionId, u64)>,
    /// Open runs.
    pub open_runs: usize,
    /// Background writes in flight.
    pub background_writes: usize,
    /// Bytes appended that are not stored in their segments.
    pub unstored_bytes: usize,
    /// Since when dirty bytes that nobody waits for have been waiting.
    pub lazy_since: Option<Time>,
    /// Memory for gathering frames.
    pub(super) gathered: super::gather::Gathered,
    /// The journal had no free file at the last try.
    pub is_journal_full: bool,
    /// What no watermark on disk covers.
    pub(super) unproven: Unproven,
    /// Whether the device has space.
    pub space: Space,
    /// Readers of what is on disk.
    pub streams: Streams,
    /// The device's last sign of life.
    pub pulse: Pulse,
    /// Who reads it for nobody, to see that it is whole.
    pub scrub: Scrub,
    /// Files that failed, and what of them is being made good.
    pub failures: Failures,
    /// The device failed for good: nothing more is written.
    pub failed: Option<Fault>,
    /// Start files.
    pub starts: Starts,
    /// Segments that have served their time.
    pub retention: Retention,
    /// Spare files left.
    pub spares: Spares,
    /// What it counts.
    pub counters: Counters,
    /// For the log.
    pub notices: Vec<Notice>,
}

impl Store {
    /// An empty store.
    pub fn new(
        settings: Settings,
        identity: Identity,
        journal: Journal,
        files: FileSlots,
    ) -> Store {
        Store {
            spares: Spares::default(),
            settings,
            identity,
            partitions: Slab::default(),
            journal,
            files,
            segment_files: std::collections::BTreeMap::new(),
            buffered_files: std::collections::BTreeMap::new(),
            has_no_send_file: false,
            run_writes: Slab::default(),
            segment_flushes: Slab::default(),
            dirty: VecDeque::new(),
            large: Vec::new(),
            uncommitted_bytes: 0,
            waits: 0,
            is_urgent: false,
            is_short: false,
            is_stuck: false,
            placing: VecDeque::new(),
            flushing: Vec::new(),
            advanced: Vec::new(),
            evictable: VecDeque::new(),
            open_runs: 0,
            background_writes: 0,
            unstored_bytes: 0,
            lazy_since: None,
            gathered: super::gather::Gathered::default(),
            is_journal_full: false,
            unproven: Unproven::default(),
            space: Space::default(),
            streams: Streams::default(),
            pulse: Pulse::default(),
            scrub: Scrub::default(),
            failures: Failures::default(),
            failed: None,
            starts: Starts::default(),
            retention: Retention::default(),
            counters: Counters::default(),
            notices: Vec::new(),
        }
    }

    /// The partition.
    ///
    /// # Panics
    /// If there is none: numbers are only kept while a partition's `users` counts them.
    pub fn partition(&self, id: PartitionId) -> &Partition {
        self.partitions.get(id.0).expect("a partition lives while something names it")
    }

    /// The partition, to change.
    pub fn partition_mut(&mut self, id: PartitionId) -> &mut Partition {
        self.partitions.get_mut(id.0).expect("a partition lives while something names it")
    }

    /// A buffer of `bytes` bytes, dropping stored runs from memory if it must.
    /// Leaves the replies' reserve alone.
    pub fn alloc(&mut self, pool: &mut Pool, bytes: usize) -> Option<BufId> {
        while pool.free_bytes() < bytes + self.settings.reply_reserve_bytes {
            if !self.evict_one(pool) {
                self.out_of_memory();
                return None;
            }
        }
        self.alloc_reply(pool, bytes)
    }

    /// A buffer for a reply: it may come out of the reserve.
    pub fn alloc_reply(&mut self, pool: &mut Pool, bytes: usize) -> Option<BufId> {
        loop {
            if let Some(buf) = pool.alloc(bytes) {
                return Some(buf);
            }
            if !self.evict_one(pool) {
                self.out_of_memory();
                return None;
            }
        }
    }

    /// Not even dropping every stored run made room.
    pub(crate) fn out_of_memory(&mut self) {
        self.is_short = true;
        self.is_stuck = true;
    }

    pub(crate) fn evict_one(&mut self, pool: &mut Pool) -> bool {
        while let Some((id, base_offset)) = self.evictable.pop_front() {
            let Some(partition) = self.partitions.get_mut(id.0) else { continue };
            let front = partition.runs.front();
            // The entry may be of a partition that is gone, whose number another one has now.
            let stored =
                |run: &Run| run.base_offset == base_offset && run.state == RunState::Stored;
            if front.is_some_and(stored) {
                let run = partition.runs.pop_front().expect("just seen");
                pool.release(run.buf);
                self.counters.runs_evicted += 1;
                return true;
            }
        }
        false
    }

    /// Appends a validated batch that lies in the pool. Gives its base offset.
    pub fn append_batch(
        &mut self,
        pool: &mut Pool,
        now: Time,
        id: PartitionId,
        at: Bytes,
        facts: BatchFacts,
        acks: Acks,
    ) -> Result<u64, ErrorCode> {
        self.refuse()?;
        if self.space.is_short() {
            return Err(ErrorCode::StorageFull);
        }
        let partition = self.partition(id);
        if partition.damaged.is_end_unknown() {
            return Err(ErrorCode::EndUnknown);
        }
        let base_offset = partition.progress.appended();
        let epoch = self.identity.boot_epoch;
        if at.len >= self.settings.direct_run_bytes_min {
            self.append_large(pool, now, id, at)?;
        } else {
            self.open_run_with_room(pool, now, id, at.len)?;
            let (buf, end) = self.open_end(id);
            pool.copy_from(at, buf, end);
        }
        let (buf, end) = self.open_end(id);
        let bytes = &mut pool.bytes_mut(buf)[end..end + at.len];
        Batch::stamp(bytes, base_offset, epoch);
        let (batch, _) = Batch::split(bytes).expect("validated by the caller");
        let crc = Some(batch.header().crc.get());
        self.push(id, &pool.bytes(buf)[end..end + at.len], facts, crc);
        let partition = self.partition_mut(id);
        partition.wants_durable |= acks == Acks::Durable;
        partition.wants_written |= acks == Acks::Written;
        if acks >= Acks::Written {
            partition.waits += 1;
            self.waits += 1;
            self.is_urgent = true;
        }
        if at.len >= self.settings.direct_run_bytes_min {
            self.seal_open(id, Via::Run, now);
        }
        Ok(base_offset)
    }

    /// Appends what a journal holds, unchanged: recovery's way.
    pub(crate) fn append_raw(
        &mut self,
        pool: &mut Pool,
        now: Time,
        id: PartitionId,
        data: &[u8],
        facts: BatchFacts,
    ) -> Result<(), ErrorCode> {
        self.open_run_with_room(pool, now, id, data.len())?;
        let (buf, end) = self.open_end(id);
        pool.bytes_mut(buf)[end..end + data.len()].copy_from_slice(data);
        self.push(id, data, facts, None);
        Ok(())
    }

    /// Closes the open run for recovery, which stores it itself.
    pub(crate) fn close_open_run(&mut self, id: PartitionId) {
        self.dirty.retain(|&other| other != id);
        self.placing.retain(|&other| other != id);
        self.large.clear();
        let partition = self.partition_mut(id);
        partition.is_dirty = false;
        partition.is_placing = false;
        if let Some(run) = partition.open_run() {
            run.state = RunState::Sealed;
            self.open_runs -= 1;
        }
    }

    /// Appends one catalog record.
    pub fn append_catalog(
        &mut self,
        pool: &mut Pool,
        now: Time,
        id: PartitionId,
        record: &[u8],
    ) -> Result<u64, ErrorCode> {
        self.refuse()?;
        let partition = self.partition(id);
        if partition.damaged.is_end_unknown() {
            return Err(ErrorCode::EndUnknown);
        }
        let base_offset = partition.progress.appended();
        self.open_run_with_room(pool, now, id, record.len())?;
        let (buf, end) = self.open_end(id);
        pool.bytes_mut(buf)[end..end + record.len()].copy_from_slice(record);
        let facts = BatchFacts { count: 1, max_timestamp_ms: 0 };
        self.push(id, record, facts, None);
        self.partition_mut(id).wants_durable = true;
        self.is_urgent = true;
        Ok(base_offset)
    }

    pub(crate) fn refuse(&self) -> Result<(), ErrorCode> {
        match self.failed {
            None => Ok(()),
            Some(_) => Err(ErrorCode::ReadOnly),
        }
    }

    pub(super) fn open_end(&mut self, id: PartitionId) -> (BufId, usize) {
        let run = self.partition_mut(id).open_run().expect("opened by the caller");
        (run.buf, run.end)
    }

    pub(super) fn push(
        &mut self,
        id: PartitionId,
        bytes: &[u8],
        facts: BatchFacts,
        crc: Option<u32>,
    ) {
        let direct_min = self.settings.direct_run_bytes_min;
        let partition = self.partition_mut(id);
        let kind = partition.kind;
        let run = partition.open_run().expect("opened by the caller");
        run.push(bytes, facts.count, facts.max_timestamp_ms, crc);
        partition.progress.append(facts.count);
        let is_large = partition.pending_bytes() >= direct_min;
        self.unstored_bytes += bytes.len();
        self.uncommitted_bytes += bytes.len();
        if is_large {
            self.large.push(id);
        }
        if kind == EntryKind::RecordBatch {
            self.counters.batches_appended += 1;
            self.counters.records_appended += u64::from(facts.count);
            self.counters.bytes_appended += u64_of(bytes.len());
        }
        self.mark_dirty(id);
    }

    pub(super) fn mark_dirty(&mut self, id: PartitionId) {
        let partition = self.partition_mut(id);
        if !partition.is_dirty {
            partition.is_dirty = true;
            self.dirty.push_back(id);
        }
    }

    /// A large batch becomes a run of its own: in the buffer it was received into if it lies
    /// where a run's batches do, else copied once.
    fn append_large(
        &mut self,
        pool: &mut Pool,
        now: Time,
        id: PartitionId,
        at: Bytes,
    ) -> Result<(), ErrorCode> {
        let adopted = match at.source {
            Source::Buf(buf) if at.at == RUN_PREFIX_BYTES && pool.refs(buf) == 1 => Some(buf),
            _ => None,
        };
        let room = RUN_PREFIX_BYTES + at.len;
        let buf = match adopted {
            Some(buf) if pool.capacity(buf) >= block_ceil(room) => {
                pool.retain(buf);
                self.counters.batches_adopted += 1;
                buf
            }
            _ => {
                let buf = self.alloc(pool, block_ceil(room)).ok_or(ErrorCode::Overloaded)?;
                pool.copy_from(at, buf, RUN_PREFIX_BYTES);
                buf
            }
        };
        // The partition's small bytes go to the segment in front of it.
        self.seal_open(id, Via::Journal, now);
        let partition = self.partition_mut(id);
        let base_offset = partition.progress.appended();
        partition.runs.push_back(Run::new(buf, base_offset, now));
        self.open_runs += 1;
        Ok(())
    }

    /// Makes sure that the open run has room for `len` more bytes.
    pub(super) fn open_run_with_room(
        &mut self,
        pool: &mut Pool,
        now: Time,
        id: PartitionId,
        len: usize,
    ) -> Result<(), ErrorCode> {
        let limit = self.gather_limit().max(block_ceil(RUN_PREFIX_BYTES + len));
        let min = self.settings.gather_bytes_min;
        let Some(run) = self.partition_mut(id).open_run() else {
            return self.open_run(pool, now, id, len);
        };
        let (buf, end) = (run.buf, run.end);
        let need = end + len;
        if need <= pool.capacity(buf) {
            return Ok(());
        }
        if block_ceil(need) > limit {
            self.seal_open(id, Via::Journal, now);
            return self.open_run(pool, now, id, len);
        }
        let size = need.next_power_of_two().max(min).min(limit);
        let bigger = self.alloc(pool, size).ok_or(ErrorCode::Overloaded)?;
        pool.copy(buf, RUN_PREFIX_BYTES, bigger, RUN_PREFIX_BYTES, end - RUN_PREFIX_BYTES);
        pool.release(buf);
        let run = self.partition_mut(id).open_run().expect("eviction leaves open runs alone");
        run.buf = bigger;
        Ok(())
    }

    fn open_run(
        &mut self,
        pool: &mut Pool,
        now: Time,
        id: PartitionId,
        len: usize,
    ) -> Result<(), ErrorCode> {
        let size = block_ceil(RUN_PREFIX_BYTES + len).max(self.settings.gather_bytes_min);
        let buf = self.alloc(pool, size).ok_or(ErrorCode::Overloaded)?;
        let partition = self.partition_mut(id);
        let base_offset = partition.progress.appended();
        partition.runs.push_back(Run::new(buf, base_offset, now));
        self.open_runs += 1;
        Ok(())
    }

    /// How long a gather buffer may become: less, the more there are.
    fn gather_limit(&self) -> usize {
        let share = self.settings.gather_budget_bytes / self.open_runs.max(1);
        let limit = share.clamp(self.settings.gather_bytes_min, self.settings.gather_bytes_max);
        block_ceil(limit)
    }

    /// Closes the open run, if there is one with records, and queues it for its segment. With
    /// [`Via::Run`] its uncommitted bytes become safe with the run; with [`Via::Journal`] they
    /// stay for the next journal frame.
    pub fn seal_open(&mut self, id: PartitionId, via: Via, now: Time) {
        let partition = self.partition_mut(id);
        let wants_durable = partition.wants_durable;
        let Some(run) = partition.open_run() else { return };
        run.state = RunState::Sealed;
        run.direct = via == Via::Run;
        let (mut committed, mut waits) = (0, 0);
        if via == Via::Run {
            committed += run.commit_all();
            let end = run.next_offset;
            // Without a waiter for durability a plain write and a later flush are enough.
            run.sync = if wants_durable { Sync::Durable } else { Sync::Written };
            // Runs before it may hold uncommitted bytes too; they are stored before this one.
            for run in partition.runs.iter_mut().rev().skip(1) {
                if run.pending_bytes() == 0 {
                    break;
                }
                committed += run.commit_all();
                run.direct = true;
            }
            partition.progress.submit(end, Via::Run, now);
            partition.wants_durable = false;
            partition.wants_written = false;
            waits = std::mem::take(&mut partition.waits);
        }
        if !partition.is_placing {
            partition.is_placing = true;
            self.placing.push_back(id);
        }
        self.open_runs -= 1;
        self.uncommitted_bytes -= committed;
        self.waits -= waits;
    }

    /// Recomputes a partition's cursors; if they moved, its waiters will be looked at.
    pub(super) fn advance(&mut self, id: PartitionId) {
        let Some(partition) = self.partitions.get_mut(id.0) else { return };
        let moved = partition.progress.advance(partition.runs_written, partition.runs_stored);
        if let Some(moved) = moved {
            self.advanced.push((id, moved.submitted));
        }
    }

    /// Offset behind the newest record that consumers may see, where records become visible at the
    /// level `acks`.
    pub fn visible(&self, id: PartitionId, acks: Acks) -> u64 {
        self.partition(id).reached(acks)
    }

    /// Adds a partition.
    pub fn add_partition(&mut self, partition: Partition) -> PartitionId {
        self.counters.damaged_ranges += u64_of(partition.damaged.ranges().len());
        let id = PartitionId(self.partitions.insert(partition));
        self.note_limits(id);
        id
    }

    /// The catalog's stream.
    pub const CATALOG_TOPIC: TopicId = [0; 16];
}
