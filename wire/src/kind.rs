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
    /// Creates a queue, or finds it as it is.
    QueueCreate = 32,
    /// Deletes a queue.
    QueueDelete = 33,
    /// Describes a queue and counts what is in it.
    QueueDescribe = 34,
    /// Publishes messages.
    QueuePublish = 35,
    /// Subscribes to a queue: messages are pushed.
    QueueConsume = 36,
    /// Accepts, releases, rejects messages, or extends their leases.
    QueueSettle = 37,
    /// Never asked: brings messages to a consumer.
    QueueDeliver = 38,
    /// Ends a consumer.
    QueueCancel = 39,
    /// Takes messages once, with long polling.
    QueuePull = 40,
    /// Shows messages without taking them.
    QueuePeek = 41,
    /// Removes every message that is ready.
    QueuePurge = 42,
    /// Names every queue.
    QueueList = 43,
    /// Sends dead letters back.
    QueueRedrive = 44,
    /// Bounds what all consumers of a connection have together.
    QueueCredit = 45,
    /// Publishes messages to several queues and partitions of topics.
    QueueRoute = 46,
    /// Starts, shows or stops a job that sends dead letters back.
    QueueRedriveJob = 47,
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
pub const SERVED: [KindRange; 27] = [
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
    served(Kind::QueueCreate),
    served(Kind::QueueDelete),
    served(Kind::QueueDescribe),
    served(Kind::QueuePublish),
    served(Kind::QueueConsume),
    served(Kind::QueueSettle),
    served(Kind::QueueCancel),
    served(Kind::QueuePull),
    served(Kind::QueuePeek),
    served(Kind::QueuePurge),
    served(Kind::QueueList),
    served(Kind::QueueRedrive),
    served(Kind::QueueCredit),
    served(Kind::QueueRoute),
    served(Kind::QueueRedriveJob),
];

const fn served(kind: Kind) -> KindRange {
    KindRange { kind, version_min: 1, version_max: 1 }
}

impl Kind {
    /// Every kind that has a number, served or reserved.
    pub const ALL: [Kind; 28] = [
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
        Kind::QueueDeliver,
        Kind::QueueCancel,
        Kind::QueuePull,
        Kind::QueuePeek,
        Kind::QueuePurge,
        Kind::QueueList,
        Kind::QueueRedrive,
        Kind::QueueCredit,
        Kind::QueueRoute,
        Kind::QueueRedriveJob,
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
