//! Bytes that no client of ours sends: a coded error or a closed connection, and no effect on
//! anyone else.

use pelton_tests::broker::Broker;
use pelton_tests::raw::{self, Raw};
use tempfile::{TempDir, tempdir};
use wire::limits::FRAME_BODY_BYTES_MAX;
use wire::queue::{PUBLISH_TIMING, PublishHead};
use wire::{Acks, ErrorCode, FrameHeader, Kind};
use zerocopy::{FromBytes, IntoBytes};

/// A broker, and a connection that must not notice anything.
struct Stage {
    broker: Broker,
    bystander: Raw,
    _dir: TempDir,
}

impl Stage {
    fn new() -> Self {
        let dir = tempdir().expect("a folder");
        let broker = Broker::start(dir.path());
        let bystander = Raw::greeted(broker.address());
        Stage { broker, bystander, _dir: dir }
    }

    fn assert_unharmed(&mut self) {
        self.bystander.send(&raw::request(Kind::Ping, 77, &[]));
        let reply = self.bystander.receive().expect("the bystander's connection is open");
        assert_eq!((reply.header.correlation_id.get(), reply.error()), (77, None));
        let log = self.broker.log();
        assert!(!log.contains("panicked"), "{log}");
    }
}

/// A ping whose header was changed; its checksum is right again if it is sealed.
fn damaged_ping(change: impl FnOnce(&mut FrameHeader)) -> Vec<u8> {
    let mut bytes = raw::request(Kind::Ping, 1, &[]);
    change(FrameHeader::mut_from_bytes(&mut bytes).expect("a header alone"));
    bytes
}

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = wire::crc::crc32c(&bytes[..28]);
    let header = FrameHeader::mut_from_bytes(&mut bytes[..32]).expect("a header");
    header.crc = sum.into();
    bytes
}

#[test]
fn frames_that_cannot_be_trusted_close_the_connection() {
    let mut stage = Stage::new();
    let too_long = u32::try_from(FRAME_BODY_BYTES_MAX + 1).expect("small");
    let cases: [(&str, Vec<u8>); 8] = [
        ("noise", (0..=255).cycle().take(5000).collect()),
        ("text", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("zeros", vec![0; 64]),
        ("magic", sealed(damaged_ping(|header| header.magic = 7.into()))),
        ("version", sealed(damaged_ping(|header| header.version = 9))),
        ("flags", sealed(damaged_ping(|header| header.flags = 0x80))),
        ("length", sealed(damaged_ping(|header| header.body_bytes = too_long.into()))),
        ("checksum", damaged_ping(|header| header.crc = 1.into())),
    ];
    for (name, bytes) in &cases {
        let mut greeted = Raw::greeted(stage.broker.address());
        greeted.send(bytes);
        let errors = greeted.errors_until_closed();
        assert!(errors.len() <= 1, "{name}: {errors:?}");
        let mut stranger = Raw::connect(stage.broker.address());
        stranger.send(bytes);
        stranger.errors_until_closed();
        stage.assert_unharmed();
    }
}

#[test]
fn hello_comes_first_and_once() {
    let mut stage = Stage::new();
    let mut eager = Raw::connect(stage.broker.address());
    eager.send(&raw::request(Kind::Ping, 1, &[]));
    assert_eq!(eager.errors_until_closed(), [ErrorCode::HelloExpected.number()]);

    let mut twice = Raw::greeted(stage.broker.address());
    twice.send(&raw::hello());
    let reply = twice.receive().expect("an answer");
    assert_eq!(reply.error(), Some(ErrorCode::HelloExpected.number()));

    let mut long = Raw::connect(stage.broker.address());
    long.send(&raw::request(Kind::Hello, 1, &[0; 5000]));
    long.errors_until_closed();
    stage.assert_unharmed();
}

#[test]
fn unknown_kinds_and_versions_are_answered_and_the_connection_goes_on() {
    let mut stage = Stage::new();
    let mut raw = Raw::greeted(stage.broker.address());
    let cases = [
        (999, 1, ErrorCode::UnknownKind),
        (0, 1, ErrorCode::UnknownKind),
        (Kind::QueueDeliver.number(), 1, ErrorCode::UnknownKind),
        (Kind::Ping.number(), 9, ErrorCode::UnsupportedVersion),
    ];
    for (kind, version, code) in cases {
        raw.send(&sealed(damaged_ping(|header| {
            header.kind = kind.into();
            header.kind_version = version.into();
        })));
        let reply = raw.receive().expect("the connection goes on");
        assert_eq!(reply.error(), Some(code.number()), "kind {kind}, version {version}");
    }
    raw.send(&raw::request(Kind::Ping, 3, &[]));
    assert_eq!(raw.receive().expect("a reply").error(), None);
    stage.assert_unharmed();
}

#[test]
fn an_unknown_flag_of_a_publish_is_refused_before_its_queue_is_looked_for() {
    let mut stage = Stage::new();
    let mut raw = Raw::greeted(stage.broker.address());
    let head = |flags, reserved: u16| PublishHead {
        queue: [1; 16],
        count: 1.into(),
        acks: Acks::Durable as u8,
        flags,
        reserved: reserved.into(),
    };
    for (head, code) in [
        (head(2 * PUBLISH_TIMING, 0), ErrorCode::UnsupportedVersion),
        (head(0, 1), ErrorCode::Malformed),
        (head(PUBLISH_TIMING, 0), ErrorCode::UnknownQueue),
    ] {
        raw.send(&raw::request(Kind::QueuePublish, 7, head.as_bytes()));
        let reply = raw.receive().expect("the connection goes on");
        assert_eq!(reply.error(), Some(code.number()), "{head:?}");
    }
    stage.assert_unharmed();
}

#[test]
fn bodies_that_are_not_what_they_claim_are_malformed() {
    let mut stage = Stage::new();
    for kind in [
        Kind::Metadata,
        Kind::CreateTopic,
        Kind::DeleteTopic,
        Kind::DescribeTopic,
        Kind::Fetch,
        Kind::ListOffsets,
    ] {
        let mut raw = Raw::greeted(stage.broker.address());
        raw.send(&raw::request(kind, 5, &[0xff; 21]));
        let errors = [raw.receive()];
        let errors: Vec<_> = errors.into_iter().flatten().map(|frame| frame.error()).collect();
        assert!(
            errors.iter().all(|error| *error == Some(ErrorCode::Malformed.number())),
            "{kind:?}: {errors:?}"
        );
        stage.assert_unharmed();
    }
}

#[test]
fn a_frame_may_come_byte_by_byte() {
    let mut stage = Stage::new();
    let mut slow = Raw::connect(stage.broker.address());
    let ping = raw::request(Kind::Ping, 9, &[]);
    for byte in [raw::hello(), ping].concat() {
        slow.send(&[byte]);
        stage.assert_unharmed();
    }
    assert_eq!(slow.receive().expect("hello's reply").error(), None);
    assert_eq!(slow.receive().expect("ping's reply").header.correlation_id.get(), 9);
}

#[test]
fn a_frame_cut_short_harms_nobody() {
    let mut stage = Stage::new();
    let ping = raw::request(Kind::Ping, 9, &[]);
    for end in 0..ping.len() {
        let mut raw = Raw::greeted(stage.broker.address());
        raw.send(&ping[..end]);
        raw.finish_sending();
        assert!(raw.receive().is_none(), "half a frame has no answer");
    }
    stage.assert_unharmed();
}

#[test]
fn a_client_that_stops_reading_is_not_read_for_ever() {
    let mut stage = Stage::new();
    let mut raw = Raw::greeted(stage.broker.address());
    let pings: Vec<u8> =
        (0..1000).flat_map(|number| raw::request(Kind::Stats, number, &[])).collect();
    const MOST: usize = 256 << 20;
    let sent = raw.send_until_full(&pings, MOST);
    assert!(sent < MOST, "the broker took {sent} bytes of requests whose replies nobody reads");
    stage.assert_unharmed();
}

#[test]
fn headers_of_every_kind_of_noise_are_survived() {
    let mut stage = Stage::new();
    let mut state = 1u64;
    for _ in 0..200 {
        let mut bytes = raw::request(Kind::Stats, 1, &[]);
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let at = usize::try_from(state >> 33).expect("31 bits") % bytes.len();
        bytes[at] ^= 1 << (state >> 61);
        let mut raw = Raw::greeted(stage.broker.address());
        raw.send(&bytes);
        raw.finish_sending();
        raw.errors_until_closed();
    }
    stage.assert_unharmed();
}
