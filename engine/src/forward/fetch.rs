//! Fetches of other shards' partitions: one request to each owner, one reply out of theirs.
//!
//! Every owner waits for data by itself. As soon as one has some, the others are asked to answer
//! with what they have, so a fetch over several shards waits no longer than one of them would.

use wire::fetch::{self, REPLY_BATCHES_BYTES_MAX, ReplyEntry, RequestEntry, RequestHead};
use wire::frame::{Envelope, encode};
use wire::{FrameHeader, Kind};

use super::{Call, KIND_HURRY, error_of, lasting, row_index};
use crate::catalog::Owner;
use crate::log::read::Part;
use crate::pool::Bytes;
use crate::port::{ConnId, Time};
use crate::request::Fetch;
use crate::shard::Shard;
use crate::units::{u32_of, usize_of};

/// Fetches of one connection that other shards work on at once; more wait for their turn.
pub const SPREADS_PER_CONNECTION_MAX: u32 = 4;

/// A fetch that other shards work on.
#[derive(Debug)]
pub struct Spread {
    serial: u64,
    conn: (ConnId, u64),
    correlation_id: u64,
    frame_bytes: usize,
    wants: Vec<RequestEntry>,
    /// Rows of the reply, and their batches, by the request's order.
    rows: Vec<ReplyEntry>,
    parts: Vec<Vec<Part>>,
    /// Answers that are still to come.
    waiting: usize,
    /// Calls that are still to be answered: shard and slot.
    calls: Vec<(u16, u32)>,
    /// The fetch of this shard's own partitions, while it waits.
    local: Option<u64>,
    /// The numbers of its rows: topics may come and go meanwhile.
    local_rows: Vec<u16>,
    is_hurried: bool,
}

impl Shard {
    /// Whether some of the partitions are other shards'.
    pub(crate) fn is_spread(&self, wants: &[RequestEntry]) -> bool {
        if self.store.settings.shards == 1 {
            return false;
        }
        let owners =
            wants.iter().map(|want| self.catalog.owner(&want.topic_id, want.partition.get()));
        owners.into_iter().any(|owner| matches!(owner, Ok(Owner::There(_))))
    }

    /// Divides a fetch among the owners of its partitions, this shard included.
    pub(crate) fn spread_fetch(&mut self, now: Time, fetch: &Fetch) {
        let wants = fetch.wants().to_vec();
        for (row, want) in wants.iter().enumerate() {
            let shard = match self.catalog.owner(&want.topic_id, want.partition.get()) {
                Ok(Owner::There(shard)) => shard,
                // What is unknown is answered by the local part.
                Ok(Owner::Here(_)) | Err(_) => self.store.settings.shard,
            };
            self.set_aside(shard, row);
        }
        let mut groups = std::mem::take(&mut self.forward.groups);
        let parts = groups.iter().filter(|rows| !rows.is_empty()).count();
        let serial = self.next_serial();
        let slot = self.forward.spreads.insert(Spread {
            serial,
            conn: fetch.conn,
            correlation_id: fetch.correlation_id,
            frame_bytes: fetch.frame_bytes,
            rows: wants.iter().map(empty_row).collect(),
            parts: vec![Vec::new(); wants.len()],
            waiting: parts,
            calls: Vec::new(),
            local: None,
            local_rows: Vec::new(),
            is_hurried: false,
            wants,
        });
        if let Some(conn) = self.conns.live(fetch.conn) {
            conn.spreads += 1;
        }
        let share = u32_of(fetch.min_bytes.div_ceil(parts));
        let head = RequestHead {
            max_wait_ms: u32::try_from(fetch.due.since(now) / 1_000_000).unwrap_or(u32::MAX).into(),
            min_bytes: share.into(),
            max_bytes: u32_of(fetch.max_bytes.div_ceil(parts)).into(),
            isolation: 0,
            flags: 0,
            partition_count: 0.into(),
        };
        for (shard, rows) in groups.iter_mut().enumerate().filter(|(_, rows)| !rows.is_empty()) {
            let shard = u16::try_from(shard).expect("shards are numbered with u16");
            let rows = std::mem::take(rows);
            if shard == self.store.settings.shard {
                self.fetch_here(fetch, (slot, serial), head, rows);
            } else {
                self.fetch_there(shard, (slot, serial), head, rows);
            }
        }
        self.forward.groups = groups;
    }

    fn fetch_there(
        &mut self,
        shard: u16,
        (slot, serial): (u32, u64),
        mut head: RequestHead,
        rows: Vec<u16>,
    ) {
        let spread = self.forward.spreads.get(slot).expect("just inserted");
        let wants: Vec<RequestEntry> =
            rows.iter().map(|&row| spread.wants[row_index(row)]).collect();
        head.partition_count = u16::try_from(wants.len()).expect("requests have few rows").into();
        let call = Call::Fetch { slot, serial, rows };
        let call = self.call(shard, Kind::Fetch.number(), 0, call, &[], |out| {
            fetch::Request { head: &head, entries: &wants }.encode(out);
        });
        let spread = self.forward.spreads.get_mut(slot).expect("just inserted");
        spread.calls.push((shard, call));
    }

    fn fetch_here(
        &mut self,
        fetch: &Fetch,
        (slot, serial): (u32, u64),
        head: RequestHead,
        rows: Vec<u16>,
    ) {
        let spread = self.forward.spreads.get(slot).expect("just inserted");
        let wants: Vec<RequestEntry> =
            rows.iter().map(|&row| spread.wants[row_index(row)]).collect();
        let local = self.next_serial();
        let part = fetch.part(&wants, &head, (slot, serial));
        self.fetches.insert(local, part);
        self.ready.push_back(local);
        let spread = self.forward.spreads.get_mut(slot).expect("just inserted");
        spread.local = Some(local);
        spread.local_rows = rows;
    }

    /// This shard's own part of a spread fetch is complete; its parts' references are handed over.
    pub(crate) fn fetched_here(
        &mut self,
        now: Time,
        (slot, serial): (u32, u64),
        rows: &[ReplyEntry],
        parts: &[Part],
    ) {
        let spread = self.forward.spreads.get_mut(slot).filter(|found| found.serial == serial);
        let Some(spread) = spread else {
            for part in parts {
                self.pool.release(part.buf);
            }
            return;
        };
        spread.local = None;
        assert_eq!(spread.local_rows.len(), rows.len(), "a row for each partition");
        let mut parts = parts.iter().copied();
        for (&index, row) in spread.local_rows.iter().zip(rows) {
            let index = row_index(index);
            let mut left = usize_of(row.batches_bytes.get());
            while left > 0 {
                let part = parts.next().expect("rows say how long their parts are");
                left -= part.len;
                spread.parts[index].push(part);
            }
            spread.rows[index] = *row;
        }
        self.part_fetched(now, slot, brought(rows));
    }

    /// A call of a spread fetch is answered: its slot may be another's from now on, who is not to
    /// be hurried.
    pub(super) fn forget_call(&mut self, (slot, serial): (u32, u64), answered: u32) {
        let spread = self.forward.spreads.get_mut(slot).filter(|found| found.serial == serial);
        if let Some(spread) = spread {
            spread.calls.retain(|&(_, call)| call != answered);
        }
    }

    /// Another shard has answered its part of a spread fetch.
    pub(super) fn fetch_answered(
        &mut self,
        now: Time,
        (slot, serial): (u32, u64),
        rows: &[u16],
        header: &FrameHeader,
        body: Bytes,
    ) {
        let is_there = self.forward.spreads.get(slot).is_some_and(|spread| spread.serial == serial);
        if !is_there {
            return;
        }
        let bytes = self.pool.view(body);
        if let Some(code) = error_of(bytes, header) {
            let spread = self.forward.spreads.get_mut(slot).expect("just seen");
            for &row in rows {
                spread.rows[row_index(row)].error = code.into();
            }
            return self.part_fetched(now, slot, Brought::Something);
        }
        let reply = fetch::Reply::decode(bytes).expect("shards speak the protocol");
        let found = reply.entries.to_vec();
        let batches = body.part(body.len - reply.batches.len(), reply.batches.len());
        self.take_rows(slot, rows, &found, batches);
        self.part_fetched(now, slot, brought(&found));
    }

    /// Keeps the rows that came in a link's buffer. Where there is no memory for a copy, the row
    /// stays empty, and the consumer asks again.
    fn take_rows(&mut self, slot: u32, rows: &[u16], found: &[ReplyEntry], batches: Bytes) {
        let mut at = 0;
        for (&row, entry) in rows.iter().zip(found) {
            let len = usize_of(entry.batches_bytes.get());
            let place = batches.part(at, len);
            at += len;
            let part = if len == 0 { None } else { self.keep_bytes(place) };
            let spread = self.forward.spreads.get_mut(slot).expect("checked by the caller");
            let kept = &mut spread.rows[row_index(row)];
            *kept = *entry;
            if part.is_none() {
                kept.batches_bytes = 0.into();
            }
            spread.parts[row_index(row)].extend(part);
        }
    }

    /// The bytes in a buffer that will not change: theirs, or a copy's where theirs is used again
    /// for what comes next, be it as the links' reserve.
    fn keep_bytes(&mut self, place: Bytes) -> Option<Part> {
        if let Some(buf) = lasting(place).filter(|&buf| !self.pool.is_of_links(buf)) {
            self.pool.retain(buf);
            return Some(Part { buf, at: place.at, len: place.len });
        }
        let buf = self.store.alloc(&mut self.pool, place.len)?;
        self.pool.copy_from(place, buf, 0);
        Some(Part { buf, at: 0, len: place.len })
    }

    fn part_fetched(&mut self, now: Time, slot: u32, brought: Brought) {
        let spread = self.forward.spreads.get_mut(slot).expect("checked by the caller");
        spread.waiting -= 1;
        if spread.waiting == 0 {
            let spread = self.forward.spreads.remove(slot).expect("just seen");
            return self.answer_spread(spread);
        }
        if brought == Brought::Something && !spread.is_hurried {
            spread.is_hurried = true;
            let (calls, local) = (std::mem::take(&mut spread.calls), spread.local);
            self.hurry(now, &calls, local);
        }
    }

    /// Asks the owners that still wait for data to answer with what they have.
    fn hurry(&mut self, now: Time, calls: &[(u16, u32)], local: Option<u64>) {
        for &(shard, call) in calls {
            let correlation_id = u64::from(call);
            let envelope = Envelope { flags: 0, kind: KIND_HURRY, kind_version: 1, correlation_id };
            self.ask(shard, envelope, &[], |_| {});
        }
        if let Some(serial) = local {
            self.hurry_local(now, serial);
        }
    }

    fn answer_spread(&mut self, mut spread: Spread) {
        let Some(conn) = self.conns.live(spread.conn) else {
            for part in spread.parts.into_iter().flatten() {
                self.pool.release(part.buf);
            }
            return;
        };
        conn.spreads -= 1;
        let waiting = std::mem::take(&mut conn.fetches);
        self.ready.extend(waiting);
        let (mut sum, mut parts) = (0, Vec::new());
        for (row, batches) in spread.rows.iter_mut().zip(spread.parts) {
            let bytes = usize_of(row.batches_bytes.get());
            if sum > 0 && sum + bytes > REPLY_BATCHES_BYTES_MAX {
                // One frame does not hold it: the consumer asks again.
                row.batches_bytes = 0.into();
                for part in batches {
                    self.pool.release(part.buf);
                }
                continue;
            }
            sum += bytes;
            parts.extend(batches);
        }
        let envelope = Envelope::reply(Kind::Fetch, spread.correlation_id);
        self.reply_with(spread.conn.0, &parts, |out| {
            encode(out, envelope, sum, |out| fetch::encode_reply_control(out, &spread.rows));
        });
        self.request_ended(spread.conn, spread.frame_bytes);
    }

    /// Forgets the spread fetches of a connection that is gone.
    pub(crate) fn drop_spreads(&mut self, conn: (ConnId, u64)) {
        let mine = self.forward.spreads.iter().filter(|(_, spread)| spread.conn == conn);
        let mine: Vec<u32> = mine.map(|(slot, _)| slot).collect();
        for slot in mine {
            let spread = self.forward.spreads.remove(slot).expect("just listed");
            for part in spread.parts.into_iter().flatten() {
                self.pool.release(part.buf);
            }
            if !spread.is_hurried {
                // Its local part goes with the connection's fetches.
                self.hurry(Time::default(), &spread.calls, None);
            }
        }
    }
}

/// Whether a part of the answer is worth answering with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Brought {
    /// Records, or an error.
    Something,
    /// Its time was up.
    Nothing,
}

fn brought(rows: &[ReplyEntry]) -> Brought {
    let has_some = |row: &ReplyEntry| row.batches_bytes.get() > 0 || row.error.get() != 0;
    if rows.iter().any(has_some) { Brought::Something } else { Brought::Nothing }
}

fn empty_row(want: &RequestEntry) -> ReplyEntry {
    ReplyEntry {
        topic_id: want.topic_id,
        partition: want.partition,
        error: 0.into(),
        aborted_count: 0.into(),
        high_watermark: 0.into(),
        last_stable_offset: 0.into(),
        log_start_offset: 0.into(),
        batches_bytes: 0.into(),
        leader_epoch: 0.into(),
    }
}
