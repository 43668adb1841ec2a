//! What has become of each message of a queue. Knows sequence numbers and sizes, never bodies,
//! disks or clocks.
//!
//! ```text
//!            reveal          lease             accept
//! published ───────► ready ────────► leased ────────────► gone
//!                      ▲  └─ expire, overflow ─┐  │ reject, delivery limit
//!                      │       release, lease  ▼  ▼
//!                      └─ returning ◄─ ends   dying ─ bury ─► gone, and in another queue
//! ```
//!
//! What must survive is collected in [`Changes`]: a queue that replays them ends with the same
//! messages. A message returns only when the record of its last delivery is durable, so that its
//! count of deliveries never falls, whatever dies.

mod dying;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use wire::queue::{QUEUE_SINGLE_ACTIVE, Reason, Settings};

use super::consumers::{Activity, Consumers};
use super::ranges::{RangeMap, RangeSet};
use crate::port::Time;

pub use snapshot::{Ending, Snapshot};

/// Who has a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Number of the delivery.
    pub id: u64,
    /// The consumer, 0 if it was pulled.
    pub consumer: u32,
    /// How often the message has been delivered, this time included.
    pub deliveries: u32,
    /// When it ends.
    pub deadline: Time,
    /// Once this many records of the store are durable, so is the record of the delivery.
    pub recorded: u64,
}

/// By what right somebody settles messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The consumer, 0 if they were pulled.
    pub consumer: u32,
    /// The lease; 0 means any of the consumer's.
    pub lease: u64,
}

impl Claim {
    fn covers(&self, lease: &Lease) -> bool {
        let is_any = self.lease == 0 && self.consumer != 0;
        self.consumer == lease.consumer && (is_any || self.lease == lease.id)
    }
}

/// What has happened that must survive.
#[derive(Debug, Default)]
pub struct Changes {
    /// Messages that are gone.
    pub removed: Vec<Range<u64>>,
    /// Bytes of these.
    pub removed_bytes: u64,
    /// Messages that are to become dead letters.
    pub died: Vec<(Range<u64>, Reason)>,
}

impl Changes {
    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.died.is_empty()
    }

    /// Forgets them, and keeps their memory.
    pub fn clear(&mut self) {
        self.removed.clear();
        self.removed_bytes = 0;
        self.died.clear();
    }
}

/// What a queue counts since the broker's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages accepted.
    pub accepted: u64,
    /// Messages delivered again.
    pub redelivered: u64,
    /// Messages that became dead letters.
    pub dead_lettered: u64,
    /// Messages dropped, since nothing wants them as dead letters.
    pub dropped: u64,
}

/// The state of a queue's messages.
#[derive(Debug, Default)]
pub struct State {
    /// What the queue is like.
    pub settings: Settings,
    /// Who gets messages.
    pub consumers: Consumers,
    /// What it counts.
    pub tally: Tally,
    /// Whether messages can expire.
    pub may_expire: bool,
    next: u64,
    visible: u64,
    ready: RangeSet,
    leases: RangeMap<Lease>,
    deadlines: BTreeSet<(Time, u64)>,
    /// Messages on their way back, until the record of their delivery is durable: by that record
    /// and first number; end, and the time before which they stay away.
    returning: BTreeMap<(u64, u64), (u64, Time)>,
    /// Messages that stay away for a while: by time and first number; end.
    away: BTreeMap<(Time, u64), u64>,
    waiting: u64,
    dying: RangeMap<Reason>,
    /// How many of these have a size that is known, and the bytes of those.
    dying_sized: (u64, u64),
    /// Messages that cannot be read in this life.
    aside: RangeSet,
    /// How often messages were delivered that are not leased.
    deliveries: RangeMap<u32>,
    /// Sizes of messages that are leased, waiting or dying.
    sizes: RangeMap<u32>,
    bytes: u64,
    /// Bytes of messages that are not revealed.
    hidden_bytes: u64,
    /// Messages below may have been delivered before without anything telling.
    suspect: u64,
    last_lease: u64,
}

impl State {
    /// An empty queue.
    pub fn new(settings: Settings) -> State {
        State { settings, may_expire: settings.message_ttl_ms.get() > 0, ..State::default() }
    }

    /// Sequence number of the next message.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Messages that wait to be delivered, or for the time to.
    pub const fn ready(&self) -> u64 {
        self.ready.len() + self.waiting
    }

    /// Messages that are leased.
    pub const fn leased(&self) -> u64 {
        self.leases.len()
    }

    /// Messages on their way to the dead letters.
    pub const fn dying(&self) -> u64 {
        self.dying.len()
    }

    /// Messages that cannot be read in this life.
    pub const fn unreadable(&self) -> u64 {
        self.aside.len()
    }

    /// Messages of all states.
    pub const fn messages(&self) -> u64 {
        let seen = self.ready() + self.leased() + self.dying() + self.aside.len();
        seen + (self.next - self.visible)
    }

    /// Bytes of all messages.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives memory back that an empty queue does not need.
    pub fn shrink(&mut self) {
        let State { ready, leases, dying, aside, deliveries, sizes, .. } = self;
        ready.shrink();
        leases.shrink();
        dying.shrink();
        aside.shrink();
        deliveries.shrink();
        sizes.shrink();
        if self.deadlines.is_empty() {
            self.deadlines = BTreeSet::new();
        }
        if self.returning.is_empty() && self.away.is_empty() {
            (self.returning, self.away) = (BTreeMap::new(), BTreeMap::new());
        }
    }

    /// Who of the consumers gets messages.
    pub fn activity(&self) -> Activity {
        if self.settings.has(QUEUE_SINGLE_ACTIVE) { Activity::Single } else { Activity::All }
    }

    /// Takes messages in; they are delivered once they are revealed. Gives their numbers.
    pub fn publish(&mut self, count: u32, bytes: u64) -> Range<u64> {
        let first = self.next;
        self.next += u64::from(count);
        self.bytes += bytes;
        self.hidden_bytes += bytes;
        first..self.next
    }

    /// The next messages, up to `to` and of `bytes` bytes, may be delivered.
    pub fn reveal(&mut self, to: u64, bytes: u64) {
        self.ready.add(self.visible..to);
        self.visible = to;
        self.hidden_bytes -= bytes;
    }

    /// Whether there are more messages, or bytes of them, than there may be with `count` and
    /// `bytes` more.
    pub fn is_over(&self, count: u64, bytes: u64) -> bool {
        let over = |limit: u64, have: u64| limit > 0 && have > limit;
        over(self.settings.max_messages.get(), self.messages() + count)
            || over(self.settings.max_bytes.get(), self.bytes + bytes)
    }

    /// The first message that is ready, from `from` on.
    pub fn first_ready(&self, from: u64) -> Option<u64> {
        self.ready.from(from).map(|(range, _)| range.start)
    }

    /// Ready messages from the first on that have been delivered equally often; with how often,
    /// and whether they may have been without anything telling.
    pub fn next_ready(&self, from: u64) -> Option<(Range<u64>, u32, Doubt)> {
        let (ready, ()) = self.ready.from(from)?;
        let mut end = ready.end;
        let mut deliveries = 0;
        if let Some((range, count)) = self.deliveries.from(ready.start) {
            if range.start == ready.start {
                deliveries = count;
                end = end.min(range.end);
            } else {
                end = end.min(range.start);
            }
        }
        if ready.start >= self.suspect {
            return Some((ready.start..end, deliveries, Doubt::None));
        }
        Some((ready.start..end.min(self.suspect), deliveries, Doubt::Suspect))
    }

    /// Whether nothing of `range` is ready or dying.
    pub fn wants_none_of(&self, range: Range<u64>) -> bool {
        let ready = self.ready.within(range.clone()).next().is_none();
        ready && self.dying.within(range).next().is_none()
    }

    /// Deliveries of this start have other numbers than those of earlier ones.
    pub fn begin_leases(&mut self, boot_epoch: u32) {
        self.last_lease = u64::from(boot_epoch) << 40;
    }

    /// Whether a message is not gone.
    pub fn is_living(&self, at: u64) -> bool {
        let is_among = |(from, to): (u64, u64)| (from..to).contains(&at);
        (self.visible..self.next).contains(&at)
            || self.ready.contains(at)
            || self.leases.get(at).is_some()
            || self.dying.get(at).is_some()
            || self.aside.contains(at)
            || self.returning.iter().any(|(&(_, from), &(to, _))| is_among((from, to)))
            || self.away.iter().any(|(&(_, from), &to)| is_among((from, to)))
    }

    /// Whether some message of `range` is not gone.
    pub fn knows(&self, range: Range<u64>) -> bool {
        let overlaps = |from: u64, to: u64| from < range.end && range.start < to;
        self.leases.within(range.clone()).next().is_some()
            || !self.wants_none_of(range.clone())
            || overlaps(self.visible, self.next)
            || self.returning.iter().any(|(&(_, from), &(to, _))| overlaps(from, to))
            || self.away.iter().any(|(&(_, from), &to)| overlaps(from, to))
    }

    /// Whether all messages before `at` are revealed, and that is not.
    pub const fn is_revealed(&self, at: u64) -> bool {
        self.visible == at
    }

    /// A number for a delivery.
    pub const fn next_lease(&mut self) -> u64 {
        self.last_lease += 1;
        self.last_lease
    }

    /// Leases ready messages that have all been delivered `lease.deliveries - 1` times. Their
    /// sizes are told with [`State::note_size`].
    pub fn lease(&mut self, range: Range<u64>, lease: Lease) {
        let taken = self.ready.remove(range.clone());
        assert_eq!(taken, range.end - range.start, "only what is ready is leased");
        self.deliveries.remove(range.clone());
        if lease.deliveries > 1 || range.start < self.suspect {
            self.tally.redelivered += taken;
        }
        if let Some(consumer) = self.consumers.get_mut(lease.consumer) {
            consumer.held += u32::try_from(taken).expect("bounded by its prefetch");
        }
        self.put_lease(range, lease);
    }

    /// Notes how long messages are that are being leased or die, each.
    pub fn note_size(&mut self, range: Range<u64>, bytes: u32) {
        self.sizes.insert(range, bytes);
    }

    /// Ready messages are settled by being sent: they are gone at once.
    pub fn take(&mut self, range: Range<u64>, changes: &mut Changes) {
        self.ready.remove(range.clone());
        self.tally.accepted += range.end - range.start;
        self.forget(range, changes);
    }

    /// Takes what `claim` covers of `range` from who has it. Gives the parts.
    pub fn unlease(&mut self, range: Range<u64>, claim: Claim) -> Vec<(Range<u64>, Lease)> {
        let mut parts = Vec::new();
        self.unlease_into(range, claim, &mut parts);
        parts
    }

    /// The same, into a list that is there already.
    pub fn unlease_into(
        &mut self,
        range: Range<u64>,
        claim: Claim,
        parts: &mut Vec<(Range<u64>, Lease)>,
    ) {
        parts.clear();
        parts.extend(self.leases.within(range).filter(|(_, lease)| claim.covers(lease)));
        for (part, lease) in parts {
            self.cut_lease(part.clone(), lease);
        }
    }

    /// Messages that were leased are done.
    pub fn accept(&mut self, parts: &[(Range<u64>, Lease)], changes: &mut Changes) {
        for (part, _) in parts {
            self.tally.accepted += part.end - part.start;
            self.forget(part.clone(), changes);
        }
    }

    /// Messages that were leased go back, not before `due`; those that have been delivered as
    /// often as they may die.
    pub fn release(&mut self, parts: &[(Range<u64>, Lease)], due: Time, changes: &mut Changes) {
        let limit = self.settings.delivery_limit.get();
        for (part, lease) in parts {
            if limit > 0 && lease.deliveries >= limit {
                self.die(part.clone(), lease.deliveries, Reason::DeliveryLimit, changes);
                continue;
            }
            self.deliveries.insert(part.clone(), lease.deliveries);
            self.waiting += part.end - part.start;
            self.returning.insert((lease.recorded, part.start), (part.end, due));
        }
    }

    /// Messages that were leased are refused for good.
    pub fn reject(&mut self, parts: &[(Range<u64>, Lease)], changes: &mut Changes) {
        for (part, lease) in parts {
            self.die(part.clone(), lease.deliveries, Reason::Rejected, changes);
        }
    }

    /// Leases go on until `deadline`.
    pub fn extend(&mut self, parts: &[(Range<u64>, Lease)], deadline: Time) {
        for (part, lease) in parts {
            if let Some(consumer) = self.consumers.get_mut(lease.consumer) {
                consumer.held += u32::try_from(part.end - part.start).expect("held before");
            }
            self.put_lease(part.clone(), Lease { deadline, ..*lease });
        }
    }

    /// A ready message of `bytes` bytes dies.
    pub fn kill(&mut self, at: u64, bytes: u32, reason: Reason, changes: &mut Changes) {
        self.ready.remove(at..at + 1);
        self.note_size(at..at + 1, bytes);
        let deliveries = self.deliveries.get(at).unwrap_or(0);
        self.die(at..at + 1, deliveries, reason, changes);
    }

    /// Everything that is ready is gone, and what cannot be read. Gives how many that were.
    pub fn purge(&mut self, changes: &mut Changes) -> u64 {
        let sizes = self.sizes.iter();
        let held = sizes.map(|(range, size)| (range.end - range.start) * u64::from(size));
        let kept = (held.sum::<u64>() + self.hidden_bytes).min(self.bytes);
        let ready = std::mem::take(&mut self.ready);
        for (range, ()) in ready.iter() {
            self.deliveries.remove(range.clone());
            changes.removed.push(range);
        }
        let aside = std::mem::take(&mut self.aside);
        for (range, ()) in aside.iter() {
            self.deliveries.remove(range.clone());
            changes.removed.push(range);
        }
        self.tally.dropped += aside.len();
        changes.removed_bytes += self.bytes - kept;
        self.bytes = kept;
        ready.len() + aside.len()
    }

    /// How often a message has been delivered that is not leased.
    pub fn delivered(&self, at: u64) -> u32 {
        self.deliveries.get(at).unwrap_or(0)
    }

    /// A ready message of `bytes` bytes is gone: it went to another queue.
    pub fn move_away(&mut self, at: u64, bytes: u32) {
        self.ready.remove(at..at + 1);
        self.deliveries.remove(at..at + 1);
        self.bytes = self.bytes.saturating_sub(u64::from(bytes));
    }

    /// A message cannot be read: it is left alone until the next start.
    pub fn set_aside(&mut self, at: u64) {
        if self.leave_dying(at) || self.ready.remove(at..at + 1) > 0 {
            self.aside.add(at..at + 1);
        }
    }

    /// What the store has recorded up to `durable` is safe: messages whose delivery it is go back
    /// if it is time.
    pub fn settle_returning(&mut self, durable: u64, now: Time) {
        while let Some(entry) = self.returning.first_entry() {
            if entry.key().0 > durable {
                break;
            }
            let ((_, from), (to, due)) = entry.remove_entry();
            self.away.insert((due, from), to);
        }
        while let Some(entry) = self.away.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let ((_, from), to) = entry.remove_entry();
            self.waiting -= to - from;
            self.sizes.remove(from..to);
            self.ready.add(from..to);
        }
    }

    /// Whether messages wait for a record of the store to be durable.
    pub fn is_returning(&self) -> bool {
        !self.returning.is_empty()
    }

    /// Whether messages behind others that are about to return are not delivered yet: to one
    /// consumer at a time they go in their order.
    pub fn must_wait_for_order(&self) -> bool {
        self.is_returning() && self.settings.has(QUEUE_SINGLE_ACTIVE)
    }

    /// When the next lease ends, or a message comes back.
    pub fn deadline(&self) -> Option<Time> {
        let lease = self.deadlines.first().map(|(time, _)| *time);
        let away = self.away.first_key_value().map(|((time, _), _)| *time);
        lease.into_iter().chain(away).min()
    }

    /// Leases that have ended by `now`: their messages go back. Gives consumers that had one.
    pub fn end_leases(&mut self, now: Time, changes: &mut Changes) -> Vec<u32> {
        let mut late = Vec::new();
        while let Some(&(_, from)) = self.deadlines.first().filter(|(time, _)| *time <= now) {
            let (part, lease) = self.leases.around(from).expect("every deadline is a lease's");
            self.cut_lease(part.clone(), &lease);
            self.release(&[(part, lease)], Time::default(), changes);
            if lease.consumer != 0 && !late.contains(&lease.consumer) {
                late.push(lease.consumer);
            }
        }
        late
    }

    /// A consumer is gone: its messages go back.
    pub fn drop_consumer(&mut self, id: u32, changes: &mut Changes) {
        self.consumers.remove(id);
        let parts = self.unlease(0..u64::MAX, Claim { consumer: id, lease: 0 });
        self.release(&parts, Time::default(), changes);
    }

    fn die(&mut self, range: Range<u64>, deliveries: u32, reason: Reason, changes: &mut Changes) {
        if self.settings.dead_letter().is_none() {
            self.tally.dropped += range.end - range.start;
            return self.forget(range, changes);
        }
        if deliveries > 0 {
            self.deliveries.insert(range.clone(), deliveries);
        }
        for (part, size) in self.sizes.within(range.clone()) {
            let (count, bytes) = &mut self.dying_sized;
            *count += part.end - part.start;
            *bytes += (part.end - part.start) * u64::from(size);
        }
        self.dying.insert(range.clone(), reason);
        changes.died.push((range, reason));
    }

    /// Messages that are in no state any more are gone.
    fn forget(&mut self, range: Range<u64>, changes: &mut Changes) {
        let sizes = self.sizes.within(range.clone());
        let sizes = sizes.map(|(part, size)| (part.end - part.start) * u64::from(size));
        let bytes: u64 = sizes.sum();
        self.sizes.remove(range.clone());
        self.deliveries.remove(range.clone());
        self.bytes = self.bytes.saturating_sub(bytes);
        changes.removed_bytes += bytes;
        match changes.removed.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => changes.removed.push(range),
        }
    }

    fn put_lease(&mut self, range: Range<u64>, lease: Lease) {
        self.leases.insert(range.clone(), lease);
        if lease.deadline != Time(u64::MAX) {
            // It may have grown together with a neighbour of the same delivery.
            let (whole, _) = self.leases.around(range.start).expect("just inserted");
            if whole.end > range.end {
                self.deadlines.remove(&(lease.deadline, range.end));
            }
            self.deadlines.insert((lease.deadline, whole.start));
        }
    }

    fn cut_lease(&mut self, part: Range<u64>, lease: &Lease) {
        let (whole, _) = self.leases.around(part.start).expect("cut where it is");
        self.leases.remove(part.clone());
        if lease.deadline != Time(u64::MAX) {
            if part.start == whole.start {
                self.deadlines.remove(&(lease.deadline, whole.start));
            }
            if part.end < whole.end {
                self.deadlines.insert((lease.deadline, part.end));
            }
        }
        if let Some(consumer) = self.consumers.get_mut(lease.consumer) {
            let held = u32::try_from(part.end - part.start).expect("held");
            consumer.held = consumer.held.saturating_sub(held);
        }
    }
}

/// Whether messages may have been delivered without anything telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// They have not.
    None,
    /// They may have: the broker ended without saying goodbye.
    Suspect,
}
