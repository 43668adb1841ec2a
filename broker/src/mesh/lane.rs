//! What one shard tells another: a lane for every ordered pair of shards, written by the one and
//! read by the other. It names bytes in the writer's arena and carries none itself.
//!
//! ```text
//!          ┌ one cache line ──────────────────────────────┐
//! header   │ posted ×2      taken ×2      calls      (pad)│
//!          ├──────────────────────────────────────────────┤
//! slots    │ 16 places and lengths for each of two links  │
//!          └──────────────────────────────────────────────┘
//! ```
//!
//! For each of the two links between the pair the slots are a ring of descriptors: `posted`
//! counts the slices that the writer has ever put there, `taken` counts the slices of the
//! *reader* (in the lane of the opposite direction) whose bytes the writer has copied away. All
//! counters only grow, and each has one writer.
//!
//! # Order of memory
//!
//! The writer fills its slots and its arena, then stores `posted` with release; the reader loads
//! `posted` with acquire, so it sees the slots and the bytes. The slots themselves need no order
//! of their own. The reader copies, then stores `taken` in its own lane with release; the writer
//! loads that with acquire, so the copying is over before the writer reuses the slots or tells
//! its engine that the bytes may change. A slot is never written while it may be read: a send
//! posts at most [`LANE_SLOTS`] slices, and the next one begins when all of them are taken.

use engine::pool::Slice;
use engine::port::{LinkEnd, SEND_SLICES_MAX};

use super::numbers::index;
use super::sync::{AtomicU32, AtomicU64, Ordering};

/// Slices of one link that may be under way: those of the one send that may be open.
pub const LANE_SLOTS: usize = SEND_SLICES_MAX;

// A ring of this length finds a slot by masking.
const _: () = assert!(LANE_SLOTS.is_power_of_two());

/// All that is written by one shard and read by one other. Aligned to two cache lines: processors
/// fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct Lane {
    header: Header,
    slots: [[Slot; LANE_SLOTS]; 2],
}

/// What the reader looks at in every turn.
#[derive(Debug, Default)]
#[repr(C, align(64))]
struct Header {
    /// By the writer's end of the link.
    posted: [AtomicU64; 2],
    /// By the writer's end of the link.
    taken: [AtomicU64; 2],
    /// Times the writer wanted the reader awake.
    calls: AtomicU64,
}

// The eager look of a turn costs one line for each peer. (A model's words are longer.)
#[cfg(not(loom))]
const _: () = assert!(size_of::<Header>() == 64);

/// A slice, in two words.
#[derive(Debug, Default)]
#[repr(C)]
struct Slot {
    offset: AtomicU64,
    len: AtomicU32,
}

/// The writer's calls.
impl Lane {
    /// Puts a slice into the slot with this number.
    pub fn fill(&self, end: LinkEnd, number: u64, slice: Slice) {
        let slot = self.slot(end, number);
        slot.offset.store(slice.offset, Ordering::Relaxed);
        slot.len.store(slice.len, Ordering::Relaxed);
    }

    /// Shows the reader all slots in front of this number.
    pub fn post(&self, end: LinkEnd, posted: u64) {
        self.header.posted[index(end)].store(posted, Ordering::Release);
    }

    /// Tells the reader that all its slices in front of this number have been copied.
    pub fn take(&self, end: LinkEnd, taken: u64) {
        self.header.taken[index(end)].store(taken, Ordering::Release);
    }

    /// Wants the reader awake.
    pub fn call(&self) {
        let calls = self.header.calls.load(Ordering::Relaxed);
        self.header.calls.store(calls + 1, Ordering::Release);
    }
}

/// The reader's calls. An end is always the writer's.
impl Lane {
    /// How many slices were ever posted.
    pub fn posted(&self, end: LinkEnd) -> u64 {
        self.header.posted[index(end)].load(Ordering::Acquire)
    }

    /// How many of the reader's own slices the writer has copied away.
    pub fn taken(&self, end: LinkEnd) -> u64 {
        self.header.taken[index(end)].load(Ordering::Acquire)
    }

    /// How often the writer has called.
    pub fn calls(&self) -> u64 {
        self.header.calls.load(Ordering::Acquire)
    }

    /// The slice with this number, which is posted.
    pub fn slice(&self, end: LinkEnd, number: u64) -> Slice {
        let slot = self.slot(end, number);
        Slice { offset: slot.offset.load(Ordering::Relaxed), len: slot.len.load(Ordering::Relaxed) }
    }

    fn slot(&self, end: LinkEnd, number: u64) -> &Slot {
        let number = usize::try_from(number).expect("u64 fits usize on 64-bit Linux");
        &self.slots[index(end)][number % LANE_SLOTS]
    }
}
