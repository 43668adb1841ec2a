//! The whole life of a shard, identical for every backend: wait, absorb, decide, submit.

use std::io;

use engine::counters::IoCounters;
use engine::port::{Done, Now, OpBatch, Time};

use crate::clock;
use crate::io::{Io, Wait};
use crate::notices::NoticeLog;

/// One in so many empty spin rounds is timed, for an estimate of what spinning costs.
const SPIN_SAMPLE_ROUNDS: u64 = 64;
/// While a commit is in flight the CPU is yielded at least this often, however busy the shard:
/// the kernel's worker that finishes the commit may wait for this very CPU.
const YIELD_NS: u64 = 20_000;

/// Most completions that a shard handles in one turn: 32 to 1024 make no difference at 130,000
/// requests per second, so this only bounds a turn.
pub const TURN_DONES_MAX: usize = 1024;

/// How a shard's loop behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How long to look for more after traffic before parking, in ns. 0: park at once, even while
    /// something is about to happen.
    pub spin_ns: u64,
    /// Most completions handled in one turn.
    pub turn_dones_max: usize,
}

/// What a loop keeps from turn to turn.
#[derive(Debug)]
pub struct Turns {
    pace: Pace,
    dones: Vec<Done>,
    batch: OpBatch,
    notices: NoticeLog,
    /// When something last happened.
    traffic: Time,
    yielded: Time,
    now: Now,
    spin: Spin,
    parks: u64,
}

/// What spinning for nothing has cost so far.
#[derive(Debug, Default)]
struct Spin {
    rounds: u64,
    ns: u64,
    /// The latest estimate of one round's CPU time.
    round_ns: u64,
    /// CPU time at the beginning of the round that is being timed, and what asking for it costs.
    timing: Option<(u64, u64)>,
}

/// The shard, as the loop sees it.
pub trait Logic {
    /// Takes in something that happened.
    fn handle(&mut self, now: Now, done: Done);
    /// Says what shall be done.
    fn decide(&mut self, now: Now, batch: &mut OpBatch);
    /// When it has something to do even if nothing happens.
    fn deadline(&self) -> Option<Time>;
    /// Whether something is about to happen that is worth spinning for.
    fn is_eager(&self) -> bool;
}

impl Turns {
    /// Before the first turn.
    pub fn new(pace: Pace) -> Turns {
        let now = clock::now();
        Turns {
            pace,
            dones: Vec::new(),
            batch: OpBatch::default(),
            notices: NoticeLog::new(now.time),
            traffic: now.time,
            yielded: now.time,
            now,
            spin: Spin::default(),
            parks: 0,
        }
    }

    /// The counters that are the loop's own; the backend's are to be filled in.
    pub fn counters(&self) -> IoCounters {
        IoCounters {
            spin_rounds_empty: self.spin.rounds,
            spin_empty_ns: self.spin.ns,
            parks: self.parks,
            ..IoCounters::default()
        }
    }

    /// Spin while something is left over, about to come, or was there a moment ago; else park.
    fn until(&mut self, logic: &impl Logic) -> Wait {
        let idle_ns = self.now.time.since(self.traffic);
        let spins = self.pace.spin_ns > 0;
        let is_near = spins && (logic.is_eager() || idle_ns < self.pace.spin_ns);
        let eager = !self.dones.is_empty() || is_near;
        if !eager {
            self.parks += 1;
            self.spin.timing = None;
        }
        Wait { deadline: logic.deadline(), eager }
    }

    /// Lets others run: a spinner that does not would starve the kernel's worker that finishes
    /// durable writes, and each commit would take until the next tick.
    fn yield_cpu(&mut self) {
        self.yielded = self.now.time;
        rustix::thread::sched_yield();
    }

    /// Commit completions go first when there is more than one turn may handle.
    fn absorb(&mut self, logic: &mut impl Logic) {
        let now = self.now;
        if self.dones.len() > self.pace.turn_dones_max {
            for done in self.dones.extract_if(.., |done| is_commit(done)) {
                logic.handle(now, done);
            }
        }
        let count = self.dones.len().min(self.pace.turn_dones_max);
        for done in self.dones.drain(..count) {
            logic.handle(now, done);
        }
    }
}

const fn is_commit(done: &Done) -> bool {
    matches!(done, Done::Wrote { .. } | Done::Flushed { .. })
}

impl Spin {
    /// A round found nothing.
    fn round(&mut self) {
        self.rounds += 1;
        if let Some((begin, cost)) = self.timing.take() {
            self.round_ns = clock::thread_cpu_ns().saturating_sub(begin + cost);
        }
        self.ns += self.round_ns;
        if self.rounds.is_multiple_of(SPIN_SAMPLE_ROUNDS) {
            let asked = clock::thread_cpu_ns();
            let begin = clock::thread_cpu_ns();
            self.timing = Some((begin, begin.saturating_sub(asked)));
        }
    }
}

/// One turn. The only place that may block is `wait`.
pub fn turn<L: Logic, I: Io>(logic: &mut L, io: &mut I, turns: &mut Turns) -> io::Result<()> {
    let until = turns.until(logic);
    turns.now = io.wait(until, &mut turns.dones)?;
    if turns.dones.is_empty() {
        if until.eager {
            turns.spin.round();
            turns.yield_cpu();
        }
    } else {
        turns.spin.timing = None;
        turns.traffic = turns.now.time;
        turns.absorb(logic);
        if until.eager && turns.now.time.since(turns.yielded) > YIELD_NS {
            turns.yield_cpu();
        }
    }
    logic.decide(turns.now, &mut turns.batch);
    turns.notices.log(turns.now.time, &mut turns.batch.notices);
    io.submit(&mut turns.batch)
}

#[cfg(test)]
mod tests {
    use engine::port::Tag;

    use super::*;

    /// Writes down what it is told, and in which order.
    #[derive(Default)]
    struct Scribe {
        lines: Vec<String>,
        deadline: Option<Time>,
        is_eager: bool,
    }

    impl Logic for Scribe {
        fn handle(&mut self, _now: Now, done: Done) {
            self.lines.push(match done {
                Done::Wrote { tag, .. } => format!("wrote {}", tag.0),
                Done::Read { tag, .. } => format!("read {}", tag.0),
                Done::FilesDeleted { tag, .. } => format!("deleted {}", tag.0),
                _ => "other".to_owned(),
            });
        }

        fn decide(&mut self, _now: Now, _batch: &mut OpBatch) {
            self.lines.push("decide".to_owned());
        }

        fn deadline(&self) -> Option<Time> {
            self.deadline
        }

        fn is_eager(&self) -> bool {
            self.is_eager
        }
    }

    /// A world in which time stands still unless it is told to go on.
    #[derive(Default)]
    struct Script {
        waits: Vec<Wait>,
        dones: Vec<Done>,
        now: Now,
    }

    impl Io for Script {
        fn wait(&mut self, until: Wait, dones: &mut Vec<Done>) -> io::Result<Now> {
            self.waits.push(until);
            dones.append(&mut self.dones);
            Ok(self.now)
        }

        fn submit(&mut self, batch: &mut OpBatch) -> io::Result<()> {
            batch.clear();
            Ok(())
        }
    }

    fn deleted(tag: u64) -> Done {
        Done::FilesDeleted { tag: Tag(tag), result: Ok(()) }
    }

    fn wrote(tag: u64) -> Done {
        Done::Wrote { tag: Tag(tag), result: Ok(4096) }
    }

    #[test]
    fn a_turn_has_a_budget_and_commits_go_first() {
        let pace = Pace { spin_ns: 0, turn_dones_max: 2 };
        let mut turns = Turns::new(pace);
        let (mut scribe, mut script) = (Scribe::default(), Script::default());
        script.now = clock::now();
        script.dones = vec![deleted(1), deleted(2), wrote(3), deleted(4), wrote(5)];
        turn(&mut scribe, &mut script, &mut turns).expect("it works");
        turn(&mut scribe, &mut script, &mut turns).expect("it works");
        let lines =
            ["wrote 3", "wrote 5", "deleted 1", "deleted 2", "decide", "deleted 4", "decide"];
        assert_eq!(scribe.lines, lines);
        assert!(script.waits[1].eager, "what is left over does not wait");
    }

    #[test]
    fn it_spins_after_traffic_and_while_eager_then_parks() {
        let pace = Pace { spin_ns: 1000, turn_dones_max: 100 };
        let mut turns = Turns::new(pace);
        let (mut scribe, mut script) = (Scribe::default(), Script::default());
        let start = clock::now();
        script.now = start;
        script.dones = vec![deleted(1)];
        scribe.deadline = Some(Time(7));
        turn(&mut scribe, &mut script, &mut turns).expect("it works");
        turn(&mut scribe, &mut script, &mut turns).expect("it works");
        script.now.time = start.time.plus_ns(1000);
        turn(&mut scribe, &mut script, &mut turns).expect("it works");
        turn(&mut scribe, &mut script, &mut turns).expect("it works");
        scribe.is_eager = true;
        turn(&mut scribe, &mut script, &mut turns).expect("it works");
        let eager: Vec<bool> = script.waits.iter().map(|wait| wait.eager).skip(1).collect();
        assert_eq!(eager, [true, true, false, true]);
        assert!(script.waits.iter().all(|wait| wait.deadline == Some(Time(7)) || wait.eager));
        assert_eq!((turns.counters().parks, turns.counters().spin_rounds_empty), (1, 3));
    }

    #[test]
    fn told_not_to_spin_it_parks_even_while_eager() {
        let mut turns = Turns::new(Pace { spin_ns: 0, turn_dones_max: 100 });
        let (mut scribe, mut script) = (Scribe::default(), Script::default());
        scribe.is_eager = true;
        turn(&mut scribe, &mut script, &mut turns).expect("it works");
        assert!(!script.waits[0].eager);
    }
}
