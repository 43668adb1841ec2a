//! Cases about links between the shards of one process.

use std::collections::BTreeSet;

use engine::pool::{BufId, Slice};
use engine::port::{ConnId, Done, Fault, LinkEnd, Op, SEND_SLICES_MAX};

use crate::rig::{Rig, pattern};

/// Shards of each case: two that talk, and one that must not notice.
pub const SHARDS: u16 = 3;
/// Rounds after which a case gives up.
const ROUNDS_MAX: usize = 20_000;

/// The shards, and what they were told of their links.
pub struct Shards {
    rigs: Vec<Rig>,
    /// Shard, peer, end, number.
    links: Vec<(u16, u16, LinkEnd, ConnId)>,
}

impl Shards {
    pub fn meet(rigs: Vec<Rig>) -> Shards {
        let mut shards = Shards { rigs, links: Vec::new() };
        for (shard, rig) in (0..).zip(&mut shards.rigs) {
            for _ in 0..2 * (SHARDS - 1) {
                let (conn, peer, end) = rig.until(|done| match done {
                    Done::Linked { conn, shard, end } => Some((*conn, *shard, *end)),
                    _ => None,
                });
                shards.links.push((shard, peer, end, conn));
            }
        }
        shards
    }

    fn conn(&self, shard: u16, peer: u16, end: LinkEnd) -> ConnId {
        let it = self.links.iter().find(|link| (link.0, link.1, link.2) == (shard, peer, end));
        it.expect("it was told").3
    }

    /// Both numbers of the link on which shard 0 asks shard 1.
    fn link(&self) -> (ConnId, ConnId) {
        (self.conn(0, 1, LinkEnd::Asking), self.conn(1, 0, LinkEnd::Answering))
    }

    fn rig(&mut self, shard: u16) -> &mut Rig {
        &mut self.rigs[usize::from(shard)]
    }

    /// The bytes that a shard receives, `count` of them, into a buffer of `room`.
    fn receive(&mut self, shard: u16, conn: ConnId, count: usize, room: u32) -> Vec<u8> {
        let rig = self.rig(shard);
        let id = rig.buffer(&vec![0; usize::try_from(room).expect("small")]);
        let mut bytes = Vec::new();
        while bytes.len() < count {
            let got = rig.receive_into(conn, id, 0, room).expect("bytes are there");
            let got = usize::try_from(got).expect("small");
            assert!(got > 0, "a receive brings bytes");
            bytes.extend_from_slice(&rig.pool.bytes(id)[..got]);
        }
        bytes
    }

    fn assert_nothing_else(&mut self) {
        self.rigs.iter_mut().for_each(Rig::assert_nothing_else);
    }
}

fn sent_of(done: &Done, conn: ConnId) -> Option<usize> {
    match done {
        Done::Sent { conn: of, result } if *of == conn => {
            Some(usize::try_from(result.expect("links do not fail")).expect("small"))
        }
        _ => None,
    }
}

pub fn every_shard_has_two_links_to_every_other(shards: &mut Shards) {
    for shard in 0..SHARDS {
        let of = shards.links.iter().filter(|link| link.0 == shard);
        let told: BTreeSet<_> = of.clone().map(|link| (link.1, link.2)).collect();
        let numbers: BTreeSet<ConnId> = of.map(|link| link.3).collect();
        assert_eq!((told.len(), numbers.len()), (4, 4));
        assert!(!told.iter().any(|(peer, _)| *peer == shard), "none to itself");
        assert!(numbers.iter().all(|conn| conn.0 >= 64), "no connection has these: {numbers:?}");
    }
    shards.assert_nothing_else();
}

/// Sends all of these bytes from shard 0, as short as the backend likes, and gives what arrives.
fn pass(shards: &mut Shards, bytes: &[u8], cuts: usize, room: u32) -> Vec<u8> {
    let (from, to) = shards.link();
    let id = shards.rig(0).buffer(bytes);
    let mut got = Vec::new();
    while got.len() < bytes.len() {
        let slices = cut(shards.rig(0), id, got.len(), bytes.len(), cuts);
        shards.rig(0).submit_send(from, &slices);
        let mut sent = None;
        let into = shards.rig(1).buffer(&vec![0; usize::try_from(room).expect("small")]);
        let begin = got.len();
        let mut is_receiving = false;
        for _ in 0..ROUNDS_MAX {
            let (one, two) = shards.rigs.split_at_mut(1);
            let (one, two) = (&mut one[0], &mut two[0]);
            sent = sent.or_else(|| one.seen(|done| sent_of(done, from)));
            if sent.is_some_and(|sent| got.len() >= begin + sent) {
                break;
            }
            if !is_receiving {
                let buf = two.pool.fill(into);
                two.submit(Op::RecvInto { conn: to, buf, at: 0, len: room });
                is_receiving = true;
            }
            two.turn();
            one.turn();
            if let Some(count) = two.seen(|done| filled_of(done, to)) {
                let count = usize::try_from(count.expect("bytes")).expect("small");
                got.extend_from_slice(&two.pool.bytes(into)[..count]);
                is_receiving = false;
            }
        }
        assert_eq!(sent, Some(got.len() - begin), "what was sent is what arrived");
        if is_receiving {
            shards.rig(1).submit(Op::RecvCancel { conn: to });
            assert_eq!(shards.rig(1).filled(to, into), Err(Fault::ECANCELED));
        }
        shards.rig(1).pool.release(into);
    }
    got
}

fn filled_of(done: &Done, conn: ConnId) -> Option<Result<u32, Fault>> {
    match done {
        Done::Filled { conn: of, result, .. } if *of == conn => Some(*result),
        _ => None,
    }
}

/// The bytes from `begin` to `end` as slices of one buffer.
fn cut(rig: &Rig, id: BufId, begin: usize, end: usize, cuts: usize) -> Vec<Slice> {
    let each = (end - begin).div_ceil(cuts);
    let starts = (begin..end).step_by(each);
    starts.map(|at| rig.pool.slice(id, at, each.min(end - at))).collect()
}

pub fn bytes_arrive_whole_and_in_order(shards: &mut Shards) {
    for (len, cuts, room) in [(1, 1, 10), (50_000, 3, 4096), (50_000, 1, 100_000)] {
        let bytes = pattern(len, 9);
        assert_eq!(pass(shards, &bytes, cuts, room), bytes);
    }
    shards.assert_nothing_else();
}

pub fn a_send_of_sixteen_slices_arrives_in_order(shards: &mut Shards) {
    let bytes = pattern(16_000, 3);
    assert_eq!(pass(shards, &bytes, SEND_SLICES_MAX, 700), bytes);
    // As many again: places are used anew.
    assert_eq!(pass(shards, &bytes, SEND_SLICES_MAX - 1, 20_000), bytes);
    shards.assert_nothing_else();
}

pub fn a_send_ends_only_when_it_was_taken(shards: &mut Shards) {
    let (from, to) = shards.link();
    let id = shards.rig(0).buffer(&pattern(2, 1));
    let slice = shards.rig(0).pool.slice(id, 0, 1);
    for _ in 0..5 {
        shards.rig(0).submit_send(from, &[slice]);
        for _ in 0..20 {
            for rig in &mut shards.rigs {
                rig.turn();
            }
        }
        assert_eq!(shards.rig(0).seen(|done| sent_of(done, from)), None, "nobody took it");
        assert_eq!(shards.receive(1, to, 1, 10), pattern(1, 1));
        assert_eq!(shards.rig(0).sent(from), Ok(1));
    }
    shards.assert_nothing_else();
}

pub fn a_cancelled_receive_gives_its_buffer_back_and_loses_nothing(shards: &mut Shards) {
    let (from, to) = shards.link();
    let into = shards.rig(1).buffer(&[0; 100]);
    for round in 0..5 {
        let buf = shards.rig(1).pool.fill(into);
        shards.rig(1).submit(Op::RecvInto { conn: to, buf, at: 0, len: 100 });
        shards.rig(1).turn();
        shards.rig(1).submit(Op::RecvCancel { conn: to });
        assert_eq!(shards.rig(1).filled(to, into), Err(Fault::ECANCELED));
        // A cancel that comes too late is none.
        shards.rig(1).submit(Op::RecvCancel { conn: to });
        for _ in 0..10 {
            shards.rig(1).turn();
        }
        let id = shards.rig(0).buffer(&[round]);
        let slice = shards.rig(0).pool.slice(id, 0, 1);
        shards.rig(0).submit_send(from, &[slice]);
        assert_eq!(shards.receive(1, to, 1, 100), [round]);
        assert_eq!(shards.rig(0).sent(from), Ok(1));
    }
    shards.assert_nothing_else();
}

pub fn a_receive_fills_its_place_and_no_other(shards: &mut Shards) {
    let (from, to) = shards.link();
    let sent = pattern(1000, 4);
    let (id, into) = (shards.rig(0).buffer(&sent), shards.rig(1).buffer(&[7; 4096]));
    let mut at = 0;
    while at < 1000 {
        let slice = shards.rig(0).pool.slice(id, at, 1000 - at);
        shards.rig(0).submit_send(from, &[slice]);
        let begin = at;
        while shards.rig(0).seen(|done| sent_of(done, from)).is_none() {
            let place = 100 + u32::try_from(at).expect("small");
            let rig = shards.rig(1);
            let buf = rig.pool.fill(into);
            rig.submit(Op::RecvInto { conn: to, buf, at: place, len: 1100 - place });
            for _ in 0..20 {
                shards.rig(1).turn();
                shards.rig(0).turn();
            }
            let rig = shards.rig(1);
            rig.submit(Op::RecvCancel { conn: to });
            at += rig.filled(to, into).map_or(0, |count| usize::try_from(count).expect("small"));
            if at == 1000 {
                assert!(at > begin);
                break;
            }
        }
    }
    let bytes = shards.rig(1).pool.bytes(into);
    assert_eq!(bytes[100..1100], sent);
    assert_eq!((&bytes[..100], &bytes[1100..4096]), (&[7; 100][..], &[7; 2996][..]));
}

/// One direction of one link.
struct Flow {
    sender: (usize, ConnId, BufId),
    receiver: (usize, ConnId, BufId),
    bytes: Vec<u8>,
    got: Vec<u8>,
    sent: usize,
}

pub fn both_directions_of_both_links_work_at_once(shards: &mut Shards) {
    let mut flows = Vec::new();
    for (seed, from, to, end) in
        [(1, 0, 1, LinkEnd::Asking), (2, 0, 1, LinkEnd::Answering), (3, 1, 0, LinkEnd::Asking)]
    {
        let theirs = if end == LinkEnd::Asking { LinkEnd::Answering } else { LinkEnd::Asking };
        let (sender, receiver) = (shards.conn(from, to, end), shards.conn(to, from, theirs));
        let bytes = pattern(20_000, seed);
        let id = shards.rig(from).buffer(&bytes);
        let into = shards.rig(to).buffer(&[0; 3000]);
        flows.push(Flow {
            sender: (usize::from(from), sender, id),
            receiver: (usize::from(to), receiver, into),
            bytes,
            got: Vec::new(),
            sent: 0,
        });
    }
    for flow in &flows {
        send_on(shards, flow);
        receive_on(shards, flow);
    }
    for _ in 0..ROUNDS_MAX {
        shards.rigs.iter_mut().for_each(Rig::turn);
        for flow in &mut flows {
            step(shards, flow);
        }
        if flows.iter().all(|flow| flow.sent == 20_000 && flow.got.len() == 20_000) {
            break;
        }
    }
    for flow in flows {
        assert_eq!(flow.got, flow.bytes);
    }
}

fn send_on(shards: &mut Shards, flow: &Flow) {
    let (shard, conn, id) = flow.sender;
    let slices = cut(&shards.rigs[shard], id, flow.sent, flow.bytes.len(), 4);
    shards.rigs[shard].submit_send(conn, &slices);
}

fn receive_on(shards: &mut Shards, flow: &Flow) {
    let (shard, conn, into) = flow.receiver;
    let buf = shards.rigs[shard].pool.fill(into);
    shards.rigs[shard].submit(Op::RecvInto { conn, buf, at: 0, len: 3000 });
}

fn step(shards: &mut Shards, flow: &mut Flow) {
    let (shard, conn, _) = flow.sender;
    if let Some(sent) = shards.rigs[shard].seen(|done| sent_of(done, conn)) {
        flow.sent += sent;
        if flow.sent < flow.bytes.len() {
            send_on(shards, flow);
        }
    }
    let (shard, conn, into) = flow.receiver;
    if let Some(count) = shards.rigs[shard].seen(|done| filled_of(done, conn)) {
        let count = usize::try_from(count.expect("bytes")).expect("small");
        flow.got.extend_from_slice(&shards.rigs[shard].pool.bytes(into)[..count]);
        if flow.got.len() < flow.bytes.len() {
            receive_on(shards, flow);
        }
    }
}

pub fn a_sleeper_is_woken(shards: &mut Shards) {
    let (from, to) = shards.link();
    let into = shards.rig(1).buffer(&[0; 100]);
    let id = shards.rig(0).buffer(b"x");
    let slice = shards.rig(0).pool.slice(id, 0, 1);
    for _ in 0..5 {
        let buf = shards.rig(1).pool.fill(into);
        shards.rig(1).submit(Op::RecvInto { conn: to, buf, at: 0, len: 100 });
        for _ in 0..5 {
            shards.rig(1).turn();
        }
        shards.rig(0).submit_send(from, &[slice]);
        shards.rig(0).turn();
        assert_eq!(shards.rig(1).filled(to, into), Ok(1));
        assert_eq!(shards.rig(0).sent(from), Ok(1));
    }
    shards.assert_nothing_else();
}

pub fn a_connection_and_a_link_do_not_mix(shards: &mut Shards) {
    let (from, to) = shards.link();
    let (peer, conn) = shards.rig(1).accepted();
    shards.rig(1).stage.send(peer, b"from outside");
    let id = shards.rig(0).buffer(b"from within");
    let slice = shards.rig(0).pool.slice(id, 0, 1);
    shards.rig(0).submit_send(from, &[slice]);
    assert_eq!(shards.receive(1, conn, 12, 12), b"from outside");
    assert_eq!(shards.receive(1, to, 1, 12), b"f");
    assert_eq!(shards.rig(0).sent(from), Ok(1));
    shards.rig(1).close(conn);
    shards.assert_nothing_else();
}
