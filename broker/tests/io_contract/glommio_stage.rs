//! The glommio backend on the same stage as the ring.

use std::net::TcpListener;

use engine::pool::Pool;
use pelton_broker::directory::DataDir;
use pelton_broker::io::glommio::{Glommio, Settings};
use pelton_broker::io::maintenance::Maintenance;
use pelton_broker::io::uring::Endpoints;
use pelton_broker::lock::Lock;
use tempfile::TempDir;

use crate::rig::Rig;
use crate::uring_stage::RealStage;

pub fn rig(pool: Pool) -> Rig {
    let dir = TempDir::new().expect("a temporary folder");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let maintenance = Maintenance::start(DataDir::new(dir.path().to_owned())).expect("a thread");
    let lock = Lock::take(dir.path()).expect("it is new").share().expect("a descriptor");
    let endpoints = Endpoints { listeners: vec![listener], stop: None, maintenance, lock };
    let settings = Settings { connections_max: 64, files_max: 16 };
    let io = Glommio::new(&pool, settings, endpoints, dir.path()).expect("io_uring is here");
    Rig::new(Box::new(RealStage { io, address, clients: Vec::new(), _dir: dir }), pool)
}
