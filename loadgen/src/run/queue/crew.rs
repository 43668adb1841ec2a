//! The threads of one load of queues: many connections each, one loop each.

use client::session::{Event, QueueEvent};
use client::transport::TcpTransport;
use client::{ClientError, Connection};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use super::super::RunError;
use super::super::choices::Pin;
use super::super::flight::Answered;
use super::super::generator::SLEEP_NS_MAX;
use super::super::lane::{self, Ties};
use super::super::launch::{START_DELAY_NS, Share, shares};
use super::super::site::Site;
use super::super::stretches::Feed;
use super::super::tally::{CONNECTION_LOST, EffortMeter, Tally, Window};
use super::super::target::{Sockets, Target, receive};
use super::super::work::{Lost, Waiting};
use super::consumer::{Consumer, Proof};
use super::publisher::{Bench, Publisher};
use super::task::{Signals, Task};
use super::template::MessageTemplate;
use crate::clock::monotonic_ns;
use crate::cores::pin_to;

/// Where the threads of loads run.
pub(super) struct Crew {
    cores: Vec<usize>,
    pin: Pin,
    /// Set from outside: end at once.
    pub(super) abort: Arc<AtomicBool>,
}

impl Crew {
    /// Threads on the generator's cores.
    pub(super) fn of(site: &Site) -> Self {
        let (cores, abort) = (site.cores.generator.clone(), Arc::clone(&site.abort));
        Self { cores, pin: site.pin, abort }
    }

    /// How many threads a load has.
    pub(super) fn threads(&self, task: &Task<'_>) -> usize {
        shares(task.publishers, task.consumers, self.cores.len()).len()
    }

    /// Whether a signal ended the load.
    pub(super) fn is_aborted(&self) -> bool {
        self.abort.load(Ordering::Relaxed)
    }

    /// Runs a load in one window; `watch` runs on the calling thread meanwhile, times the window if
    /// that is still open, and says when all is drained.
    pub(super) fn run<T>(
        &self,
        task: &Task<'_>,
        signals: &Signals<'_>,
        window_of: impl FnOnce(u64) -> Window,
        watch: impl FnOnce(&mut Window, &dyn Fn(Window)) -> T,
    ) -> Result<(Tally, Window, T), RunError> {
        thread::scope(|scope| {
            let (ready, connected) = channel();
            let mut threads = Vec::new();
            let shares = shares(task.publishers, task.consumers, self.cores.len());
            for (share, &core) in shares.into_iter().zip(&self.cores) {
                let ready = ready.clone();
                let core = (self.pin == Pin::Split).then_some(core);
                threads.push(scope.spawn(move || generate(task, signals, &share, core, &ready)));
            }
            let mut failure = None;
            for _ in &threads {
                let word: Result<(), RunError> =
                    connected.recv().expect("each thread reports once");
                failure = failure.or(word.err());
            }
            if let Some(failure) = failure {
                signals.window.set(None).expect("set only once");
                return Err(failure);
            }
            let mut window = window_of(monotonic_ns() + START_DELAY_NS);
            signals.window.set(Some(window)).expect("set only once");
            let tell = |window| signals.timed.set(window).expect("set only once");
            let watched = watch(&mut window, &tell);
            let mut tally = Tally::new(0, 0, &window);
            for handle in threads {
                if let Some(left) = handle.join().expect("a generator thread does not panic")? {
                    tally.merge(&left);
                }
            }
            Ok((tally, window, watched))
        })
    }
}

fn generate(
    task: &Task<'_>,
    signals: &Signals<'_>,
    share: &Share,
    core: Option<usize>,
    ready: &Sender<Result<(), RunError>>,
) -> Result<Option<Tally>, RunError> {
    let pinned = core.map_or(Ok(()), |core| pin_to(&[core])).map_err(RunError::Io);
    let connected = pinned.and_then(|()| connect(task, share).map_err(RunError::Client));
    let report = "the launching thread waits for it";
    let (lanes, sockets) = match connected {
        Ok(connected) => {
            ready.send(Ok(())).expect(report);
            connected
        }
        Err(error) => {
            ready.send(Err(error)).expect(report);
            return Ok(None);
        }
    };
    let Some(window) = signals.window.wait() else { return Ok(None) };
    let templates = MessageTemplate::rotation(&task.shape, task.batch);
    // A frame fits whichever template's turn it is.
    let frame_max = templates.iter().map(MessageTemplate::count_max).min();
    let frame_max = frame_max.expect("there is a template");
    let publishers = share.producers.iter();
    let publishers =
        publishers.map(|&index| Role::Publisher(Publisher::new(task, window, index, frame_max)));
    let consumers = share.consumers.iter().map(|&index| Role::Consumer(Consumer::new(index)));
    let roles = publishers.chain(consumers).zip(share.numbers());
    let lanes = lanes.into_iter().zip(roles);
    let lanes = lanes.map(Lane::new).collect();
    let tally = Tally::new(0, 0, window);
    let state = Loop {
        task,
        signals,
        window: *window,
        sockets,
        lanes,
        templates,
        turn: 0,
        tally,
        is_publishing: true,
        ties: Ties::new(task.lost, signals.progress),
    };
    Ok(Some(state.run()?))
}

fn connect(
    task: &Task<'_>,
    share: &Share,
) -> Result<(Vec<Connection<TcpTransport>>, Sockets), ClientError> {
    let lost = |error: io::Error| ClientError::Lost { source: Some(error) };
    let sockets = Sockets::new().map_err(lost)?;
    let dial = |(lane, number)| sockets.dial(&task.place(number).address, lane);
    let connections = share.numbers().enumerate().map(dial).collect::<Result<_, _>>()?;
    Ok((connections, sockets))
}

type Lane = lane::Lane<TcpTransport, Role>;

enum Role {
    Publisher(Publisher),
    Consumer(Consumer),
}

struct Loop<'a> {
    task: &'a Task<'a>,
    signals: &'a Signals<'a>,
    window: Window,
    sockets: Sockets,
    lanes: Vec<Lane>,
    /// Take turns, a step of a publisher each.
    templates: Vec<MessageTemplate>,
    turn: usize,
    tally: Tally,
    is_publishing: bool,
    ties: Ties,
}

impl Loop<'_> {
    fn run(mut self) -> io::Result<Tally> {
        // Sleeps must end when a message is due, not up to 50 us later.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        let mut meter = EffortMeter::default();
        let mut feed = Feed::new(&self.tally);
        // What came before the load begins would be in no window.
        let early_ns = self.window.start_ns.saturating_sub(monotonic_ns());
        std::thread::sleep(std::time::Duration::from_nanos(early_ns));
        (0..self.lanes.len()).for_each(|index| self.begin(index));
        loop {
            if !self.window.is_timed()
                && let Some(window) = self.signals.timed.get()
            {
                self.window = *window;
                self.tally.timed(window);
                feed = Feed::new(&self.tally);
            }
            let begin_ns = monotonic_ns();
            meter.at(begin_ns, &self.window);
            feed.at(begin_ns, &self.tally, self.signals.progress.stretches());
            if begin_ns >= self.ties.retry_ns() {
                self.reconnect(begin_ns);
            }
            self.ties.drop_if_asked(&self.sockets, &mut self.lanes, self.signals.progress);
            let mut moved = false;
            for index in 0..self.lanes.len() {
                moved |= self.step(index, begin_ns);
            }
            if self.is_finished(begin_ns) || self.signals.aborted() {
                break;
            }
            if moved {
                meter.busy(begin_ns, monotonic_ns());
            }
            let timeout_ns = match (moved, self.task.waiting) {
                (true, _) => 0,
                (false, Waiting::BusyPoll) => {
                    self.sockets.rest();
                    0
                }
                (false, Waiting::Park) => self.sleep_ns(begin_ns),
            };
            let Self { lanes, sockets, .. } = &mut self;
            sockets.wait(timeout_ns, &mut |index| lanes[index].readable = true)?;
        }
        self.tally.effort = meter.finish();
        for lane in &mut self.lanes {
            if let Role::Publisher(publisher) = &mut lane.role {
                publisher.give_up(self.task, &mut self.tally, &self.window);
            }
        }
        if self.is_publishing {
            self.signals.publishing_ended();
        }
        Ok(self.tally)
    }

    fn begin(&mut self, index: usize) {
        let lane = &mut self.lanes[index];
        if let Role::Consumer(consumer) = &lane.role {
            let asked = consumer.subscribe(lane.connection.session_mut(), self.task);
            if let Err(error) = asked {
                self.lose(index, &error, monotonic_ns());
            }
        }
    }

    /// Receives, handles and sends on one connection. True if anything moved.
    fn step(&mut self, index: usize, now_ns: u64) -> bool {
        if !self.lanes[index].alive {
            return false;
        }
        self.try_step(index, now_ns).unwrap_or_else(|error| {
            self.lose(index, &error, now_ns);
            true
        })
    }

    fn try_step(&mut self, index: usize, mut now_ns: u64) -> Result<bool, ClientError> {
        let Self { task, signals, window, lanes, templates, turn, tally, .. } = self;
        let Lane { connection, role, readable, .. } = &mut lanes[index];
        let mut moved = false;
        if *readable && receive(connection, readable)? > 0 {
            moved = true;
            now_ns = monotonic_ns();
        }
        let (window, progress) = (*window, signals.progress);
        match role {
            Role::Publisher(publisher) => {
                *turn = (*turn + 1) % templates.len();
                let template = &mut templates[*turn];
                let mut bench = Bench { task, window, template, tally, progress };
                if moved {
                    handle_confirms(connection, publisher, &mut bench, now_ns)?;
                }
                connection.send_now()?;
                moved |= publisher.pump(connection, &mut bench, now_ns)? > 0;
            }
            Role::Consumer(consumer) => {
                if moved {
                    let mut proof = Proof { task, window, tally, progress };
                    handle_deliveries(connection, consumer, &mut proof, now_ns)?;
                }
                consumer.pump(connection, task, signals)?;
            }
        }
        Ok(moved)
    }

    /// A connection is gone, for ever or until it is made again.
    fn lose(&mut self, index: usize, error: &ClientError, now_ns: u64) {
        self.tally.error(error.error_code().map_or(CONNECTION_LOST, |code| code.name()));
        let lane = &mut self.lanes[index];
        let lost = self.ties.lose(lane, now_ns);
        match (&mut lane.role, lost) {
            (Role::Publisher(publisher), Lost::Stays) => {
                publisher.give_up(self.task, &mut self.tally, &self.window);
            }
            (Role::Publisher(publisher), Lost::Returns) => publisher.disconnected(self.task),
            (Role::Consumer(consumer), Lost::Returns) => {
                // With it acknowledgements that nobody waits for.
                self.task.ledger.forgive();
                consumer.disconnected();
            }
            (Role::Consumer(_), Lost::Stays) => {}
        }
    }

    fn reconnect(&mut self, now_ns: u64) {
        let Self { task, sockets, lanes, ties, .. } = self;
        let dial = |index, number| sockets.dial(&task.place(number).address, index);
        for index in ties.reconnect(lanes, now_ns, dial) {
            self.tally.reconnected += 1;
            self.signals.progress.reconnected();
            if let Role::Publisher(publisher) = &mut self.lanes[index].role {
                publisher.reconnected(self.task, monotonic_ns());
            }
            self.begin(index);
        }
    }

    fn is_finished(&mut self, now_ns: u64) -> bool {
        let time_is_up = now_ns >= self.window.drain_ns;
        if self.is_publishing && (time_is_up || self.publishers_done(now_ns)) {
            self.is_publishing = false;
            self.signals.publishing_ended();
        }
        let consumers_done = self.lanes.iter().all(|lane| match &lane.role {
            Role::Consumer(consumer) => self.ties.is_gone(lane) || consumer.is_done(),
            Role::Publisher(_) => true,
        });
        time_is_up || !self.is_publishing && consumers_done
    }

    fn publishers_done(&self, now_ns: u64) -> bool {
        self.lanes.iter().all(|lane| match &lane.role {
            Role::Publisher(publisher) => {
                self.ties.is_gone(lane) || publisher.is_done(&self.window, now_ns)
            }
            Role::Consumer(_) => true,
        })
    }

    /// How long nothing can happen but an event.
    fn sleep_ns(&mut self, now_ns: u64) -> u64 {
        let Self { task, signals, window, lanes, templates, turn, tally, .. } = self;
        let (template, progress) = (&mut templates[*turn], signals.progress);
        let bench = Bench { task, window: *window, template, tally, progress };
        let wakes = lanes.iter().filter(|lane| lane.alive).map(|lane| match &lane.role {
            // A socket that takes no more bytes says so when it does again.
            Role::Publisher(publisher) => publisher.wakes_at(&bench),
            Role::Consumer(_) => u64::MAX,
        });
        // Who was due already and could not send waits for an answer or for room: for an event.
        let next = wakes.filter(|&wake_ns| wake_ns > now_ns).min().unwrap_or(u64::MAX);
        let next = next.min(self.ties.retry_ns().max(now_ns));
        (next - now_ns).min(SLEEP_NS_MAX)
    }
}

fn handle_confirms(
    connection: &mut Connection<TcpTransport>,
    publisher: &mut Publisher,
    bench: &mut Bench<'_>,
    now_ns: u64,
) -> Result<(), ClientError> {
    while let Some(event) = connection.session_mut().next_event()? {
        match event {
            Event::Queue(id, QueueEvent::Published(reply)) => {
                let answered = Answered { at_ns: now_ns, timing: reply.timing };
                publisher.confirmed(bench, id, answered);
            }
            Event::Refused(id, refusal) => publisher.refused(bench, id, refusal.code, now_ns),
            _ => {}
        }
    }
    Ok(())
}

fn handle_deliveries(
    connection: &mut Connection<TcpTransport>,
    consumer: &mut Consumer,
    proof: &mut Proof<'_>,
    now_ns: u64,
) -> Result<(), ClientError> {
    while let Some(event) = connection.session_mut().next_event()? {
        match event {
            Event::Queue(_, QueueEvent::Delivered(deliver)) => {
                consumer.take(&deliver, proof, now_ns);
            }
            Event::Queue(_, QueueEvent::Consuming(reply)) => {
                consumer.subscribed(reply.consumer.get());
            }
            Event::Pong(id) => consumer.answered(id),
            Event::Refused(_, refusal) => {
                let code = refusal.error_code().map_or("unknown", |code| code.name());
                proof.tally.error(code);
            }
            _ => {}
        }
    }
    Ok(())
}
