//! What a start file says: two slots of one block, written in turns.

use wire::TopicId;

use super::slots::{SLOTS_BYTES, SlotKind, Slots};
use super::store::Identity;
use crate::frame::{EntryKind, FrameKey, FrameKind, RUN_PREFIX_BYTES};

/// Length of a start file.
pub const START_FILE_BYTES: usize = SLOTS_BYTES;

const KIND: SlotKind = SlotKind { frame: FrameKind::Start, entry: EntryKind::LogStart };

/// Where a partition begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogStart {
    /// Offset of the oldest record.
    pub offset: u64,
    /// Segments with a lower sequence are no part of the partition.
    pub sequence: u32,
    /// Where the records of the first segment kept begin, at or before `offset`.
    pub base: u64,
}

/// What a start file says. The bytes of a slot lie in one sector, which no power cut tears.
pub type StartSlots = Slots<LogStart>;

/// Reads both slots out of the whole file. `None` if a newer version wrote it.
pub fn read_slots(
    bytes: &[u8],
    key: FrameKey,
    broker_id: &[u8; 16],
    stream: (TopicId, u32),
) -> Option<StartSlots> {
    KIND.read(bytes, key, broker_id, stream, decode)
}

fn decode(offset: u64, data: &[u8]) -> Option<LogStart> {
    let (sequence, base) = data.split_first_chunk::<8>()?;
    let sequence = u32::try_from(u64::from_le_bytes(*sequence)).ok()?;
    let base = u64::from_le_bytes(base.try_into().ok()?);
    (base <= offset).then_some(LogStart { offset, sequence, base })
}

/// Lays the block that is written next into `block`, for a file written `writes` times. Gives its
/// position in the file.
pub fn fill_slot(
    block: &mut [u8],
    start: &LogStart,
    stream: (TopicId, u32),
    identity: &Identity,
    writes: u64,
    wall_ns: u64,
) -> u64 {
    let mut data = [0; 16];
    data[..8].copy_from_slice(&u64::from(start.sequence).to_le_bytes());
    data[8..].copy_from_slice(&start.base.to_le_bytes());
    KIND.fill(block, stream, (start.offset, &data), identity, (writes, wall_ns))
}

const _: () = assert!(RUN_PREFIX_BYTES + 16 <= 512, "a slot's bytes lie in one sector");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::BLOCK_BYTES;
    use crate::units::u64_of;

    const STREAM: (TopicId, u32) = ([4; 16], 2);

    fn identity() -> Identity {
        Identity { broker_id: [3; 16], key: FrameKey(9), boot_epoch: 1 }
    }

    fn read(file: &[u8]) -> StartSlots {
        let slots = read_slots(file, identity().key, &identity().broker_id, STREAM);
        slots.expect("this version")
    }

    #[test]
    fn the_slot_written_last_counts_and_damage_is_noticed() {
        let mut file = vec![0; START_FILE_BYTES];
        assert_eq!(read(&file), StartSlots::default());
        assert_eq!(read(&[]), StartSlots::default());
        for writes in 0..3 {
            let start = LogStart { offset: 10 + writes, sequence: 1, base: 7 };
            let mut block = vec![0; BLOCK_BYTES];
            let position = fill_slot(&mut block, &start, STREAM, &identity(), writes, 5);
            let at = usize::try_from(position).expect("small");
            file[at..at + BLOCK_BYTES].copy_from_slice(&block);
            let found = Some((start, writes + 1));
            assert_eq!(read(&file), StartSlots { found, damaged: None });
        }
        let other = read_slots(&file, identity().key, &[3; 16], ([4; 16], 3));
        let damaged = Some(StartSlots { found: None, damaged: Some(0) });
        assert_eq!(other, damaged, "another partition's");
        file[BLOCK_BYTES + 150] ^= 1;
        let found = Some((LogStart { offset: 12, sequence: 1, base: 7 }, 3));
        let damaged = Some(u64_of(BLOCK_BYTES));
        assert_eq!(read(&file), StartSlots { found, damaged }, "the other slot is enough");
    }
}
