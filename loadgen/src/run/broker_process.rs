//! A broker as a child process of the run, on cores and a data directory of its own.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{EXIT_USAGE, RunError};
use crate::cores::pin_to;
use crate::port;
use crate::report::Environment;

/// How long a broker may take to be ready (preparing space may take long).
const READY_WAIT_MAX: Duration = Duration::from_secs(120);
/// How long it may take to finish after SIGTERM before it is killed.
const STOP_WAIT_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);
/// Lines of its log that are kept for an error message.
const LOG_LINES_MAX: usize = 20;
/// `USER_HZ`: the unit of times in `/proc/PID/stat`, 100 on every Linux.
const USER_TICK_NS: u64 = 10_000_000;

/// A broker with a data directory of its own. Dropping it stops the process, then removes its data.
pub(super) struct BrokerProcess {
    serving: Serving,
    program: Program,
    data_dir: PathBuf,
    /// The same, as long as it goes when the process does.
    temporary: Option<TempDir>,
    /// By this run, which will start it again.
    is_killed: bool,
}

/// What is spawned.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// Whose `serve` it is; none is this one.
    pub(super) binary: Option<PathBuf>,
    /// Where it may run.
    pub(super) cores: Vec<usize>,
    /// Flags of `serve`, without dashes.
    pub(super) flags: Vec<String>,
}

/// The process. Dropping it stops it.
struct Serving {
    child: Child,
    address: String,
    log: Arc<Mutex<VecDeque<String>>>,
}

impl BrokerProcess {
    /// Starts `program` with a fresh directory under `root` (or where temporary data belongs), and
    /// waits until it listens.
    pub(super) fn start(
        root: Option<&Path>,
        program: Program,
        abort: &AtomicBool,
    ) -> Result<Self, RunError> {
        let root = root.map_or_else(default_root, Path::to_path_buf);
        let data_dir = tempfile::Builder::new().prefix("pelton-bench-").tempdir_in(&root).map_err(
            |error| {
                let root = root.display();
                RunError::Setup(format!(
                    "no data in {root}: {error}; choose a directory that exists with --data-dir"
                ))
            },
        )?;
        let serving = Serving::start(data_dir.path(), &program, &lasting_address(), abort)?;
        let path = data_dir.path().to_path_buf();
        let temporary = Some(data_dir);
        Ok(Self { serving, program, data_dir: path, temporary, is_killed: false })
    }

    /// The same on a data directory that is there, and stays.
    pub(super) fn start_on(
        dir: &Path,
        program: Program,
        abort: &AtomicBool,
    ) -> Result<Self, RunError> {
        if !dir.is_dir() {
            let dir = dir.display();
            return Err(RunError::Usage(format!("there is no data directory {dir}")));
        }
        let serving = Serving::start(dir, &program, &lasting_address(), abort)?;
        let data_dir = dir.to_path_buf();
        Ok(Self { serving, program, data_dir, temporary: None, is_killed: false })
    }

    /// Lets the data directory stay; gives its path.
    pub(super) fn keep_data(&mut self) -> PathBuf {
        self.temporary.take().map_or_else(|| self.data_dir.clone(), TempDir::keep)
    }

    /// Stops the process cleanly and starts it again on the same data, none of which the page
    /// cache holds any more.
    pub(super) fn restart_cold(&mut self, abort: &AtomicBool) -> Result<(), RunError> {
        if let Stopped::Killed = self.serving.stop() {
            let log = self.log();
            return Err(RunError::Setup(format!("the broker does not stop{log}")));
        }
        let dropped = |error: io::Error| {
            RunError::Setup(format!("the page cache keeps files of the broker: {error}"))
        };
        drop_page_cache(&self.data_dir).map_err(dropped)?;
        let address = self.serving.address.clone();
        self.serving = Serving::start(&self.data_dir, &self.program, &address, abort)?;
        // Recovery may have read some of them.
        drop_page_cache(&self.data_dir).map_err(dropped)
    }

    /// Ends the process as nothing can that it might prepare for.
    pub(super) fn kill(&mut self) -> io::Result<()> {
        self.is_killed = true;
        self.serving.child.kill()?;
        self.serving.child.wait().map(drop)
    }

    /// How the process ended, if it did and this run did not want it to.
    pub(super) fn death(&mut self) -> Option<String> {
        if self.is_killed {
            return None;
        }
        self.serving.end().map(|status| status.to_string())
    }

    /// Whether there is no process now, whoever ended it.
    pub(super) fn has_ended(&mut self) -> bool {
        self.serving.end().is_some()
    }

    /// Starts it again, after it has ended, on the same data and the same port.
    pub(super) fn start_again(&mut self, abort: &AtomicBool) -> Result<(), RunError> {
        let address = self.serving.address.clone();
        self.serving = Serving::start(&self.data_dir, &self.program, &address, abort)?;
        self.is_killed = false;
        Ok(())
    }

    /// Stops its threads where they are, until [`Self::resume`].
    pub(super) fn pause(&self) -> io::Result<()> {
        self.serving.signal(Signal::STOP)
    }

    /// Lets its threads go on.
    pub(super) fn resume(&self) -> io::Result<()> {
        self.serving.signal(Signal::CONT)
    }

    /// HOST:PORT.
    pub(super) fn address(&self) -> &str {
        &self.serving.address
    }

    /// Where its data lies.
    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// What it has used so far.
    pub(super) fn usage(&self) -> Usage {
        Usage::of(self.serving.child.id())
    }

    /// The end of its log.
    pub(super) fn log(&self) -> String {
        self.serving.log()
    }
}

/// Where a broker listens that may have to come back.
fn lasting_address() -> String {
    format!("127.0.0.1:{}", port::lasting())
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopped {
    InOrder,
    Killed,
}

impl Serving {
    fn start(
        data_dir: &Path,
        program: &Program,
        listen: &str,
        abort: &AtomicBool,
    ) -> Result<Self, RunError> {
        let executable = match &program.binary {
            Some(binary) => binary.clone(),
            None => std::env::current_exe()
                .map_err(|error| RunError::Setup(format!("own executable unknown: {error}")))?,
        };
        let name = executable.display().to_string();
        let mut command = Command::new(executable);
        command
            .args(["serve", "--stop-with-stdin"])
            .arg("--data-dir")
            .arg(data_dir)
            .args(["--listen", listen])
            .args(program.flags.iter().map(|flag| format!("--{flag}")))
            // Held as long as this process lives: its end stops the broker, whatever ended us.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // An interrupt from the terminal is for the run; the run then stops its broker.
            .process_group(0);
        let mut child = spawn_on(&program.cores, command).map_err(|error| {
            RunError::Setup(format!("the broker {name} did not start: {error}"))
        })?;
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let stderr = child.stderr.take().expect("it is piped");
        let ready = follow(stderr, Arc::clone(&log));
        let mut broker = Self { child, address: String::new(), log };
        broker.address = broker.await_ready(&ready, abort)?;
        Ok(broker)
    }

    fn log(&self) -> String {
        let log = self.log.lock().expect("the reader does not panic");
        log.iter().map(|line| format!("\n  | {line}")).collect()
    }

    fn await_ready(
        &mut self,
        ready: &Receiver<String>,
        abort: &AtomicBool,
    ) -> Result<String, RunError> {
        let end = Instant::now() + READY_WAIT_MAX;
        loop {
            match ready.recv_timeout(POLL * 4) {
                Ok(address) => return Ok(address),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().ok();
                    let told = status.map_or("unknown".into(), |status| status.to_string());
                    let text = format!("the broker ended ({told}){}", self.log());
                    let refused = status.and_then(|status| status.code());
                    return Err(match refused == Some(i32::from(EXIT_USAGE)) {
                        true => RunError::Usage(text),
                        false => RunError::Setup(text),
                    });
                }
            }
            if abort.load(Ordering::Relaxed) {
                return Err(RunError::Interrupted);
            }
            if Instant::now() >= end {
                let log = self.log();
                return Err(RunError::Setup(format!("the broker is not ready in time{log}")));
            }
        }
    }
}

impl Serving {
    fn end(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        // Only a child that was not waited for has its number for certain: so have all of ours.
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Asks the process to stop, and kills it if it does not.
    fn stop(&mut self) -> Stopped {
        if matches!(self.child.try_wait(), Ok(None)) {
            // They fail only if it has just ended. A paused process would not hear the first.
            let _ = self.signal(Signal::TERM);
            let _ = self.signal(Signal::CONT);
        }
        let end = Instant::now() + STOP_WAIT_MAX;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= end {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return Stopped::Killed;
            }
            std::thread::sleep(POLL);
        }
        Stopped::InOrder
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // However it ends: it is gone.
        let _ = self.stop();
    }
}

/// Has the page cache forget all files below `dir`.
fn drop_page_cache(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            drop_page_cache(&entry.path())?;
        } else if kind.is_file() {
            let file = std::fs::File::open(entry.path())?;
            // Pages that are not written back yet cannot be dropped.
            file.sync_data()?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    Ok(())
}

/// Spawns from a thread that is pinned to `cores`: a child inherits the affinity of the thread
/// that makes it.
fn spawn_on(cores: &[usize], mut command: Command) -> io::Result<Child> {
    std::thread::scope(|scope| {
        scope
            .spawn(move || {
                pin_to(cores)?;
                command.spawn()
            })
            .join()
            .expect("spawning does not panic")
    })
}

/// Reads the log for ever, so that the broker never blocks on it; sends the address it listens on.
fn follow(stderr: ChildStderr, log: Arc<Mutex<VecDeque<String>>>) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if let Some((_, address)) = line.split_once("ready listen=") {
                let address = address.split_whitespace().next().unwrap_or_default();
                // Nobody listens any more once the broker is known to be ready.
                let _ = sender.send(address.to_owned());
            }
            let mut log = log.lock().expect("no holder panics");
            if log.len() == LOG_LINES_MAX {
                log.pop_front();
            }
            log.push_back(line);
        }
    });
    receiver
}

/// The first usual place for temporary data that is on a disk; the first of all if none is.
fn default_root() -> PathBuf {
    let places = [std::env::temp_dir(), PathBuf::from("/var/tmp"), PathBuf::from(".")];
    let on_disk = places.iter().find(|place| {
        place.is_dir() && Environment::read(Some(place)).memory_file_system() == Some(false)
    });
    on_disk.unwrap_or(&places[0]).clone()
}

/// What a process has used since it began. `None` is unknown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// CPU time, all threads.
    pub(super) cpu_ns: Option<u64>,
    /// Largest resident set.
    pub(super) rss_bytes_max: Option<u64>,
    /// Resident set now.
    pub(super) rss_bytes: Option<u64>,
    /// Bytes sent to storage.
    pub(super) disk_bytes_written: Option<u64>,
    /// Context switches of all its threads, wanted or not.
    pub(super) context_switches: Option<u64>,
}

impl Usage {
    fn of(pid: u32) -> Self {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
        let status = read("status");
        let kibibytes = |name| Some(number_after(status.as_deref()?, name)? * 1024);
        Self {
            cpu_ns: read("stat").as_deref().and_then(cpu_ns_of),
            rss_bytes_max: kibibytes("VmHWM:"),
            rss_bytes: kibibytes("VmRSS:"),
            disk_bytes_written: read("io")
                .as_deref()
                .and_then(|io| number_after(io, "write_bytes:")),
            context_switches: context_switches(pid),
        }
    }
}

fn context_switches(pid: u32) -> Option<u64> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let of_thread = |path: PathBuf| {
        let status = std::fs::read_to_string(path.join("status")).ok()?;
        let wanted = number_after(&status, "voluntary_ctxt_switches:")?;
        Some(wanted + number_after(&status, "nonvoluntary_ctxt_switches:")?)
    };
    // A thread that has just ended is not counted any more.
    Some(threads.flatten().filter_map(|thread| of_thread(thread.path())).sum())
}

/// User and system time of `/proc/PID/stat`, whose second field may hold anything in brackets.
fn cpu_ns_of(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let user = times.next()?.ok()?;
    let system = times.next()?.ok()?;
    Some((user + system) * USER_TICK_NS)
}

fn number_after(table: &str, name: &str) -> Option<u64> {
    let line = table.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_of_this_process_is_known() {
        let usage = Usage::of(std::process::id());
        assert!(usage.cpu_ns.is_some() && usage.rss_bytes_max > Some(1 << 16));
        assert!(usage.context_switches > Some(0));
    }

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0";
        assert_eq!(cpu_ns_of(stat), Some(2_000_000_000));
        assert_eq!(number_after("a: 1\nwrite_bytes: 42\n", "write_bytes:"), Some(42));
    }
}
