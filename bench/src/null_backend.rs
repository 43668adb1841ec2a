//! A backend that does nothing and says at once that it is done: what remains is the engine.
//! In steady state it allocates nothing itself.

use std::sync::Arc;

use broker::io::sim::SimDisk;
use engine::boot::boot;
use engine::pool::{Arena, FillBuf, RecvRegion};
use engine::port::{ConnId, Done, Fault, Now, Op, OpBatch, Open, RecvBuf, RecvEnd, Time};
use engine::{Settings, Shard};

/// What the engine's clock moves on per turn.
const TURN_NS: u64 = 1_000;

/// A production shard with its connections.
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
    peers: Vec<Peer>,
    dones: Vec<Done>,
    batch: OpBatch,
}

/// The other end of a connection.
#[derive(Debug, Default)]
struct Peer {
    input: Vec<u8>,
    input_at: usize,
    /// Whether a `Recv` is open.
    is_armed: bool,
    /// The open `RecvInto`.
    into: Option<(FillBuf, u32, u32)>,
    output: Vec<u8>,
}

impl NullBackend {
    /// A shard with production settings on an empty disk, and its accepted connections.
    pub fn new(connections: u32) -> Self {
        let settings = Settings::production();
        let now = Now { time: Time(1_000_000), wall_ns: 1_700_000_000_000_000_000 };
        let (mut shards, _) = boot(&settings, &mut SimDisk::new(1), now, 7).expect("an empty disk");
        let shard = shards.pop().expect("one shard");
        let region = shard.pool().recv_region();
        let mut backend = NullBackend {
            arena: shard.pool().shared_arena(),
            shard,
            now,
            region,
            journal_file_bytes: settings.journal_file_bytes,
            buffers: (0..region.count).map(RecvBuf).collect(),
            peers: (0..connections).map(|_| Peer::default()).collect(),
            dones: (0..connections).map(|conn| Done::Accepted { conn: ConnId(conn) }).collect(),
            batch: OpBatch::default(),
        };
        backend.settle();
        backend
    }

    /// How many connections there are.
    pub const fn connections(&self) -> usize {
        self.peers.len()
    }

    /// Sends bytes on the first connection, turns until nothing happens, and gives the answer.
    pub fn exchange(&mut self, bytes: &[u8]) -> &[u8] {
        self.send(0, bytes);
        self.settle();
        self.answer(0)
    }

    /// Puts bytes where the shard will receive them, and forgets what was answered before.
    pub fn send(&mut self, connection: usize, bytes: &[u8]) {
        let peer = &mut self.peers[connection];
        assert_eq!(peer.input_at, peer.input.len(), "the shard has taken all of the last ones");
        peer.output.clear();
        peer.input.clear();
        peer.input.extend_from_slice(bytes);
        peer.input_at = 0;
        self.pump(connection);
    }

    /// What the shard has sent since the last [`NullBackend::send`].
    pub fn answer(&self, connection: usize) -> &[u8] {
        &self.peers[connection].output
    }

    /// Turns until nothing happens.
    pub fn settle(&mut self) {
        self.turn();
        while !self.dones.is_empty() {
            self.turn();
        }
    }

    /// One turn with whatever is done.
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
        for connection in 0..self.peers.len() {
            self.pump(connection);
        }
    }

    fn perform(&mut self, op: Op, batch: &OpBatch) {
        let done = match op {
            Op::Recv { conn } => {
                self.peer(conn).is_armed = true;
                return;
            }
            Op::RecvCancel { conn } => return self.cancel(conn),
            Op::RecvInto { conn, buf, at, len } => {
                self.peer(conn).into = Some((buf, at, len));
                return;
            }
            Op::RecvReturn { buf } => return self.buffers.push(buf),
            Op::Send { conn, first, count } => {
                let first = index(first);
                let output = &mut self.peers[index(conn.0)].output;
                let before = output.len();
                for slice in &batch.slices[first..first + index(count)] {
                    let at = output.len();
                    output.resize(at + index(slice.len), 0);
                    self.arena.copy_out(*slice, &mut output[at..]);
                }
                let sent = u32::try_from(output.len() - before).expect("small");
                Done::Sent { conn, result: Ok(sent) }
            }
            Op::SendFile { conn, .. } => Done::Sent { conn, result: Err(Fault::EINVAL) },
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
            Op::SpaceAsk => Done::SpaceTold { free: Ok(u64::MAX) },
            Op::FilesDelete { tag, .. } => Done::FilesDeleted { tag, result: Ok(()) },
        };
        self.dones.push(done);
    }

    fn cancel(&mut self, conn: ConnId) {
        let peer = self.peer(conn);
        let was_armed = std::mem::take(&mut peer.is_armed);
        let into = peer.into.take();
        if was_armed {
            self.dones.push(Done::RecvEnded { conn, end: RecvEnd::Stopped });
        }
        if let Some((buf, ..)) = into {
            self.dones.push(Done::Filled { conn, buf, result: Err(Fault::ECANCELED) });
        }
    }

    /// Hands a peer's input to whoever waits for it.
    fn pump(&mut self, connection: usize) {
        let peer = &mut self.peers[connection];
        let conn = ConnId(u32::try_from(connection).expect("few"));
        while peer.input_at < peer.input.len() {
            let rest = &peer.input[peer.input_at..];
            let taken = if let Some((mut buf, at, len)) = peer.into.take() {
                let taken = rest.len().min(index(len));
                self.arena.copy_in(&mut buf, at, &rest[..taken]);
                let result = Ok(u32::try_from(taken).expect("small"));
                self.dones.push(Done::Filled { conn, buf, result });
                taken
            } else if peer.is_armed
                && let Some(mut buf) = self.buffers.pop()
            {
                let taken = rest.len().min(index(self.region.bytes));
                self.arena.copy_in_recv(self.region, &mut buf, &rest[..taken]);
                let len = u32::try_from(taken).expect("small");
                self.dones.push(Done::Received { conn, buf, len });
                taken
            } else {
                return;
            };
            peer.input_at += taken;
        }
    }

    fn peer(&mut self, conn: ConnId) -> &mut Peer {
        &mut self.peers[index(conn.0)]
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).expect("u32 fits usize")
}
