//! Reading what is on disk, by every fetch path: all of it, in order, whatever the sizes of reads;
//! and what becomes of a read that fails or of a file that was cut short.

use broker::io::sim::{SimDisk, StreamEnd};
use engine::Settings;
use engine::layout::FilePath;
use engine::port::Fault;
use engine::settings::FetchPath;
use pelton_tests::life::Life;
use pelton_tests::model::{Model, Place, Topic};
use pelton_tests::sim_client::{SimClient, State};
use wire::{Acks, ErrorCode, topic};

/// Batches of each partition: together they fill a few segments of the tiny limits.
const BATCHES: u64 = 60;

/// A disk with two partitions of long and short batches, all of them in segments.
fn written(settings: &Settings) -> (SimDisk, [Place; 2], Model) {
    written_to(settings)
}

/// The same with `N` partitions.
fn written_to<const N: usize>(settings: &Settings) -> (SimDisk, [Place; N], Model) {
    let mut life = Life::begin(settings, SimDisk::new(11), Model::default());
    let now = life.world.now();
    let partitions = u32::try_from(N).expect("few");
    life.client.create_topic(now, &mut life.model, "t", topic::Settings::new(partitions));
    life.until(|client| client.in_flight() == 0);
    let Some(&Topic::Live(id, _)) = life.model.topics.get("t") else { panic!("created") };
    let places = std::array::from_fn(|at| (id, u32::try_from(at).expect("few")));
    for batch in 0..BATCHES {
        for place in places {
            let length = [9_000, 300, 40_000][usize::try_from(batch % 3).expect("small")];
            let now = life.world.now();
            let lengths = [length, 100];
            life.client.produce(now, &mut life.model, &[place], Acks::Durable, &lengths);
            life.until(|client| client.in_flight() == 0);
        }
    }
    life.world.settle().expect("no power loss is planned");
    let mut disk = life.world.into_disk();
    disk.power_on();
    life.model.died();
    (disk, places, life.model)
}

fn oldest_segment(place: Place) -> FilePath {
    FilePath::Segment { topic: place.0, partition: place.1, sequence: 0 }
}

#[test]
fn every_path_and_size_of_read_brings_every_record() {
    let (disk, places, model) = written(&Settings::tiny());
    for fetch_path in FetchPath::ALL {
        for (read_bytes, read_ahead_bytes) in [(4096, 0), (4096, 64 << 10), (64 << 10, 128 << 10)] {
            let tiny = Settings::tiny();
            let settings = Settings { fetch_path, read_bytes, read_ahead_bytes, ..tiny };
            let mut life = Life::begin(&settings, disk.clone(), model.clone());
            for (from, max_bytes) in [(0, 1 << 20), (7, 30_000), (2 * BATCHES - 3, 1)] {
                let offsets = life.read(places[0], from, max_bytes);
                assert!(offsets.iter().copied().eq(from..2 * BATCHES), "{settings:?}");
            }
            let counters = life.world.shard(0).counters();
            assert!(counters.fetch_disk_reads > 0, "it is read from the disk: {fetch_path:?}");
            let is_sent = counters.fetch_file_bytes > 0;
            assert_eq!(is_sent, fetch_path == FetchPath::SendFile, "{settings:?}");
        }
    }
}

#[test]
fn reading_ahead_reads_no_byte_twice() {
    let settings = Settings { segment_bytes: 2 << 20, ..Settings::tiny() };
    let (disk, places, model) = written(&settings);
    let mut life = Life::begin(&settings, disk, model);
    life.read(places[0], 0, 64 << 10);
    let counters = *life.world.shard(0).counters();
    // Frames have headers and padding.
    let (read, sent) = (counters.disk_read_bytes, counters.fetch_bytes);
    assert!(read >= sent && read < sent + sent / 4, "{read} bytes were read to send {sent}");
}

#[test]
fn a_fetch_of_many_partitions_reads_no_more_of_them_than_its_reply_holds() {
    let settings = Settings { read_ahead_bytes: 0, read_bytes: 64 << 10, ..Settings::tiny() };
    let (disk, places, model) = written_to::<12>(&settings);
    for (max_bytes, reads_max) in [(60_000, 2), (150_000, 5)] {
        let mut life = Life::begin(&settings, disk.clone(), model.clone());
        let now = life.world.now();
        // The third batch of each is its first long one.
        let wants = places.map(|place| (place, 4));
        life.client.fetch(now, &wants, 0, max_bytes);
        life.until(|client| client.in_flight() == 0);
        let held = life.client.fetched.iter().filter(|fetched| !fetched.records.is_empty());
        let (held, reads) = (held.count(), life.world.shard(0).counters().fetch_disk_reads);
        assert!(held > 0 && reads <= reads_max, "{reads} reads for {held} partitions' records");
    }
}

#[test]
fn a_direct_path_reads_what_memory_has_and_sees_new_records() {
    let (disk, places, model) = written(&Settings::tiny());
    let settings = Settings { fetch_path: FetchPath::Direct, ..Settings::tiny() };
    let mut life = Life::begin(&settings, disk, model);
    let mut end = 2 * BATCHES;
    for _ in 0..30 {
        let now = life.world.now();
        life.client.produce(now, &mut life.model, &places[..1], Acks::Durable, &[9_000]);
        life.until(|client| client.in_flight() == 0);
        end += 1;
        let offsets = life.read(places[0], end - 5, 1 << 20);
        assert!(offsets.iter().copied().eq(end - 5..end), "{offsets:?}");
    }
    assert!(life.world.shard(0).counters().fetch_disk_reads > 20, "memory is not asked");
}

#[test]
fn a_failed_read_is_told_and_others_go_on() {
    let (disk, places, model) = written(&Settings::tiny());
    for read_ahead_bytes in [0, 64 << 10] {
        let settings = Settings { read_ahead_bytes, ..Settings::tiny() };
        let mut life = Life::begin(&settings, disk.clone(), model.clone());
        let next = life.world.disk().reads() + 1;
        life.world.disk().plan().reads.insert(next, Fault::EIO);
        let failed = life.fetch(places[0], 0, 1 << 20);
        assert_eq!(failed.error, ErrorCode::StorageFailed.number());
        let name = oldest_segment(places[0]).to_string();
        assert!(life.world.errors().iter().any(|text| text.contains(&name)), "{name} is named");
        let offsets = life.read(places[1], 0, 1 << 20);
        assert_eq!(offsets.len(), usize::try_from(2 * BATCHES).expect("few"), "others go on");
        let offsets = life.read(places[0], 0, 1 << 20);
        assert_eq!(offsets.len(), usize::try_from(2 * BATCHES).expect("few"), "it was once");
    }
}

#[test]
fn a_file_that_was_cut_short_is_told_and_others_go_on() {
    let (mut disk, places, model) = written(&Settings::tiny());
    disk.edit(&oldest_segment(places[0]), |bytes| bytes.truncate(5 * 4096));
    let mut life = Life::begin(&Settings::tiny(), disk, model);
    let mut next = 0;
    let error = loop {
        let fetched = life.fetch(places[0], next, 1 << 20);
        match fetched.records.last() {
            Some(&(last, _)) => next = last + 1,
            None => break fetched.error,
        }
    };
    assert!(next > 0, "what is there is served");
    assert_eq!(error, ErrorCode::DataCorrupt.number());
    let name = oldest_segment(places[0]).to_string();
    assert!(life.world.errors().iter().any(|text| text.contains(&name)), "{name} is named");
    assert!(life.model.violations().is_empty(), "{:?}", life.model.violations());
    let offsets = life.read(places[1], 0, 1 << 20);
    assert_eq!(offsets.len(), usize::try_from(2 * BATCHES).expect("few"));
}

#[test]
fn a_file_that_was_cut_short_is_never_sent_as_something_else() {
    let (mut disk, places, model) = written(&Settings::tiny());
    // Inside the data of a frame whose header is there.
    disk.edit(&oldest_segment(places[0]), |bytes| bytes.truncate(5 * 4096));
    let settings = Settings { fetch_path: FetchPath::SendFile, ..Settings::tiny() };
    let mut life = Life::begin(&settings, disk, model);
    let mut next = 0;
    while life.client.state == State::Open {
        let now = life.world.now();
        life.client.fetch(now, &[(places[0], next)], 0, 1 << 20);
        life.until(|client| client.state == State::Ended || !client.fetched.is_empty());
        let Some(fetched) = life.client.fetched.pop() else { break };
        let last = fetched.records.last().expect("it is there, or the connection ends");
        next = last.0 + 1;
    }
    assert!(next > 0, "what is there is sent");
    assert_eq!(life.client.state, State::Ended, "what was promised cannot be sent");
    let name = oldest_segment(places[0]).to_string();
    assert!(life.world.errors().iter().any(|text| text.contains(&name)), "{name} is named");
    assert!(life.model.violations().is_empty(), "{:?}", life.model.violations());
    let client = SimClient::connect(&mut life.world, &mut life.model);
    life.client = client;
    life.until(SimClient::is_ready);
    let offsets = life.read(places[1], 0, 1 << 20);
    assert_eq!(offsets.len(), usize::try_from(2 * BATCHES).expect("few"), "others go on");
    life.world.settle().expect("no power loss is planned");
    let Life { mut world, client, mut model } = life;
    client.leave(&mut world, &mut model, StreamEnd::Eof);
    world.settle().expect("no power loss is planned");
    assert_eq!(world.leaks(), None);
}

#[test]
fn what_was_read_ahead_is_given_back_when_nobody_comes() {
    let (disk, places, model) = written(&Settings::tiny());
    let mut life = Life::begin(&Settings::tiny(), disk, model);
    life.fetch(places[0], 0, 40_000);
    life.fetch(places[0], 4, 40_000);
    life.world.settle().expect("no power loss is planned");
    let Life { mut world, client, mut model } = life;
    client.leave(&mut world, &mut model, StreamEnd::Eof);
    world.settle().expect("no power loss is planned");
    assert_eq!(world.leaks(), None);
    assert_eq!(world.shard(0).buffers_read_ahead(), 0);
}
