//! Numbers of open files.
//!
//! A file that was opened is not closed for want of numbers before whoever wanted it had a turn
//! to use it. Else files that wait for numbers would close each other for ever.

use crate::port::FileSlot;
use crate::units::u32_of;

/// Which file numbers are free.
#[derive(Debug)]
pub struct FileSlots {
    free: Vec<u32>,
    /// Opened since the last turn.
    fresh: Vec<FileSlot>,
    /// Somebody got none in this turn.
    was_refused: bool,
    /// Somebody got none who may get one in the next turn.
    pub wants_turn: bool,
}

impl FileSlots {
    /// `count` numbers, all free.
    pub fn new(count: usize) -> FileSlots {
        let free = (0..u32_of(count)).rev().collect();
        FileSlots { free, fresh: Vec::new(), was_refused: false, wants_turn: false }
    }

    /// The lowest number given back last.
    pub fn take(&mut self) -> Option<FileSlot> {
        self.free.pop().map(FileSlot)
    }

    /// Gives a number back.
    pub fn give(&mut self, slot: FileSlot) {
        self.free.push(slot.0);
    }

    /// A file was opened, or not.
    pub(super) fn opened(&mut self, slot: FileSlot) {
        self.fresh.push(slot);
    }

    /// Whether it was opened since the last turn.
    pub(super) fn is_fresh(&self, slot: FileSlot) -> bool {
        self.fresh.contains(&slot)
    }

    /// Somebody gets no number.
    pub(super) const fn refuse(&mut self) {
        self.was_refused = true;
    }

    /// Everybody had a turn.
    pub fn end_turn(&mut self) {
        let was_refused = std::mem::take(&mut self.was_refused);
        self.wants_turn = was_refused && !self.fresh.is_empty();
        self.fresh.clear();
    }
}
