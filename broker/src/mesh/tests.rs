//! The mesh without a backend: eventfds are the bells.

use std::os::fd::OwnedFd;
use std::thread;

use engine::pool::{BufId, FillBuf, Pool, RecvRegion};
use engine::port::{ConnId, Done, Fault, LinkEnd, SEND_SLICES_MAX};
use rustix::event::EventfdFlags;

use super::*;

/// The number of every end's first link.
const FIRST: u32 = 10;

/// A shard as far as the mesh sees it.
struct Node {
    end: MeshEnd,
    pool: Pool,
    dones: Vec<Done>,
    bell: OwnedFd,
}

fn nodes(count: usize) -> Vec<Node> {
    let region = RecvRegion { count: 1, bytes: 4096 };
    let pools: Vec<Pool> = (0..count).map(|_| Pool::new(region, 1)).collect();
    let ends = Mesh::weave(pools.iter().map(Pool::shared_arena).collect());
    let node = |(mut end, pool): (MeshEnd, Pool)| {
        let bell = rustix::event::eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd");
        end.open(FIRST, bell.try_clone().expect("a descriptor"));
        Node { end, pool, dones: Vec::new(), bell }
    };
    ends.into_iter().zip(pools).map(node).collect()
}

impl Node {
    fn conn(&self, peer: u16, end: LinkEnd) -> ConnId {
        LinkNumbers::new(FIRST, self.end.shard(), self.end.shards()).conn(Link { peer, end })
    }

    fn buffer(&mut self, bytes: &[u8]) -> BufId {
        let id = self.pool.alloc(bytes.len()).expect("room");
        self.pool.bytes_mut(id)[..bytes.len()].copy_from_slice(bytes);
        id
    }

    fn fill(&self, id: BufId) -> FillBuf {
        self.pool.fill(id)
    }

    /// What has come, and rings whoever was told something.
    fn look(&mut self) -> Vec<Done> {
        self.end.poll(&mut self.dones);
        self.ring();
        std::mem::take(&mut self.dones)
    }

    fn ring(&mut self) {
        self.end.ring_sleepers(|_, bell| {
            rustix::io::write(bell, &1u64.to_ne_bytes()).expect("an eventfd takes it");
        });
    }

    /// The next done, asleep until somebody rings.
    fn next(&mut self) -> Done {
        loop {
            self.end.poll(&mut self.dones);
            self.ring();
            if !self.dones.is_empty() {
                return self.dones.remove(0);
            }
            if self.end.lie_down() == Rest::Asleep {
                rustix::io::read(&self.bell, &mut [0; 8]).expect("an eventfd gives it");
            }
            self.end.get_up();
        }
    }
}

fn two() -> (Node, Node) {
    let mut nodes = nodes(2).into_iter();
    let (mut one, mut two) = (nodes.next().expect("two"), nodes.next().expect("two"));
    assert_eq!((one.look().len(), two.look().len()), (2, 2));
    (one, two)
}

#[test]
fn every_link_is_told_once() {
    for mut node in nodes(3) {
        let shard = node.end.shard();
        let mut told = Vec::new();
        for done in node.look() {
            match done {
                Done::Linked { conn, shard: peer, end } => {
                    assert_eq!(node.conn(peer, end), conn);
                    told.push((peer, end));
                }
                other => panic!("{other:?}"),
            }
        }
        let peers = (0..3).filter(|&peer| peer != shard);
        let all: Vec<_> = peers.flat_map(|peer| ENDS.map(|end| (peer, end))).collect();
        assert_eq!(told, all);
        assert!(node.look().is_empty());
        assert!(!node.end.has(ConnId(FIRST - 1)) && !node.end.has(ConnId(FIRST + 6)));
    }
}

#[test]
fn a_send_ends_when_its_last_byte_is_taken() {
    let (mut one, mut two) = two();
    let (asking, answering) = (one.conn(1, LinkEnd::Asking), two.conn(0, LinkEnd::Answering));
    let from = one.buffer(b"abcdefgh");
    let slices = [one.pool.slice(from, 0, 3), one.pool.slice(from, 3, 0)];
    one.end.send(asking, &[slices[0], slices[1], one.pool.slice(from, 3, 5)]);
    let to = two.buffer(&[0; 64]);
    for (at, len) in [(0, 2), (2, 2), (4, 3)] {
        assert!(one.look().is_empty(), "not all is taken");
        two.end.receive(answering, two.fill(to), at, len);
        match &two.look()[..] {
            [Done::Filled { conn, buf, result }] => {
                assert_eq!((*conn, buf.id(), *result), (answering, to, Ok(len)));
            }
            other => panic!("{other:?}"),
        }
    }
    two.end.receive(answering, two.fill(to), 7, 50);
    assert!(matches!(two.look()[..], [Done::Filled { result: Ok(1), .. }]));
    assert_eq!(&two.pool.bytes(to)[..9], b"abcdefgh\0");
    match one.look()[..] {
        [Done::Sent { conn, result }] => assert_eq!((conn, result), (asking, Ok(8))),
        ref other => panic!("{other:?}"),
    }
    assert_eq!(two.end.counters(), MeshCounters { doorbells: 0, bytes_received: 8 });
}

#[test]
fn links_do_not_mix() {
    let (mut one, mut two) = two();
    for (mine, theirs, word) in [
        (LinkEnd::Asking, LinkEnd::Answering, b"asked"),
        (LinkEnd::Answering, LinkEnd::Asking, b"reply"),
    ] {
        let from = one.buffer(word);
        let slice = one.pool.slice(from, 0, 5);
        one.end.send(one.conn(1, mine), &[slice]);
        let (wrong, right) = (two.buffer(&[0; 5]), two.buffer(&[0; 5]));
        two.end.receive(two.conn(0, mine), two.fill(wrong), 0, 5);
        assert!(two.look().is_empty(), "nothing came on the other link");
        two.end.receive(two.conn(0, theirs), two.fill(right), 0, 5);
        assert!(matches!(two.look()[..], [Done::Filled { result: Ok(5), .. }]));
        assert_eq!(&two.pool.bytes(right)[..5], word);
        two.end.cancel(two.conn(0, mine));
        let cancelled = two.look();
        assert!(matches!(cancelled[..], [Done::Filled { result: Err(Fault::ECANCELED), .. }]));
        assert!(matches!(one.look()[..], [Done::Sent { result: Ok(5), .. }]));
    }
}

#[test]
fn only_sleepers_are_rung_and_once() {
    let mut nodes = nodes(3);
    nodes.iter_mut().for_each(|node| drop(node.look()));
    let sender_rings = |nodes: &mut Vec<Node>, sender: usize| {
        let from = nodes[sender].buffer(b"x");
        let slice = nodes[sender].pool.slice(from, 0, 1);
        let asking = nodes[sender].conn(0, LinkEnd::Asking);
        nodes[sender].end.send(asking, &[slice]);
        let mut rung = Vec::new();
        nodes[sender].end.ring_sleepers(|peer, _| rung.push(peer));
        nodes[sender].end.ring_sleepers(|peer, _| rung.push(peer));
        rung
    };
    assert_eq!(nodes[0].end.lie_down(), Rest::Asleep);
    assert_eq!(sender_rings(&mut nodes, 1), [0]);
    assert_eq!(sender_rings(&mut nodes, 2), [0; 0], "somebody has rung already");
    // Nobody receives, so this is no news; a receive makes it news.
    assert_eq!(nodes[0].end.lie_down(), Rest::Asleep);
    let to = nodes[0].buffer(&[0]);
    let answering = nodes[0].conn(2, LinkEnd::Answering);
    let buf = nodes[0].fill(to);
    nodes[0].end.receive(answering, buf, 0, 1);
    assert_eq!(nodes[0].end.lie_down(), Rest::Awake);
    assert!(matches!(nodes[0].look()[..], [Done::Filled { .. }]));
    assert_eq!(nodes[2].end.lie_down(), Rest::Awake, "its send was taken");
}

#[test]
fn a_call_wakes_everybody() {
    let mut nodes = nodes(3);
    nodes.iter_mut().for_each(|node| drop(node.look()));
    assert_eq!(nodes[1].end.lie_down(), Rest::Asleep);
    nodes[0].end.call_all();
    let mut rung = Vec::new();
    nodes[0].end.ring_sleepers(|peer, _| rung.push(peer));
    assert_eq!(rung, [1]);
    for node in &mut nodes[1..] {
        assert_eq!(node.end.lie_down(), Rest::Awake);
        assert!(node.end.poll(&mut node.dones) && node.dones.is_empty());
        assert!(!node.end.poll(&mut node.dones), "a call is heard once");
    }
}

#[test]
fn two_sleepers_wake_each_other_for_ever() {
    const ROUNDS: u64 = 5_000;
    let (one, two) = two();
    let run = |mut node: Node, peer: u16, end: LinkEnd| {
        let conn = node.conn(peer, end);
        let (from, to) = (node.buffer(&[0; 8]), node.buffer(&[0; 8]));
        let is_first = end == LinkEnd::Asking;
        for round in 0..ROUNDS {
            if is_first || round > 0 {
                node.pool.bytes_mut(from)[..8].copy_from_slice(&round.to_le_bytes());
                let slice = node.pool.slice(from, 0, 8);
                node.end.send(conn, &[slice]);
            }
            node.end.receive(conn, node.pool.fill(to), 0, 8);
            let (mut is_sent, mut is_filled) = (!is_first && round == 0, false);
            while !(is_sent && is_filled) {
                match node.next() {
                    Done::Sent { result: Ok(8), .. } => is_sent = true,
                    Done::Filled { result: Ok(8), .. } => is_filled = true,
                    other => panic!("{other:?}"),
                }
            }
            let got = node.pool.bytes(to)[..8].try_into().expect("eight");
            assert_eq!(u64::from_le_bytes(got), if is_first { round + 1 } else { round });
        }
        if !is_first {
            node.pool.bytes_mut(from)[..8].copy_from_slice(&ROUNDS.to_le_bytes());
            let slice = node.pool.slice(from, 0, 8);
            node.end.send(conn, &[slice]);
            assert!(matches!(node.next(), Done::Sent { result: Ok(8), .. }));
        }
        node.end.counters()
    };
    let other = thread::spawn(move || run(two, 0, LinkEnd::Answering));
    let counters = [run(one, 1, LinkEnd::Asking), other.join().expect("it ended well")];
    for MeshCounters { doorbells, bytes_received } in counters {
        assert_eq!(bytes_received, 8 * ROUNDS);
        assert!(doorbells > 0, "they slept: {counters:?}");
    }
}

/// Sends of all sizes and receives of all others, in both directions at once.
#[test]
fn streams_are_whole_and_in_order() {
    const TOTAL: usize = 3_000_000;
    let run = |mut node: Node, peer: u16, end: LinkEnd, seed: u64| {
        let conn = node.conn(peer, end);
        let mut rng = crate::io::sim::Rng::new(seed);
        let (from, to) = (node.buffer(&[0; 65_536]), node.buffer(&[0; 65_536]));
        let (mut sent, mut got) = (0, 0);
        let (mut is_sending, mut is_receiving) = (false, false);
        while sent < TOTAL || got < TOTAL || is_sending {
            if !is_sending && sent < TOTAL {
                let parts = 1 + rng.index(SEND_SLICES_MAX);
                let mut slices = Vec::new();
                let (mut at, room) = (0, 65_536.min(TOTAL - sent));
                for _ in 0..parts {
                    let len = rng.index(1 + (room - at).min(9_000));
                    slices.push(node.pool.slice(from, at, len));
                    at += len;
                }
                for (index, byte) in node.pool.bytes_mut(from)[..at].iter_mut().enumerate() {
                    *byte = pattern(sent + index);
                }
                if at > 0 {
                    node.end.send(conn, &slices);
                    (is_sending, sent) = (true, sent + at);
                }
            }
            if !is_receiving && got < TOTAL {
                let len = 1 + u32::try_from(rng.index(20_000)).expect("small");
                node.end.receive(conn, node.pool.fill(to), 7, len);
                is_receiving = true;
            }
            if is_sending || is_receiving {
                match node.next() {
                    Done::Sent { .. } => is_sending = false,
                    Done::Filled { result, .. } => {
                        let count = usize::try_from(result.expect("bytes")).expect("small");
                        assert!(count > 0, "a receive brings bytes");
                        for (index, byte) in node.pool.bytes(to)[7..7 + count].iter().enumerate() {
                            assert_eq!(*byte, pattern(got + index), "byte {}", got + index);
                        }
                        (is_receiving, got) = (false, got + count);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        // The last answer must not be lost on one who sleeps.
        node.ring();
    };
    let (one, two) = two();
    let other = thread::spawn(move || run(two, 0, LinkEnd::Answering, 1));
    run(one, 1, LinkEnd::Asking, 2);
    other.join().expect("it ended well");
}

fn pattern(index: usize) -> u8 {
    (index.wrapping_mul(31) ^ (index >> 8)).to_le_bytes()[0]
}
