//! List offsets: earliest, latest, or the first record at or after a time.

use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub use crate::rows::encode;
use crate::{Malformed, TopicId, rows};

/// Asks for the offset behind the newest visible record.
pub const TIMESTAMP_LATEST: i64 = -1;
/// Asks for the oldest offset.
pub const TIMESTAMP_EARLIEST: i64 = -2;

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
    /// Wall-clock ms since 1970, or a `TIMESTAMP_*` constant; other negatives are refused.
    pub timestamp_ms: I64,
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
    /// The offset. By time: of the first record, in the order of offsets, that is at or after it,
    /// or the end if there is none; in a compressed batch, of the batch.
    pub offset: U64,
    /// The time of what was found in ms, -1 if none.
    pub timestamp_ms: I64,
}

/// Decodes the body of a request.
pub fn decode_request(body: &[u8]) -> Result<&[RequestEntry], Malformed> {
    rows::decode(body)
}

/// Decodes the body of a reply.
pub fn decode_reply(body: &[u8]) -> Result<&[ReplyEntry], Malformed> {
    rows::decode(body)
}
