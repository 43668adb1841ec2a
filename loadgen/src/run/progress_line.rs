//! What a person sees while a load runs: a line that is redrawn in place on a terminal, a line a
//! second elsewhere. No colours.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::time::{Duration, Instant};

use super::options::RunArgs;
use super::tally::Window;
use super::work::Progress;
use crate::clock::monotonic_ns;
use crate::report::Unit;
use crate::timeline::Recent;

/// How often it is looked whether the line is due.
pub(super) const REFRESH: Duration = Duration::from_millis(200);
/// How often it changes.
const EVERY: Duration = Duration::from_secs(1);
/// An open loop is behind if less than this share of what was offered was acknowledged, in per
/// cent, after a while.
const BEHIND_PERCENT: u64 = 98;
const BEHIND_AFTER_NS: u64 = 2_000_000_000;

/// The line of one load.
pub(super) struct ProgressLine {
    view: View,
    label: String,
    /// Records per second that are offered, where they are the same at every moment.
    offered: Option<u64>,
    /// When it changed last, and the counts of then.
    before: Option<(Instant, [u64; 2])>,
    /// When the window was first seen open, and the acknowledged records of then.
    opened: Option<(u64, u64)>,
}

enum View {
    Hidden,
    Terminal(ProgressBar),
    /// stderr is a file or a pipe.
    Plain,
}

/// Whether a person watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Visibility {
    Shown,
    Hidden,
}

impl ProgressLine {
    /// The line of a load with these flags.
    pub(super) fn of(args: &RunArgs, label: &str) -> Self {
        let visibility = if args.quiet { Visibility::Hidden } else { Visibility::Shown };
        let mut line = Self::new(visibility, label);
        line.offered = args.steady_rate();
        line
    }

    pub(super) fn new(visibility: Visibility, label: &str) -> Self {
        let view = match visibility {
            Visibility::Hidden => View::Hidden,
            Visibility::Shown if !std::io::stderr().is_terminal() => View::Plain,
            Visibility::Shown => {
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
                let style = ProgressStyle::with_template("{prefix} {wide_msg}");
                bar.set_style(style.expect("the template is a constant that indicatif accepts"));
                bar.set_prefix(label.to_owned());
                View::Terminal(bar)
            }
        };
        Self { view, label: label.to_owned(), offered: None, before: None, opened: None }
    }

    /// Says what happens now.
    pub(super) fn say(&self, what: &str) {
        if let View::Terminal(bar) = &self.view {
            bar.set_message(what.to_owned());
            bar.tick();
        }
    }

    /// Shows how it goes, once a second.
    pub(super) fn show(&mut self, window: &Window, progress: &Progress) {
        if matches!(self.view, View::Hidden) {
            return;
        }
        let now = Instant::now();
        let (acked, consumed) = progress.read();
        let Some((then, seen)) = self.before else {
            self.before = Some((now, [acked, consumed]));
            return;
        };
        let elapsed = now.duration_since(then);
        if elapsed < EVERY {
            return;
        }
        self.before = Some((now, [acked, consumed]));
        let now_ns = monotonic_ns();
        if now_ns >= window.open_ns && self.opened.is_none() {
            self.opened = Some((now_ns, acked));
        }
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        let per_s = |now: u64, before: u64| now.saturating_sub(before) * 1_000 / elapsed_ms;
        let moment = Moment {
            phase: Phase::of(window, now_ns),
            rates: [per_s(acked, seen[0]), per_s(consumed, seen[1])],
            lag: (consumed > 0).then(|| acked.saturating_sub(consumed)),
            recent: progress.stretches().recent(now_ns),
            errors: progress.stretches().errors(),
            behind_percent: self.behind(now_ns, acked),
        };
        let text = moment.text();
        match &self.view {
            View::Terminal(_) => self.say(&text),
            View::Plain => {
                let space = if self.label.is_empty() { "" } else { " " };
                // A closed stderr leaves nobody to tell.
                let _ = writeln!(std::io::stderr(), "  {}{space}{text}", self.label);
            }
            View::Hidden => {}
        }
    }

    /// What share of the offered records was acknowledged since the window opened, where that is
    /// too little.
    fn behind(&self, now_ns: u64, acked: u64) -> Option<u64> {
        let (opened_ns, before) = self.opened?;
        let elapsed_ns = now_ns.saturating_sub(opened_ns);
        let due = u128::from(self.offered?) * u128::from(elapsed_ns) / 1_000_000_000;
        let percent = u128::from(acked.saturating_sub(before)) * 100 / due.max(1);
        let percent = u64::try_from(percent).unwrap_or(u64::MAX);
        (elapsed_ns >= BEHIND_AFTER_NS && percent < BEHIND_PERCENT).then_some(percent)
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if let View::Terminal(bar) = &self.view {
            bar.finish_and_clear();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Warming up until it is steady.
    Settling,
    WarmingUp {
        left_ns: u64,
    },
    Measuring {
        done_ns: u64,
        of_ns: u64,
    },
    Draining,
}

impl Phase {
    fn of(window: &Window, now_ns: u64) -> Self {
        match now_ns {
            _ if !window.is_timed() => Self::Settling,
            now if now < window.open_ns => Self::WarmingUp { left_ns: window.open_ns - now },
            now if now < window.close_ns => {
                Self::Measuring { done_ns: now - window.open_ns, of_ns: window.len_ns() }
            }
            _ => Self::Draining,
        }
    }
}

/// What the line says of one moment.
struct Moment {
    phase: Phase,
    /// Acknowledged and consumed per second.
    rates: [u64; 2],
    /// Acknowledged and not yet consumed, where somebody consumes.
    lag: Option<u64>,
    recent: Option<Recent>,
    errors: u64,
    behind_percent: Option<u64>,
}

impl Moment {
    fn text(&self) -> String {
        let mut text = match self.phase {
            Phase::Settling => "warming up until it is steady".to_owned(),
            Phase::WarmingUp { left_ns } => format!("warming up, {} s left", left_ns / SECOND_NS),
            Phase::Measuring { done_ns, of_ns } => {
                format!("measuring {}/{} s", done_ns / SECOND_NS, of_ns.div_ceil(SECOND_NS))
            }
            Phase::Draining => "draining".to_owned(),
        };
        let rate = |rate: u64| Unit::PerSecond.show(Some(rate));
        let mut add = |part: String| write!(text, "  {part}").expect("a string takes all");
        add(format!("{}/s in", rate(self.rates[0])));
        if let Some(lag) = self.lag {
            add(format!("{}/s out, lag {}", rate(self.rates[1]), rate(lag)));
        }
        if let Some(recent) = self.recent.as_ref().filter(|recent| recent.p50_ns.is_some()) {
            let show = |ns| Unit::Nanoseconds.show(ns);
            let Recent { p50_ns, p99_ns, p999_ns, length_ns, .. } = *recent;
            let (p50, p99, p999) = (show(p50_ns), show(p99_ns), show(p999_ns));
            let last = match length_ns.div_ceil(SECOND_NS) {
                0 | 1 => String::new(),
                seconds => format!(" (last {seconds} s)"),
            };
            add(format!("p50 {p50} p99 {p99} p99.9 {p999}{last}"));
        }
        add(match (self.errors, self.behind_percent) {
            (0, None) => "ok".to_owned(),
            (0, Some(percent)) => format!("BEHIND: {percent} % of what is offered"),
            (errors, _) => format!("{errors} ERRORS"),
        });
        text
    }
}

const SECOND_NS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn moment() -> Moment {
        Moment {
            phase: Phase::Measuring { done_ns: 18_500_000_000, of_ns: 30_000_000_000 },
            rates: [199_988, 199_981],
            lag: Some(312),
            recent: Some(Recent {
                length_ns: SECOND_NS,
                acked: 199_988,
                consumed: 0,
                p50_ns: Some(412_000),
                p99_ns: Some(1_310_000),
                p999_ns: None,
            }),
            errors: 0,
            behind_percent: None,
        }
    }

    #[test]
    fn a_line_says_how_it_goes() {
        let text = moment().text();
        assert_eq!(
            text,
            "measuring 18/30 s  199,988/s in  199,981/s out, lag 312  p50 412 us p99 1.31 ms p99.9 \
             --  ok"
        );
        assert!(!text.contains('\u{1b}'), "no colours");
        let behind = Moment { behind_percent: Some(93), lag: None, ..moment() }.text();
        assert!(behind.ends_with("BEHIND: 93 % of what is offered"), "{behind}");
        let failing = Moment { errors: 3, recent: None, ..moment() }.text();
        assert!(failing.ends_with("lag 312  3 ERRORS"), "{failing}");
        let left_ns = 1_200_000_000;
        let early = Moment { phase: Phase::WarmingUp { left_ns }, recent: None, ..moment() }.text();
        assert!(early.starts_with("warming up, 1 s left"), "{early}");
    }

    #[test]
    fn it_is_behind_only_after_a_while() {
        let mut line = ProgressLine::new(Visibility::Hidden, "");
        line.offered = Some(1_000);
        assert_eq!(line.behind(SECOND_NS, 0), None, "the window is not open");
        line.opened = Some((SECOND_NS, 100));
        assert_eq!(line.behind(2 * SECOND_NS, 100), None, "too early");
        assert_eq!(line.behind(4 * SECOND_NS, 1_600), Some(50));
        assert_eq!(line.behind(4 * SECOND_NS, 3_100), None);
    }
}
