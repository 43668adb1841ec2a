//! A shard's queues, and the stores that their messages lie in.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use wire::queue::{DeliveredRow, QueueId, Settings, SettleRow, SettledRow};

use super::consumers::Puller;
use super::ferry::Ferry;
use super::load::Load;
use super::ranges::RangeSet;
use super::record::{RangeRow, StateRow};
use super::redrive::Redrive;
use super::state::{Changes, Lease, State};
use super::window::Window;
use crate::log::partition::PartitionId;
use crate::log::slab::Slab;
use crate::port::{ConnId, Time};
use crate::request::{Request, Route, RoutePart};

/// How far apart in its store a queue's messages may lie between two that are marked.
pub const MARK_BYTES: u64 = 64 * 1024;
/// Bytes of messages of one delivery, but always one message.
pub const DELIVER_BYTES_MAX: usize = 64 * 1024;
/// Messages of one delivery.
pub const DELIVER_MESSAGES_MAX: u64 = 4096;
/// How long a pulled message is leased if neither queue nor pull says.
pub const LEASE_MS: u32 = 30_000;
/// How long a push consumer may keep a message if the queue does not say.
pub const CONSUMER_TIMEOUT_MS: u32 = 30 * 60 * 1000;

/// One queue.
#[derive(Debug, Default)]
pub struct Queue {
    /// Its id.
    pub id: QueueId,
    /// Number of the store that has its messages.
    pub store: u32,
    /// What has become of each message.
    pub state: State,
    /// Bodies of those that are about to be delivered.
    pub window: Window,
    /// Bytes of these that [`Queues::window_bytes`] counts.
    window_counted: usize,
    /// From message on they lie from this offset of the store on.
    pub index: BTreeMap<u64, u64>,
    /// How many bytes its store had taken at the last mark, if what follows that mark is found
    /// from it.
    pub marked_at: Option<u64>,
    /// Pulls that wait for messages, oldest first.
    pub pullers: VecDeque<Puller>,
    /// Requests that need messages' bodies, oldest first.
    pub asks: VecDeque<Ask>,
    /// Dead letters on their way to a partition.
    pub ferry: Option<Box<Ferry>>,
    /// A job that sends dead letters back.
    pub redrive: Option<Box<Redrive>>,
    /// The load of messages that is under way.
    pub load: Option<u32>,
    /// What has happened and is not recorded yet.
    pub changes: Changes,
    /// On the list of queues to look at.
    pub is_dirty: bool,
    /// When it is looked at next without anything happening.
    pub timer: Option<Time>,
    /// When somebody used it last.
    pub used: Time,
    /// Somebody has consumed from it.
    pub had_consumer: bool,
    /// Its deletion is on its way.
    pub is_doomed: bool,
    /// When the message at its head expires, in ms since 1970.
    pub head_expires_ms: Option<u64>,
    /// Messages that move to the end of the store.
    pub moving: RangeSet,
}

impl Queue {
    /// An empty queue.
    pub fn new(id: QueueId, settings: Settings, store: u32, now: Time) -> Queue {
        Queue { id, store, state: State::new(settings), used: now, ..Queue::default() }
    }

    /// Notes that messages from `first` on lie from `offset` on, unless that is near a place that
    /// is noted already; `taken` is how many bytes the store had taken before.
    pub fn mark(&mut self, first: u64, offset: u64, taken: u64) {
        let is_near = self.marked_at.is_some_and(|at| taken - at < MARK_BYTES);
        if !is_near {
            self.index.insert(first, offset);
            self.marked_at = Some(taken);
        }
    }

    /// Where to begin to look for a message.
    pub fn place_of(&self, at: u64) -> Option<u64> {
        self.index.range(..=at).next_back().map(|(_, &offset)| offset)
    }

    /// Where to look for a message at most: the next ones lie from there on. None if they may lie
    /// before it.
    pub fn place_behind(&self, at: u64) -> Option<u64> {
        let place = self.place_of(at)?;
        let behind = self.index.range(at + 1..).next().map(|(_, &offset)| offset);
        behind.filter(|&behind| behind > place)
    }

    /// Forgets where messages lie that are gone, also of those behind one that stays. Gives the
    /// first offset that still matters.
    pub fn trim_index(&mut self) -> Option<u64> {
        // The last mark may go, so whatever is published next gets one of its own.
        self.marked_at = None;
        let living = self.state.living();
        let mut end = u64::MAX;
        let mut kept = BTreeMap::new();
        while let Some((first, offset)) = self.index.pop_last() {
            if living.within(first..end).next().is_some() {
                kept.insert(first, offset);
            }
            end = first;
        }
        self.index = kept;
        self.index.values().min().copied()
    }

    /// Whether somebody wants messages.
    pub fn is_consumed(&self) -> bool {
        !self.state.consumers.is_empty() || !self.pullers.is_empty()
    }

    /// Gives memory back that a queue does not need which is empty and nobody uses.
    pub fn shrink(&mut self) {
        if self.state.messages() > 0 || self.is_consumed() || !self.changes.is_empty() {
            return;
        }
        self.state.shrink();
        self.moving.shrink();
        self.window.clear();
        (self.index, self.marked_at) = (BTreeMap::new(), None);
        self.changes = Changes::default();
        if self.asks.is_empty() {
            (self.asks, self.pullers) = (VecDeque::new(), VecDeque::new());
        }
    }

    /// Whether nobody wants any of these messages' bodies soon.
    pub fn is_idle(&self, range: Range<u64>) -> bool {
        self.state.wants_none_of(range.clone()) && self.moving.within(range).next().is_none()
    }
}

/// A request that needs bodies of messages.
#[derive(Debug)]
pub enum Ask {
    /// Show messages.
    Peek {
        /// Who asks.
        request: Request,
        /// First sequence number.
        from: u64,
        /// Most messages.
        max_messages: u64,
        /// Most bytes.
        max_bytes: usize,
    },
    /// Send dead letters back.
    Redrive {
        /// Who asks.
        request: Request,
        /// Where it goes on.
        from: u64,
        /// How many may still go.
        left: u32,
        /// How many went.
        moved: u32,
        /// How many cannot.
        kept: u32,
    },
}

/// What waits for records of a store to be durable, in the order of their offsets.
#[derive(Debug)]
pub enum Pending {
    /// Messages of a queue, up to a number and of so many bytes, may be delivered.
    Reveal(QueueId, u64, u64),
    /// A publish is answered.
    Published(Published),
    /// A settle or purge is answered with this body.
    Answer(Request, wire::Kind, Vec<u8>),
    /// Queues have a route's messages.
    Routed(RoutePart),
    /// A checkpoint that began at this offset is whole; nothing before the second one matters.
    Checkpoint(u64, u64),
}

/// A publish whose messages are recorded.
#[derive(Debug, Clone, Copy)]
pub struct Published {
    /// Who asked.
    pub request: Request,
    /// Number of the first message.
    pub first: u64,
    /// How many.
    pub count: u32,
    /// When they were appended, if the answer tells where the time went.
    pub appended: Option<Time>,
    /// How long the request had waited by then, in us.
    pub waited_us: u32,
}

// That it may ask for times makes nothing longer that waits.
const _: () = assert!(size_of::<Published>() <= size_of::<(Request, wire::Kind, Vec<u8>)>());

/// A stream with messages of many queues, and what has become of them.
#[derive(Debug)]
pub struct QueueStore {
    /// Its stream.
    pub stream: PartitionId,
    /// What waits until records are durable: the offset behind the record, and what.
    pub pending: VecDeque<(u64, Pending)>,
    /// Publishes that wait until they are written.
    pub written: VecDeque<(u64, Pending)>,
    /// Bytes that it has taken in this life.
    pub taken: u64,
    /// How many it had when the last checkpoint began.
    pub checkpoint_at: u64,
    /// A checkpoint is not durable yet.
    pub is_checkpointing: bool,
    /// Queues with messages that return once records are durable.
    pub returning: BTreeSet<u32>,
    /// Its last record is the checkpoint with which a broker says goodbye.
    pub is_closed: bool,
}

impl QueueStore {
    /// A store over a stream.
    pub fn new(stream: PartitionId) -> QueueStore {
        QueueStore {
            stream,
            pending: VecDeque::new(),
            written: VecDeque::new(),
            taken: 0,
            checkpoint_at: 0,
            is_checkpointing: false,
            returning: BTreeSet::new(),
            is_closed: false,
        }
    }
}

/// Room for what one request settles, kept from one to the next.
#[derive(Debug, Default)]
pub struct Settling {
    /// What is asked for.
    pub rows: Vec<SettleRow>,
    /// The leases that one row covers.
    pub parts: Vec<(Range<u64>, Lease)>,
    /// What became of the rows.
    pub settled: Vec<SettledRow>,
}

/// All queues of a shard.
#[derive(Debug, Default)]
pub struct Queues {
    /// Queues by slot.
    pub slots: Slab<Box<Queue>>,
    /// Slots by id.
    pub by_id: BTreeMap<QueueId, u32>,
    /// Stores by number.
    pub stores: BTreeMap<u32, QueueStore>,
    /// Numbers of stores by stream.
    pub streams: BTreeMap<PartitionId, u32>,
    /// Queues to look at in this turn.
    pub dirty: Vec<u32>,
    /// Queues to look at in the next turn that brings something.
    pub again: Vec<u32>,
    /// When queues are to be looked at.
    pub timers: BTreeSet<(Time, u32)>,
    /// Consumers of each connection.
    pub by_conn: BTreeMap<(ConnId, u64), Vec<(QueueId, u32)>>,
    /// Exclusive queues of each connection.
    pub exclusive: BTreeMap<(ConnId, u64), Vec<QueueId>>,
    /// What consumers of clients may have together: by connection and client.
    pub credits: BTreeMap<((ConnId, u64), u64), u32>,
    /// What clients that are connected here have asked for, of all shards together.
    pub credits_asked: BTreeMap<(ConnId, u64), u32>,
    /// Loads under way.
    pub loads: Slab<Load>,
    /// Routes that are not answered yet.
    pub routes: Slab<Route>,
    /// Loads that go on in this turn.
    pub continued: Vec<Load>,
    /// The time of this turn.
    pub now: Time,
    /// Wall clock of this turn in ms.
    pub wall_ms: u64,
    /// Bytes in all windows.
    pub window_bytes: usize,
    /// The list of those that are being looked at, between turns empty.
    pub(super) serving: Vec<u32>,
    /// What is being settled, and what became of it; between requests empty.
    pub(crate) settling: Settling,
    pub(super) rows: Vec<DeliveredRow>,
    pub(super) body: Vec<u8>,
    pub(super) ranges: Vec<RangeRow>,
    pub(super) facts: Vec<StateRow>,
    pub(super) bytes: Vec<u8>,
}

impl Queues {
    /// The queue with this id.
    pub fn slot(&self, id: &QueueId) -> Option<u32> {
        self.by_id.get(id).copied()
    }

    /// Puts a queue on the list of those to look at.
    pub fn touch(&mut self, slot: u32) {
        if let Some(queue) = self.slots.get_mut(slot)
            && !queue.is_dirty
        {
            queue.is_dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Counts what the queue's window holds now.
    pub fn account_window(&mut self, slot: u32) {
        let queue = self.slots.get_mut(slot).expect("a queue that is looked at is there");
        let bytes = queue.window.held();
        self.window_bytes = self.window_bytes + bytes - queue.window_counted;
        queue.window_counted = bytes;
    }

    /// The queue in a slot that is known to be taken.
    pub fn queue(&mut self, slot: u32) -> &mut Queue {
        self.slots.get_mut(slot).expect("a queue that is looked at is there")
    }

    /// When something is to be done though nothing happens.
    pub fn deadline(&self) -> Option<Time> {
        let now = (!self.dirty.is_empty()).then_some(Time::default());
        now.or_else(|| self.timers.first().map(|(time, _)| *time))
    }

    /// Looks at every queue with pulls that wait.
    pub fn touch_pulled(&mut self) {
        let waiting = self.slots.iter().filter(|(_, queue)| !queue.pullers.is_empty());
        for slot in waiting.map(|(slot, _)| slot).collect::<Vec<_>>() {
            self.touch(slot);
        }
    }

    /// What waited for records of a store that are written or durable up to these offsets.
    pub fn next_pending(&mut self, store: u32, written: u64, durable: u64) -> Option<Pending> {
        let store = self.stores.get_mut(&store)?;
        if store.pending.front().is_some_and(|(end, _)| *end <= durable) {
            return store.pending.pop_front().map(|(_, pending)| pending);
        }
        if store.written.front().is_some_and(|(end, _)| *end <= written) {
            return store.written.pop_front().map(|(_, pending)| pending);
        }
        None
    }

    /// Takes a queue in.
    pub fn insert(&mut self, queue: Queue) -> u32 {
        let id = queue.id;
        let slot = self.slots.insert(Box::new(queue));
        self.by_id.insert(id, slot);
        slot
    }

    /// Takes a queue out.
    pub fn remove(&mut self, id: &QueueId) -> Option<(u32, Box<Queue>)> {
        let slot = self.by_id.remove(id)?;
        let queue = self.slots.remove(slot)?;
        if let Some(time) = queue.timer {
            self.timers.remove(&(time, slot));
        }
        self.dirty.retain(|&other| other != slot);
        self.again.retain(|&other| other != slot);
        if let Some(store) = self.stores.get_mut(&queue.store) {
            store.returning.remove(&slot);
        }
        self.window_bytes -= queue.window_counted;
        Some((slot, queue))
    }
}
