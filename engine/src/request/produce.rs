//! Produce: validate, append, wait for what `acks` asks, reply.

use std::collections::VecDeque;

use wire::batch::Batch;
use wire::frame::{Envelope, encode};
use wire::produce::{self, ReplyEntry, RequestEntry, Timing};
use wire::queue::QueueId;
use wire::{Acks, ErrorCode, Kind};

use super::{Answer, Refusal, Request, RoutePart};
use crate::catalog::Owner;
use crate::log::partition::{PartitionId, Waiter};
use crate::log::store::BatchFacts;
use crate::pool::Bytes;
use crate::port::{ConnId, Time};
use crate::shard::{Shard, Timer};
use crate::units::usize_of;

/// A produce request that waits for its records.
#[derive(Debug)]
pub struct Produce {
    /// Who asked.
    pub conn: (ConnId, u64),
    /// What the reply repeats.
    pub correlation_id: u64,
    /// Bytes of the request: its credit.
    pub frame_bytes: usize,
    /// Tells it from others in the same slot.
    pub serial: u64,
    /// Partitions that are not done.
    pub waiting: usize,
    /// Rows of the reply.
    pub entries: Vec<ReplyEntry>,
    /// Whether the reply tells where the time went.
    pub timing: Option<Stamps>,
    /// Where it went on another shard.
    pub owner_timing: Option<Timing>,
    /// When it is answered TIMED_OUT.
    pub due: Option<Time>,
    /// Who hears of it.
    pub purpose: Purpose,
}

/// Whom a produce is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The client that asked for it.
    Client,
    /// A route, and the row of its target.
    Route(RoutePart, usize),
    /// Dead letters of a queue.
    Ferry(QueueId),
    /// Dead letters for which the queue had no room.
    Refused {
        /// The queue.
        queue: QueueId,
        /// How many.
        count: u32,
        /// Who published them.
        part: RoutePart,
        /// The row of the queue.
        row: usize,
    },
}

/// When things happened to a request.
#[derive(Debug, Clone, Copy)]
pub struct Stamps {
    /// Its last byte was seen.
    pub received: Time,
    /// Its records were appended.
    pub appended: Time,
    /// Its newest commit was submitted.
    pub submitted: Time,
}

impl Stamps {
    /// Where the time of the request went, which is answered `now`.
    pub fn timing(&self, now: Time) -> Timing {
        Timing {
            queue_ns: self.appended.since(self.received).into(),
            append_ns: self.submitted.since(self.appended).into(),
            commit_ns: now.since(self.submitted.max(self.appended)).into(),
        }
    }
}

/// What a produce asks for beyond its batches.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// When it is answered.
    pub acks: Acks,
    /// The answer tells where the time went.
    pub timing: bool,
    /// When it is answered TIMED_OUT.
    pub timeout_ms: u32,
    /// Partitions.
    pub entries: usize,
}

impl Shard {
    pub(super) fn produce(&mut self, now: Time, request: Request) -> Result<Answer, Refusal> {
        self.produce_for(now, request, Purpose::Client)
    }

    pub(super) fn produce_for(
        &mut self,
        now: Time,
        request: Request,
        purpose: Purpose,
    ) -> Result<Answer, Refusal> {
        let ask = self.read_ask(request)?;
        if self.stopping.is_some() {
            let detail = "the broker is stopping";
            return self.unanswered(ask.acks, Refusal::new(ErrorCode::ShuttingDown, detail));
        }
        let mut entries = self.free_entries.pop().unwrap_or_default();
        let timing = ask.timing.then(|| {
            let received = self.arrived(now, &request);
            Stamps { received, appended: now, submitted: now }
        });
        let serial = self.next_serial();
        let slot = self.produces.insert(Produce {
            conn: request.conn,
            correlation_id: request.correlation_id,
            frame_bytes: request.frame_bytes,
            serial,
            waiting: 0,
            entries: Vec::new(),
            timing,
            owner_timing: None,
            due: None,
            purpose,
        });
        let mut at = size_of::<produce::RequestHead>() + ask.entries * size_of::<RequestEntry>();
        let (mut waiting, mut elsewhere) = (0, 0);
        for index in 0..ask.entries {
            let entry = self.request_entry(request, index);
            let len = usize_of(entry.batch_bytes.get());
            let place = request.body.part(at, len);
            at += len;
            let owner = self.catalog.owner(&entry.topic_id, entry.partition.get());
            let appended = match owner {
                Ok(_) if self.is_overloaded => Err(ErrorCode::Overloaded),
                Ok(Owner::Here(id)) => self.append(now, id, place, ask.acks),
                Ok(Owner::There(shard)) => {
                    self.set_aside(shard, index);
                    elsewhere += 1;
                    // Its owner's answer takes the row's place.
                    Err(ErrorCode::None)
                }
                Err(unknown) => Err(unknown.code()),
            };
            let (row, waiter) = reply_row(&entry, appended);
            entries.push(row);
            if let Some((id, end)) = waiter {
                waiting += usize::from(self.wait_for(id, end, ask.acks, slot));
            }
        }
        if elsewhere > 0 {
            waiting += self.forward_produce(request, ask, (slot, serial), &mut entries);
        }
        self.store.counters.requests_overloaded += u64::from(self.is_overloaded);
        let produce = self.produces.get_mut(slot).expect("just inserted");
        produce.entries = entries;
        produce.waiting = waiting;
        if waiting == 0 {
            self.answer_produce(slot, now, ask.acks);
        } else if ask.timeout_ms > 0 {
            let due = now.plus_ns(u64::from(ask.timeout_ms) * 1_000_000);
            produce.due = Some(due);
            self.timers.insert((due, Timer::Produce(slot, serial)));
        }
        Ok(Answer::Later)
    }

    fn read_ask(&self, request: Request) -> Result<Ask, Refusal> {
        let produce = produce::Request::decode(self.pool.view(request.body))?;
        let acks = Acks::from_u8(produce.head.acks);
        let acks = acks.ok_or(Refusal::new(ErrorCode::InvalidRequest, "acks is 0 to 3"))?;
        if produce.head.flags & !produce::FLAG_TIMING != 0 {
            let detail = "an unknown flag of produce";
            return Err(Refusal::new(ErrorCode::UnsupportedVersion, detail));
        }
        let timing = produce.head.flags & produce::FLAG_TIMING != 0;
        let timeout_ms = produce.head.timeout_ms.get();
        Ok(Ask { acks, timing, timeout_ms, entries: produce.entries.len() })
    }

    /// With `acks=none` not even a refusal is answered.
    fn unanswered(&mut self, acks: Acks, refusal: Refusal) -> Result<Answer, Refusal> {
        if acks == Acks::None { Ok(Answer::Now) } else { Err(refusal) }
    }

    fn request_entry(&self, request: Request, index: usize) -> RequestEntry {
        let body = self.pool.view(request.body);
        let decoded = produce::Request::decode(body).expect("decoded before");
        decoded.entries[index]
    }

    /// Validates and appends one batch. Gives partition, base offset and the offset behind it.
    fn append(
        &mut self,
        now: Time,
        id: PartitionId,
        place: Bytes,
        acks: Acks,
    ) -> Result<(PartitionId, u64, u64), ErrorCode> {
        let facts = match Batch::validate(self.pool.view(place)) {
            Ok(batch) => BatchFacts {
                count: batch.record_count(),
                max_timestamp_ms: batch.header().max_timestamp.get(),
            },
            Err(error) => {
                self.store.counters.batches_refused += 1;
                return Err(error.code);
            }
        };
        let base = self.store.append_batch(&mut self.pool, now, id, place, facts, acks)?;
        if acks < Acks::Written && self.visibility(id) == Acks::Memory {
            self.store.advanced.push((id, now));
        }
        Ok((id, base, base + u64::from(facts.count)))
    }

    /// Makes the request wait for the partition; false if it need not.
    fn wait_for(&mut self, id: PartitionId, end: u64, acks: Acks, request: u32) -> bool {
        let partition = self.store.partition_mut(id);
        let waiter = Waiter { end, request };
        match acks {
            Acks::None | Acks::Memory => return false,
            Acks::Written => partition.written_waiters.push_back(waiter),
            Acks::Durable => partition.durable_waiters.push_back(waiter),
        }
        true
    }

    /// Answers the requests that a partition's cursors have satisfied.
    pub(crate) fn answer_waiters(&mut self, id: PartitionId, now: Time, submitted: Time) {
        while let Some(request) = self.satisfied(id) {
            let Some(produce) = self.produces.get_mut(request) else { continue };
            produce.waiting -= 1;
            if let Some(stamps) = &mut produce.timing {
                stamps.submitted = submitted;
            }
            if produce.waiting == 0 {
                self.answer_produce(request, now, Acks::Durable);
            }
        }
    }

    fn satisfied(&mut self, id: PartitionId) -> Option<u32> {
        let partition = self.store.partitions.get_mut(id.0)?;
        let (written, durable) = (partition.progress.written(), partition.progress.durable());
        if partition.durable_waiters.front().is_some_and(|waiter| waiter.end <= durable) {
            return partition.durable_waiters.pop_front().map(|waiter| waiter.request);
        }
        if partition.written_waiters.front().is_some_and(|waiter| waiter.end <= written) {
            return partition.written_waiters.pop_front().map(|waiter| waiter.request);
        }
        None
    }

    pub(crate) fn answer_produce(&mut self, slot: u32, now: Time, acks: Acks) {
        let Some(mut produce) = self.produces.remove(slot) else { return };
        if let Some(due) = produce.due {
            self.timers.remove(&(due, Timer::Produce(slot, produce.serial)));
        }
        if produce.purpose != Purpose::Client {
            self.produced(now, produce.purpose, produce.entries.first());
        }
        let live = self.conns.live(produce.conn).is_some();
        if live && acks != Acks::None {
            let own = produce.timing.map(|stamps| stamps.timing(now));
            let timing = produce.owner_timing.or(own);
            let envelope = Envelope::reply(Kind::Produce, produce.correlation_id);
            let entries = &produce.entries;
            self.reply(produce.conn.0, |out| {
                encode(out, envelope, 0, |out| {
                    produce::encode_reply(out, entries, timing.as_ref());
                });
            });
        }
        self.request_ended(produce.conn, produce.frame_bytes);
        produce.entries.clear();
        self.free_entries.push(produce.entries);
    }

    /// A request's time ran out: it is answered now; its records may still become durable.
    pub(crate) fn produce_timed_out(&mut self, slot: u32, serial: u64, now: Time) {
        let Some(produce) = self.produces.get_mut(slot) else { return };
        if produce.serial != serial {
            return;
        }
        for entry in &mut produce.entries {
            if entry.error.get() == 0 {
                entry.error = ErrorCode::TimedOut.number().into();
            }
        }
        produce.due = None;
        self.forget_waiter(slot);
        self.answer_produce(slot, now, Acks::Durable);
    }

    /// Takes a request off every partition's list, before its slot is used again.
    fn forget_waiter(&mut self, slot: u32) {
        let Some(produce) = self.produces.get(slot) else { return };
        let rows = produce.entries.iter();
        let ids: Vec<PartitionId> = rows
            .filter_map(|row| self.catalog.partition(&row.topic_id, row.partition.get()).ok())
            .collect();
        for id in ids {
            let partition = self.store.partition_mut(id);
            partition.durable_waiters.retain(|waiter| waiter.request != slot);
            partition.written_waiters.retain(|waiter| waiter.request != slot);
        }
    }

    /// Answers everything that waits for records of a partition from the offset `from` on with an
    /// error.
    pub(crate) fn fail_waiters(&mut self, id: PartitionId, from: u64, code: ErrorCode) {
        if from == 0 {
            self.fail_deletions(id, code);
        }
        let Some(partition) = self.store.partitions.get_mut(id.0) else { return };
        let (topic, number) = (partition.topic, partition.number);
        // They wait in the order of their offsets.
        let cut = |waiters: &mut VecDeque<Waiter>| {
            waiters.split_off(waiters.partition_point(|waiter| waiter.end <= from))
        };
        let durable = cut(&mut partition.durable_waiters);
        let written = cut(&mut partition.written_waiters);
        for waiter in durable.into_iter().chain(written) {
            let Some(produce) = self.produces.get_mut(waiter.request) else { continue };
            for row in &mut produce.entries {
                let same = row.topic_id == topic && row.partition.get() == number;
                if same && row.error.get() == 0 {
                    row.error = code.number().into();
                }
            }
            produce.waiting -= 1;
            if produce.waiting == 0 {
                self.answer_produce(waiter.request, Time::default(), Acks::Durable);
            }
        }
    }
}

fn reply_row(
    entry: &RequestEntry,
    appended: Result<(PartitionId, u64, u64), ErrorCode>,
) -> (ReplyEntry, Option<(PartitionId, u64)>) {
    let (error, base_offset, waiter) = match appended {
        Ok((id, base, end)) => (ErrorCode::None, base, Some((id, end))),
        Err(code) => (code, 0, None),
    };
    let row = ReplyEntry {
        topic_id: entry.topic_id,
        partition: entry.partition,
        error: error.number().into(),
        reserved: 0.into(),
        base_offset: base_offset.into(),
        log_start_offset: 0.into(),
    };
    (row, waiter)
}
