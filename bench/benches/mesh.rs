//! A word from one shard to another and back: two threads, each on a core of its own, that spin
//! and yield as shards do, over the production mesh. The time of every round trip is kept, and
//! its percentiles are printed behind criterion's means.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use broker::mesh::{Link, LinkNumbers, Mesh, MeshEnd};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use engine::pool::{BufId, Pool, RecvRegion};
use engine::port::{ConnId, Done, LinkEnd};
use hdrhistogram::Histogram;
use pelton_bench::criterion;
use rustix::thread::CpuSet;

/// A request's head; a small produce; a batch.
const SIZES: [usize; 3] = [64, 4096, 65_536];

/// A shard with one link.
struct Shard {
    end: MeshEnd,
    pool: Pool,
    conn: ConnId,
    from: BufId,
    to: BufId,
    bytes: usize,
    dones: Vec<Done>,
    /// What the open receive still waits for, and whether the last send was taken.
    missing: usize,
    is_sent: bool,
}

impl Shard {
    fn new(mut end: MeshEnd, mut pool: Pool, which: LinkEnd, bytes: usize) -> Shard {
        // Nobody sleeps here, so nobody rings.
        let bell = File::open("/dev/null").expect("it is there");
        end.open(0, OwnedFd::from(bell));
        let peer = 1 - end.shard();
        let conn = LinkNumbers::new(0, end.shard(), 2).conn(Link { peer, end: which });
        let (from, to) = (pool.alloc(bytes).expect("room"), pool.alloc(bytes).expect("room"));
        let mut dones = Vec::new();
        end.poll(&mut dones);
        dones.clear();
        Shard { end, pool, conn, from, to, bytes, dones, missing: 0, is_sent: true }
    }

    fn send(&mut self) {
        let slice = self.pool.slice(self.from, 0, self.bytes);
        self.end.send(self.conn, &[slice]);
        self.is_sent = false;
        self.end.ring_sleepers(|_, _| unreachable!("nobody sleeps"));
    }

    fn receive(&mut self) {
        let at = self.bytes - self.missing;
        let number = |size: usize| u32::try_from(size).expect("small");
        let buf = self.pool.fill(self.to);
        self.end.receive(self.conn, buf, number(at), number(self.missing));
    }

    /// Looks once.
    fn turn(&mut self) {
        self.end.poll(&mut self.dones);
        let mut is_short = false;
        for done in self.dones.drain(..) {
            match done {
                Done::Sent { .. } => self.is_sent = true,
                Done::Filled { result, .. } => {
                    let count = result.expect("bytes");
                    self.missing -= usize::try_from(count).expect("small");
                    is_short = self.missing > 0;
                }
                other => unreachable!("{other:?}"),
            }
        }
        if is_short {
            self.receive();
        }
    }

    /// Waits for a whole message, as a shard does: yielding whenever there was nothing.
    fn await_message(&mut self, until: &AtomicBool) {
        self.missing = self.bytes;
        self.receive();
        loop {
            self.turn();
            if (self.missing == 0 && self.is_sent) || until.load(Ordering::Relaxed) {
                return;
            }
            rustix::thread::sched_yield();
        }
    }
}

fn pin(core: usize) {
    let mut cpus = CpuSet::new();
    cpus.set(core);
    // On a machine with one core both share it.
    let _ = rustix::thread::sched_setaffinity(None, &cpus);
}

/// Shard 1 sends back whatever comes, until it is told to stop.
fn pair(bytes: usize, is_over: &Arc<AtomicBool>) -> (Shard, thread::JoinHandle<()>) {
    let region = RecvRegion { count: 1, bytes: 4096 };
    let pools = [Pool::new(region, 1), Pool::new(region, 1)];
    let mut ends = Mesh::weave(pools.iter().map(Pool::shared_arena).collect()).into_iter();
    let mut end = || ends.next().expect("two");
    let [one, two] = pools;
    let shard = Shard::new(end(), one, LinkEnd::Asking, bytes);
    let mut echo = Shard::new(end(), two, LinkEnd::Answering, bytes);
    let is_over = Arc::clone(is_over);
    let thread = thread::spawn(move || {
        pin(1);
        while !is_over.load(Ordering::Relaxed) {
            echo.await_message(&is_over);
            if echo.missing == 0 && echo.is_sent {
                echo.send();
            }
        }
    });
    (shard, thread)
}

fn ping_pong(c: &mut Criterion) {
    pin(0);
    let mut group = c.benchmark_group("mesh");
    for bytes in SIZES {
        let is_over = Arc::new(AtomicBool::new(false));
        let (mut shard, echo) = pair(bytes, &is_over);
        let mut trips = Histogram::<u64>::new(3).expect("three digits");
        group.throughput(Throughput::Bytes(u64::try_from(2 * bytes).expect("small")));
        group.bench_function(BenchmarkId::new("ping_pong", bytes), |b| {
            b.iter_custom(|rounds| {
                let mut total = Duration::ZERO;
                for _ in 0..rounds {
                    let begin = Instant::now();
                    shard.send();
                    shard.await_message(&is_over);
                    let trip = begin.elapsed();
                    total += trip;
                    let ns = u64::try_from(trip.as_nanos()).expect("short");
                    trips.record(ns).expect("it resizes");
                }
                total
            });
        });
        is_over.store(true, Ordering::Relaxed);
        echo.join().expect("the echo ends well");
        let at = |quantile| trips.value_at_quantile(quantile);
        println!(
            "mesh/ping_pong/{bytes}: {} round trips, p50 {} ns, p99 {} ns, p99.9 {} ns",
            trips.len(),
            at(0.5),
            at(0.99),
            at(0.999)
        );
    }
    group.finish();
}

criterion_group! { name = benches; config = criterion(); targets = ping_pong }
criterion_main!(benches);
