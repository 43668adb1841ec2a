//! One partition's segments. The rules are those of `boot/segments.rs`; beyond them, older
//! segments are read whole as well, and nothing may be missing between two of them.

use std::ops::ControlFlow;
use std::ops::Range;

use super::verify::{Desk, Kept, Lost, Verdict};
use super::{Directory, InspectError, Piece, Stream, check_entry};
use crate::frame::Unreadable;
use crate::layout::FilePath;
use crate::port::{Disk, FileEntry};
use crate::units::u64_of;

const PROVEN: &str = "a later frame shows that it had been acknowledged";

/// A stream's segments, oldest first, each walked to its end.
pub(super) struct StreamWalk {
    stream: Stream,
    /// Where the first segment begins.
    base: u64,
    segments: Vec<SegmentWalk>,
}

/// What walking one segment found.
struct SegmentWalk {
    file: FileEntry,
    sequence: u32,
    kept: Kept,
    /// Position behind the last frame that counts.
    end: u64,
    /// Highest durable offset that a frame that counts claims.
    watermark: u64,
    /// The first place without a frame behind those that count, if bytes follow that are not blank.
    bad: Option<u64>,
    /// Stretches without a frame between those that count.
    holes: Vec<Hole>,
    /// An entry whose data is not what it says.
    bad_content: Option<(u64, Range<u64>, &'static str)>,
    verdict: Verdict,
}

/// A stretch of a segment without a frame.
struct Hole {
    position: u64,
    /// Offset behind the last record before it; `None` if there is none.
    from: Option<u64>,
    /// Offset of the first record behind it.
    to: u64,
    /// Highest durable offset that frames behind it claim.
    watermark: u64,
    /// What was known before it.
    before: (Kept, u64, u64),
}

impl Hole {
    fn is_proven(&self, outside: u64) -> bool {
        let watermark = self.watermark.max(outside);
        match self.from {
            Some(from) => watermark > from,
            // Where the segment begins is not known, but all before that frame was durable.
            None => watermark >= self.to,
        }
    }
}

impl StreamWalk {
    pub(super) fn read<D: Disk>(
        directory: &mut Directory<'_, D>,
        stream: Stream,
        base: u64,
        files: Vec<FileEntry>,
    ) -> Result<StreamWalk, InspectError> {
        let mut segments: Vec<SegmentWalk> = Vec::new();
        let mut files = files;
        files.sort_by(|a, b| b.path.cmp(&a.path));
        for file in files {
            // A segment that ended by a failure is continued by the next one, and what it holds
            // from there on is void.
            let newer = segments.iter().rfind(|newer| newer.kept.frames > 0);
            let void_from = newer.map(|newer| newer.kept.from);
            segments.push(SegmentWalk::read(directory, file, void_from)?);
        }
        segments.reverse();
        Ok(StreamWalk { stream, base, segments })
    }

    /// Gives every file its verdict.
    pub(super) fn judge(mut self, proven: u64, desk: &mut Desk<'_>) -> StreamWalk {
        let tail_from = self.judge_tail(proven);
        let mut lost = self.judge_older(tail_from);
        lost.extend(self.judge_end(proven));
        self.tell_offsets_of_headless();
        for segment in &self.segments {
            desk.file(&segment.file, segment.kept, segment.verdict());
        }
        for lost in lost {
            desk.lost(&lost);
        }
        self
    }

    /// Offset behind the last record that counts.
    pub(super) fn end(&self) -> u64 {
        let counting = self.segments.iter().filter(|segment| segment.counts());
        counting.map(|segment| segment.kept.to).max().unwrap_or(self.base)
    }

    /// Records that count.
    pub(super) fn records(&self) -> u64 {
        let counting = self.segments.iter().filter(|segment| segment.counts());
        counting.map(|segment| segment.kept.records).sum()
    }

    /// From the newest back to the one whose watermarks show that all before it was stored.
    /// Gives the place of that one.
    fn judge_tail(&mut self, proven: u64) -> usize {
        // Places of the segments that continue each other, newest first.
        let mut chain: Vec<usize> = Vec::new();
        let mut watermark = proven;
        for place in (0..self.segments.len()).rev() {
            let newer = chain.last().map(|&newer| self.segments[newer].kept.from);
            let segment = &mut self.segments[place];
            segment.judge_alone(watermark);
            if segment.kept.frames == 0 {
                continue;
            }
            let next = segment.kept.to;
            if let Some(newer) = newer.filter(|&newer| newer != next) {
                if watermark > next {
                    segment.corrupt(segment.end, next..newer, PROVEN);
                } else {
                    for newer in chain.drain(..) {
                        self.segments[newer].verdict = Verdict::Unacknowledged;
                    }
                }
            }
            let segment = &self.segments[place];
            watermark = segment.watermark.max(watermark);
            chain.push(place);
            if watermark >= segment.kept.from && !segment.is_headless() {
                return place;
            }
        }
        // Before the oldest of them there may be one without a whole frame: a gap as well.
        let oldest = chain.last().copied().unwrap_or(0);
        if oldest > 0 && self.segments[oldest].kept.from != self.base {
            for newer in chain {
                self.segments[newer].verdict = Verdict::Unacknowledged;
            }
        }
        0
    }

    /// Segments before `tail_from` were stored whole: each ends where the next begins.
    fn judge_older(&mut self, tail_from: usize) -> Vec<Lost> {
        let mut lost = Vec::new();
        for place in (0..tail_from).rev() {
            let newer = &self.segments[place + 1];
            let (begins, sequence) = (newer.kept.from, newer.sequence);
            let segment = &mut self.segments[place];
            segment.judge_alone(u64::MAX);
            let next = segment.kept.to;
            if segment.kept.frames == 0 {
                segment.corrupt(0, begins..begins, "an older segment has no whole first frame");
                segment.kept.from = begins;
            } else if next < begins && segment.bad.is_none() && segment.sequence + 1 < sequence {
                let what = "the segments before and behind them are there, but none between";
                lost.push(Lost { stream: self.stream, offsets: next..begins, what });
            } else if next < begins {
                let at = segment.bad.unwrap_or(segment.end);
                segment.corrupt(at, next..begins, "it ends before the next segment begins");
            } else if next > begins {
                segment.corrupt(segment.end, begins..next, "the next segment begins within it");
            }
        }
        self.excuse_blank(tail_from);
        lost
    }

    /// Older files without a whole frame, where nothing is missing: they failed, and were to be
    /// deleted.
    fn excuse_blank(&mut self, tail_from: usize) {
        let mut reached = self.base;
        for place in 0..tail_from {
            let later = self.segments[place + 1..].iter().find(|later| later.kept.frames > 0);
            let begins = later.map_or(reached, |later| later.kept.from);
            let segment = &mut self.segments[place];
            if segment.kept.frames > 0 {
                reached = segment.kept.to;
            } else if begins == reached {
                segment.verdict = Verdict::Unused;
            }
        }
    }

    /// Where a segment without a whole first frame begins is known by the one before it.
    fn tell_offsets_of_headless(&mut self) {
        let mut begins = None;
        for place in 0..self.segments.len() {
            let newer = self.segments[place + 1..].iter().find(|newer| newer.kept.frames > 0);
            let ends = newer.map(|newer| newer.kept.from);
            let segment = &mut self.segments[place];
            let from = if segment.sequence == 0 { Some(0) } else { begins };
            let headless = segment.holes.first().filter(|hole| hole.from.is_none());
            let to = headless.map(|hole| hole.to).or(ends);
            if let Verdict::Corrupt { offsets: offsets @ None, .. } = &mut segment.verdict {
                *offsets =
                    from.zip(to).map(|(from, to)| from..to).filter(|range| !range.is_empty());
            }
            begins = if segment.kept.frames > 0 { Some(segment.kept.to) } else { begins };
        }
    }

    /// The journal may prove that more had been stored than there is.
    fn judge_end(&mut self, proven: u64) -> Option<Lost> {
        let end = self.end();
        if proven <= end {
            return None;
        }
        let what = "the journal shows that more had been stored than there is";
        let counting = |segment: &&mut SegmentWalk| segment.counts();
        let Some(last) = self.segments.iter_mut().rfind(counting) else {
            return Some(Lost { stream: self.stream, offsets: end..proven, what });
        };
        last.corrupt(last.bad.unwrap_or(last.end), end..proven, what);
        None
    }
}

impl SegmentWalk {
    fn read<D: Disk>(
        directory: &mut Directory<'_, D>,
        file: FileEntry,
        void_from: Option<u64>,
    ) -> Result<SegmentWalk, InspectError> {
        let FilePath::Segment { sequence, .. } = file.path else { unreachable!("by the caller") };
        let mut walk = SegmentWalk {
            file: file.clone(),
            sequence,
            kept: Kept::default(),
            end: 0,
            watermark: 0,
            bad: None,
            holes: Vec::new(),
            bad_content: None,
            verdict: Verdict::Whole,
        };
        let mut is_newer = false;
        let mut is_ended = false;
        let walked = directory.walk(&file, |piece| {
            let reached = Some(walk.kept.to).filter(|_| walk.kept.frames > 0);
            let is_void = reached.zip(void_from).is_some_and(|(to, void)| to >= void);
            match piece {
                Piece::Frame(..) | Piece::Spoiled(..) | Piece::Stray(..) if is_void => {}
                Piece::Gap { .. } if is_void => {}
                Piece::Frame(_, view) if is_beyond(view, void_from) => is_ended = true,
                Piece::Frame(position, view) => {
                    let entry = &view.entries[0];
                    let base = entry.base_offset.get();
                    let is_first = walk.kept.frames == 0;
                    let continues = is_first || base == walk.kept.to;
                    if is_ended || !continues {
                        is_ended = true;
                        walk.bad.get_or_insert(walk.end);
                    }
                    if !is_ended || is_first || base > walk.kept.to {
                        walk.skip_to(base);
                        is_ended = false;
                        walk.count(*position, view);
                    }
                }
                Piece::Spoiled(position, _) => {
                    is_ended = true;
                    walk.bad.get_or_insert(*position);
                }
                // Of the file's earlier life: nothing was written over it.
                Piece::Stray(..) => is_ended = true,
                Piece::Gap { from, why, .. } => {
                    is_newer |= !is_ended && matches!(why, Unreadable::Newer(_));
                    is_ended = true;
                    // What is no frame at all may be of the file's earlier life.
                    if !matches!(why, Unreadable::Blank | Unreadable::Foreign) {
                        walk.bad.get_or_insert(*from);
                    }
                }
            }
            ControlFlow::<()>::Continue(())
        });
        walked?;
        if is_newer {
            return Err(InspectError::Newer(file.path));
        }
        Ok(walk)
    }

    /// The frame at this offset comes next, behind a stretch without frames if there was one.
    fn skip_to(&mut self, base: u64) {
        let Some(position) = self.bad.take() else { return };
        let from = (self.kept.frames > 0).then_some(self.kept.to);
        let before = (self.kept, self.end, self.watermark);
        self.holes.push(Hole { position, from, to: base, watermark: 0, before });
    }

    fn is_headless(&self) -> bool {
        self.holes.first().is_some_and(|hole| hole.from.is_none())
    }

    fn count(&mut self, position: u64, view: &crate::frame::FrameView<'_>) {
        for (entry, data) in view.parts().take(1) {
            let offsets = entry.base_offset.get()..entry.next_offset();
            if self.kept.frames == 0 {
                self.kept.from = offsets.start;
            }
            self.kept.to = offsets.end;
            match check_entry(entry, data) {
                Ok(content) => {
                    self.kept.batches += content.batches;
                    self.kept.records += content.records;
                }
                Err(what) => {
                    self.bad_content.get_or_insert((position, offsets, what));
                }
            }
        }
        self.kept.frames += 1;
        self.end = position + u64_of(view.frame_bytes());
        self.watermark = self.watermark.max(view.header.watermark.get());
        for hole in &mut self.holes {
            hole.watermark = hole.watermark.max(view.header.watermark.get());
        }
    }

    /// What it says by itself, where everything below `outside` is known to have been durable.
    fn judge_alone(&mut self, outside: u64) {
        let unproven = self.holes.iter().position(|hole| !hole.is_proven(outside));
        if let Some(first) = unproven {
            // What follows was written ahead of records that a crash lost.
            let hole = self.holes.drain(first..).next().expect("just found");
            (self.kept, self.end, self.watermark) = hole.before;
            self.bad = Some(hole.position);
        }
        self.verdict = match (self.holes.first(), self.bad) {
            (Some(hole), _) => {
                let offsets = hole.from.map(|from| from..hole.to);
                Verdict::Corrupt { position: hole.position, offsets, what: PROVEN }
            }
            (None, Some(position)) => Verdict::TornTail { position },
            (None, None) if self.kept.frames == 0 => Verdict::Unused,
            (None, None) => Verdict::Whole,
        };
    }

    fn corrupt(&mut self, position: u64, offsets: Range<u64>, what: &'static str) {
        if !matches!(self.verdict, Verdict::Corrupt { .. }) {
            let offsets = (!offsets.is_empty()).then_some(offsets);
            self.verdict = Verdict::Corrupt { position, offsets, what };
        }
    }

    /// What its frames hold comes last: a frame that is not there says more.
    fn verdict(&self) -> Verdict {
        match (&self.verdict, &self.bad_content) {
            (Verdict::Whole | Verdict::TornTail { .. }, Some((position, offsets, what))) => {
                let offsets = Some(offsets.clone());
                Verdict::Corrupt { position: *position, offsets, what }
            }
            (verdict, _) => verdict.clone(),
        }
    }

    const fn counts(&self) -> bool {
        self.kept.frames > 0 && !matches!(self.verdict, Verdict::Unacknowledged)
    }
}

fn is_beyond(view: &crate::frame::FrameView<'_>, void_from: Option<u64>) -> bool {
    let base = view.entries.first().map(|entry| entry.base_offset.get());
    base.zip(void_from).is_some_and(|(base, void)| base >= void)
}
