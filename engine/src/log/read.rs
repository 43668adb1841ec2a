//! Reading a partition: from runs in memory, or from frames on disk.

use wire::Acks;
use wire::batch::Batch;

use super::partition::PartitionId;
use super::run::First;
use super::segment::{IndexEntry, SegmentFile};
use super::store::{Store, StoreTag};
use crate::frame::{EntryKind, FrameKind, FrameView, RUN_PREFIX_BYTES, Unreadable};
use crate::pool::{BufId, Pool};
use crate::port::{FileSlot, Op, OpBatch, Open};
use crate::settings::INDEX_SPACING_BYTES;
use crate::units::{u32_of, u64_of};

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

/// What came of looking through bytes read from disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scanned {
    /// Parts were taken: so many bytes.
    Taken(usize),
    /// The wanted frame begins at this position and needs this many bytes.
    ReadMore(u64, usize),
    /// The bytes are not what was written.
    Corrupt,
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
        if partition.runs.front().is_some_and(|run| run.base_offset <= offset) {
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

    /// Emits the read of `len` bytes at a place into a buffer, whose reference it uses.
    pub fn read_disk(
        &mut self,
        pool: &Pool,
        batch: &mut OpBatch,
        place: DiskPlace,
        buf: BufId,
        slot: u32,
    ) {
        let partition = self.partition_mut(place.partition);
        partition.users += 1;
        if let Some(segment) = partition.segment_mut(place.segment) {
            segment.users += 1;
        }
        self.counters.fetch_disk_reads += 1;
        batch.ops.push(Op::Read {
            file: place.file,
            tag: StoreTag::Read(slot).tag(),
            buf: pool.fill(buf),
            position: place.position,
            len: u32_of(pool.capacity(buf)),
        });
    }

    /// Whether the place's file is still the segment's open one.
    pub fn is_open(&self, place: &DiskPlace) -> bool {
        let partition = self.partition(place.partition);
        let segment = partition.segments.iter().find(|s| s.sequence == place.segment);
        segment.and_then(super::segment::Segment::open_file) == Some(place.file)
    }

    /// The read at a place has ended.
    pub fn read_ended(&mut self, place: DiskPlace) {
        let partition = self.partition_mut(place.partition);
        partition.users -= 1;
        if let Some(segment) = partition.segment_mut(place.segment) {
            segment.users -= 1;
        }
    }

    /// Looks through `got` bytes read at `place` for what is wanted.
    pub fn scan(
        &mut self,
        pool: &mut Pool,
        place: DiskPlace,
        buf: BufId,
        got: usize,
        want: Want,
        out: &mut Vec<Part>,
    ) -> Scanned {
        let broker_id = self.identity.broker_id;
        let mut at = 0;
        let mut next = want.offset;
        let mut taken = 0;
        while taken < want.budget.max(1) && next < want.visible {
            let position = place.position + u64_of(at);
            let sequence = u64::from(place.segment);
            let view = match FrameView::read(&pool.bytes(buf)[at..got], self.identity.key) {
                Ok(view) => view,
                Err(_) if taken > 0 => break,
                Err(Unreadable::Short(bytes)) if at > 0 || bytes > got => {
                    return Scanned::ReadMore(position, bytes);
                }
                Err(_) if at > 0 && at == got => return Scanned::ReadMore(position, 0),
                Err(_) => return Scanned::Corrupt,
            };
            let entry = view.parts().next();
            let belongs = view.belongs(FrameKind::Segment, &broker_id, sequence, position);
            let Some((entry, data)) = entry.filter(|_| belongs) else { return Scanned::Corrupt };
            let (base, end) = (entry.base_offset.get(), entry.next_offset());
            let (frame_bytes, data_bytes) = (view.frame_bytes(), data.len());
            if base > next {
                return if taken > 0 { break } else { Scanned::Corrupt };
            }
            if end > next {
                let first = if taken == 0 { want.first } else { First::IfItFits };
                let budget = want.budget.saturating_sub(taken);
                let Some((from, to)) = cut(data, next, want.visible, budget, first) else {
                    // Nothing of it fits behind what the reply has of other partitions.
                    if taken == 0 && first == First::IfItFits {
                        return Scanned::Taken(0);
                    }
                    break;
                };
                pool.retain(buf);
                out.push(Part { buf, at: at + RUN_PREFIX_BYTES + from, len: to - from });
                taken += to - from;
                if to < data_bytes {
                    break;
                }
                next = end;
            }
            self.learn(place, base, position);
            at += frame_bytes;
        }
        if taken == 0 {
            return Scanned::ReadMore(place.position + u64_of(at), 0);
        }
        self.remember(place, next, place.position + u64_of(at));
        Scanned::Taken(taken)
    }

    /// A frame of a segment that has no whole index was seen: the next search begins closer.
    fn learn(&mut self, place: DiskPlace, base_offset: u64, position: u64) {
        let partition = self.partition_mut(place.partition);
        let Some(segment) = partition.segment_mut(place.segment) else { return };
        if segment.indexed {
            return;
        }
        let last = segment.index.last().map(|entry| entry.position);
        if last.is_none_or(|last| position >= last + INDEX_SPACING_BYTES) {
            // Its times are not known: a search by time may not skip it.
            let max_timestamp_ms = i64::MAX;
            segment.index.push(IndexEntry { base_offset, position, max_timestamp_ms });
        }
    }

    fn remember(&mut self, place: DiskPlace, offset: u64, position: u64) {
        let partition = self.partition_mut(place.partition);
        let slot = partition.read_hint_next;
        partition.read_hints[slot] = (offset, place.segment, position);
        partition.read_hint_next = (slot + 1) % partition.read_hints.len();
    }

    /// An offset at or before the first record whose time is at or after `timestamp_ms`, with
    /// the time of what was found. Right to the batch in memory, to an index stretch on disk.
    pub fn find_time(&self, id: PartitionId, timestamp_ms: i64, acks: Acks) -> Option<u64> {
        let partition = self.partition(id);
        let visible = partition.reached(acks);
        let memory_from = partition.runs.front().map_or(u64::MAX, |run| run.base_offset);
        for segment in &partition.segments {
            if segment.base_offset >= memory_from {
                break;
            }
            if segment.index.is_empty() && !segment.indexed {
                return Some(segment.base_offset.max(partition.log_start));
            }
            let hit = segment.index.iter().find(|entry| entry.max_timestamp_ms >= timestamp_ms);
            if let Some(entry) = hit {
                let offset = entry.base_offset.max(partition.log_start);
                return (offset < visible).then_some(offset);
            }
        }
        let run = partition.runs.iter().find(|run| run.max_timestamp_ms >= timestamp_ms)?;
        (run.base_offset < visible && partition.kind == EntryKind::RecordBatch)
            .then_some(run.base_offset)
    }
}

/// The part of a frame's batches from the batch with `offset` to the last that is visible and
/// fits. `None` if there is none.
fn cut(
    data: &[u8],
    offset: u64,
    visible: u64,
    budget: usize,
    first: First,
) -> Option<(usize, usize)> {
    let mut from = None;
    let mut at = 0;
    while at < data.len() {
        let (batch, _) = Batch::split(&data[at..]).ok()?;
        if batch.next_offset() > visible {
            break;
        }
        let next = at + batch.bytes().len();
        if batch.next_offset() > offset {
            let start = *from.get_or_insert(at);
            let forced = first == First::Always && start == at;
            if next - start > budget && !forced {
                break;
            }
        }
        at = next;
    }
    from.filter(|&from| at > from).map(|from| (from, at))
}
