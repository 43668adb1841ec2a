//! What the shard does to each frame before it knows the request: header, checksum, body.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use pelton_bench::{batch, criterion};
use wire::frame::{self, Envelope};
use wire::limits::FRAME_HEADER_BYTES;
use wire::{Acks, FrameHeader, Kind, produce};

/// A whole produce frame for one partition.
fn produce_frame(batch: &[u8]) -> Vec<u8> {
    let entry = produce::RequestEntry {
        topic_id: [7; 16],
        partition: 3.into(),
        batch_bytes: u32::try_from(batch.len()).expect("small").into(),
    };
    let mut out = Vec::new();
    frame::encode(&mut out, Envelope::request(Kind::Produce, 9), batch.len(), |out| {
        produce::encode_control(out, Acks::Durable, 0, 0, &[entry]);
    });
    out.extend_from_slice(batch);
    out
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame");
    for (records, value_bytes) in [(1, 100), (1000, 100)] {
        let bytes = produce_frame(&batch(records, value_bytes));
        let id = BenchmarkId::new("decode_produce", bytes.len());
        group.bench_with_input(id, &bytes, |b, bytes| {
            b.iter(|| {
                let header = FrameHeader::peek(black_box(bytes)).expect("a header");
                assert!(header.invalid().is_none());
                let body = &bytes[FRAME_HEADER_BYTES..];
                header.verify(body).expect("its checksum matches");
                produce::Request::decode(body).expect("a produce request").parts().count()
            });
        });
    }
    group.finish();
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame");
    let mut out = Vec::with_capacity(256);
    let row = produce::ReplyEntry {
        topic_id: [7; 16],
        partition: 3.into(),
        error: 0.into(),
        reserved: 0.into(),
        base_offset: 42.into(),
        log_start_offset: 0.into(),
    };
    group.bench_function("encode_produce_reply", |b| {
        b.iter(|| {
            out.clear();
            frame::encode(&mut out, Envelope::reply(Kind::Produce, 9), 0, |out| {
                produce::encode_reply(out, black_box(&[row]), None);
            });
            out.len()
        });
    });
    group.finish();
}

criterion_group! { name = benches; config = criterion(); targets = decode, encode }
criterion_main!(benches);
