//! Numbers of open files.

use crate::port::FileSlot;
use crate::units::u32_of;

/// Which file numbers are free.
#[derive(Debug)]
pub struct FileSlots {
    free: Vec<u32>,
}

impl FileSlots {
    /// `count` numbers, all free.
    pub fn new(count: usize) -> FileSlots {
        FileSlots { free: (0..u32_of(count)).rev().collect() }
    }

    /// The lowest number given back last.
    pub fn take(&mut self) -> Option<FileSlot> {
        self.free.pop().map(FileSlot)
    }

    /// Gives a number back.
    pub fn give(&mut self, slot: FileSlot) {
        self.free.push(slot.0);
    }
}
