//! Who asks is told where the time of a publish went, and nobody else.

use client::session::{ServerTiming, Session};
use pelton_tests::queue_scene::{Reply, Scene};
use wire::Acks;
use wire::queue::{MESSAGE_TRANSIENT, QueueId, Settings, put_message};

use super::tell;

/// Publishes a message and asks where the time went. Gives that, and how long it took.
fn timed(
    scene: &mut Scene,
    client: usize,
    queue: &QueueId,
    acks: Acks,
    flags: u8,
) -> ([u64; 3], u64) {
    let mut message = Vec::new();
    put_message(&mut message, flags, 0, b"", b"when?");
    let sent = scene.world.now();
    let reply = scene.ask(client, |session| {
        session.publish_timed(queue, (acks, ServerTiming::Ask), 1, &message)
    });
    match reply {
        Reply::Timed(_, parts) => (parts, scene.world.now().since(sent)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_publish_tells_where_its_time_went_wherever_its_queue_is() {
    tell(|scene| {
        let client = scene.join();
        for name in ["a", "b", "c", "d"] {
            let queue = scene.create(client, name, &Settings::new(), "");
            for acks in [Acks::Durable, Acks::Written] {
                let (parts, took_ns) = timed(scene, client, &queue, acks, 0);
                assert!(parts[2] > 0, "a disk takes its time: {parts:?}");
                // Clocks of several shards are not at the same moment here.
                if scene.shards() == 1 {
                    assert!(parts.iter().sum::<u64>() <= took_ns, "{parts:?} of {took_ns}");
                }
            }
            // Nothing is waited for.
            assert_eq!(timed(scene, client, &queue, Acks::Memory, 0).0, [0; 3]);
            let transient = timed(scene, client, &queue, Acks::Durable, MESSAGE_TRANSIENT);
            assert_eq!(transient.0, [0; 3]);
        }
    });
}

#[test]
fn who_does_not_ask_is_not_told() {
    tell(|scene| {
        let client = scene.join();
        let queue = scene.create(client, "jobs", &Settings::new(), "");
        timed(scene, client, &queue, Acks::Durable, 0);
        assert_eq!(scene.publish(client, &queue, &["2"]), Reply::Published(1));
    });
}

#[test]
fn who_waits_for_memory_is_told_how_long_that_took() {
    tell(|scene| {
        let limits = engine::Settings::tiny();
        let mut message = Vec::new();
        put_message(&mut message, 0, 0, b"", &[7; 24_000]);
        // All that the broker takes before it has stored something, and more.
        let publishes = 2 * limits.unstored_bytes_max / message.len();
        let each = usize::try_from(limits.requests_in_flight_max).expect("small");
        let clients: Vec<_> = (0..publishes.div_ceil(each)).map(|_| scene.join()).collect();
        let queue = scene.create(clients[0], "jobs", &Settings::new(), "");
        let ask = (Acks::Durable, ServerTiming::Ask);
        let mut sent = Vec::new();
        for _ in 0..each {
            for &client in &clients {
                let publish =
                    |session: &mut Session| session.publish_timed(&queue, ask, 1, &message);
                sent.push((client, scene.send(client, publish)));
            }
        }
        let waited_ns = sent.into_iter().map(|(client, id)| match scene.answer(client, id) {
            Reply::Timed(_, [queue, ..]) => queue,
            other => panic!("{other:?}"),
        });
        let waited_ns: Vec<u64> = waited_ns.collect();
        assert_eq!(waited_ns[0], 0);
        // The owner of the queue tells, and if that is another shard, nothing waited there.
        let has_waited = waited_ns.iter().any(|&ns| ns > 0);
        assert!(has_waited || scene.shards() > 1, "others were taken first");
    });
}
