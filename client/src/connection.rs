//! A session on a transport, with one function per request.

use std::io::IoSlice;
use std::time::{Duration, Instant};

use wire::{Kind, TopicId, list_offsets, metadata, stats, topic};

use crate::error::ClientError;
use crate::session::{Event, Limits, RequestId, Session};
use crate::transport::{IdleMode, Interest, Received, TcpTransport, Transport};

/// How a connection is made and used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectOptions {
    /// The program's name, for the broker's log. Default: `pelton-client`.
    pub client_name: String,
    /// How long connecting may take. Default: 5 s.
    pub connect_timeout: Duration,
    /// How long a reply may take. Default: 30 s.
    pub request_timeout: Duration,
    /// How it waits. Default: parked.
    pub idle: IdleMode,
    /// How long producers and consumers try to get a lost connection back before they give up;
    /// zero does not try. A [`Connection`] never does. Default: 10 s.
    pub reconnect_for: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        ConnectOptions {
            client_name: String::from("pelton-client"),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            idle: IdleMode::Park,
            reconnect_for: Duration::from_secs(10),
        }
    }
}

/// One connection to a broker, for one thread.
///
/// ```no_run
/// use pelton_client::{ConnectOptions, Connection};
///
/// let mut connection = Connection::connect("127.0.0.1:9600", &ConnectOptions::default())?;
/// connection.create_topic("greetings", &pelton_client::topic_settings(4))?;
/// for (name, value) in connection.stats()? {
///     println!("{name} {value}");
/// }
/// # Ok::<(), pelton_client::ClientError>(())
/// ```
#[derive(Debug)]
pub struct Connection<T: Transport = TcpTransport> {
    session: Session,
    transport: T,
    request_timeout: Duration,
}

/// A topic as metadata tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMetadata {
    /// Its name.
    pub name: String,
    /// Its id.
    pub topic_id: TopicId,
    /// Each partition's owner.
    pub partitions: Vec<metadata::PartitionOwner>,
}

/// Where a shard listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Shard number.
    pub shard: u16,
    /// Host; empty means the one already used.
    pub host: String,
    /// TCP port; 0 means the one already used.
    pub port: u16,
}

impl Endpoint {
    /// Its `HOST:PORT` for a client that has asked for it at `used`, which has that form, too.
    pub fn address(&self, used: &str) -> String {
        let (used_host, used_port) = used.rsplit_once(':').unwrap_or((used, ""));
        let host = match self.host.as_str() {
            "" => used_host.to_owned(),
            host if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
            host => host.to_owned(),
        };
        match self.port {
            0 => format!("{host}:{used_port}"),
            port => format!("{host}:{port}"),
        }
    }
}

/// Endpoints and topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The broker's endpoints.
    pub endpoints: Vec<Endpoint>,
    /// The topics that were asked for.
    pub topics: Vec<TopicMetadata>,
}

/// A topic with the offsets of its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// Id and settings.
    pub head: topic::DescribeHead,
    /// One row per partition, in order.
    pub partitions: Vec<topic::PartitionState>,
}

impl Connection<TcpTransport> {
    /// Connects to `HOST:PORT` and says hello.
    ///
    /// # Errors
    /// Nothing answers there, or not a Pelton broker.
    pub fn connect(address: &str, options: &ConnectOptions) -> Result<Self, ClientError> {
        let transport = TcpTransport::connect(address, options.connect_timeout, options.idle)
            .map_err(|source| ClientError::Connect { address: address.to_owned(), source })?;
        Connection::with_transport(transport, options)
    }
}

impl<T: Transport> Connection<T> {
    /// Says hello over a transport that is connected.
    ///
    /// # Errors
    /// The peer does not answer as a Pelton broker.
    pub fn with_transport(transport: T, options: &ConnectOptions) -> Result<Self, ClientError> {
        let session = Session::new(&options.client_name);
        let request_timeout = options.request_timeout;
        let mut connection = Connection { session, transport, request_timeout };
        connection.until("answer to hello", |event| match event {
            Event::Hello(_) => Some(Ok(())),
            Event::Refused(_, refusal) => Some(Err(refused(&refusal))),
            _ => None,
        })?;
        Ok(connection)
    }

    /// What the broker allows.
    pub fn limits(&self) -> Limits {
        *self.session.limits().expect("hello was answered before this was made")
    }

    /// How long a reply may take.
    pub const fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    /// The session.
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// The session, for requests in flight side by side. The functions below wait for their own
    /// reply and drop every other, so do not mix the two.
    pub const fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Session and transport, for vectored writes of batches.
    pub const fn parts_mut(&mut self) -> (&mut Session, &mut T) {
        (&mut self.session, &mut self.transport)
    }

    /// Sends what the transport takes now, without waiting.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send_now(&mut self) -> Result<(), ClientError> {
        while !self.session.outgoing().is_empty() {
            match self.transport.send(&[IoSlice::new(self.session.outgoing())]).map_err(lost)? {
                0 => break,
                count => self.session.sent(count),
            }
        }
        Ok(())
    }

    /// Receives once what is there now, without waiting; gives the number of bytes.
    ///
    /// # Errors
    /// The connection is broken or closed.
    pub fn receive_now(&mut self) -> Result<usize, ClientError> {
        match self.transport.receive(self.session.receive_space()).map_err(lost)? {
            Received::Closed => Err(ClientError::Lost { source: None }),
            Received::Nothing => Ok(0),
            Received::Bytes(count) => {
                self.session.received(count);
                Ok(count)
            }
        }
    }

    /// Sends, waits for bytes until the deadline, and receives them. Gives how many came: 0 if
    /// the wait ended without any, be it by the deadline or by room to send.
    ///
    /// # Errors
    /// The connection is broken or closed.
    pub fn exchange(&mut self, deadline: Instant) -> Result<usize, ClientError> {
        self.send_now()?;
        let count = self.receive_now()?;
        if count > 0 {
            return Ok(count);
        }
        self.transport.wait(self.interest(), deadline).map_err(lost)?;
        self.receive_now()
    }

    /// The transport, to wait for.
    pub const fn transport(&self) -> &T {
        &self.transport
    }

    /// What a wait for this connection shall end on.
    pub fn interest(&self) -> Interest {
        match self.session.outgoing().is_empty() {
            true => Interest::Receive,
            false => Interest::ReceiveOrSend,
        }
    }

    /// Measures a round trip.
    ///
    /// # Errors
    /// The connection is lost or times out.
    pub fn ping(&mut self) -> Result<Duration, ClientError> {
        let start = Instant::now();
        let id = self.session.ping()?;
        self.answer(id, "answer to ping", |event| match event {
            Event::Pong(_) => Some(start.elapsed()),
            _ => None,
        })
    }

    /// Every counter of the broker.
    ///
    /// # Errors
    /// The connection is lost or times out.
    pub fn stats(&mut self) -> Result<Vec<(String, u64)>, ClientError> {
        let id = self.session.stats()?;
        let own = |reply: &stats::Reply<'_>| {
            reply.counters().map(|(name, value)| (name.to_owned(), value)).collect()
        };
        self.answer(id, "answer to stats", |event| match event {
            Event::Stats(_, reply) => Some(own(reply)),
            _ => None,
        })
    }

    /// Endpoints, and the named topics (all, if none is named).
    ///
    /// # Errors
    /// A topic does not exist; the connection is lost or times out.
    pub fn metadata(&mut self, names: &[&str]) -> Result<Metadata, ClientError> {
        let id = self.session.metadata(names)?;
        self.answer(id, "answer to metadata", |event| match event {
            Event::Metadata(_, reply) => Some(own_metadata(reply)),
            _ => None,
        })?
    }

    /// The broker's endpoints.
    ///
    /// # Errors
    /// The connection is lost or times out.
    pub fn endpoints(&mut self) -> Result<Vec<Endpoint>, ClientError> {
        // To name none would ask about all topics.
        let id = self.session.metadata(&[SOME_TOPIC])?;
        self.answer(id, "answer to metadata", |event| match event {
            Event::Metadata(_, reply) => Some(own_endpoints(reply)),
            _ => None,
        })
    }

    /// One topic by name.
    ///
    /// # Errors
    /// It does not exist; the connection is lost or times out.
    pub fn topic(&mut self, name: &str) -> Result<TopicMetadata, ClientError> {
        let found = self.metadata(&[name])?.topics.pop();
        found.ok_or_else(|| ClientError::Refused {
            kind: Kind::Metadata,
            code: wire::ErrorCode::UnknownTopic.number(),
            detail: name.to_owned(),
        })
    }

    /// Creates a topic; it is durable when this returns. Gives its id.
    ///
    /// # Errors
    /// It exists, or its name or settings are not valid; the connection is lost or times out.
    pub fn create_topic(
        &mut self,
        name: &str,
        settings: &topic::Settings,
    ) -> Result<TopicId, ClientError> {
        let id = self.session.create_topic(name, settings)?;
        self.answer(id, "answer to create topic", |event| match event {
            Event::TopicCreated(_, topic_id) => Some(**topic_id),
            _ => None,
        })
    }

    /// Deletes a topic and all its records.
    ///
    /// # Errors
    /// It does not exist; the connection is lost or times out.
    pub fn delete_topic(&mut self, name: &str) -> Result<(), ClientError> {
        let id = self.session.delete_topic(name)?;
        self.answer(id, "answer to delete topic", |event| match event {
            Event::TopicDeleted(_) => Some(()),
            _ => None,
        })
    }

    /// A topic's settings and its partitions' offsets.
    ///
    /// # Errors
    /// It does not exist; the connection is lost or times out.
    pub fn describe_topic(&mut self, name: &str) -> Result<TopicDescription, ClientError> {
        let id = self.session.describe_topic(name)?;
        self.answer(id, "answer to describe topic", |event| match event {
            Event::TopicDescribed(_, reply) => {
                Some(TopicDescription { head: *reply.head, partitions: reply.partitions.to_vec() })
            }
            _ => None,
        })
    }

    /// Offsets by time, one row per entry in their order, each with an error code of its own.
    ///
    /// # Errors
    /// The connection is lost or times out.
    pub fn list_offsets(
        &mut self,
        entries: &[list_offsets::RequestEntry],
    ) -> Result<Vec<list_offsets::ReplyEntry>, ClientError> {
        let id = self.session.list_offsets(entries)?;
        self.answer(id, "answer to list offsets", |event| match event {
            Event::Offsets(_, reply) => Some(reply.to_vec()),
            _ => None,
        })
    }

    /// Waits for the answer to `id`; `take` gives what is wanted of it.
    pub(crate) fn answer<R>(
        &mut self,
        id: RequestId,
        what: &'static str,
        mut take: impl FnMut(&Event<'_>) -> Option<R>,
    ) -> Result<R, ClientError> {
        self.until(what, |event| match &event {
            _ if event.request_id() != Some(id) => None,
            Event::Refused(_, refusal) => Some(Err(refused(refusal))),
            event => take(event).map(Ok),
        })
    }

    /// Exchanges bytes until `take` gives something; events it does not want are dropped.
    fn until<R>(
        &mut self,
        what: &'static str,
        mut take: impl FnMut(Event<'_>) -> Option<Result<R, ClientError>>,
    ) -> Result<R, ClientError> {
        let deadline = Instant::now() + self.request_timeout;
        loop {
            while let Some(event) = self.session.next_event()? {
                if let Some(result) = take(event) {
                    return result;
                }
            }
            if Instant::now() >= deadline {
                return Err(ClientError::TimedOut { what, after: self.request_timeout });
            }
            self.exchange(deadline)?;
        }
    }
}

fn own_metadata(reply: &metadata::Reply<'_>) -> Result<Metadata, ClientError> {
    let mut topics = Vec::new();
    for topic in reply.topics() {
        if topic.error != 0 {
            let detail = topic.name.to_owned();
            return Err(ClientError::Refused { kind: Kind::Metadata, code: topic.error, detail });
        }
        topics.push(TopicMetadata {
            name: topic.name.to_owned(),
            topic_id: *topic.topic_id,
            partitions: topic.partitions.to_vec(),
        });
    }
    Ok(Metadata { endpoints: own_endpoints(reply), topics })
}

/// Whether there is such a topic does not matter: see [`Connection::endpoints`].
const SOME_TOPIC: &str = "...";

fn own_endpoints(reply: &metadata::Reply<'_>) -> Vec<Endpoint> {
    let own = |endpoint: metadata::Endpoint<'_>| Endpoint {
        shard: endpoint.shard,
        host: endpoint.host.to_owned(),
        port: endpoint.port,
    };
    reply.endpoints().map(own).collect()
}

pub(crate) fn refused(refusal: &crate::session::Refusal<'_>) -> ClientError {
    let detail = refusal.detail.to_owned();
    ClientError::Refused { kind: refusal.kind, code: refusal.code, detail }
}

fn lost(source: std::io::Error) -> ClientError {
    ClientError::Lost { source: Some(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_completed_from_the_address_that_was_used() {
        let address = |host: &str, port, used| {
            Endpoint { shard: 0, host: host.to_owned(), port }.address(used)
        };
        assert_eq!(address("", 0, "localhost:9600"), "localhost:9600");
        assert_eq!(address("", 9601, "localhost:9600"), "localhost:9601");
        assert_eq!(address("10.0.0.1", 9601, "localhost:9600"), "10.0.0.1:9601");
        assert_eq!(address("", 9601, "[::1]:9600"), "[::1]:9601");
        assert_eq!(address("fe80::1", 0, "[::1]:9600"), "[fe80::1]:9600");
    }
}
