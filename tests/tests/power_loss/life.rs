//! One client and one partition of a broker whose device is about to misbehave.

use broker::io::sim::SimDisk;
use engine::Settings;
use pelton_tests::model::{Fate, Model, Place, Topic};
use pelton_tests::reader::read_back;
use pelton_tests::sim_client::SimClient;
use pelton_tests::world::World;
use wire::{Acks, topic};

/// Virtual time between two looks, in ns.
const STEP_NS: u64 = 1_000_000;

pub struct Life {
    pub world: World,
    pub client: SimClient,
    pub model: Model,
    pub place: Place,
    settings: Settings,
}

impl Life {
    /// A first start, and a topic.
    pub fn begin(settings: Settings) -> Life {
        let mut model = Model::default();
        let mut world = World::boot(&settings, SimDisk::new(3), 3).expect("a first start");
        let client = SimClient::connect(&mut world, &mut model);
        let mut life = Life { world, client, model, place: ([0; 16], 0), settings };
        life.until(|life| life.client.is_ready());
        let now = life.world.now();
        life.client.create_topic(now, &mut life.model, "t", topic::Settings::new(1));
        life.until(|life| life.client.in_flight() == 0);
        let Some(&Topic::Live(id, _)) = life.model.topics.get("t") else { panic!("created") };
        life.place = (id, 0);
        life
    }

    /// Goes on until `is_done`; false if that does not come about within a minute, or the power
    /// goes.
    pub fn goes_on(&mut self, is_done: impl Fn(&Life) -> bool) -> bool {
        for _ in 0..60_000 {
            self.client.pump(&mut self.world, &mut self.model);
            if is_done(self) {
                return true;
            }
            let soon = self.world.now().plus_ns(STEP_NS);
            if self.world.turn(Some(soon)).is_err() {
                return false;
            }
        }
        false
    }

    pub fn until(&mut self, is_done: impl Fn(&Life) -> bool) {
        assert!(self.goes_on(is_done), "it never came about");
    }

    /// Lets time pass.
    pub fn pass(&mut self, ns: u64) {
        let end = self.world.now().plus_ns(ns);
        self.goes_on(|life| life.world.now() >= end);
    }

    /// Sends one record.
    pub fn send(&mut self, bytes: usize, acks: Acks) {
        let now = self.world.now();
        self.client.produce(now, &mut self.model, &[self.place], acks, &[bytes]);
    }

    /// What became of the record that was sent last.
    pub fn newest(&self) -> Fate {
        let log = self.model.logs.get(&self.place).expect("it was sent there");
        log.sent.values().next_back().expect("it was sent").fate
    }

    /// Produces one record and gives what became of it; none if it still waits after a minute.
    pub fn produce(&mut self, bytes: usize) -> Option<Fate> {
        self.send(bytes, Acks::Durable);
        self.goes_on(|life| life.newest() != Fate::Open).then(|| self.newest())
    }

    /// How many batches have such a fate.
    pub fn fated(&self, is_such: impl Fn(Fate) -> bool) -> usize {
        let log = self.model.logs.get(&self.place).expect("it was sent there");
        log.sent.values().filter(|sent| is_such(sent.fate)).count()
    }

    /// How many records were acknowledged, and how many were not.
    pub fn fates(&self) -> (usize, usize) {
        let log = self.model.logs.get(&self.place).expect("it was sent there");
        let acked = self.fated(|fate| matches!(fate, Fate::Acked(_)));
        (acked, log.sent.len() - acked)
    }

    /// What the shard has counted under this name.
    pub fn count(&self, name: &str) -> u64 {
        let rows = self.world.shard(0).counters().rows();
        rows.into_iter().find(|(other, _)| *other == name).expect("a counter").1
    }

    /// Reads all there is and judges it, in this life and in the next one.
    pub fn judge(self) -> Vec<String> {
        let Life { mut world, mut client, mut model, settings, .. } = self;
        let is_on = !world.disk().is_off();
        world.disk().plan().power_loss_at = None;
        client.give_up(&mut model);
        if is_on && read_back(&mut world, &mut model).is_err() {
            model.wrong("the power went unplanned");
        }
        model.died();
        let mut disk = world.into_disk();
        disk.plan().mutations.clear();
        disk.plan().reads.clear();
        disk.power_on();
        match World::boot(&settings, disk, 4) {
            Ok(mut world) => {
                if read_back(&mut world, &mut model).is_err() {
                    model.wrong("the power went unplanned");
                }
                if let Some(error) = world.errors().first() {
                    model.wrong(format!("after a start: {error}"));
                }
            }
            Err(failed) => model.wrong(format!("recovery refuses: {}", failed.1)),
        }
        model.violations().to_vec()
    }
}
