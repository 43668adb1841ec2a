//! Decoding allocates nothing, neither for what it accepts nor for what it refuses.

#![allow(unsafe_code, reason = "a global allocator that counts cannot be written without")]

mod every_decoder;
mod samples;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use every_decoder::decode_as_everything;
use samples::samples;

thread_local! {
    /// Per thread, so that the test harness's own threads do not count.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract;
// counting touches a thread-local cell that needs no allocation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` above, that is, from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations_of(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

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
