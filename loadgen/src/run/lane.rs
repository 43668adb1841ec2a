//! Connections of a generator thread: which are there, which were lost, and when these are made
//! again.

use client::transport::Transport;
use client::{ClientError, Connection};

use super::target::Target;
use super::work::{Lost, Progress};

/// Between two tries to make a lost connection again.
const RETRY_NS: u64 = 1_000_000;

/// One connection with its role.
pub(super) struct Lane<T: Transport, R> {
    pub(super) connection: Connection<T>,
    pub(super) role: R,
    /// Of the producer or consumer.
    pub(super) number: u32,
    /// The socket may have bytes: it was not seen empty since it last said so.
    pub(super) readable: bool,
    pub(super) alive: bool,
}

impl<T: Transport, R> Lane<T, R> {
    /// Of a connection that was just made.
    pub(super) fn new((connection, (role, number)): (Connection<T>, (R, u32))) -> Self {
        Self { connection, role, number, readable: true, alive: true }
    }
}

/// What becomes of the connections that a thread loses.
pub(super) struct Ties {
    lost: Lost,
    /// When they are tried again; never while none is lost.
    retry_ns: u64,
    /// How often all were dropped on purpose.
    drops: u64,
}

impl Ties {
    pub(super) fn new(lost: Lost, progress: &Progress) -> Self {
        Self { lost, retry_ns: u64::MAX, drops: progress.drops() }
    }

    /// A connection is gone, for ever or until it is made again: which of them.
    pub(super) fn lose<T: Transport, R>(&mut self, lane: &mut Lane<T, R>, now_ns: u64) -> Lost {
        lane.alive = false;
        if self.lost == Lost::Returns {
            self.retry_ns = now_ns;
        }
        self.lost
    }

    /// Whether nothing more is to be expected from there.
    pub(super) fn is_gone<T: Transport, R>(&self, lane: &Lane<T, R>) -> bool {
        !lane.alive && self.lost == Lost::Stays
    }

    /// When lost connections are tried again.
    pub(super) const fn retry_ns(&self) -> u64 {
        self.retry_ns
    }

    /// Ends all connections, if that was asked for since the last time.
    pub(super) fn drop_if_asked<T: Target, R>(
        &mut self,
        target: &T,
        lanes: &mut [Lane<T::Transport, R>],
        progress: &Progress,
    ) {
        let drops = progress.drops();
        if drops == std::mem::replace(&mut self.drops, drops) {
            return;
        }
        for lane in lanes.iter_mut().filter(|lane| lane.alive) {
            target.hang_up(&mut lane.connection);
            lane.readable = true;
        }
    }

    /// Makes lost connections again by `dial`, which is given a lane and its number. The first
    /// that fails lets the others wait: it is the broker that is away. Gives the lanes that are
    /// back.
    pub(super) fn reconnect<T: Transport, R>(
        &mut self,
        lanes: &mut [Lane<T, R>],
        now_ns: u64,
        mut dial: impl FnMut(usize, u32) -> Result<Connection<T>, ClientError>,
    ) -> Vec<usize> {
        let mut back = Vec::new();
        self.retry_ns = u64::MAX;
        for (index, lane) in lanes.iter_mut().enumerate().filter(|(_, lane)| !lane.alive) {
            let Ok(connection) = dial(index, lane.number) else {
                self.retry_ns = now_ns + RETRY_NS;
                break;
            };
            (lane.connection, lane.alive, lane.readable) = (connection, true, true);
            back.push(index);
        }
        back
    }
}
