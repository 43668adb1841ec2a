//! The threads that send files to sockets for a shard: `sendfile` may wait for the disk and for
//! the peer, so it has no place on the shard. Each thread serves many sockets in turn: those that
//! can take bytes, a piece at a time. Results come back through a channel; the shard's bell says
//! that there are some.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use engine::port::{ConnId, Fault, FileRange};
use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};

use crate::directory::fault;

/// Threads of one shard.
const THREADS: u32 = 2;
/// Most bytes that one socket gets before others have their turn.
const PIECE_BYTES_MAX: usize = 1 << 20;
/// A socket that was writable and is full before its piece is sent holds the others up this long.
const STALL: Duration = Duration::from_millis(4);

/// One send.
#[derive(Debug)]
pub struct Job {
    /// The connection.
    pub conn: ConnId,
    /// Which use of its number.
    pub generation: u32,
    /// Its socket, made ready by [`prepare`].
    pub socket: Arc<OwnedFd>,
    /// The file.
    pub file: Arc<OwnedFd>,
    /// What to send of it, in order.
    pub ranges: Vec<FileRange>,
}

/// What came of a [`Job`]: the bytes sent; or why there are none.
#[derive(Debug, Clone, Copy)]
pub struct Finished {
    /// As in the job.
    pub conn: ConnId,
    /// As in the job.
    pub generation: u32,
    /// Bytes sent.
    pub result: Result<u32, Fault>,
}

/// Makes a blocking socket one that does not hold a thread up for long.
pub fn prepare(socket: &OwnedFd) -> Result<(), Errno> {
    sockopt::set_socket_timeout(socket, Timeout::Send, Some(STALL))
}

/// The shard's end.
#[derive(Debug)]
pub struct Senders {
    threads: Vec<Thread>,
    finished: Receiver<Finished>,
}

#[derive(Debug)]
struct Thread {
    /// `None` only while it is dropped: closing the channel ends the thread. It is bounded by the
    /// connections, of which each has one send open.
    jobs: Option<Sender<Job>>,
    wake: Arc<OwnedFd>,
    handle: Option<JoinHandle<()>>,
}

impl Senders {
    /// Starts the threads. They ring `bell` when something is finished.
    pub fn start(bell: &Arc<OwnedFd>) -> io::Result<Senders> {
        let (outbox, finished) = mpsc::channel();
        let mut threads = Vec::new();
        for number in 0..THREADS {
            let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            let wake = Arc::new(wake);
            let (jobs, inbox) = mpsc::channel();
            let worker = Worker {
                inbox,
                wake: Arc::clone(&wake),
                outbox: outbox.clone(),
                bell: Arc::clone(bell),
            };
            let handle = thread::Builder::new()
                .name(format!("sendfile-{number}"))
                .spawn(move || worker.work())?;
            threads.push(Thread { jobs: Some(jobs), wake, handle: Some(handle) });
        }
        Ok(Senders { threads, finished })
    }

    /// Hands a job over. The sends of one connection all go to the same thread.
    pub fn push(&self, job: Job) {
        let count = u32::try_from(self.threads.len()).expect("a few");
        let index = usize::try_from(job.conn.0 % count).expect("u32 fits usize");
        let thread = &self.threads[index];
        let jobs = thread.jobs.as_ref().expect("only the drop takes it");
        jobs.send(job).expect("the thread lives until the drop");
        wake(&thread.wake);
    }

    /// The next finished send.
    pub fn pop(&self) -> Option<Finished> {
        self.finished.try_recv().ok()
    }
}

impl Drop for Senders {
    fn drop(&mut self) {
        for thread in &mut self.threads {
            thread.jobs = None;
            wake(&thread.wake);
        }
        for thread in &mut self.threads {
            if let Some(handle) = thread.handle.take() {
                // A panic there was reported on stderr by its own thread.
                let _ = handle.join();
            }
        }
    }
}

fn wake(eventfd: &OwnedFd) {
    // Its counter cannot overflow in steps of one.
    let _ = rustix::io::write(eventfd, &1u64.to_ne_bytes());
}

/// A thread's own state.
struct Worker {
    inbox: Receiver<Job>,
    wake: Arc<OwnedFd>,
    outbox: Sender<Finished>,
    bell: Arc<OwnedFd>,
}

/// A job, and how far it is.
struct Open {
    job: Job,
    /// The range that is sent now, and bytes of it that were sent.
    range: usize,
    done: u32,
    /// Bytes sent in all.
    sent: u32,
}

impl Worker {
    fn work(self) {
        let mut open: Vec<Open> = Vec::new();
        loop {
            loop {
                match self.inbox.try_recv() {
                    Ok(job) => open.push(Open { job, range: 0, done: 0, sent: 0 }),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            let ready = self.wait(&open);
            // From the back, so that what ends leaves the places in front alone.
            for index in ready.into_iter().rev() {
                if let Some(result) = open[index].step() {
                    let Job { conn, generation, .. } = open.swap_remove(index).job;
                    let _ = self.outbox.send(Finished { conn, generation, result });
                    wake(&self.bell);
                }
            }
        }
    }

    /// Waits until there is a new job or a socket takes bytes; gives the places of those, in
    /// order.
    fn wait(&self, open: &[Open]) -> Vec<usize> {
        let mut fds = vec![PollFd::new(&self.wake, PollFlags::IN)];
        fds.extend(open.iter().map(|open| PollFd::new(&open.job.socket, PollFlags::OUT)));
        // An interruption is as good as an event: everything is looked at again.
        let _ = rustix::event::poll(&mut fds, None);
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        let ready = fds.iter().skip(1).enumerate().filter(|(_, fd)| !fd.revents().is_empty());
        ready.map(|(index, _)| index).collect()
    }
}

impl Open {
    /// Sends some; gives the result once there will be no more.
    fn step(&mut self) -> Option<Result<u32, Fault>> {
        let mut room = PIECE_BYTES_MAX;
        while let Some(range) = self.job.ranges.get(self.range).filter(|_| room > 0) {
            let mut position = range.position + u64::from(self.done);
            let left = range.len - self.done;
            let want = usize::try_from(left).expect("u32 fits usize").min(room);
            let (socket, file) = (&self.job.socket, &self.job.file);
            match rustix::fs::sendfile(&**socket, &**file, Some(&mut position), want) {
                Ok(0) => return Some(self.ended(Fault::EIO)),
                Ok(count) => {
                    let bytes = u32::try_from(count).expect("no more than asked");
                    self.done += bytes;
                    self.sent += bytes;
                    room -= count;
                    if self.done == range.len {
                        self.range += 1;
                        self.done = 0;
                    } else if count < want {
                        // It is full: the others' turn.
                        return None;
                    }
                }
                Err(Errno::AGAIN | Errno::INTR) => return None,
                Err(errno) => return Some(self.ended(fault(errno))),
            }
        }
        (self.range == self.job.ranges.len()).then_some(Ok(self.sent))
    }

    /// What was sent before counts; the fault is met again by who goes on.
    const fn ended(&self, fault: Fault) -> Result<u32, Fault> {
        if self.sent > 0 { Ok(self.sent) } else { Err(fault) }
    }
}
