//! Who gets what: priorities, single active consumers, exclusive queues, prefetch.

use pelton_tests::queue_scene::{Reply, consume_request};
use wire::ErrorCode;
use wire::queue::{QUEUE_AUTO_DELETE, QUEUE_EXCLUSIVE, QUEUE_SINGLE_ACTIVE, Settings, Verb};

use super::tell;

#[test]
fn consumers_of_a_higher_priority_come_first() {
    tell(|scene| {
        let (low, high) = (scene.join(), scene.join());
        let queue = scene.create(low, "jobs", &Settings::new(), "");
        scene.consume(low, &queue, 10, -1);
        scene.consume(high, &queue, 2, 7);
        scene.publish(low, &queue, &["1", "2", "3"]);
        scene.pass(50);
        assert_eq!(scene.bodies(high), ["1", "2"]);
        let third = scene.pushed(low);
        assert_eq!(third[0].body, "3", "the higher one had no room");
        assert_eq!(scene.settle(low, &queue, &third[0], Verb::Accept, 0), (0, 1));
    });
}

#[test]
fn a_single_active_consumer_keeps_its_place_and_is_followed_in_order() {
    tell(|scene| {
        let (first, second, third) = (scene.join(), scene.join(), scene.join());
        let settings = Settings { flags: QUEUE_SINGLE_ACTIVE.into(), ..Settings::new() };
        let queue = scene.create(second, "jobs", &settings, "");
        scene.consume(first, &queue, 2, 0);
        scene.consume(second, &queue, 100, 0);
        scene.publish(second, &queue, &["1", "2", "3", "4"]);
        // Whoever comes later does not push it aside, however important.
        scene.consume(third, &queue, 100, 9);
        scene.pass(50);
        assert_eq!(scene.bodies(first), ["1", "2"]);
        assert!(scene.bodies(second).is_empty() && scene.bodies(third).is_empty());
        scene.leave(first);
        scene.pass(50);
        assert_eq!(scene.bodies(third), ["1", "2", "3", "4"], "the most important of the rest");
        assert!(scene.bodies(second).is_empty());
    });
}

#[test]
fn an_exclusive_queue_answers_its_own_connection_and_goes_with_it() {
    tell(|scene| {
        let (own, other) = (scene.join(), scene.join());
        let settings = Settings { flags: QUEUE_EXCLUSIVE.into(), ..Settings::new() };
        let queue = scene.create(own, "mine", &settings, "");
        scene.publish(own, &queue, &["1"]);
        let locked = |reply: Reply| {
            let Reply::Refused(code, detail) = reply else { panic!("it is not: {reply:?}") };
            assert_eq!(code, ErrorCode::QueueLocked, "{detail}");
            assert!(detail.contains("exclusive to the connection"), "{detail}");
        };
        let request = consume_request(&queue, 1, 0);
        let others = scene.publish(other, &queue, &["2"]);
        assert_eq!(others, Reply::Published(1), "anybody may publish to it");
        locked(scene.ask(other, |session| session.consume(&request)));
        locked(scene.ask(other, |session| session.purge_queue("mine")));
        locked(scene.ask(other, |session| session.delete_queue("mine", 0)));
        locked(scene.ask(other, |session| session.create_queue("mine", &settings, "")));
        assert!(scene.is_served(other));
        assert_eq!(scene.create(own, "mine", &settings, ""), queue);
        scene.consume(own, &queue, 2, 0);
        scene.pass(20);
        assert_eq!(scene.bodies(own), ["1", "2"]);
        scene.leave(own);
        scene.pass(100);
        assert!(!scene.exists(other, "mine"));
    });
}

#[test]
fn without_prefetch_a_message_is_settled_by_being_sent() {
    tell(|scene| {
        let client = scene.join();
        let queue = scene.create(client, "jobs", &Settings::new(), "");
        scene.publish(client, &queue, &["1", "2", "3"]);
        scene.consume(client, &queue, 0, 0);
        scene.pass(50);
        let came = scene.pushed(client);
        assert_eq!(super::bodies(&came), ["1", "2", "3"]);
        assert!(came.iter().all(|parcel| parcel.lease == 0 && !parcel.is_again));
        let counts = scene.counts(client, "jobs");
        assert_eq!((counts.ready.get(), counts.leased.get(), counts.bytes.get()), (0, 0, 0));
    });
}

#[test]
fn a_connection_has_so_much_and_no_more() {
    tell(|scene| {
        let (client, other) = (scene.join(), scene.join());
        let one = scene.create(client, "one", &Settings::new(), "");
        let two = scene.create(client, "two", &Settings::new(), "");
        scene.publish(client, &one, &["1"; 20]);
        scene.publish(client, &two, &["2"; 20]);
        assert_eq!(scene.ask(client, |session| session.credit(6)), Reply::Done);
        scene.consume(client, &one, 5, 0);
        scene.pass(50);
        let mut held = scene.pushed(client);
        assert_eq!(held.len(), 5, "a consumer has its own bound as well");
        scene.consume(client, &two, 100, 0);
        scene.consume(other, &two, 3, 0);
        scene.pass(50);
        assert_eq!(scene.bodies(other).len(), 3, "another connection has its own");
        held.extend(scene.pushed(client));
        // Two shards share it evenly, once what is too much is settled.
        let mut got = held.len();
        assert!((6..=8).contains(&got), "{got}");
        while !held.is_empty() {
            let parcel = held.remove(0);
            let queue = if parcel.body == "1" { one } else { two };
            scene.settle(client, &queue, &parcel, Verb::Accept, 0);
            scene.pass(20);
            let news = scene.pushed(client);
            got += news.len();
            held.extend(news);
            assert!(held.len() <= 8, "{}", held.len());
            assert!(got < 20 || held.len() <= 6, "{} of {got}", held.len());
        }
        assert_eq!(got, 37, "everything came, a little at a time");
        scene.publish(client, &one, &["1"; 20]);
        scene.ask(client, |session| session.credit(0));
        scene.pass(50);
        assert_eq!(scene.bodies(client).len(), 5, "prefetch alone");
    });
}

#[test]
fn a_consumer_that_never_settles_is_ended_and_others_get_its_messages() {
    tell(|scene| {
        let (silent, other) = (scene.join(), scene.join());
        let settings = Settings { consumer_timeout_ms: 2000.into(), ..Settings::new() };
        let queue = scene.create(silent, "jobs", &settings, "");
        let consumer = scene.consume(silent, &queue, 10, 0);
        scene.publish(silent, &queue, &["1", "2"]);
        scene.pass(1500);
        assert_eq!(scene.bodies(silent), ["1", "2"]);
        assert!(scene.ended.is_empty());
        scene.consume(other, &queue, 10, 0);
        scene.pass(1000);
        let (client, code, detail) = scene.ended.pop().expect("it was ended");
        assert_eq!((client, code), (silent, ErrorCode::ConsumerTimedOut));
        assert!(detail.contains("not settled in time"), "{detail}");
        let again = scene.pushed(other);
        assert_eq!(super::bodies(&again), ["1", "2"]);
        assert!(again.iter().all(|parcel| parcel.is_again && parcel.deliveries == 2));
        let gone = scene.ask(silent, |session| session.cancel(&queue, consumer));
        assert!(matches!(gone, Reply::Refused(ErrorCode::UnknownConsumer, _)), "{gone:?}");
        // It may begin anew.
        scene.consume(silent, &queue, 10, 0);
        assert!(scene.is_served(silent));
    });
}

#[test]
fn an_auto_deleted_queue_goes_with_the_last_consumer_it_has_had() {
    tell(|scene| {
        let (one, other) = (scene.join(), scene.join());
        let settings = Settings { flags: QUEUE_AUTO_DELETE.into(), ..Settings::new() };
        let queue = scene.create(one, "brief", &settings, "");
        scene.publish(one, &queue, &["1"]);
        scene.pass(100);
        assert!(scene.exists(other, "brief"), "it has had none yet");
        let consumer = scene.consume(one, &queue, 10, 0);
        scene.consume(other, &queue, 10, 0);
        scene.leave(other);
        scene.pass(100);
        assert!(scene.exists(one, "brief"), "one is left");
        assert_eq!(scene.ask(one, |session| session.cancel(&queue, consumer)), Reply::Done);
        scene.pass(100);
        assert!(!scene.exists(one, "brief"));
    });
}
