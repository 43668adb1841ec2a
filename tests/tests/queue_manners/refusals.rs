//! Bad input: each its own code and sentence, and the connection survives.

use client::session::{RequestId, SendError, Session};
use pelton_tests::queue_scene::{Reply, Scene, consume_request};
use wire::ErrorCode;
use wire::queue::{Overflow, PullRequest, Settings, SettleRow, Verb, put_message};

use super::tell;

#[track_caller]
fn refused(
    scene: &mut Scene,
    client: usize,
    wanted: (ErrorCode, &str),
    request: impl FnOnce(&mut Session) -> Result<RequestId, SendError>,
) {
    let reply = scene.ask(client, request);
    let Reply::Refused(code, detail) = reply else { panic!("not refused: {reply:?}") };
    assert_eq!(code, wanted.0, "{detail}");
    assert!(detail.contains(wanted.1), "{code}: {detail}");
    assert!(scene.is_served(client), "after {code}: {detail}");
}

#[test]
fn a_queue_is_declared_again_only_as_it_is() {
    tell(|scene| {
        let client = scene.join();
        scene.create(client, "dead", &Settings::new(), "");
        let queue = scene.create(client, "jobs", &Settings::new(), "dead");
        assert_eq!(scene.create(client, "jobs", &Settings::new(), "dead"), queue);
        let wanted = (ErrorCode::QueueMismatch, "exists with other settings");
        refused(scene, client, wanted, |session| {
            session.create_queue("jobs", &Settings::new(), "")
        });
        for settings in [
            Settings { flags: 1.into(), ..Settings::new() },
            Settings { max_messages: 1.into(), ..Settings::new() },
            Settings { max_bytes: 1.into(), ..Settings::new() },
            Settings { message_ttl_ms: 1.into(), ..Settings::new() },
            Settings { expires_ms: 1.into(), ..Settings::new() },
            Settings { delivery_limit: 1.into(), ..Settings::new() },
            Settings { lease_ms: 1.into(), ..Settings::new() },
            Settings { consumer_timeout_ms: 1.into(), ..Settings::new() },
        ] {
            refused(scene, client, wanted, |session| {
                session.create_queue("jobs", &settings, "dead")
            });
        }
    });
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    tell(|scene| {
        let client = scene.join();
        scene.create(client, "dead", &Settings::new(), "");
        let reject = Overflow::Reject as u8;
        let dead_letter = Overflow::RejectDeadLetter as u8;
        for (settings, dead, why) in [
            (Settings { flags: 0x8000.into(), ..Settings::new() }, "", "a flag"),
            (Settings { overflow: 9, ..Settings::new() }, "", "overflow is"),
            (Settings { overflow: reject, ..Settings::new() }, "", "has neither"),
            (
                Settings { overflow: dead_letter, max_messages: 1.into(), ..Settings::new() },
                "",
                "needs a queue or a topic",
            ),
            (Settings { reserved: [1; 3], ..Settings::new() }, "", "reserved"),
        ] {
            let wanted = (ErrorCode::InvalidRequest, why);
            refused(scene, client, wanted, |session| session.create_queue("q", &settings, dead));
        }
        let wanted = (ErrorCode::UnknownQueue, "create it first");
        refused(scene, client, wanted, |session| {
            session.create_queue("q", &Settings::new(), "nobody")
        });
    });
}

#[test]
fn what_is_not_there_is_said_so() {
    tell(|scene| {
        let client = scene.join();
        let wanted = (ErrorCode::UnknownQueue, "no queue has this name or id");
        let id = [9; 16];
        refused(scene, client, wanted, |session| session.describe_queue("nobody"));
        refused(scene, client, wanted, |session| session.purge_queue("nobody"));
        refused(scene, client, wanted, |session| session.delete_queue("nobody", 0));
        refused(scene, client, wanted, |session| session.consume(&consume_request(&id, 1, 0)));
        refused(scene, client, wanted, |session| session.cancel(&id, 1));
        refused(scene, client, wanted, |session| session.redrive(&id, 1));
        refused(scene, client, wanted, |session| session.settle(&id, 0, &[row(0, 0, 1)]));
        let mut message = Vec::new();
        put_message(&mut message, 0, 0, b"", b"lost");
        refused(scene, client, wanted, |session| {
            session.publish(&id, wire::Acks::Durable, 1, &message)
        });
        let queue = scene.create(client, "jobs", &Settings::new(), "");
        let wanted = (ErrorCode::UnknownConsumer, "no consumer of this connection");
        refused(scene, client, wanted, |session| session.cancel(&queue, 77));
        refused(scene, client, wanted, |session| session.settle(&queue, 77, &[row(0, 0, 1)]));
        let (code, count) =
            match scene.ask(client, |session| session.settle(&queue, 0, &[row(5, 5, 1)])) {
                Reply::Settled(rows) => rows[0],
                other => panic!("{other:?}"),
            };
        assert_eq!((code, count), (ErrorCode::UnknownDelivery.number(), 0));
    });
}

#[test]
fn a_consumer_of_another_connection_is_not_ones_own() {
    tell(|scene| {
        let (one, other) = (scene.join(), scene.join());
        let queue = scene.create(one, "jobs", &Settings::new(), "");
        let consumer = scene.consume(one, &queue, 10, 0);
        scene.publish(one, &queue, &["1"]);
        scene.pass(50);
        let parcel = scene.pushed(one).remove(0);
        let wanted = (ErrorCode::UnknownConsumer, "no consumer of this connection");
        refused(scene, other, wanted, |session| session.cancel(&queue, consumer));
        let rows = [row(parcel.sequence, parcel.sequence, parcel.lease)];
        refused(scene, other, wanted, |session| session.settle(&queue, consumer, &rows));
        // Nor is it helped by saying that it was pulled.
        let theft = scene.settle(other, &queue, &pulled(&parcel), Verb::Accept, 0);
        assert_eq!(theft, (ErrorCode::LeaseEnded.number(), 0));
        assert_eq!(scene.settle(one, &queue, &parcel, Verb::Accept, 0), (0, 1));
    });
}

#[test]
fn requests_out_of_range_are_refused() {
    tell(|scene| {
        let client = scene.join();
        let queue = scene.create(client, "jobs", &Settings::new(), "");
        let mut request = consume_request(&queue, 1, 0);
        request.flags = wire::queue::CONSUME_AUTO_ACK;
        let wanted = (ErrorCode::InvalidRequest, "prefetch is at least 1");
        refused(scene, client, wanted, |session| session.consume(&request));
        request.flags = 0x80;
        let wanted = (ErrorCode::Malformed, "a flag that is not known");
        refused(scene, client, wanted, |session| session.consume(&request));
        let pull = PullRequest {
            queue,
            max_messages: 0.into(),
            max_bytes: 1.into(),
            wait_ms: 0.into(),
            lease_ms: 0.into(),
        };
        let wanted = (ErrorCode::InvalidRequest, "at least one message");
        refused(scene, client, wanted, |session| session.pull(&pull));
        let mut message = Vec::new();
        put_message(&mut message, 0, 0, b"", b"body");
        let wanted = (ErrorCode::Malformed, "other messages than it counts");
        refused(scene, client, wanted, |session| {
            session.publish(&queue, wire::Acks::Durable, 2, &message)
        });
        message.clear();
        let too_long = vec![0; wire::limits::MESSAGE_BYTES_MAX];
        put_message(&mut message, 0, 0, b"p", &too_long);
        let wanted = (ErrorCode::TooLarge, "a message has at most");
        refused(scene, client, wanted, |session| {
            session.publish(&queue, wire::Acks::Durable, 1, &message)
        });
        let limit = u32::try_from(engine::Settings::tiny().queue_consumers_max).expect("few");
        for _ in 0..limit {
            scene.consume(client, &queue, 1, 0);
        }
        let wanted = (ErrorCode::LimitReached, "as many consumers");
        let request = consume_request(&queue, 1, 0);
        refused(scene, client, wanted, |session| session.consume(&request));
    });
}

#[test]
fn a_queue_that_others_need_stays() {
    tell(|scene| {
        let client = scene.join();
        scene.create(client, "dead", &Settings::new(), "");
        scene.create(client, "jobs", &Settings::new(), "dead");
        let wanted = (ErrorCode::QueueInUse, "another queue's dead letters go there");
        refused(scene, client, wanted, |session| session.delete_queue("dead", 0));
        assert_eq!(scene.ask(client, |session| session.delete_queue("jobs", 0)), Reply::Done);
        assert_eq!(scene.ask(client, |session| session.delete_queue("dead", 0)), Reply::Done);
    });
}

fn pulled(parcel: &pelton_tests::queue_scene::Parcel) -> pelton_tests::queue_scene::Parcel {
    pelton_tests::queue_scene::Parcel { consumer: 0, ..parcel.clone() }
}

fn row(first: u64, last: u64, lease: u64) -> SettleRow {
    SettleRow {
        first: first.into(),
        last: last.into(),
        lease: lease.into(),
        verb: Verb::Accept as u8,
        flags: 0,
        reserved: 0.into(),
        delay_ms: 0.into(),
    }
}
