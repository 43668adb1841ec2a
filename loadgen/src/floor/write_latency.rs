//! The latency of one small write: what no acknowledgement of a record on disk can undercut.

use super::probe_file::ProbeFile;
use super::ring::ProbeRing;
use super::{Durability, IdleMode, Neighbour, ProbeError, Setting, on_core};
use crate::clock::monotonic_ns;
use crate::latency::Latencies;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const WRITE_LEN: usize = 4096;
const FILE_MIB: u32 = 16;
/// The first writes of a slice find cold caches and a sleeping disk.
const WARM_UP_WRITES: u64 = 8;

/// 4 KiB O_DIRECT writes from a fixed buffer, one at a time, in order, into blocks that were zeroed
/// and made durable before, on the shard's core; with `RWF_DSYNC` where they are to be durable.
pub struct WriteProbe {
    file: ProbeFile,
    next: u64,
}

impl WriteProbe {
    /// Creates and zeroes the scratch file in `dir`.
    pub fn create(dir: &Path) -> Result<Self, ProbeError> {
        Ok(Self { file: ProbeFile::create(dir, "write", FILE_MIB)?, next: 0 })
    }

    /// Writes for `time` and returns the latency of each write.
    pub fn slice(
        &mut self,
        setting: &Setting,
        how: Durability,
        time: Duration,
    ) -> Result<Latencies, ProbeError> {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            if setting.neighbour == Neighbour::BusyPolling {
                scope.spawn(|| poll_until(&stop, setting.generator_core));
            }
            let result = on_core(setting.broker_core, || self.write(setting.disk_idle, how, time));
            stop.store(true, Ordering::Relaxed);
            result
        })
    }

    fn write(
        &mut self,
        idle: IdleMode,
        how: Durability,
        time: Duration,
    ) -> Result<Latencies, ProbeError> {
        let mut ring = ProbeRing::new(self.file.as_fd(), 1, WRITE_LEN)?;
        let mut latencies = Latencies::new();
        let blocks = self.file.len() / WRITE_LEN as u64;
        let end = std::time::Instant::now() + time;
        for write in 0.. {
            let begin = monotonic_ns();
            let offset = self.next % blocks * WRITE_LEN as u64;
            ring.write(0, WRITE_LEN, offset, how);
            if ring.wait(idle)?.bytes != WRITE_LEN {
                return Err(std::io::Error::from(std::io::ErrorKind::WriteZero).into());
            }
            self.next += 1;
            if write >= WARM_UP_WRITES {
                latencies.record(monotonic_ns() - begin);
            }
            if std::time::Instant::now() >= end {
                break;
            }
        }
        Ok(latencies)
    }
}

/// What a busy-polling generator without answers does: look, yield, again.
fn poll_until(stop: &AtomicBool, core: usize) {
    // Unpinned, it is still a busy neighbour somewhere.
    let _ = crate::cores::pin_to(&[core]);
    while !stop.load(Ordering::Relaxed) {
        rustix::thread::sched_yield();
    }
}
