//! Stopping, being killed, and data that cannot be served.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use pelton_tests::broker::Broker;
use pelton_tests::program::{self, Finished, PATIENCE};
use rustix::process::{Pid, Signal, pidfd_send_signal};
use tempfile::tempdir;

/// A refusal is exit code 2 and a sentence that names what is wrong.
#[track_caller]
fn assert_refused(finished: &Finished, names: &str) {
    let said = &finished.stderr;
    assert_eq!(finished.code, Some(2), "{said}");
    assert!(said.contains(names), "it names `{names}`: {said}");
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(finished.stdout, "");
}

#[test]
fn a_killed_broker_leaves_no_lock() {
    let dir = tempdir().expect("a folder");
    Broker::start(dir.path()).kill();
    Broker::start(dir.path());
}

#[test]
fn a_data_directory_that_is_a_file_is_refused() {
    let dir = tempdir().expect("a folder");
    let file = dir.path().join("file");
    std::fs::write(&file, "in the way").expect("writable");
    let refused = Broker::try_start(&file, &[]).expect_err("it is no directory");
    assert_refused(&refused, &file.display().to_string());
}

#[test]
fn stopping_is_a_normal_end_and_frees_the_data() {
    let dir = tempdir().expect("a folder");
    let finished = Broker::start(dir.path()).stop();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    Broker::start(dir.path());
}

#[test]
fn a_broker_for_a_run_ends_with_it_even_if_the_run_is_killed() {
    let dir = tempdir().expect("a folder");
    let mut command = program::command(&["bench", "run", "-q", "--duration=60s"]);
    command.args(["--broker=journal-bytes=8MiB", "--data-dir"]).arg(dir.path());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut run = command.spawn().expect("the binary starts");
    let broker = program::open(await_holder(dir.path()));
    run.kill().expect("it is our child");
    run.wait().expect("it is our child");
    let has_ended = program::has_ended(&broker, PATIENCE);
    if !has_ended {
        pidfd_send_signal(&broker, Signal::KILL).expect("it goes on");
    }
    assert!(has_ended, "the broker goes on without its run");
}

/// The process that holds the lock of the one data directory below `root`, once there is one.
fn await_holder(root: &Path) -> Pid {
    let begin = Instant::now();
    let holder = |dir: PathBuf| std::fs::read_to_string(dir.join("LOCK")).ok();
    loop {
        let below = std::fs::read_dir(root).expect("readable").flatten();
        let found = below.filter_map(|entry| holder(entry.path())).next();
        // The number is whole once its line is; behind it is when that process was started.
        let line = found.as_deref().and_then(|text| text.strip_suffix('\n'));
        if let Some(pid) = line.and_then(|line| line.split(' ').next()) {
            return Pid::from_raw(pid.parse().expect("a number")).expect("not 0");
        }
        assert!(begin.elapsed() < PATIENCE, "no broker");
        std::thread::yield_now();
    }
}
