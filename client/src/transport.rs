//! The bytes' way to a broker: a trait for it, and TCP.

use std::io::{self, IoSlice, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

/// What came of trying to receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// This many bytes, at least one.
    Bytes(usize),
    /// Nothing is there now.
    Nothing,
    /// The peer has closed the connection.
    Closed,
}

/// What a wait shall end on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Bytes to receive.
    Receive,
    /// Bytes to receive, or room to send.
    ReceiveOrSend,
}

/// A connection that never blocks except in [`Transport::wait`].
pub trait Transport {
    /// Sends what is taken now, as much as possible in one go; 0 if nothing is taken.
    ///
    /// # Errors
    /// The connection is broken.
    fn send(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Receives what is there now.
    ///
    /// # Errors
    /// The connection is broken.
    fn receive(&mut self, space: &mut [u8]) -> io::Result<Received>;

    /// Waits until there is something to do or the deadline has passed. It may return early:
    /// callers look for themselves.
    ///
    /// # Errors
    /// The wait itself failed.
    fn wait(&mut self, interest: Interest, deadline: Instant) -> io::Result<()>;
}

/// How a transport waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IdleMode {
    /// Sleeps in the kernel until bytes arrive: costs no processor, and a wake-up's latency.
    #[default]
    Park,
    /// Asks again and again, yielding the processor each round: lowest latency, and a core in
    /// full use. Not yielding would starve the kernel's completion work.
    BusyPoll,
}

/// TCP with `TCP_NODELAY`, on a non-blocking socket.
#[derive(Debug)]
pub struct TcpTransport {
    stream: TcpStream,
    idle: IdleMode,
}

impl TcpTransport {
    /// Connects to the first of the addresses that answers, each within `timeout`.
    ///
    /// # Errors
    /// The name has no address, or none answers.
    pub fn connect(
        address: impl ToSocketAddrs,
        timeout: Duration,
        idle: IdleMode,
    ) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(stream) => return Self::from_stream(stream, idle),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Takes over a connected stream.
    ///
    /// # Errors
    /// The socket's options cannot be set.
    pub fn from_stream(stream: TcpStream, idle: IdleMode) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(TcpTransport { stream, idle })
    }

    /// The socket.
    pub const fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

impl AsFd for TcpTransport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Transport for TcpTransport {
    fn send(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            match self.stream.write_vectored(parts) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                result => return result,
            }
        }
    }

    fn receive(&mut self, space: &mut [u8]) -> io::Result<Received> {
        loop {
            match self.stream.read(space) {
                Ok(0) => return Ok(Received::Closed),
                Ok(count) => return Ok(Received::Bytes(count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Received::Nothing);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn wait(&mut self, interest: Interest, deadline: Instant) -> io::Result<()> {
        if self.idle == IdleMode::BusyPoll {
            rustix::thread::sched_yield();
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        let flags = match interest {
            Interest::Receive => PollFlags::IN,
            Interest::ReceiveOrSend => PollFlags::IN | PollFlags::OUT,
        };
        match rustix::event::poll(&mut [PollFd::new(&self.stream, flags)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
