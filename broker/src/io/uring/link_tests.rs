//! Two real rings that wake each other.

use std::thread;

use engine::pool::{BufId, RecvRegion};
use engine::port::{ConnId, LinkEnd, Op};

use super::*;
use crate::directory::DataDir;
use crate::mesh::Mesh;

const SMALL: Settings = Settings {
    submissions: 4,
    completions: 8,
    connections_max: 2,
    files_max: 2,
    ways: Ways::USUAL,
};

struct Shard {
    uring: Uring,
    pool: Pool,
    batch: OpBatch,
    dones: Vec<Done>,
    conn: ConnId,
    from: BufId,
    to: BufId,
    _root: tempfile::TempDir,
}

impl Shard {
    /// On the thread that will use it.
    fn new(mut pool: Pool, end: MeshEnd, which: LinkEnd) -> Shard {
        let root = tempfile::tempdir().expect("a temporary directory");
        let maintenance = Maintenance::start(DataDir::new(root.path().to_owned())).expect("starts");
        let lock = OwnedFd::from(tempfile::tempfile().expect("a temporary file"));
        let endpoints = Endpoints { listeners: Vec::new(), stop: None, maintenance, lock };
        let mut uring = Uring::new(&pool, SMALL, endpoints).expect("a ring");
        uring.join(end).expect("a descriptor is free");
        let mut dones = Vec::new();
        uring.wait(Wait { deadline: None, eager: true }, &mut dones).expect("the ring works");
        let conn = dones.drain(..).find_map(|done| match done {
            Done::Linked { conn, end, .. } if end == which => Some(conn),
            _ => None,
        });
        let (from, to) = (pool.alloc(8).expect("room"), pool.alloc(8).expect("room"));
        let (conn, batch) = (conn.expect("it is told at once"), OpBatch::default());
        Shard { uring, pool, batch, dones, conn, from, to, _root: root }
    }

    fn send(&mut self, value: u64) {
        self.pool.bytes_mut(self.from)[..8].copy_from_slice(&value.to_le_bytes());
        self.batch.slices.push(self.pool.slice(self.from, 0, 8));
        self.batch.ops.push(Op::Send { conn: self.conn, first: 0, count: 1 });
    }

    fn receive(&mut self) {
        let buf = self.pool.fill(self.to);
        self.batch.ops.push(Op::RecvInto { conn: self.conn, buf, at: 0, len: 8 });
    }

    /// Parks without a deadline until so many dones have come. Gives the value that came.
    fn park(&mut self, count: usize) -> Option<u64> {
        self.uring.submit(&mut self.batch).expect("the ring works");
        while self.dones.len() < count {
            let until = Wait { deadline: None, eager: false };
            self.uring.wait(until, &mut self.dones).expect("the ring works");
        }
        let is_filled = |done: Done| match done {
            Done::Filled { result: Ok(8), .. } => true,
            Done::Sent { result: Ok(8), .. } => false,
            other => panic!("{other:?}"),
        };
        let filled = self.dones.drain(..).map(is_filled).filter(|filled| *filled).count();
        let bytes = self.pool.bytes(self.to)[..8].try_into().expect("eight");
        (filled > 0).then(|| u64::from_le_bytes(bytes))
    }
}

fn two() -> [(Pool, MeshEnd); 2] {
    let pools = [(); 2].map(|()| Pool::new(RecvRegion { count: 1, bytes: 4096 }, 1));
    let ends = Mesh::weave(pools.iter().map(Pool::shared_arena).collect());
    let mut both = pools.into_iter().zip(ends);
    [(); 2].map(|()| both.next().expect("two"))
}

/// No deadline, no spinning: each round needs the wake-ups of both, or this never ends.
#[test]
fn parked_rings_wake_each_other_thousands_of_times() {
    const ROUNDS: u64 = 4_000;
    let [(pool, end), (other_pool, other_end)] = two();
    let other = thread::spawn(move || {
        let mut shard = Shard::new(other_pool, other_end, LinkEnd::Answering);
        for round in 0..ROUNDS {
            shard.receive();
            // The last reply was taken before the next request came.
            let dones = if round == 0 { 1 } else { 2 };
            assert_eq!(shard.park(dones), Some(round));
            shard.send(round + 1);
        }
        assert_eq!(shard.park(1), None, "the last reply was taken");
        shard.uring.counters()
    });
    let mut shard = Shard::new(pool, end, LinkEnd::Asking);
    for round in 0..ROUNDS {
        shard.send(round);
        shard.receive();
        assert_eq!(shard.park(2), Some(round + 1));
    }
    // What was taken last must be told, too: the other one waits for it.
    shard.uring.submit(&mut shard.batch).expect("the ring works");
    shard.uring.wait(Wait { deadline: None, eager: true }, &mut shard.dones).expect("it works");
    let counters = [shard.uring.counters(), other.join().expect("it ended well")];
    for counters in counters {
        assert_eq!(counters.mesh.bytes_received, 8 * ROUNDS);
        // One ring for a request or a reply, and one if it was asleep again when told "taken".
        assert!((1..=2 * ROUNDS).contains(&counters.mesh.doorbells), "{counters:?}");
    }
}

#[test]
fn a_spinning_shard_is_not_rung() {
    const ROUNDS: u64 = 200;
    let [(pool, end), (other_pool, other_end)] = two();
    let mut one = Shard::new(pool, end, LinkEnd::Asking);
    let mut two = Shard::new(other_pool, other_end, LinkEnd::Answering);
    let until = Wait { deadline: None, eager: true };
    let mut enters = (0, 0);
    for round in 0..=ROUNDS {
        one.send(round);
        two.receive();
        one.turn(until);
        two.turn(until);
        one.turn(until);
        assert!(matches!(one.dones.pop(), Some(Done::Sent { result: Ok(8), .. })));
        assert!(matches!(two.dones.pop(), Some(Done::Filled { result: Ok(8), .. })));
        if round == 0 {
            enters = (one.uring.counters().enters, two.uring.counters().enters);
        }
    }
    let (one, two) = (one.uring.counters(), two.uring.counters());
    assert_eq!((one.mesh.doorbells, two.mesh.doorbells), (0, 0));
    assert_eq!((one.enters, two.enters), enters, "the kernel has no part in it");
}

#[test]
fn a_call_ends_a_wait_with_nothing() {
    let [(pool, end), (other_pool, other_end)] = two();
    let (asleep, is_ready) = std::sync::mpsc::channel();
    let other = thread::spawn(move || {
        let mut shard = Shard::new(other_pool, other_end, LinkEnd::Answering);
        asleep.send(()).expect("somebody listens");
        shard.park_until_called();
    });
    let mut shard = Shard::new(pool, end, LinkEnd::Asking);
    is_ready.recv().expect("it starts");
    shard.uring.call_peers().expect("the ring works");
    other.join().expect("it came back");
}

impl Shard {
    fn turn(&mut self, until: Wait) {
        self.uring.submit(&mut self.batch).expect("the ring works");
        self.uring.wait(until, &mut self.dones).expect("the ring works");
    }

    fn park_until_called(&mut self) {
        let until = Wait { deadline: None, eager: false };
        self.uring.wait(until, &mut self.dones).expect("the ring works");
        assert!(self.dones.is_empty(), "{:?}", self.dones);
    }
}
