//! Record batches: Kafka's RecordBatch v2 (magic 2), byte for byte.
//!
//! ```text
//!  0          8        12       16  17      21    23            27            35
//!  ├base off──┼length──┼epoch───┼mag┼crc────┼attr─┼last delta───┼base time────┤
//!  35         43           51     53       57      61
//!  ├max time──┼producer id─┼epoch─┼base seq┼count──┼ records …
//! ```
//!
//! Integers are big-endian. `length` counts from byte 12; the CRC32C covers byte 21 to the end,
//! so the broker may write base offset and leader epoch without touching it.

mod build;
mod record;
mod varint;
mod view;

pub use build::BatchBuilder;
pub use record::{Header, Headers, Record, Records};
pub use varint::{put_varint, read_varint, varint_len};
pub use view::{Batch, BatchError, BatchHeader, Batches};

/// Bytes before the records.
pub const BATCH_HEADER_BYTES: usize = 61;
/// The only batch format served.
pub const BATCH_MAGIC: i8 = 2;
/// Where the CRC's coverage begins.
pub const CRC_FROM: usize = 21;
/// `length` counts from here.
pub const LENGTH_FROM: usize = 12;
/// Bits of the attributes that name the compression codec.
pub const ATTRIBUTES_CODEC_MASK: i16 = 0x07;
/// The attributes bit of transactional batches.
pub const ATTRIBUTES_TRANSACTIONAL: i16 = 0x10;
/// The attributes bit of control batches.
pub const ATTRIBUTES_CONTROL: i16 = 0x20;
