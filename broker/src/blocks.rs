//! Memory that is aligned for direct I/O, outside of the arena: for recovery, calibration and
//! the zeroing of files.

use engine::frame::BLOCK_BYTES;
use zerocopy::{FromBytes, Immutable, IntoBytes};

#[derive(Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C, align(4096))]
struct Block([u8; BLOCK_BYTES]);

const _: () = assert!(align_of::<Block>() == BLOCK_BYTES);

/// Whole blocks, zeroed at first.
#[derive(Debug)]
pub struct Blocks(Box<[Block]>);

impl Blocks {
    /// At least `bytes` bytes.
    pub fn zeroed(bytes: usize) -> Blocks {
        let count = bytes.div_ceil(BLOCK_BYTES);
        Blocks((0..count).map(|_| Block([0; BLOCK_BYTES])).collect())
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.as_mut_bytes()
    }
}
