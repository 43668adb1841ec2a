//! Placeholder so that port.rs can name the block size; grows into the frame codec.

/// Unit of writing and alignment, in bytes.
pub const BLOCK_BYTES: usize = 4096;
