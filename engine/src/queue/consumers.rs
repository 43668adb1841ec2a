//! Who gets messages of a queue, and whose turn it is.

use crate::port::{ConnId, Time};

/// Somebody to whom messages are pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Consumer {
    /// Its number, unique in the queue's life, never 0.
    pub id: u32,
    /// Where its messages go, and under which serial that connection is known.
    pub conn: (ConnId, u64),
    /// Which client of another shard it is of, if that is a link; else 0.
    pub client: u64,
    /// What its deliveries repeat.
    pub correlation_id: u64,
    /// Most messages that are leased to it at once; 0: settled by being sent.
    pub prefetch: u32,
    /// Higher ones come first.
    pub priority: i16,
    /// Messages that are leased to it.
    pub held: u32,
    /// Its connection has so much to send that it gets nothing more now.
    pub is_blocked: bool,
    /// Its client, beyond a link, has so much to take that it gets nothing more now.
    pub is_held: bool,
    /// Its connection's consumers together have what they may.
    pub is_spent: bool,
}

impl Consumer {
    /// How many messages it may get now.
    pub const fn room(&self) -> u64 {
        if self.is_blocked || self.is_held || self.is_spent {
            0
        } else if self.prefetch == 0 {
            u64::MAX
        } else {
            self.prefetch.saturating_sub(self.held) as u64
        }
    }
}

/// A pull that waits for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Puller {
    /// Tells it from others.
    pub serial: u64,
    /// Who asked, and under which serial the connection is known.
    pub conn: (ConnId, u64),
    /// What its reply repeats.
    pub correlation_id: u64,
    /// Bytes of the request: its credit.
    pub frame_bytes: usize,
    /// Most messages.
    pub max_messages: u32,
    /// Most bytes, but always one message.
    pub max_bytes: usize,
    /// How long messages are leased.
    pub lease_ns: u64,
    /// When it is answered even without messages.
    pub due: Time,
}

/// A queue's consumers, those of high priority first and each in the order in which they came.
#[derive(Debug, Default)]
pub struct Consumers {
    all: Vec<Consumer>,
    /// Index behind the one that was served last.
    turn: usize,
    last_id: u32,
    /// Whose turn it is as long as it stays, where one at a time gets everything.
    active: u32,
}

impl Consumers {
    /// A new consumer's number.
    pub fn next_id(&mut self) -> u32 {
        self.last_id += 1;
        self.last_id
    }

    /// Takes one in.
    pub fn insert(&mut self, consumer: Consumer) {
        let at = self.all.partition_point(|other| other.priority >= consumer.priority);
        self.all.insert(at, consumer);
        self.turn = 0;
    }

    /// Takes one out.
    pub fn remove(&mut self, id: u32) -> Option<Consumer> {
        let at = self.all.iter().position(|consumer| consumer.id == id)?;
        self.turn = 0;
        Some(self.all.remove(at))
    }

    /// One of them.
    pub fn get(&self, id: u32) -> Option<&Consumer> {
        self.all.iter().find(|consumer| consumer.id == id)
    }

    /// One of them, to change.
    pub fn get_mut(&mut self, id: u32) -> Option<&mut Consumer> {
        self.all.iter_mut().find(|consumer| consumer.id == id)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Consumer> {
        self.all.iter()
    }

    /// All of them, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Consumer> {
        self.all.iter_mut()
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whose turn it is: of those with room, the ones of the highest priority take turns. With a
    /// single active consumer it is always the same, until it has gone.
    pub fn next(&mut self, activity: Activity) -> Option<Consumer> {
        if activity == Activity::Single {
            let active = self.get(self.active).or(self.all.first()).copied()?;
            self.active = active.id;
            return Some(active).filter(|active| active.room() > 0);
        }
        let priority = self.all.iter().find(|consumer| consumer.room() > 0)?.priority;
        let first = self.all.partition_point(|consumer| consumer.priority > priority);
        let end = self.all.partition_point(|consumer| consumer.priority >= priority);
        let from = self.turn.clamp(first, end);
        let has_room = |&at: &usize| self.all[at].room() > 0;
        let at = (from..end).chain(first..from).find(has_room)?;
        self.turn = at + 1;
        Some(self.all[at])
    }

    /// How many of them can take something.
    pub fn with_room(&self, activity: Activity) -> usize {
        match activity {
            Activity::Single => 1,
            Activity::All => self.all.iter().filter(|consumer| consumer.room() > 0).count(),
        }
    }
}

/// Who of the consumers gets messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// All of them, in turns.
    All,
    /// One; the others wait until it has gone.
    Single,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consumer(id: u32, priority: i16, prefetch: u32) -> Consumer {
        Consumer {
            id,
            conn: (ConnId(id), 1),
            client: 0,
            correlation_id: 0,
            prefetch,
            priority,
            held: 0,
            is_blocked: false,
            is_held: false,
            is_spent: false,
        }
    }

    #[test]
    fn equals_take_turns_and_the_higher_come_first() {
        let mut consumers = Consumers::default();
        for (id, priority) in [(1, 0), (2, 0), (3, 5), (4, 0)] {
            consumers.insert(consumer(id, priority, 1));
        }
        let mut order = Vec::new();
        while let Some(next) = consumers.next(Activity::All) {
            order.push(next.id);
            consumers.get_mut(next.id).expect("it is there").held = 1;
        }
        assert_eq!(order, [3, 1, 2, 4]);
        for id in [1, 2, 4] {
            consumers.get_mut(id).expect("it is there").prefetch = 100;
        }
        let turns: Vec<u32> =
            (0..5).map(|_| consumers.next(Activity::All).expect("there is room").id).collect();
        assert_eq!(turns, [1, 2, 4, 1, 2]);
    }

    #[test]
    fn a_single_active_consumer_is_followed_by_the_next() {
        let mut consumers = Consumers::default();
        consumers.insert(consumer(1, 0, 1));
        consumers.insert(consumer(2, 0, 1));
        consumers.get_mut(1).expect("it is there").held = 1;
        assert_eq!(consumers.next(Activity::Single), None, "the second waits");
        consumers.remove(1);
        assert_eq!(consumers.next(Activity::Single).map(|next| next.id), Some(2));
    }
}
