//! Lives of a broker: work, a death at a chosen moment, recovery, and the judgement of all that
//! can be read afterwards.

use broker::io::sim::{Failure, Honesty, Rng, SimDisk};
use engine::Settings;
use engine::boot::{BootError, BootReport};
use engine::inspect::InspectError;
use engine::layout::FilePath;
use engine::pool::Arenas;
use engine::port::Disk;
use engine::settings::FetchPath;

use crate::inspection::{self, Inspection};
use crate::model::Model;
use crate::reader::read_back;
use crate::sim_client::SimClient;
use crate::workload::{Load, Workload};
use crate::world::{PowerLoss, Surroundings, World};

/// A stop ends within this time.
const STOP_NS_MAX: u64 = 10_000_000_000;
/// Deaths in a row while booting, after which something else is wrong.
const BOOTS_MAX: u32 = 8;

/// What shall happen.
#[derive(Debug, Clone, Copy)]
pub struct Trial {
    /// Everything random follows from it.
    pub seed: u64,
    /// What clients do in each life.
    pub load: Load,
    /// The power goes as this mutation of the disk is submitted.
    pub power_loss_at: Option<u64>,
    /// This mutation of the disk goes wrong, in this way.
    pub failure: Option<(u64, Failure)>,
    /// Lives after the first.
    pub rebirths: u32,
    /// Whether the device keeps its word.
    pub honesty: Honesty,
    /// Which limits the broker has.
    pub bounds: Bounds,
}

/// Limits of a trial's broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bounds {
    /// The tiny ones.
    #[default]
    Tiny,
    /// Others of that order, chosen by the seed, and perhaps spare segments.
    Varied,
}

impl Bounds {
    pub(crate) fn spares(self, seed: u64) -> u32 {
        match self {
            Bounds::Tiny => 0,
            Bounds::Varied => [0, 2, 5][Rng::new(seed ^ 0x5fae).index(3)],
        }
    }

    pub(crate) fn settings(self, seed: u64) -> Settings {
        let tiny = Settings::tiny();
        if self == Bounds::Tiny {
            return tiny;
        }
        let mut rng = Rng::new(seed ^ 0x5e77);
        let kib = [16, 32, 64];
        Settings {
            journal_files: [2, 3, 4, 7][rng.index(4)],
            journal_file_bytes: [32, 64, 96][rng.index(3)] * 1024,
            commits_in_flight: [1, 2, 3, 5][rng.index(4)],
            background_writes_max: [1, 2, 4][rng.index(3)],
            direct_run_bytes_min: [4, 8, 12][rng.index(3)] * 1024,
            gather_budget_bytes: kib[rng.index(3)] * 1024,
            read_bytes: [4, 16, 64][rng.index(3)] * 1024,
            read_ahead_bytes: [0, 16, 64][rng.index(3)] * 1024,
            reads_in_flight_max: [1, 2, 8][rng.index(3)],
            fetch_path: FetchPath::ALL[rng.index(FetchPath::ALL.len())],
            reply_bytes_queued_max: kib[rng.index(3)] * 1024,
            lazy_commit_ns: [0, 100_000, 1_000_000, 20_000_000][rng.index(4)],
            requests_in_flight_max: [1, 2, 16][rng.index(3)],
            connections_max: [4, 8, 32][rng.index(3)],
            files_max: [16, 24, 64][rng.index(3)],
            recycle_bytes: [0, 400_000, 1 << 30][rng.index(3)],
            scrub_bytes_per_s: 8 << 20,
            free_bytes_min: [0, 64 * 1024, 200_000][rng.index(3)],
            ..tiny
        }
    }
}

impl Trial {
    /// Two rebirths on an honest disk, and no planned power loss.
    pub const fn new(seed: u64, load: Load) -> Trial {
        let (honesty, bounds) = (Honesty::Honest, Bounds::Tiny);
        Trial { seed, load, power_loss_at: None, failure: None, rebirths: 2, honesty, bounds }
    }

    /// The command that lives through it again.
    pub fn command(&self) -> String {
        let Trial { seed, load, power_loss_at, failure, rebirths, honesty, bounds } = self;
        let Load { clients, actions } = load;
        let mut command = format!(
            "scripts/sim --plain --seed {seed} --clients {clients} --actions {actions} \
             --rebirths {rebirths}"
        );
        if let Some(at) = power_loss_at {
            command += &format!(" --power-loss-at {at}");
        }
        match failure {
            None => {}
            Some((at, Failure::Short)) => command += &format!(" --short-at {at}"),
            Some((at, Failure::Fault(_))) => command += &format!(" --fail-at {at}"),
        }
        if *honesty == Honesty::Lying {
            command += " --lying";
        }
        if *bounds == Bounds::Varied {
            command += " --varied";
        }
        command
    }
}

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Mutations of the disk in all lives.
    pub mutations: u64,
    /// Records that only a journal held when a broker died.
    pub replayed: u64,
    /// Starts that found a torn frame.
    pub torn: u64,
    /// A hash over all that happened.
    pub trace: u64,
    /// Laws that were broken.
    pub violations: Vec<String>,
}

/// Lives through a trial.
pub fn live(trial: &Trial) -> Outcome {
    live_within(&mut Arenas::default(), trial)
}

/// The same, with memory that earlier trials have used.
pub fn live_within(arenas: &mut Arenas, trial: &Trial) -> Outcome {
    arenas.wipe();
    let mut lives = Lives::begin(arenas, trial);
    for life in 0..=trial.rebirths {
        let Some(world) = lives.boot() else { return lives.outcome };
        lives.spend(world, life, trial);
    }
    // The last word is recovery's, undisturbed.
    lives.disk.plan().power_loss_at = None;
    lives.disk.plan().mutations.clear();
    if let Some(mut world) = lives.boot() {
        if read_back(&mut world, &mut lives.model) == Err(PowerLoss) {
            lives.model.wrong("the power went unplanned");
        }
        lives.end(world);
    }
    lives.outcome.violations = lives.model.violations().to_vec();
    lives.outcome
}

/// A disk, and what has become of it so far.
struct Lives<'a> {
    arenas: &'a mut Arenas,
    bounds: Bounds,
    settings: Settings,
    /// Spare segments that are made before each start.
    spares: u32,
    rng: Rng,
    model: Model,
    disk: SimDisk,
    /// How the last life ended, if it ended well.
    stopped: Option<Stopped>,
    outcome: Outcome,
}

/// Everything was finished before the process ended.
struct Stopped;

impl<'a> Lives<'a> {
    fn begin(arenas: &'a mut Arenas, trial: &Trial) -> Lives<'a> {
        let settings = trial.bounds.settings(trial.seed);
        assert_eq!(settings.invalid(), None, "limits that a broker takes");
        let mut rng = Rng::new(trial.seed);
        let mut disk = SimDisk::new(rng.next_u64());
        disk.plan().power_loss_at = trial.power_loss_at;
        disk.plan().mutations.extend(trial.failure);
        disk.plan().honesty = trial.honesty;
        let outcome =
            Outcome { mutations: 0, replayed: 0, torn: 0, trace: 0, violations: Vec::new() };
        Lives {
            arenas,
            bounds: trial.bounds,
            settings,
            spares: trial.bounds.spares(trial.seed),
            rng,
            model: Model::default(),
            disk,
            stopped: None,
            outcome,
        }
    }

    /// Boots, again if the power goes or the disk fails meanwhile. `None`, and a violation, if
    /// recovery refuses.
    fn boot(&mut self) -> Option<World> {
        for _ in 0..BOOTS_MAX {
            if self.bounds == Bounds::Varied {
                // Another number of shards is another placement.
                self.settings.shards = [1, 1, 2, 3][self.rng.index(4)];
            }
            prepare_spares(&mut self.disk, &self.settings, self.spares);
            let seen = inspection::inspect(&self.disk);
            let disk = std::mem::replace(&mut self.disk, SimDisk::new(0));
            let (around, seed) = (Surroundings::default(), self.rng.next_u64());
            let world = World::boot_within(self.arenas, &self.settings, disk, seed, &around);
            let failed = match world {
                Ok(world) => {
                    self.outcome.replayed += world.report.records_replayed;
                    let torn = u64::from(world.report.is_journal_torn);
                    self.outcome.torn += torn + world.report.segments_torn;
                    compare(&mut self.model, &seen, &world.report);
                    for range in &world.report.damaged {
                        self.model.wrong(format!("a crash is taken for damage: {range}"));
                    }
                    if self.stopped.take().is_some() && world.report.is_journal_torn {
                        self.model.wrong("the journal is torn after a clean stop");
                    }
                    return Some(world);
                }
                Err(failed) => failed,
            };
            let error = failed.1;
            self.disk = failed.0;
            if !is_of_disk(&error) {
                self.model.wrong(format!("recovery refuses: {error}"));
                self.outcome.violations = self.model.violations().to_vec();
                return None;
            }
            self.disk.power_on();
        }
        panic!("the disk fails at most twice while booting");
    }

    /// Works until it is done or the power goes.
    fn spend(&mut self, mut world: World, life: u32, trial: &Trial) {
        let mut work = Workload::new(self.rng.next_u64(), trial.load);
        let model = &mut self.model;
        let mut ended = if life > 0 { read_back(&mut world, model) } else { Ok(()) };
        ended = ended.and_then(|()| work.run(&mut world, model));
        ended = ended.and_then(|()| read_back(&mut world, model));
        if ended.is_ok() {
            check_at_rest(&mut world, model, trial);
            if self.rng.one_in(2) {
                ended = stop(&mut world, model);
            }
        }
        let is_clean = ended.is_ok() && world.is_stopped() && world.errors().is_empty();
        self.stopped = is_clean.then_some(Stopped);
        work.give_up(model);
        self.end(world);
        // Recovery may be cut short as well.
        if self.rng.one_in(2) {
            let next = self.disk.mutations() + 1;
            self.disk.plan().power_loss_at = Some(next + self.rng.below(16));
        }
    }

    /// The process ends, and the power is cut.
    fn end(&mut self, world: World) {
        self.model.died();
        self.outcome.trace = world.trace_hash() ^ self.outcome.trace.rotate_left(1);
        self.disk = world.into_disk();
        self.disk.power_on();
        self.outcome.mutations = self.disk.mutations();
    }
}

/// Looking into the directory must tell what recovery then finds.
pub(crate) fn compare(
    model: &mut Model,
    seen: &Result<Inspection, InspectError>,
    report: &BootReport,
) {
    match seen {
        Ok(seen) if !seen.summary.is_sound() => {
            model.wrong(format!("verify finds damage and recovery none: {seen:?}"));
        }
        Ok(seen) => {
            let (told, found) = (seen.summary.records_in_journals, report.records_replayed);
            if told != found {
                model.wrong(format!("verify tells of {told} records, recovery {found}"));
            }
        }
        Err(InspectError::NoData) if report.is_first => {}
        Err(error) => model.wrong(format!("verify fails: {error}")),
    }
}

/// Whether a start failed because the disk did, rather than what is on it.
pub(crate) const fn is_of_disk(error: &BootError) -> bool {
    matches!(error, BootError::Disk(..) | BootError::List(_) | BootError::Settle(_))
}

/// Makes spare segments, as the broker does before recovery.
pub(crate) fn prepare_spares(disk: &mut SimDisk, settings: &Settings, count: u32) {
    for number in 0..count {
        // A power cut meanwhile is met again by recovery.
        let _ = disk.create(&FilePath::Spare { number }, settings.segment_bytes);
    }
}

/// Asks the process to stop while a client is connected, and waits until it has.
pub(crate) fn stop(world: &mut World, model: &mut Model) -> Result<(), PowerLoss> {
    let mut client = SimClient::connect(world, model);
    world.settle()?;
    client.pump(world, model);
    world.stop();
    let end = world.now().plus_ns(STOP_NS_MAX + world.stall_ns());
    while !world.is_stopped() {
        if world.now() >= end {
            model.wrong("a stop never ends");
            break;
        }
        world.turn(Some(end))?;
        client.pump(world, model);
    }
    Ok(())
}

fn check_at_rest(world: &mut World, model: &mut Model, trial: &Trial) {
    if let Some(leak) = world.leaks() {
        model.wrong(leak);
    }
    if trial.failure.is_none()
        && let Some(error) = world.errors().first()
    {
        model.wrong(format!("the shard tells of an error: {error}"));
    }
}
