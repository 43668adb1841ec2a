//! Workloads: up to three of eight operations, each in every order of its input and output.

use std::collections::BTreeMap;

use client::session::{Event, ProduceOptions, RequestId};
use wire::batch::BatchBuilder;
use wire::{Acks, delete_records, topic};

use super::image::Image;
use super::stage::{Machine, Order, Stage};
use crate::model::{Keeps, Model, Place, Topic};

/// Idle time that a checkpoint waits out: nothing of a shard's upkeep takes longer.
const CHECKPOINT_NS: u64 = 1_000_000_000;
/// Changes of the disk that one operation may take.
const STEPS_MAX: u32 = 1_000;
/// The topic whose records most operations are about: partition 0 grows and rolls, the others are
/// small.
const TOPIC: &str = "images";
/// Its partitions.
const PARTITIONS: u32 = 4;
/// A topic that can be deleted.
const OTHER: &str = "other";

/// What a workload is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A record each to a partition and to the newest topic.
    Append,
    /// Several requests at once, whose frames are in flight together.
    Commit,
    /// A batch that begins a segment.
    Roll,
    /// Records that fill a file of the journal, so that the ring takes up an older one.
    Recycle,
    /// All but the last record of two partitions go, and with them their segments.
    Trim,
    /// A new topic.
    Create,
    /// The newest topic goes.
    Delete,
    /// All is finished, and then nothing happens until all upkeep is done.
    Checkpoint,
}

impl Operation {
    /// All of them.
    pub const ALL: [Operation; 8] = [
        Operation::Append,
        Operation::Commit,
        Operation::Roll,
        Operation::Recycle,
        Operation::Trim,
        Operation::Create,
        Operation::Delete,
        Operation::Checkpoint,
    ];

    /// Its name in commands.
    pub const fn name(self) -> &'static str {
        match self {
            Operation::Append => "append",
            Operation::Commit => "commit",
            Operation::Roll => "roll",
            Operation::Recycle => "recycle",
            Operation::Trim => "trim",
            Operation::Create => "create",
            Operation::Delete => "delete",
            Operation::Checkpoint => "checkpoint",
        }
    }
}

/// Whether an operation waits for the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tempo {
    /// Each is finished, on the disk as well, before the next.
    Step,
    /// Each is answered before the next, while the disk may be behind with what nobody waits for.
    Reply,
    /// All are asked for before anything of them has ended on the disk.
    Burst,
}

impl Tempo {
    /// All of them.
    pub const ALL: [Tempo; 3] = [Tempo::Step, Tempo::Reply, Tempo::Burst];

    /// Its name in commands.
    pub const fn name(self) -> &'static str {
        match self {
            Tempo::Step => "step",
            Tempo::Reply => "reply",
            Tempo::Burst => "burst",
        }
    }
}

/// What is done, and in which order its changes of the disk end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// One after the other.
    pub operations: Vec<Operation>,
    /// How closely.
    pub tempo: Tempo,
    /// Which change of the disk ends first.
    pub order: Order,
}

impl std::fmt::Display for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.operations.iter().map(|operation| operation.name()).collect();
        let tempo = self.tempo.name();
        let order = self.order.name();
        write!(f, "--workload {} --tempo {tempo} --order {order}", names.join(","))
    }
}

impl Workload {
    /// Every workload of so many operations.
    pub fn all(operations: u32) -> Vec<Workload> {
        let mut lists = vec![Vec::new()];
        for _ in 0..operations {
            let longer = |list: &Vec<Operation>| {
                let list = list.clone();
                Operation::ALL.into_iter().map(move |next| [list.as_slice(), &[next]].concat())
            };
            lists = lists.iter().flat_map(longer).collect();
        }
        let ways = [
            (Tempo::Step, Order::Oldest),
            (Tempo::Reply, Order::Durable),
            (Tempo::Burst, Order::Oldest),
            (Tempo::Burst, Order::Newest),
        ];
        let ways = lists.into_iter().flat_map(|operations| {
            ways.map(|(tempo, order)| Workload { operations: operations.clone(), tempo, order })
        });
        ways.collect()
    }
}

/// What a request in flight was about.
#[derive(Debug)]
enum Asked {
    Produce(Vec<(Place, u64)>),
    Create(String),
    Delete(String),
    Begin(Vec<Place>),
}

/// A client at work on a stage, and what it knows.
#[derive(Debug)]
pub struct Actor {
    /// The stage.
    pub stage: Stage,
    /// What was sent and answered.
    pub model: Model,
    tempo: Tempo,
    order: Order,
    connection: u64,
    asked: BTreeMap<RequestId, Asked>,
    created: u32,
    changes: u64,
}

/// What every workload begins with: an image, and what is in it.
#[derive(Debug)]
pub struct Origin {
    image: Image,
    model: Model,
}

/// Seeds of the first start and of the one that works: ids are never used twice.
const SEEDS: (u64, u64) = (1, 2);

impl Origin {
    /// A directory with two topics, one of them with a segment that is nearly full, after a
    /// clean stop.
    ///
    /// # Panics
    /// If a broker cannot be brought so far.
    pub fn new(machine: &mut Machine) -> Origin {
        let stage = Stage::boot(machine, &Image::default(), SEEDS.0).expect("an empty directory");
        let mut actor = Actor::new(stage, Model::default(), (Tempo::Step, Order::Oldest));
        let quiet = &mut |_: &Actor| {};
        actor.create(TOPIC, PARTITIONS, quiet);
        actor.create(OTHER, 1, quiet);
        actor.finish(quiet);
        for (name, partition, bytes) in
            [(TOPIC, 0, 60_000), (TOPIC, 0, 50_000), (TOPIC, 1, 100), (OTHER, 0, 100)]
        {
            actor.produce(&[(name, partition, bytes)]);
            actor.finish(quiet);
        }
        actor.stage.stop();
        assert!(actor.asked.is_empty(), "all was answered: {:?}", actor.model.violations());
        Origin { image: actor.stage.volume.stable(), model: actor.model }
    }

    /// Does a workload, and shows every state between two changes of the disk to `watch`.
    ///
    /// # Panics
    /// If the broker does not come up from the origin.
    pub fn run(&self, machine: &mut Machine, workload: &Workload, watch: &mut impl FnMut(&Actor)) {
        let stage = Stage::boot(machine, &self.image, SEEDS.1).expect("the origin is whole");
        let mut actor = Actor::new(stage, self.model.clone(), (workload.tempo, workload.order));
        // The journal's ring has come round once before.
        for operation in [Operation::Append, Operation::Recycle, Operation::Append] {
            actor.perform(operation, &mut |_| {});
            actor.finish(&mut |_| {});
        }
        watch(&actor);
        for &operation in &workload.operations {
            actor.perform(operation, watch);
            actor.go_on(watch);
        }
        actor.finish(watch);
        assert!(actor.asked.is_empty(), "all is answered: {:?}", actor.asked);
    }
}

impl Origin {
    /// What a broker leaves that did all operations, was killed and started, so that its journals
    /// were replayed, and then was started and stopped in good order so many times; and what is
    /// in it.
    ///
    /// # Panics
    /// If the broker does not come up.
    pub fn rested(&self, machine: &mut Machine, rests: u64) -> (Image, Model) {
        let stage = Stage::boot(machine, &self.image, SEEDS.1).expect("the origin is whole");
        let mut actor = Actor::new(stage, self.model.clone(), (Tempo::Step, Order::Oldest));
        for operation in Operation::ALL {
            actor.perform(operation, &mut |_| {});
            actor.finish(&mut |_| {});
        }
        actor.perform(Operation::Append, &mut |_| {});
        actor.finish(&mut |_| {});
        let mut image = actor.stage.volume.stable();
        for rest in 0..=rests {
            let mut stage = Stage::boot(machine, &image, 100 + rest).expect("it is whole");
            stage.stop();
            image = stage.volume.stable();
        }
        (image, actor.model)
    }
}

impl Actor {
    fn new(mut stage: Stage, mut model: Model, (tempo, order): (Tempo, Order)) -> Actor {
        let connection = model.connection();
        while stage.is_busy() {
            stage.end_one(order);
            stage.settle();
        }
        let hello = stage.session.next_event();
        assert!(matches!(hello, Ok(Some(Event::Hello(_)))), "the broker says hello: {hello:?}");
        Actor {
            stage,
            model,
            tempo,
            order,
            connection,
            asked: BTreeMap::new(),
            created: 0,
            changes: 0,
        }
    }

    /// Grows with every request and answer: until then what is known stays the same.
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    fn ask(&mut self, id: RequestId, asked: Asked) {
        self.changes += 1;
        self.asked.insert(id, asked);
    }

    fn perform(&mut self, operation: Operation, watch: &mut impl FnMut(&Actor)) {
        match operation {
            Operation::Append => {
                let newest = self.newest_topic();
                let mut batches = vec![(TOPIC, 0, 100)];
                batches.extend(newest.as_deref().map(|name| (name, 0, 100)));
                self.produce(&batches);
                self.show(watch);
            }
            Operation::Commit => {
                for batch in [(TOPIC, 1, 300), (TOPIC, 0, 1_500), (TOPIC, 1, 5_000)] {
                    self.produce(&[batch]);
                    self.show(watch);
                }
            }
            Operation::Roll => {
                self.produce(&[(TOPIC, 0, 66_000)]);
                self.show(watch);
            }
            Operation::Recycle => {
                for _ in 0..3 {
                    self.produce(&[1, 2, 3].map(|partition| (TOPIC, partition, 7_000)));
                    self.go_on(watch);
                }
            }
            Operation::Trim => {
                self.trim();
                self.show(watch);
            }
            Operation::Create => {
                self.created += 1;
                self.create(&format!("new-{}", self.created), 1, watch);
            }
            Operation::Delete => self.delete(watch),
            Operation::Checkpoint => {
                self.finish(watch);
                while self.stage.skip(CHECKPOINT_NS) {
                    self.show(watch);
                    self.finish(watch);
                }
            }
        }
    }

    /// What must be at its end before anything else is asked for comes to its end.
    fn go_on(&mut self, watch: &mut impl FnMut(&Actor)) {
        match self.tempo {
            Tempo::Step => return self.finish(watch),
            Tempo::Reply => {}
            Tempo::Burst => return self.show(watch),
        }
        self.show(watch);
        for _ in 0..STEPS_MAX {
            if self.asked.is_empty() {
                return;
            }
            if self.stage.is_busy() {
                self.stage.end_one(self.order);
            } else {
                self.stage.skip(CHECKPOINT_NS);
            }
            self.show(watch);
        }
        panic!("it is never answered: {:?}", self.asked);
    }

    /// Everything under way comes to its end.
    fn finish(&mut self, watch: &mut impl FnMut(&Actor)) {
        self.show(watch);
        for _ in 0..STEPS_MAX {
            if self.stage.is_busy() {
                self.stage.end_one(self.order);
            } else if self.asked.is_empty() || !self.stage.skip(CHECKPOINT_NS) {
                return;
            }
            self.show(watch);
        }
        panic!("it never ends: {:?}", self.asked);
    }

    /// The shard does all that it can do now; what it answers is known from now on.
    fn show(&mut self, watch: &mut impl FnMut(&Actor)) {
        self.stage.settle();
        self.take_answers();
        watch(self);
    }

    fn place(&self, name: &str, partition: u32) -> Option<Place> {
        match self.model.topics.get(name) {
            Some(Topic::Live(id, _)) => Some((*id, partition)),
            _ => None,
        }
    }

    fn newest_topic(&self) -> Option<String> {
        let created = (1..=self.created).rev().map(|number| format!("new-{number}"));
        let mut names = created.chain([OTHER.to_owned()]);
        names.find(|name| self.place(name, 0).is_some())
    }

    fn produce(&mut self, batches: &[(&str, u32, usize)]) {
        let mut asked = Vec::new();
        let mut bodies = Vec::new();
        for &(name, partition, bytes) in batches {
            let Some(place) = self.place(name, partition) else { continue };
            let count = if bytes > 1_000 { 1 } else { 2 };
            let first = self.model.send(place, self.connection, Acks::Durable, count);
            let mut builder = BatchBuilder::with_capacity(bytes);
            for record in first..first + u64::from(count) {
                builder.push(1_672_531_200_000, None, Some(&value_of(record, bytes)));
            }
            asked.push((place, first));
            bodies.push((place.0, place.1, builder.finish().to_vec()));
        }
        let made = self.stage.session.produce_several(&ProduceOptions::default(), &bodies);
        let id = made.expect("there is room").expect("it is answered");
        self.ask(id, Asked::Produce(asked));
    }

    fn create(&mut self, name: &str, partitions: u32, watch: &mut impl FnMut(&Actor)) {
        let settings = topic::Settings::new(partitions);
        let id = self.stage.session.create_topic(name, &settings).expect("there is room");
        self.model.topics.insert(name.to_owned(), Topic::Creating);
        self.ask(id, Asked::Create(name.to_owned()));
        self.show(watch);
    }

    fn delete(&mut self, watch: &mut impl FnMut(&Actor)) {
        let Some(name) = self.newest_topic() else { return };
        let Some(Topic::Live(topic, partitions)) = self.model.topics.get(&name).copied() else {
            return;
        };
        let id = self.stage.session.delete_topic(&name).expect("there is room");
        self.model.topics.insert(name.clone(), Topic::Deleting(topic, partitions));
        self.ask(id, Asked::Delete(name));
        self.show(watch);
    }

    fn trim(&mut self) {
        let mut entries = Vec::new();
        let mut places = Vec::new();
        for partition in 0..2 {
            let Some(place) = self.place(TOPIC, partition) else { continue };
            let log = self.model.logs.get(&place);
            let last = log.and_then(|log| log.lasting.last_key_value());
            let Some((&before, _)) = last else { continue };
            self.model.ask_start(place, before);
            places.push(place);
            entries.push(delete_records::RequestEntry {
                topic_id: place.0,
                partition: partition.into(),
                reserved: 0.into(),
                before_offset: before.into(),
            });
        }
        let id = self.stage.session.delete_records(&entries).expect("there is room");
        self.ask(id, Asked::Begin(places));
    }

    fn take_answers(&mut self) {
        loop {
            let event = match self.stage.session.next_event() {
                Ok(Some(event)) => event,
                Ok(None) => return,
                Err(violation) => return self.model.wrong(violation.to_string()),
            };
            let Some(id) = event.request_id() else { continue };
            self.changes += 1;
            let asked = self.asked.remove(&id).expect("a session answers what was asked");
            learn(&mut self.model, &event, asked);
        }
    }
}

/// What an answer says.
fn learn(model: &mut Model, event: &Event<'_>, asked: Asked) {
    match (event, asked) {
        (Event::Produced(_, reply), Asked::Produce(batches)) => {
            for (&(place, first), entry) in batches.iter().zip(reply.entries) {
                let error = entry.error.get();
                if error != 0 {
                    model.violated(place, format!("a produce fails with code {error}"));
                }
                model.answered(place, first, error, entry.base_offset.get());
            }
        }
        (&Event::TopicCreated(_, &id), Asked::Create(name)) => {
            let partitions = if name == TOPIC { PARTITIONS } else { 1 };
            for partition in 0..partitions {
                model.logs.entry((id, partition)).or_default().keeps = Keeps::All;
            }
            model.topics.insert(name, Topic::Live(id, partitions));
        }
        (Event::TopicDeleted(_), Asked::Delete(name)) => {
            model.topics.insert(name, Topic::Gone);
        }
        (Event::RecordsDeleted(_, entries), Asked::Begin(places)) => {
            for (&place, entry) in places.iter().zip(*entries) {
                if entry.error.get() == 0 {
                    model.told_start(place, entry.log_start_offset.get());
                } else {
                    model.violated(place, format!("a trim fails with code {}", entry.error));
                }
            }
        }
        (event, asked) => model.wrong(format!("{asked:?} is answered with {event:?}")),
    }
}

/// A record's value: its number, over and over.
pub fn value_of(record: u64, bytes: usize) -> Vec<u8> {
    let mut value = record.to_le_bytes().repeat(bytes.div_ceil(8));
    value.truncate(bytes);
    value
}

/// The record whose value this is.
pub fn record_of(value: &[u8]) -> Option<u64> {
    let (numbers, rest) = value.as_chunks::<8>();
    let first = numbers.first()?;
    let is_whole = numbers.iter().all(|number| number == first) && first.starts_with(rest);
    is_whole.then_some(u64::from_le_bytes(*first))
}
