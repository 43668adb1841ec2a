//! Whether the device has space for more records, and what is done while it has not.
//!
//! ```text
//!  plenty ──► low: fewer bytes are free than are kept back ──► plenty, once a quarter more is free
//!     └─────► full: something found none ──► tried again, once enough is said to be free
//! ```
//!
//! Either way new records are refused at once. What is kept back is for those that were taken in
//! before, for start files, and for the next start, which writes to segments what only the
//! journals hold. The device is asked what is free whenever a segment has grown, while there is
//! too little in steps of [`PROBE_SPACE_NS`], and whenever files were deleted.

use super::partition::PartitionId;
use super::start_file::START_FILE_BYTES;
use super::store::{Store, StoreTag};
use crate::port::{Fault, Level, Notice, Op, OpBatch, Time};
use crate::settings::{PROBE_SPACE_NS, RESERVE_BYTES_MIN};
use crate::units::u64_of;

/// Whether the device has space.
#[derive(Debug)]
pub struct Space {
    /// It had none when it was last tried.
    pub is_full: bool,
    /// It has less than is kept back.
    pub is_low: bool,
    /// It is full, and says that it has some again: one may try.
    may_try: bool,
    /// It has just become short.
    is_new: bool,
    /// It is being asked.
    is_asking: bool,
    /// It is to be asked at once.
    wants_ask: bool,
    /// When it is asked again.
    probe_at: Time,
    /// Segments that want space before a run waits for it: partition, sequence.
    pub(super) wanting: Vec<(PartitionId, u32)>,
    /// Partitions whose records were taken in before the device said no: each with the offset
    /// from which on they wait for space.
    pub(crate) starved: Vec<(PartitionId, u64)>,
}

impl Default for Space {
    fn default() -> Space {
        Space {
            is_full: false,
            is_low: false,
            may_try: false,
            is_new: false,
            is_asking: false,
            wants_ask: true,
            probe_at: Time::default(),
            wanting: Vec::new(),
            starved: Vec::new(),
        }
    }
}

impl Space {
    /// Whether new records are refused.
    pub const fn is_short(&self) -> bool {
        self.is_full || self.is_low
    }

    /// Whether space may be taken now; of a full device once each time it says that it has some.
    pub(super) fn may_take(&mut self) -> bool {
        !self.is_full || std::mem::take(&mut self.may_try)
    }

    /// Whether none may be taken now.
    pub(super) const fn may_not_take(&self) -> bool {
        self.is_full && !self.may_try
    }

    /// Something may have changed.
    pub(super) const fn ask(&mut self) {
        self.wants_ask = true;
    }

    /// Files were deleted.
    pub(crate) const fn was_freed(&mut self) {
        self.wants_ask |= self.is_short();
    }
}

impl Store {
    /// When a device that has too little is to be asked again; one that failed never is.
    pub fn space_deadline(&self) -> Option<Time> {
        let is_due = self.space.is_short() && !self.space.is_asking && self.failed.is_none();
        is_due.then_some(self.space.probe_at)
    }

    /// Asks how much is free, if it is time to, once all that wanted space had its turn.
    pub fn ask_space(&mut self, now: Time, batch: &mut OpBatch) {
        if std::mem::take(&mut self.space.may_try) {
            // Nobody wants space any more: whoever comes next finds out.
            self.found_space();
        }
        if std::mem::take(&mut self.space.is_new) {
            self.delete_spares(batch);
            self.empty_ends();
        }
        let space = &mut self.space;
        let is_due = space.wants_ask || (space.is_short() && now >= space.probe_at);
        if is_due && !space.is_asking && self.failed.is_none() {
            (space.is_asking, space.wants_ask) = (true, false);
            batch.ops.push(Op::SpaceAsk);
        }
    }

    /// The device told how much is free. One that cannot say has enough until it refuses.
    pub fn space_told(&mut self, now: Time, free: Result<u64, Fault>) {
        let free = free.unwrap_or(u64::MAX);
        let min = self.settings.free_bytes_min;
        let space = &mut self.space;
        space.is_asking = false;
        space.probe_at = now.plus_ns(PROBE_SPACE_NS);
        space.may_try = space.is_full && free >= RESERVE_BYTES_MIN;
        if free >= 2 * u64_of(START_FILE_BYTES) {
            self.starts.spares.retry();
        }
        if !space.is_low && free < min {
            (space.is_low, space.is_new) = (true, true);
            let text = format!(
                "the device has {free} bytes free, and {min} are kept back (free-bytes-min): \
                 producing is refused until there are more; reading and deleting go on"
            );
            self.notices.push(Notice { level: Level::Error, conn: None, text });
        } else if space.is_low && free >= min.saturating_add(min / 4) {
            space.is_low = false;
            self.tell_space();
        }
    }

    /// Somebody was given space.
    pub(super) fn found_space(&mut self) {
        if std::mem::take(&mut self.space.is_full) {
            self.tell_space();
        }
    }

    fn tell_space(&mut self) {
        if !self.space.is_short() {
            let text = "the device has space again: producing goes on".to_owned();
            self.notices.push(Notice { level: Level::Info, conn: None, text });
        }
    }

    /// Somebody was not.
    pub(super) fn ran_out(&mut self) {
        self.counters.storage_failures += 1;
        if std::mem::replace(&mut self.space.is_full, true) {
            return;
        }
        self.space.is_new = true;
        let text = "no space left on the device: producing is refused until there is; reading \
                    and deleting go on"
            .to_owned();
        self.notices.push(Notice { level: Level::Error, conn: None, text });
    }

    /// Spares are space that others need more.
    fn delete_spares(&mut self, batch: &mut OpBatch) {
        let paths = self.spares.take_all();
        if !paths.is_empty() {
            batch.ops.push(Op::FilesDelete { tag: StoreTag::Delete.tag(), paths });
        }
    }
}
