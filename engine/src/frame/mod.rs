//! The one frame of journal and segments: header, entry table, then the entries' bytes back to
//! back, padded to whole blocks.
//!
//! ```text
//! ├─ header 96 B ─┼─ entry 48 B ─┼ … ┼─ data of entry 0 ─┼─ data of entry 1 ─┼ … ┼─ padding ─┤
//! ```
//!
//! The header's CRC covers header and table; each entry carries the CRC of its own data. What is
//! read is a [`FrameView`] only once all of that holds. `docs/FORMAT.md` draws it.

mod header;
mod view;

pub use header::{EntryHeader, EntryKind, FrameHeader, FrameKind};
pub use view::{FrameKey, FrameMeta, FrameView, SegmentPlace, Unreadable, seal_frame};

/// Unit of writing and alignment, in bytes.
pub const BLOCK_BYTES: usize = 4096;
/// Bytes of a frame header.
pub const HEADER_BYTES: usize = size_of::<FrameHeader>();
/// Bytes of one row of the entry table.
pub const ENTRY_BYTES: usize = size_of::<EntryHeader>();
/// Where the batches of a segment frame begin: it has one entry.
pub const RUN_PREFIX_BYTES: usize = HEADER_BYTES + ENTRY_BYTES;
/// Newest format that is written and read here.
pub const FORMAT_VERSION: u16 = 1;
/// First four bytes of a frame.
pub const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"PLFR");

const _: () = assert!(HEADER_BYTES == 96 && ENTRY_BYTES == 48);

/// `bytes` rounded up to whole blocks.
pub const fn block_ceil(bytes: usize) -> usize {
    bytes.next_multiple_of(BLOCK_BYTES)
}
