//! A simulated client: the production session over a simulated connection, and what it knows
//! about each request in flight.

use std::collections::BTreeMap;

use broker::io::sim::{ClientId, StreamEnd};
use client::session::{
    Event, ProduceOptions, Refusal, RequestId, SendError, ServerTiming, Session,
};
use engine::port::Time;
use wire::batch::{BatchBuilder, Batches};
use wire::{Acks, ErrorCode, TopicId, delete_records, fetch, list_offsets, metadata, topic};

use crate::canary::Canary;
use crate::model::{Keeps, Model, Place, Topic, Trust};
use crate::world::World;

/// What a request in flight was about.
#[derive(Debug, Clone)]
pub enum Asked {
    /// A batch each of some partitions, by its first record's number.
    Produce(Vec<(Place, u64)>),
    /// Some partitions, each from an offset.
    Fetch(Vec<(Place, u64)>),
    /// Partitions' newest or oldest offsets.
    Offsets(Vec<Place>),
    /// Partitions' new beginnings.
    Begin(Vec<Place>),
    /// A topic.
    Create(String, topic::Settings),
    /// A topic.
    Delete(String),
    /// All topics.
    Metadata,
    /// Something whose answer says nothing.
    Other,
}

/// What a fetch brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// From where.
    pub place: Place,
    /// The error, or 0.
    pub error: u16,
    /// Offsets and numbers of the records.
    pub records: Vec<(u64, u64)>,
    /// Where records begin.
    pub start: u64,
    /// Where visible records end.
    pub end: u64,
    /// The same, or where damage ends.
    pub last_stable_offset: u64,
}

/// How a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It works.
    Open,
    /// Its stream has ended.
    Ended,
}

/// One client.
#[derive(Debug)]
pub struct SimClient {
    /// The shard that accepted it.
    shard: usize,
    id: ClientId,
    connection: u64,
    session: Session,
    asked: BTreeMap<RequestId, (Asked, Time)>,
    /// What the newest fetches brought, until somebody takes it.
    pub fetched: Vec<Fetched>,
    /// The topics that the newest metadata named: name, id, partitions.
    pub topics: Option<Vec<(String, TopicId, u32)>>,
    /// How it is.
    pub state: State,
    /// Most bytes it reads per look: a slow reader reads few.
    pub reads_bytes_max: usize,
    /// Requests that it has made.
    pub requests: u64,
    received: Vec<u8>,
    /// It has sent what is no frame: being thrown out is right.
    has_babbled: bool,
    canary: Option<Canary>,
    /// For a planted bug: where the newest answer said that records are.
    swapped: Option<(Place, u64)>,
}

impl SimClient {
    /// Connects, to a shard of the world's choice.
    pub fn connect(world: &mut World, model: &mut Model) -> SimClient {
        let shard = world.any_shard();
        SimClient {
            shard,
            id: world.io(shard).connect(),
            connection: model.connection(),
            session: Session::new("simulated"),
            asked: BTreeMap::new(),
            fetched: Vec::new(),
            topics: None,
            state: State::Open,
            reads_bytes_max: usize::MAX,
            requests: 0,
            received: Vec::new(),
            has_babbled: false,
            canary: None,
            swapped: None,
        }
    }

    /// With a planted bug.
    #[must_use]
    pub fn with_canary(self, canary: Option<Canary>) -> SimClient {
        SimClient { canary, ..self }
    }

    /// Requests without an answer.
    pub fn in_flight(&self) -> usize {
        self.asked.len()
    }

    /// The oldest request that was made before `time` and has no answer.
    pub fn overdue(&self, time: Time) -> Option<&Asked> {
        self.asked.values().find(|(_, asked)| *asked < time).map(|(asked, _)| asked)
    }

    /// Whether hello has been answered.
    pub const fn is_ready(&self) -> bool {
        self.session.limits().is_some()
    }

    /// Sends a batch of new records with values of these lengths to each of the partitions.
    pub fn produce(
        &mut self,
        now: Time,
        model: &mut Model,
        places: &[Place],
        acks: Acks,
        lengths: &[usize],
    ) {
        let bytes: usize = lengths.iter().sum();
        if !self.session.has_room((bytes + lengths.len() * 32 + 256) * places.len()) {
            return;
        }
        let count = u32::try_from(lengths.len()).expect("few");
        let mut firsts = Vec::new();
        let batches = places.iter().map(|&place| {
            let first = model.send(place, self.connection, acks, count);
            firsts.push((place, first));
            let mut builder = BatchBuilder::with_capacity(bytes);
            for (record, &length) in (first..).zip(lengths) {
                builder.push(1_672_531_200_000, None, Some(&value(record, length)));
            }
            (place.0, place.1, builder.finish().to_vec())
        });
        let batches: Vec<_> = batches.collect();
        let timing = ServerTiming::Omit;
        let options = ProduceOptions { acks, timeout_ms: 0, timing };
        match self.session.produce_several(&options, &batches) {
            Ok(Some(id)) => self.note(id, Asked::Produce(firsts), now),
            Ok(None) => {
                self.requests += 1;
                firsts.iter().for_each(|&(place, first)| model.in_doubt(place, first));
            }
            Err(error) => panic!("there was room: {error}"),
        }
    }

    /// Asks for records of partitions, each from an offset.
    pub fn fetch(&mut self, now: Time, wants: &[(Place, u64)], wait_ms: u32, max_bytes: u32) {
        let head = fetch::RequestHead {
            max_wait_ms: wait_ms.into(),
            min_bytes: 1.into(),
            max_bytes: max_bytes.into(),
            isolation: 0,
            flags: 0,
            partition_count: 1.into(),
        };
        let entries = wants.iter().map(|&(place, offset)| fetch::RequestEntry {
            topic_id: place.0,
            partition: place.1.into(),
            leader_epoch: u32::MAX.into(),
            offset: offset.into(),
            partition_max_bytes: max_bytes.into(),
            reserved: 0.into(),
        });
        let entries: Vec<_> = entries.collect();
        let asked = self.session.fetch(&head, &entries);
        self.noted(asked, Asked::Fetch(wants.to_vec()), now);
    }

    /// Asks where partitions end, or begin.
    pub fn list_offsets(&mut self, now: Time, places: &[Place], timestamp_ms: i64) {
        let entries = places.iter().map(|place| list_offsets::RequestEntry {
            topic_id: place.0,
            partition: place.1.into(),
            timestamp_ms: timestamp_ms.into(),
        });
        let entries: Vec<_> = entries.collect();
        let asked = self.session.list_offsets(&entries);
        self.noted(asked, Asked::Offsets(places.to_vec()), now);
    }

    /// Creates a topic.
    pub fn create_topic(
        &mut self,
        now: Time,
        model: &mut Model,
        name: &str,
        settings: topic::Settings,
    ) {
        let asked = self.session.create_topic(name, &settings);
        if asked.is_ok() {
            model.topics.insert(name.to_owned(), Topic::Creating);
        }
        self.noted(asked, Asked::Create(name.to_owned(), settings), now);
    }

    /// Changes a live topic's limits.
    pub fn alter_topic(
        &mut self,
        now: Time,
        model: &mut Model,
        name: &str,
        settings: &topic::Settings,
    ) {
        let Some(&Topic::Live(id, partitions)) = model.topics.get(name) else { return };
        for partition in 0..partitions {
            model.logs.entry((id, partition)).or_default().keeps = Keeps::Perhaps;
        }
        let changes = topic::CHANGE_RETENTION | topic::CHANGE_RETENTION_BYTES;
        let asked = self.session.alter_topic(name, changes, settings);
        self.noted(asked, Asked::Other, now);
    }

    /// Deletes partitions' records below an offset.
    pub fn delete_records(&mut self, now: Time, model: &mut Model, places: &[Place], before: u64) {
        let entry = |&(topic_id, partition): &Place| delete_records::RequestEntry {
            topic_id,
            partition: partition.into(),
            reserved: 0.into(),
            before_offset: before.into(),
        };
        let entries: Vec<_> = places.iter().map(entry).collect();
        let asked = self.session.delete_records(&entries);
        if asked.is_ok() {
            places.iter().for_each(|&place| model.ask_start(place, before));
        }
        self.noted(asked, Asked::Begin(places.to_vec()), now);
    }

    /// Deletes a topic that is live.
    pub fn delete_topic(&mut self, now: Time, model: &mut Model, name: &str) {
        let Some(&Topic::Live(id, partitions)) = model.topics.get(name) else { return };
        let asked = self.session.delete_topic(name);
        if asked.is_ok() {
            model.topics.insert(name.to_owned(), Topic::Deleting(id, partitions));
        }
        self.noted(asked, Asked::Delete(name.to_owned()), now);
    }

    /// Asks about all topics.
    pub fn metadata(&mut self, now: Time) {
        let asked = self.session.metadata(&[]);
        self.noted(asked, Asked::Metadata, now);
    }

    /// Asks for every counter.
    pub fn stats(&mut self, now: Time) {
        let asked = self.session.stats();
        self.noted(asked, Asked::Other, now);
    }

    /// Sends bytes that are no frame.
    pub fn babble(&mut self, world: &mut World) {
        self.has_babbled = true;
        world.io(self.shard).client_send(self.id, b"GET / HTTP/1.1\r\nHost: nowhere\r\n\r\n");
    }

    /// Says that it will send no more.
    pub fn shutdown(&mut self, world: &mut World) {
        world.io(self.shard).client_shutdown(self.id);
    }

    /// Goes away, in order or not; what is in flight stays in doubt.
    pub fn leave(mut self, world: &mut World, model: &mut Model, how: StreamEnd) {
        match how {
            StreamEnd::Eof => world.io(self.shard).client_close(self.id),
            StreamEnd::Reset => world.io(self.shard).client_reset(self.id),
        }
        self.give_up(model);
    }

    /// Nothing in flight will be answered.
    pub fn give_up(&mut self, model: &mut Model) {
        for (asked, _) in std::mem::take(&mut self.asked).into_values() {
            match asked {
                Asked::Produce(batches) => {
                    batches.iter().for_each(|&(place, first)| model.in_doubt(place, first));
                }
                Asked::Create(name, _) | Asked::Delete(name) => {
                    model.topics.insert(name, Topic::InDoubt);
                }
                _ => {}
            }
        }
    }

    /// Moves bytes both ways and takes the answers in.
    pub fn pump(&mut self, world: &mut World, model: &mut Model) {
        if self.state == State::Ended {
            return;
        }
        let count = self.session.outgoing().len();
        if count > 0 {
            world.io(self.shard).client_send(self.id, self.session.outgoing());
            if self.canary == Some(Canary::RepeatedSends) && self.is_ready() {
                world.io(self.shard).client_send(self.id, self.session.outgoing());
            }
            self.session.sent(count);
        }
        self.received.clear();
        let end =
            world.io(self.shard).client_receive(self.id, self.reads_bytes_max, &mut self.received);
        self.alter_reply();
        self.session.receive(&self.received);
        loop {
            match self.session.next_event() {
                Ok(Some(Event::Metadata(id, reply))) => {
                    self.asked.remove(&id);
                    self.topics = Some(topics(&reply));
                }
                Ok(Some(Event::Produced(id, reply)))
                    if self.canary == Some(Canary::SwappedReplies) =>
                {
                    let Some((Asked::Produce(batches), _)) = self.asked.remove(&id) else { break };
                    for (&(place, first), entry) in batches.iter().zip(reply.entries) {
                        let mine = (place, entry.base_offset.get());
                        let (other, base) = self.swapped.replace(mine).unwrap_or(mine);
                        let base = if other == place { base } else { mine.1 };
                        model.answered(place, first, entry.error.get(), base);
                    }
                }
                Ok(Some(event)) => answered(event, &mut self.asked, &mut self.fetched, model),
                Ok(None) => break,
                Err(violation) => {
                    if !self.has_babbled && model.trust == Trust::Whole {
                        model.wrong(format!("connection {}: {violation}", self.connection));
                    }
                    self.state = State::Ended;
                    break;
                }
            }
        }
        if end.is_some() {
            self.state = State::Ended;
        }
        if self.state == State::Ended {
            self.give_up(model);
        }
    }

    /// A planted bug: the last byte of a long reply is another.
    fn alter_reply(&mut self) {
        let is_long = self.received.len() > 500;
        if let Some(last) = self.received.last_mut().filter(|_| is_long)
            && self.canary == Some(Canary::AlteredReplies)
        {
            *last ^= 1;
        }
    }

    fn noted(&mut self, asked: Result<RequestId, SendError>, about: Asked, now: Time) {
        match asked {
            Ok(id) => self.note(id, about, now),
            Err(SendError::WindowFull | SendError::HelloPending) => {}
            Err(error) => panic!("the session refuses its own request: {error}"),
        }
    }

    fn note(&mut self, id: RequestId, about: Asked, now: Time) {
        self.requests += 1;
        self.asked.insert(id, (about, now));
    }
}

fn topics(reply: &metadata::Reply<'_>) -> Vec<(String, TopicId, u32)> {
    let count = |topic: &metadata::Topic<'_>| u32::try_from(topic.partitions.len());
    let row = |topic: metadata::Topic<'_>| {
        (topic.name.to_owned(), *topic.topic_id, count(&topic).expect("bounded"))
    };
    reply.topics().map(row).collect()
}

fn answered(
    event: Event<'_>,
    asked: &mut BTreeMap<RequestId, (Asked, Time)>,
    fetched: &mut Vec<Fetched>,
    model: &mut Model,
) {
    let Some(id) = event.request_id() else { return };
    let about = asked.remove(&id).map(|(about, _)| about);
    let about = about.expect("a session answers what was asked");
    match (event, about) {
        (Event::Produced(_, reply), Asked::Produce(batches)) => {
            assert_eq!(reply.entries.len(), batches.len(), "a row for each partition");
            for (&(place, first), entry) in batches.iter().zip(reply.entries) {
                assert_eq!((entry.topic_id, entry.partition.get()), place, "rows are in order");
                model.answered(place, first, entry.error.get(), entry.base_offset.get());
            }
        }
        (Event::Fetched(_, reply), Asked::Fetch(wants)) => {
            assert_eq!(reply.entries.len(), wants.len(), "a row for each partition");
            for (&want, (entry, bytes)) in wants.iter().zip(reply.parts()) {
                assert_eq!((entry.topic_id, entry.partition.get()), want.0, "rows are in order");
                fetched.push(row_fetched(want, entry, bytes, model));
            }
        }
        (Event::Offsets(_, entries), Asked::Offsets(places)) => {
            assert_eq!(entries.len(), places.len(), "a row for each partition");
            for (&place, entry) in places.iter().zip(entries) {
                assert_eq!((entry.topic_id, entry.partition.get()), place, "rows are in order");
                if entry.error.get() == 0 && entry.timestamp_ms.get() == -1 {
                    model.told_end(place, entry.offset.get());
                }
            }
        }
        (Event::RecordsDeleted(_, entries), Asked::Begin(places)) => {
            assert_eq!(entries.len(), places.len(), "a row for each partition");
            for (&place, entry) in places.iter().zip(entries) {
                assert_eq!((entry.topic_id, entry.partition.get()), place, "rows are in order");
                if entry.error.get() == 0 {
                    model.told_start(place, entry.log_start_offset.get());
                }
            }
        }
        (Event::TopicCreated(_, &id), Asked::Create(name, settings)) => {
            let is_new = model.logs.keys().all(|&(other, _)| other != id);
            if !is_new {
                model.wrong(format!("the id of topic {name} was used before"));
            }
            let partitions = settings.partitions.get();
            let is_limited = settings.retention_ms.get() > 0 || settings.retention_bytes.get() > 0;
            for partition in 0..partitions {
                let log = model.logs.entry((id, partition)).or_default();
                log.keeps = if is_limited { Keeps::Perhaps } else { Keeps::All };
            }
            model.topics.insert(name, Topic::Live(id, partitions));
        }
        (Event::TopicDeleted(_), Asked::Delete(name)) => {
            model.topics.insert(name, Topic::Gone);
        }
        (Event::Refused(_, refusal), about) => refused(refusal, about, fetched, model),
        _ => {}
    }
}

fn row_fetched(
    (place, offset): (Place, u64),
    entry: &fetch::ReplyEntry,
    bytes: &[u8],
    model: &mut Model,
) -> Fetched {
    let end = entry.high_watermark.get();
    let records = records(bytes, offset, place, model);
    for &(offset, record) in &records {
        model.seen(place, offset, record);
        if offset >= end {
            model.violated(place, format!("record at {offset} is beyond the end {end}"));
        }
    }
    let (error, start) = (entry.error.get(), entry.log_start_offset.get());
    let is_outside = error == ErrorCode::OffsetOutOfRange.number();
    if error == 0 {
        model.told_end(place, end);
    }
    if error == 0 || is_outside {
        model.told_start(place, start);
    }
    if is_outside && (start..=end).contains(&offset) {
        model.violated(place, format!("{offset} is refused, within {start} and {end}"));
    }
    let last_stable_offset = entry.last_stable_offset.get();
    Fetched { place, error, records, start, end, last_stable_offset }
}

fn refused(refusal: Refusal<'_>, about: Asked, fetched: &mut Vec<Fetched>, model: &mut Model) {
    match about {
        Asked::Produce(batches) => {
            for (place, first) in batches {
                model.answered(place, first, refusal.code, 0);
            }
        }
        Asked::Fetch(wants) => fetched.extend(wants.into_iter().map(|(place, _)| Fetched {
            place,
            error: refusal.code,
            records: Vec::new(),
            start: 0,
            end: 0,
            last_stable_offset: 0,
        })),
        Asked::Create(name, _) => {
            model.topics.insert(name, Topic::InDoubt);
        }
        Asked::Delete(name) => {
            model.topics.insert(name, Topic::InDoubt);
        }
        Asked::Offsets(_) | Asked::Begin(_) | Asked::Metadata | Asked::Other => {}
    }
    let is_bad = [ErrorCode::Malformed, ErrorCode::CorruptMessage, ErrorCode::InvalidRecord];
    if refusal.error_code().is_none_or(|code| is_bad.contains(&code)) {
        model.wrong(format!("refused with {}: {}", refusal.code, refusal.detail));
    }
}

/// The records of a fetch reply, checked byte by byte.
fn records(bytes: &[u8], from: u64, place: Place, model: &mut Model) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    let mut expected = None;
    for batch in Batches::new(bytes) {
        let batch = match batch {
            Ok(batch) if batch.verify_crc().is_ok() => batch,
            // A client that checks has noticed; what came before is good.
            Ok(_) if model.trust == Trust::Damaged => break,
            Ok(_) => {
                model.violated(place, "a batch with a wrong checksum was served");
                break;
            }
            // The last one may be cut by the limit on bytes.
            Err(_) => break,
        };
        if expected.is_some_and(|expected| expected != batch.base_offset())
            || (expected.is_none() && !(batch.base_offset()..batch.next_offset()).contains(&from))
        {
            if model.trust == Trust::Damaged {
                break;
            }
            let what = format!("asked from {from}, got a batch at {}", batch.base_offset());
            model.violated(place, what);
        }
        expected = Some(batch.next_offset());
        for record in batch.records() {
            let record = record.expect("its checksum holds");
            let bytes = record.value.unwrap_or_default();
            let number = record_of(bytes);
            if !is_value(number, bytes) {
                model.violated(place, format!("the bytes at {} are not as sent", record.offset));
            }
            found.push((record.offset, number));
        }
    }
    found
}

/// What a record's number is multiplied by to make its mark.
const MARK: u64 = 0x9e37_79b9_7f4a_7c15;
/// What undoes that.
const UNMARK: u64 = 0xf1de_83e1_9937_733d;

/// The first bytes of a record's value, which no other record has.
pub fn mark(record: u64) -> [u8; 8] {
    record.wrapping_add(1).wrapping_mul(MARK).to_le_bytes()
}

/// The record whose value begins with these bytes.
fn record_of(value: &[u8]) -> u64 {
    let mark = value.first_chunk().map_or(0, |mark| u64::from_le_bytes(*mark));
    mark.wrapping_mul(UNMARK).wrapping_sub(1)
}

/// The value of a record: its mark, again and again.
fn value(record: u64, length: usize) -> Vec<u8> {
    let mut value = mark(record).repeat(length.div_ceil(8).max(1));
    value.truncate(length.max(8));
    value
}

fn is_value(record: u64, bytes: &[u8]) -> bool {
    let mark = mark(record);
    let (whole, rest) = bytes.as_chunks::<8>();
    !whole.is_empty() && whole.iter().all(|chunk| *chunk == mark) && mark.starts_with(rest)
}
