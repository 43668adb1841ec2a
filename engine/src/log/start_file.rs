//! What a start file says: two slots of one block, written in turns.

use wire::TopicId;
use wire::crc::crc32c;
use zerocopy::IntoBytes;

use super::store::Identity;
use crate::frame::{BLOCK_BYTES, EntryHeader, EntryKind, FrameKey, FrameKind, FrameMeta};
use crate::frame::{FrameView, HEADER_BYTES, RUN_PREFIX_BYTES, Unreadable, seal_frame};
use crate::units::{u32_of, u64_of};

/// Length of a start file.
pub const START_FILE_BYTES: usize = 2 * BLOCK_BYTES;

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

/// What a start file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StartSlots {
    /// The slot that counts, and how often the file was written; `None` if it never was.
    pub found: Option<(LogStart, u64)>,
    /// The slot at this position is damaged. Its bytes lie in one sector, which no power cut
    /// tears; which of the two was written last is not known then.
    pub damaged: Option<u64>,
}

/// Reads both slots out of the whole file. `None` if a newer version wrote it.
pub fn read_slots(
    bytes: &[u8],
    key: FrameKey,
    broker_id: &[u8; 16],
    (topic, partition): (TopicId, u32),
) -> Option<StartSlots> {
    let mut slots = StartSlots::default();
    for (slot, block) in (0u64..).zip(bytes.chunks_exact(BLOCK_BYTES).take(2)) {
        let position = slot * u64_of(BLOCK_BYTES);
        let view = match FrameView::read(block, key) {
            Ok(view) => view,
            Err(Unreadable::Blank) => continue,
            Err(Unreadable::Newer(_)) => return None,
            Err(_) => {
                slots.damaged.get_or_insert(position);
                continue;
            }
        };
        let written = view.header.file_sequence.get();
        let belongs = view.belongs(FrameKind::Start, broker_id, written, position);
        let part = view.parts().next().filter(|(entry, _)| {
            belongs
                && entry.topic == topic
                && entry.partition.get() == partition
                && entry.kind.get() == EntryKind::LogStart as u16
        });
        let start = part.and_then(|(entry, data)| decode(entry.base_offset.get(), data));
        let Some(start) = start else {
            slots.damaged.get_or_insert(position);
            continue;
        };
        if slots.found.is_none_or(|(_, writes)| writes <= written) {
            slots.found = Some((start, written + 1));
        }
    }
    Some(slots)
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
    (topic, partition): (TopicId, u32),
    identity: &Identity,
    writes: u64,
    wall_ns: u64,
) -> u64 {
    let mut data = [0; 16];
    data[..8].copy_from_slice(&u64::from(start.sequence).to_le_bytes());
    data[8..].copy_from_slice(&start.base.to_le_bytes());
    let entry = EntryHeader {
        topic,
        partition: partition.into(),
        kind: (EntryKind::LogStart as u16).into(),
        flags: 0.into(),
        base_offset: start.offset.into(),
        count: 0.into(),
        length: u32_of(data.len()).into(),
        crc: crc32c(&data).into(),
        reserved: 0.into(),
    };
    let position = writes % 2 * u64_of(BLOCK_BYTES);
    let meta = FrameMeta {
        kind: FrameKind::Start,
        key: identity.key,
        boot_epoch: identity.boot_epoch,
        broker_id: identity.broker_id,
        lsn: 0,
        watermark: 0,
        file_sequence: writes,
        position,
        wall_ns,
    };
    block[HEADER_BYTES..RUN_PREFIX_BYTES].copy_from_slice(entry.as_bytes());
    block[RUN_PREFIX_BYTES..RUN_PREFIX_BYTES + data.len()].copy_from_slice(&data);
    let length = seal_frame(block, &meta, 1, data.len());
    assert_eq!(length, BLOCK_BYTES, "a slot is one block");
    position
}

const _: () = assert!(RUN_PREFIX_BYTES + 16 <= 512, "a slot's bytes lie in one sector");

#[cfg(test)]
mod tests {
    use super::*;

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
