//! Route: messages for several queues and partitions of topics. What queues of one store get is
//! one record with one body; a partition gets a batch with a record for each message. A publish to
//! a full queue whose messages become dead letters waits here for these.

use std::collections::BTreeMap;

use wire::batch::BatchBuilder;
use wire::limits::BATCH_BYTES_MAX;
use wire::produce::{ReplyEntry, RequestEntry, encode_control};
use wire::queue::{
    Message, Messages, Overflow, QUEUE_DEAD_LETTER_TOPIC, QUEUE_TRANSIENT, Reason, RouteReply,
    RouteRequest, RouteTarget, RoutedRow, TargetKind, encode_route,
};
use wire::{Acks, ErrorCode, FrameHeader, Kind, TopicId};

use super::queue_traffic::{Batch, QUEUE_FULL};
use super::queues::{Home, NOBODY};
use super::{Answer, Purpose, Refusal, Request};
use crate::forward::Call;
use crate::log::records::stamp;
use crate::pool::{Bytes, Source};
use crate::port::Time;
use crate::queue::queues::Pending;
use crate::shard::Shard;
use crate::units::{u32_of, u64_of};

/// A route that is not answered yet.
#[derive(Debug)]
pub struct Route {
    request: Request,
    /// What was asked: a publish waits here if its messages become dead letters.
    kind: Kind,
    /// Tells it from others in the same slot.
    serial: u64,
    /// Parts that are not done.
    waiting: usize,
    rows: Vec<RoutedRow>,
}

/// Which part of a route something is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoutePart {
    slot: u32,
    serial: u64,
}

/// Whether a queue takes new messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// It does.
    There,
    /// They are refused.
    Full,
    /// They are refused, and become dead letters.
    FullAndKept,
}

impl Shard {
    pub(super) fn route(&mut self, now: Time, request: Request) -> Result<Answer, Refusal> {
        let route = RouteRequest::decode(self.pool.view(request.body))?;
        let (targets, acks, len) = (route.targets.to_vec(), route.head.acks, route.messages.len());
        let count = route.head.count.get();
        let acks = self.may_publish(acks)?;
        let place = request.body.part(request.body.len - len, len);
        let batch = self.check_messages(place, count)?;
        let part = self.begin_route(request, Kind::QueueRoute, targets.len());
        let (mut stores, mut shards) = (BTreeMap::new(), BTreeMap::new());
        for (row, target) in targets.iter().enumerate() {
            if target.kind.get() == TargetKind::Partition as u32 {
                self.route_to_partition(now, part, row, target, (&batch, acks));
                continue;
            }
            match self.home(&target.id) {
                Ok(Home::Here(slot)) => match self.room_for(slot, &batch) {
                    Room::There => {
                        let store = self.queues.queue(slot).store;
                        stores.entry(store).or_insert_with(Vec::new).push((row, slot));
                    }
                    Room::Full => self.route_row(part, row, Err(QUEUE_FULL.code)),
                    Room::FullAndKept => self.keep_refused(now, slot, &batch, (part, row)),
                },
                Ok(Home::There(shard)) => {
                    shards.entry(shard).or_insert_with(Vec::new).push(row);
                }
                Err(refusal) => self.route_row(part, row, Err(refusal.code)),
            }
        }
        for (_, queues) in stores {
            self.route_to_store(now, part, &queues, &batch, acks);
        }
        for (shard, rows) in shards {
            self.route_to_shard(shard, part, rows, &targets, (acks, place, count));
        }
        self.route_part_done(part);
        Ok(Answer::Later)
    }

    /// Something with so many rows is answered when all that it waits for is done; it waits for
    /// whoever begins it.
    pub(super) fn begin_route(&mut self, request: Request, kind: Kind, rows: usize) -> RoutePart {
        let serial = self.next_serial();
        let none = RoutedRow {
            error: 0.into(),
            reserved: 0.into(),
            reserved_end: 0.into(),
            first: 0.into(),
        };
        let rows = vec![none; rows];
        let slot = self.queues.routes.insert(Route { request, kind, serial, waiting: 1, rows });
        RoutePart { slot, serial }
    }

    /// Queues of one store take the messages, as one record.
    fn route_to_store(
        &mut self,
        now: Time,
        part: RoutePart,
        queues: &[(usize, u32)],
        batch: &Batch,
        acks: Acks,
    ) {
        let slots: Vec<u32> = queues.iter().map(|&(_, slot)| slot).collect();
        let is_transient = |shard: &mut Shard, slot: u32| {
            batch.is_transient || shard.queues.queue(slot).state.settings.has(QUEUE_TRANSIENT)
        };
        let waits = match slots.iter().all(|&slot| is_transient(self, slot)) {
            true => Acks::Memory,
            false => acks,
        };
        let wanted = if waits == Acks::Memory { Acks::None } else { waits };
        let recorded = match slots[..] {
            [one] => self
                .record_messages(now, one, batch.at, batch.new, wanted)
                .map(|(first, end)| (vec![first], end)),
            _ => self.record_shared(now, &slots, batch.at, batch.new, wanted),
        };
        let (firsts, end) = match recorded {
            Ok(recorded) => recorded,
            Err(code) => {
                return queues.iter().for_each(|&(row, _)| self.route_row(part, row, Err(code)));
            }
        };
        for (&(row, slot), &first) in queues.iter().zip(&firsts) {
            let is_transient = is_transient(self, slot);
            self.messages_recorded(slot, &Batch { is_transient, ..*batch }, first, end);
            self.route_row(part, row, Ok(first));
        }
        let store = self.queues.queue(slots[0]).store;
        let store = self.queues.stores.get_mut(&store).expect("a queue's store is there");
        let pending = Pending::Routed(part);
        match waits {
            Acks::None | Acks::Memory => return,
            Acks::Written => store.written.push_back((end, pending)),
            Acks::Durable => store.pending.push_back((end, pending)),
        }
        self.route_waits(part);
    }

    /// Another shard takes the messages for its queues.
    fn route_to_shard(
        &mut self,
        shard: u16,
        part: RoutePart,
        rows: Vec<usize>,
        targets: &[RouteTarget],
        (acks, place, count): (Acks, Bytes, u32),
    ) {
        if self.are_links_full() || !self.make_room(place.len) {
            let full = Err(ErrorCode::Overloaded);
            return rows.into_iter().for_each(|row| self.route_row(part, row, full));
        }
        let theirs: Vec<RouteTarget> = rows.iter().map(|&row| targets[row]).collect();
        let messages = self.pool.view(place).to_vec();
        self.route_waits(part);
        let call = Call::Route(part, rows);
        self.call(shard, Kind::QueueRoute.number(), 0, call, &[], |out| {
            encode_route(out, acks, count, &theirs);
            out.extend_from_slice(&messages);
        });
    }

    /// A partition takes a record for each message.
    fn route_to_partition(
        &mut self,
        now: Time,
        part: RoutePart,
        row: usize,
        target: &RouteTarget,
        (batch, acks): (&Batch, Acks),
    ) {
        let mut records = BatchBuilder::with_capacity(batch.at.len);
        let wall_ms = self.queues.wall_ms;
        for message in Messages::new(self.pool.view(batch.at)).flatten() {
            put_record(&mut records, &message, wall_ms, &[]);
        }
        self.route_waits(part);
        let place = (target.id, target.partition.get());
        let purpose = Purpose::Route(part, row);
        self.produce_inside(now, place, records.finish(), acks, purpose);
    }

    /// Appends a batch to a partition, wherever it is; `purpose` hears of it.
    pub(crate) fn produce_inside(
        &mut self,
        now: Time,
        (topic_id, partition): (TopicId, u32),
        batch: &[u8],
        acks: Acks,
        purpose: Purpose,
    ) {
        let entry = RequestEntry {
            topic_id,
            partition: partition.into(),
            batch_bytes: u32_of(batch.len()).into(),
        };
        let mut body = Vec::with_capacity(batch.len() + 256);
        encode_control(&mut body, acks, 0, 0, &[entry]);
        body.extend_from_slice(batch);
        if batch.len() > BATCH_BYTES_MAX {
            return self.produced_inside(now, purpose, Err(ErrorCode::TooLarge));
        }
        let Some(buf) = self.store.alloc(&mut self.pool, body.len()) else {
            return self.produced_inside(now, purpose, Err(ErrorCode::Overloaded));
        };
        self.pool.bytes_mut(buf)[..body.len()].copy_from_slice(&body);
        let body = Bytes { source: Source::Buf(buf), at: 0, len: body.len() };
        let request = Request { conn: NOBODY, correlation_id: 0, body, frame_bytes: 0 };
        if let Err(refusal) = self.produce_for(now, request, purpose) {
            self.produced_inside(now, purpose, Err(refusal.code));
        }
        self.pool.release(buf);
    }

    /// A batch that this shard itself has produced is there, or is not.
    pub(crate) fn produced(&mut self, now: Time, purpose: Purpose, row: Option<&ReplyEntry>) {
        let code = row.map_or(ErrorCode::TimedOut.number(), |row| row.error.get());
        let outcome = match ErrorCode::from_u16(code) {
            Some(ErrorCode::None) => Ok(row.map_or(0, |row| row.base_offset.get())),
            code => Err(code.unwrap_or(ErrorCode::StorageFailed)),
        };
        self.produced_inside(now, purpose, outcome);
    }

    fn produced_inside(&mut self, now: Time, purpose: Purpose, outcome: Result<u64, ErrorCode>) {
        match purpose {
            Purpose::Client => {}
            Purpose::Route(part, row) => {
                self.route_row(part, row, outcome);
                self.route_part_done(part);
            }
            Purpose::Ferry(queue) => self.ferry_landed(now, &queue, outcome),
            Purpose::Refused { queue, count, part, row } => {
                self.refused_landed(&queue, count, outcome, (part, row));
                self.route_part_done(part);
            }
        }
    }

    /// Another shard has answered for its queues.
    pub(crate) fn route_answered(
        &mut self,
        part: RoutePart,
        rows: &[usize],
        header: &FrameHeader,
        body: Bytes,
    ) {
        let bytes = self.pool.view(body);
        let outcomes: Vec<Result<u64, ErrorCode>> = match crate::forward::error_of(bytes, header) {
            Some(code) => {
                let code = ErrorCode::from_u16(code).unwrap_or(ErrorCode::Malformed);
                vec![Err(code); rows.len()]
            }
            None => {
                let reply = RouteReply::decode(bytes).expect("shards speak the protocol");
                let outcome = |row: &RoutedRow| match ErrorCode::from_u16(row.error.get()) {
                    Some(ErrorCode::None) => Ok(row.first.get()),
                    code => Err(code.unwrap_or(ErrorCode::Malformed)),
                };
                reply.rows.iter().map(outcome).collect()
            }
        };
        for (&row, outcome) in rows.iter().zip(outcomes) {
            self.route_row(part, row, outcome);
        }
        self.route_part_done(part);
    }

    fn route_of(&mut self, part: RoutePart) -> Option<&mut Route> {
        self.queues.routes.get_mut(part.slot).filter(|route| route.serial == part.serial)
    }

    pub(crate) fn route_waits(&mut self, part: RoutePart) {
        if let Some(route) = self.route_of(part) {
            route.waiting += 1;
        }
    }

    pub(crate) fn route_row(
        &mut self,
        part: RoutePart,
        row: usize,
        outcome: Result<u64, ErrorCode>,
    ) {
        let Some(route) = self.route_of(part) else { return };
        match outcome {
            Ok(first) => route.rows[row].first = first.into(),
            Err(code) => route.rows[row].error = code.number().into(),
        }
    }

    /// A part of a route is done; with the last one it is answered.
    pub(crate) fn route_part_done(&mut self, part: RoutePart) {
        let Some(route) = self.route_of(part) else { return };
        route.waiting -= 1;
        if route.waiting > 0 {
            return;
        }
        let Some(Route { request, kind, rows, .. }) = self.queues.routes.remove(part.slot) else {
            return;
        };
        if kind == Kind::QueuePublish {
            let code = ErrorCode::from_u16(rows[0].error.get()).expect("it was refused");
            let detail = match code == QUEUE_FULL.code {
                true => QUEUE_FULL.detail,
                false => "the queue is full, and the dead letters cannot be kept now",
            };
            return self.refuse_queue(&request, kind, code, detail);
        }
        let mut body = Vec::new();
        RouteReply::encode(&mut body, &rows);
        self.answer_queue(&request, Kind::QueueRoute, &body);
    }

    /// The device failed: what a route had recorded may or may not be there.
    pub(crate) fn route_failed(&mut self, part: RoutePart, code: ErrorCode) {
        let Some(route) = self.route_of(part) else { return };
        // That it was full is no answer where dead letters should have been kept.
        let is_open = |code: u16| code == 0 || code == QUEUE_FULL.code.number();
        for row in route.rows.iter_mut().filter(|row| is_open(row.error.get())) {
            row.error = code.number().into();
        }
        self.route_part_done(part);
    }

    /// Whether a queue has room for new messages, and what it says if it has none.
    pub(super) fn room_for(&mut self, slot: u32, batch: &Batch) -> Room {
        let state = &self.queues.queue(slot).state;
        let is_over = state.is_over(batch.new.count.into(), u64_of(batch.at.len));
        match Overflow::from_u8(state.settings.overflow).expect("checked at creation") {
            Overflow::Reject if is_over => Room::Full,
            Overflow::RejectDeadLetter if is_over => Room::FullAndKept,
            _ => Room::There,
        }
    }

    /// Messages for which there is no room become dead letters. That the queue was full is told
    /// once these are durable.
    pub(super) fn keep_refused(
        &mut self,
        now: Time,
        slot: u32,
        batch: &Batch,
        (part, row): (RoutePart, usize),
    ) {
        self.route_row(part, row, Err(QUEUE_FULL.code));
        let mut bytes = self.pool.view(batch.at).to_vec();
        stamp(&mut bytes, self.queues.wall_ms);
        let settings = &self.queues.queue(slot).state.settings;
        if settings.has(QUEUE_DEAD_LETTER_TOPIC) {
            return self.ferry_refused(now, slot, &bytes, (part, row));
        }
        let Some(to) = settings.dead_letter().and_then(|target| self.queues.slot(&target)) else {
            return;
        };
        for message in Messages::new(&bytes).flatten() {
            match self.record_refused(now, slot, to, message.bytes, Reason::Overflow) {
                Ok(end) => {
                    self.route_waits(part);
                    self.answer_at(to, end, Pending::Routed(part));
                }
                Err(code) => return self.route_row(part, row, Err(code)),
            }
        }
        self.queues.touch(to);
    }
}

/// Headers of a record that was a message.
pub(crate) type Headers<'a> = &'a [(&'a [u8], Option<&'a [u8]>)];

/// Appends the record that a message becomes: its body is the value, its properties are a header.
pub(crate) fn put_record(
    records: &mut BatchBuilder,
    message: &Message<'_>,
    wall_ms: u64,
    headers: Headers<'_>,
) {
    let own: [(&[u8], Option<&[u8]>); 1] = [(b"pelton.properties", Some(message.properties))];
    let timestamp_ms = i64::try_from(wall_ms).unwrap_or(i64::MAX);
    if message.properties.is_empty() {
        return records.push_with_headers(timestamp_ms, None, Some(message.body), headers);
    }
    let all: Vec<(&[u8], Option<&[u8]>)> = own.iter().chain(headers).copied().collect();
    records.push_with_headers(timestamp_ms, None, Some(message.body), &all);
}
