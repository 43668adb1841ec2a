//! Which reads of streams are submitted, and when: those that fetches wait for first, each stream
//! one chunk at a time, so that all readers share the device; fewer while commits are under way.

use super::read::DiskPlace;
use super::run::RunState;
use super::store::{Store, StoreTag};
use super::stream::{StreamKind, Turn};
use crate::frame::{BLOCK_BYTES, block_ceil};
use crate::pool::Pool;
use crate::port::{Fault, Op, OpBatch, Time};
use crate::settings::{READS_BESIDE_COMMITS, READS_YIELD_NS};
use crate::units::{u32_of, u64_of, usize_of};

/// How trying to submit a read ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tried {
    /// It was submitted, or the stream needs none.
    Done,
    /// There is no memory for it.
    NoMemory,
}

impl Store {
    /// Submits the reads that streams need, as far as limits allow.
    pub fn pump_reads(&mut self, pool: &mut Pool, now: Time, batch: &mut OpBatch) {
        self.streams.sweep(pool, now, &self.settings);
        let limit = self.reads_limit(now);
        while self.streams.reads.len() < limit {
            let Some(slot) = self.streams.next_queued() else { return };
            if self.read_next(pool, batch, slot) == Tried::Done {
                continue;
            }
            // What others hold is given back, and it is tried once more.
            self.streams.queue_again(slot, Turn::First);
            self.streams.relieve(pool);
            let again =
                self.streams.next_queued().map(|slot| (slot, self.read_next(pool, batch, slot)));
            if let Some((slot, Tried::NoMemory)) = again {
                return self.streams.queue_again(slot, Turn::First);
            }
        }
    }

    /// Reads that may be under way: commits shall not wait behind many.
    fn reads_limit(&self, now: Time) -> usize {
        let most = self.settings.reads_in_flight_max;
        if self.is_committing(now) { most.min(READS_BESIDE_COMMITS) } else { most }
    }

    /// Whether commits are under way, or were a moment ago: what takes long is cut short.
    pub(crate) fn is_committing(&self, now: Time) -> bool {
        let last = self.journal.last_submit;
        let is_writing = self.journal.writes_in_flight > 0 || !self.run_writes.is_empty();
        is_writing || last != Time::default() && now.since(last) < READS_YIELD_NS
    }

    /// Submits the stream's next read, if it wants one.
    fn read_next(&mut self, pool: &mut Pool, batch: &mut OpBatch, slot: u32) -> Tried {
        let Some(stream) = self.streams.get(slot) else { return Tried::Done };
        let place = stream.place;
        if !self.is_open(&place) {
            // Its file was closed meanwhile: the reader opens it again.
            self.streams.remove(pool, slot);
            return Tried::Done;
        }
        let is_demanded = stream.is_demanded();
        let (from, wanted_to) = (stream.next_read(), stream.wanted_to());
        let end = self.stored_end(&place);
        if from >= wanted_to.min(end) {
            return Tried::Done;
        }
        let left = usize::try_from(end - from).unwrap_or(usize::MAX);
        let bytes = match stream.kind {
            StreamKind::Data => block_ceil(left.min(self.settings.read_bytes)),
            StreamKind::Heads => BLOCK_BYTES,
        };
        let room = self.settings.read_ahead_bytes_total_max;
        if !is_demanded && self.streams.bytes() + bytes > room {
            return Tried::Done;
        }
        let before = (self.is_short, self.is_stuck);
        let Some(buf) = self.alloc(pool, bytes) else {
            if is_demanded {
                return Tried::NoMemory;
            }
            // Nobody waits for it.
            (self.is_short, self.is_stuck) = before;
            return Tried::Done;
        };
        let read = self.streams.reading(slot, buf, bytes);
        let partition = self.partition_mut(place.partition);
        partition.users += 1;
        if let Some(segment) = partition.segment_mut(place.segment) {
            segment.users += 1;
        }
        self.counters.fetch_disk_reads += 1;
        batch.ops.push(Op::Read {
            file: place.file,
            tag: StoreTag::Read(read).tag(),
            buf: pool.fill(buf),
            position: from,
            len: u32_of(bytes),
        });
        if from + u64_of(bytes) < wanted_to.min(end) {
            self.streams.queue_again(slot, Turn::Last);
        }
        Tried::Done
    }

    /// A stream's read ended. Gives the fetch that waits for it.
    pub fn stream_read(
        &mut self,
        pool: &mut Pool,
        slot: u32,
        result: Result<u32, Fault>,
    ) -> Option<u64> {
        let read = self.streams.reads.remove(slot)?;
        let partition = self.partition_mut(read.place.partition);
        partition.users -= 1;
        if let Some(segment) = partition.segment_mut(read.place.segment) {
            segment.users -= 1;
        }
        let got = result.map(usize_of);
        self.counters.disk_read_bytes += got.map_or(0, u64_of);
        let reader = self.streams.read_ended(pool, &read, got);
        self.head_read(pool, read.stream);
        reader
    }

    /// Position behind the last frame of the segment that is stored: what lies behind may still
    /// be on its way.
    pub(super) fn stored_end(&self, place: &DiskPlace) -> u64 {
        let partition = self.partition(place.partition);
        let mut segments = partition.segments.iter();
        let segment = segments.find(|segment| segment.sequence == place.segment);
        let end = segment.map_or(0, |segment| segment.end);
        let from = partition.runs.partition_point(|run| run.next_offset <= partition.runs_stored);
        match partition.runs.get(from).filter(|run| run.state > RunState::Sealed) {
            Some(run) if run.segment == place.segment => run.position,
            Some(run) if run.segment < place.segment => 0,
            _ => end,
        }
    }
}
