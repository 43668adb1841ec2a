//! Everything is read, and every file gets its verdict by recovery's truth table.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use wire::TopicId;

use super::journal::Journals;
use super::stream::StreamWalk;
use super::{Directory, InspectError, Slot, Stream, start};
use crate::boot::{BootError, DamagedRange};
use crate::catalog::Change;
use crate::layout::FilePath;
use crate::log::store::Store;
use crate::port::{Disk, FileEntry};

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Everything in it is whole.
    Whole,
    /// It waits to be written to: nothing is in it.
    Unused,
    /// Its last frame was torn, and nothing later proves that it had been acknowledged.
    TornTail {
        /// Where the frame begins.
        position: u64,
    },
    /// It was written ahead of records that a crash lost, so nothing in it was acknowledged; the
    /// next start removes it.
    Unacknowledged,
    /// It belongs to a topic, or held records, that were deleted; the next start removes it.
    Deleted,
    /// Something is damaged that held no records, or is there twice.
    Harmless {
        /// Where.
        position: u64,
        /// What is known.
        what: &'static str,
    },
    /// What had been acknowledged is damaged.
    Corrupt {
        /// Where.
        position: u64,
        /// Which of the stream's offsets cannot be read, as far as that is known.
        offsets: Option<Range<u64>>,
        /// What is known.
        what: &'static str,
    },
}

/// How much of a file is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kept {
    /// Whole frames.
    pub frames: u64,
    /// Record batches.
    pub batches: u64,
    /// Records.
    pub records: u64,
    /// Log sequence numbers of a journal file, offsets of a segment: the first.
    pub from: u64,
    /// The one behind the last.
    pub to: u64,
}

/// A file's verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which file.
    pub path: FilePath,
    /// Its length in bytes.
    pub bytes: u64,
    /// What is in it.
    pub kept: Kept,
    /// The verdict.
    pub verdict: Verdict,
}

/// Offsets that are in no file although they were acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Whose.
    pub stream: Stream,
    /// Which.
    pub offsets: Range<u64>,
    /// How that is known.
    pub what: &'static str,
}

/// What is told while the directory is read.
#[derive(Debug)]
pub enum Event<'a> {
    /// A file has its verdict.
    File(&'a Finding),
    /// Records are missing.
    Lost(&'a Lost),
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// Files with a verdict.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Records of topics that exist, each counted once.
    pub records: u64,
    /// Those of them that are in a journal only: the next start writes them to segments.
    pub records_in_journals: u64,
    /// Files with a torn tail.
    pub torn: u64,
    /// Corrupt files, and stretches of offsets that are in no file.
    pub damaged: u64,
    /// What the next start would answer with an error.
    pub quarantined: Vec<DamagedRange>,
    /// Why the next start would be refused, if it would.
    pub refusal: Option<BootError>,
}

impl Summary {
    /// Whether nothing that was acknowledged is damaged.
    pub const fn is_sound(&self) -> bool {
        self.damaged == 0 && self.quarantined.is_empty() && self.refusal.is_none()
    }
}

/// Reads all files of the directory, tells what it finds, and lets recovery itself have a try.
pub fn verify<D: Disk>(
    directory: &mut Directory<'_, D>,
    tell: &mut dyn FnMut(Event<'_>),
) -> Result<Summary, InspectError> {
    let mut desk = Desk { summary: Summary::default(), tell };
    desk.superblock(directory);
    let journals = Journals::walk(directory, &mut desk)?;
    streams(directory, &journals, &mut desk)?;
    let is_spare =
        |path: &FilePath| matches!(path, FilePath::Spare { .. } | FilePath::StartSpare { .. });
    for file in directory.files.iter().filter(|file| is_spare(&file.path)) {
        desk.file(file, Kept::default(), Verdict::Unused);
    }
    let mut summary = desk.summary;
    match super::rehearse(directory.disk) {
        Ok(report) => summary.quarantined = report.damaged,
        Err(refusal) => summary.refusal = Some(refusal),
    }
    Ok(summary)
}

/// Where findings go.
pub(super) struct Desk<'t> {
    pub(super) summary: Summary,
    tell: &'t mut dyn FnMut(Event<'_>),
}

impl Desk<'_> {
    pub(super) fn file(&mut self, file: &FileEntry, kept: Kept, verdict: Verdict) {
        let summary = &mut self.summary;
        summary.files += 1;
        summary.bytes += file.bytes;
        summary.torn += u64::from(matches!(verdict, Verdict::TornTail { .. }));
        summary.damaged += u64::from(matches!(verdict, Verdict::Corrupt { .. }));
        let finding = Finding { path: file.path.clone(), bytes: file.bytes, kept, verdict };
        (self.tell)(Event::File(&finding));
    }

    pub(super) fn lost(&mut self, lost: &Lost) {
        self.summary.damaged += 1;
        (self.tell)(Event::Lost(lost));
    }

    /// One slot is enough; the other may be torn, or of before there was a second write.
    fn superblock<D: Disk>(&mut self, directory: &Directory<'_, D>) {
        let file = directory.files.iter().find(|file| file.path == FilePath::Superblock);
        let damaged = directory.slots.iter().position(|slot| *slot == Slot::Damaged);
        let verdict = match damaged {
            Some(slot) => Verdict::TornTail { position: [0, 4096][slot] },
            None => Verdict::Whole,
        };
        if let Some(file) = file {
            self.file(file, Kept::default(), verdict);
        }
    }
}

/// The catalog's stream first, then the others; those that no file is left of as well.
fn streams<D: Disk>(
    directory: &mut Directory<'_, D>,
    journals: &Journals,
    desk: &mut Desk<'_>,
) -> Result<(), InspectError> {
    let topics = topics(directory, journals)?;
    let mut streams: BTreeMap<Stream, Vec<FileEntry>> = BTreeMap::new();
    let mut start_files: BTreeMap<Stream, FileEntry> = BTreeMap::new();
    for file in &directory.files {
        if let FilePath::Segment { topic, partition, .. } = file.path {
            streams.entry((topic, partition)).or_default().push(file.clone());
        }
        if let FilePath::Start { topic, partition } = file.path {
            start_files.insert((topic, partition), file.clone());
            streams.entry((topic, partition)).or_default();
        }
    }
    for stream in journals.streams() {
        streams.entry(stream).or_default();
    }
    for (stream, files) in streams {
        let stays = [Store::CATALOG_TOPIC, Store::QUEUE_TOPIC].contains(&stream.0);
        if !stays && !topics.contains(&stream.0) {
            for file in files.iter().chain(start_files.get(&stream)) {
                desk.file(file, Kept::default(), Verdict::Deleted);
            }
            continue;
        }
        let start = match start_files.get(&stream) {
            Some(file) => start::judge(directory, file, stream, desk)?,
            None => None,
        };
        let first = start.map_or(0, |start| start.sequence);
        let (kept, gone): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|file| sequence_of(&file.path) >= first);
        for file in gone {
            desk.file(&file, Kept::default(), Verdict::Deleted);
        }
        let base = start.map_or(0, |start| start.base);
        let walk = StreamWalk::read(directory, stream, base, kept)?;
        let walk = walk.judge(journals.proven(stream), desk);
        desk.summary.records += walk.records();
        if stream.0 != Store::CATALOG_TOPIC {
            let extra = journals.records_beyond(stream, walk.end());
            desk.summary.records += extra;
            desk.summary.records_in_journals += extra;
        }
    }
    Ok(())
}

const fn sequence_of(path: &FilePath) -> u32 {
    match path {
        FilePath::Segment { sequence, .. } => *sequence,
        _ => 0,
    }
}

/// The topics that there will be after the next start: unlike names, those count only as far as
/// the catalog goes without a hole.
fn topics<D: Disk>(
    directory: &mut Directory<'_, D>,
    journals: &Journals,
) -> Result<BTreeSet<TopicId>, InspectError> {
    let is_catalog = |file: &FileEntry| match file.path {
        FilePath::Segment { topic, .. } => topic == Store::CATALOG_TOPIC,
        _ => false,
    };
    let mut changes = directory.changes_in(is_catalog)?;
    changes.extend(journals.changes.clone());
    let first = changes.keys().next().copied().unwrap_or(0);
    let dense = (first..).zip(changes).take_while(|(next, (offset, _))| next == offset);
    let mut topics = BTreeSet::new();
    for (_, (_, change)) in dense {
        match change {
            Change::Create { id, .. } => {
                topics.insert(id);
            }
            Change::Alter { .. } | Change::CreateQueue { .. } | Change::DeleteQueue { .. } => {}
            Change::Delete { id } => {
                topics.remove(&id);
            }
        }
    }
    Ok(topics)
}
