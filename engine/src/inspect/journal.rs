//! The journals: where each one ends, what it holds beyond the segments, and what it proves.
//! Which frames count says `boot/ring.rs`, as it does for recovery.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, Range};

use super::content::changes_of;
use super::verify::{Desk, Kept, Verdict};
use super::{Directory, InspectError, Piece, Stream, check_entry};
use crate::boot::ring::{self, Begun, Data, Judged, Note};
use crate::catalog::Change;
use crate::frame::{EntryKind, FrameView, Unreadable};
use crate::layout::FilePath;
use crate::port::{Disk, FileEntry};
use crate::units::u64_of;

const PROVEN: &str = "a later frame shows that it had been acknowledged";

/// What all journals together say.
#[derive(Debug, Default)]
pub(super) struct Journals {
    /// What live frames hold of each stream, in order; what continues is joined.
    held: BTreeMap<Stream, Vec<Held>>,
    /// The catalog's changes in frames that count, each by its offset.
    pub(super) changes: BTreeMap<u64, Change>,
    /// Offsets up to which streams are stored in their segments.
    proven: BTreeMap<Stream, u64>,
}

/// Offsets that a journal holds in a row.
#[derive(Debug)]
struct Held {
    offsets: Range<u64>,
    place: Behind,
}

/// What stands in front of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    /// All that was written.
    Kept,
    /// Frames that are lost.
    Lost,
}

/// One journal file as its frames are read.
struct FileWalk {
    file: FileEntry,
    kept: Kept,
    /// Frames of it that may count, with the epochs of their writers.
    notes: Vec<(Note, u32)>,
    /// Its sequence.
    sequence: u64,
    /// An entry whose data is not what it says.
    bad_content: Option<(u64, &'static str)>,
    is_begun: bool,
    is_newer: bool,
    /// Where the first frame is that begins and is not whole.
    broken: Option<u64>,
}

impl Journals {
    pub(super) fn walk<D: Disk>(
        directory: &mut Directory<'_, D>,
        desk: &mut Desk<'_>,
    ) -> Result<Journals, InspectError> {
        let mut journals = Journals::default();
        let mut shards: BTreeMap<u16, Vec<FileWalk>> = BTreeMap::new();
        for file in directory.files.clone() {
            if let FilePath::Journal { shard, .. } = file.path {
                let files = shards.entry(shard).or_default();
                let walk = journals.file(directory, &file, files.len())?;
                if walk.is_newer {
                    return Err(InspectError::Newer(file.path));
                }
                files.push(walk);
            }
        }
        let epochs = shards.values().flatten().flat_map(|walk| &walk.notes);
        let epoch = epochs.map(|(_, epoch)| *epoch).max().unwrap_or(0);
        for files in shards.into_values() {
            journals.shard(directory, &files, epoch, desk)?;
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
        let (mut reached, mut records) = (end, 0);
        for Held { offsets, place } in self.held.get(&stream).into_iter().flatten() {
            // What begins later comes behind records that were lost before they were acknowledged.
            let counts = offsets.start <= reached || *place == Behind::Lost;
            if counts && offsets.end > reached {
                records += offsets.end - offsets.start.max(reached);
                reached = offsets.end;
            }
        }
        records
    }

    fn shard<D: Disk>(
        &mut self,
        directory: &mut Directory<'_, D>,
        files: &[FileWalk],
        epoch: u32,
        desk: &mut Desk<'_>,
    ) -> Result<(), InspectError> {
        let all = files.iter().flat_map(|walk| &walk.notes);
        let live = all.filter(|(_, of)| *of == epoch).map(|(note, _)| *note);
        let mut notes: Vec<Note> = live.collect();
        let begun = files.iter().filter_map(|walk| {
            let first = walk.notes.iter().find(|(_, of)| *of == epoch)?;
            Some(Begun::by(&first.0, walk.sequence))
        });
        ring::set_void_apart(&mut notes, &begun.collect::<Vec<_>>());
        notes.sort_by_key(|note| note.lsn);
        let mut judged = ring::judge(&notes);
        for (number, walk) in files.iter().enumerate() {
            if let Some(position) = walk.broken {
                judged.ends_at(&notes, (number, position));
            }
        }
        notes.truncate(judged.counting);
        let mut in_order: Vec<(usize, &FileWalk)> = files.iter().enumerate().collect();
        in_order.sort_by_key(|(_, walk)| walk.sequence);
        for (number, walk) in in_order {
            self.hold(directory, walk, number, (&notes, &judged))?;
            desk.file(&walk.file, walk.kept, walk.verdict(number, &notes, &judged));
        }
        Ok(())
    }

    fn file<D: Disk>(
        &mut self,
        directory: &mut Directory<'_, D>,
        file: &FileEntry,
        number: usize,
    ) -> Result<FileWalk, InspectError> {
        let drained = directory.superblock.drained_lsn.get();
        let mut found = FileWalk::new(file.clone());
        let mut is_ended = false;
        let walked = directory.walk(file, |piece| {
            match piece {
                Piece::Frame(position, view) | Piece::Spoiled(position, view) => {
                    let data = match piece {
                        Piece::Frame(..) => Data::Whole,
                        _ => Data::Damaged,
                    };
                    found.count(*position, view, data);
                    self.note_proven(view);
                    let header = view.header;
                    found.sequence = header.file_sequence.get();
                    let (lsn, watermark) = (header.lsn.get(), header.watermark.get());
                    let bytes = u64_of(view.frame_bytes());
                    let position = *position;
                    let note = Note { file: number, position, bytes, lsn, watermark, data };
                    if lsn > drained {
                        found.notes.push((note, header.boot_epoch.get()));
                    }
                }
                Piece::Stray(..) => is_ended = true,
                Piece::Gap { from, why, .. } => {
                    let is_broken = matches!(why, Unreadable::Damaged(_) | Unreadable::Short(_));
                    if is_broken && !is_ended {
                        found.broken = Some(*from);
                    }
                    found.is_newer |= matches!(why, Unreadable::Newer(_)) && !is_ended;
                    is_ended = true;
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

    /// Notes what the frames of a file hold that count.
    fn hold<D: Disk>(
        &mut self,
        directory: &mut Directory<'_, D>,
        walk: &FileWalk,
        number: usize,
        (notes, judged): (&[Note], &Judged),
    ) -> Result<(), InspectError> {
        let mine = notes.iter().filter(|note| note.file == number);
        let counting: BTreeSet<u64> = mine.map(|note| note.position).collect();
        if counting.is_empty() {
            return Ok(());
        }
        let held = directory.walk(&walk.file, |piece| {
            match piece {
                Piece::Frame(position, view) | Piece::Spoiled(position, view)
                    if counting.contains(position) =>
                {
                    let lsn = view.header.lsn.get();
                    let is_lost = judged.lost.iter().any(|lost| lost.before <= lsn);
                    self.hold_frame(view, if is_lost { Behind::Lost } else { Behind::Kept });
                }
                _ => {}
            }
            ControlFlow::<()>::Continue(())
        });
        held.map(|_| ())
    }

    fn hold_frame(&mut self, view: &FrameView<'_>, place: Behind) {
        self.changes.extend(changes_of(view));
        for (entry, data) in view.parts().filter(|(entry, _)| entry.count.get() > 0) {
            let held = self.held.entry((entry.topic, entry.partition.get())).or_default();
            let offsets = entry.base_offset.get()..entry.next_offset();
            match held.last_mut() {
                _ if !entry.is_of(data) => {}
                Some(last) if last.offsets.end == offsets.start => last.offsets.end = offsets.end,
                _ => held.push(Held { offsets, place }),
            }
        }
    }
}

impl FileWalk {
    fn new(file: FileEntry) -> FileWalk {
        FileWalk {
            file,
            kept: Kept::default(),
            notes: Vec::new(),
            sequence: 0,
            bad_content: None,
            is_begun: false,
            is_newer: false,
            broken: None,
        }
    }

    fn count(&mut self, position: u64, view: &FrameView<'_>, data: Data) {
        self.is_begun = true;
        if data == Data::Damaged {
            return;
        }
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

    fn verdict(&self, number: usize, notes: &[Note], judged: &Judged) -> Verdict {
        let corrupt = |position, what| Verdict::Corrupt { position, offsets: None, what };
        let lost = judged.lost.iter().filter(|lost| lost.file == number);
        let mine = |note: &&Note| note.file == number && note.data == Data::Damaged;
        let named = notes.iter().filter(mine).map(|note| note.position);
        if let Some(position) = lost.map(|lost| lost.position).chain(named).min() {
            return corrupt(position, PROVEN);
        }
        if let Some((position, what)) = self.bad_content {
            return corrupt(position, what);
        }
        if judged.beheaded.contains(&number) {
            let what = "its first block is bad, which holds no records";
            return Verdict::Harmless { position: 0, what };
        }
        match judged.torn_at.filter(|(file, _)| *file == number) {
            Some((_, position)) => Verdict::TornTail { position },
            None if !self.is_begun => Verdict::Unused,
            None => Verdict::Whole,
        }
    }
}
