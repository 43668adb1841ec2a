//! What queues cost: bytes read at a start, space on the disk and marks in memory.

use engine::Settings as Bounds;
use engine::layout::FilePath;
use engine::log::store::Store;
use pelton_tests::queue_scene::{Reply, Scene};
use wire::Acks;
use wire::queue::{QueueId, Settings, Verb, put_message};

use super::bodies;

/// Messages of one publish: some 40 KB.
const SOME: u32 = 1000;
/// What a store with hardly any messages may take: a few segments, each reserved ahead.
const STORE_BYTES_MAX: usize = 3 << 19;

pub(super) fn bounds() -> Bounds {
    Bounds { shards: 1, ..Bounds::tiny() }
}

/// So many messages of 8 bytes.
fn publish_some(scene: &mut Scene, client: usize, queue: &QueueId, count: u32) {
    let mut messages = Vec::new();
    for _ in 0..count {
        put_message(&mut messages, 0, 0, b"", b"8 bytes!");
    }
    let publish =
        scene.ask(client, |session| session.publish(queue, Acks::Durable, count, &messages));
    assert!(matches!(publish, Reply::Published(_)), "{publish:?}");
}

/// So many publishes whose messages come and go.
pub(super) fn come_and_go(scene: &mut Scene, client: usize, queue: &QueueId, publishes: u32) {
    for _ in 0..publishes {
        publish_some(scene, client, queue, SOME);
    }
    for _ in 0..1000 {
        if scene.counts(client, "jobs").ready.get() == 0 {
            return;
        }
        scene.pass(50);
        scene.pushed(client);
    }
    panic!("they do not go");
}

/// Bytes of the files in which the first store's messages lie.
fn store_bytes(scene: &mut Scene) -> usize {
    let disk = scene.world.disk();
    let files = disk.files();
    files.filter(|(path, _)| is_of_store(path)).map(|(_, bytes)| bytes.len()).sum()
}

/// Whether it is a segment of a queue store.
pub(super) fn is_of_store(path: &FilePath) -> bool {
    matches!(path, FilePath::Segment { topic, .. } if *topic == Store::QUEUE_TOPIC)
}

/// What a start reads after so many publishes whose messages are all settled: bytes and records.
fn start_after(publishes: u32) -> (u64, u64) {
    let mut scene = Scene::first(1);
    let client = scene.join();
    let queue = scene.create(client, "jobs", &Settings::new(), "");
    scene.consume(client, &queue, 0, 0);
    come_and_go(&mut scene, client, &queue, publishes);
    assert_eq!(scene.counter("queue_messages_delivered"), u64::from(publishes * SOME));
    // What is settled by being sent is recorded a little later.
    scene.pass(5000);
    let disk = scene.die();
    let before = disk.bytes_read();
    let mut scene = Scene::begin(&bounds(), disk);
    let read = scene.world.disk().bytes_read() - before;
    assert_eq!(scene.world.report.queue_messages, 0);
    (read, scene.world.report.queue_records)
}

#[test]
fn a_start_reads_as_little_however_many_messages_have_come_and_gone() {
    let (few, many) = (start_after(5), start_after(50));
    assert!(many.0 < few.0 + (512 << 10), "bytes: {} after ten times as many as {}", many.0, few.0);
    assert!(many.1 < few.1 + 100, "records: {} after ten times as many as {}", many.1, few.1);
}

#[test]
fn one_message_that_stays_keeps_no_space_behind_it() {
    let mut scene = Scene::first(1);
    let (client, holder) = (scene.join(), scene.join());
    let queue = scene.create(client, "jobs", &Settings::new(), "");
    scene.publish(client, &queue, &["it stays"]);
    let stuck = scene.pull(holder, &queue, 1, 0, 3_600_000);
    assert_eq!(bodies(&stuck), ["it stays"]);
    scene.consume(client, &queue, 0, 0);
    come_and_go(&mut scene, client, &queue, 100);
    let bytes = store_bytes(&mut scene);
    assert!(bytes < STORE_BYTES_MAX, "{bytes} bytes for one message, after 4 MB");
    assert!(scene.counter("queue_messages_moved") >= 1, "it was moved to the end");
    let mut scene = Scene::begin(&bounds(), scene.die());
    let client = scene.join();
    let again = scene.pull(client, &queue, 10, 1000, 0);
    assert_eq!((bodies(&again), again[0].is_again), (vec!["it stays"], true));
}

#[test]
fn a_message_here_and_there_that_stays_keeps_no_space_either() {
    let mut scene = Scene::first(1);
    let (client, holder) = (scene.join(), scene.join());
    let queue = scene.create(client, "jobs", &Settings::new(), "");
    let names: Vec<String> = (0..25).map(|number| format!("stuck {number}")).collect();
    let mut held = Vec::new();
    for name in &names {
        scene.publish(client, &queue, &[name.as_str()]);
        held.extend(scene.pull(holder, &queue, 1, 0, 3_600_000));
        assert_eq!(held.last().map(|parcel| &parcel.body), Some(name));
        let consumer = scene.consume(client, &queue, 0, 0);
        come_and_go(&mut scene, client, &queue, 10);
        scene.ask(client, |session| session.cancel(&queue, consumer));
    }
    let bytes = store_bytes(&mut scene);
    assert!(bytes < STORE_BYTES_MAX, "{bytes} bytes for 25 messages, after 10 MB");
    // All of them are found where they are now, before a start and after it.
    for parcel in &held {
        assert_eq!(scene.settle(holder, &queue, parcel, Verb::Release, 0), (0, 1));
    }
    scene.pass(10);
    assert_eq!(bodies(&scene.pull(client, &queue, 100, 1000, 0)), names);
    let mut scene = Scene::begin(&bounds(), scene.die());
    let client = scene.join();
    assert_eq!(bodies(&scene.pull(client, &queue, 100, 1000, 0)), names);
}

#[test]
fn what_is_published_after_everything_was_settled_is_found() {
    let mut scene = Scene::first(1);
    let (client, holder) = (scene.join(), scene.join());
    let queue = scene.create(client, "jobs", &Settings::new(), "");
    scene.publish(client, &queue, &["it stays"]);
    let stuck = scene.pull(holder, &queue, 1, 0, 3_600_000);
    assert_eq!(stuck.len(), 1);
    let mut names = vec!["it stays".to_owned()];
    for round in 0..40 {
        let consumer = scene.consume(client, &queue, 0, 0);
        come_and_go(&mut scene, client, &queue, 2);
        scene.ask(client, |session| session.cancel(&queue, consumer));
        // Nothing was alive behind the first message when a checkpoint was made.
        names.truncate(1);
        names.push(format!("last {round}"));
        scene.publish(client, &queue, &[names[1].as_str()]);
    }
    let mut scene = Scene::begin(&bounds(), scene.die());
    let client = scene.join();
    assert_eq!(bodies(&scene.pull(client, &queue, 10, 1000, 0)), names);
}
