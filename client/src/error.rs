//! What can go wrong for a client, each with a sentence that says what to do.

use std::io;
use std::time::Duration;

use wire::batch::BatchError;
use wire::{ErrorCode, Kind};

use crate::session::{SendError, Violation};

/// Why an operation failed.
#[derive(Debug)]
pub enum ClientError {
    /// No connection could be made.
    Connect {
        /// Where to.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The connection broke, or the broker closed it (then there is no source).
    Lost {
        /// What the system said, if it said anything.
        source: Option<io::Error>,
    },
    /// No reply came in time.
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// How long.
        after: Duration,
    },
    /// The broker broke the protocol, or gave the connection up.
    Protocol(Violation),
    /// The request cannot be made.
    Request(SendError),
    /// The broker refused the request.
    Refused {
        /// What was asked for.
        kind: Kind,
        /// An [`ErrorCode`] number.
        code: u16,
        /// The broker's sentence, possibly empty.
        detail: String,
    },
    /// A record that is longer than a batch may be.
    RecordTooLarge {
        /// Its length inside a batch.
        bytes: usize,
        /// The longest batch that the broker takes.
        bytes_max: usize,
    },
    /// A partition that the topic does not have.
    NoSuchPartition {
        /// The partition asked for.
        partition: u32,
        /// How many there are.
        count: u32,
    },
    /// The offset asked for is not (or no longer) in the partition.
    OffsetOutOfRange {
        /// Partition.
        partition: u32,
        /// The offset asked for.
        offset: u64,
        /// The oldest offset there is.
        log_start_offset: u64,
        /// The offset behind the newest visible record.
        high_watermark: u64,
    },
    /// Batches arrived damaged.
    Corrupt {
        /// Partition.
        partition: u32,
        /// What is wrong.
        reason: &'static str,
    },
    /// Batches arrived that do not continue where the last ones ended.
    Gap {
        /// Partition.
        partition: u32,
        /// The offset that should have come.
        expected: u64,
        /// The offset that came.
        found: u64,
    },
    /// The producer has failed before and takes no more records.
    ProducerClosed,
}

impl ClientError {
    /// The broker's code, if the broker refused.
    pub const fn error_code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Refused { code, .. }
            | ClientError::Protocol(Violation::Refused { code, .. }) => ErrorCode::from_u16(*code),
            ClientError::OffsetOutOfRange { .. } => Some(ErrorCode::OffsetOutOfRange),
            _ => None,
        }
    }

    pub(crate) const fn corrupt(partition: u32, error: BatchError) -> Self {
        ClientError::Corrupt { partition, reason: error.reason }
    }
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ClientError::Connect { address, source } => write!(
                f,
                "no connection to {address}: {source}; is the broker running there, and is the \
                 address right?"
            ),
            ClientError::Lost { source: None } => f.write_str(
                "the broker closed the connection; its log says why, and connecting again may help",
            ),
            ClientError::Lost { source: Some(source) } => {
                write!(f, "the connection broke: {source}; connecting again may help")
            }
            ClientError::TimedOut { what, after } => write!(
                f,
                "no {what} within {after:?}: the broker is stuck or overloaded; try again or \
                 raise the timeout"
            ),
            ClientError::Protocol(violation) => {
                write!(f, "{violation}; is a Pelton broker of this version listening there?")
            }
            ClientError::Request(error) => error.fmt(f),
            ClientError::Refused { kind, code, detail } => refusal(f, *kind, *code, detail),
            ClientError::RecordTooLarge { bytes, bytes_max } => write!(
                f,
                "the record needs a batch of {bytes} bytes and the broker takes {bytes_max}: \
                 split it or store it elsewhere"
            ),
            ClientError::NoSuchPartition { partition, count } => {
                write!(f, "there is no partition {partition}: the topic has {count}, from 0")
            }
            ClientError::OffsetOutOfRange {
                partition,
                offset,
                log_start_offset,
                high_watermark,
            } => {
                write!(
                    f,
                    "offset {offset} of partition {partition} is out of range: it holds \
                     {log_start_offset} up to, but not including, {high_watermark}; seek there"
                )
            }
            ClientError::Corrupt { partition, reason } => write!(
                f,
                "records of partition {partition} arrived damaged ({reason}); fetch them again, \
                 and if it stays so, check the broker's disk"
            ),
            ClientError::Gap { partition, expected, found } => write!(
                f,
                "partition {partition} went on at offset {found} instead of {expected}: records \
                 are missing or repeated"
            ),
            ClientError::ProducerClosed => {
                f.write_str("this producer has failed: read its deliveries and make a new one")
            }
        }
    }
}

fn refusal(
    f: &mut std::fmt::Formatter<'_>,
    kind: Kind,
    code: u16,
    detail: &str,
) -> std::fmt::Result {
    let known = ErrorCode::from_u16(code);
    match known {
        Some(known) => write!(f, "the broker refused {kind:?}: {known}")?,
        None => write!(f, "the broker refused {kind:?} with code {code}, unknown here")?,
    }
    if !detail.is_empty() {
        write!(f, " ({detail})")?;
    }
    f.write_str(match known {
        Some(ErrorCode::UnknownTopic) => "; create the topic first, or check its name",
        Some(ErrorCode::TopicExists) => "; take another name, or use the topic as it is",
        Some(ErrorCode::Overloaded) => "; wait a little and send it again",
        Some(ErrorCode::StorageFull) => "; free space on the broker's disk, or delete topics",
        Some(ErrorCode::LimitReached) => "; delete what is not needed",
        Some(ErrorCode::TooLarge) => "; send less at once",
        Some(ErrorCode::StorageFailed | ErrorCode::TimedOut) => {
            "; the outcome is unknown, look before repeating it"
        }
        _ => "",
    })
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ClientError::Connect { source, .. } | ClientError::Lost { source: Some(source) } => {
                Some(source)
            }
            ClientError::Protocol(violation) => Some(violation),
            ClientError::Request(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Violation> for ClientError {
    fn from(violation: Violation) -> Self {
        ClientError::Protocol(violation)
    }
}

impl From<SendError> for ClientError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Broken(violation) => ClientError::Protocol(violation),
            other => ClientError::Request(other),
        }
    }
}
