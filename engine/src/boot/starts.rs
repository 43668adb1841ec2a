//! Where partitions begin: their start files, read before their segments.

use wire::TopicId;

use super::{Boot, BootError};
use crate::layout::FilePath;
use crate::log::cursors::Progress;
use crate::log::partition::Partition;
use crate::log::start::Start;
use crate::log::start_file::{START_FILE_BYTES, StartSlots, read_slots};
use crate::port::Disk;

impl<D: Disk> Boot<'_, D> {
    /// Takes over what the partition's start file says, and deletes the segments among
    /// `sequences` that it says are gone.
    pub(super) fn recover_start(
        &mut self,
        partition: &mut Partition,
        sequences: &mut Vec<(u32, u64)>,
    ) -> Result<(), BootError> {
        let path = partition.start_path();
        if !self.slots.contains(&path) {
            return Ok(());
        }
        let stream = (partition.topic, partition.number);
        let slots = self.read_start(&path, stream)?;
        let Some((start, writes)) = slots.found else {
            // It was created and not written: nothing was promised.
            partition.start = Start::blank(partition.start.base);
            if let Some(position) = slots.damaged {
                self.start_unreadable(partition, position, sequences.len());
            }
            return Ok(());
        };
        partition.start = Start::found(start, writes);
        partition.log_start = start.offset;
        partition.next_sequence = partition.next_sequence.max(start.sequence);
        partition.progress = Progress::at(start.base);
        partition.runs_written = start.base;
        partition.runs_stored = start.base;
        for &(sequence, _) in sequences.iter().filter(|(other, _)| *other < start.sequence) {
            let path = partition.path(sequence);
            self.disk.delete(&path).map_err(|fault| BootError::Disk(path, fault))?;
        }
        sequences.retain(|&(sequence, _)| sequence >= start.sequence);
        if let Some(position) = slots.damaged {
            self.start_unreadable(partition, position, sequences.len());
        }
        Ok(())
    }

    fn read_start(
        &mut self,
        path: &FilePath,
        stream: (TopicId, u32),
    ) -> Result<StartSlots, BootError> {
        let buf = self.store.alloc(&mut self.pool, START_FILE_BYTES).ok_or(BootError::Memory)?;
        let read = self.disk.read(path, 0, self.pool.bytes_mut(buf));
        let identity = self.store.identity;
        let slots = read.map(|got| {
            let bytes = &self.pool.bytes(buf)[..got];
            read_slots(bytes, identity.key, &identity.broker_id, stream)
        });
        self.pool.release(buf);
        match slots {
            Err(fault) => Err(BootError::Disk(path.clone(), fault)),
            Ok(None) => Err(BootError::Newer(path.clone())),
            Ok(Some(slots)) => Ok(slots),
        }
    }
}
