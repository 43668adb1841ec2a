//! The first record at or after a time, by offset: right to the record, also where times are out
//! of order. Of compressed batches, right to the batch.
//!
//! A search goes through the partition from its start and skips what is known to be older: whole
//! segments, stretches of a segment's index. What it must look into it reads from disk, a little
//! at a time, and it leaves behind the index that it has made on its way.

use wire::batch::{Batch, Batches};
use wire::{Acks, ErrorCode};

use super::partition::{Partition, PartitionId};
use super::segment::{IndexEntry, Newest, Segment, SegmentFile};
use super::store::{Store, StoreTag};
use crate::frame::{FrameView, RUN_PREFIX_BYTES, Unreadable, block_ceil};
use crate::pool::{BUFFER_BYTES_MAX, BufId, Pool};
use crate::port::{FileSlot, Op, OpBatch};
use crate::settings::INDEX_SPACING_BYTES;
use crate::units::{u32_of, u64_of};

/// A search in progress. Counts as a user of its partition until [`Store::end_search`].
#[derive(Debug)]
pub struct TimeSearch {
    /// Where it searches.
    pub partition: PartitionId,
    timestamp_ms: i64,
    acks: Acks,
    /// Everything before this offset is older.
    next: u64,
    /// Where the frame with `next` begins, if the last read told: segment, position.
    at: Option<(u32, u64)>,
    /// Bytes to read next.
    bytes: usize,
    /// What is being read: segment, position.
    reading: Option<(u32, u64)>,
    /// The index of the frames that were read in a row, from where in which segment.
    walked: Option<Walked>,
}

/// Frames of a segment that were read in a row.
#[derive(Debug)]
struct Walked {
    segment: u32,
    index: Vec<IndexEntry>,
    /// Position and offset behind the last of them.
    end: (u64, u64),
}

/// How a step of a search ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// This record: offset and time.
    Record(u64, i64),
    /// There is none: the end of what is visible.
    End(u64),
    /// It goes on when a read, a file or memory is there.
    Wait,
    /// It cannot be told.
    Failed(ErrorCode),
}

/// Where a search goes on.
enum Place {
    Memory,
    Disk { segment: u32, file: FileSlot, position: u64 },
    Opening,
    Missing,
    End(u64),
}

impl Store {
    /// Begins to search a partition for the first record at or after a time, as far as records
    /// are visible at the level `acks`.
    pub fn begin_search(&mut self, id: PartitionId, timestamp_ms: i64, acks: Acks) -> TimeSearch {
        let bytes = self.settings.read_bytes;
        self.partition_mut(id).users += 1;
        TimeSearch {
            partition: id,
            timestamp_ms,
            acks,
            next: 0,
            at: None,
            bytes,
            reading: None,
            walked: None,
        }
    }

    /// The search is over.
    pub fn end_search(&mut self, search: TimeSearch) {
        let partition = self.partition_mut(search.partition);
        partition.users -= 1;
        if let Some(walked) = search.walked {
            partition.learn_times(walked);
        }
    }

    /// Goes on with a search; its reads are named by `slot`.
    pub fn search(
        &mut self,
        pool: &mut Pool,
        batch: &mut OpBatch,
        search: &mut TimeSearch,
        slot: u32,
    ) -> Found {
        if search.reading.is_some() {
            return Found::Wait;
        }
        match self.search_place(batch, search) {
            Place::End(end) => Found::End(end),
            Place::Opening => Found::Wait,
            Place::Missing => Found::Failed(ErrorCode::DataCorrupt),
            Place::Memory => self.search_memory(pool, search),
            Place::Disk { segment, file, position } => {
                let Some(buf) = self.alloc(pool, search.bytes) else { return Found::Wait };
                search.reading = Some((segment, position));
                let partition = self.partition_mut(search.partition);
                if let Some(segment) = partition.segment_mut(segment) {
                    segment.users += 1;
                }
                self.counters.search_disk_reads += 1;
                batch.ops.push(Op::Read {
                    file,
                    tag: StoreTag::Search(slot).tag(),
                    buf: pool.fill(buf),
                    position,
                    len: u32_of(search.bytes),
                });
                Found::Wait
            }
        }
    }

    /// Skips what is older, and tells where to look.
    fn search_place(&mut self, batch: &mut OpBatch, search: &mut TimeSearch) -> Place {
        let id = search.partition;
        let visible = self.visible(id, search.acks);
        loop {
            let partition = self.partition(id);
            search.next = search.next.max(partition.log_start);
            if let Some(damaged) = partition.damaged.at(search.next) {
                // Nobody can say how old that was.
                search.next = damaged.end;
            }
            if search.next >= visible {
                return Place::End(visible);
            }
            let memory_from = partition.runs.front().map_or(u64::MAX, |run| run.base_offset);
            if memory_from <= search.next {
                return Place::Memory;
            }
            let behind = partition.segments.partition_point(|s| s.base_offset <= search.next);
            let Some(index) = behind.checked_sub(1) else { return Place::Missing };
            let segment = &partition.segments[index];
            let end = segment.next_offset.unwrap_or(memory_from).min(memory_from);
            let stretch = match segment.newest.may_reach(search.timestamp_ms) {
                true => segment.first_stretch(search.next, search.timestamp_ms),
                false => None,
            };
            let Some((base, position)) = stretch.filter(|_| search.next < end) else {
                if end <= search.next {
                    return Place::Missing;
                }
                search.next = end;
                continue;
            };
            search.next = search.next.max(base);
            let sequence = segment.sequence;
            let file = match segment.file {
                SegmentFile::Open(file) => file,
                SegmentFile::Opening(_) => return Place::Opening,
                SegmentFile::Missing => return Place::Missing,
                SegmentFile::Closed => {
                    self.reopen(batch, id, sequence);
                    return Place::Opening;
                }
            };
            let going_on = search.at.filter(|&(segment, _)| segment == sequence);
            let position = going_on.map_or(position, |(_, at)| at.max(position));
            return Place::Disk { segment: sequence, file, position };
        }
    }

    fn search_memory(&self, pool: &Pool, search: &mut TimeSearch) -> Found {
        let partition = self.partition(search.partition);
        let visible = self.visible(search.partition, search.acks);
        let first = partition.runs.partition_point(|run| run.next_offset <= search.next);
        for run in partition.runs.range(first..) {
            if run.max_timestamp_ms < search.timestamp_ms {
                continue;
            }
            let bytes = &pool.bytes(run.buf)[RUN_PREFIX_BYTES..run.end];
            match search.look_into(bytes, visible) {
                Some(found) => return found,
                None => search.next = search.next.max(run.next_offset),
            }
        }
        Found::End(visible)
    }

    /// A search's read ended: `got` bytes lie in `buf`. Gives how it ended, if it did.
    pub fn search_read(
        &mut self,
        pool: &Pool,
        search: &mut TimeSearch,
        buf: BufId,
        got: Result<usize, ErrorCode>,
    ) -> Option<Found> {
        let (segment, position) = search.reading.take()?;
        let partition = self.partition_mut(search.partition);
        if let Some(segment) = partition.segment_mut(segment) {
            segment.users -= 1;
        }
        let got = match got {
            Ok(got) => got,
            Err(code) => return Some(Found::Failed(code)),
        };
        let partition = self.partition(search.partition);
        search.next = search.next.max(partition.log_start);
        let visible = self.visible(search.partition, search.acks);
        self.look_through(partition, &pool.bytes(buf)[..got], search, (segment, position), visible)
    }

    /// Looks into the frames that begin at `position` of a segment.
    fn look_through(
        &self,
        partition: &Partition,
        bytes: &[u8],
        search: &mut TimeSearch,
        (segment, position): (u32, u64),
        visible: u64,
    ) -> Option<Found> {
        let mut at = 0;
        loop {
            let here = position + u64_of(at);
            search.at = Some((segment, here));
            let view = match FrameView::read(&bytes[at..], self.identity.key) {
                Ok(view)
                    if view.is_at(&self.identity.broker_id, &partition.place(segment, here)) =>
                {
                    view
                }
                Err(Unreadable::Short(need)) if at > 0 || need > bytes.len() => {
                    // The rest of it comes with the next read.
                    let is_hopeless = at == 0 && search.bytes >= block_ceil(need);
                    search.bytes = block_ceil(need.max(self.settings.read_bytes));
                    search.bytes = search.bytes.min(BUFFER_BYTES_MAX);
                    return is_hopeless.then_some(Found::Failed(ErrorCode::DataCorrupt));
                }
                Ok(_) | Err(_) if at > 0 => return None,
                Ok(_) | Err(_) => return Some(Found::Failed(ErrorCode::DataCorrupt)),
            };
            let (entry, data) = view.parts().next().expect("a segment's frame has one entry");
            let (base, end) = (entry.base_offset.get(), entry.next_offset());
            let times = Batches::new(data).flatten().map(|b| b.header().max_timestamp.get());
            let newest = times.max().unwrap_or(i64::MIN);
            at += view.frame_bytes();
            search.walk(segment, here, (base, newest), (position + u64_of(at), end));
            if end > search.next
                && newest >= search.timestamp_ms
                && let Some(found) = search.look_into(data, visible)
            {
                return Some(found);
            }
            search.next = search.next.max(end);
            search.at = Some((segment, position + u64_of(at)));
            if search.next >= visible || at >= bytes.len() {
                return None;
            }
        }
    }
}

impl TimeSearch {
    /// Whether a read of it is under way.
    pub const fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    /// Looks for the record in batches that lie back to back.
    fn look_into(&mut self, batches: &[u8], visible: u64) -> Option<Found> {
        for batch in Batches::new(batches).flatten() {
            if batch.next_offset() <= self.next {
                continue;
            }
            if batch.next_offset() > visible {
                return Some(Found::End(visible));
            }
            if batch.header().max_timestamp.get() >= self.timestamp_ms
                && let Some((offset, time)) = self.first_record(&batch)
            {
                return Some(Found::Record(offset, time));
            }
        }
        None
    }

    fn first_record(&self, batch: &Batch<'_>) -> Option<(u64, i64)> {
        if batch.is_compressed() {
            let time = batch.header().max_timestamp.get();
            return Some((batch.base_offset().max(self.next), time));
        }
        let records = batch.records().flatten();
        let mut records = records.filter(|record| record.offset >= self.next);
        let record = records.find(|record| record.timestamp_ms >= self.timestamp_ms)?;
        Some((record.offset, record.timestamp_ms))
    }

    /// Notes a frame for the index: its position, base offset and newest time, and what lies
    /// behind it.
    fn walk(
        &mut self,
        segment: u32,
        position: u64,
        (base_offset, newest): (u64, i64),
        end: (u64, u64),
    ) {
        let goes_on = |walked: &&mut Walked| walked.segment == segment && walked.end.0 == position;
        let entry = IndexEntry { base_offset, position, max_timestamp_ms: newest };
        let Some(walked) = self.walked.as_mut().filter(goes_on) else {
            self.walked = Some(Walked { segment, index: vec![entry], end });
            return;
        };
        match walked.index.last_mut() {
            Some(last) if position < last.position + INDEX_SPACING_BYTES => {
                last.max_timestamp_ms = last.max_timestamp_ms.max(newest);
            }
            _ => walked.index.push(entry),
        }
        walked.end = end;
    }
}

impl Partition {
    /// Takes over the index that a search has made, for a segment that had none of its own.
    fn learn_times(&mut self, walked: Walked) {
        let Some(segment) = self.segment_mut(walked.segment) else { return };
        let Walked { mut index, end: (position, offset), .. } = walked;
        if segment.indexed || index.first().is_none_or(|first| first.position > 0) {
            return;
        }
        if segment.next_offset == Some(offset) {
            let newest = index.iter().map(|entry| entry.max_timestamp_ms).max();
            segment.newest = Newest::Known(newest.unwrap_or(i64::MIN));
            segment.indexed = true;
        } else {
            // What follows in its last stretch was not looked at.
            if let Some(last) = index.last_mut() {
                last.max_timestamp_ms = i64::MAX;
            }
            index.extend(segment.index.iter().filter(|entry| entry.position >= position));
        }
        segment.index = index;
    }
}

impl Segment {
    /// The first stretch that may hold a record from `offset` on that is not older than
    /// `timestamp_ms`: where it begins, offset and position.
    fn first_stretch(&self, offset: u64, timestamp_ms: i64) -> Option<(u64, u64)> {
        let first = self.index.first().filter(|first| first.position == 0);
        if first.is_none() && self.index.first().is_none_or(|known| offset < known.base_offset) {
            return Some((self.base_offset, 0));
        }
        let from = self.index.partition_point(|entry| entry.base_offset <= offset);
        let from = from.saturating_sub(1);
        let last = self.index.len() - 1;
        let may_reach = |(number, entry): &(usize, &IndexEntry)| {
            // The last stretch of an index that is not whole has no known end.
            entry.max_timestamp_ms >= timestamp_ms || (*number == last && !self.indexed)
        };
        let mut stretches = self.index.iter().enumerate().skip(from);
        stretches.find(may_reach).map(|(_, entry)| (entry.base_offset, entry.position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(stretches: &[(u64, u64, i64)]) -> Segment {
        let mut segment = Segment::new(0, 10);
        segment.index = stretches
            .iter()
            .map(|&(base_offset, position, max_timestamp_ms)| IndexEntry {
                base_offset,
                position,
                max_timestamp_ms,
            })
            .collect();
        segment
    }

    #[test]
    fn the_first_stretch_that_reaches_the_time_counts_whatever_comes_later() {
        let out_of_order = segment(&[(10, 0, 500), (20, 100, 900), (30, 200, 100)]);
        assert_eq!(out_of_order.first_stretch(10, 400), Some((10, 0)));
        assert_eq!(out_of_order.first_stretch(10, 501), Some((20, 100)));
        assert_eq!(out_of_order.first_stretch(25, 50), Some((20, 100)), "it holds the offset");
        assert_eq!(out_of_order.first_stretch(30, 101), None);
        assert_eq!(out_of_order.first_stretch(10, 901), None);
    }

    #[test]
    fn what_is_not_known_is_looked_into() {
        let mut partly = segment(&[(20, 100, 3)]);
        partly.indexed = false;
        assert_eq!(partly.first_stretch(10, 5), Some((10, 0)), "before what is known");
        assert_eq!(partly.first_stretch(20, 5), Some((20, 100)), "the last stretch is open");
        partly.index.clear();
        assert_eq!(partly.first_stretch(10, 5), Some((10, 0)));
    }

    #[test]
    fn a_search_leaves_the_index_it_made() {
        let mut partition = Partition::new([1; 16], 0, crate::frame::EntryKind::RecordBatch, 0);
        let mut unknown = Segment::new(4, 0);
        (unknown.indexed, unknown.next_offset) = (false, Some(30));
        unknown.newest = Newest::WrittenBy(1);
        partition.segments.push_back(unknown);
        let entry = |base_offset, position, max_timestamp_ms| IndexEntry {
            base_offset,
            position,
            max_timestamp_ms,
        };
        let index = vec![entry(0, 0, 7), entry(10, 100, 9)];
        partition.learn_times(Walked { segment: 4, index: index.clone(), end: (200, 20) });
        assert!(!partition.segments[0].indexed);
        assert_eq!(partition.segments[0].index[1].max_timestamp_ms, i64::MAX, "not all seen");
        partition.learn_times(Walked { segment: 4, index, end: (300, 30) });
        assert!(partition.segments[0].indexed);
        assert_eq!(partition.segments[0].newest, Newest::Known(9));
    }
}
