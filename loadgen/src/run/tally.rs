//! What one generator thread counted; threads' tallies add up.

use std::collections::BTreeMap;

use wire::produce::Timing;

use crate::clock::thread_cpu_ns;
use crate::integrity::{Counts, Ledger};
use crate::latency::Latencies;
use crate::schedule::Span;
use crate::timeline::Timeline;

/// The error of a connection that is gone.
pub(super) const CONNECTION_LOST: &str = "connection_lost";

/// The times of one load, in `CLOCK_MONOTONIC` nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// Load begins.
    pub(super) start_ns: u64,
    /// Measuring begins.
    pub(super) open_ns: u64,
    /// Measuring ends, and no record that is due later is sent.
    pub(super) close_ns: u64,
    /// What is unfinished by then is given up.
    pub(super) drain_ns: u64,
    /// Equal parts of the measured window whose records are told apart, if there are several.
    pub(super) steps: u32,
}

impl Window {
    /// Whether a time lies in the measured window.
    #[inline]
    pub(super) fn measures(&self, time_ns: u64) -> bool {
        (self.open_ns..self.close_ns).contains(&time_ns)
    }

    /// The times that schedules go by.
    pub(super) fn span(&self) -> Span {
        let Self { start_ns, open_ns, close_ns, .. } = *self;
        Span { start_ns, open_ns, close_ns }
    }

    /// A load that measures nothing, or whose window nobody has timed yet.
    pub(super) fn untimed(start_ns: u64, drain_ns: u64) -> Self {
        let never = u64::MAX;
        Self { start_ns, open_ns: never, close_ns: never, drain_ns, steps: 1 }
    }

    /// Whether it is known when measuring begins.
    #[inline]
    pub(super) fn is_timed(&self) -> bool {
        self.open_ns != u64::MAX
    }

    /// The part of the measured window in which a time of it lies.
    fn step_at(&self, time_ns: u64) -> usize {
        let since = u128::from(time_ns - self.open_ns) * u128::from(self.steps);
        let step = since / u128::from(self.len_ns().max(1));
        usize::try_from(step).expect("below the number of steps")
    }

    /// Length of the measured window.
    pub(super) fn len_ns(&self) -> u64 {
        self.close_ns - self.open_ns
    }
}

/// Counts and histograms of one thread.
#[derive(Debug)]
pub(super) struct Tally {
    /// From the intended time to the acknowledgement.
    pub(super) response: Latencies,
    /// From the send to the acknowledgement.
    pub(super) service: Latencies,
    /// From the intended time to the consumer.
    pub(super) e2e: Latencies,
    /// From the beginning of the request to the consumer.
    pub(super) e2e_service: Latencies,
    /// From the intended time to the send.
    pub(super) schedule_delay: Latencies,
    /// Of that, what the load asked for: waiting for a batch, a linger, a free slot, a socket.
    pub(super) client_queue: Latencies,
    /// The rest: how late the generator itself was, by request.
    pub(super) slip: Latencies,
    /// Records acknowledged (sent, where no acknowledgement is asked for) within the window.
    pub(super) acked_records: u64,
    /// Bytes of their values.
    pub(super) acked_value_bytes: u64,
    /// Records consumed within the window.
    pub(super) consumed_records: u64,
    /// Bytes of their values.
    pub(super) consumed_value_bytes: u64,
    /// Records of an open loop that were due within the window.
    pub(super) offered_records: u64,
    /// Records that were due but never sent.
    pub(super) unsent_records: u64,
    /// Failed requests and connections, by code.
    pub(super) errors: BTreeMap<String, u64>,
    /// What became of every sequence.
    pub(super) ledger: Ledger,
    /// Per partition: the offset behind the last acknowledged record.
    pub(super) ends: Vec<u64>,
    /// What finished passes found.
    pub(super) counts: Counts,
    /// Records that finished passes read.
    pub(super) checked_records: u64,
    /// Passes that ended before the window closed, and were begun again.
    pub(super) passes_finished: u64,
    /// Passes that did not reach the end of their partition in time.
    pub(super) passes_cut_short: u64,
    /// CPU and busy time of the window.
    pub(super) effort: Effort,
    /// Where the time of requests went, if the broker was asked.
    pub(super) anatomy: AnatomyTally,
    /// What happened when.
    pub(super) timeline: Timeline,
    /// Records that arrived before they were due.
    pub(super) clock_backwards: u64,
    /// Response times by the step in which the record was due; empty where there is one step.
    pub(super) steps: Vec<Latencies>,
    /// Connections that were lost and made again.
    pub(super) reconnected: u64,
}

impl Tally {
    pub(super) fn new(partitions: u32, producers: u32, window: &Window) -> Self {
        Self {
            response: Latencies::new(),
            service: Latencies::new(),
            e2e: Latencies::new(),
            e2e_service: Latencies::new(),
            schedule_delay: Latencies::new(),
            client_queue: Latencies::new(),
            slip: Latencies::new(),
            acked_records: 0,
            acked_value_bytes: 0,
            consumed_records: 0,
            consumed_value_bytes: 0,
            offered_records: 0,
            unsent_records: 0,
            errors: BTreeMap::new(),
            ledger: Ledger::new(partitions, producers),
            ends: vec![0; partitions as usize],
            counts: Counts::default(),
            checked_records: 0,
            passes_finished: 0,
            passes_cut_short: 0,
            effort: Effort::default(),
            anatomy: AnatomyTally::default(),
            timeline: Timeline::new(window.open_ns, window.close_ns),
            clock_backwards: 0,
            reconnected: 0,
            steps: match window.steps {
                1 => Vec::new(),
                steps => vec![Latencies::new(); steps as usize],
            },
        }
    }

    /// The window was timed while the load ran.
    pub(super) fn timed(&mut self, window: &Window) {
        self.timeline = Timeline::new(window.open_ns, window.close_ns);
    }

    /// Notes the response time of records that were due at a time of the window.
    #[inline]
    pub(super) fn respond(&mut self, window: &Window, due_ns: u64, response_ns: u64, records: u64) {
        self.response.record_n(response_ns, records);
        if !self.steps.is_empty() {
            self.steps[window.step_at(due_ns)].record_n(response_ns, records);
        }
    }

    /// Counts a failure.
    pub(super) fn error(&mut self, code: &str) {
        match self.errors.get_mut(code) {
            Some(count) => *count += 1,
            None => drop(self.errors.insert(code.to_owned(), 1)),
        }
    }

    /// Adds another thread's tally.
    pub(super) fn merge(&mut self, other: &Self) {
        self.response.merge(&other.response);
        self.service.merge(&other.service);
        self.e2e.merge(&other.e2e);
        self.e2e_service.merge(&other.e2e_service);
        self.schedule_delay.merge(&other.schedule_delay);
        self.client_queue.merge(&other.client_queue);
        self.slip.merge(&other.slip);
        self.acked_records += other.acked_records;
        self.acked_value_bytes += other.acked_value_bytes;
        self.consumed_records += other.consumed_records;
        self.consumed_value_bytes += other.consumed_value_bytes;
        self.offered_records += other.offered_records;
        self.unsent_records += other.unsent_records;
        for (code, count) in &other.errors {
            *self.errors.entry(code.clone()).or_default() += count;
        }
        self.ledger.merge(&other.ledger);
        for (mine, theirs) in self.ends.iter_mut().zip(&other.ends) {
            *mine = (*mine).max(*theirs);
        }
        self.counts.add(&other.counts);
        self.checked_records += other.checked_records;
        self.passes_finished += other.passes_finished;
        self.passes_cut_short += other.passes_cut_short;
        self.effort.merge(&other.effort);
        self.anatomy.merge(&other.anatomy);
        self.timeline.merge(&other.timeline);
        self.clock_backwards += other.clock_backwards;
        for (mine, theirs) in self.steps.iter_mut().zip(&other.steps) {
            mine.merge(theirs);
        }
        self.reconnected += other.reconnected;
    }
}

/// Where the broker says the time of requests went.
#[derive(Debug, Default)]
pub(super) struct AnatomyTally {
    pub(super) network: Latencies,
    pub(super) queue: Latencies,
    pub(super) append: Latencies,
    pub(super) commit: Latencies,
}

impl AnatomyTally {
    /// Notes where the time of a request went that took `took_ns` and carried `count` records.
    pub(super) fn record_n(&mut self, took_ns: u64, timing: &Timing, count: u64) {
        let [queue, append, commit] =
            [timing.queue_ns, timing.append_ns, timing.commit_ns].map(|ns| ns.get());
        self.queue.record_n(queue, count);
        self.append.record_n(append, count);
        self.commit.record_n(commit, count);
        self.network.record_n(took_ns.saturating_sub(queue + append + commit), count);
    }

    fn merge(&mut self, other: &Self) {
        self.network.merge(&other.network);
        self.queue.merge(&other.queue);
        self.append.merge(&other.append);
        self.commit.merge(&other.commit);
    }
}

/// How hard a thread worked within the window.
#[derive(Clone, Debug, Default)]
pub(super) struct Effort {
    /// CPU time, over all threads.
    pub(super) cpu_ns: u64,
    /// CPU time of the busiest thread.
    pub(super) cpu_ns_max: u64,
    /// Time not spent waiting or polling in vain, of the busiest thread.
    pub(super) busy_ns_max: u64,
}

impl Effort {
    fn merge(&mut self, other: &Self) {
        self.cpu_ns += other.cpu_ns;
        self.cpu_ns_max = self.cpu_ns_max.max(other.cpu_ns_max);
        self.busy_ns_max = self.busy_ns_max.max(other.busy_ns_max);
    }
}

/// Measures the effort of the calling thread between the window's ends.
#[derive(Debug, Default)]
pub(super) struct EffortMeter {
    busy_ns: u64,
    at_open: Option<(u64, u64)>,
    done: Option<Effort>,
}

impl EffortMeter {
    /// A round that began at `begin_ns` did something until `end_ns`.
    #[inline]
    pub(super) fn busy(&mut self, begin_ns: u64, end_ns: u64) {
        self.busy_ns += end_ns - begin_ns;
    }

    /// Notes when the window opens and closes.
    #[inline]
    pub(super) fn at(&mut self, now_ns: u64, window: &Window) {
        if self.at_open.is_none() && now_ns >= window.open_ns {
            self.at_open = Some((thread_cpu_ns(), self.busy_ns));
        }
        if self.done.is_none() && now_ns >= window.close_ns {
            self.close();
        }
    }

    /// The effort within the window (up to now, if it has not closed).
    pub(super) fn finish(mut self) -> Effort {
        self.close();
        self.done.unwrap_or_default()
    }

    fn close(&mut self) {
        if let (Some((cpu_ns, busy_ns)), None) = (self.at_open, &self.done) {
            let cpu_ns = thread_cpu_ns() - cpu_ns;
            self.done =
                Some(Effort { cpu_ns, cpu_ns_max: cpu_ns, busy_ns_max: self.busy_ns - busy_ns });
        }
    }
}
