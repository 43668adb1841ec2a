//! Queues that are full.

use pelton_tests::queue_scene::{Reply, Scene};
use wire::queue::{
    MESSAGE_HEAD_BYTES, Overflow, QUEUE_DEAD_LETTER_TOPIC, Reason, RouteTarget, Settings,
    put_message,
};
use wire::{Acks, ErrorCode};

use super::{bodies, tell};

/// Room for three messages with bodies of one byte.
fn three(overflow: Overflow) -> Settings {
    let message = u64::try_from(MESSAGE_HEAD_BYTES + 1).expect("small");
    let max_bytes = (3 * message).into();
    Settings { max_bytes, overflow: overflow as u8, ..Settings::new() }
}

fn assert_full(scene: &mut Scene, client: usize, reply: Reply) {
    let Reply::Refused(code, detail) = reply else { panic!("it was taken: {reply:?}") };
    assert_eq!(code, ErrorCode::QueueFull);
    assert!(detail.contains("as many messages or bytes"), "{detail}");
    assert!(scene.is_served(client));
}

#[test]
fn the_oldest_make_room_for_new_bytes() {
    tell(|scene| {
        let client = scene.join();
        scene.create(client, "dead", &Settings::new(), "");
        let queue = scene.create(client, "few", &three(Overflow::DropHead), "dead");
        for body in ["1", "2", "3", "4", "5"] {
            scene.publish(client, &queue, &[body]);
        }
        scene.pass(50);
        assert_eq!(bodies(&scene.pull(client, &queue, 10, 0, 0)), ["3", "4", "5"]);
        let Reply::Created(dead, _) =
            scene.ask(client, |session| session.create_queue("dead", &Settings::new(), ""))
        else {
            panic!("it is there")
        };
        let dead = scene.pull(client, &dead, 10, 0, 0);
        assert_eq!(bodies(&dead), ["1", "2"]);
        let reasons = dead.iter().map(|parcel| parcel.death.expect("a note").reason);
        assert!(reasons.into_iter().all(|reason| reason == Reason::Overflow as u8));
    });
}

#[test]
fn a_full_queue_refuses_whole_publishes_and_has_room_again() {
    tell(|scene| {
        let client = scene.join();
        let queue = scene.create(client, "few", &three(Overflow::Reject), "");
        scene.publish(client, &queue, &["1", "2"]);
        let reply = scene.publish(client, &queue, &["3", "4"]);
        assert_full(scene, client, reply);
        let reply = scene.publish(client, &queue, &["longer than all"]);
        assert_full(scene, client, reply);
        assert_eq!(scene.publish(client, &queue, &["3"]), Reply::Published(2));
        let leased = scene.pull(client, &queue, 1, 0, 0);
        let reply = scene.publish(client, &queue, &["4"]);
        assert_full(scene, client, reply);
        scene.settle(client, &queue, &leased[0], wire::queue::Verb::Accept, 0);
        assert_eq!(scene.publish(client, &queue, &["4"]), Reply::Published(3));
    });
}

#[test]
fn what_is_refused_can_become_a_dead_letter() {
    tell(|scene| {
        let client = scene.join();
        let dead = scene.create(client, "dead", &Settings::new(), "");
        let queue = scene.create(client, "few", &three(Overflow::RejectDeadLetter), "dead");
        scene.publish(client, &queue, &["1", "2", "3"]);
        let reply = scene.publish(client, &queue, &["4", "5"]);
        assert_full(scene, client, reply);
        // They are there once that is told.
        let letters = scene.pull(client, &dead, 10, 0, 0);
        assert_eq!(bodies(&letters), ["4", "5"]);
        for letter in &letters {
            let note = letter.death.expect("a note");
            assert_eq!((note.origin, note.reason), (queue, Reason::Overflow as u8));
            assert_eq!((note.deaths.get(), note.deliveries.get()), (1, 0));
            assert!(note.died_ms.get() > 0 && note.first_published_ms == note.died_ms, "{note:?}");
        }
        assert_eq!(bodies(&scene.pull(client, &queue, 10, 0, 0)), ["1", "2", "3"]);
        assert_eq!(scene.counts(client, "few").dead_lettered.get(), 2);
    });
}

#[test]
fn what_is_refused_can_become_records_of_a_topic() {
    tell(|scene| {
        let client = scene.join();
        let dead = scene.create_topic(client, "dead", 2);
        let full = |partition: u32| Settings {
            flags: QUEUE_DEAD_LETTER_TOPIC.into(),
            dead_letter_partition: partition.into(),
            ..three(Overflow::RejectDeadLetter)
        };
        let queues: Vec<_> = (0..2)
            .map(|at| scene.create(client, &format!("few-{at}"), &full(at), "dead"))
            .collect();
        for (queue, partition) in queues.iter().zip(0..) {
            scene.publish(client, queue, &["1", "2", "3"]);
            let reply = scene.publish(client, queue, &["4", "5"]);
            assert_full(scene, client, reply);
            // They are there once that is told.
            let letters = scene.records(client, dead, partition);
            let values: Vec<&str> = letters.iter().map(|(value, _)| value.as_str()).collect();
            assert_eq!(values, ["4", "5"]);
            let headers = &letters[0].1;
            assert_eq!(headers["pelton.death.reason"], "overflow");
            let published = &headers["pelton.death.first_published_ms"];
            assert_eq!(published, &headers["pelton.death.died_ms"]);
            assert_eq!(
                headers["pelton.death.origin"],
                format!("{:032x}", u128::from_be_bytes(*queue))
            );
            let name = format!("few-{partition}");
            assert_eq!(scene.counts(client, &name).dead_lettered.get(), 2);
            assert_eq!(scene.counts(client, &name).ready.get(), 3);
        }
        // Both of them refuse one route; a queue with room takes it.
        let open = scene.create(client, "open", &Settings::new(), "");
        let targets = [queues[0], open, queues[1]].map(RouteTarget::queue);
        let mut message = Vec::new();
        put_message(&mut message, 0, 0, b"kind=test", b"6");
        let reply =
            scene.ask(client, |session| session.route(&targets, Acks::Durable, 1, &message));
        let full = ErrorCode::QueueFull.number();
        assert_eq!(reply, Reply::Routed(vec![(full, 0), (0, 0), (full, 0)]));
        for partition in 0..2 {
            let letters = scene.records_from(client, dead, partition, 2);
            assert_eq!((letters.len(), letters[0].0.as_str()), (1, "6"));
            assert_eq!(letters[0].1["pelton.properties"], "kind=test");
        }
    });
}

#[test]
fn a_refused_publish_of_many_messages_is_as_many_records() {
    tell(|scene| {
        let client = scene.join();
        let dead = scene.create_topic(client, "dead", 1);
        let settings = Settings {
            flags: QUEUE_DEAD_LETTER_TOPIC.into(),
            max_messages: 1.into(),
            overflow: Overflow::RejectDeadLetter as u8,
            ..Settings::new()
        };
        let queue = scene.create(client, "one", &settings, "dead");
        let bodies: Vec<String> = (0..1500).map(|at| format!("message {at}")).collect();
        let all: Vec<&str> = bodies.iter().map(String::as_str).collect();
        let reply = scene.publish(client, &queue, &all);
        assert_full(scene, client, reply);
        let mut found = Vec::new();
        loop {
            let from = u64::try_from(found.len()).expect("few");
            let some = scene.records_from(client, dead, 0, from);
            if some.is_empty() {
                break;
            }
            found.extend(some.into_iter().map(|(value, _)| value));
        }
        assert_eq!(found, bodies);
        assert_eq!(scene.counts(client, "one").dead_lettered.get(), 1500);
    });
}
