//! CRC32C: two implementations over the sizes of frames and batches, whole and continued from a
//! first piece. `wire::crc` uses each where it wins here.

use std::hint::black_box;

use crc_fast::{CrcAlgorithm::Crc32Iscsi, Digest};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pelton_bench::{criterion, noise};

const SIZES: [usize; 9] = [28, 64, 256, 512, 1024, 4096, 16 * 1024, 64 * 1024, 1024 * 1024];

/// Names an implementation of a sum over all bytes.
type Whole = (&'static str, fn(&[u8]) -> u32);
/// Names an implementation that continues a sum.
type Append = (&'static str, fn(u32, &[u8]) -> u32);

const WHOLE: [Whole; 3] = [
    ("crc32c", crc32c::crc32c),
    ("crc-fast", crc_fast::crc32_iscsi),
    ("in-use", wire::crc::crc32c),
];

const APPEND: [Append; 3] = [
    ("crc32c", crc32c::crc32c_append),
    ("crc-fast", digest_append),
    ("in-use", wire::crc::crc32c_append),
];

/// Names an implementation that combines two sums.
type Combine = (&'static str, fn(u32, u32, usize) -> u32);

const COMBINE: [Combine; 2] =
    [("crc32c", crc32c::crc32c_combine), ("in-use", wire::crc::crc32c_combine)];

fn digest_append(sum: u32, bytes: &[u8]) -> u32 {
    let mut digest = Digest::new_with_init_state(Crc32Iscsi, u64::from(!sum));
    digest.update(bytes);
    u32::try_from(digest.finalize()).expect("a 32-bit checksum")
}

fn whole(c: &mut Criterion) {
    let mut group = c.benchmark_group("crc_whole");
    for size in SIZES {
        let bytes = noise(size);
        group.throughput(Throughput::Bytes(u64::try_from(size).expect("small")));
        for (name, sum) in WHOLE {
            assert_eq!(sum(&bytes), crc32c::crc32c(&bytes), "{name} computes CRC32C");
            group.bench_with_input(BenchmarkId::new(name, size), &bytes, |b, bytes| {
                b.iter(|| sum(black_box(bytes)));
            });
        }
    }
    group.finish();
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("crc_append");
    for size in SIZES {
        let bytes = noise(size);
        group.throughput(Throughput::Bytes(u64::try_from(size).expect("small")));
        for (name, append) in APPEND {
            let expected = crc32c::crc32c_append(0x1234_5678, &bytes);
            assert_eq!(append(0x1234_5678, &bytes), expected, "{name} continues CRC32C");
            group.bench_with_input(BenchmarkId::new(name, size), &bytes, |b, bytes| {
                b.iter(|| append(black_box(0x1234_5678), black_box(bytes)));
            });
        }
    }
    group.finish();
}

fn combine(c: &mut Criterion) {
    let mut group = c.benchmark_group("crc_combine");
    for size in SIZES {
        for (name, combine) in COMBINE {
            let expected = crc32c::crc32c_combine(0x1234_5678, 0x9abc_def0, size);
            assert_eq!(combine(0x1234_5678, 0x9abc_def0, size), expected, "{name} combines");
            group.bench_with_input(BenchmarkId::new(name, size), &size, |b, &size| {
                b.iter(|| combine(black_box(0x1234_5678), 0x9abc_def0, black_box(size)));
            });
        }
    }
    group.finish();
}

criterion_group! { name = benches; config = criterion(); targets = whole, append, combine }
criterion_main!(benches);
