//! Which partition a record goes to: by its key as Kafka's clients do it, or the current one.

/// Kafka's murmur2 of `bytes`, bit for bit, so that both systems place a key alike.
pub fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    // Kafka's lengths are 32 bits; longer keys are beyond any limit here.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut hash = SEED ^ length;
    let (words, tail) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    if !tail.is_empty() {
        for (index, &byte) in tail.iter().enumerate() {
            hash ^= u32::from(byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The partition of `key` among `count`, as Kafka's default partitioner gives it.
///
/// # Panics
/// If `count` is 0.
pub fn partition_of_key(key: &[u8], count: u32) -> u32 {
    assert!(count > 0, "a topic has at least one partition");
    (murmur2(key) & 0x7fff_ffff) % count
}

/// Places records without key: all to one partition until its batch is sent, then to the next,
/// so that batches are full and partitions get equal shares.
#[derive(Debug, Clone)]
pub struct StickyPartitioner {
    current: u32,
    count: u32,
}

impl StickyPartitioner {
    /// Begins at `first` (modulo `count`); give producers different ones.
    ///
    /// # Panics
    /// If `count` is 0.
    pub fn new(count: u32, first: u32) -> Self {
        assert!(count > 0, "a topic has at least one partition");
        StickyPartitioner { current: first % count, count }
    }

    /// Where the next record without key goes.
    pub const fn current(&self) -> u32 {
        self.current
    }

    /// The batch of `partition` was sent: moves on if that is the current one.
    pub const fn batch_sent(&mut self, partition: u32) {
        if partition == self.current {
            self.current = (self.current + 1) % self.count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_gives_kafkas_own_test_values() {
        for (key, expected) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), expected, "{key}");
        }
        assert_eq!(partition_of_key(b"abc", 10), 7);
    }

    #[test]
    fn sticks_until_its_batch_is_sent() {
        let mut sticky = StickyPartitioner::new(3, 5);
        assert_eq!(sticky.current(), 2);
        sticky.batch_sent(1);
        assert_eq!(sticky.current(), 2);
        sticky.batch_sent(2);
        assert_eq!(sticky.current(), 0);
    }
}
