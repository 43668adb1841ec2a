//! Metadata: which endpoints there are, which topics, and who owns each partition.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::limits::{REQUEST_PARTITIONS_MAX, TOPIC_NAME_BYTES_MAX};
use crate::{Malformed, Reader, TopicId, put_str16};

/// Longest host name of an endpoint.
pub const HOST_BYTES_MAX: usize = 255;

/// Asks about some topics by name, or about all.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    count: u16,
    names: Reader<'a>,
}

impl<'a> Request<'a> {
    /// Decodes the body; no name at all asks for every topic.
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let count = reader.get::<U16>("topic count")?.get();
        if usize::from(count) > REQUEST_PARTITIONS_MAX {
            return Err(Malformed("topic count is above the limit"));
        }
        let names = reader;
        for _ in 0..count {
            reader.str16(TOPIC_NAME_BYTES_MAX, "topic name")?;
        }
        reader.end("bytes after metadata")?;
        Ok(Request { count, names })
    }

    /// Whether it asks about every topic.
    pub const fn asks_all(&self) -> bool {
        self.count == 0
    }

    /// The names it asks about.
    pub fn names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut reader = self.names;
        (0..self.count).map(move |_| {
            reader.str16(TOPIC_NAME_BYTES_MAX, "topic name").expect("walked by decode")
        })
    }
}

/// Appends the body of a request about `names` (all topics if empty).
pub fn encode_request(out: &mut Vec<u8>, names: &[&str]) {
    let count = u16::try_from(names.len()).expect("callers ask about few topics");
    out.extend_from_slice(&count.to_le_bytes());
    for name in names {
        put_str16(out, name);
    }
}

/// Where a shard listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint<'a> {
    /// Shard number.
    pub shard: u16,
    /// TCP port.
    pub port: u16,
    /// Host name or address as clients reach it; empty means the one already used.
    pub host: &'a str,
}

/// One partition's owner.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct PartitionOwner {
    /// Owning shard.
    pub shard: U16,
    /// Zero.
    pub reserved: U16,
    /// Leader epoch.
    pub leader_epoch: U32,
}

/// One topic of the answer. Partition `i` is `partitions[i]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic<'a> {
    /// Its name as asked or as catalogued.
    pub name: &'a str,
    /// An error code if it is not known; then there are no partitions.
    pub error: u16,
    /// Its id, zero if not known.
    pub topic_id: &'a TopicId,
    /// Its partitions' owners.
    pub partitions: &'a [PartitionOwner],
}

/// The answer: endpoints, then topics.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'a> {
    endpoint_count: u16,
    endpoints: Reader<'a>,
    topic_count: u32,
    topics: Reader<'a>,
}

impl<'a> Reply<'a> {
    /// Decodes the body.
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let endpoint_count = reader.get::<U16>("endpoint count")?.get();
        let endpoints = reader;
        for _ in 0..endpoint_count {
            read_endpoint(&mut reader)?;
        }
        let topic_count = reader.get::<U32>("topic count")?.get();
        let topics = reader;
        for _ in 0..topic_count {
            read_topic(&mut reader)?;
        }
        reader.end("bytes after the metadata reply")?;
        Ok(Reply { endpoint_count, endpoints, topic_count, topics })
    }

    /// The endpoints.
    pub fn endpoints(&self) -> impl Iterator<Item = Endpoint<'a>> + use<'a> {
        let mut reader = self.endpoints;
        (0..self.endpoint_count).map(move |_| read_endpoint(&mut reader).expect("walked by decode"))
    }

    /// The topics.
    pub fn topics(&self) -> impl Iterator<Item = Topic<'a>> + use<'a> {
        let mut reader = self.topics;
        (0..self.topic_count).map(move |_| read_topic(&mut reader).expect("walked by decode"))
    }
}

fn read_endpoint<'a>(reader: &mut Reader<'a>) -> Result<Endpoint<'a>, Malformed> {
    let shard = reader.get::<U16>("endpoint shard")?.get();
    let port = reader.get::<U16>("endpoint port")?.get();
    let host = reader.str16(HOST_BYTES_MAX, "endpoint host")?;
    Ok(Endpoint { shard, port, host })
}

fn read_topic<'a>(reader: &mut Reader<'a>) -> Result<Topic<'a>, Malformed> {
    let name = reader.str16(TOPIC_NAME_BYTES_MAX, "topic name")?;
    let error = reader.get::<U16>("topic error")?.get();
    let topic_id = reader.get::<TopicId>("topic id")?;
    let count = reader.get::<U32>("partition count")?.get();
    let count = usize::try_from(count).expect("u32 fits usize");
    let partitions = reader.slice(count, "partition owners")?;
    Ok(Topic { name, error, topic_id, partitions })
}

/// Appends the endpoint part of a reply.
pub fn encode_endpoints(out: &mut Vec<u8>, endpoints: &[Endpoint<'_>]) {
    let count = u16::try_from(endpoints.len()).expect("one endpoint per shard");
    out.extend_from_slice(&count.to_le_bytes());
    for endpoint in endpoints {
        out.extend_from_slice(&endpoint.shard.to_le_bytes());
        out.extend_from_slice(&endpoint.port.to_le_bytes());
        put_str16(out, endpoint.host);
    }
}

/// Appends the topic count, which stands before the topics.
pub fn encode_topic_count(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("topics are bounded");
    out.extend_from_slice(&count.to_le_bytes());
}

/// Appends one topic.
pub fn encode_topic(
    out: &mut Vec<u8>,
    name: &str,
    error: u16,
    topic_id: &TopicId,
    owners: impl ExactSizeIterator<Item = PartitionOwner>,
) {
    put_str16(out, name);
    out.extend_from_slice(&error.to_le_bytes());
    out.extend_from_slice(topic_id);
    let count = u32::try_from(owners.len()).expect("partitions are bounded");
    out.extend_from_slice(&count.to_le_bytes());
    for owner in owners {
        out.extend_from_slice(owner.as_bytes());
    }
}
