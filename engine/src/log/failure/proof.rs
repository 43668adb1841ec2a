//! Reading back what was written again.

use super::super::partition::PartitionId;
use super::super::run::{Proof, RunState};
use super::super::segment::SegmentFile;
use super::super::store::{Store, StoreTag};
use crate::pool::{BufId, Pool};
use crate::port::{Fault, Op, OpBatch};
use crate::units::{u32_of, usize_of};

/// A run that is being read back.
#[derive(Debug)]
pub(super) struct ReadBack {
    pub(super) partition: PartitionId,
    base_offset: u64,
    sequence: u32,
    buf: BufId,
}

impl Store {
    /// Reads back, from the device, what was written again and is durable.
    pub fn read_back(&mut self, pool: &mut Pool, batch: &mut OpBatch) {
        if self.failed.is_some() {
            return self.failures.due.clear();
        }
        let due = std::mem::take(&mut self.failures.due);
        for (id, base_offset) in due {
            if !self.read_run_back(pool, batch, id, base_offset) {
                self.failures.due.push((id, base_offset));
            }
        }
    }

    /// False if it must be tried again.
    fn read_run_back(
        &mut self,
        pool: &mut Pool,
        batch: &mut OpBatch,
        id: PartitionId,
        base_offset: u64,
    ) -> bool {
        let Some(partition) = self.partitions.get_mut(id.0) else { return true };
        if partition.is_quieting() {
            return false;
        }
        let run = partition.run_at(base_offset).filter(|run| run.state == RunState::Proving);
        let Some(run) = run else { return true };
        let (sequence, position, bytes) = (run.segment, run.position, run.frame_bytes());
        let file = match partition.segment_mut(sequence).map(|segment| segment.file) {
            Some(SegmentFile::Open(file)) => file,
            Some(SegmentFile::Opening(_)) => return false,
            Some(SegmentFile::Closed) => {
                self.reopen(batch, id, sequence);
                return false;
            }
            Some(SegmentFile::Missing) | None => {
                self.fail(Fault::EIO, "what was written again could not be read back");
                return true;
            }
        };
        let Some(buf) = self.alloc_reply(pool, bytes) else { return false };
        let partition = self.partition_mut(id);
        partition.users += 1;
        partition.segment_mut(sequence).expect("just seen").users += 1;
        let read = ReadBack { partition: id, base_offset, sequence, buf };
        let tag = StoreTag::Proof(self.failures.reading.insert(read)).tag();
        let (buf, len) = (pool.fill(buf), u32_of(bytes));
        batch.ops.push(Op::Read { file, tag, buf, position, len });
        true
    }

    /// A run was read back, or could not be.
    pub fn was_read_back(&mut self, pool: &mut Pool, slot: u32, result: Result<u32, Fault>) {
        let Some(read) = self.failures.reading.remove(slot) else { return };
        let ReadBack { partition: id, base_offset, sequence, buf } = read;
        let partition = self.partition_mut(id);
        partition.users -= 1;
        if let Some(segment) = partition.segment_mut(sequence) {
            segment.users -= 1;
        }
        let run = partition.run_at(base_offset);
        let run = run.filter(|run| run.state == RunState::Proving && run.segment == sequence);
        let Some(run) = run else { return pool.release(buf) };
        let bytes = run.frame_bytes();
        let is_same = result.map(usize_of) == Ok(bytes)
            && pool.bytes(run.buf)[..bytes] == pool.bytes(buf)[..bytes];
        if is_same {
            run.state = RunState::Stored;
            run.proof = Proof::None;
        }
        pool.release(buf);
        if !is_same {
            let fault = result.err().unwrap_or(Fault::EIO);
            return self.fail(fault, "what was written again could not be read back");
        }
        self.counters.runs_proven += 1;
        self.settle_partition_runs(id);
    }
}
