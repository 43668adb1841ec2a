//! Whole lives of queues under simulated publishers and consumers, with the obvious model of
//! messages and its laws, across connections that are reset and power that is cut.
//!
//! The laws: what was confirmed is delivered until it is settled, and never after; nobody else has
//! a message meanwhile; its count of deliveries never falls, and grows as long as the broker
//! lives; a message that was delivered before says so; messages keep their order; what was
//! rejected is a dead letter, once. `topic.rs` has those of a topic beside the queues, `own.rs`
//! those of queues that go by themselves.

mod answers;
mod end;
mod kinds;
mod known;
mod laws;
mod own;
mod topic;

use std::collections::{BTreeMap, BTreeSet};

use broker::io::sim::{Rng, SimDisk};
use client::session::Session;
use engine::Settings;
use wire::Acks;
use wire::queue::{ConsumeRequest, PullRequest, QueueId, SettleRow, Verb, put_message};

use self::kinds::Kinds;
pub use self::known::Seen;
use self::known::{Asked, Client, Copied, Mail};
use self::own::Own;
use self::topic::Topic;
use crate::canary::Canary;
use crate::world::World;

/// Turns of the world between two actions.
const TURNS_MAX: u64 = 30;
/// Turns after which a drain should long have ended.
const DRAIN_TURNS_MAX: u32 = 40_000;

/// Rounds in which a client notices that its connection is gone.
const DOUBT_ROUNDS: u32 = 100;

/// Why a life was cut short.
struct Dead;

/// What a life has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Breadth {
    /// Three queues.
    QueuesAlone,
    /// A topic and queues that go by themselves as well, in some seeds.
    All,
}

/// A life of queues.
#[derive(Debug)]
pub struct QueueLife {
    rng: Rng,
    settings: Settings,
    mail: BTreeMap<u64, Mail>,
    clients: Vec<Client>,
    queues: [Option<QueueId>; 3],
    kinds: Kinds,
    /// What was published to both queues.
    copies: BTreeMap<u64, Copied>,
    /// Decides about what is not in all lives.
    more: Rng,
    topic: Topic,
    owns: Vec<Own>,
    /// Connections so far.
    joined: u64,
    /// Dead letters may have gone back.
    has_redriven: bool,
    life: u32,
    tokens: u64,
    wrong: Vec<String>,
    /// Messages that two clients have: who had them first may have lost its connection, and be
    /// about to notice. Serial, rounds that are left, and what is wrong otherwise.
    doubts: Vec<(u64, u32, String)>,
    /// What has happened, for tests that want something to have.
    pub seen: Seen,
}

const NAMES: [&str; 3] = ["jobs", "dead", "copies"];

impl QueueLife {
    /// Lives a life of several rebirths, each with one of these numbers of shards, and a drain.
    /// Gives what broke a law, and what happened.
    pub fn live(seed: u64, shards: &[u16], actions: u32, rebirths: u32) -> (Vec<String>, Seen) {
        let mut life = QueueLife::lived(seed, shards, actions, rebirths, (Breadth::All, None));
        life.wrong.truncate(10);
        (life.wrong, life.seen)
    }

    /// The same without a topic and without queues that go by themselves. Gives what broke a law.
    pub fn live_with_queues_alone(
        seed: u64,
        shards: &[u16],
        actions: u32,
        rebirths: u32,
    ) -> Vec<String> {
        let breadth = (Breadth::QueuesAlone, None);
        QueueLife::lived(seed, shards, actions, rebirths, breadth).wrong
    }

    /// The same in a world with a planted bug. Gives everything that broke a law.
    pub fn live_with(seed: u64, canary: Canary, actions: u32, rebirths: u32) -> Vec<String> {
        let breadth = (Breadth::QueuesAlone, Some(canary));
        QueueLife::lived(seed, &[1], actions, rebirths, breadth).wrong
    }

    fn lived(
        seed: u64,
        shards: &[u16],
        actions: u32,
        rebirths: u32,
        (breadth, canary): (Breadth, Option<Canary>),
    ) -> QueueLife {
        let settings = Settings::tiny();
        let mut rng = Rng::new(seed);
        let kinds = if canary.is_none() { Kinds::some(&mut rng) } else { Kinds::default() };
        let mut more = Rng::new(!seed);
        let kinds = if breadth == Breadth::All { kinds.and_more(&mut more) } else { kinds };
        let mut life = QueueLife {
            rng,
            settings,
            kinds,
            copies: BTreeMap::new(),
            more,
            topic: Topic::default(),
            owns: Vec::new(),
            joined: 0,
            has_redriven: false,
            mail: BTreeMap::new(),
            clients: Vec::new(),
            queues: [None; 3],
            life: 0,
            tokens: 0,
            wrong: Vec::new(),
            doubts: Vec::new(),
            seen: Seen::default(),
        };
        let mut disk = SimDisk::new(life.rng.next_u64());
        for rebirth in 0..=rebirths {
            life.life = rebirth;
            life.settings.shards = shards[life.rng.index(shards.len())];
            let mut world = match World::boot(&life.settings, disk, life.rng.next_u64()) {
                Ok(world) => world,
                Err(failed) => {
                    life.wrong.push(format!("recovery refuses: {}", failed.1));
                    break;
                }
            };
            if let Some(canary) = canary {
                canary.spoil_disk(world.disk().plan());
            }
            let is_last = rebirth == rebirths;
            if !is_last && life.rng.one_in(2) {
                let next = world.disk().mutations() + 1 + life.rng.below(400);
                world.disk().plan().power_loss_at = Some(next);
            }
            let lived = match is_last {
                true => life.drain(&mut world),
                false => life.act(&mut world, actions),
            };
            if lived.is_ok() && !is_last && life.rng.one_in(2) {
                let _ = life.stop(&mut world);
            }
            life.count(&world);
            for error in world.errors() {
                life.wrong.push(format!("the broker says: {error}"));
            }
            life.died();
            disk = world.into_disk();
            disk.power_on();
        }
        life.judge();
        life
    }

    fn act(&mut self, world: &mut World, actions: u32) -> Result<(), Dead> {
        for _ in 0..4 {
            self.join(world);
        }
        self.turns(world, 400)?;
        self.create(world)?;
        for _ in 0..actions {
            let client = self.rng.index(self.clients.len());
            match self.rng.below(12) {
                0..4 => self.publish(),
                4 => self.subscribe(client),
                5 => self.pull(client),
                6..10 => self.settle(client),
                10 if self.rng.one_in(6) => self.leave(world, client),
                10 => {}
                _ => self.happen(client),
            }
            if self.kinds.owns && self.more.one_in(5) {
                self.happen_to_owns(client);
            }
            let turns = 1 + self.rng.below(TURNS_MAX);
            self.turns(world, turns)?;
            if self.clients[client].is_over {
                self.replace(world, client);
            }
        }
        if self.kinds.owns { self.census(world) } else { Ok(()) }
    }

    fn join(&mut self, world: &mut World) {
        let shard = world.any_shard();
        self.joined += 1;
        let client = Client {
            serial: self.joined,
            shard,
            id: world.io(shard).connect(),
            session: Session::new("queue life"),
            asked: BTreeMap::new(),
            consumers: [None; 3],
            credit: None,
            held: Vec::new(),
            pushes: BTreeSet::new(),
            is_over: false,
        };
        self.clients.push(client);
    }

    fn replace(&mut self, world: &mut World, client: usize) {
        self.join(world);
        self.clients.swap_remove(client);
    }

    fn create(&mut self, world: &mut World) -> Result<(), Dead> {
        if self.kinds.events || self.kinds.letters {
            self.create_topic(world)?;
        }
        for queue in [1, 0, 2] {
            let (settings, dead_letter) = self.settings_of(queue);
            let session = &mut self.clients[0].session;
            let id = session.create_queue(NAMES[queue], &settings, dead_letter);
            let Ok(id) = id else { return Err(Dead) };
            self.clients[0].asked.insert(id, Asked::Create(queue));
            for _ in 0..200 {
                self.turns(world, 20)?;
                if self.queues[queue].is_some() && self.clients[0].asked.is_empty() {
                    break;
                }
            }
            if self.clients[0].is_over || !self.clients[0].asked.is_empty() {
                self.wrong.push(format!("{} was not created in time", NAMES[queue]));
                return Err(Dead);
            }
        }
        Ok(())
    }

    /// One client publishes, so that the order of tokens is that of the queue.
    fn publish(&mut self) {
        let count = 1 + self.rng.below(6);
        let is_routed = self.kinds.routes && self.rng.one_in(3);
        let mut messages = Vec::new();
        let mut tokens = Vec::new();
        for _ in 0..count {
            let length = match self.rng.below(30) {
                0 => self.rng.below(20_000),
                _ => self.rng.below(300),
            };
            self.tokens += 1;
            let mut body = self.tokens.to_le_bytes().to_vec();
            body.resize(8 + usize::try_from(length).expect("small"), 7);
            let ttl_ms = if is_routed { 0 } else { self.some_ttl() };
            put_message(&mut messages, 0, ttl_ms, b"properties", &body);
            let may_be_turned_away = self.kinds.bounded;
            let mail = Mail { ttl_ms, may_be_turned_away, ..Mail::default() };
            self.mail.insert(self.tokens, mail);
            tokens.push(self.tokens);
        }
        let Some(queue) = self.queues[0] else { return };
        let count = u32::try_from(count).expect("few");
        if is_routed {
            return self.publish_to_both(count, &messages, tokens);
        }
        let one = &mut self.clients[0];
        if let Ok(id) = one.session.publish(&queue, Acks::Durable, count, &messages) {
            one.asked.insert(id, Asked::Publish(tokens));
        }
    }

    /// One to take messages from.
    fn some_queue(&mut self) -> usize {
        match self.rng.below(8) {
            0 | 1 => 1,
            2 if self.kinds.routes => 2,
            _ => 0,
        }
    }

    fn subscribe(&mut self, client: usize) {
        let which = self.some_queue();
        let prefetch = 1 + u32::try_from(self.rng.below(12)).expect("small");
        let (Some(queue), one) = (self.queues[which], &mut self.clients[client]) else { return };
        if one.consumers[which].is_some() {
            return;
        }
        let request = ConsumeRequest {
            queue,
            prefetch: prefetch.into(),
            priority: 0.into(),
            flags: 0,
            reserved: 0,
        };
        if let Ok(id) = one.session.consume(&request) {
            one.consumers[which] = Some((id, 0));
            one.asked.insert(id, Asked::Other);
        }
    }

    fn pull(&mut self, client: usize) {
        let which = self.some_queue();
        let Some(queue) = self.queues[which] else { return };
        let request = PullRequest {
            queue,
            max_messages: (1 + u32::try_from(self.rng.below(9)).expect("small")).into(),
            max_bytes: u32::MAX.into(),
            wait_ms: u32::try_from(self.rng.below(50)).expect("small").into(),
            lease_ms: 0.into(),
        };
        let one = &mut self.clients[client];
        if let Ok(id) = one.session.pull(&request) {
            one.asked.insert(id, Asked::Other);
        }
    }

    fn settle(&mut self, client: usize) {
        let verb = match self.rng.below(10) {
            0 | 1 => Verb::Release,
            2 => Verb::Reject,
            _ => Verb::Accept,
        };
        let one = &mut self.clients[client];
        if one.held.is_empty() {
            return;
        }
        let (_, which, _, lease) = one.held[self.rng.index(one.held.len())];
        // A dead letter or copy is accepted: it goes nowhere else.
        let verb = if which != 0 && verb == Verb::Reject { Verb::Accept } else { verb };
        let some = 1 + self.rng.index(10);
        let mut chosen = Vec::new();
        one.held.retain(|held| {
            let takes = held.1 == which && held.3 == lease && chosen.len() < some;
            if takes {
                chosen.push(*held);
            }
            !takes
        });
        let Some(queue) = self.queues[which] else { return };
        let consumer = one.pushed(which, lease);
        let rows: Vec<SettleRow> = chosen
            .iter()
            .map(|&(_, _, sequence, lease)| SettleRow {
                first: sequence.into(),
                last: sequence.into(),
                lease: lease.into(),
                verb: verb as u8,
                flags: 0,
                reserved: 0.into(),
                delay_ms: 0.into(),
            })
            .collect();
        if let Ok(id) = one.session.settle(&queue, consumer, &rows) {
            let tokens: Vec<u64> = chosen.iter().map(|held| held.0).collect();
            for token in tokens.iter().filter(|_| which == 0) {
                let mail = self.mail.get_mut(token).expect("delivered to somebody");
                mail.asked = Some(verb);
                mail.is_reject_asked |= verb == Verb::Reject;
                mail.holder = None;
            }
            one.asked.insert(id, Asked::Settle(which, tokens.clone(), verb));
            one.settled_some();
            self.note_buried(which, verb, &tokens);
        }
    }

    /// Dead letters are accepted: they may be gone from now on.
    fn note_buried(&mut self, which: usize, verb: Verb, tokens: &[u64]) {
        for token in tokens.iter().filter(|_| which == 1 && verb == Verb::Accept) {
            self.mail.get_mut(token).expect("delivered to somebody").is_bury_asked = true;
        }
        for token in tokens.iter().filter(|_| which == 2) {
            let copy = self.copies.get_mut(token).expect("delivered to somebody");
            copy.is_asked |= verb == Verb::Accept;
            copy.holder = None;
        }
    }

    fn leave(&mut self, world: &mut World, client: usize) {
        if client == 0 {
            return;
        }
        world.io(self.clients[client].shard).client_reset(self.clients[client].id);
        self.clients[client].is_over = true;
        self.gone(client);
    }

    /// A client is gone: what was pushed to it is anybody's; what it asked is in doubt.
    fn gone(&mut self, client: usize) {
        for mail in self.mail.values_mut() {
            if mail.holder == Some((client, self.life)) {
                mail.holder = None;
            }
        }
        for copy in self.copies.values_mut() {
            copy.holder = copy.holder.filter(|holder| *holder != (client, self.life));
        }
        self.clients[client].held.clear();
        self.clients[client].asked.clear();
    }

    fn died(&mut self) {
        for client in 0..self.clients.len() {
            self.gone(client);
        }
        self.clients.clear();
        self.doubts.clear();
        for mail in self.mail.values_mut() {
            mail.holder = None;
        }
    }

    fn turns(&mut self, world: &mut World, turns: u64) -> Result<(), Dead> {
        for turn in 0..turns {
            if turn % 4 == 0 {
                self.pump_all(world);
            }
            let until = world.now().plus_ns(200_000);
            world.turn(Some(until)).map_err(|_| Dead)?;
        }
        self.pump_all(world);
        Ok(())
    }

    /// Every client sends and takes what there is.
    fn pump_all(&mut self, world: &mut World) {
        (0..self.clients.len()).for_each(|client| self.pump(world, client));
        let is_alive = |serial| self.clients.iter().any(|one| one.serial == serial && !one.is_over);
        self.doubts.retain(|(holder, ..)| is_alive(*holder));
        for (_, rounds, what) in &mut self.doubts {
            *rounds -= 1;
            if *rounds == 0 {
                self.wrong.push(std::mem::take(what));
            }
        }
        self.doubts.retain(|(_, rounds, _)| *rounds > 0);
    }

    fn pump(&mut self, world: &mut World, client: usize) {
        let one = &mut self.clients[client];
        if one.is_over {
            return;
        }
        let count = one.session.outgoing().len();
        if count > 0 {
            world.io(one.shard).client_send(one.id, one.session.outgoing());
            one.session.sent(count);
        }
        let mut received = Vec::new();
        let end = world.io(one.shard).client_receive(one.id, usize::MAX, &mut received);
        one.session.receive(&received);
        loop {
            let one = &mut self.clients[client];
            let mut session = std::mem::replace(&mut one.session, Session::new("away"));
            let event = session.next_event();
            let is_end = matches!(event, Ok(None) | Err(_));
            match event {
                Ok(Some(event)) => self.take(client, &event),
                Ok(None) => {}
                Err(violation) => self.wrong.push(format!("client {client}: {violation}")),
            }
            self.clients[client].session = session;
            if is_end {
                break;
            }
        }
        if end.is_some() {
            self.clients[client].is_over = true;
            self.gone(client);
        }
    }
}
