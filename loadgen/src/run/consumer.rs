//! One consumer: reads its partitions from the beginning and proves every record.

use client::transport::Transport;
use client::{ClientError, Connection};
use std::ops::Range;
use wire::batch::{Batch, Batches};
use wire::limits::REQUEST_PARTITIONS_MAX;
use wire::{ErrorCode, fetch};

use super::tally::{Tally, Window};
use super::work::{Progress, Replay, Signals, Work};
use crate::integrity::{Coverage, Pass};
use crate::payload;

/// Asked for in one fetch: enough to amortise the round trip, little enough to stay in a cache
/// while it is verified.
const FETCH_BYTES_MAX: u32 = 1 << 20;
const _: () = assert!(FETCH_BYTES_MAX as usize <= fetch::REPLY_BATCHES_BYTES_MAX);
/// The broker answers an empty fetch after this long.
const FETCH_WAIT_MS: u32 = 200;
/// The same where a consumer has more partitions than one fetch may name: the others wait.
const TURN_WAIT_MS: u32 = 5;

pub(super) struct Consumer {
    cursors: Vec<Cursor>,
    /// The cursor that the next fetch names first: the one behind the last that gave something,
    /// so that each gets its turn.
    first: usize,
    /// The cursors that the fetch under way asks for, in its order.
    asked: Vec<usize>,
    entries: Vec<fetch::RequestEntry>,
    waiting: bool,
    /// Batches that arrived and are not verified yet.
    scratch: Vec<u8>,
    arrived: Vec<Arrival>,
    /// It asks for nothing before the load begins, and where it is slow on purpose.
    rests_until_ns: u64,
}

/// Where reading of one partition stands.
struct Cursor {
    partition: u32,
    start: u64,
    next: u64,
    done: bool,
    pass: Pass,
}

/// Batches of one partition in the scratch buffer.
struct Arrival {
    cursor: usize,
    bytes: Range<usize>,
    from_offset: u64,
    ends_pass: bool,
}

/// What a consumer needs from its thread to verify.
pub(super) struct Proof<'a> {
    pub(super) work: &'a Work<'a>,
    pub(super) window: Window,
    pub(super) tally: &'a mut Tally,
    pub(super) progress: &'a Progress,
}

impl Consumer {
    /// Consumer `index`, which asks for nothing before the load begins: what it took by then
    /// would be in no window.
    pub(super) fn new(work: &Work<'_>, window: &Window, index: u32) -> Self {
        let cursors =
            work.routing.of_consumer(index, work.consumers).into_iter().map(|partition| {
                let start = work.starts[partition as usize];
                let pass = Pass::new(partition, work.producers);
                Cursor { partition, start, next: start, done: false, pass }
            });
        Self {
            cursors: cursors.collect(),
            first: 0,
            asked: Vec::new(),
            entries: Vec::new(),
            waiting: false,
            scratch: Vec::new(),
            arrived: Vec::new(),
            rests_until_ns: window.start_ns,
        }
    }

    /// Asks for more, unless it waits for an answer already.
    pub(super) fn pump(
        &mut self,
        connection: &mut Connection<impl Transport>,
        work: &Work<'_>,
        signals: &Signals<'_>,
    ) -> Result<(), ClientError> {
        if self.waiting {
            return Ok(());
        }
        self.mark_done(work, signals);
        self.asked.clear();
        self.entries.clear();
        let count = self.cursors.len();
        let turns = (0..count).map(|turn| (self.first + turn) % count);
        for index in turns.filter(|&index| !self.cursors[index].done) {
            if self.asked.len() == REQUEST_PARTITIONS_MAX {
                // The others have their turn with the next fetch, whatever this one brings.
                self.first = index;
                break;
            }
            let cursor = &self.cursors[index];
            self.asked.push(index);
            self.entries.push(fetch::RequestEntry {
                topic_id: work.topic_id,
                partition: cursor.partition.into(),
                leader_epoch: u32::MAX.into(),
                offset: cursor.next.into(),
                partition_max_bytes: FETCH_BYTES_MAX.into(),
                reserved: 0.into(),
            });
        }
        if self.asked.is_empty() {
            return Ok(());
        }
        let wait_ms = match count {
            ..=REQUEST_PARTITIONS_MAX => FETCH_WAIT_MS,
            _ => TURN_WAIT_MS,
        };
        let head = fetch::RequestHead {
            max_wait_ms: wait_ms.into(),
            min_bytes: 1.into(),
            max_bytes: FETCH_BYTES_MAX.into(),
            isolation: 0,
            flags: 0,
            partition_count: 0.into(),
        };
        connection.session_mut().fetch(&head, &self.entries)?;
        self.waiting = true;
        connection.send_now()
    }

    /// When it asks for more, at the earliest.
    pub(super) fn rests_until_ns(&self) -> u64 {
        self.rests_until_ns
    }

    /// Takes the batches of an answer out of the session's buffer, and moves the cursors on, so
    /// that the next fetch can leave before these are verified.
    pub(super) fn take(
        &mut self,
        reply: &fetch::Reply<'_>,
        work: &Work<'_>,
        signals: &Signals<'_>,
        tally: &mut Tally,
    ) {
        self.waiting = false;
        for ((entry, batches), &index) in reply.parts().zip(&self.asked) {
            let cursor = &mut self.cursors[index];
            if entry.error.get() != 0 {
                let code = ErrorCode::from_u16(entry.error.get());
                tally.error(code.map_or("unknown", ErrorCode::name));
                let behind = entry.last_stable_offset.get();
                let is_damaged = code == Some(ErrorCode::DataCorrupt) && behind != u64::MAX;
                if is_damaged && matches!(work.replay, Replay::Once) {
                    // Read on behind the damage: the records in it count as lost.
                    cursor.next = cursor.next.max(behind);
                    continue;
                }
                // Reading on would fail the same way, unless the code says that it may pass.
                cursor.done = code.is_none_or(|code| !code.is_retriable());
                continue;
            }
            let begin = self.scratch.len();
            self.scratch.extend_from_slice(batches);
            let from_offset = cursor.next;
            if let Some(last) = Batches::new(batches).map_while(Result::ok).last() {
                cursor.next = last.next_offset().max(cursor.next);
            }
            let end =
                signals.targets.get().map_or(u64::MAX, |ends| ends[cursor.partition as usize]);
            let ends_pass = matches!(work.replay, Replay::Repeat(_)) && cursor.next >= end;
            if ends_pass {
                cursor.next = cursor.start;
            }
            if !batches.is_empty() {
                if self.cursors.len() <= REQUEST_PARTITIONS_MAX {
                    self.first = (index + 1) % self.cursors.len();
                }
                let bytes = begin..self.scratch.len();
                self.arrived.push(Arrival { cursor: index, bytes, from_offset, ends_pass });
            }
        }
    }

    /// The connection is lost, and with it the answer that was waited for.
    pub(super) fn disconnected(&mut self) {
        self.waiting = false;
        self.asked.clear();
    }

    /// A fetch was refused as a whole.
    pub(super) fn refused(&mut self, code: Option<ErrorCode>, tally: &mut Tally) {
        self.waiting = false;
        tally.error(code.map_or("unknown", ErrorCode::name));
        if code.is_none_or(|code| !code.is_retriable()) {
            self.cursors.iter_mut().for_each(|cursor| cursor.done = true);
        }
    }

    /// Verifies what arrived at `now_ns`.
    pub(super) fn digest(&mut self, proof: &mut Proof<'_>, now_ns: u64) {
        let arrived = std::mem::take(&mut self.arrived);
        for arrival in &arrived {
            let cursor = &mut self.cursors[arrival.cursor];
            let (mut records, mut value_bytes) = (0, 0);
            for batch in Batches::new(&self.scratch[arrival.bytes.clone()]) {
                match batch {
                    Ok(batch) => {
                        let from = arrival.from_offset;
                        let (some, bytes) =
                            verify_batch(&mut cursor.pass, &batch, from, proof, now_ns);
                        records += some;
                        value_bytes += bytes;
                    }
                    Err(_) => cursor.pass.corrupt(),
                }
            }
            if proof.window.measures(now_ns) {
                proof.tally.consumed_records += records;
                proof.tally.consumed_value_bytes += value_bytes;
                if let Some(stretch) = proof.tally.timeline.at(now_ns) {
                    stretch.consumed(records);
                }
            }
            proof.progress.consumed(records);
            if let Some(rate) = proof.work.consume_rate {
                let close_ns = proof.window.close_ns;
                let rest_ns = records.saturating_mul(1_000_000_000) / rate;
                let since_ns = self.rests_until_ns.max(now_ns);
                self.rests_until_ns = since_ns.saturating_add(rest_ns).min(close_ns);
            }
            if arrival.ends_pass {
                proof.tally.passes_finished += u64::from(now_ns < proof.window.close_ns);
                let fresh = Pass::new(cursor.partition, proof.work.producers);
                let pass = std::mem::replace(&mut cursor.pass, fresh);
                audit(&pass, Coverage::Whole, proof);
            }
        }
        // Keep the allocation for the next round.
        self.arrived = arrived;
        self.arrived.clear();
        self.scratch.clear();
    }

    /// Whether everything has been read.
    pub(super) fn is_done(&self) -> bool {
        !self.waiting && self.cursors.iter().all(|cursor| cursor.done)
    }

    /// The passes that are not audited yet, and how far they came.
    pub(super) fn finish(self, signals: &Signals<'_>) -> Vec<(Pass, Coverage)> {
        let targets = signals.targets.get();
        let coverage = |cursor: &Cursor| match targets {
            Some(ends) if cursor.next >= ends[cursor.partition as usize] => Coverage::Whole,
            _ => Coverage::Prefix,
        };
        self.cursors
            .into_iter()
            .map(|cursor| {
                let coverage = coverage(&cursor);
                (cursor.pass, coverage)
            })
            .collect()
    }

    fn mark_done(&mut self, work: &Work<'_>, signals: &Signals<'_>) {
        if let (Replay::Once, Some(ends)) = (&work.replay, signals.targets.get()) {
            for cursor in &mut self.cursors {
                cursor.done |= cursor.next >= ends[cursor.partition as usize];
            }
        }
    }
}

/// Adds the findings of a finished pass to the tally.
fn audit(pass: &Pass, coverage: Coverage, proof: &mut Proof<'_>) {
    if let Replay::Repeat(ledger) = proof.work.replay {
        proof.tally.counts.add(&ledger.audit(pass, coverage));
        proof.tally.checked_records += pass.records();
    }
}

/// Verifies the records of one batch from `from_offset` on; gives their number, and the bytes of
/// their values.
fn verify_batch(
    pass: &mut Pass,
    batch: &Batch<'_>,
    from_offset: u64,
    proof: &mut Proof<'_>,
    now_ns: u64,
) -> (u64, u64) {
    let measures_e2e = matches!(proof.work.replay, Replay::Once);
    let partition = pass.partition();
    let (mut records, mut value_bytes) = (0, 0);
    pass.offsets(batch.base_offset().max(from_offset)..batch.next_offset());
    for record in batch.records() {
        let Ok(record) = record else {
            pass.corrupt();
            break;
        };
        if record.offset < from_offset {
            continue;
        }
        records += 1;
        value_bytes += record.value.map_or(0, <[u8]>::len) as u64;
        match record.value.map(payload::verify) {
            // Intact, but of another run: a topic that was there before may hold such.
            Some(Ok(header)) if header.run != proof.work.run => {}
            Some(Ok(header)) if header.partition == partition => {
                pass.record(header.producer, header.sequence);
                if measures_e2e && proof.window.measures(header.intended_ns) {
                    proof.tally.clock_backwards += u64::from(now_ns < header.intended_ns);
                    proof.tally.e2e.record(now_ns.saturating_sub(header.intended_ns));
                    proof.tally.e2e_service.record(now_ns.saturating_sub(header.sent_ns));
                }
            }
            Some(Ok(_) | Err(_)) | None => pass.corrupt(),
        }
    }
    (records, value_bytes)
}
