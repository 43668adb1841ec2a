//! Where a partition ends that nobody knows: it is served up to there, refuses producers, and goes
//! on once it was repaired, behind every number that may have been acknowledged.

use broker::io::sim::SimDisk;
use engine::Settings;
use engine::inspect::{self, Directory, OFFSETS_LEFT_OUT};
use engine::layout::FilePath;
use engine::log::damage::END_UNKNOWN;
use pelton_tests::life::Life;
use pelton_tests::model::{Model, Place};
use wire::{Acks, ErrorCode};

use super::frames::frames;

const RECORDS: u64 = 6;

/// The newest record's journal frame has lost its header, and a watermark shows that it was
/// durable; beside it a partition that nothing was ever written to.
fn headless() -> (SimDisk, [Place; 2], Model) {
    let mut life = Life::begin(&Settings::tiny(), SimDisk::new(3), Model::default());
    let places = life.create("t", 2);
    for _ in 0..RECORDS {
        life.produce(places[0], &[100]);
    }
    let mut model = life.model.clone();
    model.died();
    let mut disk = life.end();
    let journal = frames(&disk, |path| matches!(path, FilePath::Journal { .. }));
    let newest = journal.iter().rfind(|frame| frame.offsets.end == RECORDS).expect("committed");
    disk.edit(&newest.path, |bytes| bytes[newest.position + 20] ^= 1);
    (disk, [places[0], places[1]], model)
}

fn repair(disk: &mut SimDisk) -> inspect::Plan {
    let mut directory = Directory::open(disk).expect("a data directory");
    let plan = inspect::plan(&mut directory).expect("it can be read");
    directory.apply(&plan, 1).expect("it can be written");
    plan
}

/// Produces one record; gives the error.
fn produced(life: &mut Life, place: Place) -> Option<u16> {
    let now = life.world.now();
    life.client.produce(now, &mut life.model, &[place], Acks::Durable, &[100]);
    life.until(|client| client.in_flight() == 0);
    let survey = life.survey(place, 0);
    let unknown = survey.damaged.iter().any(|range| range.end == END_UNKNOWN);
    unknown.then(|| ErrorCode::EndUnknown.number())
}

#[test]
fn an_unknown_end_refuses_producers_at_every_start_until_it_is_repaired() {
    let (mut disk, places, model) = headless();
    for _ in 0..2 {
        let mut life = Life::begin(&Settings::tiny(), disk, model.clone());
        for (place, left) in places.into_iter().zip([RECORDS - 1, 0]) {
            let end = left..END_UNKNOWN;
            assert_eq!(produced(&mut life, place), Some(ErrorCode::EndUnknown.number()));
            let survey = life.survey(place, 0);
            assert_eq!(u64::try_from(survey.records.len()), Ok(left));
            assert_eq!(survey.damaged, std::slice::from_ref(&end));
        }
        disk = life.end();
    }
    let plan = repair(&mut disk);
    assert_eq!(plan.refusal, None);
    goes_on(disk, places, &model);
}

#[test]
fn repair_before_the_first_start_is_as_good() {
    let (mut disk, places, model) = headless();
    let aside = disk.clone();
    {
        let mut directory = Directory::open(&mut disk).expect("a data directory");
        let plan = inspect::plan(&mut directory).expect("it can be read");
        assert!(plan.mends.iter().any(|mend| mend.stream == places[0]), "{plan:?}");
    }
    assert!(aside.files().eq(disk.files()), "a plan writes nothing");
    repair(&mut disk);
    goes_on(disk, places, &model);
}

/// Both partitions take records again, behind every offset that may have been acknowledged.
#[track_caller]
fn goes_on(mut disk: SimDisk, places: [Place; 2], model: &Model) {
    for start in 1..3u64 {
        let mut life = Life::begin(&Settings::tiny(), disk, model.clone());
        for (place, left) in places.into_iter().zip([RECORDS - 1, 0]) {
            assert_eq!(produced(&mut life, place), None, "start {start}");
            let survey = life.survey(place, 0);
            let gap = left..left + OFFSETS_LEFT_OUT;
            assert_eq!(survey.damaged, std::slice::from_ref(&gap), "start {start}");
            let offsets: Vec<u64> = survey.records.iter().map(|(offset, _)| *offset).collect();
            let expected = (0..left).chain(gap.end..gap.end + start);
            assert!(offsets.iter().copied().eq(expected), "start {start}: {offsets:?}");
        }
        disk = life.end();
    }
}
