//! What becomes of records whose write, or the flush behind it, failed.
//!
//! A failure ends its file: from the moment it is noticed, nothing that was in flight there
//! counts, and the file is never written to again. What is void by that is still in memory. It
//! goes to another file, durably, and is read back from there before anything rests on it. A
//! failure of that file is the second: the shard then takes no more records, and serves what it
//! has.
//!
//! ```text
//!  a write of it failed ──► its file is quiet ──► void: sealed again, it owes a proof
//!     ──► written to another file, durably ──► read back, the same ──► stored
//!                     └─ fails ─┴── fails ──► read-only
//! ```
//!
//! Some of it may have been acknowledged as written, and whoever starts after a kill finds it in
//! the file that failed, as long as nothing tells that another one goes on before its end. So what
//! tells that comes last: the first frame of the next file.

mod journal;
mod proof;
mod segment;
mod stall;

use super::partition::PartitionId;
use super::slab::Slab;
use super::store::Store;
use crate::layout::FilePath;
use crate::port::{Fault, Level, Notice};

pub use journal::Remedy;
use proof::ReadBack;
use segment::Ending;
pub use stall::Pulse;

/// Files that failed, and what of them is being made good.
#[derive(Debug, Default)]
pub struct Failures {
    /// Partitions with a segment that failed and is not done with.
    ending: Vec<Ending>,
    /// Runs to be read back: partition, base offset.
    due: Vec<(PartitionId, u64)>,
    /// Runs that are being read back.
    reading: Slab<ReadBack>,
}

impl Failures {
    /// A run is to be read back before anything rests on it.
    pub(super) fn prove(&mut self, id: PartitionId, base_offset: u64) {
        self.due.push((id, base_offset));
    }

    /// Forgets a partition that is deleted, but for the files that it leaves.
    pub(super) fn forget(&mut self, id: PartitionId) {
        self.due.retain(|&(other, _)| other != id);
    }

    /// The files of a deleted partition that held what was void.
    pub(super) fn reap(&mut self, id: PartitionId) -> Vec<FilePath> {
        let ending = self.ending.extract_if(.., |ending| ending.partition == id);
        ending.flat_map(|ending| ending.void).collect()
    }

    /// Whether nothing is being made good.
    pub fn is_idle(&self) -> bool {
        self.ending.is_empty() && self.due.is_empty() && self.reading.is_empty()
    }

    /// Buffers in use.
    pub fn buffers(&self) -> usize {
        self.reading.len()
    }
}

impl Store {
    /// A file of the shard failed, and others may take its place.
    fn note_failure(&mut self, what: &str, Fault(errno): Fault, then: &str) {
        self.counters.files_failed += 1;
        let text = format!("{what} (errno {errno}); {then}");
        self.notices.push(Notice { level: Level::Error, conn: None, text });
    }

    /// The device failed for good: from now on nothing is appended, and what waits is answered
    /// with an error. Whether it survives is in doubt, so it is never called safe.
    pub(super) fn fail(&mut self, fault: Fault, what: &str) {
        self.counters.storage_failures += 1;
        if self.failed.is_some() {
            return;
        }
        self.failed = Some(fault);
        self.counters.read_only = 1;
        let Fault(errno) = fault;
        let why = match fault {
            Fault::EROFS => "the file system is read-only".to_owned(),
            _ => format!("the device fails (errno {errno})"),
        };
        let text = format!(
            "{what}: {why}; this shard is read-only until the broker is restarted: producing is \
             refused, reading goes on"
        );
        self.notices.push(Notice { level: Level::Error, conn: None, text });
    }
}
