//! Record batches: the one validation on the broker, building in the producer, reading in the
//! consumer.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pelton_bench::{batch, criterion, noise};
use wire::batch::{Batch, BatchBuilder};

const SHAPES: [(u32, usize); 4] = [(1, 100), (10, 100), (1000, 100), (256, 1024)];

fn validate(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch_validate");
    for (records, value_bytes) in SHAPES {
        let bytes = batch(records, value_bytes);
        group.throughput(Throughput::Elements(u64::from(records)));
        let id = BenchmarkId::from_parameter(format!("{records}x{value_bytes}"));
        group.bench_with_input(id, &bytes, |b, bytes| {
            b.iter(|| Batch::validate(black_box(bytes)).expect("valid").record_count());
        });
    }
    group.finish();
}

fn build(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch_build");
    for (records, value_bytes) in SHAPES {
        let value = noise(value_bytes);
        let mut builder = BatchBuilder::with_capacity(512 * 1024);
        group.throughput(Throughput::Elements(u64::from(records)));
        let id = BenchmarkId::from_parameter(format!("{records}x{value_bytes}"));
        group.bench_with_input(id, &value, |b, value| {
            b.iter(|| {
                builder.clear();
                for _ in 0..records {
                    builder.push(1_700_000_000_000, None, Some(black_box(value)));
                }
                builder.finish().len()
            });
        });
    }
    group.finish();
}

fn read(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch_read");
    for (records, value_bytes) in SHAPES {
        let bytes = batch(records, value_bytes);
        group.throughput(Throughput::Elements(u64::from(records)));
        let id = BenchmarkId::from_parameter(format!("{records}x{value_bytes}"));
        group.bench_with_input(id, &bytes, |b, bytes| {
            b.iter(|| {
                let (batch, _) = Batch::split(black_box(bytes)).expect("whole");
                let values = batch.records().map(|record| record.expect("whole").value);
                values.map(|value| value.map_or(0, <[u8]>::len)).sum::<usize>()
            });
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = criterion(); targets = validate, build, read }
criterion_main!(benches);
