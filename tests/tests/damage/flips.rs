//! One flipped bit anywhere in a small data directory, after a clean stop: it is detected or
//! harmless. No record is served that was not sent, and none that was acknowledged is cut off
//! without a word.

use broker::io::sim::SimDisk;
use engine::Settings;
use engine::frame::BLOCK_BYTES;
use engine::log::damage::END_UNKNOWN;
use pelton_tests::life::Life;
use pelton_tests::model::{Model, Place};
use pelton_tests::world::World;

const SMALL: u64 = 6;
const LARGE: u64 = 2;

/// A directory that a broker stopped on: short records in the journal, long ones in a segment.
fn stopped() -> (SimDisk, [Place; 2], Model) {
    let mut life = Life::begin(&Settings::tiny(), SimDisk::new(3), Model::default());
    let places = life.create("t", 2);
    for number in 0..SMALL {
        life.produce(places[0], &[50]);
        if number < LARGE {
            life.produce(places[1], &[9_000]);
        }
    }
    life.world.stop();
    for _ in 0..10_000 {
        life.client.pump(&mut life.world, &mut life.model);
        if life.world.is_stopped() {
            break;
        }
        let soon = life.world.now().plus_ns(1_000_000);
        life.world.turn(Some(soon)).expect("no power loss is planned");
    }
    assert!(life.world.is_stopped(), "it stops");
    let mut model = life.model.clone();
    model.died();
    (life.die(), [places[0], places[1]], model)
}

/// Every byte that matters most, and some of the others.
fn is_tried(at: usize, used: usize) -> bool {
    at < used && (at % BLOCK_BYTES < 200 || at.is_multiple_of(61))
}

#[test]
fn every_flipped_bit_is_detected_or_harmless() {
    let (disk, places, model) = stopped();
    let (mut refused, mut damaged, mut harmless) = (0, 0, 0);
    let files: Vec<_> = disk.files().map(|(path, bytes)| (path.clone(), bytes.to_vec())).collect();
    for (path, bytes) in files {
        let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        for at in (0..used).filter(|&at| is_tried(at, used)) {
            let mut disk = disk.clone();
            disk.edit(&path, |bytes| bytes[at] ^= 1 << (at % 8));
            if World::boot(&Settings::tiny(), disk.clone(), 5).is_err() {
                refused += 1;
                continue;
            }
            let mut life = Life::begin(&Settings::tiny(), disk, model.clone());
            let mut is_damaged = false;
            let mut number_of = Vec::new();
            for (place, count) in places.into_iter().zip([SMALL, LARGE]) {
                let survey = life.survey(place, 0);
                let lost: u64 = survey.damaged.iter().map(|it| it.end.min(count) - it.start).sum();
                let is_open = survey.damaged.last().is_some_and(|it| it.end == END_UNKNOWN);
                let there = u64::try_from(survey.records.len()).expect("few");
                assert_eq!(there + lost, count, "{path} byte {at}: {survey:?}");
                is_damaged |= lost > 0 || is_open;
                number_of.extend(survey.records);
            }
            let violations = life.model.violations();
            assert!(violations.is_empty(), "{path} byte {at}: {violations:?}");
            if is_damaged {
                damaged += 1;
            } else {
                harmless += 1;
            }
        }
    }
    assert!(damaged > 100 && harmless > 100, "{refused} refused, {damaged}, {harmless}");
    println!("{refused} refused, {damaged} damaged, {harmless} harmless");
}
