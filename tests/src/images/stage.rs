//! One production shard whose every step is chosen: bytes of its one client arrive at once, reads
//! are done at once, and changes of the disk end when they are told to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use broker::io::sim::Rng;
use client::session::Session;
use engine::boot::{BootError, DamagedRange, boot_within};
use engine::layout::FilePath;
use engine::pool::{Arena, Arenas, FillBuf, RecvRegion};
use engine::port::{ConnId, Done, Fault, FileSlot, Fill, Now, Op, OpBatch, Open};
use engine::port::{RecvBuf, RecvEnd, Sync, Tag, Time};
use engine::settings::FetchPath;
use engine::{Settings, Shard};

use super::image::{Image, Page};
use super::volume::{Device, Inode, Mutation, Volume, block_of};

/// What a turn takes.
const TURN_NS: u64 = 1_000;
/// Turns in a row with no end of anything on the disk, after which the shard is spinning.
const TURNS_MAX: u32 = 100_000;
/// When every broker starts: ten minutes into 2023.
const START: Now = Now { time: Time(1_000_000), wall_ns: 1_672_531_800_000_000_000 };
/// The one connection.
const CONN: ConnId = ConnId(0);

/// What brokers run with, one after the other.
#[derive(Debug)]
pub struct Machine {
    settings: Settings,
    arenas: Arenas,
    /// Of what is written after the start.
    pub device: Device,
}

impl Default for Machine {
    fn default() -> Self {
        Machine { settings: settings(), arenas: Arenas::default(), device: Device::Honest }
    }
}

impl Machine {
    /// Recovers what a disk holds.
    fn boot(
        &mut self,
        volume: &mut Volume,
        seed: u64,
    ) -> Result<(Shard, Vec<DamagedRange>), BootError> {
        let mut rng = Rng::new(seed);
        let seed = (u128::from(rng.next_u64()) << 64) | u128::from(rng.next_u64());
        let booted = boot_within(&mut self.arenas, &self.settings, volume, START, seed)?;
        let (mut shards, report) = booted;
        Ok((shards.pop().expect("there is one shard"), report.damaged))
    }

    /// What a recovery leaves that loses its power after so many changes of the disk; `None` if
    /// it has no more.
    pub fn cut_off(&mut self, image: &Image, seed: u64, changes: u64) -> Option<Image> {
        let mut volume = Volume::of(image);
        volume.power_until = Some(changes);
        self.boot(&mut volume, seed).err().map(|_| volume.stable())
    }
}

/// Bounds so small that a few records go through all of a journal's and a segment's life.
fn settings() -> Settings {
    Settings {
        journal_files: 2,
        journal_file_bytes: 32 * 1024,
        journal_frame_bytes_max: 16 * 1024,
        commits_in_flight: 3,
        recycle_bytes: 1024 * 1024,
        fetch_path: FetchPath::Memory,
        read_ahead_bytes: 0,
        ..Settings::tiny()
    }
}

/// Which change of the disk ends next, of those under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The one that began first.
    Oldest,
    /// The one that began last.
    Newest,
    /// The oldest durable write, if there is one: what happens in the background is starved.
    Durable,
}

impl Order {
    /// All of them.
    pub const ALL: [Order; 3] = [Order::Oldest, Order::Newest, Order::Durable];

    /// Its name in commands.
    pub const fn name(self) -> &'static str {
        match self {
            Order::Oldest => "oldest",
            Order::Newest => "newest",
            Order::Durable => "durable",
        }
    }
}

/// How a change of the disk is told when it ends.
#[derive(Debug)]
enum Ending {
    Wrote(Tag, u32),
    Flushed(Tag),
    Opened(FileSlot, FilePath),
    Extended(FileSlot, u64, Fill),
    Deleted(Tag),
}

/// A change of the disk under way.
#[derive(Debug)]
struct Flying {
    number: u64,
    ending: Ending,
    promise: Sync,
}

/// The shard, its disk and its client.
#[derive(Debug)]
pub struct Stage {
    /// The disk.
    pub volume: Volume,
    /// What recovery calls damaged.
    pub damaged: Vec<DamagedRange>,
    /// The client's side of the connection; its bytes move by themselves.
    pub session: Session,
    shard: Shard,
    arena: Arc<Arena>,
    region: RecvRegion,
    buffers: Vec<RecvBuf>,
    now: Now,
    dones: Vec<Done>,
    batch: OpBatch,
    flying: VecDeque<Flying>,
    slots: BTreeMap<FileSlot, Inode>,
    input: VecDeque<u8>,
    is_armed: bool,
    into: Option<(FillBuf, u32, u32)>,
}

impl Stage {
    /// Recovers what an image holds, and connects.
    ///
    /// # Errors
    /// Recovery refuses.
    pub fn boot(machine: &mut Machine, image: &Image, seed: u64) -> Result<Stage, BootError> {
        let mut volume = Volume::of(image);
        let (shard, damaged) = machine.boot(&mut volume, seed)?;
        volume.device = machine.device;
        let region = shard.pool().recv_region();
        let mut stage = Stage {
            volume,
            damaged,
            session: Session::new("images"),
            arena: shard.pool().shared_arena(),
            shard,
            region,
            buffers: (0..region.count).map(RecvBuf).collect(),
            now: START,
            dones: vec![Done::Accepted { conn: CONN }],
            batch: OpBatch::default(),
            flying: VecDeque::new(),
            slots: BTreeMap::new(),
            input: VecDeque::new(),
            is_armed: false,
            into: None,
        };
        stage.settle();
        Ok(stage)
    }

    /// Turns until nothing comes but what is on its way to the disk, and nothing is due.
    pub fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            self.pump();
            let is_due = self.shard.deadline().is_some_and(|due| due <= self.now.time);
            let is_idle = self.dones.is_empty() && !is_due && self.session.outgoing().is_empty();
            if is_idle && !self.has_input() {
                return;
            }
            self.turn();
        }
        panic!("the shard spins: {:?}", self.shard.deadline());
    }

    /// Stops the broker in good order.
    ///
    /// # Panics
    /// If it does not end.
    pub fn stop(&mut self) {
        self.dones.push(Done::Stop);
        for _ in 0..TURNS_MAX {
            self.settle();
            if self.is_busy() {
                self.end_one(Order::Oldest);
            } else if self.shard.is_stopped() {
                return;
            } else {
                self.skip(u64::MAX);
            }
        }
        panic!("a stop never ends");
    }

    /// Whether changes of the disk are under way.
    pub fn is_busy(&self) -> bool {
        !self.flying.is_empty()
    }

    /// Ends one change of the disk; what follows from it is for [`Stage::settle`].
    pub fn end_one(&mut self, order: Order) {
        let next = match order {
            Order::Oldest => self.flying.pop_front(),
            Order::Newest => self.flying.pop_back(),
            Order::Durable => {
                let durable = self.flying.iter().position(|op| op.promise == Sync::Durable);
                self.flying.remove(durable.unwrap_or(0))
            }
        };
        let Flying { number, ending, .. } = next.expect("something is under way");
        let result = self.volume.complete(number);
        let done = match ending {
            Ending::Wrote(tag, bytes) => Done::Wrote { tag, result: result.map(|_| bytes) },
            Ending::Flushed(tag) => Done::Flushed { tag, result: result.map(drop) },
            Ending::Opened(file, path) => {
                if let Some(inode) = self.volume.inode(&path) {
                    self.slots.insert(file, inode);
                }
                Done::FileOpened { file, result }
            }
            Ending::Extended(file, to, fill) => {
                Done::FileExtended { file, to, fill, result: result.map(drop) }
            }
            Ending::Deleted(tag) => Done::FilesDeleted { tag, result: result.map(drop) },
        };
        self.dones.push(done);
    }

    /// Moves the clock to the shard's next deadline, if that is within `ns`.
    pub fn skip(&mut self, ns: u64) -> bool {
        let Some(due) = self.shard.deadline() else { return false };
        let wait = due.since(self.now.time);
        if wait > ns {
            return false;
        }
        self.now.time = self.now.time.plus_ns(wait);
        self.now.wall_ns += wait;
        true
    }

    fn turn(&mut self) {
        self.now.time = self.now.time.plus_ns(TURN_NS);
        self.now.wall_ns += TURN_NS;
        for done in self.dones.drain(..) {
            self.shard.handle(self.now, done);
        }
        let mut batch = std::mem::take(&mut self.batch);
        self.shard.decide(self.now, &mut batch);
        let mut ops = std::mem::take(&mut batch.ops);
        for op in ops.drain(..) {
            self.perform(op, &batch);
        }
        batch.ops = ops;
        batch.clear();
        self.batch = batch;
    }

    fn perform(&mut self, op: Op, batch: &OpBatch) {
        let done = match op {
            Op::Recv { .. } => {
                self.is_armed = true;
                return;
            }
            Op::RecvCancel { .. } => return self.cancel(),
            Op::RecvInto { buf, at, len, .. } => {
                self.into = Some((buf, at, len));
                return;
            }
            Op::RecvReturn { buf } => return self.buffers.push(buf),
            Op::Send { conn, first, count } => {
                let first = index(first);
                let mut sent = Vec::new();
                for slice in &batch.slices[first..first + index(count)] {
                    let at = sent.len();
                    sent.resize(at + index(slice.len), 0);
                    self.arena.copy_out(*slice, &mut sent[at..]);
                }
                self.session.receive(&sent);
                Done::Sent { conn, result: Ok(u32::try_from(sent.len()).expect("small")) }
            }
            Op::SendFile { conn, .. } => Done::Sent { conn, result: Err(Fault::EINVAL) },
            Op::Close { conn } => Done::Closed { conn },
            Op::Read { file, tag, mut buf, position, len } => {
                let mut bytes = vec![0; index(len)];
                let content = self.volume.current(self.slots[&file]);
                let count = content.read(block_of(position), &mut bytes);
                self.arena.copy_in(&mut buf, 0, &bytes[..count]);
                Done::Read { tag, buf, result: Ok(u32::try_from(count).expect("small")) }
            }
            Op::FileClose { file } => {
                self.slots.remove(&file);
                return;
            }
            Op::SpaceAsk => Done::SpaceTold { free: Ok(u64::MAX) },
            op => return self.begin(op),
        };
        self.dones.push(done);
    }

    /// Changes of the disk: they begin here and end in [`Stage::end_one`].
    fn begin(&mut self, op: Op) {
        let mut promise = Sync::Written;
        let (mutation, ending) = match op {
            Op::Write { file, tag, slice, position, sync, .. } => {
                let mut bytes = vec![0; index(slice.len)];
                self.arena.copy_out(slice, &mut bytes);
                let (inode, block) = (self.slots[&file], block_of(position));
                let pages = Page::all_of(&bytes);
                promise = sync;
                let write = Mutation::Write { inode, block, pages, sync };
                (write, Ending::Wrote(tag, slice.len))
            }
            Op::Flush { file, tag } => {
                let (inode, upto) = (self.slots[&file], self.volume.effects());
                (Mutation::Flush { inode, upto }, Ending::Flushed(tag))
            }
            Op::FileOpen { file, path, open } => {
                let is_plain = matches!(open, Open::Existing | Open::Buffered);
                let ending = Ending::Opened(file, path.clone());
                let number = self.volume.begin(Mutation::Open { path, open });
                let promise = Sync::Written;
                self.flying.push_back(Flying { number, ending, promise });
                if is_plain {
                    // It changes nothing.
                    self.end_one(Order::Newest);
                }
                return;
            }
            Op::FileExtend { file, from, to, fill } => {
                let extension = Volume::extension(self.slots[&file], from, to, fill);
                (extension, Ending::Extended(file, to, fill))
            }
            Op::FilesDelete { tag, paths } => (Mutation::Delete { paths }, Ending::Deleted(tag)),
            other => unreachable!("no change of the disk: {other:?}"),
        };
        let number = self.volume.begin(mutation);
        self.flying.push_back(Flying { number, ending, promise });
    }

    fn cancel(&mut self) {
        if std::mem::take(&mut self.is_armed) {
            self.dones.push(Done::RecvEnded { conn: CONN, end: RecvEnd::Stopped });
        }
        if let Some((buf, ..)) = self.into.take() {
            let result = Err(Fault::ECANCELED);
            self.dones.push(Done::Filled { conn: CONN, buf, result });
        }
    }

    fn has_input(&self) -> bool {
        let is_open = self.into.is_some() || (self.is_armed && !self.buffers.is_empty());
        is_open && !self.input.is_empty()
    }

    /// Hands what the client has sent to whichever receive is open.
    fn pump(&mut self) {
        let count = self.session.outgoing().len();
        self.input.extend(self.session.outgoing());
        self.session.sent(count);
        while self.has_input() {
            let input = self.input.make_contiguous();
            let taken = if let Some((mut buf, at, len)) = self.into.take() {
                let taken = input.len().min(index(len));
                self.arena.copy_in(&mut buf, at, &input[..taken]);
                let result = Ok(u32::try_from(taken).expect("small"));
                self.dones.push(Done::Filled { conn: CONN, buf, result });
                taken
            } else if let Some(mut buf) = self.buffers.pop() {
                let taken = input.len().min(index(self.region.bytes));
                self.arena.copy_in_recv(self.region, &mut buf, &input[..taken]);
                let len = u32::try_from(taken).expect("small");
                self.dones.push(Done::Received { conn: CONN, buf, len });
                taken
            } else {
                return;
            };
            self.input.drain(..taken);
        }
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).expect("u32 fits usize")
}
