//! Memory for direct I/O, outside of the arena: for recovery, calibration and the zeroing of files.

use memmap2::{Advice, MmapMut};

use engine::frame::BLOCK_BYTES;

/// A huge page. The block layer cuts a large read into small pages, one by one scattered over
/// memory, into several requests; one into a huge page it need not cut.
pub const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Whole blocks, zeroed at first, from the beginning of a page on; of a huge one if they fill one
/// and the kernel has them.
#[derive(Debug)]
pub struct Blocks {
    map: MmapMut,
    from: usize,
    len: usize,
}

impl Blocks {
    /// At least `bytes` bytes.
    ///
    /// # Panics
    /// There is no memory.
    pub fn zeroed(bytes: usize) -> Blocks {
        let len = bytes.next_multiple_of(BLOCK_BYTES);
        let huge = len >= HUGE_PAGE_BYTES;
        let spare = if huge { HUGE_PAGE_BYTES } else { 0 };
        let map = MmapMut::map_anon(len + spare).expect("memory for blocks");
        let from = if huge { map.as_ptr().align_offset(HUGE_PAGE_BYTES) } else { 0 };
        if huge {
            // A kernel that refuses costs speed only.
            let _ = map.advise(Advice::HugePage);
        }
        Blocks { map, from, len }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.map[self.from..][..self.len]
    }

    /// The bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.map[self.from..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_whole_zeroed_and_begin_with_a_page() {
        for (bytes, len, page) in [
            (1, BLOCK_BYTES, BLOCK_BYTES),
            (2 * BLOCK_BYTES, 2 * BLOCK_BYTES, BLOCK_BYTES),
            (HUGE_PAGE_BYTES, HUGE_PAGE_BYTES, HUGE_PAGE_BYTES),
            (2 * HUGE_PAGE_BYTES + 1, 2 * HUGE_PAGE_BYTES + BLOCK_BYTES, HUGE_PAGE_BYTES),
        ] {
            let mut blocks = Blocks::zeroed(bytes);
            assert_eq!((blocks.bytes().len(), blocks.bytes_mut().len()), (len, len));
            assert_eq!(blocks.bytes().as_ptr().align_offset(page), 0, "{bytes}");
            assert!(blocks.bytes().iter().all(|&byte| byte == 0));
        }
    }
}
