//! What else happens in a life, each kind in some seeds only: messages that expire, bounds of whole
//! connections, publishes to two queues, dead letters that go back, purges, queues of one
//! connection.

use broker::io::sim::Rng;
use wire::Acks;
use wire::queue::{
    self, Overflow, QUEUE_AUTO_DELETE, QUEUE_DEAD_LETTER_TOPIC, QUEUE_EXCLUSIVE, RedriveJobRequest,
    RedriveVerb, RouteTarget,
};

use super::own;
use super::topic::{self, LETTERS, ROUTED};
use super::{Asked, NAMES, QueueLife};

/// Messages of the first queue, where it has a bound.
const MESSAGES_MAX: u64 = 60;

/// Which of them happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Kinds {
    expiry: bool,
    pub(super) credit: bool,
    pub(super) routes: bool,
    redrive: bool,
    purge: bool,
    own_queues: bool,
    /// Routes go to a partition of a topic as well.
    pub(super) events: bool,
    /// Dead letters go to a partition of a topic.
    pub(super) letters: bool,
    /// The first queue has a bound: what is beyond it becomes dead letters.
    pub(super) bounded: bool,
    /// Queues that go by themselves.
    pub(super) owns: bool,
}

impl Kinds {
    /// Some of them.
    pub(super) fn some(rng: &mut Rng) -> Kinds {
        let mut half = || rng.one_in(2);
        Kinds {
            expiry: half(),
            credit: half(),
            routes: half(),
            redrive: half(),
            purge: half(),
            own_queues: half(),
            ..Kinds::default()
        }
    }

    /// Some of the others as well.
    pub(super) fn and_more(self, rng: &mut Rng) -> Kinds {
        let mut half = || rng.one_in(2);
        let (events, letters, bounded, owns) = (half(), half(), half(), half());
        let routes = self.routes || events;
        Kinds { routes, redrive: self.redrive && !letters, events, letters, bounded, owns, ..self }
    }
}

/// The bound of a connection, once it is confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Credit {
    /// What was asked for.
    pub(super) most: usize,
    /// What it had then, less what was settled since.
    pub(super) had: usize,
}

impl QueueLife {
    /// What the queues are like, and where their dead letters go.
    pub(super) fn settings_of(&self, which: usize) -> (queue::Settings, &'static str) {
        let mut settings = queue::Settings::new();
        // What is not settled in time comes back; consumers here take their time.
        settings.lease_ms = 3_600_000.into();
        if which != 0 {
            return (settings, "");
        }
        if self.kinds.bounded {
            settings.max_messages = MESSAGES_MAX.into();
            settings.overflow = Overflow::RejectDeadLetter as u8;
        }
        if !self.kinds.letters {
            return (settings, NAMES[1]);
        }
        settings.flags = QUEUE_DEAD_LETTER_TOPIC.into();
        settings.dead_letter_partition = LETTERS.into();
        (settings, topic::NAME)
    }

    /// When the next message expires, in ms after its publish; 0: never.
    pub(super) fn some_ttl(&mut self) -> u32 {
        match self.kinds.expiry && self.rng.one_in(4) {
            true => 5 + u32::try_from(self.rng.below(400)).expect("small"),
            false => 0,
        }
    }

    /// One of the kinds of this life happens, perhaps.
    pub(super) fn happen(&mut self, client: usize) {
        match self.rng.below(40) {
            0..4 if self.kinds.credit => self.bound(client),
            4..7 if self.kinds.redrive => self.redrive(),
            7 if self.kinds.purge && self.rng.one_in(3) => self.purge(),
            8..10 if self.kinds.own_queues && client != 0 => self.own_queue(client),
            _ => {}
        }
    }

    fn bound(&mut self, client: usize) {
        let most = u32::try_from(self.rng.below(12)).expect("small");
        let one = &mut self.clients[client];
        if let Ok(id) = one.session.credit(most) {
            one.credit = None;
            one.asked.insert(id, Asked::Credit(usize::try_from(most).expect("small")));
        }
    }

    fn redrive(&mut self) {
        let Some(queue) = self.queues[1] else { return };
        let request = RedriveJobRequest {
            queue,
            verb: match self.rng.below(4) {
                0 => RedriveVerb::Stop,
                _ => RedriveVerb::Start,
            } as u8,
            reserved: [0; 3],
            rate: u32::try_from(self.rng.below(3) * 40).expect("small").into(),
            max_messages: self.rng.below(6).into(),
        };
        let one = &mut self.clients[0];
        if let Ok(id) = one.session.redrive_job(&request) {
            one.asked.insert(id, Asked::Other);
            self.has_redriven = true;
        }
    }

    fn purge(&mut self) {
        let one = &mut self.clients[0];
        if let Ok(id) = one.session.purge_queue(NAMES[0]) {
            one.asked.insert(id, Asked::Other);
            for mail in self.mail.values_mut() {
                mail.may_be_purged = true;
            }
        }
    }

    /// A queue that goes with its connection, or with the consumer that it has at once.
    fn own_queue(&mut self, client: usize) {
        self.tokens += 1;
        let name = format!("own-{}", self.tokens);
        let flags = QUEUE_EXCLUSIVE | if self.rng.one_in(2) { QUEUE_AUTO_DELETE } else { 0 };
        let expires_ms = if self.rng.one_in(2) { 20 } else { 0 };
        let settings = own::settings_of(flags, expires_ms);
        let one = &mut self.clients[client];
        if let Ok(id) = one.session.create_queue(&name, &settings, "") {
            one.asked.insert(id, Asked::Other);
        }
    }

    /// Publishes to the first queue and to the one with copies, in one record, and perhaps to a
    /// partition.
    pub(super) fn publish_to_both(&mut self, count: u32, messages: &[u8], tokens: Vec<u64>) {
        let (Some(jobs), Some(copies)) = (self.queues[0], self.queues[2]) else { return };
        let mut targets = vec![RouteTarget::queue(jobs), RouteTarget::queue(copies)];
        if let Some(topic) = self.topic.id.filter(|_| self.kinds.events) {
            targets.push(RouteTarget::partition(topic, ROUTED));
        }
        let one = &mut self.clients[0];
        if let Ok(id) = one.session.route(&targets, Acks::Durable, count, messages) {
            self.copies.extend(tokens.iter().map(|&token| (token, super::Copied::default())));
            one.asked.insert(id, Asked::Route(tokens));
        }
    }
}
