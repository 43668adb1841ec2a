//! Devices without space.

use broker::io::sim::SimDisk;
use engine::Settings;
use engine::layout::FilePath;
use engine::settings::{PROBE_SPACE_NS, START_SPARES};
use pelton_tests::life::Life;
use pelton_tests::model::{Fate, Model, Place};
use wire::{Acks, delete_records};

const PARTITIONS: u32 = 4;

/// Partitions of several segments on a device that took no more.
struct Filled {
    life: Life,
    places: Vec<Place>,
}

impl Filled {
    fn new(free_bytes_min: u64) -> Filled {
        let settings = Settings { free_bytes_min, ..Settings::tiny() };
        let mut life = Life::begin(&settings, SimDisk::new(9), Model::default());
        let places = life.create("t", PARTITIONS);
        let used: usize = life.world.disk().files().map(|(_, bytes)| bytes.len()).sum();
        life.world.disk().plan().space_bytes = Some(used + 3_000_000);
        let mut filled = Filled { life, places };
        while (0..PARTITIONS).filter(|_| filled.takes()).count() > 0 {}
        filled.life.world.settle().expect("no power loss is planned");
        filled
    }

    /// Whether any partition takes a record.
    fn takes(&mut self) -> bool {
        let places = self.places.clone();
        places.into_iter().filter(|&place| self.takes_at(place, 9_000)).count() > 0
    }

    fn takes_at(&mut self, place: Place, bytes: usize) -> bool {
        let Life { client, model, world } = &mut self.life;
        client.produce(world.now(), model, &[place], Acks::Durable, &[bytes]);
        self.life.until(|client| client.in_flight() == 0);
        let newest = self.life.model.logs[&place].sent.values().next_back().map(|sent| sent.fate);
        matches!(newest, Some(Fate::Acked(_)))
    }

    /// Deletes all records of a partition. Whether that was done.
    fn empties(&mut self, place: Place) -> bool {
        let Life { client, model, world } = &mut self.life;
        client.delete_records(world.now(), model, &[place], delete_records::BEFORE_END);
        self.life.until(|client| client.in_flight() == 0);
        let log = &self.life.model.logs[&place];
        log.start > 0 && log.start >= log.visible_end
    }

    /// Segments with a frame.
    fn segments(&mut self) -> usize {
        let topic = self.places[0].0;
        let is_its =
            |path: &FilePath| matches!(path, FilePath::Segment { topic: of, .. } if *of == topic);
        let is_begun = |bytes: &[u8]| bytes.first().is_some_and(|&byte| byte != 0);
        let disk = self.life.world.disk();
        disk.files().filter(|(path, bytes)| is_its(path) && is_begun(bytes)).count()
    }

    fn end(self) {
        let Life { mut model, world, mut client } = self.life;
        client.give_up(&mut model);
        model.died();
        let mut disk = world.into_disk();
        disk.plan().space_bytes = None;
        disk.power_on();
        let mut next = Life::begin(&Settings::tiny(), disk, model);
        for &place in &self.places {
            let begin = next.model.start(place);
            next.read(place, begin, 100_000);
        }
        assert_eq!(next.model.violations(), &[] as &[String]);
    }
}

/// A partition's first deletion makes its start file, which found no space on a full device: it got
/// a name, as on ext4, and no block. Its write failed, that file was never written again, and no
/// record of the partition could be deleted until a restart: the device stayed full. Now spares
/// wait for this, and a refusal is not final.
#[test]
fn records_are_deleted_on_a_full_device_and_producing_goes_on() {
    for free_bytes_min in [0, 128 * 1024] {
        let mut filled = Filled::new(free_bytes_min);
        for place in filled.places.clone() {
            assert!(filled.empties(place), "{:?}", filled.life.world.errors());
        }
        let end = filled.life.world.now().plus_ns(4 * PROBE_SPACE_NS);
        while !filled.takes() {
            assert!(filled.life.world.now() < end, "there is space, and nothing is taken");
            let soon = filled.life.world.now().plus_ns(1_000_000);
            filled.life.world.turn(Some(soon)).expect("no power loss is planned");
        }
        filled.end();
    }
}

/// The same, where somebody else takes whatever is freed. Spares are all there is then; who comes
/// later is refused, and may try again.
#[test]
fn a_deletion_that_found_no_space_is_done_when_it_is_asked_for_again() {
    let mut filled = Filled::new(0);
    filled.life.world.disk().plan().space_bytes = Some(0);
    let places = filled.places.clone();
    let done = places.iter().filter(|&&place| filled.empties(place)).count();
    assert_eq!(done, START_SPARES, "as many as there are spares");
    assert!(!filled.takes(), "it is full");
    filled.life.world.disk().plan().space_bytes = None;
    for &place in &places {
        assert!(filled.empties(place), "there is space again");
    }
    filled.end();
}

/// A partition's last segment was kept, since more might be written to it, even if all its records
/// were deleted: a device full of such partitions stayed full. It goes when space is short.
#[test]
fn the_last_segment_goes_too_when_space_is_short() {
    // It stays short until nearly all is gone.
    let mut filled = Filled::new(2_200_000);
    assert!(filled.segments() > 0);
    for place in filled.places.clone() {
        assert!(filled.empties(place), "{:?}", filled.life.world.errors());
    }
    filled.life.world.settle().expect("no power loss is planned");
    assert_eq!(filled.segments(), 0, "nothing is left");
    filled.end();
}
