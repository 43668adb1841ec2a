//! The two clocks, read once per turn.

use engine::port::{Now, Time};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// What time it is.
pub fn now() -> Now {
    Now {
        time: Time(nanoseconds(clock_gettime(ClockId::Monotonic))),
        wall_ns: nanoseconds(clock_gettime(ClockId::Realtime)),
    }
}

/// CPU time that this thread has used, in ns.
pub fn thread_cpu_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::ThreadCPUTime))
}

/// A clock set before 1970 reads as 1970.
fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}
