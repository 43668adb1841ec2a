//! Which shard owns what. Nothing of it is stored: every start drains all journals first, so that
//! a start with another number of shards may place everything anew.

use wire::TopicId;

/// The shard that writes the catalog.
pub const CATALOG_SHARD: u16 = 0;

/// The shard, of `shards`, that owns a partition: a topic's partitions go round from a shard that
/// its id chooses, so that topics with one partition each spread as well.
pub fn owner(topic: &TopicId, partition: u32, shards: u16) -> u16 {
    let (low, high) = topic.split_at(8);
    let half = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    let first = (half(low) ^ half(high)) % u64::from(shards);
    let shard = (first + u64::from(partition)) % u64::from(shards);
    u16::try_from(shard).expect("below the number of shards")
}

/// The shard, of `shards`, that owns a queue store.
pub fn store_owner(store: u32, shards: u16) -> u16 {
    u16::try_from(store % u32::from(shards)).expect("below the number of shards")
}

/// The store of a new queue, of as many as there are shards: it stays its own for ever.
pub fn store_of(queue: &wire::queue::QueueId, shards: u16) -> u32 {
    u32::from(owner(queue, 0, shards))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_go_round_and_topics_begin_anywhere() {
        let mut counts = [0; 4];
        for topic in 0..100u8 {
            let id = [topic; 16].map(|byte| byte.wrapping_mul(37)).map(u8::reverse_bits);
            let mut id = id;
            id[0] = topic;
            let first = owner(&id, 0, 4);
            counts[usize::from(first)] += 1;
            let row: Vec<u16> = (0..4).map(|partition| owner(&id, partition, 4)).collect();
            let expected: Vec<u16> = (0..4).map(|step| (first + step) % 4).collect();
            assert_eq!(row, expected);
            assert_eq!(owner(&id, 7, 1), 0);
        }
        assert!(counts.iter().all(|&count| count > 10), "{counts:?}");
    }
}
