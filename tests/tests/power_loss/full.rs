//! A device without space refuses new records up front, keeps what it acknowledged, and takes
//! records again once there is space.

use broker::io::sim::SimDisk;
use engine::Settings;
use engine::settings::PROBE_SPACE_NS;
use pelton_tests::model::{Fate, Model, Place, Topic};
use pelton_tests::sim_client::SimClient;
use pelton_tests::world::World;
use wire::{Acks, topic};

/// Long enough to go straight to the segment.
const RECORD_BYTES: usize = 9_000;
/// Virtual time between two looks, in ns.
const STEP_NS: u64 = 1_000_000;

struct Life {
    world: World,
    client: SimClient,
    model: Model,
    place: Place,
}

impl Life {
    fn begin() -> Life {
        let mut model = Model::default();
        let mut world = World::boot(&Settings::tiny(), SimDisk::new(3), 3).expect("a first start");
        let client = SimClient::connect(&mut world, &mut model);
        let mut life = Life { world, client, model, place: ([0; 16], 0) };
        life.until(|life| life.client.is_ready());
        let now = life.world.now();
        life.client.create_topic(now, &mut life.model, "t", topic::Settings::new(1));
        life.until(|life| life.client.in_flight() == 0);
        let Some(&Topic::Live(id, _)) = life.model.topics.get("t") else { panic!("created") };
        life.place = (id, 0);
        life
    }

    /// Goes on until `is_done`; false if that does not come about within a minute.
    fn goes_on(&mut self, is_done: impl Fn(&Life) -> bool) -> bool {
        for _ in 0..60_000 {
            self.client.pump(&mut self.world, &mut self.model);
            if is_done(self) {
                return true;
            }
            let soon = self.world.now().plus_ns(STEP_NS);
            self.world.turn(Some(soon)).expect("no power loss is planned");
        }
        false
    }

    fn until(&mut self, is_done: impl Fn(&Life) -> bool) {
        assert!(self.goes_on(is_done), "it never came about");
    }

    /// Produces one record and gives what became of it; none if it still waits after a minute.
    fn produce(&mut self) -> Option<Fate> {
        let now = self.world.now();
        self.client.produce(now, &mut self.model, &[self.place], Acks::Durable, &[RECORD_BYTES]);
        let newest = |life: &Life| {
            let log = life.model.logs.get(&life.place).expect("it was sent there");
            log.sent.values().next_back().expect("it was sent").fate
        };
        self.goes_on(|life| newest(life) != Fate::Open).then(|| newest(self))
    }
}

#[test]
fn a_full_device_refuses_and_goes_on_when_there_is_space() {
    let mut life = Life::begin();
    let used: usize = life.world.disk().files().map(|(_, bytes)| bytes.len()).sum();
    life.world.disk().plan().space_bytes = Some(used + 600 * 1024);
    let mut acked = 0;
    let mut refused = 0;
    for _ in 0..200 {
        match life.produce() {
            Some(Fate::Acked(_)) => acked += 1,
            // The model takes every storage error for an open end.
            Some(Fate::InDoubt) => refused += 1,
            // It was taken in before the device said no, and waits for space.
            None => {}
            other => panic!("neither taken nor refused: {other:?}"),
        }
        if refused > 3 {
            break;
        }
    }
    assert!(acked > 10 && refused > 3, "{acked} taken, {refused} refused");
    life.world.disk().plan().space_bytes = None;
    let asked_again = life.world.now().plus_ns(2 * PROBE_SPACE_NS);
    let mut goes_on = false;
    while !goes_on && life.world.now() < asked_again {
        goes_on = matches!(life.produce(), Some(Fate::Acked(_)));
    }
    assert!(goes_on, "there is space, and nothing is taken");
    assert!(life.model.violations().is_empty(), "{:?}", life.model.violations());
}
