//! Where connections come from: each listening socket has one multishot accept, which stays armed
//! as long as the ring lives.

use std::net::TcpListener;
use std::os::fd::AsRawFd;

use engine::port::Time;
use io_uring::types::Fd;
use io_uring::{opcode, squeue};

use super::conns::Completion;
use super::token::{Kind, Token};
use crate::clock;

/// After an accept failed for want of something, its listener is armed again this much later.
const ACCEPT_RETRY_NS: u64 = 100_000_000;

/// Whether a listener is armed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accepting {
    Armed,
    /// An accept failed: arm it again then, or when a connection is gone.
    After(Time),
}

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    accepting: Accepting,
}

/// All listening sockets of a shard.
#[derive(Debug)]
pub struct Listeners {
    all: Vec<Listener>,
}

impl Listeners {
    /// None of these is armed yet.
    pub fn new(sockets: Vec<TcpListener>) -> Listeners {
        let listener = |socket| Listener { socket, accepting: Accepting::After(Time(0)) };
        Listeners { all: sockets.into_iter().map(listener).collect() }
    }

    /// When the next one is to be armed again.
    pub fn accept_at(&self) -> Option<Time> {
        let at = |listener: &Listener| match listener.accepting {
            Accepting::After(time) => Some(time),
            Accepting::Armed => None,
        };
        self.all.iter().filter_map(at).min()
    }

    /// Arms those whose time has come.
    pub fn arm_due(&mut self, now: Time, staged: &mut Vec<squeue::Entry>) {
        for (index, listener) in (0..).zip(&mut self.all) {
            if matches!(listener.accepting, Accepting::After(time) if time <= now) {
                staged.push(arm(index, listener));
            }
        }
    }

    /// A connection is gone, so there is room for another.
    pub fn arm_all(&mut self, staged: &mut Vec<squeue::Entry>) {
        self.arm_due(Time(u64::MAX), staged);
    }

    /// An accept has completed; if it was the last one of its arming, it is armed again now, or
    /// later if it failed.
    pub fn completed(&mut self, completion: Completion, staged: &mut Vec<squeue::Entry>) {
        let index = usize::try_from(completion.token.index).expect("u32 fits usize");
        // It is not there any more once the ring has stopped accepting.
        let Some(listener) = self.all.get_mut(index) else { return };
        if completion.more() {
            return;
        }
        match completion.count() {
            Ok(_) => staged.push(arm(completion.token.index, listener)),
            Err(_) => {
                let retry = clock::now().time.plus_ns(ACCEPT_RETRY_NS);
                listener.accepting = Accepting::After(retry);
            }
        }
    }

    /// Closes them all.
    pub fn close(&mut self) {
        self.all.clear();
    }
}

fn arm(index: u32, listener: &mut Listener) -> squeue::Entry {
    listener.accepting = Accepting::Armed;
    let token = Token { kind: Kind::Accept, generation: 0, index };
    opcode::AcceptMulti::new(Fd(listener.socket.as_raw_fd()))
        .allocate_file_index(true)
        .build()
        .user_data(token.user_data())
}
