//! What a consumer tells besides records.

/// Something its user may want to know; reading goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsumerEvent {
    /// A partition did not have the offset that came next, and reading went on elsewhere. Records
    /// from `from` up to `to` were not read: retention, or somebody, removed them.
    Reset {
        /// Topic.
        topic: String,
        /// Partition.
        partition: u32,
        /// The offset that came next.
        from: u64,
        /// Where reading went on.
        to: u64,
        /// The oldest offset there was.
        log_start_offset: u64,
        /// The offset behind the newest visible record.
        high_watermark: u64,
    },
    /// Records from `from` up to `to` are damaged on the broker's disk, and were not read; reading
    /// went on at `to`.
    Skipped {
        /// Topic.
        topic: String,
        /// Partition.
        partition: u32,
        /// The first damaged offset.
        from: u64,
        /// Where reading went on.
        to: u64,
    },
    /// An endpoint does not serve; it is tried again. Nothing is lost or repeated.
    Reconnecting {
        /// `HOST:PORT`.
        address: String,
        /// A sentence.
        reason: String,
    },
}

impl std::fmt::Display for ConsumerEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ConsumerEvent::Reset { topic, partition, from, to, log_start_offset, .. } => {
                let why = match from < log_start_offset {
                    true => "is no longer there: retention, or somebody, removed it",
                    false => "does not exist yet",
                };
                write!(
                    f,
                    "offset {from} of topic {topic}, partition {partition} {why}; went on at {to}"
                )
            }
            ConsumerEvent::Skipped { topic, partition, from, to } => write!(
                f,
                "offsets {from} to {} of topic {topic}, partition {partition} are damaged on the \
                 broker's disk and were skipped ({} in all)",
                to - 1,
                to - from
            ),
            ConsumerEvent::Reconnecting { address, reason } => {
                write!(f, "{address} does not serve, trying again: {reason}")
            }
        }
    }
}
