//! A data directory's lock: who has it is alone with the files.
//!
//! A broker that is killed is gone before what its rings do with its files: the kernel ends that
//! in its own time, on a device that stands still long after. So each ring has the lock's file as
//! well, and the kernel gives the lock back when the last of them is at rest.

use std::fmt;
use std::fs;
use std::io::{self, Read, Seek, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// How long to wait for what a broker that has ended left under way.
const REST_WAIT_MAX: Duration = Duration::from_secs(30);
/// From then on it is told that somebody waits.
const REST_WAIT_TOLD: Duration = Duration::from_secs(1);
const REST_LOOK: Duration = Duration::from_millis(2);

/// The lock of a broker: nobody else has it while this value lives, or a ring that has its file.
#[derive(Debug)]
pub struct Lock {
    file: fs::File,
}

/// Why the directory is not ours, in one sentence with the fix.
#[derive(Debug)]
pub struct Refusal(pub(crate) String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

impl Lock {
    /// Makes the directory if there is none, and locks it.
    pub fn take(root: &Path) -> Result<Lock, Refusal> {
        let shown = root.display();
        fs::create_dir_all(root).map_err(|error| {
            refused(root, &error, || {
                format!("the data directory {shown} cannot be made ({error}): choose another")
            })
        })?;
        let place = root.join("LOCK");
        let options =
            fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&place);
        let mut file = options.map_err(|error| {
            refused(root, &error, || {
                format!(
                    "{} cannot be opened ({error}): give this user the right to write there, or \
                     choose another data directory",
                    place.display()
                )
            })
        })?;
        lock(&mut file, REST_WAIT_MAX, take_alone).map_err(|holder| {
            Refusal(match holder {
                Holder::Reader => format!(
                    "the data directory {shown} is being read by another process (pelton log): \
                     wait until it has ended, or choose another data directory"
                ),
                Holder::Broker(who) => format!(
                    "the data directory {shown} is in use by {who}: stop it, or choose another \
                     data directory"
                ),
                Holder::Ended(who) => unfinished(root, &who),
                Holder::Unknown(errno) => format!(
                    "the data directory {shown} cannot be locked ({errno}): choose one on a \
                     local file system"
                ),
            })
        })?;
        // Those who want the lock look whether this process still runs.
        let written = file
            .rewind()
            .and_then(|()| file.set_len(0))
            .and_then(|()| writeln!(file, "{}", Process::this()));
        match written {
            Ok(()) => Ok(Lock { file }),
            Err(error) => Err(refused(root, &error, || {
                format!(
                    "{} cannot be written ({error}): free some space or choose another data \
                     directory",
                    place.display()
                )
            })),
        }
    }

    /// The lock's file, for a ring: whoever has it open has the lock.
    ///
    /// # Errors
    /// The process has as many files open as it may.
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.file.try_clone().map(OwnedFd::from)
    }
}

/// The lock of those who only read: no broker may have the directory while this value lives.
/// Nothing is written, not even the lock's file.
#[derive(Debug)]
pub struct ReadLock {
    _file: Option<fs::File>,
}

impl ReadLock {
    /// Keeps brokers out of the directory, if there is none in it.
    pub fn take(root: &Path) -> Result<ReadLock, Refusal> {
        let shown = root.display();
        if !root.is_dir() {
            return Err(Refusal(format!("{shown} is not a directory: name a data directory")));
        }
        let place = root.join("LOCK");
        let mut file = match fs::File::open(&place) {
            Ok(file) => file,
            // A copy of a directory may lack it, and no broker runs without it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(ReadLock { _file: None });
            }
            Err(error) => {
                return Err(Refusal(format!(
                    "{} cannot be opened ({error}): read it as the user who owns it",
                    place.display()
                )));
            }
        };
        let shared = |file: &fs::File| {
            rustix::fs::flock(file, FlockOperation::NonBlockingLockShared).map_err(Denied::from)
        };
        match lock(&mut file, REST_WAIT_MAX, shared) {
            Ok(()) => Ok(ReadLock { _file: Some(file) }),
            Err(Holder::Ended(who)) => Err(Refusal(unfinished(root, &who))),
            Err(Holder::Unknown(errno)) => {
                Err(Refusal(format!("the data directory {shown} cannot be locked ({errno})")))
            }
            Err(Holder::Broker(who)) => Err(Refusal(format!(
                "the data directory {shown} is in use by {who}: stop that broker first, or read \
                 a copy that was made while it was stopped"
            ))),
            Err(Holder::Reader) => unreachable!("readers share it"),
        }
    }
}

/// Why a broker cannot have the directory: it may only be read, or the sentence.
fn refused(root: &Path, error: &io::Error, sentence: impl FnOnce() -> String) -> Refusal {
    Refusal(match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => format!(
            "the data directory {} is on a read-only file system: a broker that starts must \
             write. Check the file system (the kernel makes a damaged one read-only) and mount it \
             for writing; `pelton log verify` reads it as it is",
            root.display()
        ),
        _ => sentence(),
    })
}

fn unfinished(root: &Path, who: &str) -> String {
    format!(
        "the data directory {} is still in use: {who} has ended, but not what it left under way \
         (or it runs where it is not seen from here). Check the device, and try again",
        root.display()
    )
}

/// Who has a lock that was wanted.
enum Holder {
    /// Somebody who only reads.
    Reader,
    /// A process that runs.
    Broker(String),
    /// One that has ended, and after a long wait is not at rest.
    Ended(String),
    /// Nobody: locking failed.
    Unknown(Errno),
}

/// Why a lock is not to be had at this moment.
enum Denied {
    Reader,
    Broker,
    Failed(Errno),
}

impl From<Errno> for Denied {
    fn from(errno: Errno) -> Denied {
        if errno == Errno::WOULDBLOCK { Denied::Broker } else { Denied::Failed(errno) }
    }
}

/// Takes a lock by `attempt`, and waits for it while who has it has ended already.
fn lock(
    file: &mut fs::File,
    wait_max: Duration,
    mut attempt: impl FnMut(&fs::File) -> Result<(), Denied>,
) -> Result<(), Holder> {
    let began = Instant::now();
    let mut is_told = false;
    loop {
        match attempt(file) {
            Ok(()) => return Ok(()),
            Err(Denied::Reader) => return Err(Holder::Reader),
            Err(Denied::Failed(errno)) => return Err(Holder::Unknown(errno)),
            Err(Denied::Broker) => {}
        }
        let holder = Process::named_in(file);
        let who = match &holder {
            Some(Process { pid, .. }) => format!("the process {pid}"),
            None => "another process".to_owned(),
        };
        if holder.is_some_and(|holder| holder.is_running()) {
            return Err(Holder::Broker(who));
        }
        if began.elapsed() > wait_max {
            return Err(Holder::Ended(who));
        }
        if began.elapsed() > REST_WAIT_TOLD && !is_told {
            tracing::warn!("waiting for what {who} left under way when it ended");
            is_told = true;
        }
        thread::sleep(REST_LOOK);
    }
}

/// The lock for one alone. Who gets it shared only finds readers.
fn take_alone(file: &fs::File) -> Result<(), Denied> {
    let take = |operation| rustix::fs::flock(file, operation).map_err(Denied::from);
    match take(FlockOperation::NonBlockingLockExclusive) {
        Err(Denied::Broker) => {}
        taken => return taken,
    }
    take(FlockOperation::NonBlockingLockShared)?;
    // Whoever had it may have gone in between.
    match take(FlockOperation::NonBlockingLockExclusive) {
        Err(Denied::Broker) => {
            // A failed change may have kept the old lock.
            let _ = rustix::fs::flock(file, FlockOperation::Unlock);
            Err(Denied::Reader)
        }
        taken => taken,
    }
}

/// A process, as the lock's file names the one that took the lock last: in containers, one after
/// the other has the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: u32,
    /// When it was started, in ticks since the machine was; `None` if it cannot be told.
    started: Option<u64>,
}

impl Process {
    fn this() -> Process {
        let pid = std::process::id();
        Process { pid, started: started(pid) }
    }

    /// `None` if nobody has said so yet.
    fn named_in(file: &mut fs::File) -> Option<Process> {
        let mut text = String::new();
        file.rewind().ok()?;
        file.read_to_string(&mut text).ok()?;
        let mut words = text.split_whitespace();
        let pid = words.next()?.parse().ok()?;
        Some(Process { pid, started: words.next().and_then(|ticks| ticks.parse().ok()) })
    }

    fn is_running(self) -> bool {
        let now = started(self.pid);
        now.is_some() && self.started.is_none_or(|then| now == Some(then))
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.started {
            Some(ticks) => write!(f, "{} {ticks}", self.pid),
            None => write!(f, "{}", self.pid),
        }
    }
}

/// When a process was started that runs. One that nobody has waited for has ended all the same.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the name in parentheses, may contain anything; proc_pid_stat(5).
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    let is_over = matches!(fields.next()?, "Z" | "X");
    let ticks = fields.nth(18)?.parse().ok()?;
    (!is_over).then_some(ticks)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_directory_has_one_holder_at_a_time() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let place = root.path().join("deep/data");
        let lock = Lock::take(&place).expect("free");
        let sentence = Lock::take(&place).expect_err("taken").to_string();
        assert!(sentence.contains(&std::process::id().to_string()), "{sentence}");
        drop(lock);
        Lock::take(&place).expect("free again");
    }

    #[test]
    fn readers_share_the_directory_and_keep_brokers_out() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let unlocked = ReadLock::take(root.path()).expect("no broker was ever here");
        assert_eq!(fs::read_dir(root.path()).expect("listed").count(), 0, "nothing is written");
        drop(unlocked);
        let broker = Lock::take(root.path()).expect("free");
        let sentence = ReadLock::take(root.path()).expect_err("taken").to_string();
        assert!(sentence.contains(&std::process::id().to_string()), "{sentence}");
        drop(broker);
        let one = ReadLock::take(root.path()).expect("free");
        let other = ReadLock::take(root.path()).expect("readers share it");
        let sentence = Lock::take(root.path()).expect_err("it is read").to_string();
        assert!(sentence.contains("being read"), "{sentence}");
        drop((one, other));
        Lock::take(root.path()).expect("free again");
        assert!(ReadLock::take(&root.path().join("LOCK")).is_err(), "a file is no directory");
    }

    /// A broker that was killed leaves the lock to the kernel, which is not done with its rings.
    #[test]
    fn the_lock_of_one_who_has_ended_is_waited_for() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let place = root.path().join("LOCK");
        let mut ended = Command::new("true").spawn().expect("it starts");
        ended.wait().expect("it ends");
        let mut held = Some(Lock::take(root.path()).expect("free"));
        fs::write(&place, format!("{}\n", ended.id())).expect("written");
        let mut file = fs::File::open(&place).expect("it is there");
        let mut tries = 0;
        let refused = lock(&mut file, Duration::ZERO, take_alone).expect_err("it is not free yet");
        let Holder::Ended(who) = refused else { panic!("it has ended") };
        let sentence = unfinished(root.path(), &who);
        assert!(sentence.contains(&format!("process {} has ended", ended.id())), "{sentence}");
        let taken = lock(&mut file, REST_WAIT_MAX, |file| {
            tries += 1;
            if tries == 4 {
                held = None;
            }
            take_alone(file)
        });
        assert!(taken.is_ok() && tries == 4, "{tries} tries");
    }

    #[test]
    fn who_is_gone_but_not_waited_for_has_ended() {
        let this = Process::this();
        assert!(this.is_running());
        assert!(Process { started: None, ..this }.is_running());
        assert!(!Process { started: Some(1), ..this }.is_running(), "another had that number");
        let mut child = Command::new("sleep").arg("60").spawn().expect("it starts");
        let sleeps = Process { pid: child.id(), started: started(child.id()) };
        assert!(sleeps.is_running() && sleeps.started >= this.started, "{sleeps:?} {this:?}");
        child.kill().expect("it is ours");
        // It stays a zombie until somebody waits for it.
        while sleeps.is_running() {
            thread::yield_now();
        }
        child.wait().expect("it has ended");
        assert!(!sleeps.is_running());
    }

    #[test]
    fn who_took_the_lock_is_named_in_it() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let _lock = Lock::take(root.path()).expect("free");
        let mut file = fs::File::open(root.path().join("LOCK")).expect("it is there");
        assert_eq!(Process::named_in(&mut file), Some(Process::this()));
    }
}
