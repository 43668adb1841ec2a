//! What the links of a shard are called: numbers right behind those of its connections.

use engine::port::{ConnId, LinkEnd};

/// Most shards of a process.
pub const SHARDS_MAX: u16 = 64;

/// Both ends, in the order of their numbers.
pub const ENDS: [LinkEnd; 2] = [LinkEnd::Asking, LinkEnd::Answering];

/// The place of an end in lists of two.
pub const fn index(end: LinkEnd) -> usize {
    match end {
        LinkEnd::Asking => 0,
        LinkEnd::Answering => 1,
    }
}

/// What the other shard calls its end of the same link.
pub const fn opposite(end: LinkEnd) -> LinkEnd {
    match end {
        LinkEnd::Asking => LinkEnd::Answering,
        LinkEnd::Answering => LinkEnd::Asking,
    }
}

/// One shard's link to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The other shard.
    pub peer: u16,
    /// This shard's end.
    pub end: LinkEnd,
}

impl Link {
    /// Its place in a list of two entries for every shard; the shard's own two stay empty.
    pub fn place(self) -> usize {
        2 * usize::from(self.peer) + index(self.end)
    }
}

/// The numbers of one shard's links: `first + 2 * peer`, and one more for the answering end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkNumbers {
    first: u32,
    shard: u16,
    shards: u16,
}

impl LinkNumbers {
    /// Numbers from `first` on for the links of `shard` with all other ones of `shards`.
    pub fn new(first: u32, shard: u16, shards: u16) -> LinkNumbers {
        assert!(shard < shards && shards <= SHARDS_MAX, "one of a bounded number of shards");
        LinkNumbers { first, shard, shards }
    }

    /// Every link of the shard.
    pub fn links(self) -> impl Iterator<Item = Link> {
        let peers = (0..self.shards).filter(move |&peer| peer != self.shard);
        peers.flat_map(|peer| ENDS.map(|end| Link { peer, end }))
    }

    /// What a link is called.
    pub fn conn(self, link: Link) -> ConnId {
        let place = u32::try_from(link.place()).expect("two for each of at most 64 shards");
        ConnId(self.first + place)
    }

    /// The link that is called so, if one is.
    pub fn link(self, conn: ConnId) -> Option<Link> {
        let place = conn.0.checked_sub(self.first)?;
        let peer = u16::try_from(place / 2).ok()?;
        let end = if place.is_multiple_of(2) { LinkEnd::Asking } else { LinkEnd::Answering };
        (peer < self.shards && peer != self.shard).then_some(Link { peer, end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back_to_their_links_and_no_others_do() {
        let numbers = LinkNumbers::new(100, 1, 3);
        let conns: Vec<u32> = numbers.links().map(|link| numbers.conn(link).0).collect();
        assert_eq!(conns, [100, 101, 104, 105]);
        for link in numbers.links() {
            assert_eq!(numbers.link(numbers.conn(link)), Some(link));
        }
        for conn in [0, 99, 102, 103, 106, u32::MAX] {
            assert_eq!(numbers.link(ConnId(conn)), None, "{conn}");
        }
    }
}
