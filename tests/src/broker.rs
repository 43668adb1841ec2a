//! A serving `pelton` process.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::program::{self, Finished, PATIENCE};

/// Small limits, so that tests meet their edges: journals wrap, segments roll, memory runs out.
const FLAGS: [&str; 4] =
    ["--journal-bytes=8MiB", "--segment-bytes=4MiB", "--memory-bytes=64MiB", "--spin-us=20"];

/// A broker on a port of its own. Dropping it kills it, and shows its log if the test failed.
#[derive(Debug)]
pub struct Broker {
    child: Child,
    address: String,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Broker {
    /// Serves the data directory and waits until it listens.
    ///
    /// # Panics
    /// If it does not: the message shows what it said.
    #[track_caller]
    pub fn start(data_dir: &Path) -> Self {
        match Self::try_start(data_dir, &[]) {
            Ok(broker) => broker,
            Err(finished) => panic!("no broker (exit {:?}): {}", finished.code, finished.stderr),
        }
    }

    /// Serves the data directory with the limits that users have, and these flags.
    ///
    /// # Panics
    /// If it does not.
    pub fn start_as_shipped(data_dir: &Path, flags: &[&str]) -> Self {
        let mut command = bare(data_dir);
        command.args(flags);
        match Self::await_ready(Self::spawn_command(command)) {
            Ok(broker) => broker,
            Err(finished) => panic!("no broker (exit {:?}): {}", finished.code, finished.stderr),
        }
    }

    /// As [`Broker::start`], with more flags.
    ///
    /// # Errors
    /// It ended before it listened: what it left behind.
    pub fn try_start(data_dir: &Path, flags: &[&str]) -> Result<Self, Finished> {
        Self::await_ready(Self::spawn(data_dir, flags))
    }

    /// The same below a limit that a shell sets: `ulimit` and these words.
    ///
    /// # Errors
    /// It ended before it listened: what it left behind.
    pub fn try_start_limited(data_dir: &Path, ulimit: &str) -> Result<Self, Finished> {
        let serve = serve(data_dir, &[]);
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("ulimit {ulimit}; exec \"$0\" \"$@\""));
        shell.arg(serve.get_program()).args(serve.get_args());
        Self::await_ready(Self::spawn_command(shell))
    }

    fn await_ready((mut broker, ready): (Self, Receiver<String>)) -> Result<Self, Finished> {
        match ready.recv_timeout(PATIENCE) {
            Ok(address) => {
                broker.address = address;
                Ok(broker)
            }
            Err(_) => Err(broker.finish()),
        }
    }

    /// Kills a broker this long after its start, be it ready by then or still recovering.
    pub fn kill_at_start(data_dir: &Path, flags: &[&str], after: Duration) {
        let (broker, ready) = Self::spawn(data_dir, flags);
        // Either way it is killed: being ready early only makes the kill come early.
        let _ = ready.recv_timeout(after);
        broker.kill();
    }

    fn spawn(data_dir: &Path, flags: &[&str]) -> (Self, Receiver<String>) {
        Self::spawn_command(serve(data_dir, flags))
    }

    fn spawn_command(mut command: Command) -> (Self, Receiver<String>) {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stderr = child.stderr.take().expect("piped");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (reader, ready) = follow(stderr, Arc::clone(&log));
        (Broker { child, address: String::new(), log, reader: Some(reader) }, ready)
    }

    /// HOST:PORT.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("no holder panics").join("\n")
    }

    /// Runs a client command against it.
    pub fn run(&self, args: &[&str], stdin: &[u8]) -> Finished {
        let mut command = program::command(args);
        command.args(["--server", &self.address]);
        program::finish(command, stdin)
    }

    /// Ends it as a power switch would, as far as a process can tell.
    pub fn kill(mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// Asks it to stop, and gives what it left behind.
    pub fn stop(mut self) -> Finished {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("it runs");
        self.finish()
    }

    fn finish(&mut self) -> Finished {
        let status = program::wait(&mut self.child, PATIENCE);
        if status.is_none() {
            self.child.kill().expect("it is our child");
        }
        let reader = self.reader.take().expect("finished once");
        reader.join().expect("the reader does not panic");
        let stderr = self.log();
        let status = status.unwrap_or_else(|| panic!("the broker did not end:\n{stderr}"));
        Finished { code: status.code(), stdout: String::new(), stderr }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Fails only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the broker's log:\n{}", self.log());
        }
    }
}

/// The command that serves a data directory, within small limits.
fn serve(data_dir: &Path, flags: &[&str]) -> Command {
    let mut command = bare(data_dir);
    command.args(FLAGS).args(flags);
    command
}

fn bare(data_dir: &Path) -> Command {
    let mut command = program::command(&["serve", "--listen=127.0.0.1:0", "--data-dir"]);
    command.arg(data_dir);
    command
}

/// Reads the log to its end, so that the broker never blocks on it; tells the address once.
fn follow(stderr: ChildStderr, log: Arc<Mutex<Vec<String>>>) -> (JoinHandle<()>, Receiver<String>) {
    let (sender, receiver) = channel();
    let reader = thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if let Some((_, rest)) = line.split_once("ready listen=") {
                let address = rest.split_whitespace().next().unwrap_or_default();
                // Nobody waits any more where the test has given up.
                let _ = sender.send(address.to_owned());
            }
            log.lock().expect("no holder panics").push(line);
        }
    });
    (reader, receiver)
}
