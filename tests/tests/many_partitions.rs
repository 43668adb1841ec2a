//! What ten thousand empty partitions cost: nothing on disk besides the catalog, and little
//! memory each; also for the recovery after a power loss.

use broker::io::sim::SimDisk;
use engine::Settings;
use engine::layout::FilePath;
use engine::log::partition::Partition;
use pelton_tests::model::{Model, Topic};
use pelton_tests::sim_client::SimClient;
use pelton_tests::world::World;

const PARTITIONS: u32 = 10_000;
/// Disk besides the journal.
const DISK_BYTES_MAX: usize = 64 << 20;
/// Memory of an empty partition: it has nothing on the heap, so its place in the shard's table
/// is all, and that table may have doubled just now.
const PARTITION_BYTES_MAX: usize = 1024;

/// A first life that creates the topics, and the disk after a power loss.
fn created(topics: &[(&str, u32)]) -> SimDisk {
    let mut model = Model::default();
    let mut world = World::boot(&settings(), SimDisk::new(1), 1).expect("a first start");
    let mut client = SimClient::connect(&mut world, &mut model);
    let turn = |world: &mut World, client: &mut SimClient, model: &mut Model| {
        client.pump(world, model);
        let soon = world.now().plus_ns(1_000_000);
        world.turn(Some(soon)).expect("no power loss is planned");
        client.pump(world, model);
        client.is_ready() && client.in_flight() == 0
    };
    while !turn(&mut world, &mut client, &mut model) {}
    for (name, partitions) in topics {
        client.create_topic(world.now(), &mut model, name, wire::topic::Settings::new(*partitions));
        while !turn(&mut world, &mut client, &mut model) {}
        let is_live = matches!(model.topics.get(*name), Some(Topic::Live(..)));
        assert!(is_live, "{name}: {:?}", model.topics);
    }
    world.settle().expect("no power loss is planned");
    let mut disk = world.into_disk();
    disk.power_on();
    disk
}

fn settings() -> Settings {
    Settings { partitions_max: 20_000, ..Settings::tiny() }
}

#[test]
fn empty_partitions_cost_next_to_nothing() {
    let one: &[(&str, u32)] = &[("t", PARTITIONS)];
    let names: Vec<String> = (0..10).map(|number| format!("t{number}")).collect();
    let ten: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), PARTITIONS / 10)).collect();
    for topics in [one, &ten] {
        let mut disk = created(topics);
        // Recovery twice: after the loss of power, and of what that recovery left.
        for seed in [2, 3] {
            let world = World::boot(&settings(), disk, seed).expect("it recovers");
            let found = u32::try_from(world.report.partitions).expect("few");
            assert_eq!((found, world.report.topics), (PARTITIONS, topics.len()));
            disk = world.into_disk();
            disk.power_on();
            let besides = disk.files().filter(|(p, _)| !matches!(p, FilePath::Journal { .. }));
            let besides: Vec<(&FilePath, usize)> =
                besides.map(|(path, bytes)| (path, bytes.len())).collect();
            let bytes: usize = besides.iter().map(|(_, bytes)| bytes).sum();
            assert!(bytes <= DISK_BYTES_MAX, "{bytes}");
            assert!(besides.len() < 10, "no file per partition: {}", besides.len());
        }
    }
}

#[test]
fn an_empty_partition_is_small_and_has_nothing_on_the_heap() {
    let partition = Partition::new([1; 16], 0, engine::frame::EntryKind::RecordBatch, 0);
    let on_heap = partition.runs.capacity()
        + partition.segments.capacity()
        + partition.written_waiters.capacity()
        + partition.durable_waiters.capacity()
        + partition.fetch_waiters.capacity();
    assert_eq!(on_heap, 0);
    let bytes = size_of::<Option<Partition>>();
    assert!(2 * bytes <= PARTITION_BYTES_MAX, "{bytes} bytes, doubled");
}
