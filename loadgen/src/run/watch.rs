//! What the thread that watches a load does meanwhile, and right after.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::RunError;
use super::broker_process::Usage;
use super::efficiency::{Counters, written_bytes};
use super::fault::Strikes;
use super::progress_line::{ProgressLine, REFRESH};
use super::site::Site;
use super::tally::Window;
use super::timing::WarmedUp;
use super::usage_series::UsageSampler;
use super::work::Progress;
use crate::clock::{monotonic_ns, thread_cpu_ns};
use crate::report::{BrokerEnd, BrokerSeries, FaultOutcome};
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
    /// Memory and CPU of the broker over the window.
    pub(super) broker: Option<BrokerSeries>,
    /// What became of the faults.
    pub(super) faults: Vec<FaultOutcome>,
    /// Whether the broker is another process now, or none: then its use and counters are unknown.
    pub(super) restarted: bool,
    /// How it ended, if nobody wanted it to.
    pub(super) end: Option<BrokerEnd>,
}

/// Shows progress, and reads what the broker has used when the window opens and closes. Ends the
/// load if the broker does.
pub(super) fn watch(
    site: &mut Site,
    window: &Window,
    progress: &Progress,
    line: &mut ProgressLine,
    strikes: Strikes,
) -> Result<Watched, RunError> {
    let watched = watch_window(site, window, progress, line, strikes);
    if watched.as_ref().map_or(true, |seen| seen.end.is_some()) {
        // The threads of the load shall not wait for a broker that does not come back.
        progress.end();
    }
    watched
}

fn watch_window(
    site: &mut Site,
    window: &Window,
    progress: &Progress,
    line: &mut ProgressLine,
    strikes: Strikes,
) -> Result<Watched, RunError> {
    progress.stretches().watch(window);
    let mut watcher = Watcher { site, window, progress, line, strikes };
    watcher.sleep_until(window.open_ns);
    if let Some(how) = watcher.site.death() {
        return Err(RunError::Setup(format!("the broker ended before the window opened ({how})")));
    }
    let usage = watcher.site.usage();
    let before = (usage, counters(watcher.site)?, CpuTimes::read(), Pressure::read());
    let sampled = watcher.sample(&before.1);
    let Watcher { site, mut strikes, .. } = watcher;
    let sampled = sampled.and_then(|sampled| strikes.end(site).map(|()| sampled));
    let (host, broker) = sampled?;
    let after_ns = monotonic_ns().saturating_sub(window.open_ns);
    let end = site.death().map(|how| BrokerEnd { after_ns, how });
    let restarted = strikes.has_killed() || end.is_some();
    let (usage, counters) = match restarted {
        true => <([Usage; 2], [Counters; 2])>::default(),
        false => ([before.0, site.usage()], [before.1, counters(site)?]),
    };
    let cpu = [before.2, CpuTimes::read()];
    let pressure = [before.3, Pressure::read()];
    let (broker, faults) = (broker.filter(|_| !restarted), strikes.into_outcomes());
    let warmed_up = None;
    Ok(Watched { usage, counters, cpu, pressure, host, warmed_up, broker, faults, restarted, end })
}

/// The watching thread.
struct Watcher<'a> {
    site: &'a mut Site,
    window: &'a Window,
    progress: &'a Progress,
    line: &'a mut ProgressLine,
    strikes: Strikes,
}

impl Watcher<'_> {
    /// Reads the machine and the broker's counters ten times a second until the window closes.
    fn sample(
        &mut self,
        first: &Counters,
    ) -> Result<(Option<HostSeries>, Option<BrokerSeries>), RunError> {
        let window = *self.window;
        let mut sampler = Sampler::new(window.len_ns());
        let mut usage = UsageSampler::new(&window, sampler.step_ns());
        sampler.read(monotonic_ns(), Some(first));
        let mut next_ns = window.open_ns;
        loop {
            next_ns = next_ns.saturating_add(sampler.step_ns()).min(window.close_ns);
            while self.strikes.next_ns() <= next_ns && !self.is_aborted() {
                self.sleep_until(self.strikes.next_ns());
                self.strikes.step(self.site, &window, self.progress)?;
            }
            self.sleep_until(next_ns);
            if self.is_aborted() || self.site.death().is_some() {
                break;
            }
            let before_ns = thread_cpu_ns();
            let counters = match self.strikes.is_down() {
                true => None,
                false => self.ask(),
            };
            sampler.charge(thread_cpu_ns() - before_ns);
            sampler.read(monotonic_ns(), counters.as_ref());
            usage.read(monotonic_ns(), || self.site.usage());
            if next_ns >= window.close_ns {
                break;
            }
        }
        Ok((sampler.series(window.open_ns), usage.series()))
    }

    /// The broker's counters; if it does not answer, whether it still could is looked at.
    fn ask(&mut self) -> Option<Counters> {
        let counters = counters(self.site).ok();
        if counters.is_none() {
            self.site.look_for_it();
        }
        counters
    }

    fn is_aborted(&self) -> bool {
        self.site.abort.load(Ordering::Relaxed)
    }

    fn sleep_until(&mut self, time_ns: u64) {
        sleep_until(self.site, time_ns, self.window, self.progress, self.line);
    }
}

/// Sleeps until then, unless everything shall end or the broker has; shows progress meanwhile.
pub(super) fn sleep_until(
    site: &mut Site,
    time_ns: u64,
    window: &Window,
    progress: &Progress,
    line: &mut ProgressLine,
) {
    loop {
        let left = Duration::from_nanos(time_ns.saturating_sub(monotonic_ns()));
        if left.is_zero() || site.abort.load(Ordering::Relaxed) || site.death().is_some() {
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
