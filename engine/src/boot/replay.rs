//! Step 6: records that are in a journal only are written to new segments.

use super::journal::{Entry, Journals};
use super::quarantine::At;
use super::ring::Note;
use super::{Boot, BootError};
use crate::frame::{EntryKind, FrameKind, FrameMeta};
use crate::layout::FilePath;
use crate::log::partition::PartitionId;
use crate::log::placement::seal_run;
use crate::log::run::RunState;
use crate::log::segment::{Newest, Segment};
use crate::log::store::BatchFacts;
use crate::port::{Disk, Sync};
use crate::settings::INDEX_SPACING_BYTES;
use crate::units::u64_of;

use super::segments::newest_time;

/// Why records in front of an entry may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gap {
    /// Frames that were durable are lost.
    Lost,
    /// They were on their way when a crash came.
    Unwritten,
}

impl<D: Disk> Boot<'_, D> {
    pub(super) fn catalog_id(&self) -> PartitionId {
        PartitionId(0)
    }

    /// Appends what the journals hold beyond the segments' ends, and stores it.
    pub(super) fn replay(&mut self, journals: &Journals) -> Result<(), BootError> {
        for ring in &journals.rings {
            // All that [`Boot::replay_entry`] would pass over is not read again.
            let is_wanted = |boot: &Self, note: &Note| {
                ring.begins.any((note.file, note.position), |entry| {
                    let id = boot.by_stream.get(&entry.stream);
                    let end = id.map(|&id| boot.store.partition(id).progress.appended());
                    end.is_some_and(|end| entry.base >= end)
                })
            };
            self.visit(ring, is_wanted, &mut |boot, path, note, entry| {
                // Unknown streams belong to topics that were deleted later on.
                let Some(&id) = boot.by_stream.get(&entry.stream) else { return Ok(()) };
                let is_lost = ring.has_lost_before(note.lsn);
                let gap = if is_lost { Gap::Lost } else { Gap::Unwritten };
                boot.replay_entry(id, &entry, (path.clone(), note.position), gap)
            })?;
        }
        self.store_all()
    }

    pub(super) fn store_all(&mut self) -> Result<(), BootError> {
        let ids: Vec<PartitionId> = self.by_stream.values().copied().collect();
        for id in ids {
            self.store_runs(id)?;
        }
        Ok(())
    }

    fn replay_entry(
        &mut self,
        id: PartitionId,
        entry: &Entry,
        at: At,
        gap: Gap,
    ) -> Result<(), BootError> {
        let partition = self.store.partition(id);
        let (kind, end) = (partition.kind, partition.progress.appended());
        if entry.base < end {
            // In its segment already.
            return Ok(());
        }
        if entry.base > end {
            let stream = (partition.topic, partition.number);
            let proven = self.proven.get(&stream).map_or(0, |proof| proof.offset);
            if gap == Gap::Unwritten && proven < entry.base {
                // Behind records that were lost before they were acknowledged, so it was not
                // acknowledged either.
                return Ok(());
            }
            let what = "records in front of it are damaged";
            self.lose(id, entry.base, at.clone(), what)?;
        }
        let Some(data) = &entry.data else {
            let what = "their checksum does not match";
            return self.lose(id, entry.next(), at, what);
        };
        let facts = BatchFacts { count: entry.count, max_timestamp_ms: newest_time(kind, data) };
        let now = self.now.time;
        if self.store.append_raw(&mut self.pool, now, id, data, facts).is_err() {
            self.store_all()?;
            let again = self.store.append_raw(&mut self.pool, now, id, data, facts);
            again.map_err(|_| BootError::Memory)?;
        }
        match kind {
            EntryKind::RecordBatch => self.report.records_replayed += u64::from(entry.count),
            EntryKind::QueueRecord => {
                let number = self.store.partition(id).number;
                self.replay_queue_records(number, entry.base, data);
            }
            _ => {}
        }
        Ok(())
    }

    /// Writes a partition's unstored runs to its segment, durably.
    pub(super) fn store_runs(&mut self, id: PartitionId) -> Result<(), BootError> {
        self.store.close_open_run(id);
        let identity = self.store.identity;
        loop {
            let partition = self.store.partition_mut(id);
            let waiting = |state: RunState| state == RunState::Sealed;
            let Some(index) = partition.runs.iter().position(|run| waiting(run.state)) else {
                break;
            };
            let base_offset = partition.runs[index].base_offset;
            let fits = partition.segments.back().is_some_and(|last| {
                last.end + u64_of(partition.runs[index].frame_bytes()) <= partition.segment_bytes
            });
            if !partition.writable || !fits {
                let sequence = partition.next_sequence;
                partition.next_sequence += 1;
                let path = partition.path(sequence);
                if let Some(last) = partition.segments.back_mut() {
                    // Where it ends before records that are lost, that is known.
                    last.next_offset.get_or_insert(base_offset);
                }
                partition.segments.push_back(Segment::new(sequence, base_offset));
                partition.writable = true;
                let created = self.disk.create(&path, 0);
                created.map_err(|fault| BootError::Disk(path, fault))?;
                continue;
            }
            let before = partition.segments.iter().rev().nth(1).map(|before| before.newest);
            let segment = partition.segments.back_mut().expect("just made");
            let before = before.filter(|_| segment.end == 0);
            let run = &mut partition.runs[index];
            run.segment = segment.sequence;
            run.position = segment.end;
            run.sync = Sync::Durable;
            let meta = FrameMeta {
                kind: FrameKind::Segment,
                key: identity.key,
                boot_epoch: identity.boot_epoch,
                broker_id: identity.broker_id,
                lsn: before.map_or(0, Newest::recorded),
                watermark: base_offset,
                file_sequence: u64::from(run.segment),
                position: run.position,
                wall_ns: self.now.wall_ns,
            };
            let bytes = run.frame_bytes();
            let times = run.max_timestamp_ms;
            segment.push(base_offset, u64_of(bytes), times, INDEX_SPACING_BYTES);
            let (position, buf) = (run.position, run.buf);
            let path = FilePath::Segment {
                topic: partition.topic,
                partition: partition.number,
                sequence: segment.sequence,
            };
            let committed = run.commit_all();
            run.state = RunState::Stored;
            seal_run(&mut self.pool, partition.topic, partition.number, partition.kind, run, &meta);
            self.store.uncommitted_bytes -= committed;
            let frame = &self.pool.bytes(buf)[..bytes];
            let written = self.disk.write(&path, position, frame);
            written.map_err(|fault| BootError::Disk(path, fault))?;
            let end = self.store.partition(id).runs[index].next_offset;
            self.store.settle_replayed(id, end, self.now.time);
        }
        // The segment stays closed until it is written to again; a new one is begun then.
        let partition = self.store.partition_mut(id);
        partition.writable = false;
        Ok(())
    }
}
