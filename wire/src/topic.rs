//! Create, alter, delete and describe a topic.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::limits::TOPIC_NAME_BYTES_MAX;
use crate::{Malformed, Reader, TopicId, put_str16};

/// Why `name` cannot name a topic.
pub fn invalid_name(name: &str) -> Option<&'static str> {
    if name.is_empty() || name == "." || name == ".." {
        return Some("a name has at least one character and is not . or ..");
    }
    if name.len() > TOPIC_NAME_BYTES_MAX {
        return Some("a name has at most 249 characters");
    }
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    if !name.bytes().all(allowed) {
        return Some("a name has only letters, digits, '.', '_' and '-'");
    }
    None
}

/// When consumers may see a record; the topic's setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Visibility {
    /// Once it is durable (the default).
    Durable = 0,
    /// Once it is written.
    Written = 1,
    /// Once it is ordered in memory.
    Memory = 2,
}

impl Visibility {
    /// The setting a byte names, if any.
    pub const fn from_u8(value: u8) -> Option<Visibility> {
        match value {
            0 => Some(Visibility::Durable),
            1 => Some(Visibility::Written),
            2 => Some(Visibility::Memory),
            _ => None,
        }
    }

    /// The name used in flags and results.
    pub const fn name(self) -> &'static str {
        match self {
            Visibility::Durable => "durable",
            Visibility::Written => "written",
            Visibility::Memory => "memory",
        }
    }
}

/// A topic's settings, as create sends and describe returns them.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Settings {
    /// Number of partitions, 1 to 10,000.
    pub partitions: U32,
    /// [`Visibility`].
    pub visibility: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// How long unflushed records that nobody waits for may stay so, in ms; 0 flushes each.
    pub flush_ms: U32,
    /// Segment size at which a new one is begun, in bytes; 0 takes the broker's.
    pub segment_bytes: U32,
    /// How long records are kept, in ms, by their own time; 0 keeps them for ever.
    pub retention_ms: U64,
    /// Bytes of segments that each partition keeps; 0 keeps all.
    pub retention_bytes: U64,
}

impl Settings {
    /// Settings with `partitions` partitions and everything else at its default.
    pub fn new(partitions: u32) -> Self {
        Settings {
            partitions: partitions.into(),
            visibility: Visibility::Durable as u8,
            reserved: [0; 3],
            flush_ms: 0.into(),
            segment_bytes: 0.into(),
            retention_ms: 0.into(),
            retention_bytes: 0.into(),
        }
    }

    /// Decodes the body of the reply to alter.
    pub fn decode(body: &[u8]) -> Result<&Settings, Malformed> {
        let mut reader = Reader::new(body);
        let settings = reader.get("topic settings")?;
        reader.end("bytes after the topic's settings")?;
        Ok(settings)
    }
}

/// Creates a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreateRequest<'a> {
    /// Its settings.
    pub settings: &'a Settings,
    /// Its name.
    pub name: &'a str,
}

impl<'a> CreateRequest<'a> {
    /// Decodes the body.
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let settings = reader.get("topic settings")?;
        let name = reader.str16(TOPIC_NAME_BYTES_MAX, "topic name")?;
        reader.end("bytes after create topic")?;
        Ok(CreateRequest { settings, name })
    }

    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.settings.as_bytes());
        put_str16(out, self.name);
    }
}

/// Answers create: the topic's id, durable from now on.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct CreateReply {
    /// The new topic's id.
    pub topic_id: TopicId,
}

/// Alter takes over `flush_ms`.
pub const CHANGE_FLUSH: u32 = 1;
/// Alter takes over `segment_bytes`.
pub const CHANGE_SEGMENT_BYTES: u32 = 2;
/// Alter takes over `retention_ms`.
pub const CHANGE_RETENTION: u32 = 4;
/// Alter takes over `retention_bytes`.
pub const CHANGE_RETENTION_BYTES: u32 = 8;
/// Every change that alter knows.
pub const CHANGES_ALL: u32 =
    CHANGE_FLUSH | CHANGE_SEGMENT_BYTES | CHANGE_RETENTION | CHANGE_RETENTION_BYTES;

/// Changes settings of a topic. The reply's body is the topic's [`Settings`] from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlterRequest<'a> {
    /// Which of the settings are taken over: `CHANGE_*` bits.
    pub changes: u32,
    /// Their new values; what no bit names is ignored.
    pub settings: &'a Settings,
    /// The topic's name.
    pub name: &'a str,
}

impl<'a> AlterRequest<'a> {
    /// Decodes the body.
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let changes = reader.get::<U32>("changes of the topic")?.get();
        let settings = reader.get("topic settings")?;
        let name = reader.str16(TOPIC_NAME_BYTES_MAX, "topic name")?;
        reader.end("bytes after alter topic")?;
        Ok(AlterRequest { changes, settings, name })
    }

    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.changes.to_le_bytes());
        out.extend_from_slice(self.settings.as_bytes());
        put_str16(out, self.name);
    }

    /// `old` with the changes made.
    pub fn applied_to(&self, old: &Settings) -> Settings {
        let mut new = *old;
        if self.changes & CHANGE_FLUSH != 0 {
            new.flush_ms = self.settings.flush_ms;
        }
        if self.changes & CHANGE_SEGMENT_BYTES != 0 {
            new.segment_bytes = self.settings.segment_bytes;
        }
        if self.changes & CHANGE_RETENTION != 0 {
            new.retention_ms = self.settings.retention_ms;
        }
        if self.changes & CHANGE_RETENTION_BYTES != 0 {
            new.retention_bytes = self.settings.retention_bytes;
        }
        new
    }
}

/// Names one topic: the body of delete and describe requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameRequest<'a> {
    /// Its name.
    pub name: &'a str,
}

impl<'a> NameRequest<'a> {
    /// Decodes the body.
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let name = reader.str16(TOPIC_NAME_BYTES_MAX, "topic name")?;
        reader.end("bytes after the topic name")?;
        Ok(NameRequest { name })
    }

    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_str16(out, self.name);
    }
}

/// The fixed part of the answer to describe.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct DescribeHead {
    /// The topic's id.
    pub topic_id: TopicId,
    /// Its settings; `partitions` of [`PartitionState`] follow.
    pub settings: Settings,
}

/// One partition as describe shows it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct PartitionState {
    /// Partition number.
    pub partition: U32,
    /// The shard that owns it.
    pub shard: U16,
    /// How many ranges of its offsets are damaged.
    pub damaged_ranges: U16,
    /// Offset of the oldest record.
    pub log_start_offset: U64,
    /// Offset behind the newest record that consumers may see.
    pub high_watermark: U64,
    /// Offset behind the newest record.
    pub log_end_offset: U64,
    /// Bytes in segments.
    pub segment_bytes: U64,
    /// Number of segments.
    pub segments: U32,
    /// Epoch of the newest append.
    pub leader_epoch: U32,
    /// The first damaged offset; 0 if there is none.
    pub damaged_from: U64,
    /// The offset behind the first damaged range: 0 if there is none, all ones if nobody knows.
    pub damaged_to: U64,
}

/// Answers describe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescribeReply<'a> {
    /// Id and settings.
    pub head: &'a DescribeHead,
    /// One row per partition, in order.
    pub partitions: &'a [PartitionState],
}

impl<'a> DescribeReply<'a> {
    /// Decodes the body.
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let head = reader.get::<DescribeHead>("describe reply")?;
        let count = usize::try_from(head.settings.partitions.get()).expect("u32 fits usize");
        let partitions = reader.slice(count, "partition rows")?;
        reader.end("bytes after the describe reply")?;
        Ok(DescribeReply { head, partitions })
    }
}
