//! What the contract suite cannot see from outside.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;

use engine::layout::FilePath;
use engine::pool::{Pool, RecvRegion};
use engine::port::{Done, Extent, FileSlot, Op, OpBatch, Open, Sync, Tag};

use super::*;
use crate::directory::DataDir;

fn backend(directory: &Path, pool: &Pool, stop: Option<OwnedFd>) -> Glommio {
    let maintenance = Maintenance::start(DataDir::new(directory.to_owned())).expect("a thread");
    let lock = OwnedFd::from(tempfile::tempfile().expect("a temporary file"));
    let endpoints = Endpoints { listeners: Vec::new(), stop, maintenance, lock };
    let settings = Settings { connections_max: 4, files_max: 4 };
    Glommio::new(pool, settings, endpoints, directory).expect("io_uring is here")
}

fn pool() -> Pool {
    Pool::new(RecvRegion { count: 2, bytes: 4096 }, 1 << 20)
}

/// Does one op and gives its done.
fn done(io: &mut Glommio, op: Op) -> Done {
    let mut batch = OpBatch { ops: vec![op], ..OpBatch::default() };
    io.submit(&mut batch).expect("it works");
    next(io)
}

fn next(io: &mut Glommio) -> Done {
    let mut dones = Vec::new();
    while dones.is_empty() {
        io.wait(Wait { deadline: None, eager: false }, &mut dones).expect("it works");
    }
    assert_eq!(dones.len(), 1);
    dones.remove(0)
}

#[test]
fn a_request_to_stop_is_told_once() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let (readable, mut writable) = UnixStream::pair().expect("a socket");
    let mut io = backend(root.path(), &pool(), Some(readable.into()));
    writable.write_all(&[1, 1]).expect("it is open");
    assert!(matches!(next(&mut io), Done::Stop));
    let mut dones = Vec::new();
    for _ in 0..10 {
        io.wait(Wait { deadline: None, eager: true }, &mut dones).expect("it works");
    }
    assert!(dones.is_empty(), "{dones:?}");
}

#[test]
fn copies_are_counted() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let mut pool = pool();
    let mut io = backend(root.path(), &pool, None);
    let (file, path, open) = (FileSlot(1), FilePath::Superblock, Open::Create);
    let opened = done(&mut io, Op::FileOpen { file, path, open });
    assert!(matches!(opened, Done::FileOpened { result: Ok(0), .. }), "{opened:?}");
    let id = pool.alloc(8192).expect("room");
    let (tag, slice, position) = (Tag(1), pool.slice(id, 0, 8192), 0);
    let (sync, extent) = (Sync::Durable, Extent::Fresh);
    let wrote = done(&mut io, Op::Write { file, tag, slice, position, sync, extent });
    assert!(matches!(wrote, Done::Wrote { result: Ok(8192), .. }), "{wrote:?}");
    let read = done(&mut io, Op::Read { file, tag, buf: pool.fill(id), position, len: 4096 });
    assert!(matches!(read, Done::Read { result: Ok(4096), .. }), "{read:?}");
    let counted = Counters { submissions: 3, bytes_copied: 8192 + 4096, bytes_zeroed: 0 };
    assert_eq!(io.counters(), counted);
}
