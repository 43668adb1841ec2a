//! Record batches that are built once and sent many times.
//!
//! Between two batches of a producer only the 40-byte headers of the values, the times and the
//! checksums differ. The template holds one whole batch; a shorter one is its front.

use wire::batch::{BATCH_HEADER_BYTES, BatchBuilder, BatchHeader, CRC_FROM, LENGTH_FROM};
use wire::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};
use zerocopy::FromBytes;

use super::choices::BatchSize;
use crate::payload::{Encoder, HEADER_LEN, Header};

/// One batch of the largest size that a run sends.
pub(super) struct BatchTemplate {
    encoder: Encoder,
    bytes: Vec<u8>,
    /// Where each record ends.
    ends: Vec<usize>,
}

impl BatchTemplate {
    /// A template of values of `value_len` bytes.
    pub(super) fn new(value_len: u32, seed: u64, size: BatchSize) -> Self {
        let encoder = Encoder::new(value_len, seed);
        let mut value = vec![0; encoder.value_len()];
        encoder.fill(&mut value);
        let (records_max, bytes_max) = match size {
            BatchSize::Records(records) => (records, BATCH_BYTES_MAX),
            BatchSize::Bytes(bytes) => (BATCH_RECORDS_MAX, bytes as usize),
        };
        let mut builder = BatchBuilder::with_capacity(bytes_max.min(BATCH_BYTES_MAX));
        let mut ends = Vec::new();
        while builder.record_count() < records_max {
            let len = builder.len() + builder.record_len(0, None, Some(&value));
            if len > bytes_max && !builder.is_empty() {
                break;
            }
            builder.push(0, None, Some(&value));
            ends.push(builder.len());
        }
        let bytes = builder.finish().to_vec();
        Self { encoder, bytes, ends }
    }

    /// Records of a full batch.
    pub(super) fn records_max(&self) -> u32 {
        u32::try_from(self.ends.len()).expect("bounded by BATCH_RECORDS_MAX")
    }

    /// Bytes of each value.
    pub(super) fn value_len(&self) -> usize {
        self.encoder.value_len()
    }

    /// Bytes of a full batch.
    pub(super) fn len_max(&self) -> usize {
        self.bytes.len()
    }

    /// Writes the header of record `index`.
    #[inline]
    pub(super) fn put(&mut self, index: u32, header: &Header) {
        // The value is the last field but one: an empty header count of one byte follows it.
        let value_end = self.ends[index as usize] - 1;
        let value_start = value_end - self.encoder.value_len();
        self.encoder.encode(&mut self.bytes[value_start..value_start + HEADER_LEN], header);
    }

    /// The batch of the first `count` records, which bear the time `now_ms`.
    ///
    /// # Panics
    /// If `count` is zero or above [`Self::records_max`].
    pub(super) fn finish(&mut self, count: u32, now_ms: i64) -> &[u8] {
        let end = self.ends[count as usize - 1];
        let bytes = &mut self.bytes[..end];
        let records = i32::try_from(count).expect("bounded by BATCH_RECORDS_MAX");
        let length = i32::try_from(end - LENGTH_FROM).expect("bounded by BATCH_BYTES_MAX");
        let (header, _) =
            BatchHeader::mut_from_prefix(bytes).expect("a batch is longer than its header");
        header.length = length.into();
        header.last_offset_delta = (records - 1).into();
        header.record_count = records.into();
        header.base_timestamp = now_ms.into();
        header.max_timestamp = now_ms.into();
        let sum = wire::crc::crc32c(&bytes[CRC_FROM..]);
        BatchHeader::mut_from_prefix(bytes).expect("as above").0.crc = sum.into();
        bytes
    }
}

const _: () = assert!(BATCH_HEADER_BYTES > CRC_FROM);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::verify;
    use wire::batch::Batch;

    #[test]
    fn full_and_short_batches_are_what_the_broker_takes() {
        let mut template = BatchTemplate::new(100, 3, BatchSize::Records(1000));
        assert_eq!(template.records_max(), 1000);
        for (round, count) in [1000u32, 1, 63, 64, 65, 999, 1000].into_iter().enumerate() {
            for index in 0..count {
                let sequence = round as u64 * 1000 + u64::from(index);
                let (intended_ns, sent_ns) = (sequence, sequence);
                let header =
                    Header { run: 9, producer: 1, partition: 2, sequence, intended_ns, sent_ns };
                template.put(index, &header);
            }
            let bytes = template.finish(count, 1_700_000_000_000);
            let batch = Batch::validate(bytes).expect("valid");
            assert_eq!(batch.record_count(), count);
            for (index, record) in batch.records().enumerate() {
                let record = record.expect("whole");
                let header = verify(record.value.expect("it has one")).expect("intact");
                assert_eq!(header.sequence, round as u64 * 1000 + index as u64);
                assert_eq!(record.timestamp_ms, 1_700_000_000_000);
            }
        }
    }

    #[test]
    fn sizes_in_bytes_are_kept() {
        let template = BatchTemplate::new(100, 3, BatchSize::Bytes(65_536));
        assert!(template.len_max() <= 65_536 && template.len_max() > 65_000);
        let tiny = BatchTemplate::new(1000, 3, BatchSize::Bytes(10));
        assert_eq!(tiny.records_max(), 1);
    }
}
