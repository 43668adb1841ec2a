//! Record batches that are built once and sent many times.
//!
//! Between two batches of a producer only the 40-byte headers of the values, the keys, the times
//! and the checksums differ. A template holds one whole batch; a shorter one is its front. Where
//! values differ in size, there are several templates, which take turns.

use wire::batch::{BATCH_HEADER_BYTES, BatchBuilder, BatchHeader, CRC_FROM, LENGTH_FROM};
use wire::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};
use zerocopy::FromBytes;

use super::choices::BatchSize;
use super::records::{Keys, Sizes, fill};
use crate::payload::{Encoder, HEADER_LEN, Header, encode_over};
use crate::random::Random;

/// Templates of different sizes hold about so many records together ..
const RECORDS_WANTED: usize = 4_096;
/// .. in at most so many bytes, unless they are fewer than this.
const BYTES_WANTED: usize = 8 << 20;
const TEMPLATES_MIN: usize = 8;
/// Bytes of a key.
const KEY_BYTES: usize = 8;

/// What the values and keys of a load look like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Bytes of each value, unless sizes are drawn.
    pub(super) value_len: u32,
    /// How sizes are drawn.
    pub(super) sizes: Option<Sizes>,
    /// Of the filler, which then differs from record to record.
    pub(super) entropy: Option<f64>,
    /// Which keys records bear.
    pub(super) keys: Option<Keys>,
    /// Seed of all that is drawn.
    pub(super) seed: u64,
}

impl Shape {
    /// Bytes of a value on average.
    pub(super) fn value_len_mean(&self) -> u32 {
        self.sizes.map_or(self.value_len, |sizes| sizes.mean())
    }
}

/// One batch of the largest size that a run sends.
pub(super) struct BatchTemplate {
    filling: Filling,
    bytes: Vec<u8>,
    slots: Vec<Slot>,
    value_len_max: usize,
}

/// Where a record lies.
#[derive(Clone, Copy)]
struct Slot {
    /// Behind its last byte.
    end: usize,
    value_len: usize,
    /// Of this and all before.
    value_bytes: u64,
}

/// What stands behind the headers of values.
pub(super) enum Filling {
    /// The same in each: its checksum is known.
    Same(Encoder),
    /// Something of its own in each.
    Own,
}

impl Filling {
    /// What a shape has.
    pub(super) fn of(shape: &Shape) -> Self {
        match shape.sizes.is_some() || shape.entropy.is_some() {
            true => Self::Own,
            false => Self::Same(Encoder::new(shape.value_len, shape.seed)),
        }
    }

    /// The next value, whatever of it is drawn from `random`; its header is still missing.
    pub(super) fn value(&self, shape: &Shape, random: &mut Random) -> Vec<u8> {
        let value_len = shape.sizes.map_or(shape.value_len, |sizes| sizes.draw(random));
        let mut value = vec![0; value_len as usize];
        match self {
            Self::Same(encoder) => encoder.fill(&mut value),
            Self::Own => fill(&mut value[HEADER_LEN..], shape.entropy.unwrap_or(1.0), random),
        }
        value
    }

    /// Writes the header of a value.
    #[inline]
    pub(super) fn put(&self, value: &mut [u8], header: &Header) {
        match self {
            Self::Same(encoder) => encoder.encode(value, header),
            Self::Own => encode_over(value, header),
        }
    }
}

/// Makes templates that take turns: where sizes are drawn, until there are enough of them.
/// `measure` gives the records and bytes of one.
pub(super) fn rotation<T>(
    shape: &Shape,
    mut make: impl FnMut(&mut Random) -> T,
    measure: impl Fn(&T) -> (usize, usize),
) -> Vec<T> {
    let mut random = Random::stream(shape.seed, 6);
    let mut templates = vec![make(&mut random)];
    let (mut records, mut bytes) = measure(&templates[0]);
    while shape.sizes.is_some()
        && records < RECORDS_WANTED
        && (bytes < BYTES_WANTED || templates.len() < TEMPLATES_MIN)
    {
        let next = make(&mut random);
        let more = measure(&next);
        records += more.0;
        bytes += more.1;
        templates.push(next);
    }
    templates
}

impl BatchTemplate {
    /// Templates that take turns.
    pub(super) fn rotation(shape: &Shape, size: BatchSize) -> Vec<Self> {
        let measure = |template: &Self| (template.slots.len(), template.bytes.len());
        rotation(shape, |random| Self::new(shape, size, random), measure)
    }

    /// A template of a shape, whatever of it is drawn from `random`.
    pub(super) fn new(shape: &Shape, size: BatchSize, random: &mut Random) -> Self {
        let filling = Filling::of(shape);
        let (records_max, bytes_max) = match size {
            BatchSize::Records(records) => (records, BATCH_BYTES_MAX),
            BatchSize::Bytes(bytes) => (BATCH_RECORDS_MAX, bytes as usize),
        };
        let key = shape.keys.map(|_| [0; KEY_BYTES]);
        let key = key.as_ref().map(|key| &key[..]);
        let mut builder = BatchBuilder::with_capacity(bytes_max.min(BATCH_BYTES_MAX));
        let (mut slots, mut value_bytes) = (Vec::new(), 0);
        while builder.record_count() < records_max {
            let value = filling.value(shape, random);
            let len = builder.len() + builder.record_len(0, key, Some(&value));
            if len > bytes_max.min(BATCH_BYTES_MAX) && !builder.is_empty() {
                break;
            }
            builder.push(0, key, Some(&value));
            value_bytes += value.len() as u64;
            slots.push(Slot { end: builder.len(), value_len: value.len(), value_bytes });
        }
        let largest = shape.sizes.map_or(shape.value_len, |sizes| sizes.largest());
        let bytes = builder.finish().to_vec();
        Self { filling, bytes, slots, value_len_max: largest as usize }
    }

    /// Records of a full batch.
    pub(super) fn records_max(&self) -> u32 {
        u32::try_from(self.slots.len()).expect("bounded by BATCH_RECORDS_MAX")
    }

    /// Bytes of the largest value that the load may have.
    pub(super) fn value_len_max(&self) -> usize {
        self.value_len_max
    }

    /// Bytes of a full batch.
    pub(super) fn len_max(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of the values of the first `count` records, which are at least one.
    pub(super) fn value_bytes(&self, count: u32) -> u64 {
        self.slots[count as usize - 1].value_bytes
    }

    /// Writes the header of record `index`.
    #[inline]
    pub(super) fn put(&mut self, index: u32, header: &Header) {
        let slot = self.slots[index as usize];
        // The value is the last field but one: an empty header count of one byte follows it.
        let start = slot.end - 1 - slot.value_len;
        self.filling.put(&mut self.bytes[start..slot.end - 1], header);
    }

    /// Writes the key of record `index` of a load whose records bear keys.
    pub(super) fn put_key(&mut self, index: u32, key: u64) {
        let slot = self.slots[index as usize];
        // In front of the value stands its length, a zigzag varint of seven bits a byte.
        let bits = usize::BITS - (slot.value_len << 1).leading_zeros();
        let end = slot.end - 1 - slot.value_len - bits.div_ceil(7) as usize;
        self.bytes[end - KEY_BYTES..end].copy_from_slice(&key.to_le_bytes());
    }

    /// The batch of the first `count` records, which bear the time `now_ms`.
    ///
    /// # Panics
    /// If `count` is zero or above [`Self::records_max`].
    pub(super) fn finish(&mut self, count: u32, now_ms: i64) -> &[u8] {
        let end = self.slots[count as usize - 1].end;
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
pub(super) mod tests {
    use super::*;
    use crate::payload::verify;
    use wire::batch::Batch;

    /// Values of one size, all alike.
    pub(in crate::run) fn plain(value_len: u32, size: BatchSize) -> BatchTemplate {
        let shape = Shape { value_len, sizes: None, entropy: None, keys: None, seed: 3 };
        BatchTemplate::new(&shape, size, &mut Random::new(1))
    }

    #[test]
    fn full_and_short_batches_are_what_the_broker_takes() {
        let shape = Shape { value_len: 100, sizes: None, entropy: None, keys: None, seed: 3 };
        let sizes = Some(Sizes::Uniform { from: 40, to: 300 });
        let keys = Some(Keys::Uniform { count: 5 });
        for shape in [
            shape,
            Shape { entropy: Some(0.5), ..shape },
            Shape { sizes, keys, ..shape },
            Shape { value_len: 8_000, keys, ..shape },
        ] {
            let size = BatchSize::Records(if shape.value_len > 100 { 100 } else { 1000 });
            for mut template in BatchTemplate::rotation(&shape, size) {
                let full = template.records_max();
                for (round, count) in [full, 1, 63, 64, 65, full - 1, full].into_iter().enumerate()
                {
                    prove(&mut template, round as u64 * 1000, count, shape.keys);
                }
            }
        }
    }

    fn prove(template: &mut BatchTemplate, first: u64, count: u32, keys: Option<Keys>) {
        for index in 0..count {
            let sequence = first + u64::from(index);
            let (intended_ns, sent_ns) = (sequence, sequence);
            let header =
                Header { run: 9, producer: 1, partition: 2, sequence, intended_ns, sent_ns };
            template.put(index, &header);
            if keys.is_some() {
                template.put_key(index, sequence);
            }
        }
        let wanted = template.value_bytes(count);
        let bytes = template.finish(count, 1_700_000_000_000);
        let batch = Batch::validate(bytes).expect("valid");
        assert_eq!(batch.record_count(), count);
        let mut value_bytes = 0;
        for (sequence, record) in (first..).zip(batch.records()) {
            let record = record.expect("whole");
            let value = record.value.expect("it has one");
            assert_eq!(verify(value).expect("intact").sequence, sequence);
            assert_eq!(record.timestamp_ms, 1_700_000_000_000);
            let key = keys.map(|_| sequence.to_le_bytes());
            assert_eq!(record.key, key.as_ref().map(|key| &key[..]));
            value_bytes += value.len() as u64;
        }
        assert_eq!(value_bytes, wanted);
    }

    #[test]
    fn sizes_in_bytes_are_kept_and_drawn_ones_take_turns() {
        let template = plain(100, BatchSize::Bytes(65_536));
        assert!(template.len_max() <= 65_536 && template.len_max() > 65_000);
        assert_eq!(plain(1000, BatchSize::Bytes(10)).records_max(), 1);
        let sizes = Some(Sizes::Lognormal { median: 1_000, sigma: 0.5 });
        let shape = Shape { value_len: 100, sizes, entropy: None, keys: None, seed: 3 };
        let single = BatchTemplate::rotation(&shape, BatchSize::Records(1));
        assert_eq!(single.len(), RECORDS_WANTED);
        let total: u64 = single.iter().map(|template| template.value_bytes(1)).sum();
        assert!((1_050..1_250).contains(&(total / RECORDS_WANTED as u64)), "{total}");
        let batches = BatchTemplate::rotation(&shape, BatchSize::Bytes(65_536));
        assert!((50..100).contains(&batches.len()), "{}", batches.len());
    }
}
