//! Delete records: a partition's records below an offset are gone from now on.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub use crate::rows::encode;
use crate::{Malformed, TopicId, rows};

/// Deletes everything that consumers may see, up to where that ends.
pub const BEFORE_END: u64 = u64::MAX;

/// One partition of a request.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RequestEntry {
    /// Topic.
    pub topic_id: TopicId,
    /// Partition.
    pub partition: U32,
    /// Zero.
    pub reserved: U32,
    /// Offset of the first record that stays, or [`BEFORE_END`].
    pub before_offset: U64,
}

/// One partition of a reply.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct ReplyEntry {
    /// Topic.
    pub topic_id: TopicId,
    /// Partition.
    pub partition: U32,
    /// [`crate::ErrorCode`]; 0 is success.
    pub error: U16,
    /// Zero.
    pub reserved: U16,
    /// Offset of the partition's oldest record, durable.
    pub log_start_offset: U64,
}

/// Decodes the body of a request.
pub fn decode_request(body: &[u8]) -> Result<&[RequestEntry], Malformed> {
    rows::decode(body)
}

/// Decodes the body of a reply.
pub fn decode_reply(body: &[u8]) -> Result<&[ReplyEntry], Malformed> {
    rows::decode(body)
}
