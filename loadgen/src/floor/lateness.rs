//! How late a thread is that does nothing but look at the clock: what the machine alone, with its
//! interrupts, its other threads and its hypervisor, does to every schedule.

use super::{ProbeError, on_core};
use crate::clock::monotonic_ns;
use crate::latency::Latencies;
use std::time::Duration;

/// Between two moments at which the thread shall be there: 200,000 a second.
const STEP_NS: u64 = 5_000;

/// Looks at the clock on `core` for `time`, and records by how much each moment was missed.
pub fn lateness_slice(core: usize, time: Duration) -> Result<Latencies, ProbeError> {
    on_core(core, || {
        let mut latencies = Latencies::new();
        let begin_ns = monotonic_ns();
        let end_ns = begin_ns + u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let mut due_ns = begin_ns + STEP_NS;
        while due_ns < end_ns {
            let now_ns = monotonic_ns();
            while due_ns <= now_ns && due_ns < end_ns {
                latencies.record(now_ns - due_ns);
                due_ns += STEP_NS;
            }
            // No yield: it is short, and nothing waits for a thread of this core meanwhile.
            std::hint::spin_loop();
        }
        Ok(latencies)
    })
}
