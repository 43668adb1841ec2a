//! What the generator threads of one load of queues share.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use client::session::ServerTiming;
use wire::Acks;
use wire::queue::QueueId;

use super::super::choices::BatchSize;
use super::super::tally::Window;
use super::super::template::Shape;
use super::super::work::{Lost, Progress, Waiting};
use super::flags::AckMode;
use crate::integrity::queue::QueueLedger;
use crate::schedule::Load;

/// A queue of the run.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Its id.
    pub(super) id: QueueId,
    /// Its name.
    pub(super) name: String,
    /// Where it is published to and consumed from.
    pub(super) address: String,
}

/// What consumers do with messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// They settle them.
    Settle,
    /// They note that they are dead letters.
    Bury,
}

/// The task of one load.
#[derive(Clone, Debug)]
pub(super) struct Task<'a> {
    /// The queues; publishers and consumers are dealt out to them in turn.
    pub(super) places: &'a [Place],
    /// Id of the run, in every message.
    pub(super) run: u32,
    /// What became of every message.
    pub(super) ledger: &'a QueueLedger,
    /// Publishers over all threads.
    pub(super) publishers: u32,
    /// Consumers over all threads.
    pub(super) consumers: u32,
    /// When a publish is confirmed.
    pub(super) acks: Acks,
    /// Whether the broker tells where the time of a publish went.
    pub(super) timing: ServerTiming,
    /// Unconfirmed messages per publisher.
    pub(super) inflight: u32,
    /// How long a frame that is not full may wait.
    pub(super) linger_ns: u64,
    /// How the load is offered.
    pub(super) load: Load,
    /// Size of a full frame.
    pub(super) batch: BatchSize,
    /// What bodies look like.
    pub(super) shape: Shape,
    /// Each publisher ends after this many messages.
    pub(super) messages_per_publisher_max: Option<u64>,
    /// Share of persistent frames, in millionths.
    pub(super) persistent_millionths: u32,
    /// Unsettled messages per consumer.
    pub(super) prefetch: u32,
    /// How consumers acknowledge.
    pub(super) ack_mode: AckMode,
    /// Share of deliveries that go back, in millionths.
    pub(super) nack_millionths: u32,
    /// What consumers do.
    pub(super) purpose: Purpose,
    /// How threads wait.
    pub(super) waiting: Waiting,
    /// What becomes of lost connections.
    pub(super) lost: Lost,
}

impl Task<'_> {
    /// The queue of publisher or consumer `index`.
    pub(super) fn place(&self, index: u32) -> &Place {
        &self.places[index as usize % self.places.len()]
    }
}

/// What threads tell each other while they work.
pub(super) struct Signals<'a> {
    /// Set once all threads are connected; `None` if one could not.
    pub(super) window: OnceLock<Option<Window>>,
    /// Set once the window is timed, where that was not known when the load began.
    pub(super) timed: OnceLock<Window>,
    /// Set from outside: end at once.
    pub(super) abort: &'a AtomicBool,
    /// Live counts for the progress line.
    pub(super) progress: &'a Progress,
    publishing_threads: AtomicUsize,
    drained: AtomicBool,
}

impl<'a> Signals<'a> {
    /// Signals for so many threads, all of which publish until they say otherwise.
    pub(super) fn new(threads: usize, abort: &'a AtomicBool, progress: &'a Progress) -> Self {
        Self {
            window: OnceLock::new(),
            timed: OnceLock::new(),
            abort,
            progress,
            publishing_threads: AtomicUsize::new(threads),
            drained: AtomicBool::new(false),
        }
    }

    /// A thread will publish nothing more.
    pub(super) fn publishing_ended(&self) {
        self.publishing_threads.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether nobody publishes any more.
    pub(super) fn is_published(&self) -> bool {
        self.publishing_threads.load(Ordering::Acquire) == 0
    }

    /// There is nothing left to consume, or no time.
    pub(super) fn drained(&self) {
        self.drained.store(true, Ordering::Release);
    }

    /// Whether consumers shall end.
    pub(super) fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Acquire)
    }

    /// Whether everything shall end at once.
    pub(super) fn aborted(&self) -> bool {
        self.abort.load(Ordering::Relaxed) || self.progress.is_over()
    }
}
