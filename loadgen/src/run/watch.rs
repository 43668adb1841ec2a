//! What the thread that watches a load does meanwhile, and right after.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::RunError;
use super::broker_process::Usage;
use super::efficiency::{Counters, written_bytes};
use super::progress_line::{ProgressLine, REFRESH};
use super::site::Site;
use super::tally::Window;
use super::timing::WarmedUp;
use super::work::Progress;
use crate::clock::{monotonic_ns, thread_cpu_ns};
use crate::sampler::{HostSeries, Sampler};
use crate::validity::{CpuTimes, Pressure};

/// Background writes are over when none was counted for this long.
const SETTLED_AFTER: Duration = Duration::from_millis(120);
const SETTLE_POLL: Duration = Duration::from_millis(20);
/// They are not waited for longer than this.
const SETTLE_WAIT_MAX: Duration = Duration::from_secs(10);

/// What the watching thread read at the ends of the window.
pub(super) struct Watched {
    pub(super) usage: [Usage; 2],
    pub(super) counters: [Counters; 2],
    pub(super) cpu: [Option<CpuTimes>; 2],
    pub(super) pressure: [Pressure; 2],
    pub(super) host: Option<HostSeries>,
    /// How a warm-up ended that lasts until the load is steady.
    pub(super) warmed_up: Option<WarmedUp>,
}

/// Shows progress, and reads what the broker has used when the window opens and closes.
pub(super) fn watch(
    site: &mut Site,
    window: &Window,
    progress: &Progress,
    line: &mut ProgressLine,
) -> Result<Watched, RunError> {
    sleep_until(site, window.open_ns, window, progress, line);
    let before = (site.usage(), counters(site)?, CpuTimes::read(), Pressure::read());
    let host = sample(site, window, &before.1, progress, line);
    let after = (site.usage(), counters(site)?, CpuTimes::read(), Pressure::read());
    Ok(Watched {
        usage: [before.0, after.0],
        counters: [before.1, after.1],
        cpu: [before.2, after.2],
        pressure: [before.3, after.3],
        host,
        warmed_up: None,
    })
}

/// Reads the machine and the broker's counters ten times a second until the window closes.
fn sample(
    site: &mut Site,
    window: &Window,
    first: &Counters,
    progress: &Progress,
    line: &mut ProgressLine,
) -> Option<HostSeries> {
    let mut sampler = Sampler::new(window.len_ns());
    sampler.read(monotonic_ns(), Some(first));
    let mut next_ns = window.open_ns;
    loop {
        next_ns = next_ns.saturating_add(sampler.step_ns()).min(window.close_ns);
        sleep_until(site, next_ns, window, progress, line);
        if site.abort.load(Ordering::Relaxed) {
            break;
        }
        // A broker that does not answer is found out when the window closes.
        let before_ns = thread_cpu_ns();
        let counters = counters(site).ok();
        sampler.charge(thread_cpu_ns() - before_ns);
        sampler.read(monotonic_ns(), counters.as_ref());
        if next_ns >= window.close_ns {
            break;
        }
    }
    sampler.series(window.open_ns)
}

/// Sleeps until then, unless everything shall end; shows progress meanwhile.
pub(super) fn sleep_until(
    site: &Site,
    time_ns: u64,
    window: &Window,
    progress: &Progress,
    line: &mut ProgressLine,
) {
    loop {
        let left = Duration::from_nanos(time_ns.saturating_sub(monotonic_ns()));
        if left.is_zero() || site.abort.load(Ordering::Relaxed) {
            return;
        }
        line.show(window, progress);
        std::thread::sleep(left.min(REFRESH));
    }
}

/// All counters of the broker.
pub(super) fn counters(site: &mut Site) -> Result<Counters, RunError> {
    Ok(site.control.stats()?.into_iter().collect())
}

/// Waits until the broker writes nothing more for records; gives its counters then.
pub(super) fn settle(site: &mut Site) -> Result<Counters, RunError> {
    let until = Instant::now() + SETTLE_WAIT_MAX;
    let mut last = counters(site)?;
    let mut rests_since = Instant::now();
    while rests_since.elapsed() < SETTLED_AFTER
        && Instant::now() < until
        && !site.abort.load(Ordering::Relaxed)
    {
        std::thread::sleep(SETTLE_POLL);
        let now = counters(site)?;
        if written_bytes(&now) != written_bytes(&last) {
            rests_since = Instant::now();
        }
        last = now;
    }
    Ok(last)
}
