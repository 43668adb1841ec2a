//! Connections: bytes in, frames out of them; replies in, bytes out.

pub mod files;
pub mod receive;
pub mod reply;

use std::collections::VecDeque;

use crate::log::read::Part;
use crate::log::send_file::FilePart;
use crate::pool::{BufId, Bytes};
use crate::port::{ConnId, LinkEnd, RecvBuf, Time};

/// What receives a connection's bytes at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receiving {
    /// Nothing.
    Idle,
    /// Provided buffers.
    Provided,
    /// Provided buffers, and they were asked to stop.
    Stopping,
    /// The probe buffer: the header of the next large frame.
    Probe,
    /// The probe buffer, and it was asked to stop.
    StoppingProbe,
    /// The buffer of a frame.
    Frame,
}

/// How a connection's next bytes are received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// By provided buffers: best for small frames.
    Small,
    /// Header first, then the body straight to its place: best for large ones.
    Large,
}

/// Why a connection is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// It is read.
    None,
    /// It has used up its own credit.
    Credit,
    /// Shared memory has no room for its next frame, or too much is unstored.
    Memory,
}

/// A frame of which a part has arrived.
#[derive(Debug)]
pub struct Assembly {
    /// Its buffer; held by the assembly.
    pub buf: BufId,
    /// Bytes that have arrived.
    pub have: usize,
    /// Its length, once the header is there; its buffer then has room for it.
    pub need: Option<usize>,
    /// When it must be whole.
    pub due: Time,
}

/// Received bytes that wait to be looked at.
#[derive(Debug)]
pub struct Held {
    /// Where they are.
    pub place: Bytes,
    /// When they came.
    pub arrived: Time,
    /// The provided buffer to return afterwards, if it is one.
    pub recv: Option<RecvBuf>,
    /// The buffer to release afterwards, if they were copied to one of their own.
    pub copy: Option<BufId>,
}

/// One connection.
#[derive(Debug)]
pub struct Conn {
    /// Never reused, unlike its number.
    pub serial: u64,
    /// It is a link to another shard, of which this is an end.
    pub link: Option<LinkEnd>,
    /// Whether hello has come.
    pub is_greeted: bool,
    /// What receives its bytes.
    pub receiving: Receiving,
    /// How its next bytes are received.
    pub mode: Mode,
    /// Small frames in a row while in large mode.
    pub small_streak: u8,
    /// Whether it is read.
    pub pause: Pause,
    /// Bytes that wait to be looked at.
    pub held: VecDeque<Held>,
    /// When those came that were looked at last.
    pub arrived: Time,
    /// A frame that has arrived in part.
    pub assembly: Option<Assembly>,
    /// Buffer for probes in large mode; held by the connection, or away while receiving.
    pub probe: Option<BufId>,
    /// Requests that wait for their replies.
    pub requests: u32,
    /// Their bytes.
    pub request_bytes: usize,
    /// The page at the end of `replies` that may still be written to.
    pub reply_page: Option<BufId>,
    /// Replies to send.
    pub replies: VecDeque<Part>,
    /// Bytes of them.
    pub reply_bytes: usize,
    /// On a link: frames for which there was no memory, with the parts behind them.
    pub late: VecDeque<(Vec<u8>, Vec<Part>)>,
    /// Parts of files to send in between.
    pub files: VecDeque<FilePart>,
    /// Bytes of them.
    pub file_bytes: usize,
    /// A send is in flight.
    pub is_sending: bool,
    /// It is out of a file.
    pub sends_file: bool,
    /// When the last byte was taken, or the first reply queued on an empty queue.
    pub progress: Time,
    /// Fetches that wait for the queue to drain.
    pub fetches: VecDeque<u64>,
    /// Its fetches that other shards work on.
    pub spreads: u32,
    /// The peer has closed its sending side, or it will be closed once replies are sent.
    pub is_ending: bool,
    /// `Close` was emitted; waits for `Closed`.
    pub is_closing: bool,
    /// On the list of connections with replies to send or state to look at.
    pub is_dirty: bool,
}

impl Conn {
    /// A connection that was just accepted.
    pub fn new(serial: u64, now: Time) -> Conn {
        Conn {
            serial,
            link: None,
            is_greeted: false,
            receiving: Receiving::Idle,
            mode: Mode::Small,
            small_streak: 0,
            pause: Pause::None,
            held: VecDeque::new(),
            arrived: now,
            assembly: None,
            probe: None,
            requests: 0,
            request_bytes: 0,
            reply_page: None,
            replies: VecDeque::new(),
            reply_bytes: 0,
            late: VecDeque::new(),
            files: VecDeque::new(),
            file_bytes: 0,
            is_sending: false,
            sends_file: false,
            progress: now,
            fetches: VecDeque::new(),
            spreads: 0,
            is_ending: false,
            is_closing: false,
            is_dirty: false,
        }
    }
}

/// Connections by number.
#[derive(Debug, Default)]
pub struct Conns {
    slots: Vec<Option<Box<Conn>>>,
    next_serial: u64,
    open: usize,
}

impl Conns {
    /// Takes a new connection in.
    pub fn insert(&mut self, id: ConnId, now: Time) {
        self.place(id, now);
        self.open += 1;
    }

    /// Takes a link to another shard in. It is greeted, stays for ever, and carries frames of
    /// all lengths for everybody, so it is received from in the large ones' way.
    pub fn insert_link(&mut self, id: ConnId, now: Time, end: LinkEnd) {
        let conn = self.place(id, now);
        conn.link = Some(end);
        conn.is_greeted = true;
        conn.mode = Mode::Large;
        conn.small_streak = 1;
    }

    fn place(&mut self, id: ConnId, now: Time) -> &mut Conn {
        let index = crate::units::usize_of(id.0);
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        assert!(self.slots[index].is_none(), "a connection's number is free when it is accepted");
        self.next_serial += 1;
        self.slots[index].insert(Box::new(Conn::new(self.next_serial, now)))
    }

    /// The connection, unless it is gone.
    pub fn get(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.slots.get_mut(crate::units::usize_of(id.0))?.as_deref_mut()
    }

    /// The connection, to look at.
    pub fn peek(&self, id: ConnId) -> Option<&Conn> {
        self.slots.get(crate::units::usize_of(id.0))?.as_deref()
    }

    /// The connection with this serial, unless it is gone or being closed.
    pub fn live(&mut self, (id, serial): (ConnId, u64)) -> Option<&mut Conn> {
        self.get(id).filter(|conn| conn.serial == serial && !conn.is_closing)
    }

    /// Forgets the connection.
    pub fn remove(&mut self, id: ConnId) -> Option<Box<Conn>> {
        let conn = self.slots.get_mut(crate::units::usize_of(id.0))?.take()?;
        self.open -= 1;
        Some(conn)
    }

    /// Number of connections, without links.
    pub const fn len(&self) -> usize {
        self.open
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Every connection's number; links are none.
    pub fn ids(&self) -> impl Iterator<Item = ConnId> {
        let taken = self.slots.iter().enumerate();
        let is_conn = |slot: &Option<Box<Conn>>| slot.as_ref().is_some_and(|c| c.link.is_none());
        let taken = taken.filter(move |(_, slot)| is_conn(slot));
        taken.map(|(index, _)| ConnId(crate::units::u32_of(index)))
    }
}
