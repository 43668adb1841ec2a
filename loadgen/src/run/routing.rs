//! Which address each partition's records go to and come from, and who serves which partitions.

use client::{Connection, Metadata};
use std::collections::BTreeMap;

use super::RunError;
use super::choices::Route;

/// The endpoints of one topic, and the partitions of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Routing {
    endpoints: Vec<Endpoint>,
}

/// An address, and the partitions that are served there. There is at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Endpoint {
    address: String,
    partitions: Vec<u32>,
}

impl Routing {
    /// All partitions at one address.
    pub(super) fn one(address: &str, partitions: u32) -> Self {
        let endpoint =
            Endpoint { address: address.to_owned(), partitions: (0..partitions).collect() };
        Self { endpoints: vec![endpoint] }
    }

    /// Asks the broker where the partitions of a topic are, if that matters.
    pub(super) fn find(
        control: &mut Connection,
        address: &str,
        topic: &str,
        partitions: u32,
        route: Route,
    ) -> Result<Self, RunError> {
        match route {
            Route::Any => Ok(Self::one(address, partitions)),
            Route::Owner => Ok(Self::of(&control.metadata(&[topic])?, address)),
        }
    }

    /// From what the broker says; `address` is where it was asked.
    fn of(metadata: &Metadata, address: &str) -> Self {
        let owners = metadata.topics.iter().flat_map(|topic| &topic.partitions);
        let mut endpoints: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for (partition, owner) in (0..).zip(owners) {
            let found = metadata.endpoints.iter().find(|at| at.shard == owner.shard.get());
            // An owner without an endpoint of its own is reached where it was asked about.
            let at = found.map_or_else(|| address.to_owned(), |at| at.address(address));
            endpoints.entry(at).or_default().push(partition);
        }
        let endpoints = endpoints.into_iter();
        let endpoints = endpoints.map(|(address, partitions)| Endpoint { address, partitions });
        Self { endpoints: endpoints.collect() }
    }

    /// Endpoints that own at least one partition.
    pub(super) fn endpoints(&self) -> u32 {
        u32::try_from(self.endpoints.len()).expect("at most one per shard")
    }

    /// Producers and consumers are dealt out to the endpoints in turn, each bound to one.
    fn endpoint(&self, index: u32) -> &Endpoint {
        &self.endpoints[(index % self.endpoints()) as usize]
    }

    /// The address of producer or consumer `index`.
    pub(super) fn address(&self, index: u32) -> &str {
        &self.endpoint(index).address
    }

    /// The partitions that producer `index` sends to.
    pub(super) fn of_producer(&self, index: u32) -> &[u32] {
        &self.endpoint(index).partitions
    }

    /// The partitions that consumer `index` of `consumers` reads: those of its endpoint are dealt
    /// out while they last; where there are more consumers than partitions, several read the same
    /// one.
    pub(super) fn of_consumer(&self, index: u32, consumers: u32) -> Vec<u32> {
        let endpoints = self.endpoints();
        let partitions = self.of_producer(index);
        let rank = (index / endpoints) as usize;
        let others = (consumers - index % endpoints).div_ceil(endpoints) as usize;
        match partitions.get(rank..) {
            Some(rest) if !rest.is_empty() => rest.iter().copied().step_by(others).collect(),
            _ => vec![partitions[rank % partitions.len()]],
        }
    }

    /// Why so many producers or consumers cannot reach every partition.
    pub(super) fn too_few(&self, what: &str, count: u32) -> Option<String> {
        (count > 0 && count < self.endpoints()).then(|| {
            format!(
                "the partitions are at {} endpoints: pass --{what} {} or more, or --route any",
                self.endpoints(),
                self.endpoints()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::TopicMetadata;

    fn metadata(shards: &[u16], owners: &[u16]) -> Metadata {
        let owner = |&shard: &u16| wire::metadata::PartitionOwner {
            shard: shard.into(),
            reserved: 0.into(),
            leader_epoch: 0.into(),
        };
        let endpoint =
            |&shard: &u16| client::Endpoint { shard, host: String::new(), port: 7000 + shard };
        Metadata {
            endpoints: shards.iter().map(endpoint).collect(),
            topics: vec![TopicMetadata {
                name: "t".to_owned(),
                topic_id: [0; 16],
                partitions: owners.iter().map(owner).collect(),
            }],
        }
    }

    #[test]
    fn producers_and_consumers_are_bound_to_endpoints() {
        let routing = Routing::of(&metadata(&[0, 1], &[0, 1, 1, 0, 1]), "127.0.0.1:6999");
        assert_eq!((routing.address(0), routing.address(3)), ("127.0.0.1:7000", "127.0.0.1:7001"));
        assert_eq!((routing.of_producer(2), routing.of_producer(1)), (&[0, 3][..], &[1, 2, 4][..]));
        assert_eq!(routing.of_consumer(0, 2), [0, 3]);
        // Endpoint 1 has consumers 1 and 3 of 4, endpoint 0 has 0 and 2.
        assert_eq!((routing.of_consumer(1, 4), routing.of_consumer(3, 4)), (vec![1, 4], vec![2]));
        assert_eq!(routing.of_consumer(4, 5), [0], "more consumers than partitions");
        assert!(routing.too_few("producers", 1).is_some_and(|why| why.contains("--producers 2")));
        assert_eq!(routing.too_few("consumers", 0), None);
    }

    #[test]
    fn every_partition_is_read_by_someone() {
        let routing = Routing::of(&metadata(&[0, 1, 2], &[2, 0, 1, 1, 0, 2, 2, 2]), "h:1");
        for consumers in 3..12 {
            let mut read: Vec<u32> =
                (0..consumers).flat_map(|index| routing.of_consumer(index, consumers)).collect();
            read.sort_unstable();
            read.dedup();
            assert_eq!(read, (0..8).collect::<Vec<_>>(), "{consumers} consumers");
        }
    }

    #[test]
    fn one_endpoint_is_the_address_that_was_asked() {
        let routing = Routing::of(&metadata(&[], &[0, 0, 0]), "host:9");
        assert_eq!(routing, Routing::one("host:9", 3));
        let routing = Routing::of(&metadata(&[0, 1], &[0, 7]), "host:9");
        assert_eq!(routing.address(1), "host:9");
    }
}
