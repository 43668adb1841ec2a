//! One broker and one client, for tests that do one thing after the other.

use std::ops::Range;

use broker::io::sim::SimDisk;
use engine::Settings;
use engine::log::damage::END_UNKNOWN;
use wire::{Acks, ErrorCode, topic};

use crate::model::{Model, Place, Topic};
use crate::sim_client::{Fetched, SimClient};
use crate::world::World;

/// Virtual time between two looks, in ns.
const STEP_NS: u64 = 1_000_000;

/// A broker and one client of it.
pub struct Life {
    /// The broker.
    pub world: World,
    /// The client.
    pub client: SimClient,
    /// What the client was told.
    pub model: Model,
}

impl Life {
    /// Starts a broker on a disk and connects.
    ///
    /// # Panics
    /// If recovery refuses.
    pub fn begin(settings: &Settings, disk: SimDisk, model: Model) -> Life {
        let world = World::boot(settings, disk, 5);
        Life::on(world.unwrap_or_else(|failed| panic!("{}", failed.1)), model)
    }

    /// Connects to a broker that has started.
    pub fn on(mut world: World, mut model: Model) -> Life {
        let client = SimClient::connect(&mut world, &mut model);
        let mut life = Life { world, client, model };
        life.until(|client| client.is_ready());
        life
    }

    /// Turns until the client says that it is done.
    ///
    /// # Panics
    /// If that takes too long.
    pub fn until(&mut self, is_done: impl Fn(&SimClient) -> bool) {
        for _ in 0..60_000 {
            self.client.pump(&mut self.world, &mut self.model);
            if is_done(&self.client) {
                return;
            }
            let soon = self.world.now().plus_ns(STEP_NS);
            self.world.turn(Some(soon)).expect("no power loss is planned");
        }
        panic!("it never came about; {:?}", self.world.errors());
    }

    /// Creates a topic; gives its partitions.
    ///
    /// # Panics
    /// If it is refused.
    pub fn create(&mut self, name: &str, partitions: u32) -> Vec<Place> {
        let now = self.world.now();
        self.client.create_topic(now, &mut self.model, name, topic::Settings::new(partitions));
        self.until(|client| client.in_flight() == 0);
        let topic = self.model.topics.get(name);
        let Some(&Topic::Live(id, _)) = topic else { panic!("{name} was not created: {topic:?}") };
        (0..partitions).map(|partition| (id, partition)).collect()
    }

    /// Produces one batch of records of these lengths, durably.
    pub fn produce(&mut self, place: Place, lengths: &[usize]) {
        let now = self.world.now();
        self.client.produce(now, &mut self.model, &[place], Acks::Durable, lengths);
        self.until(|client| client.in_flight() == 0);
    }

    /// Waits until nothing is left to do, and then the power goes. Gives the disk.
    ///
    /// # Panics
    /// If the power had gone before.
    pub fn end(mut self) -> SimDisk {
        self.world.settle().expect("no power loss is planned");
        self.die()
    }

    /// The power goes now.
    pub fn die(self) -> SimDisk {
        let mut disk = self.world.into_disk();
        disk.power_on();
        disk
    }

    /// Reads a partition from `next` to its end. Gives the records, and the ranges of offsets that
    /// are answered with the error for damage; the last may have no known end.
    ///
    /// # Panics
    /// If there is another error, or the damage has no end and is not the last.
    pub fn survey(&mut self, place: Place, mut next: u64) -> Survey {
        let mut survey = Survey::default();
        loop {
            let fetched = self.fetch(place, next, 1 << 20);
            if fetched.error == ErrorCode::DataCorrupt.number() {
                let behind = fetched.last_stable_offset;
                assert!(behind > next, "it says where to go on");
                survey.damaged.push(next..behind);
                if behind == END_UNKNOWN {
                    return survey;
                }
                next = behind;
                continue;
            }
            assert_eq!(fetched.error, 0, "at {next}: {:?}", self.world.errors());
            let Some(&(last, _)) = fetched.records.last() else { return survey };
            next = last + 1;
            survey.records.extend(fetched.records);
        }
    }

    /// Fetches once from one partition.
    pub fn fetch(&mut self, place: Place, offset: u64, max_bytes: u32) -> Fetched {
        let now = self.world.now();
        self.client.fetch(now, &[(place, offset)], 0, max_bytes);
        self.until(|client| !client.fetched.is_empty());
        self.client.fetched.pop().expect("just seen")
    }

    /// The offsets from `from` to the end, as a consumer with this budget reads them.
    pub fn read(&mut self, place: Place, from: u64, max_bytes: u32) -> Vec<u64> {
        let mut offsets: Vec<u64> = Vec::new();
        loop {
            let next = offsets.last().map_or(from, |last| last + 1);
            let fetched = self.fetch(place, next, max_bytes);
            assert_eq!(fetched.error, 0, "at {next}: {:?}", self.world.errors());
            let news = fetched.records.iter().map(|&(offset, _)| offset);
            let before = offsets.len();
            offsets.extend(news.filter(|&offset| offset >= next));
            if offsets.len() == before {
                assert_eq!(next, fetched.end, "all that is visible comes");
                assert!(self.model.violations().is_empty(), "{:?}", self.model.violations());
                return offsets;
            }
        }
    }
}

/// What is left of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Offsets and numbers of the records that are there.
    pub records: Vec<(u64, u64)>,
    /// Offsets that are answered with an error.
    pub damaged: Vec<Range<u64>>,
}
