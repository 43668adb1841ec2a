//! When a load is measured: after a time, or once it is steady.

use std::sync::atomic::Ordering;

use super::cell::nanoseconds;
use super::choices::{Rate, WarmUp};
use super::options::RunArgs;
use super::progress_line::ProgressLine;
use super::site::Site;
use super::tally::Window;
use super::watch::sleep_until;
use super::work::Progress;
use crate::clock::monotonic_ns;
use crate::validity::{STRETCH_NS, Unsettled, WARM_UP_NS_MAX, WarmUp as Watch};

/// What is not answered or read this long after the window is given up.
const DRAIN_NS: u64 = 10_000_000_000;
/// From timing a window to its opening: all threads have heard of it by then.
const OPENING_DELAY_NS: u64 = 60_000_000;

/// How the window of a load comes about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    warmup: WarmUp,
    duration_ns: u64,
    steps: u32,
}

/// How a warm-up ended that lasts until the load is steady.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WarmedUp {
    /// The load is steady since this time after its beginning.
    Steady(u64),
    /// It was not, after all the time that there was.
    Never(Unsettled),
}

impl Timing {
    /// As the flags have it.
    pub(super) fn of(args: &RunArgs) -> Self {
        let steps = match &args.rate {
            Rate::Open(arrivals) => arrivals.steps(),
            Rate::Max => 1,
        };
        Self { warmup: args.warmup, duration_ns: nanoseconds(args.duration), steps }
    }

    /// The window of a load that begins then; not timed yet if it depends on the load.
    pub(super) fn window(&self, start_ns: u64) -> Window {
        match self.warmup {
            WarmUp::For(warmup) => self.opening(start_ns, start_ns + nanoseconds(warmup)),
            WarmUp::Auto => Window::untimed(start_ns, u64::MAX),
        }
    }

    fn opening(&self, start_ns: u64, open_ns: u64) -> Window {
        let close_ns = open_ns + self.duration_ns;
        Window { start_ns, open_ns, close_ns, drain_ns: close_ns + DRAIN_NS, steps: self.steps }
    }

    /// Watches a load whose window is not timed until it is steady; then times the window, and
    /// tells so.
    pub(super) fn warm_up(
        &self,
        site: &mut Site,
        window: &mut Window,
        progress: &Progress,
        line: &mut ProgressLine,
        tell: &dyn Fn(Window),
    ) -> Option<WarmedUp> {
        if window.is_timed() {
            return None;
        }
        let mut watch = Watch::default();
        let mut next_ns = window.start_ns;
        let (mut records, mut latencies) = (0, progress.latencies.read());
        loop {
            next_ns += STRETCH_NS;
            sleep_until(site, next_ns, window, progress, line);
            if site.abort.load(Ordering::Relaxed) || site.death().is_some() {
                return None;
            }
            let (acked, consumed) = progress.read();
            let now = (acked.max(consumed), progress.latencies.read());
            watch.push(now.0 - records, now.1.since(&latencies).percentile(990));
            (records, latencies) = now;
            let steady = watch.steady();
            if steady.is_err() && next_ns < window.start_ns + WARM_UP_NS_MAX {
                continue;
            }
            *window = self.opening(window.start_ns, monotonic_ns() + OPENING_DELAY_NS);
            tell(*window);
            return Some(steady.map_or_else(WarmedUp::Never, WarmedUp::Steady));
        }
    }
}
