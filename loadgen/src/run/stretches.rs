//! What generator threads tell while they run: finished stretches of their timelines, joined for
//! the watching thread. A thread copies a few kilobytes ten times a second at most, and never
//! waits for the lock.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::tally::{Tally, Window};
use crate::timeline::{Recent, Timeline};

/// A thread that found the lock taken comes back after this long.
const RETRY_NS: u64 = 1_000_000;
/// Percentiles are of this long a time, or of a stretch if that is longer.
const RECENT_NS: u64 = 1_000_000_000;
/// Threads that sleep tell of a stretch this long after its end at the latest.
const LATE_NS: u64 = 50_000_000;

/// The joined timeline, once somebody watches.
#[derive(Debug, Default)]
pub(super) struct Stretches {
    joint: Mutex<Option<Timeline>>,
    errors: AtomicU64,
}

impl Stretches {
    /// From now on threads shall tell of this window.
    pub(super) fn watch(&self, window: &Window) {
        let timeline = Timeline::new(window.open_ns, window.close_ns);
        *self.joint.lock().expect("no holder panics") = Some(timeline);
    }

    /// What happened in the last second or stretch; none before the window's first one is over.
    pub(super) fn recent(&self, now_ns: u64) -> Option<Recent> {
        let joint = self.joint.lock().expect("no holder panics");
        joint.as_ref()?.recent(now_ns.saturating_sub(LATE_NS), RECENT_NS)
    }

    /// Failures so far.
    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Takes stretches that are over; false if somebody else is at it just now.
    fn take(&self, timeline: &Timeline, stretches: Range<usize>, errors: u64) -> bool {
        let Ok(mut joint) = self.joint.try_lock() else { return false };
        if let Some(joint) = joint.as_mut() {
            joint.join(timeline, stretches);
        }
        self.errors.fetch_add(errors, Ordering::Relaxed);
        true
    }
}

/// How far one thread has told.
#[derive(Debug)]
pub(super) struct Feed {
    told: usize,
    told_errors: u64,
    next_ns: u64,
}

impl Feed {
    /// Nothing yet.
    pub(super) fn new(tally: &Tally) -> Self {
        Self { told: 0, told_errors: 0, next_ns: tally.timeline.end_ns(0) }
    }

    /// Tells what is over, if it is time.
    #[inline]
    pub(super) fn at(&mut self, now_ns: u64, tally: &Tally, live: &Stretches) {
        if now_ns >= self.next_ns {
            self.tell(now_ns, tally, live);
        }
    }

    fn tell(&mut self, now_ns: u64, tally: &Tally, live: &Stretches) {
        let over = tally.timeline.over(now_ns);
        let errors: u64 = tally.errors.values().sum();
        if !live.take(&tally.timeline, self.told..over, errors - self.told_errors) {
            self.next_ns = now_ns + RETRY_NS;
            return;
        }
        (self.told, self.told_errors) = (over, errors);
        self.next_ns = tally.timeline.end_ns(over);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn window() -> Window {
        Window {
            start_ns: 0,
            open_ns: SECOND,
            close_ns: 11 * SECOND,
            drain_ns: 12 * SECOND,
            steps: 1,
        }
    }

    /// A thread whose every stretch has a hundred records of this latency.
    fn thread(latency_ns: u64) -> Tally {
        let mut tally = Tally::new(1, 1, &window());
        for tenth in 0..100 {
            let at_ns = SECOND + tenth * SECOND / 10;
            let stretch = tally.timeline.at(at_ns).expect("in the window");
            stretch.acked(100);
            stretch.response(latency_ns, 100);
        }
        tally
    }

    #[test]
    fn threads_tell_what_is_over_and_nothing_twice() {
        let (live, fast, slow) = (Stretches::default(), thread(2_000), thread(2_000_000));
        let (mut first, mut second) = (Feed::new(&fast), Feed::new(&slow));
        first.at(2 * SECOND, &fast, &live);
        assert!(live.recent(2 * SECOND).is_none(), "nobody watches");
        let live = Stretches::default();
        live.watch(&window());
        (first, second) = (Feed::new(&fast), {
            second.at(0, &slow, &live);
            second
        });
        for now_ns in (0..=110).map(|tenth| tenth * SECOND / 10) {
            first.at(now_ns, &fast, &live);
            second.at(now_ns, &slow, &live);
        }
        let recent = live.recent(5 * SECOND).expect("stretches are over");
        assert_eq!((recent.length_ns, recent.acked), (SECOND, 2_000));
        let (p50, p99) = (recent.p50_ns.expect("enough"), recent.p99_ns.expect("enough"));
        assert!(p50.abs_diff(2_000) < 100 && p99.abs_diff(2_000_000) < 100_000, "{recent:?}");
        assert!(live.recent(SECOND).is_none(), "none is over yet");
    }

    #[test]
    fn who_finds_the_lock_taken_comes_back() {
        let (live, tally) = (Stretches::default(), thread(5_000));
        live.watch(&window());
        let mut feed = Feed::new(&tally);
        {
            let _held = live.joint.lock().expect("free");
            feed.at(3 * SECOND, &tally, &live);
        }
        assert!(live.recent(3 * SECOND).is_none_or(|recent| recent.acked == 0));
        feed.at(3 * SECOND + RETRY_NS, &tally, &live);
        assert_eq!(live.recent(3 * SECOND).map(|recent| recent.acked), Some(1_000));
    }
}
