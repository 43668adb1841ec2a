//! The shard's journal: a ring of pre-written files and the frames in flight to them.
//!
//! Frames are submitted several at a time and may complete in any order, but count as written or
//! durable in the order of their log sequence numbers, because recovery reads them so.

use std::collections::VecDeque;

use super::failure::Remedy;
use super::partition::PartitionId;
use crate::pool::BufId;
use crate::port::{FileSlot, Sync, Time};

/// Whether a file of the ring may be written to, and what is done until it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileState {
    /// It may.
    Ready,
    /// A write or a flush of it failed: never again.
    Failed,
    /// The write that was to begin it failed: what it holds is older than the oldest file.
    NotBegun,
    /// It could not be opened.
    NotOpened,
    /// It is being deleted.
    Deleting,
    /// There is none.
    Gone,
    /// A new one is being created.
    Creating,
    /// It is there, and empty.
    Created,
    /// It is being zeroed.
    Zeroing,
}

/// One file of the ring.
#[derive(Debug)]
pub struct JournalFile {
    /// Its number for ops.
    pub slot: FileSlot,
    /// Whether it may be written to.
    pub state: FileState,
    /// Runs with parts in this file that are not stored in their segments yet.
    pub pinned: Vec<(PartitionId, u64)>,
    /// How many of `pinned` still hold.
    pub pins: usize,
    /// Whether a flush of it is in flight.
    pub flushing: bool,
    /// How many files had been begun when this one was, by this start; 0 if it was not.
    pub sequence: u64,
    /// Partitions with an entry in this file: it is what proves their segments' ends.
    pub proves: Vec<PartitionId>,
}

/// A frame that is not known durable.
#[derive(Debug)]
pub struct FrameInFlight {
    /// Its log sequence number.
    pub lsn: u64,
    /// Ring place of its file.
    pub file: usize,
    /// Its buffer, until it is written.
    pub buf: Option<BufId>,
    /// Its length.
    pub bytes: usize,
    /// Batches in it that somebody waits for.
    pub waits: usize,
    /// What its write promises.
    pub sync: Sync,
    /// Its write completed.
    pub written: bool,
    /// Its write, or a flush after it, made it durable.
    pub durable: bool,
    /// A flush that covers it is in flight.
    pub in_flush: bool,
    /// Latest time at which a flush shall be submitted.
    pub flush_by: Time,
    /// Commits it carries: partition, and offset behind the last record.
    pub commits: Vec<(PartitionId, u64)>,
}

/// The journal of one shard.
#[derive(Debug)]
pub struct Journal {
    /// The ring.
    pub files: Vec<JournalFile>,
    /// Files of the ring that are not open yet.
    pub unopened: usize,
    /// Length of each file.
    pub file_bytes: u64,
    /// Ring place of the file being written.
    pub active: usize,
    /// Files begun so far, over all starts.
    pub file_sequence: u64,
    /// The frame that begins the active file, while its write is in flight.
    pub beginning: Option<u64>,
    /// Where the next frame goes in the active file.
    pub position: u64,
    /// Number of the next frame.
    pub next_lsn: u64,
    /// Every frame up to this number is durable.
    pub durable_lsn: u64,
    /// Highest watermark that a frame in the journal carries.
    pub published_lsn: u64,
    /// Frames that are not durable, in order.
    pub frames: VecDeque<FrameInFlight>,
    /// How many frames at the front of `frames` have been counted as written.
    pub written_front: usize,
    /// Frames whose write is in flight.
    pub writes_in_flight: usize,
    /// Batches that somebody waits for in those frames.
    pub waits_in_flight: usize,
    /// Frame buffers that are free.
    pub free_bufs: Vec<BufId>,
    /// Commit lists to reuse.
    pub free_commits: Vec<Vec<(PartitionId, u64)>>,
    /// When the last frame was submitted.
    pub last_submit: Time,
    /// What is being done about a file that failed.
    pub remedy: Remedy,
}

impl Journal {
    /// The frame with this number.
    pub fn frame_mut(&mut self, lsn: u64) -> Option<&mut FrameInFlight> {
        let index = lsn.checked_sub(self.frames.front()?.lsn)?;
        self.frames.get_mut(usize::try_from(index).ok()?)
    }

    /// Makes room for a frame of at most `bytes` bytes, moving on to the next file if it must.
    /// `None` if that file is still needed.
    pub fn room(&mut self, bytes: usize) -> Room {
        if self.position + crate::units::u64_of(bytes) <= self.file_bytes {
            return Room::Here;
        }
        // It is deleted before the oldest file, which it may precede, is written over.
        if matches!(self.files[self.active].state, FileState::NotBegun | FileState::Deleting) {
            return Room::None;
        }
        let Some(next) = self.next_place() else { return Room::None };
        if self.files[next].state != FileState::Ready || !self.is_free(next) {
            return Room::None;
        }
        self.files[next].pinned.clear();
        self.active = next;
        self.file_sequence += 1;
        self.position = 0;
        Room::NextFile
    }

    /// Ring place of the file after the active one, which is the oldest.
    pub fn next_place(&self) -> Option<usize> {
        let count = self.files.len();
        let others = (1..count).map(|step| (self.active + step) % count);
        let mut there = others.filter(|&place| self.files[place].state != FileState::Gone);
        there.next()
    }

    /// Whether nothing in a file is needed any more.
    pub fn is_free(&self, place: usize) -> bool {
        self.files[place].pins == 0 && self.frames.iter().all(|frame| frame.file != place)
    }

    /// Whether some durable frame is above every watermark on disk.
    pub fn is_unsealed(&self) -> bool {
        self.durable_lsn > self.published_lsn
    }
}

/// What [`Journal::room`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// The active file has room.
    Here,
    /// A new file was begun.
    NextFile,
    /// The next file still holds what its segments do not.
    None,
}
