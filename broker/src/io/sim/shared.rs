//! One simulated disk under several shards of a world.

use std::cell::{RefCell, RefMut};
use std::rc::Rc;

use super::SimDisk;

/// A disk that several backends use. A clone is the same disk.
#[derive(Debug, Clone)]
pub struct SharedDisk {
    disk: Rc<RefCell<SimDisk>>,
}

impl SharedDisk {
    /// The disk itself, for one statement at a time.
    pub fn get(&self) -> RefMut<'_, SimDisk> {
        self.disk.borrow_mut()
    }

    /// The disk, now that nobody else uses it.
    ///
    /// # Panics
    /// If somebody does.
    pub fn into_disk(self) -> SimDisk {
        let disk = Rc::try_unwrap(self.disk).expect("only one backend is left");
        disk.into_inner()
    }
}

impl From<SimDisk> for SharedDisk {
    fn from(disk: SimDisk) -> SharedDisk {
        SharedDisk { disk: Rc::new(RefCell::new(disk)) }
    }
}
