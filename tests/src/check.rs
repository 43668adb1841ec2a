//! Lives of a broker: work, a death at a chosen moment, recovery, and the judgement of all that
//! can be read afterwards.

use broker::io::sim::{Failure, Honesty, Rng, SimDisk, StreamEnd};
use engine::Settings;
use engine::boot::{BootError, BootReport};
use engine::inspect::InspectError;
use engine::layout::FilePath;
use engine::port::Disk;
use engine::settings::FetchPath;
use wire::{ErrorCode, TopicId};

use crate::inspection::{self, Inspection};
use crate::model::{Model, Place, Topic};
use crate::sim_client::{Fetched, SimClient, State};
use crate::workload::{Load, Workload};
use crate::world::{PowerLoss, World};

/// Reading back gives up after this much simulated time.
const READ_NS_MAX: u64 = 60_000_000_000;
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
    fn spares(self, seed: u64) -> u32 {
        match self {
            Bounds::Tiny => 0,
            Bounds::Varied => [0, 2, 5][Rng::new(seed ^ 0x5fae).index(3)],
        }
    }

    fn settings(self, seed: u64) -> Settings {
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
            "scripts/sim --seed {seed} --clients {clients} --actions {actions} \
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
    let mut lives = Lives::begin(trial);
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
struct Lives {
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

impl Lives {
    fn begin(trial: &Trial) -> Lives {
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
            let failed = match World::boot(&self.settings, disk, self.rng.next_u64()) {
                Ok(world) => {
                    self.outcome.replayed += world.report.records_replayed;
                    let torn = u64::from(world.report.is_journal_torn);
                    self.outcome.torn += torn + world.report.segments_torn;
                    self.compare(&seen, &world.report);
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
            if !matches!(error, BootError::Disk(..) | BootError::List(_)) {
                self.model.wrong(format!("recovery refuses: {error}"));
                self.outcome.violations = self.model.violations().to_vec();
                return None;
            }
            self.disk.power_on();
        }
        panic!("the disk fails at most twice while booting");
    }

    /// Looking into the directory must tell what recovery then finds.
    fn compare(&mut self, seen: &Result<Inspection, InspectError>, report: &BootReport) {
        match seen {
            Ok(seen) if !seen.summary.is_sound() => {
                self.model.wrong(format!("verify finds damage and recovery none: {seen:?}"));
            }
            Ok(seen) => {
                let (told, found) = (seen.summary.records_in_journals, report.records_replayed);
                if told != found {
                    self.model.wrong(format!("verify tells of {told} records, recovery {found}"));
                }
            }
            Err(InspectError::NoData) if report.is_first => {}
            Err(error) => self.model.wrong(format!("verify fails: {error}")),
        }
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

/// Makes spare segments, as the broker does before recovery.
fn prepare_spares(disk: &mut SimDisk, settings: &Settings, count: u32) {
    for number in 0..count {
        // A power cut meanwhile is met again by recovery.
        let _ = disk.create(&FilePath::Spare { number }, settings.segment_bytes);
    }
}

/// Asks the process to stop while a client is connected, and waits until it has.
fn stop(world: &mut World, model: &mut Model) -> Result<(), PowerLoss> {
    let mut client = SimClient::connect(world, model);
    world.settle()?;
    client.pump(world, model);
    world.stop();
    let end = world.now().plus_ns(STOP_NS_MAX);
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

/// Reads every partition from its beginning and judges what is there.
///
/// # Errors
/// The power went.
pub fn read_back(world: &mut World, model: &mut Model) -> Result<(), PowerLoss> {
    let mut reader = Reader { client: SimClient::connect(world, model) };
    let result = reader.read_all(world, model);
    let Reader { mut client } = reader;
    if result.is_ok() {
        client.leave(world, model, StreamEnd::Eof);
        return world.settle();
    }
    client.give_up(model);
    result
}

/// The records of one partition as a consumer gets them from its beginning: offset and number.
///
/// # Panics
/// If they cannot be read, or the power goes.
pub fn records_of(world: &mut World, place: Place) -> Vec<(u64, u64)> {
    let mut model = Model::default();
    let mut reader = Reader { client: SimClient::connect(world, &mut model) };
    let is_ready = |client: &mut SimClient| client.is_ready().then_some(());
    let ready = reader.until(world, &mut model, is_ready);
    assert_eq!(ready, Ok(Some(())), "the broker says hello");
    let read = reader.read_records(world, &mut model, place).expect("no power loss is planned");
    let (records, _, end) = read.unwrap_or_else(|| panic!("{:?}", model.violations()));
    let last = records.last().map_or(0, |&(offset, _)| offset + 1);
    assert_eq!(end, last, "all that is visible can be read");
    records
}

struct Reader {
    client: SimClient,
}

/// A partition's records, offset and number of each, and where they begin and end.
type Contents = (Vec<(u64, u64)>, u64, u64);

impl Reader {
    fn read_all(&mut self, world: &mut World, model: &mut Model) -> Result<(), PowerLoss> {
        let is_ready = |client: &mut SimClient| client.is_ready().then_some(());
        let Some(()) = self.until(world, model, is_ready)? else { return Ok(()) };
        self.client.metadata(world.now());
        let Some(topics) = self.until(world, model, |client| client.topics.take())? else {
            return Ok(());
        };
        // Once the device has failed, what was in doubt stays so until the next start.
        let is_settled = world.errors().is_empty();
        learn(model, &topics, is_settled.then_some(Settled));
        for (_, id, partitions) in topics {
            for partition in 0..partitions {
                self.read_partition(world, model, (id, partition))?;
                if self.client.in_flight() > 0 {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn read_partition(
        &mut self,
        world: &mut World,
        model: &mut Model,
        place: Place,
    ) -> Result<(), PowerLoss> {
        let before = model.start(place);
        if let Some((records, start, end)) = self.read_records(world, model, place)? {
            if start < before {
                let what = format!("it began at {before} once and begins at {start} now");
                model.violated(place, what);
            }
            model.judge(place, &records, start, end);
        }
        Ok(())
    }

    /// The partition's records, and its end as the broker told it; `None` if they do not come.
    fn read_records(
        &mut self,
        world: &mut World,
        model: &mut Model,
        place: Place,
    ) -> Result<Option<Contents>, PowerLoss> {
        let mut records = Vec::new();
        let mut begin = 0;
        loop {
            let offset = records.last().map_or(begin, |&(offset, _)| offset + 1);
            self.client.fetch(world.now(), &[(place, offset)], 0, 64 * 1024);
            let fetched = self.until(world, model, |client| client.fetched.pop())?;
            let Some(Fetched { error, records: more, start, end, .. }) = fetched else {
                model.violated(place, format!("reading at {offset} brings no answer"));
                return Ok(None);
            };
            if error == ErrorCode::OffsetOutOfRange.number() && start > offset {
                // Records go while they are read, if the topic has limits: it begins anew.
                records.clear();
                begin = start;
                continue;
            }
            if error != 0 {
                // A device that failed may fail its readers, but not without a word in the log.
                if world.errors().is_empty() {
                    model.violated(place, format!("reading at {offset} fails with code {error}"));
                }
                return Ok(None);
            }
            // The first batch may begin before what was asked for.
            let news: Vec<_> = more.into_iter().filter(|&(at, _)| at >= offset).collect();
            if news.is_empty() {
                if offset < end {
                    model.violated(place, format!("nothing comes at {offset}, before {end}"));
                }
                return Ok(Some((records, begin, end)));
            }
            records.extend(news);
        }
    }

    /// Turns until `what` gives something; `None`, and a violation, if it never does.
    fn until<T>(
        &mut self,
        world: &mut World,
        model: &mut Model,
        what: impl Fn(&mut SimClient) -> Option<T>,
    ) -> Result<Option<T>, PowerLoss> {
        let end = world.now().plus_ns(READ_NS_MAX);
        while world.now() < end && self.client.state == State::Open {
            if let Some(found) = what(&mut self.client) {
                return Ok(Some(found));
            }
            self.client.pump(world, model);
            world.turn(Some(end))?;
            self.client.pump(world, model);
        }
        model.wrong("a reader is not answered");
        Ok(None)
    }
}

/// What metadata says now holds for ever.
#[derive(Debug, Clone, Copy)]
struct Settled;

/// Compares the topics that there are with those that must be, and learns of those in doubt.
fn learn(model: &mut Model, topics: &[(String, TopicId, u32)], settled: Option<Settled>) {
    for (name, _, _) in topics {
        if !model.topics.contains_key(name) {
            model.wrong(format!("nobody created topic {name}"));
        }
    }
    let mut wrong = Vec::new();
    for (name, known) in &mut model.topics {
        let found = topics.iter().find(|(other, _, _)| other == name);
        let found = found.map(|&(_, id, partitions)| (id, partitions));
        match (*known, found) {
            (Topic::Live(id, partitions), found) if found == Some((id, partitions)) => {}
            (Topic::Gone, None) => {}
            (Topic::Live(..) | Topic::Gone, found) => {
                wrong.push(format!("topic {name} was {known:?} and is {found:?}"));
            }
            _ if settled.is_none() => {}
            (_, Some((id, partitions))) => *known = Topic::Live(id, partitions),
            (_, None) => *known = Topic::Gone,
        }
    }
    for what in wrong {
        model.wrong(what);
    }
}
