//! Simulated connections: byte streams that are split and delayed, half-closed and reset.
//!
//! [`Net`] keeps the state of both ends; [`super::SimIo`] moves it on, event by event.

use std::collections::{BTreeMap, VecDeque};

use engine::pool::{FillBuf, Slice};
use engine::port::{ConnId, FileRange};

use super::disk::Inode;

/// The client end of a connection. Never reused, unlike the broker's [`ConnId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u32);

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// In order: the other side closed.
    Eof,
    /// The connection was reset.
    Reset,
}

/// What travels.
#[derive(Debug)]
pub(super) enum Piece {
    Bytes(Vec<u8>),
    End(StreamEnd),
}

/// An open receive of the broker.
#[derive(Debug)]
pub(super) enum Receiving {
    None,
    Multishot,
    Into { buf: FillBuf, at: u32, len: u32 },
}

/// An open send of the broker.
#[derive(Debug)]
pub(super) enum Sending {
    /// Of slices.
    Memory {
        slices: Vec<Slice>,
        /// What the slices held when the send was submitted.
        bytes: Vec<u8>,
    },
    /// Out of a file.
    File { inode: Inode, ranges: Vec<FileRange> },
}

/// One direction of a connection, at its receiving end.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) bytes: VecDeque<u8>,
    pub(super) end: Option<StreamEnd>,
    /// Bytes on their way here.
    pub(super) in_transit: usize,
    /// When the newest piece arrives, in ns: later ones arrive later.
    pub(super) newest_ns: u64,
}

/// What has become of the broker's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BrokerEnd {
    /// In the listener's queue.
    Waiting,
    /// Accepted, under this number.
    Open(ConnId),
    /// Close was submitted.
    Closing(ConnId),
    /// Gone.
    Closed,
}

/// Whether a client still reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientEnd {
    Open,
    Gone,
}

#[derive(Debug)]
pub(super) struct Conn {
    pub(super) broker: BrokerEnd,
    pub(super) client: ClientEnd,
    /// At the broker.
    pub(super) up: Inbox,
    /// At the client.
    pub(super) down: Inbox,
    /// Most bytes that may wait at the client, or be on their way to it.
    pub(super) window: usize,
    pub(super) receiving: Receiving,
    pub(super) sending: Option<Sending>,
}

impl Conn {
    fn new(window: usize) -> Conn {
        Conn {
            broker: BrokerEnd::Waiting,
            client: ClientEnd::Open,
            up: Inbox::default(),
            down: Inbox::default(),
            window,
            receiving: Receiving::None,
            sending: None,
        }
    }

    /// Bytes that may be sent to the client now. One that is gone takes any, and resets.
    pub(super) fn room(&self) -> usize {
        if self.client == ClientEnd::Gone {
            return usize::MAX;
        }
        self.window.saturating_sub(self.down.bytes.len() + self.down.in_transit)
    }
}

/// All connections, and the numbers that the broker knows them by.
#[derive(Debug)]
pub(super) struct Net {
    conns: BTreeMap<ClientId, Conn>,
    by_number: BTreeMap<ConnId, ClientId>,
    clients: u32,
    numbers_max: u32,
    /// Connections that no number was free for.
    pub(super) backlog: VecDeque<ClientId>,
}

impl Net {
    pub(super) const fn new(numbers_max: u32) -> Net {
        Net {
            conns: BTreeMap::new(),
            by_number: BTreeMap::new(),
            clients: 0,
            numbers_max,
            backlog: VecDeque::new(),
        }
    }

    /// No connection has this number or a higher one.
    pub(super) const fn numbers_max(&self) -> u32 {
        self.numbers_max
    }

    pub(super) fn connect(&mut self, window: usize) -> ClientId {
        let client = ClientId(self.clients);
        self.clients += 1;
        self.conns.insert(client, Conn::new(window));
        client
    }

    /// The connection of a client that still has one.
    pub(super) fn get(&mut self, client: ClientId) -> Option<&mut Conn> {
        self.conns.get_mut(&client)
    }

    /// The client behind a number that the engine may use.
    pub(super) fn client(&self, number: ConnId) -> Option<ClientId> {
        self.by_number.get(&number).copied()
    }

    /// Gives the connection the smallest free number, if there is one.
    pub(super) fn accept(&mut self, client: ClientId) -> Option<ConnId> {
        let taken = &self.by_number;
        let number = (0..self.numbers_max).map(ConnId).find(|id| !taken.contains_key(id))?;
        self.by_number.insert(number, client);
        let conn = self.conns.get_mut(&client).expect("it waits in the backlog");
        conn.broker = BrokerEnd::Open(number);
        Some(number)
    }

    /// The broker's end is gone; the number may be used again.
    pub(super) fn closed(&mut self, client: ClientId) -> ConnId {
        let conn = self.conns.get_mut(&client).expect("a closing connection is kept");
        let BrokerEnd::Closing(number) = conn.broker else {
            panic!("closed once, after close: {:?}", conn.broker);
        };
        conn.broker = BrokerEnd::Closed;
        self.by_number.remove(&number);
        self.forget(client);
        number
    }

    /// Drops a connection that neither end has.
    pub(super) fn forget(&mut self, client: ClientId) {
        let is_over =
            |conn: &Conn| conn.client == ClientEnd::Gone && conn.broker == BrokerEnd::Closed;
        if self.conns.get(&client).is_some_and(is_over) {
            self.conns.remove(&client);
        }
    }

    /// How many connections the broker has.
    pub(super) fn broker_open(&self) -> usize {
        self.by_number.len()
    }
}
