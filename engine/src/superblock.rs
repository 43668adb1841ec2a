//! The superblock: who this data directory belongs to, how often it was started, and up to
//! where its journals have been drained. Two slots of one block; the newer whole one counts, the
//! older is overwritten, so a torn write loses nothing.

use wire::crc::crc32c;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::frame::{BLOCK_BYTES, FORMAT_VERSION};

/// First four bytes of a slot.
pub const SUPERBLOCK_MAGIC: u32 = u32::from_le_bytes(*b"PLSB");
/// Bytes of the file.
pub const SUPERBLOCK_BYTES: u64 = 2 * 4096;

/// One slot, in the first bytes of its block; the rest is zero.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Superblock {
    /// [`SUPERBLOCK_MAGIC`].
    pub magic: U32,
    /// [`FORMAT_VERSION`].
    pub version: U16,
    /// Shards of the last start.
    pub shards: U16,
    /// Features without which nothing can be read: an unknown bit is refused.
    pub features_incompatible: U32,
    /// Starts so far.
    pub boot_epoch: U32,
    /// Grows with every write of the superblock.
    pub sequence: U64,
    /// The broker's id, made at the first start.
    pub broker_id: [u8; 16],
    /// Journal frames up to this log sequence number are in their segments.
    pub drained_lsn: U64,
    /// What every frame's checksum begins with; made at the first start, told to nobody.
    pub frame_key: U64,
    /// Zero.
    pub reserved: [u8; 4],
    /// CRC32C of all bytes before it.
    pub crc: U32,
}

const _: () = assert!(size_of::<Superblock>() == 64);

/// What the two slots say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Neither was ever written.
    Blank,
    /// The newest whole one.
    Whole(Superblock),
    /// Something is there, but no slot is whole.
    Damaged,
    /// Written by a newer format.
    Newer,
}

impl Superblock {
    /// The first superblock of a data directory.
    pub fn first(broker_id: [u8; 16], frame_key: u64, shards: u16) -> Superblock {
        Superblock {
            magic: SUPERBLOCK_MAGIC.into(),
            version: FORMAT_VERSION.into(),
            shards: shards.into(),
            features_incompatible: 0.into(),
            boot_epoch: 0.into(),
            sequence: 0.into(),
            broker_id,
            drained_lsn: 0.into(),
            frame_key: frame_key.into(),
            reserved: [0; 4],
            crc: 0.into(),
        }
    }

    /// Reads both slots out of the whole file.
    pub fn read(file: &[u8]) -> Found {
        let mut found = Found::Blank;
        for slot in file.chunks(BLOCK_BYTES).take(2) {
            let Ok((slot, _)) = Superblock::read_from_prefix(slot) else { continue };
            if slot.as_bytes().iter().all(|&byte| byte == 0) {
                continue;
            }
            let whole = crc32c(&slot.as_bytes()[..60]) == slot.crc.get();
            if !whole || slot.magic.get() != SUPERBLOCK_MAGIC {
                if found == Found::Blank {
                    found = Found::Damaged;
                }
                continue;
            }
            if slot.version.get() != FORMAT_VERSION || slot.features_incompatible.get() != 0 {
                return Found::Newer;
            }
            match found {
                Found::Whole(other) if other.sequence.get() > slot.sequence.get() => {}
                _ => found = Found::Whole(slot),
            }
        }
        found
    }

    /// Where a slot lies that holds something and is not whole.
    pub fn damaged_slot(file: &[u8]) -> Option<u64> {
        let slots = (0..).step_by(BLOCK_BYTES).zip(file.chunks(BLOCK_BYTES).take(2));
        let mut damaged = slots.filter(|(_, slot)| Superblock::read(slot) == Found::Damaged);
        damaged.next().map(|(position, _)| position)
    }

    /// The block to write and its position in the file: slots take turns by sequence.
    pub fn block(&self) -> ([u8; BLOCK_BYTES], u64) {
        let mut sealed = *self;
        sealed.crc = crc32c(&sealed.as_bytes()[..60]).into();
        let mut block = [0; BLOCK_BYTES];
        block[..size_of::<Superblock>()].copy_from_slice(sealed.as_bytes());
        let position = if self.sequence.get().is_multiple_of(2) { 0 } else { 4096 };
        (block, position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_slot_leaves_the_other() {
        let mut file = vec![0; 2 * BLOCK_BYTES];
        assert_eq!(Superblock::read(&file), Found::Blank);
        let mut superblock = Superblock::first([9; 16], 5, 1);
        for sequence in 1..=3u64 {
            superblock.sequence = sequence.into();
            superblock.boot_epoch = u32::try_from(sequence).expect("small").into();
            let (block, position) = superblock.block();
            let at = usize::try_from(position).expect("small");
            file[at..at + BLOCK_BYTES].copy_from_slice(&block);
            let Found::Whole(read) = Superblock::read(&file) else { panic!("whole") };
            assert_eq!(read.sequence.get(), sequence);
        }
        // Slot 1 holds the newest (3): tear it, and the one before counts.
        file[4096 + 20] ^= 1;
        let Found::Whole(read) = Superblock::read(&file) else { panic!("whole") };
        assert_eq!(read.boot_epoch.get(), 2);
        file[10] ^= 1;
        assert_eq!(Superblock::read(&file), Found::Damaged);
    }
}
