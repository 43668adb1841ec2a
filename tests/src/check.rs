//! Lives of a broker: work, a death at a chosen moment, recovery, and the judgement of all that
//! can be read afterwards.

use broker::io::sim::{Honesty, Rng, SimDisk, StreamEnd};
use engine::Settings;
use engine::boot::BootError;
use wire::TopicId;

use crate::model::{Model, Place, Topic};
use crate::sim_client::{Fetched, SimClient, State};
use crate::workload::{Load, Workload};
use crate::world::{PowerLoss, World};

/// Reading back gives up after this much simulated time.
const READ_NS_MAX: u64 = 60_000_000_000;
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
    /// Lives after the first.
    pub rebirths: u32,
    /// Whether the device keeps its word.
    pub honesty: Honesty,
}

impl Trial {
    /// Two rebirths on an honest disk, and no planned power loss.
    pub const fn new(seed: u64, load: Load) -> Trial {
        let honesty = Honesty::Honest;
        Trial { seed, load, power_loss_at: None, rebirths: 2, honesty }
    }

    /// The command that lives through it again.
    pub fn command(&self) -> String {
        let Trial { seed, load, power_loss_at, rebirths, honesty } = self;
        let Load { clients, actions } = load;
        let mut command = format!(
            "scripts/sim --seed {seed} --clients {clients} --actions {actions} \
             --rebirths {rebirths}"
        );
        if let Some(at) = power_loss_at {
            command += &format!(" --power-loss-at {at}");
        }
        if *honesty == Honesty::Lying {
            command += " --lying";
        }
        command
    }
}

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Mutations of the disk in all lives.
    pub mutations: u64,
    /// A hash over all that happened.
    pub trace: u64,
    /// Laws that were broken.
    pub violations: Vec<String>,
}

/// Lives through a trial.
pub fn live(settings: &Settings, trial: &Trial) -> Outcome {
    let mut rng = Rng::new(trial.seed);
    let mut model = Model::default();
    let mut disk = SimDisk::new(rng.next_u64());
    disk.plan().power_loss_at = trial.power_loss_at;
    disk.plan().honesty = trial.honesty;
    let mut trace = 0;
    for life in 0..=trial.rebirths {
        let Some(mut world) = boot(settings, disk, &mut rng, &mut model) else {
            return Outcome { mutations: 0, trace, violations: model.violations().to_vec() };
        };
        let mut work = Workload::new(rng.next_u64(), trial.load);
        let mut ended = if life > 0 { read_back(&mut world, &mut model) } else { Ok(()) };
        if ended.is_ok() {
            ended = work.run(&mut world, &mut model);
        }
        if ended.is_ok() {
            ended = read_back(&mut world, &mut model);
        }
        if ended.is_ok() {
            check_at_rest(&mut world, &mut model);
        }
        work.give_up(&mut model);
        model.died();
        trace = world.io.trace_hash() ^ u64::rotate_left(trace, 1);
        disk = world.into_disk();
        disk.power_on();
        // Recovery may be cut short as well.
        if rng.one_in(2) {
            disk.plan().power_loss_at = Some(disk.mutations() + 1 + rng.below(16));
        }
    }
    // The last word is recovery's, undisturbed.
    disk.plan().power_loss_at = None;
    if let Some(mut world) = boot(settings, disk, &mut rng, &mut model) {
        if read_back(&mut world, &mut model) == Err(PowerLoss) {
            model.wrong("the power went unplanned");
        }
        trace = world.io.trace_hash() ^ trace.rotate_left(1);
        disk = world.into_disk();
        return outcome(&disk, trace, &model);
    }
    Outcome { mutations: 0, trace, violations: model.violations().to_vec() }
}

fn outcome(disk: &SimDisk, trace: u64, model: &Model) -> Outcome {
    let violations = model.violations().to_vec();
    Outcome { mutations: disk.mutations(), trace, violations }
}

/// Boots, again if the power goes meanwhile.
fn boot(settings: &Settings, mut disk: SimDisk, rng: &mut Rng, model: &mut Model) -> Option<World> {
    for _ in 0..BOOTS_MAX {
        let error = match World::boot(settings, disk, rng.next_u64()) {
            Ok(world) => return Some(world),
            Err(failed) => {
                disk = failed.0;
                failed.1
            }
        };
        if !disk.is_off() {
            model.wrong(format!("recovery refuses: {error}"));
            return None;
        }
        assert!(matches!(error, BootError::Disk(..) | BootError::List(_)), "{error}");
        disk.power_on();
    }
    panic!("the power goes at most once while booting");
}

fn check_at_rest(world: &mut World, model: &mut Model) {
    if let Some(leak) = world.leaks() {
        model.wrong(leak);
    }
    if let Some(error) = world.errors().first() {
        model.wrong(format!("the shard tells of an error: {error}"));
    }
}

/// Reads every partition from its beginning and judges what is there.
///
/// # Errors
/// The power went.
pub fn read_back(world: &mut World, model: &mut Model) -> Result<(), PowerLoss> {
    let mut reader = Reader { client: SimClient::connect(&mut world.io, model) };
    let result = reader.read_all(world, model);
    let Reader { mut client } = reader;
    if result.is_ok() {
        client.leave(&mut world.io, model, StreamEnd::Eof);
        return world.settle();
    }
    client.give_up(model);
    result
}

struct Reader {
    client: SimClient,
}

impl Reader {
    fn read_all(&mut self, world: &mut World, model: &mut Model) -> Result<(), PowerLoss> {
        let is_ready = |client: &mut SimClient| client.is_ready().then_some(());
        let Some(()) = self.until(world, model, is_ready)? else { return Ok(()) };
        self.client.metadata(world.io.now().time);
        let Some(topics) = self.until(world, model, |client| client.topics.take())? else {
            return Ok(());
        };
        learn(model, &topics);
        for (_, id, partitions) in topics {
            for partition in 0..partitions {
                if self.read_partition(world, model, (id, partition))?.is_none() {
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
    ) -> Result<Option<()>, PowerLoss> {
        let mut records = Vec::new();
        loop {
            let offset = records.last().map_or(0, |&(offset, _)| offset + 1);
            self.client.fetch(world.io.now().time, place, offset, 0, 64 * 1024);
            let fetched = self.until(world, model, |client| client.fetched.pop())?;
            let Some(Fetched { error, records: more, end, .. }) = fetched else {
                model.violated(place, format!("reading at {offset} brings no answer"));
                return Ok(None);
            };
            if error != 0 {
                model.violated(place, format!("reading at {offset} fails with code {error}"));
                return Ok(Some(()));
            }
            // The first batch may begin before what was asked for.
            let news: Vec<_> = more.into_iter().filter(|&(at, _)| at >= offset).collect();
            if news.is_empty() {
                if offset < end {
                    model.violated(place, format!("nothing comes at {offset}, before {end}"));
                }
                model.judge(place, &records, end);
                return Ok(Some(()));
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
        let end = world.io.now().time.plus_ns(READ_NS_MAX);
        while world.io.now().time < end && self.client.state == State::Open {
            if let Some(found) = what(&mut self.client) {
                return Ok(Some(found));
            }
            self.client.pump(&mut world.io, model);
            world.turn(Some(end))?;
            self.client.pump(&mut world.io, model);
        }
        model.wrong("a reader is not answered");
        Ok(None)
    }
}

/// Compares the topics that there are with those that must be, and learns of those in doubt.
fn learn(model: &mut Model, topics: &[(String, TopicId, u32)]) {
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
            (_, Some((id, partitions))) => *known = Topic::Live(id, partitions),
            (_, None) => *known = Topic::Gone,
        }
    }
    for what in wrong {
        model.wrong(what);
    }
}
