//! Queues that go by themselves, in some lives: with their connection, with their last consumer, or
//! when nobody has used them for a while.
//!
//! The laws: none goes before its time, each goes then, and nobody but its connection has anything
//! from an exclusive one.

use std::collections::BTreeSet;

use client::session::{Event, QueueEvent, RequestId};
use wire::ErrorCode;
use wire::queue::{
    self, ConsumeRequest, ListReply, PullRequest, QUEUE_AUTO_DELETE, QUEUE_EXCLUSIVE, QueueId,
};

use super::known::Asked;
use super::{Dead, QueueLife};
use crate::world::World;

/// How long nobody may use those that expire.
const EXPIRES_MS: u64 = 20;
/// After this time of quiet whatever is to go is gone.
const QUIET_NS: u64 = 300_000_000;

/// One of them.
#[derive(Debug)]
pub(super) struct Own {
    name: String,
    settings: queue::Settings,
    /// Serial of the connection that made it.
    maker: u64,
    life: u32,
    id: Option<QueueId>,
    consumer: Option<OwnConsumer>,
    had_consumer: bool,
}

/// A consumer of one of them.
#[derive(Debug, Clone, Copy)]
struct OwnConsumer {
    /// Serial of its connection.
    serial: u64,
    /// The request that asked for it.
    asked: RequestId,
    /// Its number, unless it is only asked for, or asked to end.
    number: Option<u32>,
}

/// What was asked about one of them, by its place in the list.
#[derive(Debug, Clone, Copy)]
pub(super) enum OwnAsked {
    Create(usize),
    Consume(usize),
    Cancel(usize),
    Intrude(usize),
    List,
}

/// What such a queue is like.
pub(super) fn settings_of(flags: u32, expires_ms: u64) -> queue::Settings {
    queue::Settings { flags: flags.into(), expires_ms: expires_ms.into(), ..queue::Settings::new() }
}

impl QueueLife {
    /// A client makes one; that it is there is told later.
    pub(super) fn make_own(&mut self, client: usize, flags: u32, expires_ms: u64) {
        let index = self.owns.len();
        let name = format!("mine-{index}");
        let settings = settings_of(flags, expires_ms);
        let one = &mut self.clients[client];
        if let Ok(id) = one.session.create_queue(&name, &settings, "") {
            one.asked.insert(id, Asked::Own(OwnAsked::Create(index)));
            let (maker, life) = (one.serial, self.life);
            let consumer = None;
            let had_consumer = false;
            self.owns.push(Own { name, settings, maker, life, id: None, consumer, had_consumer });
        }
    }

    /// What happens to them in lives that have them.
    pub(super) fn happen_to_owns(&mut self, client: usize) {
        match self.more.below(4) {
            0 => {
                let (exclusive, auto) = (QUEUE_EXCLUSIVE, QUEUE_AUTO_DELETE);
                let kinds = [
                    (exclusive, 0),
                    (exclusive, EXPIRES_MS),
                    (exclusive | auto, 0),
                    (auto, 0),
                    (0, EXPIRES_MS),
                    (auto, EXPIRES_MS),
                ];
                let (flags, expires_ms) = kinds[self.more.index(kinds.len())];
                self.make_own(client, flags, expires_ms);
            }
            1 => self.consume_own(client),
            2 => self.cancel_own(client),
            _ => self.intrude(client),
        }
    }

    /// One that is known to be there, of this client or of others.
    fn some_own(&mut self, is_wanted: impl Fn(&Own) -> bool) -> Option<(usize, QueueId)> {
        let life = self.life;
        let all = self.owns.iter().enumerate();
        let all = all.filter(|(_, own)| own.life == life && is_wanted(own));
        let all: Vec<(usize, QueueId)> =
            all.filter_map(|(index, own)| Some((index, own.id?))).collect();
        let some = self.more.index(all.len().max(1));
        all.get(some).copied()
    }

    fn consume_own(&mut self, client: usize) {
        let serial = self.clients[client].serial;
        let is_open = |own: &Own| own.consumer.is_none() && !own.is_left();
        let found = self.some_own(|own| own.maker == serial && is_open(own));
        let Some((index, queue)) = found else { return };
        let request =
            ConsumeRequest { queue, prefetch: 1.into(), priority: 0.into(), flags: 0, reserved: 0 };
        let one = &mut self.clients[client];
        if let Ok(id) = one.session.consume(&request) {
            one.asked.insert(id, Asked::Own(OwnAsked::Consume(index)));
            self.owns[index].consumer = Some(OwnConsumer { serial, asked: id, number: None });
        }
    }

    fn cancel_own(&mut self, client: usize) {
        let serial = self.clients[client].serial;
        let number = |own: &Own| own.consumer.filter(|consumer| consumer.serial == serial)?.number;
        let Some((index, queue)) = self.some_own(|own| number(own).is_some()) else { return };
        let number = number(&self.owns[index]).expect("just seen");
        let one = &mut self.clients[client];
        if let Ok(id) = one.session.cancel(&queue, number) {
            one.asked.insert(id, Asked::Own(OwnAsked::Cancel(index)));
            self.owns[index].consumer.as_mut().expect("just seen").number = None;
        }
    }

    /// A client asks for messages of another one's exclusive queue.
    fn intrude(&mut self, client: usize) {
        let serial = self.clients[client].serial;
        let found = self.some_own(|own| own.is_exclusive() && own.maker != serial);
        let Some((index, queue)) = found else { return };
        let request = PullRequest {
            queue,
            max_messages: 1.into(),
            max_bytes: 1.into(),
            wait_ms: 0.into(),
            lease_ms: 0.into(),
        };
        let one = &mut self.clients[client];
        if let Ok(id) = one.session.pull(&request) {
            one.asked.insert(id, Asked::Own(OwnAsked::Intrude(index)));
        }
    }

    /// Whether a refusal is one that may come of what was asked.
    pub(super) fn is_own_refusal(&self, asked: OwnAsked, code: Option<ErrorCode>) -> bool {
        match (asked, code) {
            (OwnAsked::Intrude(_), Some(ErrorCode::QueueLocked | ErrorCode::UnknownQueue)) => true,
            // It may have expired before.
            (OwnAsked::Consume(index), Some(ErrorCode::UnknownQueue)) => {
                self.owns[index].settings.expires_ms.get() > 0
            }
            _ => false,
        }
    }

    /// Whether a consumer of one of them was ended that may be: the queue was about to expire.
    pub(super) fn is_own_ended(&mut self, client: usize, id: RequestId) -> bool {
        let serial = self.clients[client].serial;
        let is_it = |consumer: &OwnConsumer| (consumer.serial, consumer.asked) == (serial, id);
        let own = self.owns.iter_mut().find(|own| own.consumer.as_ref().is_some_and(is_it));
        let Some(own) = own.filter(|own| own.expires()) else { return false };
        own.consumer = None;
        true
    }

    /// Something of these queues was answered.
    pub(super) fn take_own(&mut self, asked: OwnAsked, event: &Event<'_>) {
        match (asked, event) {
            (OwnAsked::Create(index), Event::Queue(_, QueueEvent::Created(reply))) => {
                self.owns[index].id = Some(reply.queue);
            }
            (OwnAsked::Consume(index), Event::Queue(_, QueueEvent::Consuming(reply))) => {
                let own = &mut self.owns[index];
                own.consumer.as_mut().expect("it asked").number = Some(reply.consumer.get());
                own.had_consumer = true;
            }
            (OwnAsked::Consume(index), _) => self.owns[index].consumer = None,
            (OwnAsked::Cancel(index), Event::Queue(..)) => self.owns[index].consumer = None,
            (OwnAsked::Intrude(index), Event::Queue(..)) => {
                let name = &self.owns[index].name;
                self.wrong.push(format!("{name} is exclusive, and answered another connection"));
            }
            (OwnAsked::List, Event::Queue(_, QueueEvent::Listed(names))) => self.judge_owns(*names),
            _ => {}
        }
    }

    /// After a while of quiet those are there that have a reason to be, and no others.
    pub(super) fn census(&mut self, world: &mut World) -> Result<(), Dead> {
        let until = world.now().plus_ns(QUIET_NS);
        while world.now() < until {
            self.turns(world, 20)?;
        }
        let id = self.clients[0].session.list_queues("").map_err(|_| Dead)?;
        self.clients[0].asked.insert(id, Asked::Own(OwnAsked::List));
        self.answered(world)
    }

    fn judge_owns(&mut self, names: ListReply<'_>) {
        let names: BTreeSet<&str> =
            names.map(|row| row.expect("the broker sends what it says").1).collect();
        let all = self.clients.iter().filter(|one| !one.is_over);
        let living: BTreeSet<u64> = all.map(|one| one.serial).collect();
        for own in &self.owns {
            let is_there = names.contains(own.name.as_str());
            let shall_be =
                if own.life == self.life { own.shall_be(&living) } else { own.outlives() };
            if shall_be.is_some_and(|shall_be| shall_be != is_there) {
                let what = if is_there { "is still there" } else { "is gone" };
                self.wrong.push(format!("{} {what}: {own:?}", own.name));
            }
            if let Some(shall_be) = shall_be {
                self.seen.owns[usize::from(shall_be)] += 1;
            }
        }
    }
}

impl Own {
    fn has(&self, flag: u32) -> bool {
        self.settings.has(flag)
    }

    fn is_exclusive(&self) -> bool {
        self.has(QUEUE_EXCLUSIVE)
    }

    /// Whether it has had its last consumer.
    fn is_left(&self) -> bool {
        self.had_consumer && self.has(QUEUE_AUTO_DELETE)
    }

    fn expires(&self) -> bool {
        self.settings.expires_ms.get() > 0
    }

    /// Whether it is there while these connections are, if that is known.
    fn shall_be(&self, living: &BTreeSet<u64>) -> Option<bool> {
        if self.is_exclusive() && !living.contains(&self.maker) {
            return Some(false);
        }
        self.id?;
        let may_have_had_one = self.consumer.is_some() && !self.had_consumer;
        match self.consumer.filter(|consumer| living.contains(&consumer.serial)) {
            Some(consumer) => consumer.number.map(|_| true),
            None if self.expires() || self.is_left() => Some(false),
            None if may_have_had_one && self.has(QUEUE_AUTO_DELETE) => None,
            None => Some(true),
        }
    }

    /// Whether it is there after the broker's end, if that is known.
    fn outlives(&self) -> Option<bool> {
        if self.is_exclusive() || self.expires() {
            return Some(false);
        }
        let is_sure = self.id.is_some() && !self.had_consumer && self.consumer.is_none();
        is_sure.then_some(true)
    }
}
