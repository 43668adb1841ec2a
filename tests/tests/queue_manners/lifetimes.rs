//! How long queues and messages are there.

use engine::Settings as Bounds;
use pelton_tests::queue_scene::{Reply, Scene};
use wire::queue::{
    DELETE_IF_EMPTY, DELETE_IF_UNUSED, MESSAGE_TRANSIENT, QUEUE_TRANSIENT, Settings, put_message,
};
use wire::{Acks, ErrorCode};

use super::{bodies, tell};

#[test]
fn a_queue_expires_once_nobody_has_used_it_for_long() {
    tell(|scene| {
        let client = scene.join();
        let settings = Settings { expires_ms: 5000.into(), ..Settings::new() };
        let queue = scene.create(client, "brief", &settings, "");
        let used = scene.create(client, "used", &settings, "");
        scene.consume(client, &used, 1, 0);
        scene.pass(4000);
        scene.pull(client, &queue, 1, 0, 0);
        scene.pass(4000);
        assert!(scene.exists(client, "brief"), "the pull was a use");
        scene.pass(2000);
        assert!(!scene.exists(client, "brief"));
        let gone = scene.publish(client, &queue, &["late"]);
        assert!(matches!(gone, Reply::Refused(ErrorCode::UnknownQueue, _)), "{gone:?}");
        scene.pass(20_000);
        assert!(scene.exists(client, "used"), "it has a consumer");
    });
}

#[test]
fn without_a_name_the_broker_finds_one() {
    tell(|scene| {
        let client = scene.join();
        let mut found = Vec::new();
        for _ in 0..2 {
            let create = |session: &mut client::session::Session| {
                session.create_queue("", &Settings::new(), "")
            };
            let Reply::Created(id, name) = scene.ask(client, create) else { panic!("refused") };
            assert!(name.starts_with("queue-") && !found.contains(&name), "{name}");
            assert_eq!(scene.create(client, &name, &Settings::new(), ""), id);
            found.push(name);
        }
    });
}

#[test]
fn a_conditional_delete_says_which_condition_does_not_hold() {
    tell(|scene| {
        let (client, other) = (scene.join(), scene.join());
        let queue = scene.create(client, "jobs", &Settings::new(), "");
        let consumer = scene.consume(client, &queue, 1, 0);
        let both = DELETE_IF_UNUSED | DELETE_IF_EMPTY;
        let refused = scene.ask(other, |session| session.delete_queue("jobs", both));
        let why = "the queue has consumers".to_owned();
        assert_eq!(refused, Reply::Refused(ErrorCode::QueueInUse, why));
        scene.publish(client, &queue, &["1"]);
        scene.ask(client, |session| session.cancel(&queue, consumer));
        let refused = scene.ask(other, |session| session.delete_queue("jobs", both));
        let why = "the queue has messages".to_owned();
        assert_eq!(refused, Reply::Refused(ErrorCode::QueueNotEmpty, why));
        let removed = scene.ask(client, |session| session.purge_queue("jobs"));
        assert!(matches!(removed, Reply::Removed(0 | 1)), "{removed:?}");
        scene.pass(50);
        scene.ask(client, |session| session.purge_queue("jobs"));
        assert_eq!(scene.ask(other, |session| session.delete_queue("jobs", both)), Reply::Done);
        assert!(!scene.exists(client, "jobs"));
        let refused = scene.ask(other, |session| session.delete_queue("jobs", 8));
        assert!(matches!(refused, Reply::Refused(_, _)), "{refused:?}");
    });
}

#[test]
fn messages_expire_by_the_queue_and_by_themselves() {
    tell(|scene| {
        let client = scene.join();
        let dead = scene.create(client, "dead", &Settings::new(), "");
        let settings = Settings { message_ttl_ms: 5000.into(), ..Settings::new() };
        let queue = scene.create(client, "jobs", &settings, "dead");
        scene.publish(client, &queue, &["by the queue"]);
        let mut messages = Vec::new();
        put_message(&mut messages, 0, 1000, b"", b"by itself");
        scene.ask(client, |session| session.publish(&queue, Acks::Durable, 1, &messages));
        scene.pass(6000);
        let letters = scene.pull(client, &dead, 10, 0, 0);
        assert_eq!(bodies(&letters), ["by the queue", "by itself"]);
        let expired = wire::queue::Reason::Expired as u8;
        assert!(letters.iter().all(|parcel| parcel.death.expect("a note").reason == expired));
        assert!(scene.pull(client, &queue, 10, 0, 0).is_empty());
    });
}

#[test]
fn each_ack_means_what_it_says() {
    // Every answer but that to `memory` waits for the disk.
    for acks in [Acks::Memory, Acks::Written, Acks::Durable] {
        let mut scene = Scene::first(1);
        let client = scene.join();
        let queue = scene.create(client, "jobs", &Settings::new(), "");
        scene.consume(client, &queue, 10, 0);
        let id = scene.publish_as(client, &queue, acks, 0, &["1"]);
        assert_eq!(scene.answer(client, id), Reply::Published(0), "{acks:?}");
        // Whatever its publisher asked for, it is delivered once it is durable.
        scene.pass(100);
        assert_eq!(scene.bodies(client), ["1"], "{acks:?}");
        let settings = Bounds { shards: 1, ..Bounds::tiny() };
        let mut scene = Scene::begin(&settings, scene.die());
        let client = scene.join();
        assert_eq!(bodies(&scene.pull(client, &queue, 10, 0, 0)), ["1"], "{acks:?}");
    }
}

#[test]
fn a_publish_without_acks_is_refused_and_answered() {
    let mut scene = Scene::first(1);
    let client = scene.join();
    let queue = scene.create(client, "jobs", &Settings::new(), "");
    let id = scene.publish_as(client, &queue, Acks::None, 0, &["1"]);
    let Reply::Refused(code, detail) = scene.answer(client, id) else { panic!("taken") };
    assert_eq!(code, ErrorCode::InvalidRequest);
    assert!(detail.contains("always answered"), "{detail}");
}

#[test]
fn transient_messages_outlive_a_clean_stop_and_perhaps_a_crash() {
    let settings = Bounds { shards: 1, ..Bounds::tiny() };
    let mut scene = Scene::first(1);
    let client = scene.join();
    let queue = scene.create(client, "jobs", &Settings::new(), "");
    let brief = Settings { flags: QUEUE_TRANSIENT.into(), ..Settings::new() };
    let transient = scene.create(client, "brief", &brief, "");
    scene.publish(client, &transient, &["gone"]);
    let id = scene.publish_as(client, &queue, Acks::Durable, MESSAGE_TRANSIENT, &["light"]);
    assert_eq!(scene.answer(client, id), Reply::Published(0));
    scene.publish(client, &queue, &["heavy"]);
    let disk = scene.stop();

    let mut scene = Scene::begin(&settings, disk);
    let client = scene.join();
    assert!(!scene.exists(client, "brief"), "the queue is gone with its messages");
    assert_eq!(bodies(&scene.pull(client, &queue, 10, 0, 1)), ["light", "heavy"]);
    scene.pass(100);
    let id = scene.publish_as(client, &queue, Acks::Durable, MESSAGE_TRANSIENT, &["doubtful"]);
    scene.answer(client, id);
    let disk = scene.die();

    let mut scene = Scene::begin(&settings, disk);
    let client = scene.join();
    let left = scene.pull(client, &queue, 10, 0, 0);
    assert_eq!(bodies(&left)[..2], ["light", "heavy"]);
    assert!(left[2..].iter().all(|parcel| parcel.body == "doubtful"));
}
