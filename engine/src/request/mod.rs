//! Requests: one file per family, one line per kind.

mod alter;
mod delete_records;
mod fetch;
mod info;
mod list_offsets;
mod produce;
mod queue_traffic;
mod queues;
mod route;
mod topics;
mod unread;

pub use delete_records::DeletionWait;
pub use fetch::{Fetch, FetchLists};
pub use list_offsets::Searches;
pub use produce::{Ask, Produce, Purpose};
pub(crate) use route::put_record;
pub use route::{Route, RoutePart};
pub use topics::new_partition;

use wire::limits::FRAME_HEADER_BYTES;
use wire::{ErrorCode, FrameHeader, Kind, Malformed};

use crate::forward::KIND_APPLY;
use crate::placement::CATALOG_SHARD;
use crate::pool::Bytes;
use crate::port::{ConnId, LinkEnd, Time};
use crate::shard::Shard;

/// A request as every handler gets it.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// Who asks, and under which serial its connection is known.
    pub conn: (ConnId, u64),
    /// What its reply repeats.
    pub correlation_id: u64,
    /// Where its body lies.
    pub body: Bytes,
    /// Bytes of the whole frame: its credit.
    pub frame_bytes: usize,
}

/// Why a request is answered with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The code.
    pub code: ErrorCode,
    /// The sentence.
    pub detail: &'static str,
}

impl Refusal {
    pub(crate) const fn new(code: ErrorCode, detail: &'static str) -> Refusal {
        Refusal { code, detail }
    }
}

impl From<Malformed> for Refusal {
    fn from(Malformed(detail): Malformed) -> Refusal {
        Refusal { code: ErrorCode::Malformed, detail }
    }
}

/// Whether a handler has answered, or will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The reply is queued, or there is none.
    Now,
    /// The reply comes later; the request keeps its credit until then.
    Later,
}

impl Shard {
    /// Handles one whole frame.
    pub(crate) fn frame(&mut self, now: Time, id: ConnId, frame: Bytes) {
        self.store.counters.frames_received += 1;
        let bytes = self.pool.view(frame);
        let header = *FrameHeader::peek(bytes).expect("whole frames have a header");
        if let Err(Malformed(reason)) = header.verify(&bytes[FRAME_HEADER_BYTES..]) {
            return self.refuse(id, ErrorCode::CorruptMessage, reason);
        }
        let Some(conn) = self.conns.get(id) else { return };
        if conn.link == Some(LinkEnd::Asking) {
            return self.answered(now, frame);
        }
        if conn.link.is_some() && header.kind.get() >= KIND_APPLY {
            let body = frame.part(FRAME_HEADER_BYTES, frame.len - FRAME_HEADER_BYTES);
            return self.link_frame(now, id, &header, body);
        }
        let kind = Kind::from_u16(header.kind.get());
        if conn.is_greeted == (kind == Some(Kind::Hello)) {
            let reason = "hello comes first, and once";
            return self.refuse(id, ErrorCode::HelloExpected, reason);
        }
        let request = Request {
            conn: (id, conn.serial),
            correlation_id: header.correlation_id.get(),
            body: frame.part(FRAME_HEADER_BYTES, frame.len - FRAME_HEADER_BYTES),
            frame_bytes: frame.len,
        };
        conn.requests += 1;
        conn.request_bytes += frame.len;
        let version = header.kind_version.get();
        let outcome = match served(kind, version, header.flags) {
            Ok(kind) => self.dispatch(now, kind, request),
            Err(refusal) => Err(refusal),
        };
        match outcome {
            Ok(Answer::Later) => {}
            Ok(Answer::Now) => self.request_ended(request.conn, request.frame_bytes),
            Err(Refusal { code, detail }) => {
                self.reply_error(id, header.kind.get(), request.correlation_id, code, detail);
                self.request_ended(request.conn, request.frame_bytes);
            }
        }
    }

    fn dispatch(&mut self, now: Time, kind: Kind, request: Request) -> Result<Answer, Refusal> {
        match kind {
            Kind::Hello => self.hello(request),
            Kind::Ping => self.ping(request),
            Kind::Metadata => self.metadata(request),
            // One shard writes the catalog.
            Kind::CreateTopic | Kind::DeleteTopic | Kind::AlterTopic
                if self.catalog_stream.is_none() =>
            {
                self.relay(CATALOG_SHARD, kind.number(), request);
                Ok(Answer::Later)
            }
            Kind::CreateTopic => self.create_topic(now, request),
            Kind::DeleteTopic => self.delete_topic(now, request),
            Kind::DescribeTopic => self.describe_topic(request),
            Kind::Produce => self.produce(now, request),
            Kind::Fetch => self.fetch(now, request),
            Kind::ListOffsets => self.list_offsets(request),
            Kind::Stats => self.stats(request),
            Kind::AlterTopic => self.alter_topic(now, request),
            Kind::DeleteRecords => self.delete_records(request),
            Kind::QueueCreate => {
                self.check_create_lock(&request)?;
                if self.catalog_stream.is_none() {
                    return Ok(self.hand_on(CATALOG_SHARD, kind, request));
                }
                self.create_queue(now, request)
            }
            Kind::QueueDelete => self.delete_queue(now, request),
            Kind::QueueDescribe => self.describe_queue(request),
            Kind::QueueList => self.list_queues(request),
            Kind::QueuePublish => self.publish(now, request),
            Kind::QueueConsume => self.consume(request),
            Kind::QueueCancel => self.cancel(request),
            Kind::QueuePull => self.pull(now, request),
            Kind::QueueSettle => self.settle(now, request),
            Kind::QueuePeek => self.peek_queue(request),
            Kind::QueuePurge => self.purge_queue(now, request),
            Kind::QueueRedrive => self.redrive_queue(request),
            Kind::QueueCredit => self.credit(request),
            Kind::QueueRedriveJob => self.redrive_job(now, request),
            Kind::QueueRoute => self.route(now, request),
            Kind::QueueDeliver => Err(UNKNOWN_KIND),
        }
    }
}

const UNKNOWN_KIND: Refusal =
    Refusal::new(ErrorCode::UnknownKind, "this request kind is not served");

fn served(kind: Option<Kind>, version: u16, flags: u8) -> Result<Kind, Refusal> {
    let range = kind.and_then(Kind::served).ok_or(UNKNOWN_KIND)?;
    if !(range.version_min..=range.version_max).contains(&version) {
        let detail = "this version of the request kind is not served";
        return Err(Refusal::new(ErrorCode::UnsupportedVersion, detail));
    }
    let batches = range.kind == Kind::Produce;
    if flags != if batches { wire::frame::FLAG_BATCHES } else { 0 } {
        let detail = "the frame's flags do not fit a request of this kind";
        return Err(Refusal::new(ErrorCode::Malformed, detail));
    }
    Ok(range.kind)
}
