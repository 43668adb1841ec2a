//! Starts the generator threads of one load, lets them run together, and adds up what they leave.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use super::RunError;
use super::choices::Pin;
use super::generator::{Generator, Yield};
use super::tally::{Tally, Window};
use super::target::{Null, Sockets, Target};
use super::work::{Progress, Reach, Signals, Work};
use crate::clock::monotonic_ns;
use crate::cores::pin_to;
use crate::integrity::{Coverage, Pass};

/// From all threads being connected to the first record.
pub(super) const START_DELAY_NS: u64 = 2_000_000;

/// Which producers (or publishers) and consumers a thread runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Share {
    pub(super) producers: Vec<u32>,
    pub(super) consumers: Vec<u32>,
}

impl Share {
    /// All of them, producers first.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.producers.iter().chain(&self.consumers).copied()
    }

    /// How many they are.
    pub(super) fn len(&self) -> usize {
        self.producers.len() + self.consumers.len()
    }
}

/// How loads run beside each other.
pub(super) struct Launch<'a> {
    /// Each has threads of its own.
    pub(super) crews: Vec<Crew<'a>>,
    /// A thread of each load runs on each of these.
    pub(super) cores: &'a [usize],
    /// Whether threads are bound to their core.
    pub(super) pin: Pin,
    /// Ends the loads early.
    pub(super) abort: &'a AtomicBool,
}

/// One load.
pub(super) struct Crew<'a> {
    /// What is to be done.
    pub(super) work: &'a Work<'a>,
    /// Live counts.
    pub(super) progress: &'a Progress,
    /// Per partition: where the log ends, if that is known before.
    pub(super) targets: Option<Vec<u64>>,
    /// Who goes first where threads want the same core.
    pub(super) urgency: Urgency,
}

/// Who goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// What is measured.
    Measured,
    /// What only loads the broker: its verifying must not hold up those who take times.
    Background,
}

/// The niceness of background threads.
const BACKGROUND_NICE: i32 = 10;

/// What a load leaves behind.
pub(super) struct Outcome {
    /// Sum over the threads.
    pub(super) tally: Tally,
    /// Passes that are not audited yet.
    pub(super) passes: Vec<(Pass, Coverage)>,
    /// The times of the load.
    pub(super) window: Window,
}

impl Launch<'_> {
    /// Runs the loads in one window. `window_of` makes it from its start; `watch` runs on the
    /// calling thread meanwhile, and times the window (and tells so) if that is still open.
    pub(super) fn run<T>(
        self,
        window_of: impl FnOnce(u64) -> Window,
        watch: impl FnOnce(&mut Window, &dyn Fn(Window)) -> T,
    ) -> Result<(Vec<Outcome>, T), RunError> {
        let Self { crews, cores, pin, abort } = self;
        let mut loads = Vec::with_capacity(crews.len());
        for Crew { work, progress, targets, urgency } in crews {
            let shares = shares(work.producers_running(), work.consumers, cores.len());
            let signals = Signals::new(shares.len(), work.partitions, abort, progress);
            if let Some(targets) = targets {
                signals.targets.set(targets).expect("no thread has begun");
            }
            loads.push((work, shares, signals, urgency));
        }
        thread::scope(|scope| {
            let (ready, connected) = channel();
            let mut crews = Vec::new();
            for (work, shares, signals, urgency) in &loads {
                let mut threads = Vec::new();
                for (share, &core) in shares.iter().zip(cores) {
                    let (ready, share) = (ready.clone(), share.clone());
                    let post = Post { core, pin, urgency: *urgency };
                    let thread = move || generate(work, signals, share, post, &ready);
                    threads.push(scope.spawn(thread));
                }
                crews.push((*work, threads));
            }
            let begin = |window| {
                for (_, _, signals, _) in &loads {
                    signals.window.set(window).expect("set only once");
                }
            };
            let mut failure = None;
            for _ in 0..crews.iter().map(|(_, threads)| threads.len()).sum() {
                let word: Result<(), RunError> =
                    connected.recv().expect("each thread reports once");
                failure = failure.or(word.err());
            }
            if let Some(failure) = failure {
                begin(None);
                return Err(failure);
            }
            let mut window = window_of(monotonic_ns() + START_DELAY_NS);
            begin(Some(window));
            let tell = |window| {
                for (_, _, signals, _) in &loads {
                    signals.timed.set(window).expect("set only once");
                }
            };
            let watched = watch(&mut window, &tell);
            let mut outcomes = Vec::new();
            for (work, threads) in crews {
                let mut tally = Tally::new(work.partitions, work.producers, &window);
                let mut passes = Vec::new();
                for handle in threads {
                    let left = handle.join().expect("a generator thread does not panic")?;
                    if let Some(left) = left {
                        tally.merge(&left.tally);
                        passes.extend(left.passes);
                    }
                }
                outcomes.push(Outcome { tally, passes, window });
            }
            Ok((outcomes, watched))
        })
    }
}

/// Where and how a thread runs.
#[derive(Clone, Copy)]
struct Post {
    core: usize,
    pin: Pin,
    urgency: Urgency,
}

impl Post {
    fn take(self) -> std::io::Result<()> {
        if self.urgency == Urgency::Background {
            // Of a thread, where the system is Linux.
            rustix::process::setpriority_process(None, BACKGROUND_NICE)?;
        }
        match self.pin {
            Pin::Split => pin_to(&[self.core]),
            Pin::None => Ok(()),
        }
    }
}

fn generate(
    work: &Work<'_>,
    signals: &Signals<'_>,
    share: Share,
    post: Post,
    ready: &Sender<Result<(), RunError>>,
) -> Result<Option<Yield>, RunError> {
    match &work.reach {
        Reach::Sockets => generate_at(work, signals, share, post, ready, Sockets::new()),
        Reach::Null(counters) => {
            generate_at(work, signals, share, post, ready, Ok(Null::new(counters)))
        }
    }
}

fn generate_at<T: Target>(
    work: &Work<'_>,
    signals: &Signals<'_>,
    share: Share,
    post: Post,
    ready: &Sender<Result<(), RunError>>,
    target: std::io::Result<T>,
) -> Result<Option<Yield>, RunError> {
    let connected = post.take().and(target).map_err(RunError::Io).and_then(|target| {
        Generator::connect(work, signals, share, target).map_err(RunError::Client)
    });
    let report = "the launching thread waits for it";
    let generator = match connected {
        Ok(generator) => {
            ready.send(Ok(())).expect(report);
            generator
        }
        Err(error) => {
            ready.send(Err(error)).expect(report);
            return Ok(None);
        }
    };
    match signals.window.wait() {
        Some(window) => Ok(Some(generator.run(*window)?)),
        None => Ok(None),
    }
}

/// Deals producers and consumers out to at most `threads` threads, none of them idle.
pub(super) fn shares(producers: u32, consumers: u32, threads: usize) -> Vec<Share> {
    let connections = (producers + consumers) as usize;
    let threads = threads.min(connections).max(1);
    let mut shares = vec![Share::default(); threads];
    for index in 0..producers {
        shares[index as usize % threads].producers.push(index);
    }
    for index in 0..consumers {
        // Counted from the other end, so that both kinds spread over the threads.
        shares[threads - 1 - index as usize % threads].consumers.push(index);
    }
    shares
}
