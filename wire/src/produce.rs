//! Produce: record batches for one or more partitions.
//!
//! The body has [`crate::frame::FLAG_BATCHES`]: control part, then each entry's batch in order.
//! Producer id, epoch and base sequence stand inside the batches, as Kafka has them; a batch
//! with a producer id, like a transactional id here, is refused until idempotence exists.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::limits::{BATCH_BYTES_MAX, REQUEST_PARTITIONS_MAX};
use crate::{Malformed, Reader, TopicId};

/// The reply shall tell where the time went.
pub const FLAG_TIMING: u8 = 0x01;

/// The fixed start of the control part.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RequestHead {
    /// Bytes of the control part, this field included.
    pub control_bytes: U32,
    /// [`crate::Acks`].
    pub acks: u8,
    /// `FLAG_*` bits; an unknown one is refused.
    pub flags: u8,
    /// How many [`RequestEntry`] follow.
    pub partition_count: U16,
    /// Answer TIMED_OUT after this long, in ms; 0 waits for ever.
    pub timeout_ms: U32,
    /// Zero: transactions do not exist yet.
    pub transactional_id_bytes: U16,
    /// Zero.
    pub reserved: U16,
}

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
    /// Bytes of its record batch: exactly one batch.
    pub batch_bytes: U32,
}

/// Bytes of the control part of a request for one partition.
pub const CONTROL_BYTES_ONE: usize = size_of::<RequestHead>() + size_of::<RequestEntry>();

/// A produce request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// Acks, timeout and counts.
    pub head: &'a RequestHead,
    /// Which partitions.
    pub entries: &'a [RequestEntry],
    /// Their batches, back to back in the order of `entries`.
    pub batches: &'a [u8],
}

impl<'a> Request<'a> {
    /// Decodes the body. Batches are measured, not looked into.
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let head = reader.get::<RequestHead>("produce head")?;
        let count = usize::from(head.partition_count.get());
        if count == 0 || count > REQUEST_PARTITIONS_MAX {
            return Err(Malformed("produce names no partition, or more than the limit"));
        }
        if head.transactional_id_bytes.get() != 0 {
            return Err(Malformed("transactional ids are not served yet"));
        }
        let entries = reader.slice::<RequestEntry>(count, "produce entries")?;
        let control = size_of::<RequestHead>() + size_of_val(entries);
        if usize::try_from(head.control_bytes.get()) != Ok(control) {
            return Err(Malformed("produce control length does not fit its entries"));
        }
        let batches = reader.rest();
        let mut sum = 0usize;
        for entry in entries {
            let bytes = usize::try_from(entry.batch_bytes.get()).expect("u32 fits usize");
            if bytes > BATCH_BYTES_MAX {
                return Err(Malformed("a batch is longer than the limit"));
            }
            sum += bytes;
        }
        if sum != batches.len() {
            return Err(Malformed("batch lengths do not add up to the body"));
        }
        Ok(Request { head, entries, batches })
    }

    /// Every entry with its batch.
    pub fn parts(&self) -> impl Iterator<Item = (&'a RequestEntry, &'a [u8])> + use<'a> {
        let mut rest = self.batches;
        self.entries.iter().map(move |entry| {
            let bytes = usize::try_from(entry.batch_bytes.get()).expect("u32 fits usize");
            let (batch, tail) = rest.split_at(bytes);
            rest = tail;
            (entry, batch)
        })
    }
}

/// Appends the control part; the batches follow it in the order of `entries`.
pub fn encode_control(
    out: &mut Vec<u8>,
    acks: crate::Acks,
    flags: u8,
    timeout_ms: u32,
    entries: &[RequestEntry],
) {
    let control = size_of::<RequestHead>() + size_of_val(entries);
    let head = RequestHead {
        control_bytes: u32::try_from(control).expect("control parts are bounded").into(),
        acks: acks as u8,
        flags,
        partition_count: u16::try_from(entries.len()).expect("entries are bounded").into(),
        timeout_ms: timeout_ms.into(),
        transactional_id_bytes: 0.into(),
        reserved: 0.into(),
    };
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(entries.as_bytes());
}

/// The fixed start of the reply.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct ReplyHead {
    /// How many [`ReplyEntry`] follow.
    pub partition_count: U16,
    /// [`FLAG_TIMING`] if a [`Timing`] ends the body.
    pub flags: u8,
    /// Zero.
    pub reserved: u8,
}

/// What became of one partition's batch.
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
    /// Offset given to the first record, when there is no error.
    pub base_offset: U64,
    /// Offset of the partition's oldest record.
    pub log_start_offset: U64,
}

impl ReplyEntry {
    /// The batch of `entry` was appended at `base_offset` to a partition that begins at 0.
    #[must_use]
    pub fn appended(entry: &RequestEntry, base_offset: u64) -> Self {
        Self {
            topic_id: entry.topic_id,
            partition: entry.partition,
            error: 0.into(),
            reserved: 0.into(),
            base_offset: base_offset.into(),
            log_start_offset: 0.into(),
        }
    }
}

/// Where the time of a request went on the server, in ns.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Timing {
    /// From its bytes being seen to its being handled.
    pub queue_ns: U64,
    /// From there to its commit being submitted.
    pub append_ns: U64,
    /// From there to its being acknowledged.
    pub commit_ns: U64,
}

/// A produce reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    /// One row per partition, in the order of the request.
    pub entries: &'a [ReplyEntry],
    /// Where the time went, if it was asked for.
    pub timing: Option<&'a Timing>,
}

impl<'a> Reply<'a> {
    /// Decodes the body.
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let head = reader.get::<ReplyHead>("produce reply head")?;
        let count = usize::from(head.partition_count.get());
        let entries = reader.slice(count, "produce reply entries")?;
        let timing = match head.flags & FLAG_TIMING {
            0 => None,
            _ => Some(reader.get::<Timing>("produce timing")?),
        };
        reader.end("bytes after the produce reply")?;
        Ok(Reply { entries, timing })
    }
}

/// Appends the body of a reply.
pub fn encode_reply(out: &mut Vec<u8>, entries: &[ReplyEntry], timing: Option<&Timing>) {
    let head = ReplyHead {
        partition_count: u16::try_from(entries.len()).expect("entries are bounded").into(),
        flags: if timing.is_some() { FLAG_TIMING } else { 0 },
        reserved: 0,
    };
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(entries.as_bytes());
    if let Some(timing) = timing {
        out.extend_from_slice(timing.as_bytes());
    }
}
