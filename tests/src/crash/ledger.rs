//! What was sent, what is known of it, and the comparison with what the broker has.

use std::collections::BTreeMap;

use client::producer::SentRecord;
use client::{Delivery, Outcome};
use wire::ErrorCode;

use super::reading::{Found, bytes_of, read_all};

/// Every record ever sent is a number; its bytes follow from it.
#[derive(Debug)]
pub struct Ledger {
    next: u64,
    partitions: Vec<Partition>,
}

#[derive(Debug, Default)]
struct Partition {
    /// Records of the present producer that still wait for their delivery, by its index.
    pending: BTreeMap<u64, u64>,
    /// Offset and number of each record that must be there: acknowledged, or seen.
    settled: BTreeMap<u64, u64>,
    /// Numbers that may be there once.
    in_doubt: Vec<u64>,
    /// The highest offset that its records were asked to begin at.
    start_asked: u64,
}

/// Sizes of the books, for judging whether a test did anything.
#[derive(Debug)]
pub struct LedgerTotals {
    /// Records that must be there.
    pub settled: u64,
}

impl Ledger {
    /// Empty books of so many partitions.
    pub fn new(partitions: u32) -> Self {
        Ledger { next: 0, partitions: (0..partitions).map(|_| Partition::default()).collect() }
    }

    /// A new producer, which counts from 0.
    ///
    /// # Panics
    /// If the one before has not ended.
    pub fn begin(&mut self) {
        assert!(self.partitions.iter().all(|partition| partition.pending.is_empty()));
    }

    /// The next record: where it goes and its bytes.
    ///
    /// # Panics
    /// Never: there are few partitions.
    pub fn next_record(&self) -> (u32, Vec<u8>) {
        let count = u64::try_from(self.partitions.len()).expect("few");
        (u32::try_from(self.next % count).expect("few"), bytes_of(self.next))
    }

    /// The producer took it.
    ///
    /// # Panics
    /// If it gives an index twice.
    pub fn sent(&mut self, sent: SentRecord) {
        let next = self.next;
        let before = self.partition(sent.partition).pending.insert(sent.index, next);
        assert_eq!(before, None, "indexes are given once");
        self.next += 1;
    }

    /// The producer did not take it; its number is not used again, for the sake of doubt.
    pub fn not_sent(&mut self) {
        self.next += 1;
    }

    /// The producer tells what became of some records.
    ///
    /// # Panics
    /// If it contradicts itself.
    pub fn delivered(&mut self, delivery: &Delivery) {
        let partition = self.partition(delivery.partition);
        for step in 0..delivery.record_count {
            let index = delivery.first_index + step;
            let number = partition.pending.remove(&index);
            match (&delivery.outcome, number) {
                (Outcome::Acked { base_offset }, Some(number)) => {
                    let before = partition.settled.insert(base_offset + step, number);
                    assert_eq!(before, None, "offset {} was given twice", base_offset + step);
                }
                (Outcome::InDoubt { .. }, Some(number)) => partition.in_doubt.push(number),
                (&Outcome::Failed { code, .. }, Some(number)) if is_open_ended(code) => {
                    partition.in_doubt.push(number);
                }
                (Outcome::Failed { .. }, _) => {}
                (outcome, number) => panic!("{outcome:?} for {number:?} at index {index}"),
            }
        }
    }

    /// The producer is gone: whatever it never told about is in doubt.
    pub fn end(&mut self) {
        for partition in &mut self.partitions {
            let rest = std::mem::take(&mut partition.pending);
            partition.in_doubt.extend(rest.into_values());
        }
    }

    /// Somebody asks that a partition's records begin at an offset.
    pub fn ask_start(&mut self, partition: u32, offset: u64) {
        let partition = self.partition(partition);
        partition.start_asked = partition.start_asked.max(offset);
    }

    /// Reads everything and compares; what was seen is settled from now on.
    ///
    /// # Panics
    /// If a record is missing, moved, damaged, or was never sent, or reading fails.
    pub fn check_all(&mut self, address: &str, topic: &str) {
        let found = read_all(address, topic, self.partitions.len());
        for (index, (partition, found)) in self.partitions.iter_mut().zip(&found).enumerate() {
            assert_eq!(found.failed, None, "partition {index} can be read to its end");
            partition.check(index, found);
        }
    }

    /// The same where damage is known to be: reading may fail with an error, and what lies behind
    /// it is not asked for. Gives how many partitions told of damage.
    ///
    /// # Panics
    /// If a record is wrong, or missing without an error.
    pub fn check_damaged(&self, address: &str, topic: &str) -> usize {
        let found = read_all(address, topic, self.partitions.len());
        for (index, (partition, found)) in self.partitions.iter().zip(&found).enumerate() {
            partition.compare(index, found);
        }
        found.iter().filter(|found| found.failed.is_some()).count()
    }

    /// Sizes of the books.
    ///
    /// # Panics
    /// Never: they fit 64 bits.
    pub fn totals(&self) -> LedgerTotals {
        let settled =
            self.partitions.iter().map(|partition| partition.settled.len()).sum::<usize>();
        LedgerTotals { settled: u64::try_from(settled).expect("fits") }
    }

    fn partition(&mut self, partition: u32) -> &mut Partition {
        &mut self.partitions[usize::try_from(partition).expect("few")]
    }
}

impl Partition {
    fn check(&mut self, index: usize, found: &Found) {
        self.compare(index, found);
        assert!(
            found.start <= self.start_asked,
            "partition {index} begins at {}, and nobody asked for more than {}",
            found.start,
            self.start_asked
        );
        for (offset, number) in (found.start..).zip(&found.numbers) {
            self.settled.insert(offset, *number);
        }
        self.settled = self.settled.split_off(&found.start);
        // What is not there now must never appear.
        self.in_doubt.clear();
    }

    /// Every record is there up to where reading failed, and nothing else is.
    fn compare(&self, index: usize, found: &Found) {
        let end = found.start + u64::try_from(found.numbers.len()).expect("fits");
        for (offset, number) in self.settled.range(found.start..) {
            let at = usize::try_from(offset - found.start).expect("fits");
            let there = found.numbers.get(at);
            let is_behind_damage = found.failed.is_some() && there.is_none();
            assert!(
                there == Some(number) || is_behind_damage,
                "partition {index}, offset {offset}: {there:?} is there, {number} must be there \
                 (the log ends at {end})",
            );
        }
        // One producer at a time sends rising numbers: so nothing is there twice or reordered.
        let numbers = &found.numbers;
        assert!(numbers.is_sorted_by(|a, b| a < b), "partition {index} keeps the order");
        for (offset, number) in (found.start..).zip(numbers) {
            assert!(
                self.settled.contains_key(&offset) || self.in_doubt.contains(number),
                "partition {index}, offset {offset}: record {number} was never sent or failed"
            );
        }
    }
}

/// Codes that leave it open whether the records are there: they may have been in a frame that
/// found its place later.
fn is_open_ended(code: u16) -> bool {
    code == ErrorCode::StorageFull.number()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_sees_loss_order_and_strangers() {
        let partition = || {
            let settled = BTreeMap::from([(0, 5), (1, 8)]);
            Partition { settled, in_doubt: vec![9], ..Partition::default() }
        };
        let refused = |start, numbers: &[u64], failed: Option<&str>| {
            let failed = failed.map(str::to_owned);
            let found = Found { start, numbers: numbers.to_vec(), failed };
            std::panic::catch_unwind(|| partition().compare(0, &found)).is_err()
                || (found.failed.is_none()
                    && std::panic::catch_unwind(|| partition().check(0, &found)).is_err())
        };
        assert!(!refused(0, &[5, 8], None), "doubtful records may be missing");
        assert!(!refused(0, &[5, 8, 9], None), "or be there");
        assert!(refused(0, &[5], None), "lost");
        assert!(!refused(0, &[5], Some("damaged")), "damaged, and said so");
        assert!(refused(0, &[6], Some("damaged")), "another one is there");
        assert!(refused(0, &[8, 5], None), "reordered");
        assert!(refused(0, &[5, 8, 8], None), "twice");
        assert!(refused(0, &[5, 8, 10], None), "a stranger");
        assert!(refused(0, &[5, 9, 8], None), "moved");
        assert!(refused(1, &[8], None), "nobody asked that it begins there");
    }
}
