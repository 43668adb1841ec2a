//! What queues promise, one promise after the other: clients of a simulated broker of one shard,
//! and of two, where requests arrive at either.

mod bounds;
mod consumers;
mod damage;
mod leases;
mod lifetimes;
mod redrives;
mod refusals;
mod routes;
mod space;
mod times;

use pelton_tests::queue_scene::{Parcel, Scene};

/// The same story on a broker with one shard, and several times with two.
fn tell(story: impl Fn(&mut Scene)) {
    for shards in [1, 2, 2] {
        let mut scene = Scene::first(shards);
        story(&mut scene);
        assert!(scene.world.errors().is_empty(), "{:?}", scene.world.errors());
    }
}

fn bodies(parcels: &[Parcel]) -> Vec<&str> {
    parcels.iter().map(|parcel| parcel.body.as_str()).collect()
}
