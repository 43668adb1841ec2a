//! CRC32C: the implementation in use against its rival, over the sizes of frames and batches.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pelton_bench::{criterion, noise};

const SIZES: [usize; 8] = [28, 64, 256, 1024, 4096, 16 * 1024, 64 * 1024, 1024 * 1024];

fn crc(c: &mut Criterion) {
    let mut group = c.benchmark_group("crc");
    for size in SIZES {
        let bytes = noise(size);
        let in_use = wire::crc::crc32c(&bytes);
        assert_eq!(in_use, rival(&bytes), "both compute CRC32C");
        group.throughput(Throughput::Bytes(u64::try_from(size).expect("small")));
        group.bench_with_input(BenchmarkId::new("crc32c", size), &bytes, |b, bytes| {
            b.iter(|| wire::crc::crc32c(black_box(bytes)));
        });
        group.bench_with_input(BenchmarkId::new("crc-fast", size), &bytes, |b, bytes| {
            b.iter(|| rival(black_box(bytes)));
        });
    }
    group.finish();
}

fn rival(bytes: &[u8]) -> u32 {
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes);
    u32::try_from(sum).expect("a 32-bit checksum")
}

criterion_group! { name = benches; config = criterion(); targets = crc }
criterion_main!(benches);
