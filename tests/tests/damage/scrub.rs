//! The scrubber finds what is damaged before a reader does, at its pace, and names it exactly.

use broker::io::sim::SimDisk;
use engine::Settings;
use engine::layout::FilePath;
use engine::log::damage::END_UNKNOWN;
use pelton_tests::life::Life;
use pelton_tests::model::{Model, Place};

use super::frames::{FrameAt, frames};

const BATCHES: u64 = 30;
const RATE: u64 = 512 * 1024;

fn settings() -> Settings {
    Settings { scrub_bytes_per_s: RATE, ..Settings::tiny() }
}

/// One partition in several segments, each batch a frame of its own.
fn written() -> (SimDisk, Place, Model) {
    let mut life = Life::begin(&Settings::tiny(), SimDisk::new(3), Model::default());
    let place = life.create("t", 1)[0];
    for _ in 0..BATCHES {
        life.produce(place, &[9_000, 100]);
    }
    let mut model = life.model.clone();
    model.died();
    (life.end(), place, model)
}

/// Lets virtual time pass until the scrubber has read everything.
fn scrubbed(life: &mut Life) {
    for _ in 0..10_000 {
        if life.world.shard(0).counters().scrub_rounds > 0 {
            return;
        }
        let soon = life.world.now().plus_ns(10_000_000);
        life.world.turn(Some(soon)).expect("no power loss is planned");
    }
    panic!("a round has no end: {:?}", life.world.shard(0).counters());
}

/// Segments that take eight seconds each at the pace of the test that has them.
fn long_segments() -> Settings {
    Settings { segment_bytes: 1 << 20, scrub_bytes_per_s: 128 * 1024, ..Settings::tiny() }
}

fn old_frames(disk: &SimDisk, place: Place) -> Vec<FrameAt> {
    let is_mine = |path: &FilePath| {
        matches!(path, FilePath::Segment { topic, sequence, .. }
            if *topic == place.0 && *sequence < 2)
    };
    frames(disk, is_mine)
}

#[test]
fn a_whole_disk_is_read_at_its_pace_and_nothing_is_found() {
    let (disk, place, model) = written();
    let mut life = Life::begin(&settings(), disk, model);
    let began = life.world.now();
    scrubbed(&mut life);
    let counters = *life.world.shard(0).counters();
    assert_eq!(counters.damaged_ranges, 0, "{:?}", life.world.errors());
    assert!(counters.scrub_segments >= 3, "{counters:?}");
    assert!(counters.scrub_bytes >= 2 * BATCHES * 4_500, "{counters:?}");
    let ns = life.world.now().since(began);
    let most = RATE * ns / 1_000_000_000 + 2 * 256 * 1024;
    assert!(counters.scrub_bytes <= most, "{} B in {ns} ns", counters.scrub_bytes);
    assert_eq!(life.read(place, 0, 1 << 20).len(), 2 * usize::try_from(BATCHES).expect("few"));
}

#[test]
fn damage_is_named_exactly_and_all_else_is_served() {
    let (disk, place, model) = written();
    let frames = old_frames(&disk, place);
    assert!(frames.len() > 10, "several segments: {}", frames.len());
    for frame in &frames {
        // Its magic, its header, its table, its data.
        for at in [0, 30, 120, frame.used - 1] {
            let mut disk = disk.clone();
            disk.edit(&frame.path, |bytes| bytes[frame.position + at] ^= 0x10);
            let mut life = Life::begin(&settings(), disk, model.clone());
            scrubbed(&mut life);
            let errors = life.world.errors();
            let path = frame.path.to_string();
            let is_named = errors.iter().any(|text| text.contains(&path));
            assert!(is_named || !life.world.report.damaged.is_empty(), "{frame:?}: {errors:?}");
            let survey = life.survey(place, 0);
            let damaged = std::slice::from_ref(&frame.offsets);
            assert_eq!(survey.damaged, damaged, "{frame:?} at {at}");
            let all = (0..2 * BATCHES).filter(|offset| !frame.offsets.contains(offset));
            let served: Vec<u64> = survey.records.iter().map(|(offset, _)| *offset).collect();
            assert!(served.iter().copied().eq(all), "{frame:?} at {at}: {served:?}");
            assert_eq!(life.world.shard(0).counters().damaged_ranges, 1);
            life.produce(place, &[100]);
        }
    }
}

#[test]
fn what_a_reader_meets_waits_for_no_other_segment() {
    let settings = Settings { scrub_bytes_per_s: 0, ..long_segments() };
    let mut life = Life::begin(&settings, SimDisk::new(3), Model::default());
    let place = life.create("t", 1)[0];
    for _ in 0..3 * BATCHES {
        life.produce(place, &[40_000, 100]);
    }
    let mut model = life.model.clone();
    model.died();
    let mut disk = life.end();
    let mine = old_frames(&disk, place).into_iter();
    let is_second = |frame: &FrameAt| matches!(frame.path, FilePath::Segment { sequence: 1, .. });
    let frame = mine.filter(is_second).nth(3).expect("several frames");
    disk.edit(&frame.path, |bytes| bytes[frame.position + 40] ^= 1);
    let mut life = Life::begin(&long_segments(), disk, model);
    let began = life.world.now();
    while life.world.shard(0).counters().scrub_bytes == 0 {
        let soon = life.world.now().plus_ns(1_000_000);
        life.world.turn(Some(soon)).expect("no power loss is planned");
    }
    // The first segment is under way, and will be for long.
    let first = life.fetch(place, frame.offsets.start, 1 << 20);
    assert_eq!((first.error, first.last_stable_offset), (16, END_UNKNOWN));
    let known = loop {
        let fetched = life.fetch(place, frame.offsets.start, 1 << 20);
        if fetched.last_stable_offset != END_UNKNOWN {
            break fetched;
        }
    };
    assert_eq!((known.error, known.last_stable_offset), (16, frame.offsets.end));
    let ns = life.world.now().since(began);
    assert!(ns < 2_000_000_000, "{ns} ns of simulated time");
    // The one that made way goes on where it was.
    scrubbed(&mut life);
    let counters = *life.world.shard(0).counters();
    assert_eq!(counters.damaged_ranges, 1, "{:?}", life.world.errors());
    assert!(counters.scrub_segments >= 3, "{counters:?}");
}

#[test]
fn what_a_reader_meets_first_is_looked_into_at_once() {
    let (mut disk, place, model) = written();
    let frame = old_frames(&disk, place).remove(3);
    disk.edit(&frame.path, |bytes| bytes[frame.position + 40] ^= 1);
    // The scrubber is off, but for what readers complain of.
    let mut life = Life::begin(&Settings::tiny(), disk, model);
    let mut next = 0;
    let first = loop {
        let fetched = life.fetch(place, next, 1 << 20);
        match fetched.records.last() {
            Some((last, _)) => next = last + 1,
            None => break fetched,
        }
    };
    assert_eq!((next, first.error), (frame.offsets.start, 16), "what lies before it is served");
    life.world.settle().expect("no power loss is planned");
    let survey = life.survey(place, 0);
    assert_eq!(survey.damaged, [frame.offsets]);
    assert_eq!(survey.records.len(), 2 * usize::try_from(BATCHES).expect("few") - 2);
}
