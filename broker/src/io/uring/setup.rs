//! How the ring is made, and what is said when it cannot be.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use io_uring::IoUring;

use super::arena::Registration;
use super::sys;

/// Sizes of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Submission queue entries; when more are needed in one turn it is flushed in between.
    pub submissions: u32,
    /// Completion queue entries; the kernel keeps what does not fit.
    pub completions: u32,
    /// Connections.
    pub connections_max: u32,
    /// Open files.
    pub files_max: u32,
    /// How it uses the kernel; each way means the same.
    pub ways: Ways,
}

/// How a ring uses the kernel: knobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ways {
    /// Whether the arena is registered.
    pub buffers: Buffers,
    /// How provided buffers are received into.
    pub receive: Receive,
    /// How a write is made durable.
    pub sync: SyncMethod,
}

impl Ways {
    /// What is best on most machines.
    pub const USUAL: Ways =
        Ways { buffers: Buffers::Registered, receive: Receive::Multishot, sync: SyncMethod::Dsync };
}

/// Whether the arena is registered as fixed buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buffers {
    /// If the kernel lets it.
    Registered,
    /// No.
    Plain,
}

/// How provided buffers are received into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receive {
    /// One operation brings many buffers.
    Multishot,
    /// One operation brings one.
    Single,
}

/// How a write is made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMethod {
    /// `RWF_DSYNC`.
    Dsync,
    /// A plain write, then a flush of the file.
    Fsync,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            submissions: 1024,
            completions: 8192,
            connections_max: 1024,
            files_max: 1024,
            ways: Ways::USUAL,
        }
    }
}

/// What the ring turned out to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Whether the arena is registered.
    pub buffers: Registration,
    /// Whether the submission queue is without an index array.
    pub no_sqarray: bool,
    /// Whether the ring is entered by its registered index.
    pub registered_ring: bool,
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("single issuer, deferred completions, registered files")?;
        if self.registered_ring {
            f.write_str(", registered ring")?;
        }
        if self.no_sqarray {
            f.write_str(", no index array")?;
        }
        Ok(())
    }
}

/// Why there is no ring, in one sentence with its fix.
#[derive(Debug)]
pub struct SetupError {
    sentence: String,
    source: io::Error,
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for SetupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Submission queue entries below which a ring is not worth having.
const SUBMISSIONS_MIN: u32 = 32;

/// A ring without registrations, and whether it has no index array. Where the limit on locked
/// memory leaves no room for its queues they are made shorter: that costs more entries into the
/// kernel, and nothing else.
pub fn build(settings: Settings) -> Result<(IoUring, bool), SetupError> {
    let Settings { mut submissions, mut completions, .. } = settings;
    loop {
        let error = match build_sized(submissions, completions) {
            Ok(built) => {
                if submissions < settings.submissions {
                    tracing::warn!(
                        "the limit on locked memory leaves room for io_uring queues of \
                         {submissions} entries only, not {}: raise it (ulimit -l 8192) for speed",
                        settings.submissions
                    );
                }
                return Ok(built);
            }
            Err(error) => error,
        };
        let is_short = error.source.raw_os_error() == Some(libc::ENOMEM);
        if !is_short || submissions <= SUBMISSIONS_MIN {
            return Err(error);
        }
        submissions /= 2;
        completions /= 2;
    }
}

fn build_sized(submissions: u32, completions: u32) -> Result<(IoUring, bool), SetupError> {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(completions);
    let built = match builder.clone().setup_no_sqarray().build(submissions) {
        Ok(ring) => Ok((ring, true)),
        // Kernels before 6.6 do not know the flag.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            builder.build(submissions).map(|ring| (ring, false))
        }
        Err(error) => Err(error),
    };
    let (ring, no_sqarray) = built.map_err(refused)?;
    if !(ring.params().is_feature_nodrop()
        && ring.params().is_feature_submit_stable()
        && ring.params().is_feature_ext_arg())
    {
        return Err(refused(io::Error::from_raw_os_error(libc::EINVAL)));
    }
    Ok((ring, no_sqarray))
}

/// A file table with places for accepted connections in front, for files behind them, and for the
/// data directory's lock at the end.
pub fn register_files(
    ring: &IoUring,
    settings: Settings,
    lock: &OwnedFd,
) -> Result<(), SetupError> {
    let places = lock_place(settings) + 1;
    ring.submitter().register_files_sparse(places).map_err(|source| {
        let sentence = if source.raw_os_error() == Some(libc::EMFILE) {
            format!(
                "the limit on open files is below the {places} that the connections and files \
                 need: raise it (ulimit -n {places}) or lower the number of connections"
            )
        } else {
            format!("io_uring refused a table of {places} files ({source}): update the kernel")
        };
        SetupError { sentence, source }
    })?;
    ring.submitter()
        .register_files_update(lock_place(settings), &[lock.as_raw_fd()])
        .map_err(|source| failed("the data directory's lock", source))?;
    sys::register_file_alloc_range(descriptor(ring), settings.connections_max)
        .map_err(|source| failed("the range of accepted connections", source))
}

/// Takes the data directory's lock out of a ring that is at rest.
pub fn release_lock(ring: &IoUring, settings: Settings) -> io::Result<()> {
    ring.submitter().register_files_update(lock_place(settings), &[-1]).map(drop)
}

const fn lock_place(settings: Settings) -> u32 {
    settings.connections_max + settings.files_max
}

/// The ring's descriptor.
pub fn descriptor(ring: &IoUring) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is the ring's own and is open as long as the ring is borrowed.
    unsafe { BorrowedFd::borrow_raw(ring.as_raw_fd()) }
}

/// Some other step of the set-up failed.
pub fn failed(what: &str, source: io::Error) -> SetupError {
    let fix = match source.raw_os_error() {
        Some(libc::ENOMEM) => LOCKED_MEMORY_FIX,
        _ => "update the kernel",
    };
    SetupError { sentence: format!("io_uring refused {what} ({source}): {fix}"), source }
}

/// What to do where the kernel may not lock enough memory.
const LOCKED_MEMORY_FIX: &str = "raise the limit on locked memory (ulimit -l 8192, in KiB; \
    LimitMEMLOCK= for a service) or free some memory";

fn refused(source: io::Error) -> SetupError {
    let sentence = match source.raw_os_error() {
        Some(libc::ENOSYS) => "this kernel has no io_uring: Linux 6.1 or newer is needed, and \
            a container runtime that lets it through (docker run --security-opt \
            seccomp=unconfined, or a profile that allows io_uring_setup, io_uring_enter and \
            io_uring_register)"
            .to_owned(),
        Some(libc::EPERM | libc::EACCES) => "io_uring is forbidden here: set the sysctl \
            kernel.io_uring_disabled to 0 or, in a container, allow io_uring_setup, \
            io_uring_enter and io_uring_register in its seccomp profile (docker run \
            --security-opt seccomp=unconfined)"
            .to_owned(),
        Some(libc::EINVAL) => "this kernel's io_uring is too old (it lacks single issuer or \
            deferred completions): Linux 6.1 or newer is needed"
            .to_owned(),
        Some(libc::ENOMEM) => {
            format!("there is not enough memory for the io_uring queues: {LOCKED_MEMORY_FIX}")
        }
        _ => format!("io_uring could not be set up ({source}): check the kernel's log"),
    };
    SetupError { sentence, source }
}
