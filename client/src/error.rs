//! What can go wrong for a client, each with a sentence that says what to do.

use std::io;
use std::time::Duration;

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
    /// A message of a queue that is longer than it may be, or its properties are.
    MessageTooLarge {
        /// Which of them.
        what: &'static str,
        /// Its bytes.
        bytes: usize,
        /// The most that it may have.
        bytes_max: usize,
    },
    /// A partition that the topic does not have.
    NoSuchPartition {
        /// The partition asked for.
        partition: u32,
        /// How many there are.
        count: u32,
    },
    /// A topic that the consumer was not made for, or a partition that it is not assigned.
    NotAssigned {
        /// Topic.
        topic: String,
        /// Partition.
        partition: u32,
    },
    /// The topic was deleted and created again: its offsets begin anew.
    TopicRecreated {
        /// Topic.
        topic: String,
    },
    /// The offset asked for is not (or no longer) in the partition.
    OffsetOutOfRange {
        /// Topic.
        topic: String,
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
        /// Topic.
        topic: String,
        /// Partition.
        partition: u32,
        /// The offset of the damaged batch, or the one that should have come.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// Batches arrived that do not continue where the last ones ended.
    Gap {
        /// Topic.
        topic: String,
        /// Partition.
        partition: u32,
        /// The offset that should have come.
        expected: u64,
        /// The offset that came.
        found: u64,
    },
    /// A batch is compressed, which this client cannot read.
    Compressed {
        /// Topic.
        topic: String,
        /// Partition.
        partition: u32,
        /// Offset of the batch's first record.
        offset: u64,
        /// Offset behind the batch's last record.
        next_offset: u64,
        /// The codec's name.
        codec: &'static str,
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

    /// The sentence about batches that cannot be given to the caller.
    fn about_batches(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ClientError::Corrupt { topic, partition, offset, reason } => write!(
                f,
                "records of topic {topic}, partition {partition}, offset {offset} arrived damaged \
                 ({reason}); fetch them again, and if it stays so, check the broker's disk"
            ),
            ClientError::Gap { topic, partition, expected, found } => write!(
                f,
                "topic {topic}, partition {partition} went on at offset {found} instead of \
                 {expected}: records are missing or repeated"
            ),
            ClientError::Compressed { topic, partition, offset, next_offset, codec } => write!(
                f,
                "the batch of topic {topic}, partition {partition}, offset {offset} is compressed \
                 with {codec}, which this client cannot read; go on behind it at {next_offset}"
            ),
            _ => Ok(()),
        }
    }

    /// Whether it ends the connection on which it happened.
    pub(crate) const fn is_of_connection(&self) -> bool {
        matches!(
            self,
            ClientError::Connect { .. }
                | ClientError::Lost { .. }
                | ClientError::TimedOut { .. }
                | ClientError::Protocol(_)
        )
    }

    /// Whether connecting again and asking for metadata may help, with nothing lost meanwhile.
    pub(crate) const fn is_passing(&self) -> bool {
        match self {
            ClientError::Connect { .. } | ClientError::Lost { .. } => true,
            ClientError::Refused { kind, .. } => match self.error_code() {
                Some(ErrorCode::Overloaded | ErrorCode::NotOwner | ErrorCode::ShuttingDown) => true,
                // Metadata knows which topics there are; a shard may hear of them later.
                Some(ErrorCode::UnknownTopic | ErrorCode::UnknownPartition) => {
                    !matches!(kind, Kind::Metadata)
                }
                _ => false,
            },
            _ => false,
        }
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
            ClientError::MessageTooLarge { what, bytes, bytes_max } => write!(
                f,
                "{what} of {bytes} bytes is too long, {bytes_max} is the most: split it, or \
                 store it elsewhere and send where it is"
            ),
            ClientError::NoSuchPartition { partition, count } => {
                write!(f, "there is no partition {partition}: the topic has {count}, from 0")
            }
            ClientError::NotAssigned { topic, partition } => write!(
                f,
                "partition {partition} of topic {topic} is not assigned to this consumer: assign \
                 it first"
            ),
            ClientError::TopicRecreated { topic } => write!(
                f,
                "topic {topic} was deleted and created again: its offsets begin anew, so start anew"
            ),
            ClientError::OffsetOutOfRange {
                topic,
                partition,
                offset,
                log_start_offset,
                high_watermark,
            } => {
                write!(
                    f,
                    "offset {offset} of partition {partition} is out of range: topic {topic} holds \
                     {log_start_offset} up to, but not including, {high_watermark} there; go on \
                     at one of these"
                )
            }
            ClientError::Corrupt { .. }
            | ClientError::Gap { .. }
            | ClientError::Compressed { .. } => self.about_batches(f),
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
        Some(ErrorCode::UnknownQueue) => "; create the queue first, or check its name",
        Some(ErrorCode::QueueFull) => "; consume from it, or send less at once",
        Some(ErrorCode::QueueNotEmpty) => "; consume or purge what is in it first",
        Some(ErrorCode::TopicExists) => "; take another name, or use the topic as it is",
        Some(ErrorCode::Overloaded) => "; wait a little and send it again",
        Some(ErrorCode::StorageFull) => "; free space on the broker's disk, or delete topics",
        Some(ErrorCode::LimitReached) => "; delete what is not needed",
        Some(ErrorCode::ReadOnly) => "; its log says what failed: mend that and restart it",
        Some(ErrorCode::TooLarge) => "; send less at once",
        Some(ErrorCode::DataCorrupt) => {
            "; records are damaged on the broker's disk, those before and behind them are served"
        }
        Some(ErrorCode::EndUnknown) => {
            "; its newest records are damaged: stop the broker and run `pelton log repair`"
        }
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
