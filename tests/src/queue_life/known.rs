//! What a life knows of its messages and clients.

use std::collections::{BTreeMap, BTreeSet};

use broker::io::sim::ClientId;
use client::session::{RequestId, Session};
use wire::queue::Verb;

use super::kinds::Credit;
use super::own::OwnAsked;

/// What is known of a message.
#[derive(Debug, Clone, Default)]
pub(super) struct Mail {
    /// Its publish was confirmed.
    pub(super) is_confirmed: bool,
    /// Its number in the first queue, once known.
    pub(super) sequence: Option<u64>,
    /// Deliveries told last, in the first queue, and in which life.
    pub(super) deliveries: Option<(u32, u32)>,
    /// Who has it: client and life.
    pub(super) holder: Option<(usize, u32)>,
    /// What somebody asked to become of it.
    pub(super) asked: Option<Verb>,
    /// That was confirmed.
    pub(super) is_settled: bool,
    /// Times that it came out of the dead letters and was accepted there.
    pub(super) buried: u32,
    /// Somebody asked for that.
    pub(super) is_bury_asked: bool,
    /// It expires so long after its publish; 0: never.
    pub(super) ttl_ms: u32,
    /// A purge may have removed it.
    pub(super) may_be_purged: bool,
    /// It was a dead letter that went back: its number is a new one.
    pub(super) is_reborn: bool,
    /// Somebody asked for it to be a dead letter, at some time.
    pub(super) is_reject_asked: bool,
    /// Its queue has a bound, and may have been full.
    pub(super) may_be_turned_away: bool,
    /// Its queue was full, and it is a dead letter.
    pub(super) is_turned_away: bool,
}

/// What is known of a message in the queue with copies.
#[derive(Debug, Clone, Default)]
pub(super) struct Copied {
    pub(super) is_confirmed: bool,
    pub(super) holder: Option<(usize, u32)>,
    pub(super) is_asked: bool,
    pub(super) is_settled: bool,
}

/// What a request was about.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    Publish(Vec<u64>),
    Settle(usize, Vec<u64>, Verb),
    Create(usize),
    Route(Vec<u64>),
    Credit(usize),
    Topic,
    Fetch(usize),
    Describe,
    Own(OwnAsked),
    Other,
}

/// A client with a session of its own.
#[derive(Debug)]
pub(super) struct Client {
    /// Tells it from all others of all lives.
    pub(super) serial: u64,
    /// The shard that accepted it.
    pub(super) shard: usize,
    pub(super) id: ClientId,
    pub(super) session: Session,
    pub(super) asked: BTreeMap<RequestId, Asked>,
    /// Its consumer of each queue: request, number.
    pub(super) consumers: [Option<(RequestId, u32)>; 3],
    /// The bound of all of them together.
    pub(super) credit: Option<Credit>,
    /// What was delivered to it and not settled: token, queue, sequence, lease.
    pub(super) held: Vec<(u64, usize, u64, u64)>,
    /// Leases that came by push: queue, lease.
    pub(super) pushes: BTreeSet<(usize, u64)>,
    pub(super) is_over: bool,
}

/// What has happened in a life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Messages confirmed.
    pub confirmed: u64,
    /// Messages delivered.
    pub delivered: u64,
    /// Of these, again.
    pub redelivered: u64,
    /// Messages whose accept was confirmed.
    pub accepted: u64,
    /// Dead letters that came out.
    pub buried: u64,
    /// Records of a topic that were routed there.
    pub routed: u64,
    /// Records of a topic that are dead letters.
    pub letters: u64,
    /// Messages that found their queue full.
    pub turned_away: u64,
    /// Looks at queues that go by themselves, of those that were gone and those that were there.
    pub owns: [u64; 2],
    /// Checkpoints that the broker wrote.
    pub checkpoints: u64,
    /// Messages that it moved to free space.
    pub moved: u64,
    /// Messages that it read from disk.
    pub disk_reads: u64,
    /// Segments that it retired.
    pub retired: u64,
}

impl Client {
    /// Messages that were pushed to it and that it has not settled.
    pub(super) fn pushed_to_it(&self) -> usize {
        let is_pushed = |held: &&(u64, usize, u64, u64)| self.pushes.contains(&(held.1, held.3));
        self.held.iter().filter(is_pushed).count()
    }

    /// What it has more than its bound shrinks with what it settles.
    pub(super) fn settled_some(&mut self) {
        let have = self.pushed_to_it();
        if let Some(credit) = &mut self.credit {
            credit.had = credit.had.min(have);
        }
    }

    /// The consumer that a lease is of, 0 if it was pulled.
    pub(super) fn pushed(&self, which: usize, lease: u64) -> u32 {
        let is_pushed = self.pushes.contains(&(which, lease));
        let consumer = self.consumers[which].filter(|_| is_pushed);
        consumer.map_or(0, |(_, number)| number)
    }
}
