//! Long batches that cross from shard to shard while memory is short.

use broker::io::sim::SimDisk;
use engine::Settings;
use pelton_tests::model::Model;
use pelton_tests::workload::{Habits, Load, Workload};
use pelton_tests::world::World;

/// Lives of `shards` shards whose clients send long batches only, to partitions of all of them.
fn live(seed: u64, shards: u16, actions: u32, sizes: [u64; 6]) -> Vec<String> {
    let settings = Settings { shards, ..Settings::tiny() };
    let mut model = Model::default();
    let mut world = World::boot(&settings, SimDisk::new(seed), seed).expect("a first start");
    let habits = Habits { actions: [80, 0, 8, 0, 0, 0, 4, 0, 0, 2, 1], sizes, acks: [1, 1, 2, 6] };
    let load = Load { clients: 24, actions };
    let mut work = Workload::with_habits(seed, load, habits);
    let ended = work.run(&mut world, &mut model);
    assert_eq!(ended, Ok(()), "no power loss is planned");
    model.violations().to_vec()
}

/// Connections that send large frames hold a page each for the next header. Their pages came to
/// lie all over the memory, and with nearly all of it free there was no piece for a request of
/// some hundred kilobytes: it waited for ever, and on a link everything behind it, and with it
/// the memory of the shard that had sent it. Besides, a request that came by a link waited for
/// this shard's own links to become shorter, which could wait for the other shard in the same
/// way. Now those pages are given back, the longest frame of a link and of a client has memory of
/// its own, and what comes by a link waits for the disk alone.
#[test]
fn long_batches_cross_while_memory_is_in_pieces() {
    for (seed, shards, actions, sizes) in SHOWN_BY {
        let violations = live(seed, shards, actions, sizes);
        assert!(violations.is_empty(), "seed {seed}, {shards} shards: {violations:?}");
    }
}

/// Seeds, shards, actions and sizes of batches that showed it.
const SHOWN_BY: [(u64, u16, u32, [u64; 6]); 1] = [(1, 2, 1_500, [0, 0, 0, 0, 0, 1])];
