//! The ring backend on its stage: a temporary folder, and a loopback listener on a free port.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use engine::pool::Pool;
use pelton_broker::directory::DataDir;
use pelton_broker::io::Io;
use pelton_broker::io::maintenance::Maintenance;
use pelton_broker::io::uring::{Buffers, Endpoints, Receive, Settings, SyncMethod, Uring, Ways};
use pelton_broker::lock::Lock;
use pelton_broker::mesh::Mesh;
use tempfile::TempDir;

use crate::rig::{Peer, PeerEnd, Rig, Stage};

pub struct Client {
    /// None once it was reset.
    stream: Option<TcpStream>,
    /// What the socket had no room for yet.
    outbox: Vec<u8>,
    is_ending: bool,
}

/// A real backend, its clients and its folder.
pub struct RealStage<I> {
    pub io: I,
    pub address: SocketAddr,
    pub clients: Vec<Client>,
    pub _dir: TempDir,
}

pub fn rig(pool: Pool) -> Rig {
    let stage = stage(&pool, Ways::USUAL);
    Rig::new(Box::new(stage), pool)
}

/// Every knob of the ring the other way round.
pub fn rig_of_other_ways(pool: Pool) -> Rig {
    let (buffers, receive, sync) = (Buffers::Plain, Receive::Single, SyncMethod::Fsync);
    let stage = stage(&pool, Ways { buffers, receive, sync });
    Rig::new(Box::new(stage), pool)
}

/// Shards of one process.
pub fn linked(pools: Vec<Pool>) -> Vec<Rig> {
    let ends = Mesh::weave(pools.iter().map(Pool::shared_arena).collect());
    let rig = |(end, pool)| {
        let mut stage = stage(&pool, Ways::USUAL);
        stage.io.join(end).expect("a descriptor is free");
        Rig::new(Box::new(stage), pool)
    };
    ends.into_iter().zip(pools).map(rig).collect()
}

fn stage(pool: &Pool, ways: Ways) -> RealStage<Uring> {
    let dir = TempDir::new().expect("a temporary folder");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let maintenance = Maintenance::start(DataDir::new(dir.path().to_owned())).expect("a thread");
    let lock = Lock::take(dir.path()).expect("it is new").share().expect("a descriptor");
    let endpoints = Endpoints { listeners: vec![listener], stop: None, maintenance, lock };
    let settings = Settings { connections_max: 64, files_max: 16, ways, ..Settings::default() };
    let io = Uring::new(pool, settings, endpoints).expect("io_uring is here");
    RealStage { io, address, clients: Vec::new(), _dir: dir }
}

impl Client {
    fn pump(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        while !self.outbox.is_empty() {
            match stream.write(&self.outbox) {
                Ok(count) => drop(self.outbox.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("the broker is there: {error}"),
            }
        }
        if std::mem::take(&mut self.is_ending) {
            stream.shutdown(Shutdown::Write).expect("it was open");
        }
    }
}

impl<I: Io> Stage for RealStage<I> {
    fn io(&mut self) -> &mut dyn Io {
        self.clients.iter_mut().for_each(Client::pump);
        &mut self.io
    }

    fn connect(&mut self) -> Peer {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_nonblocking(true).expect("sockets can");
        stream.set_nodelay(true).expect("sockets can");
        self.clients.push(Client { stream: Some(stream), outbox: Vec::new(), is_ending: false });
        self.clients.len() - 1
    }

    fn send(&mut self, peer: Peer, bytes: &[u8]) {
        self.clients[peer].outbox.extend_from_slice(bytes);
        self.clients[peer].pump();
    }

    fn shutdown(&mut self, peer: Peer) {
        self.clients[peer].is_ending = true;
        self.clients[peer].pump();
    }

    fn reset(&mut self, peer: Peer) {
        let stream = self.clients[peer].stream.take().expect("it was open");
        // Closing without lingering resets.
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))
            .expect("sockets can");
    }

    fn receive(&mut self, peer: Peer, into: &mut Vec<u8>) -> Option<PeerEnd> {
        let stream = self.clients[peer].stream.as_mut().expect("it is open");
        let mut bytes = [0; 16 * 1024];
        loop {
            match stream.read(&mut bytes) {
                Ok(0) => return Some(PeerEnd::Eof),
                Ok(count) => into.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return Some(PeerEnd::Reset);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}
