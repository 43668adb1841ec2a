//! Requests that are well-formed but cannot be served: each has its code.

use pelton_tests::broker::Broker;
use pelton_tests::raw::{Frame, Raw, fetch_one};
use tempfile::tempdir;
use wire::batch::{BatchBuilder, CRC_FROM};
use wire::frame::{self, Envelope};
use wire::{Acks, ErrorCode, Kind, TopicId, fetch, list_offsets, metadata, produce};

fn batch() -> Vec<u8> {
    let mut builder = BatchBuilder::with_capacity(256);
    builder.push(1000, None, Some(b"one"));
    builder.push(1001, None, Some(b"two"));
    builder.finish().to_vec()
}

/// Puts the right checksum on a batch that lies.
fn sealed(mut batch: Vec<u8>) -> Vec<u8> {
    let sum = wire::crc::crc32c(&batch[CRC_FROM..]);
    batch[17..CRC_FROM].copy_from_slice(&sum.to_be_bytes());
    batch
}

fn produce(topic_id: TopicId, partition: u32, acks: Acks, batch: &[u8]) -> Vec<u8> {
    let batch_bytes = u32::try_from(batch.len()).expect("small").into();
    let entry = produce::RequestEntry { topic_id, partition: partition.into(), batch_bytes };
    let mut out = Vec::new();
    frame::encode(&mut out, Envelope::request(Kind::Produce, 7), batch.len(), |out| {
        produce::encode_control(out, acks, 0, 0, &[entry]);
    });
    out.extend_from_slice(batch);
    out
}

fn fetch(topic_id: TopicId, partition: u32, offset: u64) -> Vec<u8> {
    let (head, entry) = fetch_one(topic_id, partition, offset, 4096);
    let mut out = Vec::new();
    frame::encode(&mut out, Envelope::request(Kind::Fetch, 8), 0, |out| {
        fetch::Request { head: &head, entries: &[entry] }.encode(out);
    });
    out
}

/// The code of a reply, whether it stands for the request or for its one partition.
fn code(frame: &Frame) -> ErrorCode {
    let code = frame.error().unwrap_or_else(|| match Kind::from_u16(frame.header.kind.get()) {
        Some(Kind::Produce) => {
            produce::Reply::decode(&frame.body).expect("well-formed").entries[0].error.get()
        }
        Some(Kind::Fetch) => {
            fetch::Reply::decode(&frame.body).expect("well-formed").entries[0].error.get()
        }
        Some(Kind::ListOffsets) => {
            list_offsets::decode_reply(&frame.body).expect("well-formed")[0].error.get()
        }
        kind => panic!("an unexpected reply to {kind:?}"),
    });
    ErrorCode::from_u16(code).expect("a known code")
}

fn topic_id(raw: &mut Raw, name: &str) -> TopicId {
    let mut out = Vec::new();
    frame::encode(&mut out, Envelope::request(Kind::Metadata, 1), 0, |out| {
        metadata::encode_request(out, &[name]);
    });
    raw.send(&out);
    let reply = raw.receive().expect("a reply");
    let reply = metadata::Reply::decode(&reply.body).expect("well-formed");
    *reply.topics().next().expect("the topic").topic_id
}

#[test]
fn each_refusal_has_its_code_and_changes_nothing() {
    let dir = tempdir().expect("a folder");
    let broker = Broker::start(dir.path());
    broker.run(&["topic", "create", "t", "--partitions", "2"], b"").expect_success();
    let mut raw = Raw::greeted(broker.address());
    let id = topic_id(&mut raw, "t");
    let good = batch();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let mut negative = good.clone();
    negative[8] = 0x80;
    let longer = sealed([&good[..], &[0]].concat());
    let cases = [
        ("unknown topic", produce([9; 16], 0, Acks::Durable, &good), ErrorCode::UnknownTopic),
        ("unknown partition", produce(id, 2, Acks::Durable, &good), ErrorCode::UnknownPartition),
        ("checksum", produce(id, 0, Acks::Durable, &flipped(70)), ErrorCode::CorruptMessage),
        ("magic", produce(id, 0, Acks::Durable, &flipped(16)), ErrorCode::InvalidRecord),
        ("count", produce(id, 0, Acks::Memory, &sealed(flipped(60))), ErrorCode::InvalidRecord),
        (
            "last delta",
            produce(id, 0, Acks::Durable, &sealed(flipped(26))),
            ErrorCode::InvalidRecord,
        ),
        ("tail", produce(id, 0, Acks::Durable, &longer), ErrorCode::InvalidRecord),
        ("negative length", produce(id, 0, Acks::Durable, &negative), ErrorCode::InvalidRecord),
        (
            "producer id",
            produce(id, 0, Acks::Durable, &sealed(with_producer(&good))),
            ErrorCode::ProducerIdUnsupported,
        ),
        ("fetch topic", fetch([9; 16], 0, 0), ErrorCode::UnknownTopic),
        ("fetch partition", fetch(id, 7, 0), ErrorCode::UnknownPartition),
        ("fetch offset", fetch(id, 0, 1), ErrorCode::OffsetOutOfRange),
        ("fetch offset far", fetch(id, 0, u64::MAX), ErrorCode::OffsetOutOfRange),
    ];
    for (name, request, expected) in &cases {
        raw.send(request);
        let reply = raw.receive().unwrap_or_else(|| panic!("{name}: the connection goes on"));
        assert_eq!(code(&reply), *expected, "{name}");
    }
    raw.send(&produce(id, 0, Acks::Durable, &good));
    let reply = raw.receive().expect("a reply");
    assert_eq!(code(&reply), ErrorCode::None);
    let reply = produce::Reply::decode(&reply.body).expect("well-formed");
    assert_eq!(reply.entries[0].base_offset.get(), 0, "what was refused took no offset");
}

fn with_producer(batch: &[u8]) -> Vec<u8> {
    let mut bytes = batch.to_vec();
    bytes[43..51].copy_from_slice(&5i64.to_be_bytes());
    bytes
}

#[test]
fn offsets_are_found_by_position_and_time() {
    let dir = tempdir().expect("a folder");
    let broker = Broker::start(dir.path());
    broker.run(&["topic", "create", "t"], b"").expect_success();
    let mut raw = Raw::greeted(broker.address());
    let id = topic_id(&mut raw, "t");
    for _ in 0..3 {
        raw.send(&produce(id, 0, Acks::Durable, &batch()));
        assert_eq!(code(&raw.receive().expect("a reply")), ErrorCode::None);
    }
    let mut ask = |partition: u32, timestamp_ms: i64| {
        let partition = partition.into();
        let entry = list_offsets::RequestEntry {
            topic_id: id,
            partition,
            timestamp_ms: timestamp_ms.into(),
        };
        let mut out = Vec::new();
        frame::encode(&mut out, Envelope::request(Kind::ListOffsets, 1), 0, |out| {
            list_offsets::encode(out, &[entry]);
        });
        raw.send(&out);
        let reply = raw.receive().expect("a reply");
        let code = code(&reply);
        let offset = match code {
            ErrorCode::None => {
                list_offsets::decode_reply(&reply.body).expect("well-formed")[0].offset.get()
            }
            _ => 0,
        };
        (code, offset)
    };
    assert_eq!(ask(0, list_offsets::TIMESTAMP_EARLIEST), (ErrorCode::None, 0));
    assert_eq!(ask(0, list_offsets::TIMESTAMP_LATEST), (ErrorCode::None, 6));
    assert_eq!(ask(0, 0), (ErrorCode::None, 0));
    assert_eq!(ask(0, 5_000_000), (ErrorCode::None, 6), "behind the newest record: the end");
    assert_eq!(ask(4, 0).0, ErrorCode::UnknownPartition);
    assert_eq!(ask(0, -9).0, ErrorCode::InvalidRequest);
}
