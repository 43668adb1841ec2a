//! A broker of production shards on the simulated backend: boots, turns, loses power, boots
//! again.

use std::cell::RefMut;

use broker::io::sim::{LinkBus, Rng, SharedDisk, SimDisk, SimIo, SimOptions, TraceLines, Weather};
use broker::io::{Io, Wait};
use engine::boot::{BootError, BootReport, boot_within};
use engine::pool::Arenas;
use engine::port::{Done, Level, Notice, Now, OpBatch, Time};
use engine::{Settings, Shard};

/// Turns in a row that bring nothing although a deadline has passed, after which the shard is
/// spinning.
const IDLE_TURNS_MAX: u32 = 10_000;
/// At rest is what has nothing under way within this time, stalls apart, in ns.
const SETTLE_NS_MAX: u64 = 2_000_000_000;
/// No timer of a request is longer, in ns.
const TIMERS_NS_MAX: u64 = 40_000_000_000;
/// Ten minutes into 2023.
const WALL_NS: u64 = 1_672_531_800_000_000_000;

/// The power went, as planned.
#[derive(Debug, PartialEq, Eq)]
pub struct PowerLoss;

/// What the broker runs in.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// How long things take.
    pub weather: Weather,
    /// What a client's socket holds.
    pub client_window_bytes: usize,
    /// Where every op and done is told, if anywhere.
    pub lines: Option<TraceLines>,
}

impl Default for Surroundings {
    fn default() -> Surroundings {
        let weather = Weather::default();
        Surroundings { weather, client_window_bytes: 96 * 1024, lines: None }
    }
}

/// A broker and its world, from one boot to the next.
#[derive(Debug)]
pub struct World {
    shards: Vec<Life>,
    /// What the shards would have logged.
    pub notices: Vec<Notice>,
    /// What recovery found.
    pub report: BootReport,
    rng: Rng,
    stall_ns: u64,
    turns: u64,
}

/// One shard's life.
#[derive(Debug)]
struct Life {
    /// The production engine.
    shard: Shard,
    /// Everything around it.
    io: SimIo,
    dones: Vec<Done>,
    batch: OpBatch,
    idle_turns: u32,
}

impl World {
    /// Boots the shards from what the disk holds. If that fails the disk comes back.
    ///
    /// # Errors
    /// What recovery refused, or that the power went.
    pub fn boot(
        settings: &Settings,
        disk: SimDisk,
        seed: u64,
    ) -> Result<World, Box<(SimDisk, BootError)>> {
        let arenas = &mut Arenas::default();
        World::boot_within(arenas, settings, disk, seed, &Surroundings::default())
    }

    /// The same, with memory that earlier worlds have used.
    ///
    /// # Errors
    /// As [`World::boot`].
    pub fn boot_within(
        arenas: &mut Arenas,
        settings: &Settings,
        mut disk: SimDisk,
        seed: u64,
        around: &Surroundings,
    ) -> Result<World, Box<(SimDisk, BootError)>> {
        let mut rng = Rng::new(seed);
        let start = Now { time: Time(1_000_000), wall_ns: WALL_NS + rng.below(1 << 40) };
        let engine_seed = (u128::from(rng.next_u64()) << 64) | u128::from(rng.next_u64());
        let (shards, report) = match boot_within(arenas, settings, &mut disk, start, engine_seed) {
            Ok(booted) => booted,
            Err(error) => return Err(Box::new((disk, error))),
        };
        let disk = SharedDisk::from(disk);
        let bus = LinkBus::new(settings.shards);
        let shards = (0..settings.shards).zip(shards).map(|(number, shard)| {
            let options = SimOptions {
                seed: rng.next_u64(),
                start,
                connections_max: u32::try_from(settings.connections_max).expect("tiny"),
                client_window_bytes: around.client_window_bytes,
                weather: around.weather,
            };
            let pool = shard.pool();
            let mut io =
                SimIo::new(pool.shared_arena(), pool.recv_region(), disk.clone(), &options);
            if settings.shards > 1 {
                io.join(&bus, number);
            }
            if let Some(lines) = &around.lines {
                io.tell(number, *lines);
            }
            Life { shard, io, dones: Vec::new(), batch: OpBatch::default(), idle_turns: 0 }
        });
        let shards = shards.collect();
        let stall_ns = around.weather.stall_ns + around.weather.lag_ns;
        Ok(World { shards, notices: Vec::new(), report, rng, stall_ns, turns: 0 })
    }

    /// A shard for a client to connect to.
    pub fn any_shard(&mut self) -> usize {
        if self.shards.len() == 1 { 0 } else { self.rng.index(self.shards.len()) }
    }

    /// How many shards there are.
    pub const fn shards(&self) -> usize {
        self.shards.len()
    }

    /// A shard.
    pub fn shard(&self, shard: usize) -> &Shard {
        &self.shards[shard].shard
    }

    /// Everything around a shard.
    pub fn io(&mut self, shard: usize) -> &mut SimIo {
        &mut self.shards[shard].io
    }

    /// The disk, to plan what goes wrong.
    pub fn disk(&mut self) -> RefMut<'_, SimDisk> {
        self.shards[0].io.disk()
    }

    /// What time it is for the shard that is behind all others.
    pub fn now(&self) -> Time {
        let clocks = self.shards.iter().map(|life| life.io.now().time);
        clocks.min().expect("there is a shard")
    }

    /// So much longer than usual things may take, a few stalls one after the other.
    pub const fn stall_ns(&self) -> u64 {
        self.stall_ns * 16
    }

    /// Asks the process to stop.
    pub fn stop(&mut self) {
        self.shards.iter_mut().for_each(|life| life.io.stop());
    }

    /// Whether a stop was asked for and all is finished.
    pub fn is_stopped(&self) -> bool {
        self.shards.iter().all(|life| life.shard.is_stopped())
    }

    /// A hash over every op and done of all shards.
    pub fn trace_hash(&self) -> u64 {
        let hashes = self.shards.iter().map(|life| life.io.trace_hash());
        hashes.fold(0, |sum, hash| sum.rotate_left(7) ^ hash)
    }

    /// Turns so far.
    pub const fn turns(&self) -> u64 {
        self.turns
    }

    /// One turn of the shard whose turn it is; it comes back by `until`.
    ///
    /// # Errors
    /// The power went.
    pub fn turn(&mut self, until: Option<Time>) -> Result<(), PowerLoss> {
        self.turns += 1;
        let lives = self.shards.iter_mut();
        let life = lives.min_by_key(|life| life.next_at(until)).expect("there is a shard");
        // As in the broker: a turn has a budget, and the rest stays for the next.
        let budget = if self.rng.one_in(4) { 1 + self.rng.index(4) } else { usize::MAX };
        life.turn(until, budget)?;
        self.notices.append(&mut life.batch.notices);
        Ok(())
    }

    /// Turns until nothing is on its way and no timer is near.
    ///
    /// # Errors
    /// The power went.
    pub fn settle(&mut self) -> Result<(), PowerLoss> {
        // Some shards are ahead of others.
        let latest = self.shards.iter().map(|life| life.io.now().time).max();
        let latest = latest.expect("there is a shard");
        let end = latest.plus_ns(SETTLE_NS_MAX + self.stall_ns());
        while self.now() < end && !self.shards.iter().all(Life::is_settled) {
            self.turn(Some(end))?;
        }
        Ok(())
    }

    /// The process ends here, whatever it was doing; what was in flight stays with the disk.
    pub fn into_disk(mut self) -> SimDisk {
        self.shards.truncate(1);
        self.shards.pop().expect("there is a shard").io.into_disk()
    }

    /// Fails if a shard holds memory that nothing accounts for. For a world that is settled
    /// and has no connections.
    pub fn leaks(&self) -> Option<String> {
        self.shards.iter().find_map(Life::leaks)
    }

    /// Lets time pass until every timer has had its turn, then fails if anything is left of what
    /// clients wanted. For a world that is settled and has no connections.
    ///
    /// # Errors
    /// The power went.
    pub fn leftovers(&mut self) -> Result<Option<String>, PowerLoss> {
        let end = self.now().plus_ns(TIMERS_NS_MAX + self.stall_ns());
        while self.now() < end {
            self.turn(Some(end))?;
        }
        self.settle()?;
        Ok(self.shards.iter().find_map(|life| life.shard.leftovers()))
    }

    /// Which bound a shard does not keep.
    pub fn beyond_bounds(&self) -> Option<String> {
        self.shards.iter().find_map(|life| life.shard.beyond_bounds())
    }

    /// Sentences for people that told of something lost or refused.
    pub fn errors(&self) -> Vec<&str> {
        let errors = self.notices.iter().filter(|notice| notice.level == Level::Error);
        errors.map(|notice| notice.text.as_str()).collect()
    }
}

impl Life {
    /// When something happens to this shard, if it is told to come back by `until`.
    fn next_at(&self, until: Option<Time>) -> Time {
        let now = self.io.now().time;
        if !self.dones.is_empty() {
            return now;
        }
        let next = [self.io.next_at(), self.shard.deadline(), until];
        next.into_iter().flatten().min().unwrap_or(Time(u64::MAX)).max(now)
    }

    fn turn(&mut self, until: Option<Time>, budget: usize) -> Result<(), PowerLoss> {
        let left = (!self.dones.is_empty()).then(|| self.io.now().time);
        let deadline = [self.shard.deadline(), until, left].into_iter().flatten().min();
        let had = self.dones.len();
        let waited = self.io.wait(Wait { deadline, eager: false }, &mut self.dones);
        let now = waited.map_err(|_| PowerLoss)?;
        self.watch_for_spinning(now, had);
        for done in self.dones.drain(..budget.min(self.dones.len())) {
            self.shard.handle(now, done);
        }
        self.shard.decide(now, &mut self.batch);
        self.io.submit(&mut self.batch).map_err(|_| PowerLoss)
    }

    fn is_settled(&self) -> bool {
        let horizon = self.io.now().time.plus_ns(1_000_000_000);
        self.io.is_idle()
            && self.dones.is_empty()
            && !self.shard.is_eager()
            && self.shard.deadline().is_none_or(|deadline| deadline > horizon)
    }

    fn leaks(&self) -> Option<String> {
        let (live, accounted) = (self.shard.live_buffers(), self.shard.buffers_accounted());
        match (self.io.recv_buffers_held(), self.io.connections_open()) {
            (0, 0) if live == accounted => None,
            (0, 0) => Some(format!("{live} buffers are live, {accounted} are accounted for")),
            (buffers, connections) => Some(format!(
                "{buffers} receive buffers and {connections} connections are not given back"
            )),
        }
    }

    fn watch_for_spinning(&mut self, now: Now, had: usize) {
        let is_idle = self.dones.is_empty() && had == 0;
        let is_due = self.shard.deadline().is_some_and(|deadline| deadline <= now.time);
        self.idle_turns = if is_idle && is_due { self.idle_turns + 1 } else { 0 };
        let deadlines = self.shard.deadlines();
        assert!(self.idle_turns < IDLE_TURNS_MAX, "at {now:?} the shard spins: {deadlines:?}");
    }
}
