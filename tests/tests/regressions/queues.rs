//! Queues.

use engine::Settings as Bounds;
use pelton_tests::queue_life::QueueLife;
use pelton_tests::queue_scene::{Parcel, Reply, Scene};
use wire::limits::MESSAGE_BYTES_MAX;
use wire::queue::{
    MESSAGE_HEAD_BYTES, Overflow, QUEUE_AUTO_DELETE, QUEUE_DEAD_LETTER_TOPIC, QUEUE_EXCLUSIVE,
    Settings, Verb, put_message,
};
use wire::{Acks, ErrorCode};

fn bodies(parcels: &[Parcel]) -> Vec<&str> {
    parcels.iter().map(|parcel| parcel.body.as_str()).collect()
}

/// A queue looked at what returns before it looked at leases that had ended. What they gave back
/// waited for the next record of the store to become durable, and in a store where nothing else
/// happened there was none: a message whose consumer had died stayed away for ever.
#[test]
fn a_message_comes_back_though_nothing_else_happens_in_its_store() {
    let mut scene = Scene::first(1);
    let (silent, other) = (scene.join(), scene.join());
    let settings = Settings { consumer_timeout_ms: 2000.into(), ..Settings::new() };
    let queue = scene.create(silent, "jobs", &settings, "");
    scene.consume(silent, &queue, 10, 0);
    scene.publish(silent, &queue, &["1"]);
    scene.pass(100);
    assert_eq!(scene.bodies(silent), ["1"]);
    scene.consume(other, &queue, 10, 0);
    scene.pass(2500);
    assert_eq!(scene.bodies(other), ["1"]);
}

/// Messages that made room as dead letters were counted until they were dead letters, which was
/// later in the same turn: the next one had to make room as well, and the next, until the queue
/// was empty.
#[test]
fn as_many_make_room_as_must() {
    let mut scene = Scene::first(1);
    let client = scene.join();
    scene.create(client, "dead", &Settings::new(), "");
    let message = u64::try_from(MESSAGE_HEAD_BYTES + 1).expect("small");
    let settings = Settings {
        max_bytes: (3 * message).into(),
        overflow: Overflow::DropHead as u8,
        ..Settings::new()
    };
    let queue = scene.create(client, "few", &settings, "dead");
    scene.publish(client, &queue, &["1", "2", "3"]);
    scene.publish(client, &queue, &["4"]);
    scene.pass(50);
    assert_eq!(bodies(&scene.pull(client, &queue, 10, 0, 0)), ["2", "3", "4"]);
}

/// A client of another shard's queue cancelled its consumer twice at once. The owner answered both
/// times; the first answer freed the place where the consumer was noted, a new consumer took it,
/// and the second answer forgot that one: the next message for it ended the shard.
#[test]
fn who_cancels_twice_ends_one_consumer() {
    let mut scene = Scene::first(2);
    let queue = {
        let maker = scene.join_at(0);
        scene.create(maker, "jobs", &Settings::new(), "")
    };
    for shard in 0..2 {
        let client = scene.join_at(shard);
        let first = scene.consume(client, &queue, 10, 0);
        let once = scene.send(client, |session| session.cancel(&queue, first));
        let twice = scene.send(client, |session| session.cancel(&queue, first));
        assert_eq!(scene.answer(client, once), Reply::Done);
        let new = scene.consume(client, &queue, 10, 0);
        let refused = scene.answer(client, twice);
        assert!(matches!(refused, Reply::Refused(ErrorCode::UnknownConsumer, _)), "{refused:?}");
        scene.pass(50);
        scene.publish(client, &queue, &["for the second"]);
        scene.pass(50);
        let parcel = scene.pushed(client).pop().expect("the second consumer is there");
        assert_eq!((parcel.consumer, parcel.body.as_str()), (new, "for the second"));
        assert_eq!(scene.settle(client, &queue, &parcel, Verb::Accept, 0), (0, 1));
        // Its connection ends while a cancel is under way.
        scene.send(client, |session| session.cancel(&queue, new));
        scene.leave(client);
    }
    let client = scene.join();
    scene.pass(50);
    assert_eq!(scene.counts(client, "jobs").consumers.get(), 0);
}

/// A connection asked for an exclusive queue and was gone before that was there: the queue stayed,
/// locked for everybody, until the next start.
#[test]
fn an_exclusive_queue_does_not_outlive_a_connection_that_is_gone_before_it_comes() {
    for (shards, at) in [(1, 0), (2, 0), (2, 1)] {
        let mut scene = Scene::first(shards);
        let (client, watcher) = (scene.join_at(at), scene.join());
        let settings = Settings { flags: QUEUE_EXCLUSIVE.into(), ..Settings::new() };
        for number in 0..4 {
            let name = format!("own-{number}");
            scene.send(client, |session| session.create_queue(&name, &settings, ""));
        }
        scene.step();
        scene.leave(client);
        scene.pass(200);
        for number in 0..4 {
            let name = format!("own-{number}");
            assert!(!scene.exists(watcher, &name), "{name} is there, and nobody can use it");
        }
    }
}

/// A consumer that kept a message too long was taken off its queue, but a queue that goes with its
/// last consumer stayed.
#[test]
fn a_queue_goes_with_a_last_consumer_that_was_too_late() {
    let mut scene = Scene::first(1);
    let client = scene.join();
    let settings = Settings {
        flags: QUEUE_AUTO_DELETE.into(),
        consumer_timeout_ms: 1000.into(),
        ..Settings::new()
    };
    let queue = scene.create(client, "jobs", &settings, "");
    scene.consume(client, &queue, 10, 0);
    scene.publish(client, &queue, &["1"]);
    scene.pass(2000);
    assert!(!scene.exists(client, "jobs"));
}

/// That a message died was recorded at the end of the turn, and that it was a dead letter before
/// that: whoever replayed the two in their order had it dying once more, and a dead letter that was
/// long done came again after each start.
#[test]
fn who_died_once_is_one_dead_letter() {
    let mut scene = Scene::first(1);
    let client = scene.join();
    let dead = scene.create(client, "dead", &Settings::new(), "");
    let settings =
        Settings { max_messages: 1.into(), overflow: Overflow::DropHead as u8, ..Settings::new() };
    let queue = scene.create(client, "last", &settings, "dead");
    scene.publish(client, &queue, &["1"]);
    scene.publish(client, &queue, &["2"]);
    scene.pass(50);
    let letter = scene.pull(client, &dead, 10, 100, 0).remove(0);
    assert_eq!(letter.body, "1");
    assert_eq!(scene.settle(client, &dead, &letter, Verb::Accept, 0), (0, 1));
    let bounds = Bounds { shards: 1, ..Bounds::tiny() };
    let mut scene = Scene::begin(&bounds, scene.die());
    let client = scene.join();
    scene.pass(50);
    assert_eq!(scene.counts(client, "dead").ready.get(), 0);
    assert_eq!(bodies(&scene.pull(client, &queue, 10, 100, 0)), ["2"]);
}

/// Where a read of messages met a damaged frame it passed by and went on behind it, beyond the end
/// of the segment as well: there lay frames that a crash had cut off before they were acknowledged,
/// and the messages that had their numbers since were not found.
#[test]
fn what_was_cut_off_behind_a_segment_is_not_taken_for_its_records() {
    let wrong = QueueLife::live_with_queues_alone(196, &[1, 2, 3], 150, 4);
    assert!(wrong.is_empty(), "{}", wrong.join("\n  "));
}

/// A message could be as long as a whole batch of a topic. As a dead letter that goes to a topic it
/// has a batch around it, its properties as a header, and what is told of its death: that was too
/// large for the topic, and tried again twice a second for ever. Now the longest message leaves
/// room for all of it.
#[test]
fn the_longest_message_fits_a_topic_as_a_dead_letter() {
    for shards in [1, 2] {
        let mut scene = Scene::first(shards);
        let client = scene.join();
        let dead = scene.create_topic(client, "dead", 2);
        let properties = vec![b'p'; usize::from(u16::MAX)];
        let body = vec![b'b'; MESSAGE_BYTES_MAX - properties.len()];
        let mut message = Vec::new();
        put_message(&mut message, 0, 0, &properties, &body);
        for partition in 0..2 {
            let flags = QUEUE_DEAD_LETTER_TOPIC.into();
            let dead_letter_partition = partition.into();
            let settings = Settings { flags, dead_letter_partition, ..Settings::new() };
            let name = format!("jobs-{partition}");
            let queue = scene.create(client, &name, &settings, "dead");
            let published =
                scene.ask(client, |session| session.publish(&queue, Acks::Durable, 1, &message));
            assert_eq!(published, Reply::Published(0));
            let parcel = scene.pull(client, &queue, 1, 100, 0).remove(0);
            assert_eq!(scene.settle(client, &queue, &parcel, Verb::Reject, 0), (0, 1));
            scene.pass(2000);
            let counts = scene.counts(client, &name);
            assert_eq!((counts.dying.get(), counts.dead_lettered.get()), (0, 1));
            let (letter, headers) = scene.records(client, dead, partition).remove(0);
            assert_eq!((letter.len(), headers.len()), (body.len(), 8));
        }
    }
}
