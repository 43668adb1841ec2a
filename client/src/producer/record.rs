//! The record as a producer takes it.

use wire::batch::{BATCH_HEADER_BYTES, varint_len};

/// One record to send; it borrows what it consists of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its partition; `None` lets the key, or without key the producer, decide.
    pub partition: Option<u32>,
    /// Its key: records with the same key go to the same partition.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
    /// Its time in ms since 1970; `None` takes the time of sending.
    pub timestamp_ms: Option<i64>,
}

impl<'a> Record<'a> {
    /// A record without key.
    pub const fn value(value: &'a [u8]) -> Self {
        Record { partition: None, key: None, value: Some(value), headers: &[], timestamp_ms: None }
    }

    /// A record with a key.
    pub const fn keyed(key: &'a [u8], value: &'a [u8]) -> Self {
        Record { key: Some(key), ..Record::value(value) }
    }

    /// Bytes that it adds to a batch at most.
    pub(super) fn record_bytes_max(&self) -> usize {
        const VARINTS_BYTES_MAX: usize = 40;
        let blob = |blob: Option<&[u8]>| blob.map_or(1, |blob| 5 + blob.len());
        let headers: usize =
            self.headers.iter().map(|(name, value)| blob(Some(name)) + blob(*value)).sum();
        VARINTS_BYTES_MAX + blob(self.key) + blob(self.value) + headers
    }

    /// Bytes of a batch that holds nothing else, exactly.
    pub(super) fn batch_bytes_alone(&self) -> usize {
        let varint = |value: usize| varint_len(i64::try_from(value).unwrap_or(i64::MAX));
        let blob = |blob: Option<&[u8]>| blob.map_or(1, |blob| varint(blob.len()) + blob.len());
        let headers: usize =
            self.headers.iter().map(|(name, value)| blob(Some(name)) + blob(*value)).sum();
        // Attributes, and the deltas of time and offset, which are 0 in the first record.
        let body = 3 + blob(self.key) + blob(self.value) + varint(self.headers.len()) + headers;
        BATCH_HEADER_BYTES + varint(body) + body
    }
}

/// Where a record went: its place in its partition's [`super::Delivery`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentRecord {
    /// Partition.
    pub partition: u32,
    /// Count of this producer's records in that partition before it.
    pub index: u64,
}
