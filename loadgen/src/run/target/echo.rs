//! The `echo` target: the sink behind loopback sockets, on the cores that a broker would get. What
//! it reaches is the most that generator and sockets can do together.

use rustix::event::epoll;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::sink::{Proof, Sink, SinkCounters};
use crate::cores::pin_to;

/// Bytes that are read at once.
const READ_BYTES: usize = 256 << 10;
const EVENTS_MAX: usize = 256;
/// It sleeps no longer than this, so that it notices its end.
const SLEEP_NS_MAX: i64 = 20_000_000;
/// It polls this many rounds in vain before it sleeps.
const SPIN_ROUNDS: u32 = 100;
/// The name of the listener among the connections.
const LISTENER: u64 = u64::MAX;

/// A listening sink with a thread of its own. Dropping it ends the thread.
#[derive(Debug)]
pub(in crate::run) struct EchoServer {
    address: String,
    counters: Arc<SinkCounters>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl EchoServer {
    /// Listens on loopback, on `cores`.
    pub(in crate::run) fn start(cores: &[usize]) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?.to_string();
        let counters = Arc::new(SinkCounters::default());
        let stop = Arc::new(AtomicBool::new(false));
        let mut server = Server::new(listener, Arc::clone(&counters), Arc::clone(&stop))?;
        let cores = cores.to_vec();
        let thread = std::thread::Builder::new().name("echo".to_owned()).spawn(move || {
            // Where it runs matters for the figures only.
            let _ = pin_to(&cores);
            server.run();
        })?;
        Ok(Self { address, counters, stop, thread: Some(thread) })
    }

    /// HOST:PORT.
    pub(in crate::run) fn address(&self) -> &str {
        &self.address
    }

    /// What it has taken.
    pub(in crate::run) fn counters(&self) -> &Arc<SinkCounters> {
        &self.counters
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

struct Server {
    listener: TcpListener,
    counters: Arc<SinkCounters>,
    stop: Arc<AtomicBool>,
    epoll: OwnedFd,
    connections: Vec<Option<Peer>>,
    space: Vec<u8>,
}

struct Peer {
    stream: TcpStream,
    sink: Sink,
    outgoing: Vec<u8>,
}

impl Server {
    fn new(
        listener: TcpListener,
        counters: Arc<SinkCounters>,
        stop: Arc<AtomicBool>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        add(&epoll, &listener, LISTENER, epoll::EventFlags::IN)?;
        let space = vec![0; READ_BYTES];
        Ok(Self { listener, counters, stop, epoll, connections: Vec::new(), space })
    }

    fn run(&mut self) {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let mut idle_rounds = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let tv_nsec = if idle_rounds < SPIN_ROUNDS { 0 } else { SLEEP_NS_MAX };
            let timeout = rustix::time::Timespec { tv_sec: 0, tv_nsec };
            events.clear();
            let spare = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, spare, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            idle_rounds = if events.is_empty() { idle_rounds.saturating_add(1) } else { 0 };
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept(),
                    number => self.serve(usize::try_from(number).expect("an index")),
                }
            }
            // As every loop that polls.
            rustix::thread::sched_yield();
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let number = self.connections.len();
            let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
            let ready = stream.set_nonblocking(true).is_ok()
                && stream.set_nodelay(true).is_ok()
                && add(&self.epoll, &stream, number as u64, flags).is_ok();
            let sink = Sink::new(&self.counters, Proof::Batches);
            let peer = Peer { stream, sink, outgoing: Vec::new() };
            self.connections.push(ready.then_some(peer));
        }
    }

    /// Reads, answers and writes until the socket has and takes no more.
    fn serve(&mut self, number: usize) {
        let Some(peer) = &mut self.connections[number] else { return };
        if peer.exchange(&mut self.space).is_none() {
            self.connections[number] = None;
        }
    }
}

impl Peer {
    /// `None` once the connection is of no more use.
    fn exchange(&mut self, space: &mut [u8]) -> Option<()> {
        loop {
            self.flush()?;
            // Who does not take its answers is not listened to.
            if !self.outgoing.is_empty() {
                return Some(());
            }
            match self.stream.read(space) {
                Ok(0) => return None,
                Ok(count) => {
                    self.sink.take([&space[..count]].into_iter(), &mut self.outgoing).ok()?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Some(()),
                Err(_) => return None,
            }
        }
    }

    fn flush(&mut self) -> Option<()> {
        while !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(count) => drop(self.outgoing.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Some(()),
                Err(_) => return None,
            }
        }
        Some(())
    }
}

fn add(
    epoll: &OwnedFd,
    source: &impl AsFd,
    number: u64,
    flags: epoll::EventFlags,
) -> io::Result<()> {
    epoll::add(epoll, source, epoll::EventData::new_u64(number), flags)?;
    Ok(())
}
