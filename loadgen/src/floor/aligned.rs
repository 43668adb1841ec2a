//! Page-aligned bytes for direct I/O.

/// Alignment of O_DIRECT buffers, offsets and lengths that every device accepts.
pub(super) const ALIGNMENT: usize = 4096;

/// Heap bytes that begin at a multiple of [`ALIGNMENT`].
pub(super) struct AlignedBytes {
    bytes: Box<[u8]>,
    start: usize,
    len: usize,
}

impl AlignedBytes {
    /// Bytes that are all `fill`.
    pub(super) fn new(len: usize, fill: u8) -> Self {
        let bytes = vec![fill; len + ALIGNMENT].into_boxed_slice();
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        assert!(start < ALIGNMENT, "byte pointers can always be aligned");
        Self { bytes, start, len }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}
