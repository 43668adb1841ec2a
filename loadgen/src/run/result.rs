//! Turns what was measured into the result.

use std::collections::BTreeMap;
use wire::Acks;

use super::broker_process::Usage;
use super::cell::BESIDE_RECORD_BYTES;
use super::choices::{AcksChoice, BatchSize, Rate, WarmUp, name_of};
use super::efficiency;
use super::options::RunArgs;
use super::site::Site;
use super::tally::{CONNECTION_LOST, Tally, Window};
use super::timing::WarmedUp;
use super::verdict;
use crate::integrity::{Counts, IntegrityVerdict};
use crate::latency::{Latencies, Summary};
use crate::report::{
    Anatomy, Beside, BrokerEnd, BrokerSeries, Durability, FaultOutcome, Faults, Integrity,
    LatencySet, Load, MEASURE, Phase, RUN_SCHEMA, Run, RunOptions, Tool, WARM_UP,
};
use crate::sampler::HostSeries;
use crate::schedule::Arrivals;
use crate::validity::{CpuTimes, Pressure};

/// Everything a run has measured.
pub(super) struct Measured<'a> {
    pub(super) args: &'a RunArgs,
    pub(super) started: jiff::Timestamp,
    pub(super) consumers: u32,
    pub(super) window: Window,
    /// Shorter than the window where consuming came to its end.
    pub(super) window_ns: u64,
    /// How a warm-up ended that lasts until the load is steady.
    pub(super) warmed_up: Option<WarmedUp>,
    pub(super) tally: &'a Tally,
    /// Of the reader beside the load.
    pub(super) beside: Option<&'a Tally>,
    /// At the opening and the closing of the window.
    pub(super) usage: [Usage; 2],
    pub(super) counters: [BTreeMap<String, u64>; 2],
    pub(super) cpu: [Option<CpuTimes>; 2],
    pub(super) pressure: [Pressure; 2],
    /// Before the load, and when everything it caused was written; none where nothing was.
    pub(super) settled: Option<[BTreeMap<String, u64>; 2]>,
    pub(super) checked: Checked,
    pub(super) host: Option<HostSeries>,
    /// Memory and CPU of the broker.
    pub(super) broker: Option<BrokerSeries>,
    /// What became of the faults.
    pub(super) faults: Vec<FaultOutcome>,
    /// A signal ended it.
    pub(super) interrupted: bool,
    /// How the broker ended, if nobody wanted it to.
    pub(super) end: Option<BrokerEnd>,
}

/// What reading back found.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) counts: Counts,
    pub(super) records: u64,
    pub(super) in_doubt: u64,
    pub(super) passes_cut_short: u64,
    pub(super) read_errors: u64,
}

impl Checked {
    /// Nothing was read.
    pub(super) fn nothing() -> Self {
        let counts = Counts::default();
        Self { counts, records: 0, in_doubt: 0, passes_cut_short: 0, read_errors: 0 }
    }

    /// As results have it; nothing was checked where nothing was read.
    pub(super) fn integrity(&self) -> Integrity {
        if self.records == 0 && self.counts.verdict() == IntegrityVerdict::Ok {
            return Integrity::not_checked("no record was read");
        }
        let mut integrity = Integrity::checked(&self.counts, self.in_doubt, self.records);
        integrity.passes_cut_short = Some(self.passes_cut_short);
        integrity
    }

    /// Adds what reading another topic found.
    pub(super) fn add(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        self.records += other.records;
        self.in_doubt += other.in_doubt;
        self.read_errors += other.read_errors;
    }
}

impl Measured<'_> {
    /// CPU time of all generator threads.
    pub(super) fn generator_cpu_ns(&self) -> u64 {
        self.tally.effort.cpu_ns + self.beside.map_or(0, |tally| tally.effort.cpu_ns)
    }

    /// Bytes of the values of so many records, as they were counted; all are alike where they were
    /// not.
    pub(super) fn value_bytes(&self, records: u64, counted: u64) -> u64 {
        match counted {
            0 => records.saturating_mul(u64::from(self.args.size)),
            counted => counted,
        }
    }

    /// Load before the window.
    fn warmup_ns(&self) -> u64 {
        self.window.open_ns - self.window.start_ns
    }

    fn per_s(&self, records: u64) -> u64 {
        per_s(records, self.window_ns)
    }
}

/// Builds the result; its limits are those measured so far.
pub(super) fn build(site: &Site, measured: &Measured<'_>) -> Run {
    let Measured { args, tally, .. } = measured;
    let closed_loop = args.rate == Rate::Max;
    let load = load(measured);
    let efficiency = efficiency::of(measured, &load);
    let integrity = integrity(measured);
    let floor = site.floor_figures();
    let series = tally.timeline.series();
    let judged = verdict::Judged {
        measured,
        load: &load,
        efficiency: &efficiency,
        integrity: integrity.verdict,
        floor: &floor,
        series: series.as_ref(),
    };
    let validity = judged.validity();
    let phases = phases(measured, &load);
    let mut run = Run {
        schema: RUN_SCHEMA.to_owned(),
        tool: Tool {
            name: "pelton bench".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        command: std::env::args().collect(),
        interrupted: measured.interrupted,
        started_utc: Some(measured.started.to_string()),
        seed: args.seed,
        target: site.target(),
        env: site.environment.clone(),
        durability: durability(args.acks, site.environment.memory_file_system()),
        options: options(measured),
        load,
        beside: measured.beside.map(|tally| beside(measured, tally)),
        latency_ns: LatencySet {
            response: summary(&tally.response),
            service: summary(&tally.service),
            e2e: summary(&tally.e2e),
            e2e_service: summary(&tally.e2e_service),
            schedule_delay: summary(&tally.schedule_delay),
            client_queue: summary(&tally.client_queue),
            generator_slip: summary(&tally.slip),
            closed_loop,
        },
        floor,
        efficiency,
        integrity,
        queue: None,
        validity,
        series,
        host: measured.host.clone(),
        phases,
        broker: measured.broker.clone(),
        anatomy_ns: anatomy(tally),
        histograms: histograms(tally),
        slo: Vec::new(),
        faults: faults(measured),
        broker_end: measured.end.clone(),
        proof: None,
        queue_proof: None,
    };
    if let (Some(faults), Some(series)) = (&mut run.faults, &run.series) {
        faults.look_into(series);
    }
    run.slo = args.slo.as_ref().map_or_else(Vec::new, |slo| slo.outcomes(&run));
    run
}

/// Warming up, the window, and its steps if there are several.
fn phases(measured: &Measured<'_>, load: &Load) -> Vec<Phase> {
    let Measured { args, tally, window_ns, .. } = measured;
    let open_ns = measured.warmup_ns();
    let warm_up = Phase {
        name: WARM_UP.to_owned(),
        to_ns: open_ns,
        offered_records_per_s: match &args.rate {
            Rate::Open(arrivals) => arrivals.first_rate(),
            Rate::Max => None,
        },
        steady_after_ns: match measured.warmed_up {
            Some(WarmedUp::Steady(since_ns)) => Some(since_ns),
            Some(WarmedUp::Never(_)) | None => None,
        },
        ..Phase::default()
    };
    let whole = Phase {
        name: MEASURE.to_owned(),
        from_ns: open_ns,
        to_ns: open_ns + window_ns,
        offered_records_per_s: load.offered_records_per_s,
        achieved_records_per_s: load.achieved_records_per_s,
        response_ns: summary(&tally.response),
        steady_after_ns: None,
    };
    let rates = match &args.rate {
        Rate::Open(Arrivals::Steps(rates)) => rates.to_vec(),
        Rate::Open(_) | Rate::Max => Vec::new(),
    };
    let step_ns = measured.window.len_ns() / rates.len().max(1) as u64;
    let steps = (0..).zip(rates.iter().zip(&tally.steps)).map(|(index, (&rate, response))| Phase {
        name: format!("step{}", index + 1),
        from_ns: open_ns + index * step_ns,
        to_ns: open_ns + (index + 1) * step_ns,
        offered_records_per_s: Some(rate),
        achieved_records_per_s: Some(per_s(response.count(), step_ns)),
        response_ns: summary(response),
        steady_after_ns: None,
    });
    [warm_up, whole].into_iter().chain(steps).collect()
}

fn per_s(records: u64, of_ns: u64) -> u64 {
    let rate = u128::from(records) * 1_000_000_000 / u128::from(of_ns).max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// What befell the broker, if anything was to.
fn faults(measured: &Measured<'_>) -> Option<Faults> {
    let lost = measured.tally.errors.get(CONNECTION_LOST).copied();
    (!measured.args.faults.is_empty()).then(|| Faults {
        faults: measured.faults.clone(),
        connections_lost: lost.unwrap_or(0),
        reconnected: measured.tally.reconnected,
        unacknowledged_records: Some(measured.checked.in_doubt),
        unacknowledged_found: Some(measured.checked.counts.in_doubt_found),
    })
}

/// All latencies in full, by their names in results.
fn histograms(tally: &Tally) -> BTreeMap<String, String> {
    let all = [
        ("response", &tally.response),
        ("service", &tally.service),
        ("schedule_delay", &tally.schedule_delay),
        ("client_queue", &tally.client_queue),
        ("e2e", &tally.e2e),
        ("e2e_service", &tally.e2e_service),
    ];
    let measured = all.into_iter().filter(|(_, latencies)| latencies.count() > 0);
    measured.map(|(name, latencies)| (name.to_owned(), latencies.encoded())).collect()
}

/// Where the time of a request went; none unless the broker was asked.
fn anatomy(tally: &Tally) -> Option<Anatomy> {
    let found = &tally.anatomy;
    (found.commit.count() > 0).then(|| Anatomy {
        client_queue: summary(&tally.client_queue),
        network: summary(&found.network),
        shard_queue: summary(&found.queue),
        append: summary(&found.append),
        commit: summary(&found.commit),
    })
}

fn summary(latencies: &Latencies) -> Option<Summary> {
    (latencies.count() > 0).then(|| latencies.summary())
}

fn load(measured: &Measured<'_>) -> Load {
    let Measured { args, tally, window_ns, .. } = measured;
    let per_s = |records| measured.per_s(records);
    let produces = args.producers > 0 && args.preload.is_none();
    let consumes = measured.consumers > 0;
    let acked = produces.then_some(tally.acked_records);
    let consumed = consumes.then_some(tally.consumed_records);
    Load {
        offered_records_per_s: match &args.rate {
            Rate::Open(Arrivals::Constant { rate }) if produces => Some(*rate),
            // As many as the others happened to give.
            Rate::Open(_) if produces => Some(per_s(tally.offered_records)),
            Rate::Open(_) | Rate::Max => None,
        },
        achieved_records_per_s: acked.map(per_s),
        acked_records: acked,
        consumed_records: consumed,
        consumed_records_per_s: consumed.map(per_s),
        bytes_per_s: acked
            .map(|records| measured.value_bytes(records, tally.acked_value_bytes))
            .or(consumed.map(|records| measured.value_bytes(records, tally.consumed_value_bytes)))
            .map(per_s),
        errors: tally.errors.clone(),
        window_ns: Some(*window_ns),
    }
}

fn beside(measured: &Measured<'_>, tally: &Tally) -> Beside {
    let rate = measured.per_s(tally.consumed_records);
    Beside {
        consumed_records: tally.consumed_records,
        consumed_records_per_s: Some(rate),
        bytes_per_s: Some(rate.saturating_mul(u64::from(BESIDE_RECORD_BYTES))),
        passes: tally.passes_finished,
    }
}

fn integrity(measured: &Measured<'_>) -> Integrity {
    match measured.checked.integrity() {
        unread if unread.verdict == IntegrityVerdict::NotChecked && measured.interrupted => {
            Integrity::not_checked("it was interrupted")
        }
        unread if unread.verdict == IntegrityVerdict::NotChecked && measured.end.is_some() => {
            Integrity::not_checked("the broker ended")
        }
        found => found,
    }
}

fn durability(acks: AcksChoice, memory_file_system: Option<bool>) -> Durability {
    let (acknowledged_when, lost_by) = match acks {
        AcksChoice::None => ("there is no reply", "anything"),
        AcksChoice::Memory => ("the record is ordered in its partition", "the end of the process"),
        AcksChoice::Written => {
            ("its O_DIRECT write has completed", "loss of power, where the device caches")
        }
        AcksChoice::Durable => {
            ("its durable write, or the flush after it, has completed", "loss of the device")
        }
    };
    let lost_by = match memory_file_system {
        Some(true) => "the end of the machine: the data directory is in memory",
        Some(false) | None => lost_by,
    };
    Durability {
        acks: Acks::from(acks).name().to_owned(),
        acknowledged_when: acknowledged_when.to_owned(),
        lost_by: lost_by.to_owned(),
        memory_file_system,
    }
}

fn options(measured: &Measured<'_>) -> RunOptions {
    let Measured { args, consumers, .. } = *measured;
    let number = |flag: i64| u32::try_from(flag).expect("checked when it was parsed");
    let nanoseconds =
        |duration: std::time::Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let (batch_bytes, batch_records) = match args.batch {
        BatchSize::Bytes(bytes) => (Some(u64::from(bytes)), None),
        BatchSize::Records(records) => (None, Some(u64::from(records))),
    };
    RunOptions {
        closed_loop: args.rate == Rate::Max,
        linger_ns: nanoseconds(args.linger),
        batch_bytes,
        batch_records,
        inflight: number(args.inflight),
        record_bytes: args.sizes.map_or(args.size, |sizes| sizes.mean()),
        sizes: args.sizes.map(|sizes| sizes.to_string()),
        entropy_per_mille: args.entropy.map(|entropy| crate::latency::whole(entropy * 1_000.0)),
        keys: args.keys.map(|keys| keys.to_string()),
        producers: number(args.producers),
        consumers,
        partitions: number(args.partitions),
        duration_ns: nanoseconds(args.duration),
        warmup_ns: measured.warmup_ns(),
        warmup_auto: args.warmup == WarmUp::Auto,
        busy_poll: args.busy_poll,
        preload_bytes: args.preload,
        rate_records_per_s: match &args.rate {
            Rate::Open(arrivals) => Some(arrivals.rate(nanoseconds(args.duration))),
            Rate::Max => None,
        },
        arrivals: match &args.rate {
            Rate::Open(arrivals) => Some(arrivals.to_string()),
            Rate::Max => None,
        },
        partitioner: Some(name_of(&args.partitioner)),
        route: Some(name_of(&args.route)),
        pin: Some(name_of(&args.pin)),
        fetch_path: args.fetch_path.map(|path| path.to_string()),
        cold: args.cold,
        beside_reader_bytes: args.beside_reader,
        queue: args.queue.options(),
        consume_rate_records_per_s: args.consume_rate,
        faults: args.faults.iter().map(ToString::to_string).collect(),
    }
}
