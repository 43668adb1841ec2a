//! The production backend: one io_uring per shard, made and used by the shard's thread alone.
//!
//! - One `io_uring_enter` per turn: `submit` stages entries, `wait` hands them over and looks for
//!   completions. An eager look that has nothing to hand over reads a flag in shared memory and
//!   enters only if the kernel says that completion work is pending.
//! - Accepted connections and files have places in the ring's file table: connections in front
//!   (a connection's number is its place), files behind them.
//! - The arena is registered as fixed buffers where the kernel allows it.
//! - What blocks by nature goes to [`maintenance`], which rings a bell on the ring.
#![allow(unsafe_code, reason = "the ring is handed addresses of the arena and of its own tables")]

mod arena;
mod conns;
pub mod maintenance;
mod recv_ring;
mod setup;
mod storage;
mod sys;
#[cfg(test)]
mod tests;
mod token;

use std::io;
use std::marker::PhantomData;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use engine::pool::Pool;
use engine::port::{Done, Fill, Now, Op, OpBatch, Time};
use io_uring::types::{CancelBuilder, Fd};
use io_uring::{IoUring, opcode, squeue};

use self::arena::Memory;
use self::conns::{Completion, Conns};
use self::maintenance::{Finished, Job, Maintenance};
use self::recv_ring::RecvRing;
use self::storage::{Storage, Write};
use self::sys::{Door, Patience};
use self::token::{Kind, Token};
use super::{Io, Wait};
use crate::clock;

pub use self::arena::Registration;
pub use self::setup::{Features, Settings, SetupError};

/// After an accept failed for want of something, the listener is armed again this much later.
const ACCEPT_RETRY_NS: u64 = 100_000_000;
/// How long a dropped ring waits for the kernel to let go of the arena.
const DRAIN_ROUNDS_MAX: u32 = 50;
const DRAIN_ROUND: Duration = Duration::from_millis(100);

/// What a ring is connected to besides its shard's memory.
#[derive(Debug)]
pub struct Endpoints {
    /// Where connections come from; none: there will be none.
    pub listener: Option<TcpListener>,
    /// Readable when the process was asked to stop.
    pub stop: Option<OwnedFd>,
    /// The thread for what blocks.
    pub maintenance: Maintenance,
}

/// What a ring counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Entries into the kernel.
    pub enters: u64,
    /// Operations handed to the kernel.
    pub submissions: u64,
    /// Times the submission queue was too short for a turn.
    pub flushes: u64,
    /// Bytes of zeros written into files.
    pub bytes_zeroed: u64,
}

/// Whether the listener is armed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accepting {
    Armed,
    /// An accept failed: arm it again then, or when a connection is gone.
    After(Time),
    Never,
}

/// The backend. Neither `Send` nor `Sync`: the kernel takes submissions of one thread only.
pub struct Uring {
    ring: IoUring,
    door: Door,
    desk: Desk,
    features: Features,
    counters: Counters,
    /// Entries that are not in the submission queue yet.
    staged: Vec<squeue::Entry>,
    /// Operations whose last completion is still to come.
    open: u64,
    _one_thread: PhantomData<*const ()>,
}

/// Everything that completions change.
#[derive(Debug)]
struct Desk {
    memory: Memory,
    buffers: RecvRing,
    conns: Conns,
    storage: Storage,
    maintenance: Maintenance,
    listener: Option<TcpListener>,
    accepting: Accepting,
    stop: Option<OwnedFd>,
    /// Where the bell's and the stop signal's bytes are read to; boxed for a lasting address.
    bell_value: Box<u64>,
    stop_value: Box<u8>,
    bytes_zeroed: u64,
    /// Maintenance is finished that has not been told yet.
    rung: bool,
}

impl Uring {
    /// A ring for the shard whose memory is `pool`, on the thread that will use it.
    pub fn new(pool: &Pool, settings: Settings, endpoints: Endpoints) -> Result<Uring, SetupError> {
        let (ring, no_sqarray) = setup::build(settings)?;
        setup::register_files(&ring, settings)?;
        let arena = pool.shared_arena();
        let buffers = RecvRing::new(&arena, pool.recv_region());
        // SAFETY: the buffers and the memory (which shares the arena) are fields of the desk,
        // and `Drop` lets go of the ring only after all its operations have completed.
        let memory = unsafe {
            buffers
                .register(&ring.submitter())
                .map_err(|error| setup::failed("the receive buffers", error))?;
            Memory::register(arena, &ring.submitter())
                .map_err(|error| setup::failed("the buffer memory", error))?
        };
        let door = Door::open(setup::descriptor(&ring));
        let features = Features {
            buffers: memory.registration(),
            no_sqarray,
            registered_ring: door.is_registered(),
        };
        let Endpoints { listener, stop, maintenance } = endpoints;
        let size = |count: u32| usize::try_from(count).expect("u32 fits usize");
        let desk = Desk {
            memory,
            buffers,
            conns: Conns::new(size(settings.connections_max)),
            storage: Storage::new(settings.connections_max, size(settings.files_max)),
            maintenance,
            accepting: Accepting::Never,
            listener,
            stop,
            bell_value: Box::new(0),
            stop_value: Box::new(0),
            bytes_zeroed: 0,
            rung: false,
        };
        let counters = Counters::default();
        let (staged, open, _one_thread) = (Vec::new(), 0, PhantomData);
        let mut uring = Uring { ring, door, desk, features, counters, staged, open, _one_thread };
        uring.desk.arm_all(&mut uring.staged);
        Ok(uring)
    }

    /// What it turned out to offer.
    pub const fn features(&self) -> Features {
        self.features
    }

    /// What it counted.
    pub fn counters(&self) -> Counters {
        Counters { bytes_zeroed: self.desk.bytes_zeroed, ..self.counters }
    }

    /// Moves staged entries into the submission queue, flushing it when it is full.
    fn fill(&mut self) -> io::Result<()> {
        let mut taken = 0;
        while taken < self.staged.len() {
            let rest = &self.staged[taken..];
            let mut queue = self.ring.submission();
            let room = (queue.capacity() - queue.len()).min(rest.len());
            // SAFETY: what the entries point to (arena, messages, values of the desk) stays in
            // place until they complete, by the contract of `port` and by `Drop`.
            let pushed = unsafe { queue.push_multiple(&rest[..room]) };
            pushed.expect("there is room");
            drop(queue);
            taken += room;
            self.open += u64::try_from(room).expect("usize fits u64");
            if taken < self.staged.len() {
                self.counters.flushes += 1;
                self.enter(Patience::None)?;
            }
        }
        self.staged.clear();
        Ok(())
    }

    /// Hands the submission queue to the kernel and waits as long as `patience` says.
    fn enter(&mut self, patience: Patience) -> io::Result<()> {
        let to_submit = u32::try_from(self.ring.submission().len()).expect("at most 32 Ki entries");
        self.counters.enters += 1;
        match self.door.enter(to_submit, patience) {
            Ok(submitted) => self.counters.submissions += u64::from(submitted),
            Err(error) => match error.raw_os_error() {
                // Time is up, a signal came, or the kernel wants completions taken first.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
                _ => return Err(error),
            },
        }
        Ok(())
    }

    /// Takes all completions there are.
    fn harvest(&mut self, dones: &mut Vec<Done>) -> io::Result<()> {
        let (submitter, _, queue) = self.ring.split();
        for entry in queue {
            let token = Token::from_user_data(entry.user_data());
            let completion = Completion { token, result: entry.result(), flags: entry.flags() };
            if !completion.more() {
                self.open -= 1;
            }
            self.desk.completed(completion, &mut self.staged, dones);
        }
        if std::mem::take(&mut self.desk.rung) {
            while let Some(finished) = self.desk.maintenance.pop() {
                dones.push(self.desk.finished(&submitter, finished)?);
            }
        }
        Ok(())
    }

    /// Whether an enter could bring anything: entries to submit, completion work to run, or
    /// completions that did not fit.
    fn must_enter(&mut self) -> bool {
        let queue = self.ring.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    fn patience(&self, now: Time, deadline: Option<Time>) -> Patience {
        let retry = match self.desk.accepting {
            Accepting::After(time) => Some(time),
            Accepting::Armed | Accepting::Never => None,
        };
        match (deadline, retry) {
            (None, None) => Patience::Forever,
            (Some(time), None) | (None, Some(time)) => wait_until(now, time),
            (Some(one), Some(other)) => wait_until(now, one.min(other)),
        }
    }
}

fn wait_until(now: Time, until: Time) -> Patience {
    match until.since(now) {
        0 => Patience::None,
        ns => Patience::For(Duration::from_nanos(ns)),
    }
}

impl Io for Uring {
    fn wait(&mut self, until: Wait, dones: &mut Vec<Done>) -> io::Result<Now> {
        let before = dones.len();
        loop {
            self.fill()?;
            let patience = if until.eager || !self.ring.completion().is_empty() {
                Patience::None
            } else {
                self.patience(clock::now().time, until.deadline)
            };
            if patience != Patience::None || self.must_enter() {
                self.enter(patience)?;
                if self.ring.submission().is_empty() {
                    self.desk.conns.submitted();
                }
            }
            self.harvest(dones)?;
            self.desk.buffers.publish();
            let now = clock::now();
            self.desk.retry_accept(now.time, &mut self.staged);
            let is_late = until.deadline.is_some_and(|deadline| deadline <= now.time);
            if until.eager || is_late || dones.len() > before {
                // What the harvest staged (closings, re-arming) is on its way before we block
                // again: the next wait begins with it.
                return Ok(now);
            }
        }
    }

    fn submit(&mut self, batch: &mut OpBatch) -> io::Result<()> {
        let submitter = self.ring.submitter();
        for op in batch.ops.drain(..) {
            self.desk.stage(&submitter, op, &batch.slices, &mut self.staged)?;
        }
        batch.slices.clear();
        self.desk.buffers.publish();
        self.fill()
    }
}

impl Desk {
    fn arm_all(&mut self, staged: &mut Vec<squeue::Entry>) {
        if self.listener.is_some() {
            self.arm_accept(staged);
        }
        self.arm_bell(staged);
        if let Some(stop) = &self.stop {
            let value = &raw mut *self.stop_value;
            let entry = opcode::Read::new(Fd(stop.as_raw_fd()), value, 1).build();
            staged.push(entry.user_data(Token::sole(Kind::Stop).user_data()));
        }
    }

    fn arm_accept(&mut self, staged: &mut Vec<squeue::Entry>) {
        let Some(listener) = &self.listener else { return };
        self.accepting = Accepting::Armed;
        let entry = opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).allocate_file_index(true);
        staged.push(entry.build().user_data(Token::sole(Kind::Accept).user_data()));
    }

    fn arm_bell(&mut self, staged: &mut Vec<squeue::Entry>) {
        let value: *mut u8 = (&raw mut *self.bell_value).cast();
        let entry = opcode::Read::new(Fd(self.maintenance.bell().as_raw_fd()), value, 8).build();
        staged.push(entry.user_data(Token::sole(Kind::Bell).user_data()));
    }

    fn retry_accept(&mut self, now: Time, staged: &mut Vec<squeue::Entry>) {
        if let Accepting::After(time) = self.accepting
            && time <= now
        {
            self.arm_accept(staged);
        }
    }

    fn stage(
        &mut self,
        submitter: &io_uring::Submitter<'_>,
        op: Op,
        slices: &[engine::pool::Slice],
        staged: &mut Vec<squeue::Entry>,
    ) -> io::Result<()> {
        let Desk { memory, conns, storage, .. } = self;
        match op {
            Op::Recv { conn } => staged.push(conns.recv(conn)),
            Op::RecvCancel { conn } => staged.extend(conns.recv_cancel(conn)),
            Op::RecvInto { conn, buf, at, len } => {
                staged.push(conns.recv_into(memory, conn, buf, at, len));
            }
            Op::RecvReturn { buf } => self.buffers.give(&buf),
            Op::Send { conn, first, count } => {
                let first = usize::try_from(first).expect("u32 fits usize");
                let count = usize::try_from(count).expect("u32 fits usize");
                staged.push(conns.send(memory, conn, &slices[first..first + count]));
            }
            Op::Close { conn } => staged.push(conns.close(conn)),
            Op::Write { file, tag, slice, position, sync, extent } => {
                let write = Write { file, tag, slice, position, sync, extent };
                staged.push(storage.write(memory, write));
            }
            Op::Read { file, tag, buf, position, len } => {
                staged.push(storage.read(memory, file, tag, buf, position, len));
            }
            Op::Flush { file, tag } => staged.push(storage.flush(file, tag)),
            Op::FileOpen { file, path, open } => {
                self.maintenance.push(Job::Open { file, path, open });
            }
            Op::FileExtend { file, from, to, fill } => {
                let fd = storage.descriptor(file);
                self.maintenance.push(Job::Extend { file, fd, from, to, fill });
            }
            Op::FileClose { file } => {
                let fd = storage.remove(submitter, file)?;
                self.maintenance.push(Job::Close { fd });
            }
            Op::FilesDelete { tag, paths } => self.maintenance.push(Job::Delete { tag, paths }),
        }
        Ok(())
    }

    fn completed(
        &mut self,
        completion: Completion,
        staged: &mut Vec<squeue::Entry>,
        dones: &mut Vec<Done>,
    ) {
        match completion.token.kind {
            Kind::Recv | Kind::RecvInto | Kind::Send | Kind::Close => {
                let next = self.conns.completed(completion, &mut self.buffers, dones);
                staged.extend(next);
                if completion.token.kind == Kind::Close
                    && matches!(self.accepting, Accepting::After(_))
                {
                    self.arm_accept(staged);
                }
            }
            Kind::Storage => self.storage.completed(completion, dones),
            Kind::Accept => self.accepted(completion, staged, dones),
            Kind::Bell => {
                self.rung = true;
                self.arm_bell(staged);
            }
            Kind::Stop => {
                if completion.result > 0 {
                    dones.push(Done::Stop);
                }
            }
            Kind::Cancel => {}
        }
    }

    fn accepted(
        &mut self,
        completion: Completion,
        staged: &mut Vec<squeue::Entry>,
        dones: &mut Vec<Done>,
    ) {
        let result = completion.count();
        if let Ok(index) = result {
            self.conns.accepted(index, dones);
        }
        if !completion.more() && self.accepting == Accepting::Armed {
            match result {
                Ok(_) => self.arm_accept(staged),
                Err(_) => {
                    let retry = clock::now().time.plus_ns(ACCEPT_RETRY_NS);
                    self.accepting = Accepting::After(retry);
                }
            }
        }
    }

    fn finished(
        &mut self,
        submitter: &io_uring::Submitter<'_>,
        finished: Finished,
    ) -> io::Result<Done> {
        Ok(match finished {
            Finished::Opened { file, result } => {
                let result = match result {
                    Ok(opened) => {
                        self.storage.install(submitter, file, opened.fd)?;
                        Ok(opened.bytes)
                    }
                    Err(fault) => Err(fault),
                };
                Done::FileOpened { file, result }
            }
            Finished::Extended { file, from, to, fill, result } => {
                if fill == Fill::Zero && result.is_ok() {
                    self.bytes_zeroed += to.saturating_sub(from);
                }
                Done::FileExtended { file, to, fill, result }
            }
            Finished::Deleted { tag, result } => Done::FilesDeleted { tag, result },
        })
    }
}

impl Drop for Uring {
    /// Ends all operations and waits until the kernel has let go of the arena.
    fn drop(&mut self) {
        self.desk.accepting = Accepting::Never;
        self.desk.listener = None;
        let mut dropped = Vec::new();
        for _ in 0..DRAIN_ROUNDS_MAX {
            // The bell arms itself again, so this is asked anew in each round.
            self.staged.push(conns::cancel(CancelBuilder::any()));
            let ok = self.fill().and_then(|()| self.enter(Patience::For(DRAIN_ROUND)));
            if ok.is_err() || self.harvest(&mut dropped).is_err() {
                break;
            }
            dropped.clear();
            if self.open == 0 {
                break;
            }
        }
        if self.open > 0 {
            self.desk.memory.leak();
        }
        self.door.close(setup::descriptor(&self.ring));
    }
}
