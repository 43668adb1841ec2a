//! What was acknowledged and is damaged: its offsets are set aside, and the rest goes on. Nothing
//! of it is cut off or deleted.
//!
//! A range that a segment lacks shows again at every start, or when it is read; so a file that is
//! restored from a copy is whole again. What a journal lost, nothing shows any more once the
//! journal has been drained: it is written to the partition's lost file before.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use wire::TopicId;

use super::journal::{Journals, Ring};
use super::{Boot, BootError};
use crate::frame::BLOCK_BYTES;
use crate::layout::FilePath;
use crate::log::cursors::Progress;
use crate::log::damage::END_UNKNOWN;
use crate::log::lost_file::{LOST_FILE_BYTES, fill_lost, read_lost};
use crate::log::partition::{Partition, PartitionId};
use crate::log::store::Store;
use crate::placement::owner;
use crate::pool::BUFFER_BYTES_MAX;
use crate::port::Disk;
use crate::units::u64_of;

/// Sequences of segments that are left out when a start file cannot be read: it may name some
/// that were used.
const SEQUENCES_SKIPPED: u32 = 1024;

/// A range of offsets that recovery found damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedRange {
    /// Topic; zero for the catalog.
    pub topic: TopicId,
    /// Partition.
    pub partition: u32,
    /// Its offsets; up to [`END_UNKNOWN`] if nobody knows how many there were.
    pub offsets: Range<u64>,
    /// The file in which the damage is.
    pub path: FilePath,
    /// Where in it.
    pub position: u64,
    /// What is known.
    pub what: &'static str,
}

impl fmt::Display for DamagedRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topic = u128::from_be_bytes(self.topic);
        let Range { start, end } = self.offsets;
        match (self.topic == Store::CATALOG_TOPIC, end == END_UNKNOWN) {
            (true, _) => f.write_str("the catalog may lack its newest changes")?,
            _ if self.topic == Store::QUEUE_TOPIC => write!(
                f,
                "records of the queue store {} are damaged, from {start} on",
                self.partition
            )?,
            (false, true) => write!(
                f,
                "topic id {topic:032x}, partition {}: records from offset {start} on may be \
                 lost, and nobody knows how many",
                self.partition
            )?,
            (false, false) => write!(
                f,
                "topic id {topic:032x}, partition {}: offsets {start} to {} are damaged",
                self.partition,
                end - 1
            )?,
        }
        write!(f, " ({} at byte {}: {})", self.path, self.position, self.what)?;
        match (self.topic == Store::CATALOG_TOPIC, end == END_UNKNOWN) {
            (true, _) => f.write_str(
                "; topics are neither created, altered nor deleted until `pelton log repair` has \
                 settled it",
            ),
            (_, true) if self.topic == Store::QUEUE_TOPIC => f.write_str(
                "; publishing to its queues and consuming from them is answered with end_unknown \
                 until `pelton log repair` has settled the end",
            ),
            _ if self.topic == Store::QUEUE_TOPIC => f.write_str(
                "; messages among them are not delivered and counted by `pelton queue describe`, \
                 and what was settled there may come again",
            ),
            (false, true) => f.write_str(
                "; they are answered with data_corrupt, and producing with end_unknown until \
                 `pelton log repair` has settled the end",
            ),
            (false, false) => {
                f.write_str("; they are answered with data_corrupt, all others are served")
            }
        }
    }
}

/// Where damage is: file, position.
pub(super) type At = (FilePath, u64);

/// Why a start is refused whose catalog lacks a topic.
const UNKNOWN_TOPIC: &str = "the creation of a topic is damaged, and there are records of it";

impl<D: Disk> Boot<'_, D> {
    /// Tells of damaged offsets. Those of the catalog, whose records mean nothing without those
    /// before them, are a reason to refuse the start.
    pub(super) fn tell(
        &mut self,
        (topic, partition): (TopicId, u32),
        offsets: Range<u64>,
        (path, position): At,
        what: &'static str,
    ) -> Result<(), BootError> {
        if topic == Store::CATALOG_TOPIC {
            return Err(super::journal::refused(path, position, what));
        }
        let range = DamagedRange { topic, partition, offsets, path, position, what };
        self.report.damaged.push(range);
        Ok(())
    }

    /// The next records of the partition are lost, up to `to`: it goes on there.
    pub(super) fn lose(
        &mut self,
        id: PartitionId,
        to: u64,
        at: At,
        what: &'static str,
    ) -> Result<(), BootError> {
        self.store_runs(id)?;
        let partition = self.store.partition_mut(id);
        let stream = (partition.topic, partition.number);
        let from = partition.progress.appended();
        partition.damaged.add(from..to);
        partition.go_on_at(to);
        self.lost.entry(stream).or_default().add(from..to);
        self.tell(stream, from..to, at, what)
    }

    /// Nobody knows where the partition ends: it may have had records from `from` on.
    pub(super) fn end_unknown(
        &mut self,
        id: PartitionId,
        from: u64,
        (path, position): At,
        what: &'static str,
    ) {
        let partition = self.store.partition_mut(id);
        let offsets = from..END_UNKNOWN;
        if partition.damaged.add(offsets.clone()) {
            let (topic, partition) = (partition.topic, partition.number);
            self.lost.entry((topic, partition)).or_default().add(offsets.clone());
            let range = DamagedRange { topic, partition, offsets, path, position, what };
            self.report.damaged.push(range);
        }
    }

    /// Takes over what the partition's lost file says.
    pub(super) fn recover_lost(&mut self, partition: &mut Partition) -> Result<(), BootError> {
        let path = partition.lost_path();
        if !self.slots.contains(&path) {
            return Ok(());
        }
        partition.has_lost_file = true;
        let stream = (partition.topic, partition.number);
        let identity = self.store.identity;
        let buf = self.store.alloc(&mut self.pool, LOST_FILE_BYTES).ok_or(BootError::Memory)?;
        let read = self.disk.read(&path, 0, self.pool.bytes_mut(buf));
        let slots = read.map(|got| {
            let bytes = &self.pool.bytes(buf)[..got];
            read_lost(bytes, identity.key, &identity.broker_id, stream)
        });
        self.pool.release(buf);
        let slots = slots.map_err(|fault| BootError::Disk(path.clone(), fault))?;
        let slots = slots.ok_or(BootError::Newer(path.clone()))?;
        let end = partition.progress.appended();
        // Created and not written: the start was cut off, and finds out anew.
        let is_lost = slots.found.is_none() && slots.damaged.is_some();
        let unknown = is_lost.then_some(end..END_UNKNOWN);
        let found = slots.found.map(|(ranges, _)| ranges).unwrap_or_default();
        for range in found.into_iter().chain(unknown) {
            partition.damaged.add(range.clone());
            self.lost.entry(stream).or_default().add(range.clone());
            if range.end == END_UNKNOWN {
                let what = "an earlier start has found this";
                let ((topic, partition), offsets) = (stream, range.clone());
                let (path, position) = (path.clone(), 0);
                let range = DamagedRange { topic, partition, offsets, path, position, what };
                self.report.damaged.push(range);
            }
            let end = partition.progress.appended();
            if range.contains(&end) && range.end != END_UNKNOWN {
                partition.go_on_at(range.end);
            }
            if range.end == partition.log_start {
                partition.log_start = range.start.max(partition.start.base);
            }
        }
        self.kept_lost.insert(stream, self.lost.get(&stream).cloned().unwrap_or_default());
        Ok(())
    }

    /// Writes the lost files of partitions that lost more than those say.
    pub(super) fn write_lost(&mut self) -> Result<(), BootError> {
        for (stream, lost) in std::mem::take(&mut self.lost) {
            if self.kept_lost.get(&stream) == Some(&lost) {
                continue;
            }
            let Some(&id) = self.by_stream.get(&stream) else { continue };
            let path = FilePath::Lost { topic: stream.0, partition: stream.1 };
            let fault = |fault| BootError::Disk(path.clone(), fault);
            let partition = self.store.partition_mut(id);
            // What a life that was cut off has written is written again.
            partition.has_lost_file = true;
            self.disk.create(&path, u64_of(LOST_FILE_BYTES)).map_err(fault)?;
            let buf = self.store.alloc(&mut self.pool, BLOCK_BYTES).ok_or(BootError::Memory)?;
            let (identity, wall_ns) = (self.store.identity, self.now.wall_ns);
            let block = self.pool.bytes_mut(buf);
            let position = fill_lost(block, &lost, stream, &identity, 0, wall_ns);
            let written = self.disk.write(&path, position, &self.pool.bytes(buf)[..BLOCK_BYTES]);
            self.pool.release(buf);
            written.map_err(fault)?;
        }
        Ok(())
    }

    /// After the replay: watermarks that name more than there is, and partitions that may have
    /// had records in frames that are lost.
    pub(super) fn settle_ends(&mut self, journals: &Journals) -> Result<(), BootError> {
        let streams: Vec<_> = self.by_stream.iter().map(|(&stream, &id)| (stream, id)).collect();
        let mut settled = BTreeSet::new();
        for &(stream, id) in &streams {
            // `pelton log repair` has settled where it goes on.
            let partition = self.store.partition(id);
            let end = partition.progress.appended();
            let to = self.lost.get(&stream).and_then(|lost| lost.at(end)).map(|range| range.end);
            if let Some(to) = to.filter(|&to| to != END_UNKNOWN) {
                self.store_runs(id)?;
                self.store.partition_mut(id).go_on_at(to);
            }
            if to.is_some() || self.kept_lost.get(&stream).is_some_and(|lost| lost.ends_at(end)) {
                settled.insert(stream);
            }
            let partition = self.store.partition(id);
            let end = partition.progress.appended();
            // A start file says that there were records up to where it begins.
            let proven = self.proven.get(&stream).map_or(0, |proof| proof.offset);
            let proven = proven.max(partition.log_start);
            if proven > end && !partition.damaged.is_end_unknown() {
                let last = partition.segments.back();
                let sequence = last.map_or(0, |segment| segment.sequence);
                let at = (partition.path(sequence), last.map_or(0, |segment| segment.end));
                let what = "a watermark shows that more had been stored";
                self.lose(id, proven, at, what)?;
            }
        }
        for ring in journals.rings.iter().filter(|ring| !ring.lost.is_empty()) {
            self.settle_ring(ring, journals, &streams, &settled)?;
        }
        Ok(())
    }

    /// Frames of a shard's journal are lost: partitions of which a later frame tells are known to
    /// lack nothing more, nor do those that another shard had.
    fn settle_ring(
        &mut self,
        ring: &Ring,
        journals: &Journals,
        streams: &[((TopicId, u32), PartitionId)],
        settled: &BTreeSet<(TopicId, u32)>,
    ) -> Result<(), BootError> {
        let last = ring.lost.last().expect("checked by the caller");
        let mut accounted = BTreeSet::new();
        for other in &journals.rings {
            let is_this = other.shard == ring.shard;
            let is_wanted =
                |_: &Self, note: &super::ring::Note| !is_this || note.lsn >= last.before;
            self.visit(other, is_wanted, &mut |_, _, _, entry| {
                accounted.insert(entry.stream);
                Ok(())
            })?;
        }
        // Unless another start was cut off in between, it is known who had what.
        let shards = (journals.epoch + 1 == self.report.boot_epoch).then_some(self.shards_before);
        for &((topic, number), id) in streams {
            let is_catalog = topic == Store::CATALOG_TOPIC;
            let is_elsewhere = topic != Store::QUEUE_TOPIC
                && shards.is_some_and(|shards| owner(&topic, number, shards) != ring.shard);
            let stream = (topic, number);
            let is_known = accounted.contains(&stream) || settled.contains(&stream);
            if is_catalog || is_elsewhere || is_known {
                continue;
            }
            let end = self.store.partition(id).progress.appended();
            let at = (ring.files[last.file].clone(), last.position);
            let what = "a frame of the journal is damaged, and may have held more";
            self.end_unknown(id, end, at, what);
        }
        Ok(())
    }

    /// Keeps the journal's files in which acknowledged records are damaged: they are copied aside
    /// before they are used again.
    pub(super) fn keep_aside(&mut self, journals: &Journals) -> Result<(), BootError> {
        let epoch = self.report.boot_epoch;
        for path in &journals.damaged {
            let FilePath::Journal { shard, index } = *path else { continue };
            let aside = FilePath::Aside { epoch, shard, index };
            let length = self.files.iter().find(|file| file.path == *path).map_or(0, |f| f.bytes);
            let fault = |path: &FilePath| {
                let path = path.clone();
                move |fault| BootError::Disk(path.clone(), fault)
            };
            self.disk.create(&aside, length).map_err(fault(&aside))?;
            let buf = self.store.alloc(&mut self.pool, BUFFER_BYTES_MAX);
            let buf = buf.ok_or(BootError::Memory)?;
            let mut position = 0;
            while position < length {
                let bytes = self.pool.bytes_mut(buf);
                let got = self.disk.read(path, position, bytes).map_err(fault(path))?;
                let whole = got - got % BLOCK_BYTES;
                if whole == 0 {
                    break;
                }
                let bytes = &self.pool.bytes(buf)[..whole];
                self.disk.write(&aside, position, bytes).map_err(fault(&aside))?;
                position += u64_of(whole);
            }
            self.pool.release(buf);
        }
        Ok(())
    }

    /// No file of a topic is made before its creation is durable, and nothing of it is removed
    /// before its deletion is: if there are records of a topic that nobody knows, its creation is
    /// lost, and without it they would be dropped.
    pub(super) fn refuse_unknown_files(&self) -> Result<(), BootError> {
        for file in &self.files {
            if let FilePath::Segment { topic, .. } = &file.path
                && !self.is_known(topic)
            {
                return Err(super::journal::refused(file.path.clone(), 0, UNKNOWN_TOPIC));
            }
        }
        Ok(())
    }

    /// The same for what journals hold, where changes of the catalog may be lost.
    pub(super) fn refuse_unknown_entries(&mut self) -> Result<(), BootError> {
        let journals = std::mem::take(&mut self.journals);
        for ring in &journals.rings {
            self.visit(ring, |_, _| true, &mut |boot, path, note, entry| match entry.stream.0 {
                Store::QUEUE_TOPIC if boot.by_stream.contains_key(&entry.stream) => Ok(()),
                topic if topic != Store::QUEUE_TOPIC && boot.is_known(&topic) => Ok(()),
                _ => Err(super::journal::refused(path.clone(), note.position, UNKNOWN_TOPIC)),
            })?;
        }
        self.journals = journals;
        Ok(())
    }

    fn is_known(&self, topic: &TopicId) -> bool {
        [Store::CATALOG_TOPIC, Store::QUEUE_TOPIC].contains(topic)
            || self.catalog.topics.contains_key(topic)
            || self.deleted.contains(topic)
    }

    /// A start file cannot be read: the partition begins with its first segment, and without one
    /// nobody knows where it ends.
    pub(super) fn start_unreadable(
        &mut self,
        partition: &mut Partition,
        position: u64,
        segments: usize,
    ) {
        let path = partition.start_path();
        let what = "a slot of it is damaged; records that were deleted may be there again";
        self.report.harmless.push((path.clone(), position, what));
        partition.next_sequence = partition.next_sequence.saturating_add(SEQUENCES_SKIPPED);
        if segments > 0 {
            return;
        }
        let offsets = partition.start.base..END_UNKNOWN;
        partition.damaged.add(offsets.clone());
        let stream = (partition.topic, partition.number);
        self.lost.entry(stream).or_default().add(offsets.clone());
        let what = "it says where an empty partition goes on";
        let (topic, partition) = stream;
        let range = DamagedRange { topic, partition, offsets, path, position, what };
        self.report.damaged.push(range);
    }
}

impl Partition {
    /// Its records go on at `offset`, behind some that are lost.
    fn go_on_at(&mut self, offset: u64) {
        let end = self.progress.appended();
        if let Some(last) = self.segments.back_mut() {
            last.next_offset = Some(end);
        }
        self.writable = false;
        self.progress = Progress::at(offset);
        self.runs_written = offset;
        self.runs_stored = offset;
    }
}
