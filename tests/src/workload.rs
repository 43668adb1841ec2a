//! What simulated clients do: a little of everything, chosen by a seed.

use broker::io::sim::{Rng, StreamEnd};
use engine::port::Time;
use wire::{Acks, delete_records, list_offsets, topic};

use crate::canary::Canary;
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

/// How often clients do what; a weight of 0 is never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Habits {
    /// Of each [`Action`], in that order.
    pub actions: [u64; Action::ALL.len()],
    /// Of each size class of batches, from a few bytes to more than a segment holds.
    pub sizes: [u64; 6],
    /// Of acknowledgements: none, memory, written, durable.
    pub acks: [u64; 4],
}

impl Habits {
    /// A little of everything.
    pub const PLAIN: Habits = Habits {
        actions: [52, 3, 25, 7, 2, 2, 4, 1, 1, 1, 2],
        sizes: [10, 6, 4, 2, 1, 1],
        acks: [1, 1, 2, 6],
    };
}

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Produces a batch, or one for each of several partitions.
    Produce,
    /// Deletes a partition's oldest records.
    DeleteRecords,
    /// Fetches, from somewhere.
    Fetch,
    /// Asks where partitions begin or end.
    ListOffsets,
    /// Asks for the counters.
    Stats,
    /// Asks which topics there are.
    Metadata,
    /// Creates, deletes or changes a topic.
    Topics,
    /// Sends what is no frame.
    Babble,
    /// Closes its sending side.
    Shutdown,
    /// Reads faster or slower from now on.
    ReadOtherwise,
    /// Goes away.
    Leave,
}

impl Action {
    /// Every action.
    pub const ALL: [Action; 11] = [
        Action::Produce,
        Action::DeleteRecords,
        Action::Fetch,
        Action::ListOffsets,
        Action::Stats,
        Action::Metadata,
        Action::Topics,
        Action::Babble,
        Action::Shutdown,
        Action::ReadOtherwise,
        Action::Leave,
    ];
}

/// Clients at work.
#[derive(Debug)]
pub struct Workload {
    rng: Rng,
    load: Load,
    habits: Habits,
    clients: Vec<SimClient>,
    /// Requests of clients that have left.
    requests: u64,
    /// When the next action is due.
    next: Option<Time>,
    /// A planted bug.
    pub canary: Option<Canary>,
}

impl Workload {
    /// Work that follows from this seed.
    pub fn new(seed: u64, load: Load) -> Workload {
        Workload::with_habits(seed, load, Habits::PLAIN)
    }

    /// The same, of clients with these habits.
    pub fn with_habits(seed: u64, load: Load, habits: Habits) -> Workload {
        let rng = Rng::new(seed);
        Workload { rng, load, habits, clients: Vec::new(), requests: 0, next: None, canary: None }
    }

    /// Does all of it, waits for every answer, and disconnects.
    ///
    /// # Errors
    /// The power went. Call [`Workload::give_up`] then.
    pub fn run(&mut self, world: &mut World, model: &mut Model) -> Result<(), PowerLoss> {
        let mut actions = 0;
        while actions < self.load.actions {
            actions += self.step(world, model)?;
        }
        self.finish(world, model)
    }

    /// Acts, if it is time to, and lets the world turn once. Gives the number of actions.
    ///
    /// # Errors
    /// The power went.
    pub fn step(&mut self, world: &mut World, model: &mut Model) -> Result<u32, PowerLoss> {
        let mut next = *self.next.get_or_insert_with(|| world.now());
        let mut actions = 0;
        if world.now() >= next {
            self.act(world, model);
            actions = 1;
            next = next.plus_ns(self.pause_ns());
            self.next = Some(next);
        }
        self.pump(world, model);
        world.turn(Some(next))?;
        Ok(actions)
    }

    /// Requests made so far.
    pub fn requests(&self) -> u64 {
        self.requests + self.clients.iter().map(|client| client.requests).sum::<u64>()
    }

    /// The broker is gone: what is in flight stays in doubt.
    pub fn give_up(&mut self, model: &mut Model) {
        for client in &mut self.clients {
            self.requests += client.requests;
            client.give_up(model);
        }
        self.clients.clear();
    }

    /// Waits for every answer, and disconnects.
    ///
    /// # Errors
    /// The power went.
    pub fn finish(&mut self, world: &mut World, model: &mut Model) -> Result<(), PowerLoss> {
        for client in &mut self.clients {
            client.reads_bytes_max = client.reads_bytes_max.max(512);
        }
        let end = world.now().plus_ns(REQUEST_NS_MAX + world.stall_ns());
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
        while !self.clients.is_empty() {
            self.leave(0, world, model, StreamEnd::Eof);
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
            let client = SimClient::connect(world, model);
            self.clients.push(client.with_canary(self.canary));
            return;
        }
        if self.clients[index].state == State::Ended {
            return self.leave(index, world, model, StreamEnd::Eof);
        }
        if !self.clients[index].is_ready() {
            return;
        }
        let now = world.now();
        let Some(place) = self.place(model) else {
            return self.change_topics(index, now, model);
        };
        match Action::ALL[pick(&mut self.rng, &self.habits.actions)] {
            Action::Produce => self.produce(index, now, model, place),
            Action::DeleteRecords => self.delete_records(index, now, model, place),
            Action::Fetch => self.fetch(index, now, model, place),
            Action::ListOffsets => {
                let which = [list_offsets::TIMESTAMP_LATEST, list_offsets::TIMESTAMP_EARLIEST];
                let timestamp_ms = which[self.rng.index(2)];
                let places = self.places(model, place);
                self.clients[index].list_offsets(now, &places, timestamp_ms);
            }
            Action::Stats => self.clients[index].stats(now),
            Action::Metadata => self.clients[index].metadata(now),
            Action::Topics => self.change_topics(index, now, model),
            Action::Babble => self.clients[index].babble(world),
            Action::Shutdown => self.clients[index].shutdown(world),
            Action::ReadOtherwise => {
                let sizes = [0, 1, 100, usize::MAX];
                self.clients[index].reads_bytes_max = sizes[self.rng.index(sizes.len())];
            }
            Action::Leave => {
                let how = [StreamEnd::Eof, StreamEnd::Reset][self.rng.index(2)];
                self.leave(index, world, model, how);
            }
        }
    }

    fn leave(&mut self, index: usize, world: &mut World, model: &mut Model, how: StreamEnd) {
        let client = self.clients.swap_remove(index);
        self.requests += client.requests;
        client.leave(world, model, how);
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
        let acks = [Acks::None, Acks::Memory, Acks::Written, Acks::Durable];
        let acks = acks[pick(&mut self.rng, &self.habits.acks)];
        // Around what skips the journal, what is received apart, and more than a segment holds.
        let sizes = [
            (8, 200),
            (1_000, 5_000),
            (7_500, 9_000),
            (15_000, 40_000),
            (60_000, 70_000),
            (100_000, 200_000),
        ];
        let (first, last) = sizes[pick(&mut self.rng, &self.habits.sizes)];
        let bytes = self.rng.between(first, last);
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

/// An index, each as often as its weight says.
pub(crate) fn pick(rng: &mut Rng, weights: &[u64]) -> usize {
    let mut left = rng.below(weights.iter().sum());
    let is_it = |weight: &u64| {
        let is_here = left < *weight;
        left = left.saturating_sub(*weight);
        is_here
    };
    weights.iter().position(is_it).expect("weights sum up")
}
