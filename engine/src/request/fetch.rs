//! Fetch: take what is visible, from memory or disk; wait for it if there is not enough.
//!
//! A fetch that waits costs nothing: it stands on its partitions' lists and has one timer. Each
//! partition is read by at most one disk read per fetch; a reader that is behind asks again.

use wire::fetch::{self, ReplyEntry, RequestEntry};
use wire::frame::{Envelope, encode};
use wire::{ErrorCode, Kind};

use super::{Answer, Refusal, Request};
use crate::forward::SPREADS_PER_CONNECTION_MAX;
use crate::log::partition::PartitionId;
use crate::log::read::{Part, Place, Want};
use crate::log::run::First;
use crate::log::scan::Served;
use crate::log::send_file::FilePart;
use crate::log::stream::StreamKind;
use crate::port::{ConnId, Fault, OpBatch, Time};
use crate::shard::{Shard, Timer};
use crate::units::{u32_of, u64_of, usize_of};

/// Lists of ended fetches that are kept, and how long they may have become.
const KEPT_LISTS_MAX: usize = 256;
const KEPT_PARTITIONS_MAX: usize = 64;
const KEPT_PARTS_MAX: usize = 256;

/// A fetch in progress.
#[derive(Debug)]
pub struct Fetch {
    /// Who asked.
    pub conn: (ConnId, u64),
    /// What the reply repeats.
    pub correlation_id: u64,
    /// Bytes of the request: its credit.
    pub frame_bytes: usize,
    /// When it is answered at the latest.
    pub due: Time,
    /// Bytes to wait for.
    pub min_bytes: usize,
    /// Most bytes to answer with.
    pub max_bytes: usize,
    reach: Reach,
    lists: FetchLists,
    taken: usize,
    is_parked: bool,
    reading: Option<Reading>,
    /// The next partition is read though it could be sent out of its file.
    is_apart: bool,
    /// Bytes of `lists.parts` behind the last of `lists.files`.
    since_file: usize,
}

/// Whose partitions a fetch is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// This shard's.
    Own,
    /// Other shards' too: it is yet to be divided among them.
    Spread,
    /// This shard's part of one that was divided: its slot and serial.
    Part(u32, u64),
}

/// What grows with a fetch's partitions; kept from fetch to fetch for its memory.
#[derive(Debug, Default)]
pub struct FetchLists {
    /// What it asks for, by partition.
    wants: Vec<RequestEntry>,
    /// Rows of the reply so far, for the first of the partitions.
    rows: Vec<ReplyEntry>,
    /// The batches of these rows.
    parts: Vec<Part>,
    /// Those that are sent out of files.
    files: Vec<FilePart>,
}

/// A stream that a fetch waits for.
#[derive(Debug, Clone, Copy)]
struct Reading {
    stream: u32,
    id: PartitionId,
}

/// How a step of a fetch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Its reply is complete.
    Complete,
    /// It waits for a read, a file or memory.
    Waiting,
}

impl Shard {
    pub(super) fn fetch(&mut self, now: Time, request: Request) -> Result<Answer, Refusal> {
        self.store.counters.fetches += 1;
        let fetch = fetch::Request::decode(self.pool.view(request.body))?;
        let wait_ns = u64::from(fetch.head.max_wait_ms.get()) * 1_000_000;
        let due = if self.stopping.is_some() { now } else { now.plus_ns(wait_ns) };
        let max_bytes = usize_of(fetch.head.max_bytes.get()).min(fetch::REPLY_BATCHES_BYTES_MAX);
        let mut lists = self.free_fetches.pop().unwrap_or_default();
        lists.wants.extend_from_slice(fetch.entries);
        let min_bytes = usize_of(fetch.head.min_bytes.get()).clamp(1, max_bytes.max(1));
        let is_spread = self.is_spread(&lists.wants);
        let fetch = Fetch {
            conn: request.conn,
            correlation_id: request.correlation_id,
            frame_bytes: request.frame_bytes,
            due,
            min_bytes,
            max_bytes,
            reach: if is_spread { Reach::Spread } else { Reach::Own },
            lists,
            taken: 0,
            is_parked: false,
            reading: None,
            is_apart: false,
            since_file: 0,
        };
        let serial = self.next_serial();
        if self.conns.get(request.conn.0).is_some_and(|conn| conn.link.is_some()) {
            self.link_fetches.insert((request.conn.0, request.correlation_id), serial);
        }
        self.fetches.insert(serial, fetch);
        self.ready.push_back(serial);
        Ok(Answer::Later)
    }

    /// Goes on with the fetches that can.
    pub(crate) fn serve_fetches(&mut self, now: Time, batch: &mut OpBatch) {
        self.ready.extend(self.store.streams.woken.drain(..));
        for _ in 0..self.ready.len() {
            let Some(serial) = self.ready.pop_front() else { return };
            let Some(mut fetch) = self.fetches.remove(&serial) else { continue };
            let queued_max = self.store.settings.reply_bytes_queued_max;
            let is_spread = fetch.reach == Reach::Spread;
            let full = self.conns.live(fetch.conn).filter(|conn| {
                let is_busy = is_spread && conn.spreads >= SPREADS_PER_CONNECTION_MAX;
                conn.reply_bytes + conn.file_bytes >= queued_max || is_busy
            });
            if let Some(conn) = full {
                conn.fetches.push_back(serial);
                self.fetches.insert(serial, fetch);
                continue;
            }
            if is_spread {
                self.spread_fetch(now, &fetch);
                self.keep_lists(fetch.lists);
                continue;
            }
            self.unpark(serial, &mut fetch);
            let enough =
                !fetch.lists.rows.is_empty() || fetch.reading.is_some() || self.is_due(&fetch, now);
            if !enough {
                self.park(serial, fetch);
                continue;
            }
            match self.step_fetch(serial, &mut fetch, now, batch) {
                Step::Complete => {
                    self.answer_fetch(now, &fetch);
                    self.keep_lists(fetch.lists);
                }
                Step::Waiting => {
                    self.fetches.insert(serial, fetch);
                }
            }
        }
    }

    /// Whether a fetch is answered now: its time is up, it has an error, or there is enough.
    fn is_due(&self, fetch: &Fetch, now: Time) -> bool {
        if fetch.due <= now || self.stopping.is_some() {
            return true;
        }
        let mut bytes = 0;
        for want in &fetch.lists.wants {
            let found = self.catalog.partition(&want.topic_id, want.partition.get());
            let Ok(id) = found else { return true };
            let visible = self.store.visible(id, self.visibility(id));
            let partition = self.store.partition(id);
            let offset = want.offset.get();
            let is_damaged = partition.damaged.at(offset).is_some();
            if offset > visible || offset < partition.log_start || is_damaged {
                return true;
            }
            let first = partition.runs.partition_point(|run| run.next_offset <= offset);
            let in_memory = self.store.is_in_memory(partition, offset);
            if offset < visible && (!in_memory || fetch.min_bytes == 1) {
                return true;
            }
            let runs = partition.runs.range(first..).take_while(|run| run.base_offset < visible);
            let from = runs
                .clone()
                .next()
                .map_or(0, |run| run.locate(&self.pool, offset) - crate::frame::RUN_PREFIX_BYTES);
            let sum: usize = runs
                .map(|run| run.locate(&self.pool, visible) - crate::frame::RUN_PREFIX_BYTES)
                .sum();
            bytes += sum.saturating_sub(from);
        }
        bytes >= fetch.min_bytes
    }

    fn park(&mut self, serial: u64, mut fetch: Fetch) {
        fetch.is_parked = true;
        self.store.counters.fetches_parked += 1;
        self.timers.insert((fetch.due, Timer::Fetch(serial)));
        for want in &fetch.lists.wants {
            if let Ok(id) = self.catalog.partition(&want.topic_id, want.partition.get()) {
                self.store.partition_mut(id).fetch_waiters.push(serial);
            }
        }
        self.fetches.insert(serial, fetch);
    }

    fn unpark(&mut self, serial: u64, fetch: &mut Fetch) {
        if !std::mem::take(&mut fetch.is_parked) {
            return;
        }
        self.timers.remove(&(fetch.due, Timer::Fetch(serial)));
        for want in &fetch.lists.wants {
            if let Ok(id) = self.catalog.partition(&want.topic_id, want.partition.get()) {
                self.store.partition_mut(id).fetch_waiters.retain(|&other| other != serial);
            }
        }
    }

    /// Wakes the fetches that wait for a partition.
    pub(crate) fn wake_fetches(&mut self, id: PartitionId) {
        let Some(partition) = self.store.partitions.get_mut(id.0) else { return };
        self.ready.extend(partition.fetch_waiters.drain(..));
    }

    /// Takes what the partitions have, one after the other, until something must be waited for.
    fn step_fetch(
        &mut self,
        serial: u64,
        fetch: &mut Fetch,
        now: Time,
        batch: &mut OpBatch,
    ) -> Step {
        if let Some(reading) = fetch.reading.take() {
            // If its stream is gone (its file closed, its topic deleted, its memory taken), its
            // place is looked for again.
            let is_there = self.store.streams.of_reader(reading.stream, serial).is_some();
            if is_there && self.read_on(fetch, reading, now) == Some(Step::Waiting) {
                return Step::Waiting;
            }
        }
        while let Some(want) = fetch.lists.wants.get(fetch.lists.rows.len()).copied() {
            match self.take_partition(serial, fetch, &want, batch) {
                Taken::Row(row) => fetch.lists.rows.push(row),
                Taken::Read(reading) => {
                    if self.read_on(fetch, reading, now) == Some(Step::Waiting) {
                        return Step::Waiting;
                    }
                }
                Taken::Later => {
                    self.ready_later.push(serial);
                    return Step::Waiting;
                }
            }
        }
        Step::Complete
    }

    fn take_partition(
        &mut self,
        serial: u64,
        fetch: &mut Fetch,
        want: &RequestEntry,
        batch: &mut OpBatch,
    ) -> Taken {
        let found = self.catalog.partition(&want.topic_id, want.partition.get());
        let id = match found {
            Ok(id) => id,
            Err(unknown) => return Taken::Row(error_row(want, unknown.code())),
        };
        let reader = self.want(fetch, want, id);
        if let Some(row) = self.damaged_row(want, id) {
            return Taken::Row(row);
        }
        let log_start = self.store.partition(id).log_start;
        if reader.offset > reader.visible || reader.offset < log_start {
            let mut row = self.row(want, id, 0);
            row.error = ErrorCode::OffsetOutOfRange.number().into();
            return Taken::Row(row);
        }
        let none = reader.budget == 0 && reader.first == First::IfItFits;
        if reader.offset == reader.visible || none {
            return Taken::Row(self.row(want, id, 0));
        }
        let (place, kind) = match self.file_place(batch, fetch, id, reader.offset) {
            Some(place) => (place, StreamKind::Heads),
            None => (self.store.place_of(batch, id, reader.offset), StreamKind::Data),
        };
        match place {
            Place::Memory => {
                let parts = &mut fetch.lists.parts;
                let bytes = self.store.read_memory(&mut self.pool, id, reader, parts);
                fetch.taken += bytes;
                fetch.since_file += bytes;
                fetch.is_apart = false;
                self.store.counters.fetch_memory_hits += 1;
                Taken::Row(self.row(want, id, bytes))
            }
            Place::Disk(place) => {
                let streams = &mut self.store.streams;
                let stream = streams.enter(&mut self.pool, (place, kind), reader.offset, serial);
                Taken::Read(Reading { stream, id })
            }
            Place::Opening => Taken::Later,
            Place::Missing => Taken::Row(self.missing_row(want, id)),
        }
    }

    /// Where the offset is sent from, if out of a file: only straight to a client, by one shard.
    fn file_place(
        &mut self,
        batch: &mut OpBatch,
        fetch: &Fetch,
        id: PartitionId,
        offset: u64,
    ) -> Option<Place> {
        if fetch.is_apart || fetch.reach != Reach::Own {
            return None;
        }
        self.conns.live(fetch.conn).filter(|conn| conn.link.is_none())?;
        self.store.file_place(batch, id, offset)
    }

    fn want(&self, fetch: &Fetch, want: &RequestEntry, id: PartitionId) -> Want {
        let left = fetch.max_bytes - fetch.taken.min(fetch.max_bytes);
        let (offset, visible) = (want.offset.get(), self.store.visible(id, self.visibility(id)));
        // What is damaged ends a read; the next one is told of it.
        let damaged = self.store.damaged_next(id, offset);
        Want {
            offset,
            visible: damaged.map_or(visible, |damaged| visible.min(damaged)),
            budget: left.min(usize_of(want.partition_max_bytes.get())),
            first: if fetch.taken == 0 { First::Always } else { First::IfItFits },
        }
    }

    /// Takes what the stream has for the fetch's next partition. `None` once its row is there.
    fn read_on(&mut self, fetch: &mut Fetch, reading: Reading, now: Time) -> Option<Step> {
        let Reading { stream, id } = reading;
        let want = fetch.lists.wants[fetch.lists.rows.len()];
        let reader = self.want(fetch, &want, id);
        let (place, kind) = self.store.streams.get(stream).map(|s| (s.place, s.kind))?;
        let served = match kind {
            StreamKind::Data => {
                let parts = &mut fetch.lists.parts;
                self.store.serve_stream(&mut self.pool, stream, reader, now, parts)
            }
            StreamKind::Heads => self.serve_frames(fetch, stream, reader, now),
        };
        let row = match served {
            Served::Taken(bytes) => {
                fetch.taken += bytes;
                if bytes == 0 && fetch.max_bytes == fetch.taken + reader.budget {
                    // What is left of the budget holds no batch: no other partition is read for it.
                    fetch.max_bytes = fetch.taken;
                }
                fetch.since_file += if kind == StreamKind::Data { bytes } else { 0 };
                fetch.is_apart = false;
                let row = self.row(&want, id, bytes);
                fetch.lists.rows.push(row);
                return None;
            }
            Served::Apart => {
                self.store.streams.abandon_and_remove(&mut self.pool, stream);
                fetch.is_apart = true;
                return None;
            }
            Served::Wait => {
                fetch.reading = Some(reading);
                return Some(Step::Waiting);
            }
            Served::Corrupt => self.unread_row(&want, id),
            Served::Failed(_) => {
                let mut row = self.row(&want, id, 0);
                row.error = ErrorCode::StorageFailed.number().into();
                row
            }
        };
        self.report_unread(&place, reader.offset, served);
        self.store.streams.abandon_and_remove(&mut self.pool, stream);
        fetch.lists.rows.push(row);
        None
    }

    fn serve_frames(&mut self, fetch: &mut Fetch, stream: u32, want: Want, now: Time) -> Served {
        let files = &mut fetch.lists.files;
        let before = files.len();
        let served = self.store.serve_frames(&mut self.pool, stream, want, now, files);
        if let Some(first) = files.get_mut(before) {
            first.after = std::mem::take(&mut fetch.since_file);
        }
        served
    }

    /// A disk read ended: its buffer is the stream's to look at.
    pub(crate) fn read_done(&mut self, slot: u32, result: Result<u32, Fault>) {
        self.ready.extend(self.store.stream_read(&mut self.pool, slot, result));
    }

    pub(super) fn row(&mut self, want: &RequestEntry, id: PartitionId, bytes: usize) -> ReplyEntry {
        let visible = self.store.visible(id, self.visibility(id));
        let log_start = self.store.partition(id).log_start;
        self.store.counters.fetch_bytes += u64_of(bytes);
        ReplyEntry {
            topic_id: want.topic_id,
            partition: want.partition,
            error: 0.into(),
            aborted_count: 0.into(),
            high_watermark: visible.into(),
            last_stable_offset: visible.into(),
            log_start_offset: log_start.into(),
            batches_bytes: u32_of(bytes).into(),
            leader_epoch: self.store.identity.boot_epoch.into(),
        }
    }

    fn answer_fetch(&mut self, now: Time, fetch: &Fetch) {
        if let Reach::Part(slot, serial) = fetch.reach {
            let FetchLists { rows, parts, .. } = &fetch.lists;
            return self.fetched_here(now, (slot, serial), rows, parts);
        }
        self.link_fetches.remove(&(fetch.conn.0, fetch.correlation_id));
        let Some(conn) = self.conns.live(fetch.conn) else {
            return self.release_lists(&fetch.lists);
        };
        let before = conn.reply_bytes;
        let id = fetch.conn.0;
        let envelope = Envelope::reply(Kind::Fetch, fetch.correlation_id);
        self.reply_with(id, &fetch.lists.parts, |out| {
            encode(out, envelope, fetch.taken, |out| {
                fetch::encode_reply_control(out, &fetch.lists.rows);
            });
        });
        if !fetch.lists.files.is_empty() {
            let parts = fetch.lists.parts.iter().map(|part| part.len).sum();
            self.reply_files(id, before, &fetch.lists.files, parts);
        }
        self.request_ended(fetch.conn, fetch.frame_bytes);
    }

    fn release_lists(&mut self, lists: &FetchLists) {
        for part in &lists.parts {
            self.pool.release(part.buf);
        }
        for part in &lists.files {
            self.store.file_part_ended(part);
        }
    }

    fn keep_lists(&mut self, mut lists: FetchLists) {
        let is_small = lists.wants.capacity() <= KEPT_PARTITIONS_MAX
            && lists.parts.capacity() <= KEPT_PARTS_MAX;
        if is_small && self.free_fetches.len() < KEPT_LISTS_MAX {
            lists.wants.clear();
            lists.rows.clear();
            lists.parts.clear();
            lists.files.clear();
            self.free_fetches.push(lists);
        }
    }

    /// Another shard wants its waiting fetch answered with what there is.
    pub(crate) fn hurry_fetch(&mut self, now: Time, id: ConnId, correlation_id: u64) {
        if let Some(&serial) = self.link_fetches.get(&(id, correlation_id)) {
            self.hurry_local(now, serial);
        }
    }

    /// A waiting fetch is answered now with what there is.
    pub(crate) fn hurry_local(&mut self, now: Time, serial: u64) {
        let Some(mut fetch) = self.fetches.remove(&serial) else { return };
        // One that is not parked is being worked on: a second look would read twice.
        if fetch.is_parked {
            self.unpark(serial, &mut fetch);
            self.ready.push_back(serial);
        }
        fetch.due = now;
        self.fetches.insert(serial, fetch);
    }

    /// Forgets the fetches of a connection that is gone.
    pub(crate) fn drop_fetches(&mut self, conn: (ConnId, u64)) {
        let mine = self.fetches.iter().filter(|(_, fetch)| fetch.conn == conn);
        let mine: Vec<u64> = mine.map(|(&serial, _)| serial).collect();
        for serial in mine {
            let Some(mut fetch) = self.fetches.remove(&serial) else { continue };
            self.unpark(serial, &mut fetch);
            if let Some(reading) = fetch.reading {
                self.store.streams.abandon(reading.stream, serial);
            }
            self.release_lists(&fetch.lists);
        }
    }

    /// Every waiting fetch is looked at again: a stop answers them all.
    pub(crate) fn wake_all_fetches(&mut self) {
        let parked = self.fetches.iter().filter(|(_, fetch)| fetch.is_parked);
        self.ready.extend(parked.map(|(&serial, _)| serial));
    }
}

impl Fetch {
    /// What it asks for.
    pub fn wants(&self) -> &[RequestEntry] {
        &self.lists.wants
    }

    /// The fetch of this shard's own rows of it.
    pub fn part(&self, wants: &[RequestEntry], head: &fetch::RequestHead, of: (u32, u64)) -> Fetch {
        let lists = FetchLists { wants: wants.to_vec(), ..FetchLists::default() };
        Fetch {
            conn: self.conn,
            correlation_id: self.correlation_id,
            frame_bytes: 0,
            due: self.due,
            min_bytes: usize_of(head.min_bytes.get()),
            max_bytes: usize_of(head.max_bytes.get()),
            reach: Reach::Part(of.0, of.1),
            lists,
            taken: 0,
            is_parked: false,
            reading: None,
            is_apart: false,
            since_file: 0,
        }
    }
}

/// What came of one partition.
enum Taken {
    Row(ReplyEntry),
    Read(Reading),
    Later,
}

fn error_row(want: &RequestEntry, code: ErrorCode) -> ReplyEntry {
    ReplyEntry {
        topic_id: want.topic_id,
        partition: want.partition,
        error: code.number().into(),
        aborted_count: 0.into(),
        high_watermark: 0.into(),
        last_stable_offset: 0.into(),
        log_start_offset: 0.into(),
        batches_bytes: 0.into(),
        leader_epoch: 0.into(),
    }
}
