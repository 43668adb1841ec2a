//! A broker and clients of its queues that do one thing after the other, in virtual time.

use std::collections::BTreeMap;

use broker::io::sim::{ClientId, SimDisk};
use client::session::{Event, QueueEvent, RequestId, SendError, Session};
use engine::Settings;
use engine::port::Time;
use wire::batch::Batches;
use wire::queue::{
    CONSUME_AUTO_ACK, ConsumeRequest, DeathNote, Deliver, PullRequest, QueueCounts, QueueId,
    ROW_REDELIVERED, RedriveJobReply, RedriveReply, SettleRow, Verb, put_message,
};
use wire::{Acks, ErrorCode, TopicId, queue, topic};

use crate::raw::fetch_one;
use crate::world::World;

/// Virtual time between two looks, in ns.
const STEP_NS: u64 = 1_000_000;
/// Looks after which an answer should long have come.
const LOOKS_MAX: u32 = 60_000;

/// One message that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// The consumer, 0 if it was pulled or shown.
    pub consumer: u32,
    /// The lease.
    pub lease: u64,
    /// Its number in its queue.
    pub sequence: u64,
    /// How often it has been delivered.
    pub deliveries: u32,
    /// Whether it is said to have been delivered before.
    pub is_again: bool,
    /// How it died, if it did.
    pub death: Option<DeathNote>,
    /// Its body as text.
    pub body: String,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// It is done.
    Done,
    /// The queue is there.
    Created(QueueId, String),
    /// What is in it.
    Described(Box<QueueCounts>),
    /// Number of the first message.
    Published(u64),
    /// The same, and where the time went: from being seen to being handled, from there to the
    /// commit's submission, and from there to the answer, in ns.
    Timed(u64, [u64; 3]),
    /// Number of the consumer.
    Consuming(u32),
    /// Messages that were pulled or shown.
    Messages(Vec<Parcel>),
    /// Error and count of each row.
    Settled(Vec<(u16, u32)>),
    /// How many were removed.
    Removed(u64),
    /// What was sent back.
    Redriven(RedriveReply),
    /// How far a job is.
    Job(RedriveJobReply),
    /// Error, and number of the first message, of each target.
    Routed(Vec<(u16, u64)>),
    /// The topic is there.
    Topic(TopicId),
    /// Values of records, and their headers.
    Records(Vec<(String, BTreeMap<String, String>)>),
    /// It is refused: with this code and sentence.
    Refused(ErrorCode, String),
}

/// One client.
struct Visitor {
    shard: usize,
    id: ClientId,
    session: Session,
    is_ready: bool,
    is_over: bool,
    answers: Vec<(RequestId, Reply)>,
}

/// The broker and its clients.
pub struct Scene {
    /// The broker.
    pub world: World,
    visitors: Vec<Visitor>,
    /// What was pushed and not taken: by client.
    pushed: Vec<Vec<Parcel>>,
    /// Consumers that were ended: client, code, sentence.
    pub ended: Vec<(usize, ErrorCode, String)>,
}

impl Scene {
    /// Starts a broker on a disk.
    ///
    /// # Panics
    /// If recovery refuses.
    pub fn begin(settings: &Settings, disk: SimDisk) -> Scene {
        let world = World::boot(settings, disk, 11).unwrap_or_else(|failed| panic!("{}", failed.1));
        Scene { world, visitors: Vec::new(), pushed: Vec::new(), ended: Vec::new() }
    }

    /// A first start of a broker with so many shards and tiny limits.
    pub fn first(shards: u16) -> Scene {
        let settings = Settings { shards, ..Settings::tiny() };
        Scene::begin(&settings, SimDisk::new(7))
    }

    /// A client connects, to whichever shard. Gives its number.
    pub fn join(&mut self) -> usize {
        let shard = self.world.any_shard();
        self.join_at(shard)
    }

    /// A client connects to this shard.
    pub fn join_at(&mut self, shard: usize) -> usize {
        let id = self.world.io(shard).connect();
        let session = Session::new("queue scene");
        let (is_ready, is_over, answers) = (false, false, Vec::new());
        self.visitors.push(Visitor { shard, id, session, is_ready, is_over, answers });
        self.pushed.push(Vec::new());
        let client = self.visitors.len() - 1;
        self.until(|scene| scene.visitors[client].is_ready);
        client
    }

    /// A client's connection is reset.
    pub fn leave(&mut self, client: usize) {
        let Visitor { shard, id, .. } = self.visitors[client];
        self.world.io(shard).client_reset(id);
        self.visitors[client].is_over = true;
    }

    /// Whether the broker still serves the client.
    pub fn is_served(&mut self, client: usize) -> bool {
        let answer = self.ask(client, Session::ping);
        answer == Reply::Done && !self.visitors[client].is_over
    }

    /// Sends a request.
    ///
    /// # Panics
    /// If the session refuses to.
    pub fn send(
        &mut self,
        client: usize,
        request: impl FnOnce(&mut Session) -> Result<RequestId, SendError>,
    ) -> RequestId {
        request(&mut self.visitors[client].session).expect("a request as it should be")
    }

    /// Waits for the answer to a request.
    pub fn answer(&mut self, client: usize, id: RequestId) -> Reply {
        let is_there = |scene: &Scene| {
            scene.visitors[client].answers.iter().position(|(other, _)| *other == id)
        };
        self.until(|scene| is_there(scene).is_some());
        let at = is_there(self).expect("just seen");
        self.visitors[client].answers.remove(at).1
    }

    /// The answer, if it is there.
    pub fn answered(&mut self, client: usize, id: RequestId) -> Option<Reply> {
        let answers = &mut self.visitors[client].answers;
        let at = answers.iter().position(|(other, _)| *other == id)?;
        Some(answers.remove(at).1)
    }

    /// Sends a request and waits for its answer.
    pub fn ask(
        &mut self,
        client: usize,
        request: impl FnOnce(&mut Session) -> Result<RequestId, SendError>,
    ) -> Reply {
        let id = self.send(client, request);
        self.answer(client, id)
    }

    /// Lets so many milliseconds pass.
    pub fn pass(&mut self, ms: u64) {
        let end = self.world.now().plus_ns(ms * 1_000_000);
        while self.world.now() < end {
            self.look(end);
        }
        (0..self.visitors.len()).for_each(|client| self.pump(client));
    }

    /// What was pushed to the client since it was asked last.
    pub fn pushed(&mut self, client: usize) -> Vec<Parcel> {
        std::mem::take(&mut self.pushed[client])
    }

    /// The bodies of what was pushed to the client since it was asked last.
    pub fn bodies(&mut self, client: usize) -> Vec<String> {
        self.pushed(client).into_iter().map(|parcel| parcel.body).collect()
    }

    /// Turns until something is so.
    ///
    /// # Panics
    /// If that takes too long.
    pub fn until(&mut self, is_so: impl Fn(&Scene) -> bool) {
        for _ in 0..LOOKS_MAX {
            (0..self.visitors.len()).for_each(|client| self.pump(client));
            if is_so(self) {
                return;
            }
            let soon = self.world.now().plus_ns(STEP_NS);
            self.look(soon);
        }
        panic!("it never came about; {:?}", self.world.errors());
    }

    /// The power goes now. Gives the disk.
    pub fn die(self) -> SimDisk {
        let mut disk = self.world.into_disk();
        disk.power_on();
        disk
    }

    /// The broker is told to stop, and does. Gives the disk.
    pub fn stop(mut self) -> SimDisk {
        self.world.stop();
        self.until(|scene| scene.world.is_stopped());
        self.die()
    }

    fn look(&mut self, until: Time) {
        (0..self.visitors.len()).for_each(|client| self.pump(client));
        self.world.turn(Some(until)).expect("no power loss is planned");
    }

    fn pump(&mut self, client: usize) {
        let Visitor { shard, id, session, is_over, .. } = &mut self.visitors[client];
        if *is_over {
            return;
        }
        let count = session.outgoing().len();
        if count > 0 {
            self.world.io(*shard).client_send(*id, session.outgoing());
            session.sent(count);
        }
        let mut received = Vec::new();
        let end = self.world.io(*shard).client_receive(*id, usize::MAX, &mut received);
        session.receive(&received);
        *is_over |= end.is_some();
        let mut session = std::mem::replace(session, Session::new("away"));
        while let Some(event) = session.next_event().expect("the broker speaks the protocol") {
            self.take(client, &event);
        }
        self.visitors[client].session = session;
    }

    fn take(&mut self, client: usize, event: &Event<'_>) {
        let Some(id) = event.request_id() else {
            self.visitors[client].is_ready = true;
            return;
        };
        let reply = match event {
            Event::Queue(_, QueueEvent::Delivered(deliver)) => {
                return self.pushed[client].extend(parcels(deliver));
            }
            Event::Refused(_, refusal) => {
                let code = refusal.error_code().expect("a code that is known");
                if refusal.kind == wire::Kind::QueueDeliver {
                    return self.ended.push((client, code, refusal.detail.to_owned()));
                }
                Reply::Refused(code, refusal.detail.to_owned())
            }
            Event::Queue(_, event) => reply_of(event),
            Event::TopicCreated(_, id) => Reply::Topic(**id),
            Event::Fetched(_, reply) => {
                Reply::Records(reply.parts().flat_map(|(_, bytes)| records(bytes)).collect())
            }
            _ => Reply::Done,
        };
        self.visitors[client].answers.push((id, reply));
    }
}

fn reply_of(event: &QueueEvent<'_>) -> Reply {
    match event {
        QueueEvent::Created(reply) => Reply::Created(reply.queue, reply.name.to_owned()),
        QueueEvent::Described(reply) => Reply::Described(Box::new(*reply.counts)),
        QueueEvent::Published(reply) => match reply.timing {
            None => Reply::Published(reply.head.first.get()),
            Some(timing) => {
                let parts = [timing.queue_ns, timing.append_ns, timing.commit_ns];
                Reply::Timed(reply.head.first.get(), parts.map(|part| part.get()))
            }
        },
        QueueEvent::Consuming(reply) => Reply::Consuming(reply.consumer.get()),
        QueueEvent::Pulled(deliver) | QueueEvent::Peeked(deliver) => {
            Reply::Messages(parcels(deliver))
        }
        QueueEvent::Settled(reply) => {
            let row = |row: &wire::queue::SettledRow| (row.error.get(), row.settled.get());
            Reply::Settled(reply.rows.iter().map(row).collect())
        }
        QueueEvent::Routed(reply) => {
            let row = |row: &wire::queue::RoutedRow| (row.error.get(), row.first.get());
            Reply::Routed(reply.rows.iter().map(row).collect())
        }
        QueueEvent::Purged(reply) => Reply::Removed(reply.removed.get()),
        QueueEvent::RedriveJob(reply) => Reply::Job(**reply),
        QueueEvent::Redriven(reply) => Reply::Redriven(**reply),
        _ => Reply::Done,
    }
}

fn records(bytes: &[u8]) -> Vec<(String, BTreeMap<String, String>)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let record = |record: wire::batch::Record<'_>| {
        let header = |header: wire::batch::Header<'_>| {
            (text(header.key), text(header.value.unwrap_or_default()))
        };
        (text(record.value.unwrap_or_default()), record.headers.map(header).collect())
    };
    let batches = Batches::new(bytes).map(|batch| batch.expect("a batch"));
    let all = batches.flat_map(|batch| batch.records().map(|record| record.expect("a record")));
    all.map(record).collect()
}

fn parcels(deliver: &Deliver<'_>) -> Vec<Parcel> {
    let parcel = |found| {
        let found: Result<(u64, &queue::DeliveredRow, queue::Message<'_>), _> = found;
        let (sequence, row, message) = found.expect("the broker sends what it says");
        Parcel {
            consumer: deliver.head.consumer.get(),
            lease: deliver.head.lease.get(),
            sequence,
            deliveries: row.deliveries.get(),
            is_again: row.flags.get() & ROW_REDELIVERED != 0,
            death: message.death.copied(),
            body: String::from_utf8_lossy(message.body).into_owned(),
        }
    };
    deliver.messages().map(parcel).collect()
}

/// What tests ask for most.
impl Scene {
    /// Creates a queue; dead letters go to `dead`, if that is not empty.
    ///
    /// # Panics
    /// If it is refused.
    pub fn create(
        &mut self,
        client: usize,
        name: &str,
        settings: &queue::Settings,
        dead: &str,
    ) -> QueueId {
        match self.ask(client, |session| session.create_queue(name, settings, dead)) {
            Reply::Created(id, _) => id,
            other => panic!("{name} was not created: {other:?}"),
        }
    }

    /// Creates a topic.
    ///
    /// # Panics
    /// If it is refused.
    pub fn create_topic(&mut self, client: usize, name: &str, partitions: u32) -> TopicId {
        let settings = topic::Settings::new(partitions);
        match self.ask(client, |session| session.create_topic(name, &settings)) {
            Reply::Topic(id) => id,
            other => panic!("{name} was not created: {other:?}"),
        }
    }

    /// Publishes a message each of these bodies, durably. Gives the answer.
    pub fn publish(&mut self, client: usize, queue: &QueueId, bodies: &[&str]) -> Reply {
        let id = self.publish_as(client, queue, Acks::Durable, 0, bodies);
        self.answer(client, id)
    }

    /// The same with other acks and flags, without waiting for the answer.
    pub fn publish_as(
        &mut self,
        client: usize,
        queue: &QueueId,
        acks: Acks,
        flags: u8,
        bodies: &[&str],
    ) -> RequestId {
        let mut messages = Vec::new();
        for body in bodies {
            put_message(&mut messages, flags, 0, b"", body.as_bytes());
        }
        let count = u32::try_from(bodies.len()).expect("few");
        self.send(client, |session| session.publish(queue, acks, count, &messages))
    }

    /// Asks for messages to be pushed; prefetch 0 settles them by sending. Gives the consumer.
    ///
    /// # Panics
    /// If it is refused.
    pub fn consume(&mut self, client: usize, queue: &QueueId, prefetch: u32, priority: i16) -> u32 {
        match self
            .ask(client, |session| session.consume(&consume_request(queue, prefetch, priority)))
        {
            Reply::Consuming(consumer) => consumer,
            other => panic!("no consumer: {other:?}"),
        }
    }

    /// Pulls messages, waiting so long for one.
    ///
    /// # Panics
    /// If it is refused.
    pub fn pull(
        &mut self,
        client: usize,
        queue: &QueueId,
        max_messages: u32,
        wait_ms: u32,
        lease_ms: u32,
    ) -> Vec<Parcel> {
        let request = PullRequest {
            queue: *queue,
            max_messages: max_messages.into(),
            max_bytes: u32::MAX.into(),
            wait_ms: wait_ms.into(),
            lease_ms: lease_ms.into(),
        };
        match self.ask(client, |session| session.pull(&request)) {
            Reply::Messages(parcels) => parcels,
            other => panic!("no pull: {other:?}"),
        }
    }

    /// Settles one message. Gives its error and count.
    ///
    /// # Panics
    /// If the request as a whole is refused.
    pub fn settle(
        &mut self,
        client: usize,
        queue: &QueueId,
        parcel: &Parcel,
        verb: Verb,
        delay_ms: u32,
    ) -> (u16, u32) {
        let rows = [settle_row(parcel, verb, delay_ms)];
        match self.ask(client, |session| session.settle(queue, parcel.consumer, &rows)) {
            Reply::Settled(rows) => rows[0],
            other => panic!("not settled: {other:?}"),
        }
    }

    /// What is in a queue.
    ///
    /// # Panics
    /// If it is refused.
    pub fn counts(&mut self, client: usize, name: &str) -> QueueCounts {
        match self.ask(client, |session| session.describe_queue(name)) {
            Reply::Described(counts) => *counts,
            other => panic!("{name} is not described: {other:?}"),
        }
    }

    /// What the records of a partition hold.
    ///
    /// # Panics
    /// If it is refused.
    pub fn records(
        &mut self,
        client: usize,
        topic_id: TopicId,
        partition: u32,
    ) -> Vec<(String, BTreeMap<String, String>)> {
        self.records_from(client, topic_id, partition, 0)
    }

    /// The same from an offset on, as many as one fetch gets.
    ///
    /// # Panics
    /// If it is refused.
    pub fn records_from(
        &mut self,
        client: usize,
        topic_id: TopicId,
        partition: u32,
        offset: u64,
    ) -> Vec<(String, BTreeMap<String, String>)> {
        let (head, entry) = fetch_one(topic_id, partition, offset, 1 << 20);
        match self.ask(client, |session| session.fetch(&head, &[entry])) {
            Reply::Records(records) => records,
            other => panic!("no records: {other:?}"),
        }
    }

    /// A counter, of all shards together.
    ///
    /// # Panics
    /// If none has this name.
    pub fn counter(&self, name: &str) -> u64 {
        let rows = (0..self.shards()).flat_map(|shard| self.world.shard(shard).counters().rows());
        let found: Vec<u64> =
            rows.filter(|(other, _)| *other == name).map(|(_, value)| value).collect();
        assert!(!found.is_empty(), "there is no counter {name}");
        found.iter().sum()
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.world.shards()
    }

    /// One turn of the broker.
    pub fn step(&mut self) {
        let soon = self.world.now().plus_ns(STEP_NS);
        self.look(soon);
    }

    /// Whether there is a queue of this name.
    pub fn exists(&mut self, client: usize, name: &str) -> bool {
        match self.ask(client, |session| session.describe_queue(name)) {
            Reply::Described(_) => true,
            Reply::Refused(ErrorCode::UnknownQueue, _) => false,
            other => panic!("{name} is not described: {other:?}"),
        }
    }
}

/// The row that settles one message.
pub fn settle_row(parcel: &Parcel, verb: Verb, delay_ms: u32) -> SettleRow {
    SettleRow {
        first: parcel.sequence.into(),
        last: parcel.sequence.into(),
        lease: parcel.lease.into(),
        verb: verb as u8,
        flags: 0,
        reserved: 0.into(),
        delay_ms: delay_ms.into(),
    }
}

/// Asks for messages to be pushed; prefetch 0 settles them by sending.
pub fn consume_request(queue: &QueueId, prefetch: u32, priority: i16) -> ConsumeRequest {
    ConsumeRequest {
        queue: *queue,
        prefetch: prefetch.into(),
        priority: priority.into(),
        flags: if prefetch == 0 { CONSUME_AUTO_ACK } else { 0 },
        reserved: 0,
    }
}
