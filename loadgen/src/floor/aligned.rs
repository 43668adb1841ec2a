//! Aligned bytes for direct I/O, in huge pages where the kernel has them: a buffer of many small
//! pages is many segments to the block layer, which cuts large requests into several, and a limit
//! must not be slower than what it limits.
#![allow(unsafe_code, reason = "advice on how memory is mapped is given by address")]

use rustix::mm::{Advice, madvise};

/// A huge page. More than what any device asks of O_DIRECT buffers.
const ALIGNMENT: usize = 2 << 20;

/// Heap bytes that begin at a multiple of [`ALIGNMENT`].
pub(super) struct AlignedBytes {
    bytes: Box<[u8]>,
    start: usize,
    len: usize,
}

impl AlignedBytes {
    /// Bytes that are all `fill`.
    pub(super) fn new(len: usize, fill: u8) -> Self {
        let room = len.next_multiple_of(ALIGNMENT);
        // Zeroed memory of this size comes from the kernel untouched: it is mapped, by huge
        // pages if they are to be had, when it is filled below.
        let bytes = vec![0; room + ALIGNMENT].into_boxed_slice();
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        assert!(start < ALIGNMENT, "byte pointers can always be aligned");
        let mut aligned = Self { bytes, start, len };
        let base = aligned.bytes[start..].as_mut_ptr();
        // SAFETY: the range lies inside the allocation, and the advice changes how it is mapped,
        // not what it holds. A kernel that refuses costs speed only.
        let _ = unsafe { madvise(base.cast(), room, Advice::LinuxHugepage) };
        aligned.as_mut_slice().fill(fill);
        aligned
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}
