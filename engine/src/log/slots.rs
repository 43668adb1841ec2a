//! Small files of a partition: two slots of one block that take turns, so that one is whole
//! whatever happens to the other.

use wire::TopicId;
use wire::crc::crc32c;
use zerocopy::IntoBytes;

use super::store::Identity;
use crate::frame::{BLOCK_BYTES, EntryHeader, EntryKind, FrameKey, FrameKind, FrameMeta};
use crate::frame::{FrameView, HEADER_BYTES, RUN_PREFIX_BYTES, Unreadable, seal_frame};
use crate::units::{u32_of, u64_of};

/// Length of such a file.
pub const SLOTS_BYTES: usize = 2 * BLOCK_BYTES;

/// What a file of two slots says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slots<T> {
    /// What the slot that counts says, and how often the file was written; `None` if it never was.
    pub found: Option<(T, u64)>,
    /// The slot at this position is damaged; which of the two was written last is not known then.
    pub damaged: Option<u64>,
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots { found: None, damaged: None }
    }
}

/// What a slot's frame says that it is, and its only entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlotKind {
    pub frame: FrameKind,
    pub entry: EntryKind,
}

impl SlotKind {
    /// Reads both slots out of the whole file; `decode` is given an entry's offset and data.
    /// `None` if a newer version wrote it.
    pub fn read<T>(
        self,
        bytes: &[u8],
        key: FrameKey,
        broker_id: &[u8; 16],
        (topic, partition): (TopicId, u32),
        decode: impl Fn(u64, &[u8]) -> Option<T>,
    ) -> Option<Slots<T>> {
        let mut slots = Slots::default();
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
            let belongs = view.belongs(self.frame, broker_id, written, position);
            let part = view.parts().next().filter(|(entry, _)| {
                belongs
                    && entry.topic == topic
                    && entry.partition.get() == partition
                    && entry.kind.get() == self.entry as u16
            });
            let said = part.and_then(|(entry, data)| decode(entry.base_offset.get(), data));
            let Some(said) = said else {
                slots.damaged.get_or_insert(position);
                continue;
            };
            if slots.found.as_ref().is_none_or(|(_, writes)| *writes <= written) {
                slots.found = Some((said, written + 1));
            }
        }
        Some(slots)
    }

    /// Lays the block that is written next into `block`, for a file written `writes` times. Gives
    /// its position in the file.
    pub fn fill(
        self,
        block: &mut [u8],
        (topic, partition): (TopicId, u32),
        (base_offset, data): (u64, &[u8]),
        identity: &Identity,
        (writes, wall_ns): (u64, u64),
    ) -> u64 {
        let entry = EntryHeader {
            topic,
            partition: partition.into(),
            kind: (self.entry as u16).into(),
            flags: 0.into(),
            base_offset: base_offset.into(),
            count: 0.into(),
            length: u32_of(data.len()).into(),
            crc: crc32c(data).into(),
            reserved: 0.into(),
        };
        let position = writes % 2 * u64_of(BLOCK_BYTES);
        let meta = FrameMeta {
            kind: self.frame,
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
        block[RUN_PREFIX_BYTES..RUN_PREFIX_BYTES + data.len()].copy_from_slice(data);
        let length = seal_frame(block, &meta, 1, data.len());
        assert_eq!(length, BLOCK_BYTES, "a slot is one block");
        position
    }
}
