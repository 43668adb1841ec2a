//! Messages in and out of queues: publish, consume, pull, settle, peek, purge, redrive.

use std::ops::Range;

use wire::limits::MESSAGE_BYTES_MAX;
use wire::queue::{
    CONSUME_AUTO_ACK, CancelRequest, ConsumeReply, ConsumeRequest, MESSAGE_DEAD, MESSAGE_TRANSIENT,
    Messages, PUBLISH_TIMING, PeekRequest, PublishRequest, PullRequest, PurgeReply,
    QUEUE_TRANSIENT, QueueId, RedriveJobRequest, RedriveRequest, SETTLE_QUIET, SETTLE_UP_TO,
    SettleHead, SettleReply, SettleRequest, SettleRow, SettledRow, Verb, encode_publish_reply,
};
use wire::{Acks, ErrorCode, Kind, Malformed, topic};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::produce::Stamps;
use super::queues::Home;
use super::route::Room;
use super::{Answer, Refusal, Request};
use crate::pool::Bytes;
use crate::port::{ConnId, Time};
use crate::queue::consumers::{Consumer, Puller};
use crate::queue::credit::{CLIENT_CREDIT_BYTES, read_credit};
use crate::queue::journal::{NewMessages, ROWS_RECORD_BYTES_MAX};
use crate::queue::queues::{
    Ask, DELIVER_BYTES_MAX, LEASE_MS, Pending, Published, Queues, Settling,
};
use crate::queue::record::{RECORD_TRANSIENT, RECORD_TTL};
use crate::queue::state::{Claim, Lease};
use crate::shard::Shard;
use crate::units::{u64_of, usize_of};

const NS_PER_MS: u64 = 1_000_000;
const MESSAGE_TOO_LONG: &str = "a message has at most 1,047,552 bytes of properties and body";
const _: () = assert!(MESSAGE_BYTES_MAX == 1_047_552);

/// What the messages of a publish are, together.
#[derive(Clone, Copy)]
pub(super) struct Batch {
    pub(super) at: Bytes,
    pub(super) new: NewMessages,
    /// All of them are transient.
    pub(super) is_transient: bool,
}

impl Shard {
    pub(super) fn publish(&mut self, now: Time, request: Request) -> Result<Answer, Refusal> {
        let publish = PublishRequest::decode(self.pool.view(request.body))?;
        let (id, acks, flags) = (publish.head.queue, publish.head.acks, publish.head.flags);
        if flags & !PUBLISH_TIMING != 0 {
            let detail = "an unknown flag of publish";
            return Err(Refusal::new(ErrorCode::UnsupportedVersion, detail));
        }
        let acks = self.may_publish(acks)?;
        // Anybody's: who has a queue for itself waits for what others have to say.
        let slot = match self.home(&id)? {
            Home::Here(slot) => slot,
            Home::There(shard) => return Ok(self.hand_on(shard, Kind::QueuePublish, request)),
        };
        let batch = self.read_messages(&request, slot)?;
        match self.room_for(slot, &batch) {
            Room::There => {}
            Room::Full => return Err(QUEUE_FULL),
            Room::FullAndKept => {
                let part = self.begin_route(request, Kind::QueuePublish, 1);
                self.keep_refused(now, slot, &batch, (part, 0));
                self.route_part_done(part);
                return Ok(Answer::Later);
            }
        }
        let waits = if batch.is_transient { Acks::Memory } else { acks };
        let wanted = if waits == Acks::Memory { Acks::None } else { waits };
        let (first, end) = self.record_messages(now, slot, batch.at, batch.new, wanted).map_err(
            |code| match code {
                ErrorCode::EndUnknown => END_UNKNOWN,
                code => Refusal::new(code, "the messages cannot be taken now"),
            },
        )?;
        self.messages_recorded(slot, &batch, first, end);
        let appended = (flags & PUBLISH_TIMING != 0).then_some(now);
        let waited_ns = appended.map_or(0, |now| now.since(self.arrived(now, &request)));
        let waited_us = u32::try_from(waited_ns / 1000).unwrap_or(u32::MAX);
        let published = Published { request, first, count: batch.new.count, appended, waited_us };
        match waits {
            Acks::None | Acks::Memory => self.answer_published(&published, now, now),
            Acks::Written => {
                let store = self.queues.queue(slot).store;
                let store = self.queues.stores.get_mut(&store).expect("it has the queue");
                store.written.push_back((end, Pending::Published(published)));
            }
            Acks::Durable => self.answer_at(slot, end, Pending::Published(published)),
        }
        Ok(Answer::Later)
    }

    /// Whether messages may be taken now, and when that is answered.
    pub(super) fn may_publish(&self, acks: u8) -> Result<Acks, Refusal> {
        if self.is_overloaded {
            let detail = "producers bring more than the device takes: send it again a little later";
            return Err(Refusal::new(ErrorCode::Overloaded, detail));
        }
        if self.stopping.is_some() {
            return Err(Refusal::new(ErrorCode::ShuttingDown, "the broker is stopping"));
        }
        let acks = Acks::from_u8(acks).filter(|&acks| acks != Acks::None);
        acks.ok_or(Refusal::new(
            ErrorCode::InvalidRequest,
            "acks of a publish is 1 (memory), 2 (written) or 3 (durable): it is always answered",
        ))
    }

    /// What the messages of a publish are, together with what their queue says.
    fn read_messages(&mut self, request: &Request, slot: u32) -> Result<Batch, Refusal> {
        let publish = PublishRequest::decode(self.pool.view(request.body))?;
        let (len, count) = (publish.messages.len(), publish.head.count.get());
        let at = request.body.part(request.body.len - len, len);
        let mut batch = self.check_messages(at, count)?;
        let state = &mut self.queues.queue(slot).state;
        state.may_expire |= batch.new.flags & RECORD_TTL != 0;
        batch.is_transient |= state.settings.has(QUEUE_TRANSIENT);
        batch.new.flags |= if batch.is_transient { RECORD_TRANSIENT } else { 0 };
        Ok(batch)
    }

    /// Checks messages that lie back to back once and for all.
    pub(super) fn check_messages(&self, at: Bytes, counted: u32) -> Result<Batch, Refusal> {
        let (mut count, mut flags, mut is_transient) = (0u32, 0, true);
        for message in Messages::new(self.pool.view(at)) {
            let message = message?;
            if message.properties.len() + message.body.len() > MESSAGE_BYTES_MAX {
                return Err(Refusal::new(ErrorCode::TooLarge, MESSAGE_TOO_LONG));
            }
            if message.head.flags & MESSAGE_DEAD != 0 {
                return Err(Malformed("only the broker writes death notes").into());
            }
            if message.head.ttl_ms.get() > 0 {
                flags |= RECORD_TTL;
            }
            is_transient &= message.head.flags & MESSAGE_TRANSIENT != 0;
            count += 1;
        }
        if count != counted {
            return Err(Malformed("a publish has other messages than it counts").into());
        }
        flags |= if is_transient { RECORD_TRANSIENT } else { 0 };
        Ok(Batch { at, new: NewMessages { count, flags }, is_transient })
    }

    /// New messages are recorded: they are delivered once that is durable; transient ones at once,
    /// if nothing before them waits.
    pub(super) fn messages_recorded(&mut self, slot: u32, batch: &Batch, first: u64, end: u64) {
        let queue = self.queues.queue(slot);
        let (id, store) = (queue.id, queue.store);
        let (to, bytes) = (first + u64::from(batch.new.count), u64_of(batch.at.len));
        // Whoever waits for it finds it at hand, if nothing is missing before it.
        let follows = queue.window.end().unwrap_or(first) == first;
        let room = self.store.settings.read_bytes;
        if queue.is_consumed() && follows && queue.window.bytes() + batch.at.len <= 2 * room {
            self.window_takes(slot, first..to, batch.at);
        }
        let queue = self.queues.queue(slot);
        if batch.is_transient && queue.state.is_revealed(first) {
            queue.state.reveal(to, bytes);
        } else {
            self.reveal_at(store, end, id, to, bytes);
        }
        self.queues.touch(slot);
    }

    fn window_takes(&mut self, slot: u32, range: std::ops::Range<u64>, at: Bytes) {
        let queue = self.queues.slots.get_mut(slot).expect("it takes messages");
        queue.window.insert_stamped(range, self.pool.view(at), self.queues.wall_ms);
        self.queues.account_window(slot);
    }

    /// Tells that messages are taken, and where the time went if that was asked for: their commit
    /// was `submitted`, and is done `now`.
    pub(crate) fn answer_published(&mut self, published: &Published, now: Time, submitted: Time) {
        let &Published { request, first, count, appended, waited_us } = published;
        let timing = appended.map(|appended| {
            let received = Time(appended.0.saturating_sub(u64::from(waited_us) * 1000));
            Stamps { received, appended, submitted }.timing(now)
        });
        self.answer_queue_with(&request, Kind::QueuePublish, |out| {
            encode_publish_reply(out, first, count, timing.as_ref());
        });
    }

    pub(super) fn consume(&mut self, request: Request) -> Result<Answer, Refusal> {
        let (mut own, mut client) = (request, (0, 0));
        if self.is_asked_by_shard(&request) {
            own.body.len -= CLIENT_CREDIT_BYTES;
            let credit = request.body.part(own.body.len, CLIENT_CREDIT_BYTES);
            client = read_credit(self.pool.view(credit));
        }
        let consume: ConsumeRequest = self.read_body(&own, "consume")?;
        let slot = match self.queue_of(&request, &consume.queue)? {
            Home::Here(slot) => slot,
            Home::There(shard) => {
                self.consume_there(shard, consume.queue, request);
                return Ok(Answer::Later);
            }
        };
        self.check_end(slot)?;
        let auto = consume.flags & CONSUME_AUTO_ACK != 0;
        let prefetch = consume.prefetch.get();
        if consume.flags & !CONSUME_AUTO_ACK != 0 || consume.reserved != 0 {
            return Err(Malformed("consume has a flag that is not known").into());
        }
        if auto != (prefetch == 0) {
            let detail = "prefetch is at least 1, and 0 with automatic settlement";
            return Err(Refusal::new(ErrorCode::InvalidRequest, detail));
        }
        let queue = self.queues.queue(slot);
        if queue.state.consumers.len() >= self.store.settings.queue_consumers_max {
            let detail = "the queue has as many consumers as the broker's limit allows";
            return Err(Refusal::new(ErrorCode::LimitReached, detail));
        }
        let id = queue.state.consumers.next_id();
        queue.state.consumers.insert(Consumer {
            id,
            conn: request.conn,
            client: client.0,
            correlation_id: request.correlation_id,
            prefetch,
            priority: consume.priority.get(),
            held: 0,
            is_blocked: false,
            is_held: false,
            is_spent: false,
        });
        queue.had_consumer = true;
        self.queues.by_conn.entry(request.conn).or_default().push((consume.queue, id));
        match client {
            (0, _) => self.share_credit_again(request.conn),
            (client, share) => self.set_credit(request.conn, client, share),
        }
        self.queues.touch(slot);
        let reply = ConsumeReply { consumer: id.into() };
        self.answer_queue(&request, Kind::QueueConsume, reply.as_bytes());
        Ok(Answer::Later)
    }

    pub(super) fn cancel(&mut self, request: Request) -> Result<Answer, Refusal> {
        let cancel: CancelRequest = self.read_body(&request, "cancel")?;
        let slot = match self.queue_of(&request, &cancel.queue)? {
            Home::Here(slot) => slot,
            Home::There(_) => {
                let id = cancel.consumer.get();
                let slot = self.consuming_slot(request.conn, &cancel.queue, id);
                self.cancel_there(slot.ok_or(UNKNOWN_CONSUMER)?, Some(request));
                return Ok(Answer::Later);
            }
        };
        let id = cancel.consumer.get();
        self.check_consumer(&request, slot, id)?;
        let queue = self.queues.queue(slot);
        queue.state.drop_consumer(id, &mut queue.changes);
        self.forget_consumer(request.conn, &cancel.queue, id);
        self.consumer_has_gone(slot);
        self.answer_queue(&request, Kind::QueueCancel, &[]);
        Ok(Answer::Later)
    }

    fn check_consumer(&mut self, request: &Request, slot: u32, id: u32) -> Result<(), Refusal> {
        let consumer = self.queues.queue(slot).state.consumers.get(id);
        match consumer {
            Some(consumer) if consumer.conn == request.conn => Ok(()),
            _ => Err(UNKNOWN_CONSUMER),
        }
    }

    /// A connection has lost a consumer.
    pub(crate) fn forget_consumer(&mut self, conn: (ConnId, u64), queue: &QueueId, id: u32) {
        if let Some(all) = self.queues.by_conn.get_mut(&conn) {
            all.retain(|(other, consumer)| (other, *consumer) != (queue, id));
            if all.is_empty() {
                self.queues.by_conn.remove(&conn);
            }
            self.credit_lost(conn);
        }
    }

    /// A connection has room for more deliveries.
    pub(crate) fn unblock_consumers(&mut self, conn: (ConnId, u64)) {
        let consumer_at = |queues: &Queues, at| queues.by_conn.get(&conn)?.get(at).copied();
        let mut at = 0;
        while let Some((id, consumer)) = consumer_at(&self.queues, at) {
            at += 1;
            let Some(slot) = self.queues.slot(&id) else { continue };
            let found = self.queues.queue(slot).state.consumers.get_mut(consumer);
            if found.is_some_and(|found| std::mem::take(&mut found.is_blocked)) {
                self.queues.touch(slot);
            }
        }
    }

    pub(super) fn pull(&mut self, now: Time, request: Request) -> Result<Answer, Refusal> {
        let pull: PullRequest = self.read_body(&request, "pull")?;
        let slot = match self.queue_of(&request, &pull.queue)? {
            Home::Here(slot) => slot,
            Home::There(shard) => return Ok(self.hand_on(shard, Kind::QueuePull, request)),
        };
        if pull.max_messages.get() == 0 {
            let detail = "a pull asks for at least one message";
            return Err(Refusal::new(ErrorCode::InvalidRequest, detail));
        }
        self.check_end(slot)?;
        let serial = self.next_serial();
        let queue = self.queues.queue(slot);
        let own = queue.state.settings.lease_ms.get();
        let lease_ms = [pull.lease_ms.get(), own, LEASE_MS].into_iter().find(|&ms| ms > 0);
        queue.pullers.push_back(Puller {
            serial,
            conn: request.conn,
            correlation_id: request.correlation_id,
            frame_bytes: request.frame_bytes,
            max_messages: pull.max_messages.get(),
            max_bytes: usize_of(pull.max_bytes.get()),
            lease_ns: u64::from(lease_ms.expect("the last is not 0")) * NS_PER_MS,
            due: now.plus_ns(u64::from(pull.wait_ms.get()) * NS_PER_MS),
        });
        self.queues.touch(slot);
        Ok(Answer::Later)
    }

    pub(super) fn settle(&mut self, now: Time, request: Request) -> Result<Answer, Refusal> {
        let settle = SettleRequest::decode(self.pool.view(request.body))?;
        let head = *settle.head;
        let quiet = head.flags & SETTLE_QUIET != 0;
        let mut settling = std::mem::take(&mut self.queues.settling);
        settling.rows.clear();
        settling.rows.extend_from_slice(settle.rows);
        let answer = self.settle_rows(now, request, head, &mut settling);
        self.queues.settling = settling;
        match answer {
            // Nobody waits for an answer.
            Err(_) if quiet && !self.is_asked_by_shard(&request) => Ok(Answer::Now),
            answer => answer,
        }
    }

    fn settle_rows(
        &mut self,
        now: Time,
        request: Request,
        head: SettleHead,
        settling: &mut Settling,
    ) -> Result<Answer, Refusal> {
        let quiet = head.flags & SETTLE_QUIET != 0;
        let consumer = head.consumer.get();
        let slot = match self.queue_of(&request, &head.queue)? {
            Home::Here(slot) => slot,
            Home::There(_)
                if consumer != 0
                    && self.consuming_slot(request.conn, &head.queue, consumer).is_none() =>
            {
                return Err(UNKNOWN_CONSUMER);
            }
            Home::There(shard) if quiet => {
                let body = self.pool.view(request.body).to_vec();
                let (kind, call) = (Kind::QueueSettle.number(), crate::forward::Call::Nothing);
                self.call(shard, kind, 0, call, &[], |out| out.extend_from_slice(&body));
                return Ok(Answer::Now);
            }
            Home::There(shard) => return Ok(self.hand_on(shard, Kind::QueueSettle, request)),
        };
        if consumer != 0 {
            self.check_consumer(&request, slot, consumer)?;
        }
        // What is changed in memory must find its place on disk.
        let stream = self.stream_of(slot);
        let room = ROWS_RECORD_BYTES_MAX;
        let reserved = self.store.reserve_record(&mut self.pool, now, stream, room);
        reserved.map_err(|code| Refusal::new(code, "nothing can be settled now"))?;
        let Settling { rows, parts, settled } = settling;
        settled.clear();
        settled.extend(rows.iter().map(|row| self.settle_row_of(now, slot, consumer, row, parts)));
        let acks = if quiet { Acks::None } else { Acks::Durable };
        let recorded = self.record_changes(now, slot, acks);
        self.credit_settled(slot, consumer);
        self.queues.touch(slot);
        let end = recorded.map_err(|code| Refusal::new(code, "what was settled may not last"))?;
        if quiet && !self.is_asked_by_shard(&request) {
            return Ok(Answer::Now);
        }
        let mut body = Vec::new();
        SettleReply::encode(&mut body, settled);
        if quiet {
            self.answer_queue(&request, Kind::QueueSettle, &body);
            return Ok(Answer::Later);
        }
        // What was settled quietly before this is durable as well then.
        let progress = &self.store.partition(stream).progress;
        let end = end.unwrap_or_else(|| progress.appended());
        if end <= progress.durable() {
            self.answer_queue(&request, Kind::QueueSettle, &body);
        } else {
            self.answer_at(slot, end, Pending::Answer(request, Kind::QueueSettle, body));
        }
        Ok(Answer::Later)
    }

    fn settle_row_of(
        &mut self,
        now: Time,
        slot: u32,
        consumer: u32,
        row: &SettleRow,
        parts: &mut Vec<(Range<u64>, Lease)>,
    ) -> SettledRow {
        let queue = self.queues.queue(slot);
        let range = row.first.get()..row.last.get() + 1;
        let asked = range.end - range.start;
        let claim = Claim { consumer, lease: row.lease.get() };
        queue.state.unlease_into(range.clone(), claim, parts);
        let settled: u64 = parts.iter().map(|(part, _)| part.end - part.start).sum();
        let later = now.plus_ns(u64::from(row.delay_ms.get()) * NS_PER_MS);
        match Verb::from_u8(row.verb).expect("checked when it was decoded") {
            Verb::Accept => queue.state.accept(parts, &mut queue.changes),
            Verb::Release => queue.state.release(parts, later, &mut queue.changes),
            Verb::Reject => queue.state.reject(parts, &mut queue.changes),
            Verb::Extend => queue.state.extend(parts, later),
        }
        let error = match row.flags & SETTLE_UP_TO != 0 || settled == asked {
            true => ErrorCode::None,
            false if queue.state.knows(range) => ErrorCode::LeaseEnded,
            false => ErrorCode::UnknownDelivery,
        };
        self.store.counters.queue_messages_settled += settled;
        SettledRow {
            error: error.number().into(),
            reserved: 0.into(),
            settled: u32::try_from(settled).unwrap_or(u32::MAX).into(),
        }
    }

    pub(super) fn peek_queue(&mut self, request: Request) -> Result<Answer, Refusal> {
        let peek: PeekRequest = self.read_body(&request, "peek")?;
        let slot = match self.queue_of(&request, &peek.queue)? {
            Home::Here(slot) => slot,
            Home::There(shard) => return Ok(self.hand_on(shard, Kind::QueuePeek, request)),
        };
        let ask = Ask::Peek {
            request,
            from: peek.from.get(),
            max_messages: peek.max_messages.get().into(),
            max_bytes: usize_of(peek.max_bytes.get()).min(DELIVER_BYTES_MAX),
        };
        Ok(self.ask_queue(slot, ask))
    }

    pub(super) fn redrive_queue(&mut self, request: Request) -> Result<Answer, Refusal> {
        let redrive: RedriveRequest = self.read_body(&request, "redrive")?;
        let slot = match self.queue_of(&request, &redrive.queue)? {
            Home::Here(slot) => slot,
            Home::There(shard) => return Ok(self.hand_on(shard, Kind::QueueRedrive, request)),
        };
        let left = redrive.max_messages.get().min(REDRIVE_MESSAGES_MAX);
        Ok(self.ask_queue(slot, Ask::Redrive { request, from: 0, left, moved: 0, kept: 0 }))
    }

    pub(super) fn redrive_job(&mut self, now: Time, request: Request) -> Result<Answer, Refusal> {
        let job: RedriveJobRequest = self.read_body(&request, "redrive job")?;
        match self.queue_of(&request, &job.queue)? {
            Home::Here(slot) => self.redrive_asked(now, slot, &request),
            Home::There(shard) => Ok(self.hand_on(shard, Kind::QueueRedriveJob, request)),
        }
    }

    fn ask_queue(&mut self, slot: u32, ask: Ask) -> Answer {
        self.queues.queue(slot).asks.push_back(ask);
        self.queues.touch(slot);
        Answer::Later
    }

    pub(super) fn purge_queue(&mut self, now: Time, request: Request) -> Result<Answer, Refusal> {
        let name = topic::NameRequest::decode(self.pool.view(request.body))?.name;
        let id = self.queue_named(name)?;
        let slot = match self.queue_of(&request, &id)? {
            Home::Here(slot) => slot,
            Home::There(shard) => return Ok(self.hand_on(shard, Kind::QueuePurge, request)),
        };
        self.check_end(slot)?;
        let stream = self.stream_of(slot);
        let room = ROWS_RECORD_BYTES_MAX;
        let reserved = self.store.reserve_record(&mut self.pool, now, stream, room);
        reserved.map_err(|code| Refusal::new(code, "nothing can be removed now"))?;
        let queue = self.queues.queue(slot);
        let removed = queue.state.purge(&mut queue.changes);
        let end = self.record_changes(now, slot, Acks::Durable);
        let end = end.map_err(|code| Refusal::new(code, "what was removed may come back"))?;
        self.queues.touch(slot);
        let body = PurgeReply { removed: removed.into() }.as_bytes().to_vec();
        match end {
            Some(end) => {
                self.answer_at(slot, end, Pending::Answer(request, Kind::QueuePurge, body));
            }
            None => self.answer_queue(&request, Kind::QueuePurge, &body),
        }
        Ok(Answer::Later)
    }

    /// Who has the queue, if the request may use it.
    pub(super) fn queue_of(&mut self, request: &Request, id: &QueueId) -> Result<Home, Refusal> {
        self.check_lock(request, id)?;
        self.home(id)
    }

    /// Where nobody knows where a store ends no delivery can be recorded, and so none is made.
    fn check_end(&mut self, slot: u32) -> Result<(), Refusal> {
        let stream = self.stream_of(slot);
        match self.store.partition(stream).damaged.is_end_unknown() {
            true => Err(END_UNKNOWN),
            false => Ok(()),
        }
    }

    fn read_body<T>(&self, request: &Request, what: &'static str) -> Result<T, Refusal>
    where
        T: FromBytes + KnownLayout + Immutable + Unaligned + Copy,
    {
        let body = self.pool.view(request.body);
        let body = T::ref_from_bytes(body).map_err(|_| Refusal::new(ErrorCode::Malformed, what));
        body.copied()
    }
}

/// Messages that one redrive moves.
const REDRIVE_MESSAGES_MAX: u32 = 1000;
pub(super) const QUEUE_FULL: Refusal = Refusal::new(
    ErrorCode::QueueFull,
    "the queue takes only as many messages or bytes as its settings allow, and with all of this \
     publish it would have more",
);
const END_UNKNOWN: Refusal = Refusal::new(
    ErrorCode::EndUnknown,
    "damage hides where the queue's store ends, so nothing is taken or delivered; peek shows what \
     is left",
);
const UNKNOWN_CONSUMER: Refusal =
    Refusal::new(ErrorCode::UnknownConsumer, "no consumer of this connection has this number");

const _: () = assert!(DELIVER_BYTES_MAX < wire::limits::FRAME_BODY_BYTES_MAX);
