//! Which files a data directory holds, and what they are called. Directories are named by id;
//! no shard number stands in a partition's path.

use std::fmt;

use wire::TopicId;

/// A file of the data directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FilePath {
    /// `superblock`: two slots of one block each.
    Superblock,
    /// `journal/SHARD/INDEX.jnl`: one file of a shard's journal ring.
    Journal {
        /// Shard.
        shard: u16,
        /// Place in the ring.
        index: u32,
    },
    /// `streams/TOPIC/PARTITION/SEQUENCE.seg`: one segment of a partition, or of the catalog,
    /// whose topic id is zero.
    Segment {
        /// Topic.
        topic: TopicId,
        /// Partition.
        partition: u32,
        /// Counts the partition's segments; never reused.
        sequence: u32,
    },
    /// `streams/TOPIC/PARTITION/start`: where the partition's records begin; two slots of one
    /// block.
    Start {
        /// Topic.
        topic: TopicId,
        /// Partition.
        partition: u32,
    },
    /// `streams/TOPIC/PARTITION/lost`: which of the partition's offsets are lost; two slots of one
    /// block.
    Lost {
        /// Topic.
        topic: TopicId,
        /// Partition.
        partition: u32,
    },
    /// `aside/EPOCH/SHARD/INDEX.jnl`: a journal file as it was when a start found acknowledged
    /// records in it damaged.
    Aside {
        /// Epoch of that start.
        epoch: u32,
        /// Shard.
        shard: u16,
        /// Place in the ring.
        index: u32,
    },
    /// `spare/NUMBER.seg`: a file that waits to become a segment, zeroed or with an earlier life.
    Spare {
        /// Number.
        number: u32,
    },
    /// `spare/NUMBER.start`: a file that waits to become a start file on a full device.
    StartSpare {
        /// Number.
        number: u32,
    },
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FilePath::Superblock => f.write_str("superblock"),
            FilePath::Journal { shard, index } => write!(f, "journal/{shard}/{index:04}.jnl"),
            FilePath::Segment { topic, partition, sequence } => {
                let topic = u128::from_be_bytes(*topic);
                write!(f, "streams/{topic:032x}/{partition}/{sequence:08}.seg")
            }
            FilePath::Start { topic, partition } => {
                let topic = u128::from_be_bytes(*topic);
                write!(f, "streams/{topic:032x}/{partition}/start")
            }
            FilePath::Lost { topic, partition } => {
                let topic = u128::from_be_bytes(*topic);
                write!(f, "streams/{topic:032x}/{partition}/lost")
            }
            FilePath::Aside { epoch, shard, index } => {
                write!(f, "aside/{epoch}/{shard}/{index:04}.jnl")
            }
            FilePath::Spare { number } => write!(f, "spare/{number:06}.seg"),
            FilePath::StartSpare { number } => write!(f, "spare/{number:06}.start"),
        }
    }
}

impl FilePath {
    /// The file that a path relative to the data directory names, if it is one of ours.
    pub fn parse(path: &str) -> Option<FilePath> {
        let parts: Vec<&str> = path.split('/').collect();
        let parsed = match parts.as_slice() {
            ["superblock"] => FilePath::Superblock,
            ["journal", shard, file] => FilePath::Journal {
                shard: shard.parse().ok()?,
                index: file.strip_suffix(".jnl")?.parse().ok()?,
            },
            ["streams", topic, partition, "start"] => FilePath::Start {
                topic: u128::from_str_radix(topic, 16).ok()?.to_be_bytes(),
                partition: partition.parse().ok()?,
            },
            ["streams", topic, partition, "lost"] => FilePath::Lost {
                topic: u128::from_str_radix(topic, 16).ok()?.to_be_bytes(),
                partition: partition.parse().ok()?,
            },
            ["streams", topic, partition, file] => FilePath::Segment {
                topic: u128::from_str_radix(topic, 16).ok()?.to_be_bytes(),
                partition: partition.parse().ok()?,
                sequence: file.strip_suffix(".seg")?.parse().ok()?,
            },
            ["aside", epoch, shard, file] => FilePath::Aside {
                epoch: epoch.parse().ok()?,
                shard: shard.parse().ok()?,
                index: file.strip_suffix(".jnl")?.parse().ok()?,
            },
            ["spare", file] => match file.split_once('.')? {
                (number, "seg") => FilePath::Spare { number: number.parse().ok()? },
                (number, "start") => FilePath::StartSpare { number: number.parse().ok()? },
                _ => return None,
            },
            _ => return None,
        };
        // Only the canonical spelling is ours: `+7.seg` or a short number is a stranger's.
        (parsed.to_string() == path).then_some(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_back() {
        let paths = [
            FilePath::Superblock,
            FilePath::Journal { shard: 3, index: 12 },
            FilePath::Segment { topic: [0xab; 16], partition: 7, sequence: 123_456_789 },
            FilePath::Start { topic: [0xcd; 16], partition: 9 },
            FilePath::Lost { topic: [0xef; 16], partition: 9 },
            FilePath::Aside { epoch: 5, shard: 3, index: 12 },
            FilePath::Spare { number: 1 },
            FilePath::StartSpare { number: 1 },
        ];
        for path in paths {
            assert_eq!(FilePath::parse(&path.to_string()), Some(path));
        }
        for stranger in ["LOCK", "spare/+1.seg", "spare/1.seg", "journal/0/x.jnl", "streams/zz/0"] {
            assert_eq!(FilePath::parse(stranger), None);
        }
    }
}
