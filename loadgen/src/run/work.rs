//! What the generator threads of one load share: the task, and how they tell each other.

use client::session::ServerTiming;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use wire::{Acks, TopicId};

use super::choices::{BatchSize, Partitioner};
use super::routing::Routing;
use super::stretches::Stretches;
use super::tally::Window;
use super::target::SinkCounters;
use super::template::Shape;
use crate::integrity::Ledger;
use crate::live::Live;
use crate::schedule::Load;

/// How generator threads wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// In the kernel, until something happens or a record is due.
    Park,
    /// Not at all: look, yield, again.
    BusyPoll,
}

/// Whether a load has producers of its own, or reads what others have produced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Producing {
    /// They send.
    Now,
    /// They have sent all.
    Before,
}

/// What becomes of a connection that is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// It stays lost.
    Stays,
    /// It is made again, as soon as the broker answers.
    Returns,
}

/// What a consumer does at the end of its partitions.
#[derive(Clone, Copy, Debug)]
pub(super) enum Replay<'a> {
    /// Follows the log until the last record of the load.
    Once,
    /// Starts again, until the window closes. The ledger is complete already.
    Repeat(&'a Ledger),
}

/// Where requests go.
#[derive(Clone)]
pub(super) enum Reach {
    /// To the addresses of the routing.
    Sockets,
    /// Nowhere: they are counted here.
    Null(Arc<SinkCounters>),
}

/// The task of one load.
pub(super) struct Work<'a> {
    /// Where its requests go.
    pub(super) reach: Reach,
    /// What tells the time.
    pub(super) clock: fn() -> u64,
    /// Where the partitions are.
    pub(super) routing: &'a Routing,
    /// Id of the run, in every header.
    pub(super) run: u32,
    /// The topic.
    pub(super) topic_id: TopicId,
    /// Its partitions.
    pub(super) partitions: u32,
    /// Producers over all threads whose records are in the topic.
    pub(super) producers: u32,
    /// Whether they produce in this load.
    pub(super) producing: Producing,
    /// Consumers over all threads.
    pub(super) consumers: u32,
    /// How records are dealt out to partitions.
    pub(super) partitioner: Partitioner,
    /// When the broker answers.
    pub(super) acks: Acks,
    /// Whether the broker shall tell where the time of each request went.
    pub(super) timing: ServerTiming,
    /// Unanswered requests per producer.
    pub(super) inflight: u32,
    /// How long a batch that is not full may wait.
    pub(super) linger_ns: u64,
    /// How the load is offered.
    pub(super) load: Load,
    /// Size of a full batch.
    pub(super) batch: BatchSize,
    /// What values and keys look like.
    pub(super) shape: Shape,
    /// Each producer ends after this many records.
    pub(super) records_per_producer_max: Option<u64>,
    /// Per partition: where consumers begin.
    pub(super) starts: &'a [u64],
    /// What consumers do at the end.
    pub(super) replay: Replay<'a>,
    /// Records per second that a consumer takes at most, until the window closes.
    pub(super) consume_rate: Option<u64>,
    /// How threads wait.
    pub(super) waiting: Waiting,
    /// What becomes of lost connections.
    pub(super) lost: Lost,
}

impl Work<'_> {
    /// Producers that run in this load.
    pub(super) fn producers_running(&self) -> u32 {
        match self.producing {
            Producing::Now => self.producers,
            Producing::Before => 0,
        }
    }

    /// Why this load cannot reach all its partitions.
    pub(super) fn invalid(&self) -> Option<String> {
        let routing = self.routing;
        routing
            .too_few("producers", self.producers_running())
            .or_else(|| routing.too_few("consumers", self.consumers))
    }
}

/// What threads tell each other while they work.
pub(super) struct Signals<'a> {
    /// Set once all threads are connected; `None` if one could not.
    pub(super) window: OnceLock<Option<Window>>,
    /// Set once the window is timed, where that was not known when the load began.
    pub(super) timed: OnceLock<Window>,
    /// Set from outside, or by a thread that failed: end at once.
    pub(super) abort: &'a AtomicBool,
    /// Per partition: where the log ends, once nothing more is produced.
    pub(super) targets: OnceLock<Vec<u64>>,
    /// Live counts for the progress line.
    pub(super) progress: &'a Progress,
    producing_threads: AtomicUsize,
    ends: Mutex<Vec<u64>>,
}

impl<'a> Signals<'a> {
    /// Signals for so many threads, all of which produce until they say otherwise.
    pub(super) fn new(
        threads: usize,
        partitions: u32,
        abort: &'a AtomicBool,
        progress: &'a Progress,
    ) -> Self {
        Self {
            window: OnceLock::new(),
            timed: OnceLock::new(),
            abort,
            targets: OnceLock::new(),
            progress,
            producing_threads: AtomicUsize::new(threads),
            ends: Mutex::new(vec![0; partitions as usize]),
        }
    }

    /// A thread will send nothing more, and saw these ends. The last one sets the targets.
    pub(super) fn producing_ended(&self, ends: &[u64]) {
        let mut joint = self.ends.lock().expect("no thread panics while it holds the ends");
        for (joint, &end) in joint.iter_mut().zip(ends) {
            *joint = (*joint).max(end);
        }
        if self.producing_threads.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Already set where the end was known before.
            let _ = self.targets.set(joint.clone());
        }
    }

    pub(super) fn aborted(&self) -> bool {
        self.abort.load(Ordering::Relaxed) || self.progress.is_over()
    }
}

/// Counts of all threads that the watching one reads, and what it tells them.
#[derive(Debug, Default)]
pub(super) struct Progress {
    acked: AtomicU64,
    consumed: AtomicU64,
    /// Response times.
    pub(super) latencies: Live,
    stretches: Stretches,
    is_over: AtomicBool,
    /// Times that all connections were to be dropped.
    drops: AtomicU64,
    reconnected: AtomicU64,
}

impl Progress {
    pub(super) fn acked(&self, records: u64) {
        self.acked.fetch_add(records, Ordering::Relaxed);
    }

    pub(super) fn consumed(&self, records: u64) {
        self.consumed.fetch_add(records, Ordering::Relaxed);
    }

    /// All threads shall end: the broker will not answer any more.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Whether all threads shall end.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// All threads shall drop their connections, once.
    pub(super) fn drop_connections(&self) {
        self.drops.fetch_add(1, Ordering::Relaxed);
    }

    /// How often connections were to be dropped so far.
    #[inline]
    pub(super) fn drops(&self) -> u64 {
        self.drops.load(Ordering::Relaxed)
    }

    /// A connection was made again.
    pub(super) fn reconnected(&self) {
        self.reconnected.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections that were made again so far.
    pub(super) fn reconnections(&self) -> u64 {
        self.reconnected.load(Ordering::Relaxed)
    }

    /// What threads tell of their stretches.
    pub(super) fn stretches(&self) -> &Stretches {
        &self.stretches
    }

    /// Records acknowledged and consumed so far.
    pub(super) fn read(&self) -> (u64, u64) {
        (self.acked.load(Ordering::Relaxed), self.consumed.load(Ordering::Relaxed))
    }
}
