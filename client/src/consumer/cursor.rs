//! Where a consumer is in one partition.

/// Where a consumer is in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionPosition<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Partition.
    pub partition: u32,
    /// The offset behind the last record given.
    pub offset: u64,
    /// The offset behind the newest visible record, as the broker told last; 0 before the first
    /// records.
    pub high_watermark: u64,
    /// Whether the end was reached when the broker answered last.
    pub is_at_end: bool,
}

/// Whether a partition is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Running,
    Paused,
}

/// One assigned partition. Its index among all is its slot.
#[derive(Debug, Clone)]
pub(super) struct Cursor {
    /// Index of the topic.
    pub(super) topic: usize,
    pub(super) partition: u32,
    /// The next offset to ask for.
    pub(super) offset: u64,
    /// `None` until the broker has told.
    pub(super) high_watermark: Option<u64>,
    /// Records before the first one of this time are passed over.
    pub(super) time_from_ms: Option<i64>,
    pub(super) flow: Flow,
    /// Number of the last reply that had records of it: who waited longest comes first.
    pub(super) served_at: u64,
}

impl Cursor {
    pub(super) const fn new(topic: usize, partition: u32) -> Self {
        Cursor {
            topic,
            partition,
            offset: 0,
            high_watermark: None,
            time_from_ms: None,
            flow: Flow::Running,
            served_at: 0,
        }
    }

    /// Topic and partition.
    pub(super) const fn place(&self) -> (usize, u32) {
        (self.topic, self.partition)
    }

    pub(super) fn position<'a>(&self, topic: &'a str) -> PartitionPosition<'a> {
        PartitionPosition {
            topic,
            partition: self.partition,
            offset: self.offset,
            high_watermark: self.high_watermark.unwrap_or(0),
            is_at_end: self.high_watermark.is_some_and(|end| self.offset >= end),
        }
    }
}
