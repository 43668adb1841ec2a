//! In steady state the shard's data path allocates nothing per message, at every level of acks.

#![allow(unsafe_code, reason = "a global allocator that counts cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use pelton_bench::batch;
use pelton_bench::null_backend::NullBackend;
use pelton_bench::requests::{
    accept_request, fetch_request, produce_request, publish_request, reply_body,
    shard_with_consumer, shard_with_topic,
};
use wire::{Acks, fetch, produce};

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

/// One connection shows what each turn allocates, several what each message does.
const CONNECTIONS: [u32; 2] = [1, 8];
const ROUNDS: u32 = 1000;
/// Tables that double, and a list per run of thousands of messages, are not per message.
const PER_HUNDRED_MESSAGES_MAX: u64 = 5;

fn allocations_of(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

/// Checks that rounds of this request allocate nothing once others have gone before.
fn measure(what: &str, backend: &mut NullBackend, request: &[u8], check: fn(&[u8])) {
    exchange(backend, request, check);
    let allocations = allocations_of(|| exchange(backend, request, check));
    let messages = u64::from(ROUNDS) * u64::try_from(backend.connections()).expect("few");
    assert!(
        allocations * 100 <= messages * PER_HUNDRED_MESSAGES_MAX,
        "{what}: {allocations} allocations for {messages} messages"
    );
}

/// Each connection sends the request once per round; all are answered.
fn exchange(backend: &mut NullBackend, request: &[u8], check: fn(&[u8])) {
    for _ in 0..ROUNDS {
        for connection in 0..backend.connections() {
            backend.send(connection, request);
        }
        backend.settle();
        for connection in 0..backend.connections() {
            check(reply_body(backend.answer(connection)));
        }
    }
}

fn is_produced(body: &[u8]) {
    let reply = produce::Reply::decode(body).expect("well-formed");
    assert_eq!(reply.entries[0].error.get(), 0);
}

fn is_fetched(body: &[u8]) {
    let reply = fetch::Reply::decode(body).expect("well-formed");
    assert!(!reply.batches.is_empty(), "it brings records");
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations_of(|| drop(std::hint::black_box(vec![1u8; 100]))), 1);
}

#[test]
fn produces_allocate_nothing_per_message() {
    for acks in [Acks::Memory, Acks::Written, Acks::Durable] {
        for connections in CONNECTIONS {
            let (mut backend, topic) = shard_with_topic(connections);
            let request = produce_request(topic, acks, &batch(1, 100));
            measure(acks.name(), &mut backend, &request, is_produced);
        }
    }
}

#[test]
fn produces_of_whole_runs_allocate_nothing_per_message() {
    let (mut backend, topic) = shard_with_topic(1);
    let request = produce_request(topic, Acks::Durable, &batch(500, 100));
    measure("whole runs", &mut backend, &request, is_produced);
}

#[test]
fn fetches_from_memory_allocate_nothing_per_message() {
    for connections in CONNECTIONS {
        let (mut backend, topic) = shard_with_topic(connections);
        is_produced(reply_body(backend.exchange(&produce_request(
            topic,
            Acks::Durable,
            &batch(1, 100),
        ))));
        measure("fetch", &mut backend, &fetch_request(topic, 0), is_fetched);
    }
}

#[test]
fn messages_through_queues_allocate_nothing_each() {
    for count in [1, 50] {
        let (mut backend, queue, consumer) = shard_with_consumer(100);
        let publish = publish_request(queue, Acks::Durable, count);
        let (mut accept, mut next) = (Vec::new(), 0);
        let mut rounds = || {
            for _ in 0..ROUNDS {
                let answer = backend.exchange(&publish);
                assert!(answer.len() > 100, "the confirm and a delivery have come");
                let last = next + u64::from(count) - 1;
                accept_request(&mut accept, &queue, consumer, next, last);
                backend.exchange(&accept);
                next = last + 1;
            }
        };
        rounds();
        let allocations = allocations_of(rounds);
        // A publish, a delivery and a settlement are three messages of the protocol.
        let most = u64::from(ROUNDS) * 3 * PER_HUNDRED_MESSAGES_MAX / 100;
        assert!(allocations <= most, "{count} at once: {allocations} allocations");
    }
}
