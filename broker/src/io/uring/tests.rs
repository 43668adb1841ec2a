//! The ring against real files and sockets: what the shared contract suite cannot see.

use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use engine::layout::FilePath;
use engine::pool::{BufId, RecvRegion};
use engine::port::{
    ConnId, Extent, FileSlot, Fill, Op, Open, RecvBuf, RecvEnd, SEND_SLICES_MAX, Sync, Tag,
};

use super::*;
use crate::directory::DataDir;
use crate::lock::Lock;

const TINY: Settings = Settings {
    submissions: 4,
    completions: 8,
    connections_max: 2,
    files_max: 2,
    ways: Ways::USUAL,
};
/// Patience with a slow machine; a test that gets here has failed.
const GIVE_UP_NS: u64 = 10_000_000_000;

struct World {
    uring: Uring,
    pool: Pool,
    batch: OpBatch,
    dones: Vec<Done>,
    address: SocketAddr,
    stop: OwnedFd,
    root: tempfile::TempDir,
}

impl World {
    fn new(settings: Settings) -> World {
        let root = tempfile::tempdir().expect("a temporary directory");
        let pool = Pool::new(RecvRegion { count: 5, bytes: 4096 }, 1);
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let maintenance =
            Maintenance::start(DataDir::new(root.path().to_path_buf())).expect("a thread");
        let (stopped, stop) = rustix::pipe::pipe().expect("a pipe");
        let lock = Lock::take(root.path()).expect("it is new").share().expect("a descriptor");
        let listeners = vec![listener];
        let endpoints = Endpoints { listeners, stop: Some(stopped), maintenance, lock };
        let uring = Uring::new(&pool, settings, endpoints).expect("a ring");
        let (batch, dones) = (OpBatch::default(), Vec::new());
        World { uring, pool, batch, dones, address, stop, root }
    }

    fn push(&mut self, op: Op) {
        self.batch.ops.push(op);
    }

    fn submit(&mut self) {
        self.uring.submit(&mut self.batch).expect("submitted");
        assert!(self.batch.ops.is_empty() && self.batch.slices.is_empty());
    }

    fn next(&mut self) -> Done {
        let give_up = clock::now().time.plus_ns(GIVE_UP_NS);
        let until = Wait { deadline: Some(give_up), eager: false };
        while self.dones.is_empty() {
            let now = self.uring.wait(until, &mut self.dones).expect("the ring works");
            assert!(now.time < give_up, "nothing happened");
        }
        self.dones.remove(0)
    }

    fn run(&mut self, op: Op) -> Done {
        self.push(op);
        self.submit();
        self.next()
    }

    fn connect(&mut self) -> (TcpStream, ConnId) {
        let stream = TcpStream::connect(self.address).expect("connected");
        match self.next() {
            Done::Accepted { conn } => (stream, conn),
            other => panic!("{other:?}"),
        }
    }

    fn send(&mut self, conn: ConnId, buf: BufId, parts: &[(usize, usize)]) {
        let first = u32::try_from(self.batch.slices.len()).unwrap();
        let slices = parts.iter().map(|&(at, len)| self.pool.slice(buf, at, len));
        self.batch.slices.extend(slices);
        let count = u32::try_from(parts.len()).unwrap();
        self.push(Op::Send { conn, first, count });
    }
}

/// What a ring does with files may last longer than its process: until then nobody else may have
/// the directory.
#[test]
fn a_ring_has_the_directorys_lock_until_it_is_at_rest() {
    let mut world = World::new(TINY);
    let (_stream, conn) = world.connect();
    world.push(Op::Recv { conn });
    world.submit();
    let root = world.root.path().to_owned();
    let sentence = Lock::take(&root).expect_err("no value but the ring has it").to_string();
    assert!(sentence.contains("in use by the process"), "{sentence}");
    let World { uring, root: _root, .. } = world;
    drop(uring);
    Lock::take(&root).expect("the ring has ended");
}

#[test]
fn a_connection_lives_and_dies() {
    let mut world = World::new(TINY);
    let (mut stream, conn) = world.connect();
    stream.write_all(b"hello").unwrap();
    match world.run(Op::Recv { conn }) {
        Done::Received { conn: from, buf, len } => {
            assert_eq!((from, world.pool.recv_bytes(&buf, len)), (conn, b"hello".as_slice()));
            world.push(Op::RecvReturn { buf });
        }
        other => panic!("{other:?}"),
    }
    let buf = world.pool.alloc(4096).unwrap();
    for (index, byte) in world.pool.bytes_mut(buf).iter_mut().enumerate() {
        *byte = u8::try_from(index % 251).unwrap();
    }
    let parts: Vec<(usize, usize)> = (0..SEND_SLICES_MAX).rev().map(|at| (at, 1)).collect();
    world.send(conn, buf, &parts);
    world.submit();
    assert!(matches!(world.next(), Done::Sent { result: Ok(16), .. }));
    world.send(conn, buf, &[(100, 3)]);
    world.submit();
    assert!(matches!(world.next(), Done::Sent { result: Ok(3), .. }));
    let mut got = [0; 19];
    stream.read_exact(&mut got).unwrap();
    let expected: Vec<u8> = (0..16).rev().chain(100..103).collect();
    assert_eq!(got.as_slice(), expected);
    drop(stream);
    assert!(matches!(world.next(), Done::RecvEnded { end: RecvEnd::Eof, .. }));
    assert!(matches!(world.run(Op::Close { conn }), Done::Closed { .. }));
    let (_stream, again) = world.connect();
    assert_eq!(world.uring.open, 3, "accept, bell and stop stay armed");
    assert_eq!(again, conn, "the number is used again");
}

#[test]
fn closing_ends_what_is_open_first() {
    let mut world = World::new(TINY);
    let (_one, first) = world.connect();
    let (_two, second) = world.connect();
    let buf = world.pool.alloc(4096).unwrap();
    world.push(Op::Recv { conn: first });
    let fill = world.pool.fill(buf);
    world.push(Op::RecvInto { conn: second, buf: fill, at: 100, len: 1000 });
    world.submit();
    let ended = world.run(Op::RecvCancel { conn: first });
    assert!(matches!(ended, Done::RecvEnded { end: RecvEnd::Stopped, .. }), "{ended:?}");
    world.push(Op::Recv { conn: first });
    world.push(Op::Close { conn: first });
    world.push(Op::Close { conn: second });
    world.submit();
    let mut closed = Vec::new();
    let mut ended = Vec::new();
    while closed.len() < 2 {
        match world.next() {
            Done::RecvEnded { conn, end: RecvEnd::Stopped } => ended.push(conn),
            Done::Filled { conn, result: Err(_), .. } => ended.push(conn),
            Done::Closed { conn } => {
                assert!(ended.contains(&conn), "closed comes last");
                closed.push(conn);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn receive_goes_on_after_the_buffers_ran_out() {
    let mut world = World::new(TINY);
    let (mut stream, conn) = world.connect();
    let sent: Vec<u8> =
        (0..200_000u32).map(|index| index.to_le_bytes()[index as usize % 3]).collect();
    let copy = sent.clone();
    let writer = std::thread::spawn(move || stream.write_all(&copy).map(|()| stream));
    let mut got = Vec::new();
    let mut held: Vec<RecvBuf> = Vec::new();
    let mut ran_out = 0;
    world.push(Op::Recv { conn });
    while got.len() < sent.len() {
        world.submit();
        match world.next() {
            Done::Received { buf, len, .. } => {
                got.extend_from_slice(world.pool.recv_bytes(&buf, len));
                held.push(buf);
            }
            Done::RecvEnded { end: RecvEnd::NoBuffers, .. } => {
                ran_out += 1;
                assert_eq!(held.len(), 5, "all were in use");
                for buf in held.drain(..) {
                    world.push(Op::RecvReturn { buf });
                }
                world.push(Op::Recv { conn });
            }
            Done::RecvEnded { end: RecvEnd::Stopped, .. } => world.push(Op::Recv { conn }),
            other => panic!("{other:?}"),
        }
    }
    assert!(got == sent, "in order and whole");
    assert!(ran_out > 0);
    drop(writer.join().unwrap());
}

#[test]
fn a_full_table_drops_and_recovers() {
    let mut world = World::new(TINY);
    let (_one, first) = world.connect();
    let (_two, _second) = world.connect();
    let mut third = TcpStream::connect(world.address).expect("the kernel's backlog takes it");
    // Look until the kernel has tried to accept it: it is told by closing.
    let until = Wait { deadline: None, eager: true };
    while world.uring.desk.accept_at().is_none() {
        world.uring.wait(until, &mut world.dones).unwrap();
        std::thread::yield_now();
    }
    assert_eq!(third.read(&mut [0]).unwrap(), 0);
    assert!(matches!(world.run(Op::Close { conn: first }), Done::Closed { .. }));
    let (_stream, again) = world.connect();
    assert_eq!(again, first);
}

#[test]
fn files_are_written_read_and_deleted() {
    let mut world = World::new(TINY);
    let (file, tag) = (FileSlot(1), Tag(7));
    let path = FilePath::Spare { number: 1 };
    let missing = world.run(Op::FileOpen { file, path: path.clone(), open: Open::Existing });
    assert!(matches!(missing, Done::FileOpened { result: Err(engine::port::Fault::ENOENT), .. }));
    let opened = world.run(Op::FileOpen { file, path: path.clone(), open: Open::Create });
    assert!(matches!(opened, Done::FileOpened { result: Ok(0), .. }));
    let extended = world.run(Op::FileExtend { file, from: 0, to: 40_960, fill: Fill::Zero });
    assert!(matches!(extended, Done::FileExtended { to: 40_960, result: Ok(()), .. }));
    let data = world.pool.alloc(40_960).unwrap();
    for (block, bytes) in world.pool.bytes_mut(data).chunks_mut(4096).enumerate() {
        bytes.fill(u8::try_from(block).unwrap());
    }
    // More than the submission and the completion queue hold.
    for block in 0..10 {
        let sync = if block % 2 == 0 { Sync::Durable } else { Sync::Written };
        let extent = if block % 3 == 0 { Extent::Fresh } else { Extent::Written };
        let slice = world.pool.slice(data, block * 4096, 4096);
        let (tag, position) = (Tag(block as u64), block as u64 * 4096);
        world.push(Op::Write { file, tag, slice, position, sync, extent });
    }
    world.submit();
    let mut tags: Vec<u64> = (0..10)
        .map(|_| match world.next() {
            Done::Wrote { tag, result: Ok(4096) } => tag.0,
            other => panic!("{other:?}"),
        })
        .collect();
    tags.sort_unstable();
    assert_eq!(tags, (0..10).collect::<Vec<_>>());
    assert!(world.uring.counters().flushes > 0);
    assert!(matches!(world.run(Op::Flush { file, tag }), Done::Flushed { result: Ok(()), .. }));
    let into = world.pool.alloc(16_384).unwrap();
    let buf = world.pool.fill(into);
    let read = world.run(Op::Read { file, tag, buf, position: 32_768, len: 16_384 });
    assert!(matches!(read, Done::Read { result: Ok(8192), .. }), "{read:?}");
    assert_eq!((world.pool.bytes(into)[0], world.pool.bytes(into)[8191]), (8, 9));
    world.push(Op::FileClose { file });
    let deleted = world.run(Op::FilesDelete { tag, paths: vec![path.clone()] });
    assert!(matches!(deleted, Done::FilesDeleted { result: Ok(()), .. }));
    let gone = world.run(Op::FileOpen { file, path, open: Open::Existing });
    assert!(matches!(gone, Done::FileOpened { result: Err(_), .. }));
}

#[test]
fn stop_comes_once() {
    let mut world = World::new(TINY);
    rustix::io::write(&world.stop, b"xx").unwrap();
    assert!(matches!(world.next(), Done::Stop));
    let deadline = clock::now().time.plus_ns(2_000_000);
    let until = Wait { deadline: Some(deadline), eager: false };
    let now = world.uring.wait(until, &mut world.dones).unwrap();
    assert!(now.time >= deadline && world.dones.is_empty());
}

#[test]
fn an_eager_wait_does_not_enter_for_nothing() {
    let mut world = World::new(TINY);
    let until = Wait { deadline: None, eager: true };
    world.uring.wait(until, &mut world.dones).unwrap();
    let enters = world.uring.counters().enters;
    for _ in 0..10 {
        world.uring.wait(until, &mut world.dones).unwrap();
    }
    assert_eq!((world.uring.counters().enters, world.dones.len()), (enters, 0));
}

#[test]
fn a_dropped_ring_lets_go_of_the_arena() {
    let mut world = World::new(TINY);
    let (_stream, conn) = world.connect();
    let buf = world.pool.alloc(4096).unwrap();
    let fill = world.pool.fill(buf);
    world.push(Op::RecvInto { conn, buf: fill, at: 0, len: 4096 });
    world.submit();
    let arena = world.pool.shared_arena();
    let World { uring, pool, .. } = world;
    drop(pool);
    assert_eq!(Arc::strong_count(&arena), 2);
    drop(uring);
    assert_eq!(Arc::strong_count(&arena), 1);
}
