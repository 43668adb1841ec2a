//! When each record should be sent, decided before the run and never moved.
//!
//! An open-loop schedule is absolute: a record that leaves late keeps its intended time, so the
//! wait behind a slow answer counts as latency (no coordinated omission).

mod arrivals;
mod constant;

pub use arrivals::{Arrivals, ParseArrivalsError, parse_trace};

use arrivals::Drawn;
use constant::Constant;

/// How the load is offered.
#[derive(Clone, Debug, PartialEq)]
pub enum Load {
    /// Records arrive at these times, whatever the broker does.
    Open(Arrivals),
    /// As fast as answers free slots. The intended time is when a slot became free.
    Closed,
}

/// The times between which a load is offered, in `CLOCK_MONOTONIC` nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first record may be due.
    pub start_ns: u64,
    /// Measuring begins; ramps begin to rise or fall.
    pub open_ns: u64,
    /// Measuring ends; ramps have reached their end.
    pub close_ns: u64,
}

/// Which producer out of several that share a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// From 0.
    pub index: u32,
    /// How many there are, at least one.
    pub of: u32,
}

/// The send times of one producer: the same for the same seed, and cheap to clone, so that times
/// can be gone through twice.
#[derive(Clone, Debug)]
pub struct Schedule(Times);

#[derive(Clone, Debug)]
enum Times {
    Constant(Constant),
    Drawn(Drawn),
}

impl Schedule {
    /// The schedule of `member` for `arrivals` over all producers.
    ///
    /// # Panics
    /// If a rate is zero, or the member is not below its count.
    #[must_use]
    pub fn new(arrivals: &Arrivals, span: Span, member: Member, seed: u64) -> Self {
        assert!(member.index < member.of, "producer {} of {}", member.index, member.of);
        Self(match arrivals {
            Arrivals::Constant { rate } => {
                Times::Constant(Constant::new(span.start_ns, *rate, member))
            }
            other => Times::Drawn(Drawn::new(other, span, member, seed)),
        })
    }

    /// When the next record is due; `u64::MAX` if there is none.
    #[inline]
    #[must_use]
    pub fn next_ns(&self) -> u64 {
        match &self.0 {
            Times::Constant(times) => times.next_ns(),
            Times::Drawn(times) => times.next_ns(),
        }
    }

    /// When the record after `ahead` others is due. Its cost may grow with `ahead`.
    #[must_use]
    pub fn due_ns(&self, ahead: u64) -> u64 {
        match &self.0 {
            Times::Constant(times) => times.due_ns(ahead),
            Times::Drawn(times) => {
                let mut times = times.clone();
                for _ in 0..ahead {
                    times.advance();
                }
                times.next_ns()
            }
        }
    }

    /// Takes the next record if it is due at `now_ns`: its intended time.
    #[inline]
    pub fn take_due(&mut self, now_ns: u64) -> Option<u64> {
        let due_ns = self.next_ns();
        if due_ns > now_ns || due_ns == u64::MAX {
            return None;
        }
        match &mut self.0 {
            Times::Constant(times) => times.advance(),
            Times::Drawn(times) => times.advance(),
        }
        Some(due_ns)
    }
}

#[cfg(test)]
mod tests;
