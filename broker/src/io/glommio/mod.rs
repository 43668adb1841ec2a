//! The same contract over a glommio executor: a measured alternative to [`super::uring`], for one
//! shard. It shows that the boundary is not made for one backend, and what a general runtime
//! costs here; `docs/decisions/0006-glommio.md` has the numbers.
//!
//! - One `LocalExecutor::run` per wait: its main future hands new ops to tasks, lets them run,
//!   and ends when something has happened. Tasks live on from one run to the next.
//! - A task per connection, per operation on a file, and for each of the `doors`.
//! - Bytes are copied once between the arena and buffers of glommio's own (sockets: ours); so the
//!   kernel never sees the arena. The copies are counted.
//! - What blocks by nature goes to [`super::maintenance`].
//! - A ring that breaks is a panic of glommio's, not an error of [`Io::wait`].

mod conns;
mod doors;
mod storage;
#[cfg(test)]
mod tests;
mod world;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use engine::pool::{Pool, Slice};
use engine::port::{ConnId, Done, Fault, Now, Op, OpBatch, Time};
use glommio::timer::Timer;
use glommio::{GlommioError, LocalExecutor, LocalExecutorBuilder, Placement, Task};

use self::conns::Conn;
use self::storage::{File, FileOp, Storage};
use self::world::World;
use super::maintenance::{Job, Maintenance};
use super::uring::Endpoints;
use super::{Io, Wait};
use crate::clock;

/// Memory that glommio registers for file buffers. Operations whose buffers would go beyond it
/// wait for others to end.
pub const IO_MEMORY_BYTES: usize = 8 << 20;
/// Entries of each of glommio's three submission queues; more are handed over in parts.
const RING_DEPTH: usize = 512;
/// How long the main future sleeps to make the executor hand over what tasks have queued. It has
/// passed when that has been done, so nothing is ever slept.
const HAND_OVER: Duration = Duration::from_nanos(400);
/// How long a dropped backend waits for its operations to end.
const DRAIN: Duration = Duration::from_secs(5);

/// Sizes of the backend's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Connections.
    pub connections_max: u32,
    /// Open files; each takes three descriptors.
    pub files_max: u32,
}

/// What the backend counts. How often glommio enters the kernel it does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Operations on files and sockets that the engine handed over.
    pub submissions: u64,
    /// Bytes copied between the arena and other buffers.
    pub bytes_copied: u64,
    /// Bytes of zeros written into files.
    pub bytes_zeroed: u64,
}

/// Why there is no executor, in one sentence with its fix.
#[derive(Debug)]
pub struct SetupError(String);

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SetupError {}

/// What only [`Io::submit`] and the maintenance thread's bell change.
#[derive(Debug)]
struct Books {
    storage: Storage,
    maintenance: Maintenance,
    bytes_zeroed: u64,
}

/// Ops that wait for the executor.
#[derive(Debug, Default)]
struct Staged {
    /// Connections with a new op.
    conns: Vec<Rc<Conn>>,
    files: VecDeque<(Rc<File>, FileOp)>,
    closing: Vec<Rc<File>>,
}

/// The backend. Belongs to the thread that made it.
pub struct Glommio {
    /// `None` only while it is dropped.
    executor: Option<LocalExecutor>,
    world: Rc<World>,
    books: Rc<RefCell<Books>>,
    staged: Staged,
    doors: Vec<Task<()>>,
    submissions: u64,
}

impl Glommio {
    /// An executor for the shard whose memory is `pool`, on the thread that will use it; the
    /// files that the maintenance thread opens are in `data_dir`.
    pub fn new(
        pool: &Pool,
        settings: Settings,
        endpoints: Endpoints,
        data_dir: &Path,
    ) -> Result<Glommio, SetupError> {
        let executor = LocalExecutorBuilder::new(Placement::Unbound)
            .io_memory(IO_MEMORY_BYTES)
            .ring_depth(RING_DEPTH)
            .make()
            .map_err(|error| refused(&error))?;
        let size = |count: u32| usize::try_from(count).expect("u32 fits usize");
        let connections_max = size(settings.connections_max);
        let world = World::new(pool.shared_arena(), pool.recv_region(), connections_max);
        let Endpoints { listeners, stop, maintenance, lock: _ } = endpoints;
        executor
            .run(storage::acquaint(data_dir))
            .map_err(|fault| failed(&io::Error::from_raw_os_error(fault.0)))?;
        let bell = maintenance.bell().as_fd().try_clone_to_owned().map_err(|e| failed(&e))?;
        for listener in &listeners {
            listener.set_nonblocking(true).map_err(|error| failed(&error))?;
        }
        let storage = Storage::new(size(settings.files_max));
        let books = Books { storage, maintenance, bytes_zeroed: 0 };
        let mut backend = Glommio {
            executor: Some(executor),
            world: Rc::new(world),
            books: Rc::new(RefCell::new(books)),
            staged: Staged::default(),
            doors: Vec::new(),
            submissions: 0,
        };
        backend.open_doors(listeners, stop, bell);
        Ok(backend)
    }

    /// What it counted.
    pub fn counters(&self) -> Counters {
        Counters {
            submissions: self.submissions,
            bytes_copied: self.world.copied(),
            bytes_zeroed: self.books.borrow().bytes_zeroed,
        }
    }

    fn open_doors(&mut self, listeners: Vec<TcpListener>, stop: Option<OwnedFd>, bell: OwnedFd) {
        let (world, books) = (&self.world, &self.books);
        self.doors = self.executor().run(async {
            let mut doors = Vec::new();
            for listener in listeners {
                doors.push(glommio::spawn_local(doors::accept(Rc::clone(world), listener)));
            }
            if let Some(stop) = stop {
                doors.push(glommio::spawn_local(doors::stop(Rc::clone(world), stop)));
            }
            let bell = doors::bell(Rc::clone(world), Rc::clone(books), bell);
            doors.push(glommio::spawn_local(bell));
            doors
        });
    }

    fn executor(&self) -> &LocalExecutor {
        self.executor.as_ref().expect("only the drop takes it")
    }

    /// Notes an op. Sockets and files are touched in the next run only.
    fn stage(&mut self, op: Op, slices: &[Slice]) {
        let mut books = self.books.borrow_mut();
        let Books { storage, maintenance, .. } = &mut *books;
        match op {
            Op::Recv { conn } => self.staged.conn(&self.world, conn, Conn::recv),
            Op::RecvCancel { conn } => self.staged.conn(&self.world, conn, Conn::recv_cancel),
            Op::RecvInto { conn, buf, at, len } => {
                self.staged.conn(&self.world, conn, |conn| conn.recv_into(buf, at, len));
            }
            Op::RecvReturn { buf } => return self.world.give_buffer(buf),
            Op::Send { conn, first, count } => {
                let first = usize::try_from(first).expect("u32 fits usize");
                let count = usize::try_from(count).expect("u32 fits usize");
                let slices = &slices[first..first + count];
                self.staged.conn(&self.world, conn, |conn| conn.send(slices));
            }
            // Its sockets have no descriptor for another thread.
            Op::SendFile { conn, .. } => {
                self.world.tell(Done::Sent { conn, result: Err(Fault::EINVAL) });
            }
            Op::Close { conn } => self.staged.conn(&self.world, conn, Conn::close),
            // Glommio cannot have a worker submit a write, so `extent` makes no difference.
            Op::Write { file, tag, slice, position, sync, extent: _ } => {
                let op = FileOp::Write { tag, slice, position, sync };
                self.staged.files.push_back((storage.get(file), op));
            }
            Op::Read { file, tag, buf, position, len } => {
                let op = FileOp::Read { tag, buf, position, len };
                self.staged.files.push_back((storage.get(file), op));
            }
            Op::Flush { file, tag } => {
                self.staged.files.push_back((storage.get(file), FileOp::Flush { tag }));
            }
            Op::FileOpen { file, path, open } => maintenance.push(Job::Open { file, path, open }),
            Op::FileExtend { file, from, to, fill } => {
                let fd = storage.get(file).descriptor();
                maintenance.push(Job::Extend { file, fd, from, to, fill });
            }
            Op::FileClose { file } => self.staged.closing.push(storage.remove(file)),
            Op::SpaceAsk => maintenance.push(Job::Space),
            Op::FilesDelete { tag, paths } => maintenance.push(Job::Delete { tag, paths }),
        }
        self.submissions += 1;
    }
}

impl Staged {
    fn conn(&mut self, world: &World, number: ConnId, change: impl FnOnce(&Conn)) {
        let conn = world.conn(number);
        change(&conn);
        self.conns.push(conn);
    }

    /// Hands all of it to tasks; says whether some of it needs the kernel to be entered. For use
    /// within the executor.
    fn hand_over(&mut self, world: &Rc<World>, books: &Rc<RefCell<Books>>) -> bool {
        for conn in self.conns.drain(..) {
            conn.wake();
        }
        let mut needs_kernel = false;
        while let Some((file, op)) = self.files.pop_front() {
            let bytes = op.bytes();
            if !world.has_room(bytes) {
                // An operation that ends ends a wait, and the next one comes here again.
                self.files.push_front((file, op));
                break;
            }
            let world = Rc::clone(world);
            world.begin(bytes);
            glommio::spawn_local(async move {
                let done = file.perform(&world, op).await;
                // Before it is told: then the file has no user left.
                drop(file);
                world.end(bytes, done);
            })
            .detach();
            needs_kernel = true;
        }
        for file in self.closing.drain(..) {
            let books = Rc::clone(books);
            let file = Rc::into_inner(file).expect("no op is open on a file that is closed");
            glommio::spawn_local(async move {
                let fd = file.close().await;
                books.borrow_mut().maintenance.push(Job::Close { fd });
            })
            .detach();
        }
        needs_kernel
    }
}

/// One wait: hands ops over, lets tasks run, and ends by the rules of [`Io::wait`].
async fn round(world: &Rc<World>, books: &Rc<RefCell<Books>>, staged: &mut Staged, until: Wait) {
    let needs_kernel = staged.hand_over(world, books);
    // Behind the tasks that were woken now, and those whose completions this run has found.
    glommio::executor().yield_now().await;
    if until.eager || world.has_news() {
        if needs_kernel {
            Timer::new(HAND_OVER).await;
        }
        return;
    }
    let mut deadline = pin!(sleep_until(until.deadline));
    poll_fn(|cx| {
        if world.has_news() {
            return Poll::Ready(());
        }
        world.wake_me(cx);
        deadline.as_mut().poll(cx)
    })
    .await;
}

async fn sleep_until(deadline: Option<Time>) {
    match deadline {
        Some(deadline) => {
            let left = deadline.since(clock::now().time);
            Timer::new(Duration::from_nanos(left)).await;
        }
        None => std::future::pending().await,
    }
}

impl Io for Glommio {
    fn wait(&mut self, until: Wait, dones: &mut Vec<Done>) -> io::Result<Now> {
        let executor = self.executor.as_ref().expect("only the drop takes it");
        executor.run(round(&self.world, &self.books, &mut self.staged, until));
        self.world.drain(dones);
        Ok(clock::now())
    }

    fn submit(&mut self, batch: &mut OpBatch) -> io::Result<()> {
        for op in batch.ops.drain(..) {
            self.stage(op, &batch.slices);
        }
        batch.slices.clear();
        batch.ranges.clear();
        Ok(())
    }
}

impl Drop for Glommio {
    /// Ends all operations, so that glommio's buffers outlive what the kernel does with them.
    fn drop(&mut self) {
        let executor = self.executor.take().expect("dropped once");
        if std::thread::panicking() {
            // In whatever state it is: its tasks cannot be dropped outside of a run.
            std::mem::forget((executor, std::mem::take(&mut self.doors)));
            std::mem::forget((Rc::clone(&self.world), Rc::clone(&self.books)));
            std::mem::forget(std::mem::take(&mut self.staged));
            return;
        }
        let (world, books) = (&self.world, &self.books);
        let (doors, staged) = (std::mem::take(&mut self.doors), &mut self.staged);
        let is_quiet = executor.run(async {
            for door in doors {
                door.cancel().await;
            }
            let conns = world.conns().borrow().all();
            for conn in conns {
                conn.close_anyway();
                conn.wake();
            }
            drain(world, books, staged).await;
            let files = books.borrow_mut().storage.remove_all();
            for file in files.into_iter().filter_map(Rc::into_inner) {
                drop(file.close().await);
            }
            world.is_quiet()
        });
        if !is_quiet {
            std::mem::forget(executor);
        }
    }
}

/// Waits until nothing is open, but not for ever.
async fn drain(world: &Rc<World>, books: &Rc<RefCell<Books>>, staged: &mut Staged) {
    let mut limit = pin!(Timer::new(DRAIN));
    poll_fn(|cx| {
        staged.hand_over(world, books);
        if world.is_quiet() {
            return Poll::Ready(());
        }
        world.wake_me(cx);
        limit.as_mut().poll(cx).map(drop)
    })
    .await;
}

fn refused(error: &GlommioError<()>) -> SetupError {
    use glommio::ReactorErrorKind::MemLockLimit;
    match error {
        GlommioError::ReactorError(MemLockLimit(limit, needed)) => SetupError(format!(
            "glommio needs {} KiB of locked memory, but the limit is {} KiB: raise it \
             (ulimit -l), or use --io uring",
            needed >> 10,
            limit >> 10
        )),
        GlommioError::IoError(error) | GlommioError::EnhancedIoError { source: error, .. } => {
            failed(error)
        }
        error => SetupError(format!("glommio cannot start ({error}): use --io uring")),
    }
}

fn failed(error: &io::Error) -> SetupError {
    SetupError(match error.raw_os_error() {
        Some(libc::ENOMEM) => "there is not enough memory for glommio's queues: raise the limit \
            on locked memory (ulimit -l), or use --io uring"
            .to_owned(),
        Some(libc::EMFILE | libc::ENFILE) => "there are not enough descriptors for glommio: raise \
            the limit on open files (ulimit -n), or use --io uring"
            .to_owned(),
        _ => format!("glommio cannot start ({error}): use --io uring"),
    })
}
