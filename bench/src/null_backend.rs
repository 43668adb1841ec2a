//! A backend that does nothing and says at once that it is done: what remains is the engine.

use std::sync::Arc;

use broker::io::sim::SimDisk;
use engine::boot::boot;
use engine::pool::{Arena, FillBuf, RecvRegion};
use engine::port::{ConnId, Done, Fault, Now, Op, OpBatch, Open, RecvBuf, RecvEnd, Time};
use engine::{Settings, Shard};

const CONN: ConnId = ConnId(0);
/// What the engine's clock moves on per turn.
const TURN_NS: u64 = 1_000;

/// A production shard with one connection.
#[derive(Debug)]
pub struct NullBackend {
    /// The shard.
    pub shard: Shard,
    /// Both clocks.
    pub now: Now,
    arena: Arc<Arena>,
    region: RecvRegion,
    journal_file_bytes: u64,
    buffers: Vec<RecvBuf>,
    input: Vec<u8>,
    input_at: usize,
    /// Whether a `Recv` is open.
    is_armed: bool,
    /// The open `RecvInto`.
    into: Option<(FillBuf, u32, u32)>,
    output: Vec<u8>,
    dones: Vec<Done>,
    batch: OpBatch,
}

impl NullBackend {
    /// A shard with production settings on an empty disk, and its accepted connection.
    pub fn new() -> Self {
        let settings = Settings::production();
        let now = Now { time: Time(1_000_000), wall_ns: 1_700_000_000_000_000_000 };
        let (shard, _) = boot(&settings, &mut SimDisk::new(1), now, 7).expect("an empty disk");
        let region = shard.pool().recv_region();
        let mut backend = NullBackend {
            arena: shard.pool().shared_arena(),
            shard,
            now,
            region,
            journal_file_bytes: settings.journal_file_bytes,
            buffers: (0..region.count).map(RecvBuf).collect(),
            input: Vec::new(),
            input_at: 0,
            is_armed: false,
            into: None,
            output: Vec::new(),
            dones: vec![Done::Accepted { conn: CONN }],
            batch: OpBatch::default(),
        };
        backend.settle();
        backend
    }

    /// Sends bytes to the shard, turns until nothing happens, and gives what it sent back.
    pub fn exchange(&mut self, bytes: &[u8]) -> &[u8] {
        self.output.clear();
        self.input.clear();
        self.input.extend_from_slice(bytes);
        self.input_at = 0;
        self.pump();
        self.settle();
        &self.output
    }

    /// One turn with whatever is done.
    pub fn turn(&mut self) {
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
        self.pump();
    }

    fn settle(&mut self) {
        self.turn();
        while !self.dones.is_empty() {
            self.turn();
        }
    }

    fn perform(&mut self, op: Op, batch: &OpBatch) {
        let done = match op {
            Op::Recv { .. } => {
                self.is_armed = true;
                return;
            }
            Op::RecvCancel { conn } => return self.cancel(conn),
            Op::RecvInto { buf, at, len, .. } => {
                self.into = Some((buf, at, len));
                return;
            }
            Op::RecvReturn { buf } => return self.buffers.push(buf),
            Op::Send { conn, first, count } => {
                let first = usize::try_from(first).expect("few");
                let count = usize::try_from(count).expect("few");
                let before = self.output.len();
                for slice in &batch.slices[first..first + count] {
                    let at = self.output.len();
                    let len = usize::try_from(slice.len).expect("small");
                    self.output.resize(at + len, 0);
                    self.arena.copy_out(*slice, &mut self.output[at..]);
                }
                let sent = u32::try_from(self.output.len() - before).expect("small");
                Done::Sent { conn, result: Ok(sent) }
            }
            Op::Close { conn } => Done::Closed { conn },
            Op::Write { tag, slice, .. } => Done::Wrote { tag, result: Ok(slice.len) },
            Op::Read { tag, buf, .. } => Done::Read { tag, buf, result: Err(Fault::EIO) },
            Op::Flush { tag, .. } => Done::Flushed { tag, result: Ok(()) },
            Op::FileOpen { file, open, .. } => {
                let is_new = matches!(open, Open::Create);
                let bytes = if is_new { 0 } else { self.journal_file_bytes };
                Done::FileOpened { file, result: Ok(bytes) }
            }
            Op::FileExtend { file, to, fill, .. } => {
                Done::FileExtended { file, to, fill, result: Ok(()) }
            }
            Op::FileClose { .. } => return,
            Op::FilesDelete { tag, .. } => Done::FilesDeleted { tag, result: Ok(()) },
        };
        self.dones.push(done);
    }

    fn cancel(&mut self, conn: ConnId) {
        if std::mem::take(&mut self.is_armed) {
            self.dones.push(Done::RecvEnded { conn, end: RecvEnd::Stopped });
        }
        if let Some((buf, ..)) = self.into.take() {
            self.dones.push(Done::Filled { conn, buf, result: Err(Fault::ECANCELED) });
        }
    }

    /// Hands input to whoever waits for it.
    fn pump(&mut self) {
        while self.input_at < self.input.len() {
            let rest = &self.input[self.input_at..];
            let taken = if let Some((mut buf, at, len)) = self.into.take() {
                let taken = rest.len().min(usize::try_from(len).expect("small"));
                self.arena.copy_in(&mut buf, at, &rest[..taken]);
                let result = Ok(u32::try_from(taken).expect("small"));
                self.dones.push(Done::Filled { conn: CONN, buf, result });
                taken
            } else if self.is_armed
                && let Some(mut buf) = self.buffers.pop()
            {
                let room = usize::try_from(self.region.bytes).expect("small");
                let taken = rest.len().min(room);
                self.arena.copy_in_recv(self.region, &mut buf, &rest[..taken]);
                let len = u32::try_from(taken).expect("small");
                self.dones.push(Done::Received { conn: CONN, buf, len });
                taken
            } else {
                return;
            };
            self.input_at += taken;
        }
    }
}

impl Default for NullBackend {
    fn default() -> Self {
        NullBackend::new()
    }
}
