//! The line that shows a run is alive.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};

use super::tally::Window;
use super::work::Progress;
use crate::clock::monotonic_ns;

/// How often it changes.
pub(super) const REFRESH: Duration = Duration::from_millis(200);

/// A line on stderr that is redrawn in place; nothing where stderr is not a terminal.
pub(super) struct ProgressLine {
    bar: ProgressBar,
    before: (Instant, u64),
}

/// Whether a person watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Visibility {
    Shown,
    Hidden,
}

impl ProgressLine {
    pub(super) fn new(visibility: Visibility, label: &str) -> Self {
        let target = match visibility {
            Visibility::Shown => ProgressDrawTarget::stderr(),
            Visibility::Hidden => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{prefix} {wide_msg}");
        bar.set_style(style.expect("the template is a constant that indicatif accepts"));
        bar.set_prefix(label.to_owned());
        Self { bar, before: (Instant::now(), 0) }
    }

    /// Says what happens now.
    pub(super) fn say(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        self.bar.tick();
    }

    /// Shows the rate since the last time.
    pub(super) fn show(&mut self, window: &Window, progress: &Progress) {
        let (acked, consumed) = progress.read();
        let records = acked.max(consumed);
        let (then, seen) = self.before;
        let elapsed_us = u64::try_from(then.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
        let rate = (records - seen.min(records)).saturating_mul(1_000_000) / elapsed_us;
        self.before = (Instant::now(), records);
        let now_ns = monotonic_ns();
        if !window.is_timed() {
            return self.say(&format!("warming up until it is steady: {rate} records/s"));
        }
        let (phase, end_ns) = match now_ns {
            now if now < window.open_ns => ("warming up", window.open_ns),
            now if now < window.close_ns => ("measuring", window.close_ns),
            _ => ("draining", now_ns),
        };
        let left_ms = end_ns.saturating_sub(now_ns) / 1_000_000;
        self.say(&format!(
            "{phase}, {}.{} s left: {rate} records/s",
            left_ms / 1000,
            left_ms / 100 % 10
        ));
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
