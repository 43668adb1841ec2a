//! Step 5: records that are in a journal only are written to new segments.

use super::journal::Journals;
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

impl<D: Disk> Boot<'_, D> {
    pub(super) fn catalog_id(&self) -> PartitionId {
        PartitionId(0)
    }

    /// Appends what the journals hold beyond the segments' ends, and stores it.
    pub(super) fn replay(&mut self, journals: &Journals) -> Result<(), BootError> {
        for (path, end) in &journals.live {
            // The next file's window needs memory, and runs that are not stored keep theirs.
            if self.pool.free_bytes() < 4 * crate::pool::BUFFER_BYTES_MAX {
                self.store_all()?;
            }
            self.replay_file(path, *end)?;
        }
        self.store_all()
    }

    fn store_all(&mut self) -> Result<(), BootError> {
        let ids: Vec<PartitionId> = self.by_stream.values().copied().collect();
        for id in ids {
            self.store_runs(id)?;
        }
        Ok(())
    }

    fn replay_file(&mut self, path: &FilePath, end: u64) -> Result<(), BootError> {
        let mut scanner = self.scanner(path)?;
        let drained = self.superblock.drained_lsn.get();
        let mut position = 0;
        while position < end {
            let fault = |fault| BootError::Disk(path.clone(), fault);
            let frame = scanner.frame(self.disk, &mut self.pool, position).map_err(fault)?;
            let Ok(view) = frame else {
                let what = "a frame that was whole a moment ago is not any more";
                return Err(BootError::Corrupt(path.clone(), position, what));
            };
            let lsn = view.header.lsn.get();
            let entries: Vec<_> = view
                .parts()
                .filter(|(entry, _)| lsn > drained && entry.count.get() > 0)
                .map(|(entry, data)| (*entry, data.to_vec()))
                .collect();
            position += u64_of(view.frame_bytes());
            for (entry, data) in entries {
                let stream = (entry.topic, entry.partition.get());
                // Unknown streams belong to topics that were deleted later on.
                let Some(&id) = self.by_stream.get(&stream) else { continue };
                self.replay_entry(id, entry.base_offset.get(), entry.count.get(), &data)?;
            }
        }
        scanner.close(&mut self.pool);
        Ok(())
    }

    fn replay_entry(
        &mut self,
        id: PartitionId,
        base_offset: u64,
        count: u32,
        data: &[u8],
    ) -> Result<(), BootError> {
        let partition = self.store.partition(id);
        let kind = partition.kind;
        // Below: in its segment already. Above: behind records that were lost before they were
        // acknowledged, so it was not acknowledged either.
        if base_offset != partition.progress.appended() {
            return Ok(());
        }
        let facts = BatchFacts { count, max_timestamp_ms: newest_time(kind, data) };
        let now = self.now.time;
        if self.store.append_raw(&mut self.pool, now, id, data, facts).is_err() {
            self.store_all()?;
            let again = self.store.append_raw(&mut self.pool, now, id, data, facts);
            again.map_err(|_| BootError::Memory)?;
        }
        if kind == EntryKind::RecordBatch {
            self.report.records_replayed += u64::from(count);
        }
        Ok(())
    }

    /// Writes a partition's unstored runs to its segment, durably.
    fn store_runs(&mut self, id: PartitionId) -> Result<(), BootError> {
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
                    last.next_offset = Some(base_offset);
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
