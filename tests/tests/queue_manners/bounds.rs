//! Queues that are full.

use pelton_tests::queue_scene::{Reply, Scene};
use wire::ErrorCode;
use wire::queue::{MESSAGE_HEAD_BYTES, Overflow, Reason, Settings};

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
        scene.pass(50);
        let letters = scene.pull(client, &dead, 10, 0, 0);
        assert_eq!(bodies(&letters), ["4", "5"]);
        for letter in &letters {
            let note = letter.death.expect("a note");
            assert_eq!((note.origin, note.reason), (queue, Reason::Overflow as u8));
            assert_eq!((note.deaths.get(), note.deliveries.get()), (1, 0));
        }
        assert_eq!(bodies(&scene.pull(client, &queue, 10, 0, 0)), ["1", "2", "3"]);
        assert_eq!(scene.counts(client, "few").dead_lettered.get(), 2);
    });
}
