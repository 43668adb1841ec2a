//! A broker from its configuration to its end: what is checked, in which order it comes up, and
//! what it says on stderr.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use engine::Shard;
use engine::boot::{BootReport, boot_within};
use engine::pool::Arenas;
use engine::settings::Settings;
use rustix::process::{Resource, Rlimit};
use rustix::thread::CpuSet;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::backend::Backend;
use crate::banner::Banner;
use crate::clock;
use crate::config::Config;
use crate::device::{Calibration, Device};
use crate::directory::DataDir;
use crate::disk::FileDisk;
use crate::io::maintenance::Maintenance;
use crate::io::uring::{self, Endpoints, SyncMethod, Uring, Ways};
use crate::listen::Listening;
use crate::lock::Lock;
use crate::mesh::{Mesh, MeshEnd};
use crate::notices;
use crate::run::{Pace, TURN_DONES_MAX};
use crate::spares;
use crate::threads::{self, Prepared};

/// Descriptors that a shard needs besides connections and files.
const DESCRIPTORS_OWN: usize = 64;
/// Connections and files with which a shard is of some use.
const DESCRIPTORS_MIN: usize = 256;

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

    pub(crate) fn setup(reason: impl fmt::Display) -> ServeError {
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

/// Connections beyond the limit that may be open at once, until they are refused.
const CONNECTIONS_REFUSED_MAX: usize = 16;

/// Runs a broker until SIGTERM or SIGINT; then finishes what is in flight and comes back.
/// Prints a banner and, when clients can connect, the line `ready listen=HOST:PORT` on stderr.
pub fn serve(config: &Config) -> Result<(), ServeError> {
    if let Some(sentence) = config.invalid() {
        return Err(ServeError::Setup(sentence));
    }
    let lock = Lock::take(&config.data_dir).map_err(ServeError::setup)?;
    let result = serve_locked(config, &lock);
    if result.is_err() {
        // Other shards may still be at work: only the end of the process frees the directory.
        std::mem::forget(lock);
    }
    result
}

fn serve_locked(config: &Config, lock: &Lock) -> Result<(), ServeError> {
    // Before anything is written: without a ring there is no broker.
    Uring::probe().map_err(ServeError::setup)?;
    let cores = choose_cores(config)?;
    let device = Device::probe(&config.data_dir).map_err(ServeError::setup)?;
    let calibration = Calibration::measure(&config.data_dir).map_err(ServeError::setup)?;
    let address = config.address().map_err(ServeError::Setup)?;
    let listening =
        Listening::open(address, config.shards(), config.shard_ports).map_err(ServeError::setup)?;
    let (address, shard_ports) = (listening.address, listening.shard_ports.clone());
    let mut ways = config.tuning.ways(&calibration);
    if config.io == Backend::Glommio {
        // Its files are opened so that every write is durable.
        ways.sync = SyncMethod::Dsync;
    }
    let (shards, recovery, took) = prepare(config, ways, &cores, listening, lock)?;
    notices::of_recovery(&recovery);
    let recovery = format!("{recovery}, {} ms", took.as_millis());
    threads::run(shards, |backend| {
        Banner {
            backend: &backend,
            device: &device,
            calibration: &calibration,
            sync: ways.sync,
            data_dir: &config.data_dir,
            knobs: &config.changed_knobs(),
            memory_bytes: config.memory_bytes,
            cores: &cores,
            shard_ports: &shard_ports,
            recovery: &recovery,
            address,
        }
        .print();
    })
}

/// Recovers the data and readies the shards. Tells what recovery found, and how long it took.
fn prepare(
    config: &Config,
    ways: Ways,
    cores: &[usize],
    listening: Listening,
    lock: &Lock,
) -> Result<(Vec<Prepared>, BootReport, Duration), ServeError> {
    let dir = DataDir::new(config.data_dir.clone());
    let kept = config.recycle_bytes.saturating_mul(u64::from(config.shards()));
    let spares = spares::prepare(&dir, config.prepare_bytes, kept, config.segment_bytes)
        .map_err(ServeError::setup)?;
    let mut settings = config.engine_settings();
    let ring = ring_settings(&mut settings, config.io, ways)?;
    let mut disk = FileDisk::new(dir.clone());
    let mut arenas = Arenas::default();
    let pages = gather_meanwhile(&mut arenas, &settings, config.io, cores);
    let began = Instant::now();
    let (shards, report) = boot_within(&mut arenas, &settings, &mut disk, clock::now(), seed()?)
        .map_err(|error| ServeError::Setup(format!("{}: {error}", config.data_dir.display())))?;
    let took = began.elapsed();
    for thread in pages {
        thread.join().map_err(|_| ServeError::Failed("a thread panicked".to_owned()))?;
    }
    let endpoints = listening.endpoints(config.advertised_host.as_deref().unwrap_or_default());
    // What was zeroed before there were shards is told by the first.
    let mut bytes_zeroed = spares.bytes_zeroed + disk.bytes_zeroed();
    let pace =
        Pace { spin_ns: config.spin_us.saturating_mul(1000), turn_dones_max: TURN_DONES_MAX };
    let mut ends = mesh_ends(&shards).into_iter();
    let mut stops = stop_signals(shards.len())
        .map_err(|error| ServeError::Failed(format!("no signal handlers: {error}")))?
        .into_iter();
    let mut prepared = Vec::new();
    for ((mut shard, &core), listeners) in shards.into_iter().zip(cores).zip(listening.sockets) {
        shard.set_endpoints(endpoints.clone());
        let maintenance = Maintenance::start(dir.clone())
            .map_err(|error| ServeError::Failed(format!("no maintenance thread: {error}")))?;
        let lock = lock.share().map_err(|error| ServeError::Failed(format!("no lock: {error}")))?;
        prepared.push(Prepared {
            shard,
            mesh: ends.next(),
            endpoints: Endpoints { listeners, stop: stops.next(), maintenance, lock },
            io: config.io,
            data_dir: config.data_dir.clone(),
            ring,
            pace,
            core,
            bytes_zeroed: std::mem::take(&mut bytes_zeroed),
        });
    }
    Ok((prepared, report, took))
}

/// Makes the pages of each shard's memory, on its core, while recovery waits for the disk: that
/// takes up to a second.
fn gather_meanwhile(
    arenas: &mut Arenas,
    settings: &Settings,
    io: Backend,
    cores: &[usize],
) -> Vec<JoinHandle<()>> {
    if io != Backend::Uring {
        return Vec::new();
    }
    let start = |&core: &usize| {
        let arena = arenas.make_ahead(settings.recv, settings.pool_bytes);
        let gather = move || {
            // A core that cannot be used is named when the shard starts there.
            if threads::pin(core).is_ok() {
                uring::gather_pages(&arena);
            }
        };
        // Without a thread to spare the backend makes them later.
        thread::Builder::new().name("pages".to_owned()).spawn(gather).ok()
    };
    cores.iter().filter_map(start).collect()
}

/// An end of the mesh for each shard; none for one that is alone.
fn mesh_ends(shards: &[Shard]) -> Vec<MeshEnd> {
    if shards.len() < 2 {
        return Vec::new();
    }
    Mesh::weave(shards.iter().map(|shard| shard.pool().shared_arena()).collect())
}

/// The CPU of each shard: those that are named, or else those that are allowed, in turn.
fn choose_cores(config: &Config) -> Result<Vec<usize>, ServeError> {
    let allowed = rustix::thread::sched_getaffinity(None)
        .map_err(|errno| ServeError::Failed(format!("the CPUs are not known: {errno}")))?;
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    if let Some(core) = config.cores.iter().find(|core| !allowed.contains(core)) {
        return Err(ServeError::Setup(format!(
            "cores names CPU {core}, but this process may run on {allowed:?} only: choose one of \
             those"
        )));
    }
    let named = if config.cores.is_empty() { &allowed } else { &config.cores };
    let in_turn = named.iter().copied().cycle();
    Ok(in_turn.take(usize::from(config.shards())).collect())
}

/// Raises the limit on open files as far as it goes, and fits the tables below it: each ring's
/// table must not be longer than the limit, and the files of all shards are open at once.
fn ring_settings(
    settings: &mut Settings,
    backend: Backend,
    ways: Ways,
) -> Result<uring::Settings, ServeError> {
    let shards = usize::from(settings.shards);
    let per_file = shards * backend.descriptors_per_file();
    let own = DESCRIPTORS_OWN * shards + CONNECTIONS_REFUSED_MAX;
    let wanted = settings.connections_max + settings.files_max * per_file + own;
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let number = |size: usize| u64::try_from(size).unwrap_or(u64::MAX);
    let available = limit.maximum.unwrap_or(u64::MAX).min(number(wanted));
    if limit.current.is_some_and(|current| current < available) {
        let raised = Rlimit { current: Some(available), maximum: limit.maximum };
        // If this fails, registering the file table says so with the fix.
        let _ = rustix::process::setrlimit(Resource::Nofile, raised);
    }
    if available < number(wanted) {
        let places = usize::try_from(available).unwrap_or(usize::MAX).saturating_sub(own);
        if places < DESCRIPTORS_MIN * shards {
            return Err(ServeError::Setup(format!(
                "this process may open {available} files only: raise the limit (ulimit -n {})",
                4096 * shards
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
        ways,
        ..uring::Settings::default()
    })
}

fn seed() -> Result<u128, ServeError> {
    let mut seed = [0; 16];
    getrandom::fill(&mut seed)
        .map_err(|error| ServeError::Failed(format!("no random seed: {error}")))?;
    Ok(u128::from_ne_bytes(seed))
}

/// A socket for each shard that becomes readable at SIGTERM or SIGINT. A second SIGINT ends the
/// process.
fn stop_signals(shards: usize) -> io::Result<Vec<OwnedFd>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register_conditional_shutdown(SIGINT, 130, Arc::clone(&interrupted))?;
    signal_hook::flag::register(SIGINT, interrupted)?;
    let mut stops = Vec::new();
    for _ in 0..shards {
        let (readable, writable) = UnixStream::pair()?;
        signal_hook::low_level::pipe::register(SIGTERM, writable.try_clone()?)?;
        signal_hook::low_level::pipe::register(SIGINT, writable)?;
        stops.push(readable.into());
    }
    Ok(stops)
}
