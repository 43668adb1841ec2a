//! Damage of every kind, planted in every kind of place, and told by who only looks on: which
//! file, which offsets; and nothing is told of a directory that is whole.

use broker::io::sim::SimDisk;
use engine::Settings;
use engine::frame::BLOCK_BYTES;
use engine::inspect::{InspectError, Verdict};
use engine::layout::FilePath;
use engine::port::Disk;
use pelton_tests::inspection::{Inspection, inspect};
use pelton_tests::model::{Model, Place, Topic};
use pelton_tests::sim_client::SimClient;
use pelton_tests::world::World;
use wire::{Acks, topic};

/// So long that each record is a run of its own, and several segments are filled.
const RECORD_BYTES: usize = 30_000;
const RECORDS: u64 = 14;

/// A partition of several segments, left behind by a broker that was stopped.
fn several_segments() -> (SimDisk, Place) {
    let mut model = Model::default();
    let mut world = World::boot(&Settings::tiny(), SimDisk::new(3), 3).expect("a first start");
    let mut client = SimClient::connect(&mut world, &mut model);
    let done = |world: &mut World, client: &mut SimClient, model: &mut Model| {
        for _ in 0..10_000 {
            client.pump(world, model);
            if client.is_ready() && client.in_flight() == 0 {
                return;
            }
            let soon = world.now().plus_ns(1_000_000);
            world.turn(Some(soon)).expect("no power loss is planned");
        }
        panic!("it never came about");
    };
    done(&mut world, &mut client, &mut model);
    client.create_topic(world.now(), &mut model, "t", topic::Settings::new(1));
    done(&mut world, &mut client, &mut model);
    let Some(&Topic::Live(id, _)) = model.topics.get("t") else { panic!("it was created") };
    for _ in 0..RECORDS {
        let lengths = [RECORD_BYTES];
        client.produce(world.now(), &mut model, &[(id, 0)], Acks::Durable, &lengths);
        done(&mut world, &mut client, &mut model);
    }
    world.settle().expect("no power loss is planned");
    assert!(model.violations().is_empty(), "{:?}", model.violations());
    let mut disk = world.into_disk();
    disk.power_on();
    (disk, (id, 0))
}

/// The partition's segments that hold something, oldest first, with the offsets they hold.
fn segments(seen: &Inspection, place: Place) -> Vec<(FilePath, std::ops::Range<u64>)> {
    let mine = seen.findings.iter().filter(|finding| {
        let FilePath::Segment { topic, .. } = finding.path else { return false };
        topic == place.0 && finding.kept.frames > 0
    });
    mine.map(|finding| (finding.path.clone(), finding.kept.from..finding.kept.to)).collect()
}

fn verdict<'a>(seen: &'a Inspection, path: &FilePath) -> &'a Verdict {
    let found = seen.findings.iter().find(|finding| finding.path == *path);
    &found.expect("every file has a verdict").verdict
}

/// The damaged disk, looked into; something is wrong with it.
fn damaged(disk: &SimDisk, path: &FilePath, change: impl FnOnce(&mut Vec<u8>)) -> Inspection {
    let mut disk = disk.clone();
    disk.edit(path, change);
    let seen = inspect(&disk).expect("the superblock is whole");
    assert!(!seen.summary.is_sound(), "{seen:?}");
    seen
}

#[test]
fn a_whole_directory_is_whole() {
    let (disk, place) = several_segments();
    let seen = inspect(&disk).expect("it is whole");
    assert!(seen.summary.is_sound(), "{seen:?}");
    assert_eq!((seen.summary.records, seen.summary.torn), (RECORDS, 0), "{seen:?}");
    assert!(segments(&seen, place).len() > 3, "{seen:?}");
    assert_eq!(seen.lost, []);
}

#[test]
fn an_older_segment_is_read_to_its_end() {
    let (disk, place) = several_segments();
    let segments = segments(&inspect(&disk).expect("whole"), place);
    let (path, offsets) = &segments[0];
    // Recovery looks at its first frame only; a reader would get DATA_CORRUPT.
    let seen = damaged(&disk, path, |bytes| bytes[BLOCK_BYTES * 2 + 9] ^= 1);
    let Verdict::Corrupt { position: 0, offsets: Some(lost), .. } = verdict(&seen, path) else {
        panic!("{seen:?}")
    };
    assert!(lost.contains(&offsets.start), "{lost:?}");
    // The last frame of it: the next segment shows that it is missing.
    let seen = damaged(&disk, path, |bytes| {
        let end = bytes.iter().rposition(|&byte| byte != 0).expect("it holds records");
        bytes[end] ^= 1;
    });
    let Verdict::Corrupt { offsets: Some(lost), .. } = verdict(&seen, path) else {
        panic!("{seen:?}")
    };
    assert_eq!(lost.end, offsets.end);
    assert_eq!(seen.summary.refusal, None, "recovery would not have noticed");
}

#[test]
fn a_segment_that_was_cut_short_is_told_wherever_it_was_cut() {
    let (disk, place) = several_segments();
    let segments = segments(&inspect(&disk).expect("whole"), place);
    for (path, offsets) in &segments {
        let held = disk.files().find(|(other, _)| *other == path).expect("it is there").1;
        let end = held.iter().rposition(|&byte| byte != 0).expect("it holds records");
        for cut in (0..end).step_by(9973) {
            let seen = damaged(&disk, path, |bytes| bytes.truncate(cut));
            let is_told = match verdict(&seen, path) {
                Verdict::Corrupt { offsets: Some(lost), .. } => lost.end >= offsets.end,
                // Nothing at all is left of it: the one before it does not reach the next.
                _ => seen.summary.damaged > 0 || seen.summary.refusal.is_some(),
            };
            assert!(is_told, "cut at {cut}: {seen:?}");
        }
    }
}

#[test]
fn a_missing_segment_is_told_with_its_offsets() {
    let (disk, place) = several_segments();
    let segments = segments(&inspect(&disk).expect("whole"), place);
    let last = segments.len() - 1;
    for (index, (path, offsets)) in segments.iter().enumerate().skip(1) {
        let mut disk = disk.clone();
        disk.delete(path).expect("it is there");
        let seen = inspect(&disk).expect("the superblock is whole");
        assert!(!seen.summary.is_sound(), "segment {index} of {last}: {seen:?}");
        let is_named = seen.lost.iter().any(|lost| lost.offsets == *offsets)
            || seen.findings.iter().any(|finding| match &finding.verdict {
                Verdict::Corrupt { offsets: Some(lost), .. } => lost.start == offsets.start,
                _ => false,
            });
        assert!(is_named, "segment {index} of {last}: {seen:?}");
    }
}

#[test]
fn one_slot_of_the_superblock_is_enough_and_none_is_not() {
    let (disk, _) = several_segments();
    let tear = |bytes: &mut Vec<u8>, slot: usize| bytes[slot * BLOCK_BYTES + 20] ^= 1;
    let mut whole = 0;
    for slot in [0, 1] {
        let mut torn = disk.clone();
        torn.edit(&FilePath::Superblock, |bytes| tear(bytes, slot));
        let seen = inspect(&torn).expect("the other slot is whole");
        let position = u64::try_from(slot * BLOCK_BYTES).expect("small");
        assert_eq!(*verdict(&seen, &FilePath::Superblock), Verdict::TornTail { position });
        whole += u64::from(seen.summary.is_sound());
    }
    assert_eq!(whole, 2, "either slot knows this start's journal");
    let mut none = disk.clone();
    none.edit(&FilePath::Superblock, |bytes| [0, 1].into_iter().for_each(|slot| tear(bytes, slot)));
    assert_eq!(inspect(&none).expect_err("no key"), InspectError::NoSuperblock);
    assert_eq!(inspect(&SimDisk::new(1)).expect_err("empty"), InspectError::NoData);
}
