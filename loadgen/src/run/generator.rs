//! A generator thread: many connections, one loop.

use client::session::Event;
use client::transport::Transport;
use client::{ClientError, Connection};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{io, mem};

use super::consumer::{Consumer, Proof};
use super::lane::{Lane, Ties};
use super::launch::Share;
use super::producer::{Answer, Bench, Producer};
use super::scatter::Scatter;
use super::stretches::Feed;
use super::tally::{CONNECTION_LOST, EffortMeter, Tally, Window};
use super::target::{Target, receive};
use super::template::BatchTemplate;
use super::work::{Lost, Replay, Signals, Waiting, Work};
use crate::integrity::{Coverage, Pass};

/// The longest sleep, so that aborts and ends are noticed.
pub(super) const SLEEP_NS_MAX: u64 = 20_000_000;

/// What a thread leaves behind.
pub(super) struct Yield {
    pub(super) tally: Tally,
    /// Passes to be audited against the joint ledger.
    pub(super) passes: Vec<(Pass, Coverage)>,
}

enum Role {
    Producer(Producer),
    Consumer(Consumer),
}

/// A connected thread that waits for its window.
pub(super) struct Generator<'a, T: Target> {
    work: &'a Work<'a>,
    signals: &'a Signals<'a>,
    share: Share,
    connections: Vec<Connection<T::Transport>>,
    target: T,
}

impl<'a, T: Target> Generator<'a, T> {
    /// Connects everything of `share` to `target`.
    pub(super) fn connect(
        work: &'a Work<'a>,
        signals: &'a Signals<'a>,
        share: Share,
        mut target: T,
    ) -> Result<Self, ClientError> {
        let mut connections = Vec::with_capacity(share.len());
        for (index, number) in share.numbers().enumerate() {
            connections.push(target.connect(work, index, number)?);
        }
        Ok(Self { work, signals, share, connections, target })
    }

    /// Runs the load from the window's start to its end and until all is answered and read.
    pub(super) fn run(self, window: Window) -> io::Result<Yield> {
        // Sleeps must end when a record is due, not up to 50 us later.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        let Self { work, signals, share, connections, target } = self;
        let templates = BatchTemplate::rotation(&work.shape, work.batch);
        let producers = share
            .producers
            .iter()
            .map(|&index| Role::Producer(Producer::new(work, &window, index, &templates)));
        let consumers = share
            .consumers
            .iter()
            .map(|&index| Role::Consumer(Consumer::new(work, &window, index)));
        let lanes = connections
            .into_iter()
            .zip(producers.chain(consumers).zip(share.numbers()))
            .map(Lane::new)
            .collect();
        let mut state = Loop {
            work,
            signals,
            window,
            lanes,
            templates,
            turn: 0,
            scatter: Scatter::default(),
            tally: Tally::new(work.partitions, work.producers, &window),
            wall_offset_ns: wall_offset_ns((work.clock)()),
            producing: true,
            ties: Ties::new(work.lost, signals.progress),
            target,
        };
        let effort = state.run()?;
        Ok(state.finish(effort))
    }
}

struct Loop<'a, T: Target> {
    work: &'a Work<'a>,
    signals: &'a Signals<'a>,
    window: Window,
    target: T,
    lanes: Vec<Lane<T::Transport, Role>>,
    /// Take turns, a step of a producer each.
    templates: Vec<BatchTemplate>,
    turn: usize,
    scatter: Scatter,
    tally: Tally,
    wall_offset_ns: u64,
    producing: bool,
    ties: Ties,
}

impl<T: Target> Loop<'_, T> {
    fn run(&mut self) -> io::Result<EffortMeter> {
        let clock = self.work.clock;
        let mut meter = EffortMeter::default();
        let mut feed = Feed::new(&self.tally);
        // A single connection is asked directly: that saves a call per round.
        let direct = self.work.waiting == Waiting::BusyPoll && self.lanes.len() == 1;
        loop {
            if !self.window.is_timed()
                && let Some(window) = self.signals.timed.get()
            {
                self.window = *window;
                self.tally.timed(window);
                feed = Feed::new(&self.tally);
            }
            let begin_ns = clock();
            meter.at(begin_ns, &self.window);
            feed.at(begin_ns, &self.tally, self.signals.progress.stretches());
            if begin_ns >= self.ties.retry_ns() {
                self.reconnect(begin_ns);
            }
            self.ties.drop_if_asked(&self.target, &mut self.lanes, self.signals.progress);
            let mut moved = false;
            for index in 0..self.lanes.len() {
                self.lanes[index].readable |= direct;
                moved |= self.step(index, begin_ns);
            }
            if self.is_finished(begin_ns) || self.signals.aborted() {
                return Ok(meter);
            }
            if moved {
                meter.busy(begin_ns, clock());
            }
            let timeout_ns = match (moved, self.work.waiting) {
                (true, _) => 0,
                (false, Waiting::BusyPoll) => {
                    self.target.rest();
                    0
                }
                (false, Waiting::Park) => self.sleep_ns(begin_ns),
            };
            if !direct {
                let Self { target, lanes, .. } = self;
                target.wait(timeout_ns, &mut |index| lanes[index].readable = true)?;
            }
        }
    }

    /// Receives, handles and sends on one connection. True if anything moved.
    fn step(&mut self, index: usize, now_ns: u64) -> bool {
        if !self.lanes[index].alive {
            return false;
        }
        match self.try_step(index, now_ns) {
            Ok(moved) => moved,
            Err(error) => {
                self.tally.error(match error.error_code() {
                    Some(code) => code.name(),
                    None => CONNECTION_LOST,
                });
                self.lose(index, now_ns);
                true
            }
        }
    }

    fn try_step(&mut self, index: usize, mut now_ns: u64) -> Result<bool, ClientError> {
        let Self { work, signals, window, lanes, templates, turn, scatter, tally, .. } = self;
        let Lane { connection, role, readable, .. } = &mut lanes[index];
        let mut moved = false;
        if *readable && receive(connection, readable)? > 0 {
            moved = true;
            now_ns = (work.clock)();
        }
        let progress = signals.progress;
        match role {
            Role::Producer(producer) => {
                *turn = (*turn + 1) % templates.len();
                let mut bench = Bench {
                    work,
                    window: *window,
                    template: &mut templates[*turn],
                    scatter,
                    tally,
                    progress,
                    wall_offset_ns: self.wall_offset_ns,
                };
                if moved {
                    handle_answers(connection, producer, &mut bench, now_ns)?;
                }
                connection.send_now()?;
                moved |= producer.pump(connection, &mut bench, now_ns)? > 0;
            }
            Role::Consumer(consumer) => {
                if moved {
                    handle_batches(connection, consumer, work, signals, tally)?;
                }
                connection.send_now()?;
                if consumer.rests_until_ns() <= now_ns {
                    consumer.pump(connection, work, signals)?;
                }
                let mut proof = Proof { work, window: *window, tally, progress };
                consumer.digest(&mut proof, now_ns);
            }
        }
        Ok(moved)
    }

    /// A connection is gone, for ever or until it is made again.
    fn lose(&mut self, index: usize, now_ns: u64) {
        let lane = &mut self.lanes[index];
        let lost = self.ties.lose(lane, now_ns);
        match (&mut lane.role, lost) {
            (Role::Producer(producer), Lost::Stays) => {
                producer.give_up(&mut self.tally, &self.window);
            }
            (Role::Producer(producer), Lost::Returns) => producer.disconnected(&mut self.tally),
            (Role::Consumer(consumer), Lost::Returns) => consumer.disconnected(),
            (Role::Consumer(_), Lost::Stays) => {}
        }
    }

    fn reconnect(&mut self, now_ns: u64) {
        let Self { work, target, lanes, ties, .. } = self;
        let dial = |index, number| target.connect(work, index, number);
        for index in ties.reconnect(lanes, now_ns, dial) {
            self.tally.reconnected += 1;
            self.signals.progress.reconnected();
            if let Role::Producer(producer) = &mut self.lanes[index].role {
                producer.reconnected(self.work, (self.work.clock)());
            }
        }
    }

    fn is_finished(&mut self, now_ns: u64) -> bool {
        let time_is_up = now_ns >= self.window.drain_ns;
        if self.producing && (time_is_up || self.producers_done(now_ns)) {
            self.producing = false;
            self.signals.producing_ended(&self.tally.ends);
        }
        if time_is_up {
            return true;
        }
        let repeats = matches!(self.work.replay, Replay::Repeat(_));
        !self.producing
            && self.lanes.iter().all(|lane| match &lane.role {
                Role::Consumer(consumer) if !self.ties.is_gone(lane) => {
                    consumer.is_done() || repeats && now_ns >= self.window.close_ns
                }
                Role::Consumer(_) | Role::Producer(_) => true,
            })
    }

    fn producers_done(&self, now_ns: u64) -> bool {
        // Cheap in the common case: no producer is done before the window closes, unless its
        // records are counted.
        if now_ns < self.window.close_ns && self.work.records_per_producer_max.is_none() {
            let only_consumers = self
                .lanes
                .iter()
                .all(|lane| matches!(lane.role, Role::Consumer(_)) || self.ties.is_gone(lane));
            return only_consumers;
        }
        self.lanes.iter().all(|lane| match &lane.role {
            Role::Producer(producer) => {
                self.ties.is_gone(lane) || producer.is_done(&self.window, now_ns)
            }
            Role::Consumer(_) => true,
        })
    }

    /// How long nothing can happen but an event.
    fn sleep_ns(&mut self, now_ns: u64) -> u64 {
        let Self { work, signals, window, lanes, templates, turn, scatter, tally, .. } = self;
        let bench = Bench {
            work,
            window: *window,
            template: &mut templates[*turn],
            scatter,
            tally,
            progress: signals.progress,
            wall_offset_ns: self.wall_offset_ns,
        };
        let wakes = lanes.iter().filter(|lane| lane.alive).map(|lane| match &lane.role {
            // A socket that takes no more bytes says so when it does again.
            Role::Producer(producer) => producer.wakes_at(&bench),
            Role::Consumer(consumer) => consumer.rests_until_ns(),
        });
        // Who was due already and could not send waits for an answer or for room: for an event.
        let next = wakes.filter(|&wake_ns| wake_ns > now_ns).min().unwrap_or(u64::MAX);
        let next = next.min(self.ties.retry_ns().max(now_ns));
        (next - now_ns).min(SLEEP_NS_MAX)
    }

    fn finish(mut self, meter: EffortMeter) -> Yield {
        self.tally.effort = meter.finish();
        let mut passes = Vec::new();
        for lane in mem::take(&mut self.lanes) {
            match lane.role {
                Role::Producer(mut producer) => producer.give_up(&mut self.tally, &self.window),
                Role::Consumer(consumer) => passes.extend(consumer.finish(self.signals)),
            }
        }
        if self.producing {
            self.signals.producing_ended(&self.tally.ends);
        }
        Yield { tally: self.tally, passes }
    }
}

fn handle_answers(
    connection: &mut Connection<impl Transport>,
    producer: &mut Producer,
    bench: &mut Bench<'_>,
    now_ns: u64,
) -> Result<(), ClientError> {
    while let Some(event) = connection.session_mut().next_event()? {
        let (id, answer) = match event {
            Event::Produced(id, reply) => (id, Answer::Entries(reply.entries, reply.timing)),
            Event::Refused(id, refusal) => (id, Answer::Refused(refusal.code)),
            _ => continue,
        };
        producer.answered(bench, id, &answer, now_ns);
    }
    Ok(())
}

fn handle_batches(
    connection: &mut Connection<impl Transport>,
    consumer: &mut Consumer,
    work: &Work<'_>,
    signals: &Signals<'_>,
    tally: &mut Tally,
) -> Result<(), ClientError> {
    while let Some(event) = connection.session_mut().next_event()? {
        match event {
            Event::Fetched(_, reply) => consumer.take(&reply, work, signals, tally),
            Event::Refused(_, refusal) => consumer.refused(refusal.error_code(), tally),
            _ => {}
        }
    }
    Ok(())
}

fn wall_offset_ns(now_ns: u64) -> u64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX).saturating_sub(now_ns)
}
