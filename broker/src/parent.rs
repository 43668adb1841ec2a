//! A broker that must not outlive the process that started it.

use std::io;
use std::thread;

use rustix::process::{Signal, getpid, kill_process};

/// Asks this process to stop, as SIGTERM does, once its stdin ends: the process that started it
/// holds the other end, so it ends with that process, whatever ended it. (The kernel's parent
/// death signal comes when the thread ends that started the process, which is too early.)
///
/// # Errors
/// The thread that waits could not be started.
pub fn stop_with_stdin() -> io::Result<()> {
    let wait = || {
        // An end and an error mean the same: nobody is there.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        // Fails for no process that exists.
        let _ = kill_process(getpid(), Signal::TERM);
    };
    thread::Builder::new().name("parent".to_owned()).spawn(wait).map(drop)
}
