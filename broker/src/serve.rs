//! A broker from its configuration to its end: what is checked, in which order it comes up, and
//! what it says on stderr.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use engine::Shard;
use engine::boot::{BootReport, boot};
use engine::counters::IoCounters;
use engine::pool::Pool;
use engine::port::{Done, Now, OpBatch, Time};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, Rlimit};
use rustix::thread::CpuSet;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::backend::{Backend, Reporting};
use crate::banner::Banner;
use crate::clock;
use crate::config::Config;
use crate::device::{Calibration, Device, Lock};
use crate::directory::DataDir;
use crate::disk::FileDisk;
#[cfg(feature = "glommio")]
use crate::io::glommio::{self, Glommio};
use crate::io::maintenance::Maintenance;
use crate::io::uring::{self, Endpoints, Uring};
use crate::run::{Logic, Pace, Turns, turn};
use crate::spares;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// Descriptors that the process needs besides connections and files.
const DESCRIPTORS_OWN: u64 = 64;

/// Why a broker did not start, or stopped by itself. One sentence with the fix.
#[derive(Debug)]
pub enum ServeError {
    /// It could not start: the configuration or the machine must change.
    Setup(String),
    /// It failed while it ran.
    Failed(String),
}

impl ServeError {
    /// The exit code of a process that ends with this.
    pub const fn exit_code(&self) -> u8 {
        match self {
            ServeError::Setup(_) => 2,
            ServeError::Failed(_) => 1,
        }
    }

    fn setup(reason: impl fmt::Display) -> ServeError {
        ServeError::Setup(reason.to_string())
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Setup(sentence) | ServeError::Failed(sentence) => f.write_str(sentence),
        }
    }
}

impl std::error::Error for ServeError {}

impl Logic for Shard {
    fn handle(&mut self, now: Now, done: Done) {
        Shard::handle(self, now, done);
    }

    fn decide(&mut self, now: Now, batch: &mut OpBatch) {
        Shard::decide(self, now, batch);
    }

    fn deadline(&self) -> Option<Time> {
        Shard::deadline(self)
    }

    fn is_eager(&self) -> bool {
        Shard::is_eager(self)
    }
}

/// Connections beyond the limit that may be open at once, until they are refused.
const CONNECTIONS_REFUSED_MAX: usize = 16;

/// Everything that is ready before the shard's thread starts.
struct Prepared {
    shard: Shard,
    report: BootReport,
    endpoints: Endpoints,
    io: Backend,
    ring: uring::Settings,
    pace: Pace,
    core: usize,
    address: SocketAddr,
    device: Device,
    calibration: Calibration,
    bytes_zeroed: u64,
    data_dir: DataDir,
    memory_bytes: u64,
    knobs: Vec<String>,
}

/// Runs a broker until SIGTERM or SIGINT; then finishes what is in flight and comes back.
/// Prints a banner and, when clients can connect, the line `ready listen=HOST:PORT` on stderr.
pub fn serve(config: &Config) -> Result<(), ServeError> {
    if let Some(sentence) = config.invalid() {
        return Err(ServeError::Setup(sentence));
    }
    let _lock = Lock::take(&config.data_dir).map_err(ServeError::setup)?;
    let prepared = prepare(config)?;
    let shard = thread::Builder::new()
        .name("shard-0".to_owned())
        .spawn(move || run_shard(prepared))
        .map_err(|error| ServeError::Failed(format!("the shard's thread cannot start: {error}")))?;
    match shard.join() {
        Ok(result) => result,
        Err(_) => Err(ServeError::Failed("the shard panicked: see the message above".to_owned())),
    }
}

fn prepare(config: &Config) -> Result<Prepared, ServeError> {
    // Before anything is written: without a ring there is no broker.
    Uring::probe().map_err(ServeError::setup)?;
    let core = choose_core(&config.cores)?;
    let device = Device::probe(&config.data_dir).map_err(ServeError::setup)?;
    let calibration = Calibration::measure(&config.data_dir).map_err(ServeError::setup)?;
    let (listener, address) = listen(config)?;
    let dir = DataDir::new(config.data_dir.clone());
    let spares = spares::prepare(&dir, config.prepare_bytes, config.segment_bytes)
        .map_err(ServeError::setup)?;
    let mut settings = config.engine_settings();
    settings.spares = spares.numbers;
    let ring = ring_settings(&mut settings, config.io)?;
    let mut disk = FileDisk::new(dir.clone());
    let (mut shards, report) = boot(&settings, &mut disk, clock::now(), seed()?)
        .map_err(|error| ServeError::Setup(format!("{}: {error}", config.data_dir.display())))?;
    let mut shard = shards.pop().expect("one shard");
    let host = config.advertised_host.clone().unwrap_or_default();
    shard.set_endpoints(vec![(host, address.port())]);
    let maintenance = Maintenance::start(dir.clone())
        .map_err(|error| ServeError::Failed(format!("no maintenance thread: {error}")))?;
    let stop = stop_signal()
        .map_err(|error| ServeError::Failed(format!("no signal handlers: {error}")))?;
    Ok(Prepared {
        shard,
        report,
        endpoints: Endpoints { listeners: vec![listener], stop: Some(stop), maintenance },
        io: config.io,
        ring,
        pace: Pace {
            spin_ns: config.spin_us.saturating_mul(1000),
            turn_dones_max: config.turn_dones_max,
        },
        core,
        address,
        device,
        calibration,
        bytes_zeroed: spares.bytes_zeroed + disk.bytes_zeroed(),
        data_dir: dir,
        memory_bytes: config.memory_bytes,
        knobs: config.changed_knobs(),
    })
}

/// The life of the shard's thread.
fn run_shard(prepared: Prepared) -> Result<(), ServeError> {
    let core = prepared.core;
    let mut cpus = CpuSet::new();
    cpus.set(core);
    rustix::thread::sched_setaffinity(None, &cpus)
        .map_err(|errno| ServeError::Setup(format!("CPU {core} cannot be used ({errno})")))?;
    match prepared.io {
        Backend::Uring => {
            live(prepared, |pool, ring, endpoints, _| Uring::new(pool, ring, endpoints))
        }
        #[cfg(feature = "glommio")]
        Backend::Glommio => live(prepared, |pool, ring, endpoints, data_dir| {
            let uring::Settings { connections_max, files_max, .. } = ring;
            let settings = glommio::Settings { connections_max, files_max };
            Glommio::new(pool, settings, endpoints, data_dir)
        }),
        #[cfg(not(feature = "glommio"))]
        Backend::Glommio => unreachable!("such a configuration is refused"),
    }
}

/// The same on a backend that `make` makes.
fn live<I: Reporting, E: fmt::Display>(
    prepared: Prepared,
    make: impl FnOnce(&Pool, uring::Settings, Endpoints, &Path) -> Result<I, E>,
) -> Result<(), ServeError> {
    let Prepared { mut shard, endpoints, ring, pace, core, bytes_zeroed, .. } = prepared;
    let root = prepared.data_dir.root();
    let mut io = make(shard.pool(), ring, endpoints, root).map_err(ServeError::setup)?;
    Banner {
        backend: &io.describe(),
        device: &prepared.device,
        calibration: &prepared.calibration,
        data_dir: root,
        knobs: &prepared.knobs,
        memory_bytes: prepared.memory_bytes,
        core,
        recovery: &prepared.report,
        address: prepared.address,
    }
    .print();
    let mut turns = Turns::new(pace);
    while !shard.is_stopped() {
        turn(&mut shard, &mut io, &mut turns)
            .map_err(|error| ServeError::Failed(format!("the ring failed: {error}")))?;
        let (loops, own) = (turns.counters(), io.count());
        shard.report_io(IoCounters {
            spin_rounds_empty: loops.spin_rounds_empty,
            spin_empty_ns: loops.spin_empty_ns,
            parks: loops.parks,
            bytes_zeroed: bytes_zeroed + own.bytes_zeroed,
            ..own
        });
    }
    // Clients whose connection ends here are sent to this log for the reason.
    tracing::info!("stopped by a signal: what was in flight is finished");
    Ok(())
}

fn choose_core(cores: &[usize]) -> Result<usize, ServeError> {
    let allowed = rustix::thread::sched_getaffinity(None)
        .map_err(|errno| ServeError::Failed(format!("the CPUs are not known: {errno}")))?;
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    match cores.first() {
        None => Ok(allowed.first().copied().unwrap_or(0)),
        Some(core) if allowed.contains(core) => Ok(*core),
        Some(core) => Err(ServeError::Setup(format!(
            "cores names CPU {core}, but this process may run on {allowed:?} only: choose one of \
             those"
        ))),
    }
}

fn listen(config: &Config) -> Result<(TcpListener, SocketAddr), ServeError> {
    let address = config.address().map_err(ServeError::Setup)?;
    let bound = bind(address).and_then(|listener| {
        let address = listener.local_addr().map_err(|_| Errno::IO)?;
        Ok((listener, address))
    });
    bound.map_err(|errno| {
        ServeError::Setup(match errno {
            Errno::ADDRINUSE => format!(
                "the port {} is in use: stop who has it, or listen on another (0 takes a free one)",
                address.port()
            ),
            errno => format!("{address} cannot be listened on ({errno}): choose another address"),
        })
    })
}

/// Accepted sockets inherit the listener's options.
fn bind(address: SocketAddr) -> Result<TcpListener, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// Raises the limit on open files as far as it goes, and fits the tables below it.
fn ring_settings(
    settings: &mut engine::settings::Settings,
    backend: Backend,
) -> Result<uring::Settings, ServeError> {
    let per_file = backend.descriptors_per_file();
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let places = settings.connections_max + CONNECTIONS_REFUSED_MAX + settings.files_max * per_file;
    let wanted = u64::try_from(places).unwrap_or(u64::MAX).saturating_add(DESCRIPTORS_OWN);
    let available = limit.maximum.unwrap_or(u64::MAX).min(wanted);
    if limit.current.is_some_and(|current| current < available) {
        let raised = Rlimit { current: Some(available), maximum: limit.maximum };
        // If this fails, registering the file table says so with the fix.
        let _ = rustix::process::setrlimit(Resource::Nofile, raised);
    }
    if available < wanted {
        let own = DESCRIPTORS_OWN + u64::try_from(CONNECTIONS_REFUSED_MAX).expect("16");
        let places = usize::try_from(available.saturating_sub(own)).unwrap_or(0);
        if places < 256 {
            return Err(ServeError::Setup(format!(
                "this process may open {available} files only: raise the limit (ulimit -n 4096)"
            )));
        }
        settings.files_max = settings.files_max.min(places / 2 / per_file);
        let left = places - settings.files_max * per_file;
        settings.connections_max = settings.connections_max.min(left);
    }
    let count = |size: usize| u32::try_from(size).expect("tables are small");
    Ok(uring::Settings {
        // A few more than the engine wants, so that it is the one who refuses, and says so.
        connections_max: count(settings.connections_max + CONNECTIONS_REFUSED_MAX),
        files_max: count(settings.files_max),
        ..uring::Settings::default()
    })
}

fn seed() -> Result<u128, ServeError> {
    let mut seed = [0; 16];
    getrandom::fill(&mut seed)
        .map_err(|error| ServeError::Failed(format!("no random seed: {error}")))?;
    Ok(u128::from_ne_bytes(seed))
}

/// A socket that becomes readable at SIGTERM or SIGINT. A second SIGINT ends the process.
fn stop_signal() -> io::Result<OwnedFd> {
    let (readable, writable) = UnixStream::pair()?;
    let interrupted = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register_conditional_shutdown(SIGINT, 130, Arc::clone(&interrupted))?;
    signal_hook::flag::register(SIGINT, interrupted)?;
    signal_hook::low_level::pipe::register(SIGTERM, writable.try_clone()?)?;
    signal_hook::low_level::pipe::register(SIGINT, writable)?;
    Ok(readable.into())
}
