//! How a shard meets the world: `wait` for what happened, `submit` what it wants done. A backend
//! translates and decides nothing: no policy, no order of its own, no retries.

use std::io;

use engine::port::{Done, Now, OpBatch, Time};

#[cfg(feature = "glommio")]
pub mod glommio;
pub mod maintenance;
pub mod sendfile;
pub mod sim;
pub mod uring;

/// When a [`Io::wait`] with nothing to report may come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// Come back at this time at the latest; `None`: there is no timer.
    pub deadline: Option<Time>,
    /// Do not block: look once and come back, with nothing if nothing is there. A backend
    /// whose time is its own (the simulator) may go on to its next event instead, but not past
    /// the deadline.
    pub eager: bool,
}

/// A backend. `engine::port` says what every [`engine::port::Op`] means and which `Done` it gets;
/// this trait says when they cross over.
///
/// One turn is `wait`, then the engine, then `submit`. All ops given to `submit` are on their way
/// no later than when the next `wait` blocks or comes back.
pub trait Io {
    /// Appends what has happened to `dones` and says what time it is.
    ///
    /// - `dones` is appended to, never cleared: the caller may still have some left.
    /// - Comes back as soon as there is at least one new done. Otherwise: at once when
    ///   `until.eager`, else when the deadline has passed; it may come back earlier with nothing
    ///   (a signal, a cancelled op's bookkeeping), and the caller just waits again.
    /// - The time is read after waiting, so it is at or past the deadline if that was the reason.
    /// - Time and order are monotonic; wall time need not be.
    ///
    /// An error is the backend's own failure (the ring is broken), never an op's: those are
    /// dones. After an error the backend is of no more use.
    fn wait(&mut self, until: Wait, dones: &mut Vec<Done>) -> io::Result<Now>;

    /// Takes all ops of the batch, in order, and leaves it empty (with its memory), except for
    /// `notices`, which are not the backend's. It does not wait and gives no dones: it only fills
    /// the submission queue, and the next `wait` enters the kernel once for all of them.
    fn submit(&mut self, batch: &mut OpBatch) -> io::Result<()>;
}
