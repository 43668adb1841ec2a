//! The connections: which operations each has open, and what their completions mean.

use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::Arc;

use engine::pool::{FillBuf, Slice};
use engine::port::{ConnId, Done, Fault, FileRange, RecvBuf, RecvEnd};
use engine::port::{SEND_RANGES_MAX, SEND_SLICES_MAX};
use io_uring::types::{CancelBuilder, Fixed};
use io_uring::{cqueue, opcode, squeue};
use rustix::net::Shutdown;

use super::arena::Memory;
use super::recv_ring::{self, RecvRing};
use super::setup::Receive;
use super::token::{Kind, Token, next_generation};
use crate::directory::fault;
use crate::io::sendfile::{self, Finished, Job};

/// A completion as the ring gave it.
#[derive(Debug, Clone, Copy)]
pub struct Completion {
    /// Whose.
    pub token: Token,
    /// What the call would have returned.
    pub result: i32,
    /// Flags of the completion.
    pub flags: u32,
}

impl Completion {
    /// The count, or the fault.
    pub fn count(self) -> Result<u32, Fault> {
        u32::try_from(self.result).map_err(|_| Fault(-self.result))
    }

    /// Whether more completions of the same operation will come.
    pub fn more(self) -> bool {
        cqueue::more(self.flags)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The number is not in use.
    Free,
    Open,
    /// To be closed as soon as all its operations have completed.
    Ending,
    /// Its descriptor is being closed.
    Closing,
}

#[derive(Debug)]
enum Receiving {
    No,
    Provided,
    Into(FillBuf),
}

#[derive(Debug)]
enum Sending {
    No,
    Yes,
    /// A file, by a thread.
    File,
    /// A file, once the socket has a descriptor for the thread.
    Installing(Arc<OwnedFd>, Vec<FileRange>),
}

/// What a send out of a file begins with.
#[derive(Debug)]
pub enum FileSend {
    /// The socket gets a descriptor first.
    Install(squeue::Entry),
    /// A thread can have it.
    Job(Job),
}

#[derive(Debug)]
struct Conn {
    state: State,
    generation: u32,
    receiving: Receiving,
    sending: Sending,
    /// The socket as other threads know it, once one of them needed it.
    socket: Option<Arc<OwnedFd>>,
    /// The kernel gave the number to a new connection before we saw the old one's end.
    accepted_again: bool,
}

impl Conn {
    const NEW: Conn = Conn {
        state: State::Free,
        generation: 0,
        receiving: Receiving::No,
        sending: Sending::No,
        socket: None,
        accepted_again: false,
    };

    const fn is_quiet(&self) -> bool {
        matches!((&self.receiving, &self.sending), (Receiving::No, Sending::No))
    }
}

/// What a send of several slices points to until the kernel has taken the submission.
#[derive(Debug)]
struct Message {
    header: libc::msghdr,
    parts: [libc::iovec; SEND_SLICES_MAX],
}

/// The table of connections. A connection's number is its place in the ring's file table.
#[derive(Debug)]
pub struct Conns {
    conns: Vec<Conn>,
    capacity: usize,
    receive: Receive,
    /// Boxed because their addresses must hold while the vector grows.
    #[allow(clippy::vec_box, reason = "the kernel is given the addresses of the elements")]
    messages: Vec<Box<Message>>,
    messages_used: usize,
}

impl Conns {
    /// A table for at most `capacity` connections.
    pub const fn new(capacity: usize, receive: Receive) -> Conns {
        Conns { conns: Vec::new(), capacity, receive, messages: Vec::new(), messages_used: 0 }
    }

    /// Arms a receive into provided buffers.
    pub fn recv(&mut self, conn: ConnId) -> squeue::Entry {
        let receive = self.receive;
        let entry = self.open(conn);
        assert!(matches!(entry.receiving, Receiving::No), "one receive at a time");
        entry.receiving = Receiving::Provided;
        let token = Token { kind: Kind::Recv, generation: entry.generation, index: conn.0 };
        let operation = match receive {
            Receive::Multishot => opcode::RecvMulti::new(Fixed(conn.0), recv_ring::GROUP).build(),
            // The kernel takes a buffer of the group, as long as it is.
            Receive::Single => opcode::Recv::new(Fixed(conn.0), std::ptr::null_mut(), 0)
                .buf_group(recv_ring::GROUP)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT),
        };
        operation.user_data(token.user_data())
    }

    /// Receives into a buffer.
    pub fn recv_into(
        &mut self,
        memory: &Memory,
        conn: ConnId,
        buf: FillBuf,
        at: u32,
        len: u32,
    ) -> squeue::Entry {
        let whole = buf.slice();
        assert!(at <= whole.len && len <= whole.len - at, "inside the buffer");
        let span = memory.span(Slice { offset: whole.offset + u64::from(at), len });
        let entry = self.open(conn);
        assert!(matches!(entry.receiving, Receiving::No), "one receive at a time");
        entry.receiving = Receiving::Into(buf);
        let token = Token { kind: Kind::RecvInto, generation: entry.generation, index: conn.0 };
        opcode::Recv::new(Fixed(conn.0), span.address, span.len)
            .build()
            .user_data(token.user_data())
    }

    /// Asks the running receive to end, if there is one.
    pub fn recv_cancel(&mut self, conn: ConnId) -> Option<squeue::Entry> {
        let entry = self.open(conn);
        let kind = match entry.receiving {
            Receiving::No => return None,
            Receiving::Provided => Kind::Recv,
            Receiving::Into(_) => Kind::RecvInto,
        };
        let token = Token { kind, generation: entry.generation, index: conn.0 };
        Some(cancel(CancelBuilder::user_data(token.user_data())))
    }

    /// Sends slices.
    pub fn send(&mut self, memory: &Memory, conn: ConnId, slices: &[Slice]) -> squeue::Entry {
        assert!(!slices.is_empty() && slices.len() <= SEND_SLICES_MAX, "a send has slices");
        let entry = self.open(conn);
        assert!(matches!(entry.sending, Sending::No), "one send at a time");
        entry.sending = Sending::Yes;
        let token = Token { kind: Kind::Send, generation: entry.generation, index: conn.0 };
        // With WAITALL the kernel goes on by itself after a part, instead of a turn for each.
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let entry = if let [slice] = slices {
            let span = memory.span(*slice);
            opcode::Send::new(Fixed(conn.0), span.address, span.len).flags(flags).build()
        } else {
            let header = self.message(memory, slices);
            let flags = u32::try_from(flags).expect("flags are positive");
            opcode::SendMsg::new(Fixed(conn.0), header).flags(flags).build()
        };
        entry.user_data(token.user_data())
    }

    /// Sends ranges of a file.
    pub fn send_file(
        &mut self,
        conn: ConnId,
        file: Arc<OwnedFd>,
        ranges: Vec<FileRange>,
    ) -> FileSend {
        assert!((1..=SEND_RANGES_MAX).contains(&ranges.len()), "a send has ranges");
        let entry = self.open(conn);
        assert!(matches!(entry.sending, Sending::No), "one send at a time");
        let generation = entry.generation;
        if let Some(socket) = &entry.socket {
            entry.sending = Sending::File;
            let socket = Arc::clone(socket);
            return FileSend::Job(Job { conn, generation, socket, file, ranges });
        }
        entry.sending = Sending::Installing(file, ranges);
        let token = Token { kind: Kind::Install, generation, index: conn.0 };
        let install = opcode::FixedFdInstall::new(Fixed(conn.0), 0).build();
        FileSend::Install(install.user_data(token.user_data()))
    }

    /// A socket got its descriptor, or not. Gives the job that waited for it, or what becomes of
    /// its send.
    pub fn installed(
        &mut self,
        completion: Completion,
        dones: &mut Vec<Done>,
    ) -> (Option<Job>, Option<squeue::Entry>) {
        let index = completion.token.index;
        let conn = ConnId(index);
        let entry = &mut self.conns[usize::try_from(index).expect("u32 fits usize")];
        assert_eq!(entry.generation, completion.token.generation, "no late completions");
        let sending = std::mem::replace(&mut entry.sending, Sending::No);
        let Sending::Installing(file, ranges) = sending else { unreachable!("it waited for it") };
        let result = completion.count().and_then(|_| {
            // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
            let socket = unsafe { OwnedFd::from_raw_fd(completion.result) };
            sendfile::prepare(&socket).map_err(fault)?;
            Ok(Arc::new(socket))
        });
        match result {
            Ok(socket) if entry.state == State::Open => {
                entry.socket = Some(Arc::clone(&socket));
                entry.sending = Sending::File;
                let generation = entry.generation;
                (Some(Job { conn, generation, socket, file, ranges }), None)
            }
            result => {
                let result = result.and(Err(Fault::ECANCELED));
                dones.push(Done::Sent { conn, result });
                (None, ended(entry, index))
            }
        }
    }

    /// A thread has sent, or not. May give an entry to submit.
    pub fn file_sent(
        &mut self,
        finished: Finished,
        dones: &mut Vec<Done>,
    ) -> Option<squeue::Entry> {
        let Finished { conn, generation, result } = finished;
        let entry = &mut self.conns[usize::try_from(conn.0).expect("u32 fits usize")];
        assert_eq!(entry.generation, generation, "no late completions");
        entry.sending = Sending::No;
        dones.push(Done::Sent { conn, result });
        ended(entry, conn.0)
    }

    /// Closes the connection once its operations have ended. The entry ends them, or is the
    /// closing itself if there are none.
    pub fn close(&mut self, conn: ConnId) -> squeue::Entry {
        let entry = self.open(conn);
        if entry.is_quiet() {
            return close_descriptor(entry, conn.0);
        }
        if let (Sending::File, Some(socket)) = (&entry.sending, &entry.socket) {
            // What the thread does ends with an error. A socket that is closed already is as good.
            let _ = rustix::net::shutdown(&**socket, Shutdown::Both);
        }
        entry.state = State::Ending;
        cancel(CancelBuilder::fd(Fixed(conn.0)).all())
    }

    /// The kernel has taken all submissions, so it has copied what they pointed to.
    pub const fn submitted(&mut self) {
        self.messages_used = 0;
    }

    /// A connection was accepted at this place of the file table.
    pub fn accepted(&mut self, index: u32, dones: &mut Vec<Done>) {
        let place = usize::try_from(index).expect("u32 fits usize");
        assert!(place < self.capacity, "the kernel takes places from our range");
        if place >= self.conns.len() {
            self.conns.resize_with(place + 1, || Conn::NEW);
        }
        let entry = &mut self.conns[place];
        match entry.state {
            State::Free => {
                entry.state = State::Open;
                dones.push(Done::Accepted { conn: ConnId(index) });
            }
            State::Closing => entry.accepted_again = true,
            State::Open | State::Ending => unreachable!("the place is taken"),
        }
    }

    /// A completion of one of a connection's operations. May give an entry to submit.
    pub fn completed(
        &mut self,
        completion: Completion,
        buffers: &mut RecvRing,
        dones: &mut Vec<Done>,
    ) -> Option<squeue::Entry> {
        let index = completion.token.index;
        let conn = ConnId(index);
        let entry = &mut self.conns[usize::try_from(index).expect("u32 fits usize")];
        assert_eq!(entry.generation, completion.token.generation, "no late completions");
        match completion.token.kind {
            Kind::Recv => received(entry, conn, completion, buffers, dones),
            Kind::RecvInto => match std::mem::replace(&mut entry.receiving, Receiving::No) {
                Receiving::Into(buf) => {
                    dones.push(Done::Filled { conn, buf, result: completion.count() });
                }
                Receiving::No | Receiving::Provided => unreachable!("it was receiving"),
            },
            Kind::Send => {
                entry.sending = Sending::No;
                dones.push(Done::Sent { conn, result: completion.count() });
            }
            Kind::Close => {
                closed(entry, conn, dones);
                return None;
            }
            _ => unreachable!("not a connection's"),
        }
        ended(entry, index)
    }

    fn open(&mut self, conn: ConnId) -> &mut Conn {
        let entry = &mut self.conns[usize::try_from(conn.0).expect("u32 fits usize")];
        assert_eq!(entry.state, State::Open, "an op names an open connection");
        entry
    }

    fn message(&mut self, memory: &Memory, slices: &[Slice]) -> *const libc::msghdr {
        const NOTHING: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        if self.messages_used == self.messages.len() {
            // SAFETY: a message header is integers and pointers, for which zeros are valid.
            let header = unsafe { std::mem::zeroed() };
            self.messages.push(Box::new(Message { header, parts: [NOTHING; SEND_SLICES_MAX] }));
        }
        let message = &mut self.messages[self.messages_used];
        self.messages_used += 1;
        for (part, slice) in message.parts.iter_mut().zip(slices) {
            let span = memory.span(*slice);
            part.iov_base = span.address.cast();
            part.iov_len = usize::try_from(span.len).expect("u32 fits usize");
        }
        message.header.msg_iov = message.parts.as_mut_ptr();
        message.header.msg_iovlen = slices.len();
        &raw const message.header
    }
}

fn received(
    entry: &mut Conn,
    conn: ConnId,
    completion: Completion,
    buffers: &mut RecvRing,
    dones: &mut Vec<Done>,
) {
    let buf = cqueue::buffer_select(completion.flags).map(RecvBuf);
    let end = match (completion.count(), buf) {
        (Ok(len), Some(buf)) if len > 0 => {
            dones.push(Done::Received { conn, buf, len });
            RecvEnd::Stopped
        }
        (result, buf) => {
            if let Some(buf) = buf {
                buffers.give(&buf);
            }
            match result {
                Ok(_) => RecvEnd::Eof,
                Err(Fault(libc::ENOBUFS)) => RecvEnd::NoBuffers,
                Err(Fault::ECANCELED) => RecvEnd::Stopped,
                Err(fault) => RecvEnd::Failed(fault),
            }
        }
    };
    if !completion.more() {
        entry.receiving = Receiving::No;
        dones.push(Done::RecvEnded { conn, end });
    }
}

fn closed(entry: &mut Conn, conn: ConnId, dones: &mut Vec<Done>) {
    assert_eq!(entry.state, State::Closing, "it was closing");
    entry.state = State::Free;
    entry.generation = next_generation(entry.generation);
    dones.push(Done::Closed { conn });
    if std::mem::take(&mut entry.accepted_again) {
        entry.state = State::Open;
        dones.push(Done::Accepted { conn });
    }
}

/// One of its operations has ended: perhaps it was the last one of a connection that closes.
fn ended(entry: &mut Conn, index: u32) -> Option<squeue::Entry> {
    let is_last = entry.state == State::Ending && entry.is_quiet();
    is_last.then(|| close_descriptor(entry, index))
}

fn close_descriptor(entry: &mut Conn, index: u32) -> squeue::Entry {
    entry.state = State::Closing;
    entry.socket = None;
    let token = Token { kind: Kind::Close, generation: entry.generation, index };
    opcode::Close::new(Fixed(index)).build().user_data(token.user_data())
}

/// Cancels operations; what comes of them is told by their own completions.
pub fn cancel(which: CancelBuilder) -> squeue::Entry {
    opcode::AsyncCancel2::new(which).build().user_data(Token::sole(Kind::Cancel).user_data())
}
