//! The simulator: the same contract as the kernel's, over seeded time, a disk that loses and
//! tears what was not synced, and connections in memory. The same seed and the same ops give the
//! same run, to the nanosecond.
//!
//! It checks its user as well: bytes that change while an op reads them, writes that overlap in
//! flight, a second receive on a connection are bugs of the engine and panic.

mod death;
mod disk;
mod file;
mod file_ops;
mod links;
mod net;
mod net_ops;
mod plan;
mod rng;
mod shared;
mod trace;

use std::cell::RefMut;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

use engine::pool::{Arena, RecvRegion};
use engine::port::{Done, FileSlot, Now, Op, OpBatch, Time};

use super::{Io, Wait};
use disk::Inode;
use file_ops::FileOp;
use links::{LinkEvent, Links};
use net::{Net, Piece};
use trace::Trace;

pub use disk::{EINVAL, SimDisk};
pub use file::SECTOR_BYTES;
pub use links::LinkBus;
pub use net::{ClientId, StreamEnd};
pub use plan::{Failure, FaultPlan, Honesty, Lasting, Victims, Weather};
pub use rng::Rng;
pub use shared::SharedDisk;
pub use trace::TraceLines;

/// What a simulated world is like.
#[derive(Debug, Clone, Copy)]
pub struct SimOptions {
    /// Everything random follows from it.
    pub seed: u64,
    /// What time it is at first.
    pub start: Now,
    /// Most connections at once; more wait unaccepted.
    pub connections_max: u32,
    /// Bytes that a client's socket holds before the broker's sends wait.
    pub client_window_bytes: usize,
    /// How long things take.
    pub weather: Weather,
}

/// Something that comes about at its time.
#[derive(Debug)]
enum Event {
    /// A client's connection reaches the listener.
    Connect(ClientId),
    /// A piece reaches the broker's end.
    ArriveUp(ClientId, Piece),
    /// A piece reaches the client.
    ArriveDown(ClientId, Piece),
    /// The broker's open receive looks for bytes.
    Receive(ClientId),
    /// The broker's open receive is cancelled.
    Cancel(ClientId),
    /// The broker's open send looks for room.
    Send(ClientId),
    /// The broker closes its end: open ops end.
    Close(ClientId),
    /// They have ended.
    Closed(ClientId),
    /// A file op ends.
    File(FileOp),
    /// Something happens on a link to another shard.
    Link(LinkEvent),
    /// The process is asked to stop.
    Stop,
}

/// The simulated backend.
#[derive(Debug)]
pub struct SimIo {
    arena: Arc<Arena>,
    region: RecvRegion,
    rng: Rng,
    clock: Time,
    wall_offset_ns: u64,
    events: BTreeMap<(Time, u64), Event>,
    event_count: u64,
    net: Net,
    window: usize,
    weather: Weather,
    recv_free: VecDeque<u16>,
    disk: SharedDisk,
    slots: BTreeMap<FileSlot, Inode>,
    /// Those that go through the page cache.
    buffered: BTreeSet<FileSlot>,
    /// Those that were opened on a file system that had turned read-only.
    read_only: BTreeSet<FileSlot>,
    links: Option<Links>,
    /// File ops end no earlier.
    files_held_until: Time,
    trace: Trace,
}

impl SimIo {
    /// A backend for the shard whose pool has this arena and these receive buffers. Several
    /// shards of a process share a [`SharedDisk`].
    pub fn new(
        arena: Arc<Arena>,
        region: RecvRegion,
        disk: impl Into<SharedDisk>,
        options: &SimOptions,
    ) -> SimIo {
        let SimOptions { seed, start, connections_max, client_window_bytes, weather } = *options;
        SimIo {
            arena,
            region,
            rng: Rng::new(seed),
            clock: start.time,
            wall_offset_ns: start.wall_ns - start.time.0,
            events: BTreeMap::new(),
            event_count: 0,
            net: Net::new(connections_max),
            window: client_window_bytes,
            weather,
            recv_free: (0..region.count).collect(),
            disk: disk.into(),
            slots: BTreeMap::new(),
            buffered: BTreeSet::new(),
            read_only: BTreeSet::new(),
            links: None,
            files_held_until: Time::default(),
            trace: Trace::new(),
        }
    }

    /// What time it is.
    pub const fn now(&self) -> Now {
        Now { time: self.clock, wall_ns: self.clock.0 + self.wall_offset_ns }
    }

    /// The device stalls: no file op that is submitted from now on ends before `until`.
    pub const fn hold_files(&mut self, until: Time) {
        self.files_held_until = until;
    }

    /// The disk, to plan what goes wrong.
    pub fn disk(&mut self) -> RefMut<'_, SimDisk> {
        self.disk.get()
    }

    /// The process is gone; its disk is left, with what was in flight.
    ///
    /// # Panics
    /// If another shard still has the disk: this is for the last one.
    pub fn into_disk(self) -> SimDisk {
        self.disk.into_disk()
    }

    /// A hash over every op and done so far, their times and the bytes they carried.
    pub const fn trace_hash(&self) -> u64 {
        self.trace.hash()
    }

    /// Tells every op and done from now on.
    pub fn tell(&mut self, shard: u16, lines: TraceLines) {
        self.trace.tell(shard, lines);
    }

    /// Provided buffers that the engine has not returned.
    pub fn recv_buffers_held(&self) -> usize {
        usize::from(self.region.count) - self.recv_free.len()
    }

    /// Whether nothing is on its way: only new ops, clients or timers move the world.
    pub fn is_idle(&self) -> bool {
        self.next_at().is_none()
    }

    /// When the next thing happens to this shard; one that waits no longer than that of any
    /// other shard never runs ahead of a letter.
    pub fn next_at(&self) -> Option<Time> {
        let event = self.events.first_key_value().map(|(&(time, _), _)| time);
        let letter = self.links.as_ref().and_then(Links::next_at);
        event.into_iter().chain(letter).min().map(|time| time.max(self.clock))
    }

    /// Asks the process to stop.
    pub fn stop(&mut self) {
        self.schedule(1_000, Event::Stop);
    }

    /// Adds an event between half of `ns` and all of it from now on.
    fn schedule(&mut self, ns: u64, event: Event) {
        let time = self.clock.plus_ns(self.rng.between(ns / 2, ns));
        self.schedule_at(time, event);
    }

    fn schedule_at(&mut self, time: Time, event: Event) {
        self.event_count += 1;
        self.events.insert((time, self.event_count), event);
    }

    fn powered(&self) -> io::Result<()> {
        if self.disk.get().is_off() { Err(io::Error::other("the power is gone")) } else { Ok(()) }
    }

    fn happen(&mut self, event: Event, dones: &mut Vec<Done>) {
        match event {
            Event::Connect(client) => self.connected(client, dones),
            Event::ArriveUp(client, piece) => self.arrived_up(client, piece, dones),
            Event::ArriveDown(client, piece) => self.arrived_down(client, piece),
            Event::Receive(client) => self.look_for_bytes(client, dones),
            Event::Cancel(client) => self.cancelled(client, dones),
            Event::Send(client) => self.look_for_room(client, dones),
            Event::Close(client) => self.closing(client, dones),
            Event::Closed(client) => self.closed(client, dones),
            Event::File(op) => self.file_op_ended(op, dones),
            Event::Link(event) => self.happen_on_link(event, dones),
            Event::Stop => dones.push(Done::Stop),
        }
    }

    /// Lets everything happen that is due by `until`; tells whether anything was.
    fn happen_until(&mut self, until: Time, dones: &mut Vec<Done>) -> bool {
        let mut is_any = false;
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > until {
                break;
            }
            self.clock = self.clock.max(entry.key().0);
            let event = entry.remove();
            self.happen(event, dones);
            is_any = true;
        }
        self.clock = self.clock.max(until);
        is_any
    }
}

impl Io for SimIo {
    fn wait(&mut self, until: Wait, dones: &mut Vec<Done>) -> io::Result<Now> {
        self.powered()?;
        self.take_letters();
        let first = dones.len();
        // The turn itself took time; sometimes long enough for more to have happened.
        let spent_ns = if self.rng.one_in(4) { self.rng.below(50_000) } else { 200 };
        let mut target = self.clock.plus_ns(spent_ns);
        if !self.happen_until(target, dones) {
            let next = self.events.first_key_value().map(|(&(time, _), _)| time);
            target = match (next, until.deadline) {
                (Some(next), Some(deadline)) => next.min(deadline),
                (Some(time), None) | (None, Some(time)) => time,
                (None, None) => self.clock,
            };
            self.happen_until(target.max(self.clock), dones);
        }
        let now = self.now();
        self.trace.waited(&now, &dones[first..]);
        Ok(now)
    }

    fn submit(&mut self, batch: &mut OpBatch) -> io::Result<()> {
        self.powered()?;
        let slices = std::mem::take(&mut batch.slices);
        let now = self.now();
        for op in batch.ops.drain(..) {
            self.trace.submitted(&now, &op);
            match op {
                Op::RecvInto { conn, .. } | Op::RecvCancel { conn } | Op::Send { conn, .. }
                    if self.is_link(conn) =>
                {
                    self.submit_link(op, &slices);
                }
                Op::Recv { .. }
                | Op::RecvCancel { .. }
                | Op::RecvInto { .. }
                | Op::RecvReturn { .. }
                | Op::Send { .. }
                | Op::SendFile { .. }
                | Op::Close { .. } => self.submit_net(op, &slices, &batch.ranges),
                Op::Write { .. }
                | Op::Read { .. }
                | Op::Flush { .. }
                | Op::FileOpen { .. }
                | Op::FileExtend { .. }
                | Op::FileClose { .. }
                | Op::SpaceAsk
                | Op::FilesDelete { .. } => self.submit_file(op),
            }
            self.powered()?;
        }
        batch.slices = slices;
        batch.slices.clear();
        batch.ranges.clear();
        Ok(())
    }
}
