//! Proves loss, duplication, reordering and corruption.
//!
//! Every record carries a sequence that is dense per (producer, partition), so the proof is over
//! sets of sequences: what was acknowledged ([`Ledger`]) against what a consumer saw in one pass
//! over a partition ([`Pass`]). In-order traffic costs a comparison and an addition per record.

mod intervals;
#[cfg(test)]
mod model_tests;
pub mod queue;

pub use intervals::IntervalSet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// What became of the sequences of one (producer, partition).
#[derive(Clone, Debug, Default)]
pub struct Outcomes {
    /// Acknowledged: must be there exactly once.
    pub acked: IntervalSet,
    /// Sent, outcome unknown: may be there once or not at all.
    pub in_doubt: IntervalSet,
}

/// What became of every sequence that was sent, by partition and producer.
#[derive(Clone, Debug)]
pub struct Ledger {
    partitions: Vec<Vec<Outcomes>>,
}

impl Ledger {
    /// A ledger for so many partitions and producers.
    #[must_use]
    pub fn new(partitions: u32, producers: u32) -> Self {
        let producers = vec![Outcomes::default(); producers as usize];
        Self { partitions: vec![producers; partitions as usize] }
    }

    /// The sequences of `range` were acknowledged.
    pub fn acked(&mut self, partition: u32, producer: u32, range: Range<u64>) {
        self.outcomes(partition, producer).acked.insert_range(range);
    }

    /// The sequences of `range` were sent and never answered (or sent with no acknowledgement
    /// asked for).
    pub fn in_doubt(&mut self, partition: u32, producer: u32, range: Range<u64>) {
        self.outcomes(partition, producer).in_doubt.insert_range(range);
    }

    /// Adds what another generator thread noted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.partitions.iter_mut().zip(&other.partitions) {
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                theirs.acked.ranges().for_each(|range| mine.acked.insert_range(range));
                theirs.in_doubt.ranges().for_each(|range| mine.in_doubt.insert_range(range));
            }
        }
    }

    /// Every partition and producer, with what became of its sequences.
    pub fn rows(&self) -> impl Iterator<Item = (u32, u32, &Outcomes)> {
        (0..).zip(&self.partitions).flat_map(|(partition, producers)| {
            (0..).zip(producers).map(move |(producer, outcomes)| (partition, producer, outcomes))
        })
    }

    /// Records in doubt, over all partitions.
    #[must_use]
    pub fn in_doubt_records(&self) -> u64 {
        self.partitions.iter().flatten().map(|outcomes| outcomes.in_doubt.len()).sum()
    }

    /// Compares what one pass saw with what was sent.
    ///
    /// After a [`Coverage::Whole`] pass every acknowledged sequence must have been seen; after a
    /// [`Coverage::Prefix`] pass only those below the highest one seen of the same producer.
    #[must_use]
    pub fn audit(&self, pass: &Pass, coverage: Coverage) -> Counts {
        let mut counts = pass.counts.clone();
        let Some(producers) = self.partitions.get(pass.partition as usize) else {
            counts.unexpected += pass.records;
            return counts;
        };
        for (outcomes, seen) in producers.iter().zip(&pass.seen) {
            let horizon = match coverage {
                Coverage::Whole => u64::MAX,
                Coverage::Prefix => seen.end(),
            };
            counts.lost += outcomes.acked.count_missing_from(seen, horizon);
            let unacked = seen.len() - outcomes.acked.count_common(seen);
            let doubtful = outcomes.in_doubt.count_common(seen)
                - outcomes.in_doubt.count_common_of_three(&outcomes.acked, seen);
            counts.in_doubt_found += doubtful;
            counts.unexpected += unacked - doubtful;
        }
        counts
    }

    fn outcomes(&mut self, partition: u32, producer: u32) -> &mut Outcomes {
        &mut self.partitions[partition as usize][producer as usize]
    }
}

/// How much of the partition a pass has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// From the first record to the last one that was ever acknowledged.
    Whole,
    /// From the first record up to somewhere.
    Prefix,
}

/// What one consumer saw while reading one partition from its beginning, once.
#[derive(Clone, Debug)]
pub struct Pass {
    partition: u32,
    seen: Vec<IntervalSet>,
    next_offset: Option<u64>,
    records: u64,
    counts: Counts,
}

impl Pass {
    /// A pass over `partition`, to which so many producers wrote.
    #[must_use]
    pub fn new(partition: u32, producers: u32) -> Self {
        let seen = vec![IntervalSet::default(); producers as usize];
        Self { partition, seen, next_offset: None, records: 0, counts: Counts::default() }
    }

    /// The partition that is read.
    #[must_use]
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// Records seen so far, good and bad.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// A record whose payload proved intact.
    #[inline]
    pub fn record(&mut self, producer: u32, sequence: u64) {
        self.records += 1;
        let Some(seen) = self.seen.get_mut(producer as usize) else {
            self.counts.unexpected += 1;
            return;
        };
        if seen.append(sequence) {
            return;
        }
        let highest = seen.end();
        if !seen.insert(sequence) {
            self.counts.duplicated += 1;
        } else if sequence < highest {
            self.counts.reordered += 1;
        }
    }

    /// A record whose payload is damaged, or that belongs to another partition or run.
    pub fn corrupt(&mut self) {
        self.records += 1;
        self.counts.corrupted += 1;
    }

    /// A batch that holds the offsets of `range`: they must rise from batch to batch.
    #[inline]
    pub fn offsets(&mut self, range: Range<u64>) {
        if self.next_offset.is_some_and(|next| range.start < next) {
            self.counts.offsets_back += 1;
        }
        self.next_offset = Some(range.end);
    }
}

/// How many records broke which promise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Acknowledged, but not there.
    pub lost: u64,
    /// There more than once (each further copy counts).
    pub duplicated: u64,
    /// There after a record of the same producer that was sent later.
    pub reordered: u64,
    /// There with other bytes than were sent, or in a place where it was not sent.
    pub corrupted: u64,
    /// In doubt, and there once, as allowed.
    pub in_doubt_found: u64,
    /// There although neither acknowledged nor in doubt.
    pub unexpected: u64,
    /// Batches whose offsets did not rise.
    pub offsets_back: u64,
    /// Deliveries of messages of a queue that had been acknowledged.
    pub delivered_after_ack: u64,
}

impl Counts {
    /// Adds the findings of another pass.
    pub fn add(&mut self, other: &Self) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.corrupted += other.corrupted;
        self.in_doubt_found += other.in_doubt_found;
        self.unexpected += other.unexpected;
        self.offsets_back += other.offsets_back;
        self.delivered_after_ack += other.delivered_after_ack;
    }

    /// Whether any promise was broken.
    #[must_use]
    pub fn verdict(&self) -> IntegrityVerdict {
        let broken = self.lost
            + self.duplicated
            + self.reordered
            + self.corrupted
            + self.unexpected
            + self.offsets_back
            + self.delivered_after_ack;
        if broken == 0 { IntegrityVerdict::Ok } else { IntegrityVerdict::Failed }
    }
}

/// The outcome of the integrity check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IntegrityVerdict {
    /// Everything acknowledged was there once, in order and intact.
    Ok,
    /// A promise was broken.
    Failed,
    /// Nothing was read back.
    NotChecked,
}
