//! Queues.

use pelton_tests::queue_scene::{Parcel, Scene};
use wire::queue::{MESSAGE_HEAD_BYTES, Overflow, Settings};

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
