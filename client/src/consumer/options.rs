//! A consumer's knobs, and where it may begin.

use std::time::Duration;

use wire::fetch::REPLY_BATCHES_BYTES_MAX;

/// A consumer's knobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerOptions {
    /// How long a broker may wait for `min_bytes`. Default: 500 ms.
    pub max_wait: Duration,
    /// A broker answers once it has this many bytes. Default: 1.
    pub min_bytes: u32,
    /// Most bytes of one fetch from one endpoint, but at least one batch. Default, and most that
    /// a broker sends: 1 MiB.
    pub max_bytes: u32,
    /// Most bytes of one partition in one fetch, but at least one batch. Default: 1 MiB.
    pub partition_max_bytes: u32,
    /// What to do about an offset that a partition does not have. Default: an error.
    pub out_of_range: OutOfRange,
    /// What to do about records that are damaged on the broker's disk. Default: an error.
    pub damaged: Damaged,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        let most = u32::try_from(REPLY_BATCHES_BYTES_MAX).expect("a few MiB");
        ConsumerOptions {
            max_wait: Duration::from_millis(500),
            min_bytes: 1,
            max_bytes: most,
            partition_max_bytes: most,
            out_of_range: OutOfRange::Error,
            damaged: Damaged::Error,
        }
    }
}

/// What to do about an offset that a partition does not have, or no longer: its topic's retention
/// may remove records before they are read. Going on elsewhere is told as an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutOfRange {
    /// Fail.
    #[default]
    Error,
    /// Go on at the oldest record.
    Earliest,
    /// Go on behind the newest visible record.
    Latest,
}

/// What to do about records that were acknowledged and are damaged on the broker's disk. Going on
/// behind them is told as an event. While the broker does not know where the damage ends, which it
/// mostly finds out at once, it is asked again, for as long as a lost connection would be; then
/// that is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Damaged {
    /// Fail.
    #[default]
    Error,
    /// Go on behind them.
    Skip,
}

/// Where to read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// The oldest record.
    Beginning,
    /// Behind the newest visible record.
    End,
    /// So many offsets before the end, or the oldest record if there are fewer.
    FromEnd(u64),
    /// This offset.
    Offset(u64),
    /// The first record whose time is at or after this, in ms since 1970.
    Time(i64),
}
