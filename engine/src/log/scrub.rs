//! The scrubber: reads what lies in segments that are no longer written to, one after the other
//! and round after round, and checks every checksum, of frames and of batches. What is damaged is
//! quarantined before a reader meets it.
//!
//! ```text
//!  segment ──► opened ──► read, a piece at a time ──► frames checked ──► next segment
//!                             ▲      paced; never beside commits    │
//!                             └─────────────────────────────────────┘
//! ```
//!
//! A segment in which a reader has found something bad comes first, also in the middle of another
//! one, and is not paced: where the damage ends is known only once it was read.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use wire::batch::Batches;

use super::partition::PartitionId;
use super::segment::{IndexEntry, SegmentFile};
use super::store::{Store, StoreTag};
use crate::frame::{BLOCK_BYTES, EntryKind, FrameView, Unreadable, block_ceil};
use crate::pool::{BUFFER_BYTES_MAX, BufId, Pool};
use crate::port::{Fault, FileSlot, Level, Notice, Op, OpBatch, Time};
use crate::settings::READS_YIELD_NS;
use crate::units::{u32_of, u64_of, usize_of};

/// Bytes of one read.
const READ_BYTES: usize = 256 * 1024;
/// When there is nothing to read, or no memory for it, it is looked again after this.
const IDLE_NS: u64 = 1_000_000_000;
/// Segments that readers found bad and that wait for their turn.
const URGENT_MAX: usize = 64;

/// Where the scrubber is.
#[derive(Debug, Default)]
pub struct Scrub {
    walk: Option<Walk>,
    /// A paced walk that has made way for urgent ones.
    aside: Option<Walk>,
    /// The segment that was read last, by partition and sequence.
    cursor: Option<(PartitionId, u32)>,
    urgent: VecDeque<(PartitionId, u32)>,
    /// Segments that were urgent in this round: once is enough.
    seen: BTreeSet<(PartitionId, u32)>,
    reading: Option<Reading>,
    due: Time,
    /// Segments and bytes of this round.
    round: (u64, u64),
}

/// A read under way.
#[derive(Debug)]
struct Reading {
    id: PartitionId,
    sequence: u32,
    buf: BufId,
}

/// A segment that is being read.
#[derive(Debug)]
struct Walk {
    id: PartitionId,
    sequence: u32,
    pace: Pace,
    position: u64,
    /// Bytes of the next read.
    bytes: usize,
    /// The offset that comes next.
    next: u64,
    /// Where something bad was met behind the last whole frame.
    bad: Option<u64>,
}

/// How fast a segment is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    Paced,
    Urgent,
}

/// What looking at a piece came to.
enum Looked {
    /// There is more of the segment.
    More,
    /// That was all.
    End,
}

impl Store {
    /// A reader found something bad in a segment.
    pub fn scrub_soon(&mut self, id: PartitionId, sequence: u32) {
        let scrub = &mut self.scrub;
        if scrub.urgent.len() < URGENT_MAX && scrub.seen.insert((id, sequence)) {
            scrub.urgent.push_back((id, sequence));
            scrub.due = Time::default();
        }
    }

    /// Forgets a partition that is deleted.
    pub(super) fn forget_scrub(&mut self, id: PartitionId) {
        let scrub = &mut self.scrub;
        scrub.walk = scrub.walk.take().filter(|walk| walk.id != id);
        scrub.aside = scrub.aside.take().filter(|walk| walk.id != id);
        scrub.urgent.retain(|&(other, _)| other != id);
        scrub.seen.retain(|&(other, _)| other != id);
    }

    /// Buffers that the scrubber holds.
    pub fn scrub_buffers(&self) -> usize {
        usize::from(self.scrub.reading.is_some())
    }

    /// When the scrubber goes on.
    pub fn scrub_deadline(&self) -> Option<Time> {
        let scrub = &self.scrub;
        let is_on =
            self.settings.scrub_bytes_per_s > 0 || scrub.walk.is_some() || !scrub.urgent.is_empty();
        (is_on && scrub.reading.is_none()).then_some(scrub.due)
    }

    /// Reads the next piece, if it is time and no commit is under way.
    pub fn scrub(&mut self, pool: &mut Pool, now: Time, batch: &mut OpBatch) {
        if self.scrub_deadline().is_none_or(|due| due > now) {
            return;
        }
        if self.is_committing(now) {
            self.scrub.due = now.plus_ns(READS_YIELD_NS);
            return;
        }
        let scrub = &mut self.scrub;
        let is_paced = |walk: &mut Walk| walk.pace == Pace::Paced;
        if !scrub.urgent.is_empty()
            && let Some(walk) = scrub.walk.take_if(is_paced)
        {
            scrub.aside = Some(walk);
        }
        if scrub.walk.is_none() && !self.begin_walk(now) {
            return;
        }
        let Some(file) = self.scrub_file(now, batch) else { return };
        let Some(walk) = &self.scrub.walk else { return };
        let (id, sequence, position, bytes) = (walk.id, walk.sequence, walk.position, walk.bytes);
        // What is cached is worth more than what was read for nobody.
        let has_memory = pool.free_bytes() >= self.settings.reply_reserve_bytes + bytes;
        let Some(buf) = has_memory.then(|| pool.alloc(bytes)).flatten() else {
            self.scrub.due = now.plus_ns(IDLE_NS);
            return;
        };
        let partition = self.partition_mut(id);
        partition.users += 1;
        if let Some(segment) = partition.segment_mut(sequence) {
            segment.users += 1;
        }
        self.scrub.reading = Some(Reading { id, sequence, buf });
        batch.ops.push(Op::Read {
            file,
            tag: StoreTag::Scrub.tag(),
            buf: pool.fill(buf),
            position,
            len: u32_of(bytes),
        });
    }

    /// Takes the next segment. False if there is none for now.
    fn begin_walk(&mut self, now: Time) -> bool {
        if self.scrub.urgent.is_empty()
            && let Some(walk) = self.scrub.aside.take()
        {
            self.scrub.walk = Some(walk);
            return true;
        }
        let (found, pace) = match self.scrub.urgent.pop_front() {
            Some(urgent) => (Some(urgent).filter(|&it| self.is_sealed(it)), Pace::Urgent),
            None => (self.next_sealed(), Pace::Paced),
        };
        let Some((id, sequence)) = found else {
            if pace == Pace::Paced {
                self.end_round();
                self.scrub.due = now.plus_ns(IDLE_NS);
            }
            return false;
        };
        if pace == Pace::Paced {
            self.scrub.cursor = Some((id, sequence));
        }
        let segments = &self.partition(id).segments;
        let segment = segments.iter().find(|segment| segment.sequence == sequence);
        let next = segment.map_or(0, |segment| segment.base_offset);
        self.scrub.walk =
            Some(Walk { id, sequence, pace, position: 0, bytes: READ_BYTES, next, bad: None });
        true
    }

    /// Everything has been read.
    fn end_round(&mut self) {
        let (segments, bytes) = std::mem::take(&mut self.scrub.round);
        self.scrub.seen.clear();
        if self.scrub.cursor.take().is_none() {
            return;
        }
        self.counters.scrub_rounds += 1;
        let damaged = self.counters.damaged_ranges;
        let text = format!(
            "scrubbed {segments} segments, {bytes} B: {damaged} ranges of offsets are damaged"
        );
        let level = if damaged == 0 { Level::Info } else { Level::Warn };
        self.notices.push(Notice { level, conn: None, text });
    }

    fn is_sealed(&self, (id, sequence): (PartitionId, u32)) -> bool {
        let Some(partition) = self.partitions.get(id.0).filter(|it| !it.is_deleted) else {
            return false;
        };
        let segment = partition.segments.iter().find(|segment| segment.sequence == sequence);
        segment.is_some_and(|segment| {
            let end = segment.next_offset.unwrap_or(u64::MAX);
            let is_stored = end <= partition.runs_stored && segment.base_offset < end;
            is_stored && !partition.is_written(segment) && !segment.extending
        })
    }

    /// The sealed segment behind the cursor.
    fn next_sealed(&self) -> Option<(PartitionId, u32)> {
        if self.settings.scrub_bytes_per_s == 0 {
            return None;
        }
        let from = self.scrub.cursor.map_or(0, |(id, _)| id.0);
        let ids = self.partitions.iter().map(|(id, _)| PartitionId(id)).filter(|id| id.0 >= from);
        ids.flat_map(|id| self.partition(id).segments.iter().map(move |it| (id, it.sequence)))
            .filter(|&place| self.scrub.cursor.is_none_or(|cursor| place > cursor))
            .find(|&place| self.is_sealed(place))
    }

    /// The file of the segment that is read, if it is open.
    fn scrub_file(&mut self, now: Time, batch: &mut OpBatch) -> Option<FileSlot> {
        let walk = self.scrub.walk.as_ref().expect("begun by the caller");
        let (id, sequence) = (walk.id, walk.sequence);
        if !self.is_sealed((id, sequence)) {
            self.scrub.walk = None;
            return None;
        }
        let segments = &self.partition(id).segments;
        let segment = segments.iter().find(|segment| segment.sequence == sequence)?;
        match segment.file {
            SegmentFile::Open(file) => return Some(file),
            SegmentFile::Opening(_) => {}
            SegmentFile::Missing => {
                let offsets = segment.base_offset..segment.next_offset?;
                self.quarantine(id, sequence, offsets, (0, None), "it could not be opened");
                self.scrub.walk = None;
                return None;
            }
            SegmentFile::Closed => {
                self.reopen(batch, id, sequence);
            }
        }
        self.scrub.due = now.plus_ns(READS_YIELD_NS);
        None
    }

    /// A read of the scrubber ended.
    pub fn scrub_read(&mut self, pool: &mut Pool, now: Time, result: Result<u32, Fault>) {
        let Some(Reading { id, sequence, buf }) = self.scrub.reading.take() else { return };
        let partition = self.partition_mut(id);
        partition.users -= 1;
        if let Some(segment) = partition.segment_mut(sequence) {
            segment.users -= 1;
        }
        let Some(mut walk) = self.scrub.walk.take() else { return pool.release(buf) };
        let rate = self.settings.scrub_bytes_per_s;
        let wait_ns = match walk.pace {
            Pace::Paced if rate > 0 => u64_of(walk.bytes).saturating_mul(1_000_000_000) / rate,
            Pace::Paced | Pace::Urgent => 0,
        };
        self.scrub.due = now.plus_ns(wait_ns);
        let looked = match result {
            _ if !self.is_sealed((id, sequence)) => Looked::End,
            Ok(got) => {
                self.counters.scrub_bytes += u64::from(got);
                self.scrub.round.1 += u64::from(got);
                self.look(&mut walk, &pool.bytes(buf)[..usize_of(got)])
            }
            Err(Fault(errno)) => {
                self.unreadable(&walk, errno);
                Looked::End
            }
        };
        pool.release(buf);
        match looked {
            Looked::More => self.scrub.walk = Some(walk),
            Looked::End => {
                self.counters.scrub_segments += 1;
                self.scrub.round.0 += 1;
            }
        }
    }

    /// The device cannot read there: that may pass, and the next round tries again.
    fn unreadable(&mut self, walk: &Walk, errno: i32) {
        let path = self.partition(walk.id).path(walk.sequence);
        let text = format!("{path} cannot be read near byte {} (errno {errno})", walk.position);
        self.notices.push(Notice { level: Level::Error, conn: None, text });
    }

    /// Checks the frames of a piece.
    fn look(&mut self, walk: &mut Walk, bytes: &[u8]) -> Looked {
        let (id, sequence) = (walk.id, walk.sequence);
        let identity = self.identity;
        let partition = self.partition(id);
        let segment = partition.segments.iter().find(|segment| segment.sequence == sequence);
        let end = segment.and_then(|segment| segment.next_offset).unwrap_or(0);
        let mut found = Vec::new();
        let mut at = 0;
        let looked = loop {
            if walk.next >= end {
                break Looked::End;
            }
            let here = walk.position + u64_of(at);
            if at >= bytes.len() {
                // The file has nothing more.
                let is_last = bytes.len() < walk.bytes;
                walk.position = here;
                walk.bytes = READ_BYTES;
                break if is_last { Looked::End } else { Looked::More };
            }
            let view = match FrameView::read(&bytes[at..], identity.key) {
                Ok(view) if view.is_at(&identity.broker_id, &partition.place(sequence, here)) => {
                    view
                }
                Err(Unreadable::Short(need)) if at > 0 || need > bytes.len() => {
                    let is_last = bytes.len() < walk.bytes;
                    if !is_last {
                        walk.position = here;
                        walk.bytes = block_ceil(need.max(READ_BYTES)).min(BUFFER_BYTES_MAX);
                        break Looked::More;
                    }
                    walk.bad.get_or_insert(here);
                    at += BLOCK_BYTES;
                    continue;
                }
                Ok(_) | Err(_) => {
                    walk.bad.get_or_insert(here);
                    at += BLOCK_BYTES;
                    continue;
                }
            };
            let (entry, data) = view.parts().next().expect("a segment's frame has one entry");
            let base = entry.base_offset.get();
            if base < walk.next || base >= end {
                // Of a life that went on elsewhere.
                walk.bad.get_or_insert(here);
            } else {
                let behind = here + u64_of(view.frame_bytes());
                if base > walk.next {
                    let position = walk.bad.take().unwrap_or(here);
                    found.push((walk.next..base, (position, Some(here))));
                }
                walk.bad = None;
                if entry.kind.get() == EntryKind::RecordBatch as u16 && !are_whole(data, base) {
                    found.push((base..entry.next_offset(), (here, Some(behind))));
                }
                walk.next = entry.next_offset();
            }
            at += view.frame_bytes();
        };
        if matches!(looked, Looked::End) && walk.next < end {
            found.push((walk.next..end, (walk.bad.unwrap_or(walk.position), None)));
        }
        for (offsets, place) in found {
            self.quarantine(id, sequence, offsets, place, "its checksums do not match");
        }
        looked
    }

    /// Sets offsets of a segment aside, which lie from one position to another.
    fn quarantine(
        &mut self,
        id: PartitionId,
        sequence: u32,
        offsets: Range<u64>,
        (from, to): (u64, Option<u64>),
        what: &'static str,
    ) {
        let partition = self.partition_mut(id);
        let Range { start, end } = offsets;
        if end <= partition.log_start || !partition.damaged.add(offsets) {
            return;
        }
        if let (Some(segment), Some(position)) = (partition.segment_mut(sequence), to) {
            segment.goes_on_at(end, position);
        }
        let (topic, number) = (u128::from_be_bytes(partition.topic), partition.number);
        let path = partition.path(sequence);
        let text = format!(
            "topic id {topic:032x}, partition {number}: offsets {start} to {} are damaged ({path} \
             at byte {from}: {what}); they are answered with data_corrupt, all others are served",
            end - 1
        );
        self.counters.damaged_ranges += 1;
        self.notices.push(Notice { level: Level::Error, conn: None, text });
    }
}

impl super::segment::Segment {
    /// Behind damaged frames a reader begins at this offset and position.
    fn goes_on_at(&mut self, base_offset: u64, position: u64) {
        let place = self.index.partition_point(|entry| entry.base_offset < base_offset);
        let is_there = self.index.get(place).is_some_and(|entry| entry.base_offset == base_offset);
        if !is_there {
            // What follows was not looked at for its times.
            let max_timestamp_ms = i64::MAX;
            self.index.insert(place, IndexEntry { base_offset, position, max_timestamp_ms });
        }
    }
}

/// Whether batches are whole and continue each other from `base`.
fn are_whole(data: &[u8], base: u64) -> bool {
    let mut next = base;
    Batches::new(data).all(|batch| {
        let whole =
            batch.ok().filter(|batch| batch.base_offset() == next && batch.verify_crc().is_ok());
        next = whole.map_or(next, |batch| batch.next_offset());
        whole.is_some()
    })
}
