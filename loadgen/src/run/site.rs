//! Where runs happen: the broker, the cores, and the limits of the machine around it.

use client::{ConnectOptions, Connection};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::RunError;
use super::broker_process::{BrokerProcess, Program, Usage};
use super::choices::{Pin, TargetChoice};
use super::options::RunArgs;
use super::target::{EchoServer, SinkCounters};
use super::work::Reach;
use crate::cores::{CoreSplit, pin_to};
use crate::floor::{CellChoice, Floor, IdleMode, Neighbour, Setting, SliceBudget};
use crate::report::{Environment, FloorFigures, Run, Target, Validity};
use crate::validity::Reason;

/// Before the first window: every disk cell is tried.
pub(super) const FIRST_SLICE: SliceBudget = SliceBudget {
    durable_write: Duration::from_millis(400),
    plain_write: Duration::from_millis(200),
    echo: Duration::from_millis(250),
    disk_cell: Duration::from_millis(20),
    disk_cells: CellChoice::All,
    loopback: Duration::from_millis(200),
    lateness: Duration::from_millis(300),
};
/// After the last window: the best cells again.
pub(super) const LAST_SLICE: SliceBudget = SliceBudget {
    durable_write: Duration::from_millis(400),
    plain_write: Duration::from_millis(200),
    echo: Duration::from_millis(250),
    disk_cell: Duration::from_millis(60),
    disk_cells: CellChoice::Best(3),
    loopback: Duration::from_millis(200),
    lateness: Duration::from_millis(300),
};
/// The broker has gone to sleep this long after its last traffic.
const BROKER_IDLE_AFTER: Duration = Duration::from_millis(20);

enum Broker {
    Spawned(BrokerProcess),
    Running(String),
    /// Answers questions for `null`, and everything for `echo`.
    Sink(EchoServer, SinkKind),
}

/// Where requests to a sink go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SinkKind {
    Null,
    Echo,
}

/// A broker to measure, with a connection of its own for questions.
pub(super) struct Site {
    pub(super) control: Connection,
    pub(super) cores: CoreSplit,
    pub(super) abort: Arc<AtomicBool>,
    pub(super) environment: Environment,
    pub(super) pin: Pin,
    floor: Option<Floor>,
    flags: Vec<String>,
    binary: Option<PathBuf>,
    broker: Broker,
    /// A broker that somebody else runs is not there any more: why that is said.
    lost: Option<String>,
    /// What this thread might use before.
    allowed: Vec<usize>,
}

impl Site {
    /// Starts or finds the broker that `args` name.
    pub(super) fn open(args: &RunArgs, abort: Arc<AtomicBool>) -> Result<Self, RunError> {
        Self::open_in(None, args, abort)
    }

    /// Starts a broker on a data directory that is there already.
    pub(super) fn open_on(
        dir: &Path,
        args: &RunArgs,
        abort: Arc<AtomicBool>,
    ) -> Result<Self, RunError> {
        Self::open_in(Some(dir), args, abort)
    }

    fn open_in(
        dir: Option<&Path>,
        args: &RunArgs,
        abort: Arc<AtomicBool>,
    ) -> Result<Self, RunError> {
        let allowed = crate::cores::allowed()?;
        let split = CoreSplit::of(&allowed);
        let cores = match args.pin {
            Pin::Split => split.clone(),
            Pin::None => CoreSplit { broker: allowed.clone(), generator: allowed.clone() },
        };
        let flags = args.serve_flags();
        raise_descriptor_limit();
        let broker = match &args.target {
            TargetChoice::Spawn => {
                let binary = args.broker_binary.clone();
                let program = Program { binary, cores: cores.broker.clone(), flags: flags.clone() };
                Broker::Spawned(match dir {
                    Some(dir) => BrokerProcess::start_on(dir, program, &abort)?,
                    None => BrokerProcess::start(args.data_dir.as_deref(), program, &abort)?,
                })
            }
            TargetChoice::Address(address) => Broker::Running(address.clone()),
            TargetChoice::Null => Broker::Sink(EchoServer::start(&cores.broker)?, SinkKind::Null),
            TargetChoice::Echo => Broker::Sink(EchoServer::start(&cores.broker)?, SinkKind::Echo),
        };
        // Before this thread gives up the broker's cores: it counts those that are allowed.
        let environment = Environment::read(broker.data_dir().as_deref());
        // This thread sleeps most of the time, but must not wake up on the broker's core. Where
        // there is no broker, it need not wake up on the generator's either.
        let watching = match args.target {
            TargetChoice::Null => &cores.broker,
            TargetChoice::Spawn | TargetChoice::Address(_) | TargetChoice::Echo => &cores.generator,
        };
        pin_to(watching)?;
        let control = broker.connect()?;
        if environment.memory_file_system() == Some(true) && !args.quiet {
            eprintln!(
                "warning: the data directory is on a memory file system: no figure of this run \
                 says anything about a disk (choose one with --data-dir)"
            );
        }
        let floor = args.floor.then(|| Floor::new(setting(args, &split, &broker)));
        let pin = args.pin;
        let binary = args.broker_binary.clone();
        Ok(Self {
            control,
            cores,
            abort,
            environment,
            pin,
            floor,
            flags,
            binary,
            broker,
            lost: None,
            allowed,
        })
    }

    /// Starts a spawned broker again, with none of its data in memory.
    pub(super) fn restart_cold(&mut self) -> Result<(), RunError> {
        if let Broker::Spawned(process) = &mut self.broker {
            process.restart_cold(&self.abort)?;
            self.control = self.broker.connect()?;
        }
        Ok(())
    }

    /// Lets the data directory of a spawned broker stay; gives its path.
    pub(super) fn keep_data(&mut self) -> Option<PathBuf> {
        match &mut self.broker {
            Broker::Spawned(process) => Some(process.keep_data()),
            Broker::Running(_) | Broker::Sink(..) => None,
        }
    }

    /// Kills a spawned broker.
    pub(super) fn kill_broker(&mut self) -> Result<(), RunError> {
        Ok(self.spawned()?.kill()?)
    }

    /// How the broker ended, if it did and this run did not want it to.
    pub(super) fn death(&mut self) -> Option<String> {
        match &mut self.broker {
            Broker::Spawned(process) => process.death(),
            Broker::Running(_) => self.lost.clone(),
            Broker::Sink(..) => None,
        }
    }

    /// The broker has not answered: looks whether one that somebody else runs is still there.
    pub(super) fn look_for_it(&mut self) {
        if matches!(self.broker, Broker::Running(_)) {
            match self.broker.connect() {
                Ok(control) => self.control = control,
                Err(error) => self.lost = Some(error.to_string()),
            }
        }
    }

    /// Whether this run has spawned the broker.
    pub(super) fn is_spawned(&self) -> bool {
        matches!(self.broker, Broker::Spawned(_))
    }

    /// Whether nobody would answer.
    fn is_gone(&mut self) -> bool {
        match &mut self.broker {
            Broker::Spawned(process) => process.has_ended(),
            Broker::Running(_) => self.lost.is_some(),
            Broker::Sink(..) => false,
        }
    }

    /// Starts a spawned broker again that has ended; it has the address that it had.
    pub(super) fn restart_broker(&mut self) -> Result<(), RunError> {
        let abort = Arc::clone(&self.abort);
        self.spawned()?.start_again(&abort)?;
        self.control = self.broker.connect()?;
        Ok(())
    }

    /// Stops a spawned broker's threads where they are.
    pub(super) fn pause_broker(&mut self) -> Result<(), RunError> {
        Ok(self.spawned()?.pause()?)
    }

    /// Lets a paused broker go on.
    pub(super) fn resume_broker(&mut self) -> Result<(), RunError> {
        Ok(self.spawned()?.resume()?)
    }

    fn spawned(&mut self) -> Result<&mut BrokerProcess, RunError> {
        match &mut self.broker {
            Broker::Spawned(process) => Ok(process),
            Broker::Running(_) | Broker::Sink(..) => {
                Err(RunError::Usage("that is for a spawned broker only".to_owned()))
            }
        }
    }

    /// HOST:PORT.
    pub(super) fn address(&self) -> &str {
        self.broker.address()
    }

    /// Where the requests of generator threads go.
    pub(super) fn reach(&self) -> Reach {
        match &self.broker {
            Broker::Sink(server, SinkKind::Null) => Reach::Null(Arc::clone(server.counters())),
            Broker::Spawned(_) | Broker::Running(_) | Broker::Sink(..) => Reach::Sockets,
        }
    }

    /// What a target that keeps nothing has taken; none of a broker.
    pub(super) fn sink_counters(&self) -> Option<&SinkCounters> {
        match &self.broker {
            Broker::Sink(server, _) => Some(server.counters()),
            Broker::Spawned(_) | Broker::Running(_) => None,
        }
    }

    /// What the broker has used so far, where it is a child.
    pub(super) fn usage(&self) -> Usage {
        match &self.broker {
            Broker::Spawned(process) => process.usage(),
            Broker::Running(_) | Broker::Sink(..) => Usage::default(),
        }
    }

    /// The result of a load whose topics or queues were then `removed`; a failure ends with the
    /// broker's own last words.
    pub(super) fn conclude<T>(
        &mut self,
        result: Result<T, RunError>,
        removed: Result<(), RunError>,
    ) -> Result<T, RunError> {
        let result = result.map_err(|error| match (error, self.broker.log()) {
            (error @ (RunError::Interrupted | RunError::Usage(_)), _) => error,
            (error, log) if log.is_empty() => error,
            (error, log) => RunError::Setup(format!("{error}; the end of the broker's log:{log}")),
        })?;
        // What a broker that is gone has kept goes with its directory, or is there when it returns.
        match self.is_gone() {
            true => Ok(result),
            false => removed.map(|()| result),
        }
    }

    /// Measures the machine for a while, if limits were asked for.
    pub(super) fn floor_slice(&mut self, budget: &SliceBudget) {
        if let Some(floor) = &mut self.floor {
            std::thread::sleep(BROKER_IDLE_AFTER);
            floor.slice(budget);
        }
    }

    /// The limits measured so far.
    pub(super) fn floor_figures(&self) -> FloorFigures {
        self.floor.as_ref().map(FloorFigures::of).unwrap_or_default()
    }

    /// Puts the limits into a result, and says which could not be measured.
    pub(super) fn add_floor(&self, run: &mut Run) {
        let Some(floor) = &self.floor else { return };
        run.floor = FloorFigures::of(floor);
        let missing = floor
            .problems()
            .map(|(name, error)| Reason::FloorMissing { what: format!("{name}: {error}") });
        let missing = Validity::of(&missing.collect::<Vec<_>>());
        run.validity.verdict = run.validity.verdict.max(missing.verdict);
        if run.validity.status == "ok" {
            run.validity.status = missing.status;
        }
        run.validity.reasons.extend(missing.reasons);
    }

    /// The broker as results name it.
    pub(super) fn target(&self) -> Target {
        let spawned = matches!(self.broker, Broker::Spawned(_));
        let data_dir = self.broker.data_dir().map(|dir| dir.display().to_string());
        Target {
            kind: self.broker.kind().to_owned(),
            address: self.address().to_owned(),
            broker_cores: spawned.then(|| self.cores.broker.clone()),
            generator_cores: self.cores.generator.clone(),
            data_dir,
            data_dir_file_system: self.environment.file_system.clone(),
            broker_flags: self.flags.clone(),
            broker_binary: self.binary.as_ref().map(|path| path.display().to_string()),
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // The next site shall see the cores that this one saw.
        let _ = pin_to(&self.allowed);
    }
}

impl Broker {
    fn connect(&self) -> Result<Connection, RunError> {
        let options = ConnectOptions {
            client_name: "pelton-bench-control".to_owned(),
            ..ConnectOptions::default()
        };
        Connection::connect(self.address(), &options)
            .map_err(|error| RunError::Setup(format!("{error}{}", self.log())))
    }

    /// As results have it.
    fn kind(&self) -> &'static str {
        match self {
            Self::Spawned(_) => "spawn",
            Self::Running(_) => "running",
            Self::Sink(_, SinkKind::Null) => "null",
            Self::Sink(_, SinkKind::Echo) => "echo",
        }
    }

    fn address(&self) -> &str {
        match self {
            Self::Spawned(process) => process.address(),
            Self::Running(address) => address,
            Self::Sink(server, _) => server.address(),
        }
    }

    fn data_dir(&self) -> Option<PathBuf> {
        match self {
            Self::Spawned(process) => Some(process.data_dir().to_path_buf()),
            Self::Running(_) | Self::Sink(..) => None,
        }
    }

    fn log(&self) -> String {
        match self {
            Self::Spawned(process) => process.log(),
            Self::Running(_) | Self::Sink(..) => String::new(),
        }
    }
}

/// Each producer and consumer is a descriptor here and one in a spawned broker, which inherits the
/// limit.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // A refusal shows later, as connections that cannot be made.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Probes run where the broker and the generator run, and wait as they wait.
fn setting(args: &RunArgs, cores: &CoreSplit, broker: &Broker) -> Setting {
    // Beside the broker's directory: the same disk, but nothing of ours among its files.
    let beside = broker.data_dir().and_then(|dir| dir.parent().map(PathBuf::from));
    // The shard spins while a commit is in flight, unless it was told to sleep.
    let parks = args.broker_flags.iter().any(|flag| flag == "spin-us=0");
    Setting {
        dir: args.data_dir.clone().or(beside).unwrap_or_else(std::env::temp_dir),
        broker_core: cores.broker[0],
        generator_core: cores.generator[0],
        disk_idle: if parks { IdleMode::Park } else { IdleMode::Spin },
        echo_idle: if args.busy_poll { IdleMode::Spin } else { IdleMode::Park },
        neighbour: if args.busy_poll { Neighbour::BusyPolling } else { Neighbour::Idle },
    }
}
