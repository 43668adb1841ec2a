//! What a `lost` file says: offsets of a partition that are lost for good, though they had been
//! acknowledged. Recovery writes it where nothing else on disk would tell the next start, and
//! `pelton log repair` does. Two slots of one block take turns.

use std::ops::Range;

use wire::TopicId;

use super::damage::Damaged;
use super::slots::{SLOTS_BYTES, SlotKind, Slots};
use super::store::Identity;
use crate::frame::{BLOCK_BYTES, EntryKind, FrameKey, FrameKind, RUN_PREFIX_BYTES};

/// Length of a lost file.
pub const LOST_FILE_BYTES: usize = SLOTS_BYTES;
/// Bytes of one range: its two ends.
const RANGE_BYTES: usize = 16;
/// Most ranges of one file; more are joined with their neighbours, whatever lies between.
pub const LOST_RANGES_MAX: usize = (BLOCK_BYTES - RUN_PREFIX_BYTES) / RANGE_BYTES;

const KIND: SlotKind = SlotKind { frame: FrameKind::Lost, entry: EntryKind::Lost };

/// What a lost file says: ranges of offsets.
pub type LostSlots = Slots<Vec<Range<u64>>>;

/// Reads both slots out of the whole file. `None` if a newer version wrote it.
pub fn read_lost(
    bytes: &[u8],
    key: FrameKey,
    broker_id: &[u8; 16],
    stream: (TopicId, u32),
) -> Option<LostSlots> {
    KIND.read(bytes, key, broker_id, stream, |_, data| Some(decode(data)))
}

fn decode(data: &[u8]) -> Vec<Range<u64>> {
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    let rows = data.chunks_exact(RANGE_BYTES);
    rows.map(|row| number(&row[..8])..number(&row[8..])).collect()
}

/// Lays the block that is written next into `block`, for a file written `writes` times. Gives its
/// position in the file.
pub fn fill_lost(
    block: &mut [u8],
    lost: &Damaged,
    stream: (TopicId, u32),
    identity: &Identity,
    writes: u64,
    wall_ns: u64,
) -> u64 {
    let ranges = joined(lost.ranges());
    let data: Vec<u8> = ranges
        .iter()
        .flat_map(|range| [range.start, range.end])
        .flat_map(u64::to_le_bytes)
        .collect();
    let first = ranges.first().map_or(0, |range| range.start);
    KIND.fill(block, stream, (first, &data), identity, (writes, wall_ns))
}

/// As many ranges as a file holds: those beyond are joined into the last.
fn joined(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut kept: Vec<_> = ranges.iter().take(LOST_RANGES_MAX).cloned().collect();
    if let (Some(last), Some(end)) = (kept.last_mut(), ranges.last()) {
        last.end = end.end;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::damage::END_UNKNOWN;

    const STREAM: (TopicId, u32) = ([4; 16], 2);

    fn identity() -> Identity {
        Identity { broker_id: [3; 16], key: FrameKey(9), boot_epoch: 1 }
    }

    fn read(file: &[u8]) -> LostSlots {
        read_lost(file, identity().key, &identity().broker_id, STREAM).expect("this version")
    }

    fn write(file: &mut [u8], lost: &Damaged, writes: u64) {
        let mut block = vec![0; BLOCK_BYTES];
        let position = fill_lost(&mut block, lost, STREAM, &identity(), writes, 5);
        let at = usize::try_from(position).expect("small");
        file[at..at + BLOCK_BYTES].copy_from_slice(&block);
    }

    #[test]
    fn the_slot_written_last_counts_and_the_other_is_enough() {
        let mut file = vec![0; LOST_FILE_BYTES];
        assert_eq!(read(&file), LostSlots::default());
        let mut lost = Damaged::default();
        for writes in 0..3 {
            lost.add(10 * writes..10 * writes + 5);
            write(&mut file, &lost, writes);
            let found = Some((lost.ranges().to_vec(), writes + 1));
            assert_eq!(read(&file), LostSlots { found, damaged: None });
        }
        file[150] ^= 1;
        let slots = read(&file);
        assert_eq!(slots.damaged, Some(0));
        assert_eq!(slots.found, Some((vec![0..5, 10..15], 2)), "the one before it");
    }

    #[test]
    fn too_many_ranges_lose_nothing_that_is_lost() {
        let mut file = vec![0; LOST_FILE_BYTES];
        let mut lost = Damaged::default();
        for index in 0..1000 {
            lost.add(10 * index..10 * index + 5);
        }
        lost.add(20_000..END_UNKNOWN);
        write(&mut file, &lost, 0);
        let (ranges, _) = read(&file).found.expect("written");
        assert_eq!(ranges.len(), LOST_RANGES_MAX);
        assert_eq!(ranges.last().map(|last| last.end), Some(END_UNKNOWN));
    }
}
