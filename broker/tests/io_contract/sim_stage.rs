//! The simulated backend on its stage.

use engine::pool::Pool;
use engine::port::{Now, Time};
use pelton_broker::io::Io;
use pelton_broker::io::sim::{
    ClientId, LinkBus, SharedDisk, SimDisk, SimIo, SimOptions, StreamEnd, Weather,
};

use crate::rig::{Peer, PeerEnd, Rig, Stage};

struct SimStage {
    io: SimIo,
    clients: Vec<ClientId>,
}

pub fn rig(pool: Pool, seed: u64) -> Rig {
    let io = io(&pool, SimDisk::new(seed).into(), seed);
    Rig::new(Box::new(SimStage { io, clients: Vec::new() }), pool)
}

/// Shards of one world.
pub fn linked(pools: Vec<Pool>, seed: u64) -> Vec<Rig> {
    let disk = SharedDisk::from(SimDisk::new(seed));
    let bus = LinkBus::new(u16::try_from(pools.len()).expect("a few"));
    let rig = |(shard, pool): (u16, Pool)| {
        let mut io = io(&pool, disk.clone(), seed ^ u64::from(shard));
        io.join(&bus, shard);
        Rig::new(Box::new(SimStage { io, clients: Vec::new() }), pool)
    };
    (0..).zip(pools).map(rig).collect()
}

fn io(pool: &Pool, disk: SharedDisk, seed: u64) -> SimIo {
    let options = SimOptions {
        seed,
        start: Now { time: Time(5_000), wall_ns: 1_700_000_000_000_000_000 },
        connections_max: 64,
        client_window_bytes: 100_000,
        weather: Weather::default(),
    };
    SimIo::new(pool.shared_arena(), pool.recv_region(), disk, &options)
}

impl Stage for SimStage {
    fn io(&mut self) -> &mut dyn Io {
        &mut self.io
    }

    fn connect(&mut self) -> Peer {
        self.clients.push(self.io.connect());
        self.clients.len() - 1
    }

    fn send(&mut self, peer: Peer, bytes: &[u8]) {
        self.io.client_send(self.clients[peer], bytes);
    }

    fn shutdown(&mut self, peer: Peer) {
        self.io.client_shutdown(self.clients[peer]);
    }

    fn reset(&mut self, peer: Peer) {
        self.io.client_reset(self.clients[peer]);
    }

    fn receive(&mut self, peer: Peer, into: &mut Vec<u8>) -> Option<PeerEnd> {
        let end = self.io.client_receive(self.clients[peer], usize::MAX, into)?;
        Some(match end {
            StreamEnd::Eof => PeerEnd::Eof,
            StreamEnd::Reset => PeerEnd::Reset,
        })
    }
}
