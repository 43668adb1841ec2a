//! A queue's turn: what returns, expires, is delivered, dies; then what has happened is recorded.

use std::ops::Range;

use wire::frame::{Envelope, FLAG_REPLY, encode};
use wire::queue::{
    DeliverHead, DeliveredRow, Message, QUEUE_DEAD_LETTER_TOPIC, ROW_REDELIVERED, Reason,
};
use wire::{Acks, ErrorCode, Kind};
use zerocopy::IntoBytes;

use super::consumers::{Consumer, Puller};
use super::journal::Passage;
use super::load::Hand;
use super::queues::{CONSUMER_TIMEOUT_MS, DELIVER_BYTES_MAX, DELIVER_MESSAGES_MAX, Pending};
use super::record::{RangeRow, RecordKind};
use super::state::{Doubt, Lease};
use super::window::message_bytes;
use crate::port::{Now, OpBatch, Time};
use crate::request::Request;
use crate::shard::Shard;
use crate::units::{u32_of, u64_of};

pub(super) const NS_PER_MS: u64 = 1_000_000;
/// Messages that leave one queue for another in one turn.
pub(super) const MOVES_PER_TURN: u32 = 256;

/// Why a delivery takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// There is no more, or enough of it.
    Done,
    /// Bodies are being loaded.
    Later,
}

impl Shard {
    /// Looks at the queues to which something happened.
    pub(crate) fn serve_queues(&mut self, now: Now, batch: &mut OpBatch) {
        self.queues.wall_ms = now.wall_ns / NS_PER_MS;
        while let Some(&(due, slot)) =
            self.queues.timers.first().filter(|(due, _)| *due <= now.time)
        {
            self.queues.timers.remove(&(due, slot));
            self.queues.queue(slot).timer = None;
            self.queues.touch(slot);
        }
        for slot in std::mem::take(&mut self.queues.again) {
            self.queues.touch(slot);
        }
        self.serve_loads(batch);
        let mut serving = std::mem::take(&mut self.queues.serving);
        std::mem::swap(&mut serving, &mut self.queues.dirty);
        for slot in serving.drain(..) {
            if let Some(queue) = self.queues.slots.get_mut(slot) {
                queue.is_dirty = false;
                self.serve_queue(slot, now, batch);
            }
        }
        self.queues.serving = serving;
        self.checkpoint_stores(now);
    }

    fn serve_queue(&mut self, slot: u32, now: Now, batch: &mut OpBatch) {
        let stream = self.stream_of(slot);
        let durable = self.store.partition(stream).progress.durable();
        let queue = self.queues.queue(slot);
        let late = queue.state.end_leases(now.time, &mut queue.changes);
        for consumer in late {
            self.consumer_timed_out(slot, consumer);
        }
        // After these: what they give back may be there at once, and nothing else would tell.
        self.queues.queue(slot).state.settle_returning(durable, now.time);
        self.clear_head(slot, now, batch);
        self.answer_pulls(slot, now, batch);
        self.push_to_consumers(slot, now, batch);
        self.answer_asks(slot, now, batch);
        self.run_redrive(slot, now, batch);
        // That they die is recorded before they are gone: a replay ends with what came last.
        if self.record_changes(now.time, slot, Acks::None).is_ok() {
            self.bury_dying(slot, now, batch);
        }
        self.move_to_end(slot, now, batch);
        if self.record_changes(now.time, slot, Acks::None).is_err() && self.store.failed.is_none() {
            self.queues.again.push(slot);
        }
        self.trim_window(slot);
        let queue = self.queues.queue(slot);
        let store = queue.store;
        let is_returning = queue.state.is_returning();
        queue.shrink();
        self.queues.account_window(slot);
        let store = self.queues.stores.get_mut(&store).expect("a queue's store is there");
        match is_returning {
            true => store.returning.insert(slot),
            false => store.returning.remove(&slot),
        };
        self.set_queue_timer(slot, now);
    }

    fn trim_window(&mut self, slot: u32) {
        let queue = self.queues.queue(slot);
        let Some(front) = queue.window.front() else {
            if !queue.is_consumed() {
                // Of many queues that were used once, none keeps memory.
                queue.window.clear();
            }
            return;
        };
        if queue.is_idle(front) {
            let mut window = std::mem::take(&mut queue.window);
            window.prune(|range| queue.is_idle(range));
            queue.window = window;
        }
    }

    /// Messages at the head that have expired, or for which there is no room, die.
    fn clear_head(&mut self, slot: u32, now: Now, batch: &mut OpBatch) {
        loop {
            let queue = self.queues.queue(slot);
            queue.head_expires_ms = None;
            let is_over = queue.state.is_head_over();
            let Some(at) = queue.state.first_ready(0).filter(|_| is_over || queue.state.may_expire)
            else {
                return;
            };
            match self.bring(slot, at, batch) {
                Hand::Here => {}
                Hand::Unreadable => continue,
                Hand::Later => return,
            }
            let wall_ms = now.wall_ns / NS_PER_MS;
            let queue = self.queues.queue(slot);
            let ttl_ms = queue.state.settings.message_ttl_ms.get();
            let bytes = queue.window.message(at).expect("just brought");
            let size = u32_of(bytes.len());
            let expires = expires_ms(bytes, ttl_ms);
            let reason = match expires {
                Some(expires) if expires <= wall_ms => Reason::Expired,
                _ if is_over => Reason::Overflow,
                _ => {
                    queue.head_expires_ms = expires;
                    return;
                }
            };
            queue.state.kill(at, size, reason, &mut queue.changes);
        }
    }

    fn answer_pulls(&mut self, slot: u32, now: Now, batch: &mut OpBatch) {
        while let Some(&puller) = self.queues.queue(slot).pullers.front() {
            let is_gone = self.conns.live(puller.conn).is_none();
            let most = u64::from(puller.max_messages).clamp(1, DELIVER_MESSAGES_MAX);
            let bytes_max = puller.max_bytes.clamp(1, DELIVER_BYTES_MAX);
            let is_due = puller.due <= now.time || self.stopping.is_some();
            if !is_gone {
                let stop = self.gather(slot, most, bytes_max, now, batch);
                if self.queues.rows.is_empty() && (stop == Stop::Later || !is_due) {
                    return;
                }
                if !self.deliver_pull(slot, &puller, now) {
                    return self.queues.again.push(slot);
                }
            }
            self.queues.queue(slot).pullers.pop_front();
            self.request_ended(puller.conn, puller.frame_bytes);
        }
    }

    fn push_to_consumers(&mut self, slot: u32, now: Now, batch: &mut OpBatch) {
        loop {
            let queue = self.queues.queue(slot);
            let activity = queue.state.activity();
            if queue.state.first_ready(0).is_none() || queue.state.must_wait_for_order() {
                return;
            }
            let Some(consumer) = queue.state.consumers.next(activity) else { return };
            // What is there is divided, so that nobody takes all of little.
            let share = queue.state.ready() / u64_of(queue.state.consumers.with_room(activity));
            let credit = self.credit_room(&consumer);
            if credit == 0 {
                let found = self.queues.queue(slot).state.consumers.get_mut(consumer.id);
                found.expect("just seen").is_spent = true;
                continue;
            }
            let room = consumer.room().min(credit);
            let most = room.min(share.max(1)).min(DELIVER_MESSAGES_MAX);
            let limit = self.store.settings.reply_bytes_queued_max;
            match self.conns.live(consumer.conn) {
                Some(conn) if conn.reply_bytes < limit => {}
                Some(_) => {
                    let queue = self.queues.queue(slot);
                    let found = queue.state.consumers.get_mut(consumer.id);
                    found.expect("just seen").is_blocked = true;
                    continue;
                }
                // It is being closed; its messages go elsewhere.
                None => {
                    let queue = self.queues.queue(slot);
                    queue.state.drop_consumer(consumer.id, &mut queue.changes);
                    continue;
                }
            }
            self.gather(slot, most, DELIVER_BYTES_MAX, now, batch);
            if self.queues.rows.is_empty() {
                return;
            }
            if !self.deliver_push(slot, &consumer, now) {
                return self.queues.again.push(slot);
            }
        }
    }

    /// Gathers messages for one delivery into `rows` and `body`.
    fn gather(
        &mut self,
        slot: u32,
        most: u64,
        bytes_max: usize,
        now: Now,
        batch: &mut OpBatch,
    ) -> Stop {
        self.queues.rows.clear();
        self.queues.body.clear();
        let wall_ms = now.wall_ns / NS_PER_MS;
        let (mut from, mut taken) = (0, 0);
        while taken < most && self.queues.body.len() < bytes_max {
            let Some((ready, deliveries, doubt)) = self.queues.queue(slot).state.next_ready(from)
            else {
                return Stop::Done;
            };
            match self.bring(slot, ready.start, batch) {
                Hand::Here => {}
                Hand::Unreadable => continue,
                Hand::Later => return Stop::Later,
            }
            let queues = &mut self.queues;
            let queue = queues.slots.get_mut(slot).expect("it is there");
            let may_expire = queue.state.may_expire;
            let most = if may_expire { 1 } else { most - taken };
            let range = ready.start..ready.end.min(ready.start + most);
            let left = bytes_max - queues.body.len();
            let (count, bytes) = queue.window.take(range, left).expect("just brought");
            if count == 1 && !queues.body.is_empty() && bytes.len() > left {
                return Stop::Done;
            }
            if may_expire {
                let ttl_ms = queue.state.settings.message_ttl_ms.get();
                if expires_ms(bytes, ttl_ms).is_some_and(|expires| expires <= wall_ms) {
                    let size = u32_of(bytes.len());
                    let at = ready.start;
                    queue.state.kill(at, size, Reason::Expired, &mut queue.changes);
                    continue;
                }
            }
            let is_again = deliveries > 0 || doubt == Doubt::Suspect;
            queues.body.extend_from_slice(bytes);
            let row = DeliveredRow {
                first: ready.start.into(),
                count: u32::try_from(count).expect("bounded").into(),
                deliveries: (deliveries + 1).into(),
                flags: if is_again { ROW_REDELIVERED } else { 0 }.into(),
                bytes: u32_of(bytes.len()).into(),
            };
            push_row(&mut queues.rows, row);
            taken += count;
            from = ready.start + count;
        }
        Stop::Done
    }

    /// Leases what was gathered. Gives the lease's number.
    fn lease_gathered(
        &mut self,
        slot: u32,
        consumer: u32,
        deadline: Time,
        now: Now,
    ) -> Option<u64> {
        let rows = std::mem::take(&mut self.queues.rows);
        let mut ranges = std::mem::take(&mut self.queues.ranges);
        ranges.clear();
        ranges.extend(rows.iter().map(|row| RangeRow::of(&range_of(row))));
        let recorded = self.record_rows(now.time, slot, RecordKind::Delivered, &ranges, 0);
        self.queues.ranges = ranges;
        let lease = recorded.ok().map(|recorded| {
            let Some(queue) = self.queues.slots.get_mut(slot) else { return 0 };
            let id = queue.state.next_lease();
            let mut at = 0;
            for row in &rows {
                let deliveries = row.deliveries.get();
                let range = range_of(row);
                at = note_sizes(&mut queue.state, range.clone(), &self.queues.body, at);
                queue.state.lease(range, Lease { id, consumer, deliveries, deadline, recorded });
            }
            id
        });
        self.queues.rows = rows;
        lease
    }

    fn deliver_pull(&mut self, slot: u32, puller: &Puller, now: Now) -> bool {
        let deadline = now.time.plus_ns(puller.lease_ns);
        let lease = match self.queues.rows.is_empty() {
            true => Some(0),
            false => self.lease_gathered(slot, 0, deadline, now),
        };
        let Some(lease) = lease else { return false };
        let kind = Kind::QueuePull;
        self.send_gathered(slot, (puller.conn.0, kind, puller.correlation_id), lease, 0);
        self.queues.queue(slot).used = now.time;
        true
    }

    fn deliver_push(&mut self, slot: u32, consumer: &Consumer, now: Now) -> bool {
        let to = (consumer.conn.0, Kind::QueueDeliver, consumer.correlation_id);
        if consumer.prefetch > 0 {
            let timeout_ms = match self.queues.queue(slot).state.settings.consumer_timeout_ms.get()
            {
                0 => CONSUMER_TIMEOUT_MS,
                timeout_ms => timeout_ms,
            };
            let deadline = now.time.plus_ns(u64::from(timeout_ms) * NS_PER_MS);
            let Some(lease) = self.lease_gathered(slot, consumer.id, deadline, now) else {
                return false;
            };
            self.send_gathered(slot, to, lease, consumer.id);
            return true;
        }
        // Settled by being sent.
        let rows = std::mem::take(&mut self.queues.rows);
        let queues = &mut self.queues;
        let queue = queues.slots.get_mut(slot).expect("it is there");
        let mut at = 0;
        for row in &rows {
            at = note_sizes(&mut queue.state, range_of(row), &queues.body, at);
            queue.state.take(range_of(row), &mut queue.changes);
        }
        self.queues.rows = rows;
        self.send_gathered(slot, to, 0, consumer.id);
        true
    }

    pub(super) fn send_gathered(
        &mut self,
        slot: u32,
        (conn, kind, correlation_id): (crate::port::ConnId, Kind, u64),
        lease: u64,
        consumer: u32,
    ) {
        let head = DeliverHead {
            queue: self.queues.queue(slot).id,
            lease: lease.into(),
            consumer: consumer.into(),
            row_count: u16::try_from(self.queues.rows.len()).expect("bounded").into(),
            reserved: 0.into(),
        };
        let count: u64 = self.queues.rows.iter().map(|row| u64::from(row.count.get())).sum();
        self.store.counters.queue_messages_delivered += count;
        let rows = std::mem::take(&mut self.queues.rows);
        let body = std::mem::take(&mut self.queues.body);
        let kind = kind.number();
        let envelope = Envelope { flags: FLAG_REPLY, kind, kind_version: 1, correlation_id };
        self.reply(conn, |out| {
            encode(out, envelope, 0, |out| {
                out.extend_from_slice(head.as_bytes());
                out.extend_from_slice(rows.as_bytes());
                out.extend_from_slice(&body);
            });
        });
        self.queues.rows = rows;
        self.queues.body = body;
    }

    /// Messages that are dying become dead letters.
    fn bury_dying(&mut self, slot: u32, now: Now, batch: &mut OpBatch) {
        if self.queues.queue(slot).state.settings.has(QUEUE_DEAD_LETTER_TOPIC) {
            return self.ferry_dying(slot, now, batch);
        }
        for _ in 0..MOVES_PER_TURN {
            let queue = self.queues.queue(slot);
            let Some((at, reason)) = queue.state.first_dying() else { return };
            let target = queue.state.settings.dead_letter();
            let target = target.and_then(|target| self.queues.slot(&target));
            let Some(to) = target else {
                // Nobody has a place for it any more.
                let queue = self.queues.queue(slot);
                queue.state.drop_dying(at, &mut queue.changes);
                continue;
            };
            match self.bring(slot, at, batch) {
                Hand::Here => {}
                Hand::Unreadable => continue,
                Hand::Later => return,
            }
            if self.record_move(now.time, slot, at, to, Passage::Death(reason)).is_err() {
                if self.store.failed.is_none() {
                    self.queues.again.push(slot);
                }
                return;
            }
            self.queues.touch(to);
        }
        self.queues.touch(slot);
    }

    fn set_queue_timer(&mut self, slot: u32, now: Now) {
        let stopping = self.stopping.is_some();
        let queue = self.queues.queue(slot);
        let head = queue.head_expires_ms.map(|expires_ms| {
            let wall_ms = now.wall_ns / NS_PER_MS;
            now.time.plus_ns((expires_ms.saturating_sub(wall_ms)).saturating_mul(NS_PER_MS).max(1))
        });
        let expires_ms = queue.state.settings.expires_ms.get();
        if queue.is_consumed() {
            queue.used = now.time;
        }
        let is_unused = expires_ms > 0 && !queue.is_consumed() && !queue.is_doomed;
        let unused = is_unused.then(|| queue.used.plus_ns(expires_ms.saturating_mul(NS_PER_MS)));
        let pulls = queue.pullers.iter().map(|puller| puller.due).min();
        let redrive = queue.redrive.as_ref().and_then(|job| job.due);
        let ferry = queue.ferry.as_ref().and_then(|ferry| ferry.due);
        let all =
            [queue.state.deadline(), head, unused, pulls.filter(|_| !stopping), ferry, redrive];
        let next = all.into_iter().flatten().min();
        let is_over = unused.is_some_and(|due| due <= now.time);
        let id = queue.id;
        if queue.timer != next && !is_over {
            let old = std::mem::replace(&mut queue.timer, next);
            if let Some(old) = old {
                self.queues.timers.remove(&(old, slot));
            }
            if let Some(next) = next {
                self.queues.timers.insert((next, slot));
            }
        }
        if is_over {
            self.doom_queue(now.time, &id);
        }
    }

    /// The broker stops: pulls wait no longer.
    pub(crate) fn wake_all_pulls(&mut self) {
        self.queues.touch_pulled();
    }

    /// Answers the request once everything before `offset` is durable.
    pub(crate) fn answer_at(&mut self, slot: u32, offset: u64, pending: Pending) {
        let store = self.queues.queue(slot).store;
        let store = self.queues.stores.get_mut(&store).expect("a queue's store is there");
        store.pending.push_back((offset, pending));
    }

    /// Answers a request about a queue.
    pub(crate) fn answer_queue(&mut self, request: &Request, kind: Kind, body: &[u8]) {
        self.answer_queue_with(request, kind, |out| out.extend_from_slice(body));
    }

    /// The same with a body that `put` appends.
    pub(crate) fn answer_queue_with(
        &mut self,
        request: &Request,
        kind: Kind,
        put: impl FnOnce(&mut Vec<u8>),
    ) {
        if self.conns.live(request.conn).is_some() {
            let envelope = Envelope::reply(kind, request.correlation_id);
            self.reply(request.conn.0, |out| encode(out, envelope, 0, put));
        }
        self.request_ended(request.conn, request.frame_bytes);
    }

    /// A consumer kept a message too long: it gets no more, and is told.
    fn consumer_timed_out(&mut self, slot: u32, id: u32) {
        let queue = self.queues.queue(slot);
        let Some(consumer) = queue.state.consumers.get(id).copied() else { return };
        queue.state.drop_consumer(id, &mut queue.changes);
        let queue_id = queue.id;
        self.forget_consumer(consumer.conn, &queue_id, id);
        self.consumer_has_gone(slot);
        if self.conns.live(consumer.conn).is_some() {
            let detail = "a message was not settled in time; the consumer gets no more";
            let kind = Kind::QueueCancel.number();
            let code = ErrorCode::ConsumerTimedOut;
            self.reply_error(consumer.conn.0, kind, consumer.correlation_id, code, detail);
        }
    }
}

/// Adds a row, or lets the last one go on.
pub(super) fn push_row(rows: &mut Vec<DeliveredRow>, row: DeliveredRow) {
    if let Some(last) = rows.last_mut() {
        let follows = last.first.get() + u64::from(last.count.get()) == row.first.get();
        if follows && last.deliveries == row.deliveries && last.flags == row.flags {
            last.count = (last.count.get() + row.count.get()).into();
            last.bytes = (last.bytes.get() + row.bytes.get()).into();
            return;
        }
    }
    rows.push(row);
}

fn range_of(row: &DeliveredRow) -> Range<u64> {
    row.first.get()..row.first.get() + u64::from(row.count.get())
}

/// Tells the state how long messages are that lie back to back from `at` on. Gives where they end.
fn note_sizes(
    state: &mut super::state::State,
    range: Range<u64>,
    bytes: &[u8],
    mut at: usize,
) -> usize {
    let (mut first, mut size) = (range.start, None);
    for number in range.clone() {
        let len = message_bytes(&bytes[at..]);
        at += len;
        let len = u32_of(len);
        if size.is_some_and(|size| size != len) {
            state.note_size(first..number, size.expect("just seen"));
            first = number;
        }
        size = Some(len);
    }
    if let Some(size) = size {
        state.note_size(first..range.end, size);
    }
    at
}

/// When a message expires, in ms since 1970.
fn expires_ms(bytes: &[u8], queue_ttl_ms: u64) -> Option<u64> {
    let (message, _) = Message::split(bytes).expect("checked once");
    let own = u64::from(message.head.ttl_ms.get());
    let ttl_ms = [own, queue_ttl_ms].into_iter().filter(|&ttl_ms| ttl_ms > 0).min()?;
    Some(message.head.published_ms.get().saturating_add(ttl_ms))
}
