//! Decoding allocates nothing, neither for what it accepts nor for what it refuses.

mod counting;
mod every_decoder;
mod samples;

use counting::allocations_of;
use every_decoder::decode_as_everything;
use samples::samples;

#[test]
fn the_counter_counts() {
    assert_eq!(allocations_of(|| drop(std::hint::black_box(vec![1u8; 100]))), 1);
}

#[test]
fn decoders_allocate_nothing() {
    let mut damaged = samples();
    for (index, bytes) in damaged.iter_mut().enumerate() {
        let at = (index * 7) % bytes.len();
        bytes[at] ^= 0x55;
    }
    for bytes in samples().iter().chain(&damaged) {
        // Once before, for what the process sets up lazily (such as CPU feature detection).
        decode_as_everything(bytes);
        let count = allocations_of(|| {
            decode_as_everything(bytes);
        });
        assert_eq!(count, 0, "{bytes:02x?}");
    }
}
