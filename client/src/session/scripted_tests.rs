//! A session against a broker that is a script of encoded bytes.

use wire::batch::{Batch, BatchBuilder, Batches};
use wire::frame::{self, Envelope, ErrorReply};
use wire::{Acks, ErrorCode, FrameHeader, Kind, fetch, hello, produce};

use super::{Event, ProduceOptions, SendError, Session, Violation};

const TOPIC: [u8; 16] = [7; 16];

fn hello_reply(window: u32, credit: u32) -> hello::ReplyHead {
    hello::ReplyHead {
        broker_id: [1; 16],
        boot_epoch: 3.into(),
        frame_body_bytes_max: 100_000.into(),
        batch_bytes_max: 65_536.into(),
        requests_in_flight_max: window.into(),
        credit_bytes: credit.into(),
        version: 1,
        reserved: 0,
        kind_count: 0.into(),
        features: 0.into(),
    }
}

/// Takes one frame off the front of what the session sends; gives its header and body.
fn take_request(session: &mut Session) -> (FrameHeader, Vec<u8>) {
    let header = *FrameHeader::peek(session.outgoing()).expect("a whole header");
    let body = session.outgoing()[32..header.frame_len()].to_vec();
    header.verify(&body).expect("a valid frame");
    session.sent(header.frame_len());
    (header, body)
}

fn greeted(window: u32, credit: u32) -> Session {
    let mut session = Session::new("test");
    let (header, body) = take_request(&mut session);
    assert_eq!(hello::Request::decode(&body).expect("hello").client, "test");
    let mut bytes = Vec::new();
    let envelope = Envelope::reply(Kind::Hello, header.correlation_id.get());
    frame::encode(&mut bytes, envelope, 0, |out| {
        hello::encode_reply(out, hello_reply(window, credit));
    });
    session.receive(&bytes);
    assert!(matches!(session.next_event(), Ok(Some(Event::Hello(_)))));
    session
}

fn batch(value: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::with_capacity(64);
    builder.push(5, None, Some(value));
    builder.finish().to_vec()
}

fn put_reply(out: &mut Vec<u8>, kind: Kind, id: u64, body: impl FnOnce(&mut Vec<u8>)) {
    frame::encode(out, Envelope::reply(kind, id), 0, body);
}

fn put_fetch_reply(out: &mut Vec<u8>, id: u64, batches: &[u8]) {
    let entry = fetch::ReplyEntry {
        topic_id: TOPIC,
        partition: 0.into(),
        error: 0.into(),
        aborted_count: 0.into(),
        high_watermark: 9.into(),
        last_stable_offset: 9.into(),
        log_start_offset: 0.into(),
        batches_bytes: u32::try_from(batches.len()).expect("small").into(),
        leader_epoch: 3.into(),
    };
    frame::encode(out, Envelope::reply(Kind::Fetch, id), batches.len(), |out| {
        fetch::encode_reply_control(out, &[entry]);
    });
    out.extend_from_slice(batches);
}

fn put_produce_reply(out: &mut Vec<u8>, id: u64, base_offset: u64) {
    let entry = produce::ReplyEntry {
        topic_id: TOPIC,
        partition: 0.into(),
        error: 0.into(),
        reserved: 0.into(),
        base_offset: base_offset.into(),
        log_start_offset: 0.into(),
    };
    put_reply(out, Kind::Produce, id, |out| produce::encode_reply(out, &[entry], None));
}

/// Makes three requests and gives the bytes that answer them, last first.
fn ask_three(session: &mut Session) -> Vec<u8> {
    let options = ProduceOptions::default();
    let produced = session.produce(&options, &TOPIC, 0, &batch(b"x")).expect("room");
    let produced = produced.expect("an id");
    let head = fetch::RequestHead {
        max_wait_ms: 0.into(),
        min_bytes: 1.into(),
        max_bytes: 1000.into(),
        isolation: 0,
        flags: 0,
        partition_count: 0.into(),
    };
    let entry = fetch::RequestEntry {
        topic_id: TOPIC,
        partition: 0.into(),
        leader_epoch: u32::MAX.into(),
        offset: 0.into(),
        partition_max_bytes: 1000.into(),
        reserved: 0.into(),
    };
    let fetched = session.fetch(&head, &[entry]).expect("room");
    let pinged = session.ping().expect("room");
    let mut replies = Vec::new();
    let code = ErrorCode::Overloaded.number();
    let error = ErrorReply { code, retry_after_ms: 4, detail: "no room" };
    error.encode(&mut replies, Kind::Ping.number(), pinged.number());
    put_fetch_reply(&mut replies, fetched.number(), &[batch(b"a"), batch(b"bb")].concat());
    put_produce_reply(&mut replies, produced.number(), 8);
    replies
}

/// Describes every event that is there in a word.
fn drain(session: &mut Session, into: &mut Vec<String>) {
    while let Some(event) = session.next_event().expect("no violation") {
        into.push(match event {
            Event::Refused(_, refusal) => {
                assert_eq!(refusal.error_code(), Some(ErrorCode::Overloaded));
                format!("refused {:?} {}", refusal.kind, refusal.detail)
            }
            Event::Fetched(_, reply) => {
                let (_, bytes) = reply.parts().next().expect("one partition");
                let count = Batches::new(bytes).filter(Result::is_ok).count();
                format!("fetched {count}")
            }
            Event::Produced(_, reply) => format!("at {}", reply.entries[0].base_offset),
            other => format!("{other:?}"),
        });
    }
}

#[test]
fn replies_split_at_every_byte_and_in_any_order() {
    let expected = ["refused Ping no room", "fetched 2", "at 8"];
    let total = ask_three(&mut greeted(8, 100_000)).len();
    for split in 0..=total {
        let mut session = greeted(8, 100_000);
        let replies = ask_three(&mut session);
        let mut seen = Vec::new();
        for part in [&replies[..split], &replies[split..]] {
            session.receive(part);
            drain(&mut session, &mut seen);
        }
        assert_eq!(seen, expected, "split at {split}");
        assert_eq!(session.requests_in_flight(), 0);
    }
    let mut session = greeted(8, 100_000);
    let mut seen = Vec::new();
    for byte in ask_three(&mut session) {
        session.receive(&[byte]);
        drain(&mut session, &mut seen);
    }
    assert_eq!(seen, expected, "byte by byte");
}

#[test]
fn the_window_and_the_credit_are_kept() {
    let mut session = greeted(2, 100_000);
    let first = session.ping().expect("room");
    let second = session.ping().expect("room");
    assert_eq!((first.slot(), second.slot()), (0, 1));
    assert_eq!(session.ping(), Err(SendError::WindowFull));
    let mut reply = Vec::new();
    put_reply(&mut reply, Kind::Ping, first.number(), |_| ());
    session.receive(&reply);
    assert!(matches!(session.next_event(), Ok(Some(Event::Pong(id))) if id == first));
    let third = session.ping().expect("room again");
    assert_eq!(third.slot(), first.slot());
    assert_ne!(third, first);
    assert_eq!(session.unanswered().count(), 2);

    let mut session = greeted(8, 400);
    let options = ProduceOptions::default();
    assert!(session.produce(&options, &TOPIC, 0, &batch(&[0; 1000])).is_ok(), "alone it may");
    assert_eq!(session.ping(), Err(SendError::WindowFull));
    let large = vec![0; 65_537];
    assert!(matches!(session.produce(&options, &TOPIC, 0, &large), Err(SendError::TooLarge(_))));
}

#[test]
fn acks_none_takes_no_slot() {
    let mut session = greeted(1, 100_000);
    let options = ProduceOptions { acks: Acks::None, ..ProduceOptions::default() };
    for _ in 0..3 {
        assert_eq!(session.produce(&options, &TOPIC, 1, &batch(b"x")), Ok(None));
        let (_, body) = take_request(&mut session);
        let request = produce::Request::decode(&body).expect("whole");
        assert_eq!(request.entries[0].partition, 1);
        let (_, bytes) = request.parts().next().expect("one");
        assert!(Batch::validate(bytes).is_ok());
    }
    assert_eq!(session.requests_in_flight(), 0);
}

#[test]
fn a_borrowed_batch_may_be_written_in_part() {
    let batch = batch(b"some value");
    let options = ProduceOptions::default();
    let mut whole = greeted(4, 100_000);
    whole.produce(&options, &TOPIC, 0, &batch).expect("room");
    let expected = whole.outgoing().to_vec();
    for count in 0..=expected.len() {
        let mut session = greeted(4, 100_000);
        let write = session.produce_borrowed(&options, &TOPIC, 0, &batch).expect("room");
        let slices = write.slices();
        let mut sent = [&slices[0][..], &slices[1][..]].concat();
        assert_eq!(sent, expected);
        write.sent(count);
        sent.truncate(count);
        sent.extend_from_slice(session.outgoing());
        assert_eq!(sent, expected, "{count} bytes written at first");
    }
}

#[test]
fn violations_end_the_session() {
    let mut session = Session::new("test");
    assert_eq!(session.ping(), Err(SendError::HelloPending));
    session.receive(&[0; 32]);
    let violation = session.next_event().expect_err("no magic");
    assert!(matches!(violation, Violation::Frame { code: ErrorCode::Malformed, .. }));
    assert_eq!(session.next_event().expect_err("for ever"), violation);
    assert_eq!(session.ping(), Err(SendError::Broken(violation)));

    let mut session = greeted(4, 100_000);
    let id = session.ping().expect("room");
    let mut reply = Vec::new();
    put_reply(&mut reply, Kind::Ping, id.number(), |_| ());
    session.receive(&[&reply[..], &reply[..]].concat());
    assert!(matches!(session.next_event(), Ok(Some(Event::Pong(_)))));
    assert!(matches!(session.next_event(), Err(Violation::Unasked { .. })), "answered twice");

    let mut session = greeted(4, 100_000);
    let id = session.ping().expect("room");
    let mut reply = Vec::new();
    put_reply(&mut reply, Kind::Stats, id.number(), |_| ());
    session.receive(&reply);
    assert!(matches!(session.next_event(), Err(Violation::Unasked { .. })), "another kind");

    let mut session = greeted(4, 100_000);
    let mut reply = Vec::new();
    let error = ErrorReply { code: 0x8005, retry_after_ms: 0, detail: "stopping" };
    error.encode(&mut reply, 0, 0);
    session.receive(&reply);
    assert!(matches!(session.next_event(), Err(Violation::Refused { code: 0x8005, .. })));
}

#[test]
fn a_flipped_bit_is_noticed() {
    let mut session = greeted(4, 100_000);
    let id = session.ping().expect("room");
    let mut reply = Vec::new();
    put_reply(&mut reply, Kind::Ping, id.number(), |_| ());
    for index in 0..reply.len() {
        let mut session = greeted(4, 100_000);
        session.ping().expect("room");
        let mut bad = reply.clone();
        bad[index] ^= 1;
        session.receive(&bad);
        // A longer body than the true one is still awaited.
        assert!(!matches!(session.next_event(), Ok(Some(_))), "byte {index}");
    }
}

#[test]
fn long_frames_and_crowds_of_small_ones_pass_one_buffer() {
    let mut session = greeted(64, 4_000_000);
    let value = vec![9; 60_000];
    for round in 0..50u64 {
        let ids: Vec<_> = (0..20).map(|_| session.ping().expect("room")).collect();
        let options = ProduceOptions::default();
        let produced = session.produce(&options, &TOPIC, 0, &batch(&value)).expect("room");
        let mut replies = Vec::new();
        for id in ids {
            put_reply(&mut replies, Kind::Ping, id.number(), |_| ());
        }
        put_produce_reply(&mut replies, produced.expect("an id").number(), round);
        let count = session.outgoing().len();
        session.sent(count);
        let mut seen = Vec::new();
        for part in replies.chunks(77) {
            session.receive(part);
            drain(&mut session, &mut seen);
        }
        assert_eq!((seen.len(), seen[20].as_str()), (21, format!("at {round}").as_str()));
    }
}
