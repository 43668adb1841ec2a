//! A queue's state on disk: what a checkpoint holds of it, and the replay of what came after.

use std::ops::Range;

use wire::queue::Reason;

use super::State;
use crate::queue::ranges::{RangeMap, RangeSet};

/// What a queue is at one moment, as a checkpoint records it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Sequence number of the next message.
    pub next: u64,
    /// Messages below may have been delivered without anything telling.
    pub suspect: u64,
    /// Bytes of all messages.
    pub bytes: u64,
    /// Messages that are neither gone nor dying.
    pub live: RangeSet,
    /// Messages that are dying, and why.
    pub dying: RangeMap<Reason>,
    /// How often messages have been delivered.
    pub deliveries: RangeMap<u32>,
}

impl State {
    /// What it is now, as though everything published were durable.
    pub fn snapshot(&self) -> Snapshot {
        let mut live = self.ready.clone();
        live.add(self.visible..self.next);
        let mut deliveries = self.deliveries.clone();
        for (range, lease) in self.leases.iter() {
            live.add(range.clone());
            deliveries.insert(range, lease.deliveries);
        }
        for (range, ()) in self.aside.iter() {
            live.add(range);
        }
        for (&(_, from), &(to, _)) in &self.returning {
            live.add(from..to);
        }
        for (&(_, from), &to) in &self.away {
            live.add(from..to);
        }
        Snapshot {
            next: self.next,
            suspect: self.suspect,
            bytes: self.bytes,
            live,
            dying: self.dying.clone(),
            deliveries,
        }
    }

    /// Every message that is not gone, in order.
    pub fn living(&self) -> RangeSet {
        let mut living = self.snapshot().live;
        for (range, _) in self.dying.iter() {
            living.add(range);
        }
        living
    }

    /// Becomes what a checkpoint says.
    pub fn restore(&mut self, snapshot: Snapshot) {
        self.next = snapshot.next;
        self.visible = snapshot.next;
        self.suspect = snapshot.suspect;
        self.bytes = snapshot.bytes;
        self.ready = snapshot.live;
        self.aside = RangeSet::default();
        self.dying = snapshot.dying;
        self.deliveries = snapshot.deliveries;
    }

    /// Replays a publish.
    pub fn replay_published(&mut self, first: u64, count: u32, bytes: u64) {
        let end = first + u64::from(count);
        self.next = self.next.max(end);
        self.visible = self.next;
        self.ready.add(first..end);
        self.bytes += bytes;
    }

    /// Messages were published of which the disk has nothing any more.
    pub fn replay_lost(&mut self, range: Range<u64>) {
        self.next = range.end;
        self.visible = self.next;
        self.aside.add(range);
    }

    /// Replays that messages were written again, where nothing else tells of them.
    pub fn replay_found(&mut self, range: Range<u64>, bytes: u64) {
        self.next = self.next.max(range.end);
        self.visible = self.next;
        // Whether they expire was told with what is lost.
        self.may_expire = true;
        if self.wants_none_of(range.clone()) {
            self.bytes += bytes;
        }
        let dying: Vec<_> = self.dying.within(range.clone()).collect();
        self.ready.add(range);
        for (part, _) in dying {
            self.ready.remove(part);
        }
    }

    /// Replays a delivery.
    pub fn replay_delivered(&mut self, range: Range<u64>) {
        let known: Vec<_> = self.deliveries.within(range.clone()).collect();
        let live: Vec<_> = self.ready.within(range).collect();
        for (part, ()) in live {
            self.deliveries.insert(part, 1);
        }
        for (part, count) in known {
            self.deliveries.insert(part, count + 1);
        }
    }

    /// Replays a removal.
    pub fn replay_removed(&mut self, range: Range<u64>) {
        // Beyond what is known: what was published there is lost, and was gone anyway.
        self.next = self.next.max(range.end);
        self.visible = self.next;
        self.ready.remove(range.clone());
        self.aside.remove(range.clone());
        self.dying.remove(range.clone());
        self.deliveries.remove(range);
    }

    /// Replays how many bytes removals freed.
    pub const fn replay_freed(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Replays a death.
    pub fn replay_died(&mut self, range: Range<u64>, reason: Reason) {
        self.ready.remove(range.clone());
        self.aside.remove(range.clone());
        self.dying.insert(range, reason);
    }

    /// The replay is over. Unless the broker had said goodbye, what it delivered last may not
    /// have been recorded.
    pub fn replayed(&mut self, ending: Ending) {
        if ending == Ending::Sudden {
            self.suspect = self.next;
        }
    }
}

/// How a broker's life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Everything it had done was recorded.
    Clean,
    /// It may have done something last that was not.
    Sudden,
}
