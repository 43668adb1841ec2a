//! Records at even distances.

use super::Member;

const SECOND_NS: u64 = 1_000_000_000;

/// The send times of one producer out of several that share a constant rate.
///
/// Record `k` of producer `i` of `n` is record `k * n + i` of the run and is due at
/// `start + (k * n + i) / rate`: the phases of the producers are spread evenly. Times are exact to
/// the nanosecond (rounded down) for ever, since the remainder is carried along.
#[derive(Clone, Debug)]
pub(super) struct Constant {
    next_ns: u64,
    remainder: u64,
    step_ns: u64,
    step_remainder: u64,
    rate: u64,
}

impl Constant {
    pub(super) fn new(start_ns: u64, rate: u64, member: Member) -> Self {
        assert!(rate > 0, "an open-loop rate is above zero");
        let (phase_ns, remainder) = divided(member.index, rate);
        let (step_ns, step_remainder) = divided(member.of, rate);
        Self { next_ns: start_ns + phase_ns, remainder, step_ns, step_remainder, rate }
    }

    #[inline]
    pub(super) fn next_ns(&self) -> u64 {
        self.next_ns
    }

    pub(super) fn due_ns(&self, ahead: u64) -> u64 {
        let whole = self.next_ns.saturating_add(self.step_ns.saturating_mul(ahead));
        let parts =
            u128::from(self.step_remainder) * u128::from(ahead) + u128::from(self.remainder);
        let carried = u64::try_from(parts / u128::from(self.rate)).unwrap_or(u64::MAX);
        whole.saturating_add(carried)
    }

    #[inline]
    pub(super) fn advance(&mut self) {
        self.next_ns += self.step_ns;
        self.remainder += self.step_remainder;
        if self.remainder >= self.rate {
            self.remainder -= self.rate;
            self.next_ns += 1;
        }
    }
}

/// Whole nanoseconds of `records / rate` seconds, and the remainder in units of 1 / rate ns.
fn divided(records: u32, rate: u64) -> (u64, u64) {
    let total = u64::from(records) * SECOND_NS;
    (total / rate, total % rate)
}
