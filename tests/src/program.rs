//! Runs the `pelton` binary to its end.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Longer than any command takes on a slow and busy machine; a test that reaches it fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The binary, built once per test process by the cargo that runs the tests, in its profile.
pub fn pelton() -> &'static Path {
    static PELTON: OnceLock<PathBuf> = OnceLock::new();
    PELTON.get_or_init(|| {
        let test = std::env::current_exe().expect("a test knows its own path");
        // A test lies in PROFILE/deps, a program in PROFILE.
        let mut folders = test.ancestors().skip(1);
        let is_profile = |folder: &&Path| folder.file_name().is_none_or(|name| name != "deps");
        let profile_dir = folders.find(is_profile).expect("cargo has built it");
        let target_dir = profile_dir.parent().expect("it lies in the target folder");
        let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(name) => name,
        };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(["build", "--quiet", "--package", "pelton", "--profile", profile])
            .arg("--target-dir")
            .arg(target_dir)
            .current_dir(workspace())
            .status();
        assert!(status.expect("cargo runs").success(), "the binary does not build");
        profile_dir.join("pelton")
    })
}

/// The folder of the project.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

/// What a command left behind.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// All of its stdout.
    pub stdout: String,
    /// All of its stderr.
    pub stderr: String,
}

impl Finished {
    /// Its stdout, if it succeeded.
    ///
    /// # Panics
    /// If it did not: the message shows what it said.
    #[track_caller]
    pub fn expect_success(self) -> String {
        assert_eq!(self.code, Some(0), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }
}

/// Runs `pelton` with these arguments and this input.
pub fn run(args: &[&str], stdin: &[u8]) -> Finished {
    finish(command(args), stdin)
}

/// The command, in an environment without settings of ours.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(pelton());
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"PELTON_") {
            command.env_remove(name);
        }
    }
    command.args(args);
    command
}

/// Runs a prepared command to its end.
pub fn finish(mut command: Command, stdin: &[u8]) -> Finished {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut input = child.stdin.take().expect("piped");
    let stdout = child.stdout.take().expect("piped");
    let stderr = child.stderr.take().expect("piped");
    thread::scope(|scope| {
        let stdout = scope.spawn(|| read_all(stdout));
        let stderr = scope.spawn(|| read_all(stderr));
        // A command may end without reading its input.
        let _ = input.write_all(stdin);
        drop(input);
        let status = wait(&mut child, PATIENCE);
        if status.is_none() {
            child.kill().expect("it is our child");
        }
        let (stdout, stderr) = (stdout.join(), stderr.join());
        let (stdout, stderr) = (stdout.expect("no panic"), stderr.expect("no panic"));
        let status = status.unwrap_or_else(|| panic!("did not end\n{stdout}\n{stderr}"));
        Finished { code: status.code(), stdout, stderr }
    })
}

/// Waits for the end of a child without polling; none if it goes on for longer.
pub fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let ended = open(Pid::from_child(child));
    has_ended(&ended, patience).then(|| child.wait().expect("it is our child"))
}

/// A process that exists, to wait for its end.
pub fn open(pid: Pid) -> OwnedFd {
    pidfd_open(pid, PidfdFlags::empty()).expect("it exists")
}

/// Whether the process ends in time.
pub fn has_ended(process: &OwnedFd, patience: Duration) -> bool {
    let timeout = Timespec::try_from(patience).expect("a minute fits");
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    let ready = loop {
        match poll(&mut fds, Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            ready => break ready.expect("poll works"),
        }
    };
    ready > 0
}

fn read_all(mut from: impl Read) -> String {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).expect("a pipe is readable");
    String::from_utf8_lossy(&bytes).into_owned()
}
