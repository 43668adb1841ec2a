//! Hello: the first frame of a connection, at most 4 KiB.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::limits::CLIENT_NAME_BYTES_MAX;
use crate::{Malformed, Reader, kind, put_str16};

/// What a client says first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// Oldest frame version it speaks.
    pub version_min: u8,
    /// Newest frame version it speaks.
    pub version_max: u8,
    /// Feature bits it would use; none is defined yet.
    pub features: u64,
    /// Name of the program, for logs.
    pub client: &'a str,
}

impl<'a> Request<'a> {
    /// Decodes the body.
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let version_min = *reader.get::<u8>("version range")?;
        let version_max = *reader.get::<u8>("version range")?;
        let features = reader.get::<U64>("feature bits")?.get();
        let client = reader.str16(CLIENT_NAME_BYTES_MAX, "client name")?;
        reader.end("bytes after hello")?;
        Ok(Request { version_min, version_max, features, client })
    }

    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.version_min);
        out.push(self.version_max);
        out.extend_from_slice(&self.features.to_le_bytes());
        put_str16(out, self.client);
    }
}

/// The fixed part of the broker's answer: who it is and what it allows.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct ReplyHead {
    /// The broker's own 128-bit id.
    pub broker_id: [u8; 16],
    /// How often it has started; also the leader epoch of what it appends.
    pub boot_epoch: U32,
    /// Longest frame body it reads, in bytes.
    pub frame_body_bytes_max: U32,
    /// Longest record batch it takes, in bytes.
    pub batch_bytes_max: U32,
    /// Most requests of a connection that may wait for their replies.
    pub requests_in_flight_max: U32,
    /// Most request bytes of a connection that may wait for their replies.
    pub credit_bytes: U32,
    /// Frame version that both will use.
    pub version: u8,
    /// Zero.
    pub reserved: u8,
    /// How many [`KindVersions`] follow.
    pub kind_count: U16,
    /// Feature bits that both will use.
    pub features: U64,
}

/// The versions of one request kind that the broker speaks.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct KindVersions {
    /// Kind number.
    pub kind: U16,
    /// Oldest version.
    pub version_min: U16,
    /// Newest version.
    pub version_max: U16,
}

/// What the broker answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    /// Identity and limits.
    pub head: &'a ReplyHead,
    /// Served kinds.
    pub kinds: &'a [KindVersions],
}

impl<'a> Reply<'a> {
    /// Decodes the body.
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let head = reader.get::<ReplyHead>("hello reply")?;
        let kinds = reader.slice(usize::from(head.kind_count.get()), "kind table")?;
        reader.end("bytes after the hello reply")?;
        Ok(Reply { head, kinds })
    }
}

/// Appends the body of the reply: `head` with the table of served kinds behind it.
pub fn encode_reply(out: &mut Vec<u8>, mut head: ReplyHead) {
    head.kind_count = u16::try_from(kind::SERVED.len()).expect("a few kinds").into();
    out.extend_from_slice(head.as_bytes());
    for range in kind::SERVED {
        let row = KindVersions {
            kind: range.kind.number().into(),
            version_min: range.version_min.into(),
            version_max: range.version_max.into(),
        };
        out.extend_from_slice(row.as_bytes());
    }
}
