//! The obvious model of what a broker holds, and the laws it is judged by.
//!
//! Every record carries a number that is used once. So where it turns up tells whether it was
//! sent there, how often it is there, and whether it moved.

use std::collections::BTreeMap;

use wire::{Acks, ErrorCode, TopicId};

/// A partition.
pub type Place = (TopicId, u32);

/// What became of a batch, as far as its producer knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// No answer yet.
    Open,
    /// Acknowledged at this offset.
    Acked(u64),
    /// The answer never came, or leaves it open: there once or not at all.
    InDoubt,
    /// Refused for good: it must not be there.
    Refused(u16),
}

/// A batch that was sent. Its records are numbered from its key in the log's map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Number of records.
    pub count: u32,
    /// Which connection sent it; connections are numbered over the model's whole life.
    pub connection: u64,
    /// What was asked for.
    pub acks: Acks,
    /// What became of it.
    pub fate: Fate,
}

/// What is known of one partition.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// Batches by the number of their first record.
    pub sent: BTreeMap<u64, Sent>,
    /// Records by offset that nothing may take away: acknowledged as durable, or seen.
    pub lasting: BTreeMap<u64, u64>,
    /// Records by offset that hold as long as the device has power: acknowledged as written.
    pub written: BTreeMap<u64, u64>,
    /// Records by offset that hold as long as the broker lives.
    pub passing: BTreeMap<u64, u64>,
    /// Highest end that a consumer was told.
    pub visible_end: u64,
    /// Highest start that anybody was told.
    pub start: u64,
    /// Highest start that anybody asked for; an empty partition's is 0.
    pub start_asked: u64,
    /// Whether records go by request only.
    pub keeps: Keeps,
}

/// Whether a topic's records go by request only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keeps {
    /// Its limits are not known, or let records go.
    #[default]
    Perhaps,
    /// It has no limits.
    All,
}

/// How long a record's place holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Term {
    /// For ever.
    Lasting,
    /// As long as the device has power.
    Written,
    /// As long as the broker lives.
    Passing,
}

/// How much is asked of what is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trust {
    /// All that was promised.
    #[default]
    Whole,
    /// The device gave back other bytes than it took, or took none: records may be missing, and
    /// a client may find a checksum wrong, topics may be as they were before a change; but nothing
    /// that is taken for good is wrong.
    Damaged,
}

/// What became of a topic's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// Create was sent.
    Creating,
    /// It is there, with so many partitions.
    Live(TopicId, u32),
    /// Delete was sent.
    Deleting(TopicId, u32),
    /// It is gone, or never was.
    Gone,
    /// An answer never came.
    InDoubt,
}

/// Everything that was asked for and answered.
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// By name.
    pub topics: BTreeMap<String, Topic>,
    /// By partition.
    pub logs: BTreeMap<Place, Log>,
    /// How much is asked of what is read.
    pub trust: Trust,
    /// The device fails in this life: what is acknowledged for less than durable may stay away.
    pub is_disturbed: bool,
    /// Records acknowledged as durable since somebody last looked: the last of each batch.
    pub news: Vec<(Place, u64)>,
    records: u64,
    connections: u64,
    violations: Vec<String>,
}

impl Model {
    /// A number for a new connection.
    pub const fn connection(&mut self) -> u64 {
        self.connections += 1;
        self.connections
    }

    /// Numbers for a batch of `count` records that is about to be sent; gives the first.
    pub fn send(&mut self, place: Place, connection: u64, acks: Acks, count: u32) -> u64 {
        let first = self.records;
        self.records += u64::from(count);
        let sent = Sent { count, connection, acks, fate: Fate::Open };
        self.logs.entry(place).or_default().sent.insert(first, sent);
        first
    }

    /// The answer to a produce of one partition.
    pub fn answered(&mut self, place: Place, first: u64, error: u16, base_offset: u64) {
        let log = self.logs.get_mut(&place).expect("it was sent there");
        let sent = log.sent.get_mut(&first).expect("it was sent");
        assert_eq!(sent.fate, Fate::Open, "a session gives one answer");
        if error == ErrorCode::None.number() {
            sent.fate = Fate::Acked(base_offset);
            let (acks, count) = (sent.acks, u64::from(sent.count));
            let term = match acks {
                Acks::Durable => Term::Lasting,
                Acks::Written => Term::Written,
                Acks::None | Acks::Memory => Term::Passing,
            };
            if term == Term::Lasting {
                self.news.push((place, first + count - 1));
            }
            for index in 0..count {
                self.hold(place, base_offset + index, first + index, term);
            }
        } else if is_open_ended(error) {
            sent.fate = Fate::InDoubt;
        } else {
            sent.fate = Fate::Refused(error);
        }
    }

    /// A record stands at an offset: from now on nothing else may.
    fn hold(&mut self, place: Place, offset: u64, record: u64, term: Term) {
        let log = self.logs.entry(place).or_default();
        let known = [&log.lasting, &log.written, &log.passing].map(|held| held.get(&offset));
        let other = known.into_iter().flatten().copied().find(|&other| other != record);
        if let Some(other) = other {
            let law = "an offset is never given to another record";
            let what = format!("{law}: {offset} was record {other}, now {record}");
            return self.violated(place, what);
        }
        match term {
            Term::Lasting => log.lasting.insert(offset, record),
            Term::Written => log.written.insert(offset, record),
            Term::Passing => log.passing.insert(offset, record),
        };
    }

    /// A consumer was sent this record.
    pub fn seen(&mut self, place: Place, offset: u64, record: u64) {
        let log = self.logs.entry(place).or_default();
        let batch = log.sent.range(..=record).next_back();
        let batch = batch.filter(|(first, sent)| record < *first + u64::from(sent.count));
        let Some((&first, &sent)) = batch else {
            return self.violated(place, format!("record {record} was never sent here"));
        };
        match sent.fate {
            // Its topic was deleted while it was on its way. A device that did not take the
            // deletion, and said that it had, brings back the topic with all that it held.
            Fate::Refused(code)
                if self.trust == Trust::Damaged && code == ErrorCode::UnknownTopic.number() => {}
            Fate::Refused(code) => {
                let what = format!("record {record} was refused with code {code} and is here");
                return self.violated(place, what);
            }
            Fate::Acked(base) if base + (record - first) != offset => {
                let what = format!("record {record} was acknowledged at {base} and is at {offset}");
                return self.violated(place, what);
            }
            _ => {}
        }
        self.hold(place, offset, record, Term::Lasting);
    }

    /// A consumer was told where the visible records end.
    pub fn told_end(&mut self, place: Place, end: u64) {
        let log = self.logs.entry(place).or_default();
        log.visible_end = log.visible_end.max(end);
    }

    /// Somebody was told where a partition begins; what lies before is gone for ever.
    pub fn told_start(&mut self, place: Place, start: u64) {
        let log = self.logs.entry(place).or_default();
        log.start = log.start.max(start);
        let asked = log.start_asked;
        if self.trust == Trust::Whole && log.keeps == Keeps::All && start > asked {
            let what = format!("it begins at {start}, and nobody asked for more than {asked}");
            self.violated(place, what);
        }
    }

    /// Whoever reads a partition from now on finds that it begins no earlier.
    pub fn start(&self, place: Place) -> u64 {
        self.logs.get(&place).map_or(0, |log| log.start)
    }

    /// Somebody asks that a partition begins at an offset, or at its end.
    pub fn ask_start(&mut self, place: Place, offset: u64) {
        let log = self.logs.entry(place).or_default();
        log.start_asked = log.start_asked.max(offset);
    }

    /// The connection is gone: what it had open stays in doubt.
    pub fn in_doubt(&mut self, place: Place, first: u64) {
        let sent = self.logs.get_mut(&place).and_then(|log| log.sent.get_mut(&first));
        sent.expect("it was sent").fate = Fate::InDoubt;
    }

    /// The power went: what was acknowledged for less than durable may be gone.
    pub fn died(&mut self) {
        self.killed();
        for log in self.logs.values_mut() {
            log.written.clear();
            for sent in log.sent.values_mut() {
                if sent.acks != Acks::Durable && matches!(sent.fate, Fate::Acked(_)) {
                    sent.fate = Fate::InDoubt;
                }
            }
        }
    }

    /// The process died: what was acknowledged out of memory may be gone.
    pub fn killed(&mut self) {
        for log in self.logs.values_mut() {
            log.passing.clear();
            for sent in log.sent.values_mut() {
                let is_passing = matches!(sent.acks, Acks::None | Acks::Memory);
                if is_passing && matches!(sent.fate, Fate::Acked(_)) {
                    sent.fate = Fate::InDoubt;
                }
            }
        }
    }

    /// No request in flight will be answered any more.
    pub fn nobody_answers(&mut self) {
        for sent in self.logs.values_mut().flat_map(|log| log.sent.values_mut()) {
            if sent.fate == Fate::Open {
                sent.fate = Fate::InDoubt;
            }
        }
        for topic in self.topics.values_mut() {
            if matches!(topic, Topic::Creating | Topic::Deleting(..)) {
                *topic = Topic::InDoubt;
            }
        }
    }

    /// Judges that what was acknowledged for less than durable is there as well: for a broker
    /// that is at rest, or has recovered.
    pub fn judge_acknowledged(&mut self, place: Place, records: &[(u64, u64)], start: u64) {
        let by_offset: BTreeMap<u64, u64> = records.iter().copied().collect();
        let log = self.logs.entry(place).or_default();
        let mut found = Vec::new();
        for (&offset, &record) in log.written.range(start..).chain(log.passing.range(start..)) {
            let there = by_offset.get(&offset).copied();
            if there != Some(record) {
                found.push(format!("record {record}, acknowledged at {offset}: {there:?} is"));
            }
        }
        for what in found {
            self.violated(place, what);
        }
    }

    /// Judges a whole partition as it was read from its beginning: `records` by offset, and the
    /// start and end that the broker told.
    pub fn judge(&mut self, place: Place, records: &[(u64, u64)], start: u64, end: u64) {
        let offsets = records.iter().map(|&(offset, _)| offset);
        if !offsets.eq(start..end) {
            let what = format!("offsets are not dense from {start} to {end}: {:?}", brief(records));
            self.violated(place, what);
        }
        for &(offset, record) in records {
            self.seen(place, offset, record);
        }
        let log = self.logs.entry(place).or_default();
        let mut found = Vec::new();
        let by_offset: BTreeMap<u64, u64> = records.iter().copied().collect();
        if end < log.visible_end {
            found.push(format!("the end was {} once and is {end} now", log.visible_end));
        }
        for (offset, record) in log.lasting.range(start..) {
            if by_offset.get(offset) != Some(record) {
                let there = by_offset.get(offset);
                found.push(format!("record {record} is not at {offset}: {there:?} is"));
            }
        }
        found.extend(repeated(records));
        found.extend(disordered(log, records));
        for what in found {
            self.violated(place, what);
        }
    }

    /// Notes that a law was broken.
    pub fn violated(&mut self, (topic, partition): Place, what: impl std::fmt::Display) {
        let topic = u128::from_be_bytes(topic) >> 96;
        self.violations.push(format!("topic {topic:08x} partition {partition}: {what}"));
    }

    /// Notes something wrong that no partition is at fault for.
    pub fn wrong(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    /// Takes over what another model, which began as a copy of this one, has found since.
    pub fn adopt(&mut self, other: &Model, whence: &str) {
        let news = other.violations.iter().skip(self.violations.len());
        let news: Vec<String> = news.map(|what| format!("{whence}: {what}")).collect();
        self.violations.extend(news);
    }

    /// Forgets that a batch was sent: for a test that the laws notice.
    pub fn forget_newest(&mut self, place: Place) {
        if let Some(log) = self.logs.get_mut(&place) {
            log.sent.pop_last();
        }
    }

    /// Every law that was broken so far.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }
}

/// Codes that leave it open whether the records are there.
fn is_open_ended(error: u16) -> bool {
    [ErrorCode::StorageFailed, ErrorCode::StorageFull, ErrorCode::TimedOut, ErrorCode::ShuttingDown]
        .iter()
        .any(|code| code.number() == error)
}

/// Each record is there once.
fn repeated(records: &[(u64, u64)]) -> Option<String> {
    let mut at = BTreeMap::new();
    records.iter().find_map(|&(offset, record)| {
        let before = at.insert(record, offset)?;
        Some(format!("record {record} is at {before} and again at {offset}"))
    })
}

/// Batches are whole, and those of one connection are in the order they were sent.
fn disordered(log: &Log, records: &[(u64, u64)]) -> Option<String> {
    let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
    let mut rest = behind_cut_batch(log, records);
    while let Some(&(offset, first)) = rest.first() {
        let Some(sent) = log.sent.get(&first) else {
            return Some(format!("record {first} at {offset} does not begin a batch"));
        };
        let count = usize::try_from(sent.count).expect("small");
        let expected = first..first + u64::from(sent.count);
        let Some((batch, tail)) = rest.split_at_checked(count) else {
            return Some(format!("the batch of record {first} at {offset} is cut short"));
        };
        if !batch.iter().map(|&(_, record)| record).eq(expected) {
            return Some(format!("the batch of record {first} at {offset} is mixed up"));
        }
        if let Some(before) = newest.insert(sent.connection, first)
            && before > first
        {
            return Some(format!("record {first} was sent before {before} and is behind it"));
        }
        rest = tail;
    }
    None
}

/// The records behind the first batch, if the partition begins within that.
fn behind_cut_batch<'r>(log: &Log, records: &'r [(u64, u64)]) -> &'r [(u64, u64)] {
    let Some(&(_, first)) = records.first() else { return records };
    let Some((&batch, sent)) = log.sent.range(..=first).next_back() else { return records };
    let end = batch + u64::from(sent.count);
    let left = if batch == first { 0 } else { end.saturating_sub(first) };
    &records[usize::try_from(left).expect("small").min(records.len())..]
}

fn brief(records: &[(u64, u64)]) -> (Option<u64>, Option<u64>, usize) {
    let offset = |&(offset, _): &(u64, u64)| offset;
    (records.first().map(offset), records.last().map(offset), records.len())
}
