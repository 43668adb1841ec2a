//! Several lives on one disk: what earlier ones left behind proves nothing and harms nothing.

use broker::io::sim::SimDisk;
use engine::Settings;
use engine::frame::BLOCK_BYTES;
use engine::layout::FilePath;
use pelton_tests::life::Life;
use pelton_tests::model::{Model, Place};

use super::frames::{FrameAt, frames};

fn journal(disk: &SimDisk) -> Vec<FrameAt> {
    frames(disk, |path| matches!(path, FilePath::Journal { .. }))
}

/// Two lives, of which the second was short: its journal file has frames of the first behind it.
fn two_lives() -> (SimDisk, Place, u64) {
    let mut life = Life::begin(&Settings::tiny(), SimDisk::new(3), Model::default());
    let place = life.create("t", 1)[0];
    for _ in 0..8 {
        life.produce(place, &[100]);
    }
    let mut model = life.model.clone();
    model.died();
    let mut life = Life::begin(&Settings::tiny(), life.end(), model);
    for _ in 0..3 {
        life.produce(place, &[100]);
    }
    (life.end(), place, 11)
}

/// Starts on it, and everything is there.
#[track_caller]
fn assert_whole(disk: SimDisk, place: Place, records: u64, what: &str) {
    let mut life = Life::begin(&Settings::tiny(), disk, Model::default());
    let damaged = &life.world.report.damaged;
    assert!(damaged.is_empty(), "{what}: {damaged:?}");
    let survey = life.survey(place, 0);
    let offsets = survey.records.iter().map(|(offset, _)| *offset);
    assert!(offsets.eq(0..records), "{what}: {survey:?}");
}

#[test]
fn two_epochs_in_one_file_are_told_apart() {
    let (disk, place, records) = two_lives();
    let found = journal(&disk);
    let first = &found[0].path;
    let mine: Vec<&FrameAt> = found.iter().filter(|frame| frame.path == *first).collect();
    let epochs: Vec<u32> = mine.iter().map(|frame| frame.epoch).collect();
    assert!(epochs.contains(&1) && epochs.contains(&2), "both are in one file: {epochs:?}");
    assert_whole(disk.clone(), place, records, "as it is");
    // What the first life left is nothing, however bad.
    for stale in mine.iter().filter(|frame| frame.epoch == 1) {
        let mut disk = disk.clone();
        disk.edit(&stale.path, |bytes| bytes[stale.position + 40] ^= 1);
        assert_whole(disk, place, records, "a stale frame is damaged");
    }
}

#[test]
fn stale_frames_of_an_earlier_lap_are_nothing() {
    let mut life = Life::begin(&Settings::tiny(), SimDisk::new(3), Model::default());
    let place = life.create("t", 1)[0];
    let mut records = 0;
    // Around the ring of three files, and on.
    while life.world.shard(0).counters().journal_bytes < 4 * 64 * 1024 + 20_000 {
        life.produce(place, &[3_000]);
        records += 1;
    }
    let disk = life.end();
    let found = journal(&disk);
    let newest = found.iter().map(|frame| frame.file_sequence).max().expect("frames");
    let current = found.iter().find(|frame| frame.file_sequence == newest).expect("it");
    let stale: Vec<&FrameAt> = found
        .iter()
        .filter(|frame| frame.path == current.path && frame.file_sequence < newest)
        .collect();
    assert!(!stale.is_empty(), "an earlier lap's frames lie behind the newest ones");
    assert_whole(disk.clone(), place, records, "as it is");
    for frame in stale {
        let mut disk = disk.clone();
        disk.edit(&frame.path, |bytes| bytes[frame.position + 9] ^= 1);
        assert_whole(disk, place, records, "a frame of an earlier lap is damaged");
    }
}

#[test]
fn a_lost_slot_of_the_superblock_loses_nothing() {
    let (disk, place, records) = two_lives();
    for slot in [0, BLOCK_BYTES] {
        for at in [0, 12, 40, 48] {
            let mut disk = disk.clone();
            disk.edit(&FilePath::Superblock, |bytes| bytes[slot + at] ^= 1);
            let mut life = Life::begin(&Settings::tiny(), disk, Model::default());
            let harmless = &life.world.report.harmless;
            assert!(harmless.iter().any(|(path, ..)| *path == FilePath::Superblock));
            assert_eq!(life.world.report.damaged, []);
            assert_eq!(life.survey(place, 0).records.len(), usize::try_from(records).expect("few"));
            // And the life after it.
            life.produce(place, &[100]);
            assert_whole(life.end(), place, records + 1, "the next start");
        }
    }
}

#[test]
fn a_journal_and_a_segment_that_disagree_are_settled_by_the_whole_one() {
    let settings = Settings { gather_bytes_max: 12 * 1024, ..Settings::tiny() };
    let mut life = Life::begin(&settings, SimDisk::new(3), Model::default());
    let place = life.create("t", 1)[0];
    let records = 12u64;
    for _ in 0..records {
        life.produce(place, &[3_000]);
    }
    let disk = life.end();
    let is_mine =
        |path: &FilePath| matches!(path, FilePath::Segment { topic, .. } if *topic == place.0);
    let stored = frames(&disk, is_mine);
    assert!(stored.len() >= 2, "runs went to the segment, and the journal has them too");
    for frame in &stored {
        for at in [9, 40, frame.used - 1] {
            let mut disk = disk.clone();
            disk.edit(&frame.path, |bytes| bytes[frame.position + at] ^= 4);
            assert_whole(disk, place, records, "the journal has what the segment lost");
        }
    }
    // The other way round: what the segments have, the journal need not.
    let stored_to = stored.iter().map(|frame| frame.offsets.end).max().expect("some");
    let is_stored = |frame: &&FrameAt| frame.topic == place.0 && frame.offsets.end <= stored_to;
    for frame in journal(&disk).iter().filter(is_stored) {
        let mut disk = disk.clone();
        let at = frame.used - 1;
        disk.edit(&frame.path, |bytes| bytes[frame.position + at] ^= 4);
        let mut life = Life::begin(&Settings::tiny(), disk, Model::default());
        let survey = life.survey(place, 0);
        assert_eq!(survey.records.len(), usize::try_from(records).expect("few"), "{frame:?}");
        assert_eq!(survey.damaged, []);
    }
}
