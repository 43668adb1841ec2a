//! When each record should be sent, decided before the run and never moved.
//!
//! An open-loop schedule is absolute: a record that leaves late keeps its intended time, so the
//! wait behind a slow answer counts as latency (no coordinated omission).

const SECOND_NS: u64 = 1_000_000_000;

/// How the load is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// This many records per second over all producers, whatever the broker does.
    Open {
        /// Records per second, above zero.
        rate: u64,
    },
    /// As fast as answers free slots. The intended time is when a slot became free.
    Closed,
}

/// The send times of one producer out of several that share a constant rate.
///
/// Record `k` of producer `i` of `n` is record `k * n + i` of the run and is due at
/// `start + (k * n + i) / rate`: the phases of the producers are spread evenly. Times are exact to
/// the nanosecond (rounded down) for ever, since the remainder is carried along.
#[derive(Clone, Debug)]
pub struct Schedule {
    next_ns: u64,
    remainder: u64,
    step_ns: u64,
    step_remainder: u64,
    rate: u64,
}

impl Schedule {
    /// The schedule of producer `index` of `producers`, for `rate` records/s over all of them,
    /// beginning at the monotonic time `start_ns`.
    ///
    /// # Panics
    /// If `rate` or `producers` is zero, or `index` is not below `producers`.
    #[must_use]
    pub fn new(start_ns: u64, rate: u64, producers: u32, index: u32) -> Self {
        assert!(rate > 0, "an open-loop rate is above zero");
        assert!(index < producers, "producer {index} of {producers}");
        let (phase_ns, remainder) = divided(index, rate);
        let (step_ns, step_remainder) = divided(producers, rate);
        Self { next_ns: start_ns + phase_ns, remainder, step_ns, step_remainder, rate }
    }

    /// When the next record is due.
    #[inline]
    #[must_use]
    pub fn next_ns(&self) -> u64 {
        self.next_ns
    }

    /// When the record after `ahead` others is due.
    #[must_use]
    pub fn due_ns(&self, ahead: u64) -> u64 {
        let whole = self.next_ns.saturating_add(self.step_ns.saturating_mul(ahead));
        let parts =
            u128::from(self.step_remainder) * u128::from(ahead) + u128::from(self.remainder);
        let carried = u64::try_from(parts / u128::from(self.rate)).unwrap_or(u64::MAX);
        whole.saturating_add(carried)
    }

    /// Takes the next record if it is due at `now_ns`: its intended time.
    #[inline]
    pub fn take_due(&mut self, now_ns: u64) -> Option<u64> {
        if self.next_ns > now_ns {
            return None;
        }
        let due = self.next_ns;
        self.next_ns += self.step_ns;
        self.remainder += self.step_remainder;
        if self.remainder >= self.rate {
            self.remainder -= self.rate;
            self.next_ns += 1;
        }
        Some(due)
    }
}

/// Whole nanoseconds of `records / rate` seconds, and the remainder in units of 1 / rate ns.
fn divided(records: u32, rate: u64) -> (u64, u64) {
    let total = u64::from(records) * SECOND_NS;
    (total / rate, total % rate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn times_are_those_of_the_formula(
            start in 0u64..1 << 50, rate in 1u64..10_000_000, producers in 1u32..200, pick: u32,
        ) {
            let index = pick % producers;
            let mut schedule = Schedule::new(start, rate, producers, index);
            let ahead = schedule.clone();
            for k in 0..500u128 {
                let global = k * u128::from(producers) + u128::from(index);
                let due = u128::from(start) + global * u128::from(SECOND_NS) / u128::from(rate);
                prop_assert_eq!(u128::from(ahead.due_ns(u64::try_from(k).expect("small"))), due);
                prop_assert_eq!(schedule.take_due(u64::MAX).map(u128::from), Some(due));
            }
        }
    }

    #[test]
    fn nothing_is_due_early_and_nothing_is_skipped_late() {
        let mut schedule = Schedule::new(1_000, 1_000_000, 1, 0);
        assert_eq!(schedule.take_due(999), None);
        assert_eq!(schedule.take_due(1_000), Some(1_000));
        assert_eq!(schedule.take_due(1_999), None);
        // A stall of five records' time leaves five records due at their own times.
        let late: Vec<_> = std::iter::from_fn(|| schedule.take_due(6_500)).collect();
        assert_eq!(late, [2_000, 3_000, 4_000, 5_000, 6_000]);
    }
}
