//! What was sent, what is known of it, and the comparison with what the broker has.

use std::collections::BTreeMap;

use client::producer::SentRecord;
use client::{ConnectOptions, Consumer, ConsumerOptions, Delivery, Outcome, Position};

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
}

/// Sizes of the books, for judging whether a test did anything.
#[derive(Debug)]
pub struct LedgerTotals {
    /// Records that must be there.
    pub settled: u64,
}

impl Ledger {
    pub fn new(partitions: u32) -> Self {
        Ledger { next: 0, partitions: (0..partitions).map(|_| Partition::default()).collect() }
    }

    /// A new producer, which counts from 0.
    pub fn begin(&mut self) {
        assert!(self.partitions.iter().all(|partition| partition.pending.is_empty()));
    }

    /// The next record: where it goes and its bytes.
    pub fn next_record(&self) -> (u32, Vec<u8>) {
        let count = u64::try_from(self.partitions.len()).expect("few");
        (u32::try_from(self.next % count).expect("few"), bytes_of(self.next))
    }

    /// The producer took it.
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

    /// Reads everything and compares; what was seen is settled from now on.
    pub fn check_all(&mut self, address: &str, topic: &str) {
        let found = read_all(address, topic, self.partitions.len());
        for (index, (partition, found)) in self.partitions.iter_mut().zip(found).enumerate() {
            partition.check(index, &found);
        }
    }

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
    /// `found` holds the record's number at each offset.
    fn check(&mut self, index: usize, found: &[u64]) {
        for (offset, number) in &self.settled {
            let there = usize::try_from(*offset).ok().and_then(|offset| found.get(offset));
            assert_eq!(
                there,
                Some(number),
                "partition {index}, offset {offset}: what is there, what must be there (the log \
                 has {} records)",
                found.len()
            );
        }
        // One producer at a time sends rising numbers: so nothing is there twice or reordered.
        assert!(found.is_sorted_by(|a, b| a < b), "partition {index} keeps the order");
        for (offset, number) in (0u64..).zip(found) {
            if !self.settled.contains_key(&offset) {
                assert!(
                    self.in_doubt.contains(number),
                    "partition {index}, offset {offset}: record {number} was never sent or failed"
                );
                self.settled.insert(offset, *number);
            }
        }
        // What is not there now must never appear.
        self.in_doubt.clear();
    }
}

/// Mostly small, at times large enough for the path that skips the journal.
fn bytes_of(number: u64) -> Vec<u8> {
    let length = match number {
        _ if number % 97 == 96 => 120_000,
        _ if number % 16 == 15 => 9_000,
        _ => 100,
    };
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(length, bytes[0]);
    bytes
}

fn read_all(address: &str, topic: &str, partitions: usize) -> Vec<Vec<u64>> {
    let connect = ConnectOptions::default();
    let options = ConsumerOptions::default();
    let mut consumer = Consumer::connect(address, &[topic], &connect, options).expect("it serves");
    consumer.assign_all(Position::Beginning).expect("it has the topic");
    let ends = consumer.end_offsets().expect("it answers");
    let mut found = vec![Vec::new(); partitions];
    while consumer.positions().zip(&ends).any(|(at, end)| at.offset < *end) {
        for record in consumer.poll().expect("it serves what it has") {
            let record = record.expect("records are whole");
            let numbers = &mut found[usize::try_from(record.partition).expect("few")];
            assert_eq!(record.offset, u64::try_from(numbers.len()).expect("fits"), "no hole");
            let value = record.value.expect("every record has a value");
            let number = u64::from_le_bytes(value[..8].try_into().expect("eight bytes"));
            assert!(value == bytes_of(number), "record {number} has its bytes");
            numbers.push(number);
        }
    }
    found
}

#[test]
fn the_check_sees_loss_order_and_strangers() {
    let partition = || {
        let settled = BTreeMap::from([(0, 5), (1, 8)]);
        Partition { settled, in_doubt: vec![9], ..Partition::default() }
    };
    let refused = |found: &[u64]| std::panic::catch_unwind(|| partition().check(0, found)).is_err();
    assert!(!refused(&[5, 8]), "doubtful records may be missing");
    assert!(!refused(&[5, 8, 9]), "or be there");
    assert!(refused(&[5]), "lost");
    assert!(refused(&[8, 5]), "reordered");
    assert!(refused(&[5, 8, 8]), "twice");
    assert!(refused(&[5, 8, 10]), "a stranger");
    assert!(refused(&[5, 9, 8]), "moved");
}
