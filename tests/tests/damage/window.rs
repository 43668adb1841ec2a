//! The published window of ambiguity: what was acknowledged and cannot be told from a torn write
//! if it is damaged. At most 100 ms while idle, one pipeline under load, nothing after a clean
//! stop. Whatever is older is noticed.

use broker::io::sim::SimDisk;
use engine::Settings;
use engine::layout::FilePath;
use pelton_tests::life::Life;
use pelton_tests::model::{Model, Place};
use pelton_tests::world::World;

use super::frames::{FrameAt, frames};

/// As docs/FORMAT.md says it.
const IDLE_WINDOW_NS: u64 = 100_000_000;
/// The write that ends the window takes its time.
const WRITE_NS: u64 = 10_000_000;
/// Records that stay in the journal, and records that go straight to a segment.
const LENGTHS: [usize; 2] = [300, 10_000];
const RECORDS: usize = 12;

fn begun() -> (Life, Place) {
    let mut life = Life::begin(&Settings::tiny(), SimDisk::new(3), Model::default());
    let place = life.create("t", 1)[0];
    (life, place)
}

/// Frames of the journal and of the topic's segments with records of it.
fn of_topic(disk: &SimDisk, place: Place) -> Vec<FrameAt> {
    let is_data =
        |path: &FilePath| matches!(path, FilePath::Journal { .. } | FilePath::Segment { .. });
    let mut found = frames(disk, is_data);
    found.retain(|frame| frame.topic == place.0 && !frame.offsets.is_empty());
    found
}

/// Whether a start says that something is damaged in this frame, or has all records in spite of
/// it.
fn is_noticed(disk: &SimDisk, frame: &FrameAt, at: usize, place: Place) -> bool {
    let mut disk = disk.clone();
    disk.edit(&frame.path, |bytes| bytes[frame.position + at] ^= 4);
    let Ok(world) = World::boot(&Settings::tiny(), disk, 5) else { return true };
    if !world.report.damaged.is_empty() {
        return true;
    }
    let survey = Life::on(world, Model::default()).survey(place, 0);
    !survey.damaged.is_empty() || survey.records.len() == RECORDS
}

/// Every one of these frames, damaged in its header, its table and its data.
fn assert_noticed(disk: &SimDisk, found: &[FrameAt], place: Place) {
    assert!(!found.is_empty());
    for frame in found {
        for at in [9, 100, frame.used - 1] {
            assert!(is_noticed(disk, frame, at, place), "byte {at} of {frame:?}");
        }
    }
}

#[test]
fn nothing_older_than_100_ms_is_in_doubt_while_idle() {
    for length in LENGTHS {
        let (mut life, place) = begun();
        (0..RECORDS).for_each(|_| life.produce(place, &[length]));
        let until = life.world.now().plus_ns(IDLE_WINDOW_NS + WRITE_NS);
        while life.world.now() < until {
            life.world.turn(Some(until)).expect("no power loss is planned");
        }
        let disk = life.die();
        assert_noticed(&disk, &of_topic(&disk, place), place);
    }
}

/// Each commit says that those before the ones in flight with it were durable. Here one is in
/// flight at a time: so only the last of them is in doubt.
#[test]
fn only_the_pipeline_is_in_doubt_under_load() {
    let (mut life, place) = begun();
    (0..RECORDS).for_each(|_| life.produce(place, &[LENGTHS[0]]));
    let disk = life.die();
    let mut found = of_topic(&disk, place);
    found.sort_by_key(|frame| frame.offsets.start);
    let last = found.pop().expect("frames");
    assert_noticed(&disk, &found, place);
    assert!(!is_noticed(&disk, &last, 9, place), "this test could not fail otherwise");
}

#[test]
fn nothing_is_in_doubt_after_a_clean_stop() {
    for length in LENGTHS {
        let (mut life, place) = begun();
        (0..RECORDS).for_each(|_| life.produce(place, &[length]));
        life.world.stop();
        while !life.world.is_stopped() {
            let soon = life.world.now().plus_ns(1_000_000);
            life.world.turn(Some(soon)).expect("no power loss is planned");
        }
        let disk = life.die();
        assert_noticed(&disk, &of_topic(&disk, place), place);
    }
}
