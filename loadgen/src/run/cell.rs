//! One measured run: topic, preload, warm-up, window, drain, read-back, verdicts.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wire::Acks;

use super::RunError;
use super::broker_process::Usage;
use super::launch::{Launch, Outcome};
use super::options::{Rate, RunArgs};
use super::progress_line::{ProgressLine, REFRESH, Visibility};
use super::result::{self, Checked, Measured};
use super::site::Site;
use super::tally::{Tally, Window};
use super::topic::{End, RunTopic, offsets};
use super::work::{Producing, Progress, Replay, Waiting, Work};
use crate::clock::monotonic_ns;
use crate::integrity::{Counts, Coverage, Ledger};
use crate::report::Run;
use crate::schedule::Load;
use crate::validity::CpuTimes;

/// What is not answered or read this long after the window is given up.
const DRAIN_NS: u64 = 10_000_000_000;
/// Preloading may take this long.
const PRELOAD_NS_MAX: u64 = 300_000_000_000;
/// Reading back may take this long, unless a cell says less.
const READ_BACK_NS_MAX: u64 = 300_000_000_000;
/// Acknowledged records become visible to consumers within this time, or are called lost.
const VISIBLE_WAIT_MAX: Duration = Duration::from_secs(10);

/// How a cell differs from a run that stands alone.
#[derive(Clone, Debug, Default)]
pub(super) struct Label {
    /// In front of the progress line.
    pub(super) text: String,
    /// Reading back stops after this long; what was read by then is checked.
    pub(super) read_back_max: Option<Duration>,
}

/// Runs one load as `args` say, and checks what became of its records.
pub(super) fn measure(site: &mut Site, args: &RunArgs, label: &Label) -> Result<Run, RunError> {
    let run = run_id();
    let name = args.topic.clone().unwrap_or_else(|| format!("bench-{run:08x}"));
    let partitions = number(args.partitions);
    // Without producers of its own, a run reads what others have put there.
    let from = if args.producers == 0 { End::Oldest } else { End::Newest };
    let topic = RunTopic::open(&mut site.control, &name, partitions, from)?;
    let result = Cell { site, args, label, run, topic: &topic }.measure();
    let removed = match args.keep {
        true => Ok(()),
        false => topic.remove(&mut site.control),
    };
    let result = result.map_err(|error| match site.log() {
        log if log.is_empty() => error,
        log => RunError::Setup(format!("{error}; the end of the broker's log:{log}")),
    })?;
    removed?;
    Ok(result)
}

struct Cell<'a> {
    site: &'a mut Site,
    args: &'a RunArgs,
    label: &'a Label,
    run: u32,
    topic: &'a RunTopic,
}

/// What the watching thread read at the ends of the window.
struct Watched {
    usage: [Usage; 2],
    counters: [BTreeMap<String, u64>; 2],
    cpu: [Option<CpuTimes>; 2],
}

impl Cell<'_> {
    fn measure(mut self) -> Result<Run, RunError> {
        let started = jiff::Timestamp::now();
        let visibility = if self.args.quiet { Visibility::Hidden } else { Visibility::Shown };
        let mut line = ProgressLine::new(visibility, &self.label.text);
        let loaded = match self.args.preload {
            Some(bytes) => Some(self.preload(bytes, &line)?),
            None if self.args.producers == 0 => {
                let control = &mut self.site.control;
                let partitions = number(self.args.partitions);
                let ends = offsets(control, self.topic.id, partitions, End::Newest)?;
                Some((Ledger::new(partitions, 0), ends))
            }
            None => None,
        };
        let address = self.site.address().to_owned();
        let mut work = self.work(&address, self.topic);
        let mut targets = None;
        if let Some((ledger, ends)) = &loaded {
            work.producing = Producing::Before;
            work.consumers = work.consumers.max(1);
            work.replay = Replay::Repeat(ledger);
            targets = Some(ends.clone());
        }
        let progress = Progress::default();
        let abort = self.site.abort.clone();
        let cores = self.site.cores.generator.clone();
        let launch =
            Launch { work: &work, cores: &cores, abort: &abort, progress: &progress, targets };
        let (warmup_ns, duration_ns) =
            (nanoseconds(self.args.warmup), nanoseconds(self.args.duration));
        let window_of = |start_ns| {
            let open_ns = start_ns + warmup_ns;
            let close_ns = open_ns + duration_ns;
            Window { start_ns, open_ns, close_ns, drain_ns: close_ns + DRAIN_NS }
        };
        let (outcome, watched) =
            launch.run(window_of, |window| watch(self.site, window, &progress, &mut line))?;
        if abort.load(Ordering::Relaxed) {
            return Err(RunError::Interrupted);
        }
        let watched = watched?;
        let consumers = work.consumers;
        let checked = match loaded {
            // The last pass of each consumer ends where the window does.
            Some((ledger, _)) => Checked { passes_cut_short: 0, ..check_passes(&ledger, &outcome) },
            None if consumers > 0 => check_passes(&outcome.tally.ledger, &outcome),
            None => {
                line.say("reading back");
                self.read_back(&work, &outcome)?
            }
        };
        drop(line);
        let measured = Measured {
            args: self.args,
            started,
            consumers,
            window_ns: outcome.window.len_ns(),
            tally: &outcome.tally,
            usage: watched.usage,
            counters: watched.counters,
            cpu: watched.cpu,
            checked,
        };
        Ok(result::build(self.site, &measured))
    }

    fn work<'w>(&self, address: &'w str, topic: &'w RunTopic) -> Work<'w> {
        let args = self.args;
        Work {
            address,
            run: self.run,
            topic_id: topic.id,
            partitions: number(args.partitions),
            producers: number(args.producers),
            producing: Producing::Now,
            consumers: number(args.consumers),
            acks: Acks::from(args.acks),
            inflight: number(args.inflight),
            linger_ns: nanoseconds(args.linger),
            load: match args.rate {
                Rate::Max => Load::Closed,
                Rate::PerSecond(rate) => Load::Open { rate },
            },
            batch: args.batch,
            value_len: args.size,
            seed: args.seed,
            records_per_producer_max: None,
            starts: &topic.starts,
            replay: Replay::Once,
            waiting: if args.busy_poll { Waiting::BusyPoll } else { Waiting::Park },
        }
    }

    /// Produces `bytes` of values and waits until consumers may see them. Gives what became of
    /// them, and where the partitions end.
    fn preload(&mut self, bytes: u64, line: &ProgressLine) -> Result<(Ledger, Vec<u64>), RunError> {
        line.say("preloading");
        let address = self.site.address().to_owned();
        let mut work = self.work(&address, self.topic);
        work.consumers = 0;
        work.load = Load::Closed;
        let records = bytes.div_ceil(u64::from(work.value_len));
        work.records_per_producer_max = Some(records.div_ceil(u64::from(work.producers)));
        let outcome = self.unmeasured(&work, None, PRELOAD_NS_MAX)?;
        if let Some((code, count)) = outcome.tally.errors.first_key_value() {
            return Err(RunError::Setup(format!("preloading failed: {count} x {code}")));
        }
        let ends = self.visible_ends(&outcome.tally, work.acks)?;
        Ok((outcome.tally.ledger, ends))
    }

    /// Reads everything once and compares it with what was acknowledged.
    fn read_back(&mut self, work: &Work<'_>, outcome: &Outcome) -> Result<Checked, RunError> {
        let address = self.site.address().to_owned();
        let ends = self.visible_ends(&outcome.tally, work.acks)?;
        let mut reading = self.work(&address, self.topic);
        let readers = u32::try_from(self.site.cores.generator.len()).unwrap_or(u32::MAX);
        reading.producing = Producing::Before;
        reading.consumers = readers.min(reading.partitions);
        let limit_ns = self.label.read_back_max.map_or(READ_BACK_NS_MAX, nanoseconds);
        let read = self.unmeasured(&reading, Some(ends), limit_ns)?;
        let mut checked = check_passes(&outcome.tally.ledger, &read);
        checked.read_errors = read.tally.errors.values().sum();
        Ok(checked)
    }

    /// Runs a load whose window measures nothing.
    fn unmeasured(
        &self,
        work: &Work<'_>,
        targets: Option<Vec<u64>>,
        limit_ns: u64,
    ) -> Result<Outcome, RunError> {
        let progress = Progress::default();
        let cores = &self.site.cores.generator;
        let launch = Launch { work, cores, abort: &self.site.abort, progress: &progress, targets };
        let never = u64::MAX;
        let window_of = |start_ns: u64| Window {
            start_ns,
            open_ns: never,
            close_ns: never,
            drain_ns: start_ns.saturating_add(limit_ns),
        };
        let (outcome, ()) = launch.run(window_of, |_| ())?;
        match self.site.abort.load(Ordering::Relaxed) {
            true => Err(RunError::Interrupted),
            false => Ok(outcome),
        }
    }

    /// Where the partitions end, once all that was acknowledged is visible. Without
    /// acknowledgements only the broker knows.
    fn visible_ends(&mut self, tally: &Tally, acks: Acks) -> Result<Vec<u64>, RunError> {
        let site = &mut *self.site;
        if acks == Acks::None {
            let partitions = number(self.args.partitions);
            return offsets(&mut site.control, self.topic.id, partitions, End::Newest);
        }
        self.topic.await_visible(&mut site.control, &tally.ends, VISIBLE_WAIT_MAX, &site.abort)?;
        Ok(tally.ends.clone())
    }
}

/// Audits the passes of a load, and adds what was audited while it ran.
fn check_passes(ledger: &Ledger, outcome: &Outcome) -> Checked {
    let mut counts: Counts = outcome.tally.counts.clone();
    let mut records = outcome.tally.checked_records;
    let mut cut_short = 0;
    for (pass, coverage) in &outcome.passes {
        counts.add(&ledger.audit(pass, *coverage));
        records += pass.records();
        cut_short += u64::from(*coverage == Coverage::Prefix);
    }
    Checked {
        counts,
        records,
        in_doubt: ledger.in_doubt_records(),
        passes_cut_short: cut_short,
        read_errors: 0,
    }
}

/// Shows progress, and reads what the broker has used when the window opens and closes.
fn watch(
    site: &mut Site,
    window: &Window,
    progress: &Progress,
    line: &mut ProgressLine,
) -> Result<Watched, RunError> {
    sleep_until(site, window.open_ns, window, progress, line);
    let before = (site.usage(), counters(site)?, CpuTimes::read());
    sleep_until(site, window.close_ns, window, progress, line);
    let after = (site.usage(), counters(site)?, CpuTimes::read());
    Ok(Watched {
        usage: [before.0, after.0],
        counters: [before.1, after.1],
        cpu: [before.2, after.2],
    })
}

fn sleep_until(
    site: &Site,
    time_ns: u64,
    window: &Window,
    progress: &Progress,
    line: &mut ProgressLine,
) {
    loop {
        let left = Duration::from_nanos(time_ns.saturating_sub(monotonic_ns()));
        if left.is_zero() || site.abort.load(Ordering::Relaxed) {
            return;
        }
        line.show(window, progress);
        std::thread::sleep(left.min(REFRESH));
    }
}

fn counters(site: &mut Site) -> Result<BTreeMap<String, u64>, RunError> {
    Ok(site.control.stats()?.into_iter().collect())
}

/// An id that two runs at the same time do not share.
fn run_id() -> u32 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mixed = (wall.as_secs() << 30 | u64::from(wall.subsec_nanos()))
        .wrapping_add(u64::from(std::process::id()) << 40)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    u32::try_from(mixed >> 32).expect("the upper half of 64 bits")
}

fn number(flag: i64) -> u32 {
    u32::try_from(flag).expect("the flag's range is checked when it is parsed")
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
