//! The mesh between the shards of a process: for each two shards two links, each a stream of
//! bytes in both directions that an engine treats as a connection. A link carries no bytes of
//! its own: the receiver copies them out of the sender's arena into the buffer that its engine
//! gave, once, and then says how far it has come.
//!
//! Whoever spins sees news by looking. Whoever is about to sleep says so at its door, and then
//! looks once more; whoever has told it something and finds it asleep rings, with whatever
//! descriptor the sleeper's backend left there.
//!
//! # No wake-up is lost
//!
//! ```text
//! teller                              sleeper
//! 1. write news (lane)                a. door: I sleep
//! 2. fence                            b. fence
//! 3. read door; asleep: clear, ring   c. read all lanes; nothing: sleep
//! ```
//! Both fences are sequentially consistent, so one of them is first. If 2 is before b, then c
//! sees the news of 1 and the sleeper does not sleep. If b is before 2, then 3 sees what a wrote,
//! or something newer: asleep, in which case it rings; or awake, written either by the sleeper,
//! which is up and will come through a to c again, or by another teller, which rings in its
//! stead. A ring cannot come too early: it is a completion, which waits in the sleeper's queue.
//! Clearing the door makes the first teller of many the only one who rings. `scripts/loom` tries
//! all of it in every order that the processor may choose.

mod end;
mod lane;
mod numbers;
mod sync;
#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use engine::pool::Arena;

use self::lane::Lane;
use self::sync::AtomicBool;

pub use self::end::{MeshCounters, MeshEnd, Rest};
pub use self::numbers::{ENDS, Link, LinkNumbers, SHARDS_MAX, opposite};

/// What all shards share. It keeps every arena alive as long as anybody may read from it.
#[derive(Debug)]
pub struct Mesh {
    arenas: Vec<Arc<Arena>>,
    /// The lane from shard `w` to shard `r` is at `w * shards + r`.
    lanes: Vec<Lane>,
    doors: Vec<Door>,
}

/// Where a shard can be woken.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Door {
    is_asleep: AtomicBool,
    /// Put there once, before the shard sleeps for the first time.
    bell: OnceLock<OwnedFd>,
}

impl Mesh {
    /// A mesh between the shards that own these arenas: one end for each, in their order.
    pub fn weave(arenas: Vec<Arc<Arena>>) -> Vec<MeshEnd> {
        let shards = u16::try_from(arenas.len()).expect("few shards");
        assert!((1..=SHARDS_MAX).contains(&shards), "1 to 64 shards");
        let count = arenas.len();
        let mesh = Arc::new(Mesh {
            arenas,
            lanes: (0..count * count).map(|_| Lane::default()).collect(),
            doors: (0..count).map(|_| Door::default()).collect(),
        });
        (0..shards).map(|shard| MeshEnd::new(Arc::clone(&mesh), shard)).collect()
    }

    fn shards(&self) -> usize {
        self.arenas.len()
    }

    fn lane(&self, writer: u16, reader: u16) -> &Lane {
        &self.lanes[usize::from(writer) * self.shards() + usize::from(reader)]
    }

    fn door(&self, shard: u16) -> &Door {
        &self.doors[usize::from(shard)]
    }

    fn arena(&self, shard: u16) -> &Arena {
        &self.arenas[usize::from(shard)]
    }
}
