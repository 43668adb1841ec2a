//! What every case needs: a backend on a stage, peers, and dones that are waited for by kind.

use engine::layout::FilePath;
use engine::pool::{BufId, Pool, Slice};
use engine::port::{
    ConnId, Done, Fault, FileRange, FileSlot, Now, Op, OpBatch, Open, RecvEnd, Tag,
};
use pelton_broker::io::{Io, Wait};

/// Turns after which a case gives up. A turn of the real backend lasts [`TURN_NS`] at most.
const TURNS_MAX: usize = 20_000;
/// How long one wait of the real backend may block.
const TURN_NS: u64 = 1_000_000;

/// A peer's number on its stage.
pub type Peer = usize;

/// How a peer's stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerEnd {
    Eof,
    Reset,
}

/// Where a backend meets peers. The pool is the case's own, as a shard's is the shard's.
pub trait Stage {
    fn io(&mut self) -> &mut dyn Io;
    fn connect(&mut self) -> Peer;
    fn send(&mut self, peer: Peer, bytes: &[u8]);
    fn shutdown(&mut self, peer: Peer);
    fn reset(&mut self, peer: Peer);
    /// Takes what has arrived, without waiting.
    fn receive(&mut self, peer: Peer, into: &mut Vec<u8>) -> Option<PeerEnd>;
}

/// A stage, a pool, and the dones that nobody has asked for yet.
pub struct Rig {
    pub stage: Box<dyn Stage>,
    pub pool: Pool,
    pub now: Now,
    seen: Vec<Done>,
    batch: OpBatch,
}

impl Rig {
    pub fn new(stage: Box<dyn Stage>, pool: Pool) -> Rig {
        Rig { stage, pool, now: Now::default(), seen: Vec::new(), batch: OpBatch::default() }
    }

    pub fn submit(&mut self, op: Op) {
        self.batch.ops.push(op);
        self.stage.io().submit(&mut self.batch).expect("the backend works");
        let lists = self.batch.slices.len() + self.batch.ranges.len();
        assert!(self.batch.ops.is_empty() && lists == 0, "all is taken");
    }

    pub fn submit_send(&mut self, conn: ConnId, slices: &[Slice]) {
        // Other sends' slices may stand before this one's.
        self.batch.slices.push(Slice { offset: 0, len: 0 });
        self.batch.slices.extend_from_slice(slices);
        let count = u32::try_from(slices.len()).expect("a few");
        self.submit(Op::Send { conn, first: 1, count });
    }

    pub fn submit_send_file(&mut self, conn: ConnId, file: FileSlot, ranges: &[FileRange]) {
        // Other sends' ranges may stand before this one's.
        self.batch.ranges.push(FileRange { position: 0, len: 1 });
        self.batch.ranges.extend_from_slice(ranges);
        let count = u32::try_from(ranges.len()).expect("a few");
        self.submit(Op::SendFile { conn, file, first: 1, count });
    }

    pub fn turn(&mut self) {
        let deadline = Some(self.now.time.plus_ns(TURN_NS));
        let until = Wait { deadline, eager: false };
        let now = self.stage.io().wait(until, &mut self.seen).expect("the backend works");
        assert!(now.time >= self.now.time, "time is monotonic");
        self.now = now;
    }

    /// Waits for the first done that `pick` gives something for.
    pub fn until<T>(&mut self, pick: impl Fn(&Done) -> Option<T>) -> T {
        self.until_done(|done| pick(done).is_some(), |done| pick(&done).expect("it was picked"))
    }

    fn until_done<T>(&mut self, is_it: impl Fn(&Done) -> bool, take: impl Fn(Done) -> T) -> T {
        for _ in 0..TURNS_MAX {
            if let Some(index) = self.seen.iter().position(&is_it) {
                return take(self.seen.remove(index));
            }
            self.turn();
        }
        panic!("it never came; there were {:?}", self.seen);
    }

    /// What `pick` gives for a done that has come already.
    pub fn seen<T>(&mut self, pick: impl Fn(&Done) -> Option<T>) -> Option<T> {
        let index = self.seen.iter().position(|done| pick(done).is_some())?;
        pick(&self.seen.remove(index))
    }

    /// The names of a connection's dones, in order, up to `Closed`.
    pub fn until_closed(&mut self, conn: ConnId) -> Vec<&'static str> {
        let name = |done: &Done| match done {
            Done::RecvEnded { conn: of, .. } if *of == conn => Some("ended"),
            Done::Filled { conn: of, .. } if *of == conn => Some("filled"),
            Done::Sent { conn: of, .. } if *of == conn => Some("sent"),
            Done::Closed { conn: of } if *of == conn => Some("closed"),
            _ => None,
        };
        let mut names = Vec::new();
        while names.last() != Some(&"closed") {
            names.push(self.until(name));
        }
        names
    }

    /// No done is left that nobody asked for.
    pub fn assert_nothing_else(&mut self) {
        for _ in 0..20 {
            self.turn();
        }
        assert!(self.seen.is_empty(), "each op has one done: {:?}", self.seen);
    }

    pub fn accepted(&mut self) -> (Peer, ConnId) {
        let peer = self.stage.connect();
        let conn = self.until(|done| match done {
            Done::Accepted { conn } => Some(*conn),
            _ => None,
        });
        (peer, conn)
    }

    /// What the next done of a multishot receive brings; its buffer is returned.
    pub fn received(&mut self, conn: ConnId) -> Result<Vec<u8>, RecvEnd> {
        match self.received_and_kept(conn) {
            Ok((buf, bytes)) => {
                self.submit(Op::RecvReturn { buf });
                Ok(bytes)
            }
            Err(end) => Err(end),
        }
    }

    pub fn received_and_kept(
        &mut self,
        conn: ConnId,
    ) -> Result<(engine::port::RecvBuf, Vec<u8>), RecvEnd> {
        let is_it = move |done: &Done| match done {
            Done::Received { conn: of, .. } | Done::RecvEnded { conn: of, .. } => *of == conn,
            _ => false,
        };
        let done = self.until_done(is_it, |done| done);
        match done {
            Done::Received { buf, len, .. } => {
                assert!(len > 0, "a receive brings bytes");
                let bytes = self.pool.recv_bytes(&buf, len).to_vec();
                Ok((buf, bytes))
            }
            Done::RecvEnded { end, .. } => Err(end),
            other => panic!("not a receive's: {other:?}"),
        }
    }

    pub fn receive_into(
        &mut self,
        conn: ConnId,
        id: BufId,
        at: u32,
        len: u32,
    ) -> Result<u32, Fault> {
        let buf = self.pool.fill(id);
        self.submit(Op::RecvInto { conn, buf, at, len });
        self.filled(conn, id)
    }

    pub fn filled(&mut self, conn: ConnId, id: BufId) -> Result<u32, Fault> {
        let (of, result) = self.until(|done| match done {
            Done::Filled { conn: of, buf, result } if *of == conn => Some((buf.id(), *result)),
            _ => None,
        });
        assert_eq!(of, id, "the buffer comes back");
        result
    }

    pub fn sent(&mut self, conn: ConnId) -> Result<u32, Fault> {
        self.until(|done| match done {
            Done::Sent { conn: of, result } if *of == conn => Some(*result),
            _ => None,
        })
    }

    /// What a send ended with, if it has by now.
    pub fn sent_already(&mut self, conn: ConnId) -> Option<Result<u32, Fault>> {
        self.seen(|done| match done {
            Done::Sent { conn: of, result } if *of == conn => Some(*result),
            _ => None,
        })
    }

    pub fn close(&mut self, conn: ConnId) {
        self.submit(Op::Close { conn });
        self.closed(conn);
    }

    pub fn closed(&mut self, conn: ConnId) {
        self.until(|done| matches!(done, Done::Closed { conn: of } if *of == conn).then_some(()));
        let is_its = |done: &Done| match done {
            Done::Received { conn: of, .. }
            | Done::RecvEnded { conn: of, .. }
            | Done::Filled { conn: of, .. }
            | Done::Sent { conn: of, .. } => *of == conn,
            _ => false,
        };
        self.seen.retain(|done| !matches!(done, Done::Received { conn: of, .. } if *of == conn));
        assert!(!self.seen.iter().any(is_its), "its ops had been asked for: {:?}", self.seen);
    }

    /// What the peer gets until `count` bytes or the end of its stream.
    pub fn peer_receives(&mut self, peer: Peer, count: usize) -> (Vec<u8>, Option<PeerEnd>) {
        let mut bytes = Vec::new();
        for _ in 0..TURNS_MAX {
            let end = self.stage.receive(peer, &mut bytes);
            if bytes.len() >= count || end.is_some() {
                return (bytes, end);
            }
            self.turn();
        }
        panic!("the peer got {} bytes of {count} and no end", bytes.len());
    }

    /// How many bytes the peer has got by now.
    pub fn peer_receives_at_once(&mut self, peer: Peer) -> usize {
        let mut bytes = Vec::new();
        self.stage.receive(peer, &mut bytes);
        bytes.len()
    }

    pub fn open(&mut self, file: FileSlot, path: FilePath, open: Open) -> Result<u64, Fault> {
        self.submit(Op::FileOpen { file, path, open });
        self.until(|done| match done {
            Done::FileOpened { file: of, result } if *of == file => Some(*result),
            _ => None,
        })
    }

    pub fn wrote(&mut self, tag: Tag) -> Result<u32, Fault> {
        self.until(|done| match done {
            Done::Wrote { tag: of, result } if *of == tag => Some(*result),
            _ => None,
        })
    }

    pub fn flush(&mut self, file: FileSlot) -> Result<(), Fault> {
        let tag = Tag(u64::MAX);
        self.submit(Op::Flush { file, tag });
        self.until(|done| match done {
            Done::Flushed { tag: of, result } if *of == tag => Some(*result),
            _ => None,
        })
    }

    pub fn extended(&mut self, file: FileSlot) -> Result<(), Fault> {
        self.until(|done| match done {
            Done::FileExtended { file: of, result, .. } if *of == file => Some(*result),
            _ => None,
        })
    }

    pub fn delete(&mut self, paths: Vec<FilePath>) -> Result<(), Fault> {
        let tag = Tag(u64::MAX - 1);
        self.submit(Op::FilesDelete { tag, paths });
        self.until(|done| match done {
            Done::FilesDeleted { tag: of, result } if *of == tag => Some(*result),
            _ => None,
        })
    }

    /// Reads `len` bytes; the rest of the vector past a short read is not there.
    pub fn read(&mut self, file: FileSlot, position: u64, len: usize) -> Result<Vec<u8>, Fault> {
        let id = self.pool.alloc(len).expect("room");
        let (buf, tag) = (self.pool.fill(id), Tag(position | 1));
        let bytes = u32::try_from(len).expect("small");
        self.submit(Op::Read { file, tag, buf, position, len: bytes });
        let (of, result) = self.until(|done| match done {
            Done::Read { tag: of, buf, result } if *of == tag => Some((buf.id(), *result)),
            _ => None,
        });
        assert_eq!(of, id, "the buffer comes back");
        let bytes = result.map(|count| {
            let count = usize::try_from(count).expect("small");
            self.pool.bytes(id)[..count].to_vec()
        });
        self.pool.release(id);
        bytes
    }

    /// A buffer with these bytes in it.
    pub fn buffer(&mut self, bytes: &[u8]) -> BufId {
        let id = self.pool.alloc(bytes.len()).expect("room");
        self.pool.bytes_mut(id)[..bytes.len()].copy_from_slice(bytes);
        id
    }
}

/// Bytes that differ everywhere, so that what is out of order shows.
pub fn pattern(len: usize, seed: u8) -> Vec<u8> {
    let step = |i: usize| i.wrapping_mul(31) ^ (i >> 8);
    (0..len).map(|i| step(i).to_le_bytes()[0] ^ seed).collect()
}
