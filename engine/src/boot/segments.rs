//! Step 2 and 4: where each partition's segments end.

use wire::batch::Batches;

use super::scanner::Scanner;
use super::{Boot, BootError};
use crate::catalog::Change;
use crate::frame::{BLOCK_BYTES, EntryKind, FrameHeader, FrameView, SegmentPlace, Unreadable};
use crate::layout::FilePath;
use crate::log::cursors::Progress;
use crate::log::partition::{Partition, PartitionId};
use crate::log::segment::{Newest, Segment};
use crate::port::Disk;
use crate::settings::INDEX_SPACING_BYTES;
use crate::units::u64_of;

/// How far behind a block that is no frame of the segment a later frame is searched for: further
/// than any frame is long.
const BLANK_SEARCH_BYTES: u64 = 4 * 1024 * 1024;

/// What walking a segment found.
struct Walked {
    segment: Segment,
    /// Offset behind the last whole frame.
    next_offset: u64,
    /// Highest durable offset that a whole frame of it claims.
    watermark: u64,
    is_torn: bool,
    /// What its first frame says of the segment before it.
    before: Before,
}

/// What the first frame of a segment says of the one before it.
#[derive(Debug, Clone, Copy)]
struct Before {
    /// Sequence of the one that says it.
    teller: u32,
    /// What it says, if it says something.
    newest: Option<Newest>,
    /// By when the records of segments before it were written.
    written_by: Newest,
}

impl Before {
    fn told_by(sequence: u32, header: &FrameHeader) -> Before {
        let newest = i64::try_from(header.lsn.get()).ok().filter(|&ms| ms > 0);
        let wall_ms = i64::try_from(header.wall_ns.get() / 1_000_000).unwrap_or(i64::MAX);
        Before {
            teller: sequence,
            newest: newest.map(Newest::Known),
            written_by: Newest::WrittenBy(wall_ms),
        }
    }

    /// The newest time of a segment before it: what it says, if that is the next one.
    fn newest_of(&self, sequence: u32) -> Newest {
        let told = self.newest.filter(|_| self.teller == sequence + 1);
        told.unwrap_or(self.written_by)
    }
}

/// What whole frames behind a bad one claim.
struct Later {
    /// Highest durable offset.
    watermark: u64,
    /// Base offset of the first of them.
    lowest: Option<u64>,
}

impl<D: Disk> Boot<'_, D> {
    /// Finds the partition's segments and where its records end. Segments without a whole frame,
    /// and those behind a gap that was never acknowledged, are deleted, once it is certain that
    /// nothing proven is missing.
    pub(super) fn recover_segments(&mut self, partition: &mut Partition) -> Result<(), BootError> {
        let stream = (partition.topic, partition.number);
        let mut sequences = self.segments.remove(&stream).unwrap_or_default();
        sequences.sort_unstable();
        partition.next_sequence = sequences.last().map_or(0, |(sequence, _)| sequence + 1);
        self.recover_start(partition, &mut sequences)?;
        let mut doomed = Vec::new();
        self.find_tail(partition, sequences, &mut doomed)?;
        let end = partition.progress.appended();
        if self.proven.get(&stream).is_some_and(|&proven| proven > end) {
            let last = partition.segments.back();
            let sequence = last.map_or(0, |segment| segment.sequence);
            let position = last.map_or(0, |segment| segment.end);
            let what = "a watermark in the journal shows that more had been stored";
            return Err(BootError::Corrupt(partition.path(sequence), position, what));
        }
        for path in doomed {
            self.disk.delete(&path).map_err(|fault| BootError::Disk(path, fault))?;
        }
        Ok(())
    }

    /// Walks segments from the newest back until one shows that everything before it was stored.
    /// Whatever lies behind a gap was written ahead of records that were lost, and was never
    /// acknowledged.
    fn find_tail(
        &mut self,
        partition: &mut Partition,
        mut sequences: Vec<(u32, u64)>,
        doomed: &mut Vec<FilePath>,
    ) -> Result<(), BootError> {
        // Newest first, each continued by the one before it.
        let mut chain: Vec<Walked> = Vec::new();
        let mut watermark = 0;
        let mut is_proven = false;
        let mut is_headless = false;
        while let Some((sequence, bytes)) = sequences.pop() {
            // A segment that ended by a failure is continued by the next one, and what it holds
            // from there on is void.
            let void_from = chain.last().map(|newer| newer.segment.base_offset);
            let Some(walked) = self.walk(partition, (sequence, bytes), void_from)? else {
                doomed.push(partition.path(sequence));
                is_headless = true;
                continue;
            };
            is_headless = false;
            let gap =
                chain.last().is_some_and(|newer| newer.segment.base_offset != walked.next_offset);
            if gap && watermark > walked.next_offset {
                let path = partition.path(sequence);
                let what = "a later segment shows that its end had been acknowledged";
                return Err(BootError::Corrupt(path, walked.segment.end, what));
            }
            if gap {
                let newer = chain.drain(..).map(|newer| partition.path(newer.segment.sequence));
                doomed.extend(newer);
            }
            let base_offset = walked.segment.base_offset;
            watermark = walked.watermark.max(watermark);
            chain.push(walked);
            if watermark >= base_offset {
                is_proven = true;
                break;
            }
        }
        let oldest = chain.last().map(|oldest| oldest.segment.base_offset);
        if is_headless && !is_proven && oldest.is_some_and(|oldest| oldest != partition.start.base)
        {
            // The segment that the partition begins with has no whole frame: a gap as well.
            let newer = chain.drain(..).map(|newer| partition.path(newer.segment.sequence));
            doomed.extend(newer);
        }
        let mut chain = chain.into_iter();
        let Some(tail) = chain.next() else { return Ok(()) };
        let mut before = tail.before;
        self.adopt_tail(partition, tail);
        for older in chain {
            before = older.before;
            self.adopt_older(partition, older.segment, older.next_offset);
        }
        self.adopt_rest(partition, &sequences, before)
    }

    fn adopt_tail(&mut self, partition: &mut Partition, walked: Walked) {
        self.report.segments_torn += u64::from(walked.is_torn);
        let mut segment = walked.segment;
        segment.next_offset = Some(walked.next_offset);
        partition.progress = Progress::at(walked.next_offset);
        partition.runs_written = walked.next_offset;
        partition.runs_stored = walked.next_offset;
        partition.begin_with(segment.base_offset);
        partition.segments.push_front(segment);
    }

    fn adopt_older(&mut self, partition: &mut Partition, mut segment: Segment, next_offset: u64) {
        segment.next_offset = Some(next_offset);
        partition.begin_with(segment.base_offset);
        partition.segments.push_front(segment);
    }

    /// Older segments: only their first frames are looked at.
    fn adopt_rest(
        &mut self,
        partition: &mut Partition,
        older: &[(u32, u64)],
        mut before: Before,
    ) -> Result<(), BootError> {
        let broker_id = self.store.identity.broker_id;
        for &(sequence, bytes) in older.iter().rev() {
            let path = partition.path(sequence);
            let place = partition.place(sequence, 0);
            let newest = before.newest_of(sequence);
            let fault = |fault| BootError::Disk(path.clone(), fault);
            let mut scanner = self.scanner(&path)?;
            let first = scanner.frame(self.disk, &mut self.pool, 0).map_err(fault)?;
            let base = match first {
                Ok(view) if view.is_at(&broker_id, &place) => {
                    before = Before::told_by(sequence, view.header);
                    view.entries.first().map(|entry| entry.base_offset.get())
                }
                Ok(_) | Err(_) => None,
            };
            scanner.close(&mut self.pool);
            let Some(base_offset) = base else {
                let what = "an older segment has no whole first frame";
                return Err(BootError::Corrupt(path, 0, what));
            };
            let next = partition.segments.front().map(|segment| segment.base_offset);
            let mut segment = Segment::new(sequence, base_offset);
            segment.end = bytes;
            segment.indexed = false;
            segment.newest = newest;
            segment.next_offset = next;
            partition.begin_with(base_offset);
            partition.segments.push_front(segment);
        }
        Ok(())
    }

    pub(super) fn scanner(&mut self, path: &FilePath) -> Result<Scanner, BootError> {
        let key = self.store.identity.key;
        // Free bytes may lie in pieces: runs are dropped until one is long enough.
        loop {
            if let Some(scanner) = Scanner::open(&mut self.pool, path.clone(), key) {
                return Ok(scanner);
            }
            if !self.store.evict_one(&mut self.pool) {
                return Err(BootError::Memory);
            }
        }
    }

    /// Walks a segment's frames from the front, up to the offset `void_from`. `None` if the first
    /// is not whole.
    fn walk(
        &mut self,
        partition: &Partition,
        (sequence, bytes): (u32, u64),
        void_from: Option<u64>,
    ) -> Result<Option<Walked>, BootError> {
        let path = partition.path(sequence);
        let mut scanner = self.scanner(&path)?;
        let place = (sequence, bytes);
        let walked = self.walk_frames(partition, place, void_from, &mut scanner, &path);
        scanner.close(&mut self.pool);
        walked
    }

    fn walk_frames(
        &mut self,
        partition: &Partition,
        (sequence, bytes): (u32, u64),
        void_from: Option<u64>,
        scanner: &mut Scanner,
        path: &FilePath,
    ) -> Result<Option<Walked>, BootError> {
        let broker_id = self.store.identity.broker_id;
        let mut walked: Option<Walked> = None;
        let mut position = 0;
        let bad = loop {
            let reached = walked.as_ref().map(|tail| tail.next_offset);
            if position >= bytes || (reached.is_some() && reached == void_from) {
                break None;
            }
            let fault = |fault| BootError::Disk(path.clone(), fault);
            let view = match scanner.frame(self.disk, &mut self.pool, position).map_err(fault)? {
                Ok(view) => view,
                Err(Unreadable::Newer(_)) => return Err(BootError::Newer(path.clone())),
                Err(bad) => break Some(bad),
            };
            let belongs = view.is_at(&broker_id, &partition.place(sequence, position));
            let Some((entry, data)) = view.parts().next().filter(|_| belongs) else {
                break Some(Unreadable::Damaged("a frame of another file or place"));
            };
            let base_offset = entry.base_offset.get();
            let max_timestamp_ms = newest_time(partition.kind, data);
            let tail = walked.get_or_insert_with(|| Walked {
                segment: Segment::new(sequence, base_offset),
                next_offset: base_offset,
                watermark: 0,
                is_torn: false,
                before: Before::told_by(sequence, view.header),
            });
            if tail.next_offset != base_offset {
                break Some(Unreadable::Damaged("a frame with another offset"));
            }
            let length = u64_of(view.frame_bytes());
            tail.segment.push(base_offset, length, max_timestamp_ms, INDEX_SPACING_BYTES);
            tail.next_offset = entry.next_offset();
            tail.watermark = tail.watermark.max(view.header.watermark.get());
            position += length;
        };
        if bad.is_none() {
            return Ok(walked);
        }
        let first = partition.place(sequence, position);
        // What is no frame of this segment is nothing, or of its file's earlier life.
        let is_mine = scanner.claims(&self.pool, &first, &broker_id);
        let end = if is_mine { bytes } else { bytes.min(position + BLANK_SEARCH_BYTES) };
        let Later { watermark, lowest } = self.later_frames(scanner, path, first, end)?;
        let proven = match &walked {
            Some(walked) => watermark > walked.next_offset,
            // Where the segment begins is not known, but all before its next whole frame was
            // durable.
            None => lowest.is_some_and(|lowest| watermark >= lowest),
        };
        if proven {
            let what = "a later frame shows that it had been acknowledged";
            return Err(BootError::Corrupt(path.clone(), position, what));
        }
        if let Some(walked) = &mut walked {
            walked.is_torn = is_mine;
        }
        Ok(walked)
    }

    /// What whole frames of this segment behind `from` claim.
    fn later_frames(
        &mut self,
        scanner: &mut Scanner,
        path: &FilePath,
        from: SegmentPlace,
        to: u64,
    ) -> Result<Later, BootError> {
        let broker_id = self.store.identity.broker_id;
        let mut later = Later { watermark: 0, lowest: None };
        let mut position = from.position + u64_of(BLOCK_BYTES);
        while position < to {
            let fault = |fault| BootError::Disk(path.clone(), fault);
            let frame = scanner.frame(self.disk, &mut self.pool, position).map_err(fault)?;
            let here = SegmentPlace { position, ..from };
            let mine = |view: &FrameView<'_>| view.is_at(&broker_id, &here);
            match frame {
                Ok(view) if mine(&view) => {
                    later.watermark = later.watermark.max(view.header.watermark.get());
                    let base = view.entries.first().map(|entry| entry.base_offset.get());
                    later.lowest = later.lowest.or(base);
                    position += u64_of(view.frame_bytes());
                }
                _ => position += u64_of(BLOCK_BYTES),
            }
        }
        Ok(later)
    }

    /// Applies the changes that a segment of the catalog holds.
    pub(super) fn read_catalog_segment(
        &mut self,
        id: PartitionId,
        sequence: u32,
    ) -> Result<(), BootError> {
        let segment = self.store.partition(id).segments.iter().find(|s| s.sequence == sequence);
        let end = segment.map_or(0, |segment| segment.end);
        let path = self.store.partition(id).path(sequence);
        let mut scanner = self.scanner(&path)?;
        let mut position = 0;
        while position < end {
            let fault = |fault| BootError::Disk(path.clone(), fault);
            let view = match scanner.frame(self.disk, &mut self.pool, position).map_err(fault)? {
                Ok(view) => view,
                Err(Unreadable::Blank) => break,
                Err(_) => {
                    let what = "a frame of the catalog is damaged";
                    return Err(BootError::Corrupt(path, position, what));
                }
            };
            let changes = view.parts().next().and_then(|(_, data)| changes(data));
            position += u64_of(view.frame_bytes());
            let Some(changes) = changes else {
                let what = "a record of the catalog cannot be read";
                return Err(BootError::Corrupt(path, position, what));
            };
            for change in changes {
                self.apply(change);
            }
        }
        scanner.close(&mut self.pool);
        Ok(())
    }
}

/// The changes in an entry of the catalog.
pub(super) fn changes(data: &[u8]) -> Option<Vec<Change>> {
    let mut changes = Vec::new();
    let mut rest = data;
    while !rest.is_empty() {
        let (change, tail) = Change::decode(rest)?;
        changes.push(change);
        rest = tail;
    }
    Some(changes)
}

/// The newest time in ms of batches.
pub(super) fn newest_time(kind: EntryKind, data: &[u8]) -> i64 {
    if kind != EntryKind::RecordBatch {
        return 0;
    }
    let times = Batches::new(data).flatten().map(|batch| batch.header().max_timestamp.get());
    times.max().unwrap_or(i64::MIN)
}
