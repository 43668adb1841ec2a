//! What simulated clients do: a little of everything, chosen by a seed.

use broker::io::sim::{Rng, StreamEnd};
use engine::port::Time;
use wire::{Acks, delete_records, list_offsets, topic};

use crate::model::{Model, Place, Topic};
use crate::sim_client::{SimClient, State};
use crate::world::{PowerLoss, World};

/// Every request ends within this time, long polls and slow disks included.
const REQUEST_NS_MAX: u64 = 20_000_000_000;
/// How often clients look at their sockets while nothing else happens.
const LOOK_NS: u64 = 500_000;
/// Topics that come and go.
const TOPICS: [&str; 3] = ["orders", "clicks", "audit"];

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Clients at a time.
    pub clients: usize,
    /// Things they do, all together.
    pub actions: u32,
}

/// Clients at work.
#[derive(Debug)]
pub struct Workload {
    rng: Rng,
    load: Load,
    clients: Vec<SimClient>,
}

impl Workload {
    /// Work that follows from this seed.
    pub fn new(seed: u64, load: Load) -> Workload {
        Workload { rng: Rng::new(seed), load, clients: Vec::new() }
    }

    /// Does all of it, waits for every answer, and disconnects.
    ///
    /// # Errors
    /// The power went. Call [`Workload::give_up`] then.
    pub fn run(&mut self, world: &mut World, model: &mut Model) -> Result<(), PowerLoss> {
        let mut next = world.now();
        let mut actions = 0;
        while actions < self.load.actions {
            if world.now() >= next {
                self.act(world, model);
                actions += 1;
                next = next.plus_ns(self.pause_ns());
            }
            self.pump(world, model);
            world.turn(Some(next))?;
        }
        self.finish(world, model)
    }

    /// The broker is gone: what is in flight stays in doubt.
    pub fn give_up(&mut self, model: &mut Model) {
        for client in &mut self.clients {
            client.give_up(model);
        }
        self.clients.clear();
    }

    fn finish(&mut self, world: &mut World, model: &mut Model) -> Result<(), PowerLoss> {
        for client in &mut self.clients {
            client.reads_bytes_max = client.reads_bytes_max.max(512);
        }
        let end = world.now().plus_ns(REQUEST_NS_MAX);
        self.pump(world, model);
        while self.clients.iter().any(|client| client.in_flight() > 0) {
            let now = world.now();
            if now >= end {
                let open: Vec<_> = self.clients.iter().filter_map(|c| c.overdue(now)).collect();
                model.wrong(format!("these requests never end: {open:?}"));
                break;
            }
            self.pump(world, model);
            world.turn(Some(now.plus_ns(LOOK_NS)))?;
        }
        for client in self.clients.drain(..) {
            client.leave(world, model, StreamEnd::Eof);
        }
        world.settle()
    }

    fn pump(&mut self, world: &mut World, model: &mut Model) {
        for client in &mut self.clients {
            client.pump(world, model);
            client.fetched.clear();
        }
    }

    fn pause_ns(&mut self) -> u64 {
        match self.rng.below(16) {
            0 => self.rng.below(150_000_000),
            1..=5 => self.rng.below(1_000_000),
            _ => self.rng.below(50_000),
        }
    }

    fn act(&mut self, world: &mut World, model: &mut Model) {
        let index = self.rng.index(self.load.clients);
        if index >= self.clients.len() {
            self.clients.push(SimClient::connect(world, model));
            return;
        }
        if self.clients[index].state == State::Ended {
            let ended = self.clients.swap_remove(index);
            return ended.leave(world, model, StreamEnd::Eof);
        }
        if !self.clients[index].is_ready() {
            return;
        }
        let now = world.now();
        let Some(place) = self.place(model) else {
            return self.change_topics(index, now, model);
        };
        match self.rng.below(100) {
            0..=51 => self.produce(index, now, model, place),
            52..=54 => self.delete_records(index, now, model, place),
            55..=79 => self.fetch(index, now, model, place),
            80..=86 => {
                let which = [list_offsets::TIMESTAMP_LATEST, list_offsets::TIMESTAMP_EARLIEST];
                let timestamp_ms = which[self.rng.index(2)];
                let places = self.places(model, place);
                self.clients[index].list_offsets(now, &places, timestamp_ms);
            }
            87..=88 => self.clients[index].stats(now),
            89..=90 => self.clients[index].metadata(now),
            91..=94 => self.change_topics(index, now, model),
            95 => self.clients[index].babble(world),
            96 => self.clients[index].shutdown(world),
            97 => {
                let sizes = [0, 1, 100, usize::MAX];
                self.clients[index].reads_bytes_max = sizes[self.rng.index(sizes.len())];
            }
            _ => {
                let how = [StreamEnd::Eof, StreamEnd::Reset][self.rng.index(2)];
                let client = self.clients.swap_remove(index);
                client.leave(world, model, how);
            }
        }
    }

    fn place(&mut self, model: &Model) -> Option<Place> {
        let live = model.topics.values().filter_map(|topic| match *topic {
            Topic::Live(id, partitions) => Some((id, partitions)),
            _ => None,
        });
        let live: Vec<_> = live.collect();
        if live.is_empty() {
            return None;
        }
        let (id, partitions) = live[self.rng.index(live.len())];
        let partition = self.rng.below(u64::from(partitions));
        Some((id, u32::try_from(partition).expect("few")))
    }

    /// This partition, and now and then others of its topic with it.
    fn places(&mut self, model: &Model, place: Place) -> Vec<Place> {
        let mut places = vec![place];
        if self.rng.one_in(4) {
            let siblings = model.logs.keys().filter(|other| other.0 == place.0 && **other != place);
            places.extend(siblings);
        }
        places
    }

    fn produce(&mut self, index: usize, now: Time, model: &mut Model, place: Place) {
        let acks = match self.rng.below(10) {
            0 => Acks::None,
            1 => Acks::Memory,
            2..=3 => Acks::Written,
            _ => Acks::Durable,
        };
        // Around what skips the journal, what is received apart, and more than a segment holds.
        let bytes = match self.rng.below(24) {
            0..=9 => self.rng.between(8, 200),
            10..=15 => self.rng.between(1_000, 5_000),
            16..=19 => self.rng.between(7_500, 9_000),
            20..=21 => self.rng.between(15_000, 40_000),
            22 => self.rng.between(60_000, 70_000),
            _ => self.rng.between(100_000, 200_000),
        };
        let bytes = usize::try_from(bytes).expect("small");
        let count = 1 + self.rng.index(8);
        let lengths = vec![(bytes / count).max(8); count];
        let places = self.places(model, place);
        self.clients[index].produce(now, model, &places, acks, &lengths);
    }

    fn fetch(&mut self, index: usize, now: Time, model: &Model, place: Place) {
        let places = self.places(model, place);
        let wants = places.into_iter().map(|place| {
            let end = model.logs.get(&place).map_or(0, |log| log.visible_end);
            let offset = match self.rng.below(4) {
                0 => end,
                1 => end + self.rng.below(2),
                _ => self.rng.below(end + 1),
            };
            (place, offset)
        });
        let wants: Vec<_> = wants.collect();
        let wait_ms = [0, 1, 10, 200][self.rng.index(4)];
        let max_bytes = [1, 2_000, 20_000, 300_000][self.rng.index(4)];
        self.clients[index].fetch(now, &wants, wait_ms, max_bytes);
    }

    fn delete_records(&mut self, index: usize, now: Time, model: &mut Model, place: Place) {
        let end = model.logs.get(&place).map_or(0, |log| log.visible_end);
        let before = match self.rng.below(4) {
            0 => end,
            1 => end + self.rng.below(3),
            2 => delete_records::BEFORE_END,
            _ => self.rng.below(end + 1),
        };
        let places = self.places(model, place);
        self.clients[index].delete_records(now, model, &places, before);
    }

    /// Settings of a topic whose records stay, mostly, or go by size or age: all are older than
    /// the age.
    fn settings(&mut self, partitions: u32) -> topic::Settings {
        let mut settings = topic::Settings::new(partitions);
        match self.rng.below(6) {
            0 => settings.retention_ms = 60_000.into(),
            1 => settings.retention_bytes = self.rng.between(1, 400_000).into(),
            _ => {}
        }
        settings
    }

    fn change_topics(&mut self, index: usize, now: Time, model: &mut Model) {
        let name = TOPICS[self.rng.index(TOPICS.len())];
        let partitions = u32::try_from(self.rng.between(1, 3)).expect("few");
        let settings = self.settings(partitions);
        let client = &mut self.clients[index];
        match model.topics.get(name) {
            None | Some(Topic::Gone) => client.create_topic(now, model, name, settings),
            Some(Topic::Live(..)) if self.rng.one_in(2) => client.delete_topic(now, model, name),
            Some(Topic::Live(..)) if self.rng.one_in(4) => {
                client.alter_topic(now, model, name, &settings);
            }
            _ => client.metadata(now),
        }
    }
}
