//! One producer: decides what to send next, and notes what became of it.

use client::session::{ProduceOptions, RequestId};
use client::transport::Transport;
use client::{ClientError, Connection};
use std::collections::VecDeque;
use wire::produce::{ReplyEntry, Timing};
use wire::{Acks, ErrorCode};

use super::flight::{Answered, record_acked, record_latencies};
use super::flight::{Due, Flight, Part, Parts, Times};
use super::records::KeyDraw;
use super::scatter::{Dealer, Scatter};
use super::tally::{Tally, Window};
use super::template::BatchTemplate;
use super::work::{Progress, Work};
use crate::payload::Header;
use crate::schedule::{Load, Member, Schedule};

/// A refused producer rests this long, so that it does not hammer a broker that asks for mercy.
const REFUSED_PAUSE_NS: u64 = 1_000_000;
/// Batches that one producer sends before others get their turn.
const BATCHES_PER_TURN_MAX: u32 = 16;

/// What a producer needs from its thread for each step.
pub(super) struct Bench<'a> {
    pub(super) work: &'a Work<'a>,
    pub(super) window: Window,
    pub(super) template: &'a mut BatchTemplate,
    pub(super) scatter: &'a mut Scatter,
    pub(super) tally: &'a mut Tally,
    pub(super) progress: &'a Progress,
    /// Wall clock less monotonic clock.
    pub(super) wall_offset_ns: u64,
}

pub(super) struct Producer {
    index: u32,
    pacing: Pacing,
    dealer: Dealer,
    /// Records of a full request.
    records_max: u32,
    next_sequence: Vec<u64>,
    flights: Vec<Option<Flight>>,
    unanswered: u32,
    records_left: u64,
    paused_until_ns: u64,
    /// When a slot became free, or the socket was last seen to take no more.
    unblocked_ns: u64,
    /// When the next batch is full, if it may wait for that.
    full_ns: u64,
    /// Records sent so far that were due while measuring.
    offered_records: u64,
}

enum Pacing {
    Open(Schedule),
    /// When each free slot became free, oldest first.
    Closed(VecDeque<u64>),
}

/// What an answer said.
pub(super) enum Answer<'a> {
    /// What became of each batch, in their order, and where the time went if that was asked.
    Entries(&'a [ReplyEntry], Option<&'a Timing>),
    /// All were refused with this code.
    Refused(u16),
}

impl Producer {
    /// Producer `index`, whose load begins with the window.
    pub(super) fn new(
        work: &Work<'_>,
        window: &Window,
        index: u32,
        templates: &[BatchTemplate],
    ) -> Self {
        let pacing = match &work.load {
            Load::Open(arrivals) => {
                let member = Member { index, of: work.producers };
                Pacing::Open(Schedule::new(arrivals, window.span(), member, work.shape.seed))
            }
            Load::Closed => Pacing::Closed((0..work.inflight).map(|_| window.start_ns).collect()),
        };
        let keys = work.shape.keys.map(|keys| KeyDraw::new(&keys, work.shape.seed, index));
        let dealer = Dealer::new(work.partitioner, keys, index);
        let partitions = work.routing.of_producer(index).len();
        let records_max = templates.iter().map(|template| match dealer.scatters() {
            true => Scatter::records_max(template, work.partitioner, partitions),
            false => template.records_max(),
        });
        // A request fits whichever template's turn it is.
        let records_max = records_max.min().expect("there is a template");
        let mut producer = Self {
            index,
            pacing,
            dealer,
            records_max,
            next_sequence: vec![0; work.partitions as usize],
            flights: Vec::new(),
            unanswered: 0,
            records_left: work.records_per_producer_max.unwrap_or(u64::MAX),
            paused_until_ns: 0,
            unblocked_ns: 0,
            full_ns: u64::MAX,
            offered_records: 0,
        };
        producer.look_ahead(work);
        producer
    }

    /// Notes when the next batch is full. Without a linger it does not wait for that.
    fn look_ahead(&mut self, work: &Work<'_>) {
        if let Pacing::Open(schedule) = &self.pacing
            && work.linger_ns > 0
        {
            self.full_ns = schedule.due_ns(u64::from(self.records_max) - 1);
        }
    }

    /// Sends what is due and has a free slot. Gives the number of batches.
    pub(super) fn pump(
        &mut self,
        connection: &mut Connection<impl Transport>,
        bench: &mut Bench<'_>,
        now_ns: u64,
    ) -> Result<u32, ClientError> {
        let work = bench.work;
        let options =
            ProduceOptions { acks: work.acks, timing: work.timing, ..ProduceOptions::default() };
        let mut sent = 0;
        while sent < BATCHES_PER_TURN_MAX && self.may_send(bench, now_ns) {
            let (session, transport) = connection.parts_mut();
            // Batches that the socket does not take are copied: wait until it has taken the last.
            if !session.outgoing().is_empty()
                || !session.has_room(self.frame_bytes_max(bench.template))
            {
                self.unblocked_ns = now_ns;
                break;
            }
            let ready_ns = self.ready_ns(bench);
            let begin_ns = (work.clock)();
            let mut flight = match self.dealer.scatters() {
                true => self.encode_scattered(bench, now_ns),
                false => self.encode(bench, now_ns, begin_ns),
            };
            flight.times.ready_ns = ready_ns;
            flight.times.sent_ns = (work.clock)();
            let wall_ms = bench.wall_ms(begin_ns);
            let write = match &mut flight.parts {
                Parts::One(part) => {
                    let batch = bench.template.finish(flight.count, wall_ms);
                    session.produce_borrowed(&options, &work.topic_id, part.partition, batch)?
                }
                Parts::Many(parts) => {
                    (*parts, flight.value_bytes) =
                        bench.build_scattered(self.index, &mut self.next_sequence, begin_ns);
                    let (entries, batches) = bench.scatter.request();
                    session.produce_many_borrowed(&options, entries, batches)?
                }
            };
            let outcome = transport.send(&write.slices());
            let written = *outcome.as_ref().unwrap_or(&0);
            let id = write.sent(written);
            self.sent(bench, flight, id);
            self.look_ahead(work);
            outcome.map_err(|source| ClientError::Lost { source: Some(source) })?;
            sent += 1;
        }
        Ok(sent)
    }

    /// Notes the answer to a request.
    pub(super) fn answered(
        &mut self,
        bench: &mut Bench<'_>,
        id: RequestId,
        answer: &Answer<'_>,
        now_ns: u64,
    ) {
        let Some(flight) = self.flights.get_mut(id.slot()).and_then(Option::take) else { return };
        if self.unanswered == bench.work.inflight {
            self.unblocked_ns = now_ns;
        }
        self.unanswered -= 1;
        if let Pacing::Closed(free) = &mut self.pacing {
            free.push_back(now_ns);
        }
        let parts = flight.parts.as_slice();
        let mut acked = 0;
        match *answer {
            Answer::Entries(entries, _) => {
                for (index, part) in parts.iter().enumerate() {
                    match entries.get(index) {
                        Some(entry) if entry.error.get() == 0 => {
                            self.acked(bench.tally, part, entry.base_offset.get());
                            acked += part.count;
                        }
                        Some(entry) => self.refused(bench.tally, part, entry.error.get(), now_ns),
                        None => self.refused(bench.tally, part, u16::MAX, now_ns),
                    }
                }
            }
            Answer::Refused(code) => {
                parts.iter().for_each(|part| self.refused(bench.tally, part, code, now_ns));
            }
        }
        if acked > 0 {
            let value_bytes = flight.value_bytes * u64::from(acked) / u64::from(flight.count);
            bench.acked(u64::from(acked), value_bytes, now_ns);
        }
        // Of a request that was taken in part, it is not known which records were late.
        if acked == flight.count {
            let timing = match *answer {
                Answer::Entries(_, timing) => timing,
                Answer::Refused(_) => None,
            };
            let (live, Flight { times, count, .. }) = (&bench.progress.latencies, flight);
            let answered = Answered { at_ns: now_ns, timing };
            record_latencies(bench.tally, &bench.window, live, times, count, answered);
        }
    }

    fn acked(&self, tally: &mut Tally, part: &Part, base_offset: u64) {
        tally.ledger.acked(part.partition, self.index, part.sequences());
        let end = &mut tally.ends[part.partition as usize];
        *end = (*end).max(base_offset + u64::from(part.count));
    }

    fn refused(&mut self, tally: &mut Tally, part: &Part, code: u16, now_ns: u64) {
        self.paused_until_ns = now_ns + REFUSED_PAUSE_NS;
        let known = ErrorCode::from_u16(code);
        match known {
            Some(known) => tally.error(known.name()),
            None => tally.error(&format!("code_{code}")),
        }
        // These may have appended; all other codes say that they have not.
        if matches!(known, None | Some(ErrorCode::StorageFailed | ErrorCode::TimedOut)) {
            tally.ledger.in_doubt(part.partition, self.index, part.sequences());
        }
    }

    /// The connection is lost: what has no answer stays in doubt.
    pub(super) fn disconnected(&mut self, tally: &mut Tally) {
        for flight in self.flights.iter_mut().filter_map(Option::take) {
            for part in flight.parts.as_slice() {
                tally.ledger.in_doubt(part.partition, self.index, part.sequences());
            }
        }
        self.unanswered = 0;
    }

    /// There is a new connection, with all slots free. Records that were due meanwhile leave late.
    pub(super) fn reconnected(&mut self, work: &Work<'_>, now_ns: u64) {
        self.unblocked_ns = now_ns;
        self.paused_until_ns = 0;
        if let Pacing::Closed(free) = &mut self.pacing {
            free.clear();
            free.extend((0..work.inflight).map(|_| now_ns));
        }
    }

    /// The connection is lost for ever, or time is up: nothing more is sent.
    pub(super) fn give_up(&mut self, tally: &mut Tally, window: &Window) {
        self.disconnected(tally);
        tally.offered_records += std::mem::take(&mut self.offered_records);
        // Without a window no record is due.
        if let Pacing::Open(schedule) = &mut self.pacing
            && window.is_timed()
        {
            while let Some(due_ns) = schedule.take_due(window.close_ns - 1) {
                tally.offered_records += u64::from(window.measures(due_ns));
                tally.unsent_records += 1;
            }
        }
        self.records_left = 0;
    }

    /// Whether it has sent all and has all answers.
    pub(super) fn is_done(&self, window: &Window, now_ns: u64) -> bool {
        self.unanswered == 0 && self.is_exhausted(window, now_ns)
    }

    /// When it wants to send next, if not only an answer can let it.
    pub(super) fn wakes_at(&self, bench: &Bench<'_>) -> u64 {
        let blocked = self.unanswered >= bench.work.inflight || self.records_left == 0;
        let due = match &self.pacing {
            Pacing::Open(schedule) if !blocked && schedule.next_ns() < bench.window.close_ns => {
                self.batch_ready_at(schedule, bench)
            }
            Pacing::Closed(free) if !free.is_empty() && self.paused_until_ns != 0 => 0,
            Pacing::Open(_) | Pacing::Closed(_) => return u64::MAX,
        };
        due.max(self.paused_until_ns)
    }

    /// The longest frame that this producer sends.
    fn frame_bytes_max(&self, template: &BatchTemplate) -> usize {
        match self.dealer.scatters() {
            true => Scatter::frame_bytes_max(template, self.records_max),
            false => template.len_max() + 256,
        }
    }

    fn is_exhausted(&self, window: &Window, now_ns: u64) -> bool {
        let past_end = match &self.pacing {
            Pacing::Open(schedule) => schedule.next_ns() >= window.close_ns,
            Pacing::Closed(_) => now_ns >= window.close_ns,
        };
        past_end || self.records_left == 0
    }

    fn may_send(&self, bench: &Bench<'_>, now_ns: u64) -> bool {
        let free = self.unanswered < bench.work.inflight
            && now_ns >= self.paused_until_ns
            && !self.is_exhausted(&bench.window, now_ns);
        free && match &self.pacing {
            Pacing::Open(schedule) => self.batch_ready_at(schedule, bench) <= now_ns,
            Pacing::Closed(free) => {
                bench.work.acks == Acks::None || free.front().is_some_and(|&free| free <= now_ns)
            }
        }
    }

    /// When the next request could have left at the earliest, as the load has it.
    fn ready_ns(&self, bench: &Bench<'_>) -> u64 {
        let full_ns = match &self.pacing {
            Pacing::Open(schedule) => self.batch_ready_at(schedule, bench),
            Pacing::Closed(_) => 0,
        };
        full_ns.max(self.unblocked_ns).max(self.paused_until_ns)
    }

    /// When the next batch is full, or has lingered long enough.
    fn batch_ready_at(&self, schedule: &Schedule, bench: &Bench<'_>) -> u64 {
        // A batch that the end of the window leaves short waits no longer than that.
        self.full_ns.min(schedule.next_ns().saturating_add(bench.work.linger_ns))
    }

    /// Fills the template with the next records.
    fn encode(&mut self, bench: &mut Bench<'_>, now_ns: u64, sent_ns: u64) -> Flight {
        let partitions = bench.work.routing.of_producer(self.index);
        let partition = partitions[self.dealer.next(partitions.len())];
        let first = self.next_sequence[partition as usize];
        let mut header = Header {
            run: bench.work.run,
            producer: self.index,
            partition,
            sequence: first,
            intended_ns: 0,
            sent_ns,
        };
        let template = &mut *bench.template;
        let window = bench.window;
        let (due, count) = self.take_due(bench.work.acks, now_ns, &window, |index, due_ns| {
            header.intended_ns = due_ns;
            template.put(index, &header);
            header.sequence += 1;
        });
        self.next_sequence[partition as usize] = header.sequence;
        let parts = Parts::One(Part { partition, first, count });
        let value_bytes = bench.template.value_bytes(count);
        let times = Times { due, ready_ns: 0, sent_ns: 0 };
        Flight { parts, count, value_bytes, times }
    }

    /// Deals the next records out to partitions.
    fn encode_scattered(&mut self, bench: &mut Bench<'_>, now_ns: u64) -> Flight {
        let partitions = bench.work.routing.of_producer(self.index);
        let scatter = &mut *bench.scatter;
        scatter.clear();
        let window = bench.window;
        let (due, count) = self.take_due(bench.work.acks, now_ns, &window, |_, due_ns| {
            scatter.push(due_ns);
        });
        scatter.deal(|| {
            let (partition, key) = self.dealer.deal(partitions.len());
            (partitions[partition], key)
        });
        // The parts are known once the batches are built.
        let times = Times { due, ready_ns: 0, sent_ns: 0 };
        Flight { parts: Parts::Many(Vec::new()), count, value_bytes: 0, times }
    }

    /// Takes the records that are due, at most a full request; gives their times, and how many
    /// they are.
    fn take_due(
        &mut self,
        acks: Acks,
        now_ns: u64,
        window: &Window,
        mut put: impl FnMut(u32, u64),
    ) -> (Due, u32) {
        let most = u64::from(self.records_max).min(self.records_left);
        let most = u32::try_from(most).expect("records_max is a u32");
        let (mut count, mut offered) = (0, 0);
        let until_ns = now_ns.min(window.close_ns - 1);
        let due = match &mut self.pacing {
            Pacing::Open(schedule) => {
                let before = schedule.clone();
                while count < most
                    && let Some(due_ns) = schedule.take_due(until_ns)
                {
                    put(count, due_ns);
                    count += 1;
                    offered += u64::from(window.measures(due_ns));
                }
                Due::Scheduled(before)
            }
            Pacing::Closed(free) => {
                let due_ns = match acks {
                    Acks::None => now_ns,
                    _ => free.pop_front().expect("a slot is free"),
                };
                (0..most).for_each(|index| put(index, due_ns));
                count = most;
                Due::At(due_ns)
            }
        };
        self.records_left -= u64::from(count);
        self.offered_records += offered;
        (due, count)
    }

    fn sent(&mut self, bench: &mut Bench<'_>, flight: Flight, id: Option<RequestId>) {
        let Some(id) = id else {
            for part in flight.parts.as_slice() {
                bench.tally.ledger.in_doubt(part.partition, self.index, part.sequences());
            }
            bench.acked(u64::from(flight.count), flight.value_bytes, flight.times.sent_ns);
            return;
        };
        if id.slot() >= self.flights.len() {
            self.flights.resize_with(id.slot() + 1, || None);
        }
        self.flights[id.slot()] = Some(flight);
        self.unanswered += 1;
    }
}

impl Bench<'_> {
    fn acked(&mut self, count: u64, value_bytes: u64, now_ns: u64) {
        self.progress.acked(count);
        record_acked(self.tally, &self.window, count, value_bytes, now_ns);
    }

    /// Milliseconds of the wall clock at a monotonic time.
    pub(super) fn wall_ms(&self, monotonic_ns: u64) -> i64 {
        let wall_ms = (monotonic_ns + self.wall_offset_ns) / 1_000_000;
        i64::try_from(wall_ms).expect("the clock is below year 292,000,000")
    }
}
