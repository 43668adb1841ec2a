//! The engine alone, over a backend that is done at once: an idle turn, an append from bytes to
//! acknowledgement, a fetch from memory, a fetch of many partitions, and the search for an offset.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use engine::log::run::Run;
use engine::log::segment::Segment;
use engine::pool::{Pool, RecvRegion};
use engine::port::{OpBatch, Time};
use pelton_bench::requests::{fetch_request, fetch_requests, produce_request, reply_body};
use pelton_bench::requests::{shard_with_partitions, shard_with_topic};
use pelton_bench::{batch, criterion};
use wire::batch::Batch;
use wire::{Acks, fetch, produce};

/// What a turn costs that has nothing to do, whoever is connected.
fn turn(c: &mut Criterion) {
    let mut group = c.benchmark_group("engine_idle_turn");
    for connections in [1, 1000] {
        let (mut backend, _) = shard_with_topic(connections);
        let mut ops = OpBatch::default();
        let now = backend.now;
        let id = BenchmarkId::new("connections", connections);
        group.bench_function(id, |b| {
            b.iter(|| {
                backend.shard.decide(black_box(now), &mut ops);
                assert!(ops.ops.is_empty(), "an idle turn does nothing");
            });
        });
    }
    group.finish();
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("engine_append");
    for acks in [Acks::Memory, Acks::Durable] {
        for records in [1, 1000] {
            let (mut backend, id) = shard_with_topic(1);
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
    let (mut backend, id) = shard_with_topic(1);
    let records = 1000;
    backend.exchange(&produce_request(id, Acks::Durable, &batch(records, 100)));
    let bytes = fetch_request(id, 0);
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

/// What a fetch costs per partition that has nothing new: answered at once, and parked, woken by
/// a record in the first partition, and answered.
fn fetch_rows(c: &mut Criterion) {
    let mut group = c.benchmark_group("engine_fetch_rows");
    for partitions in [1u32, 100, 1000] {
        group.throughput(Throughput::Elements(u64::from(partitions)));
        let (mut backend, id) = shard_with_partitions(1, partitions);
        let mut offsets = vec![0; usize::try_from(partitions).expect("few")];
        let bytes = fetch_requests(id, &offsets, 0);
        group.bench_function(BenchmarkId::new("idle", partitions), |b| {
            b.iter(|| {
                let body = reply_body(backend.exchange(black_box(&bytes)));
                let reply = fetch::Reply::decode(body).expect("well-formed");
                assert_eq!(reply.entries.len(), offsets.len());
            });
        });
        let (mut backend, id) = shard_with_partitions(2, partitions);
        let produce = produce_request(id, Acks::Durable, &batch(1, 100));
        group.bench_function(BenchmarkId::new("woken", partitions), |b| {
            b.iter(|| {
                backend.send(0, &fetch_requests(id, &offsets, 3_600_000));
                backend.settle();
                assert!(backend.answer(0).is_empty(), "it waits");
                backend.send(1, &produce);
                backend.settle();
                let reply = fetch::Reply::decode(reply_body(backend.answer(0)));
                assert!(!reply.expect("well-formed").batches.is_empty(), "it was woken");
                offsets[0] += 1;
            });
        });
    }
    group.finish();
}

/// Offsets below `end` in no order that a branch predictor could learn.
fn offsets(end: u64) -> impl FnMut() -> u64 {
    let mut state = 0u64;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % end
    }
}

/// From an offset to where its batch lies: in a segment's index, and in a run in memory.
fn search(c: &mut Criterion) {
    const FRAMES: u64 = 65_536;
    let mut group = c.benchmark_group("engine_search");
    let mut segment = Segment::new(0, 0);
    for frame in 0..FRAMES {
        segment.push(frame * 40, 4096, 0, 4096);
    }
    let mut offset = offsets(FRAMES * 40);
    group.bench_function("segment_seek", |b| b.iter(|| segment.seek(black_box(offset()))));
    let (pool, run) = full_run();
    let mut offset = offsets(run.next_offset);
    group.bench_function("run_locate", |b| b.iter(|| run.locate(&pool, black_box(offset()))));
    group.finish();
}

/// A run of 1 MiB, full of batches of one small record each.
fn full_run() -> (Pool, Run) {
    const RUN_BYTES: usize = 1 << 20;
    let mut pool = Pool::new(RecvRegion { count: 1, bytes: 4096 }, 2 * RUN_BYTES);
    let buf = pool.alloc(RUN_BYTES).expect("it is empty");
    let mut run = Run::new(buf, 0, Time(0));
    let mut bytes = batch(1, 100);
    while run.end + bytes.len() <= RUN_BYTES {
        Batch::stamp(&mut bytes, run.next_offset, 1);
        pool.bytes_mut(buf)[run.end..run.end + bytes.len()].copy_from_slice(&bytes);
        run.push(&bytes, 1, 0, None);
    }
    (pool, run)
}

criterion_group! {
    name = benches;
    config = criterion();
    targets = turn, append, fetch_from_memory, fetch_rows, search
}
criterion_main!(benches);
