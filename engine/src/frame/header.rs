//! The fixed parts of a frame.

use wire::TopicId;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Where a frame lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// In a shard's journal: entries of many streams.
    Journal = 1,
    /// In a segment: one entry of one stream.
    Segment = 2,
    /// Where a stream begins: one entry of it.
    Start = 3,
    /// What of a stream is lost: one entry of it.
    Lost = 4,
}

/// What an entry holds. Numbers are never reused; 3, 4 and 6 are reserved for queue operations of
/// their own, group offsets and transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum EntryKind {
    /// Record batches back to back.
    RecordBatch = 1,
    /// Records of queues back to back.
    QueueRecord = 2,
    /// Catalog records back to back.
    Catalog = 5,
    /// No data: the stream's segments are stored up to the base offset.
    Watermark = 7,
    /// The stream begins at the base offset; the data says at which segment.
    LogStart = 8,
    /// Offsets that are lost: two of 64 bits for each range, the second one behind it.
    Lost = 9,
}

impl EntryKind {
    /// The kind with this number.
    pub const fn from_u16(value: u16) -> Option<EntryKind> {
        match value {
            1 => Some(EntryKind::RecordBatch),
            2 => Some(EntryKind::QueueRecord),
            5 => Some(EntryKind::Catalog),
            7 => Some(EntryKind::Watermark),
            8 => Some(EntryKind::LogStart),
            9 => Some(EntryKind::Lost),
            _ => None,
        }
    }

    /// Its name in `docs/FORMAT.md`.
    pub const fn name(self) -> &'static str {
        match self {
            EntryKind::RecordBatch => "record_batch",
            EntryKind::QueueRecord => "queue_record",
            EntryKind::Catalog => "catalog",
            EntryKind::Watermark => "watermark",
            EntryKind::LogStart => "log_start",
            EntryKind::Lost => "lost",
        }
    }
}

/// The first 96 bytes of a frame.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct FrameHeader {
    /// [`super::FRAME_MAGIC`].
    pub magic: U32,
    /// [`super::FORMAT_VERSION`].
    pub version: U16,
    /// [`FrameKind`].
    pub kind: u8,
    /// Block size as a power of two: 12.
    pub block_log2: u8,
    /// Features that a reader may ignore.
    pub features_compatible: U32,
    /// Features that a reader may ignore but a writer may not.
    pub features_read_only: U32,
    /// Features without which nothing can be read: an unknown bit is refused.
    pub features_incompatible: U32,
    /// Rows of the entry table.
    pub entry_count: U16,
    /// Zero.
    pub reserved: U16,
    /// Length of the frame in bytes, padding included.
    pub frame_bytes: U32,
    /// Boot epoch of the writer.
    pub boot_epoch: U32,
    /// The broker's id: a stranger's file is noticed.
    pub broker_id: [u8; 16],
    /// Journal: log sequence number. First frame of a segment: newest record time in ms of the
    /// segment before it, 0 if not known. Else 0.
    pub lsn: U64,
    /// Journal: highest number known durable when this was written. Segment: the offset
    /// below which the partition's segments were durable then.
    pub watermark: U64,
    /// Journal: how many files the ring had begun, this one included. Segment: its sequence.
    pub file_sequence: U64,
    /// Position in its file in bytes: a misdirected write is noticed.
    pub position: U64,
    /// Wall clock in ns since 1970.
    pub wall_ns: U64,
    /// CRC32C of header (this field zero) and entry table.
    pub crc: U32,
    /// Zero.
    pub reserved_end: U32,
}

/// One row of the entry table.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct EntryHeader {
    /// Topic of the stream; zero is the catalog.
    pub topic: TopicId,
    /// Partition of the stream.
    pub partition: U32,
    /// [`EntryKind`].
    pub kind: U16,
    /// Zero.
    pub flags: U16,
    /// Offset of the first record.
    pub base_offset: U64,
    /// Number of records.
    pub count: U32,
    /// Length of the data in bytes.
    pub length: U32,
    /// CRC32C of the data.
    pub crc: U32,
    /// Zero.
    pub reserved: U32,
}

impl EntryHeader {
    /// Whether these are the data that it was written for.
    pub fn is_of(&self, data: &[u8]) -> bool {
        u32::try_from(data.len()) == Ok(self.length.get())
            && wire::crc::crc32c(data) == self.crc.get()
    }

    /// Offset behind the last record.
    pub fn next_offset(&self) -> u64 {
        self.base_offset.get().saturating_add(u64::from(self.count.get()))
    }
}
