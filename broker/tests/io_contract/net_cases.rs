//! Cases about connections.

use engine::port::{ConnId, Done, Fault, Op, RecvEnd};

use crate::rig::{Peer, PeerEnd, Rig, pattern};

/// Receives until `count` bytes are there, arming again as the engine would.
fn receive(rig: &mut Rig, conn: ConnId, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut arms = 0;
    while bytes.len() < count {
        arms += 1;
        assert!(arms < 100_000, "it goes on");
        match rig.received(conn) {
            Ok(more) => bytes.extend(more),
            Err(RecvEnd::Stopped | RecvEnd::NoBuffers) => rig.submit(Op::Recv { conn }),
            Err(end) => panic!("{end:?} after {} of {count} bytes", bytes.len()),
        }
    }
    bytes
}

fn receive_end(rig: &mut Rig, conn: ConnId) -> RecvEnd {
    loop {
        match rig.received(conn) {
            Ok(bytes) => panic!("{} bytes that nobody sent", bytes.len()),
            Err(RecvEnd::Stopped | RecvEnd::NoBuffers) => rig.submit(Op::Recv { conn }),
            Err(end) => return end,
        }
    }
}

pub fn connections_get_numbers_of_their_own(rig: &mut Rig) {
    let conns: Vec<(Peer, ConnId)> = (0..5).map(|_| rig.accepted()).collect();
    let numbers: std::collections::BTreeSet<ConnId> = conns.iter().map(|&(_, conn)| conn).collect();
    assert_eq!(numbers.len(), conns.len());
    for &(_, conn) in &conns {
        rig.submit(Op::Recv { conn });
    }
    for &(peer, conn) in conns.iter().rev() {
        rig.stage.send(peer, &conn.0.to_le_bytes());
        assert_eq!(receive(rig, conn, 4), conn.0.to_le_bytes(), "each hears its own peer");
    }
}

pub fn recv_brings_all_bytes_in_order_and_then_the_end(rig: &mut Rig) {
    let (peer, conn) = rig.accepted();
    rig.submit(Op::Recv { conn });
    let sent = pattern(40_000, 1);
    rig.stage.send(peer, &sent);
    assert_eq!(receive(rig, conn, sent.len()), sent);
    rig.stage.shutdown(peer);
    assert_eq!(receive_end(rig, conn), RecvEnd::Eof);
    rig.assert_nothing_else();
}

pub fn recv_without_buffers_ends_and_can_be_armed_again(rig: &mut Rig) {
    let (peer, conn) = rig.accepted();
    let region = rig.pool.recv_region();
    let sent = pattern(region.total_bytes() * 2, 2);
    rig.stage.send(peer, &sent);
    rig.submit(Op::Recv { conn });
    let (mut kept, mut bytes) = (Vec::new(), Vec::new());
    loop {
        match rig.received_and_kept(conn) {
            Ok((buf, more)) => {
                kept.push(buf);
                bytes.extend(more);
            }
            Err(RecvEnd::NoBuffers) => break,
            Err(RecvEnd::Stopped) => rig.submit(Op::Recv { conn }),
            Err(end) => panic!("{end:?}"),
        }
    }
    assert_eq!(kept.len(), usize::from(region.count), "all of them are out");
    for buf in kept {
        rig.submit(Op::RecvReturn { buf });
    }
    rig.submit(Op::Recv { conn });
    let rest = sent.len() - bytes.len();
    bytes.extend(receive(rig, conn, rest));
    assert_eq!(bytes, sent);
}

pub fn a_cancelled_recv_stops_and_loses_nothing(rig: &mut Rig) {
    let (peer, conn) = rig.accepted();
    rig.submit(Op::Recv { conn });
    rig.submit(Op::RecvCancel { conn });
    assert_eq!(rig.received(conn), Err(RecvEnd::Stopped));
    let sent = pattern(9000, 3);
    rig.stage.send(peer, &sent);
    for _ in 0..20 {
        rig.turn();
    }
    rig.submit(Op::Recv { conn });
    assert_eq!(receive(rig, conn, sent.len()), sent);
}

pub fn recv_into_fills_its_place_and_no_other(rig: &mut Rig) {
    let (peer, conn) = rig.accepted();
    let id = rig.buffer(&[7; 8192]);
    let sent = pattern(3000, 4);
    rig.stage.send(peer, &sent);
    let mut at = 100;
    while at < 3100 {
        let count = rig.receive_into(conn, id, at, 3100 - at).expect("bytes are there");
        assert!(count > 0 && at + count <= 3100, "at most as many as asked");
        at += count;
    }
    assert_eq!(rig.pool.bytes(id)[100..3100], sent);
    assert_eq!(rig.pool.bytes(id)[..100], [7; 100]);
    assert_eq!(rig.pool.bytes(id)[3100..8192], [7; 5092]);
    rig.stage.shutdown(peer);
    assert_eq!(rig.receive_into(conn, id, 0, 10), Ok(0), "the end of the stream");
}

pub fn a_cancelled_recv_into_gives_its_buffer_back(rig: &mut Rig) {
    let (peer, conn) = rig.accepted();
    let id = rig.buffer(&[0; 4096]);
    let buf = rig.pool.fill(id);
    rig.submit(Op::RecvInto { conn, buf, at: 0, len: 4096 });
    rig.turn();
    rig.submit(Op::RecvCancel { conn });
    assert_eq!(rig.filled(conn, id), Err(Fault::ECANCELED));
    rig.stage.send(peer, b"later");
    rig.submit(Op::Recv { conn });
    assert_eq!(receive(rig, conn, 5), b"later");
}

pub fn a_vectored_send_arrives_in_order(rig: &mut Rig) {
    let (peer, conn) = rig.accepted();
    let bytes = pattern(30_000, 5);
    let ids = [rig.buffer(&bytes[..10_000]), rig.buffer(&bytes[10_000..])];
    let cuts = [(0, 0, 1), (0, 1, 9_999), (1, 0, 12_000), (1, 12_000, 8_000)];
    let mut sent = 0;
    while sent < bytes.len() {
        // What is left, as the engine sends it after a short send.
        let mut skip = sent;
        let mut slices = Vec::new();
        for (id, at, len) in cuts {
            let cut = skip.min(len);
            skip -= cut;
            if cut < len {
                slices.push(rig.pool.slice(ids[id], at + cut, len - cut));
            }
        }
        rig.submit_send(conn, &slices);
        let count = rig.sent(conn).expect("the peer reads");
        assert!(count > 0, "a send that ends well sends something");
        sent += usize::try_from(count).expect("small");
    }
    assert_eq!(rig.peer_receives(peer, bytes.len()).0, bytes);
}

/// Sends until the peer, which does not read, can take no more: that send stays open.
fn send_until_stuck(rig: &mut Rig, conn: ConnId) -> usize {
    let id = rig.buffer(&pattern(1024 * 1024, 6));
    let mut total = 0;
    loop {
        let slice = rig.pool.slice(id, 0, 1024 * 1024);
        rig.submit_send(conn, &[slice]);
        let mut sent = None;
        for _ in 0..50 {
            rig.turn();
            sent = rig.seen(|done| sent_of(done, conn));
            if sent.is_some() {
                break;
            }
        }
        match sent {
            Some(result) => total += usize::try_from(result.expect("sent")).expect("small"),
            None => return total,
        }
    }
}

pub fn a_send_waits_for_a_peer_that_does_not_read(rig: &mut Rig) {
    let (peer, conn) = rig.accepted();
    let before = send_until_stuck(rig, conn);
    let mut got = rig.peer_receives(peer, 1).0.len();
    let count = loop {
        rig.turn();
        got += rig.peer_receives_at_once(peer);
        if let Some(result) = rig.seen(|done| sent_of(done, conn)) {
            break result.expect("there was room");
        }
    };
    let total = before + usize::try_from(count).expect("small");
    assert!(before < total, "a send that ends well sends something");
    while got < total {
        got += rig.peer_receives(peer, 1).0.len();
    }
    assert_eq!(got, total);
}

fn sent_of(done: &Done, conn: ConnId) -> Option<Result<u32, Fault>> {
    match done {
        Done::Sent { conn: of, result } if *of == conn => Some(*result),
        _ => None,
    }
}

pub fn close_ends_what_is_open_and_comes_last(rig: &mut Rig) {
    let (peer, conn) = rig.accepted();
    rig.submit(Op::Recv { conn });
    send_until_stuck(rig, conn);
    rig.submit(Op::Close { conn });
    let order = rig.until_closed(conn);
    assert_eq!(order.iter().filter(|name| **name == "sent").count(), 1, "{order:?}");
    assert_eq!(order.iter().filter(|name| **name == "ended").count(), 1, "{order:?}");
    assert_eq!(order.last(), Some(&"closed"), "{order:?}");
    let (_, end) = rig.peer_receives(peer, usize::MAX);
    assert!(end.is_some(), "the peer's stream ends");
    rig.assert_nothing_else();
}

pub fn close_with_an_open_recv_into_gives_the_buffer_back(rig: &mut Rig) {
    let (_, conn) = rig.accepted();
    let id = rig.buffer(&[0; 4096]);
    let buf = rig.pool.fill(id);
    rig.submit(Op::RecvInto { conn, buf, at: 0, len: 4096 });
    rig.turn();
    rig.submit(Op::Close { conn });
    // Cancelled, or told the end that the close itself made.
    assert!(matches!(rig.filled(conn, id), Err(_) | Ok(0)));
    rig.closed(conn);
    rig.assert_nothing_else();
}

pub fn a_number_works_again_after_closed(rig: &mut Rig) {
    for round in 0..10 {
        let (peer, conn) = rig.accepted();
        rig.submit(Op::Recv { conn });
        let sent = pattern(100, round);
        rig.stage.send(peer, &sent);
        assert_eq!(receive(rig, conn, 100), sent);
        rig.stage.shutdown(peer);
        assert_eq!(receive_end(rig, conn), RecvEnd::Eof);
        rig.close(conn);
        assert_eq!(rig.peer_receives(peer, usize::MAX), (Vec::new(), Some(PeerEnd::Eof)));
    }
    rig.assert_nothing_else();
}

pub fn after_the_peers_end_a_send_still_arrives(rig: &mut Rig) {
    let (peer, conn) = rig.accepted();
    rig.submit(Op::Recv { conn });
    rig.stage.shutdown(peer);
    assert_eq!(receive_end(rig, conn), RecvEnd::Eof);
    let id = rig.buffer(b"half-closed");
    let slice = rig.pool.slice(id, 0, 11);
    rig.submit_send(conn, &[slice]);
    let count = rig.sent(conn).expect("the peer still reads");
    let (bytes, _) = rig.peer_receives(peer, usize::try_from(count).expect("small"));
    assert!(b"half-closed".starts_with(&bytes));
}

pub fn a_reset_fails_the_recv(rig: &mut Rig) {
    let (peer, conn) = rig.accepted();
    rig.submit(Op::Recv { conn });
    rig.turn();
    rig.stage.reset(peer);
    assert_eq!(receive_end(rig, conn), RecvEnd::Failed(Fault::ECONNRESET));
    let id = rig.buffer(b"too late");
    let slice = rig.pool.slice(id, 0, 8);
    rig.submit_send(conn, &[slice]);
    assert!(rig.sent(conn).is_err());
    rig.close(conn);
    rig.assert_nothing_else();
}
