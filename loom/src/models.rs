//! Shards that send to each other and sleep, in every order that the processor may choose.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use engine::pool::{Arena, FillBuf, Slice};
use engine::port::{ConnId, Done, LinkEnd};
use loom::sync::{Condvar, Mutex};
use loom::thread;

use crate::mesh::{Link, LinkNumbers, Mesh, MeshEnd, Rest};

/// The number of every end's first link.
const FIRST: u32 = 0;
/// Bytes of an arena: one to send from, one to receive into for each other shard.
const ARENA_BYTES: usize = 4;
/// Times that threads are interrupted where they need not be: nearly all known bugs of this kind
/// need two at most.
const PREEMPTIONS_MAX: usize = 3;

/// All models, by name.
pub const ALL: [(&str, fn()); 4] = [
    ("a byte, and another through the same slot", || explore(one_way)),
    ("a call", || explore(call)),
    ("both ways at once", || explore(both_ways)),
    ("two tell a third", || explore(two_tellers)),
];

fn explore(model: fn()) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    builder.max_branches = 10_000;
    builder.check(model);
}

/// What wakes a shard: it stays rung until somebody has woken, as a completion does.
#[derive(Default)]
struct Bell {
    is_rung: Mutex<bool>,
    rings: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.is_rung.lock().expect("no holder panics") = true;
        self.rings.notify_one();
    }

    fn wait(&self) {
        let mut is_rung = self.is_rung.lock().expect("no holder panics");
        while !*is_rung {
            is_rung = self.rings.wait(is_rung).expect("no holder panics");
        }
        *is_rung = false;
    }
}

/// A shard as far as the mesh sees it.
struct Node {
    end: MeshEnd,
    arena: Arc<Arena>,
    bells: Arc<Vec<Bell>>,
    dones: Vec<Done>,
}

fn nodes(count: usize) -> Vec<Node> {
    let arenas: Vec<Arc<Arena>> = (0..count).map(|_| Arc::new(Arena::new(ARENA_BYTES))).collect();
    let bells: Arc<Vec<Bell>> = Arc::new((0..count).map(|_| Bell::default()).collect());
    let node = |(mut end, arena): (MeshEnd, Arc<Arena>)| {
        // The bell at the door is a descriptor that nobody uses here.
        let nothing = std::fs::File::open("/dev/null").expect("every machine has it");
        end.open(FIRST, OwnedFd::from(nothing));
        let mut node = Node { end, arena, bells: Arc::clone(&bells), dones: Vec::new() };
        node.end.poll(&mut node.dones);
        node.dones.clear();
        node
    };
    Mesh::weave(arenas.clone()).into_iter().zip(arenas).map(node).collect()
}

impl Node {
    fn conn(&self, peer: u16, end: LinkEnd) -> ConnId {
        LinkNumbers::new(FIRST, self.end.shard(), self.end.shards()).conn(Link { peer, end })
    }

    /// Asks a shard with one byte.
    fn ask(&mut self, peer: u16, byte: u8) {
        self.arena.set(0, byte);
        let conn = self.conn(peer, LinkEnd::Asking);
        self.end.send(conn, &[Slice { offset: 0, len: 1 }]);
    }

    /// Waits for a shard's byte, which comes to a place of its own.
    fn listen(&mut self, peer: u16) {
        let conn = self.conn(peer, LinkEnd::Answering);
        let place = Slice { offset: 1 + u64::from(peer), len: 1 };
        self.end.receive(conn, FillBuf(place), 0, 1);
    }

    fn ring(&mut self) {
        let bells = &self.bells;
        self.end.ring_sleepers(|peer, _| bells[usize::from(peer)].ring());
    }

    /// Comes back with something that happened, or a call: as a backend's `wait` does.
    fn wait(&mut self) -> Option<Done> {
        loop {
            let is_called = self.end.poll(&mut self.dones);
            self.ring();
            if let Some(done) = self.dones.pop() {
                return Some(done);
            }
            if is_called {
                return None;
            }
            if self.end.lie_down() == Rest::Asleep {
                self.bells[usize::from(self.end.shard())].wait();
            }
            self.end.get_up();
        }
    }

    fn wait_sent(&mut self) {
        let done = self.wait();
        assert!(matches!(done, Some(Done::Sent { result: Ok(1), .. })), "{done:?}");
    }

    /// The byte that comes next.
    fn wait_byte(&mut self) -> u8 {
        match self.wait() {
            Some(Done::Filled { buf, result: Ok(1), .. }) => {
                let byte = self.arena.get(buf.slice().offset as usize);
                // That it was taken is known to the other side before this one ends.
                self.ring();
                byte
            }
            other => panic!("{other:?}"),
        }
    }
}

fn one_way() {
    let mut nodes = nodes(2).into_iter();
    let (mut one, mut two) = (nodes.next().expect("two"), nodes.next().expect("two"));
    let teller = thread::spawn(move || {
        for byte in [7, 8] {
            one.ask(1, byte);
            one.wait_sent();
        }
    });
    for byte in [7, 8] {
        two.listen(0);
        assert_eq!(two.wait_byte(), byte);
    }
    teller.join().expect("it ended well");
}

fn call() {
    let mut nodes = nodes(2).into_iter();
    let (mut one, mut two) = (nodes.next().expect("two"), nodes.next().expect("two"));
    let arena = Arc::clone(&one.arena);
    let caller = thread::spawn(move || {
        one.arena.set(0, 7);
        one.end.call_all();
        one.ring();
    });
    assert!(two.wait().is_none(), "only a call wakes it");
    assert_eq!(arena.get(0), 7, "what was done before a call is seen after it");
    caller.join().expect("it ended well");
}

fn both_ways() {
    let run = |mut node: Node, peer: u16| {
        node.listen(peer);
        node.ask(peer, 7);
        let (mut is_sent, mut is_filled) = (false, false);
        while !(is_sent && is_filled) {
            match node.wait() {
                Some(Done::Sent { .. }) => is_sent = true,
                Some(Done::Filled { buf, .. }) => {
                    assert_eq!(node.arena.get(buf.slice().offset as usize), 7);
                    is_filled = true;
                }
                other => panic!("{other:?}"),
            }
        }
        node.ring();
    };
    let mut nodes = nodes(2).into_iter();
    let (one, two) = (nodes.next().expect("two"), nodes.next().expect("two"));
    let other = thread::spawn(move || run(one, 1));
    run(two, 0);
    other.join().expect("it ended well");
}

fn two_tellers() {
    let mut nodes = nodes(3).into_iter();
    let mut listener = nodes.next().expect("three");
    let tellers: Vec<_> = nodes
        .map(|mut node| {
            thread::spawn(move || {
                node.ask(0, 7);
                node.ring();
            })
        })
        .collect();
    listener.listen(1);
    listener.listen(2);
    for _ in 0..2 {
        assert_eq!(listener.wait_byte(), 7);
    }
    for teller in tellers {
        teller.join().expect("it ended well");
    }
}
