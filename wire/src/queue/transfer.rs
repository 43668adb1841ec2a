//! Messages on their way in and out: publish, consume, pull, peek, deliver, purge, redrive.

use zerocopy::little_endian::{I16, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Message, Messages, QueueId};
use crate::limits::PUBLISH_MESSAGES_MAX;
use crate::produce::{FLAG_TIMING, Timing};
use crate::{Malformed, Reader};

/// The reply to a publish shall tell where the time went: the same bit as in a produce.
pub const PUBLISH_TIMING: u8 = FLAG_TIMING;

/// The fixed start of a publish; the messages follow.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct PublishHead {
    /// Queue.
    pub queue: QueueId,
    /// Messages that follow.
    pub count: U32,
    /// [`crate::Acks`]: when the reply leaves.
    pub acks: u8,
    /// [`PUBLISH_TIMING`]; an unknown bit is refused.
    pub flags: u8,
    /// Zero.
    pub reserved: U16,
}

/// A publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishRequest<'a> {
    /// Queue, count and acks.
    pub head: &'a PublishHead,
    /// The messages, back to back; not looked into.
    pub messages: &'a [u8],
}

impl<'a> PublishRequest<'a> {
    /// Decodes the body. Messages are not looked into.
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let head = reader.get::<PublishHead>("publish head")?;
        if !(1..=PUBLISH_MESSAGES_MAX).contains(&head.count.get()) {
            return Err(Malformed("a publish has 1 to 65,536 messages"));
        }
        if head.reserved.get() != 0 {
            return Err(Malformed("reserved bytes of publish are not zero"));
        }
        Ok(PublishRequest { head, messages: reader.rest() })
    }
}

/// The fixed start of the reply to a publish: the messages are taken.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct PublishReplyHead {
    /// Sequence number of the first; the others follow it.
    pub first: U64,
    /// How many.
    pub count: U32,
    /// [`PUBLISH_TIMING`] if a [`Timing`] ends the body.
    pub flags: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// The reply to a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishReply<'a> {
    /// Which numbers the messages have.
    pub head: &'a PublishReplyHead,
    /// Where the time went, if it was asked for.
    pub timing: Option<&'a Timing>,
}

impl<'a> PublishReply<'a> {
    /// Decodes the body.
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let head = reader.get::<PublishReplyHead>("publish reply head")?;
        let timing = match head.flags & PUBLISH_TIMING {
            0 => None,
            _ => Some(reader.get::<Timing>("publish timing")?),
        };
        reader.end("bytes after the publish reply")?;
        Ok(PublishReply { head, timing })
    }
}

/// Appends the body of a reply to a publish.
pub fn encode_publish_reply(out: &mut Vec<u8>, first: u64, count: u32, timing: Option<&Timing>) {
    let head = PublishReplyHead {
        first: first.into(),
        count: count.into(),
        flags: if timing.is_some() { PUBLISH_TIMING } else { 0 },
        reserved: [0; 3],
    };
    out.extend_from_slice(head.as_bytes());
    if let Some(timing) = timing {
        out.extend_from_slice(timing.as_bytes());
    }
}

/// Deliveries are settled by being sent.
pub const CONSUME_AUTO_ACK: u8 = 0x01;

/// Asks for messages to be pushed. They come in frames of kind `QueueDeliver` that repeat this
/// request's correlation id.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct ConsumeRequest {
    /// Queue.
    pub queue: QueueId,
    /// Most messages that are leased to it at once; 0 with automatic settlement only.
    pub prefetch: U32,
    /// Consumers with a higher one get messages first.
    pub priority: I16,
    /// [`CONSUME_AUTO_ACK`].
    pub flags: u8,
    /// Zero.
    pub reserved: u8,
}

/// Asks for a bound on what all consumers of the connection have together.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct CreditRequest {
    /// Most messages that are leased to them at once; 0: each has its prefetch alone.
    pub messages: U32,
}

/// There is a consumer now.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct ConsumeReply {
    /// Its number, not 0.
    pub consumer: U32,
}

/// Asks for a consumer to get no more; what it has not settled goes back to the queue.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct CancelRequest {
    /// Queue.
    pub queue: QueueId,
    /// Consumer.
    pub consumer: U32,
}

/// Asks for messages once.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct PullRequest {
    /// Queue.
    pub queue: QueueId,
    /// Most messages.
    pub max_messages: U32,
    /// Most bytes of messages, but always one message.
    pub max_bytes: U32,
    /// If there are none, wait this long for one.
    pub wait_ms: U32,
    /// How long they are leased; 0: as the queue says.
    pub lease_ms: U32,
}

/// Asks to see messages that are ready, without taking them.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct PeekRequest {
    /// Queue.
    pub queue: QueueId,
    /// First sequence number.
    pub from: U64,
    /// Most messages.
    pub max_messages: U32,
    /// Most bytes of messages, but always one message.
    pub max_bytes: U32,
}

/// The fixed start of deliveries.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct DeliverHead {
    /// Queue.
    pub queue: QueueId,
    /// The lease they come with; 0 without one.
    pub lease: U64,
    /// The consumer they are for; 0 for pull and peek.
    pub consumer: U32,
    /// Rows that follow.
    pub row_count: U16,
    /// Zero.
    pub reserved: U16,
}

/// The messages may have been delivered before.
pub const ROW_REDELIVERED: u32 = 1;

/// Messages with consecutive sequence numbers.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct DeliveredRow {
    /// Sequence number of the first.
    pub first: U64,
    /// How many.
    pub count: U32,
    /// How often they have been delivered, this time included; 0 when they are only shown.
    pub deliveries: U32,
    /// [`ROW_REDELIVERED`].
    pub flags: U32,
    /// Bytes of these messages.
    pub bytes: U32,
}

/// Deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deliver<'a> {
    /// Queue, lease and consumer.
    pub head: &'a DeliverHead,
    /// Which messages.
    pub rows: &'a [DeliveredRow],
    /// The messages, back to back in the order of the rows.
    pub messages: &'a [u8],
}

impl<'a> Deliver<'a> {
    /// Decodes the body. Messages are not looked into.
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let head = reader.get::<DeliverHead>("deliver head")?;
        let count = usize::from(head.row_count.get());
        let rows = reader.slice::<DeliveredRow>(count, "deliver rows")?;
        Ok(Deliver { head, rows, messages: reader.rest() })
    }

    /// Every message with its sequence number and row.
    pub fn messages(
        &self,
    ) -> impl Iterator<Item = Result<(u64, &'a DeliveredRow, Message<'a>), Malformed>> + use<'a>
    {
        let mut messages = Messages::new(self.messages);
        let numbers = self.rows.iter().flat_map(|row| {
            let first = row.first.get();
            (0..u64::from(row.count.get())).map(move |step| (first.saturating_add(step), row))
        });
        numbers.map_while(move |(sequence, row)| {
            let message = match messages.next() {
                Some(message) => message,
                None => Err(Malformed("fewer messages were delivered than the rows say")),
            };
            Some(message.map(|message| (sequence, row, message)))
        })
    }
}

/// Messages were removed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct PurgeReply {
    /// How many.
    pub removed: U64,
}

/// Asks for dead letters to go back to the queues they died in.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RedriveRequest {
    /// The queue of dead letters.
    pub queue: QueueId,
    /// Most messages.
    pub max_messages: U32,
}

/// Dead letters went back.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RedriveReply {
    /// How many.
    pub moved: U32,
    /// Messages that stay, since their queue is gone or they never died.
    pub kept: U32,
    /// Messages that are still ready.
    pub left: U64,
}
