//! The connections. Each has one task as long as it lives, which moves bytes whenever its socket
//! is ready or an op has come; the ops themselves only change the connection's state.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::TcpStream as StdStream;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use engine::pool::{FillBuf, Slice};
use engine::port::{ConnId, Done, Fault, RecvEnd, SEND_SLICES_MAX};
use futures_io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use glommio_socket2::Socket;

use super::world::{SCRATCH_BYTES, World};
use crate::directory::io_fault;

#[derive(Debug)]
enum Receiving {
    No,
    Provided,
    Into { buf: FillBuf, at: u32, len: u32 },
}

/// Whether the running receive was asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    No,
    ToEnd,
}

/// What a send has left.
#[derive(Debug)]
struct Sending {
    slices: Vec<Slice>,
    /// Bytes sent so far, and bytes of all slices.
    sent: u32,
    total: u32,
}

#[derive(Debug)]
struct Body {
    /// `None` once it is closing.
    stream: Option<TcpStream>,
    receiving: Receiving,
    asked: Asked,
    /// The socket failed behind bytes that were told; the next receive says so.
    failure: Option<Fault>,
    sending: Option<Sending>,
    /// The connection's task.
    task: Option<Waker>,
    is_closing: bool,
}

/// A connection.
#[derive(Debug)]
pub struct Conn {
    number: ConnId,
    body: RefCell<Body>,
}

/// The connections by number.
#[derive(Debug)]
pub struct Conns {
    conns: Vec<Option<Rc<Conn>>>,
    free: Vec<u32>,
    capacity: usize,
}

impl Conns {
    /// A table for at most `capacity` connections.
    pub const fn new(capacity: usize) -> Conns {
        Conns { conns: Vec::new(), free: Vec::new(), capacity }
    }

    /// Whether it has no room for one more.
    pub const fn is_full(&self) -> bool {
        self.free.is_empty() && self.conns.len() >= self.capacity
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.conns.len() == self.free.len()
    }

    /// The open connection with this number.
    pub fn get(&self, number: ConnId) -> Rc<Conn> {
        let entry = self.conns.get(usize::try_from(number.0).expect("u32 fits usize"));
        Rc::clone(entry.and_then(Option::as_ref).expect("an op names an open connection"))
    }

    /// All of them.
    pub fn all(&self) -> Vec<Rc<Conn>> {
        self.conns.iter().flatten().cloned().collect()
    }

    fn add(&mut self, stream: TcpStream) -> Rc<Conn> {
        assert!(!self.is_full(), "there is room");
        let number = self.free.pop().unwrap_or_else(|| {
            self.conns.push(None);
            u32::try_from(self.conns.len() - 1).expect("a table is small")
        });
        let body = Body {
            stream: Some(stream),
            receiving: Receiving::No,
            asked: Asked::No,
            failure: None,
            sending: None,
            task: None,
            is_closing: false,
        };
        let conn = Rc::new(Conn { number: ConnId(number), body: RefCell::new(body) });
        self.conns[usize::try_from(number).expect("u32 fits usize")] = Some(Rc::clone(&conn));
        conn
    }

    fn remove(&mut self, number: ConnId) {
        let entry = self.conns[usize::try_from(number.0).expect("u32 fits usize")].take();
        assert!(entry.is_some(), "it was open");
        self.free.push(number.0);
    }
}

/// Gives an accepted socket a number and a task, and says so. For use within the executor.
pub fn welcome(world: &Rc<World>, stream: StdStream) {
    let stream = TcpStream::from(Socket::from(stream));
    let conn = world.conns().borrow_mut().add(stream);
    world.tell(Done::Accepted { conn: conn.number });
    let world = Rc::clone(world);
    glommio::spawn_local(async move {
        poll_fn(|cx| conn.poll(&world, cx)).await;
        world.conns().borrow_mut().remove(conn.number);
        world.tell(Done::Closed { conn: conn.number });
    })
    .detach();
}

impl Conn {
    /// Receives into provided buffers.
    pub fn recv(&self) {
        let mut body = self.open();
        assert!(matches!(body.receiving, Receiving::No), "one receive at a time");
        body.receiving = Receiving::Provided;
    }

    /// Receives into a buffer.
    pub fn recv_into(&self, buf: FillBuf, at: u32, len: u32) {
        let whole = buf.slice().len;
        assert!(at <= whole && len <= whole - at, "inside the buffer");
        let mut body = self.open();
        assert!(matches!(body.receiving, Receiving::No), "one receive at a time");
        body.receiving = Receiving::Into { buf, at, len };
    }

    /// Asks the running receive to end, if there is one.
    pub fn recv_cancel(&self) {
        let mut body = self.open();
        if !matches!(body.receiving, Receiving::No) {
            body.asked = Asked::ToEnd;
        }
    }

    /// Sends slices.
    pub fn send(&self, slices: &[Slice]) {
        assert!(!slices.is_empty() && slices.len() <= SEND_SLICES_MAX, "a send has slices");
        let mut body = self.open();
        assert!(body.sending.is_none(), "one send at a time");
        let total = slices.iter().map(|slice| slice.len).sum();
        body.sending = Some(Sending { slices: slices.to_vec(), sent: 0, total });
    }

    /// Ends what is open, then closes.
    pub fn close(&self) {
        self.open().is_closing = true;
    }

    /// The same for a connection that may be closing already.
    pub fn close_anyway(&self) {
        self.body.borrow_mut().is_closing = true;
    }

    /// Lets the connection's task see what changed. For use within the executor.
    pub fn wake(&self) {
        // A task that has not run yet has no waker and needs none.
        if let Some(task) = &self.body.borrow().task {
            task.wake_by_ref();
        }
    }

    fn open(&self) -> std::cell::RefMut<'_, Body> {
        let body = self.body.borrow_mut();
        assert!(!body.is_closing, "an op names an open connection");
        body
    }

    fn poll(&self, world: &World, cx: &mut Context<'_>) -> Poll<()> {
        let mut body = self.body.borrow_mut();
        if body.task.as_ref().is_none_or(|task| !task.will_wake(cx.waker())) {
            body.task = Some(cx.waker().clone());
        }
        if body.is_closing {
            self.end(&mut body, world);
            return Poll::Ready(());
        }
        self.poll_receive(&mut body, world, cx);
        self.poll_send(&mut body, world, cx);
        Poll::Pending
    }

    /// Ends all ops and lets go of the socket.
    fn end(&self, body: &mut Body, world: &World) {
        let conn = self.number;
        match std::mem::replace(&mut body.receiving, Receiving::No) {
            Receiving::No => {}
            Receiving::Provided => world.tell(Done::RecvEnded { conn, end: RecvEnd::Stopped }),
            Receiving::Into { buf, .. } => {
                world.tell(Done::Filled { conn, buf, result: Err(Fault::ECANCELED) });
            }
        }
        if let Some(sending) = body.sending.take() {
            let result = if sending.sent > 0 { Ok(sending.sent) } else { Err(Fault::ECANCELED) };
            world.tell(Done::Sent { conn, result });
        }
        body.stream = None;
    }

    fn poll_receive(&self, body: &mut Body, world: &World, cx: &mut Context<'_>) {
        let conn = self.number;
        let asked = std::mem::replace(&mut body.asked, Asked::No);
        let stream = body.stream.as_mut().expect("it is open");
        match std::mem::replace(&mut body.receiving, Receiving::No) {
            Receiving::No => {}
            Receiving::Provided => {
                let end = match (asked, body.failure.take()) {
                    (_, Some(fault)) => Poll::Ready(RecvEnd::Failed(fault)),
                    (Asked::ToEnd, None) => Poll::Ready(RecvEnd::Stopped),
                    (Asked::No, None) => receive_provided(conn, stream, world, cx),
                };
                match end {
                    Poll::Ready(end) => world.tell(Done::RecvEnded { conn, end }),
                    Poll::Pending => body.receiving = Receiving::Provided,
                }
            }
            Receiving::Into { mut buf, at, len } => {
                let result = match (asked, body.failure.take()) {
                    (_, Some(fault)) => Poll::Ready(Err(fault)),
                    (Asked::ToEnd, None) => Poll::Ready(Err(Fault::ECANCELED)),
                    (Asked::No, None) => {
                        let mut place = Place { buf: &mut buf, at, len };
                        receive_into(stream, world, cx, &mut place, &mut body.failure)
                    }
                };
                match result {
                    Poll::Ready(result) => world.tell(Done::Filled { conn, buf, result }),
                    Poll::Pending => body.receiving = Receiving::Into { buf, at, len },
                }
            }
        }
    }

    fn poll_send(&self, body: &mut Body, world: &World, cx: &mut Context<'_>) {
        let Some(sending) = &mut body.sending else { return };
        let stream = body.stream.as_mut().expect("it is open");
        if let Poll::Ready(result) = send_all(stream, world, cx, sending) {
            body.sending = None;
            world.tell(Done::Sent { conn: self.number, result });
        }
    }
}

/// Receives until the socket is empty, its end, or that of the free buffers.
fn receive_provided(
    conn: ConnId,
    stream: &mut TcpStream,
    world: &World,
    cx: &mut Context<'_>,
) -> Poll<RecvEnd> {
    let bytes = usize::try_from(world.region().bytes).expect("u32 fits usize");
    let mut scratch = world.scratch().borrow_mut();
    loop {
        let Some(mut buf) = world.take_buffer() else {
            return Poll::Ready(RecvEnd::NoBuffers);
        };
        let target = &mut scratch[..bytes.min(SCRATCH_BYTES)];
        let end = match Pin::new(&mut *stream).poll_read(cx, target) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(0)) => Poll::Ready(RecvEnd::Eof),
            Poll::Ready(Ok(count)) => {
                world.arena().copy_in_recv(world.region(), &mut buf, &target[..count]);
                world.count_copied(count);
                let len = u32::try_from(count).expect("at most SCRATCH_BYTES");
                world.tell(Done::Received { conn, buf, len });
                continue;
            }
            Poll::Ready(Err(error)) => Poll::Ready(RecvEnd::Failed(io_fault(&error))),
        };
        world.give_buffer(buf);
        return end;
    }
}

/// Where a receive shall go.
struct Place<'a> {
    buf: &'a mut FillBuf,
    at: u32,
    len: u32,
}

/// Receives until the place is full or the socket empty; what has come by then is the result.
fn receive_into(
    stream: &mut TcpStream,
    world: &World,
    cx: &mut Context<'_>,
    place: &mut Place<'_>,
    failure: &mut Option<Fault>,
) -> Poll<Result<u32, Fault>> {
    let mut scratch = world.scratch().borrow_mut();
    let mut filled = 0;
    while filled < place.len {
        let left = usize::try_from(place.len - filled).expect("u32 fits usize");
        let target = &mut scratch[..left.min(SCRATCH_BYTES)];
        let count = match Pin::new(&mut *stream).poll_read(cx, target) {
            Poll::Ready(Ok(0)) => break,
            Poll::Ready(Ok(count)) => count,
            Poll::Pending if filled > 0 => break,
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) if filled > 0 => {
                *failure = Some(io_fault(&error));
                break;
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(io_fault(&error))),
        };
        world.arena().copy_in(place.buf, place.at + filled, &target[..count]);
        world.count_copied(count);
        filled += u32::try_from(count).expect("at most SCRATCH_BYTES");
    }
    Poll::Ready(Ok(filled))
}

/// Sends until all is sent or the socket is full.
fn send_all(
    stream: &mut TcpStream,
    world: &World,
    cx: &mut Context<'_>,
    sending: &mut Sending,
) -> Poll<Result<u32, Fault>> {
    let mut scratch = world.scratch().borrow_mut();
    while sending.sent < sending.total {
        let gathered = gather(world, sending, &mut scratch);
        match Pin::new(&mut *stream).poll_write(cx, &scratch[..gathered]) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(count)) => {
                world.count_copied(count);
                sending.sent += u32::try_from(count).expect("at most SCRATCH_BYTES");
            }
            // What was sent is told first; a socket that failed fails again.
            Poll::Ready(Err(_)) if sending.sent > 0 => break,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(io_fault(&error))),
        }
    }
    Poll::Ready(Ok(sending.sent))
}

/// Copies what is left of the slices, as far as it fits; returns how many bytes.
fn gather(world: &World, sending: &Sending, into: &mut [u8]) -> usize {
    let mut skip = sending.sent;
    let mut gathered = 0;
    for slice in &sending.slices {
        let cut = skip.min(slice.len);
        skip -= cut;
        let room = u32::try_from(into.len() - gathered).expect("a scratch is small");
        let len = (slice.len - cut).min(room);
        if len > 0 {
            let part = Slice { offset: slice.offset + u64::from(cut), len };
            let end = gathered + usize::try_from(len).expect("u32 fits usize");
            world.arena().copy_out(part, &mut into[gathered..end]);
            gathered = end;
        }
    }
    gathered
}
