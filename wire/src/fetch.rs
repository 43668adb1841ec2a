//! Fetch: record batches from partitions, with long polling.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::limits::{BATCH_BYTES_MAX, REQUEST_PARTITIONS_MAX};
use crate::{Malformed, Reader, TopicId};

/// The fixed start of a request.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RequestHead {
    /// Wait at most this long for `min_bytes`, in ms; 0 answers at once.
    pub max_wait_ms: U32,
    /// Answer as soon as this many bytes of batches are there.
    pub min_bytes: U32,
    /// Send at most this many bytes of batches, but always one batch if there is one.
    pub max_bytes: U32,
    /// 0: read uncommitted. Reserved for transactions.
    pub isolation: u8,
    /// Zero: no flag is defined.
    pub flags: u8,
    /// How many [`RequestEntry`] follow.
    pub partition_count: U16,
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
    /// Leader epoch the consumer knows; `u32::MAX` says none.
    pub leader_epoch: U32,
    /// First offset wanted. The first batch sent may begin before it.
    pub offset: U64,
    /// Send at most this many bytes of this partition, but always one batch.
    pub partition_max_bytes: U32,
    /// Zero.
    pub reserved: U32,
}

/// A fetch request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// Waiting and sizes.
    pub head: &'a RequestHead,
    /// Which partitions.
    pub entries: &'a [RequestEntry],
}

impl<'a> Request<'a> {
    /// Decodes the body.
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let head = reader.get::<RequestHead>("fetch head")?;
        let count = usize::from(head.partition_count.get());
        if count == 0 || count > REQUEST_PARTITIONS_MAX {
            return Err(Malformed("fetch names no partition, or more than the limit"));
        }
        if head.isolation != 0 || head.flags != 0 {
            return Err(Malformed("fetch isolation and flags are not served yet"));
        }
        let entries = reader.slice(count, "fetch entries")?;
        reader.end("bytes after fetch")?;
        Ok(Request { head, entries })
    }

    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.head.as_bytes());
        out.extend_from_slice(self.entries.as_bytes());
    }
}

/// The fixed start of the reply's control part.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct ReplyHead {
    /// Bytes of the control part, this field included.
    pub control_bytes: U32,
    /// How many [`ReplyEntry`] follow.
    pub partition_count: U16,
    /// Zero.
    pub reserved: U16,
}

/// One partition of a reply. Its batches stand behind the control part.
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
    /// Zero: number of aborted ranges, once transactions exist.
    pub aborted_count: U16,
    /// Offset behind the newest record that consumers may see.
    pub high_watermark: U64,
    /// The same, until transactions exist.
    pub last_stable_offset: U64,
    /// Offset of the oldest record.
    pub log_start_offset: U64,
    /// Bytes of batches that belong to this partition.
    pub batches_bytes: U32,
    /// Leader epoch of the partition.
    pub leader_epoch: U32,
}

/// A fetch reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    /// One row per partition, in the order of the request.
    pub entries: &'a [ReplyEntry],
    /// Their batches, back to back in the order of `entries`.
    pub batches: &'a [u8],
}

impl<'a> Reply<'a> {
    /// Decodes the body. Batches are measured, not looked into.
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let head = reader.get::<ReplyHead>("fetch reply head")?;
        let count = usize::from(head.partition_count.get());
        let entries = reader.slice::<ReplyEntry>(count, "fetch reply entries")?;
        let control = size_of::<ReplyHead>() + size_of_val(entries);
        if usize::try_from(head.control_bytes.get()) != Ok(control) {
            return Err(Malformed("fetch control length does not fit its entries"));
        }
        let batches = reader.rest();
        let sum: u64 = entries.iter().map(|entry| u64::from(entry.batches_bytes.get())).sum();
        if u64::try_from(batches.len()) != Ok(sum) {
            return Err(Malformed("batch lengths do not add up to the body"));
        }
        Ok(Reply { entries, batches })
    }

    /// Every entry with its batches.
    pub fn parts(&self) -> impl Iterator<Item = (&'a ReplyEntry, &'a [u8])> + use<'a> {
        let mut rest = self.batches;
        self.entries.iter().map(move |entry| {
            let bytes = usize::try_from(entry.batches_bytes.get()).expect("u32 fits usize");
            let (batches, tail) = rest.split_at(bytes);
            rest = tail;
            (entry, batches)
        })
    }
}

/// Appends the control part of a reply; the batches follow it in the order of `entries`.
pub fn encode_reply_control(out: &mut Vec<u8>, entries: &[ReplyEntry]) {
    let control = size_of::<ReplyHead>() + size_of_val(entries);
    let head = ReplyHead {
        control_bytes: u32::try_from(control).expect("control parts are bounded").into(),
        partition_count: u16::try_from(entries.len()).expect("entries are bounded").into(),
        reserved: 0.into(),
    };
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(entries.as_bytes());
}

/// Most bytes of batches in one reply.
pub const REPLY_BATCHES_BYTES_MAX: usize = BATCH_BYTES_MAX;
