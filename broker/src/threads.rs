//! The shards' threads: each makes its backend, turns until all shards are done, and ends. One that
//! fails ends the process.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use engine::Shard;
use engine::counters::IoCounters;
use engine::port::{Done, Now, OpBatch, Time};
use rustix::thread::CpuSet;

use crate::backend::{Backend, Reporting};
#[cfg(feature = "glommio")]
use crate::io::glommio::{self, Glommio};
use crate::io::uring::{self, Endpoints, Uring};
use crate::mesh::MeshEnd;
use crate::run::{Logic, Pace, Turns, turn};
use crate::serve::ServeError;

impl Logic for Shard {
    fn handle(&mut self, now: Now, done: Done) {
        Shard::handle(self, now, done);
    }

    fn decide(&mut self, now: Now, batch: &mut OpBatch) {
        Shard::decide(self, now, batch);
    }

    fn deadline(&self) -> Option<Time> {
        Shard::deadline(self)
    }

    fn is_eager(&self) -> bool {
        Shard::is_eager(self)
    }
}

/// A shard whose thread is to be started.
#[derive(Debug)]
pub struct Prepared {
    /// The shard.
    pub shard: Shard,
    /// Its end of the mesh, if it is not the only one.
    pub mesh: Option<MeshEnd>,
    /// What its backend is connected to.
    pub endpoints: Endpoints,
    /// Which backend.
    pub io: Backend,
    /// Where the data is.
    pub data_dir: PathBuf,
    /// Sizes of the backend's tables.
    pub ring: uring::Settings,
    /// How its loop behaves.
    pub pace: Pace,
    /// Where its thread runs.
    pub core: usize,
    /// Zeros that were written before it started and that it accounts for.
    pub bytes_zeroed: u64,
}

/// What a backend says of itself: names and values.
type Description = Vec<(&'static str, String)>;

/// What a thread tells.
enum Word {
    /// Its backend is made.
    Ready(Description),
    /// It has ended.
    Ended(Result<(), ServeError>),
}

/// Which shards have finished. One that has finished goes on answering the others: their clients
/// may still wait for it.
#[derive(Debug)]
struct Quorum {
    shards: usize,
    finished: AtomicUsize,
    /// All had finished at the same time: from then on nobody waits for anybody.
    is_over: AtomicBool,
}

impl Quorum {
    const fn new(shards: usize) -> Quorum {
        Quorum { shards, finished: AtomicUsize::new(0), is_over: AtomicBool::new(false) }
    }

    /// One more has finished; tells whether it was the last.
    fn joined(&self) -> bool {
        let is_last = self.finished.fetch_add(1, Ordering::AcqRel) + 1 == self.shards;
        if is_last {
            self.is_over.store(true, Ordering::Release);
        }
        is_last
    }

    /// One has work again: another shard sent it some.
    fn left(&self) {
        self.finished.fetch_sub(1, Ordering::AcqRel);
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }
}

/// Starts a thread for each shard, calls `ready` when all have their backends, and comes back when
/// all have ended, or one has failed: the others may still be running then.
pub fn run(shards: Vec<Prepared>, ready: impl FnOnce(Description)) -> Result<(), ServeError> {
    let quorum = Arc::new(Quorum::new(shards.len()));
    let count = shards.len();
    let (words, heard) = mpsc::channel();
    let mut threads = Vec::new();
    for (number, prepared) in shards.into_iter().enumerate() {
        threads.push(start(number, prepared, Arc::clone(&quorum), words.clone())?);
    }
    drop(words);
    listen_to(&heard, count, ready)?;
    for thread in threads {
        // What a thread has to tell, it has told.
        let _ = thread.join();
    }
    // Clients whose connection ends here are sent to this log for the reason.
    tracing::info!("stopped by a signal: what was in flight is finished");
    Ok(())
}

fn start(
    number: usize,
    prepared: Prepared,
    quorum: Arc<Quorum>,
    words: Sender<Word>,
) -> Result<JoinHandle<()>, ServeError> {
    let life = move || {
        let lived = catch_unwind(AssertUnwindSafe(|| live(prepared, &quorum, &words)));
        let panicked = || format!("shard {number} panicked: see the message above");
        let result = lived.unwrap_or_else(|_| Err(ServeError::Failed(panicked())));
        // Nobody listens only if another shard has failed before.
        let _ = words.send(Word::Ended(result));
    };
    thread::Builder::new().name(format!("shard-{number}")).spawn(life).map_err(|error| {
        ServeError::Failed(format!("the thread of shard {number} cannot start: {error}"))
    })
}

fn listen_to(
    heard: &Receiver<Word>,
    shards: usize,
    ready: impl FnOnce(Description),
) -> Result<(), ServeError> {
    let mut ready = Some(ready);
    let mut count = 0;
    for word in heard {
        match word {
            Word::Ready(description) => {
                count += 1;
                if count == shards
                    && let Some(ready) = ready.take()
                {
                    ready(description);
                }
            }
            Word::Ended(result) => result?,
        }
    }
    Ok(())
}

/// Puts this thread on a core.
///
/// # Errors
/// A sentence, if the process may not use it.
pub fn pin(core: usize) -> Result<(), ServeError> {
    let mut cpus = CpuSet::new();
    cpus.set(core);
    rustix::thread::sched_setaffinity(None, &cpus)
        .map_err(|errno| ServeError::Setup(format!("CPU {core} cannot be used ({errno})")))
}

/// The life of a shard's thread.
fn live(prepared: Prepared, quorum: &Quorum, words: &Sender<Word>) -> Result<(), ServeError> {
    let Prepared { shard, mesh, endpoints, io, data_dir, ring, pace, core, bytes_zeroed } =
        prepared;
    pin(core)?;
    let member = Member { shard, turns: Turns::new(pace), bytes_zeroed, quorum, words };
    match io {
        Backend::Uring => {
            let mut io = Uring::new(member.shard.pool(), ring, endpoints);
            if let (Ok(io), Some(end)) = (&mut io, mesh) {
                io.join(end).map_err(|error| failed(&error))?;
            }
            member.live(io.map_err(ServeError::setup)?)
        }
        #[cfg(feature = "glommio")]
        Backend::Glommio => {
            let uring::Settings { connections_max, files_max, .. } = ring;
            let settings = glommio::Settings { connections_max, files_max };
            let io = Glommio::new(member.shard.pool(), settings, endpoints, &data_dir);
            member.live(io.map_err(ServeError::setup)?)
        }
        #[cfg(not(feature = "glommio"))]
        Backend::Glommio => unreachable!("{}: such a broker is refused", data_dir.display()),
    }
}

/// A shard on its thread, among the others.
struct Member<'a> {
    shard: Shard,
    turns: Turns,
    bytes_zeroed: u64,
    quorum: &'a Quorum,
    words: &'a Sender<Word>,
}

impl Member<'_> {
    fn live(mut self, mut io: impl Reporting) -> Result<(), ServeError> {
        // Nobody listens only if another shard has failed: then the process ends.
        let _ = self.words.send(Word::Ready(io.describe()));
        let mut has_finished = false;
        while !(has_finished && self.quorum.is_over()) {
            turn(&mut self.shard, &mut io, &mut self.turns).map_err(|error| failed(&error))?;
            self.report(&io);
            if self.shard.is_stopped() != has_finished {
                has_finished = !has_finished;
                if !has_finished {
                    self.quorum.left();
                } else if self.quorum.joined() {
                    io.call_peers().map_err(|error| failed(&error))?;
                }
            }
        }
        Ok(())
    }

    fn report(&mut self, io: &impl Reporting) {
        let (loops, own) = (self.turns.counters(), io.count());
        self.shard.report_io(IoCounters {
            spin_rounds_empty: loops.spin_rounds_empty,
            spin_empty_ns: loops.spin_empty_ns,
            parks: loops.parks,
            bytes_zeroed: self.bytes_zeroed + own.bytes_zeroed,
            ..own
        });
    }
}

fn failed(error: &std::io::Error) -> ServeError {
    ServeError::Failed(format!("the ring failed: {error}"))
}
