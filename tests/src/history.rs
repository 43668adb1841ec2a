//! Many lives of a broker on one disk, each of which ends, most of them badly; and the judgement
//! of each recovery. What happens follows from a seed and its [`Swarm`].

use broker::io::sim::{Failure, FaultPlan, Lasting, Rng, SimDisk, TraceLines, Victims};
use engine::pool::Arenas;
use engine::port::Fault;

use crate::canary::Canary;
use crate::check::{compare, is_of_disk, prepare_spares, stop};
use crate::inspection;
use crate::model::{Keeps, Model, Place, Topic, Trust};
use crate::reader::{read_back, read_last};
use crate::sim_client::mark;
use crate::swarm::{Accident, Damage, Death, Swarm};
use crate::workload::{Load, Workload, pick};
use crate::world::{PowerLoss, World};

/// Deaths in a row while booting, after which something else is wrong.
const BOOTS_MAX: u32 = 8;
/// Deaths that are tried out at moments of one life.
const FORKS_MAX: u32 = 64;
/// Turns of what comes after them, all together; the last may take more. Slow networks, small
/// windows and much data shall not take all the time.
const FORK_TURNS_MAX: u64 = 4_000;
/// Of those: at one moment. What a power loss takes is another each time.
const FORKS_PER_MOMENT: u32 = 2;
/// Every acknowledgement is such a moment, and one of so many others.
const MOMENT_ONE_IN: u64 = 8;
/// Actions for each request that a life shall have, after which it ends without them: clients
/// may be stuck behind a device that failed.
const ACTIONS_PER_REQUEST_MAX: u64 = 4;
/// A read-only file system.
const EROFS: Fault = Fault(30);

/// What shall be lived through.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Everything follows from it.
    pub seed: u64,
    /// Lives on one disk.
    pub lives: u32,
    /// Requests of each life before it ends; a few lives end earlier.
    pub operations: u64,
    /// A planted bug.
    pub canary: Option<Canary>,
    /// Where everything that happens is told, if anywhere.
    pub lines: Option<TraceLines>,
}

impl Plan {
    /// Six lives of a hundred requests and more, without a planted bug.
    pub const fn new(seed: u64) -> Plan {
        Plan { seed, lives: 6, operations: 100, canary: None, lines: None }
    }

    /// The command that lives through it again.
    pub fn command(&self) -> String {
        let Plan { seed, lives, operations, canary, .. } = self;
        let usual = Plan::new(*seed);
        let mut command = format!("scripts/sim --seed {seed}");
        if *lives != usual.lives {
            command += &format!(" --lives {lives}");
        }
        if *operations != usual.operations {
            command += &format!(" --operations {operations}");
        }
        if let Some(canary) = canary {
            command += &format!(" --canary {}", canary.name());
        }
        command
    }
}

/// What happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Lives begun.
    pub lives: u64,
    /// Crashes with a checked recovery after at least so many requests as planned.
    pub recoveries: u64,
    /// Of those: the power went at a moment of a life that otherwise went on.
    pub forks: u64,
    /// Crashes with a checked recovery after fewer requests.
    pub early: u64,
    /// Requests of clients.
    pub requests: u64,
    /// Mutations of the disk.
    pub mutations: u64,
    /// A hash over all that happened.
    pub trace: u64,
    /// Laws that were broken.
    pub violations: Vec<String>,
}

impl Outcome {
    /// Counts this one as well.
    pub fn add(&mut self, other: &Outcome) {
        self.lives += other.lives;
        self.recoveries += other.recoveries;
        self.forks += other.forks;
        self.early += other.early;
        self.requests += other.requests;
        self.mutations += other.mutations;
    }
}

/// Lives through a plan, with memory that earlier ones have used.
pub fn live(arenas: &mut Arenas, plan: &Plan) -> Outcome {
    arenas.wipe();
    let mut history = History::begin(arenas, plan);
    for life in 0..plan.lives {
        let is_last = life + 1 == plan.lives;
        let damage = history.swarm.damage.filter(|_| is_last);
        if !history.live_once(damage) || !history.model.violations().is_empty() {
            return history.end();
        }
    }
    history.flip_bits();
    if let Some(mut world) = history.boot() {
        let _ = history.check_recovery(&mut world);
        history.bury(world, Death::PowerLoss);
    }
    history.end()
}

/// Whether the crash before a recovery came after as many requests as planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crash {
    Full,
    Early,
}

/// A disk, and what has become of it so far.
struct History<'a> {
    arenas: &'a mut Arenas,
    plan: &'a Plan,
    swarm: Swarm,
    rng: Rng,
    model: Model,
    disk: SimDisk,
    /// The crash that no recovery was checked for.
    crash: Option<Crash>,
    /// The last life ended in order.
    is_stopped: bool,
    forks_left: u32,
    fork_turns: u64,
    outcome: Outcome,
}

impl<'a> History<'a> {
    fn begin(arenas: &'a mut Arenas, plan: &'a Plan) -> History<'a> {
        let mut swarm = Swarm::of(plan.seed);
        swarm.around.lines = plan.lines;
        let mut rng = Rng::new(plan.seed);
        let mut disk = SimDisk::new(rng.next_u64());
        if let Some(canary) = plan.canary {
            // A planted bug shall be seen, so the device does nothing else.
            swarm.accidents = [1, 0, 0, 0, 0, 0];
            swarm.damage = None;
            canary.spoil_weather(&mut swarm.around.weather);
            canary.spoil_disk(disk.plan());
        }
        let outcome = Outcome::default();
        let history = History {
            arenas,
            plan,
            swarm,
            rng,
            model: Model::default(),
            disk,
            crash: None,
            is_stopped: false,
            forks_left: 0,
            fork_turns: 0,
            outcome,
        };
        history.tell(|| format!("{:#?}", history.swarm));
        history
    }

    /// From one boot to the next death; false if there is no going on.
    fn live_once(&mut self, damage: Option<Damage>) -> bool {
        let Some(mut world) = self.boot() else { return false };
        self.outcome.lives += 1;
        let death = Death::ALL[pick(&mut self.rng, &self.swarm.deaths)];
        let load = Load { clients: self.swarm.clients, actions: 0 };
        let mut work = Workload::with_habits(self.rng.next_u64(), load, self.swarm.habits);
        work.canary = self.plan.canary;
        let mut ended = self.check_recovery(&mut world);
        let death_in_recovery = if self.rng.one_in(2) { Death::PowerLoss } else { Death::Kill };
        let death = if ended.is_ok() { death } else { death_in_recovery };
        if ended.is_ok() {
            self.plan_accident(&mut world);
            self.begin_damage(&mut world, damage);
            ended = self.spend(&mut world, &mut work, death);
        }
        self.tell(|| format!("-- {death:?} after {} requests: {ended:?}", work.requests()));
        self.outcome.requests += work.requests();
        let is_full = work.requests() >= self.plan.operations;
        let is_well = world.errors().is_empty() && !self.model.is_disturbed;
        self.is_stopped = death == Death::Stop && world.is_stopped() && is_well;
        self.crash = Some(if is_full { Crash::Full } else { Crash::Early });
        work.give_up(&mut self.model);
        self.bury(world, death);
        true
    }

    /// Boots, again if the process dies meanwhile. `None`, and a violation unless the device is
    /// to blame, if recovery refuses.
    fn boot(&mut self) -> Option<World> {
        let mutations = self.disk.mutations();
        if self.crash.is_some() && self.rng.one_in(4) {
            self.disk.plan().power_loss_at = Some(mutations + 1 + self.rng.below(24));
        }
        for _ in 0..BOOTS_MAX {
            // Another number of shards is another placement.
            self.swarm.settings.shards = self.swarm.shards[self.rng.index(self.swarm.shards.len())];
            let settings = &self.swarm.settings;
            prepare_spares(&mut self.disk, settings, self.swarm.spares);
            let is_whole = self.model.trust == Trust::Whole && !self.disk.is_off();
            let seen = (is_whole && self.rng.one_in(24)).then(|| inspection::inspect(&self.disk));
            let disk = std::mem::replace(&mut self.disk, SimDisk::new(0));
            let (seed, around) = (self.rng.next_u64(), &self.swarm.around);
            let (disk, error) = match World::boot_within(self.arenas, settings, disk, seed, around)
            {
                Ok(world) => {
                    self.tell(|| format!("-- boot: {}", world.report));
                    if let Some(seen) = seen {
                        compare(&mut self.model, &seen, &world.report);
                    }
                    for range in world.report.damaged.iter().filter(|_| is_whole) {
                        self.model.wrong(format!("a crash is taken for damage: {range}"));
                    }
                    let is_torn = world.report.is_journal_torn;
                    if std::mem::take(&mut self.is_stopped) && is_torn && is_whole {
                        self.model.wrong("the journal is torn after a clean stop");
                    }
                    return Some(world);
                }
                Err(failed) => *failed,
            };
            self.tell(|| format!("-- no boot: {error}"));
            self.disk = disk;
            if !is_of_disk(&error) {
                if self.model.trust == Trust::Whole {
                    self.model.wrong(format!("recovery refuses: {error}"));
                }
                return None;
            }
            let death = if self.rng.one_in(2) { Death::PowerLoss } else { Death::Kill };
            self.crash(death);
        }
        self.model.wrong("the broker never comes up");
        None
    }

    /// Judges what can be read after a start.
    fn check_recovery(&mut self, world: &mut World) -> Result<(), PowerLoss> {
        let model = &mut self.model;
        model.is_disturbed = false;
        read_back(world, model)?;
        match self.crash.take() {
            Some(Crash::Full) => self.outcome.recoveries += 1,
            Some(Crash::Early) => self.outcome.early += 1,
            None => {}
        }
        if model.trust == Trust::Whole && self.rng.one_in(4) {
            // What was seen just now is seen for ever.
            self.fork(world, 0);
        }
        Ok(())
    }

    /// Works until it is time to die, and dies, or comes to rest.
    fn spend(
        &mut self,
        world: &mut World,
        work: &mut Workload,
        death: Death,
    ) -> Result<(), PowerLoss> {
        let planned = self.plan.operations;
        let is_early = self.rng.one_in(10);
        let requests = if is_early { self.rng.below(planned) } else { planned };
        let requests = requests + self.rng.below(planned + 1);
        let is_space_back = self.rng.one_in(2);
        self.forks_left = FORKS_MAX;
        self.fork_turns = 0;
        let mut actions = 0;
        while work.requests() < requests && actions < requests * ACTIONS_PER_REQUEST_MAX {
            actions += u64::from(work.step(world, &mut self.model)?);
            self.watch(world, work.requests());
            if is_space_back && work.requests() > requests / 2 {
                make_space(world.disk().plan());
            }
        }
        if matches!(death, Death::PowerLoss | Death::Kill) {
            let next = world.disk().mutations() + 1;
            world.disk().plan().power_loss_at = Some(next + self.rng.below(12));
            for _ in 0..self.rng.below(400) {
                work.step(world, &mut self.model)?;
                self.watch(world, work.requests());
            }
            return Err(PowerLoss);
        }
        // Whoever waits for space is answered once there is some.
        make_space(world.disk().plan());
        work.finish(world, &mut self.model)?;
        self.watch(world, work.requests());
        self.come_to_rest(world, death)
    }

    fn come_to_rest(&mut self, world: &mut World, death: Death) -> Result<(), PowerLoss> {
        let model = &mut self.model;
        let plan = std::mem::take(world.disk().plan());
        world.disk().plan().honesty = plan.honesty;
        read_back(world, model)?;
        if model.trust == Trust::Whole {
            if let Some(leak) = world.leaks() {
                model.wrong(leak);
            }
            let is_stalling = self.swarm.around.weather.stall_ns > 0;
            let is_told = !model.is_disturbed && !is_stalling && self.plan.canary.is_none();
            if let Some(error) = world.errors().first().filter(|_| is_told) {
                model.wrong(format!("the shard tells of an error: {error}"));
            }
            if !model.is_disturbed
                && self.rng.one_in(4)
                && let Some(left) = world.leftovers()?
            {
                model.wrong(left);
            }
        }
        if death == Death::Stop { stop(world, model) } else { Ok(()) }
    }

    /// Looks at what must hold at any time.
    fn watch(&mut self, world: &mut World, requests: u64) {
        if let Some(what) = world.beyond_bounds() {
            self.model.wrong(what);
        }
        let news = std::mem::take(&mut self.model.news);
        if self.model.trust == Trust::Damaged {
            return;
        }
        for &(place, record) in &news {
            if self.rng.one_in(4)
                && is_kept(&self.model, place)
                && !world.disk().is_stable(mark(record))
            {
                let what = format!("record {record} is acknowledged and not durable");
                self.model.violated(place, what);
            }
        }
        if self.plan.canary == Some(Canary::ForgetfulModel)
            && let Some(&(place, _)) = news.first()
            && self.rng.one_in(2)
        {
            self.model.forget_newest(place);
        }
        let is_moment = !news.is_empty() || self.rng.one_in(MOMENT_ONE_IN);
        if is_moment && requests >= self.plan.operations {
            for _ in 0..FORKS_PER_MOMENT.min(self.forks_left) {
                if self.fork_turns < FORK_TURNS_MAX {
                    self.forks_left -= 1;
                    self.fork(world, requests);
                }
            }
        }
    }

    /// What if the power went, or the process died, just now?
    fn fork(&mut self, world: &mut World, requests: u64) {
        let mut disk = world.disk().clone();
        let honesty = disk.plan().honesty;
        *disk.plan() = FaultPlan { honesty, ..Default::default() };
        let mut model = self.model.clone();
        model.nobody_answers();
        model.is_disturbed = false;
        let whence = match self.rng.below(4) {
            0 => {
                model.killed();
                disk.restart();
                "if the process had been killed"
            }
            1 => {
                model.died();
                disk.power_on();
                "if the power had gone"
            }
            _ => {
                model.died();
                disk.forget_unsynced();
                "if the power had gone and taken all that was not durable"
            }
        };
        self.tell(|| format!("-- {whence}:"));
        let mut settings = self.swarm.settings.clone();
        settings.shards = self.swarm.shards[self.rng.index(self.swarm.shards.len())];
        let (seed, around) = (self.rng.next_u64(), &self.swarm.around);
        match World::boot_within(self.arenas, &settings, disk, seed, around) {
            Ok(mut other) => {
                if read_last(&mut other, &mut model) == Err(PowerLoss) {
                    model.wrong("the power went unplanned");
                }
                self.fork_turns += other.turns();
                self.outcome.trace ^= other.trace_hash();
            }
            Err(failed) => model.wrong(format!("recovery refuses: {}", failed.1)),
        }
        self.model.adopt(&model, whence);
        self.tell(|| "-- but it went on".to_owned());
        if requests >= self.plan.operations {
            self.outcome.recoveries += 1;
            self.outcome.forks += 1;
        } else {
            self.outcome.early += 1;
        }
    }

    /// Decides what goes wrong in this life.
    fn plan_accident(&mut self, world: &mut World) {
        let accident = Accident::ALL[pick(&mut self.rng, &self.swarm.accidents)];
        self.tell(|| format!("-- accident: {accident:?}"));
        self.model.is_disturbed = accident != Accident::Nothing;
        let mut disk = world.disk();
        let (mutations, reads) = (disk.mutations(), disk.reads());
        let used: usize = disk.files().map(|(_, bytes)| bytes.len()).sum();
        let rng = &mut self.rng;
        let fault = [Fault::EIO, Fault::ENOSPC, EROFS][rng.index(3)];
        let at = mutations + 1 + rng.below(300);
        let plan = disk.plan();
        match accident {
            Accident::Nothing => {}
            Accident::Once => {
                let is_short = rng.one_in(3);
                let failure = if is_short { Failure::Short } else { Failure::Fault(fault) };
                plan.mutations.insert(at, failure);
            }
            Accident::Lasting => {
                let kinds = [Victims::All, Victims::Writes, Victims::Flushes, Victims::Files];
                let victims = kinds[rng.index(kinds.len())];
                plan.lasting = Some(Lasting { from: at, victims, fault });
            }
            Accident::Reads => {
                plan.reads.extend((0..4).map(|_| (reads + 1 + rng.below(60), Fault::EIO)));
            }
            Accident::WrongReads => match rng.index(2) {
                0 => plan.flipped_reads_one_in = rng.between(1, 16),
                _ => plan.foreign_reads_one_in = rng.between(1, 16),
            },
            Accident::Full => {
                let room = usize::try_from(rng.below(500_000)).expect("small");
                plan.space_bytes = Some(used + room);
            }
        }
    }

    /// From now on the device may do anything. What it did to a recovery would be lost without a
    /// trace, so there is none before the last.
    fn begin_damage(&mut self, world: &mut World, damage: Option<Damage>) {
        let mut disk = world.disk();
        let plan = disk.plan();
        match damage {
            None | Some(Damage::FlippedBits) => return,
            Some(Damage::LostWrites) => plan.lost_writes_one_in = 20,
            Some(Damage::MisdirectedWrites) => plan.misdirected_writes_one_in = 20,
        }
        drop(disk);
        self.distrust();
    }

    fn flip_bits(&mut self) {
        if self.swarm.damage != Some(Damage::FlippedBits) {
            return;
        }
        self.distrust();
        for _ in 0..self.rng.between(1, 8) {
            let files = self.disk.files();
            let paths: Vec<_> = files.map(|(path, bytes)| (path.clone(), bytes.len())).collect();
            let (path, len) = paths[self.rng.index(paths.len())].clone();
            if len > 0 {
                let (byte, mask) = (self.rng.index(len), 1 << self.rng.below(8));
                self.disk.edit(&path, |bytes| bytes[byte] ^= mask);
            }
        }
    }

    fn distrust(&mut self) {
        self.model.trust = Trust::Damaged;
        self.model.logs.values_mut().for_each(|log| log.keeps = Keeps::Perhaps);
    }

    /// A world ends; its disk goes on.
    fn bury(&mut self, world: World, death: Death) {
        self.outcome.trace = world.trace_hash() ^ self.outcome.trace.rotate_left(1);
        self.disk = world.into_disk();
        self.outcome.mutations = self.disk.mutations();
        self.crash(death);
    }

    fn crash(&mut self, death: Death) {
        let power_loss_at = None;
        let is_planted = self.plan.canary.is_some();
        let old = std::mem::take(self.disk.plan());
        *self.disk.plan() = FaultPlan {
            power_loss_at,
            honesty: old.honesty,
            lost_writes_one_in: if is_planted { old.lost_writes_one_in } else { 0 },
            ..Default::default()
        };
        self.model.nobody_answers();
        if death == Death::Kill {
            self.model.killed();
            self.disk.restart();
        } else {
            self.model.died();
            self.disk.power_on();
        }
    }

    fn end(mut self) -> Outcome {
        self.outcome.violations = self.model.violations().to_vec();
        self.outcome
    }

    fn tell(&self, line: impl FnOnce() -> String) {
        if let Some(tell) = self.plan.lines {
            tell(&line());
        }
    }
}

/// Somebody deletes something that lay in the way.
fn make_space(plan: &mut FaultPlan) {
    plan.space_bytes = None;
    plan.lasting = plan.lasting.filter(|lasting| lasting.fault != Fault::ENOSPC);
}

/// Whether a partition's records stay where they are.
fn is_kept(model: &Model, place: Place) -> bool {
    let is_live = |topic: &Topic| matches!(topic, Topic::Live(id, _) if *id == place.0);
    let is_whole = |keeps: Keeps, asked: u64| keeps == Keeps::All && asked == 0;
    model.topics.values().any(is_live)
        && model.logs.get(&place).is_some_and(|log| is_whole(log.keeps, log.start_asked))
}
