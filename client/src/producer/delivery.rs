//! What became of the records that a producer was given.

use std::collections::VecDeque;

use wire::batch::BatchBuilder;

use super::queue::Sealed;
use crate::limits::DELIVERIES_KEPT_MAX;

/// The fate of consecutive records of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Partition.
    pub partition: u32,
    /// The first record's index: records are counted from 0 per partition, as
    /// [`super::Producer::send`] told.
    pub first_index: u64,
    /// How many records.
    pub record_count: u64,
    /// What became of them, all alike.
    pub outcome: Outcome,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged as the producer's `acks` asks; the first record has this offset.
    Acked {
        /// Offset of the first record; the others follow.
        base_offset: u64,
    },
    /// Sent with `Acks::None`: nobody will ever tell.
    Unacknowledged,
    /// Not appended.
    Failed {
        /// An error code number; 0 if the batch was never sent.
        code: u16,
        /// A sentence.
        detail: String,
    },
    /// Unknown: appended once or not at all. Never retried, because that could append it twice.
    InDoubt {
        /// A sentence.
        detail: String,
    },
}

/// Records by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Acknowledged.
    pub acked: u64,
    /// Sent with `Acks::None`.
    pub unacknowledged: u64,
    /// Not appended.
    pub failed: u64,
    /// Unknown.
    pub in_doubt: u64,
}

impl Totals {
    /// Whether nothing failed and nothing is in doubt.
    pub const fn all_well(&self) -> bool {
        self.failed == 0 && self.in_doubt == 0
    }
}

/// Totals, and the newest deliveries one by one.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    kept: VecDeque<Delivery>,
    totals: Totals,
}

impl Deliveries {
    pub(super) const fn totals(&self) -> Totals {
        self.totals
    }

    pub(super) fn pop(&mut self) -> Option<Delivery> {
        self.kept.pop_front()
    }

    /// Tells what became of a sealed batch, whose memory goes to `spares`.
    pub(super) fn finish(
        &mut self,
        spares: &mut Vec<BatchBuilder>,
        partition: u32,
        sealed: Sealed,
        outcome: Outcome,
    ) {
        let Sealed { mut batch, first_index, .. } = sealed;
        let record_count = u64::from(batch.record_count());
        self.push(Delivery { partition, first_index, record_count, outcome });
        batch.clear();
        spares.push(batch);
    }

    fn push(&mut self, delivery: Delivery) {
        let total = match delivery.outcome {
            Outcome::Acked { .. } => &mut self.totals.acked,
            Outcome::Unacknowledged => &mut self.totals.unacknowledged,
            Outcome::Failed { .. } => &mut self.totals.failed,
            Outcome::InDoubt { .. } => &mut self.totals.in_doubt,
        };
        *total += delivery.record_count;
        if self.kept.back_mut().is_some_and(|last| continued(last, &delivery)) {
            return;
        }
        if self.kept.len() == DELIVERIES_KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(delivery);
    }
}

/// Makes `last` longer if `next` goes on where it ends: so a caller that never reads its
/// deliveries holds a few of them, not one per batch.
fn continued(last: &mut Delivery, next: &Delivery) -> bool {
    let alike = match (&last.outcome, &next.outcome) {
        (Outcome::Acked { base_offset }, Outcome::Acked { base_offset: next_offset }) => {
            base_offset + last.record_count == *next_offset
        }
        (last, next) => last == next,
    };
    let follows = last.partition == next.partition
        && last.first_index + last.record_count == next.first_index;
    if alike && follows {
        last.record_count += next.record_count;
    }
    alike && follows
}
