//! One shard's end of the mesh: its links as its backend uses them. It lives on the shard's
//! thread.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use engine::pool::{FillBuf, Slice};
use engine::port::{ConnId, Done, Fault, SEND_SLICES_MAX};

use super::Mesh;
use super::numbers::{Link, LinkNumbers, SHARDS_MAX, opposite};
use super::sync::{Ordering, fence};

/// Peers are kept as bits.
const _: () = assert!(SHARDS_MAX as u32 <= u64::BITS);

/// What an end counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MeshCounters {
    /// Times another shard was rung awake.
    pub doorbells: u64,
    /// Bytes that came from other shards.
    pub bytes_received: u64,
}

/// Whether a shard may sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Nothing came: others will ring.
    Asleep,
    /// Something came: look at it instead.
    Awake,
}

/// An open receive.
#[derive(Debug)]
struct Receiving {
    buf: FillBuf,
    at: u32,
    len: u32,
    is_cancelled: bool,
}

/// Both directions of one link.
#[derive(Debug, Default)]
struct Stream {
    /// Slices ever posted.
    posted: u64,
    /// Bytes of the open send.
    sending: Option<u32>,
    /// The peer's slices that were copied whole.
    taken: u64,
    /// Bytes copied of the next one.
    at: u32,
    receiving: Option<Receiving>,
}

/// One shard's end of the mesh.
#[derive(Debug)]
pub struct MeshEnd {
    mesh: Arc<Mesh>,
    shard: u16,
    numbers: LinkNumbers,
    /// Two for each shard; this shard's own are not used.
    streams: Vec<Stream>,
    /// By shard: how many of its calls were heard.
    calls: Vec<u64>,
    is_introduced: bool,
    /// The door may say that this shard sleeps.
    is_asleep: bool,
    /// One bit for each peer that was told something and may be asleep.
    told: u64,
    counters: MeshCounters,
}

impl MeshEnd {
    pub(super) fn new(mesh: Arc<Mesh>, shard: u16) -> MeshEnd {
        let shards = u16::try_from(mesh.shards()).expect("at most 64");
        MeshEnd {
            numbers: LinkNumbers::new(0, shard, shards),
            streams: (0..2 * mesh.shards()).map(|_| Stream::default()).collect(),
            calls: vec![0; mesh.shards()],
            mesh,
            shard,
            is_introduced: false,
            is_asleep: false,
            told: 0,
            counters: MeshCounters::default(),
        }
    }

    /// Gives the links their numbers, from `first` on, and leaves `bell` at this shard's door,
    /// with which others wake it. Once, before anything else.
    pub fn open(&mut self, first: u32, bell: OwnedFd) {
        self.numbers = LinkNumbers::new(first, self.shard, self.shards());
        let left = self.mesh.door(self.shard).bell.set(bell);
        assert!(left.is_ok(), "an end is opened once");
    }

    /// Which shard's end it is.
    pub const fn shard(&self) -> u16 {
        self.shard
    }

    /// How many shards the mesh connects.
    pub fn shards(&self) -> u16 {
        u16::try_from(self.mesh.shards()).expect("at most 64")
    }

    /// Whether this is one of the links.
    pub fn has(&self, conn: ConnId) -> bool {
        self.numbers.link(conn).is_some()
    }

    /// What it counted.
    pub const fn counters(&self) -> MeshCounters {
        self.counters
    }

    /// Sends slices of this shard's arena. They are all taken when `Sent` comes.
    pub fn send(&mut self, conn: ConnId, slices: &[Slice]) {
        assert!((1..=SEND_SLICES_MAX).contains(&slices.len()), "a send has a bounded list");
        let link = self.link(conn);
        let stream = &mut self.streams[link.place()];
        assert!(stream.sending.is_none(), "{conn:?} has one send at a time");
        let lane = self.mesh.lane(self.shard, link.peer);
        let mut bytes = 0;
        for slice in slices.iter().filter(|slice| slice.len > 0) {
            lane.fill(link.end, stream.posted, *slice);
            stream.posted += 1;
            bytes += slice.len;
        }
        assert!(bytes > 0, "a send has bytes");
        stream.sending = Some(bytes);
        lane.post(link.end, stream.posted);
        self.told |= bit(link.peer);
    }

    /// Receives at most `len` bytes into `buf` at `at`.
    pub fn receive(&mut self, conn: ConnId, buf: FillBuf, at: u32, len: u32) {
        let whole = buf.slice().len;
        assert!(len > 0 && at <= whole && len <= whole - at, "some bytes inside the buffer");
        let place = self.link(conn).place();
        let stream = &mut self.streams[place];
        assert!(stream.receiving.is_none(), "{conn:?} has one receive at a time");
        stream.receiving = Some(Receiving { buf, at, len, is_cancelled: false });
    }

    /// Ends the open receive, if there is one.
    pub fn cancel(&mut self, conn: ConnId) {
        let place = self.link(conn).place();
        if let Some(receiving) = &mut self.streams[place].receiving {
            receiving.is_cancelled = true;
        }
    }

    /// Wants every other shard to come back from its `wait`, once it is rung.
    pub fn call_all(&mut self) {
        for peer in self.peers() {
            self.mesh.lane(self.shard, peer).call();
            self.told |= bit(peer);
        }
    }

    /// Looks at what has come and appends it to `dones`; tells whether a peer called.
    pub fn poll(&mut self, dones: &mut Vec<Done>) -> bool {
        if !self.is_introduced {
            self.introduce(dones);
        }
        let mut is_called = false;
        for peer in self.peers() {
            let calls = self.mesh.lane(peer, self.shard).calls();
            let heard = &mut self.calls[usize::from(peer)];
            is_called |= std::mem::replace(heard, calls) != calls;
            for end in super::ENDS {
                self.poll_link(Link { peer, end }, dones);
            }
        }
        is_called
    }

    /// Says at the door that this shard sleeps, unless there is news. See the module for why no
    /// wake-up is lost.
    pub fn lie_down(&mut self) -> Rest {
        let door = self.mesh.door(self.shard);
        debug_assert!(door.bell.get().is_some(), "an end is opened before it sleeps");
        door.is_asleep.store(true, Ordering::Relaxed);
        self.is_asleep = true;
        fence(Ordering::SeqCst);
        if self.has_news() {
            self.get_up();
            return Rest::Awake;
        }
        Rest::Asleep
    }

    /// Says at the door that this shard is awake, if it has said otherwise.
    pub fn get_up(&mut self) {
        if std::mem::take(&mut self.is_asleep) {
            self.mesh.door(self.shard).is_asleep.store(false, Ordering::Relaxed);
        }
    }

    /// Calls `ring` for every peer that was told something since the last time and is asleep,
    /// with its number and the bell at its door.
    pub fn ring_sleepers(&mut self, mut ring: impl FnMut(u16, BorrowedFd<'_>)) {
        if self.told == 0 {
            return;
        }
        fence(Ordering::SeqCst);
        let told = std::mem::take(&mut self.told);
        for peer in self.peers().filter(|&peer| told & bit(peer) != 0) {
            let door = self.mesh.door(peer);
            // Looking first keeps the line shared among those who only look.
            let is_asleep = door.is_asleep.load(Ordering::Relaxed)
                && door.is_asleep.swap(false, Ordering::Relaxed);
            if is_asleep {
                self.counters.doorbells += 1;
                ring(peer, self.bell(peer));
            }
        }
    }

    /// The bell at the door of a peer that has been asleep.
    pub fn bell(&self, peer: u16) -> BorrowedFd<'_> {
        self.mesh.door(peer).bell.get().expect("who sleeps has a bell").as_fd()
    }

    fn peers(&self) -> impl Iterator<Item = u16> + use<> {
        let own = self.shard;
        (0..self.shards()).filter(move |&peer| peer != own)
    }

    fn link(&self, conn: ConnId) -> Link {
        self.numbers.link(conn).unwrap_or_else(|| panic!("{conn:?} is not a link"))
    }

    fn introduce(&mut self, dones: &mut Vec<Done>) {
        self.is_introduced = true;
        dones.extend(self.numbers.links().map(|link| Done::Linked {
            conn: self.numbers.conn(link),
            shard: link.peer,
            end: link.end,
        }));
    }

    fn has_news(&self) -> bool {
        let called =
            |peer| self.mesh.lane(peer, self.shard).calls() != self.calls[usize::from(peer)];
        !self.is_introduced
            || self.peers().any(called)
            || self.numbers.links().any(|link| self.is_sent(link) || self.is_filled(link))
    }

    fn poll_link(&mut self, link: Link, dones: &mut Vec<Done>) {
        let conn = self.numbers.conn(link);
        if self.is_sent(link)
            && let Some(bytes) = self.streams[link.place()].sending.take()
        {
            dones.push(Done::Sent { conn, result: Ok(bytes) });
        }
        if self.is_filled(link)
            && let Some(receiving) = self.streams[link.place()].receiving.take()
        {
            let Receiving { mut buf, at, len, is_cancelled } = receiving;
            let result = if is_cancelled {
                Err(Fault::ECANCELED)
            } else {
                Ok(self.copy(link, &mut buf, at, len))
            };
            dones.push(Done::Filled { conn, buf, result });
        }
    }

    /// Whether the open send has been taken.
    fn is_sent(&self, link: Link) -> bool {
        let stream = &self.streams[link.place()];
        let lane = self.mesh.lane(link.peer, self.shard);
        stream.sending.is_some() && lane.taken(opposite(link.end)) == stream.posted
    }

    /// Whether the open receive can end.
    fn is_filled(&self, link: Link) -> bool {
        let stream = &self.streams[link.place()];
        let lane = self.mesh.lane(link.peer, self.shard);
        stream.receiving.as_ref().is_some_and(|receiving| {
            receiving.is_cancelled || lane.posted(opposite(link.end)) != stream.taken
        })
    }

    /// Copies what the peer has posted, at most `len` bytes, and tells it what was copied whole.
    fn copy(&mut self, link: Link, buf: &mut FillBuf, at: u32, len: u32) -> u32 {
        let lane = self.mesh.lane(link.peer, self.shard);
        let (from, to) = (self.mesh.arena(link.peer), self.mesh.arena(self.shard));
        let theirs = opposite(link.end);
        let stream = &mut self.streams[link.place()];
        let (posted, taken) = (lane.posted(theirs), stream.taken);
        let mut count = 0;
        while stream.taken < posted && count < len {
            let slice = lane.slice(theirs, stream.taken);
            let part = (slice.len - stream.at).min(len - count);
            let offset = slice.offset + u64::from(stream.at);
            to.copy_across(from, Slice { offset, len: part }, buf, at + count);
            count += part;
            stream.at += part;
            if stream.at == slice.len {
                (stream.taken, stream.at) = (stream.taken + 1, 0);
            }
        }
        if stream.taken != taken {
            self.mesh.lane(self.shard, link.peer).take(link.end, stream.taken);
            self.told |= bit(link.peer);
        }
        self.counters.bytes_received += u64::from(count);
        count
    }
}

const fn bit(peer: u16) -> u64 {
    1 << peer
}
