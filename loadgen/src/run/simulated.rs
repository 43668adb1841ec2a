//! The generator against a simulated server, in virtual time: what it reports must be what theory
//! says. The loop, the producer and the histograms are those of every run.

use client::transport::{Interest, Received, Transport};
use client::{ClientError, Connection};
use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::choices::{BatchSize, Partitioner};
use super::generator::{Generator, Yield};
use super::launch::Share;
use super::routing::Routing;
use super::tally::Window;
use super::target::{Proof, Sink, SinkCounters, Target, connect_options};
use super::template::Shape;
use super::work::{Lost, Producing, Progress, Reach, Replay, Signals, Waiting, Work};
use crate::latency::Latencies;
use crate::schedule::Load;

const SECOND: u64 = 1_000_000_000;
const MILLISECOND: u64 = 1_000_000;

thread_local! {
    static NOW_NS: Cell<u64> = const { Cell::new(0) };
}

fn virtual_ns() -> u64 {
    NOW_NS.get()
}

/// One server that handles requests one after the other.
#[derive(Default)]
struct Server {
    requests: u64,
    free_at_ns: u64,
    /// Service time of request `n`, from 1.
    service_ns: Option<fn(u64) -> u64>,
    /// Answers on their way: when, for whom, and what.
    answers: Vec<(u64, usize, Vec<u8>)>,
}

struct Simulated {
    server: Rc<RefCell<Server>>,
    counters: Arc<SinkCounters>,
}

struct Wire {
    lane: usize,
    sink: Sink,
    server: Rc<RefCell<Server>>,
}

impl Target for Simulated {
    type Transport = Wire;

    fn connect(
        &mut self,
        _: &Work<'_>,
        lane: usize,
        _: u32,
    ) -> Result<Connection<Wire>, ClientError> {
        let sink = Sink::new(&self.counters, Proof::Records);
        let wire = Wire { lane, sink, server: Rc::clone(&self.server) };
        Connection::with_transport(wire, &connect_options())
    }

    fn hang_up(&self, _: &mut Connection<Wire>) {}

    fn rest(&self) {}

    /// Time passes here, and nowhere else.
    fn wait(&mut self, timeout_ns: u64, readable: &mut dyn FnMut(usize)) -> io::Result<()> {
        let server = self.server.borrow();
        let next_ns = server.answers.iter().map(|(at_ns, ..)| *at_ns).min().unwrap_or(u64::MAX);
        let until_ns = virtual_ns() + timeout_ns;
        NOW_NS.set(until_ns.min(next_ns.max(virtual_ns())));
        let arrived = server.answers.iter().filter(|(at_ns, ..)| *at_ns <= virtual_ns());
        arrived.for_each(|(_, lane, _)| readable(*lane));
        Ok(())
    }
}

impl Transport for Wire {
    fn send(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut answer = Vec::new();
        self.sink.take(parts.iter().map(|part| &**part), &mut answer).expect("whole frames");
        let mut server = self.server.borrow_mut();
        let at_ns = match server.service_ns {
            // Hello takes no time.
            None => virtual_ns(),
            Some(service_ns) => {
                server.requests += 1;
                let begins_ns = server.free_at_ns.max(virtual_ns());
                server.free_at_ns = begins_ns + service_ns(server.requests);
                server.free_at_ns
            }
        };
        server.answers.push((at_ns, self.lane, answer));
        Ok(parts.iter().map(|part| part.len()).sum())
    }

    fn receive(&mut self, space: &mut [u8]) -> io::Result<Received> {
        let mut server = self.server.borrow_mut();
        let due =
            |(at_ns, lane, _): &(u64, usize, Vec<u8>)| *lane == self.lane && *at_ns <= virtual_ns();
        let Some(index) = server.answers.iter().position(due) else {
            return Ok(Received::Nothing);
        };
        let (.., answer) = server.answers.remove(index);
        space[..answer.len()].copy_from_slice(&answer);
        Ok(Received::Bytes(answer.len()))
    }

    fn wait(&mut self, _: Interest, _: Instant) -> io::Result<()> {
        Ok(())
    }
}

/// One producer offers `rate` for a hundred seconds, one request in flight.
fn offer(rate: &str, service_ns: fn(u64) -> u64) -> Yield {
    NOW_NS.set(SECOND);
    let routing = Routing::one("simulated", 1);
    let work = Work {
        reach: Reach::Sockets,
        clock: virtual_ns,
        routing: &routing,
        run: 7,
        topic_id: [0; 16],
        partitions: 1,
        producers: 1,
        producing: Producing::Now,
        consumers: 0,
        partitioner: Partitioner::Sticky,
        acks: wire::Acks::Durable,
        timing: client::session::ServerTiming::Omit,
        inflight: 1,
        linger_ns: 0,
        load: Load::Open(rate.parse().expect("a rate")),
        batch: BatchSize::Records(1),
        shape: Shape { value_len: 100, sizes: None, entropy: None, keys: None, seed: 1 },
        records_per_producer_max: None,
        starts: &[0],
        replay: Replay::Once,
        consume_rate: None,
        waiting: Waiting::Park,
        lost: Lost::Stays,
    };
    let (abort, progress) = (AtomicBool::new(false), Progress::default());
    let signals = Signals::new(1, 1, &abort, &progress);
    let server = Rc::new(RefCell::new(Server::default()));
    let target =
        Simulated { server: Rc::clone(&server), counters: Arc::new(SinkCounters::default()) };
    let share = Share { producers: vec![0], consumers: Vec::new() };
    let generator = Generator::connect(&work, &signals, share, target).expect("it answers hello");
    server.borrow_mut().service_ns = Some(service_ns);
    let start_ns = 2 * SECOND;
    let open_ns = start_ns + SECOND;
    let close_ns = open_ns + 100 * SECOND;
    let window = Window { start_ns, open_ns, close_ns, drain_ns: close_ns + 10 * SECOND, steps: 2 };
    generator.run(window).expect("virtual time passes")
}

fn ms(latencies: &Latencies, millionths: u32) -> u64 {
    let ns = latencies.percentile(millionths).expect("enough samples");
    (ns + MILLISECOND / 2) / MILLISECOND
}

#[test]
fn a_stall_shows_in_the_response_of_all_that_it_held_up() {
    // One in 500 takes 200 ms. 100 records queue up behind it; while they are served one each
    // millisecond, one more arrives each two. So about 200 of 500 records wait, the longest
    // 200 ms, each one less than the one before: 1 % of them longer than 195 ms.
    let left = offer("500", |number| match number.is_multiple_of(500) {
        true => 200 * MILLISECOND,
        false => MILLISECOND,
    });
    let tally = &left.tally;
    assert_eq!(tally.response.count(), 50_000, "nothing is left out");
    assert_eq!((ms(&tally.service, 990_000), ms(&tally.service, 999_000)), (1, 200));
    let p99 = ms(&tally.response, 990_000);
    assert!((194..=197).contains(&p99), "{p99} ms");
    assert_eq!(ms(&tally.response, 500_000), 1);
    // All of the delay is the window's: the generator itself is never late. It is the response
    // without the service of 1 ms, and the longest request was not delayed itself.
    let delay = ms(&tally.schedule_delay, 990_000);
    assert!((p99 - 3..p99).contains(&delay), "{delay} ms");
    assert_eq!(tally.client_queue.summary(), tally.schedule_delay.summary());
    assert_eq!(tally.slip.summary().max, Some(0));
    assert_eq!((tally.offered_records, tally.unsent_records), (50_000, 0));
}

#[test]
fn a_queue_with_random_arrivals_is_as_long_as_theory_says() {
    // M/D/1 at half load: the mean wait is load * service / (2 * (1 - load)) = 0.5 ms.
    let left = offer("poisson:500", |_| MILLISECOND);
    let summary = left.tally.response.summary();
    let mean_us = summary.mean.expect("many samples") / 1_000;
    assert!((1_480..=1_520).contains(&mean_us), "{mean_us} us");
    assert_eq!(left.tally.service.summary().max.map(|ns| ns / 1_000), Some(1_000));
    assert_eq!(left.tally.offered_records, summary.count);
}

#[test]
fn a_server_that_is_too_slow_is_not_flattered() {
    // 500/s are offered, 250/s are served: the last record waits for half of the time.
    let left = offer("500", |_| 4 * MILLISECOND);
    let tally = &left.tally;
    assert_eq!(tally.offered_records, 50_000);
    assert!(tally.acked_records.abs_diff(25_000) < 10, "{}", tally.acked_records);
    assert_eq!(ms(&tally.service, 990_000), 4);
    let longest_s = tally.response.summary().max.expect("samples") / SECOND;
    assert!((50..=62).contains(&longest_s), "{longest_s} s");
}
