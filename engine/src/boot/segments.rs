//! Step 2 and 4: which segments each partition has, and where its records end.

use std::ops::Range;

use wire::batch::Batches;

use super::journal::refused;
use super::quarantine::At;
use super::scanner::Scanner;
use super::truth::{self, Evidence, Place, Verdict};
use super::walk::{Age, Before, Begins, Outside, Proof, Walked};
use super::{Boot, BootError};
use crate::catalog::Change;
use crate::frame::{EntryKind, SegmentPlace};
use crate::layout::FilePath;
use crate::log::cursors::Progress;
use crate::log::partition::{Partition, PartitionId};
use crate::log::segment::Segment;
use crate::log::store::Store;
use crate::port::Disk;
use crate::units::u64_of;

/// Offsets that were acknowledged and are not there.
struct Damage {
    offsets: Range<u64>,
    at: At,
    what: &'static str,
}

/// What is known of a partition's segments.
#[derive(Default)]
struct Tail {
    damaged: Vec<Damage>,
    /// Files of which nothing counts.
    doomed: Vec<FilePath>,
}

impl Tail {
    /// What follows a gap that nothing proves was never acknowledged.
    fn drop_chain(&mut self, partition: &Partition, chain: &mut Vec<Walked>) {
        let newer = chain.drain(..).map(|newer| partition.path(newer.segment.sequence));
        self.doomed.extend(newer);
    }

    /// Takes over a segment that was walked, in front of those that the partition has.
    fn adopt(&mut self, partition: &mut Partition, walked: Walked) {
        let mut segment = walked.segment;
        let path = partition.path(segment.sequence);
        let what = "a later frame shows that it had been acknowledged";
        self.damaged.extend(walked.holes.into_iter().map(|hole| Damage {
            offsets: hole.offsets,
            at: (path.clone(), hole.position),
            what,
        }));
        segment.next_offset = Some(walked.next_offset);
        partition.begin_with(segment.base_offset);
        partition.segments.push_front(segment);
    }
}

impl<D: Disk> Boot<'_, D> {
    /// Finds the partition's segments and where its records end. Segments without a whole frame,
    /// and those behind a gap that was never acknowledged, are deleted.
    pub(super) fn recover_segments(&mut self, partition: &mut Partition) -> Result<(), BootError> {
        let stream = (partition.topic, partition.number);
        let mut sequences = self.segments.remove(&stream).unwrap_or_default();
        sequences.sort_unstable();
        partition.next_sequence = sequences.last().map_or(0, |(sequence, _)| sequence + 1);
        self.recover_start(partition, &mut sequences)?;
        let mut tail = Tail::default();
        self.find_tail(partition, sequences, &mut tail)?;
        self.heal(partition, &mut tail)?;
        for Damage { offsets, at, what } in tail.damaged {
            partition.damaged.add(offsets.clone());
            self.tell(stream, offsets, at, what)?;
        }
        // What may still hold a part of damaged records is kept.
        let proven = self.proven.get(&stream).map_or(0, |proven| proven.offset);
        if proven <= partition.progress.appended() {
            for path in tail.doomed {
                self.disk.delete(&path).map_err(|fault| BootError::Disk(path, fault))?;
            }
        }
        self.recover_lost(partition)
    }

    /// Walks segments from the newest back until one shows that everything before it was stored.
    /// Whatever lies behind a gap was written ahead of records that were lost, and was never
    /// acknowledged, unless a watermark covers the gap.
    fn find_tail(
        &mut self,
        partition: &mut Partition,
        mut sequences: Vec<(u32, u64)>,
        tail: &mut Tail,
    ) -> Result<(), BootError> {
        let stream = (partition.topic, partition.number);
        let mut outside = Outside::default();
        outside.proofs.extend(self.proven.get(&stream).copied());
        // Newest first, each continued by the one before it.
        let mut chain: Vec<Walked> = Vec::new();
        let mut is_proven = false;
        let mut is_blank = false;
        while let Some((sequence, bytes)) = sequences.pop() {
            let Some(walked) = self.walk(partition, sequence, bytes, &mut outside)? else {
                tail.doomed.push(partition.path(sequence));
                is_blank = true;
                continue;
            };
            is_blank = false;
            let end = walked.next_offset;
            let newer = chain.last().map(|newer| newer.segment.base_offset);
            if let Some(base) = newer.filter(|&base| base != end) {
                if outside.watermark() > end && base > end {
                    let at = (partition.path(sequence), walked.segment.end);
                    let what = "a later segment shows that its end had been acknowledged";
                    tail.damaged.push(Damage { offsets: end..base, at, what });
                } else {
                    tail.drop_chain(partition, &mut chain);
                }
            }
            let base = walked.segment.base_offset;
            let is_whole = walked.begins == Begins::Whole;
            outside.proofs.push(Proof { offset: walked.watermark, epoch: walked.epoch });
            outside.end = Some(base);
            chain.push(walked);
            // Where one begins of which the front is damaged, the one before it tells.
            if outside.watermark() >= base && is_whole {
                is_proven = true;
                break;
            }
        }
        let oldest = chain.last().map(|oldest| oldest.segment.base_offset);
        let is_gap = oldest.is_some_and(|oldest| oldest != partition.start.base);
        if is_blank && !is_proven && is_gap && outside.watermark() < oldest.unwrap_or(0) {
            // The segment that the partition begins with has no whole frame: a gap as well.
            tail.drop_chain(partition, &mut chain);
        }
        self.adopt(partition, chain, &sequences, tail)
    }

    /// Takes over the segments of the chain, newest first, and those before it.
    fn adopt(
        &mut self,
        partition: &mut Partition,
        chain: Vec<Walked>,
        older: &[(u32, u64)],
        tail: &mut Tail,
    ) -> Result<(), BootError> {
        let Some(newest) = chain.first() else { return Ok(()) };
        self.report.segments_torn += u64::from(newest.is_torn);
        partition.progress = Progress::at(newest.next_offset);
        partition.runs_written = newest.next_offset;
        partition.runs_stored = newest.next_offset;
        let mut before = newest.before;
        let mut begins = Begins::Whole;
        for walked in chain {
            (before, begins) = (walked.before, walked.begins);
            tail.adopt(partition, walked);
        }
        self.adopt_rest(partition, older, (before, begins), tail)
    }

    /// Older segments: only their first frames are looked at, unless one of them is damaged.
    fn adopt_rest(
        &mut self,
        partition: &mut Partition,
        older: &[(u32, u64)],
        (mut before, mut begins): (Before, Begins),
        tail: &mut Tail,
    ) -> Result<(), BootError> {
        // Files without a whole frame that the older ones have not explained yet.
        let mut blank: Vec<FilePath> = Vec::new();
        for &(sequence, bytes) in older.iter().rev() {
            let newest = before.newest_of(sequence);
            let first = self.first_frame(partition, sequence)?;
            let next = partition.segments.front().map(|segment| segment.base_offset);
            if first.zip(next).is_some_and(|((base, _), next)| base >= next) {
                // It failed, and was to be deleted.
                let verdict = truth::verdict(Place::OlderSegment, Evidence::Void);
                assert_eq!(verdict, Verdict::Void, "by the table");
                tail.doomed.push(partition.path(sequence));
                continue;
            }
            if let Some((base_offset, told)) = first.filter(|_| begins == Begins::Whole) {
                before = told;
                let mut segment = Segment::new(sequence, base_offset);
                segment.end = bytes;
                segment.indexed = false;
                segment.newest = newest;
                segment.next_offset = next;
                partition.begin_with(base_offset);
                partition.segments.push_front(segment);
                continue;
            }
            let mut outside = Outside { proofs: Vec::new(), age: Age::Older, end: next };
            let Some(walked) = self.walk(partition, sequence, bytes, &mut outside)? else {
                begins = Begins::Damaged;
                blank.push(partition.path(sequence));
                continue;
            };
            if next.is_none_or(|next| next <= walked.next_offset) {
                // Nothing is missing there.
                tail.doomed.append(&mut blank);
            }
            blank.clear();
            if let Some(next) = next.filter(|&next| next > walked.next_offset) {
                let at = (partition.path(sequence), walked.segment.end);
                let what = "it ends before the next segment begins";
                tail.damaged.push(Damage { offsets: walked.next_offset..next, at, what });
            }
            (before, begins) = (walked.before, walked.begins);
            tail.adopt(partition, walked);
        }
        let first = partition.segments.front().map(|first| first.base_offset);
        let Some(base) = first.filter(|_| begins == Begins::Damaged) else { return Ok(()) };
        // If segments were deleted before it, nobody knows where it began.
        let is_first = partition.start.sequence == 0 || partition.start.writes > 0;
        let from = partition.start.base;
        if is_first && from >= base {
            tail.doomed.append(&mut blank);
        } else if is_first {
            let at = (partition.path(partition.start.sequence), 0);
            let what = "the front of the first segment is damaged";
            tail.damaged.push(Damage { offsets: from..base, at, what });
            partition.begin_with(from);
        }
        Ok(())
    }

    /// The first frame of a segment, if its header and table are whole: its offset, and what it
    /// says of the segment before it. Damage to its data shows when they are read, as in all other
    /// frames of older segments.
    fn first_frame(
        &mut self,
        partition: &Partition,
        sequence: u32,
    ) -> Result<Option<(u64, Before)>, BootError> {
        let broker_id = self.store.identity.broker_id;
        let path = partition.path(sequence);
        let place = partition.place(sequence, 0);
        let fault = |fault| BootError::Disk(path.clone(), fault);
        let mut scanner = self.scanner(&path)?;
        let first = match scanner.head(self.disk, &mut self.pool, 0).map_err(fault)? {
            Ok(view) if view.is_at(&broker_id, &place) => {
                let before = Before::told_by(sequence, view.header);
                view.entries.first().map(|entry| (entry.base_offset.get(), before))
            }
            Ok(_) | Err(_) => None,
        };
        scanner.close(&mut self.pool);
        Ok(first)
    }

    /// If a journal holds all records from the first damaged one on, they are written anew.
    fn heal(&mut self, partition: &mut Partition, tail: &mut Tail) -> Result<(), BootError> {
        let Some(first) = tail.damaged.iter().min_by_key(|damage| damage.offsets.start) else {
            return Ok(());
        };
        let (from, end) = (first.offsets.start, partition.progress.appended());
        let (path, position) = first.at.clone();
        let stream = (partition.topic, partition.number);
        if !self.is_journaled(stream, from..end)? {
            return Ok(());
        }
        let verdict = truth::verdict(Place::NewestSegment, Evidence::ProvenAndJournaled);
        assert_eq!(verdict, Verdict::Heal, "by the table");
        while partition.segments.back().is_some_and(|last| last.base_offset >= from) {
            let gone = partition.segments.pop_back().expect("just seen");
            tail.doomed.push(partition.path(gone.sequence));
        }
        if let Some(last) = partition.segments.back_mut() {
            last.next_offset = Some(from);
            last.index.retain(|entry| entry.base_offset < from);
            last.end = position;
        }
        tail.damaged.clear();
        partition.progress = Progress::at(from);
        partition.runs_written = from;
        partition.runs_stored = from;
        let what = "frames of it were damaged, and written anew from the journal";
        self.report.harmless.push((path, position, what));
        Ok(())
    }

    /// Applies the changes that a segment of the catalog holds: all of them, or the start is
    /// refused.
    pub(super) fn read_catalog_segment(
        &mut self,
        id: PartitionId,
        sequence: u32,
    ) -> Result<(), BootError> {
        let partition = self.store.partition(id);
        let path = partition.path(sequence);
        let place = partition.place(sequence, 0);
        let segment = partition.segments.iter().find(|s| s.sequence == sequence);
        let segment = segment.expect("listed by the caller");
        let (mut next, end) = (segment.base_offset, segment.next_offset);
        let mut scanner = self.scanner(&path)?;
        let mut position = 0;
        while end.is_none_or(|end| next < end) {
            let here = SegmentPlace { position, ..place };
            match self.catalog_frame(&mut scanner, &here, next)? {
                CatalogFrame::Whole { changes, bytes } => {
                    next += u64_of(changes.len());
                    position += bytes;
                    changes.into_iter().for_each(|change| self.apply(change));
                }
                // What is lost here was settled by hand.
                CatalogFrame::Missing if self.is_settled(next) => break,
                CatalogFrame::Missing => {
                    let what = "a frame of the catalog is damaged";
                    return Err(refused(path, position, what));
                }
            }
        }
        scanner.close(&mut self.pool);
        Ok(())
    }

    /// Whether the catalog's lost file says that it goes on behind changes that are lost.
    fn is_settled(&self, next: u64) -> bool {
        let lost = self.lost.get(&(Store::CATALOG_TOPIC, 0));
        lost.is_some_and(|lost| lost.at(next).is_some())
    }

    fn catalog_frame(
        &mut self,
        scanner: &mut Scanner,
        place: &SegmentPlace,
        next: u64,
    ) -> Result<CatalogFrame, BootError> {
        let broker_id = self.store.identity.broker_id;
        let (path, position) = (place.path(), place.position);
        let fault = |fault| BootError::Disk(path.clone(), fault);
        let frame = scanner.frame(self.disk, &mut self.pool, position).map_err(fault)?;
        let whole = frame.ok().filter(|view| view.is_at(&broker_id, place));
        let parts = whole.as_ref().and_then(|view| view.parts().next());
        let Some((entry, data)) = parts.filter(|(entry, _)| entry.base_offset.get() == next) else {
            return Ok(CatalogFrame::Missing);
        };
        let bytes = whole.as_ref().map_or(0, |view| u64_of(view.frame_bytes()));
        let list = changes(data).filter(|list| u64_of(list.len()) == u64::from(entry.count.get()));
        let what = "a record of the catalog cannot be read";
        let changes = list.ok_or(BootError::Corrupt(path, position, what))?;
        Ok(CatalogFrame::Whole { changes, bytes })
    }
}

/// What a segment of the catalog has at some place.
enum CatalogFrame {
    /// The frame that belongs there: what changed, and how long it is.
    Whole { changes: Vec<Change>, bytes: u64 },
    /// Something else, or nothing.
    Missing,
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
