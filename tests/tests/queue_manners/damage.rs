//! A flipped bit anywhere in a queue store, after a clean stop: the broker starts, what is whole is
//! delivered, and what is not is counted, named and stays until somebody purges it.

use std::collections::BTreeSet;

use broker::io::sim::SimDisk;
use engine::frame::BLOCK_BYTES;
use pelton_tests::queue_scene::{Reply, Scene};
use wire::queue::{QueueId, Settings};

use super::space::{bounds, come_and_go, is_of_store};

/// Messages that are there when the broker stops.
const KEPT: usize = 60;

fn body(number: usize) -> String {
    format!("{number:04}{}", "-".repeat(700))
}

/// A store with messages of several ages, some of them relocated, and checkpoints.
fn stocked() -> (SimDisk, QueueId) {
    let mut scene = Scene::first(1);
    let client = scene.join();
    let queue = scene.create(client, "jobs", &Settings::new(), "");
    let other = scene.create(client, "kept", &Settings::new(), "");
    for number in 0..KEPT {
        scene.publish(client, &other, &[body(number).as_str()]);
        if number % 6 == 0 {
            let consumer = scene.consume(client, &queue, 0, 0);
            come_and_go(&mut scene, client, &queue, 1);
            scene.ask(client, |session| session.cancel(&queue, consumer));
        }
    }
    assert!(scene.counter("queue_messages_moved") > 0, "some are relocated");
    (scene.stop(), other)
}

/// Everything that comes out of a queue.
fn taken(scene: &mut Scene, client: usize, queue: &QueueId) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    loop {
        let some = scene.pull(client, queue, 100, 500, 3_600_000);
        if some.is_empty() {
            return all;
        }
        all.extend(some.into_iter().map(|parcel| parcel.body));
    }
}

#[test]
fn what_a_flipped_bit_costs_is_counted_and_nothing_else_is_lost() {
    let (disk, queue) = stocked();
    let all: BTreeSet<String> = (0..KEPT).map(body).collect();
    let (mut harmless, mut costly, mut most) = (0, 0, 0);
    let stores = disk.files().filter(|(path, _)| is_of_store(path));
    for (path, bytes) in stores.map(|(path, bytes)| (path.clone(), bytes.to_vec())) {
        let blocks = bytes.chunks(BLOCK_BYTES).enumerate();
        let blocks = blocks.filter(|(_, block)| block.iter().any(|&byte| byte != 0));
        for (block, _) in blocks {
            let at = block * BLOCK_BYTES + (block * 977) % BLOCK_BYTES;
            let mut disk = disk.clone();
            disk.edit(&path, |bytes| bytes[at] ^= 1 << (block % 8));
            let mut scene = Scene::begin(&bounds(), disk);
            let client = scene.join();
            let found = taken(&mut scene, client, &queue);
            assert!(found.is_subset(&all), "{path} at {at}: something else came out");
            let lost = u64::try_from(all.len() - found.len()).expect("few");
            let told = scene.counts(client, "kept").unreadable.get();
            assert_eq!(told, lost, "{path} at {at}: {:?}", scene.world.report);
            most = most.max(lost);
            if lost == 0 {
                harmless += 1;
                continue;
            }
            costly += 1;
            let report = scene.world.report.to_string();
            let is_named = !scene.world.errors().is_empty() || report.contains("DAMAGED");
            assert!(is_named, "{path} at {at}: {report}");
            let purged = scene.ask(client, |session| session.purge_queue("kept"));
            assert_eq!(purged, Reply::Removed(lost));
            let counts = scene.counts(client, "kept");
            assert_eq!((counts.unreadable.get(), counts.dropped.get()), (0, lost));
            let mut scene = Scene::begin(&bounds(), scene.stop());
            let client = scene.join();
            assert_eq!(scene.counts(client, "kept").unreadable.get(), 0, "it was dropped for good");
        }
    }
    assert!(harmless > 10 && costly > 5, "{harmless} harmless, {costly} not");
    assert!(most < 30, "one flipped bit cost {most} messages");
}
