//! Cases about sends out of files.

use engine::frame::BLOCK_BYTES;
use engine::layout::FilePath;
use engine::port::{ConnId, Extent, Fault, FileRange, FileSlot, Fill, Op, Open, Sync, Tag};

use crate::rig::{Peer, Rig, pattern};

const FILE: FileSlot = FileSlot(3);
const OTHER: FileSlot = FileSlot(0);
const PATH: FilePath = FilePath::Segment { topic: [9; 16], partition: 1, sequence: 1 };
/// Sent again and again, it is more than sockets hold.
const LARGE_BYTES: u64 = 2 << 20;

/// A file with this content, opened to be sent.
fn opened(rig: &mut Rig, content: &[u8]) {
    assert_eq!(rig.open(OTHER, PATH, Open::Create), Ok(0));
    let id = rig.buffer(content);
    let slice = rig.pool.slice(id, 0, content.len());
    let (file, tag, position) = (OTHER, Tag(1), 0);
    let (sync, extent) = (Sync::Durable, Extent::Fresh);
    rig.submit(Op::Write { file, tag, slice, position, sync, extent });
    let bytes = u32::try_from(content.len()).expect("small");
    assert_eq!(rig.wrote(Tag(1)), Ok(bytes));
    rig.submit(Op::FileClose { file: OTHER });
    rig.pool.release(id);
    assert_eq!(rig.open(FILE, PATH, Open::Buffered), Ok(u64::from(bytes)));
}

/// A long file of zeros.
fn opened_large(rig: &mut Rig) {
    assert_eq!(rig.open(OTHER, PATH, Open::Create), Ok(0));
    let (file, from, to, fill) = (OTHER, 0, LARGE_BYTES, Fill::Reserve);
    rig.submit(Op::FileExtend { file, from, to, fill });
    assert_eq!(rig.extended(OTHER), Ok(()));
    rig.submit(Op::FileClose { file: OTHER });
    assert_eq!(rig.open(FILE, PATH, Open::Buffered), Ok(LARGE_BYTES));
}

fn large() -> FileRange {
    FileRange { position: 0, len: u32::try_from(LARGE_BYTES).expect("small") }
}

/// Sends the ranges, going on where a send ended early; gives what the peer got.
fn send(rig: &mut Rig, peer: Peer, conn: ConnId, ranges: &[FileRange]) -> Vec<u8> {
    let total: u32 = ranges.iter().map(|range| range.len).sum();
    let mut sent = 0;
    let mut got = Vec::new();
    while sent < total {
        let mut skip = sent;
        let mut left = Vec::new();
        for range in ranges {
            let cut = skip.min(range.len);
            skip -= cut;
            let position = range.position + u64::from(cut);
            left.push(FileRange { position, len: range.len - cut });
        }
        left.retain(|range| range.len > 0);
        rig.submit_send_file(conn, FILE, &left);
        let count = rig.sent(conn).expect("it is whole");
        assert!(count > 0, "a send that ends well sends something");
        sent += count;
        let (bytes, _) = rig.peer_receives(peer, usize::try_from(count).expect("small"));
        got.extend(bytes);
    }
    got
}

pub fn ranges_of_a_file_arrive_in_order(rig: &mut Rig) {
    let content = pattern(16 * BLOCK_BYTES, 5);
    opened(rig, &content);
    let (peer, conn) = rig.accepted();
    let places = [(144, 9_000), (40_000, 1), (12_288, 20_000)];
    let range = |&(position, len): &(u64, u32)| FileRange { position, len };
    let ranges: Vec<FileRange> = places.iter().map(range).collect();
    let wanted =
        [&content[144..9_144], &content[40_000..40_001], &content[12_288..32_288]].concat();
    for _ in 0..2 {
        assert_eq!(send(rig, peer, conn, &ranges), wanted);
    }
    assert_eq!(rig.read(FILE, 4096, BLOCK_BYTES), Ok(content[4096..8192].to_vec()));
    rig.submit(Op::FileClose { file: FILE });
    rig.assert_nothing_else();
}

pub fn memory_and_files_take_turns(rig: &mut Rig) {
    let content = pattern(2 * BLOCK_BYTES, 6);
    opened(rig, &content);
    let (peer, conn) = rig.accepted();
    let id = rig.buffer(b"between");
    for _ in 0..3 {
        let slice = rig.pool.slice(id, 0, 7);
        rig.submit_send(conn, &[slice]);
        let count = rig.sent(conn).expect("there is room");
        let count = usize::try_from(count).expect("small");
        assert_eq!(rig.peer_receives(peer, count).0, b"between"[..count]);
        let ranges = [FileRange { position: 1, len: 8_000 }];
        assert_eq!(send(rig, peer, conn, &ranges), content[1..8_001]);
    }
    rig.assert_nothing_else();
}

/// Sends until the peer's socket is full; the last send is still open. Gives the bytes sent.
fn send_until_stuck(rig: &mut Rig, conn: ConnId) -> usize {
    let mut sent = 0;
    loop {
        rig.submit_send_file(conn, FILE, &[large()]);
        let mut is_done = false;
        for _ in 0..50 {
            rig.turn();
            let count = rig.sent_already(conn);
            if let Some(count) = count {
                sent += usize::try_from(count.expect("there was room")).expect("small");
                is_done = true;
                break;
            }
        }
        if !is_done {
            return sent;
        }
    }
}

pub fn a_file_waits_for_a_peer_that_does_not_read(rig: &mut Rig) {
    opened_large(rig);
    let (peer, conn) = rig.accepted();
    let before = send_until_stuck(rig, conn);
    let mut got = 0;
    let count = loop {
        rig.turn();
        got += rig.peer_receives_at_once(peer);
        if let Some(result) = rig.sent_already(conn) {
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

pub fn a_stuck_peer_does_not_hold_up_another(rig: &mut Rig) {
    opened_large(rig);
    let conns: Vec<_> = (0..4).map(|_| rig.accepted()).collect();
    for &(_, conn) in &conns[..3] {
        send_until_stuck(rig, conn);
    }
    let (peer, conn) = conns[3];
    let ranges = [FileRange { position: 4096, len: 100_000 }];
    assert_eq!(send(rig, peer, conn, &ranges), vec![0; 100_000]);
}

pub fn close_ends_a_send_out_of_a_file(rig: &mut Rig) {
    opened_large(rig);
    for _ in 0..2 {
        let (peer, conn) = rig.accepted();
        rig.submit(Op::Recv { conn });
        send_until_stuck(rig, conn);
        rig.submit(Op::Close { conn });
        let order = rig.until_closed(conn);
        assert_eq!(order.iter().filter(|name| **name == "sent").count(), 1, "{order:?}");
        assert_eq!(order.last(), Some(&"closed"), "{order:?}");
        let (_, end) = rig.peer_receives(peer, usize::MAX);
        assert!(end.is_some(), "the peer's stream ends");
    }
    // At once, while the first send of a connection is still being prepared.
    let (_, conn) = rig.accepted();
    rig.submit_send_file(conn, FILE, &[large()]);
    rig.submit(Op::Close { conn });
    assert_eq!(rig.until_closed(conn), ["sent", "closed"]);
    rig.assert_nothing_else();
}

pub fn a_file_that_ends_too_early_is_told(rig: &mut Rig) {
    let content = pattern(2 * BLOCK_BYTES, 7);
    opened(rig, &content);
    let (peer, conn) = rig.accepted();
    rig.submit_send_file(conn, FILE, &[FileRange { position: 8_192, len: 10 }]);
    assert_eq!(rig.sent(conn), Err(Fault::EIO));
    let mut sent = 0;
    let mut got = Vec::new();
    let fault = loop {
        let ranges = [FileRange { position: 8_000 + u64::from(sent), len: 1_000 - sent }];
        rig.submit_send_file(conn, FILE, &ranges);
        match rig.sent(conn) {
            Ok(count) => {
                sent += count;
                let count = usize::try_from(count).expect("small");
                got.extend(rig.peer_receives(peer, count).0);
            }
            Err(fault) => break fault,
        }
    };
    assert_eq!((fault, got.as_slice()), (Fault::EIO, &content[8_000..]));
    rig.close(conn);
}

pub fn a_number_works_again_after_it_sent_a_file(rig: &mut Rig) {
    let content = pattern(BLOCK_BYTES, 8);
    opened(rig, &content);
    let mut first = None;
    for _ in 0..3 {
        let (peer, conn) = rig.accepted();
        assert_eq!(*first.get_or_insert(conn), conn, "the number is free again");
        let ranges = [FileRange { position: 0, len: 4_000 }];
        assert_eq!(send(rig, peer, conn, &ranges), content[..4_000]);
        rig.close(conn);
    }
    rig.assert_nothing_else();
}
