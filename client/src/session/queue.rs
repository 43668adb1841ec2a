//! Requests about queues, and the deliveries that a broker pushes.

use wire::frame::{self, Envelope};
use wire::limits::{FRAME_HEADER_BYTES, ROUTE_TARGETS_MAX, SETTLE_ROWS_MAX};
use wire::queue::{
    CancelRequest, ConsumeReply, ConsumeRequest, CreateReply, CreditRequest, Deliver,
    DescribeReply, ListReply, PeekRequest, PublishHead, PublishReply, PullRequest, PurgeReply,
    QueueId, RedriveJobReply, RedriveJobRequest, RedriveReply, RedriveRequest, RouteHead,
    RouteReply, RouteTarget, SETTLE_QUIET, Settings, SettleReply, SettleRow, encode_create,
    encode_delete, encode_route, encode_settle,
};
use wire::{Acks, Kind, Malformed, put_str16, topic};
use zerocopy::{FromBytes, IntoBytes};

use super::request::valid_name;
use super::{Event, RequestId, SendError, ServerTiming, Session};

/// A reply about a queue, or a delivery. What it borrows lies in the session's receive buffer.
#[derive(Debug, Clone)]
pub enum QueueEvent<'a> {
    /// The queue is there.
    Created(CreateReply<'a>),
    /// The queue is gone.
    Deleted,
    /// What it is like, and what is in it.
    Described(DescribeReply<'a>),
    /// Names of queues.
    Listed(ListReply<'a>),
    /// Messages are taken.
    Published(PublishReply<'a>),
    /// What became of messages, for each target.
    Routed(RouteReply<'a>),
    /// There is a consumer; its deliveries come under the same request id.
    Consuming(&'a ConsumeReply),
    /// Messages were pushed.
    Delivered(Deliver<'a>),
    /// A consumer is gone.
    Cancelled,
    /// The bound holds.
    Credited,
    /// Messages that were asked for.
    Pulled(Deliver<'a>),
    /// What became of messages.
    Settled(SettleReply<'a>),
    /// Messages, shown.
    Peeked(Deliver<'a>),
    /// Messages were removed.
    Purged(&'a PurgeReply),
    /// How far a job is that sends dead letters back.
    RedriveJob(&'a RedriveJobReply),
    /// Dead letters went back.
    Redriven(&'a RedriveReply),
}

/// Decodes the body of a reply about queues.
pub(super) fn decode(id: RequestId, kind: Kind, body: &[u8]) -> Result<Event<'_>, Malformed> {
    let event = match kind {
        Kind::QueueCreate => QueueEvent::Created(CreateReply::decode(body)?),
        Kind::QueueDelete => QueueEvent::Deleted,
        Kind::QueueDescribe => QueueEvent::Described(DescribeReply::decode(body)?),
        Kind::QueueList => QueueEvent::Listed(ListReply::decode(body)),
        Kind::QueuePublish => QueueEvent::Published(PublishReply::decode(body)?),
        Kind::QueueConsume => QueueEvent::Consuming(fixed(body, "a consume reply")?),
        Kind::QueueDeliver => QueueEvent::Delivered(Deliver::decode(body)?),
        Kind::QueueCancel => QueueEvent::Cancelled,
        Kind::QueueRedriveJob => QueueEvent::RedriveJob(fixed(body, "a redrive job")?),
        Kind::QueueCredit => QueueEvent::Credited,
        Kind::QueueRoute => QueueEvent::Routed(RouteReply::decode(body)?),
        Kind::QueuePull => QueueEvent::Pulled(Deliver::decode(body)?),
        Kind::QueueSettle => QueueEvent::Settled(SettleReply::decode(body)?),
        Kind::QueuePeek => QueueEvent::Peeked(Deliver::decode(body)?),
        Kind::QueuePurge => QueueEvent::Purged(fixed(body, "a purge reply")?),
        Kind::QueueRedrive => QueueEvent::Redriven(fixed(body, "a redrive reply")?),
        _ => return Err(Malformed("this kind is not about queues")),
    };
    Ok(Event::Queue(id, event))
}

fn fixed<'a, T>(body: &'a [u8], what: &'static str) -> Result<&'a T, Malformed>
where
    T: FromBytes + zerocopy::KnownLayout + zerocopy::Immutable + zerocopy::Unaligned,
{
    T::ref_from_bytes(body).map_err(|_| Malformed(what))
}

impl Session {
    /// Asks for a queue to be there and to be like this. An empty name lets the broker find one;
    /// dead letters go to the queue named last, if it is not empty.
    pub fn create_queue(
        &mut self,
        name: &str,
        settings: &Settings,
        dead_letter: &str,
    ) -> Result<RequestId, SendError> {
        for name in [name, dead_letter].into_iter().filter(|name| !name.is_empty()) {
            valid_name(name)?;
        }
        self.request(Kind::QueueCreate, |out| encode_create(out, settings, name, dead_letter))
    }

    /// Deletes a queue, under the conditions that the `DELETE_*` bits name.
    pub fn delete_queue(&mut self, name: &str, conditions: u32) -> Result<RequestId, SendError> {
        valid_name(name)?;
        self.request(Kind::QueueDelete, |out| encode_delete(out, conditions, name))
    }

    /// Asks what a queue is like and what is in it.
    pub fn describe_queue(&mut self, name: &str) -> Result<RequestId, SendError> {
        valid_name(name)?;
        self.request(Kind::QueueDescribe, |out| topic::NameRequest { name }.encode(out))
    }

    /// Removes every message that is ready.
    pub fn purge_queue(&mut self, name: &str) -> Result<RequestId, SendError> {
        valid_name(name)?;
        self.request(Kind::QueuePurge, |out| topic::NameRequest { name }.encode(out))
    }

    /// Asks for names of queues behind `after`.
    pub fn list_queues(&mut self, after: &str) -> Result<RequestId, SendError> {
        self.request(Kind::QueueList, |out| put_str16(out, after))
    }

    /// Publishes `count` messages that lie back to back in `messages`, as
    /// [`wire::queue::put_message`] makes them.
    pub fn publish(
        &mut self,
        queue: &QueueId,
        acks: Acks,
        count: u32,
        messages: &[u8],
    ) -> Result<RequestId, SendError> {
        self.publish_timed(queue, (acks, ServerTiming::Omit), count, messages)
    }

    /// Publishes messages as [`Session::publish`] does; the reply may tell where the time went.
    pub fn publish_timed(
        &mut self,
        queue: &QueueId,
        (acks, timing): (Acks, ServerTiming),
        count: u32,
        messages: &[u8],
    ) -> Result<RequestId, SendError> {
        let frame_bytes = FRAME_HEADER_BYTES + size_of::<PublishHead>() + messages.len();
        self.check(frame_bytes)?;
        let head = PublishHead {
            queue: *queue,
            count: count.into(),
            acks: acks as u8,
            flags: timing.flags(),
            reserved: 0.into(),
        };
        self.request(Kind::QueuePublish, |out| {
            out.extend_from_slice(head.as_bytes());
            out.extend_from_slice(messages);
        })
    }

    /// Publishes messages as [`Session::publish`] does, to several queues and partitions.
    pub fn route(
        &mut self,
        targets: &[RouteTarget],
        acks: Acks,
        count: u32,
        messages: &[u8],
    ) -> Result<RequestId, SendError> {
        if targets.is_empty() || targets.len() > ROUTE_TARGETS_MAX {
            return Err(SendError::Invalid("a route has 1 to 256 targets"));
        }
        let targets_bytes = size_of::<RouteHead>() + size_of_val(targets);
        self.check(FRAME_HEADER_BYTES + targets_bytes + messages.len())?;
        self.request(Kind::QueueRoute, |out| {
            encode_route(out, acks, count, targets);
            out.extend_from_slice(messages);
        })
    }

    /// Asks for messages to be pushed: deliveries come under the id that this gives, as
    /// [`QueueEvent::Delivered`], until the session or the consumer ends; the latter as a refusal
    /// of a [`Kind::QueueDeliver`].
    pub fn consume(&mut self, request: &ConsumeRequest) -> Result<RequestId, SendError> {
        let id =
            self.request(Kind::QueueConsume, |out| out.extend_from_slice(request.as_bytes()))?;
        self.subscriptions.insert(id.number());
        Ok(id)
    }

    /// Bounds what all consumers of this session have together, beside the prefetch of each; 0
    /// ends the bound.
    pub fn credit(&mut self, messages: u32) -> Result<RequestId, SendError> {
        let request = CreditRequest { messages: messages.into() };
        self.request(Kind::QueueCredit, |out| out.extend_from_slice(request.as_bytes()))
    }

    /// Asks for a consumer to get no more.
    pub fn cancel(&mut self, queue: &QueueId, consumer: u32) -> Result<RequestId, SendError> {
        let request = CancelRequest { queue: *queue, consumer: consumer.into() };
        self.request(Kind::QueueCancel, |out| out.extend_from_slice(request.as_bytes()))
    }

    /// Asks for messages once.
    pub fn pull(&mut self, request: &PullRequest) -> Result<RequestId, SendError> {
        self.request(Kind::QueuePull, |out| out.extend_from_slice(request.as_bytes()))
    }

    /// Says what becomes of messages that were delivered. The answer comes when that is durable,
    /// and what was settled quietly before: without rows, only that.
    pub fn settle(
        &mut self,
        queue: &QueueId,
        consumer: u32,
        rows: &[SettleRow],
    ) -> Result<RequestId, SendError> {
        valid_rows(rows)?;
        self.request(Kind::QueueSettle, |out| encode_settle(out, queue, consumer, 0, rows))
    }

    /// The same, without an answer: nothing tells whether it was in time.
    pub fn settle_quietly(
        &mut self,
        queue: &QueueId,
        consumer: u32,
        rows: &[SettleRow],
    ) -> Result<(), SendError> {
        if rows.is_empty() {
            return Ok(());
        }
        valid_rows(rows)?;
        self.check(FRAME_HEADER_BYTES)?;
        let envelope = Envelope::request(Kind::QueueSettle, 0);
        frame::encode(self.outgoing.buffer(), envelope, 0, |out| {
            encode_settle(out, queue, consumer, SETTLE_QUIET, rows);
        });
        Ok(())
    }

    /// Asks to see messages.
    pub fn peek(&mut self, request: &PeekRequest) -> Result<RequestId, SendError> {
        self.request(Kind::QueuePeek, |out| out.extend_from_slice(request.as_bytes()))
    }

    /// Starts, shows or stops a job that sends dead letters back.
    pub fn redrive_job(&mut self, request: &RedriveJobRequest) -> Result<RequestId, SendError> {
        self.request(Kind::QueueRedriveJob, |out| out.extend_from_slice(request.as_bytes()))
    }

    /// Sends dead letters back to the queues they died in.
    pub fn redrive(&mut self, queue: &QueueId, max_messages: u32) -> Result<RequestId, SendError> {
        let request = RedriveRequest { queue: *queue, max_messages: max_messages.into() };
        self.request(Kind::QueueRedrive, |out| out.extend_from_slice(request.as_bytes()))
    }
}

const fn valid_rows(rows: &[SettleRow]) -> Result<(), SendError> {
    match rows.len() {
        0..=SETTLE_ROWS_MAX => Ok(()),
        _ => Err(SendError::TooLarge("settle has more rows than one request may")),
    }
}
