//! What a broker serves from an image, and whether it may.

use client::session::{Event, ProduceOptions};
use wire::batch::{BatchBuilder, Batches};
use wire::{TopicId, fetch};

use super::image::Image;
use super::stage::{Machine, Order, Stage};
use super::workload::{record_of, value_of};
use crate::model::{Model, Place, Topic};

/// Most bytes of one fetch.
const FETCH_BYTES: u32 = 512 * 1024;
/// Fetches of one partition, after which it never ends.
const FETCHES_MAX: u32 = 64;
/// Another seed than those of the starts before: ids are never used twice.
pub const SEED: u64 = 3;
/// A record that no model knows.
const AFTERWARDS: u64 = u64::MAX;

/// Everything that can be read from a broker that came up from an image.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Name, id and number of partitions.
    topics: Vec<(String, TopicId, u32)>,
    partitions: Vec<(Place, Contents)>,
    /// What no model is needed for to call it wrong.
    broken: Vec<String>,
    /// Why it does not start.
    refused: Option<String>,
    /// Partitions that are not served whole, and how they say so.
    told: Vec<(Place, String)>,
}

/// A partition's records.
#[derive(Debug, Default, PartialEq, Eq)]
struct Contents {
    /// Offset and number.
    records: Vec<(u64, u64)>,
    start: u64,
    end: u64,
}

impl Reading {
    /// Recovers an image with the production engine, reads all of it, and appends to each
    /// partition.
    pub fn of(machine: &mut Machine, image: &Image) -> Reading {
        let mut reading = Reading::default();
        match Stage::boot(machine, image, SEED) {
            Ok(stage) => Reader { stage, reading: &mut reading }.read_all(),
            Err(error) => reading.refused = Some(error.to_string()),
        }
        reading
    }

    /// Every law that it breaks, given what was acknowledged and asked for.
    pub fn judge(&self, model: &Model) -> Vec<String> {
        let mut model = model.clone();
        if let Some(error) = &self.refused {
            model.wrong(format!("recovery refuses: {error}"));
            return model.violations().to_vec();
        }
        self.told.iter().for_each(|(place, what)| model.violated(*place, what));
        self.judge_served(&mut model);
        model.violations().to_vec()
    }

    /// The same where something is known to be damaged: it may be said, by refusing to start, or
    /// to serve or to append some offsets. What is served is right, and nothing is missing without
    /// a word. The flag tells whether anything was said.
    pub fn judge_damaged(&self, model: &Model) -> (Word, Vec<String>) {
        let mut model = model.clone();
        if self.refused.is_some() {
            return (Word::Said, Vec::new());
        }
        // A damaged slot of a start file gives way to the one before: what was deleted is back.
        model.logs.values_mut().for_each(|log| log.start = 0);
        for (place, _) in &self.told {
            // Its records up to there are judged by what they are, not by what is missing.
            let Some(log) = model.logs.get_mut(place) else { continue };
            let found = self.partitions.iter().find(|(other, _)| other == place);
            let records = found.map_or(&[][..], |(_, contents)| &contents.records);
            let is_right = records.iter().all(|(at, record)| log.lasting.get(at) == Some(record));
            if !is_right {
                model.violated(*place, "what is served of it is wrong");
            }
        }
        self.judge_served(&mut model);
        let word = if self.told.is_empty() { Word::Unsaid } else { Word::Said };
        (word, model.violations().to_vec())
    }

    fn judge_served(&self, model: &mut Model) {
        model.died();
        self.broken.iter().for_each(|what| model.wrong(what.clone()));
        for (name, _, _) in &self.topics {
            if !model.topics.contains_key(name) {
                model.wrong(format!("nobody created topic {name}"));
            }
        }
        for (name, known) in model.topics.clone() {
            let found = self.topics.iter().find(|(other, ..)| *other == name);
            let is_right = match (known, found) {
                (Topic::Live(id, partitions), Some(found)) => {
                    (id, partitions) == (found.1, found.2)
                }
                (Topic::Live(..), None) | (Topic::Gone, Some(_)) => false,
                _ => true,
            };
            if !is_right {
                model.wrong(format!("topic {name} was {known:?} and is {found:?}"));
            }
        }
        for &(place, Contents { ref records, start, end }) in &self.partitions {
            if self.told.iter().any(|(other, _)| *other == place) {
                continue;
            }
            let before = model.start(place);
            model.told_start(place, start);
            if start < before {
                model.violated(place, format!("it began at {before} and begins at {start} now"));
            }
            model.judge(place, records, start, end);
        }
    }
}

/// Whether a broker said that something is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// It did.
    Said,
    /// It did not: then nothing may be missing.
    Unsaid,
}

struct Reader<'r> {
    stage: Stage,
    reading: &'r mut Reading,
}

impl Reader<'_> {
    fn read_all(&mut self) {
        self.finish();
        for range in std::mem::take(&mut self.stage.damaged) {
            let place = (range.topic, range.partition);
            self.reading.told.push((place, format!("{range:?} is called damaged")));
        }
        self.reading.topics = self.topics();
        for (_, topic, partitions) in self.reading.topics.clone() {
            for partition in 0..partitions {
                let place = (topic, partition);
                let contents = self.contents(place);
                self.go_on(place, contents.end);
                self.reading.partitions.push((place, contents));
            }
        }
    }

    /// Whatever the shard wants of its disk, it gets.
    fn finish(&mut self) {
        self.stage.settle();
        while self.stage.is_busy() {
            self.stage.end_one(Order::Oldest);
            self.stage.settle();
        }
    }

    fn topics(&mut self) -> Vec<(String, TopicId, u32)> {
        loop {
            match self.stage.session.next_event() {
                Ok(Some(Event::Hello(_))) => {
                    self.stage.session.metadata(&[]).expect("hello was answered");
                    self.finish();
                }
                Ok(Some(Event::Metadata(_, reply))) => {
                    let count = |topic: &wire::metadata::Topic<'_>| {
                        u32::try_from(topic.partitions.len()).expect("bounded")
                    };
                    let row = |topic: wire::metadata::Topic<'_>| {
                        (topic.name.to_owned(), *topic.topic_id, count(&topic))
                    };
                    return reply.topics().map(row).collect();
                }
                other => {
                    self.reading.broken.push(format!("no answer to metadata: {other:?}"));
                    return Vec::new();
                }
            }
        }
    }

    fn contents(&mut self, place: Place) -> Contents {
        let mut contents = Contents::default();
        for _ in 0..FETCHES_MAX {
            let offset = contents.records.last().map_or(contents.start, |(offset, _)| offset + 1);
            match self.fetch(place, offset) {
                Ok(Fetched { is_outside: true, start, .. }) if start > offset => {
                    contents.start = start;
                }
                Ok(Fetched { is_outside: false, start, end, records }) => {
                    contents.start = start;
                    contents.end = end;
                    let news = records.iter().filter(|&&(at, _)| at >= offset.max(start));
                    let before = contents.records.len();
                    contents.records.extend(news);
                    if contents.records.len() == before {
                        return contents;
                    }
                }
                Ok(fetched) => {
                    self.broken(place, &format!("{offset} is refused: {fetched:?}"));
                    return contents;
                }
                Err(what) => {
                    let what = format!("reading at {offset}: {what}");
                    self.reading.told.push((place, what));
                    return contents;
                }
            }
        }
        self.broken(place, "reading never ends");
        contents
    }

    fn fetch(&mut self, place: Place, offset: u64) -> Result<Fetched, String> {
        let head = fetch::RequestHead {
            max_wait_ms: 0.into(),
            min_bytes: 0.into(),
            max_bytes: FETCH_BYTES.into(),
            isolation: 0,
            flags: 0,
            partition_count: 1.into(),
        };
        let entry = fetch::RequestEntry {
            topic_id: place.0,
            partition: place.1.into(),
            leader_epoch: u32::MAX.into(),
            offset: offset.into(),
            partition_max_bytes: FETCH_BYTES.into(),
            reserved: 0.into(),
        };
        self.stage.session.fetch(&head, &[entry]).expect("hello was answered");
        self.finish();
        let event = self.stage.session.next_event().map_err(|violation| violation.to_string())?;
        let Some(Event::Fetched(_, reply)) = event else {
            return Err(format!("answered with {event:?}"));
        };
        let (entry, bytes) = reply.parts().next().ok_or("an empty answer")?;
        let error = entry.error.get();
        let is_outside = error == wire::ErrorCode::OffsetOutOfRange.number();
        if error != 0 && !is_outside {
            return Err(format!("code {error}"));
        }
        let (start, end) = (entry.log_start_offset.get(), entry.high_watermark.get());
        Ok(Fetched { is_outside, start, end, records: records(bytes)? })
    }

    /// A record appended now is acknowledged behind all others.
    fn go_on(&mut self, place: Place, end: u64) {
        let mut builder = BatchBuilder::with_capacity(64);
        builder.push(1_672_531_200_000, None, Some(&value_of(AFTERWARDS, 16)));
        let options = ProduceOptions::default();
        let batch = builder.finish();
        let sent = self.stage.session.produce(&options, &place.0, place.1, batch);
        sent.expect("there is room");
        self.finish();
        let answer = match self.stage.session.next_event() {
            Ok(Some(Event::Produced(_, reply))) => {
                reply.entries.first().map(|entry| (entry.error.get(), entry.base_offset.get()))
            }
            _ => None,
        };
        let what = format!("a record appended at {end} is answered {answer:?} (code, offset)");
        match answer {
            Some((0, offset)) if offset == end => {}
            Some((code, _)) if code != 0 => self.reading.told.push((place, what)),
            _ if self.reading.told.iter().any(|(other, _)| *other == place) => {}
            _ => self.broken(place, &what),
        }
    }

    fn broken(&mut self, (topic, partition): Place, what: &str) {
        let topic = u128::from_be_bytes(topic) >> 96;
        self.reading.broken.push(format!("topic {topic:08x} partition {partition}: {what}"));
    }
}

#[derive(Debug)]
struct Fetched {
    is_outside: bool,
    start: u64,
    end: u64,
    records: Vec<(u64, u64)>,
}

/// Offset and number of each record, checked byte by byte.
fn records(bytes: &[u8]) -> Result<Vec<(u64, u64)>, String> {
    let mut found = Vec::new();
    for batch in Batches::new(bytes) {
        // The last one may be cut by the limit on bytes.
        let Ok(batch) = batch else { break };
        batch.verify_crc().map_err(|_| "a batch with a wrong checksum is served")?;
        for record in batch.records() {
            let record = record.map_err(|_| "a record cannot be read")?;
            let number = record_of(record.value.unwrap_or_default());
            let damaged = || format!("the bytes at {} are not as sent", record.offset);
            let number = number.ok_or_else(damaged)?;
            found.push((record.offset, number));
        }
    }
    Ok(found)
}
