//! The bytes of Pelton's native protocol and of its record batches, and nothing else.
//!
//! A connection carries frames: a 32-byte [`frame::FrameHeader`] and a body. The first frame is
//! `hello`; after it requests are pipelined and replies are matched by correlation id, in any
//! order. Integers are little-endian, except inside record batches, which are Kafka's
//! RecordBatch v2 byte for byte and therefore big-endian. Records travel, are stored and are
//! served as the bytes the producer made.
//!
//! Decoding borrows from the input, never allocates and never panics: what is malformed comes
//! back as [`Malformed`] with the reason. Encoding appends to a `Vec<u8>` that callers reuse.
//! Nothing here reads a clock, a socket or a file. `docs/PROTOCOL.md` draws every byte.

pub mod batch;
pub mod crc;
pub mod delete_records;
pub mod error_code;
pub mod fetch;
pub mod frame;
pub mod hello;
pub mod kind;
pub mod limits;
pub mod list_offsets;
pub mod metadata;
pub mod produce;
pub mod queue;
mod reader;
mod rows;
pub mod stats;
pub mod topic;

pub use error_code::ErrorCode;
pub use frame::FrameHeader;
pub use kind::Kind;
pub use reader::{Malformed, Reader, put_str16};

/// 128-bit id of a topic, queue or stream; never reused. Zero is the catalog's own stream.
pub type TopicId = [u8; 16];

/// When the broker answers a produce request (the value of its `acks` byte).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Acks {
    /// No reply at all.
    None = 0,
    /// The record is ordered in its partition; lost with the process.
    Memory = 1,
    /// Its O_DIRECT write completed; lost with the device's volatile cache.
    Written = 2,
    /// Its durable write, or the flush after it, completed.
    Durable = 3,
}

impl Acks {
    /// The level a byte names, if any.
    pub const fn from_u8(value: u8) -> Option<Acks> {
        match value {
            0 => Some(Acks::None),
            1 => Some(Acks::Memory),
            2 => Some(Acks::Written),
            3 => Some(Acks::Durable),
            _ => None,
        }
    }

    /// The name used in flags, logs and results.
    pub const fn name(self) -> &'static str {
        match self {
            Acks::None => "none",
            Acks::Memory => "memory",
            Acks::Written => "written",
            Acks::Durable => "durable",
        }
    }
}
