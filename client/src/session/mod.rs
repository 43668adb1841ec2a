//! The sans-I/O session: bytes in, events out; requests in, bytes out.
//!
//! It owns no socket and never reads a clock, so the library's transports, the load generator
//! and the simulator all drive the same code. It allocates nothing per message once its buffers
//! have grown to what passes through them.
//!
//! ```
//! use pelton_client::session::{Event, Session};
//!
//! let mut session = Session::new("example");
//! // Hello is queued already: send `outgoing()`, then tell how much of it went.
//! let bytes = session.outgoing().len();
//! session.sent(bytes);
//! // A transport reads into `receive_space()` and calls `received(n)`; then:
//! while let Some(event) = session.next_event()? {
//!     if let Event::Hello(limits) = event {
//!         println!("window of {} requests", limits.requests_in_flight_max);
//!     }
//! }
//! # Ok::<(), pelton_client::session::Violation>(())
//! ```

mod event;
mod incoming;
mod inflight;
mod outgoing;
mod queue;
mod request;
#[cfg(test)]
mod scripted_tests;
mod violation;

use std::collections::BTreeSet;

use wire::frame::{Envelope, ErrorReply, FLAG_ERROR, FLAG_REPLY};
use wire::limits::FRAME_VERSION;
use wire::{FrameHeader, Kind, Malformed, TopicId, delete_records, fetch, hello};
use wire::{list_offsets, metadata, produce, stats, topic};

pub use event::{Event, Limits, Refusal};
pub use inflight::RequestId;
pub use outgoing::BatchWrite;
pub use queue::QueueEvent;
pub use request::{ProduceOptions, SendError, ServerTiming};
pub use violation::Violation;

use incoming::Incoming;
use inflight::Inflight;
use outgoing::Outgoing;

/// One connection's protocol state.
#[derive(Debug)]
pub struct Session {
    incoming: Incoming,
    outgoing: Outgoing,
    inflight: Inflight,
    limits: Option<Limits>,
    broken: Option<Violation>,
    /// Requests whose deliveries may come at any time.
    subscriptions: BTreeSet<u64>,
}

impl Session {
    /// A session that is about to say hello. `client` names the program in the broker's log; of
    /// a name longer than the limit only the front is told.
    pub fn new(client: &str) -> Self {
        let mut session = Session {
            incoming: Incoming::new(),
            outgoing: Outgoing::new(),
            inflight: Inflight::new(),
            limits: None,
            broken: None,
            subscriptions: BTreeSet::new(),
        };
        let end = client.floor_char_boundary(wire::limits::CLIENT_NAME_BYTES_MAX);
        let hello = hello::Request {
            version_min: FRAME_VERSION,
            version_max: FRAME_VERSION,
            features: 0,
            client: &client[..end],
        };
        let id = session.inflight.insert(Kind::Hello, 0);
        let envelope = Envelope::request(Kind::Hello, id.number());
        wire::frame::encode(session.outgoing.buffer(), envelope, 0, |out| hello.encode(out));
        session
    }

    /// What the broker allows, once it has answered hello.
    pub const fn limits(&self) -> Option<&Limits> {
        self.limits.as_ref()
    }

    /// How many requests wait for their replies.
    pub fn requests_in_flight(&self) -> usize {
        self.inflight.count()
    }

    /// The requests that wait for their replies, in no order: after a lost connection, the ones
    /// whose outcome is unknown.
    pub fn unanswered(&self) -> impl Iterator<Item = RequestId> + '_ {
        self.inflight.waiting()
    }

    /// Bytes to send, in one piece; empty when there is nothing to send.
    pub fn outgoing(&self) -> &[u8] {
        self.outgoing.bytes()
    }

    /// The first `count` bytes of [`Session::outgoing`] were sent.
    ///
    /// # Panics
    /// If `count` is more than was to be sent.
    pub fn sent(&mut self, count: usize) {
        self.outgoing.sent(count);
    }

    /// Takes received bytes by copying them. Transports read into [`Session::receive_space`].
    pub fn receive(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = self.incoming.space();
            let count = space.len().min(bytes.len());
            space[..count].copy_from_slice(&bytes[..count]);
            self.incoming.filled(count);
            bytes = &bytes[count..];
        }
    }

    /// Where the next received bytes belong; never empty. Take all events first, so that the
    /// buffer need not grow.
    pub fn receive_space(&mut self) -> &mut [u8] {
        self.incoming.space()
    }

    /// The first `count` bytes of [`Session::receive_space`] were filled.
    ///
    /// # Panics
    /// If `count` is more than that space.
    pub fn received(&mut self, count: usize) {
        self.incoming.filled(count);
    }

    /// The next reply, or `None` until more bytes are received. What it borrows is valid until
    /// the session is used again; its bytes leave the buffer then.
    ///
    /// # Errors
    /// A violation ends the session: every later call gives it again.
    pub fn next_event(&mut self) -> Result<Option<Event<'_>>, Violation> {
        if let Some(violation) = &self.broken {
            return Err(violation.clone());
        }
        let asked = match self.take_reply() {
            Ok(None) => return Ok(None),
            Ok(Some(asked)) => asked,
            Err(violation) => return Err(self.broken.insert(violation).clone()),
        };
        let (id, kind, header) = asked;
        if kind == Kind::Hello && header.flags & FLAG_ERROR == 0 {
            match hello::Reply::decode(self.incoming.body()) {
                Ok(reply) => self.limits = Some(Limits::from_hello(reply.head)),
                Err(malformed) => {
                    let violation = Violation::Body { kind: kind.number(), malformed };
                    return Err(self.broken.insert(violation).clone());
                }
            }
        }
        match decode(self.incoming.body(), self.limits, id, kind, header.flags) {
            Ok(event) => Ok(Some(event)),
            Err(malformed) => {
                let violation = Violation::Body { kind: kind.number(), malformed };
                Err(self.broken.insert(violation).clone())
            }
        }
    }

    /// The body of the frame that the last event came from, until bytes are received or the next
    /// event is taken; then empty. Requests may be made meanwhile: so a consumer asks for more
    /// before it looks through what came.
    pub fn event_body(&self) -> &[u8] {
        self.incoming.body()
    }

    /// Takes the next whole frame and the request that it answers.
    fn take_reply(&mut self) -> Result<Option<(RequestId, Kind, FrameHeader)>, Violation> {
        let Some(header) = self.incoming.take_frame()? else { return Ok(None) };
        let kind_number = header.kind.get();
        if header.flags & FLAG_REPLY == 0 {
            return Err(Violation::NotAReply { kind: kind_number });
        }
        let correlation_id = header.correlation_id.get();
        let is_error = header.flags & FLAG_ERROR != 0;
        if self.is_pushed(&header) {
            return Ok(Some((RequestId::of(correlation_id), Kind::QueueDeliver, header)));
        }
        match self.inflight.remove(correlation_id) {
            Some((id, kind)) if is_error || kind.number() == kind_number => {
                Ok(Some((id, kind, header)))
            }
            // An error that answers nothing in flight is about the connection itself.
            None if is_error => {
                let error = ErrorReply::decode(self.incoming.body())
                    .map_err(|malformed| Violation::Body { kind: kind_number, malformed })?;
                let detail = error.detail.to_owned();
                Err(Violation::Refused { code: error.code, detail })
            }
            _ => Err(Violation::Unasked { kind: kind_number, correlation_id }),
        }
    }

    /// Whether a frame is a delivery of a consumer of this session, or tells of its end.
    fn is_pushed(&mut self, header: &FrameHeader) -> bool {
        let (kind, correlation_id) = (header.kind.get(), header.correlation_id.get());
        let is_error = header.flags & FLAG_ERROR != 0;
        let delivers = kind == Kind::QueueDeliver.number() && !is_error;
        // A cancel that is refused is in flight; what tells of an end is not.
        let ends = kind == Kind::QueueCancel.number() && is_error;
        if ends {
            self.subscriptions.remove(&correlation_id)
        } else {
            delivers && self.subscriptions.contains(&correlation_id)
        }
    }
}

fn decode(
    body: &[u8],
    limits: Option<Limits>,
    id: RequestId,
    kind: Kind,
    flags: u8,
) -> Result<Event<'_>, Malformed> {
    if flags & FLAG_ERROR != 0 {
        let ErrorReply { code, retry_after_ms, detail } = ErrorReply::decode(body)?;
        return Ok(Event::Refused(id, Refusal { kind, code, retry_after_ms, detail }));
    }
    Ok(match kind {
        Kind::Hello => Event::Hello(limits.ok_or(Malformed("hello reply without limits"))?),
        Kind::Ping => Event::Pong(id),
        Kind::Metadata => Event::Metadata(id, metadata::Reply::decode(body)?),
        Kind::CreateTopic => {
            let topic_id = <&TopicId>::try_from(body)
                .map_err(|_| Malformed("the reply to create topic is not one topic id"))?;
            Event::TopicCreated(id, topic_id)
        }
        Kind::DeleteTopic => Event::TopicDeleted(id),
        Kind::DescribeTopic => Event::TopicDescribed(id, topic::DescribeReply::decode(body)?),
        Kind::Produce => Event::Produced(id, produce::Reply::decode(body)?),
        Kind::Fetch => Event::Fetched(id, fetch::Reply::decode(body)?),
        Kind::ListOffsets => Event::Offsets(id, list_offsets::decode_reply(body)?),
        Kind::Stats => Event::Stats(id, stats::Reply::decode(body)?),
        Kind::AlterTopic => Event::TopicAltered(id, topic::Settings::decode(body)?),
        Kind::DeleteRecords => Event::RecordsDeleted(id, delete_records::decode_reply(body)?),
        _ => return queue::decode(id, kind, body),
    })
}
