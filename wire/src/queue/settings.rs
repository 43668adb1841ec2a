//! What queues are like, and what is in them: create, delete, describe, list.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::QueueId;
use crate::limits::TOPIC_NAME_BYTES_MAX;
use crate::{Malformed, Reader, put_str16};

/// The queue and all its messages are gone when the broker ends.
pub const QUEUE_TRANSIENT: u32 = 1;
/// Only the connection that created it may use it, and it goes with that.
pub const QUEUE_EXCLUSIVE: u32 = 2;
/// It goes with the last consumer it has had.
pub const QUEUE_AUTO_DELETE: u32 = 4;
/// One consumer at a time gets everything, the others wait for their turn.
pub const QUEUE_SINGLE_ACTIVE: u32 = 8;
/// Its dead letters go to a partition of a topic, not to a queue.
pub const QUEUE_DEAD_LETTER_TOPIC: u32 = 16;
/// Every flag.
pub const QUEUE_FLAGS_ALL: u32 = QUEUE_TRANSIENT
    | QUEUE_EXCLUSIVE
    | QUEUE_AUTO_DELETE
    | QUEUE_SINGLE_ACTIVE
    | QUEUE_DEAD_LETTER_TOPIC;

/// Delete it only if nobody consumes from it.
pub const DELETE_IF_UNUSED: u32 = 1;
/// Delete it only if there is nothing in it.
pub const DELETE_IF_EMPTY: u32 = 2;

/// What happens to messages for which a queue has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Overflow {
    /// The oldest ready messages make room: they become dead letters, or are dropped.
    DropHead = 0,
    /// New messages are refused with `queue_full`.
    Reject = 1,
    /// New messages become dead letters.
    RejectDeadLetter = 2,
}

impl Overflow {
    /// Every choice.
    pub const ALL: [Overflow; 3] =
        [Overflow::DropHead, Overflow::Reject, Overflow::RejectDeadLetter];

    /// The choice with this number.
    pub fn from_u8(value: u8) -> Option<Overflow> {
        Overflow::ALL.into_iter().find(|overflow| *overflow as u8 == value)
    }

    /// Its name, as flags have it.
    pub const fn name(self) -> &'static str {
        match self {
            Overflow::DropHead => "drop-head",
            Overflow::Reject => "reject",
            Overflow::RejectDeadLetter => "reject-dead-letter",
        }
    }
}

/// What a queue is like. Two queues of one name are the same if all of it is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Settings {
    /// `QUEUE_*` bits.
    pub flags: U32,
    /// [`Overflow`].
    pub overflow: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// Most messages, leased ones included; 0: no bound of its own.
    pub max_messages: U64,
    /// Most bytes of messages, leased ones included; 0: no bound of its own.
    pub max_bytes: U64,
    /// Messages expire this long after they were published; 0: not by the queue.
    pub message_ttl_ms: U64,
    /// The queue is deleted once nobody has used it for this long; 0: never.
    pub expires_ms: U64,
    /// A message that was delivered this often is not delivered again; 0: no limit.
    pub delivery_limit: U32,
    /// How long a pulled message is leased unless the pull says otherwise; 0: 30 s.
    pub lease_ms: U32,
    /// A push consumer must settle a message within this time; 0: 30 min.
    pub consumer_timeout_ms: U32,
    /// The partition that dead letters go to, if they go to a topic; else 0.
    pub dead_letter_partition: U32,
    /// Where dead letters go; zero: nowhere. In a create request the name says it.
    pub dead_letter: QueueId,
}

impl Settings {
    /// A durable queue without bounds.
    pub fn new() -> Settings {
        Settings::new_zeroed()
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u32) -> bool {
        self.flags.get() & flag != 0
    }

    /// Where dead letters go.
    pub fn dead_letter(&self) -> Option<QueueId> {
        (self.dead_letter != [0; 16]).then_some(self.dead_letter)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings::new()
    }
}

/// Asks for a queue to be there, and to be like this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreateRequest<'a> {
    /// What it shall be like.
    pub settings: &'a Settings,
    /// Its name; empty: the broker finds one.
    pub name: &'a str,
    /// The queue that its dead letters go to; empty: none.
    pub dead_letter: &'a str,
}

impl<'a> CreateRequest<'a> {
    /// Decodes the body.
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let settings = reader.get::<Settings>("queue settings")?;
        let name = reader.str16(TOPIC_NAME_BYTES_MAX, "queue name")?;
        let dead_letter = reader.str16(TOPIC_NAME_BYTES_MAX, "name of the dead letter queue")?;
        reader.end("bytes after create")?;
        Ok(CreateRequest { settings, name, dead_letter })
    }
}

/// Appends the body of a create request.
pub fn encode_create(out: &mut Vec<u8>, settings: &Settings, name: &str, dead_letter: &str) {
    out.extend_from_slice(settings.as_bytes());
    put_str16(out, name);
    put_str16(out, dead_letter);
}

/// The queue is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreateReply<'a> {
    /// Its id.
    pub queue: QueueId,
    /// Its name.
    pub name: &'a str,
}

impl<'a> CreateReply<'a> {
    /// Decodes the body.
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let queue = *reader.get::<QueueId>("queue id")?;
        let name = reader.str16(TOPIC_NAME_BYTES_MAX, "queue name")?;
        reader.end("bytes after the create reply")?;
        Ok(CreateReply { queue, name })
    }
}

/// Appends the body of a create reply.
pub fn encode_create_reply(out: &mut Vec<u8>, queue: &QueueId, name: &str) {
    out.extend_from_slice(queue);
    put_str16(out, name);
}

/// Asks for a queue to be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeleteRequest<'a> {
    /// `DELETE_*` bits.
    pub conditions: u32,
    /// Its name.
    pub name: &'a str,
}

impl<'a> DeleteRequest<'a> {
    /// Decodes the body.
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let conditions = reader.get::<U32>("delete conditions")?.get();
        let name = reader.str16(TOPIC_NAME_BYTES_MAX, "queue name")?;
        reader.end("bytes after delete")?;
        Ok(DeleteRequest { conditions, name })
    }
}

/// Appends the body of a delete request.
pub fn encode_delete(out: &mut Vec<u8>, conditions: u32, name: &str) {
    out.extend_from_slice(&conditions.to_le_bytes());
    put_str16(out, name);
}

/// What is in a queue, and what has become of what was.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct QueueCounts {
    /// Messages that wait to be delivered.
    pub ready: U64,
    /// Messages that are leased.
    pub leased: U64,
    /// Messages on their way to the dead letter queue.
    pub dying: U64,
    /// Bytes of all of these.
    pub bytes: U64,
    /// Sequence number of the next message: how many were ever published.
    pub next_sequence: U64,
    /// Consumers by push.
    pub consumers: U32,
    /// Pulls that wait.
    pub pulls: U32,
    /// Since the broker's start: messages accepted.
    pub accepted: U64,
    /// Since the broker's start: messages delivered again.
    pub redelivered: U64,
    /// Since the broker's start: messages that became dead letters.
    pub dead_lettered: U64,
    /// Since the broker's start: messages dropped, since nothing wanted them as dead letters.
    pub dropped: U64,
    /// Messages that cannot be read, since the disk has them damaged or not at all: they are not
    /// delivered. A purge drops them.
    pub unreadable: U64,
}

/// A queue as describe shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescribeReply<'a> {
    /// Its id.
    pub queue: QueueId,
    /// The shard that owns it.
    pub shard: u16,
    /// What it is like.
    pub settings: &'a Settings,
    /// What is in it.
    pub counts: &'a QueueCounts,
    /// Its name.
    pub name: &'a str,
    /// The name of the queue that its dead letters go to, or empty.
    pub dead_letter: &'a str,
}

impl<'a> DescribeReply<'a> {
    /// Decodes the body.
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let reply = DescribeReply {
            queue: *reader.get::<QueueId>("queue id")?,
            shard: reader.get::<U16>("shard")?.get(),
            settings: reader.get::<Settings>("queue settings")?,
            counts: reader.get::<QueueCounts>("queue counts")?,
            name: reader.str16(TOPIC_NAME_BYTES_MAX, "queue name")?,
            dead_letter: reader.str16(TOPIC_NAME_BYTES_MAX, "dead letter queue")?,
        };
        reader.end("bytes after the describe reply")?;
        Ok(reply)
    }
}

/// Appends the body of a describe reply.
pub fn encode_describe_reply(out: &mut Vec<u8>, reply: &DescribeReply<'_>) {
    out.extend_from_slice(&reply.queue);
    out.extend_from_slice(&reply.shard.to_le_bytes());
    out.extend_from_slice(reply.settings.as_bytes());
    out.extend_from_slice(reply.counts.as_bytes());
    put_str16(out, reply.name);
    put_str16(out, reply.dead_letter);
}

/// Names in one reply to list.
pub const LIST_NAMES_MAX: usize = 2000;

/// Asks for names of queues in their order: those behind one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListRequest<'a> {
    /// The last name that is known already; empty asks from the front.
    pub after: &'a str,
}

impl<'a> ListRequest<'a> {
    /// Decodes the body.
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let after = reader.str16(TOPIC_NAME_BYTES_MAX, "queue name")?;
        reader.end("bytes after list")?;
        Ok(ListRequest { after })
    }
}

/// Names of queues, each with the shard that owns it; fewer than [`LIST_NAMES_MAX`] are the last.
#[derive(Debug, Clone, Copy)]
pub struct ListReply<'a> {
    reader: Reader<'a>,
}

impl<'a> ListReply<'a> {
    /// A list reply's body.
    pub const fn decode(body: &'a [u8]) -> ListReply<'a> {
        ListReply { reader: Reader::new(body) }
    }
}

impl<'a> Iterator for ListReply<'a> {
    type Item = Result<(u16, &'a str), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.rest().is_empty() {
            return None;
        }
        let shard = self.reader.get::<U16>("shard").map(|shard| shard.get());
        let row = shard
            .and_then(|shard| Ok((shard, self.reader.str16(TOPIC_NAME_BYTES_MAX, "queue name")?)));
        if row.is_err() {
            self.reader = Reader::new(&[]);
        }
        Some(row)
    }
}

/// Appends a row of a list reply.
pub fn encode_list_row(out: &mut Vec<u8>, shard: u16, name: &str) {
    out.extend_from_slice(&shard.to_le_bytes());
    put_str16(out, name);
}
