//! `--mode queue`: messages through queues, measured, and the proof of what became of each.

mod consumer;
mod crew;
mod flags;
mod places;
mod publisher;
mod shelf;
mod task;
mod template;

pub use flags::{AckMode, Mode, QueueFlags, Share};

use std::sync::atomic::Ordering;
use std::time::Duration;
use wire::Acks;

use super::RunError;
use super::cell::{self, Label};
use super::choices::{BatchSize, Rate};
use super::fault::{self, Strikes};
use super::options::RunArgs;
use super::progress_line::ProgressLine;
use super::result::{self, Checked, Measured};
use super::site::Site;
use super::tally::{Tally, Window};
use super::template::Shape;
use super::timing::Timing;
use super::watch::{Watched, counters, settle, watch};
use super::work::{Lost, Progress, Waiting};
use crate::clock::monotonic_ns;
use crate::integrity::queue::{QueueCounts, QueueLedger};
use crate::report::{QueueFigures, QueueProof, Run};
use crate::schedule::Load;
use crew::Crew;
use places::Places;
use task::{Purpose, Signals, Task};

/// Publishing a backlog may take this long.
const PRELOAD_NS_MAX: u64 = 300_000_000_000;
/// Emptying the queues may take this long, unless a cell says less.
const READ_BACK_NS_MAX: u64 = 300_000_000_000;
/// How often the broker is asked whether the queues are empty.
const POLL: Duration = Duration::from_millis(10);
/// Messages of empty queues that have not come after this long do not come.
const MISSING_AFTER_NS: u64 = 1_000_000_000;
/// Unconfirmed messages, and messages of a frame, where nothing is measured.
const UNMEASURED_INFLIGHT: u32 = 4096;
const UNMEASURED_BATCH_BYTES: u32 = 64 << 10;

/// Runs one load of queues as `args` say, and proves what became of its messages.
pub(super) fn measure(site: &mut Site, args: &RunArgs, label: &Label) -> Result<Run, RunError> {
    let run = cell::run_id();
    let places = Places::open(site, args, run)?;
    let ledger = QueueLedger::new();
    let cell = Cell { site, args, label, run, places: &places, ledger: &ledger };
    let result = cell.measure();
    let removed = match args.keep {
        true => Ok(()),
        false => places.remove(site),
    };
    site.conclude(result, removed)
}

/// Looks at what a run has kept, and compares it with what the run knew.
pub(super) fn verify(site: &mut Site, proof: &QueueProof) -> Result<Checked, RunError> {
    let ledger = proof.ledger();
    let places = Places::known(site, &proof.queues)?;
    shelf::look(site, &places, proof.run, &ledger)?;
    let found = ledger.audit(0);
    // Each was found, or had been acknowledged, or is lost.
    Ok(Checked { records: found.confirmed, ..checked(&found, 0) })
}

struct Cell<'a> {
    site: &'a mut Site,
    args: &'a RunArgs,
    label: &'a Label,
    run: u32,
    places: &'a Places,
    ledger: &'a QueueLedger,
}

/// What was left in the queues when all was over.
struct Read {
    /// Messages that were looked at and stay; those that were consumed count as deliveries.
    seen: u64,
    /// Failures on the way.
    errors: u64,
}

/// What the window has seen.
struct Outcome {
    tally: Tally,
    window: Window,
    watched: Watched,
    /// Before the load, and when the window closed.
    messages: [Option<u64>; 2],
}

impl<'a> Cell<'a> {
    fn measure(mut self) -> Result<Run, RunError> {
        let started = jiff::Timestamp::now();
        let mut line = ProgressLine::of(self.args, &self.label.text);
        let mut task = self.task();
        let bodies =
            self.args.preload.map(|bytes| bytes.div_ceil(u64::from(task.shape.value_len_mean())));
        if let Some(messages) = bodies.or(self.args.queue.backlog) {
            line.say("publishing the backlog");
            self.publish_before(&task, messages)?;
        }
        if self.args.preload.is_some() {
            task.publishers = 0;
        }
        let before = counters(self.site)?;
        if fault::end_connections(&self.args.faults) {
            self.ledger.forgive();
        }
        let outcome = self.run_measured(&task, &mut line)?;
        let settled = match task.publishers {
            // Another process counts from zero.
            _ if outcome.watched.restarted => None,
            0 => None,
            _ => Some([before, settle(self.site)?]),
        };
        let (found, checked) = self.prove(&task, &outcome, &line)?;
        drop(line);
        let window_ns = self.window_ns(&outcome);
        let measured = Measured {
            args: self.args,
            started,
            consumers: task.consumers,
            window: outcome.window,
            window_ns,
            warmed_up: outcome.watched.warmed_up,
            tally: &outcome.tally,
            beside: None,
            usage: outcome.watched.usage,
            counters: outcome.watched.counters,
            cpu: outcome.watched.cpu,
            pressure: outcome.watched.pressure,
            settled,
            checked,
            host: outcome.watched.host,
            broker: outcome.watched.broker,
            faults: outcome.watched.faults,
            interrupted: self.site.abort.load(Ordering::Relaxed),
            end: outcome.watched.end,
        };
        let mut run = result::build(self.site, &measured);
        run.queue = Some(QueueFigures {
            confirm_ns: run.latency_ns.response.clone(),
            deliver_ns: run.latency_ns.e2e.clone(),
            redelivered: found.redelivered,
            dead_lettered: found.dead_lettered,
            delivered_after_ack: found.counts.delivered_after_ack,
            came_again: found.came_again,
            messages_at_start: outcome.messages[0],
            messages_at_close: outcome.messages[1],
        });
        run.queue_proof = self.proof(&task);
        Ok(run)
    }

    /// Which messages there are, if they stay, whatever becomes of the broker.
    fn proof(&self, task: &Task<'_>) -> Option<QueueProof> {
        let stay = self.args.keep && task.persistent_millionths == 1_000_000;
        stay.then(|| QueueProof::of(self.places.names(), self.run, self.ledger))
    }

    fn task(&self) -> Task<'a> {
        let args = self.args;
        Task {
            places: &self.places.all,
            run: self.run,
            ledger: self.ledger,
            publishers: number(args.producers),
            consumers: number(args.consumers),
            acks: Acks::from(args.acks),
            timing: args.timing(),
            inflight: number(args.inflight),
            linger_ns: cell::nanoseconds(args.linger),
            load: match &args.rate {
                Rate::Max => Load::Closed,
                Rate::Open(arrivals) => Load::Open(arrivals.clone()),
            },
            batch: args.batch,
            shape: Shape {
                value_len: args.size,
                sizes: args.sizes,
                entropy: args.entropy,
                keys: None,
                seed: args.seed,
            },
            messages_per_publisher_max: None,
            persistent_millionths: args.queue.persistent_millionths(),
            prefetch: args.queue.prefetch(),
            ack_mode: args.queue.ack_mode(),
            nack_millionths: args.queue.nack_millionths(),
            purpose: Purpose::Settle,
            waiting: if args.busy_poll { Waiting::BusyPoll } else { Waiting::Park },
            lost: if args.faults.is_empty() { Lost::Stays } else { Lost::Returns },
        }
    }

    /// Publishes so many messages that nobody consumes yet.
    fn publish_before(&mut self, task: &Task<'_>, messages: u64) -> Result<(), RunError> {
        let each = messages.div_ceil(u64::from(task.publishers));
        let task = Task {
            consumers: 0,
            load: Load::Closed,
            inflight: UNMEASURED_INFLIGHT,
            batch: BatchSize::Bytes(UNMEASURED_BATCH_BYTES.max(task.shape.value_len)),
            messages_per_publisher_max: Some(each),
            ..task.clone()
        };
        let tally = self.unmeasured(&task, PRELOAD_NS_MAX)?;
        match tally.errors.first_key_value() {
            Some((code, count)) => {
                Err(RunError::Setup(format!("the backlog was refused: {count} x {code}")))
            }
            None => Ok(()),
        }
    }

    /// Runs the load while this thread watches.
    fn run_measured(
        &mut self,
        task: &Task<'_>,
        line: &mut ProgressLine,
    ) -> Result<Outcome, RunError> {
        let progress = Progress::default();
        let crew = Crew::of(self.site);
        let signals = Signals::new(crew.threads(task), &crew.abort, &progress);
        let timing = Timing::of(self.args);
        let window_of = |start_ns| timing.window(start_ns);
        let at_start = self.places.messages(self.site)?;
        let (tally, mut window, watched) =
            crew.run(task, &signals, window_of, |window, tell| {
                let warmed_up = timing.warm_up(self.site, window, &progress, line, tell);
                let strikes = Strikes::new(&self.args.faults, window);
                let watched = watch(self.site, window, &progress, line, strikes)
                    .map(|seen| Watched { warmed_up, ..seen });
                let at_close = match signals.aborted() {
                    true => Ok(None),
                    false => self.places.messages(self.site).map(Some),
                };
                let emptied = match task.consumers {
                    0 => Ok(()),
                    _ => await_empty(self.site, task, &signals, window.drain_ns),
                };
                signals.drained();
                emptied.and_then(|()| Ok((watched?, at_close?)))
            })?;
        let (watched, at_close) = watched?;
        if monotonic_ns() >= window.drain_ns {
            // Consumers left when their time was up, with messages that they had noted as
            // acknowledged and not told the broker of: these come again.
            self.ledger.forgive();
        }
        self.label.partial.cut(&mut window, &watched, &crew.abort)?;
        Ok(Outcome { tally, window, watched, messages: [Some(at_start), at_close] })
    }

    /// Consumes what is left, and compares what came with what was confirmed. Of a load that a
    /// signal ended nothing is proven; of a broker that ended, if it can be started again.
    fn prove(
        &mut self,
        task: &Task<'a>,
        outcome: &Outcome,
        line: &ProgressLine,
    ) -> Result<(QueueCounts, Checked), RunError> {
        let is_ended = outcome.watched.end.is_some();
        let survives = matches!(task.acks, Acks::Written | Acks::Durable)
            && task.persistent_millionths == 1_000_000
            && self.site.is_spawned();
        let read = match is_ended {
            _ if self.site.abort.load(Ordering::Relaxed) => None,
            true if !survives => None,
            true => {
                line.say("starting the broker again, to empty the queues");
                self.ledger.forgive();
                let restarted = self.site.restart_broker();
                match restarted.and_then(|()| self.read(task, line)) {
                    Err(error) if !matches!(error, RunError::Interrupted) => {
                        line.say(&format!("what it has kept was not read: {error}"));
                        None
                    }
                    read => Some(read?),
                }
            }
            false => Some(self.read(task, line)?),
        };
        let Some(Read { seen, errors }) = read else {
            // Whatever did not come may still be there.
            let found = self.ledger.audit(u64::MAX);
            let checked = Checked { counts: found.counts.clone(), ..Checked::nothing() };
            return Ok((found, checked));
        };
        let left = match self.args.keep {
            true => 0,
            false => self.places.messages(self.site)?,
        };
        let found = self.ledger.audit(left);
        let checked = checked(&found, errors);
        let records = checked.records + seen;
        Ok((found, Checked { records, ..checked }))
    }

    /// Looks at what is left, if it shall stay, or else consumes it.
    fn read(&mut self, task: &Task<'a>, line: &ProgressLine) -> Result<Read, RunError> {
        if !self.args.keep {
            return self.empty(task, line).map(|errors| Read { seen: 0, errors });
        }
        line.say("looking into the queues");
        let mut seen = 0;
        for places in [&self.places.all, &self.places.dead] {
            seen += shelf::look(self.site, places, self.run, self.ledger)?;
        }
        Ok(Read { seen, errors: 0 })
    }

    /// Consumes what is left, and then the dead letters. Gives how many failures there were.
    fn empty(&mut self, task: &Task<'a>, line: &ProgressLine) -> Result<u64, RunError> {
        line.say("emptying the queues");
        let mut errors = 0;
        let places = self.places;
        for (places, purpose) in [(&places.all, Purpose::Settle), (&places.dead, Purpose::Bury)] {
            if places::messages(self.site, places)? == 0 {
                continue;
            }
            let readers = u32::try_from(self.site.cores.generator.len()).unwrap_or(u32::MAX);
            let queues = u32::try_from(places.len()).expect("as many as publishers at most");
            let task = Task {
                places,
                publishers: 0,
                consumers: readers.max(queues),
                prefetch: 0,
                ack_mode: AckMode::Auto,
                nack_millionths: 0,
                purpose,
                lost: Lost::Stays,
                ..task.clone()
            };
            let limit_ns = self.label.read_back_max.map_or(READ_BACK_NS_MAX, cell::nanoseconds);
            errors += self.unmeasured(&task, limit_ns)?.errors.values().sum::<u64>();
        }
        Ok(errors)
    }

    /// Runs a load whose window measures nothing, until its queues are empty if it consumes.
    fn unmeasured(&mut self, task: &Task<'_>, limit_ns: u64) -> Result<Tally, RunError> {
        let progress = Progress::default();
        let crew = Crew::of(self.site);
        let signals = Signals::new(crew.threads(task), &crew.abort, &progress);
        let window_of =
            |start_ns: u64| Window::untimed(start_ns, start_ns.saturating_add(limit_ns));
        let (tally, _, emptied) = crew.run(task, &signals, window_of, |window, _| {
            let emptied = match task.consumers {
                0 => Ok(()),
                _ => await_empty(self.site, task, &signals, window.drain_ns),
            };
            signals.drained();
            emptied
        })?;
        if crew.is_aborted() {
            return Err(RunError::Interrupted);
        }
        emptied?;
        Ok(tally)
    }

    /// Length of the measured window: where consuming alone came to the end, up to there.
    fn window_ns(&self, outcome: &Outcome) -> u64 {
        let Window { open_ns, close_ns, .. } = outcome.window;
        let last_ns = self.ledger.last_ns();
        let is_short = self.args.preload.is_some() && outcome.messages[1] == Some(0);
        match is_short && (open_ns..close_ns).contains(&last_ns) {
            true => (last_ns - open_ns).max(1),
            false => close_ns - open_ns,
        }
    }
}

/// Waits until nobody publishes, and everything that was confirmed has come.
fn await_empty(
    site: &mut Site,
    task: &Task<'_>,
    signals: &Signals<'_>,
    until_ns: u64,
) -> Result<(), RunError> {
    let ledger = task.ledger;
    let (mut settled, mut since_ns) = (ledger.settled(), monotonic_ns());
    while monotonic_ns() < until_ns && !signals.aborted() {
        std::thread::sleep(POLL);
        if settled != ledger.settled() {
            (settled, since_ns) = (ledger.settled(), monotonic_ns());
        }
        if !signals.is_published() || places::messages(site, task.places)? > 0 {
            continue;
        }
        // A queue that says it is empty may still hide what is confirmed but not yet durable.
        let is_missed = monotonic_ns() - since_ns > MISSING_AFTER_NS;
        if settled >= ledger.to_settle() || task.purpose == Purpose::Bury || is_missed {
            break;
        }
    }
    Ok(())
}

fn checked(found: &QueueCounts, read_errors: u64) -> Checked {
    Checked {
        counts: found.counts.clone(),
        records: found.deliveries,
        in_doubt: found.in_doubt,
        passes_cut_short: u64::from(found.left > 0),
        read_errors,
    }
}

fn number(flag: i64) -> u32 {
    u32::try_from(flag).expect("the flag's range is checked when it is parsed")
}
