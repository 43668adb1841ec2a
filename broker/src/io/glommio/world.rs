//! What the backend's tasks share: the shard's memory, the receive buffers, the table of
//! connections, and the list of what has happened.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use engine::pool::{Arena, RecvRegion, Slice};
use engine::port::{ConnId, Done, RecvBuf};

use super::IO_MEMORY_BYTES;
use super::conns::{Conn, Conns};

/// Bytes that one call to a socket moves at most.
pub const SCRATCH_BYTES: usize = 256 * 1024;

/// State of one executor's tasks. Everything is behind a cell because tasks take turns on one
/// thread; no borrow lives across an await.
#[derive(Debug)]
pub struct World {
    arena: Arc<Arena>,
    region: RecvRegion,
    free: RefCell<Vec<RecvBuf>>,
    dones: RefCell<Vec<Done>>,
    /// Who waits for dones.
    waiter: RefCell<Option<Waker>>,
    /// Where bytes stand between a socket and the arena. glommio's sockets use a buffer during a
    /// call only, so one is enough for all of them.
    scratch: RefCell<Box<[u8]>>,
    conns: RefCell<Conns>,
    copied: Cell<u64>,
    /// Operations on files that have not ended, and bytes of their buffers.
    open: Cell<usize>,
    open_bytes: Cell<usize>,
}

impl World {
    /// A world with all receive buffers free and no connection.
    pub fn new(arena: Arc<Arena>, region: RecvRegion, connections_max: usize) -> World {
        World {
            arena,
            region,
            free: RefCell::new((0..region.count).rev().map(RecvBuf).collect()),
            dones: RefCell::new(Vec::new()),
            waiter: RefCell::new(None),
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice()),
            conns: RefCell::new(Conns::new(connections_max)),
            copied: Cell::new(0),
            open: Cell::new(0),
            open_bytes: Cell::new(0),
        }
    }

    /// The shard's memory.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// The provided receive buffers' place.
    pub const fn region(&self) -> RecvRegion {
        self.region
    }

    /// The connections.
    pub const fn conns(&self) -> &RefCell<Conns> {
        &self.conns
    }

    /// The open connection with this number.
    pub fn conn(&self, number: ConnId) -> Rc<Conn> {
        self.conns.borrow().get(number)
    }

    /// Bytes between a socket and the arena.
    pub const fn scratch(&self) -> &RefCell<Box<[u8]>> {
        &self.scratch
    }

    /// A free receive buffer.
    pub fn take_buffer(&self) -> Option<RecvBuf> {
        self.free.borrow_mut().pop()
    }

    /// Takes a receive buffer back.
    pub fn give_buffer(&self, buf: RecvBuf) {
        assert!(buf.0 < self.region.count, "a receive buffer's number");
        self.free.borrow_mut().push(buf);
    }

    /// Counts bytes that were copied between the arena and a buffer of glommio's or ours.
    pub fn count_copied(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).expect("usize fits u64");
        self.copied.set(self.copied.get() + bytes);
    }

    /// Bytes copied so far.
    pub const fn copied(&self) -> u64 {
        self.copied.get()
    }

    /// Copies `slice`, which an open op names, to `into`, which is as long.
    pub fn copy_out(&self, slice: Slice, into: &mut [u8]) {
        self.arena.copy_out(slice, into);
        self.count_copied(into.len());
    }

    /// Whether an operation with a buffer of this many bytes may begin.
    pub const fn has_room(&self, bytes: usize) -> bool {
        let open = self.open_bytes.get();
        open == 0 || open + bytes <= IO_MEMORY_BYTES
    }

    /// An operation on a file begins; its buffer has this many bytes.
    pub fn begin(&self, bytes: usize) {
        self.open.set(self.open.get() + 1);
        self.open_bytes.set(self.open_bytes.get() + bytes);
    }

    /// An operation on a file has ended: says so.
    pub fn end(&self, bytes: usize, done: Done) {
        self.open.set(self.open.get() - 1);
        self.open_bytes.set(self.open_bytes.get() - bytes);
        self.tell(done);
    }

    /// Whether no operation on a file and no connection is open.
    pub fn is_quiet(&self) -> bool {
        self.open.get() == 0 && self.conns.borrow().is_empty()
    }

    /// Something happened.
    pub fn tell(&self, done: Done) {
        self.dones.borrow_mut().push(done);
        let waiter = self.waiter.take();
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    /// Whether something happened that was not taken.
    pub fn has_news(&self) -> bool {
        !self.dones.borrow().is_empty()
    }

    /// Wakes this task at the next done.
    pub fn wake_me(&self, cx: &Context<'_>) {
        self.waiter.replace(Some(cx.waker().clone()));
    }

    /// Takes what happened.
    pub fn drain(&self, dones: &mut Vec<Done>) {
        self.waiter.replace(None);
        dones.append(&mut self.dones.borrow_mut());
    }
}
