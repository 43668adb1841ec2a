//! A data directory as it lies on disk: read, never written to, and without a broker. What its
//! files hold, piece by piece, and which of them are damaged by the rules of recovery.
//!
//! The memory it takes does not grow with the data: files are walked through one window.

mod content;
mod journal;
mod rehearsal;
mod repair;
mod start;
mod stream;
mod verify;
mod walk;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;

use wire::TopicId;
use wire::topic::Settings as TopicSettings;

use crate::catalog::Change;
use crate::frame::{BLOCK_BYTES, FrameKey};
use crate::layout::FilePath;
use crate::log::store::Store;
use crate::pool::{BUFFER_BYTES_MAX, Pool, RecvRegion};
use crate::port::{Disk, Fault, FileEntry};
use crate::superblock::{Found, SUPERBLOCK_BYTES, Superblock};

pub use content::{Content, check_entry};
pub use rehearsal::rehearse;
pub use repair::{Mend, OFFSETS_LEFT_OUT, Plan, plan};
pub use verify::{Event, Finding, Kept, Lost, Summary, Verdict, verify};
pub use walk::Piece;

/// Memory for the window.
const POOL_BYTES: usize = 2 * BUFFER_BYTES_MAX;

/// A stream: topic and partition.
pub type Stream = (TopicId, u32);

/// Why a directory cannot be looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InspectError {
    /// The directory cannot be listed.
    List(Fault),
    /// A file cannot be read.
    Read(FilePath, Fault),
    /// A file cannot be written.
    Write(FilePath, Fault),
    /// There is nothing of a broker's in it.
    NoData,
    /// Neither slot of the superblock is whole: without its key nothing else can be checked.
    NoSuperblock,
    /// Written by a newer version.
    Newer(FilePath),
}

impl fmt::Display for InspectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InspectError::List(Fault(errno)) => {
                let error = std::io::Error::from_raw_os_error(*errno);
                write!(f, "the directory cannot be listed ({error})")
            }
            InspectError::Read(path, Fault(errno)) => {
                let error = std::io::Error::from_raw_os_error(*errno);
                write!(f, "{path} cannot be read ({error})")
            }
            InspectError::Write(path, Fault(errno)) => {
                let error = std::io::Error::from_raw_os_error(*errno);
                write!(f, "{path} cannot be written ({error})")
            }
            InspectError::NoData => {
                f.write_str("no broker ever kept data there: name a data directory")
            }
            InspectError::NoSuperblock => f.write_str(
                "no slot of the superblock is whole, and without it no other file can be \
                 checked: restore the superblock from a copy",
            ),
            InspectError::Newer(path) => {
                write!(f, "{path} was written by a newer version of Pelton: use that version")
            }
        }
    }
}

impl std::error::Error for InspectError {}

/// One slot of the superblock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// Never written.
    Blank,
    /// Whole.
    Whole(Superblock),
    /// Something is there, but it is not whole.
    Damaged,
}

/// A topic that the catalog tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicEntry {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub settings: TopicSettings,
    /// Whether it was deleted later on.
    pub is_deleted: bool,
}

/// A data directory that is looked into.
#[derive(Debug)]
pub struct Directory<'d, D: Disk> {
    disk: &'d mut D,
    pool: Pool,
    files: Vec<FileEntry>,
    slots: [Slot; 2],
    superblock: Superblock,
    topics: BTreeMap<TopicId, TopicEntry>,
    /// Sequences of journal files, once somebody wanted to know.
    begun: BTreeMap<FilePath, Option<u64>>,
}

impl<'d, D: Disk> Directory<'d, D> {
    /// Reads the superblock and what the catalog says, as far as it can be read.
    pub fn open(disk: &'d mut D) -> Result<Directory<'d, D>, InspectError> {
        let mut files = disk.list().map_err(InspectError::List)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let is_data = |file: &FileEntry| {
            matches!(file.path, FilePath::Segment { .. } | FilePath::Journal { .. })
        };
        let mut pool = Pool::new(RecvRegion { count: 1, bytes: 4096 }, POOL_BYTES);
        let (slots, found) = read_superblock(disk, &mut pool, &files)?;
        let superblock = match found {
            Found::Whole(superblock) => superblock,
            Found::Newer => return Err(InspectError::Newer(FilePath::Superblock)),
            // Damaged without data: the very first write of it was torn.
            Found::Blank | Found::Damaged if !files.iter().any(is_data) => {
                return Err(InspectError::NoData);
            }
            Found::Blank | Found::Damaged => return Err(InspectError::NoSuperblock),
        };
        let topics = BTreeMap::new();
        let begun = BTreeMap::new();
        let mut directory = Directory { disk, pool, files, slots, superblock, topics, begun };
        directory.read_topics()?;
        Ok(directory)
    }

    /// Every file of it, by path.
    pub fn files(&self) -> &[FileEntry] {
        &self.files
    }

    /// The superblock's slots.
    pub const fn slots(&self) -> &[Slot; 2] {
        &self.slots
    }

    /// The slot that counts.
    pub const fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// The topics that the catalog tells of, deleted ones too.
    pub const fn topics(&self) -> &BTreeMap<TopicId, TopicEntry> {
        &self.topics
    }

    fn key(&self) -> FrameKey {
        FrameKey(self.superblock.frame_key.get())
    }

    /// Names come from the catalog's segments, and from the journals where those lack them. What
    /// cannot be read is left out: [`verify`] tells of it.
    fn read_topics(&mut self) -> Result<(), InspectError> {
        let changes = self.changes_in(|file| match file.path {
            FilePath::Segment { topic, .. } => topic == Store::CATALOG_TOPIC,
            FilePath::Journal { .. } => true,
            FilePath::Superblock
            | FilePath::Start { .. }
            | FilePath::Lost { .. }
            | FilePath::Aside { .. }
            | FilePath::StartSpare { .. }
            | FilePath::Spare { .. } => false,
        })?;
        for change in changes.into_values() {
            match change {
                Change::Create { id, name, settings } => {
                    self.topics.insert(id, TopicEntry { name, settings, is_deleted: false });
                }
                Change::Alter { id, settings } => {
                    if let Some(topic) = self.topics.get_mut(&id) {
                        topic.settings = settings;
                    }
                }
                Change::Delete { id } => {
                    if let Some(topic) = self.topics.get_mut(&id) {
                        topic.is_deleted = true;
                    }
                }
                Change::CreateQueue { .. } | Change::DeleteQueue { .. } => {}
            }
        }
        Ok(())
    }

    /// The catalog's changes in all whole frames of these files, each by its offset.
    fn changes_in(
        &mut self,
        is_wanted: impl Fn(&FileEntry) -> bool,
    ) -> Result<BTreeMap<u64, Change>, InspectError> {
        let files: Vec<FileEntry> = self.files.iter().filter(|f| is_wanted(f)).cloned().collect();
        let mut changes = BTreeMap::new();
        for file in files {
            self.walk(&file, |piece| {
                if let Piece::Frame(_, view) = piece {
                    changes.extend(content::changes_of(view));
                }
                ControlFlow::<()>::Continue(())
            })?;
        }
        Ok(changes)
    }
}

fn read_superblock(
    disk: &mut impl Disk,
    pool: &mut Pool,
    files: &[FileEntry],
) -> Result<([Slot; 2], Found), InspectError> {
    let path = FilePath::Superblock;
    if !files.iter().any(|file| file.path == path) {
        return Ok(([Slot::Blank; 2], Found::Blank));
    }
    let length = usize::try_from(SUPERBLOCK_BYTES).expect("two blocks");
    let buf = pool.alloc(length).expect("the pool is empty");
    let got = disk.read(&path, 0, &mut pool.bytes_mut(buf)[..length]);
    let got = got.map_err(|fault| InspectError::Read(path, fault))?;
    let bytes = &pool.bytes(buf)[..got];
    let slot = |number: usize| {
        let block = bytes.chunks(BLOCK_BYTES).nth(number).unwrap_or_default();
        match Superblock::read(block) {
            Found::Blank => Slot::Blank,
            Found::Whole(superblock) => Slot::Whole(superblock),
            Found::Damaged | Found::Newer => Slot::Damaged,
        }
    };
    let read = ([slot(0), slot(1)], Superblock::read(bytes));
    pool.release(buf);
    Ok(read)
}
