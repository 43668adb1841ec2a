//! The production backend: one io_uring per shard, made and used by the shard's thread alone.
//!
//! - One `io_uring_enter` per turn: `submit` stages entries, `wait` hands them over and looks for
//!   completions. An eager look that has nothing to hand over reads a flag in shared memory and
//!   enters only if the kernel says that completion work is pending.
//! - Accepted connections and files have places in the ring's file table: connections in front
//!   (a connection's number is its place), files behind them.
//! - The arena is registered as fixed buffers where the kernel allows it.
//! - What blocks by nature goes to [`super::maintenance`], which rings a bell on the ring.
#![allow(unsafe_code, reason = "the ring is handed addresses of the arena and of its own tables")]

mod arena;
mod conns;
mod desk;
#[cfg(test)]
mod link_tests;
mod links;
mod listeners;
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
use std::os::fd::OwnedFd;
use std::time::Duration;

use engine::pool::Pool;
use engine::port::{Done, Now, OpBatch, Time};
use io_uring::types::CancelBuilder;
use io_uring::{IoUring, squeue};

use self::arena::Memory;
use self::conns::Completion;
use self::desk::{Desk, Lists};
use self::links::Links;
use self::recv_ring::RecvRing;
use self::sys::{Door, Patience};
use self::token::{Kind, Token};
use super::maintenance::Maintenance;
use super::{Io, Wait};
use crate::clock;
use crate::mesh::{MeshCounters, MeshEnd, Rest};

pub use self::arena::{Registration, gather_pages};
pub use self::setup::{Buffers, Features, Receive, Settings, SetupError, SyncMethod, Ways};

/// How long a dropped ring waits for the kernel to let go of the arena.
const DRAIN_ROUNDS_MAX: u32 = 50;
const DRAIN_ROUND: Duration = Duration::from_millis(100);

/// What a ring is connected to besides its shard's memory.
#[derive(Debug)]
pub struct Endpoints {
    /// Where connections come from; none: there will be none.
    pub listeners: Vec<TcpListener>,
    /// Readable when the process was asked to stop.
    pub stop: Option<OwnedFd>,
    /// The thread for what blocks.
    pub maintenance: Maintenance,
    /// The file of the data directory's lock. The ring has it until everything has ended that the
    /// ring does, even if the process has ended before.
    pub lock: OwnedFd,
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
    /// What passed between this shard and others.
    pub mesh: MeshCounters,
}

/// The backend. Neither `Send` nor `Sync`: the kernel takes submissions of one thread only.
pub struct Uring {
    ring: IoUring,
    door: Door,
    desk: Desk,
    links: Links,
    settings: Settings,
    features: Features,
    counters: Counters,
    /// Entries that are not in the submission queue yet.
    staged: Vec<squeue::Entry>,
    /// What completed while a submission queue that was too short was flushed.
    held: Vec<Done>,
    /// Operations whose last completion is still to come.
    open: u64,
    /// Staged entries that have none.
    silent: u64,
    _one_thread: PhantomData<*const ()>,
}

impl Uring {
    /// Whether there can be a ring at all.
    pub fn probe() -> Result<(), SetupError> {
        setup::build(Settings { submissions: 1, completions: 2, ..Settings::default() }).map(drop)
    }

    /// A ring for the shard whose memory is `pool`, on the thread that will use it.
    pub fn new(pool: &Pool, settings: Settings, endpoints: Endpoints) -> Result<Uring, SetupError> {
        let (ring, no_sqarray) = setup::build(settings)?;
        setup::register_files(&ring, settings, &endpoints.lock)?;
        let arena = pool.shared_arena();
        let buffers = RecvRing::new(&arena, pool.recv_region());
        // SAFETY: the buffers and the memory (which shares the arena) are fields of the desk,
        // and `Drop` lets go of the ring only after all its operations have completed.
        let memory = unsafe {
            buffers
                .register(&ring.submitter())
                .map_err(|error| setup::failed("the receive buffers", error))?;
            Memory::register(arena, &ring.submitter(), settings.ways.buffers)
                .map_err(|error| setup::failed("the buffer memory", error))?
        };
        let door = Door::open(setup::descriptor(&ring));
        let features = Features {
            buffers: memory.registration(),
            no_sqarray,
            registered_ring: door.is_registered(),
        };
        let desk = Desk::new(memory, buffers, settings, endpoints);
        let mut uring = Uring {
            ring,
            door,
            desk,
            links: Links::default(),
            settings,
            features,
            counters: Counters::default(),
            staged: Vec::new(),
            held: Vec::new(),
            open: 0,
            silent: 0,
            _one_thread: PhantomData,
        };
        uring.desk.arm_all(&mut uring.staged);
        Ok(uring)
    }

    /// Connects the shard with the others of its process: the next wait tells its links. Before
    /// the first wait.
    pub fn join(&mut self, end: MeshEnd) -> io::Result<()> {
        let bell = setup::descriptor(&self.ring).try_clone_to_owned()?;
        self.links.join(end, self.settings.connections_max, bell);
        Ok(())
    }

    /// Makes every other shard come back from its wait.
    pub fn call_peers(&mut self) -> io::Result<()> {
        self.links.call_all();
        self.fill()?;
        self.enter(Patience::None)
    }

    /// What it turned out to offer.
    pub const fn features(&self) -> Features {
        self.features
    }

    /// What it counted.
    pub fn counters(&self) -> Counters {
        let (bytes_zeroed, mesh) = (self.desk.bytes_zeroed(), self.links.counters());
        Counters { bytes_zeroed, mesh, ..self.counters }
    }

    /// Moves staged entries into the submission queue, flushing it when it is full; those that
    /// wake other shards come last, so that one stands for all that was told.
    fn fill(&mut self) -> io::Result<()> {
        self.silent += self.links.ring(&mut self.staged);
        let mut taken = 0;
        while taken < self.staged.len() {
            let rest = &self.staged[taken..];
            let mut queue = self.ring.submission();
            let room = (queue.capacity() - queue.len()).min(rest.len());
            // SAFETY: what the entries point to stays in place until they complete. The arena is
            // held by `Memory`, the values for bell and stop signal are boxes of the desk, and
            // `Drop` frees none of these before all operations have ended, or leaks them. The
            // bytes themselves are unchanged until the done, by the contract of `port`. Messages
            // are read when an entry is taken (`SUBMIT_STABLE`, without which there is no ring)
            // and used again only then (`submitted`).
            let pushed = unsafe { queue.push_multiple(&rest[..room]) };
            pushed.expect("there is room");
            drop(queue);
            taken += room;
            self.open += u64::try_from(room).expect("usize fits u64");
            if taken < self.staged.len() {
                self.counters.flushes += 1;
                self.enter(Patience::None)?;
                if self.ring.submission().is_full() {
                    // The kernel takes nothing before its completions are taken.
                    let mut held = std::mem::take(&mut self.held);
                    self.harvest(&mut held)?;
                    self.held = held;
                }
            }
        }
        self.staged.clear();
        self.open -= std::mem::take(&mut self.silent);
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
            match token.kind {
                // It was for the waking only.
                Kind::Rung => continue,
                Kind::Doorbell => {
                    self.silent += self.links.ring_again(completion, &mut self.staged);
                    continue;
                }
                _ => {}
            }
            if !completion.more() {
                self.open -= 1;
            }
            self.desk.completed(completion, &mut self.staged, dones);
        }
        self.desk.answer_bell(&submitter, &mut self.staged, dones)
    }

    /// Whether an enter could bring anything: entries to submit, completion work to run, or
    /// completions that did not fit.
    fn must_enter(&mut self) -> bool {
        let queue = self.ring.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    /// How long to sleep, which peers know of from now on; not at all if one was faster.
    fn sleep(&mut self, deadline: Option<Time>) -> Patience {
        let now = clock::now().time;
        let patience = match (deadline, self.desk.accept_at()) {
            (None, None) => Patience::Forever,
            (Some(time), None) | (None, Some(time)) => wait_until(now, time),
            (Some(one), Some(other)) => wait_until(now, one.min(other)),
        };
        if patience != Patience::None && self.links.lie_down() == Rest::Awake {
            return Patience::None;
        }
        patience
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
        dones.append(&mut self.held);
        loop {
            let is_called = self.links.poll(dones);
            self.fill()?;
            let has_news = is_called || dones.len() > before || !self.ring.completion().is_empty();
            let patience =
                if until.eager || has_news { Patience::None } else { self.sleep(until.deadline) };
            if patience != Patience::None || self.must_enter() {
                self.enter(patience)?;
                self.links.get_up();
                if self.ring.submission().is_empty() {
                    self.desk.submitted();
                }
            }
            self.harvest(dones)?;
            self.desk.publish_buffers();
            let now = clock::now();
            self.desk.retry_accept(now.time, &mut self.staged);
            let is_late = until.deadline.is_some_and(|deadline| deadline <= now.time);
            if until.eager || is_late || is_called || dones.len() > before {
                // What the harvest staged (closings, re-arming) is on its way before we block
                // again: the next wait begins with it.
                return Ok(now);
            }
        }
    }

    fn submit(&mut self, batch: &mut OpBatch) -> io::Result<()> {
        let submitter = self.ring.submitter();
        for op in batch.ops.drain(..) {
            let Some(op) = self.links.divert(op, &batch.slices) else { continue };
            let lists = Lists { slices: &batch.slices, ranges: &batch.ranges };
            self.desk.stage(&submitter, op, &lists, &mut self.staged)?;
        }
        batch.slices.clear();
        batch.ranges.clear();
        self.desk.publish_buffers();
        self.fill()
    }
}

impl Drop for Uring {
    /// Ends all operations and waits until the kernel has let go of the arena.
    fn drop(&mut self) {
        self.desk.stop_accepting();
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
            self.desk.leak_memory();
        } else {
            // Otherwise the kernel gives it back with the ring, some time after the process.
            let _ = setup::release_lock(&self.ring, self.settings);
        }
        self.door.close(setup::descriptor(&self.ring));
    }
}
