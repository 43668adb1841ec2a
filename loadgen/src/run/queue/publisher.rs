//! One publisher: decides what to send next, and notes what became of it.

use client::session::RequestId;
use client::transport::TcpTransport;
use client::{ClientError, Connection};
use std::ops::Range;
use wire::ErrorCode;
use wire::limits::FRAME_HEADER_BYTES;

use super::super::flight::{Answered, Due, Times, record_acked, record_latencies};
use super::super::tally::{Tally, Window};
use super::super::work::Progress;
use super::task::Task;
use super::template::{Keeping, MessageTemplate};
use crate::clock::monotonic_ns;
use crate::payload::Header;
use crate::schedule::{Load, Member, Schedule};

/// A refused publisher rests this long, so that it does not hammer a broker that asks for mercy.
const REFUSED_PAUSE_NS: u64 = 1_000_000;
/// Frames that one publisher sends before others get their turn.
const FRAMES_PER_TURN_MAX: u32 = 16;
/// Numbers that a publisher takes at once.
const NUMBERS_CLAIMED: u64 = 1 << 16;
/// More than a frame has around its messages.
const FRAME_OVERHEAD_BYTES: usize = FRAME_HEADER_BYTES + 64;

/// What a publisher needs from its thread for each step.
pub(super) struct Bench<'a> {
    pub(super) task: &'a Task<'a>,
    pub(super) window: Window,
    pub(super) template: &'a mut MessageTemplate,
    pub(super) tally: &'a mut Tally,
    pub(super) progress: &'a Progress,
}

pub(super) struct Publisher {
    index: u32,
    pacing: Pacing,
    /// Messages of a full frame.
    frame_max: u32,
    /// Frames under way, by the slot of their request.
    flights: Vec<Option<Flight>>,
    unconfirmed: u32,
    /// Numbers for the next messages.
    numbers: Range<u64>,
    messages_left: u64,
    /// Millionths of a persistent frame that are owed.
    persistence: u32,
    paused_until_ns: u64,
    /// When the next frame is full, if it may wait for that.
    full_ns: u64,
    /// Messages sent so far that were due while measuring.
    offered: u64,
    /// When something last stood in its way: a full window, or a socket that took no more.
    unblocked_ns: u64,
}

enum Pacing {
    Open(Schedule),
    Closed,
}

/// A frame that has no answer yet.
struct Flight {
    numbers: Range<u64>,
    /// Of all its bodies.
    body_bytes: u64,
    times: Times,
}

impl Flight {
    fn count(&self) -> u32 {
        u32::try_from(self.numbers.end - self.numbers.start).expect("a frame's messages")
    }
}

impl Publisher {
    /// Publisher `index`, whose load begins with the window.
    pub(super) fn new(task: &Task<'_>, window: &Window, index: u32, frame_max: u32) -> Self {
        let pacing = match &task.load {
            Load::Open(arrivals) => {
                let member = Member { index, of: task.publishers };
                Pacing::Open(Schedule::new(arrivals, window.span(), member, task.shape.seed))
            }
            Load::Closed => Pacing::Closed,
        };
        let mut publisher = Self {
            index,
            pacing,
            frame_max: frame_max.min(task.inflight),
            flights: Vec::new(),
            unconfirmed: 0,
            numbers: 0..0,
            messages_left: task.messages_per_publisher_max.unwrap_or(u64::MAX),
            persistence: 0,
            paused_until_ns: 0,
            full_ns: u64::MAX,
            offered: 0,
            unblocked_ns: 0,
        };
        publisher.look_ahead(task);
        publisher
    }

    /// Notes when the next frame is full. Without a linger it does not wait for that.
    fn look_ahead(&mut self, task: &Task<'_>) {
        if let Pacing::Open(schedule) = &self.pacing
            && task.linger_ns > 0
        {
            let room = self.frame_max.min(task.inflight - self.unconfirmed).max(1);
            self.full_ns = schedule.due_ns(u64::from(room) - 1);
        }
    }

    /// Sends what is due and has room in the window. Gives the number of frames.
    pub(super) fn pump(
        &mut self,
        connection: &mut Connection<TcpTransport>,
        bench: &mut Bench<'_>,
        now_ns: u64,
    ) -> Result<u32, ClientError> {
        let mut sent = 0;
        while sent < FRAMES_PER_TURN_MAX && self.may_send(bench, now_ns) {
            let bytes = bench.template.messages(self.frame_max).len() + FRAME_OVERHEAD_BYTES;
            let session = connection.session_mut();
            // What the socket does not take stays in the session: wait until it has gone.
            if !session.outgoing().is_empty() || !session.has_room(bytes) {
                self.unblocked_ns = now_ns;
                break;
            }
            let ready_ns = self.ready_ns(bench, now_ns);
            let (numbers, due) = self.encode(bench, now_ns);
            let count = u32::try_from(numbers.end - numbers.start).expect("a frame's messages");
            let sent_ns = monotonic_ns();
            let messages = bench.template.messages(count);
            let (place, task) = (bench.task.place(self.index), bench.task);
            let how = (task.acks, task.timing);
            let id = session.publish_timed(&place.id, how, count, messages)?;
            let body_bytes = bench.template.body_bytes(count);
            self.sent(id, Flight { numbers, body_bytes, times: Times { due, ready_ns, sent_ns } });
            self.look_ahead(bench.task);
            connection.send_now()?;
            sent += 1;
        }
        Ok(sent)
    }

    /// The messages of a frame are taken.
    pub(super) fn confirmed(
        &mut self,
        bench: &mut Bench<'_>,
        id: RequestId,
        answered: Answered<'_>,
    ) {
        let now_ns = answered.at_ns;
        let inflight = bench.task.inflight;
        let Some(flight) = self.answered(id, inflight, now_ns) else { return };
        let count = flight.count();
        bench.task.ledger.confirmed(flight.numbers);
        bench.progress.acked(count.into());
        record_acked(bench.tally, &bench.window, count.into(), flight.body_bytes, now_ns);
        let live = &bench.progress.latencies;
        record_latencies(bench.tally, &bench.window, live, flight.times, count, answered);
    }

    /// The messages of a frame were refused.
    pub(super) fn refused(&mut self, bench: &mut Bench<'_>, id: RequestId, code: u16, now_ns: u64) {
        let inflight = bench.task.inflight;
        let Some(flight) = self.answered(id, inflight, now_ns) else { return };
        self.paused_until_ns = now_ns + REFUSED_PAUSE_NS;
        let known = ErrorCode::from_u16(code);
        match known {
            Some(known) => bench.tally.error(known.name()),
            None => bench.tally.error(&format!("code_{code}")),
        }
        // These may have been taken; all other codes say that they were not.
        if matches!(known, None | Some(ErrorCode::StorageFailed | ErrorCode::TimedOut)) {
            bench.task.ledger.in_doubt(flight.numbers);
        }
    }

    /// The connection is lost: what has no answer stays in doubt.
    pub(super) fn disconnected(&mut self, task: &Task<'_>) {
        for flight in self.flights.iter_mut().filter_map(Option::take) {
            task.ledger.in_doubt(flight.numbers);
        }
        self.unconfirmed = 0;
    }

    /// There is a new connection. Messages that were due meanwhile leave late.
    pub(super) fn reconnected(&mut self, task: &Task<'_>, now_ns: u64) {
        self.unblocked_ns = now_ns;
        self.paused_until_ns = 0;
        self.look_ahead(task);
    }

    /// The connection is lost for ever, or time is up: nothing more is sent.
    pub(super) fn give_up(&mut self, task: &Task<'_>, tally: &mut Tally, window: &Window) {
        self.disconnected(task);
        tally.offered_records += std::mem::take(&mut self.offered);
        // Without a window no message is due.
        if let Pacing::Open(schedule) = &mut self.pacing
            && window.is_timed()
        {
            while let Some(due_ns) = schedule.take_due(window.close_ns - 1) {
                tally.offered_records += u64::from(window.measures(due_ns));
                tally.unsent_records += 1;
            }
        }
        self.messages_left = 0;
    }

    /// Whether it has sent all and has all answers.
    pub(super) fn is_done(&self, window: &Window, now_ns: u64) -> bool {
        self.unconfirmed == 0 && self.is_exhausted(window, now_ns)
    }

    /// When it wants to send next, if not only an answer can let it.
    pub(super) fn wakes_at(&self, bench: &Bench<'_>) -> u64 {
        if self.unconfirmed >= bench.task.inflight || self.messages_left == 0 {
            return u64::MAX;
        }
        let due = match &self.pacing {
            Pacing::Open(schedule) if schedule.next_ns() < bench.window.close_ns => {
                self.frame_ready_at(schedule, bench.task)
            }
            Pacing::Closed if self.paused_until_ns != 0 => 0,
            Pacing::Open(_) | Pacing::Closed => return u64::MAX,
        };
        due.max(self.paused_until_ns)
    }

    fn answered(&mut self, id: RequestId, inflight: u32, now_ns: u64) -> Option<Flight> {
        let flight = self.flights.get_mut(id.slot()).and_then(Option::take)?;
        if self.unconfirmed == inflight {
            self.unblocked_ns = now_ns;
        }
        self.unconfirmed -= flight.count();
        Some(flight)
    }

    fn is_exhausted(&self, window: &Window, now_ns: u64) -> bool {
        let is_past_end = match &self.pacing {
            Pacing::Open(schedule) => schedule.next_ns() >= window.close_ns,
            Pacing::Closed => now_ns >= window.close_ns,
        };
        is_past_end || self.messages_left == 0
    }

    fn may_send(&self, bench: &Bench<'_>, now_ns: u64) -> bool {
        let has_room = self.unconfirmed < bench.task.inflight
            && now_ns >= self.paused_until_ns
            && !self.is_exhausted(&bench.window, now_ns);
        has_room
            && match &self.pacing {
                Pacing::Open(schedule) => self.frame_ready_at(schedule, bench.task) <= now_ns,
                Pacing::Closed => true,
            }
    }

    /// When the next frame is full, or has lingered long enough.
    fn frame_ready_at(&self, schedule: &Schedule, task: &Task<'_>) -> u64 {
        // A frame that the end of the window leaves short waits no longer than that.
        self.full_ns.min(schedule.next_ns().saturating_add(task.linger_ns))
    }

    /// When the next frame could leave at the earliest, for all that the generator has to do.
    fn ready_ns(&self, bench: &Bench<'_>, now_ns: u64) -> u64 {
        let due_ns = match &self.pacing {
            Pacing::Open(schedule) => self.frame_ready_at(schedule, bench.task),
            Pacing::Closed => now_ns,
        };
        due_ns.max(self.unblocked_ns).max(self.paused_until_ns)
    }

    /// Fills the template with the next messages.
    fn encode(&mut self, bench: &mut Bench<'_>, now_ns: u64) -> (Range<u64>, Due) {
        let task = bench.task;
        let most = self.frame_max.min(task.inflight - self.unconfirmed);
        let most = u64::from(most).min(self.messages_left);
        if self.numbers.end - self.numbers.start < most {
            // Those that are left over stay unused.
            self.numbers = task.ledger.claim(NUMBERS_CLAIMED);
        }
        let keeping = self.next_keeping(task.persistent_millionths);
        let first = self.numbers.start;
        let mut header = Header {
            run: task.run,
            producer: self.index,
            partition: 0,
            sequence: first,
            intended_ns: now_ns,
            sent_ns: now_ns,
        };
        let due = match &mut self.pacing {
            Pacing::Open(schedule) => {
                let before = schedule.clone();
                let until_ns = now_ns.min(bench.window.close_ns - 1);
                let mut index = 0;
                while u64::from(index) < most
                    && let Some(due_ns) = schedule.take_due(until_ns)
                {
                    header.intended_ns = due_ns;
                    bench.template.put(index, keeping, &header);
                    header.sequence += 1;
                    index += 1;
                    self.offered += u64::from(bench.window.measures(due_ns));
                }
                Due::Scheduled(before)
            }
            Pacing::Closed => {
                for index in 0..u32::try_from(most).expect("at most a full frame") {
                    bench.template.put(index, keeping, &header);
                    header.sequence += 1;
                }
                Due::At(now_ns)
            }
        };
        self.numbers.start = header.sequence;
        self.messages_left -= header.sequence - first;
        (first..header.sequence, due)
    }

    /// Spreads persistent frames evenly over all.
    fn next_keeping(&mut self, persistent_millionths: u32) -> Keeping {
        self.persistence += persistent_millionths;
        match self.persistence.checked_sub(1_000_000) {
            Some(rest) => {
                self.persistence = rest;
                Keeping::Persistent
            }
            None => Keeping::Transient,
        }
    }

    fn sent(&mut self, id: RequestId, flight: Flight) {
        self.unconfirmed += flight.count();
        if id.slot() >= self.flights.len() {
            self.flights.resize_with(id.slot() + 1, || None);
        }
        self.flights[id.slot()] = Some(flight);
    }
}
