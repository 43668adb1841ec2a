//! One producer: decides what to send next, and notes what became of it.

use client::session::{ProduceOptions, RequestId};
use client::transport::{TcpTransport, Transport};
use client::{ClientError, Connection};
use std::collections::VecDeque;
use wire::{Acks, ErrorCode};

use super::tally::{Tally, Window};
use super::template::BatchTemplate;
use super::work::{Progress, Work};
use crate::clock::monotonic_ns;
use crate::payload::Header;
use crate::schedule::{Load, Schedule};

/// A refused producer rests this long, so that it does not hammer a broker that asks for mercy.
const REFUSED_PAUSE_NS: u64 = 1_000_000;
/// Batches that one producer sends before others get their turn.
const BATCHES_PER_TURN_MAX: u32 = 16;

/// What a producer needs from its thread for each step.
pub(super) struct Bench<'a> {
    pub(super) work: &'a Work<'a>,
    pub(super) window: Window,
    pub(super) template: &'a mut BatchTemplate,
    pub(super) tally: &'a mut Tally,
    pub(super) progress: &'a Progress,
    /// Wall clock less monotonic clock.
    pub(super) wall_offset_ns: u64,
}

pub(super) struct Producer {
    index: u32,
    pacing: Pacing,
    batches: u32,
    next_sequence: Vec<u64>,
    flights: Vec<Option<Flight>>,
    unanswered: u32,
    records_left: u64,
    paused_until_ns: u64,
}

enum Pacing {
    Open(Schedule),
    /// When each free slot became free, oldest first.
    Closed(VecDeque<u64>),
}

/// A request that has no answer yet.
struct Flight {
    partition: u32,
    first: u64,
    count: u32,
    sent_ns: u64,
    due: Due,
}

/// The intended times of a request's records.
enum Due {
    /// Those that this schedule gives next.
    Scheduled(Schedule),
    /// One for all.
    At(u64),
}

/// What an answer said.
pub(super) enum Answer {
    /// Appended at this offset.
    Acked(u64),
    /// Refused with this code.
    Refused(u16),
}

impl Producer {
    /// Producer `index`, whose load begins with the window.
    pub(super) fn new(work: &Work<'_>, window: &Window, index: u32) -> Self {
        let pacing = match work.load {
            Load::Open { rate } => {
                Pacing::Open(Schedule::new(window.start_ns, rate, work.producers, index))
            }
            Load::Closed => Pacing::Closed((0..work.inflight).map(|_| window.start_ns).collect()),
        };
        Self {
            index,
            pacing,
            batches: index,
            next_sequence: vec![0; work.partitions as usize],
            flights: Vec::new(),
            unanswered: 0,
            records_left: work.records_per_producer_max.unwrap_or(u64::MAX),
            paused_until_ns: 0,
        }
    }

    /// Sends what is due and has a free slot. Gives the number of batches.
    pub(super) fn pump(
        &mut self,
        connection: &mut Connection<TcpTransport>,
        bench: &mut Bench<'_>,
        now_ns: u64,
    ) -> Result<u32, ClientError> {
        let work = bench.work;
        let options = ProduceOptions { acks: work.acks, ..ProduceOptions::default() };
        let mut sent = 0;
        while sent < BATCHES_PER_TURN_MAX && self.may_send(bench, now_ns) {
            let (session, transport) = connection.parts_mut();
            // Batches that the socket does not take are copied: wait until it has taken the last.
            if !session.outgoing().is_empty() || !session.has_room(bench.template.len_max() + 256) {
                break;
            }
            let partition = self.batches % work.partitions;
            self.batches = self.batches.wrapping_add(1);
            let mut flight = self.encode(bench, partition, now_ns);
            flight.sent_ns = monotonic_ns();
            let wall_ms = (flight.sent_ns + bench.wall_offset_ns) / 1_000_000;
            let wall_ms = i64::try_from(wall_ms).expect("the clock is below year 292,000,000");
            let batch = bench.template.finish(flight.count, wall_ms);
            let write = session.produce_borrowed(&options, &work.topic_id, partition, batch)?;
            let outcome = transport.send(&write.slices());
            let written = *outcome.as_ref().unwrap_or(&0);
            let id = write.sent(written);
            self.sent(bench, flight, id);
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
        answer: &Answer,
        now_ns: u64,
    ) {
        let Some(flight) = self.flights.get_mut(id.slot()).and_then(Option::take) else { return };
        self.unanswered -= 1;
        if let Pacing::Closed(free) = &mut self.pacing {
            free.push_back(now_ns);
        }
        let count = u64::from(flight.count);
        let range = flight.first..flight.first + count;
        match *answer {
            Answer::Acked(base_offset) => {
                bench.tally.ledger.acked(flight.partition, self.index, range);
                let end = &mut bench.tally.ends[flight.partition as usize];
                *end = (*end).max(base_offset + count);
                record_latencies(bench, flight, now_ns);
            }
            Answer::Refused(code) => {
                self.paused_until_ns = now_ns + REFUSED_PAUSE_NS;
                let known = ErrorCode::from_u16(code);
                match known {
                    Some(known) => bench.tally.error(known.name()),
                    None => bench.tally.error(&format!("code_{code}")),
                }
                // These may have appended; all other codes say that they have not.
                if matches!(known, None | Some(ErrorCode::StorageFailed | ErrorCode::TimedOut)) {
                    bench.tally.ledger.in_doubt(flight.partition, self.index, range);
                }
            }
        }
    }

    /// The connection is lost, or time is up: what has no answer stays in doubt.
    pub(super) fn give_up(&mut self, tally: &mut Tally, window: &Window) {
        for flight in self.flights.iter_mut().filter_map(Option::take) {
            let range = flight.first..flight.first + u64::from(flight.count);
            tally.ledger.in_doubt(flight.partition, self.index, range);
        }
        self.unanswered = 0;
        if let Pacing::Open(schedule) = &mut self.pacing {
            while schedule.take_due(window.close_ns - 1).is_some() {
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
                batch_ready_at(schedule, bench)
            }
            Pacing::Closed(free) if !free.is_empty() && self.paused_until_ns != 0 => 0,
            Pacing::Open(_) | Pacing::Closed(_) => return u64::MAX,
        };
        due.max(self.paused_until_ns)
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
            Pacing::Open(schedule) => batch_ready_at(schedule, bench) <= now_ns,
            Pacing::Closed(free) => {
                bench.work.acks == Acks::None || free.front().is_some_and(|&free| free <= now_ns)
            }
        }
    }

    /// Fills the template with the next records.
    fn encode(&mut self, bench: &mut Bench<'_>, partition: u32, now_ns: u64) -> Flight {
        let first = self.next_sequence[partition as usize];
        let most = u64::from(bench.template.records_max()).min(self.records_left);
        let mut header = Header {
            run: bench.work.run,
            producer: self.index,
            partition,
            sequence: first,
            intended_ns: 0,
        };
        let most = u32::try_from(most).expect("records_max is a u32");
        let mut count = 0;
        let due = match &mut self.pacing {
            Pacing::Open(schedule) => {
                let before = schedule.clone();
                let until = now_ns.min(bench.window.close_ns - 1);
                while count < most
                    && let Some(due_ns) = schedule.take_due(until)
                {
                    header.intended_ns = due_ns;
                    bench.template.put(count, &header);
                    header.sequence += 1;
                    count += 1;
                }
                Due::Scheduled(before)
            }
            Pacing::Closed(free) => {
                header.intended_ns = match bench.work.acks {
                    Acks::None => now_ns,
                    _ => free.pop_front().expect("a slot is free"),
                };
                for index in 0..most {
                    bench.template.put(index, &header);
                    header.sequence += 1;
                }
                count = most;
                Due::At(header.intended_ns)
            }
        };
        self.next_sequence[partition as usize] = header.sequence;
        self.records_left -= u64::from(count);
        Flight { partition, first, count, sent_ns: 0, due }
    }

    fn sent(&mut self, bench: &mut Bench<'_>, flight: Flight, id: Option<RequestId>) {
        let Some(id) = id else {
            let count = u64::from(flight.count);
            let range = flight.first..flight.first + count;
            bench.tally.ledger.in_doubt(flight.partition, self.index, range);
            if bench.window.measures(flight.sent_ns) {
                bench.tally.acked_records += count;
            }
            bench.progress.acked(count);
            return;
        };
        if id.slot() >= self.flights.len() {
            self.flights.resize_with(id.slot() + 1, || None);
        }
        self.flights[id.slot()] = Some(flight);
        self.unanswered += 1;
    }
}

/// When the next batch is full, or has lingered long enough.
fn batch_ready_at(schedule: &Schedule, bench: &Bench<'_>) -> u64 {
    let full_ns = schedule.due_ns(u64::from(bench.template.records_max()) - 1);
    // A batch that the end of the window leaves short waits no longer than that.
    full_ns.min(schedule.next_ns().saturating_add(bench.work.linger_ns))
}

fn record_latencies(bench: &mut Bench<'_>, flight: Flight, now_ns: u64) {
    let count = u64::from(flight.count);
    bench.progress.acked(count);
    let (tally, window) = (&mut *bench.tally, &bench.window);
    if window.measures(now_ns) {
        tally.acked_records += count;
    }
    match flight.due {
        Due::At(due_ns) if window.measures(due_ns) => {
            // A closed loop has one latency: the slot was free when the request could be sent.
            tally.response.record_n(now_ns - due_ns, count);
            tally.service.record_n(now_ns - due_ns, count);
        }
        Due::At(_) => {}
        Due::Scheduled(mut schedule) => {
            let mut measured = 0;
            for _ in 0..flight.count {
                let due_ns = schedule.take_due(u64::MAX).expect("everything is due by then");
                if window.measures(due_ns) {
                    tally.response.record(now_ns - due_ns);
                    measured += 1;
                }
            }
            if measured > 0 {
                tally.service.record_n(now_ns - flight.sent_ns, measured);
            }
        }
    }
}
