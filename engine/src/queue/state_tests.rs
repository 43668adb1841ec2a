//! The state of a queue against the obvious model: one value per message. And what is recorded
//! of it, replayed.

use std::collections::BTreeMap;

use wire::queue::{Reason, Settings};

use super::consumers::Consumer;
use super::state::{Changes, Claim, Ending, Lease, State};
use crate::port::{ConnId, Time};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Hidden,
    Ready,
    Leased { id: u64, consumer: u32, deadline: u64, recorded: u64 },
    Waiting { recorded: u64, due: u64 },
    Dying(Reason),
}

#[derive(Debug, Clone, Copy)]
struct Mail {
    fate: Fate,
    bytes: u32,
    deliveries: u32,
}

/// A queue, its model, and a queue that only replays.
struct Pair {
    state: State,
    replay: State,
    mail: BTreeMap<u64, Mail>,
    changes: Changes,
    random: u64,
    now: u64,
    recorded: u64,
    durable: u64,
    gone: u64,
}

const NEVER: u64 = u64::MAX;

impl Pair {
    fn new(settings: Settings, random: u64) -> Pair {
        let mut state = State::new(settings);
        for _ in 0..2 {
            let id = state.consumers.next_id();
            let (conn, prefetch) = ((ConnId(id), 1), 20);
            state.consumers.insert(Consumer {
                client: 0,
                is_spent: false,
                id,
                conn,
                correlation_id: 0,
                prefetch,
                priority: 0,
                held: 0,
                is_blocked: false,
                is_held: false,
            });
        }
        Pair {
            state,
            replay: State::new(settings),
            mail: BTreeMap::new(),
            changes: Changes::default(),
            random,
            now: 0,
            recorded: 0,
            durable: 0,
            gone: 0,
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 33) % bound
    }

    fn publish(&mut self) {
        let count = 1 + u32::try_from(self.below(5)).expect("small");
        let size = 10 + u32::try_from(self.below(3)).expect("small");
        let bytes = u64::from(count) * u64::from(size);
        for at in self.state.publish(count, bytes) {
            self.mail.insert(at, Mail { fate: Fate::Hidden, bytes: size, deliveries: 0 });
        }
        let first = self.state.next() - u64::from(count);
        self.replay.replay_published(first, count, bytes);
        if self.below(4) > 0 {
            let hidden = self.mail.values_mut().filter(|mail| mail.fate == Fate::Hidden);
            let mut bytes = 0;
            hidden.for_each(|mail| {
                mail.fate = Fate::Ready;
                bytes += u64::from(mail.bytes);
            });
            self.state.reveal(self.state.next(), bytes);
        }
    }

    fn lease(&mut self, consumer: u32) {
        let room = self.state.consumers.get(consumer).map_or(5, Consumer::room);
        let Some((range, before, _)) = self.state.next_ready(0) else { return };
        let take = (1 + self.below(6)).min(range.end - range.start).min(room);
        let deadline = if consumer == 0 { self.now + 1 + self.below(20) } else { NEVER };
        self.recorded += 1;
        let id = self.state.next_lease();
        let recorded = self.recorded;
        let deliveries = before + 1;
        let range = range.start..range.start + take;
        if range.is_empty() {
            return;
        }
        for at in range.clone() {
            let mail = self.mail.get_mut(&at).expect("leased from what is there");
            assert_eq!((mail.fate, mail.deliveries), (Fate::Ready, before));
            mail.fate = Fate::Leased { id, consumer, deadline, recorded };
            mail.deliveries += 1;
            let bytes = mail.bytes;
            self.state.note_size(at..at + 1, bytes);
        }
        let lease = Lease { id, consumer, deliveries, deadline: Time(deadline), recorded };
        self.state.lease(range.clone(), lease);
        self.replay.replay_delivered(range);
    }

    fn settle(&mut self) {
        let from = self.state.next().saturating_sub(1 + self.below(40));
        let range = from..from + 1 + self.below(8);
        let consumer = u32::try_from(self.below(3)).expect("small");
        let some = self.mail.range(range.clone()).find_map(|(_, mail)| match mail.fate {
            Fate::Leased { id, .. } => Some(id),
            _ => None,
        });
        let lease = if consumer != 0 && self.below(2) == 0 { 0 } else { some.unwrap_or(99) };
        let parts = self.state.unlease(range.clone(), Claim { consumer, lease });
        let verb = self.below(4);
        let due = if self.below(2) == 0 { 0 } else { self.now + self.below(10) };
        let limit = self.state.settings.delivery_limit.get();
        for (&at, mail) in self.mail.range_mut(range) {
            let Fate::Leased { id, consumer: other, deadline, recorded } = mail.fate else {
                continue;
            };
            if other != consumer || (id != lease && lease != 0) {
                continue;
            }
            assert!(parts.iter().any(|(part, _)| part.contains(&at)), "{at} is covered");
            mail.fate = match verb {
                0 => Fate::Dying(Reason::Rejected),
                1 if limit > 0 && mail.deliveries >= limit => Fate::Dying(Reason::DeliveryLimit),
                1 => Fate::Waiting { recorded, due },
                2 if deadline == NEVER => mail.fate,
                2 => Fate::Leased { id, consumer, deadline: self.now + 30, recorded },
                _ => Fate::Hidden,
            };
        }
        match verb {
            0 => self.state.reject(&parts, &mut self.changes),
            1 => self.state.release(&parts, Time(due), &mut self.changes),
            2 => {
                let push = parts.first().is_some_and(|(_, lease)| lease.deadline.0 == NEVER);
                let deadline = if push { NEVER } else { self.now + 30 };
                self.state.extend(&parts, Time(deadline));
            }
            _ => {
                self.state.accept(&parts, &mut self.changes);
                for (part, _) in parts {
                    self.mail.retain(|at, _| !part.contains(at));
                }
            }
        }
    }

    fn pass_time(&mut self) {
        self.now += self.below(6);
        self.durable = self.recorded.saturating_sub(self.below(3)).max(self.durable);
        self.state.end_leases(Time(self.now), &mut self.changes);
        self.state.settle_returning(self.durable, Time(self.now));
        let limit = self.state.settings.delivery_limit.get();
        for mail in self.mail.values_mut() {
            match mail.fate {
                Fate::Leased { deadline, recorded, .. } if deadline <= self.now => {
                    mail.fate = match limit > 0 && mail.deliveries >= limit {
                        true => Fate::Dying(Reason::DeliveryLimit),
                        false => Fate::Waiting { recorded, due: 0 },
                    };
                }
                _ => {}
            }
            if let Fate::Waiting { recorded, due } = mail.fate
                && recorded <= self.durable
                && due <= self.now
            {
                mail.fate = Fate::Ready;
            }
        }
    }

    fn remove_some(&mut self) {
        match self.below(8) {
            0 => {
                self.state.purge(&mut self.changes);
                self.mail.retain(|_, mail| mail.fate != Fate::Ready);
            }
            1..4 => {
                let Some(at) = self.state.first_ready(0) else { return };
                let mail = self.mail.get_mut(&at).expect("it is there");
                self.state.kill(at, mail.bytes, Reason::Expired, &mut self.changes);
                mail.fate = Fate::Dying(Reason::Expired);
            }
            _ => {
                let Some((at, reason)) = self.state.first_dying() else { return };
                let mail = self.mail.remove(&at).expect("it is there");
                assert_eq!(mail.fate, Fate::Dying(reason));
                assert_eq!(self.state.delivered(at), mail.deliveries);
                self.state.bury(at, mail.bytes);
                self.replay.replay_removed(at..at + 1);
                self.replay.replay_freed(u64::from(mail.bytes));
            }
        }
    }

    /// Without a place for dead letters what dies is gone.
    fn record(&mut self) {
        if self.state.settings.dead_letter().is_none() {
            self.mail.retain(|_, mail| !matches!(mail.fate, Fate::Dying(_)));
        }
        for range in &self.changes.removed {
            self.replay.replay_removed(range.clone());
            self.gone += range.end - range.start;
        }
        self.replay.replay_freed(self.changes.removed_bytes);
        for (range, reason) in &self.changes.died {
            self.replay.replay_died(range.clone(), *reason);
        }
        self.changes.clear();
    }

    fn check(&self) {
        let count = |wanted: fn(Fate) -> bool| {
            let mail = self.mail.values().filter(|mail| wanted(mail.fate));
            u64::try_from(mail.count()).expect("small")
        };
        let waits = |fate| matches!(fate, Fate::Ready | Fate::Waiting { .. });
        assert_eq!(self.state.ready(), count(waits));
        assert_eq!(self.state.leased(), count(|fate| matches!(fate, Fate::Leased { .. })));
        assert_eq!(self.state.dying(), count(|fate| matches!(fate, Fate::Dying(_))));
        assert_eq!(self.state.messages(), u64::try_from(self.mail.len()).expect("small"));
        let bytes: u64 = self.mail.values().map(|mail| u64::from(mail.bytes)).sum();
        assert_eq!(self.state.bytes(), bytes);
        for consumer in self.state.consumers.iter() {
            let mine = |mail: &&Mail| match mail.fate {
                Fate::Leased { consumer: other, .. } => other == consumer.id,
                _ => false,
            };
            let held = self.mail.values().filter(mine).count();
            assert_eq!(consumer.held, u32::try_from(held).expect("small"));
        }
        let ready = self.mail.iter().find(|(_, mail)| mail.fate == Fate::Ready);
        assert_eq!(self.state.first_ready(0), ready.map(|(&at, _)| at));
        let deadlines = self.mail.values().filter_map(|mail| match mail.fate {
            Fate::Leased { deadline, .. } if deadline != NEVER => Some(deadline),
            _ => None,
        });
        if let Some(due) = deadlines.min() {
            assert!(self.state.deadline().is_some_and(|deadline| deadline.0 <= due));
        }
        assert_eq!(self.state.snapshot(), self.replay.snapshot(), "the replay knows as much");
    }
}

#[test]
fn a_queue_does_what_the_model_does_and_its_replay_knows() {
    for seed in 0..120 {
        let mut settings = Settings::new();
        settings.delivery_limit = if seed % 3 == 0 { 2 } else { 0 }.into();
        settings.dead_letter = if seed % 2 == 0 { [1; 16] } else { [0; 16] };
        let mut pair = Pair::new(settings, seed);
        for _ in 0..400 {
            match pair.below(8) {
                0 | 1 => pair.publish(),
                2 => pair.lease(0),
                3 => pair.lease(1),
                4 => pair.lease(2),
                5 => pair.settle(),
                6 => pair.remove_some(),
                _ => pair.pass_time(),
            }
            pair.record();
            pair.check();
        }
        assert!(pair.gone > 0, "seed {seed} did something");
    }
}

#[test]
fn a_consumer_that_leaves_gives_everything_back_in_its_place() {
    let mut pair = Pair::new(Settings::new(), 1);
    pair.state.publish(10, 100);
    pair.state.reveal(10, 100);
    let deadline = Time(NEVER);
    let lease = Lease { id: 1, consumer: 1, deliveries: 1, deadline, recorded: 3 };
    pair.state.lease(0..6, lease);
    let accepted = pair.state.unlease(1..3, Claim { consumer: 1, lease: 0 });
    pair.state.accept(&accepted, &mut pair.changes);
    pair.state.drop_consumer(1, &mut pair.changes);
    assert_eq!(pair.state.first_ready(0), Some(6), "its delivery is not recorded yet");
    pair.state.settle_returning(2, Time(9));
    assert_eq!(pair.state.first_ready(0), Some(6));
    pair.state.settle_returning(3, Time(9));
    assert_eq!(pair.state.next_ready(0).map(|(range, count, _)| (range, count)), Some((0..1, 1)));
    assert_eq!(pair.state.first_ready(1), Some(3));
}

#[test]
fn after_a_sudden_end_every_message_is_in_doubt_and_after_a_clean_one_none() {
    for (ending, doubt) in
        [(Ending::Sudden, super::state::Doubt::Suspect), (Ending::Clean, super::state::Doubt::None)]
    {
        let mut state = State::new(Settings::new());
        state.replay_published(0, 5, 50);
        state.replayed(ending);
        let next = state.publish(1, 10);
        state.reveal(next.end, 10);
        let (range, count, found) = state.next_ready(0).expect("six are ready");
        assert_eq!((range.start, count, found), (0, 0, doubt));
        let (_, _, newer) = state.next_ready(5).expect("the sixth");
        assert_eq!(newer, super::state::Doubt::None);
    }
}
