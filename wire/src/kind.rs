//! What a frame asks for. Numbers are never reused.

/// The kind of a request, and of the reply that answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum Kind {
    /// Opens a connection: versions, features, limits.
    Hello = 1,
    /// Asks for nothing but an answer.
    Ping = 2,
    /// Names endpoints, topics and partitions.
    Metadata = 3,
    /// Creates a topic.
    CreateTopic = 4,
    /// Deletes a topic.
    DeleteTopic = 5,
    /// Describes a topic and its partitions' offsets.
    DescribeTopic = 6,
    /// Appends record batches to partitions.
    Produce = 7,
    /// Reads record batches from partitions.
    Fetch = 8,
    /// Finds offsets: earliest, latest, by time.
    ListOffsets = 9,
    /// Reads every counter.
    Stats = 10,
    /// Changes a topic's settings.
    AlterTopic = 11,
    /// Deletes the oldest records of partitions.
    DeleteRecords = 12,
    /// Reserved: creates a queue.
    QueueCreate = 32,
    /// Reserved: deletes a queue.
    QueueDelete = 33,
    /// Reserved: describes a queue.
    QueueDescribe = 34,
    /// Reserved: publishes messages.
    QueuePublish = 35,
    /// Reserved: subscribes to a queue (push) or polls it (pull).
    QueueConsume = 36,
    /// Reserved: acknowledges, rejects, releases or extends.
    QueueSettle = 37,
}

/// One row of the table that hello sends: the versions of a kind that the broker speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindRange {
    /// Which kind.
    pub kind: Kind,
    /// Oldest version.
    pub version_min: u16,
    /// Newest version.
    pub version_max: u16,
}

/// Every kind that is served, with its versions. Reserved kinds are not in it.
pub const SERVED: [KindRange; 12] = [
    served(Kind::Hello),
    served(Kind::Ping),
    served(Kind::Metadata),
    served(Kind::CreateTopic),
    served(Kind::DeleteTopic),
    served(Kind::DescribeTopic),
    served(Kind::Produce),
    served(Kind::Fetch),
    served(Kind::ListOffsets),
    served(Kind::Stats),
    served(Kind::AlterTopic),
    served(Kind::DeleteRecords),
];

const fn served(kind: Kind) -> KindRange {
    KindRange { kind, version_min: 1, version_max: 1 }
}

impl Kind {
    /// Every kind that has a number, served or reserved.
    pub const ALL: [Kind; 18] = [
        Kind::Hello,
        Kind::Ping,
        Kind::Metadata,
        Kind::CreateTopic,
        Kind::DeleteTopic,
        Kind::DescribeTopic,
        Kind::Produce,
        Kind::Fetch,
        Kind::ListOffsets,
        Kind::Stats,
        Kind::AlterTopic,
        Kind::DeleteRecords,
        Kind::QueueCreate,
        Kind::QueueDelete,
        Kind::QueueDescribe,
        Kind::QueuePublish,
        Kind::QueueConsume,
        Kind::QueueSettle,
    ];

    /// The kind with this number, served or reserved.
    pub fn from_u16(value: u16) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.number() == value)
    }

    /// Its number on the wire.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The versions served, or `None` for a reserved kind.
    pub fn served(self) -> Option<KindRange> {
        SERVED.into_iter().find(|range| range.kind == self)
    }
}
