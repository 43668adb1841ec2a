//! What a run knows of its records: enough to prove later that they are still there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::limits::TOPIC_PARTITIONS_MAX;

use crate::integrity::queue::{Fate, QueueLedger};
use crate::integrity::{IntervalSet, Ledger};

/// No run has more messages.
const MESSAGES_MAX: u64 = 1 << 36;
/// No run has more producers.
const PRODUCERS_MAX: u32 = 1 << 16;

/// What was sent to a topic that was kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Proof {
    /// Its name.
    pub topic: String,
    /// The run's id, which each of its records bears.
    pub run: u32,
    /// Partitions of the topic.
    pub partitions: u32,
    /// Producers of the run.
    pub producers: u32,
    /// By partition: the offset where the run's records begin.
    pub starts: Vec<u64>,
    /// What became of the sequences; those with neither are left out.
    pub outcomes: Vec<ProofRow>,
}

/// What became of the sequences of one producer in one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProofRow {
    /// The partition.
    pub partition: u32,
    /// The producer.
    pub producer: u32,
    /// Acknowledged, as ranges: the first, and the one behind the last.
    pub acked: Vec<(u64, u64)>,
    /// Sent and never answered.
    pub in_doubt: Vec<(u64, u64)>,
}

impl Proof {
    /// Of a run into `topic`.
    #[must_use]
    pub fn of(topic: &str, run: u32, starts: &[u64], producers: u32, ledger: &Ledger) -> Self {
        let ranges = |set: &IntervalSet| -> Vec<(u64, u64)> {
            set.ranges().map(|range| (range.start, range.end)).collect()
        };
        let rows = ledger.rows().map(|(partition, producer, outcomes)| ProofRow {
            partition,
            producer,
            acked: ranges(&outcomes.acked),
            in_doubt: ranges(&outcomes.in_doubt),
        });
        Self {
            topic: topic.to_owned(),
            run,
            partitions: u32::try_from(starts.len()).expect("partitions are a u32"),
            producers,
            starts: starts.to_vec(),
            outcomes: rows
                .filter(|row| !row.acked.is_empty() || !row.in_doubt.is_empty())
                .collect(),
        }
    }

    /// What is wrong with one that was read from a file.
    #[must_use]
    pub fn invalid(&self) -> Option<&'static str> {
        let Self { partitions, producers, starts, outcomes, .. } = self;
        let pairs = u64::from(*partitions) * u64::from(*producers);
        let known = |row: &ProofRow| row.partition < *partitions && row.producer < *producers;
        let rises = |ranges: &[(u64, u64)]| ranges.iter().all(|(start, end)| start < end);
        if *partitions == 0
            || *partitions > TOPIC_PARTITIONS_MAX
            || starts.len() as u64 != u64::from(*partitions)
        {
            Some("the number of partitions cannot be")
        } else if *producers == 0 || *producers > PRODUCERS_MAX || pairs > 1 << 22 {
            Some("the number of producers cannot be")
        } else if !outcomes.iter().all(known) {
            Some("it names partitions or producers that there are not")
        } else if !outcomes.iter().all(|row| rises(&row.acked) && rises(&row.in_doubt)) {
            Some("a range ends before it begins")
        } else {
            None
        }
    }

    /// As the run itself had it.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::new(self.partitions, self.producers);
        for ProofRow { partition, producer, acked, in_doubt } in &self.outcomes {
            for &(start, end) in acked {
                ledger.acked(*partition, *producer, start..end);
            }
            for &(start, end) in in_doubt {
                ledger.in_doubt(*partition, *producer, start..end);
            }
        }
        ledger
    }
}

/// What was published to queues that were kept. Messages have numbers, given as ranges: the first,
/// and the one behind the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueueProof {
    /// The names of the queues, that of dead letters behind the others.
    pub queues: Vec<String>,
    /// The run's id, which each of its messages bears.
    pub run: u32,
    /// Confirmed: acknowledged since, or there.
    pub confirmed: Vec<(u64, u64)>,
    /// Published and never confirmed.
    pub in_doubt: Vec<(u64, u64)>,
    /// Acknowledged by consumers: not there.
    pub settled: Vec<(u64, u64)>,
    /// Whether acknowledgements may have been lost, so that what bears one may be there.
    pub acknowledgements_lost: bool,
}

impl QueueProof {
    /// Of a run with these queues.
    #[must_use]
    pub fn of(queues: Vec<String>, run: u32, ledger: &QueueLedger) -> Self {
        Self {
            queues,
            run,
            confirmed: ledger.ranges(Fate::Confirmed),
            in_doubt: ledger.ranges(Fate::Doubtful),
            settled: ledger.ranges(Fate::Settled),
            acknowledgements_lost: ledger.is_forgiving(),
        }
    }

    /// What is wrong with one that was read from a file.
    #[must_use]
    pub fn invalid(&self) -> Option<&'static str> {
        let mut all = self.all();
        if self.queues.is_empty() {
            Some("it names no queue")
        } else if all.any(|&(start, end)| start >= end || end > MESSAGES_MAX) {
            Some("a range ends before it begins, or is beyond all messages")
        } else {
            None
        }
    }

    /// Messages that were confirmed.
    #[must_use]
    pub fn confirmed_messages(&self) -> u64 {
        self.confirmed.iter().map(|(start, end)| end - start).sum()
    }

    /// As the run itself had it.
    #[must_use]
    pub fn ledger(&self) -> QueueLedger {
        let ledger = QueueLedger::new();
        ledger.claim(self.all().map(|&(_, end)| end).max().unwrap_or(0));
        self.confirmed.iter().for_each(|&(start, end)| ledger.confirmed(start..end));
        self.in_doubt.iter().for_each(|&(start, end)| ledger.in_doubt(start..end));
        self.settled.iter().for_each(|&(start, end)| ledger.settle(start..end));
        if self.acknowledgements_lost {
            ledger.forgive();
        }
        ledger
    }

    fn all(&self) -> impl Iterator<Item = &(u64, u64)> {
        self.confirmed.iter().chain(&self.in_doubt).chain(&self.settled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::integrity::{Coverage, Pass};

    #[test]
    fn a_ledger_survives_a_file() {
        let mut ledger = Ledger::new(3, 2);
        ledger.acked(1, 0, 0..10);
        ledger.acked(1, 0, 12..15);
        ledger.in_doubt(1, 0, 10..12);
        ledger.acked(2, 1, 0..1);
        let proof = Proof::of("t", 7, &[5, 0, 0], 2, &ledger);
        assert_eq!((proof.invalid(), proof.outcomes.len()), (None, 2));
        let text = serde_json::to_string(&proof).expect("serialises");
        let proof: Proof = serde_json::from_str(&text).expect("reads back");
        let mut pass = Pass::new(1, 2);
        (0..14).filter(|&sequence| sequence != 3).for_each(|sequence| pass.record(0, sequence));
        let counts = proof.ledger().audit(&pass, Coverage::Whole);
        assert_eq!((counts.lost, counts.in_doubt_found, counts.unexpected), (2, 2, 0));
    }

    #[test]
    fn a_ledger_of_queues_survives_a_file() {
        let ledger = QueueLedger::new();
        ledger.claim(1_000);
        ledger.confirmed(0..900);
        ledger.in_doubt(900..910);
        ledger.settle(100..300);
        let proof = QueueProof::of(vec!["q".to_owned()], 7, &ledger);
        assert_eq!((proof.invalid(), proof.confirmed_messages()), (None, 900));
        let text = serde_json::to_string(&proof).expect("serialises");
        let proof: QueueProof = serde_json::from_str(&text).expect("reads back");
        let again = proof.ledger();
        (0..100).chain(300..899).for_each(|number| again.kept(number));
        assert_eq!(again.audit(0).counts.lost, 1);
        let bad = QueueProof { settled: vec![(5, 5)], ..proof.clone() };
        assert!(bad.invalid().is_some());
        assert!(QueueProof { queues: vec![], ..proof }.invalid().is_some());
    }

    #[test]
    fn files_that_make_no_sense_are_refused() {
        let good = Proof::of("t", 7, &[0, 0], 1, &Ledger::new(2, 1));
        assert_eq!(good.invalid(), None);
        let row = |partition, acked| ProofRow { partition, producer: 0, acked, in_doubt: vec![] };
        for bad in [
            Proof { partitions: 3, ..good.clone() },
            Proof { producers: u32::MAX, ..good.clone() },
            Proof { outcomes: vec![row(2, vec![])], ..good.clone() },
            Proof { outcomes: vec![row(0, vec![(5, 5)])], ..good.clone() },
        ] {
            assert!(bad.invalid().is_some(), "{bad:?}");
        }
    }
}
