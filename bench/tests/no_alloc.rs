//! In steady state the shard's data path allocates nothing per message, at every level of acks.

#[path = "../../wire/tests/counting/mod.rs"]
mod counting;

use counting::{allocations_of, live};
use pelton_bench::batch;
use pelton_bench::null_backend::NullBackend;
use pelton_bench::requests::{
    accept_request, fetch_request, produce_request, publish_request, reply_body, request,
    shard_with_consumer, shard_with_topic,
};
use wire::{Acks, Kind, fetch, produce, queue};

/// One connection shows what each turn allocates, several what each message does.
const CONNECTIONS: [u32; 2] = [1, 8];
const ROUNDS: u32 = 1000;
/// Tables that double, and a list per run of thousands of messages, are not per message.
const PER_HUNDRED_MESSAGES_MAX: u64 = 5;

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
    let request = produce_request(topic, Acks::Durable, &batch(2000, 100));
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

fn create_queues(backend: &mut NullBackend, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let name = format!("queue-{number}");
        let request = request(Kind::QueueCreate, 0, |out| {
            queue::encode_create(out, &queue::Settings::new(), &name, "");
        });
        reply_body(backend.exchange(&request));
    }
}

/// Ten thousand queues that nobody uses: what each costs in memory, and that none has a timer.
#[test]
fn an_idle_queue_costs_less_than_a_kibibyte_and_no_time() {
    const QUEUES: u32 = 10_000;
    let (mut backend, _) = shard_with_topic(1);
    create_queues(&mut backend, 0..100);
    let before = live();
    create_queues(&mut backend, 100..100 + QUEUES);
    let each = (live() - before) / i64::from(QUEUES);
    assert!((200..=1024).contains(&each), "{each} bytes each");
    let deadlines = backend.shard.deadlines();
    assert!(deadlines.iter().all(|(what, _)| *what != "queues"), "{deadlines:?}");
}
