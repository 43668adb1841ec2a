//! Requests whose records go to many partitions, a batch for each.

use wire::limits::{BATCH_BYTES_MAX, REQUEST_PARTITIONS_MAX};
use wire::produce::RequestEntry;

use super::choices::Partitioner;
use super::flight::Part;
use super::producer::Bench;
use super::records::KeyDraw;
use super::template::BatchTemplate;
use crate::payload::Header;
use crate::random::mix;

/// Bytes around one record in a batch of its own: batch header and the longest record framing.
const BATCH_OF_ONE_BYTES: usize = 61 + 32;

/// One request under construction; its memory is kept for the next.
#[derive(Debug, Default)]
pub(super) struct Scatter {
    /// Where each record goes, when it was due, and its key.
    records: Vec<(u32, u64, u64)>,
    /// Their order by partition.
    order: Vec<u32>,
    entries: Vec<RequestEntry>,
    batches: Vec<u8>,
}

/// Which partition the next record goes to.
#[derive(Debug)]
pub(super) struct Dealer {
    how: Partitioner,
    keys: Option<KeyDraw>,
    dealt: u64,
}

impl Dealer {
    /// Begins at another partition than the other producers do.
    pub(super) fn new(how: Partitioner, keys: Option<KeyDraw>, producer: u32) -> Self {
        let dealt = match how {
            Partitioner::Sticky | Partitioner::OneEach => u64::from(producer),
            // No two producers deal out the same keys.
            Partitioner::Keyed => u64::from(producer) << 40,
        };
        Self { how, keys, dealt }
    }

    /// The next record's partition out of `count`, and its key, if records bear keys.
    pub(super) fn deal(&mut self, count: usize) -> (usize, u64) {
        match &mut self.keys {
            Some(keys) => {
                let key = keys.next();
                let partition = usize::try_from(key % count as u64).expect("below a usize");
                (partition, key)
            }
            None => (self.next(count), 0),
        }
    }

    /// The index of the next partition out of `count`.
    pub(super) fn next(&mut self, count: usize) -> usize {
        let number = self.dealt;
        self.dealt = self.dealt.wrapping_add(1);
        let chosen = match self.how {
            Partitioner::Sticky | Partitioner::OneEach => number,
            Partitioner::Keyed => hash(number),
        };
        usize::try_from(chosen % count as u64).expect("below a usize")
    }

    /// Whether records leave in requests with a batch for each of many partitions.
    pub(super) fn scatters(&self) -> bool {
        self.how != Partitioner::Sticky
    }
}

impl Scatter {
    /// Most records of a request: as many as a batch would have, and not more than a request can
    /// carry if each of them is alone in its partition.
    pub(super) fn records_max(
        template: &BatchTemplate,
        how: Partitioner,
        partitions: usize,
    ) -> u32 {
        let alone = template.value_len_max() + BATCH_OF_ONE_BYTES;
        let fitting = (BATCH_BYTES_MAX / alone).clamp(1, REQUEST_PARTITIONS_MAX);
        let fitting = match how {
            Partitioner::OneEach => fitting.min(partitions),
            Partitioner::Sticky | Partitioner::Keyed => fitting,
        };
        let fitting = u32::try_from(fitting).expect("bounded by REQUEST_PARTITIONS_MAX");
        template.records_max().min(fitting)
    }

    /// Forgets the last request.
    pub(super) fn clear(&mut self) {
        self.records.clear();
    }

    /// The next record was due at `due_ns`.
    pub(super) fn push(&mut self, due_ns: u64) {
        self.records.push((0, due_ns, 0));
    }

    /// Gives each record its partition and key.
    pub(super) fn deal(&mut self, mut next: impl FnMut() -> (u32, u64)) {
        for (partition, _, key) in &mut self.records {
            (*partition, *key) = next();
        }
    }

    /// The longest frame of a request of so many records.
    pub(super) fn frame_bytes_max(template: &BatchTemplate, records: u32) -> usize {
        let record = template.value_len_max() + BATCH_OF_ONE_BYTES + size_of::<RequestEntry>();
        records as usize * record + 256
    }

    /// What is to be sent.
    pub(super) fn request(&self) -> (&[RequestEntry], &[u8]) {
        (&self.entries, &self.batches)
    }
}

impl Bench<'_> {
    /// Builds the batches of a request; gives its parts and the bytes of their values. Each record
    /// gets the next sequence of its partition.
    pub(super) fn build_scattered(
        &mut self,
        producer: u32,
        next_sequence: &mut [u64],
        sent_ns: u64,
    ) -> (Vec<Part>, u64) {
        let wall_ms = self.wall_ms(sent_ns);
        let Self { work, template, scatter, .. } = self;
        let Scatter { records, order, entries, batches } = &mut **scatter;
        order.clear();
        order.extend(0..u32::try_from(records.len()).expect("bounded by records_max"));
        // Stable: the records of a partition stay in the order in which they were due.
        order.sort_by_key(|&index| records[index as usize].0);
        entries.clear();
        batches.clear();
        let (mut parts, mut value_bytes) = (Vec::new(), 0);
        for group in order.chunk_by(|&a, &b| records[a as usize].0 == records[b as usize].0) {
            let partition = records[group[0] as usize].0;
            let sequence = &mut next_sequence[partition as usize];
            let first = *sequence;
            for (at, &index) in (0..).zip(group) {
                let header = Header {
                    run: work.run,
                    producer,
                    partition,
                    sequence: *sequence,
                    intended_ns: records[index as usize].1,
                    sent_ns,
                };
                template.put(at, &header);
                if work.shape.keys.is_some() {
                    template.put_key(at, records[index as usize].2);
                }
                *sequence += 1;
            }
            let count = u32::try_from(group.len()).expect("bounded by records_max");
            value_bytes += template.value_bytes(count);
            let batch = template.finish(count, wall_ms);
            batches.extend_from_slice(batch);
            entries.push(RequestEntry {
                topic_id: work.topic_id,
                partition: partition.into(),
                batch_bytes: u32::try_from(batch.len()).expect("bounded").into(),
            });
            parts.push(Part { partition, first, count });
        }
        (parts, value_bytes)
    }
}

/// Keys are numbers; their hash (splitmix64) is spread evenly, as that of many keys is.
fn hash(key: u64) -> u64 {
    mix(key.wrapping_add(0x9E37_79B9_7F4A_7C15))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::choices::BatchSize;
    use crate::run::template::tests::plain;

    #[test]
    fn keys_reach_all_partitions_and_one_each_goes_round() {
        let mut keyed = Dealer::new(Partitioner::Keyed, None, 1);
        let mut counts = [0u32; 16];
        (0..16_000).for_each(|_| counts[keyed.next(16)] += 1);
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
        let mut each = Dealer::new(Partitioner::OneEach, None, 2);
        let dealt: Vec<usize> = (0..5).map(|_| each.next(3)).collect();
        assert_eq!(dealt, [2, 0, 1, 2, 0]);
        assert!(each.scatters() && !Dealer::new(Partitioner::Sticky, None, 0).scatters());
    }

    #[test]
    fn requests_fit_their_frame_and_one_each_has_one_record_per_partition() {
        let most = BatchSize::Bytes(1 << 20);
        let small = plain(100, most);
        let large = plain(1024, most);
        let records = |template, how, partitions| Scatter::records_max(template, how, partitions);
        assert_eq!(records(&small, Partitioner::Keyed, 8), 1024);
        assert_eq!(records(&small, Partitioner::OneEach, 8), 8);
        let fitting = records(&large, Partitioner::OneEach, 1000);
        assert!((900..=1000).contains(&fitting), "{fitting}");
    }
}
