//! Starts the generator threads of one load, lets them run together, and adds up what they leave.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use super::RunError;
use super::generator::{Generator, Share, Yield};
use super::tally::{Tally, Window};
use super::work::{Progress, Signals, Work};
use crate::clock::monotonic_ns;
use crate::cores::pin_to;
use crate::integrity::{Coverage, Pass};

/// From all threads being connected to the first record.
const START_DELAY_NS: u64 = 2_000_000;

/// How a load runs.
pub(super) struct Launch<'a> {
    /// What is to be done.
    pub(super) work: &'a Work<'a>,
    /// A thread runs on each of these.
    pub(super) cores: &'a [usize],
    /// Ends the load early.
    pub(super) abort: &'a AtomicBool,
    /// Live counts.
    pub(super) progress: &'a Progress,
    /// Per partition: where the log ends, if that is known before.
    pub(super) targets: Option<Vec<u64>>,
}

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
    /// Runs the load. `window_of` makes the window from its start; `watch` runs on the calling
    /// thread meanwhile.
    pub(super) fn run<T>(
        self,
        window_of: impl FnOnce(u64) -> Window,
        watch: impl FnOnce(&Window) -> T,
    ) -> Result<(Outcome, T), RunError> {
        let Self { work, cores, abort, progress, targets } = self;
        let shares = shares(work, cores.len());
        let signals = Signals::new(shares.len(), work.partitions, abort, progress);
        if let Some(targets) = targets {
            signals.targets.set(targets).expect("no thread has begun");
        }
        thread::scope(|scope| {
            let (ready, connected) = channel();
            let mut threads = Vec::new();
            for (share, &core) in shares.into_iter().zip(cores) {
                let (ready, signals) = (ready.clone(), &signals);
                threads.push(scope.spawn(move || generate(work, signals, share, core, &ready)));
            }
            let mut failure = None;
            for _ in 0..threads.len() {
                let word = connected.recv().expect("each thread reports once");
                failure = failure.or(word.err());
            }
            if let Some(failure) = failure {
                signals.window.set(None).expect("set only here or below");
                return Err(failure);
            }
            let window = window_of(monotonic_ns() + START_DELAY_NS);
            signals.window.set(Some(window)).expect("set only here or above");
            let watched = watch(&window);
            let mut tally = Tally::new(work.partitions, work.producers);
            let mut passes = Vec::new();
            for handle in threads {
                let left = handle.join().expect("a generator thread does not panic")?;
                if let Some(left) = left {
                    tally.merge(&left.tally);
                    passes.extend(left.passes);
                }
            }
            Ok((Outcome { tally, passes, window }, watched))
        })
    }
}

fn generate(
    work: &Work<'_>,
    signals: &Signals<'_>,
    share: Share,
    core: usize,
    ready: &Sender<Result<(), RunError>>,
) -> Result<Option<Yield>, RunError> {
    let connected = pin_to(&[core])
        .map_err(RunError::Io)
        .and_then(|()| Generator::connect(work, signals, share).map_err(RunError::Client));
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
fn shares(work: &Work<'_>, threads: usize) -> Vec<Share> {
    let connections = (work.producers_running() + work.consumers) as usize;
    let threads = threads.min(connections).max(1);
    let mut shares = vec![Share::default(); threads];
    for index in 0..work.producers_running() {
        shares[index as usize % threads].producers.push(index);
    }
    for index in 0..work.consumers {
        // Counted from the other end, so that both kinds spread over the threads.
        shares[threads - 1 - index as usize % threads].consumers.push(index);
    }
    shares
}
