//! The journals: where each one ends, what it holds beyond the segments, and what it proves.
//! The rules are those of `boot/journal.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, Range};

use super::content::changes_of;
use super::verify::{Desk, Kept, Verdict};
use super::{Directory, InspectError, Piece, Stream, check_entry};
use crate::catalog::Change;
use crate::frame::{EntryKind, FrameKind, FrameView, Unreadable};
use crate::layout::FilePath;
use crate::port::{Disk, FileEntry};

/// What all journals together say.
#[derive(Debug, Default)]
pub(super) struct Journals {
    /// Offsets that live frames hold, of each stream, in order; what continues is joined.
    held: BTreeMap<Stream, Vec<Range<u64>>>,
    /// The catalog's changes in frames that count, each by its offset.
    pub(super) changes: BTreeMap<u64, Change>,
    /// Offsets up to which streams are stored in their segments.
    proven: BTreeMap<Stream, u64>,
}

/// One journal file as its frames are read.
struct FileWalk {
    file: FileEntry,
    sequence: Option<u64>,
    kept: Kept,
    /// The file's first frame that is missing or bad, if later ones may prove it.
    broken_at: Option<u64>,
    /// A later file goes on where this one is broken: it ended by a failure.
    is_continued: bool,
    /// An entry whose data is not what it says.
    bad_content: Option<(u64, &'static str)>,
    /// The first block is bad, and frames of the last run follow.
    is_headless: bool,
    is_newer: bool,
}

/// One shard's journal while it is walked.
#[derive(Default)]
struct Walk {
    expected: Option<u64>,
    /// Frames of the file being walked count below this number.
    void_from: u64,
    later_watermark: u64,
}

impl Journals {
    pub(super) fn walk<D: Disk>(
        directory: &mut Directory<'_, D>,
        desk: &mut Desk<'_>,
    ) -> Result<Journals, InspectError> {
        let mut journals = Journals::default();
        let shard_of = |file: &FileEntry| match file.path {
            FilePath::Journal { shard, .. } => Some(shard),
            _ => None,
        };
        let shards: BTreeSet<u16> = directory.files.iter().filter_map(shard_of).collect();
        for shard in shards {
            let files = directory.files.iter().filter(|file| shard_of(file) == Some(shard));
            let files: Vec<FileEntry> = files.cloned().collect();
            journals.shard(directory, files, desk)?;
        }
        Ok(journals)
    }

    /// Every stream that the journals tell of.
    pub(super) fn streams(&self) -> impl Iterator<Item = Stream> {
        self.held.keys().chain(self.proven.keys()).copied()
    }

    /// Up to where the stream is proven to have been stored.
    pub(super) fn proven(&self, stream: Stream) -> u64 {
        self.proven.get(&stream).copied().unwrap_or(0)
    }

    /// Records of the stream that continue its segments, which end at `end`.
    pub(super) fn records_beyond(&self, stream: Stream, end: u64) -> u64 {
        let mut reached = end;
        for held in self.held.get(&stream).into_iter().flatten() {
            // What begins later comes behind records that were lost before they were acknowledged.
            if held.start <= reached {
                reached = reached.max(held.end);
            }
        }
        reached - end
    }

    fn shard<D: Disk>(
        &mut self,
        directory: &mut Directory<'_, D>,
        files: Vec<FileEntry>,
        desk: &mut Desk<'_>,
    ) -> Result<(), InspectError> {
        let mut begun = Vec::new();
        for file in files {
            begun.push((first_frame(directory, &file)?, file));
        }
        // Files that have no whole first frame come last; nothing in them counts.
        begun.sort_by_key(|(first, _)| (first.is_none(), *first));
        let mut walk = Walk::default();
        let mut walked: Vec<FileWalk> = Vec::new();
        for place in 0..begun.len() {
            let (first, file) = &begun[place];
            // Frames count as long as no later file begins with their number.
            let later = begun[place + 1..].iter().filter_map(|(first, _)| *first);
            walk.void_from = later.map(|(_, lsn)| lsn).min().unwrap_or(u64::MAX);
            let before = walk.expected;
            let found =
                self.file(directory, file, first.map(|(sequence, _)| sequence), &mut walk)?;
            if found.is_newer {
                return Err(InspectError::Newer(found.file.path));
            }
            if walk.expected != before {
                walked.iter_mut().for_each(|earlier| earlier.is_continued = true);
            }
            walked.push(found);
        }
        let last = walk.expected.map_or(0, |expected| expected - 1);
        let what = "a later frame shows that it had been acknowledged";
        let mut proof = (walk.later_watermark > last).then_some(what);
        for file in walked {
            let verdict = file.verdict(proof.filter(|_| !file.is_continued));
            // Only the first break ends the journal; later ones follow from it.
            proof = proof.filter(|_| file.broken_at.is_none() || file.is_continued);
            desk.file(&file.file, file.kept, verdict);
        }
        Ok(())
    }

    fn file<D: Disk>(
        &mut self,
        directory: &mut Directory<'_, D>,
        file: &FileEntry,
        sequence: Option<u64>,
        walk: &mut Walk,
    ) -> Result<FileWalk, InspectError> {
        let drained = directory.superblock.drained_lsn.get();
        let broker_id = directory.superblock.broker_id;
        let mut found = FileWalk::new(file.clone(), sequence);
        let mut blocked = false;
        let walked = directory.walk(file, |piece| {
            match piece {
                Piece::Frame(position, view) => {
                    found.count(*position, view);
                    self.note_proven(view);
                    let lsn = view.header.lsn.get();
                    if lsn > drained && lsn < walk.void_from {
                        let expected = walk.expected.unwrap_or(lsn);
                        if blocked || lsn != expected {
                            blocked = true;
                            found.broken_at.get_or_insert(*position);
                            let watermark = view.header.watermark.get();
                            walk.later_watermark = walk.later_watermark.max(watermark);
                        } else {
                            walk.expected = Some(lsn + 1);
                            self.hold(view);
                        }
                    }
                }
                Piece::Stray(position, view) => {
                    let own = view.header.file_sequence.get();
                    let is_live = view.header.lsn.get() > drained
                        && view.belongs(FrameKind::Journal, &broker_id, own, *position);
                    found.is_headless |= sequence.is_none() && *position > 0 && is_live;
                    blocked = true;
                }
                Piece::Gap { from, why, .. } => {
                    match why {
                        Unreadable::Blank | Unreadable::Foreign => {}
                        Unreadable::Newer(_) => found.is_newer |= !blocked,
                        Unreadable::Damaged(_) | Unreadable::Short(_) if !blocked => {
                            found.broken_at.get_or_insert(*from);
                        }
                        Unreadable::Damaged(_) | Unreadable::Short(_) => {}
                    }
                    blocked = true;
                }
            }
            ControlFlow::<()>::Continue(())
        });
        walked?;
        Ok(found)
    }

    /// What a frame's watermark entries say stays true whatever became of the frames around it.
    fn note_proven(&mut self, view: &FrameView<'_>) {
        let is_mark = |kind: u16| kind == EntryKind::Watermark as u16;
        for entry in view.entries.iter().filter(|entry| is_mark(entry.kind.get())) {
            let offset = self.proven.entry((entry.topic, entry.partition.get())).or_default();
            *offset = entry.base_offset.get().max(*offset);
        }
    }

    fn hold(&mut self, view: &FrameView<'_>) {
        self.changes.extend(changes_of(view));
        for entry in view.entries.iter().filter(|entry| entry.count.get() > 0) {
            let held = self.held.entry((entry.topic, entry.partition.get())).or_default();
            let (from, to) = (entry.base_offset.get(), entry.next_offset());
            match held.last_mut() {
                Some(last) if last.end == from => last.end = to,
                _ => held.push(from..to),
            }
        }
    }
}

impl FileWalk {
    fn new(file: FileEntry, sequence: Option<u64>) -> FileWalk {
        FileWalk {
            file,
            sequence,
            kept: Kept::default(),
            broken_at: None,
            is_continued: false,
            bad_content: None,
            is_headless: false,
            is_newer: false,
        }
    }

    fn count(&mut self, position: u64, view: &FrameView<'_>) {
        let lsn = view.header.lsn.get();
        if self.kept.frames == 0 {
            self.kept.from = lsn;
        }
        self.kept.to = self.kept.to.max(lsn + 1);
        self.kept.frames += 1;
        for (entry, data) in view.parts() {
            match check_entry(entry, data) {
                Ok(content) => {
                    self.kept.batches += content.batches;
                    self.kept.records += content.records;
                }
                Err(what) => {
                    self.bad_content.get_or_insert((position, what));
                }
            }
        }
    }

    fn verdict(&self, proof: Option<&'static str>) -> Verdict {
        let corrupt = |position, what| Verdict::Corrupt { position, offsets: None, what };
        if self.is_headless {
            return corrupt(0, "its first block is bad, and frames of the last run follow");
        }
        if let Some((position, what)) = self.bad_content {
            return corrupt(position, what);
        }
        match self.broken_at {
            Some(position) => {
                proof.map_or(Verdict::TornTail { position }, |what| corrupt(position, what))
            }
            None if self.sequence.is_none() => Verdict::Unused,
            None => Verdict::Whole,
        }
    }
}

/// The sequence and the first number of a file whose first frame is whole.
fn first_frame<D: Disk>(
    directory: &mut Directory<'_, D>,
    file: &FileEntry,
) -> Result<Option<(u64, u64)>, InspectError> {
    let first = directory.walk(file, |piece| match piece {
        Piece::Frame(_, view) => {
            let header = view.header;
            ControlFlow::Break(Some((header.file_sequence.get(), header.lsn.get())))
        }
        Piece::Stray(..) | Piece::Gap { .. } => ControlFlow::Break(None),
    })?;
    Ok(first.flatten())
}
