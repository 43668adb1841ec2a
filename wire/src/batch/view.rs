//! A view of a batch where it lies.

use zerocopy::big_endian::{I16, I32, I64, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::record::{Records, walk_records};
use super::{ATTRIBUTES_CODEC_MASK, ATTRIBUTES_CONTROL, ATTRIBUTES_TRANSACTIONAL};
use super::{BATCH_HEADER_BYTES, BATCH_MAGIC, CRC_FROM, LENGTH_FROM};
use crate::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};
use crate::{ErrorCode, crc};

/// The first 61 bytes of a batch.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct BatchHeader {
    /// Offset of the first record; written by the broker.
    pub base_offset: I64,
    /// Bytes from `leader_epoch` to the end.
    pub length: I32,
    /// Epoch of the broker that appended it; written by the broker.
    pub leader_epoch: I32,
    /// 2.
    pub magic: i8,
    /// CRC32C from `attributes` to the end.
    pub crc: U32,
    /// Codec, timestamp type, transactional and control bits.
    pub attributes: I16,
    /// Offset of the last record, less the base offset.
    pub last_offset_delta: I32,
    /// Time of the first record in ms.
    pub base_timestamp: I64,
    /// Newest time in ms.
    pub max_timestamp: I64,
    /// Producer id, -1 for none.
    pub producer_id: I64,
    /// Producer epoch, -1 for none.
    pub producer_epoch: I16,
    /// Sequence of the first record, -1 for none.
    pub base_sequence: I32,
    /// Number of records.
    pub record_count: I32,
}

const _: () = assert!(size_of::<BatchHeader>() == BATCH_HEADER_BYTES);

/// Why bytes are not a batch that can be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchError {
    /// The code to answer with.
    pub code: ErrorCode,
    /// What is wrong.
    pub reason: &'static str,
}

const fn invalid<T>(reason: &'static str) -> Result<T, BatchError> {
    Err(BatchError { code: ErrorCode::InvalidRecord, reason })
}

/// One whole batch. Made by [`Batch::split`] its extent is right; made by [`Batch::validate`]
/// its checksum and records are, too.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Takes the batch at the front of `bytes`; gives it and the rest. Only its extent and magic
    /// are checked.
    pub fn split(bytes: &'a [u8]) -> Result<(Batch<'a>, &'a [u8]), BatchError> {
        let Ok((header, _)) = BatchHeader::ref_from_prefix(bytes) else {
            return invalid("the batch is shorter than its header");
        };
        if header.magic != BATCH_MAGIC {
            return invalid("the batch's magic is not 2");
        }
        let Ok(length) = usize::try_from(header.length.get()) else {
            return invalid("the batch's length is negative");
        };
        if length < BATCH_HEADER_BYTES - LENGTH_FROM {
            return invalid("the batch's length does not cover its header");
        }
        if length > BATCH_BYTES_MAX {
            let reason = "the batch is longer than the limit";
            return Err(BatchError { code: ErrorCode::TooLarge, reason });
        }
        match bytes.split_at_checked(LENGTH_FROM + length) {
            Some((batch, rest)) => Ok((Batch { bytes: batch }, rest)),
            None => invalid("the batch is cut short"),
        }
    }

    /// Checks that `bytes` are exactly one batch as a producer may send it: extent, checksum,
    /// counts, and the extent of every record unless they are compressed.
    pub fn validate(bytes: &'a [u8]) -> Result<Batch<'a>, BatchError> {
        let (batch, rest) = Batch::split(bytes)?;
        if !rest.is_empty() {
            return invalid("bytes follow the batch");
        }
        batch.verify_crc()?;
        let header = batch.header();
        let count = match u32::try_from(header.record_count.get()) {
            Ok(count @ 1..=BATCH_RECORDS_MAX) => count,
            _ => return invalid("the record count is not between 1 and the limit"),
        };
        if i64::from(header.last_offset_delta.get()) != i64::from(count) - 1 {
            return invalid("the last offset delta is not the record count less one");
        }
        let attributes = header.attributes.get();
        if attributes & (ATTRIBUTES_TRANSACTIONAL | ATTRIBUTES_CONTROL) != 0
            || header.producer_id.get() != -1
        {
            let reason = "producer ids and transactions are not served yet";
            return Err(BatchError { code: ErrorCode::ProducerIdUnsupported, reason });
        }
        match attributes & ATTRIBUTES_CODEC_MASK {
            0 => match walk_records(&bytes[BATCH_HEADER_BYTES..], count) {
                Ok(()) => Ok(batch),
                Err(reason) => invalid(reason),
            },
            1..=4 => Ok(batch),
            _ => {
                let reason = "the batch's compression codec is unknown";
                Err(BatchError { code: ErrorCode::UnsupportedCompression, reason })
            }
        }
    }

    /// Checks the checksum.
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        if crc::crc32c(&self.bytes[CRC_FROM..]) == self.header().crc.get() {
            return Ok(());
        }
        let reason = "the batch's checksum does not match its bytes";
        Err(BatchError { code: ErrorCode::CorruptMessage, reason })
    }

    /// All its bytes.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Its header.
    pub fn header(&self) -> &'a BatchHeader {
        BatchHeader::ref_from_prefix(self.bytes).expect("split checked the length").0
    }

    /// Number of records; 0 if the header lies below zero.
    pub fn record_count(&self) -> u32 {
        u32::try_from(self.header().record_count.get()).unwrap_or(0)
    }

    /// Offset of the first record.
    pub fn base_offset(&self) -> u64 {
        u64::try_from(self.header().base_offset.get()).unwrap_or(0)
    }

    /// Offset behind the last record.
    pub fn next_offset(&self) -> u64 {
        let delta = u64::try_from(self.header().last_offset_delta.get()).unwrap_or(0);
        self.base_offset().saturating_add(delta).saturating_add(1)
    }

    /// Whether its records are compressed.
    pub fn is_compressed(&self) -> bool {
        self.header().attributes.get() & ATTRIBUTES_CODEC_MASK != 0
    }

    /// Its records, in order. Only for batches that are not compressed.
    pub fn records(&self) -> Records<'a> {
        let base_time = self.header().base_timestamp.get();
        let body = &self.bytes[BATCH_HEADER_BYTES..];
        Records::new(body, self.record_count(), self.base_offset(), base_time)
    }

    /// Writes the two fields that the broker owns into a batch's bytes.
    ///
    /// # Panics
    /// If `bytes` are shorter than a batch header.
    pub fn stamp(bytes: &mut [u8], base_offset: u64, leader_epoch: u32) {
        let (header, _) = BatchHeader::mut_from_prefix(bytes).expect("a validated batch");
        header.base_offset = i64::try_from(base_offset).expect("offsets are below 2^63").into();
        header.leader_epoch = (leader_epoch & 0x7fff_ffff).cast_signed().into();
    }
}

/// Batches back to back. Ends at the first that is not whole, with its error.
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    rest: &'a [u8],
}

impl<'a> Batches<'a> {
    /// The batches in `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Batches { rest: bytes }
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<Batch<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match Batch::split(self.rest) {
            Ok((batch, rest)) => {
                self.rest = rest;
                Some(Ok(batch))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}
