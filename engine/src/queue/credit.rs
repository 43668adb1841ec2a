//! What all consumers of one connection may have together, beside the prefetch of each.
//!
//! The shard that a client is connected to divides it by the shards on which the client consumes;
//! each of these keeps to its share by itself.

use wire::Kind;
use wire::queue::CreditRequest;
use zerocopy::FromBytes;
use zerocopy::little_endian::{U32, U64};

use super::consumers::Consumer;
use crate::pool::Bytes;
use crate::port::ConnId;
use crate::request::{Answer, Refusal, Request};
use crate::shard::Shard;
use crate::units::u32_of;

/// What a link says of a client: its number, and its share, 0 if it has no bound.
pub(crate) type ClientCredit = (U64, U32);

impl Shard {
    /// A client bounds what its consumers have.
    pub(crate) fn credit(&mut self, request: Request) -> Result<Answer, Refusal> {
        let asked = CreditRequest::read_from_bytes(self.pool.view(request.body));
        let malformed = Refusal::new(wire::ErrorCode::Malformed, "credit is one number");
        match asked.map_err(|_| malformed)?.messages.get() {
            0 => self.queues.credits_asked.remove(&request.conn),
            messages => self.queues.credits_asked.insert(request.conn, messages),
        };
        self.share_credit(request.conn);
        self.answer_queue(&request, Kind::QueueCredit, &[]);
        Ok(Answer::Later)
    }

    /// What each shard on which a client consumes may have; 0 if there is no bound.
    pub(crate) fn credit_share(&self, client: (ConnId, u64)) -> u32 {
        let Some(&asked) = self.queues.credits_asked.get(&client) else { return 0 };
        let here = usize::from(self.queues.by_conn.contains_key(&client));
        let shards = here + self.consuming_shards(client).len();
        (asked / u32_of(shards.max(1))).max(1)
    }

    /// A client's bound, or where it consumes, has changed: every shard is told its share.
    pub(crate) fn share_credit(&mut self, client: (ConnId, u64)) {
        let share = self.credit_share(client);
        self.set_credit(client, 0, share);
        for shard in self.consuming_shards(client) {
            self.tell_credit(shard, client.1, share);
        }
    }

    /// The same, if the client has a bound at all.
    pub(crate) fn share_credit_again(&mut self, client: (ConnId, u64)) {
        if self.queues.credits_asked.contains_key(&client) {
            self.share_credit(client);
        }
    }

    /// Another shard tells what one of its clients may have here.
    pub(crate) fn credit_told(&mut self, link: ConnId, body: Bytes) {
        let (client, share) = read_credit(self.pool.view(body));
        let serial = self.conns.peek(link).map_or(0, |conn| conn.serial);
        self.set_credit((link, serial), client, share);
    }

    /// A client's consumers here have this much together from now on.
    pub(crate) fn set_credit(&mut self, conn: (ConnId, u64), client: u64, share: u32) {
        match share {
            0 => self.queues.credits.remove(&(conn, client)),
            share => self.queues.credits.insert((conn, client), share),
        };
        self.credit_freed(conn, client);
    }

    /// How much more a consumer may get, as far as its connection is concerned.
    pub(crate) fn credit_room(&self, consumer: &Consumer) -> u64 {
        let credits = &self.queues.credits;
        if credits.is_empty() || consumer.prefetch == 0 {
            return u64::MAX;
        }
        let Some(&most) = credits.get(&(consumer.conn, consumer.client)) else { return u64::MAX };
        let all = self.queues.by_conn.get(&consumer.conn).into_iter().flatten();
        let held = all.filter_map(|(id, number)| {
            let queue = self.queues.slots.get(self.queues.slot(id)?)?;
            queue.state.consumers.get(*number).filter(|other| other.client == consumer.client)
        });
        let held: u32 = held.map(|other| other.held).sum();
        u64::from(most.saturating_sub(held))
    }

    /// A client's consumers may have room again: who went without is looked at.
    pub(crate) fn credit_freed(&mut self, conn: (ConnId, u64), client: u64) {
        let Some(all) = self.queues.by_conn.get(&conn) else { return };
        for (id, number) in all.clone() {
            let Some(slot) = self.queues.slot(&id) else { continue };
            let found = self.queues.queue(slot).state.consumers.get_mut(number);
            let found = found.filter(|found| found.client == client);
            if found.is_some_and(|found| std::mem::take(&mut found.is_spent)) {
                self.queues.touch(slot);
            }
        }
    }

    /// Messages of a consumer were settled.
    pub(crate) fn credit_settled(&mut self, slot: u32, consumer: u32) {
        if self.queues.credits.is_empty() {
            return;
        }
        let found = self.queues.queue(slot).state.consumers.get(consumer);
        if let Some((conn, client)) = found.map(|found| (found.conn, found.client)) {
            self.credit_freed(conn, client);
        }
    }

    /// A connection is gone, or has lost a consumer.
    pub(crate) fn credit_lost(&mut self, conn: (ConnId, u64)) {
        let Some(first) = self.queues.credits.range((conn, 0)..=(conn, u64::MAX)).next() else {
            return;
        };
        let mut next = Some(*first.0);
        while let Some(key) = next {
            let is_gone = !self.queues.by_conn.contains_key(&conn);
            match is_gone && !self.queues.credits_asked.contains_key(&conn) {
                true => _ = self.queues.credits.remove(&key),
                false => self.credit_freed(conn, key.1),
            }
            let behind = (std::ops::Bound::Excluded(key), std::ops::Bound::Unbounded);
            let behind = self.queues.credits.range(behind).next();
            next = behind.map(|(key, _)| *key).filter(|key| key.0 == conn);
        }
        self.share_credit_again(conn);
    }
}

/// What stands behind a request that a link brings.
pub(crate) fn read_credit(bytes: &[u8]) -> (u64, u32) {
    let (client, rest) = U64::read_from_prefix(bytes).expect("shards speak the protocol");
    let (share, _) = U32::read_from_prefix(rest).expect("shards speak the protocol");
    (client.get(), share.get())
}

/// Bytes of a [`ClientCredit`].
pub(crate) const CLIENT_CREDIT_BYTES: usize = size_of::<ClientCredit>();
