//! Recovery: from a data directory to a shard that serves. It runs before any connection exists,
//! one plain disk call after the other, and is safe to repeat from any point at which it was cut
//! off.
//!
//! 0. What is there is made durable: a process that was killed may have left it in a cache.
//! 1. The superblock says whose directory this is; the boot epoch is raised, durably.
//! 2. The catalog's segments say which topics there are.
//! 3. The journals are walked to their ends; catalog entries are applied.
//! 4. Every partition's newest segment is walked to its end.
//! 5. The queue stores' records say what has become of queues' messages, as far as those ends.
//! 6. What the journals hold beyond those ends is written to new segments.
//! 7. The superblock records that the journals are drained.
//!
//! What bad bytes mean says one table: [`truth`].

mod begins;
mod journal;
mod quarantine;
mod queues;
mod replay;
pub(crate) mod ring;
pub(crate) mod scanner;
mod segments;
mod split;
mod starts;
pub mod truth;
mod walk;

use std::collections::{BTreeMap, BTreeSet};

use wire::TopicId;

use crate::catalog::{Catalog, Change, Owner, Topic};
use crate::frame::{EntryKind, FrameKey};
use crate::layout::FilePath;
use crate::log::damage::Damaged;
use crate::log::files::FileSlots;
use crate::log::journal::Journal;
use crate::log::partition::{Partition, PartitionId};
use crate::log::store::{Identity, Store};
use crate::pool::{Arenas, Pool, Reserve};
use crate::port::{Disk, Fault, FileEntry, Now};
use crate::request::new_partition;
use crate::settings::Settings;
use crate::shard::Shard;
use crate::superblock::{Found, SUPERBLOCK_BYTES, Superblock};

pub use quarantine::DamagedRange;

/// Numbers skipped at every start, so that no frame in flight at a crash shares its log sequence
/// number with a later one.
const LSN_MARGIN: u64 = 1024;
/// Bytes of the superblock's file, as a length in memory.
const SUPERBLOCK_FILE_BYTES: usize = 2 * crate::frame::BLOCK_BYTES;

/// What recovery found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BootReport {
    /// The directory was empty.
    pub is_first: bool,
    /// The epoch of this start.
    pub boot_epoch: u32,
    /// Topics.
    pub topics: usize,
    /// Partitions.
    pub partitions: usize,
    /// Journal frames read.
    pub journal_frames: u64,
    /// Records that were in a journal only and were written to segments.
    pub records_replayed: u64,
    /// The journal ended in a torn frame.
    pub is_journal_torn: bool,
    /// Segments that ended in a torn frame.
    pub segments_torn: u64,
    /// Bytes zeroed for the journal.
    pub bytes_zeroed: u64,
    /// Offsets that had been acknowledged and are damaged.
    pub damaged: Vec<DamagedRange>,
    /// Damage that cost no record: file, position, what is known.
    pub harmless: Vec<(FilePath, u64, &'static str)>,
    /// Queues.
    pub queues: usize,
    /// Messages in them.
    pub queue_messages: u64,
    /// Records of queue stores that were replayed.
    pub queue_records: u64,
    /// Segments of queue stores with damage.
    pub queue_damage: Vec<FilePath>,
    /// Messages that are damaged: they stay in their queues, and are not delivered.
    pub queue_messages_unreadable: u64,
}

impl std::fmt::Display for BootReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_first {
            return write!(f, "new data directory, epoch {}", self.boot_epoch);
        }
        write!(
            f,
            "epoch {}, {} topics, {} partitions, {} journal frames read, {} records replayed",
            self.boot_epoch,
            self.topics,
            self.partitions,
            self.journal_frames,
            self.records_replayed
        )?;
        if self.queues > 0 {
            write!(f, ", {} queues with {} messages", self.queues, self.queue_messages)?;
        }
        for path in &self.queue_damage {
            write!(f, ", {path} is DAMAGED: what queues delivered may come again")?;
        }
        if self.queue_messages_unreadable > 0 {
            let count = self.queue_messages_unreadable;
            write!(
                f,
                ", {count} messages are DAMAGED: `pelton queue describe` shows of which queue"
            )?;
        }
        if self.is_journal_torn {
            f.write_str(", the journal's torn tail was ended")?;
        }
        if self.segments_torn > 0 {
            write!(f, ", {} segments ended in a torn frame", self.segments_torn)?;
        }
        if !self.damaged.is_empty() {
            write!(f, ", {} ranges of offsets are DAMAGED", self.damaged.len())?;
        }
        Ok(())
    }
}

/// Why a start is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootError {
    /// The settings contradict each other.
    Settings(&'static str),
    /// The disk failed at this file.
    Disk(FilePath, Fault),
    /// The directory cannot be listed.
    List(Fault),
    /// What an earlier process wrote cannot be made durable.
    Settle(Fault),
    /// Written by a newer version.
    Newer(FilePath),
    /// Acknowledged data is damaged: file, position, what is known.
    Corrupt(FilePath, u64, &'static str),
    /// There is not enough memory for recovery.
    Memory,
}

impl std::fmt::Display for BootError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BootError::Settings(reason) => write!(f, "settings: {reason}"),
            BootError::Disk(FilePath::Superblock, Fault(errno)) => {
                let error = std::io::Error::from_raw_os_error(*errno);
                write!(
                    f,
                    "recovery: the superblock cannot be read or written: {error}. Its other slot \
                     counts and nothing was lost: start again; if that fails too the device does, \
                     and a copy of the data directory on another one can be started"
                )
            }
            BootError::Disk(path, Fault(errno)) => {
                let error = std::io::Error::from_raw_os_error(*errno);
                write!(f, "recovery: {path}: {error}")
            }
            BootError::List(Fault(errno)) => {
                let error = std::io::Error::from_raw_os_error(*errno);
                write!(f, "recovery: the data directory cannot be listed: {error}")
            }
            BootError::Settle(Fault(errno)) => {
                let error = std::io::Error::from_raw_os_error(*errno);
                write!(f, "recovery: the data directory cannot be made durable: {error}")
            }
            BootError::Newer(path) => write!(
                f,
                "recovery: {path} was written by a newer version of Pelton; start that version"
            ),
            BootError::Corrupt(path, position, what) => write!(
                f,
                "recovery: acknowledged data is damaged in {path} at byte {position}: {what}. \
                 No record was removed; restore the file from a copy, or move it away to give up \
                 what it holds"
            ),
            BootError::Memory => f.write_str("recovery: the memory limit is too small"),
        }
    }
}

impl std::error::Error for BootError {}

/// Everything recovery works on.
struct Boot<'a, D: Disk> {
    disk: &'a mut D,
    files: Vec<FileEntry>,
    /// Those of them that tell of a partition: start files and lost files.
    slots: BTreeSet<FilePath>,
    /// Segment files of each stream that has not been looked at: sequence, length.
    segments: BTreeMap<(TopicId, u32), Vec<(u32, u64)>>,
    store: Store,
    pool: Pool,
    catalog: Catalog,
    by_stream: BTreeMap<(TopicId, u32), PartitionId>,
    /// Topics that were deleted.
    deleted: BTreeSet<TopicId>,
    /// Offsets up to which the journals' watermarks say that streams are stored.
    proven: BTreeMap<(TopicId, u32), walk::Proof>,
    /// What lost files are to say, and what they say.
    lost: BTreeMap<(TopicId, u32), Damaged>,
    kept_lost: BTreeMap<(TopicId, u32), Damaged>,
    /// What the journals hold, once somebody wanted to know.
    journals: journal::Journals,
    held: Option<journal::Held>,
    /// Queue stores by number.
    queue_stores: BTreeMap<u32, queues::FoundStore>,
    superblock: Superblock,
    /// Shards of the start before.
    shards_before: u16,
    report: BootReport,
    now: Now,
}

/// Recovers a data directory and makes the shards that serve it, `settings.shards` of them in
/// order of their numbers.
///
/// `seed` is random: the broker's id and topic ids come from it.
pub fn boot(
    settings: &Settings,
    disk: &mut impl Disk,
    now: Now,
    seed: u128,
) -> Result<(Vec<Shard>, BootReport), BootError> {
    boot_within(&mut Arenas::default(), settings, disk, now, seed)
}

/// The same, with the shards' memory out of these arenas.
///
/// # Errors
/// As [`boot`].
pub fn boot_within(
    arenas: &mut Arenas,
    settings: &Settings,
    disk: &mut impl Disk,
    now: Now,
    seed: u128,
) -> Result<(Vec<Shard>, BootReport), BootError> {
    if let Some(reason) = settings.invalid() {
        return Err(BootError::Settings(reason));
    }
    let files = disk.list().map_err(BootError::List)?;
    if !files.is_empty() {
        // What is served from here on is never lost again, not even if the power goes at once.
        disk.settle().map_err(BootError::Settle)?;
    }
    let mut pool = new_pool(arenas, settings);
    let raised = raise_epoch(disk, &files, &mut pool, settings, seed)?;
    let Raised { superblock, shards_before, report } = raised;
    let store = new_store(settings, &superblock);
    let mut boot = Boot {
        disk,
        segments: segments_by_stream(&files),
        slots: files.iter().map(|file| &file.path).filter(|path| is_slot(path)).cloned().collect(),
        files,
        store,
        pool,
        catalog: Catalog::default(),
        by_stream: BTreeMap::new(),
        deleted: BTreeSet::new(),
        proven: BTreeMap::new(),
        lost: BTreeMap::new(),
        kept_lost: BTreeMap::new(),
        held: None,
        journals: journal::Journals::default(),
        queue_stores: BTreeMap::new(),
        superblock,
        shards_before,
        report,
        now,
    };
    // What the journals prove of the catalog's segments must be known before these are judged.
    let noted = boot.note_journals()?;
    boot.recover_catalog_segments()?;
    boot.journals = boot.judge_journals(noted)?;
    boot.open_queue_stores()?;
    boot.open_topics()?;
    boot.recover_queues()?;
    let journals = std::mem::take(&mut boot.journals);
    boot.replay(&journals)?;
    boot.finish_queues();
    boot.settle_ends(&journals)?;
    boot.write_lost()?;
    boot.keep_aside(&journals)?;
    boot.finish(arenas, &journals, seed)
}

/// The part of the seed from which ids that peers see are made; the other part is the frame key.
fn public_seed(seed: u128) -> u128 {
    let public = seed >> 64;
    public << 64 | (public ^ 0x9e37_79b9_7f4a_7c15)
}

fn first_superblock(seed: u128) -> Superblock {
    let frame_key = u64::try_from(seed & u128::from(u64::MAX)).expect("masked");
    Superblock::first(public_seed(seed).to_be_bytes(), frame_key, 1)
}

/// Reads the superblock, or makes the first one, and writes it back with the epoch raised.
fn raise_epoch(
    disk: &mut impl Disk,
    files: &[FileEntry],
    pool: &mut Pool,
    settings: &Settings,
    seed: u128,
) -> Result<Raised, BootError> {
    let path = FilePath::Superblock;
    let fault = |fault| BootError::Disk(FilePath::Superblock, fault);
    let buf = pool.alloc(SUPERBLOCK_FILE_BYTES).ok_or(BootError::Memory)?;
    let exists = files.iter().any(|file| file.path == path && file.bytes >= SUPERBLOCK_BYTES);
    let mut found = Found::Blank;
    let mut damaged = None;
    if exists {
        let got = disk.read(&path, 0, pool.bytes_mut(buf)).map_err(fault)?;
        found = Superblock::read(&pool.bytes(buf)[..got]);
        damaged = Superblock::damaged_slot(&pool.bytes(buf)[..got]);
    } else {
        disk.create(&path, SUPERBLOCK_BYTES).map_err(fault)?;
    }
    let data = files
        .iter()
        .any(|file| matches!(file.path, FilePath::Segment { .. } | FilePath::Journal { .. }));
    let (mut superblock, is_first) = match found {
        Found::Whole(superblock) => (superblock, false),
        // Damaged without data: the very first write of it was torn.
        Found::Blank | Found::Damaged if !data => (first_superblock(seed), true),
        Found::Blank | Found::Damaged => {
            let what = "no slot of the superblock is whole";
            return Err(BootError::Corrupt(path, 0, what));
        }
        Found::Newer => return Err(BootError::Newer(path)),
    };
    let shards_before = superblock.shards.get();
    superblock.boot_epoch = (superblock.boot_epoch.get() + 1).into();
    superblock.shards = settings.shards.into();
    write_superblock(disk, pool, &mut superblock)?;
    pool.release(buf);
    let boot_epoch = superblock.boot_epoch.get();
    let mut report = BootReport { is_first, boot_epoch, ..BootReport::default() };
    if let Some(position) = damaged.filter(|_| !is_first) {
        let what = "a slot is not whole; the other one counts";
        report.harmless.push((FilePath::Superblock, position, what));
    }
    Ok(Raised { superblock, shards_before, report })
}

/// The superblock of this start.
struct Raised {
    superblock: Superblock,
    /// Shards of the start before.
    shards_before: u16,
    report: BootReport,
}

fn write_superblock(
    disk: &mut impl Disk,
    pool: &mut Pool,
    superblock: &mut Superblock,
) -> Result<(), BootError> {
    superblock.sequence = (superblock.sequence.get() + 1).into();
    let (block, position) = superblock.block();
    let buf = pool.alloc(block.len()).ok_or(BootError::Memory)?;
    pool.bytes_mut(buf).copy_from_slice(&block);
    let written = disk.write(&FilePath::Superblock, position, pool.bytes(buf));
    pool.release(buf);
    written.map_err(|fault| BootError::Disk(FilePath::Superblock, fault))
}

fn segments_by_stream(files: &[FileEntry]) -> BTreeMap<(TopicId, u32), Vec<(u32, u64)>> {
    let mut segments: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for file in files {
        if let FilePath::Segment { topic, partition, sequence } = file.path {
            segments.entry((topic, partition)).or_default().push((sequence, file.bytes));
        }
    }
    segments
}

const fn is_slot(path: &FilePath) -> bool {
    matches!(path, FilePath::Start { .. } | FilePath::Lost { .. })
}

/// A shard's memory, with what is kept apart for frames that find no other.
fn new_pool(arenas: &mut Arenas, settings: &Settings) -> Pool {
    let mut pool = Pool::within(arenas, settings.recv, settings.pool_bytes);
    pool.set_aside(Reserve::Clients);
    if settings.shards > 1 {
        pool.set_aside(Reserve::Links);
    }
    pool
}

fn new_store(settings: &Settings, superblock: &Superblock) -> Store {
    let identity = Identity {
        broker_id: superblock.broker_id,
        key: FrameKey(superblock.frame_key.get()),
        boot_epoch: superblock.boot_epoch.get(),
    };
    let journal = Journal {
        files: Vec::new(),
        unopened: 0,
        file_bytes: settings.journal_file_bytes,
        active: 0,
        file_sequence: 0,
        beginning: None,
        position: 0,
        next_lsn: superblock.drained_lsn.get() + 1,
        durable_lsn: 0,
        published_lsn: 0,
        frames: std::collections::VecDeque::new(),
        written_front: 0,
        writes_in_flight: 0,
        waits_in_flight: 0,
        free_bufs: Vec::new(),
        free_commits: Vec::new(),
        last_submit: crate::port::Time(0),
        remedy: crate::log::failure::Remedy::None,
    };
    Store::new(settings.clone(), identity, journal, FileSlots::new(settings.files_max))
}

impl<D: Disk> Boot<'_, D> {
    /// Walks the catalog's segments and applies their changes.
    fn recover_catalog_segments(&mut self) -> Result<(), BootError> {
        let mut catalog = Partition::new(Store::CATALOG_TOPIC, 0, EntryKind::Catalog, 0);
        catalog.segment_bytes = self.store.settings.segment_bytes;
        self.recover_segments(&mut catalog)?;
        let sequences: Vec<u32> = catalog.segments.iter().map(|s| s.sequence).collect();
        let id = self.store.add_partition(catalog);
        assert_eq!(id, PartitionId(0), "the catalog's stream comes first");
        self.by_stream.insert((Store::CATALOG_TOPIC, 0), id);
        for sequence in sequences {
            self.read_catalog_segment(id, sequence)?;
        }
        Ok(())
    }

    /// Applies one change, without making partitions yet.
    fn apply(&mut self, change: Change) {
        match change {
            Change::Create { id, name, settings } => {
                self.catalog.names.insert(name.clone(), id);
                let topic = Topic { name, settings, partitions: Vec::new() };
                self.catalog.topics.insert(id, topic);
            }
            Change::Alter { id, settings } => {
                if let Some(topic) = self.catalog.topics.get_mut(&id) {
                    topic.settings = settings;
                }
            }
            Change::Delete { id } => {
                self.deleted.insert(id);
                if let Some(topic) = self.catalog.topics.remove(&id) {
                    self.catalog.names.remove(&topic.name);
                }
            }
            Change::CreateQueue { id, entry } => self.apply_queue(id, entry),
            Change::DeleteQueue { id } => self.apply_queue_gone(&id),
        }
    }

    /// Makes the partitions of every topic and walks their newest segments; deletes the files of
    /// topics that are gone.
    fn open_topics(&mut self) -> Result<(), BootError> {
        let topics: Vec<_> =
            self.catalog.topics.iter().map(|(&id, topic)| (id, topic.settings)).collect();
        for (id, settings) in topics {
            for number in 0..settings.partitions.get() {
                let mut partition = new_partition(&self.store, id, number, &settings, 0);
                self.recover_segments(&mut partition)?;
                let slot = self.store.add_partition(partition);
                self.by_stream.insert((id, number), slot);
                let topic = self.catalog.topics.get_mut(&id).expect("listed just now");
                topic.partitions.push(Owner::Here(slot));
                self.catalog.partitions += 1;
            }
        }
        self.report.topics = self.catalog.topics.len();
        self.report.partitions = self.catalog.partitions;
        self.refuse_unknown_files()?;
        if self.store.partition(self.catalog_id()).damaged.is_end_unknown() {
            return self.refuse_unknown_entries();
        }
        let orphans: Vec<FilePath> = self
            .files
            .iter()
            .filter_map(|file| match &file.path {
                FilePath::Segment { topic, .. }
                | FilePath::Start { topic, .. }
                | FilePath::Lost { topic, .. }
                    if self.deleted.contains(topic) =>
                {
                    Some(file.path.clone())
                }
                _ => None,
            })
            .collect();
        for path in orphans {
            self.disk.delete(&path).map_err(|fault| BootError::Disk(path, fault))?;
        }
        Ok(())
    }

    /// Records that the journals are drained, makes this start's journals ready, and gives the
    /// shards.
    fn finish(
        mut self,
        arenas: &mut Arenas,
        journals: &journal::Journals,
        seed: u128,
    ) -> Result<(Vec<Shard>, BootReport), BootError> {
        let last = journals.highest_lsn.max(self.superblock.drained_lsn.get());
        self.superblock.drained_lsn = (last + LSN_MARGIN).into();
        write_superblock(self.disk, &mut self.pool, &mut self.superblock)?;
        self.prepare_journals(journals)?;
        let report = std::mem::take(&mut self.report);
        let shards = self.split(arenas, journals.last_sequence + 1, seed)?;
        Ok((shards, report))
    }

    /// Creates the journals' files where they are missing, of another length, or torn: a torn
    /// file is never written again. Deletes those that no shard has any more.
    fn prepare_journals(&mut self, journals: &journal::Journals) -> Result<(), BootError> {
        let settings = &self.store.settings;
        let (shards, bytes) = (settings.shards, settings.journal_file_bytes);
        let count = settings.journal_files;
        let all = (0..shards).flat_map(|shard| (0..count).map(move |index| (shard, index)));
        for (shard, index) in all {
            let path = FilePath::Journal { shard, index };
            let found = self.files.iter().find(|file| file.path == path);
            let usable = found.is_some_and(|file| file.bytes == bytes);
            if !usable || journals.spoiled.contains(&path) || journals.damaged.contains(&path) {
                let created = self.disk.create(&path, bytes);
                created.map_err(|fault| BootError::Disk(path.clone(), fault))?;
                self.report.bytes_zeroed += bytes;
            }
        }
        let surplus: Vec<FilePath> = self
            .files
            .iter()
            .filter_map(|file| match file.path {
                FilePath::Journal { shard, index } if shard >= shards || index >= count => {
                    Some(file.path.clone())
                }
                _ => None,
            })
            .collect();
        for path in surplus {
            self.disk.delete(&path).map_err(|fault| BootError::Disk(path, fault))?;
        }
        Ok(())
    }
}
