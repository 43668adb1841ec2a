//! One partition's records on their way: the batch being gathered, and those sealed behind it.
//!
//! Order is what this file is for. A batch refused as OVERLOADED was not appended, so it may be
//! sent again, but only if no later batch of its partition got in before it:
//!
//! | the partition's later batches | the refused batch |
//! | --- | --- |
//! | one is acknowledged, before or after the refusal | fails: it would come too late |
//! | some are still in flight | waits, and nothing new is sent |
//! | all are refused too, or there is none | all are sent again, in order, after a pause |

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use wire::batch::BatchBuilder;

use crate::session::RequestId;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    InFlight(RequestId),
    Refused,
}

/// A sealed batch.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) batch: BatchBuilder,
    pub(super) first_index: u64,
    sealed_at: Instant,
    state: State,
}

impl Sealed {
    fn next_index(&self) -> u64 {
        self.first_index + u64::from(self.batch.record_count())
    }
}

/// What [`PartitionQueue::list`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listed {
    /// It was not on the list: it must be put there.
    Newly,
    /// It was on the list.
    Before,
}

#[derive(Debug)]
pub(super) struct PartitionQueue {
    open: BatchBuilder,
    opened_at: Option<Instant>,
    next_index: u64,
    sealed: VecDeque<Sealed>,
    /// Index behind the newest acknowledged record.
    acked_to: u64,
    resume_at: Option<Instant>,
    listed: Listed,
    /// Serial of the connection that its batches in flight were sent over.
    sent_over: Option<u64>,
}

impl PartitionQueue {
    pub(super) fn new() -> Self {
        PartitionQueue {
            open: BatchBuilder::with_capacity(0),
            opened_at: None,
            next_index: 0,
            sealed: VecDeque::new(),
            acked_to: 0,
            resume_at: None,
            listed: Listed::Newly,
            sent_over: None,
        }
    }

    pub(super) const fn open(&self) -> &BatchBuilder {
        &self.open
    }

    pub(super) const fn open_mut(&mut self) -> &mut BatchBuilder {
        &mut self.open
    }

    /// Counts the record just pushed into the open batch; gives its index.
    pub(super) fn pushed(&mut self, now: Instant) -> u64 {
        self.opened_at.get_or_insert(now);
        self.next_index += 1;
        self.next_index - 1
    }

    /// When the open batch was begun; `None` if it is empty.
    pub(super) const fn opened_at(&self) -> Option<Instant> {
        self.opened_at
    }

    /// Notes that the producer's list of active partitions has this one.
    pub(super) const fn list(&mut self) -> Listed {
        std::mem::replace(&mut self.listed, Listed::Before)
    }

    /// Whether this is to be taken off the list of active partitions: it holds nothing.
    pub(super) fn unlist_if_idle(&mut self) -> bool {
        let idle = self.open.is_empty() && self.sealed.is_empty();
        if idle {
            self.listed = Listed::Newly;
        }
        idle
    }

    /// Seals the open batch and goes on with `spare`, which is empty.
    pub(super) fn seal(&mut self, now: Instant, spare: BatchBuilder) {
        let batch = std::mem::replace(&mut self.open, spare);
        let first_index = self.next_index - u64::from(batch.record_count());
        self.opened_at = None;
        self.sealed.push_back(Sealed { batch, first_index, sealed_at: now, state: State::Waiting });
    }

    /// The batch to send next over the connection with this serial, if one may be sent now: none
    /// while another connection has batches in flight, which could come later.
    pub(super) fn next_to_send(&mut self, now: Instant, over: u64) -> Option<&mut Sealed> {
        if self.sent_over.is_some_and(|serial| serial != over) {
            let in_flight = |sealed: &Sealed| matches!(sealed.state, State::InFlight(_));
            if self.sealed.iter().any(in_flight) {
                return None;
            }
        }
        if self.sealed.iter().any(|sealed| sealed.state == State::Refused) {
            let in_flight = |sealed: &Sealed| matches!(sealed.state, State::InFlight(_));
            if self.sealed.iter().any(in_flight) || self.resume_at.is_some_and(|at| now < at) {
                return None;
            }
            for sealed in &mut self.sealed {
                sealed.state = State::Waiting;
            }
            self.resume_at = None;
        }
        self.sealed.iter_mut().find(|sealed| sealed.state == State::Waiting)
    }

    /// The batch that [`PartitionQueue::next_to_send`] gave has been sent as `id` over the
    /// connection with this serial.
    pub(super) fn sent(&mut self, id: RequestId, over: u64) {
        self.sent_over = Some(over);
        let waiting = self.sealed.iter_mut().find(|sealed| sealed.state == State::Waiting);
        waiting.expect("next_to_send gave it").state = State::InFlight(id);
    }

    /// The batch that [`PartitionQueue::next_to_send`] gave will not be answered.
    pub(super) fn take_sent(&mut self) -> Sealed {
        let index = self.sealed.iter().position(|sealed| sealed.state == State::Waiting);
        self.sealed.remove(index.expect("next_to_send gave it")).expect("just found")
    }

    /// Takes the batch that was sent as `id` out of the queue.
    pub(super) fn take(&mut self, id: RequestId) -> Option<Sealed> {
        let index = self.sealed.iter().position(|sealed| sealed.state == State::InFlight(id))?;
        self.sealed.remove(index)
    }

    /// Notes that `sealed` is acknowledged; gives the refused batches that it has overtaken.
    pub(super) fn acked(&mut self, sealed: &Sealed) -> Vec<Sealed> {
        self.acked_to = self.acked_to.max(sealed.next_index());
        let acked_to = self.acked_to;
        let overtaken =
            |sealed: &Sealed| sealed.state == State::Refused && sealed.first_index < acked_to;
        let count = self.sealed.iter().take_while(|sealed| overtaken(sealed)).count();
        self.sealed.drain(..count).collect()
    }

    /// The batch sent as `id` was refused as overloaded: whether it stays, to be sent again at
    /// `resume_at`. It does not if a later one is acknowledged already.
    pub(super) fn refused(&mut self, id: RequestId, resume_at: Instant) -> bool {
        let acked_to = self.acked_to;
        let found = self.sealed.iter_mut().find(|sealed| sealed.state == State::InFlight(id));
        let Some(sealed) = found.filter(|sealed| sealed.first_index >= acked_to) else {
            return false;
        };
        sealed.state = State::Refused;
        self.resume_at = Some(self.resume_at.map_or(resume_at, |at| at.max(resume_at)));
        true
    }

    /// Takes the oldest batch out if it is refused and was sealed longer ago than `limit`.
    pub(super) fn take_overdue(&mut self, now: Instant, limit: Duration) -> Option<Sealed> {
        let front = self.sealed.front()?;
        let overdue = now.saturating_duration_since(front.sealed_at) > limit;
        if front.state == State::Refused && overdue { self.sealed.pop_front() } else { None }
    }

    /// When refused batches may be sent again, if there are any.
    pub(super) const fn resume_at(&self) -> Option<Instant> {
        self.resume_at
    }

    /// Takes a batch out that was in flight over the connection with this serial, which is lost;
    /// the oldest first.
    pub(super) fn take_lost(&mut self, over: u64) -> Option<Sealed> {
        if self.sent_over != Some(over) {
            return None;
        }
        let in_flight = |sealed: &Sealed| matches!(sealed.state, State::InFlight(_));
        let index = self.sealed.iter().position(in_flight)?;
        self.sealed.remove(index)
    }

    /// Takes a batch out that is not in flight, the oldest first: its topic is gone.
    pub(super) fn take_unsent(&mut self) -> Option<Sealed> {
        let in_flight = |sealed: &Sealed| matches!(sealed.state, State::InFlight(_));
        let index = self.sealed.iter().position(|sealed| !in_flight(sealed))?;
        self.sealed.remove(index)
    }

    /// Takes a batch out, the oldest first, for the end of the producer; and whether it had been
    /// sent and not refused.
    pub(super) fn take_any(&mut self) -> Option<(Sealed, bool)> {
        let sealed = self.sealed.pop_front()?;
        let sent = matches!(sealed.state, State::InFlight(_));
        Some((sealed, sent))
    }
}
