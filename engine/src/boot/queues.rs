//! Step 5: what has become of queues' messages: the newest whole checkpoint in each store's
//! segments, and the records behind it. What the journals hold follows as it is replayed, since
//! recovery never reads what it wrote.

use std::collections::BTreeSet;

use super::{Boot, BootError};
use crate::catalog::QueueEntry;
use crate::frame::BLOCK_BYTES;
use crate::log::partition::PartitionId;
use crate::log::store::Store;
use crate::port::Disk;
use crate::queue::queues::Queue;
use crate::queue::record::{Record, RecordKind};
use crate::queue::recover::Recovery;
use crate::units::u64_of;

use wire::queue::{QUEUE_EXCLUSIVE, QUEUE_TRANSIENT, QueueId};

/// A store as recovery found it.
#[derive(Debug)]
pub(super) struct FoundStore {
    pub(super) stream: PartitionId,
    pub(super) recovery: Recovery,
}

/// Whether a queue outlives the broker.
pub(super) fn outlives(entry: &QueueEntry) -> bool {
    !entry.settings.has(QUEUE_TRANSIENT) && !entry.settings.has(QUEUE_EXCLUSIVE)
}

impl<D: Disk> Boot<'_, D> {
    /// Finds the streams of all queue stores and where they end.
    pub(super) fn open_queue_stores(&mut self) -> Result<(), BootError> {
        let named = self.catalog.queues.values().map(|entry| entry.store);
        let mut numbers: BTreeSet<u32> = named.collect();
        // A store stays even if it has no queue: its offsets and sequences go on.
        let found = self.segments.keys().filter(|(topic, _)| *topic == Store::QUEUE_TOPIC);
        numbers.extend(found.map(|&(_, number)| number));
        for number in numbers {
            let mut stream = self.store.new_queue_stream(number);
            self.recover_segments(&mut stream)?;
            let stream = self.store.add_partition(stream);
            self.by_stream.insert((Store::QUEUE_TOPIC, number), stream);
            let recovery = Recovery::default();
            self.queue_stores.insert(number, FoundStore { stream, recovery });
        }
        Ok(())
    }

    /// Replays every store.
    pub(super) fn recover_queues(&mut self) -> Result<(), BootError> {
        let stores = self.queue_stores.iter().map(|(&number, store)| (number, store.stream));
        for (number, stream) in stores.collect::<Vec<_>>() {
            let recovery = self.recover_store(number, stream)?;
            let store = self.queue_stores.get_mut(&number).expect("just listed");
            store.recovery = recovery;
        }
        Ok(())
    }

    /// Replays a store from its newest whole checkpoint on; if all are damaged, whatever there is.
    fn recover_store(&mut self, number: u32, stream: PartitionId) -> Result<Recovery, BootError> {
        let mut before = u64::MAX;
        loop {
            let checkpoint = self.newest_checkpoint(stream, before)?;
            let log_start = self.store.partition(stream).log_start;
            let mut recovery = self.recovery_of(number);
            recovery.is_partial = checkpoint.is_none() && log_start > 0;
            self.walk_records(stream, checkpoint.unwrap_or(log_start), |offset, record| {
                recovery.replay(offset, record);
            })?;
            match checkpoint {
                Some(begin) if !recovery.has_checkpoint => before = begin,
                _ => return Ok(recovery),
            }
        }
    }

    /// The queues of a store, without messages.
    fn recovery_of(&self, number: u32) -> Recovery {
        let entries = self.catalog.queues.iter().filter(|(_, entry)| entry.store == number);
        let queue = |(&id, entry): (&QueueId, &QueueEntry)| {
            (id, Queue::new(id, entry.settings, number, self.now.time))
        };
        Recovery::of(entries.map(queue).collect())
    }

    /// Records out of a journal follow those of the segments.
    pub(super) fn replay_queue_records(&mut self, number: u32, base_offset: u64, data: &[u8]) {
        let Some(store) = self.queue_stores.get_mut(&number) else { return };
        let mut rest = data;
        let mut offset = base_offset;
        while let Some((record, tail)) = Record::split(rest) {
            store.recovery.replay(offset, &record);
            offset += 1;
            rest = tail;
        }
    }

    /// Everything is replayed.
    pub(super) fn finish_queues(&mut self) {
        for store in self.queue_stores.values_mut() {
            store.recovery.finish(self.superblock.boot_epoch.get());
            self.report.queues += store.recovery.queues.len();
            self.report.queue_messages += store.recovery.messages_alive();
            self.report.queue_records += store.recovery.records;
            self.report.queue_messages_unreadable += store.recovery.messages_lost();
        }
    }

    /// The offset at which the newest checkpoint begins that has an end and begins before `before`.
    fn newest_checkpoint(
        &mut self,
        stream: PartitionId,
        before: u64,
    ) -> Result<Option<u64>, BootError> {
        let partition = self.store.partition(stream);
        let log_start = partition.log_start;
        let sequences: Vec<u32> = partition.segments.iter().rev().map(|s| s.sequence).collect();
        for sequence in sequences {
            let mut newest = None;
            self.walk_segment(stream, sequence, &mut |_, record: &Record<'_>| {
                let begin = record.head.first.get();
                if record.kind == RecordKind::CheckpointEnd && (log_start..before).contains(&begin)
                {
                    newest = Some(begin);
                }
            })?;
            if newest.is_some() {
                return Ok(newest);
            }
        }
        Ok(None)
    }

    /// Shows every record from the offset `from` on.
    fn walk_records(
        &mut self,
        stream: PartitionId,
        from: u64,
        mut show: impl FnMut(u64, &Record<'_>),
    ) -> Result<(), BootError> {
        let partition = self.store.partition(stream);
        let first = partition.segments.partition_point(|segment| segment.base_offset <= from);
        let rest = partition.segments.iter().skip(first.saturating_sub(1));
        let sequences: Vec<u32> = rest.map(|segment| segment.sequence).collect();
        for sequence in sequences {
            self.walk_segment(stream, sequence, &mut |offset, record: &Record<'_>| {
                if offset >= from {
                    show(offset, record);
                }
            })?;
        }
        Ok(())
    }

    fn walk_segment(
        &mut self,
        stream: PartitionId,
        sequence: u32,
        show: &mut impl FnMut(u64, &Record<'_>),
    ) -> Result<(), BootError> {
        let broker_id = self.store.identity.broker_id;
        let partition = self.store.partition(stream);
        let path = partition.path(sequence);
        let found = partition.segments.iter().find(|segment| segment.sequence == sequence);
        let (end, last) = found.map_or((0, None), |segment| (segment.end, segment.next_offset));
        let place = partition.place(sequence, 0);
        let mut scanner = self.scanner(&path)?;
        let mut position = 0;
        let (mut next, mut is_whole) = (None, true);
        while position < end && (next.is_none() || next < last) {
            let fault = |fault| BootError::Disk(path.clone(), fault);
            let here = crate::frame::SegmentPlace { position, ..place };
            let frame = scanner.frame(self.disk, &mut self.pool, position).map_err(fault)?;
            let view = match frame {
                Ok(view) if view.is_at(&broker_id, &here) => view,
                Ok(_) | Err(_) => {
                    // What is damaged is left out; what follows it may be whole.
                    is_whole = false;
                    position += u64_of(BLOCK_BYTES);
                    continue;
                }
            };
            let (entry, data) = view.parts().next().expect("a segment's frame has one entry");
            let mut offset = entry.base_offset.get();
            if last.is_some_and(|last| offset >= last) {
                break;
            }
            let mut rest = data;
            while let Some((record, tail)) = Record::split(rest) {
                show(offset, &record);
                offset += 1;
                rest = tail;
            }
            next = Some(entry.next_offset());
            position += u64_of(view.frame_bytes());
        }
        scanner.close(&mut self.pool);
        if !is_whole && !self.report.queue_damage.contains(&path) {
            self.report.queue_damage.push(path);
        }
        Ok(())
    }

    /// A queue is there from now on, unless it was not to outlive the broker.
    pub(super) fn apply_queue(&mut self, id: QueueId, entry: QueueEntry) {
        if outlives(&entry) {
            self.catalog.queue_names.insert(entry.name.clone(), id);
            self.catalog.queues.insert(id, entry);
        }
    }

    /// A queue is gone.
    pub(super) fn apply_queue_gone(&mut self, id: &QueueId) {
        if let Some(entry) = self.catalog.queues.remove(id) {
            self.catalog.queue_names.remove(&entry.name);
        }
    }
}
