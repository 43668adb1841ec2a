//! A request on its way: what it carries, and what is recorded when its answer comes.

use super::tally::{Tally, Window};
use crate::live::Live;
use crate::schedule::Schedule;
use wire::produce::Timing;

/// A request that has no answer yet.
pub(super) struct Flight {
    pub(super) parts: Parts,
    pub(super) count: u32,
    /// Of all its values.
    pub(super) value_bytes: u64,
    pub(super) times: Times,
}

/// When a request and its records were due, and when it left.
pub(super) struct Times {
    pub(super) due: Due,
    /// When it could have left at the earliest.
    pub(super) ready_ns: u64,
    pub(super) sent_ns: u64,
}

/// The records of one batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) partition: u32,
    pub(super) first: u64,
    pub(super) count: u32,
}

/// The batches of a request.
pub(super) enum Parts {
    One(Part),
    Many(Vec<Part>),
}

impl Parts {
    pub(super) fn as_slice(&self) -> &[Part] {
        match self {
            Self::One(part) => std::slice::from_ref(part),
            Self::Many(parts) => parts,
        }
    }
}

impl Part {
    pub(super) fn sequences(&self) -> std::ops::Range<u64> {
        self.first..self.first + u64::from(self.count)
    }
}

/// The intended times of a request's records.
pub(super) enum Due {
    /// Those that this schedule gives next.
    Scheduled(Schedule),
    /// One for all.
    At(u64),
}

/// Counts records that the broker has answered for within the window.
pub(super) fn record_acked(
    tally: &mut Tally,
    window: &Window,
    count: u64,
    value_bytes: u64,
    now_ns: u64,
) {
    if window.measures(now_ns) {
        tally.acked_records += count;
        tally.acked_value_bytes += value_bytes;
        if let Some(stretch) = tally.timeline.at(now_ns) {
            stretch.acked(count);
        }
    }
}

/// The answer to a request.
#[derive(Clone, Copy)]
pub(super) struct Answered<'a> {
    /// When it was there.
    pub(super) at_ns: u64,
    /// Where the broker says the time went, if it was asked.
    pub(super) timing: Option<&'a Timing>,
}

/// Notes how long the `count` records of an answered request took, those that were due while
/// measuring.
pub(super) fn record_latencies(
    tally: &mut Tally,
    window: &Window,
    live: &Live,
    times: Times,
    count: u32,
    answered: Answered<'_>,
) {
    let Times { due, ready_ns, sent_ns } = times;
    let now_ns = answered.at_ns;
    let measured = match due {
        Due::At(due_ns) => {
            let response_ns = now_ns - due_ns;
            live.record_n(response_ns, count.into());
            if !window.measures(due_ns) {
                return;
            }
            if let Some(stretch) = tally.timeline.at(now_ns) {
                stretch.response(response_ns, count);
            }
            // A closed loop has one latency: the slot was free when the request could be sent.
            tally.respond(window, due_ns, response_ns, count.into());
            tally.service.record_n(response_ns, count.into());
            count.into()
        }
        Due::Scheduled(mut schedule) => {
            let (mut measured, mut streak) = (0, live.streak());
            for _ in 0..count {
                let due_ns = schedule.take_due(u64::MAX).expect("everything is due by then");
                let response_ns = now_ns - due_ns;
                streak.record(response_ns);
                if window.measures(due_ns) {
                    tally.respond(window, due_ns, response_ns, 1);
                    if let Some(stretch) = tally.timeline.at(now_ns) {
                        stretch.response(response_ns, 1);
                    }
                    tally.schedule_delay.record(sent_ns - due_ns);
                    // Later records of a late request waited for the generator alone.
                    tally.client_queue.record(ready_ns.saturating_sub(due_ns));
                    measured += 1;
                }
            }
            if measured == 0 {
                return;
            }
            tally.service.record_n(now_ns - sent_ns, measured);
            tally.slip.record(sent_ns.saturating_sub(ready_ns));
            measured
        }
    };
    if let Some(timing) = answered.timing {
        // Of the same records as the service time, so that the means of the parts add up to it.
        tally.anatomy.record_n(now_ns - sent_ns, timing, measured);
    }
}
