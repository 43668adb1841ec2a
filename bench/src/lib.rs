//! What the benchmarks in `benches/` share: settings that keep a whole run short, and input bytes
//! that are the same in every run.

pub mod null_backend;
pub mod requests;

use std::time::Duration;

use criterion::Criterion;
use wire::batch::BatchBuilder;

/// Settings for one group: about a second and a half per benchmark.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

/// Bytes that no checksum finds easy: a fixed xorshift sequence.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A finished batch of `records` records whose values have `value_bytes` bytes each.
pub fn batch(records: u32, value_bytes: usize) -> Vec<u8> {
    let value = noise(value_bytes);
    let mut builder = BatchBuilder::with_capacity(4096);
    for index in 0..records {
        builder.push(1_700_000_000_000 + i64::from(index), None, Some(&value));
    }
    builder.finish().to_vec()
}
