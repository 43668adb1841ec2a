//! What a session tells its owner.

use wire::{ErrorCode, Kind, TopicId, delete_records, fetch, hello};
use wire::{list_offsets, metadata, produce, stats, topic};

use super::{QueueEvent, RequestId};
use crate::limits::REQUESTS_IN_FLIGHT_MAX;

/// Who the broker is and what it allows, as hello said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The broker's 128-bit id.
    pub broker_id: [u8; 16],
    /// How often the broker has started.
    pub boot_epoch: u32,
    /// Longest frame body it reads, in bytes.
    pub frame_body_bytes_max: usize,
    /// Longest record batch it takes, in bytes.
    pub batch_bytes_max: usize,
    /// Most requests that may wait for their replies.
    pub requests_in_flight_max: usize,
    /// Most request bytes that may wait for their replies.
    pub credit_bytes: u64,
}

impl Limits {
    pub(super) fn from_hello(head: &hello::ReplyHead) -> Self {
        let number = |value: u32| usize::try_from(value).expect("32 bits fit usize");
        let window = head.requests_in_flight_max.get().clamp(1, REQUESTS_IN_FLIGHT_MAX);
        Limits {
            broker_id: head.broker_id,
            boot_epoch: head.boot_epoch.get(),
            frame_body_bytes_max: number(head.frame_body_bytes_max.get()),
            batch_bytes_max: number(head.batch_bytes_max.get()),
            requests_in_flight_max: number(window),
            credit_bytes: u64::from(head.credit_bytes.get()),
        }
    }
}

/// One reply. What it borrows lies in the session's receive buffer.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// The broker accepted hello: requests may be made now.
    Hello(Limits),
    /// Answers ping.
    Pong(RequestId),
    /// Answers metadata.
    Metadata(RequestId, metadata::Reply<'a>),
    /// Answers create topic.
    TopicCreated(RequestId, &'a TopicId),
    /// Answers delete topic.
    TopicDeleted(RequestId),
    /// Answers describe topic.
    TopicDescribed(RequestId, topic::DescribeReply<'a>),
    /// Answers produce. Each partition has an error code of its own.
    Produced(RequestId, produce::Reply<'a>),
    /// Answers fetch. Each partition has an error code of its own; batches are not verified.
    Fetched(RequestId, fetch::Reply<'a>),
    /// Answers list offsets. Each partition has an error code of its own.
    Offsets(RequestId, &'a [list_offsets::ReplyEntry]),
    /// Answers stats.
    Stats(RequestId, stats::Reply<'a>),
    /// Answers alter topic: the topic's settings from now on.
    TopicAltered(RequestId, &'a topic::Settings),
    /// Answers delete records. Each partition has an error code of its own.
    RecordsDeleted(RequestId, &'a [delete_records::ReplyEntry]),
    /// Answers a request about a queue, or brings messages to a consumer.
    Queue(RequestId, QueueEvent<'a>),
    /// The broker refused the request as a whole.
    Refused(RequestId, Refusal<'a>),
}

impl Event<'_> {
    /// The request that this answers; hello is nobody's request.
    pub const fn request_id(&self) -> Option<RequestId> {
        match self {
            Event::Hello(_) => None,
            Event::Pong(id)
            | Event::Metadata(id, _)
            | Event::TopicCreated(id, _)
            | Event::TopicDeleted(id)
            | Event::TopicDescribed(id, _)
            | Event::Produced(id, _)
            | Event::Fetched(id, _)
            | Event::Offsets(id, _)
            | Event::Stats(id, _)
            | Event::TopicAltered(id, _)
            | Event::RecordsDeleted(id, _)
            | Event::Queue(id, _)
            | Event::Refused(id, _) => Some(*id),
        }
    }
}

/// Why the broker refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// What was asked for.
    pub kind: Kind,
    /// An [`ErrorCode`] number; newer brokers may send numbers that this client does not know.
    pub code: u16,
    /// Wait this long before trying again, in ms; 0 says nothing.
    pub retry_after_ms: u32,
    /// The broker's sentence, possibly empty.
    pub detail: &'a str,
}

impl Refusal<'_> {
    /// The code by name, if this client knows it.
    pub const fn error_code(&self) -> Option<ErrorCode> {
        ErrorCode::from_u16(self.code)
    }
}
