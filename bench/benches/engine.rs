//! The engine alone, over a backend that is done at once: an idle turn, an append from bytes to
//! acknowledgement, a fetch from memory, and the search in a segment's index.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use engine::log::segment::Segment;
use engine::port::OpBatch;
use pelton_bench::null_backend::NullBackend;
use pelton_bench::{batch, criterion};
use wire::frame::{self, Envelope};
use wire::limits::FRAME_HEADER_BYTES;
use wire::{Acks, FrameHeader, Kind, TopicId, fetch, hello, produce, topic};

fn request(kind: Kind, batches_bytes: usize, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    frame::encode(&mut out, Envelope::request(kind, 1), batches_bytes, body);
    out
}

/// The body of the one reply in these bytes.
fn reply_body(bytes: &[u8]) -> &[u8] {
    let header = FrameHeader::peek(bytes).expect("a reply");
    assert_eq!(header.flags & frame::FLAG_ERROR, 0, "it succeeded");
    assert_eq!(header.frame_len(), bytes.len(), "one reply");
    &bytes[FRAME_HEADER_BYTES..]
}

/// A shard that has said hello and has a topic with one partition.
fn shard_with_topic() -> (NullBackend, TopicId) {
    let mut backend = NullBackend::new();
    let greeting = hello::Request { version_min: 1, version_max: 1, features: 0, client: "bench" };
    reply_body(backend.exchange(&request(Kind::Hello, 0, |out| greeting.encode(out))));
    let settings = topic::Settings::new(1);
    let create = topic::CreateRequest { settings: &settings, name: "bench" };
    let reply = backend.exchange(&request(Kind::CreateTopic, 0, |out| create.encode(out)));
    let id = reply_body(reply).try_into().expect("a topic id");
    (backend, id)
}

fn produce_request(topic_id: TopicId, acks: Acks, batch: &[u8]) -> Vec<u8> {
    let batch_bytes = u32::try_from(batch.len()).expect("small").into();
    let entry = produce::RequestEntry { topic_id, partition: 0.into(), batch_bytes };
    let mut bytes = request(Kind::Produce, batch.len(), |out| {
        produce::encode_control(out, acks, 0, 0, &[entry]);
    });
    bytes.extend_from_slice(batch);
    bytes
}

fn fetch_request(topic_id: TopicId) -> Vec<u8> {
    let head = fetch::RequestHead {
        max_wait_ms: 0.into(),
        min_bytes: 1.into(),
        max_bytes: (1 << 20).into(),
        isolation: 0,
        flags: 0,
        partition_count: 1.into(),
    };
    let entry = fetch::RequestEntry {
        topic_id,
        partition: 0.into(),
        leader_epoch: u32::MAX.into(),
        offset: 0.into(),
        partition_max_bytes: (1 << 20).into(),
        reserved: 0.into(),
    };
    request(Kind::Fetch, 0, |out| {
        fetch::Request { head: &head, entries: &[entry] }.encode(out);
    })
}

fn turn(c: &mut Criterion) {
    let (mut backend, _) = shard_with_topic();
    let mut ops = OpBatch::default();
    let now = backend.now;
    c.bench_function("engine/idle_turn", |b| {
        b.iter(|| {
            backend.shard.decide(black_box(now), &mut ops);
            assert!(ops.ops.is_empty(), "an idle turn does nothing");
        });
    });
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("engine_append");
    for acks in [Acks::Memory, Acks::Durable] {
        for records in [1, 1000] {
            let (mut backend, id) = shard_with_topic();
            let bytes = produce_request(id, acks, &batch(records, 100));
            group.throughput(Throughput::Elements(u64::from(records)));
            let id = BenchmarkId::new(acks.name(), format!("{records}x100"));
            group.bench_with_input(id, &bytes, |b, bytes| {
                b.iter(|| {
                    let body = reply_body(backend.exchange(bytes));
                    let reply = produce::Reply::decode(body).expect("well-formed");
                    assert_eq!(reply.entries[0].error.get(), 0);
                });
            });
        }
    }
    group.finish();
}

fn fetch_from_memory(c: &mut Criterion) {
    let (mut backend, id) = shard_with_topic();
    let records = 1000;
    backend.exchange(&produce_request(id, Acks::Durable, &batch(records, 100)));
    let bytes = fetch_request(id);
    let mut group = c.benchmark_group("engine_fetch");
    group.throughput(Throughput::Elements(u64::from(records)));
    group.bench_function("memory/1000x100", |b| {
        b.iter(|| {
            let body = reply_body(backend.exchange(black_box(&bytes)));
            let reply = fetch::Reply::decode(body).expect("well-formed");
            assert!(reply.batches.len() > 100_000, "it sent the batch");
        });
    });
    group.finish();
}

fn index_search(c: &mut Criterion) {
    const FRAMES: u64 = 65_536;
    let mut segment = Segment::new(0, 0);
    for frame in 0..FRAMES {
        segment.push(frame * 40, 4096, 0, 4096);
    }
    let mut offset = 0u64;
    c.bench_function("engine/index_search", |b| {
        b.iter(|| {
            offset = (offset.wrapping_mul(6_364_136_223_846_793_005)).wrapping_add(1);
            segment.seek(black_box((offset >> 33) % (FRAMES * 40)))
        });
    });
}

criterion_group! {
    name = benches;
    config = criterion();
    targets = turn, append, fetch_from_memory, index_search
}
criterion_main!(benches);
