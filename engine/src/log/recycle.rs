//! Files that have served as a segment become spares: the next segment that takes one over writes
//! into blocks that were written before, and its durable runs need no transaction of the file
//! system.
//!
//! Only a file whose every byte was written in this life, and which was never sent out of the
//! page cache, is taken. Frames of its earlier life stay in it; they belong to no later segment,
//! since a segment's place (topic, partition, sequence) is never used twice.
//!
//! ```text
//!  retired ──► renamed to spare/NUMBER.seg ──► zeros behind its last frame ──► closed: a spare
//! ```

use std::collections::VecDeque;

use super::partition::PartitionId;
use super::segment::Segment;
use super::slab::Slab;
use super::store::{Store, StoreTag};
use crate::frame::EntryKind;
use crate::layout::FilePath;
use crate::port::{Fault, FileSlot, Fill, Op, OpBatch, Open};
use crate::settings::Settings;

/// A file is only recycled if no more than this share of it has to be zeroed: 1/4.
const ZEROED_SHARE: u64 = 4;

/// Spare files, and those that become spares.
#[derive(Debug, Default)]
pub struct Spares {
    free: VecDeque<u32>,
    becoming: Slab<Becoming>,
    /// A number that no file has; the next one of this shard is `shards` higher.
    next_number: u32,
}

/// A file that becomes a spare.
#[derive(Debug)]
struct Becoming {
    number: u32,
    from: FilePath,
    file: FileSlot,
    /// Position behind its last frame.
    written_to: u64,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Renaming,
    /// Open under its new name, so long.
    Renamed(u64),
    NotRenamed,
    Zeroing,
    Zeroed(Result<(), Fault>),
}

impl Spares {
    /// A shard's share of the spares that recovery found.
    pub fn of_shard(found: &[u32], settings: &Settings) -> Spares {
        let (shard, shards) = (u32::from(settings.shard), u32::from(settings.shards));
        let free = found.iter().copied().filter(|number| number % shards == shard).collect();
        let above = found.iter().max().map_or(0, |last| (last / shards + 1) * shards);
        Spares { free, becoming: Slab::default(), next_number: above + shard }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.free.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.free.is_empty()
    }

    /// The paths of all of them: none is left.
    pub(super) fn take_all(&mut self) -> Vec<FilePath> {
        self.free.drain(..).map(|number| FilePath::Spare { number }).collect()
    }

    fn slot_of(&self, file: FileSlot) -> Option<u32> {
        self.becoming.iter().find(|(_, becoming)| becoming.file == file).map(|(slot, _)| slot)
    }
}

impl Store {
    /// A spare for the partition's next segment, if one is fit for it.
    pub(super) fn take_spare(&mut self, id: PartitionId) -> Option<u32> {
        let partition = self.partition(id);
        // The catalog is read to the end of its files: they hold nothing but its frames.
        let is_fit = partition.kind == EntryKind::RecordBatch
            && self.settings.segment_bytes <= partition.segment_bytes;
        if is_fit { self.spares.free.pop_front() } else { None }
    }

    /// Begins to make a spare of a closed file that nothing names any more. False if it is not
    /// fit, or there are enough.
    pub(super) fn recycle(
        &mut self,
        batch: &mut OpBatch,
        path: &FilePath,
        segment: &Segment,
    ) -> bool {
        let bytes = self.settings.segment_bytes;
        let is_fit = segment.is_own
            && !segment.was_buffered
            && !segment.has_failed
            && segment.end <= bytes
            && bytes - segment.end <= bytes / ZEROED_SHARE;
        let count = self.spares.free.len() + self.spares.becoming.len();
        let has_room = u64::try_from(count + 1).unwrap_or(u64::MAX).saturating_mul(bytes)
            <= self.settings.recycle_bytes;
        if !is_fit || !has_room || self.failed.is_some() || self.space.is_short() {
            return false;
        }
        let Some(file) = self.files.take() else { return false };
        let number = self.spares.next_number;
        self.spares.next_number += u32::from(self.settings.shards);
        let (from, written_to) = (path.clone(), segment.end);
        let phase = Phase::Renaming;
        self.spares.becoming.insert(Becoming { number, from, file, written_to, phase });
        let open = Open::Adopt { from: path.clone() };
        batch.ops.push(Op::FileOpen { file, path: FilePath::Spare { number }, open });
        true
    }

    /// Whether it is a file that becomes a spare; then it was renamed, or not.
    pub(super) fn spare_opened(&mut self, file: FileSlot, result: Result<u64, Fault>) -> bool {
        let Some(slot) = self.spares.slot_of(file) else { return false };
        let becoming = self.spares.becoming.get_mut(slot).expect("found just now");
        becoming.phase = result.map_or(Phase::NotRenamed, Phase::Renamed);
        true
    }

    /// Whether it is a file that becomes a spare; then its end was zeroed, or not.
    pub(super) fn spare_extended(&mut self, file: FileSlot, result: Result<(), Fault>) -> bool {
        let Some(slot) = self.spares.slot_of(file) else { return false };
        let becoming = self.spares.becoming.get_mut(slot).expect("found just now");
        becoming.phase = Phase::Zeroed(result);
        true
    }

    /// Goes on with the files that become spares.
    pub fn make_spares(&mut self, batch: &mut OpBatch) {
        let bytes = self.settings.segment_bytes;
        let slots: Vec<u32> = self.spares.becoming.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let becoming = self.spares.becoming.get_mut(slot).expect("listed just now");
            let file = becoming.file;
            match becoming.phase {
                Phase::Renaming | Phase::Zeroing => {}
                Phase::Renamed(length) if length <= bytes => {
                    becoming.phase = Phase::Zeroing;
                    let (from, to) = (becoming.written_to, bytes);
                    batch.ops.push(Op::FileExtend { file, from, to, fill: Fill::Zero });
                }
                Phase::Zeroed(Ok(())) => {
                    let number = becoming.number;
                    self.end_spare(batch, slot);
                    self.spares.free.push_back(number);
                    self.counters.segments_recycled += 1;
                }
                Phase::NotRenamed => {
                    let becoming = self.spares.becoming.remove(slot).expect("just seen");
                    self.files.give(file);
                    self.delete_instead(batch, becoming);
                }
                Phase::Renamed(_) | Phase::Zeroed(Err(_)) => {
                    if let Some(becoming) = self.end_spare(batch, slot) {
                        self.delete_instead(batch, becoming);
                    }
                }
            }
        }
    }

    fn end_spare(&mut self, batch: &mut OpBatch, slot: u32) -> Option<Becoming> {
        let becoming = self.spares.becoming.remove(slot)?;
        self.files.give(becoming.file);
        batch.ops.push(Op::FileClose { file: becoming.file });
        Some(becoming)
    }

    fn delete_instead(&mut self, batch: &mut OpBatch, becoming: Becoming) {
        let paths = vec![becoming.from, FilePath::Spare { number: becoming.number }];
        batch.ops.push(Op::FilesDelete { tag: StoreTag::Delete.tag(), paths });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_what_is_there_and_never_a_number() {
        let found = [3, 4, 7, 8];
        let of = |shard| {
            let settings = Settings { shard, shards: 3, ..Settings::tiny() };
            Spares::of_shard(&found, &settings)
        };
        let shares: Vec<Vec<u32>> = (0..3).map(|shard| of(shard).free.into()).collect();
        assert_eq!(shares, [vec![3], vec![4, 7], vec![8]]);
        let next: Vec<u32> = (0..3).map(|shard| of(shard).next_number).collect();
        assert_eq!(next, [9, 10, 11], "above all, and each shard in steps of three");
        assert_eq!(Spares::of_shard(&[], &Settings::tiny()).next_number, 0);
    }
}
