//! Step 3: which frames the journals hold, and which of them count.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use wire::TopicId;

use super::begins::{Begins, ENTRIES_KEPT_MAX, EntryBegin};
use super::ring::{self, Begun, Data, Lost, Note};
use super::scanner::Scanner;
use super::segments::changes;
use super::truth::{self, Evidence, Place, Verdict};
use super::walk::Proof;
use super::{Boot, BootError};
use crate::frame::{BLOCK_BYTES, EntryKind, FrameKind, FrameView, Unreadable};
use crate::layout::FilePath;
use crate::log::store::Store;
use crate::placement::CATALOG_SHARD;
use crate::port::{Disk, FileEntry};
use crate::units::u64_of;

/// What walking the journals found.
#[derive(Debug, Default)]
pub struct Journals {
    /// The journal of each shard.
    pub rings: Vec<Ring>,
    /// Highest log sequence number seen, also of frames that do not count: no later frame may
    /// share it.
    pub highest_lsn: u64,
    /// Highest file sequence seen.
    pub last_sequence: u64,
    /// Files that are made anew: something in them is torn or damaged.
    pub spoiled: BTreeSet<FilePath>,
    /// Those of them in which something acknowledged is damaged: they are kept aside.
    pub damaged: BTreeSet<FilePath>,
    /// Epoch of the frames that count.
    pub epoch: u32,
}

/// One shard's journal.
#[derive(Debug)]
pub struct Ring {
    /// Whose.
    pub shard: u16,
    /// Its files, by the numbers that notes have.
    pub files: Vec<FilePath>,
    /// The frames that count, in order.
    pub notes: Vec<Note>,
    /// Frames that count and are lost.
    pub lost: Vec<Lost>,
    /// Numbers of frames with entries of the catalog.
    catalog: BTreeSet<u64>,
    /// Where the entries of its frames begin.
    pub begins: Begins,
}

impl Ring {
    /// Whether frames are lost that came before the one with this number.
    pub fn has_lost_before(&self, lsn: u64) -> bool {
        self.lost.iter().any(|lost| lost.before <= lsn)
    }
}

/// What journals hold of each stream: ranges of offsets.
pub type Held = BTreeMap<(TopicId, u32), Vec<Range<u64>>>;

/// A frame, with what decides whether it belongs.
#[derive(Debug, Clone, Copy)]
struct Seen {
    note: Note,
    epoch: u32,
    sequence: u64,
    has_catalog: bool,
}

/// The frames of one file.
struct FileNotes {
    seen: Vec<Seen>,
    /// Why its first block begins none, if it does not.
    first: Option<Unreadable>,
    /// Where the first begins that is not whole.
    broken: Option<u64>,
}

/// The frames of one shard's files.
#[derive(Debug, Default)]
struct Found {
    files: Vec<FilePath>,
    seen: Vec<Seen>,
    /// Where a file's first frame is that begins and is not whole.
    broken: Vec<(usize, u64)>,
    begins: Begins,
}

/// The frames of all shards, read but not judged.
#[derive(Debug)]
pub(super) struct Noted {
    journals: Journals,
    rings: BTreeMap<u16, Found>,
    /// Entries of which it can still be kept where they begin.
    left: usize,
}

impl<D: Disk> Boot<'_, D> {
    /// Reads every shard's journal. What it proves of segments is known from here on.
    pub(super) fn note_journals(&mut self) -> Result<Noted, BootError> {
        let (journals, rings) = (Journals::default(), BTreeMap::new());
        let mut noted = Noted { journals, rings, left: ENTRIES_KEPT_MAX };
        for file in self.files.clone() {
            if let FilePath::Journal { shard, .. } = file.path {
                self.note_file(&file, shard, &mut noted)?;
            }
        }
        // A start drains every journal before it writes to one: older epochs are in segments,
        // even if the superblock's slot that says so is lost.
        let epochs = noted.rings.values().flat_map(|found| &found.seen).map(|seen| seen.epoch);
        noted.journals.epoch = epochs.max().unwrap_or(0);
        Ok(noted)
    }

    /// Judges the frames, and applies what they hold of the catalog and its segments lack.
    pub(super) fn judge_journals(&mut self, noted: Noted) -> Result<Journals, BootError> {
        let Noted { mut journals, rings, .. } = noted;
        let mut next = self.store.partition(self.catalog_id()).progress.appended();
        for (shard, found) in rings {
            let ring = self.judge_ring(shard, found, &mut journals);
            next = self.apply_catalog(&ring, next)?;
            journals.rings.push(ring);
        }
        Ok(journals)
    }

    fn note_file(
        &mut self,
        file: &FileEntry,
        shard: u16,
        Noted { journals, rings, left }: &mut Noted,
    ) -> Result<(), BootError> {
        let found = rings.entry(shard).or_default();
        let number = found.files.len();
        found.files.push(file.path.clone());
        let mut scanner = self.scanner(&file.path)?;
        let walked = self.note_frames(file, number, &mut scanner, (&mut found.begins, left));
        scanner.close(&mut self.pool);
        let FileNotes { mut seen, first, broken } = walked?;
        found.broken.extend(broken.map(|position| (number, position)));
        if first.is_some_and(|bad| bad != Unreadable::Blank) {
            journals.spoiled.insert(file.path.clone());
        }
        for seen in &seen {
            journals.highest_lsn = journals.highest_lsn.max(seen.note.lsn);
        }
        // What follows a bad first block is of the newest life that is there.
        let begin = seen.first().filter(|seen| seen.note.position == 0);
        let sequence = begin.map(|seen| seen.sequence).or(seen.iter().map(|s| s.sequence).max());
        let Some(sequence) = sequence else { return Ok(()) };
        journals.last_sequence = journals.last_sequence.max(sequence);
        let drained = self.superblock.drained_lsn.get();
        seen.retain(|seen| seen.sequence == sequence && seen.note.lsn > drained);
        found.seen.append(&mut seen);
        Ok(())
    }

    /// Every frame of the file with a whole header, of whatever life.
    fn note_frames(
        &mut self,
        file: &FileEntry,
        number: usize,
        scanner: &mut Scanner,
        (begins, left): (&mut Begins, &mut usize),
    ) -> Result<FileNotes, BootError> {
        let drained = self.superblock.drained_lsn.get();
        let broker_id = self.superblock.broker_id;
        let mut found: Vec<Seen> = Vec::new();
        let (mut first, mut broken) = (None, None);
        let mut is_dense = true;
        let mut position = 0;
        while position < file.bytes {
            let fault = |fault| BootError::Disk(file.path.clone(), fault);
            let frame = scanner.frame(self.disk, &mut self.pool, position).map_err(fault)?;
            let bad = frame.err();
            let view = match bad {
                None => scanner.table(&self.pool, position),
                Some(Unreadable::Damaged(_)) => scanner.table(&self.pool, position),
                // What only looks newer within the data of the file's earlier life is nothing.
                Some(Unreadable::Newer(_)) if is_dense => {
                    return Err(BootError::Newer(file.path.clone()));
                }
                Some(_) => None,
            };
            let own = |view: &FrameView<'_>| {
                let sequence = view.header.file_sequence.get();
                view.belongs(FrameKind::Journal, &broker_id, sequence, position)
            };
            let Some(view) = view.filter(own) else {
                if position == 0 {
                    first = bad;
                }
                if is_dense && matches!(bad, Some(Unreadable::Damaged(_) | Unreadable::Short(_))) {
                    broken = Some(position);
                }
                is_dense = false;
                position += u64_of(BLOCK_BYTES);
                continue;
            };
            let data = if bad.is_none() { Data::Whole } else { Data::Damaged };
            let seen = seen(&view, number, data);
            note_proven(&mut self.proven, &view);
            let is_same = found.first().is_none_or(|first| first.sequence == seen.sequence);
            if seen.note.lsn > drained {
                begins.keep((number, position), entry_begins(&view), left);
            }
            found.push(seen);
            is_dense &= is_same;
            // Frames of an earlier life may have later ones written over their ends.
            position += if is_same { seen.note.bytes } else { u64_of(BLOCK_BYTES) };
        }
        Ok(FileNotes { seen: found, first, broken })
    }

    fn judge_ring(&mut self, shard: u16, found: Found, journals: &mut Journals) -> Ring {
        let Found { files, mut seen, broken, begins } = found;
        seen.retain(|seen| seen.epoch == journals.epoch);
        let begun = begun(&seen);
        let mut notes: Vec<Note> = seen.iter().map(|seen| seen.note).collect();
        let void = ring::set_void_apart(&mut notes, &begun);
        notes.sort_by_key(|note| note.lsn);
        let mut judged = ring::judge(&notes);
        broken.into_iter().for_each(|at| judged.ends_at(&notes, at));
        let path = |file: usize| files[file].clone();
        journals.spoiled.extend(void.into_iter().map(path));
        if let Some((file, _)) = judged.torn_at {
            journals.spoiled.insert(path(file));
            self.report.is_journal_torn = true;
        }
        journals.spoiled.extend(notes[judged.counting..].iter().map(|note| path(note.file)));
        journals.spoiled.extend(judged.beheaded.iter().map(|&file| path(file)));
        for &file in &judged.beheaded {
            let what = "its first block is damaged, which holds no records";
            self.report.harmless.push((path(file), 0, what));
        }
        notes.truncate(judged.counting);
        let named = notes.iter().filter(|note| note.data == Data::Damaged).map(|note| note.file);
        let lost = judged.lost.iter().map(|lost| lost.file);
        journals.damaged.extend(named.chain(lost).map(path));
        self.report.journal_frames += u64_of(notes.len());
        let catalog = seen.iter().filter(|seen| seen.has_catalog).map(|seen| seen.note.lsn);
        Ring { shard, catalog: catalog.collect(), files, notes, lost: judged.lost, begins }
    }

    /// Applies the ring's entries of the catalog from `next` on: neither its segments nor rings
    /// before have those. Gives the offset behind them. The replay writes what is applied here,
    /// and nothing else: the next start has no other catalog.
    fn apply_catalog(&mut self, ring: &Ring, mut next: u64) -> Result<u64, BootError> {
        let id = self.catalog_id();
        let mut last = None;
        let is_wanted = |_: &Self, note: &Note| ring.catalog.contains(&note.lsn);
        self.visit(ring, is_wanted, &mut |boot, at, note, entry| {
            if !entry.is_catalog() {
                return Ok(());
            }
            last = Some(note.lsn);
            // Above: behind records that were lost, so it was never acknowledged, and the replay
            // leaves it out as well; unless those had been.
            let is_gap = entry.base > next;
            if entry.base < next || (is_gap && !ring.has_lost_before(note.lsn)) {
                return Ok(());
            }
            let Some(data) = entry.data.as_deref().filter(|_| !is_gap) else {
                let what = "records of the catalog are damaged that had been acknowledged";
                return Err(refused(at.clone(), note.position, what));
            };
            let list = changes(data).filter(|list| u64_of(list.len()) == u64::from(entry.count));
            let Some(list) = list else {
                let what = "a record of the catalog cannot be read";
                return Err(BootError::Corrupt(at.clone(), note.position, what));
            };
            next = entry.next();
            list.into_iter().for_each(|change| boot.apply(change));
            Ok(())
        })?;
        let lost = ring.lost.last().filter(|_| ring.shard == CATALOG_SHARD);
        let stream = (Store::CATALOG_TOPIC, 0);
        let settled = self.lost.get(&stream);
        let is_settled = settled.is_some_and(|lost| lost.at(next).is_some() || lost.ends_at(next));
        let lost = lost.filter(|lost| !is_settled && last.is_none_or(|last| last < lost.before));
        if let Some(lost) = lost {
            // Topics may have been created, altered or deleted there.
            let what = "it may have held changes of the catalog";
            let at = (ring.files[lost.file].clone(), lost.position);
            self.end_unknown(id, next, at, what);
        }
        Ok(next)
    }

    /// Whether the journals hold all records of a stream from one offset to another.
    pub(super) fn is_journaled(
        &mut self,
        stream: (TopicId, u32),
        offsets: Range<u64>,
    ) -> Result<bool, BootError> {
        if self.held.is_none() {
            let journals = std::mem::take(&mut self.journals);
            let mut held = Held::new();
            for ring in &journals.rings {
                self.visit(ring, |_, _| true, &mut |_, _, _, entry| {
                    let ranges = held.entry(entry.stream).or_default();
                    let (base, next) = (entry.base, entry.next());
                    match ranges.last_mut() {
                        _ if entry.data.is_none() => {}
                        Some(last) if last.end == base => last.end = next,
                        _ => ranges.push(base..next),
                    }
                    Ok(())
                })?;
            }
            self.journals = journals;
            self.held = Some(held);
        }
        let held = self.held.as_ref().and_then(|held| held.get(&stream));
        let covers = |held: &Range<u64>| held.start <= offsets.start && offsets.end <= held.end;
        Ok(held.is_some_and(|held| held.iter().any(covers)))
    }

    /// Shows every entry of the ring's frames that are wanted when it is their turn, in order, with
    /// its file and frame.
    pub(super) fn visit(
        &mut self,
        ring: &Ring,
        is_wanted: impl Fn(&Self, &Note) -> bool,
        show: &mut Show<'_, Self>,
    ) -> Result<(), BootError> {
        let mut open: Option<(usize, Scanner)> = None;
        for note in &ring.notes {
            if !is_wanted(self, note) {
                continue;
            }
            let path = &ring.files[note.file];
            if open.as_ref().is_none_or(|(file, _)| *file != note.file) {
                if let Some((_, scanner)) = open.take() {
                    scanner.close(&mut self.pool);
                }
                // Its window needs memory, and runs that are not stored keep theirs.
                if self.pool.free_bytes() < 4 * crate::pool::BUFFER_BYTES_MAX {
                    self.store_all()?;
                }
                open = Some((note.file, self.scanner(path)?));
            }
            let (_, scanner) = open.as_mut().expect("just opened");
            for entry in self.entries(scanner, path, note)? {
                show(self, path, note, entry)?;
            }
        }
        if let Some((_, scanner)) = open {
            scanner.close(&mut self.pool);
        }
        Ok(())
    }

    /// The entries of a frame that counts; without the data of those that are damaged.
    fn entries(
        &mut self,
        scanner: &mut Scanner,
        path: &FilePath,
        note: &Note,
    ) -> Result<Vec<Entry>, BootError> {
        let fault = |fault| BootError::Disk(path.clone(), fault);
        let frame = scanner.frame(self.disk, &mut self.pool, note.position).map_err(fault)?;
        let _ = frame.is_ok();
        let Some(view) = scanner.table(&self.pool, note.position) else {
            let what = "a frame that was whole a moment ago is not any more";
            return Err(BootError::Corrupt(path.clone(), note.position, what));
        };
        let rows = view.parts().filter(|(entry, _)| entry.count.get() > 0);
        Ok(rows
            .map(|(entry, data)| Entry {
                stream: (entry.topic, entry.partition.get()),
                kind: entry.kind.get(),
                base: entry.base_offset.get(),
                count: entry.count.get(),
                data: entry.is_of(data).then(|| data.to_vec()),
            })
            .collect())
    }
}

/// What an entry, its file and its frame are shown to.
type Show<'s, B> = dyn FnMut(&mut B, &FilePath, &Note, Entry) -> Result<(), BootError> + 's;

/// An entry of a journal frame.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) stream: (TopicId, u32),
    kind: u16,
    pub(super) base: u64,
    pub(super) count: u32,
    /// `None` if they are damaged.
    pub(super) data: Option<Vec<u8>>,
}

impl Entry {
    /// Of the catalog's one stream: what only bears its topic is of a stream that nobody knows.
    fn is_catalog(&self) -> bool {
        self.stream == (Store::CATALOG_TOPIC, 0) && self.kind == EntryKind::Catalog as u16
    }

    /// Offset behind its last record.
    pub(super) fn next(&self) -> u64 {
        self.base.saturating_add(u64::from(self.count))
    }
}

/// Which files have begun, by the frames that were seen.
fn begun(seen: &[Seen]) -> Vec<Begun> {
    let mut begun: Vec<Begun> = Vec::new();
    for seen in seen {
        if begun.last().is_none_or(|last| last.file != seen.note.file) {
            begun.push(Begun::by(&seen.note, seen.sequence));
        }
    }
    begun
}

/// The entries that [`Boot::visit`] shows.
fn entry_begins(view: &FrameView<'_>) -> impl Iterator<Item = EntryBegin> {
    let rows = view.entries.iter().filter(|entry| entry.count.get() > 0);
    rows.map(|entry| EntryBegin {
        stream: (entry.topic, entry.partition.get()),
        base: entry.base_offset.get(),
    })
}

fn seen(view: &FrameView<'_>, file: usize, data: Data) -> Seen {
    let header = view.header;
    let is_catalog = |kind: u16| kind == EntryKind::Catalog as u16;
    Seen {
        note: Note {
            file,
            position: header.position.get(),
            bytes: u64_of(view.frame_bytes()),
            lsn: header.lsn.get(),
            watermark: header.watermark.get(),
            data,
        },
        epoch: header.boot_epoch.get(),
        sequence: header.file_sequence.get(),
        has_catalog: view.entries.iter().any(|entry| is_catalog(entry.kind.get())),
    }
}

/// What a frame's watermark entries say stays true whatever became of the frames around it.
fn note_proven(proven: &mut BTreeMap<(TopicId, u32), Proof>, view: &FrameView<'_>) {
    let marks = view.entries.iter().filter(|entry| entry.kind.get() == EntryKind::Watermark as u16);
    for entry in marks {
        let epoch = view.header.boot_epoch.get();
        let proof = proven.entry((entry.topic, entry.partition.get())).or_default();
        if entry.base_offset.get() > proof.offset {
            *proof = Proof { offset: entry.base_offset.get(), epoch };
        }
    }
}

/// The catalog is served whole or not at all.
pub(super) fn refused(path: FilePath, position: u64, what: &'static str) -> BootError {
    let verdict = truth::verdict(Place::Catalog, Evidence::Proven);
    assert_eq!(verdict, Verdict::Refuse, "by the table");
    BootError::Corrupt(path, position, what)
}
