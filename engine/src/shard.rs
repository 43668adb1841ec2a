//! One shard's whole state, and its two verbs: `handle` absorbs what happened, `decide` says what
//! to do next. This file has the only `match` on [`Done`] and the order of `decide`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use wire::{ErrorCode, TopicId};

use crate::catalog::Catalog;
use crate::conn::Conns;
use crate::counters::IoCounters;
use crate::forward::Forward;
use crate::log::partition::PartitionId;
use crate::log::slab::Slab;
use crate::log::store::{Store, StoreTag};
use crate::pool::Pool;
use crate::port::{ConnId, Done, Fault, Level, Notice, Now, OpBatch, RecvBuf, Tag, Time};
use crate::queue::queues::Queues;
use crate::request::{DeletionWait, Fetch, FetchLists, Produce, Searches};
use wire::produce::ReplyEntry;

/// What a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A fetch has waited long enough.
    Fetch(u64),
    /// A frame should have arrived whole.
    Arrival(ConnId),
    /// A produce has waited long enough: slot and serial.
    Produce(u32, u64),
}

/// One shard.
#[derive(Debug)]
pub struct Shard {
    pub(crate) pool: Pool,
    pub(crate) store: Store,
    pub(crate) catalog: Catalog,
    /// The catalog's stream, on the shard that writes it.
    pub(crate) catalog_stream: Option<PartitionId>,
    pub(crate) conns: Conns,
    pub(crate) forward: Forward,
    pub(crate) queues: Queues,
    pub(crate) produces: Slab<Produce>,
    pub(crate) free_entries: Vec<Vec<ReplyEntry>>,
    pub(crate) searches: Searches,
    pub(crate) deletion_waits: BTreeMap<PartitionId, Vec<DeletionWait>>,
    pub(crate) fetches: BTreeMap<u64, Fetch>,
    /// Fetches of other shards by link and correlation id: they may be hurried.
    pub(crate) link_fetches: BTreeMap<(ConnId, u64), u64>,
    pub(crate) free_fetches: Vec<FetchLists>,
    /// Fetches to look at in this turn.
    pub(crate) ready: VecDeque<u64>,
    /// Fetches to look at in the next turn that brings something.
    pub(crate) ready_later: Vec<u64>,
    pub(crate) timers: BTreeSet<(Time, Timer)>,
    pub(crate) dirty_conns: Vec<ConnId>,
    pub(crate) closes: Vec<ConnId>,
    pub(crate) resume: Vec<ConnId>,
    pub(crate) memory_waiters: VecDeque<ConnId>,
    /// Links that are not read for want of memory. They wait for the disk alone, never for what
    /// clients or other links wait for.
    pub(crate) link_waiters: Vec<ConnId>,
    /// Since when producers have not been read for want of room.
    pub(crate) full_since: Option<Time>,
    /// None came free for so long that they are answered OVERLOADED.
    pub(crate) is_overloaded: bool,
    /// When memory was short: the time to look again, though nothing may happen until then.
    relief: Option<Time>,
    /// Memory of frames that have arrived in part.
    pub(crate) assembly_bytes: usize,
    pub(crate) returns: Vec<RecvBuf>,
    pub(crate) deleted: Vec<PartitionId>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) scratch: Vec<u8>,
    pub(crate) endpoints: Vec<(String, u16)>,
    /// Set once a stop was asked for: when to stop waiting for peers.
    pub(crate) stopping: Option<Time>,
    pub(crate) serial: u64,
    pub(crate) random: u128,
    pub(crate) is_failure_told: bool,
    /// Files to open in the first turn.
    pub(crate) opening: Vec<crate::port::Op>,
}

impl Shard {
    /// A shard over what recovery found.
    pub(crate) fn new(
        pool: Pool,
        store: Store,
        catalog: Catalog,
        catalog_stream: Option<PartitionId>,
        seed: u128,
    ) -> Shard {
        Shard {
            pool,
            store,
            catalog,
            catalog_stream,
            conns: Conns::default(),
            forward: Forward::default(),
            queues: Queues::default(),
            produces: Slab::default(),
            free_entries: Vec::new(),
            searches: Searches::default(),
            deletion_waits: BTreeMap::new(),
            fetches: BTreeMap::new(),
            link_fetches: BTreeMap::new(),
            free_fetches: Vec::new(),
            ready: VecDeque::new(),
            ready_later: Vec::new(),
            timers: BTreeSet::new(),
            dirty_conns: Vec::new(),
            closes: Vec::new(),
            resume: Vec::new(),
            memory_waiters: VecDeque::new(),
            link_waiters: Vec::new(),
            full_since: None,
            is_overloaded: false,
            relief: None,
            assembly_bytes: 0,
            returns: Vec::new(),
            deleted: Vec::new(),
            notices: Vec::new(),
            scratch: Vec::new(),
            endpoints: vec![(String::new(), 0)],
            stopping: None,
            serial: 0,
            random: seed,
            is_failure_told: false,
            opening: Vec::new(),
        }
    }

    /// What metadata tells clients to connect to, by shard: host (empty: the one they used) and
    /// port.
    pub fn set_endpoints(&mut self, endpoints: Vec<(String, u16)>) {
        self.endpoints = endpoints;
    }

    /// Absorbs one thing that happened. Changes state, emits nothing.
    pub fn handle(&mut self, now: Now, done: Done) {
        self.store.counters.dones += 1;
        let time = now.time;
        self.queues.now = time;
        self.queues.wall_ms = now.wall_ns / 1_000_000;
        match done {
            Done::Accepted { conn } => self.accepted(time, conn),
            Done::Linked { conn, shard, end } => self.linked(time, conn, shard, end),
            Done::Received { conn, buf, len } => self.received(time, conn, buf, len),
            Done::RecvEnded { conn, end } => self.receive_ended(conn, end),
            Done::Filled { conn, buf, result } => self.filled(time, conn, &buf, result),
            Done::Sent { conn, result } => self.sent(conn, time, result),
            Done::Closed { conn } => self.closed(conn),
            Done::Wrote { tag, result } => {
                let tag = self.device_did(time, tag);
                self.wrote(tag, result);
            }
            Done::Read { tag, buf, result } => match self.device_did(time, tag) {
                StoreTag::Read(slot) => self.read_done(slot, result),
                StoreTag::Search(slot) => self.search_read_done(slot, &buf, result),
                StoreTag::Scrub => self.store.scrub_read(&mut self.pool, time, result),
                StoreTag::Proof(slot) => self.store.was_read_back(&mut self.pool, slot, result),
                StoreTag::Queue(slot) => self.queue_read_done(slot, &buf, result),
                other => unreachable!("a read was never tagged {other:?}"),
            },
            Done::Flushed { tag, result } => match self.device_did(time, tag) {
                StoreTag::JournalFlush(index) => self.store.journal_flushed(index, result),
                StoreTag::SegmentFlush(slot) => self.store.segment_flushed(slot, result),
                other => unreachable!("a flush was never tagged {other:?}"),
            },
            Done::FileOpened { file, result } => self.store.file_opened(file, result),
            Done::FileExtended { file, to, result, .. } => {
                self.store.file_extended(file, to, result);
            }
            Done::SpaceTold { free } => self.store.space_told(time, free),
            Done::FilesDeleted { tag, result } => match StoreTag::of(tag) {
                StoreTag::Journal(place) => self.store.journal_deleted(place, result),
                StoreTag::Void(id) => self.store.void_deleted(PartitionId(id), result),
                _ => self.files_deleted(result),
            },
            Done::Stop => self.stop(time),
        }
        self.ready.extend(self.ready_later.drain(..));
    }

    /// The device has done something: what that was.
    fn device_did(&mut self, now: Time, tag: Tag) -> StoreTag {
        self.store.device_answered(now);
        StoreTag::of(tag)
    }

    fn wrote(&mut self, tag: StoreTag, result: Result<u32, Fault>) {
        match tag {
            StoreTag::Frame(lsn) => self.store.frame_wrote(lsn, result),
            StoreTag::Run(slot) => self.store.run_wrote(&mut self.pool, slot, result),
            StoreTag::Start(slot) => self.store.start_wrote(&mut self.pool, slot, result),
            other => unreachable!("a write was never tagged {other:?}"),
        }
    }

    /// Decides what to do about all that was absorbed.
    pub fn decide(&mut self, now: Now, batch: &mut OpBatch) {
        self.store.counters.turns += 1;
        self.emit_opening(batch);
        self.fire_timers(now.time);
        self.retry_for_memory(now.time);
        self.serve_links();
        self.tell_failure();
        self.store.settle_starts(&mut self.pool, batch);
        self.answer_deletions();
        self.resume_connections(now.time);
        self.answer_advanced(now.time);
        self.serve_fetches(now.time, batch);
        self.serve_searches(batch);
        self.serve_queues(now, batch);
        self.relieve_memory(now.time);
        self.serve_connections(now.time, batch);
        self.commit(now, batch);
        // Behind the commits: reads shall not stand in front of them.
        self.store.pump_reads(&mut self.pool, now.time, batch);
        self.store.watch_device(now.time);
        if self.stopping.is_none() {
            self.store.scrub(&mut self.pool, now.time, batch);
        }
        self.store.reap(batch, &mut self.deleted);
        self.store.files.end_turn();
        for buf in self.returns.drain(..) {
            batch.ops.push(crate::port::Op::RecvReturn { buf });
        }
        batch.notices.append(&mut self.notices);
        batch.notices.append(&mut self.store.notices);
        if self.store.is_short && self.relief.is_none() {
            self.relief = Some(now.time.plus_ns(self.store.settings.stall_ns));
        }
    }

    fn commit(&mut self, now: Now, batch: &mut OpBatch) {
        let pool = &mut self.pool;
        if self.stopping.is_some() {
            // A topic's flush interval does not hold up the stop.
            for frame in &mut self.store.journal.frames {
                frame.flush_by = now.time;
            }
        }
        self.store.mend_journal(now.time, batch);
        self.store.commit(pool, now, batch);
        self.store.end_segments(pool, now, batch);
        self.store.place_runs(pool, now, batch);
        self.store.read_back(pool, batch);
        for (id, from) in std::mem::take(&mut self.store.space.starved) {
            // It may be there in the end: that is in doubt, unlike what is refused at once.
            self.fail_waiters(id, from, ErrorCode::StorageFailed);
        }
        let pool = &mut self.pool;
        self.store.flush_journal(now.time, batch);
        self.store.flush_segments(batch);
        self.store.check_retention(now);
        self.store.write_starts(pool, now, batch);
        self.store.make_spares(batch);
        self.store.ask_space(now.time, batch);
        let due = self.store.seal_deadline().is_some_and(|due| due <= now.time);
        if due || self.stopping.is_some() {
            self.store.publish_watermark(pool, now, batch);
        }
    }

    /// When `decide` has something to do even if nothing happens.
    pub fn deadline(&self) -> Option<Time> {
        let timer = self.timers.first().map(|(time, _)| *time);
        let store = [
            self.store.lazy_deadline(),
            self.store.seal_deadline(),
            self.store.flush_deadline(),
            self.store.stall_deadline(),
            self.overload_deadline(),
            self.store.space_deadline(),
            self.store.retention_deadline(),
            self.store.scrub_deadline().filter(|_| self.stopping.is_none()),
            self.stopping,
            self.relief,
            self.store.streams.sweep_at,
            self.queues.deadline(),
            (!self.store.streams.woken.is_empty()).then_some(Time::default()),
            self.store.files.wants_turn.then_some(Time::default()),
        ];
        store.into_iter().flatten().chain(timer).min()
    }

    /// Whether a commit that somebody may wait for is in flight: its completion is near.
    pub fn is_eager(&self) -> bool {
        self.store.journal.writes_in_flight > 0
            || !self.store.run_writes.is_empty()
            || self.forward.eager_calls > 0
    }

    /// Memory, for the backend's registrations.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Whether a stop was asked for and all is finished.
    pub fn is_stopped(&self) -> bool {
        let is_over = self.is_quiet() && self.conns.is_empty() && self.has_said_goodbye();
        self.stopping.is_some() && is_over
    }

    fn is_quiet(&self) -> bool {
        // What found no space was not acknowledged, and is not waited for.
        let failed = self.store.failed.is_some() || self.store.space.is_full;
        let committed = self.store.dirty.is_empty()
            && self.store.journal.frames.is_empty()
            && self.store.journal.remedy.is_none()
            && self.store.is_proven();
        (committed || failed)
            && self.store.run_writes.is_empty()
            && self.store.segment_flushes.is_empty()
            && (self.store.failures.is_idle() || failed && self.store.failures.buffers() == 0)
            && self.store.starts.is_idle()
    }

    /// Takes over what the process counts about its own input and output.
    pub fn report_io(&mut self, io: IoCounters) {
        let counters = &mut self.store.counters;
        counters.kernel_entries = io.kernel_entries;
        counters.operations_submitted = io.operations_submitted;
        counters.spin_rounds_empty = io.spin_rounds_empty;
        counters.spin_empty_ns = io.spin_empty_ns;
        counters.parks = io.parks;
        counters.doorbells_rung = io.doorbells_rung;
        counters.mesh_bytes_received = io.mesh_bytes_received;
        counters.bytes_zeroed = io.bytes_zeroed;
        counters.bytes_copied = io.bytes_copied;
        counters.buffers_registered = io.buffers_registered;
    }

    /// What the shard has counted.
    pub fn counters(&self) -> &crate::counters::Counters {
        &self.store.counters
    }

    fn accepted(&mut self, now: Time, id: ConnId) {
        self.conns.insert(id, now);
        self.store.counters.connections_accepted += 1;
        if self.stopping.is_some() {
            self.close(id, "");
        } else if self.conns.len() > self.store.settings.connections_max {
            self.store.counters.connections_refused += 1;
            self.close(id, "the broker has as many connections as its limit allows");
        }
        self.touch(id);
    }

    /// Answers what the cursors that moved have satisfied.
    fn answer_advanced(&mut self, now: Time) {
        while !self.store.advanced.is_empty() {
            let mut advanced = std::mem::take(&mut self.store.advanced);
            for (id, submitted) in advanced.drain(..) {
                if self.store.partitions.get(id.0).is_none() {
                    continue;
                }
                if Some(id) == self.catalog_stream {
                    self.apply_changes();
                } else if self.queues.streams.contains_key(&id) {
                    self.queue_store_advanced(id, now, submitted);
                } else {
                    self.answer_waiters(id, now, submitted);
                    self.wake_fetches(id);
                }
            }
            // What the answers have advanced comes next; the list's memory is kept.
            advanced.append(&mut self.store.advanced);
            self.store.advanced = advanced;
        }
    }

    fn fire_timers(&mut self, now: Time) {
        while let Some(&(due, timer)) = self.timers.first().filter(|(due, _)| *due <= now) {
            self.timers.pop_first();
            match timer {
                Timer::Fetch(serial) => self.ready.push_back(serial),
                Timer::Produce(slot, serial) => self.produce_timed_out(slot, serial, now),
                Timer::Arrival(id) => self.arrival_due(id, due, now),
            }
        }
        if self.stopping.is_some_and(|grace| grace <= now) {
            let ids: Vec<ConnId> = self.conns.ids().collect();
            for id in ids {
                self.close(id, "");
                self.touch(id);
            }
            // From here on only the disk is waited for, which has no deadline.
            self.stopping = Some(Time(u64::MAX));
        }
    }

    fn arrival_due(&mut self, id: ConnId, due: Time, now: Time) {
        let Some(conn) = self.conns.get(id) else { return };
        let Some(assembly) = conn.assembly.as_mut().filter(|assembly| assembly.due == due) else {
            return;
        };
        if conn.pause == crate::conn::Pause::None {
            return self.close(id, "its frame did not arrive whole in time");
        }
        // It is we who do not read: its time begins anew.
        assembly.due = now.plus_ns(self.store.settings.frame_arrival_ns);
        self.timers.insert((assembly.due, Timer::Arrival(id)));
    }

    /// After the device failed, everything that waits for it is answered once.
    fn tell_failure(&mut self) {
        if self.store.failed.is_none() || std::mem::replace(&mut self.is_failure_told, true) {
            return;
        }
        // Whether it is there is in doubt; what comes from now on is refused for good.
        let code = ErrorCode::StorageFailed;
        let ids: Vec<_> = self.store.partitions.iter().map(|(id, _)| PartitionId(id)).collect();
        for id in ids {
            self.fail_waiters(id, 0, code);
        }
        self.fail_queues(code);
        let pending = std::mem::take(&mut self.catalog.pending);
        for change in pending {
            if self.conns.live(change.conn).is_some() {
                let kind = wire::Kind::CreateTopic.number();
                let detail = "the catalog could not be written";
                self.reply_error(change.conn.0, kind, change.correlation_id, code, detail);
            }
            self.request_ended(change.conn, change.frame_bytes);
        }
    }

    /// Whoever waited for memory tries again.
    fn retry_for_memory(&mut self, now: Time) {
        if self.relief.is_some_and(|due| due <= now) {
            self.relief = None;
            self.ready.extend(self.ready_later.drain(..));
        }
    }

    /// Somebody got no memory, be it for lack of bytes or of bytes in a row: those who hold some
    /// and do not move are closed. The next of them may stall without anything happening.
    fn relieve_memory(&mut self, now: Time) {
        if std::mem::take(&mut self.store.is_short) {
            self.store.streams.relieve(&mut self.pool);
            self.close_stalled(now);
            self.shed_probes();
            self.relief = Some(now.plus_ns(self.store.settings.stall_ns));
        }
    }

    fn files_deleted(&mut self, result: Result<(), Fault>) {
        self.store.space.was_freed();
        if let Err(Fault(errno)) = result {
            let text = format!(
                "files of deleted records could not be removed (errno {errno}); the next start \
                 tries again"
            );
            self.notices.push(Notice { level: Level::Warn, conn: None, text });
        }
    }

    fn stop(&mut self, now: Time) {
        if self.stopping.is_some() {
            return;
        }
        self.stopping = Some(now.plus_ns(self.store.settings.stop_grace_ns));
        self.wake_all_fetches();
        self.wake_all_pulls();
        let ids: Vec<ConnId> = self.conns.ids().collect();
        for id in ids {
            if let Some(conn) = self.conns.get(id) {
                conn.is_ending = true;
            }
            self.touch(id);
        }
    }

    pub(crate) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// A topic id: unique for ever, since the seed is random at every start.
    pub(crate) fn new_topic_id(&mut self) -> TopicId {
        loop {
            // SplitMix64 on both halves of a counter that the seed began.
            self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            let bytes = self.random.to_le_bytes();
            let (low, high) = bytes.split_at(8);
            let half = |half: &[u8]| {
                let mut z = u64::from_le_bytes(half.try_into().expect("eight bytes"));
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                z ^ (z >> 31)
            };
            let mut id = [0; 16];
            id[..8].copy_from_slice(&half(low).to_le_bytes());
            id[8..].copy_from_slice(&half(high).to_le_bytes());
            if id != Store::CATALOG_TOPIC && !self.catalog.topics.contains_key(&id) {
                return id;
            }
        }
    }
}
