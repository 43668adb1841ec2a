//! Settle: what shall become of messages that were delivered. Ranges, many in one frame.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::QueueId;
use crate::limits::SETTLE_ROWS_MAX;
use crate::{Malformed, Reader};

/// The request has no reply.
pub const SETTLE_QUIET: u8 = 0x01;
/// A row's range is whatever of it is still leased: it need not all be.
pub const SETTLE_UP_TO: u8 = 0x01;

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Verb {
    /// It is done, and gone.
    Accept = 1,
    /// It goes back to its place and is delivered again, after `delay_ms`.
    Release = 2,
    /// It is a dead letter, or gone where the queue has no place for those.
    Reject = 3,
    /// Its lease ends `delay_ms` from now.
    Extend = 4,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Verb; 4] = [Verb::Accept, Verb::Release, Verb::Reject, Verb::Extend];

    /// The verb with this number.
    pub fn from_u8(value: u8) -> Option<Verb> {
        Verb::ALL.into_iter().find(|verb| *verb as u8 == value)
    }
}

/// The fixed start of a request.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct SettleHead {
    /// Queue.
    pub queue: QueueId,
    /// The consumer that got them; 0 if they were pulled.
    pub consumer: U32,
    /// [`SETTLE_QUIET`].
    pub flags: u8,
    /// Zero.
    pub reserved: u8,
    /// Rows that follow.
    pub row_count: U16,
}

/// Messages that share a fate.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct SettleRow {
    /// First sequence number.
    pub first: U64,
    /// Last sequence number, itself included.
    pub last: U64,
    /// The lease they came with; 0 means any of the consumer's.
    pub lease: U64,
    /// [`Verb`].
    pub verb: u8,
    /// [`SETTLE_UP_TO`].
    pub flags: u8,
    /// Zero.
    pub reserved: U16,
    /// For release and extend, in ms.
    pub delay_ms: U32,
}

/// What became of a row.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct SettledRow {
    /// [`crate::ErrorCode`]; what of the range was leased is settled even so.
    pub error: U16,
    /// Zero.
    pub reserved: U16,
    /// Messages that it settled.
    pub settled: U32,
}

/// A settle request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettleRequest<'a> {
    /// Queue and consumer.
    pub head: &'a SettleHead,
    /// What becomes of what.
    pub rows: &'a [SettleRow],
}

impl<'a> SettleRequest<'a> {
    /// Decodes the body.
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let head = reader.get::<SettleHead>("settle head")?;
        let count = usize::from(head.row_count.get());
        if head.flags & !SETTLE_QUIET != 0 {
            return Err(Malformed("an unknown flag of settle"));
        }
        if count > SETTLE_ROWS_MAX {
            return Err(Malformed("settle has more rows than the limit"));
        }
        if count == 0 && head.flags & SETTLE_QUIET != 0 {
            return Err(Malformed("a settle without rows and without an answer does nothing"));
        }
        let rows = reader.slice::<SettleRow>(count, "settle rows")?;
        reader.end("bytes after settle")?;
        for row in rows {
            if row.first.get() > row.last.get() || row.last.get() == u64::MAX {
                return Err(Malformed("a settle row ends before it begins"));
            }
            if Verb::from_u8(row.verb).is_none() || row.flags & !SETTLE_UP_TO != 0 {
                return Err(Malformed("a settle row has a verb or flag that is not known"));
            }
        }
        Ok(SettleRequest { head, rows })
    }
}

/// Appends the body of a request.
pub fn encode_settle(
    out: &mut Vec<u8>,
    queue: &QueueId,
    consumer: u32,
    flags: u8,
    rows: &[SettleRow],
) {
    let head = SettleHead {
        queue: *queue,
        consumer: consumer.into(),
        flags,
        reserved: 0,
        row_count: u16::try_from(rows.len()).expect("rows are bounded").into(),
    };
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(rows.as_bytes());
}

/// The reply: one row for each of the request's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettleReply<'a> {
    /// What became of the rows, in the request's order.
    pub rows: &'a [SettledRow],
}

impl<'a> SettleReply<'a> {
    /// Decodes the body.
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let rows = crate::rows::decode(body)?;
        Ok(SettleReply { rows })
    }

    /// Appends the body.
    pub fn encode(out: &mut Vec<u8>, rows: &[SettledRow]) {
        crate::rows::encode(out, rows);
    }
}
