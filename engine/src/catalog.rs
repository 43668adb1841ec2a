//! Which topics there are. The catalog is a stream like any other: its records go through the
//! journal into segments of their own, and are replayed at every start.
//!
//! ```text
//!  record: length u32 │ kind u8 │ topic id 16 B │ …
//!  kind 1: a topic of the first version: 16 bytes of settings, name
//!  kind 2: it is deleted
//!  kind 3: a topic: settings, name
//!  kind 4: its settings from now on
//!  kind 5: a queue: settings, number of its store u32, name
//!  kind 6: the queue is deleted
//! ```

use std::collections::{BTreeMap, VecDeque};

use wire::TopicId;
use wire::queue::{self, QueueId};
use wire::topic::Settings;
use zerocopy::{FromBytes, IntoBytes};

use crate::log::partition::PartitionId;
use crate::port::ConnId;
use crate::units::{u32_of, usize_of};

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub settings: Settings,
    /// Who owns its partitions, by number.
    pub partitions: Vec<Owner>,
}

/// Who owns a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// This shard, under this number.
    Here(PartitionId),
    /// The shard with this number.
    There(u16),
}

/// A change to the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A topic comes to be.
    Create {
        /// Its id.
        id: TopicId,
        /// Its name.
        name: String,
        /// Its settings.
        settings: Settings,
    },
    /// A topic has other settings.
    Alter {
        /// Its id.
        id: TopicId,
        /// All its settings from now on.
        settings: Settings,
    },
    /// A topic is gone.
    Delete {
        /// Its id.
        id: TopicId,
    },
    /// A queue comes to be.
    CreateQueue {
        /// Its id.
        id: QueueId,
        /// What it is.
        entry: QueueEntry,
    },
    /// A queue is gone.
    DeleteQueue {
        /// Its id.
        id: QueueId,
    },
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueEntry {
    /// Its name.
    pub name: String,
    /// What it is like.
    pub settings: queue::Settings,
    /// Number of the store that has its messages, for ever.
    pub store: u32,
}

impl Change {
    /// The record that stands for it.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; 4];
        match self {
            Change::Create { id, name, settings } => {
                out.push(3);
                out.extend_from_slice(id);
                out.extend_from_slice(settings.as_bytes());
                out.extend_from_slice(name.as_bytes());
            }
            Change::Alter { id, settings } => {
                out.push(4);
                out.extend_from_slice(id);
                out.extend_from_slice(settings.as_bytes());
            }
            Change::Delete { id } => {
                out.push(2);
                out.extend_from_slice(id);
            }
            Change::CreateQueue { id, entry } => {
                out.push(5);
                out.extend_from_slice(id);
                out.extend_from_slice(entry.settings.as_bytes());
                out.extend_from_slice(&entry.store.to_le_bytes());
                out.extend_from_slice(entry.name.as_bytes());
            }
            Change::DeleteQueue { id } => {
                out.push(6);
                out.extend_from_slice(id);
            }
        }
        let length = u32_of(out.len());
        out[..4].copy_from_slice(&length.to_le_bytes());
        out
    }

    /// Takes the record at the front of `bytes`; gives it and the rest.
    pub fn decode(bytes: &[u8]) -> Option<(Change, &[u8])> {
        let length = u32::from_le_bytes(*bytes.first_chunk::<4>()?);
        let (record, rest) = bytes.split_at_checked(usize_of(length))?;
        let (&kind, body) = record.get(4..)?.split_first()?;
        let (id, body) = body.split_first_chunk::<16>()?;
        let change = match kind {
            1 => {
                let (first, name) = body.split_first_chunk::<FIRST_SETTINGS_BYTES>()?;
                Change::Create { id: *id, name: owned(name)?, settings: first_settings(first) }
            }
            3 => {
                let (settings, name) = Settings::read_from_prefix(body).ok()?;
                Change::Create { id: *id, name: owned(name)?, settings }
            }
            4 => Change::Alter { id: *id, settings: Settings::read_from_bytes(body).ok()? },
            2 if body.is_empty() => Change::Delete { id: *id },
            5 => {
                let (settings, rest) = queue::Settings::read_from_prefix(body).ok()?;
                let (store, name) = rest.split_first_chunk::<4>()?;
                let store = u32::from_le_bytes(*store);
                let entry = QueueEntry { name: owned(name)?, settings, store };
                Change::CreateQueue { id: *id, entry }
            }
            6 if body.is_empty() => Change::DeleteQueue { id: *id },
            _ => return None,
        };
        Some((change, rest))
    }
}

/// Bytes of the settings that topics had at first: without retention.
const FIRST_SETTINGS_BYTES: usize = 16;

fn first_settings(first: &[u8; FIRST_SETTINGS_BYTES]) -> Settings {
    let mut settings = Settings::new(0);
    settings.as_mut_bytes()[..FIRST_SETTINGS_BYTES].copy_from_slice(first);
    settings
}

fn owned(name: &[u8]) -> Option<String> {
    std::str::from_utf8(name).ok().map(str::to_owned)
}

/// Who waits for a change to be durable.
#[derive(Debug)]
pub struct PendingChange {
    /// Offset behind its record in the catalog's stream.
    pub end: u64,
    /// The change.
    pub change: Change,
    /// Who asked, and under which serial its connection was known.
    pub conn: (ConnId, u64),
    /// The request's correlation id.
    pub correlation_id: u64,
    /// Bytes of the request: its credit.
    pub frame_bytes: usize,
}

/// All topics.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Topics by id.
    pub topics: BTreeMap<TopicId, Topic>,
    /// Ids by name; names of topics being created are in it already.
    pub names: BTreeMap<String, TopicId>,
    /// Changes that are not durable yet, in order.
    pub pending: VecDeque<PendingChange>,
    /// Number of partitions.
    pub partitions: usize,
    /// Queues by id.
    pub queues: BTreeMap<QueueId, QueueEntry>,
    /// Their ids by name; names of queues being created are in it already.
    pub queue_names: BTreeMap<String, QueueId>,
}

impl Catalog {
    /// The partition's number within this shard.
    pub fn partition(&self, topic: &TopicId, partition: u32) -> Result<PartitionId, Unknown> {
        match self.owner(topic, partition)? {
            Owner::Here(id) => Ok(id),
            Owner::There(_) => Err(Unknown::Elsewhere),
        }
    }

    /// Who owns the partition.
    pub fn owner(&self, topic: &TopicId, partition: u32) -> Result<Owner, Unknown> {
        let topic = self.topics.get(topic).ok_or(Unknown::Topic)?;
        topic.partitions.get(usize_of(partition)).copied().ok_or(Unknown::Partition)
    }
}

/// What is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// The topic.
    Topic,
    /// The partition.
    Partition,
    /// Known, but another shard's.
    Elsewhere,
}

impl Unknown {
    /// The code to answer with.
    pub const fn code(self) -> wire::ErrorCode {
        match self {
            Unknown::Topic => wire::ErrorCode::UnknownTopic,
            Unknown::Partition => wire::ErrorCode::UnknownPartition,
            Unknown::Elsewhere => wire::ErrorCode::NotOwner,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back_in_a_row() {
        let settings = Settings::new(3);
        let create = Change::Create { id: [1; 16], name: "t".to_owned(), settings };
        let delete = Change::Delete { id: [1; 16] };
        let mut settings = settings;
        settings.retention_ms = 7.into();
        let alter = Change::Alter { id: [1; 16], settings };
        let entry = QueueEntry { name: "q".to_owned(), settings: queue::Settings::new(), store: 3 };
        let queue = Change::CreateQueue { id: [2; 16], entry };
        let gone = Change::DeleteQueue { id: [2; 16] };
        let queues = [queue.encode(), gone.encode()].concat();
        let (first, rest) = Change::decode(&queues).expect("whole");
        let (second, rest) = Change::decode(rest).expect("whole");
        assert_eq!((first, second, rest.len()), (queue, gone, 0));
        let bytes = [create.encode(), alter.encode(), delete.encode()].concat();
        let (first, rest) = Change::decode(&bytes).expect("whole");
        let (second, rest) = Change::decode(rest).expect("whole");
        let (third, rest) = Change::decode(rest).expect("whole");
        assert_eq!((first, second, third, rest.len()), (create, alter, delete, 0));
        for cut in 0..bytes.len() {
            let _ = Change::decode(&bytes[..cut]);
        }
    }

    #[test]
    fn a_record_of_the_first_version_keeps_its_records_for_ever() {
        let settings = Settings { segment_bytes: 5.into(), ..Settings::new(3) };
        let new = Change::Create { id: [1; 16], name: "t".to_owned(), settings }.encode();
        let mut old = new[..4 + 1 + 16 + FIRST_SETTINGS_BYTES].to_vec();
        old.extend_from_slice(b"t");
        let length = u32_of(old.len()).to_le_bytes();
        old[..4].copy_from_slice(&length);
        old[4] = 1;
        let (change, rest) = Change::decode(&old).expect("whole");
        assert!(rest.is_empty());
        assert_eq!(change, Change::Create { id: [1; 16], name: "t".to_owned(), settings });
    }
}
