//! Where connections come from, and how several of them are waited for at once.

use std::io;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::transport::{IdleMode, Interest, TcpTransport, Transport};

/// A way to a broker's endpoints. Producers and consumers hold one connection per endpoint that
/// owns partitions of theirs, make lost ones again, and wait for all of them in one thread.
pub trait Network {
    /// A connection.
    type Transport: Transport + std::fmt::Debug;

    /// Connects to `HOST:PORT`.
    ///
    /// # Errors
    /// Nothing answers there.
    fn connect(&mut self, address: &str) -> io::Result<Self::Transport>;

    /// Waits until one of the connections has what is wanted of it, or the deadline has passed;
    /// with no connection at all, until the deadline. It may return early: callers look for
    /// themselves.
    ///
    /// # Errors
    /// The wait itself failed.
    fn wait(&mut self, waits: &[(&Self::Transport, Interest)], deadline: Instant)
    -> io::Result<()>;
}

/// TCP; it waits with one `poll` for all connections.
#[derive(Debug, Clone)]
pub struct TcpNetwork {
    connect_timeout: Duration,
    idle: IdleMode,
}

impl TcpNetwork {
    /// Connections are tried for so long, and waited for in this way.
    pub const fn new(connect_timeout: Duration, idle: IdleMode) -> Self {
        TcpNetwork { connect_timeout, idle }
    }
}

impl Network for TcpNetwork {
    type Transport = TcpTransport;

    fn connect(&mut self, address: &str) -> io::Result<TcpTransport> {
        TcpTransport::connect(address, self.connect_timeout, self.idle)
    }

    fn wait(&mut self, waits: &[(&TcpTransport, Interest)], deadline: Instant) -> io::Result<()> {
        // Without a connection there is nothing whose latency could suffer from sleeping.
        if self.idle == IdleMode::BusyPoll && !waits.is_empty() {
            rustix::thread::sched_yield();
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        let flags = |interest: &Interest| match interest {
            Interest::Receive => PollFlags::IN,
            Interest::ReceiveOrSend => PollFlags::IN | PollFlags::OUT,
        };
        let mut fds: Vec<PollFd<'_>> =
            waits.iter().map(|(transport, want)| PollFd::new(transport, flags(want))).collect();
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
