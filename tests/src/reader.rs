//! A client that reads everything that a broker holds, from its beginning, and judges it.

use broker::io::sim::StreamEnd;
use wire::{ErrorCode, TopicId};

use crate::model::{Model, Place, Topic, Trust};
use crate::sim_client::{Fetched, SimClient, State};
use crate::world::{PowerLoss, World};

/// Reading back gives up after this much simulated time without an answer.
const READ_NS_MAX: u64 = 60_000_000_000;
/// Most answers in a row that bring nothing from a damaged partition.
const HOLES_MAX: u32 = 500;

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

/// The same, of a world that ends with it.
///
/// # Errors
/// The power went.
pub fn read_last(world: &mut World, model: &mut Model) -> Result<(), PowerLoss> {
    let mut reader = Reader { client: SimClient::connect(world, model) };
    let result = reader.read_all(world, model);
    reader.client.give_up(model);
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
        if model.trust == Trust::Whole {
            learn(model, &topics, is_settled.then_some(Settled));
        }
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
        if model.trust == Trust::Damaged {
            return self.read_what_is_left(world, model, place);
        }
        let before = model.start(place);
        if let Some((records, start, end)) = self.read_records(world, model, place)? {
            if world.errors().is_empty() && !model.is_disturbed {
                model.judge_acknowledged(place, &records, start);
            }
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

    /// Reads a partition of which some may be damaged. What comes is judged as it comes.
    fn read_what_is_left(
        &mut self,
        world: &mut World,
        model: &mut Model,
        place: Place,
    ) -> Result<(), PowerLoss> {
        let (mut offset, mut holes) = (0, 0);
        while holes < HOLES_MAX {
            self.client.fetch(world.now(), &[(place, offset)], 0, 64 * 1024);
            let fetched = self.until(world, model, |client| client.fetched.pop())?;
            let Some(Fetched { error, records, start, end, .. }) = fetched else { return Ok(()) };
            match records.last() {
                Some(&(last, _)) if last >= offset => offset = last + 1,
                _ if error == ErrorCode::OffsetOutOfRange.number() && start > offset => {
                    offset = start;
                }
                _ if error == 0 && offset >= end => return Ok(()),
                _ => {
                    offset += 1;
                    holes += 1;
                }
            }
        }
        Ok(())
    }

    /// Turns until `what` gives something; `None`, and a violation, if it never does.
    fn until<T>(
        &mut self,
        world: &mut World,
        model: &mut Model,
        what: impl Fn(&mut SimClient) -> Option<T>,
    ) -> Result<Option<T>, PowerLoss> {
        let end = world.now().plus_ns(READ_NS_MAX + world.stall_ns());
        while world.now() < end && self.client.state == State::Open {
            if let Some(found) = what(&mut self.client) {
                return Ok(Some(found));
            }
            self.client.pump(world, model);
            world.turn(Some(end))?;
            self.client.pump(world, model);
        }
        // What one sends who has noticed damage ends his connection.
        if model.trust == Trust::Whole {
            model.wrong("a reader is not answered");
        }
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
