//! Results: the JSON that other tools rely on, and what a person reads in the terminal.
//!
//! Fields are only ever added. What was not measured is null, never 0; integers carry their unit
//! in their name.

mod analysis;
mod broker_series;
mod environment;
mod fault;
mod figures;
mod floor;
mod limit;
mod markdown;
mod pareto;
mod phase;
mod proof;
mod queue;
mod set;
mod spread;
mod table;
mod terminal;

pub use analysis::{Analysis, Change, Effect, Recommendation};
pub use broker_series::BrokerSeries;
pub use environment::Environment;
pub use fault::{BrokerEnd, FaultOutcome, Faults};
pub use figures::{FIGURES, Figure, Unit};
pub use floor::{DiskCell, FloorFigures, Percentiles};
pub use limit::Limit;
pub use markdown::{machine, render_markdown};
pub use pareto::pareto_front;
pub use phase::{MEASURE, Phase, WARM_UP};
pub use proof::{Proof, ProofRow, QueueProof};
pub use queue::{QueueFigures, QueueOptions};
pub use set::{Attempt, Knob, Set, Sweep};
pub use spread::{SPREAD_REPEATS_MIN, Spread, ratio_hundredths};
pub use table::render_set;
pub use terminal::{render_floor, render_run};

use crate::integrity::{Counts, IntegrityVerdict};
use crate::latency::Summary;
use crate::sampler::HostSeries;
use crate::slo::SloOutcome;
use crate::timeline::Series;
use crate::validity::{Reason, ValidityVerdict, status, verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Name and version of the schema of one run.
pub const RUN_SCHEMA: &str = "pelton.bench.run/1";
/// Name and version of the schema of a set of runs.
pub const SET_SCHEMA: &str = "pelton.bench.set/1";

/// The result of one run.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// [`RUN_SCHEMA`].
    pub schema: String,
    /// What measured.
    pub tool: Tool,
    /// The arguments of the process.
    pub command: Vec<String>,
    /// Whether a signal ended it: the window is as long as it got, and nothing was read back.
    #[serde(default)]
    pub interrupted: bool,
    /// When the run began: UTC, RFC 3339.
    pub started_utc: Option<String>,
    /// Seed of the filler and of the run's id.
    pub seed: u64,
    /// The broker that was measured.
    pub target: Target,
    /// The machine.
    pub env: Environment,
    /// What an acknowledgement meant.
    pub durability: Durability,
    /// What was asked for.
    pub options: RunOptions,
    /// What was offered and achieved within the measured window.
    pub load: Load,
    /// What a reader beside the load achieved; null without one.
    pub beside: Option<Beside>,
    /// Latencies by record.
    pub latency_ns: LatencySet,
    /// Limits of this machine, measured around the window.
    pub floor: FloorFigures,
    /// What it cost.
    pub efficiency: Efficiency,
    /// What became of the records.
    pub integrity: Integrity,
    /// What became of messages of queues; null where partitions of a topic were loaded.
    pub queue: Option<QueueFigures>,
    /// How far to trust all this.
    pub validity: Validity,
    /// What happened when.
    #[serde(default)]
    pub series: Option<Series>,
    /// What the machine did meanwhile.
    #[serde(default)]
    pub host: Option<HostSeries>,
    /// Warming up, the window, and its steps if there are several.
    #[serde(default)]
    pub phases: Vec<Phase>,
    /// Memory and CPU of a spawned broker meanwhile; null of another.
    #[serde(default)]
    pub broker: Option<BrokerSeries>,
    /// Where the time of requests went, with `--anatomy`.
    #[serde(default)]
    pub anatomy_ns: Option<Anatomy>,
    /// Latencies in full, by the names of `latency_ns`: HdrHistogram's compressed format (V2) in
    /// base64. Empty in runs of a sweep.
    #[serde(default)]
    pub histograms: BTreeMap<String, String>,
    /// What became of the objectives, if there were any.
    #[serde(default)]
    pub slo: Vec<SloOutcome>,
    /// What befell the broker on purpose; null without faults.
    #[serde(default)]
    pub faults: Option<Faults>,
    /// How the broker ended; null unless it did within the window, and nobody wanted it to.
    #[serde(default)]
    pub broker_end: Option<BrokerEnd>,
    /// Which records there are, for `bench verify`; null unless `--keep` has kept the topic.
    #[serde(default)]
    pub proof: Option<Proof>,
    /// The same of messages of queues.
    #[serde(default)]
    pub queue_proof: Option<QueueProof>,
}

/// The measuring program.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    /// "pelton bench".
    pub name: String,
    /// Version of the crate.
    pub version: String,
}

/// The measured broker.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Target {
    /// spawn, running, null or echo.
    pub kind: String,
    /// HOST:PORT.
    pub address: String,
    /// Cores the broker was given, where the run spawned it.
    pub broker_cores: Option<Vec<usize>>,
    /// Cores of the generator threads.
    pub generator_cores: Vec<usize>,
    /// Data directory, where the run chose it.
    pub data_dir: Option<String>,
    /// Its file system.
    pub data_dir_file_system: Option<String>,
    /// Flags passed to a spawned broker.
    pub broker_flags: Vec<String>,
    /// The program that was spawned; null for the one that measured.
    #[serde(default)]
    pub broker_binary: Option<String>,
}

/// What an acknowledgement of this run promised.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Durability {
    /// none, memory, written or durable.
    pub acks: String,
    /// When the reply left.
    pub acknowledged_when: String,
    /// What an acknowledged record can be lost by.
    pub lost_by: String,
    /// Whether the data directory is on a disk at all.
    pub memory_file_system: Option<bool>,
}

/// The knobs of the run.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are named after the flags, with units")]
pub struct RunOptions {
    pub closed_loop: bool,
    pub linger_ns: u64,
    pub batch_bytes: Option<u64>,
    pub batch_records: Option<u64>,
    pub inflight: u32,
    /// Of a value; on average, where sizes are drawn.
    pub record_bytes: u32,
    /// How sizes were drawn, as `--sizes` has it.
    pub sizes: Option<String>,
    /// Of the filler, where it was asked for; else it is the same random bytes in each record.
    pub entropy_per_mille: Option<u64>,
    /// Which keys records bore, as `--keys` has it.
    pub keys: Option<String>,
    pub producers: u32,
    pub consumers: u32,
    pub partitions: u32,
    pub duration_ns: u64,
    /// As long as it was.
    pub warmup_ns: u64,
    /// Whether it lasted until the load was steady.
    #[serde(default)]
    pub warmup_auto: bool,
    pub busy_poll: bool,
    pub preload_bytes: Option<u64>,
    pub rate_records_per_s: Option<u64>,
    /// How records arrived, as `--rate` has it; null in a closed loop.
    pub arrivals: Option<String>,
    pub partitioner: Option<String>,
    pub route: Option<String>,
    pub pin: Option<String>,
    pub fetch_path: Option<String>,
    /// Whether the broker was started again, and its files dropped from the page cache, between
    /// preloading and reading.
    #[serde(default)]
    pub cold: bool,
    pub beside_reader_bytes: Option<u64>,
    /// What only queues have; null where partitions of a topic were loaded.
    pub queue: Option<QueueOptions>,
    /// What each consumer takes at most.
    #[serde(default)]
    pub consume_rate_records_per_s: Option<u64>,
    /// As `--fault` has them.
    #[serde(default)]
    pub faults: Vec<String>,
}

/// Throughput in the measured window.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Load {
    /// Null in a closed loop.
    pub offered_records_per_s: Option<u64>,
    /// Acknowledged records (sent records where no acknowledgement was asked for).
    pub achieved_records_per_s: Option<u64>,
    /// Acknowledged within the window.
    pub acked_records: Option<u64>,
    /// Consumed within the window; null without consumers.
    pub consumed_records: Option<u64>,
    /// Rate of the above.
    pub consumed_records_per_s: Option<u64>,
    /// Acknowledged value bytes per second (consumed ones where only consuming was measured).
    pub bytes_per_s: Option<u64>,
    /// Code → count.
    pub errors: BTreeMap<String, u64>,
    /// Length of the window as it was.
    pub window_ns: Option<u64>,
}

impl Load {
    /// Whether no record was acknowledged or consumed within the window.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.acked_records.max(self.consumed_records).unwrap_or(0) == 0
    }
}

/// The full-speed reader of another topic beside the load, within the measured window.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Beside {
    /// Records it consumed.
    pub consumed_records: u64,
    /// Rate of the above.
    pub consumed_records_per_s: Option<u64>,
    /// Value bytes per second.
    pub bytes_per_s: Option<u64>,
    /// Times it read a partition to its end and began again, before the window closed.
    pub passes: u64,
}

/// The latencies of a run, in nanoseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct LatencySet {
    /// From the intended time to the acknowledgement.
    pub response: Option<Summary>,
    /// From the send to the acknowledgement.
    pub service: Option<Summary>,
    /// From the intended time to the consumer.
    pub e2e: Option<Summary>,
    /// From the beginning of the request to the consumer.
    pub e2e_service: Option<Summary>,
    /// From the intended time to the send; null (as the next two) in a closed loop.
    pub schedule_delay: Option<Summary>,
    /// Of the schedule's delay, what the load asked for: waiting for a full batch, a linger, a
    /// free slot, a socket with room.
    pub client_queue: Option<Summary>,
    /// By request: how late the generator itself was.
    pub generator_slip: Option<Summary>,
    /// Whether response equals service by definition.
    pub closed_loop: bool,
}

/// Where the time of requests went, from the time a record was due to its acknowledgement. Of each
/// part its own distribution, weighed by records.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Anatomy {
    /// In the client, as the load has it: waiting for a full batch, a linger, a free slot. Null in
    /// a closed loop.
    pub client_queue: Option<Summary>,
    /// Sockets and the reply's way: the service time without the parts below.
    pub network: Option<Summary>,
    /// In the broker, until a shard took the request.
    pub shard_queue: Option<Summary>,
    /// Until its commit was submitted.
    pub append: Option<Summary>,
    /// Until the commit was complete and the reply was written.
    pub commit: Option<Summary>,
}

/// What the run cost the broker, over the measured window.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Efficiency {
    /// CPU time of the broker per acknowledged (or consumed) record, empty spin rounds left out.
    pub broker_cpu_ns_per_record: Option<u64>,
    /// The same with empty spin rounds.
    pub broker_cpu_ns_per_record_total: Option<u64>,
    /// CPU time of the broker per consumed value byte, in picoseconds, empty spin rounds left out;
    /// null where records were produced too.
    pub broker_cpu_ps_per_consumed_byte: Option<u64>,
    /// CPU time of the broker in the window, empty spin rounds included.
    pub broker_cpu_ns_total: Option<u64>,
    /// Entries of the broker's rings into the kernel, per million records.
    pub kernel_entries_per_million_records: Option<u64>,
    /// Context switches of the broker's threads, per million records.
    #[serde(default)]
    pub context_switches_per_million_records: Option<u64>,
    /// Durable writes and flushes, per million records.
    #[serde(default)]
    pub durable_writes_per_million_records: Option<u64>,
    /// Durable writes and flushes per second of the window.
    pub durable_writes_per_s: Option<u64>,
    /// Bytes of journal, direct and background writes for each byte of record batches appended,
    /// over the whole load, zeroing apart; what was not yet copied out of the journal counts as if
    /// it were copied at the cost of the rest.
    pub write_amplification_thousandths: Option<u64>,
    /// Bytes of record batches that only the journal held when that was read.
    pub unstored_bytes: Option<u64>,
    /// Largest resident set so far.
    pub broker_rss_bytes_max: Option<u64>,
    /// Bytes that the broker wrote to disk in the window.
    pub disk_bytes_written: Option<u64>,
    /// Of these, zeroes written ahead, by the broker's own counter.
    pub disk_bytes_zeroed: Option<u64>,
    /// Whether the broker's memory is registered with the kernel; without, large writes cost more.
    pub broker_buffers_registered: Option<bool>,
    /// CPU time of the generator threads in the window.
    pub generator_cpu_ns_total: Option<u64>,
    /// Differences of all the broker's counters over the window.
    pub broker_counters: Option<BTreeMap<String, u64>>,
}

impl Run {
    /// A percentile of the response time.
    #[must_use]
    pub fn response(&self, percentile: Percentile) -> Option<u64> {
        percentile.of(self.latency_ns.response.as_ref()?)
    }

    /// A percentile of the service time.
    #[must_use]
    pub fn service(&self, percentile: Percentile) -> Option<u64> {
        percentile.of(self.latency_ns.service.as_ref()?)
    }

    /// A percentile of the time to the consumer.
    #[must_use]
    pub fn e2e(&self, percentile: Percentile) -> Option<u64> {
        percentile.of(self.latency_ns.e2e.as_ref()?)
    }
}

/// Which percentile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Percentile {
    P50,
    P99,
    P999,
}

impl Percentile {
    fn of(self, summary: &Summary) -> Option<u64> {
        match self {
            Self::P50 => summary.p50,
            Self::P99 => summary.p99,
            Self::P999 => summary.p999,
        }
    }
}

/// What became of the records.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Integrity {
    /// ok, failed or not_checked.
    pub verdict: IntegrityVerdict,
    /// Acknowledged, but not there. Null (as all below) if not checked.
    pub lost: Option<u64>,
    /// There more than once.
    pub duplicated: Option<u64>,
    /// There out of order.
    pub reordered: Option<u64>,
    /// There with other bytes.
    pub corrupted: Option<u64>,
    /// Sent, with unknown outcome: may be there once or not at all.
    pub in_doubt: Option<u64>,
    /// In doubt, and there.
    pub in_doubt_found: Option<u64>,
    /// There although neither acknowledged nor in doubt.
    pub unexpected: Option<u64>,
    /// Batches whose offsets did not rise.
    pub offsets_back: Option<u64>,
    /// Passes that ended before the last record: nothing beyond is known to be there.
    pub passes_cut_short: Option<u64>,
    /// Records that were read for the check.
    pub checked_records: Option<u64>,
    /// Why it was not checked.
    pub not_checked_because: Option<String>,
}

impl Integrity {
    /// The outcome of a check of `checked_records` records.
    #[must_use]
    pub fn checked(counts: &Counts, in_doubt: u64, checked_records: u64) -> Self {
        Self {
            verdict: counts.verdict(),
            lost: Some(counts.lost),
            duplicated: Some(counts.duplicated),
            reordered: Some(counts.reordered),
            corrupted: Some(counts.corrupted),
            in_doubt: Some(in_doubt),
            in_doubt_found: Some(counts.in_doubt_found),
            unexpected: Some(counts.unexpected),
            offsets_back: Some(counts.offsets_back),
            passes_cut_short: None,
            checked_records: Some(checked_records),
            not_checked_because: None,
        }
    }

    /// Nothing was read back, and why.
    #[must_use]
    pub fn not_checked(because: impl Into<String>) -> Self {
        Self {
            verdict: IntegrityVerdict::NotChecked,
            lost: None,
            duplicated: None,
            reordered: None,
            corrupted: None,
            in_doubt: None,
            in_doubt_found: None,
            unexpected: None,
            offsets_back: None,
            passes_cut_short: None,
            checked_records: None,
            not_checked_because: Some(because.into()),
        }
    }
}

/// How far to trust the run.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Validity {
    /// valid, doubtful or invalid.
    pub verdict: ValidityVerdict,
    /// "ok", or the worst reason in a word: integrity_failed, broker_ended, disk_full, starved,
    /// clock, errors, nothing_measured, client_limited, overloaded, noisy_host, unsteady,
    /// not_cold, floor_missing.
    #[serde(default)]
    pub status: String,
    /// A sentence each, beginning with its name and a colon.
    pub reasons: Vec<String>,
    /// The figures that were looked at.
    #[serde(default)]
    pub evidence: Option<Evidence>,
}

/// What a verdict rests on. Null is unknown, or does not apply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// Achieved rate of the offered one.
    pub achieved_of_offered_basis_points: Option<u64>,
    /// Records that were due and never sent.
    pub unsent_records: Option<u64>,
    /// Of the busiest generator thread: its share of a core, polling in vain left out.
    pub generator_busy_percent: Option<u64>,
    /// How late requests left, though nothing but the generator held them up.
    pub generator_slip_p99_ns: Option<u64>,
    /// Change of the rate from the beginning of the window to its end.
    pub rate_drift_per_mille: Option<i64>,
    /// The same of the median response time.
    pub p50_drift_per_mille: Option<i64>,
    /// The same of its 99th percentile.
    pub p99_drift_per_mille: Option<i64>,
    /// From here on the window was steady, where it was not from its beginning.
    pub settled_after_ns: Option<u64>,
    /// CPU time of the machine that the hypervisor stole.
    pub steal_basis_points: Option<u64>,
    /// CPU time of the machine that programs used, this one and the broker included.
    pub programs_cpu_basis_points: Option<u64>,
    /// Share of the window in which some task waited for a CPU.
    #[serde(default)]
    pub cpu_pressure_per_mille: Option<u64>,
    /// The same for input and output.
    #[serde(default)]
    pub io_pressure_per_mille: Option<u64>,
    /// The same for memory.
    #[serde(default)]
    pub memory_pressure_per_mille: Option<u64>,
    /// Records that arrived before they were sent.
    pub clock_backwards_records: u64,
}

impl Validity {
    /// The verdict over `reasons`.
    #[must_use]
    pub fn of(reasons: &[Reason]) -> Self {
        let sentences = reasons.iter().map(Reason::to_string).collect();
        let status = status(reasons).to_owned();
        Self { verdict: verdict(reasons), status, reasons: sentences, evidence: None }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::run as fixture;
