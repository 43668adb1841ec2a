//! The one monotonic clock all measured times come from.

use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC`, shared by all processes of one machine.
#[inline]
#[must_use]
pub fn monotonic_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// CPU time that the calling thread has used, in nanoseconds.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::ThreadCPUTime))
}

/// Length of the scheduler's tick in nanoseconds (1 / `CONFIG_HZ`): the coarse clock moves with it.
#[must_use]
pub fn tick_ns() -> u64 {
    nanoseconds(clock_getres(ClockId::MonotonicCoarse))
}

fn nanoseconds(time: Timespec) -> u64 {
    // Both clocks start near zero, so neither field is ever negative.
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_move_forward() {
        let first = monotonic_ns();
        assert!(monotonic_ns() >= first);
        assert!(thread_cpu_ns() > 0);
        assert!((100_000..=20_000_000).contains(&tick_ns()), "tick of {} ns", tick_ns());
    }
}
