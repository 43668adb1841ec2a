//! The `null` target: requests are built, checksummed, proven and answered within the thread that
//! makes them. What it reaches is the most that a generator thread can do.

use client::transport::{Interest, Received, Transport};
use client::{ClientError, Connection};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::sink::{Proof, Sink, SinkCounters};
use super::{Target, connect_options};
use crate::run::work::Work;

/// Connections into the same thread.
pub(in crate::run) struct Null {
    counters: Arc<SinkCounters>,
    lanes: usize,
}

impl Null {
    /// None yet; what they take is counted in `counters`.
    pub(in crate::run) fn new(counters: &Arc<SinkCounters>) -> Self {
        Self { counters: Arc::clone(counters), lanes: 0 }
    }
}

impl Target for Null {
    type Transport = NullTransport;

    fn connect(
        &mut self,
        _: &Work<'_>,
        lane: usize,
        _: u32,
    ) -> Result<Connection<NullTransport>, ClientError> {
        self.lanes = self.lanes.max(lane + 1);
        let sink = Sink::new(&self.counters, Proof::Records);
        let transport = NullTransport { sink, answers: Vec::new(), taken: 0 };
        Connection::with_transport(transport, &connect_options())
    }

    /// There is nothing between the two ends.
    fn hang_up(&self, _: &mut Connection<NullTransport>) {}

    /// Nobody serves this thread, so nobody needs its core: a system call in each round would only
    /// hold it up.
    fn rest(&self) {
        std::hint::spin_loop();
    }

    fn wait(&mut self, timeout_ns: u64, readable: &mut dyn FnMut(usize)) -> io::Result<()> {
        // Answers come with the request: nothing arrives while nobody sends.
        if timeout_ns > 0 {
            std::thread::sleep(Duration::from_nanos(timeout_ns));
        }
        (0..self.lanes).for_each(readable);
        Ok(())
    }
}

/// Bytes go to a sink of their own.
#[derive(Debug)]
pub(in crate::run) struct NullTransport {
    sink: Sink,
    answers: Vec<u8>,
    /// Of the answers.
    taken: usize,
}

impl Transport for NullTransport {
    fn send(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.sink
            .take(parts.iter().map(|part| &**part), &mut self.answers)
            .map_err(|_| io::Error::other("a frame is not what it should be"))?;
        Ok(parts.iter().map(|part| part.len()).sum())
    }

    fn receive(&mut self, space: &mut [u8]) -> io::Result<Received> {
        let waiting = &self.answers[self.taken..];
        let count = waiting.len().min(space.len());
        if count == 0 {
            return Ok(Received::Nothing);
        }
        space[..count].copy_from_slice(&waiting[..count]);
        self.taken += count;
        if self.taken == self.answers.len() {
            self.answers.clear();
            self.taken = 0;
        }
        Ok(Received::Bytes(count))
    }

    fn wait(&mut self, _: Interest, _: Instant) -> io::Result<()> {
        Ok(())
    }
}
