//! Reading a partition: from runs in memory, or from frames on disk.

use super::partition::{Partition, PartitionId};
use super::run::First;
use super::segment::SegmentFile;
use super::store::Store;
use crate::frame::RUN_PREFIX_BYTES;
use crate::pool::{BufId, Pool};
use crate::port::{FileSlot, Op, OpBatch, Open};
use crate::settings::FetchPath;

/// Bytes of a buffer that a reply will send; holds one reference to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The buffer.
    pub buf: BufId,
    /// First byte.
    pub at: usize,
    /// How many.
    pub len: usize,
}

/// What a reader wants of one partition.
#[derive(Debug, Clone, Copy)]
pub struct Want {
    /// First offset.
    pub offset: u64,
    /// Offset behind the last that may be shown.
    pub visible: u64,
    /// Most bytes.
    pub budget: usize,
    /// Whether one batch is taken even above the budget.
    pub first: First,
}

/// Where on disk a read begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskPlace {
    /// Which partition.
    pub partition: PartitionId,
    /// Sequence of the segment.
    pub segment: u32,
    /// Its open file.
    pub file: FileSlot,
    /// Position of a frame at or before the wanted one.
    pub position: u64,
}

/// Where an offset lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In memory.
    Memory,
    /// On disk, in an open file.
    Disk(DiskPlace),
    /// On disk, in a file that is being opened: ask again when it is.
    Opening,
    /// Nowhere it should be.
    Missing,
}

impl Store {
    /// Takes batches from memory; gives how many bytes.
    pub fn read_memory(
        &self,
        pool: &mut Pool,
        id: PartitionId,
        want: Want,
        out: &mut Vec<Part>,
    ) -> usize {
        let partition = self.partition(id);
        let first = partition.runs.partition_point(|run| run.next_offset <= want.offset);
        let mut taken = 0;
        for run in partition.runs.range(first..) {
            if run.base_offset >= want.visible {
                break;
            }
            let from = if run.base_offset >= want.offset {
                RUN_PREFIX_BYTES
            } else {
                run.locate(pool, want.offset)
            };
            let limit = run.locate(pool, want.visible);
            let first = if taken == 0 { want.first } else { First::IfItFits };
            let to = run.fit(pool, from, limit, want.budget - taken.min(want.budget), first);
            if to > from {
                pool.retain(run.buf);
                out.push(Part { buf: run.buf, at: from, len: to - from });
                taken += to - from;
            }
            if to < limit || taken >= want.budget {
                break;
            }
        }
        taken
    }

    /// Where `offset`, which is below the end, lies. Opens the segment's file if it must.
    pub fn place_of(&mut self, batch: &mut OpBatch, id: PartitionId, offset: u64) -> Place {
        let partition = self.partition(id);
        if self.is_in_memory(partition, offset) {
            return Place::Memory;
        }
        let behind = partition.segments.partition_point(|s| s.base_offset <= offset);
        let Some(index) = behind.checked_sub(1) else { return Place::Missing };
        let segment = &partition.segments[index];
        let sequence = segment.sequence;
        let file = match segment.file {
            SegmentFile::Open(file) => file,
            SegmentFile::Opening(_) => return Place::Opening,
            SegmentFile::Missing => return Place::Missing,
            SegmentFile::Closed => {
                self.reopen(batch, id, sequence);
                return Place::Opening;
            }
        };
        let hints = partition.read_hints.iter();
        let hinted = hints.filter(|&&(at, in_segment, _)| in_segment == sequence && at <= offset);
        let hinted = hinted.map(|&(_, _, position)| position).max();
        let position = segment.seek(offset).max(hinted.unwrap_or(0));
        Place::Disk(DiskPlace { partition: id, segment: sequence, file, position })
    }

    /// The first damaged offset at or behind `offset` that a reader would meet: what is in memory
    /// is whole, whatever became of it on disk.
    pub fn damaged_next(&self, id: PartitionId, offset: u64) -> Option<u64> {
        let partition = self.partition(id);
        if partition.damaged.is_empty() || self.is_in_memory(partition, offset) {
            return None;
        }
        partition.damaged.next(offset)
    }

    /// Whether `offset`, which is below the end, is served from memory.
    pub fn is_in_memory(&self, partition: &Partition, offset: u64) -> bool {
        let is_there = partition.runs.front().is_some_and(|run| run.base_offset <= offset);
        let from_disk =
            self.settings.fetch_path == FetchPath::Direct && offset < partition.runs_stored;
        is_there && !from_disk
    }

    /// Begins to open a segment's file again, if a file number is to be had.
    pub(super) fn reopen(&mut self, batch: &mut OpBatch, id: PartitionId, sequence: u32) {
        let Some(slot) = self.take_file_slot(batch) else { return };
        let partition = self.partition_mut(id);
        partition.users += 1;
        let path = partition.path(sequence);
        if let Some(segment) = partition.segment_mut(sequence) {
            segment.file = SegmentFile::Opening(slot);
        }
        self.segment_files.insert(slot, (id, sequence));
        batch.ops.push(Op::FileOpen { file: slot, path, open: Open::Existing });
    }

    /// Whether the place's file is still the segment's open one.
    pub fn is_open(&self, place: &DiskPlace) -> bool {
        let partition = self.partition(place.partition);
        let segment = partition.segments.iter().find(|s| s.sequence == place.segment);
        let open = SegmentFile::Open(place.file);
        segment.is_some_and(|segment| segment.file == open || segment.buffered == open)
    }
}
