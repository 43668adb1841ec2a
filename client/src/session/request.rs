//! The requests that a session encodes, within the limits that hello told.

use wire::frame::{self, Envelope};
use wire::limits::{FRAME_HEADER_BYTES, REQUEST_PARTITIONS_MAX};
use wire::{Acks, Kind, TopicId, delete_records, fetch};
use wire::{list_offsets, metadata, produce, topic};

use super::{BatchWrite, RequestId, Session, Violation};

/// Why a request cannot be made now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendError {
    /// Hello has not been answered yet.
    HelloPending,
    /// The connection's window or credit is used up: a reply must come first.
    WindowFull,
    /// The request is longer than the broker takes. The sentence names what.
    TooLarge(&'static str),
    /// A name, count or size that no broker takes. The sentence says why.
    Invalid(&'static str),
    /// The session has ended.
    Broken(Violation),
}

impl std::fmt::Display for SendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SendError::HelloPending => f.write_str("the broker has not answered hello yet"),
            SendError::WindowFull => {
                f.write_str("the connection's window is full: read a reply before sending more")
            }
            SendError::TooLarge(what) | SendError::Invalid(what) => f.write_str(what),
            SendError::Broken(violation) => write!(f, "the session has ended: {violation}"),
        }
    }
}

impl std::error::Error for SendError {}

/// Whether the broker shall tell where the time of a produce request or a publish went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServerTiming {
    /// It need not.
    #[default]
    Omit,
    /// Its reply carries a [`produce::Timing`].
    Ask,
}

impl ServerTiming {
    pub(super) const fn flags(self) -> u8 {
        match self {
            ServerTiming::Omit => 0,
            ServerTiming::Ask => produce::FLAG_TIMING,
        }
    }
}

/// How a produce request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProduceOptions {
    /// When it is answered. Default: `durable`.
    pub acks: Acks,
    /// Answer TIMED_OUT after this long, in ms; 0 (the default) waits for ever.
    pub timeout_ms: u32,
    /// Whether the reply tells where the time went. Default: no.
    pub timing: ServerTiming,
}

impl Default for ProduceOptions {
    fn default() -> Self {
        ProduceOptions { acks: Acks::Durable, timeout_ms: 0, timing: ServerTiming::Omit }
    }
}

impl Session {
    /// Whether one more request whose frame has `frame_bytes` bytes fits the window.
    pub fn has_room(&self, frame_bytes: usize) -> bool {
        self.limits().is_some_and(|limits| {
            let bytes = u64::try_from(frame_bytes).expect("frames are bounded");
            let alone = self.inflight.count() == 0;
            self.inflight.count() < limits.requests_in_flight_max
                && (alone || self.inflight.bytes() + bytes <= limits.credit_bytes)
        })
    }

    /// Asks for nothing but an answer.
    pub fn ping(&mut self) -> Result<RequestId, SendError> {
        self.request(Kind::Ping, |_| ())
    }

    /// Asks for every counter.
    pub fn stats(&mut self) -> Result<RequestId, SendError> {
        self.request(Kind::Stats, |_| ())
    }

    /// Asks about topics by name, or about all if `names` is empty.
    pub fn metadata(&mut self, names: &[&str]) -> Result<RequestId, SendError> {
        if names.len() > REQUEST_PARTITIONS_MAX {
            return Err(SendError::TooLarge("metadata names more topics than one request may"));
        }
        names.iter().try_for_each(|name| valid_name(name))?;
        self.request(Kind::Metadata, |out| metadata::encode_request(out, names))
    }

    /// Creates a topic.
    pub fn create_topic(
        &mut self,
        name: &str,
        settings: &topic::Settings,
    ) -> Result<RequestId, SendError> {
        valid_name(name)?;
        let request = topic::CreateRequest { settings, name };
        self.request(Kind::CreateTopic, |out| request.encode(out))
    }

    /// Deletes a topic.
    pub fn delete_topic(&mut self, name: &str) -> Result<RequestId, SendError> {
        valid_name(name)?;
        self.request(Kind::DeleteTopic, |out| topic::NameRequest { name }.encode(out))
    }

    /// Changes settings of a topic: those that `changes` names by its `topic::CHANGE_*` bits.
    pub fn alter_topic(
        &mut self,
        name: &str,
        changes: u32,
        settings: &topic::Settings,
    ) -> Result<RequestId, SendError> {
        valid_name(name)?;
        let request = topic::AlterRequest { changes, settings, name };
        self.request(Kind::AlterTopic, |out| request.encode(out))
    }

    /// Deletes the oldest records of partitions.
    pub fn delete_records(
        &mut self,
        entries: &[delete_records::RequestEntry],
    ) -> Result<RequestId, SendError> {
        valid_count(entries.len())?;
        self.request(Kind::DeleteRecords, |out| delete_records::encode(out, entries))
    }

    /// Asks for a topic's settings and its partitions' offsets.
    pub fn describe_topic(&mut self, name: &str) -> Result<RequestId, SendError> {
        valid_name(name)?;
        self.request(Kind::DescribeTopic, |out| topic::NameRequest { name }.encode(out))
    }

    /// Asks for offsets: earliest, latest or by time.
    pub fn list_offsets(
        &mut self,
        entries: &[list_offsets::RequestEntry],
    ) -> Result<RequestId, SendError> {
        valid_count(entries.len())?;
        self.request(Kind::ListOffsets, |out| list_offsets::encode(out, entries))
    }

    /// Asks for record batches. `head.partition_count` is set from `entries`.
    pub fn fetch(
        &mut self,
        head: &fetch::RequestHead,
        entries: &[fetch::RequestEntry],
    ) -> Result<RequestId, SendError> {
        valid_count(entries.len())?;
        let count = u16::try_from(entries.len()).expect("checked against the limit above");
        let head = fetch::RequestHead { partition_count: count.into(), ..*head };
        self.request(Kind::Fetch, |out| fetch::Request { head: &head, entries }.encode(out))
    }

    /// Appends one encoded batch to a partition, copying it into the send buffer. No id with
    /// `Acks::None`, which is never answered.
    pub fn produce(
        &mut self,
        options: &ProduceOptions,
        topic_id: &TopicId,
        partition: u32,
        batch: &[u8],
    ) -> Result<Option<RequestId>, SendError> {
        self.produce_borrowed(options, topic_id, partition, batch).map(|write| write.id())
    }

    /// Appends one encoded batch to a partition; the batch is sent from where it lies. The
    /// cheapest way for large batches.
    pub fn produce_borrowed<'s, 'b>(
        &'s mut self,
        options: &ProduceOptions,
        topic_id: &TopicId,
        partition: u32,
        batch: &'b [u8],
    ) -> Result<BatchWrite<'s, 'b>, SendError> {
        let entry = produce::RequestEntry {
            topic_id: *topic_id,
            partition: partition.into(),
            batch_bytes: u32::try_from(batch.len()).unwrap_or(u32::MAX).into(),
        };
        self.produce_many_borrowed(options, &[entry], batch)
    }

    /// Appends one encoded batch to each of several partitions: `batches` holds them back to back
    /// in the order of `entries`, and is sent from where it lies.
    ///
    /// # Panics
    /// If the lengths in `entries` do not add up to `batches`.
    pub fn produce_many_borrowed<'s, 'b>(
        &'s mut self,
        options: &ProduceOptions,
        entries: &[produce::RequestEntry],
        batches: &'b [u8],
    ) -> Result<BatchWrite<'s, 'b>, SendError> {
        valid_count(entries.len())?;
        let limit = self.limits().map_or(usize::MAX, |limits| limits.batch_bytes_max);
        let lengths = entries.iter().map(|entry| usize_of(entry.batch_bytes.get()));
        if lengths.clone().any(|length| length > limit) {
            return Err(SendError::TooLarge("the batch is longer than the broker takes"));
        }
        assert_eq!(lengths.sum::<usize>(), batches.len(), "entries describe the batches");
        let control_bytes = produce::CONTROL_BYTES_ONE + size_of_val(&entries[1..]);
        let frame_bytes = FRAME_HEADER_BYTES + control_bytes + batches.len();
        self.check(frame_bytes)?;
        let id = match options.acks {
            Acks::None => None,
            _ => Some(self.inflight.insert(Kind::Produce, frame_bytes)),
        };
        let flags = options.timing.flags();
        let envelope = Envelope::request(Kind::Produce, id.map_or(0, RequestId::number));
        frame::encode(self.outgoing.buffer(), envelope, batches.len(), |out| {
            let timeout_ms = options.timeout_ms;
            produce::encode_control(out, options.acks, flags, timeout_ms, entries);
        });
        Ok(BatchWrite::new(self, batches, id))
    }

    /// Appends encoded batches of several partitions as one request, copying them. No id with
    /// `Acks::None`, which is never answered.
    pub fn produce_several(
        &mut self,
        options: &ProduceOptions,
        batches: &[(TopicId, u32, Vec<u8>)],
    ) -> Result<Option<RequestId>, SendError> {
        valid_count(batches.len())?;
        let limit = self.limits().map_or(usize::MAX, |limits| limits.batch_bytes_max);
        if batches.iter().any(|(_, _, batch)| batch.len() > limit) {
            return Err(SendError::TooLarge("a batch is longer than the broker takes"));
        }
        let entries: Vec<_> = batches.iter().map(entry).collect();
        let bytes: usize = batches.iter().map(|(_, _, batch)| batch.len()).sum();
        let control = size_of::<produce::RequestHead>() + size_of_val(entries.as_slice());
        let frame_bytes = FRAME_HEADER_BYTES + control + bytes;
        self.check(frame_bytes)?;
        let id = match options.acks {
            Acks::None => None,
            _ => Some(self.inflight.insert(Kind::Produce, frame_bytes)),
        };
        let envelope = Envelope::request(Kind::Produce, id.map_or(0, RequestId::number));
        let out = self.outgoing.buffer();
        frame::encode(out, envelope, bytes, |out| {
            let (acks, timeout_ms) = (options.acks, options.timeout_ms);
            produce::encode_control(out, acks, options.timing.flags(), timeout_ms, &entries);
        });
        batches.iter().for_each(|(_, _, batch)| out.extend_from_slice(batch));
        Ok(id)
    }

    pub(super) fn request(
        &mut self,
        kind: Kind,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> Result<RequestId, SendError> {
        // These requests are small: credit is checked before their length is known exactly.
        self.check(FRAME_HEADER_BYTES)?;
        let envelope = Envelope::request(kind, self.inflight.next_id().number());
        let before = self.outgoing.buffer().len();
        frame::encode(self.outgoing.buffer(), envelope, 0, body);
        let frame_bytes = self.outgoing.buffer().len() - before;
        Ok(self.inflight.insert(kind, frame_bytes))
    }

    pub(super) fn check(&self, frame_bytes: usize) -> Result<(), SendError> {
        if let Some(violation) = &self.broken {
            return Err(SendError::Broken(violation.clone()));
        }
        let Some(limits) = self.limits() else { return Err(SendError::HelloPending) };
        if frame_bytes > FRAME_HEADER_BYTES + limits.frame_body_bytes_max {
            return Err(SendError::TooLarge("the request is longer than the broker takes"));
        }
        if self.has_room(frame_bytes) { Ok(()) } else { Err(SendError::WindowFull) }
    }
}

fn entry((topic_id, partition, batch): &(TopicId, u32, Vec<u8>)) -> produce::RequestEntry {
    produce::RequestEntry {
        topic_id: *topic_id,
        partition: (*partition).into(),
        batch_bytes: u32::try_from(batch.len()).expect("checked against the limit").into(),
    }
}

pub(super) fn valid_name(name: &str) -> Result<(), SendError> {
    topic::invalid_name(name).map_or(Ok(()), |reason| Err(SendError::Invalid(reason)))
}

const fn valid_count(partitions: usize) -> Result<(), SendError> {
    match partitions {
        0 => Err(SendError::Invalid("the request names no partition")),
        1..=REQUEST_PARTITIONS_MAX => Ok(()),
        _ => Err(SendError::TooLarge("the request names more partitions than one may")),
    }
}

fn usize_of(length: u32) -> usize {
    usize::try_from(length).expect("u32 fits usize")
}
