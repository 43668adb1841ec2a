//! Connection ops of the simulated backend, and the clients' side of the same connections.

use std::collections::VecDeque;

use engine::pool::Slice;
use engine::port::{
    ConnId, Done, Fault, FileRange, Op, RecvBuf, RecvEnd, SEND_RANGES_MAX, SEND_SLICES_MAX, Time,
};

use super::file_ops::POISON;
use super::net::{BrokerEnd, ClientEnd, Conn, Inbox, Piece, Receiving, Sending};
use super::{ClientId, Event, SimIo, StreamEnd, Weather};

/// Longest time until a connection or a reader is noticed, in ns.
const NOTICE_NS_MAX: u64 = 100_000;
/// Longest time that a connection op takes, in ns.
const OP_NS_MAX: u64 = 4_000;

/// The clients' side.
impl SimIo {
    /// Opens a connection.
    pub fn connect(&mut self) -> ClientId {
        let client = self.net.connect(self.window);
        self.schedule(NOTICE_NS_MAX, Event::Connect(client));
        client
    }

    /// Sends bytes to the broker. They arrive in order, in pieces, at times of their own.
    pub fn client_send(&mut self, client: ClientId, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let len = self.piece_len(rest.len());
            let (piece, tail) = rest.split_at(len);
            self.send_up(client, Piece::Bytes(piece.to_vec()));
            rest = tail;
        }
    }

    /// Ends the client's stream; it may go on receiving.
    pub fn client_shutdown(&mut self, client: ClientId) {
        self.send_up(client, Piece::End(StreamEnd::Eof));
    }

    /// Ends the client's stream and gives up the connection: what the broker still sends is
    /// answered with a reset, and so is what the client has not read.
    pub fn client_close(&mut self, client: ClientId) {
        let is_unread = self.net.get(client).is_some_and(|conn| !conn.down.bytes.is_empty());
        let end = if is_unread { StreamEnd::Reset } else { StreamEnd::Eof };
        self.send_up(client, Piece::End(end));
        self.client_gone(client);
    }

    /// Resets the connection: the broker may never see what it has not received yet.
    pub fn client_reset(&mut self, client: ClientId) {
        self.send_up(client, Piece::End(StreamEnd::Reset));
        self.client_gone(client);
    }

    /// Takes at most `bytes_max` received bytes. Once all are taken, tells how the stream ended,
    /// if it did.
    pub fn client_receive(
        &mut self,
        client: ClientId,
        bytes_max: usize,
        into: &mut Vec<u8>,
    ) -> Option<StreamEnd> {
        let Some(conn) = self.net.get(client) else { return Some(StreamEnd::Reset) };
        let count = conn.down.bytes.len().min(bytes_max);
        into.extend(take_front(&mut conn.down.bytes, count));
        let end = if conn.down.bytes.is_empty() { conn.down.end } else { None };
        if count > 0 && conn.sending.is_some() {
            self.schedule(NOTICE_NS_MAX, Event::Send(client));
        }
        end
    }

    /// How many connections the broker has.
    pub fn connections_open(&self) -> usize {
        self.net.broker_open()
    }

    fn client_gone(&mut self, client: ClientId) {
        if let Some(conn) = self.net.get(client) {
            conn.client = ClientEnd::Gone;
        }
        self.net.forget(client);
    }

    fn send_up(&mut self, client: ClientId, piece: Piece) {
        let arrival = self.arrival();
        let Some(conn) = self.net.get(client) else { return };
        let time = depart(&mut conn.up, &piece, arrival);
        self.schedule_at(time, Event::ArriveUp(client, piece));
    }

    fn send_down(&mut self, client: ClientId, piece: Piece) {
        let arrival = self.arrival();
        let Some(conn) = self.net.get(client) else { return };
        let time = depart(&mut conn.down, &piece, arrival);
        self.schedule_at(time, Event::ArriveDown(client, piece));
    }

    fn arrival(&mut self) -> Time {
        let Weather { transit_ns, lag_one_in, lag_ns, .. } = self.weather;
        let mut ns = self.rng.between(1_000, transit_ns);
        if lag_one_in > 0 && self.rng.one_in(lag_one_in) {
            ns += self.rng.below(lag_ns);
        }
        self.clock.plus_ns(ns)
    }

    /// Streams are cut anywhere.
    pub(super) fn piece_len(&mut self, len: usize) -> usize {
        match self.rng.below(8) {
            0 => 1 + self.rng.index(len.min(40)),
            1 => 1 + self.rng.index(len),
            _ => len,
        }
    }
}

/// The first `count` bytes, in one piece.
pub(super) fn take_front(bytes: &mut VecDeque<u8>, count: usize) -> Vec<u8> {
    let (front, back) = bytes.as_slices();
    let of_front = count.min(front.len());
    let mut taken = Vec::with_capacity(count);
    taken.extend_from_slice(&front[..of_front]);
    taken.extend_from_slice(&back[..count - of_front]);
    bytes.drain(..count);
    taken
}

/// Pieces of a stream arrive one after the other.
fn depart(inbox: &mut Inbox, piece: &Piece, arrival: Time) -> Time {
    if let Piece::Bytes(bytes) = piece {
        inbox.in_transit += bytes.len();
    }
    inbox.newest_ns = arrival.0.max(inbox.newest_ns + 1);
    Time(inbox.newest_ns)
}

fn arrive(inbox: &mut Inbox, piece: Piece) {
    match piece {
        Piece::Bytes(bytes) => {
            inbox.in_transit -= bytes.len();
            if inbox.end.is_none() {
                inbox.bytes.extend(bytes);
            }
        }
        Piece::End(StreamEnd::Reset) => {
            inbox.bytes.clear();
            inbox.end = Some(StreamEnd::Reset);
        }
        Piece::End(end) => inbox.end = inbox.end.or(Some(end)),
    }
}

/// What happens on its own.
impl SimIo {
    pub(super) fn connected(&mut self, client: ClientId, dones: &mut Vec<Done>) {
        self.net.backlog.push_back(client);
        self.accept(dones);
    }

    fn accept(&mut self, dones: &mut Vec<Done>) {
        while let Some(&client) = self.net.backlog.front() {
            if self.net.get(client).is_some() {
                let Some(conn) = self.net.accept(client) else { return };
                dones.push(Done::Accepted { conn });
            }
            self.net.backlog.pop_front();
        }
    }

    pub(super) fn arrived_up(&mut self, client: ClientId, piece: Piece, dones: &mut Vec<Done>) {
        let Some(conn) = self.net.get(client) else { return };
        arrive(&mut conn.up, piece);
        if matches!(conn.broker, BrokerEnd::Closed) {
            self.send_down(client, Piece::End(StreamEnd::Reset));
            return;
        }
        self.look_for_bytes(client, dones);
        self.look_for_room(client, dones);
    }

    pub(super) fn arrived_down(&mut self, client: ClientId, piece: Piece) {
        let Some(conn) = self.net.get(client) else { return };
        let is_gone = conn.client == ClientEnd::Gone;
        let is_data = matches!(piece, Piece::Bytes(_));
        arrive(&mut conn.down, piece);
        if is_gone && is_data {
            self.send_up(client, Piece::End(StreamEnd::Reset));
        }
    }

    /// The open receive takes what is there.
    pub(super) fn look_for_bytes(&mut self, client: ClientId, dones: &mut Vec<Done>) {
        let Some((conn, number)) = open_conn(self.net.get(client)) else { return };
        match std::mem::replace(&mut conn.receiving, Receiving::None) {
            Receiving::None => {}
            Receiving::Multishot => self.receive_into_provided(client, number, dones),
            Receiving::Into { mut buf, at, len } => {
                let wanted = usize::try_from(len).expect("u32 fits usize");
                let count = conn.up.bytes.len().min(wanted);
                let result = match conn.up.end {
                    _ if count > 0 => {
                        let bytes = take_front(&mut conn.up.bytes, count);
                        self.trace.bytes(&bytes);
                        self.arena.copy_in(&mut buf, at, &bytes);
                        Ok(u32::try_from(count).expect("no longer than asked"))
                    }
                    Some(StreamEnd::Eof) => Ok(0),
                    Some(StreamEnd::Reset) => Err(Fault::ECONNRESET),
                    None => {
                        conn.receiving = Receiving::Into { buf, at, len };
                        return;
                    }
                };
                dones.push(Done::Filled { conn: number, buf, result });
            }
        }
    }

    fn receive_into_provided(&mut self, client: ClientId, number: ConnId, dones: &mut Vec<Done>) {
        let buffer_bytes = usize::try_from(self.region.bytes).expect("u32 fits usize");
        loop {
            let Some(conn) = self.net.get(client) else { return };
            let available = conn.up.bytes.len().min(buffer_bytes);
            if available == 0 {
                match conn.up.end {
                    None => conn.receiving = Receiving::Multishot,
                    Some(StreamEnd::Eof) => dones.push(recv_ended(number, RecvEnd::Eof)),
                    Some(StreamEnd::Reset) => {
                        let end = RecvEnd::Failed(Fault::ECONNRESET);
                        dones.push(recv_ended(number, end));
                    }
                }
                return;
            }
            let Some(index) = self.recv_free.pop_front() else {
                dones.push(recv_ended(number, RecvEnd::NoBuffers));
                return;
            };
            let len = self.piece_len(available);
            let Some(conn) = self.net.get(client) else { return };
            let bytes = take_front(&mut conn.up.bytes, len);
            self.trace.bytes(&bytes);
            let mut buf = RecvBuf(index);
            self.arena.copy_in_recv(self.region, &mut buf, &bytes);
            let len = u32::try_from(len).expect("no longer than a buffer");
            dones.push(Done::Received { conn: number, buf, len });
        }
    }

    pub(super) fn cancelled(&mut self, client: ClientId, dones: &mut Vec<Done>) {
        let Some((conn, number)) = open_conn(self.net.get(client)) else { return };
        end_receive(conn, number, dones);
    }

    /// The open send passes on what there is room for, and ends.
    pub(super) fn look_for_room(&mut self, client: ClientId, dones: &mut Vec<Done>) {
        let Some((conn, number)) = open_conn(self.net.get(client)) else { return };
        let is_reset = conn.up.end == Some(StreamEnd::Reset);
        let room = conn.room();
        if room == 0 && !is_reset {
            return;
        }
        let Some(sending) = conn.sending.take() else { return };
        let bytes = match sending {
            Sending::Memory { slices, bytes } => {
                let is_same = self.holds(&slices, &bytes);
                assert!(is_same, "slices of a send to {number:?} were changed while it was open");
                Ok(bytes)
            }
            Sending::File { inode, ranges } => self.file_bytes(inode, &ranges, room),
        };
        let bytes = match bytes {
            Ok(bytes) if !is_reset => bytes,
            bad => {
                let fault = if is_reset { Fault::ECONNRESET } else { bad.expect_err("not good") };
                dones.push(Done::Sent { conn: number, result: Err(fault) });
                return;
            }
        };
        let len = self.piece_len(bytes.len().min(room));
        self.trace.bytes(&bytes[..len]);
        let mut rest = &bytes[..len];
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(self.piece_len(rest.len()));
            self.send_down(client, Piece::Bytes(piece.to_vec()));
            rest = tail;
        }
        let result = Ok(u32::try_from(len).expect("no longer than the slices"));
        dones.push(Done::Sent { conn: number, result });
    }

    pub(super) fn closing(&mut self, client: ClientId, dones: &mut Vec<Done>) {
        let Some((conn, number)) = open_conn(self.net.get(client)) else { return };
        end_receive(conn, number, dones);
        if conn.sending.take().is_some() {
            dones.push(Done::Sent { conn: number, result: Err(Fault::ECANCELED) });
        }
        // As TCP does it: closing with unread bytes resets.
        let is_unread = !conn.up.bytes.is_empty();
        let end = if is_unread { StreamEnd::Reset } else { StreamEnd::Eof };
        self.send_down(client, Piece::End(end));
        self.schedule(OP_NS_MAX, Event::Closed(client));
    }

    pub(super) fn closed(&mut self, client: ClientId, dones: &mut Vec<Done>) {
        let conn = self.net.closed(client);
        dones.push(Done::Closed { conn });
        self.accept(dones);
    }
}

/// The ops.
impl SimIo {
    pub(super) fn submit_net(&mut self, op: Op, slices: &[Slice], ranges: &[FileRange]) {
        match op {
            Op::Recv { conn } => self.submit_receive(conn, Receiving::Multishot),
            Op::RecvInto { conn, mut buf, at, len } => {
                assert!(len > 0, "a receive asks for bytes");
                self.poison(&mut buf, at, usize::try_from(len).expect("u32 fits usize"));
                self.submit_receive(conn, Receiving::Into { buf, at, len });
            }
            Op::RecvCancel { conn } => {
                let client = self.client(conn);
                self.schedule(OP_NS_MAX, Event::Cancel(client));
            }
            Op::RecvReturn { mut buf } => {
                assert!(!self.recv_free.contains(&buf.0), "{buf:?} is returned twice");
                let bytes = usize::try_from(self.region.bytes).expect("u32 fits usize");
                let poison = &POISON[..bytes.min(POISON.len())];
                self.arena.copy_in_recv(self.region, &mut buf, poison);
                self.recv_free.push_back(buf.0);
            }
            Op::Send { conn, first, count } => {
                let first = usize::try_from(first).expect("u32 fits usize");
                let count = usize::try_from(count).expect("u32 fits usize");
                assert!((1..=SEND_SLICES_MAX).contains(&count), "a send has a bounded list");
                self.submit_send(conn, slices[first..first + count].to_vec());
            }
            Op::SendFile { conn, file, first, count } => {
                let first = usize::try_from(first).expect("u32 fits usize");
                let count = usize::try_from(count).expect("u32 fits usize");
                assert!((1..=SEND_RANGES_MAX).contains(&count), "a send has a bounded list");
                let ranges = ranges[first..first + count].to_vec();
                assert!(ranges.iter().all(|range| range.len > 0), "a range has bytes");
                let inode = self.buffered_inode(file);
                self.begin_send(conn, Sending::File { inode, ranges });
            }
            Op::Close { conn } => {
                let client = self.client(conn);
                let end = self.net.get(client).expect("the engine has it");
                assert_eq!(end.broker, BrokerEnd::Open(conn), "{conn:?} is closed once");
                end.broker = BrokerEnd::Closing(conn);
                self.schedule(OP_NS_MAX, Event::Close(client));
            }
            other => unreachable!("not a connection's op: {other:?}"),
        }
    }

    fn submit_receive(&mut self, number: ConnId, receiving: Receiving) {
        let client = self.client(number);
        let conn = self.net.get(client).expect("the engine has it");
        assert_eq!(conn.broker, BrokerEnd::Open(number), "{number:?} is not closing");
        let is_free = matches!(conn.receiving, Receiving::None);
        assert!(is_free, "{number:?} has one receive at a time");
        conn.receiving = receiving;
        self.schedule(OP_NS_MAX, Event::Receive(client));
    }

    fn submit_send(&mut self, number: ConnId, slices: Vec<Slice>) {
        let bytes = self.slices_bytes(&slices);
        assert!(!bytes.is_empty(), "a send has bytes");
        self.begin_send(number, Sending::Memory { slices, bytes });
    }

    fn begin_send(&mut self, number: ConnId, sending: Sending) {
        let client = self.client(number);
        let conn = self.net.get(client).expect("the engine has it");
        assert_eq!(conn.broker, BrokerEnd::Open(number), "{number:?} is not closing");
        assert!(conn.sending.is_none(), "{number:?} has one send at a time");
        conn.sending = Some(sending);
        self.schedule(OP_NS_MAX, Event::Send(client));
    }

    fn client(&self, number: ConnId) -> ClientId {
        self.net.client(number).unwrap_or_else(|| panic!("{number:?} is not a connection"))
    }
}

/// The connection, if the engine has it.
fn open_conn(conn: Option<&mut Conn>) -> Option<(&mut Conn, ConnId)> {
    let conn = conn?;
    match conn.broker {
        BrokerEnd::Open(number) | BrokerEnd::Closing(number) => Some((conn, number)),
        BrokerEnd::Waiting | BrokerEnd::Closed => None,
    }
}

fn end_receive(conn: &mut Conn, number: ConnId, dones: &mut Vec<Done>) {
    match std::mem::replace(&mut conn.receiving, Receiving::None) {
        Receiving::None => {}
        Receiving::Multishot => dones.push(recv_ended(number, RecvEnd::Stopped)),
        Receiving::Into { buf, .. } => {
            let result = Err(Fault::ECANCELED);
            dones.push(Done::Filled { conn: number, buf, result });
        }
    }
}

const fn recv_ended(conn: ConnId, end: RecvEnd) -> Done {
    Done::RecvEnded { conn, end }
}
