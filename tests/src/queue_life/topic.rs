//! A topic beside the queues, in some lives: what is routed goes to one of its partitions as well,
//! and the dead letters of the first queue go to the other.
//!
//! The laws: what was confirmed is at its offset, once, and in the order it was sent; what died is
//! among the dead letters at least once, for a reason that was given; what was accepted is not.

use std::collections::BTreeMap;

use client::session::Event;
use wire::batch::{Batches, Record};
use wire::queue::{Reason, Verb};
use wire::{ErrorCode, TopicId, topic};

use super::known::{Asked, Mail};
use super::{Dead, NAMES, QueueLife};
use crate::raw::fetch_one;
use crate::world::World;

/// Its name.
pub(super) const NAME: &str = "events";
/// Its partition for what is routed.
pub(super) const ROUTED: u32 = 0;
/// Its partition for dead letters.
pub(super) const LETTERS: u32 = 1;
/// Turns between a request and a look whether it is answered.
const TURNS: u64 = 20;
/// Looks after which it should be.
const LOOKS_MAX: u32 = 500;
/// Bytes of one fetch.
const FETCH_BYTES: u32 = 64 * 1024;

/// What is known of the topic.
#[derive(Debug, Default)]
pub(super) struct Topic {
    pub(super) id: Option<TopicId>,
    /// Somebody has asked for it to be there.
    is_asked: bool,
    /// Messages that a route put there, by offset.
    pub(super) confirmed: BTreeMap<u64, u64>,
    /// What was read at the end, by offset: message and why it died.
    records: [BTreeMap<u64, (u64, Option<String>)>; 2],
    /// Messages that are dying, when that was asked last.
    dying: u64,
}

impl QueueLife {
    /// The topic is there from now on. It may be there already, if nobody was told.
    pub(super) fn create_topic(&mut self, world: &mut World) -> Result<(), Dead> {
        // Its creation may have been lost with the power: then it is created now.
        for _ in 0..2 {
            let session = &mut self.clients[0].session;
            let asked = match self.topic.is_asked {
                false => session.create_topic(NAME, &topic::Settings::new(2)),
                true => session.describe_topic(NAME),
            };
            self.topic.is_asked = true;
            self.clients[0].asked.insert(asked.map_err(|_| Dead)?, Asked::Topic);
            self.answered(world)?;
            if self.topic.is_asked {
                break;
            }
        }
        Ok(())
    }

    /// Waits until the first client has all its answers.
    pub(super) fn answered(&mut self, world: &mut World) -> Result<(), Dead> {
        for _ in 0..LOOKS_MAX {
            self.turns(world, TURNS)?;
            if self.clients[0].is_over {
                return Err(Dead);
            }
            if self.clients[0].asked.is_empty() {
                return Ok(());
            }
        }
        let left = &self.clients[0].asked;
        self.wrong.push(format!("the first client has no answer to {left:?}"));
        Err(Dead)
    }

    /// Something of the topic was answered.
    pub(super) fn take_topic(&mut self, asked: &Asked, event: &Event<'_>) {
        match (asked, event) {
            (Asked::Topic, Event::TopicCreated(_, id)) => self.topic.id = Some(**id),
            (Asked::Topic, Event::TopicDescribed(_, reply)) => {
                self.topic.id = Some(reply.head.topic_id);
            }
            (Asked::Topic, _) => self.topic.is_asked = false,
            (Asked::Fetch(partition), Event::Fetched(_, reply)) => {
                let records = &mut self.topic.records[*partition];
                for (entry, bytes) in reply.parts() {
                    if entry.error.get() != 0 {
                        let code = ErrorCode::from_u16(entry.error.get());
                        self.wrong.push(format!("partition {partition} is not read: {code:?}"));
                    }
                    let batches = Batches::new(bytes).map(|batch| batch.expect("a batch"));
                    let all = batches.flat_map(|batch| batch.records());
                    records.extend(all.map(|record| read(&record.expect("a record"))));
                }
            }
            _ => {}
        }
    }

    /// Reads the topic, once nothing is on its way to it.
    pub(super) fn read_topic(&mut self, world: &mut World) -> Result<(), Dead> {
        let Some(id) = self.topic.id else { return Ok(()) };
        for _ in 0..LOOKS_MAX {
            let asked = self.clients[0].session.describe_queue(NAMES[0]).map_err(|_| Dead)?;
            self.clients[0].asked.insert(asked, Asked::Describe);
            self.answered(world)?;
            if self.topic.dying == 0 {
                break;
            }
        }
        for partition in [ROUTED, LETTERS] {
            let index = usize::try_from(partition).expect("0 or 1");
            loop {
                let before = self.topic.records[index].len();
                let next = self.topic.records[index].last_key_value().map_or(0, |(at, _)| at + 1);
                let (head, entry) = fetch_one(id, partition, next, FETCH_BYTES);
                let asked = self.clients[0].session.fetch(&head, &[entry]).map_err(|_| Dead)?;
                self.clients[0].asked.insert(asked, Asked::Fetch(index));
                self.answered(world)?;
                if self.topic.records[index].len() == before {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Messages of the first queue that are dying.
    pub(super) const fn note_dying(&mut self, dying: u64) {
        self.topic.dying = dying;
    }

    /// Whether a message is a dead letter in the topic.
    pub(super) fn is_letter(&self, token: u64) -> bool {
        let [_, letters] = &self.topic.records;
        letters.values().any(|(other, _)| *other == token)
    }

    /// After everything was read.
    pub(super) fn judge_topic(&mut self) {
        let [routed, letters] = &self.topic.records;
        self.seen.routed += u64::try_from(routed.len()).expect("few");
        self.seen.letters += u64::try_from(letters.len()).expect("few");
        for (offset, token) in &self.topic.confirmed {
            if routed.get(offset).is_none_or(|(found, _)| found != token) {
                let found = routed.get(offset);
                self.wrong.push(format!("{token} was routed to {offset}, and there is {found:?}"));
            }
        }
        let mut last = 0;
        for (offset, (token, _)) in routed {
            if *token <= last || !self.copies.contains_key(token) {
                self.wrong.push(format!("record {offset} is {token}, after {last}"));
            }
            last = *token;
        }
        for (offset, (token, reason)) in letters {
            let reason =
                Reason::ALL.into_iter().find(|known| reason.as_deref() == Some(known.name()));
            let mail = self.mail.get(token);
            if !mail.is_some_and(|mail| may_be_letter(mail, reason)) {
                let what = format!("letter {offset} is {token}, {reason:?}");
                self.wrong.push(format!("{what}, and none may be: {mail:?}"));
            }
        }
    }
}

/// Whether a message may have died for this reason.
fn may_be_letter(mail: &Mail, reason: Option<Reason>) -> bool {
    let was_accepted = mail.is_settled && mail.asked != Some(Verb::Reject);
    let is_due = match reason {
        Some(Reason::Rejected) => mail.is_reject_asked,
        Some(Reason::Expired) => mail.ttl_ms > 0,
        Some(Reason::Overflow) => mail.may_be_turned_away,
        Some(Reason::DeliveryLimit) | None => false,
    };
    // Its reject may be as old as the death of the power before its accept.
    is_due && (!was_accepted || mail.is_reject_asked)
}

/// Offset, message and reason of a record.
fn read(record: &Record<'_>) -> (u64, (u64, Option<String>)) {
    let value = record.value.expect("a body");
    let token = u64::from_le_bytes(*value.first_chunk().expect("a token"));
    let mut headers = record.headers;
    let reason = headers.find(|header| header.key == b"pelton.death.reason");
    let reason = reason.and_then(|header| header.value);
    (record.offset, (token, reason.map(|reason| String::from_utf8_lossy(reason).into_owned())))
}
