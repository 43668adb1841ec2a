//! Damaged files: a frame that nothing later proves durable is a torn tail and ends the log; one
//! that was proven durable is corruption: its offsets are named, and all others are served.

use broker::io::sim::SimDisk;
use engine::Settings;
use engine::frame::{EntryHeader, EntryKind};
use engine::inspect::Verdict;
use engine::layout::FilePath;
use engine::log::damage::END_UNKNOWN;
use pelton_tests::inspection::{inspect, used_bytes, whole_frames};
use pelton_tests::model::{Model, Place, Topic};
use pelton_tests::sim_client::SimClient;
use pelton_tests::world::World;
use wire::{Acks, ErrorCode, topic};

/// Small enough that long ones fit into one segment of the tiny limits.
const BATCHES: u64 = 9;

/// Whether the broker was idle long enough to publish its watermark before it died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    AtOnce,
    AfterIdling,
}

/// What a later frame says about a damaged one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Evidence {
    /// It had been acknowledged.
    Proven,
    /// Nothing.
    None,
}

impl Evidence {
    fn of(number: u64, watermark: u64) -> Evidence {
        if number <= watermark { Evidence::Proven } else { Evidence::None }
    }
}

/// One whole frame on disk.
#[derive(Debug, Clone)]
struct FrameAt {
    path: FilePath,
    position: usize,
    /// Header, table and data: what checksums cover.
    used: usize,
    lsn: u64,
    watermark: u64,
    /// What its watermark entries say is stored.
    stored: Option<u64>,
    /// Offset behind the last record, of a segment's frame.
    next_offset: u64,
    /// It holds changes of the catalog.
    is_catalog: bool,
}

/// A disk with one partition of one record per batch, each acknowledged as durable by itself.
fn written(length: usize, death: Death) -> (SimDisk, Place) {
    let mut model = Model::default();
    let mut world = World::boot(&Settings::tiny(), SimDisk::new(7), 7).expect("a first start");
    let mut client = SimClient::connect(&mut world, &mut model);
    until(&mut world, &mut client, &mut model, |client, _| client.is_ready());
    client.create_topic(world.now(), &mut model, "t", topic::Settings::new(1));
    until(&mut world, &mut client, &mut model, |client, _| client.in_flight() == 0);
    let Some(&Topic::Live(id, _)) = model.topics.get("t") else { panic!("it was created") };
    let place = (id, 0);
    for _ in 0..BATCHES {
        client.produce(world.now(), &mut model, &[place], Acks::Durable, &[length]);
        until(&mut world, &mut client, &mut model, |client, _| client.in_flight() == 0);
    }
    if death == Death::AfterIdling {
        world.settle().expect("no power loss is planned");
    }
    assert!(model.violations().is_empty(), "{:?}", model.violations());
    let mut disk = world.into_disk();
    disk.power_on();
    (disk, place)
}

fn until(
    world: &mut World,
    client: &mut SimClient,
    model: &mut Model,
    is_done: impl Fn(&SimClient, &Model) -> bool,
) {
    for _ in 0..10_000 {
        client.pump(world, model);
        if is_done(client, model) {
            return;
        }
        let soon = world.now().plus_ns(1_000_000);
        world.turn(Some(soon)).expect("no power loss is planned");
    }
    panic!("it never came about");
}

fn frames(disk: &SimDisk, is_wanted: impl Fn(&FilePath) -> bool) -> Vec<FrameAt> {
    let mut found = whole_frames(disk, is_wanted, |path, position, view| FrameAt {
        path: path.clone(),
        position,
        used: used_bytes(view),
        lsn: view.header.lsn.get(),
        watermark: view.header.watermark.get(),
        stored: view.entries.iter().filter(is_mark).map(|e| e.base_offset.get()).max(),
        is_catalog: view.entries.iter().any(|entry| entry.topic == [0; 16]),
        next_offset: view.entries.first().map_or(0, |entry| entry.next_offset()),
    });
    found.sort_by_key(|frame| (frame.lsn, frame.position));
    found
}

fn is_mark(entry: &&EntryHeader) -> bool {
    entry.kind.get() == EntryKind::Watermark as u16
}

/// Damages one bit, or the whole tail, of a frame.
fn damage(disk: &SimDisk, frame: &FrameAt, how: usize) -> SimDisk {
    let mut disk = disk.clone();
    disk.edit(&frame.path, |bytes| {
        let place = &mut bytes[frame.position..frame.position + frame.used];
        match how {
            0 => place[9] ^= 0x20,
            1 => place[40] ^= 0x01,
            2 => place[frame.used - 1] ^= 0x80,
            3 => place[512.min(frame.used - 8)..].fill(0x77),
            _ => place.fill(0),
        }
    });
    disk
}

const DAMAGES: usize = 5;

/// Starts on a disk whose `frame` is damaged, and judges: `kept` records at least must be there,
/// all of them unless the damage is proven; and if it is, those behind it are served as well, the
/// damaged ones are named, and the log goes on.
fn judge(disk: SimDisk, place: Place, frame: &FrameAt, evidence: Evidence, kept: u64) {
    let proven = evidence == Evidence::Proven;
    let seen = inspect(&disk).expect("the superblock is whole");
    let started = World::boot(&Settings::tiny(), disk, 8);
    let mut world = match started {
        Ok(world) => world,
        Err(failed) => {
            let is_named = failed.1.to_string().contains("journal/0/");
            assert!(proven && frame.is_catalog && is_named, "{}, {frame:?}", failed.1);
            assert_eq!(seen.summary.refusal, Some(failed.1), "recovery's own words");
            return;
        }
    };
    let damaged: Vec<_> = world.report.damaged.clone();
    assert_eq!(seen.summary.quarantined, damaged, "who looks sees what recovery finds");
    let (records, lost) = survivors(&mut world, place);
    let left = u64::try_from(records.len()).expect("few");
    for (index, offset) in &records {
        assert_eq!(index, offset, "no record is another one: {frame:?}");
    }
    if !proven {
        assert_eq!((damaged, lost), (vec![], 0), "a torn tail is no damage: {frame:?}");
        assert!(seen.summary.is_sound(), "{frame:?}: {seen:?}");
        assert!((kept..=BATCHES).contains(&left), "{left} of {kept} are left: {frame:?}");
        return;
    }
    // Damage that cost nothing is told, damage that cost something names each offset.
    let is_told = !damaged.is_empty() || !world.report.harmless.is_empty();
    assert!(is_told, "acknowledged data is damaged and nobody says so: {frame:?}");
    // Whether the catalog changed there cannot be told either.
    let mut mine = damaged.iter().filter(|range| range.topic == place.0).peekable();
    assert_eq!(mine.peek().is_none(), lost == 0, "{frame:?}: {damaged:?}");
    let is_end_known = mine.all(|range| range.offsets.end != END_UNKNOWN);
    // Of a frame that cannot be read nobody knows how many records it held: one, or none.
    let (from, to) = if is_end_known { (BATCHES, BATCHES) } else { (BATCHES, BATCHES + 1) };
    assert!((from..=to).contains(&(left + lost)), "each is there or named: {frame:?}, {damaged:?}");
    assert!(lost <= 1, "one frame holds one record: {frame:?}, {damaged:?}");
    for range in &damaged {
        let told = seen.findings.iter().find(|finding| finding.path == range.path);
        let verdict = told.map(|finding| &finding.verdict);
        let is_told = matches!(verdict, Some(Verdict::Corrupt { .. }));
        assert!(is_told, "verify blames the same file: {range}, {seen:?}");
    }
}

/// Every record of the partition, and how many offsets are answered with an error that names
/// where to go on.
fn survivors(world: &mut World, place: Place) -> (Vec<(u64, u64)>, u64) {
    let mut model = Model::default();
    let mut client = SimClient::connect(world, &mut model);
    until(world, &mut client, &mut model, |client, _| client.is_ready());
    let (mut records, mut lost, mut next) = (Vec::new(), 0, 0);
    loop {
        client.fetch(world.now(), &[(place, next)], 0, 1 << 20);
        until(world, &mut client, &mut model, |client, _| client.in_flight() == 0);
        let fetched = client.fetched.remove(0);
        if fetched.error == ErrorCode::DataCorrupt.number() {
            let behind = fetched.last_stable_offset;
            assert!(behind > next, "it says where to go on");
            if behind == END_UNKNOWN {
                return (records, lost.max(1));
            }
            lost += behind - next;
            next = behind;
            continue;
        }
        assert_eq!(fetched.error, 0, "at {next}");
        let Some(&(last, _)) = fetched.records.last() else { return (records, lost) };
        next = last + 1;
        records.extend(fetched.records);
    }
}

#[test]
fn a_damaged_journal_frame_is_a_torn_tail_or_quarantined() {
    let is_journal = |path: &FilePath| matches!(path, FilePath::Journal { .. });
    let (mut quarantined, mut torn) = (0, 0);
    for death in [Death::AtOnce, Death::AfterIdling] {
        let (disk, place) = written(100, death);
        let frames = frames(&disk, is_journal);
        assert!(frames.len() > usize::try_from(BATCHES).expect("few"), "one commit each");
        let newest = frames.last().expect("there are some").lsn;
        for frame in &frames {
            let others = frames.iter().filter(|other| other.lsn != frame.lsn);
            let watermark = others.map(|other| other.watermark).max().unwrap_or(0);
            let evidence = Evidence::of(frame.lsn, watermark);
            // The newest frames are the newest batches, one each; the last may be empty.
            let behind = newest - frame.lsn + 1;
            let kept = BATCHES.saturating_sub(behind);
            for how in 0..DAMAGES {
                judge(damage(&disk, frame, how), place, frame, evidence, kept);
            }
            quarantined += u32::from(evidence == Evidence::Proven);
            torn += u32::from(evidence == Evidence::None);
        }
    }
    assert!(
        quarantined > 8 && torn >= 2,
        "both came about: {quarantined} quarantined, {torn} torn"
    );
}

#[test]
fn a_damaged_segment_frame_is_a_torn_tail_or_quarantined() {
    let is_segment =
        |path: &FilePath| matches!(path, FilePath::Segment { topic, .. } if *topic != [0; 16]);
    let (mut quarantined, mut torn) = (0, 0);
    for death in [Death::AtOnce, Death::AfterIdling] {
        // Long enough to go straight to the segment, and to fit there together.
        let (disk, place) = written(9_000, death);
        let frames = frames(&disk, is_segment);
        assert_eq!(frames.len(), usize::try_from(BATCHES).expect("few"), "one run each");
        let is_journal = |path: &FilePath| matches!(path, FilePath::Journal { .. });
        let stored = self::frames(&disk, is_journal).iter().filter_map(|f| f.stored).max();
        for frame in &frames {
            let later = frames.iter().filter(|other| other.position > frame.position);
            let watermark = later.map(|other| other.watermark).max().max(stored).unwrap_or(0);
            let evidence = Evidence::of(frame.next_offset, watermark);
            for how in 0..DAMAGES {
                judge(damage(&disk, frame, how), place, frame, evidence, frame.next_offset - 1);
            }
            quarantined += u32::from(evidence == Evidence::Proven);
            torn += u32::from(evidence == Evidence::None);
        }
    }
    assert!(
        quarantined > 8 && torn >= 1,
        "both came about: {quarantined} quarantined, {torn} torn"
    );
}
