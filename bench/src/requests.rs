//! Requests as a client encodes them, and a shard that is ready for them.

use wire::frame::{self, Envelope};
use wire::limits::FRAME_HEADER_BYTES;
use wire::queue::{self, QueueId, SETTLE_QUIET, SettleRow, Verb};
use wire::{Acks, FrameHeader, Kind, TopicId, fetch, hello, produce, topic};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::null_backend::NullBackend;

/// Clients give each produce some time.
const TIMEOUT_MS: u32 = 30_000;

/// A request frame whose body ends with `batches_bytes` bytes of batches, yet to be added.
pub fn request(kind: Kind, batches_bytes: usize, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    frame::encode(&mut out, Envelope::request(kind, 1), batches_bytes, body);
    out
}

/// The body of the one reply in these bytes.
pub fn reply_body(bytes: &[u8]) -> &[u8] {
    let header = FrameHeader::peek(bytes).expect("a reply");
    assert_eq!(header.flags & frame::FLAG_ERROR, 0, "it succeeded");
    assert_eq!(header.frame_len(), bytes.len(), "one reply");
    &bytes[FRAME_HEADER_BYTES..]
}

/// A shard with greeted connections and a topic with one partition.
pub fn shard_with_topic(connections: u32) -> (NullBackend, TopicId) {
    shard_with_partitions(connections, 1)
}

/// The same with a topic of so many partitions.
pub fn shard_with_partitions(connections: u32, partitions: u32) -> (NullBackend, TopicId) {
    let mut backend = NullBackend::new(connections);
    let greeting = hello::Request { version_min: 1, version_max: 1, features: 0, client: "bench" };
    let hello = request(Kind::Hello, 0, |out| greeting.encode(out));
    for connection in 0..backend.connections() {
        backend.send(connection, &hello);
        backend.settle();
        reply_body(backend.answer(connection));
    }
    let settings = topic::Settings::new(partitions);
    let create = topic::CreateRequest { settings: &settings, name: "bench" };
    let reply = backend.exchange(&request(Kind::CreateTopic, 0, |out| create.encode(out)));
    let id = reply_body(reply).try_into().expect("a topic id");
    (backend, id)
}

/// A produce of one batch to partition 0.
pub fn produce_request(topic_id: TopicId, acks: Acks, batch: &[u8]) -> Vec<u8> {
    let batch_bytes = u32::try_from(batch.len()).expect("small").into();
    let entry = produce::RequestEntry { topic_id, partition: 0.into(), batch_bytes };
    let mut bytes = request(Kind::Produce, batch.len(), |out| {
        produce::encode_control(out, acks, 0, TIMEOUT_MS, &[entry]);
    });
    bytes.extend_from_slice(batch);
    bytes
}

/// A fetch from partition 0 that takes what is there.
pub fn fetch_request(topic_id: TopicId, offset: u64) -> Vec<u8> {
    fetch_requests(topic_id, &[offset], 0)
}

/// A fetch from as many partitions as there are offsets, which may wait.
pub fn fetch_requests(topic_id: TopicId, offsets: &[u64], max_wait_ms: u32) -> Vec<u8> {
    let count = u16::try_from(offsets.len()).expect("a request names few enough");
    let head = fetch::RequestHead {
        max_wait_ms: max_wait_ms.into(),
        min_bytes: 1.into(),
        max_bytes: (1 << 20).into(),
        isolation: 0,
        flags: 0,
        partition_count: count.into(),
    };
    let entry = |(partition, offset): (u32, &u64)| fetch::RequestEntry {
        topic_id,
        partition: partition.into(),
        leader_epoch: u32::MAX.into(),
        offset: (*offset).into(),
        partition_max_bytes: (1 << 20).into(),
        reserved: 0.into(),
    };
    let entries: Vec<fetch::RequestEntry> = (0..).zip(offsets).map(entry).collect();
    request(Kind::Fetch, 0, |out| {
        fetch::Request { head: &head, entries: &entries }.encode(out);
    })
}

/// A shard with a queue that one consumer takes up to `prefetch` messages from, over the one
/// connection; gives the queue's id and the consumer's number.
pub fn shard_with_consumer(prefetch: u32) -> (NullBackend, QueueId, u32) {
    let (mut backend, _) = shard_with_topic(1);
    let create = request(Kind::QueueCreate, 0, |out| {
        queue::encode_create(out, &queue::Settings::new(), "bench", "");
    });
    let created = queue::CreateReply::decode(reply_body(backend.exchange(&create)));
    let id = created.expect("well-formed").queue;
    let consume = queue::ConsumeRequest {
        queue: id,
        prefetch: prefetch.into(),
        priority: 0.into(),
        flags: 0,
        reserved: 0,
    };
    let consume = request(Kind::QueueConsume, 0, |out| out.extend_from_slice(consume.as_bytes()));
    let reply = queue::ConsumeReply::ref_from_bytes(reply_body(backend.exchange(&consume)));
    let consumer = reply.expect("well-formed").consumer.get();
    (backend, id, consumer)
}

/// A publish of so many messages of 100 bytes.
pub fn publish_request(queue: QueueId, acks: Acks, count: u32) -> Vec<u8> {
    let mut head = queue::PublishHead::new_zeroed();
    (head.queue, head.count, head.acks) = (queue, count.into(), acks as u8);
    request(Kind::QueuePublish, 0, |out| {
        out.extend_from_slice(head.as_bytes());
        (0..count).for_each(|_| queue::put_message(out, 0, 0, b"", &[7; 100]));
    })
}

/// Accepts messages without asking for an answer; what `out` held before is gone.
pub fn accept_request(out: &mut Vec<u8>, queue: &QueueId, consumer: u32, first: u64, last: u64) {
    let row = SettleRow {
        first: first.into(),
        last: last.into(),
        lease: 0.into(),
        verb: Verb::Accept as u8,
        flags: 0,
        reserved: 0.into(),
        delay_ms: 0.into(),
    };
    out.clear();
    frame::encode(out, Envelope::request(Kind::QueueSettle, 0), 0, |out| {
        queue::encode_settle(out, queue, consumer, SETTLE_QUIET, &[row]);
    });
}
