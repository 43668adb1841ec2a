//! Consumers of queues that another shard owns. Their deliveries come over the link and go on to
//! the client; a client that does not take them holds up its consumers, and nobody else.

use wire::frame::Envelope;
use wire::queue::{CancelRequest, ConsumeReply, QueueId};
use wire::{FrameHeader, Kind};
use zerocopy::{FromBytes, IntoBytes};

use super::{Call, KIND_CREDIT, error_of};
use crate::pool::Bytes;
use crate::port::ConnId;
use crate::request::Request;
use crate::shard::Shard;

/// Kind of a frame that asks for a consumer to get nothing for now, or to get more again: one byte,
/// 1 or 0. It has no reply.
pub const KIND_HOLD: u16 = 0xff04;

/// A consumer whose queue another shard owns.
#[derive(Debug)]
pub struct Consuming {
    /// What its client asked.
    request: Request,
    /// The queue.
    queue: QueueId,
    /// The owner.
    shard: u16,
    /// Its number there, once known.
    consumer: Option<u32>,
    /// Its client is gone, or has said that it ends.
    is_leaving: bool,
    /// The owner was told so: once, since its answer frees the slot.
    is_cancelled: bool,
    /// The owner was told to send nothing for now.
    is_held: bool,
}

impl Shard {
    /// Asks a queue's owner for its messages.
    pub(crate) fn consume_there(&mut self, shard: u16, queue: QueueId, request: Request) {
        let mut body = self.pool.view(request.body).to_vec();
        let consuming = Consuming {
            request,
            queue,
            shard,
            consumer: None,
            is_leaving: false,
            is_cancelled: false,
            is_held: false,
        };
        let kind = Kind::QueueConsume.number();
        let slot = self.forward.calls.insert(Call::Consume(Box::new(consuming)));
        self.forward.consuming.entry(request.conn).or_default().push(slot);
        let share = self.credit_share(request.conn);
        body.extend_from_slice(&request.conn.1.to_le_bytes());
        body.extend_from_slice(&share.to_le_bytes());
        let correlation_id = u64::from(slot);
        let envelope = Envelope { flags: 0, kind, kind_version: 1, correlation_id };
        self.ask(shard, envelope, &[], |out| out.extend_from_slice(&body));
        self.share_credit_again(request.conn);
    }

    /// The owner answers, delivers, or ends a consumer.
    pub(super) fn consume_answered(&mut self, slot: u32, header: &FrameHeader, body: Bytes) {
        let Some(Call::Consume(consuming)) = self.forward.calls.get_mut(slot) else { return };
        let request = consuming.request;
        let is_live = self.conns.live(request.conn).is_some();
        if header.kind.get() == Kind::QueueDeliver.number() {
            self.hand_over(&request, header, body);
            return self.hold_if_full(slot, request.conn);
        }
        let is_answer = header.kind.get() == Kind::QueueConsume.number();
        if is_live {
            self.hand_over(&request, header, body);
        }
        if is_answer {
            self.request_ended(request.conn, request.frame_bytes);
        }
        if error_of(self.pool.view(body), header).is_some() {
            let Some(Call::Consume(consuming)) = self.forward.calls.get_mut(slot) else { return };
            // A cancel that is on its way answers to this slot.
            if !consuming.is_cancelled {
                self.forget_consuming(slot);
            }
            return;
        }
        let reply = ConsumeReply::ref_from_bytes(self.pool.view(body));
        let consumer = reply.expect("shards speak the protocol").consumer.get();
        let Some(Call::Consume(consuming)) = self.forward.calls.get_mut(slot) else { return };
        consuming.consumer = Some(consumer);
        if !is_live || consuming.is_leaving {
            self.cancel_there(slot, None);
        }
    }

    fn hold_if_full(&mut self, slot: u32, client: (ConnId, u64)) {
        let limit = self.store.settings.reply_bytes_queued_max;
        let is_full = self.conns.live(client).is_some_and(|conn| conn.reply_bytes >= limit);
        if is_full {
            self.tell_hold(slot, Hold::Stop);
        }
    }

    /// The other shards on which a client consumes.
    pub(crate) fn consuming_shards(&self, client: (ConnId, u64)) -> Vec<u16> {
        let slots = self.forward.consuming.get(&client).into_iter().flatten();
        let shards = slots.filter_map(|&slot| match self.forward.calls.get(slot) {
            Some(Call::Consume(consuming)) => Some(consuming.shard),
            _ => None,
        });
        let mut shards: Vec<u16> = shards.collect();
        shards.sort_unstable();
        shards.dedup();
        shards
    }

    /// Tells a shard what a client's consumers there may have.
    pub(crate) fn tell_credit(&mut self, shard: u16, client: u64, share: u32) {
        let envelope = Envelope { flags: 0, kind: KIND_CREDIT, kind_version: 1, correlation_id: 0 };
        self.ask(shard, envelope, &[], |out| {
            out.extend_from_slice(&client.to_le_bytes());
            out.extend_from_slice(&share.to_le_bytes());
        });
    }

    fn tell_hold(&mut self, slot: u32, hold: Hold) {
        let Some(Call::Consume(consuming)) = self.forward.calls.get_mut(slot) else { return };
        let is_held = hold == Hold::Stop;
        if std::mem::replace(&mut consuming.is_held, is_held) == is_held {
            return;
        }
        let shard = consuming.shard;
        let correlation_id = u64::from(slot);
        let envelope = Envelope { flags: 0, kind: KIND_HOLD, kind_version: 1, correlation_id };
        self.ask(shard, envelope, &[], |out| out.push(u8::from(is_held)));
    }

    /// A client has taken what was queued for it: its consumers may get more.
    pub(crate) fn release_held(&mut self, client: (ConnId, u64)) {
        let Some(slots) = self.forward.consuming.get(&client) else { return };
        for slot in slots.clone() {
            self.tell_hold(slot, Hold::GoOn);
        }
    }

    /// On the owner: a consumer beyond a link gets nothing for now, or more again.
    pub(super) fn hold_consumer(&mut self, link: ConnId, correlation_id: u64, body: Bytes) {
        let is_held = self.pool.view(body) == [1];
        let serial = self.conns.peek(link).map_or(0, |conn| conn.serial);
        let Some(all) = self.queues.by_conn.get(&(link, serial)) else { return };
        for (id, consumer) in all.clone() {
            let Some(slot) = self.queues.slot(&id) else { continue };
            let found = self.queues.queue(slot).state.consumers.get_mut(consumer);
            if let Some(found) = found.filter(|found| found.correlation_id == correlation_id) {
                found.is_held = is_held;
                return self.queues.touch(slot);
            }
        }
    }

    /// The client's consumer of another shard's queue with this number.
    pub(crate) fn consuming_slot(
        &self,
        client: (ConnId, u64),
        queue: &QueueId,
        consumer: u32,
    ) -> Option<u32> {
        let slots = self.forward.consuming.get(&client)?;
        slots.iter().copied().find(|&slot| match self.forward.calls.get(slot) {
            Some(Call::Consume(consuming)) => {
                let is_it = consuming.queue == *queue && consuming.consumer == Some(consumer);
                is_it && !consuming.is_leaving
            }
            _ => false,
        })
    }

    /// A consumer of another shard's queue ends: its client says so, or is gone.
    pub(crate) fn cancel_there(&mut self, slot: u32, request: Option<Request>) {
        let Some(Call::Consume(consuming)) = self.forward.calls.get_mut(slot) else { return };
        consuming.is_leaving = true;
        // Without its number it is cancelled once that is known.
        let Some(consumer) = consuming.consumer.filter(|_| !consuming.is_cancelled) else { return };
        consuming.is_cancelled = true;
        let (shard, queue) = (consuming.shard, consuming.queue);
        let body = CancelRequest { queue, consumer: consumer.into() };
        let call = Call::Cancel { slot, request };
        self.call(shard, Kind::QueueCancel.number(), 0, call, &[], |out| {
            out.extend_from_slice(body.as_bytes());
        });
    }

    /// The owner has ended a consumer: nothing more comes for it.
    pub(super) fn cancel_answered(
        &mut self,
        slot: u32,
        request: Option<Request>,
        header: &FrameHeader,
        body: Bytes,
    ) {
        if let Some(request) = request {
            self.relay_back(request, header, body);
        }
        self.forget_consuming(slot);
    }

    /// A client is gone, with its consumers on other shards.
    pub(crate) fn leave_consuming(&mut self, client: (ConnId, u64)) {
        for slot in self.forward.consuming.remove(&client).unwrap_or_default() {
            self.cancel_there(slot, None);
        }
    }

    fn forget_consuming(&mut self, slot: u32) {
        if !matches!(self.forward.calls.get(slot), Some(Call::Consume(_))) {
            return;
        }
        let Some(Call::Consume(consuming)) = self.forward.calls.remove(slot) else { return };
        let client = consuming.request.conn;
        if let Some(slots) = self.forward.consuming.get_mut(&client) {
            slots.retain(|&other| other != slot);
            if slots.is_empty() {
                self.forward.consuming.remove(&client);
            }
        }
        self.share_credit_again(client);
    }
}

/// What a consumer's owner is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// Nothing for now.
    Stop,
    /// More again.
    GoOn,
}
