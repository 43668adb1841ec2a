//! The frame: a 32-byte header, then a body.
//!
//! ```text
//!  0        4  5  6     8          12                  20         24   26   28       32
//!  ├─magic──┼v─┼f─┼kind─┼─stream───┼─correlation id────┼─body len─┼kver┼rsv─┼─crc────┤
//! ```
//!
//! The CRC32C covers the first 28 bytes of the header and the body; with the flag
//! [`FLAG_BATCHES`] the body starts with a u32 that says how many bytes its control part has
//! (the u32 included), the CRC ends there, and record batches, which carry a CRC each, follow.
//! So no byte of a batch is summed twice.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::limits::{CONTROL_BYTES_MAX, FRAME_BODY_BYTES_MAX, FRAME_HEADER_BYTES};
use crate::limits::{FRAME_MAGIC, FRAME_VERSION};
use crate::{ErrorCode, Kind, Malformed, Reader, crc, put_str16};

/// The frame answers a request.
pub const FLAG_REPLY: u8 = 0x01;
/// The body is an [`ErrorReply`].
pub const FLAG_ERROR: u8 = 0x02;
/// The body is a control part followed by record batches.
pub const FLAG_BATCHES: u8 = 0x04;
/// Flags that a receiver knows; any other is must-understand and refused.
pub const FLAGS_KNOWN: u8 = FLAG_REPLY | FLAG_ERROR | FLAG_BATCHES;

/// The first 32 bytes of every frame.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct FrameHeader {
    /// [`FRAME_MAGIC`].
    pub magic: U32,
    /// [`FRAME_VERSION`].
    pub version: u8,
    /// `FLAG_*` bits.
    pub flags: u8,
    /// [`Kind`] as a number.
    pub kind: U16,
    /// Stream within the connection; 0 until push streams exist.
    pub stream_id: U32,
    /// Chosen by the client; its reply repeats it.
    pub correlation_id: U64,
    /// Bytes after the header.
    pub body_bytes: U32,
    /// Version of this kind's body.
    pub kind_version: U16,
    /// Zero.
    pub reserved: U16,
    /// CRC32C, see the module.
    pub crc: U32,
}

const _: () = assert!(size_of::<FrameHeader>() == FRAME_HEADER_BYTES);

/// How many leading header bytes the CRC covers.
const CRC_HEADER_BYTES: usize = FRAME_HEADER_BYTES - 4;

impl FrameHeader {
    /// Reads a header off the front of `bytes`, unverified.
    pub fn peek(bytes: &[u8]) -> Option<&FrameHeader> {
        FrameHeader::ref_from_prefix(bytes).ok().map(|(header, _)| header)
    }

    /// Why no frame of this protocol can start with this header. Checked before a single byte
    /// of the body is awaited, so that a stranger's length is never believed.
    pub fn invalid(&self) -> Option<(ErrorCode, &'static str)> {
        if self.magic.get() != FRAME_MAGIC {
            return Some((ErrorCode::Malformed, "frame magic is not PLTN"));
        }
        if self.version != FRAME_VERSION {
            return Some((ErrorCode::UnsupportedVersion, "frame version is not 1"));
        }
        if self.flags & !FLAGS_KNOWN != 0 {
            return Some((ErrorCode::UnsupportedVersion, "frame has an unknown flag"));
        }
        if self.reserved.get() != 0 {
            return Some((ErrorCode::Malformed, "reserved header bytes are not zero"));
        }
        if self.body_len() > FRAME_BODY_BYTES_MAX {
            return Some((ErrorCode::TooLarge, "frame body is longer than the limit"));
        }
        None
    }

    /// Bytes after the header.
    pub fn body_len(&self) -> usize {
        usize::try_from(self.body_bytes.get()).expect("u32 fits usize on 64-bit Linux")
    }

    /// Header and body together.
    pub fn frame_len(&self) -> usize {
        FRAME_HEADER_BYTES + self.body_len()
    }

    /// How many bytes of `body` the CRC covers.
    pub fn covered<'a>(&self, body: &'a [u8]) -> Result<&'a [u8], Malformed> {
        if self.flags & FLAG_BATCHES == 0 {
            return Ok(body);
        }
        let length = control_len(body).ok_or(Malformed("control part is cut short"))?;
        body.get(..length).ok_or(Malformed("control part is longer than the body"))
    }

    /// Checks the CRC over the header and the covered part of `body`.
    pub fn verify(&self, body: &[u8]) -> Result<(), Malformed> {
        let covered = self.covered(body)?;
        let sum = crc::crc32c(&self.as_bytes()[..CRC_HEADER_BYTES]);
        if crc::crc32c_append(sum, covered) == self.crc.get() {
            Ok(())
        } else {
            Err(Malformed("frame checksum does not match"))
        }
    }
}

/// The length of the control part that a body with [`FLAG_BATCHES`] announces, if it has come
/// and is within its limits.
pub fn control_len(body: &[u8]) -> Option<usize> {
    let (length, _) = U32::ref_from_prefix(body).ok()?;
    let length = usize::try_from(length.get()).ok()?;
    (4..=CONTROL_BYTES_MAX).contains(&length).then_some(length)
}

/// What a frame is, apart from its body.
#[derive(Debug, Clone, Copy)]
pub struct Envelope {
    /// `FLAG_*` bits.
    pub flags: u8,
    /// Kind number (a number, so that unknown kinds can be answered).
    pub kind: u16,
    /// Version of the body.
    pub kind_version: u16,
    /// Correlation id.
    pub correlation_id: u64,
}

impl Envelope {
    /// A request of `kind` at version 1.
    pub const fn request(kind: Kind, correlation_id: u64) -> Self {
        let flags = if matches!(kind, Kind::Produce) { FLAG_BATCHES } else { 0 };
        Envelope { flags, kind: kind.number(), kind_version: 1, correlation_id }
    }

    /// The reply to a request with this header.
    pub const fn reply(kind: Kind, correlation_id: u64) -> Self {
        let batches = if matches!(kind, Kind::Fetch) { FLAG_BATCHES } else { 0 };
        Envelope {
            flags: FLAG_REPLY | batches,
            kind: kind.number(),
            kind_version: 1,
            correlation_id,
        }
    }
}

/// Appends a frame: reserves its header, lets `body` append the body, then fills the header in.
/// `batches_bytes` more bytes are announced that the caller sends right behind (record batches
/// from elsewhere in memory).
pub fn encode(
    out: &mut Vec<u8>,
    envelope: Envelope,
    batches_bytes: usize,
    body: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
    body(out);
    let written = out.len() - start - FRAME_HEADER_BYTES;
    let body_bytes = u32::try_from(written + batches_bytes).expect("bodies are below 4 GiB");
    let mut header = FrameHeader {
        magic: FRAME_MAGIC.into(),
        version: FRAME_VERSION,
        flags: envelope.flags,
        kind: envelope.kind.into(),
        stream_id: 0.into(),
        correlation_id: envelope.correlation_id.into(),
        body_bytes: body_bytes.into(),
        kind_version: envelope.kind_version.into(),
        reserved: 0.into(),
        crc: 0.into(),
    };
    let body = &out[start + FRAME_HEADER_BYTES..];
    let covered = header.covered(body).expect("encoders write a control length that fits");
    let sum = crc::crc32c(&header.as_bytes()[..CRC_HEADER_BYTES]);
    header.crc = crc::crc32c_append(sum, covered).into();
    out[start..start + FRAME_HEADER_BYTES].copy_from_slice(header.as_bytes());
}

/// The body of a frame with [`FLAG_ERROR`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorReply<'a> {
    /// What went wrong; an unknown number decodes as its class would be treated.
    pub code: u16,
    /// Wait this long before trying again; 0 says nothing.
    pub retry_after_ms: u32,
    /// A sentence for people, possibly empty.
    pub detail: &'a str,
}

impl<'a> ErrorReply<'a> {
    /// Decodes the body.
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let code = reader.get::<U16>("error code")?.get();
        let retry_after_ms = reader.get::<U32>("retry after")?.get();
        let detail = reader.str16(crate::limits::ERROR_DETAIL_BYTES_MAX, "error detail")?;
        reader.end("bytes after the error reply")?;
        Ok(ErrorReply { code, retry_after_ms, detail })
    }

    /// Appends the whole frame that answers `kind` and `correlation_id` with this error.
    pub fn encode(&self, out: &mut Vec<u8>, kind: u16, correlation_id: u64) {
        let flags = FLAG_REPLY | FLAG_ERROR;
        encode(out, Envelope { flags, kind, kind_version: 1, correlation_id }, 0, |out| {
            out.extend_from_slice(&self.code.to_le_bytes());
            out.extend_from_slice(&self.retry_after_ms.to_le_bytes());
            put_str16(out, self.detail);
        });
    }
}
