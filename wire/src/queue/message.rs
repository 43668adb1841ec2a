//! A message: one layout on the wire, on disk and in memory.
//!
//! ```text
//! ├─ head 24 B ─┼─ [death note 56 B] ─┼─ properties ─┼─ body ─┤
//! ```

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::QueueId;
use crate::{Malformed, Reader};

/// The message may be gone after a restart of the broker.
pub const MESSAGE_TRANSIENT: u8 = 0x01;
/// A [`DeathNote`] stands before the properties; written by the broker only.
pub const MESSAGE_DEAD: u8 = 0x02;

/// The first bytes of a message.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct MessageHead {
    /// Bytes of the body.
    pub body_bytes: U32,
    /// Bytes of the properties, which mean nothing to the broker.
    pub properties_bytes: U16,
    /// `MESSAGE_*` bits.
    pub flags: u8,
    /// Zero: priorities do not exist yet.
    pub priority: u8,
    /// The message expires this long after it was published; 0: not by itself.
    pub ttl_ms: U32,
    /// Zero.
    pub reserved: U32,
    /// When it was published, in ms since 1970: written by the broker.
    pub published_ms: U64,
}

impl MessageHead {
    /// Bytes of the whole message.
    pub fn message_bytes(&self) -> usize {
        let note = if self.flags & MESSAGE_DEAD == 0 { 0 } else { DEATH_NOTE_BYTES };
        let body = usize::try_from(self.body_bytes.get()).expect("u32 fits usize");
        MESSAGE_HEAD_BYTES + note + usize::from(self.properties_bytes.get()) + body
    }
}

/// Bytes of a [`MessageHead`].
pub const MESSAGE_HEAD_BYTES: usize = size_of::<MessageHead>();
/// Bytes of a [`DeathNote`].
pub const DEATH_NOTE_BYTES: usize = size_of::<DeathNote>();

const _: () = assert!(MESSAGE_HEAD_BYTES == 24 && DEATH_NOTE_BYTES == 56);

/// Why a message left its queue for the dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Reason {
    /// A consumer rejected it.
    Rejected = 1,
    /// Its time to live had passed.
    Expired = 2,
    /// Its queue was full.
    Overflow = 3,
    /// It had been delivered as often as its queue allows.
    DeliveryLimit = 4,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 4] =
        [Reason::Rejected, Reason::Expired, Reason::Overflow, Reason::DeliveryLimit];

    /// The reason with this number.
    pub fn from_u8(value: u8) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| *reason as u8 == value)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::Rejected => "rejected",
            Reason::Expired => "expired",
            Reason::Overflow => "overflow",
            Reason::DeliveryLimit => "delivery_limit",
        }
    }
}

/// What a dead letter says of its death.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct DeathNote {
    /// The queue it died in last.
    pub origin: QueueId,
    /// Its sequence number there.
    pub origin_sequence: U64,
    /// When it died, in ms since 1970.
    pub died_ms: U64,
    /// When it was published to begin with, in ms since 1970.
    pub first_published_ms: U64,
    /// How often it has died.
    pub deaths: U32,
    /// How often it had been delivered there.
    pub deliveries: U32,
    /// [`Reason`].
    pub reason: u8,
    /// Zero.
    pub reserved: [u8; 7],
}

/// A message that lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its head.
    pub head: &'a MessageHead,
    /// What it says of its death, if it is a dead letter.
    pub death: Option<&'a DeathNote>,
    /// Its properties.
    pub properties: &'a [u8],
    /// Its body.
    pub body: &'a [u8],
    /// All of its bytes.
    pub bytes: &'a [u8],
}

impl<'a> Message<'a> {
    /// Takes the message at the front of `bytes`; gives it and the rest. How long it may be is
    /// for whoever takes it in to say.
    pub fn split(bytes: &'a [u8]) -> Result<(Message<'a>, &'a [u8]), Malformed> {
        let mut reader = Reader::new(bytes);
        let head = reader.get::<MessageHead>("a message's head is cut short")?;
        if head.flags & !(MESSAGE_TRANSIENT | MESSAGE_DEAD) != 0 {
            return Err(Malformed("a message has a flag that is not known"));
        }
        if head.priority != 0 || head.reserved.get() != 0 {
            return Err(Malformed("priority and reserved bytes of a message are zero"));
        }
        let death = match head.flags & MESSAGE_DEAD {
            0 => None,
            _ => Some(reader.get::<DeathNote>("a death note is cut short")?),
        };
        let body_bytes = usize::try_from(head.body_bytes.get()).expect("u32 fits usize");
        let properties_bytes = usize::from(head.properties_bytes.get());
        let properties = reader.take(properties_bytes, "a message's properties are cut short")?;
        let body = reader.take(body_bytes, "a message's body is cut short")?;
        let rest = reader.rest();
        let bytes = &bytes[..bytes.len() - rest.len()];
        Ok((Message { head, death, properties, body, bytes }, rest))
    }
}

/// Messages back to back.
#[derive(Debug, Clone, Copy)]
pub struct Messages<'a> {
    bytes: &'a [u8],
}

impl<'a> Messages<'a> {
    /// The messages in `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Messages<'a> {
        Messages { bytes }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        match Message::split(self.bytes) {
            Ok((message, rest)) => {
                self.bytes = rest;
                Some(Ok(message))
            }
            Err(malformed) => {
                self.bytes = &[];
                Some(Err(malformed))
            }
        }
    }
}

/// Appends a message as a publisher makes it.
pub fn put_message(out: &mut Vec<u8>, flags: u8, ttl_ms: u32, properties: &[u8], body: &[u8]) {
    let head = MessageHead {
        body_bytes: u32::try_from(body.len()).expect("bounded by MESSAGE_BYTES_MAX").into(),
        properties_bytes: u16::try_from(properties.len()).expect("below 64 KiB").into(),
        flags,
        priority: 0,
        ttl_ms: ttl_ms.into(),
        reserved: 0.into(),
        published_ms: 0.into(),
    };
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(properties);
    out.extend_from_slice(body);
}
