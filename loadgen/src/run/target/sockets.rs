//! Connections to a broker, and the one place where a generator thread sleeps.

use client::transport::TcpTransport;
use client::{ClientError, Connection};
use rustix::event::epoll;
use std::io;
use std::os::fd::OwnedFd;

use super::{Target, connect_options};
use crate::run::work::Work;

const EVENTS_MAX: usize = 256;

/// TCP connections under one epoll.
pub(in crate::run) struct Sockets {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Sockets {
    /// None yet.
    pub(in crate::run) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, events: Vec::with_capacity(EVENTS_MAX) })
    }

    /// Connects to a broker; `lane` names the connection in [`Target::wait`].
    pub(in crate::run) fn dial(
        &self,
        address: &str,
        lane: usize,
    ) -> Result<Connection<TcpTransport>, ClientError> {
        let mut connection = Connection::connect(address, &connect_options())?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        let data = epoll::EventData::new_u64(lane as u64);
        epoll::add(&self.epoll, connection.parts_mut().1, data, flags)
            .map_err(|error| ClientError::Lost { source: Some(error.into()) })?;
        Ok(connection)
    }
}

impl Target for Sockets {
    type Transport = TcpTransport;

    fn connect(
        &mut self,
        work: &Work<'_>,
        lane: usize,
        number: u32,
    ) -> Result<Connection<TcpTransport>, ClientError> {
        self.dial(work.routing.address(number), lane)
    }

    fn hang_up(&self, connection: &mut Connection<TcpTransport>) {
        // It fails only where the connection is gone already.
        let _ = rustix::net::shutdown(connection.parts_mut().1, rustix::net::Shutdown::Both);
    }

    /// The kernel's workers, which finish what the broker writes, may need this core.
    fn rest(&self) {
        rustix::thread::sched_yield();
    }

    fn wait(&mut self, timeout_ns: u64, readable: &mut dyn FnMut(usize)) -> io::Result<()> {
        let timeout = rustix::time::Timespec {
            tv_sec: 0,
            tv_nsec: i64::try_from(timeout_ns).expect("sleeps are far below a second"),
        };
        self.events.clear();
        let spare = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, spare, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &self.events {
            let input = epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
            // Copied first: the kernel's struct is packed.
            let flags = event.flags;
            if flags.intersects(input) {
                readable(usize::try_from(event.data.u64()).expect("the number of a lane"));
            }
        }
        Ok(())
    }
}
