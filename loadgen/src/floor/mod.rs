//! What this machine can do at best, measured by code of our own that does nothing else.
//!
//! | probe | what it measures |
//! | --- | --- |
//! | [`WriteProbe`] | latency of one 4 KiB O_DIRECT write into written blocks, plain or durable |
//! | [`echo_slice`] | round trip of 128 bytes over loopback TCP between two io_uring threads |
//! | [`DiskProbe`] | sequential O_DIRECT bandwidth: write, durable write, read |
//! | [`loopback_slice`] | bandwidth of one loopback TCP stream |
//! | [`lateness_slice`] | how late a thread is that only looks at the clock |
//!
//! All probes work in short slices, so that a run takes some before, between and after its
//! measured windows and sees the machine in the state it had then. [`Floor`] gathers them. The
//! broker must be idle while a slice runs.

mod aligned;
mod disk;
mod echo;
mod lateness;
mod loopback;
mod probe_file;
mod ring;
mod write_latency;

pub use disk::{Cell, CellChoice, DiskOperation, DiskProbe};
pub use echo::echo_slice;
pub use lateness::lateness_slice;
pub use loopback::loopback_slice;
pub use ring::Durability;
pub use write_latency::WriteProbe;

use crate::latency::Latencies;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, io};

/// How a thread waits for completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleMode {
    /// Enter the kernel, look, yield the core; again.
    Spin,
    /// Sleep in the kernel until something completes.
    Park,
}

/// What the generator's core does while a durable write is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// Nothing, as during a run whose generator waits.
    Idle,
    /// A thread polls and yields each round, as during a busy-polling run.
    BusyPolling,
}

/// Where probes run and how they wait: as the run does that they stand beside.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Directory whose disk is measured.
    pub dir: PathBuf,
    /// Core of the broker's (first) shard.
    pub broker_core: usize,
    /// Core of the (first) generator thread.
    pub generator_core: usize,
    /// How the shard waits for its disk.
    pub disk_idle: IdleMode,
    /// How both ends of a connection wait.
    pub echo_idle: IdleMode,
    /// The state of the generator's core while the disk is measured.
    pub neighbour: Neighbour,
}

/// Why a limit could not be measured.
#[derive(Debug)]
pub enum ProbeError {
    /// The directory's file system is in memory: its speed says nothing about a disk.
    MemoryFileSystem,
    /// The file system refuses O_DIRECT.
    NoDirectIo,
    /// The kernel or a seccomp filter refuses io_uring.
    NoUring(io::Error),
    /// Anything else.
    Io(io::Error),
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MemoryFileSystem => f.write_str("the directory is on a memory file system"),
            Self::NoDirectIo => f.write_str("the file system does not support O_DIRECT"),
            Self::NoUring(error) => write!(f, "io_uring is not available: {error}"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ProbeError {}

impl From<io::Error> for ProbeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Bytes moved in a time; slices add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Bytes moved.
    pub bytes: u64,
    /// Nanoseconds it took.
    pub elapsed_ns: u64,
}

impl Transfer {
    /// Adds another slice.
    pub fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.elapsed_ns += other.elapsed_ns;
    }

    /// Bytes per second, if anything was measured.
    #[must_use]
    pub fn bytes_per_s(&self) -> Option<u64> {
        let rate = u128::from(self.bytes) * 1_000_000_000 / u128::from(self.elapsed_ns).max(1);
        (self.bytes > 0).then(|| u64::try_from(rate).unwrap_or(u64::MAX))
    }
}

/// How long each probe may run in one slice; zero leaves it out.
#[derive(Clone, Copy, Debug)]
pub struct SliceBudget {
    /// For the durable write latency.
    pub durable_write: Duration,
    /// For the latency of a write that is not durable.
    pub plain_write: Duration,
    /// For the echo round trip.
    pub echo: Duration,
    /// For each cell of each disk operation.
    pub disk_cell: Duration,
    /// Which disk cells.
    pub disk_cells: CellChoice,
    /// For the loopback stream.
    pub loopback: Duration,
    /// For the lateness of a thread that only looks at the clock.
    pub lateness: Duration,
}

/// All limits of one machine, gathered over slices.
pub struct Floor {
    setting: Setting,
    write: Lazy<WriteProbe>,
    disk: Lazy<DiskProbe>,
    latencies: BTreeMap<&'static str, Latencies>,
    loopback: Transfer,
    problems: BTreeMap<&'static str, ProbeError>,
}

const DURABLE_WRITE: &str = "durable_write";
const PLAIN_WRITE: &str = "plain_write";
const ECHO: &str = "echo_rtt";
const DISK: &str = "disk";
const LOOPBACK: &str = "loopback";
const LATENESS: &str = "lateness";

/// A probe whose files are created (and zeroed) when its first slice runs.
enum Lazy<T> {
    NotYet,
    Ready(T),
}

impl<T> Lazy<T> {
    fn get(
        &mut self,
        create: impl FnOnce() -> Result<T, ProbeError>,
    ) -> Result<&mut T, ProbeError> {
        if matches!(self, Self::NotYet) {
            *self = Self::Ready(create()?);
        }
        match self {
            Self::Ready(probe) => Ok(probe),
            Self::NotYet => unreachable!("it was created above"),
        }
    }
}

impl Floor {
    /// Nothing measured yet; creates no files.
    #[must_use]
    pub fn new(setting: Setting) -> Self {
        Self {
            setting,
            write: Lazy::NotYet,
            disk: Lazy::NotYet,
            latencies: BTreeMap::new(),
            loopback: Transfer::default(),
            problems: BTreeMap::new(),
        }
    }

    /// Runs each probe once for its time. A probe that fails is not tried again and shows up in
    /// [`Self::problems`].
    pub fn slice(&mut self, budget: &SliceBudget) {
        for (name, how, time) in [
            (DURABLE_WRITE, Durability::Durable, budget.durable_write),
            (PLAIN_WRITE, Durability::Written, budget.plain_write),
        ] {
            self.attempt(name, time, |floor, time| {
                let dir = &floor.setting.dir;
                let probe = floor.write.get(|| WriteProbe::create(dir))?;
                let latencies = probe.slice(&floor.setting, how, time)?;
                floor.add_latencies(name, &latencies);
                Ok(())
            });
        }
        self.attempt(ECHO, budget.echo, |floor, time| {
            let latencies = echo_slice(&floor.setting, time)?;
            floor.add_latencies(ECHO, &latencies);
            Ok(())
        });
        self.attempt(DISK, budget.disk_cell, |floor, time| {
            let probe = floor.disk.get(|| DiskProbe::create(&floor.setting.dir))?;
            probe.slice(&floor.setting, budget.disk_cells, time)
        });
        self.attempt(LOOPBACK, budget.loopback, |floor, time| {
            floor.loopback.add(loopback_slice(&floor.setting, time)?);
            Ok(())
        });
        self.attempt(LATENESS, budget.lateness, |floor, time| {
            let latencies = lateness_slice(floor.setting.generator_core, time)?;
            floor.add_latencies(LATENESS, &latencies);
            Ok(())
        });
    }

    /// Probes that failed, and why.
    pub fn problems(&self) -> impl Iterator<Item = (&'static str, &ProbeError)> + '_ {
        self.problems.iter().map(|(&name, error)| (name, error))
    }

    /// Durable write latencies so far.
    #[must_use]
    pub fn durable_write(&self) -> Option<&Latencies> {
        self.latencies.get(DURABLE_WRITE)
    }

    /// Latencies of writes that are not durable so far.
    #[must_use]
    pub fn plain_write(&self) -> Option<&Latencies> {
        self.latencies.get(PLAIN_WRITE)
    }

    /// Echo round trips so far.
    #[must_use]
    pub fn echo(&self) -> Option<&Latencies> {
        self.latencies.get(ECHO)
    }

    /// How late a thread was so far that only looked at the clock.
    #[must_use]
    pub fn lateness(&self) -> Option<&Latencies> {
        self.latencies.get(LATENESS)
    }

    /// The best cell of a disk operation so far, with its bandwidth in bytes per second.
    #[must_use]
    pub fn disk(&self, operation: DiskOperation) -> Option<(Cell, u64)> {
        match &self.disk {
            Lazy::Ready(probe) => probe.best(operation),
            Lazy::NotYet => None,
        }
    }

    /// Loopback bandwidth so far, in bytes per second.
    #[must_use]
    pub fn loopback_bytes_per_s(&self) -> Option<u64> {
        self.loopback.bytes_per_s()
    }

    fn attempt(
        &mut self,
        name: &'static str,
        time: Duration,
        probe: impl FnOnce(&mut Self, Duration) -> Result<(), ProbeError>,
    ) {
        if time.is_zero() || self.problems.contains_key(name) {
            return;
        }
        if let Err(error) = probe(self, time) {
            self.problems.insert(name, error);
        }
    }

    fn add_latencies(&mut self, name: &'static str, latencies: &Latencies) {
        self.latencies.entry(name).or_default().merge(latencies);
    }
}

/// Runs `work` on a thread pinned to `core`, while the calling thread sleeps.
fn on_core<T: Send>(
    core: usize,
    work: impl FnOnce() -> Result<T, ProbeError> + Send,
) -> Result<T, ProbeError> {
    std::thread::scope(|scope| {
        scope
            .spawn(move || {
                crate::cores::pin_to(&[core])?;
                work()
            })
            .join()
            .expect("a probe thread does not panic")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn setting(dir: &std::path::Path) -> Setting {
        let split = crate::cores::CoreSplit::detect().expect("affinity is readable");
        Setting {
            dir: dir.to_path_buf(),
            broker_core: split.broker[0],
            generator_core: split.generator[0],
            disk_idle: IdleMode::Spin,
            echo_idle: IdleMode::Spin,
            neighbour: Neighbour::BusyPolling,
        }
    }

    #[test]
    fn slices_add_up_and_leave_no_files() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
        let mut floor = Floor::new(setting(dir.path()));
        let budget = SliceBudget {
            durable_write: Duration::from_millis(30),
            plain_write: Duration::from_millis(10),
            echo: Duration::from_millis(20),
            disk_cell: Duration::from_millis(1),
            disk_cells: CellChoice::All,
            loopback: Duration::from_millis(20),
            lateness: Duration::from_millis(20),
        };
        floor.slice(&budget);
        // Every moment of the slice was met, sooner or later.
        assert_eq!(floor.lateness().map(Latencies::count), Some(3_999));
        floor.slice(&SliceBudget { disk_cells: CellChoice::Best(2), ..budget });
        assert_eq!(floor.lateness().map(Latencies::count), Some(2 * 3_999));
        let broken: Vec<_> = floor.problems().map(|(name, _)| name).collect();
        assert!(!broken.contains(&LOOPBACK), "{broken:?}");
        assert!(floor.loopback_bytes_per_s() > Some(0));
        if !broken.contains(&DISK) {
            for operation in DiskOperation::ALL {
                assert!(floor.disk(operation).is_some_and(|(_, rate)| rate > 0), "{operation:?}");
            }
        }
        drop(floor);
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0);
    }

    #[test]
    fn a_memory_file_system_is_refused_and_said() {
        let Ok(dir) = tempfile::tempdir_in("/dev/shm") else { return };
        let error = WriteProbe::create(dir.path()).map(drop).expect_err("it is in memory");
        assert!(matches!(error, ProbeError::MemoryFileSystem | ProbeError::NoDirectIo), "{error}");
    }

    #[test]
    fn transfers_have_rates() {
        assert_eq!(Transfer::default().bytes_per_s(), None);
        let transfer = Transfer { bytes: 500, elapsed_ns: 250_000_000 };
        assert_eq!(transfer.bytes_per_s(), Some(2000));
    }
}
