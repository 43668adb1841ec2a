//! Reads what the broker's process uses, over and over.

use super::broker_process::Usage;
use super::tally::Window;
use crate::report::BrokerSeries;

/// Most readings of a window.
const READINGS_MAX: u64 = 120;

/// Takes every so many'th chance to read.
pub(super) struct UsageSampler {
    every: u64,
    chances: u64,
    interval_ns: u64,
    before: Option<(u64, u64)>,
    series: BrokerSeries,
}

impl UsageSampler {
    /// For a window with a chance each `step_ns`.
    pub(super) fn new(window: &Window, step_ns: u64) -> Self {
        let every = (window.len_ns() / step_ns.max(1)).div_ceil(READINGS_MAX).max(1);
        Self {
            every,
            chances: 0,
            interval_ns: every * step_ns,
            before: None,
            series: BrokerSeries::default(),
        }
    }

    /// A chance to read.
    pub(super) fn read(&mut self, at_ns: u64, usage: impl FnOnce() -> Usage) {
        self.chances += 1;
        if !self.chances.is_multiple_of(self.every) {
            return;
        }
        let Usage { cpu_ns: Some(cpu_ns), rss_bytes: Some(rss_bytes), .. } = usage() else {
            return;
        };
        if let Some((before_ns, before_cpu_ns)) = self.before {
            let used = cpu_ns.saturating_sub(before_cpu_ns).saturating_mul(1_000);
            self.series.cpu_per_mille.push(used / at_ns.saturating_sub(before_ns).max(1));
            self.series.rss_bytes.push(rss_bytes);
        }
        self.before = Some((at_ns, cpu_ns));
    }

    /// What was read; none of a process that is not ours.
    pub(super) fn series(self) -> Option<BrokerSeries> {
        let Self { interval_ns, series, .. } = self;
        (!series.rss_bytes.is_empty()).then_some(BrokerSeries { interval_ns, ..series })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_window_has_no_more_readings_than_a_short_one() {
        const STEP: u64 = 100_000_000;
        for (steps, every) in [(20, 1), (1_200, 10)] {
            let close_ns = steps * STEP;
            let window = Window { start_ns: 0, open_ns: 0, close_ns, drain_ns: close_ns, steps: 1 };
            let mut sampler = UsageSampler::new(&window, STEP);
            for at in 1..=steps {
                // Half a core.
                let cpu_ns = Some(at * STEP / 2);
                let usage = Usage { cpu_ns, rss_bytes: Some(at), ..Usage::default() };
                sampler.read(at * STEP, || usage);
            }
            let series = sampler.series().expect("readings");
            assert_eq!(series.interval_ns, every * STEP);
            assert_eq!(series.rss_bytes.len() as u64, steps / every - 1);
            assert!(series.cpu_per_mille.iter().all(|&share| share == 500), "{series:?}");
        }
    }
}
