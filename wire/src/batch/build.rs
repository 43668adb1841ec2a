//! Builds a batch in a buffer that is reused.

use zerocopy::IntoBytes;

use super::varint::{put_varint, varint_len};
use super::view::BatchHeader;
use super::{BATCH_HEADER_BYTES, BATCH_MAGIC, CRC_FROM, LENGTH_FROM};
use crate::crc;

/// Gathers records into one batch. `clear` keeps the memory.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    bytes: Vec<u8>,
    count: u32,
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
}

impl BatchBuilder {
    /// An empty batch with room for `capacity` bytes before it grows.
    pub fn with_capacity(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity.max(BATCH_HEADER_BYTES));
        bytes.resize(BATCH_HEADER_BYTES, 0);
        BatchBuilder { bytes, count: 0, base_timestamp_ms: 0, max_timestamp_ms: i64::MIN }
    }

    /// Forgets all records.
    pub fn clear(&mut self) {
        self.bytes.truncate(BATCH_HEADER_BYTES);
        self.count = 0;
        self.max_timestamp_ms = i64::MIN;
    }

    /// Number of records.
    pub const fn record_count(&self) -> u32 {
        self.count
    }

    /// Bytes of the batch so far, header included.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has no record.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many bytes a record without headers would add.
    pub fn record_len(&self, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> usize {
        let body = self.body_len(timestamp_ms, key, value);
        varint_len(as_i64(body)) + body
    }

    /// Appends a record without headers.
    pub fn push(&mut self, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.push_with_headers(timestamp_ms, key, value, &[]);
    }

    /// Appends a record.
    pub fn push_with_headers(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) {
        let mut body = self.body_len(timestamp_ms, key, value) - 1;
        body += varint_len(as_i64(headers.len()));
        for (name, value) in headers {
            body += blob_len(Some(name)) + blob_len(*value);
        }
        if self.count == 0 {
            self.base_timestamp_ms = timestamp_ms;
        }
        self.max_timestamp_ms = self.max_timestamp_ms.max(timestamp_ms);
        put_varint(&mut self.bytes, as_i64(body));
        self.bytes.push(0);
        put_varint(&mut self.bytes, timestamp_ms - self.base_timestamp_ms);
        put_varint(&mut self.bytes, i64::from(self.count));
        put_blob(&mut self.bytes, key);
        put_blob(&mut self.bytes, value);
        put_varint(&mut self.bytes, as_i64(headers.len()));
        for (name, value) in headers {
            put_blob(&mut self.bytes, Some(name));
            put_blob(&mut self.bytes, *value);
        }
        self.count += 1;
    }

    /// Fills the header in and gives the batch's bytes. The builder may go on being filled, or
    /// be cleared.
    ///
    /// # Panics
    /// If it is empty: an empty batch cannot be sent.
    pub fn finish(&mut self) -> &[u8] {
        assert!(self.count > 0, "a batch has at least one record");
        let count = i32::try_from(self.count).expect("bounded by BATCH_RECORDS_MAX");
        let length = i32::try_from(self.bytes.len() - LENGTH_FROM).expect("bounded");
        let header = BatchHeader {
            base_offset: 0.into(),
            length: length.into(),
            leader_epoch: (-1).into(),
            magic: BATCH_MAGIC,
            crc: 0.into(),
            attributes: 0.into(),
            last_offset_delta: (count - 1).into(),
            base_timestamp: self.base_timestamp_ms.into(),
            max_timestamp: self.max_timestamp_ms.into(),
            producer_id: (-1).into(),
            producer_epoch: (-1).into(),
            base_sequence: (-1).into(),
            record_count: count.into(),
        };
        self.bytes[..BATCH_HEADER_BYTES].copy_from_slice(header.as_bytes());
        let sum = crc::crc32c(&self.bytes[CRC_FROM..]);
        self.bytes[17..CRC_FROM].copy_from_slice(&sum.to_be_bytes());
        &self.bytes
    }

    fn body_len(&self, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> usize {
        let delta = if self.count == 0 { 0 } else { timestamp_ms - self.base_timestamp_ms };
        1 + varint_len(delta)
            + varint_len(i64::from(self.count))
            + blob_len(key)
            + blob_len(value)
            + 1
    }
}

fn blob_len(blob: Option<&[u8]>) -> usize {
    blob.map_or(1, |blob| varint_len(as_i64(blob.len())) + blob.len())
}

fn put_blob(out: &mut Vec<u8>, blob: Option<&[u8]>) {
    match blob {
        None => put_varint(out, -1),
        Some(blob) => {
            put_varint(out, as_i64(blob.len()));
            out.extend_from_slice(blob);
        }
    }
}

fn as_i64(length: usize) -> i64 {
    i64::try_from(length).expect("lengths in memory are below 2^63")
}

#[cfg(test)]
mod tests {
    use super::super::{Batch, Batches};
    use super::*;

    #[test]
    fn built_batches_validate_and_read_back() {
        let mut builder = BatchBuilder::with_capacity(64);
        builder.push(1000, None, Some(b"one"));
        let expected = builder.len() + builder.record_len(1010, Some(b"k"), None);
        builder.push(1010, Some(b"k"), None);
        assert_eq!(builder.len(), expected);
        builder.push_with_headers(990, None, Some(b""), &[(b"h", Some(b"v")), (b"i", None)]);
        let mut bytes = builder.finish().to_vec();
        Batch::stamp(&mut bytes, 42, 7);
        let batch = Batch::validate(&bytes).expect("valid");
        assert_eq!((batch.base_offset(), batch.next_offset()), (42, 45));
        let records: Vec<_> = batch.records().map(|record| record.expect("whole")).collect();
        assert_eq!(records[0].value, Some(&b"one"[..]));
        assert_eq!((records[1].offset, records[1].timestamp_ms), (43, 1010));
        assert_eq!(records[1].key, Some(&b"k"[..]));
        assert_eq!(records[2].timestamp_ms, 990);
        let headers: Vec<_> = records[2].headers.collect();
        assert_eq!((headers[0].key, headers[1].value), (&b"h"[..], None));
        let twice = [&bytes[..], &bytes[..]].concat();
        assert_eq!(Batches::new(&twice).filter(Result::is_ok).count(), 2);
    }

    #[test]
    fn lies_are_refused() {
        let mut builder = BatchBuilder::with_capacity(64);
        builder.push(5, None, Some(b"value"));
        builder.push(6, None, Some(b"value"));
        let good = builder.finish().to_vec();
        for index in 0..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 0x10;
            // Base offset and leader epoch are the broker's own and outside the checksum.
            let owned = index < 8 || (12..16).contains(&index);
            assert_eq!(Batch::validate(&bad).is_ok(), owned, "byte {index}");
        }
        let mut lying = good.clone();
        lying[57..61].copy_from_slice(&3i32.to_be_bytes());
        lying[23..27].copy_from_slice(&2i32.to_be_bytes());
        let sum = crc::crc32c(&lying[CRC_FROM..]);
        lying[17..21].copy_from_slice(&sum.to_be_bytes());
        assert!(Batch::validate(&lying).is_err());
    }
}
