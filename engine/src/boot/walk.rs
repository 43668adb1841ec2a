//! One segment: its frames from the front, and those behind damaged ones.

use std::ops::Range;

use super::scanner::Scanner;
use super::segments::newest_time;
use super::truth::{self, Evidence, Place, Verdict};
use super::{Boot, BootError};
use crate::frame::{BLOCK_BYTES, EntryKind, FrameHeader, FrameView, SegmentPlace, Unreadable};
use crate::layout::FilePath;
use crate::log::partition::Partition;
use crate::log::segment::{Newest, Segment};
use crate::port::Disk;
use crate::settings::INDEX_SPACING_BYTES;
use crate::units::u64_of;

/// How far behind a block that is no frame of the segment a later frame is searched for: further
/// than any frame is long.
const BLANK_SEARCH_BYTES: u64 = 4 * 1024 * 1024;

/// What walking a segment found.
pub(super) struct Walked {
    pub(super) segment: Segment,
    /// Offset behind the last whole frame.
    pub(super) next_offset: u64,
    /// Highest durable offset that a whole frame of it claims.
    pub(super) watermark: u64,
    /// Epoch of the start that began it: no other has written to it.
    pub(super) epoch: u32,
    pub(super) is_torn: bool,
    pub(super) begins: Begins,
    /// Stretches without a frame that were durable.
    pub(super) holes: Vec<Hole>,
    /// What its first frame says of the segment before it.
    pub(super) before: Before,
}

/// The front of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begins {
    /// Its first frame is whole.
    Whole,
    /// Its first whole frame is another one.
    Damaged,
}

/// Frames of a segment that are damaged: their offsets, and where they begin.
#[derive(Debug, Clone)]
pub(super) struct Hole {
    pub(super) offsets: Range<u64>,
    pub(super) position: u64,
}

impl Walked {
    fn begin(sequence: u32, base_offset: u64, header: &FrameHeader) -> Walked {
        Walked {
            segment: Segment::new(sequence, base_offset),
            next_offset: base_offset,
            watermark: 0,
            epoch: header.boot_epoch.get(),
            is_torn: false,
            begins: Begins::Whole,
            holes: Vec::new(),
            before: Before::told_by(sequence, header),
        }
    }

    /// Of a segment whose first whole frame is `first`.
    fn headless(sequence: u32, first: First) -> Walked {
        let mut segment = Segment::new(sequence, first.base);
        segment.end = first.position;
        Walked {
            segment,
            next_offset: first.base,
            watermark: 0,
            epoch: first.epoch,
            is_torn: false,
            begins: Begins::Damaged,
            holes: Vec::new(),
            before: first.before,
        }
    }

    /// It goes on with `first`, behind frames that are damaged.
    fn skip_to(&mut self, first: First) {
        let First { base, position, .. } = first;
        let offsets = self.next_offset..base;
        self.holes.push(Hole { offsets, position: self.segment.end });
        self.next_offset = base;
        self.segment.skip_to(base, position);
    }
}

/// What the first frame of a segment says of the one before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    /// Sequence of the one that says it.
    teller: u32,
    /// What it says, if it says something.
    newest: Option<Newest>,
    /// By when the records of segments before it were written.
    written_by: Newest,
}

impl Before {
    pub(super) fn told_by(sequence: u32, header: &FrameHeader) -> Before {
        let newest = i64::try_from(header.lsn.get()).ok().filter(|&ms| ms > 0);
        let wall_ms = i64::try_from(header.wall_ns.get() / 1_000_000).unwrap_or(i64::MAX);
        Before {
            teller: sequence,
            newest: newest.map(Newest::Known),
            written_by: Newest::WrittenBy(wall_ms),
        }
    }

    /// The newest time of a segment before it: what it says, if that is the next one.
    pub(super) fn newest_of(&self, sequence: u32) -> Newest {
        let told = self.newest.filter(|_| self.teller == sequence + 1);
        told.unwrap_or(self.written_by)
    }
}

/// Everything of the partition below this offset was durable, says a frame of this epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Proof {
    pub(super) offset: u64,
    pub(super) epoch: u32,
}

/// What is known of a segment from elsewhere.
#[derive(Debug, Default)]
pub(super) struct Outside {
    pub(super) proofs: Vec<Proof>,
    /// Whether all of it was durable.
    pub(super) age: Age,
    /// Where the next segment begins.
    pub(super) end: Option<u64>,
}

/// Whether later segments prove one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Age {
    /// It may end in a torn frame.
    #[default]
    Newest,
    /// All of it was durable.
    Older,
}

impl Outside {
    /// Everything below this offset was durable.
    pub(super) fn watermark(&self) -> u64 {
        match self.age {
            Age::Older => self.end.unwrap_or(u64::MAX),
            Age::Newest => self.proofs.iter().map(|proof| proof.offset).max().unwrap_or(0),
        }
    }

    /// The same, for a segment of this epoch, and for what lies behind a bad frame of it: a later
    /// epoch proves nothing of it, since it may have gone on before that frame, in a segment of
    /// its own.
    fn within(&self, epoch: u32) -> u64 {
        match self.age {
            Age::Older => self.watermark(),
            Age::Newest => {
                let same = self.proofs.iter().filter(|proof| proof.epoch == epoch);
                same.map(|proof| proof.offset).max().unwrap_or(0)
            }
        }
    }

    /// Frames from where the next segment begins are void, since this file failed before they were
    /// durable. What they say of those before them is true all the same.
    fn learn(&mut self, later: &Later) {
        let Some(end) = self.end else { return };
        if let Some(void) = later.first.filter(|first| first.base >= end) {
            let offset = later.watermark.min(end);
            self.proofs.push(Proof { offset, epoch: void.epoch });
        }
    }
}

/// What whole frames behind a bad one claim.
#[derive(Debug, Default)]
struct Later {
    /// Highest durable offset.
    watermark: u64,
    first: Option<First>,
}

/// The first whole frame behind a bad one.
#[derive(Debug, Clone, Copy)]
struct First {
    base: u64,
    position: u64,
    epoch: u32,
    before: Before,
}

impl Later {
    /// What shows that frames from offset `from` on, up to `first`, had been durable.
    fn evidence(&self, first: First, from: Option<u64>, outside: &Outside) -> Evidence {
        let watermark = self.watermark.max(outside.within(first.epoch));
        let is_proven = match from {
            Some(from) => watermark > from,
            // Where the segment begins is not known, but all before that frame was durable.
            None => watermark >= first.base,
        };
        if is_proven { Evidence::Proven } else { Evidence::None }
    }
}

impl<D: Disk> Boot<'_, D> {
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

    /// Walks a segment's frames from the front, and on behind those that are damaged though they
    /// had been durable. `None` if there is no whole frame that counts.
    pub(super) fn walk(
        &mut self,
        partition: &Partition,
        sequence: u32,
        bytes: u64,
        outside: &mut Outside,
    ) -> Result<Option<Walked>, BootError> {
        let path = partition.path(sequence);
        let mut scanner = self.scanner(&path)?;
        let first = partition.place(sequence, 0);
        let walked = self.walk_frames((partition.kind, first), bytes, &mut scanner, outside);
        scanner.close(&mut self.pool);
        walked
    }

    fn walk_frames(
        &mut self,
        (kind, mut place): (EntryKind, SegmentPlace),
        bytes: u64,
        scanner: &mut Scanner,
        outside: &mut Outside,
    ) -> Result<Option<Walked>, BootError> {
        let broker_id = self.store.identity.broker_id;
        let mut walked: Option<Walked> = None;
        loop {
            self.walk_whole((kind, &mut place), bytes, scanner, outside, &mut walked)?;
            let from = walked.as_ref().map(|walked| walked.next_offset);
            if place.position >= bytes || from.zip(outside.end).is_some_and(|(at, end)| at >= end) {
                return Ok(walked);
            }
            // What is no frame of this segment is nothing, or of its file's earlier life.
            let is_mine = scanner.claims(&self.pool, &place, &broker_id);
            let is_proven = outside.watermark() > from.unwrap_or(0);
            let search = place.position + BLANK_SEARCH_BYTES;
            let to = if is_mine || is_proven { bytes } else { bytes.min(search) };
            let later = self.later_frames(scanner, place, to)?;
            outside.learn(&later);
            let first = later.first.filter(|first| {
                from.is_none_or(|from| first.base >= from)
                    && outside.end.is_none_or(|end| first.base < end)
            });
            let evidence = match first {
                Some(first) => later.evidence(first, from, outside),
                // Nothing follows: others tell whether something is missing.
                None => Evidence::None,
            };
            let verdict = truth::verdict(Place::NewestSegment, evidence);
            let Some(first) = first.filter(|_| verdict != Verdict::TornTail) else {
                if let Some(walked) = &mut walked {
                    walked.is_torn = is_mine;
                }
                return Ok(walked);
            };
            match &mut walked {
                Some(walked) => walked.skip_to(first),
                None => walked = Some(Walked::headless(place.sequence, first)),
            }
            place.position = first.position;
        }
    }

    /// Walks whole frames, each of which continues the one before it.
    fn walk_whole(
        &mut self,
        (kind, place): (EntryKind, &mut SegmentPlace),
        bytes: u64,
        scanner: &mut Scanner,
        outside: &Outside,
        walked: &mut Option<Walked>,
    ) -> Result<(), BootError> {
        let broker_id = self.store.identity.broker_id;
        let path = place.path();
        while place.position < bytes {
            let fault = |fault| BootError::Disk(path.clone(), fault);
            let frame = scanner.frame(self.disk, &mut self.pool, place.position).map_err(fault)?;
            let view = match frame {
                Ok(view) => view,
                Err(Unreadable::Newer(_)) => return Err(BootError::Newer(path)),
                Err(_) => return Ok(()),
            };
            let belongs = view.is_at(&broker_id, place);
            let Some((entry, data)) = view.parts().next().filter(|_| belongs) else {
                return Ok(());
            };
            let base_offset = entry.base_offset.get();
            let is_beyond = outside.end.is_some_and(|end| base_offset >= end);
            let continues = walked.as_ref().is_none_or(|walked| walked.next_offset == base_offset);
            if is_beyond || !continues {
                return Ok(());
            }
            let max_timestamp_ms = newest_time(kind, data);
            let (header, sequence) = (view.header, place.sequence);
            let walked = walked.get_or_insert_with(|| Walked::begin(sequence, base_offset, header));
            let length = u64_of(view.frame_bytes());
            walked.segment.push(base_offset, length, max_timestamp_ms, INDEX_SPACING_BYTES);
            walked.next_offset = entry.next_offset();
            walked.watermark = walked.watermark.max(view.header.watermark.get());
            place.position += length;
        }
        Ok(())
    }

    /// What whole frames of this segment behind `from` claim.
    fn later_frames(
        &mut self,
        scanner: &mut Scanner,
        from: SegmentPlace,
        to: u64,
    ) -> Result<Later, BootError> {
        let broker_id = self.store.identity.broker_id;
        let path = from.path();
        let mut later = Later::default();
        let mut position = from.position + u64_of(BLOCK_BYTES);
        while position < to {
            let fault = |fault| BootError::Disk(path.clone(), fault);
            let frame = scanner.frame(self.disk, &mut self.pool, position).map_err(fault)?;
            let here = SegmentPlace { position, ..from };
            let mine = |view: &FrameView<'_>| view.is_at(&broker_id, &here);
            match frame {
                Ok(view) if mine(&view) => {
                    later.watermark = later.watermark.max(view.header.watermark.get());
                    let base = view.entries.first().map_or(0, |entry| entry.base_offset.get());
                    let before = Before::told_by(from.sequence, view.header);
                    let epoch = view.header.boot_epoch.get();
                    later.first.get_or_insert(First { base, position, epoch, before });
                    position += u64_of(view.frame_bytes());
                }
                _ => position += u64_of(BLOCK_BYTES),
            }
        }
        Ok(later)
    }
}
