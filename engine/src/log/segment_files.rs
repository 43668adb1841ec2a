//! The files of segments: opened ahead of need, closed when numbers run out, and never written to
//! beyond the space reserved for them, so that a full device refuses new records up front and
//! fails no write.

use super::partition::PartitionId;
use super::run::{Run, RunState};
use super::segment::{Segment, SegmentFile};
use super::store::Store;
use crate::layout::FilePath;
use crate::port::{Fault, FileSlot, Fill, Level, Notice, Op, OpBatch, Open};
use crate::settings::{RESERVE_BYTES_MAX, RESERVE_BYTES_MIN};

impl Store {
    /// Begins to open the partition's next segment, from a spare file if there is one.
    pub(super) fn open_next(&mut self, batch: &mut OpBatch, id: PartitionId) {
        if !self.space.may_take() {
            return;
        }
        let Some(slot) = self.take_file_slot(batch) else { return };
        let spare = self.take_spare(id);
        let partition = self.partitions.get_mut(id.0).expect("checked by the caller");
        let sequence = partition.next_sequence;
        partition.next_sequence += 1;
        let mut segment = Segment::new(sequence, 0);
        segment.file = SegmentFile::Opening(slot);
        segment.is_own = true;
        partition.next = Some(Box::new(segment));
        partition.users += 1;
        let path = partition.path(sequence);
        let open = match spare {
            Some(number) => Open::Adopt { from: FilePath::Spare { number } },
            None => Open::Create,
        };
        self.segment_files.insert(slot, (id, sequence));
        batch.ops.push(Op::FileOpen { file: slot, path, open });
    }

    /// Opens the next segment while the current one still has room, so that no run waits for it.
    pub(super) fn open_ahead(&mut self, batch: &mut OpBatch, id: PartitionId) {
        let partition = self.partition(id);
        let half = partition.segment_bytes / 2;
        let late = partition.segments.back().is_some_and(|last| last.end > half);
        if late && partition.next.is_none() {
            self.open_next(batch, id);
        }
    }

    /// A file number, closing an idle file if all are taken.
    pub(crate) fn take_file_slot(&mut self, batch: &mut OpBatch) -> Option<FileSlot> {
        if let Some(slot) = self.files.take() {
            return Some(slot);
        }
        if let Some((id, sequence)) = self.idle_buffered() {
            self.close_buffered(batch, id, sequence);
            return self.files.take();
        }
        let idle = self.segment_files.iter().find_map(|(&slot, &(id, sequence))| {
            if self.files.is_fresh(slot) {
                return None;
            }
            let partition = self.partitions.get(id.0)?;
            let segment = partition.segments.iter().find(|s| s.sequence == sequence)?;
            let is_waiting =
                |state| matches!(state, RunState::Placed | RunState::Written | RunState::Proving);
            let unflushed = |run: &Run| is_waiting(run.state) && run.segment == sequence;
            let busy =
                segment.users > 0 || segment.extending || partition.runs.iter().any(unflushed);
            (segment.open_file() == Some(slot) && !busy).then_some((slot, id, sequence))
        });
        let Some((slot, id, sequence)) = idle else {
            self.files.refuse();
            return None;
        };
        self.close_segment_file(batch, id, sequence);
        debug_assert!(!self.segment_files.contains_key(&slot));
        self.files.take()
    }

    pub(crate) fn close_segment_file(
        &mut self,
        batch: &mut OpBatch,
        id: PartitionId,
        sequence: u32,
    ) {
        self.close_buffered(batch, id, sequence);
        let segment = self.partition_mut(id).segment_mut(sequence);
        let Some(segment) = segment else { return };
        let SegmentFile::Open(slot) = segment.file else { return };
        segment.file = SegmentFile::Closed;
        self.segment_files.remove(&slot);
        self.files.give(slot);
        batch.ops.push(Op::FileClose { file: slot });
    }

    /// Whether `bytes` at the end of the partition's last segment are reserved; asks for them if
    /// they are not.
    pub(super) fn has_space(&mut self, batch: &mut OpBatch, id: PartitionId, bytes: u64) -> bool {
        let partition = self.partition(id);
        let Some(last) = partition.segments.back() else { return false };
        let (sequence, end) = (last.sequence, last.end + bytes);
        let is_there = end <= last.reserved_to;
        if !is_there {
            self.reserve(batch, id, sequence, end);
        }
        is_there
    }

    /// Reserves ahead of a growing segment: the more it grows, the further.
    pub(super) fn reserve_ahead(&mut self, batch: &mut OpBatch, id: PartitionId) {
        let partition = self.partition(id);
        let Some(last) = partition.segments.back() else { return };
        let ahead = (last.end + step(last.end) / 2).min(partition.segment_bytes);
        if last.reserved_to < ahead {
            self.reserve(batch, id, last.sequence, ahead);
        }
    }

    /// Reserves for segments that were opened ahead.
    pub(super) fn reserve_wanted(&mut self, batch: &mut OpBatch) {
        if self.space.may_not_take() {
            return;
        }
        let wanting = std::mem::take(&mut self.space.wanting);
        for (id, sequence) in wanting {
            let Some(partition) = self.partitions.get_mut(id.0) else { continue };
            let grown = partition.segments.back().map_or(0, |last| last.end);
            let Some(segment) = partition.segment_mut(sequence) else { continue };
            let to = segment.end + step(grown);
            if segment.reserved_to < to {
                if self.space.may_not_take() {
                    self.space.wanting.push((id, sequence));
                } else {
                    self.reserve(batch, id, sequence, to);
                }
            }
        }
    }

    /// Asks for blocks of a segment up to at least `to`.
    fn reserve(&mut self, batch: &mut OpBatch, id: PartitionId, sequence: u32, to: u64) {
        let partition = self.partitions.get_mut(id.0).expect("checked by the caller");
        let limit = partition.segment_bytes;
        let Some(segment) = partition.segment_mut(sequence) else { return };
        let Some(file) = segment.open_file().filter(|_| !segment.extending) else { return };
        if !self.space.may_take() {
            return;
        }
        let ahead = if self.space.is_full { RESERVE_BYTES_MIN } else { step(segment.end) };
        let wanted = (segment.end + ahead).next_multiple_of(RESERVE_BYTES_MIN).min(limit);
        let (from, to) = (segment.reserved_to, wanted.max(to));
        if to <= from {
            return;
        }
        segment.extending = true;
        partition.users += 1;
        batch.ops.push(Op::FileExtend { file, from, to, fill: Fill::Reserve });
    }

    /// A segment's file was extended, or not.
    pub fn file_extended(&mut self, slot: FileSlot, to: u64, result: Result<(), Fault>) {
        let is_other = self.spare_extended(slot, result)
            || self.start_spare_zeroed(slot, result)
            || self.journal_extended(slot, result);
        if is_other {
            return;
        }
        let Some(&(id, sequence)) = self.segment_files.get(&slot) else { return };
        let partition = self.partitions.get_mut(id.0).expect("kept by its users");
        partition.users -= 1;
        let Some(segment) = partition.segment_mut(sequence) else { return };
        segment.extending = false;
        if result == Err(Fault::EROFS) {
            return self.fail(Fault::EROFS, "a segment could not be extended");
        }
        if result != Err(Fault::ENOSPC) {
            // A file system that cannot reserve says so here; writes still work, slower.
            segment.reserved_to = segment.reserved_to.max(to);
            self.space.ask();
            return self.found_space();
        }
        if !self.space.wanting.contains(&(id, sequence)) {
            self.space.wanting.push((id, sequence));
        }
        self.ran_out();
    }

    /// A segment's file was opened, or not.
    pub fn file_opened(&mut self, slot: FileSlot, result: Result<u64, Fault>) {
        self.files.opened(slot);
        let is_other = self.start_opened(slot, result)
            || self.start_spare_opened(slot, result)
            || self.spare_opened(slot, result)
            || self.buffered_opened(slot, result).is_some();
        if is_other {
            return;
        }
        let Some(&(id, sequence)) = self.segment_files.get(&slot) else {
            return self.journal_opened(slot, result);
        };
        let partition = self.partitions.get_mut(id.0).expect("kept by its users");
        partition.users -= 1;
        let last = partition.segments.back().filter(|_| partition.writable);
        let is_next = partition.next.as_ref().is_some_and(|next| next.sequence == sequence);
        let is_old = !is_next && last.is_none_or(|last| last.sequence != sequence);
        let path = partition.path(sequence);
        let Some(segment) = partition.segment_mut(sequence) else { return };
        match result {
            Ok(bytes) => {
                segment.file = SegmentFile::Open(slot);
                if segment.end == 0 {
                    // A spare comes zeroed over its whole length; a new file is empty.
                    segment.written_to = bytes;
                    segment.reserved_to = bytes;
                    if bytes == 0 {
                        self.space.wanting.push((id, sequence));
                    }
                }
            }
            Err(Fault(errno)) if is_old => {
                // Only its own readers are affected.
                segment.file = SegmentFile::Missing;
                self.segment_files.remove(&slot);
                self.files.give(slot);
                let text = format!("{path} could not be opened (errno {errno}): it is not served");
                self.notices.push(Notice { level: Level::Error, conn: None, text });
            }
            Err(Fault::ENOSPC) if is_next => {
                // It is tried again when there is space, under the same sequence: recovery takes
                // a gap, or an empty file between others, for damage.
                partition.next = None;
                partition.next_sequence = sequence;
                self.segment_files.remove(&slot);
                self.files.give(slot);
                self.ran_out();
            }
            Err(fault) => self.segment_not_opened(id, slot, sequence, fault),
        }
    }
}

/// How much is reserved at once for a segment that has grown to `bytes`.
fn step(bytes: u64) -> u64 {
    bytes.next_power_of_two().clamp(RESERVE_BYTES_MIN, RESERVE_BYTES_MAX)
}
