//! Messages for several queues and partitions at once, and dead letters that go to a topic.

use engine::Settings as Bounds;
use pelton_tests::queue_scene::{Reply, Scene};
use wire::queue::{
    Overflow, QUEUE_DEAD_LETTER_TOPIC, QUEUE_EXCLUSIVE, RouteTarget, Settings, Verb, put_message,
};
use wire::{Acks, ErrorCode};

use super::{bodies, tell};

fn route(scene: &mut Scene, client: usize, targets: &[RouteTarget], bodies: &[&str]) -> Reply {
    let mut messages = Vec::new();
    for body in bodies {
        put_message(&mut messages, 0, 0, b"kind=test", body.as_bytes());
    }
    let count = u32::try_from(bodies.len()).expect("few");
    scene.ask(client, |session| session.route(targets, Acks::Durable, count, &messages))
}

#[test]
fn one_publish_reaches_queues_and_partitions_wherever_they_are() {
    tell(|scene| {
        let client = scene.join();
        let names = ["a", "b", "c", "d"];
        let queues = names.map(|name| scene.create(client, name, &Settings::new(), ""));
        let events = scene.create_topic(client, "events", 4);
        scene.publish(client, &queues[1], &["before"]);
        let mut targets: Vec<RouteTarget> = queues.map(RouteTarget::queue).to_vec();
        targets.extend((0..4).map(|partition| RouteTarget::partition(events, partition)));
        let reply = route(scene, client, &targets, &["1", "2"]);
        let Reply::Routed(rows) = reply else { panic!("{reply:?}") };
        assert!(rows.iter().all(|row| row.0 == 0), "{rows:?}");
        assert_eq!(rows.iter().map(|row| row.1).collect::<Vec<_>>(), [0, 1, 0, 0, 0, 0, 0, 0]);
        scene.pull(client, &queues[1], 1, 0, 0);
        for queue in &queues {
            let came = scene.pull(client, queue, 10, 1000, 0);
            assert_eq!(bodies(&came), ["1", "2"]);
            assert_eq!(scene.settle(client, queue, &came[0], Verb::Accept, 0), (0, 1));
        }
        for partition in 0..4 {
            let records = scene.records(client, events, partition);
            assert_eq!(records[0].0, "1");
            assert_eq!(records[0].1["pelton.properties"], "kind=test");
            assert_eq!(records[1].0, "2");
        }
        // What one of them settled is still there for the others, and so after a crash.
        let shards = u16::try_from(scene.shards()).expect("few");
        let settings = Bounds { shards, ..Bounds::tiny() };
        let disk = std::mem::replace(scene, Scene::first(1)).die();
        *scene = Scene::begin(&settings, disk);
        let client = scene.join();
        for queue in &queues {
            let left = scene.pull(client, queue, 10, 1000, 0);
            assert_eq!(bodies(&left).last(), Some(&"2"));
            assert!(!bodies(&left).contains(&"1"), "{left:?}");
        }
    });
}

#[test]
fn a_target_that_refuses_does_not_keep_the_others_from_it() {
    tell(|scene| {
        let (client, other) = (scene.join(), scene.join());
        let open = scene.create(client, "open", &Settings::new(), "");
        let mine = Settings { flags: QUEUE_EXCLUSIVE.into(), ..Settings::new() };
        let others = scene.create(other, "mine", &mine, "");
        let overflow = Overflow::Reject as u8;
        let one = Settings { max_messages: 1.into(), overflow, ..Settings::new() };
        let full = scene.create(client, "full", &one, "");
        scene.publish(client, &full, &["0"]);
        let events = scene.create_topic(client, "events", 1);
        let targets = [
            RouteTarget::queue(full),
            RouteTarget::queue(others),
            RouteTarget::queue([9; 16]),
            RouteTarget::partition(events, 7),
            RouteTarget::partition([9; 16], 0),
            RouteTarget::queue(open),
        ];
        let reply = route(scene, client, &targets, &["1"]);
        let Reply::Routed(rows) = reply else { panic!("{reply:?}") };
        let codes = rows.iter().map(|row| ErrorCode::from_u16(row.0).expect("known"));
        let expected = [
            ErrorCode::QueueFull,
            ErrorCode::None,
            ErrorCode::UnknownQueue,
            ErrorCode::UnknownPartition,
            ErrorCode::UnknownTopic,
            ErrorCode::None,
        ];
        assert_eq!(codes.collect::<Vec<_>>(), expected);
        assert_eq!(bodies(&scene.pull(client, &open, 10, 100, 0)), ["1"]);
        assert_eq!(bodies(&scene.pull(other, &others, 10, 100, 0)), ["1"]);
        let once_more = RouteTarget { partition: 1.into(), ..RouteTarget::queue(open) };
        for again in [RouteTarget::queue(open), once_more] {
            let reply = route(scene, client, &[RouteTarget::queue(open), again], &["1"]);
            assert!(matches!(reply, Reply::Refused(ErrorCode::Malformed, _)), "{reply:?}");
        }
        assert!(scene.is_served(client));
    });
}

#[test]
fn one_body_is_stored_once_for_all_queues_of_a_store() {
    let mut scene = Scene::first(1);
    let client = scene.join();
    let targets: Vec<RouteTarget> = (0..10)
        .map(|number| scene.create(client, &format!("q{number}"), &Settings::new(), ""))
        .map(RouteTarget::queue)
        .collect();
    let written = |scene: &Scene| scene.counter("journal_bytes") + scene.counter("direct_bytes");
    let before = written(&scene);
    let body = "x".repeat(20_000);
    let reply = route(&mut scene, client, &targets, &[&body]);
    let Reply::Routed(rows) = reply else { panic!("{reply:?}") };
    assert!(rows.iter().all(|row| row.0 == 0), "{rows:?}");
    let bytes = written(&scene) - before;
    assert!((20_000..30_000).contains(&bytes), "{bytes} bytes for one body of 20,000");
    for target in &targets {
        let came = scene.pull(client, &target.id, 1, 100, 0);
        assert_eq!(came[0].body.len(), 20_000);
        assert_eq!(scene.settle(client, &target.id, &came[0], Verb::Accept, 0), (0, 1));
    }
}

#[test]
fn dead_letters_go_to_a_topic_of_whatever_shard() {
    tell(|scene| {
        let client = scene.join();
        scene.create_topic(client, "other", 1);
        let dead = scene.create_topic(client, "dead", 4);
        let mut queues = Vec::new();
        for partition in 0..4u32 {
            let settings = Settings {
                flags: QUEUE_DEAD_LETTER_TOPIC.into(),
                dead_letter_partition: partition.into(),
                ..Settings::new()
            };
            queues.push(scene.create(client, &format!("q{partition}"), &settings, "dead"));
        }
        let in_use = scene.ask(client, |session| session.delete_topic("dead"));
        assert!(matches!(in_use, Reply::Refused(ErrorCode::QueueInUse, _)), "{in_use:?}");
        for (queue, partition) in queues.iter().zip(0..) {
            scene.publish(client, queue, &["good", "bad", "worse"]);
            let came = scene.pull(client, queue, 10, 100, 0);
            scene.settle(client, queue, &came[0], Verb::Accept, 0);
            for parcel in &came[1..] {
                assert_eq!(scene.settle(client, queue, parcel, Verb::Reject, 0), (0, 1));
            }
            scene.pass(200);
            let letters = scene.records(client, dead, partition);
            assert_eq!(letters.len(), 2, "{letters:?}");
            assert_eq!((letters[0].0.as_str(), letters[1].0.as_str()), ("bad", "worse"));
            let headers = &letters[0].1;
            assert_eq!(headers["pelton.death.reason"], "rejected");
            assert_eq!(headers["pelton.death.origin_sequence"], "1");
            assert_eq!(headers["pelton.death.deliveries"], "1");
            let counts = scene.counts(client, &format!("q{partition}"));
            let left = (counts.dying.get(), counts.bytes.get(), counts.dead_lettered.get());
            assert_eq!(left, (0, 0, 2));
        }
        let no_such = Settings {
            flags: QUEUE_DEAD_LETTER_TOPIC.into(),
            dead_letter_partition: 4.into(),
            ..Settings::new()
        };
        let refused = scene.ask(client, |session| session.create_queue("no", &no_such, "dead"));
        assert!(matches!(refused, Reply::Refused(ErrorCode::UnknownPartition, _)), "{refused:?}");
    });
}

#[test]
fn a_dead_letter_is_in_its_topic_at_least_once_whenever_the_power_goes() {
    for moment in 1..60 {
        let settings = Bounds { shards: 2, ..Bounds::tiny() };
        let mut scene = Scene::first(2);
        let client = scene.join();
        let dead = scene.create_topic(client, "dead", 2);
        let flags = QUEUE_DEAD_LETTER_TOPIC.into();
        let one = Settings { flags, dead_letter_partition: 1.into(), ..Settings::new() };
        let queue = scene.create(client, "jobs", &one, "dead");
        scene.publish(client, &queue, &["1", "2", "3"]);
        let came = scene.pull(client, &queue, 10, 100, 0);
        let rejects: Vec<_> = came
            .iter()
            .map(|parcel| {
                let rows = [pelton_tests::queue_scene::settle_row(parcel, Verb::Reject, 0)];
                scene.send(client, |session| session.settle(&queue, 0, &rows))
            })
            .collect();
        for _ in 0..moment {
            scene.step();
        }
        let told = rejects.into_iter().filter_map(|id| scene.answered(client, id)).count();
        let mut scene = Scene::begin(&settings, scene.die());
        let client = scene.join();
        scene.pass(1000);
        let letters = scene.records(client, dead, 1);
        let back = scene.pull(client, &queue, 10, 100, 0);
        for (at, body) in ["1", "2", "3"].into_iter().enumerate() {
            let died = letters.iter().any(|letter| letter.0 == body);
            let lives = bodies(&back).contains(&body);
            assert!(died || lives, "{body} is lost at {moment}");
            assert!(at >= told || died, "{body} was rejected, and is no dead letter at {moment}");
            assert!(!(at < told && lives), "{body} is delivered after its reject at {moment}");
        }
        assert_eq!(scene.counts(client, "jobs").dying.get(), 0);
    }
}
