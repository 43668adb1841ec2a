//! One measured run: topic, preload, warm-up, window, drain, read-back, verdicts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wire::Acks;

use super::RunError;
use super::choices::{BatchSize, Partitioner, Rate};
use super::fault::Strikes;
use super::launch::{Crew, Launch, Outcome, Urgency};
use super::options::RunArgs;
use super::progress_line::{ProgressLine, Visibility};
use super::queue::{self, Mode};
use super::result::{self, Checked, Measured};
use super::routing::Routing;
use super::site::Site;
use super::tally::{Tally, Window};
use super::template::Shape;
use super::timing::Timing;
use super::topic::{End, RunTopic, offsets};
use super::watch::{Watched, counters, settle, watch};
use super::work::{Lost, Producing, Progress, Replay, Waiting, Work};
use crate::clock::monotonic_ns;
use crate::integrity::{Counts, Coverage, Ledger};
use crate::report::{Proof, Run};
use crate::schedule::Load;

/// Preloading may take this long.
const PRELOAD_NS_MAX: u64 = 300_000_000_000;
/// Reading back may take this long, unless a cell says less.
const READ_BACK_NS_MAX: u64 = 300_000_000_000;
/// Acknowledged records become visible to consumers within this time, or are called lost.
const VISIBLE_WAIT_MAX: Duration = Duration::from_secs(10);

/// What the reader beside a load reads: one log of batches that large.
const BESIDE_PARTITIONS: u32 = 1;
const BESIDE_BATCH_BYTES: u32 = 256 << 10;
/// Bytes of its records' values.
pub(super) const BESIDE_RECORD_BYTES: u32 = 1024;
const BESIDE_INFLIGHT: u32 = 8;

/// How a backlog is built up, whatever the load does.
const BACKLOG_BATCH_BYTES: u32 = 256 << 10;
const BACKLOG_INFLIGHT: u32 = 8;

/// How a cell differs from a run that stands alone.
#[derive(Clone, Debug, Default)]
pub(super) struct Label {
    /// In front of the progress line.
    pub(super) text: String,
    /// Reading back stops after this long; what was read by then is checked.
    pub(super) read_back_max: Option<Duration>,
    /// What becomes of a run that a signal ends within its window.
    pub(super) partial: Partial,
    /// So many records are there before; consumers begin with them. They prove their own.
    pub(super) backlog_records: Option<u64>,
}

/// What becomes of a run that was not finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Partial {
    /// It is as if it had not begun.
    #[default]
    Drop,
    /// What was measured until then is the result.
    Keep,
}

impl Partial {
    /// Ends the window where a signal, or the broker, ended the load; fails if nothing of it shall
    /// be kept.
    pub(super) fn cut(
        self,
        window: &mut Window,
        watched: &Watched,
        abort: &AtomicBool,
    ) -> Result<(), RunError> {
        let is_aborted = abort.load(Ordering::Relaxed);
        let ended_ns = match &watched.end {
            Some(end) => window.open_ns + end.after_ns,
            None if is_aborted => monotonic_ns(),
            None => return Ok(()),
        };
        let dropped = self == Self::Drop || ended_ns <= window.open_ns;
        match &watched.end {
            _ if is_aborted && dropped => return Err(RunError::Interrupted),
            Some(end) if dropped => {
                return Err(RunError::Setup(format!("the broker ended ({})", end.how)));
            }
            _ => {}
        }
        window.close_ns = window.close_ns.min(ended_ns);
        Ok(())
    }
}

/// Runs one load as `args` say, and checks what became of its records.
pub(super) fn measure(site: &mut Site, args: &RunArgs, label: &Label) -> Result<Run, RunError> {
    if args.queue.mode == Mode::Queue {
        return queue::measure(site, args, label);
    }
    let run = run_id();
    let name = args.topic.clone().unwrap_or_else(|| format!("bench-{run:08x}"));
    // Without producers of its own, a run reads what others have put there.
    let from = if args.producers == 0 { End::Oldest } else { End::Newest };
    let topic = RunTopic::open(&mut site.control, &name, number(args.partitions), from)?;
    let beside = match args.beside_reader {
        Some(_) => {
            let name = format!("bench-{run:08x}-beside");
            Some(RunTopic::open(&mut site.control, &name, BESIDE_PARTITIONS, End::Newest)?)
        }
        None => None,
    };
    let cell = Cell { site, args, label, run, topic: &topic, beside: beside.as_ref() };
    let result = cell.measure();
    let removed = match args.keep {
        true => Ok(()),
        false => topic.remove(&mut site.control),
    };
    let removed =
        removed.and_then(|()| beside.map_or(Ok(()), |topic| topic.remove(&mut site.control)));
    site.conclude(result, removed)
}

/// Reads what a run has kept, and compares it with what the run knew.
pub(super) fn verify(site: &mut Site, args: &RunArgs, proof: &Proof) -> Result<Checked, RunError> {
    let visibility = if args.quiet { Visibility::Hidden } else { Visibility::Shown };
    let line = ProgressLine::new(visibility, &proof.topic);
    line.say("reading");
    let topic = RunTopic::find(&mut site.control, &proof.topic, &proof.starts)?;
    let ends = offsets(&mut site.control, topic.id, proof.partitions, End::Newest)?;
    let label = Label::default();
    let mut cell = Cell { site, args, label: &label, run: proof.run, topic: &topic, beside: None };
    let routing = cell.routing(&topic, proof.partitions)?;
    cell.read_all(&routing, &proof.ledger(), ends)
}

struct Cell<'a> {
    site: &'a mut Site,
    args: &'a RunArgs,
    label: &'a Label,
    run: u32,
    topic: &'a RunTopic,
    /// What the reader beside the load reads.
    beside: Option<&'a RunTopic>,
}

/// Records that were there before the load: what became of them, and where the partitions end.
struct Loaded {
    ledger: Ledger,
    ends: Vec<u64>,
}

impl Cell<'_> {
    fn measure(mut self) -> Result<Run, RunError> {
        let started = jiff::Timestamp::now();
        let mut line = ProgressLine::of(self.args, &self.label.text);
        let (loaded, beside_loaded) = self.load_before(&line)?;
        let routing = self.routing(self.topic, number(self.args.partitions))?;
        let mut work = self.work(&routing, self.topic);
        if let Some(loaded) = &loaded {
            read_only(&mut work, loaded);
        }
        work.invalid().map_or(Ok(()), |reason| Err(RunError::Usage(reason)))?;
        let mut reading = None;
        let beside_routing;
        if let (Some(topic), Some(loaded)) = (self.beside, &beside_loaded) {
            beside_routing = self.routing(topic, BESIDE_PARTITIONS)?;
            let mut work = self.beside_work(&beside_routing, topic);
            read_only(&mut work, loaded);
            reading = Some((work, loaded.ends.clone()));
        }
        let before = counters(self.site)?;
        let targets = loaded.as_ref().map(|loaded| loaded.ends.clone());
        let (mut outcomes, watched) =
            self.run_beside(&work, targets, reading.as_ref(), &mut line)?;
        let settled = match work.producing {
            // Another process counts from zero.
            Producing::Now if !watched.restarted => Some([before, settle(self.site)?]),
            Producing::Now | Producing::Before => None,
        };
        let outcome = outcomes.remove(0);
        let interrupted = self.site.abort.load(Ordering::Relaxed);
        let beside = outcomes.pop();
        let mut checked = match &loaded {
            // The last pass of each consumer ends where the window does.
            Some(Loaded { ledger, .. }) => {
                Checked { passes_cut_short: 0, ..check_passes(ledger, &outcome) }
            }
            None => self.prove(&work, &outcome, &watched, &line)?,
        };
        if let (Some(outcome), Some(loaded)) = (&beside, &beside_loaded) {
            checked.add(&check_passes(&loaded.ledger, outcome));
        }
        drop(line);
        let measured = Measured {
            args: self.args,
            started,
            consumers: work.consumers,
            window: outcome.window,
            window_ns: outcome.window.len_ns(),
            warmed_up: watched.warmed_up,
            tally: &outcome.tally,
            beside: beside.as_ref().map(|beside| &beside.tally),
            usage: watched.usage,
            counters: watched.counters,
            cpu: watched.cpu,
            pressure: watched.pressure,
            settled,
            checked,
            host: watched.host,
            broker: watched.broker,
            faults: watched.faults,
            interrupted,
            end: watched.end,
        };
        let proof = self.proof(&work, &outcome.tally.ledger);
        Ok(Run { proof, ..result::build(self.site, &measured) })
    }

    /// What became of the records of a load.
    fn prove(
        &mut self,
        work: &Work<'_>,
        outcome: &Outcome,
        watched: &Watched,
        line: &ProgressLine,
    ) -> Result<Checked, RunError> {
        if self.site.sink_counters().is_some() {
            return Ok(self.proven_by_sink(outcome));
        }
        if self.site.abort.load(Ordering::Relaxed) {
            return Ok(Checked::nothing());
        }
        if watched.end.is_some() {
            return self.read_after_end(work.routing, outcome, line);
        }
        if work.consumers > 0 {
            return Ok(check_passes(&outcome.tally.ledger, outcome));
        }
        line.say("reading back");
        self.read_back(work.routing, work.acks, outcome)
    }

    /// Which records there are, if they stay.
    fn proof(&self, work: &Work<'_>, ledger: &Ledger) -> Option<Proof> {
        let RunTopic { name, starts, .. } = self.topic;
        let stay = self.args.keep && work.producing == Producing::Now && work.acks != Acks::None;
        stay.then(|| Proof::of(name, self.run, starts, work.producers, ledger))
    }

    /// Puts records where the load or the reader beside it will find them.
    fn load_before(
        &mut self,
        line: &ProgressLine,
    ) -> Result<(Option<Loaded>, Option<Loaded>), RunError> {
        let args = self.args;
        if let Some(records) = self.label.backlog_records {
            self.build_backlog(records, line)?;
        }
        let loaded = match args.preload {
            Some(bytes) => {
                let routing = self.routing(self.topic, number(args.partitions))?;
                let work = self.work(&routing, self.topic);
                Some(self.preload(work, self.topic, bytes, line)?)
            }
            None if args.producers == 0 => {
                let control = &mut self.site.control;
                let partitions = number(args.partitions);
                let ends = offsets(control, self.topic.id, partitions, End::Newest)?;
                Some(Loaded { ledger: Ledger::new(partitions, 0), ends })
            }
            None => None,
        };
        let beside = match (self.beside, args.beside_reader) {
            (Some(topic), Some(bytes)) => {
                let routing = self.routing(topic, BESIDE_PARTITIONS)?;
                let work = self.beside_work(&routing, topic);
                Some(self.preload(work, topic, bytes, line)?)
            }
            _ => None,
        };
        if args.cold {
            line.say("starting the broker again");
            self.site.restart_cold()?;
        }
        Ok((loaded, beside))
    }

    /// Runs the load, and the reader beside it if there is one, while this thread watches.
    fn run_beside(
        &mut self,
        work: &Work<'_>,
        targets: Option<Vec<u64>>,
        reading: Option<&(Work<'_>, Vec<u64>)>,
        line: &mut ProgressLine,
    ) -> Result<(Vec<Outcome>, Watched), RunError> {
        let (progress, unseen) = (Progress::default(), Progress::default());
        let abort = self.site.abort.clone();
        let cores = self.site.cores.generator.clone();
        let mut crews =
            vec![Crew { work, progress: &progress, targets, urgency: Urgency::Measured }];
        if let Some((work, ends)) = reading {
            let targets = Some(ends.clone());
            crews.push(Crew { work, progress: &unseen, targets, urgency: Urgency::Background });
        }
        let launch = Launch { crews, cores: &cores, pin: self.site.pin, abort: &abort };
        let timing = Timing::of(self.args);
        let (mut outcomes, watched) = launch.run(
            |start_ns| timing.window(start_ns),
            |window, tell| {
                let warmed_up = timing.warm_up(self.site, window, &progress, line, tell);
                let strikes = Strikes::new(&self.args.faults, window);
                let watched = watch(self.site, window, &progress, line, strikes);
                if progress.is_over() {
                    unseen.end();
                }
                watched.map(|seen| Watched { warmed_up, ..seen })
            },
        )?;
        let watched = watched?;
        for Outcome { window, .. } in &mut outcomes {
            self.label.partial.cut(window, &watched, &abort)?;
        }
        Ok((outcomes, watched))
    }

    /// The broker has ended by itself: starts it again, and reads what it had acknowledged.
    fn read_after_end(
        &mut self,
        routing: &Routing,
        outcome: &Outcome,
        line: &ProgressLine,
    ) -> Result<Checked, RunError> {
        let acks = Acks::from(self.args.acks);
        if !self.site.is_spawned() || !matches!(acks, Acks::Written | Acks::Durable) {
            return Ok(Checked::nothing());
        }
        line.say("starting the broker again, to read back");
        let read = self.site.restart_broker();
        match read.and_then(|()| self.read_back(routing, acks, outcome)) {
            Err(error) if !matches!(error, RunError::Interrupted) => {
                line.say(&format!("what it has kept was not read: {error}"));
                Ok(Checked::nothing())
            }
            checked => checked,
        }
    }

    fn routing(&mut self, topic: &RunTopic, partitions: u32) -> Result<Routing, RunError> {
        let address = self.site.address().to_owned();
        let control = &mut self.site.control;
        Routing::find(control, &address, &topic.name, partitions, self.args.route)
    }

    fn work<'w>(&self, routing: &'w Routing, topic: &'w RunTopic) -> Work<'w> {
        let args = self.args;
        Work {
            reach: self.site.reach(),
            clock: monotonic_ns,
            routing,
            run: self.run,
            topic_id: topic.id,
            partitions: number(args.partitions),
            producers: number(args.producers),
            producing: Producing::Now,
            consumers: number(args.consumers),
            partitioner: args.partitioner,
            acks: Acks::from(args.acks),
            timing: args.timing(),
            inflight: number(args.inflight),
            linger_ns: nanoseconds(args.linger),
            load: match &args.rate {
                Rate::Max => Load::Closed,
                Rate::Open(arrivals) => Load::Open(arrivals.clone()),
            },
            batch: args.batch,
            shape: Shape {
                value_len: args.size,
                sizes: args.sizes,
                entropy: args.entropy,
                keys: args.keys,
                seed: args.seed,
            },
            records_per_producer_max: None,
            starts: &topic.starts,
            replay: Replay::Once,
            consume_rate: args.consume_rate,
            waiting: if args.busy_poll { Waiting::BusyPoll } else { Waiting::Park },
            lost: if args.faults.is_empty() { Lost::Stays } else { Lost::Returns },
        }
    }

    /// What the reader beside the load reads is the same whatever the load is.
    fn beside_work<'w>(&self, routing: &'w Routing, topic: &'w RunTopic) -> Work<'w> {
        Work {
            partitions: BESIDE_PARTITIONS,
            producers: 1,
            consumers: 1,
            partitioner: Partitioner::Sticky,
            acks: Acks::Durable,
            inflight: BESIDE_INFLIGHT,
            batch: BatchSize::Bytes(BESIDE_BATCH_BYTES),
            shape: Shape {
                value_len: BESIDE_RECORD_BYTES,
                sizes: None,
                entropy: None,
                keys: None,
                seed: self.args.seed,
            },
            ..self.work(routing, topic)
        }
    }

    /// Produces so many records of another run: consumers of this one take them and count them.
    fn build_backlog(&mut self, records: u64, line: &ProgressLine) -> Result<(), RunError> {
        let routing = self.routing(self.topic, number(self.args.partitions))?;
        let work = Work {
            run: !self.run,
            batch: BatchSize::Bytes(BACKLOG_BATCH_BYTES.max(self.args.size)),
            inflight: BACKLOG_INFLIGHT,
            partitioner: Partitioner::Sticky,
            ..self.work(&routing, self.topic)
        };
        let bytes = records.saturating_mul(u64::from(work.shape.value_len_mean()));
        self.preload(work, self.topic, bytes, line).map(drop)
    }

    /// Produces `bytes` of values and waits until consumers may see them.
    fn preload(
        &mut self,
        mut work: Work<'_>,
        topic: &RunTopic,
        bytes: u64,
        line: &ProgressLine,
    ) -> Result<Loaded, RunError> {
        line.say("preloading");
        work.consumers = 0;
        work.load = Load::Closed;
        let records = bytes.div_ceil(u64::from(work.shape.value_len_mean()));
        work.records_per_producer_max = Some(records.div_ceil(u64::from(work.producers)));
        work.invalid().map_or(Ok(()), |reason| Err(RunError::Usage(reason)))?;
        let outcome = self.unmeasured(&work, None, PRELOAD_NS_MAX)?;
        if let Some((code, count)) = outcome.tally.errors.first_key_value() {
            return Err(RunError::Setup(format!("preloading failed: {count} x {code}")));
        }
        let ends = self.visible_ends(topic, &outcome.tally, work.acks)?;
        Ok(Loaded { ledger: outcome.tally.ledger, ends })
    }

    /// What a target that keeps nothing found when it looked into each record.
    fn proven_by_sink(&self, outcome: &Outcome) -> Checked {
        let sink = self.site.sink_counters().expect("only called for such a target");
        let [records, corrupted, reordered] = sink.read();
        Checked {
            counts: Counts { corrupted, reordered, ..Counts::default() },
            records,
            in_doubt: outcome.tally.ledger.in_doubt_records(),
            passes_cut_short: 0,
            read_errors: 0,
        }
    }

    /// Reads everything once and compares it with what was acknowledged.
    fn read_back(
        &mut self,
        routing: &Routing,
        acks: Acks,
        outcome: &Outcome,
    ) -> Result<Checked, RunError> {
        let ends = self.visible_ends(self.topic, &outcome.tally, acks)?;
        self.read_all(routing, &outcome.tally.ledger, ends)
    }

    /// Reads everything up to `ends` once, and compares it with the ledger.
    fn read_all(
        &mut self,
        routing: &Routing,
        ledger: &Ledger,
        ends: Vec<u64>,
    ) -> Result<Checked, RunError> {
        let mut reading = self.work(routing, self.topic);
        let readers = u32::try_from(self.site.cores.generator.len()).unwrap_or(u32::MAX);
        reading.producing = Producing::Before;
        reading.consume_rate = None;
        reading.consumers = readers.min(reading.partitions).max(routing.endpoints());
        let limit_ns = self.label.read_back_max.map_or(READ_BACK_NS_MAX, nanoseconds);
        let read = self.unmeasured(&reading, Some(ends), limit_ns)?;
        let mut checked = check_passes(ledger, &read);
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
        let crew = Crew { work, progress: &progress, targets, urgency: Urgency::Measured };
        let abort = &self.site.abort;
        let launch = Launch { crews: vec![crew], cores, pin: self.site.pin, abort };
        let window_of =
            |start_ns: u64| Window::untimed(start_ns, start_ns.saturating_add(limit_ns));
        let (mut outcomes, ()) = launch.run(window_of, |_, _| ())?;
        match self.site.abort.load(Ordering::Relaxed) {
            true => Err(RunError::Interrupted),
            false => Ok(outcomes.remove(0)),
        }
    }

    /// Where the partitions end, once all that was acknowledged is visible. Without
    /// acknowledgements only the broker knows.
    fn visible_ends(
        &mut self,
        topic: &RunTopic,
        tally: &Tally,
        acks: Acks,
    ) -> Result<Vec<u64>, RunError> {
        let site = &mut *self.site;
        if acks == Acks::None {
            let partitions = u32::try_from(tally.ends.len()).expect("partitions are a u32");
            return offsets(&mut site.control, topic.id, partitions, End::Newest);
        }
        topic.await_visible(&mut site.control, &tally.ends, VISIBLE_WAIT_MAX, &site.abort)?;
        Ok(tally.ends.clone())
    }
}

/// Turns a load into one that reads what is there, again and again.
fn read_only<'w>(work: &mut Work<'w>, loaded: &'w Loaded) {
    work.producing = Producing::Before;
    work.consumers = work.consumers.max(work.routing.endpoints());
    work.replay = Replay::Repeat(&loaded.ledger);
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

/// An id that two runs at the same time do not share.
pub(super) fn run_id() -> u32 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mixed = (wall.as_secs() << 30 | u64::from(wall.subsec_nanos()))
        .wrapping_add(u64::from(std::process::id()) << 40)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    u32::try_from(mixed >> 32).expect("the upper half of 64 bits")
}

fn number(flag: i64) -> u32 {
    u32::try_from(flag).expect("the flag's range is checked when it is parsed")
}

pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
