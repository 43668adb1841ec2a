//! Requests for what other shards own. A request that arrives at the wrong shard is sent on over
//! a link, in whole or in parts, and answered when the answers have come back.
//!
//! A link carries the same frames as a connection, and is received from and sent to by the same
//! code. On the one link to each other shard this one asks: what comes in are replies, each to a
//! [`Call`] whose slot is its correlation id. On the other link it answers, from its own
//! partitions only; so nothing is ever sent on twice.

mod catalog;
mod consume;
mod fetch;
mod gather;
mod produce;

use std::collections::BTreeMap;

use wire::frame::{Envelope, FLAG_ERROR, encode};
use wire::limits::FRAME_HEADER_BYTES;
use wire::{ErrorCode, FrameHeader};

pub use catalog::Announcement;
pub use consume::{Consuming, KIND_HOLD};
pub use fetch::{SPREADS_PER_CONNECTION_MAX, Spread};
pub use gather::{Gather, What};

use crate::log::read::Part;
use crate::log::slab::Slab;
use crate::pool::{BufId, Bytes, PAGE_BYTES, Source};
use crate::port::{ConnId, LinkEnd, Time};
use crate::request::{Request, RoutePart};
use crate::shard::Shard;
use crate::units::usize_of;

/// Kind of a frame that tells a change of the catalog. Kinds from here on are spoken on links
/// only; from a connection they are unknown.
pub const KIND_APPLY: u16 = 0xff01;
/// Kind of a frame that asks for a waiting fetch to be answered now. It has no reply of its own.
pub const KIND_HURRY: u16 = 0xff02;
/// Kind of a frame that asks the catalog's shard to delete a queue, by its id.
pub const KIND_DROP_QUEUE: u16 = 0xff03;

/// Kind of a frame that tells what a client's consumers may have: `credit.rs`. It has no reply.
pub const KIND_CREDIT: u16 = 0xff05;

/// What another shard was asked for.
#[derive(Debug)]
pub enum Call {
    /// Rows of the produce request in this slot, by their numbers in it.
    Produce {
        /// Slot.
        slot: u32,
        /// Tells it from others in the same slot.
        serial: u64,
        /// Numbers of the rows.
        rows: Vec<u16>,
    },
    /// Rows of a fetch.
    Fetch {
        /// Slot of its [`Spread`].
        slot: u32,
        /// Tells it from others in the same slot.
        serial: u64,
        /// Numbers of the rows.
        rows: Vec<u16>,
    },
    /// A part of an answer that is gathered: the slot of its [`Gather`], and numbers of rows.
    Gather {
        /// Slot.
        slot: u32,
        /// Numbers of the rows.
        rows: Vec<u16>,
    },
    /// Everything: the answer is handed to who asked.
    Relay(Request),
    /// To apply a change of the catalog: slot of its [`Announcement`].
    Apply(u32),
    /// Messages of a queue, which may take long: the answer is handed to who asked.
    Pull(Request),
    /// Messages for its queues: the route, and rows of it.
    Route(RoutePart, Vec<usize>),
    /// Something of which only the doing matters.
    Nothing,
    /// Messages of a queue, again and again, until it ends.
    Consume(Box<Consuming>),
    /// The end of the consumer in this slot, and who asked for it.
    Cancel {
        /// Slot.
        slot: u32,
        /// Who waits for the answer.
        request: Option<Request>,
    },
}

impl Call {
    /// Whether its answer is near: worth spinning for.
    const fn is_eager(&self) -> bool {
        !matches!(self, Call::Fetch { .. } | Call::Pull(_) | Call::Consume(_))
    }
}

/// Links to the other shards, and what was asked over them.
#[derive(Debug, Default)]
pub struct Forward {
    /// The link on which this shard asks, by the shard that answers.
    asking: Vec<Option<ConnId>>,
    /// All links.
    links: Vec<ConnId>,
    calls: Slab<Call>,
    /// Calls that are about to be answered: worth spinning for.
    pub(crate) eager_calls: usize,
    pub(crate) spreads: Slab<Spread>,
    pub(crate) gathers: Slab<Gather>,
    pub(crate) announcements: Slab<Announcement>,
    /// Rows by shard while a request is divided; kept for its memory.
    groups: Vec<Vec<u16>>,
    free_rows: Vec<Vec<u16>>,
    /// Consumers of other shards' queues, by their clients: slots of their calls.
    consuming: BTreeMap<(ConnId, u64), Vec<u32>>,
    bytes: Vec<u8>,
}

/// Lists of rows that are kept for their memory.
const KEPT_ROWS_MAX: usize = 256;

impl Forward {
    fn rows(&mut self) -> Vec<u16> {
        self.free_rows.pop().unwrap_or_default()
    }

    fn keep_rows(&mut self, mut rows: Vec<u16>) {
        if self.free_rows.len() < KEPT_ROWS_MAX {
            rows.clear();
            self.free_rows.push(rows);
        }
    }

    /// The link on which `shard` is asked.
    fn link(&self, shard: u16) -> ConnId {
        let link = self.asking.get(usize::from(shard)).copied().flatten();
        link.expect("links come before connections")
    }
}

impl Shard {
    /// There is a link to another shard.
    pub(crate) fn linked(&mut self, now: Time, id: ConnId, shard: u16, end: LinkEnd) {
        self.conns.insert_link(id, now, end);
        self.forward.links.push(id);
        if end == LinkEnd::Asking {
            let index = usize::from(shard);
            if self.forward.asking.len() <= index {
                self.forward.asking.resize(index + 1, None);
            }
            self.forward.asking[index] = Some(id);
        }
        self.touch(id);
    }

    /// Whether so much waits to be sent to other shards that clients' records are not read. The
    /// bound is of all links together: it is this shard's memory.
    pub(crate) fn are_links_full(&self) -> bool {
        let links = self.forward.asking.iter().flatten();
        let mut links = links.filter_map(|&link| self.conns.peek(link));
        let mut room = Some(self.store.settings.link_bytes_max);
        links.any(|conn| {
            room = room.and_then(|room| room.checked_sub(conn.reply_bytes));
            room.is_none() || !conn.late.is_empty()
        })
    }

    /// Every shard but this one.
    fn other_shards(&self) -> impl Iterator<Item = u16> + use<> {
        let here = self.store.settings.shard;
        (0..self.store.settings.shards).filter(move |&shard| shard != here)
    }

    /// Asks a shard; the answer comes to [`Shard::answered`] with the call.
    pub(crate) fn call(
        &mut self,
        shard: u16,
        kind: u16,
        flags: u8,
        call: Call,
        parts: &[Part],
        body: impl FnOnce(&mut Vec<u8>),
    ) -> u32 {
        self.forward.eager_calls += usize::from(call.is_eager());
        let slot = self.forward.calls.insert(call);
        let envelope = Envelope { flags, kind, kind_version: 1, correlation_id: u64::from(slot) };
        self.ask(shard, envelope, parts, body);
        slot
    }

    /// Sends a request that has no answer, or whose call exists.
    fn ask(
        &mut self,
        shard: u16,
        envelope: Envelope,
        parts: &[Part],
        body: impl FnOnce(&mut Vec<u8>),
    ) {
        let link = self.forward.link(shard);
        let bytes = parts.iter().map(|part| part.len).sum();
        self.store.counters.requests_forwarded += 1;
        self.reply_with(link, parts, |out| encode(out, envelope, bytes, body));
    }

    /// A frame came on a link on which this shard asks.
    pub(crate) fn answered(&mut self, now: Time, frame: Bytes) {
        let header = *FrameHeader::peek(self.pool.view(frame)).expect("frames have a header");
        let answered = u32::try_from(header.correlation_id.get()).expect("a slot of ours");
        if matches!(self.forward.calls.get(answered), Some(Call::Consume(_))) {
            let body = frame.part(FRAME_HEADER_BYTES, frame.len - FRAME_HEADER_BYTES);
            return self.consume_answered(answered, &header, body);
        }
        let call = self.forward.calls.remove(answered).expect("a call is answered once");
        self.forward.eager_calls -= usize::from(call.is_eager());
        let body = frame.part(FRAME_HEADER_BYTES, frame.len - FRAME_HEADER_BYTES);
        match call {
            Call::Produce { slot, serial, rows } => {
                self.produce_answered(now, (slot, serial), &rows, &header, body);
                self.forward.keep_rows(rows);
            }
            Call::Fetch { slot, serial, rows } => {
                self.forget_call((slot, serial), answered);
                self.fetch_answered(now, (slot, serial), &rows, &header, body);
                self.forward.keep_rows(rows);
            }
            Call::Gather { slot, rows } => {
                self.gathered(slot, &rows, &header, body);
                self.forward.keep_rows(rows);
            }
            Call::Relay(request) => self.relay_back(request, &header, body),
            Call::Apply(slot) => self.change_applied(slot),
            Call::Pull(request) => self.relay_back(request, &header, body),
            Call::Route(part, rows) => self.route_answered(part, &rows, &header, body),
            Call::Nothing => {}
            Call::Cancel { slot, request } => {
                self.cancel_answered(slot, request, &header, body);
            }
            Call::Consume(_) => unreachable!("it stays"),
        }
    }

    /// A frame of a kind that only links speak.
    pub(crate) fn link_frame(&mut self, now: Time, id: ConnId, header: &FrameHeader, body: Bytes) {
        match header.kind.get() {
            KIND_APPLY => self.apply_announced(id, header.correlation_id.get(), body),
            KIND_HURRY => self.hurry_fetch(now, id, header.correlation_id.get()),
            KIND_HOLD => self.hold_consumer(id, header.correlation_id.get(), body),
            KIND_CREDIT => self.credit_told(id, body),
            KIND_DROP_QUEUE => self.drop_queue_asked(now, id, header.correlation_id.get(), body),
            kind => unreachable!("no shard sends frames of kind {kind}"),
        }
    }

    /// Hands a request to another shard as it is.
    pub(crate) fn relay(&mut self, shard: u16, kind: u16, request: Request) {
        self.relay_as(shard, kind, request, Call::Relay(request));
    }

    /// The same, as another kind of call.
    pub(crate) fn relay_as(&mut self, shard: u16, kind: u16, request: Request, call: Call) {
        let body = self.pool.view(request.body).to_vec();
        self.call(shard, kind, 0, call, &[], |out| out.extend_from_slice(&body));
    }

    fn relay_back(&mut self, request: Request, header: &FrameHeader, body: Bytes) {
        self.note_relayed(&request, header, body);
        self.hand_over(&request, header, body);
        self.request_ended(request.conn, request.frame_bytes);
    }

    /// Sends a client of this shard what another shard has for it.
    fn hand_over(&mut self, request: &Request, header: &FrameHeader, body: Bytes) {
        if self.conns.live(request.conn).is_none() {
            return;
        }
        let mut bytes = std::mem::take(&mut self.forward.bytes);
        bytes.clear();
        bytes.extend_from_slice(self.pool.view(body));
        let envelope = Envelope {
            flags: header.flags,
            kind: header.kind.get(),
            kind_version: header.kind_version.get(),
            correlation_id: request.correlation_id,
        };
        self.reply(request.conn.0, |out| {
            encode(out, envelope, 0, |out| out.extend_from_slice(&bytes));
        });
        self.forward.bytes = bytes;
    }

    /// Buffers that quiet links hold.
    pub(crate) fn link_buffers(&self) -> usize {
        let links = self.forward.links.iter().filter_map(|&link| self.conns.peek(link));
        links.filter(|link| link.probe.is_some()).count()
    }

    /// Sends what had to wait for memory.
    pub(crate) fn serve_links(&mut self) {
        for index in 0..self.forward.links.len() {
            let link = self.forward.links[index];
            while let Some(conn) = self.conns.get(link) {
                let Some(late) = conn.late.pop_front() else { break };
                if !self.make_room(late.0.len()) {
                    let conn = self.conns.get(link).expect("links stay");
                    conn.late.push_front(late);
                    break;
                }
                self.queue_whole(link, &late.0);
                self.reply_parts(link, &late.1);
                // It may have been paused because of what was late.
                self.resume.push(link);
            }
        }
    }
}

/// What an error reply says, if the frame is one.
pub(crate) fn error_of(bytes: &[u8], header: &FrameHeader) -> Option<u16> {
    if header.flags & FLAG_ERROR == 0 {
        return None;
    }
    let error = wire::frame::ErrorReply::decode(bytes);
    Some(error.map_or(ErrorCode::Malformed.number(), |error| error.code))
}

/// The buffer of received bytes, if it is theirs for good. What is shorter than a page may lie in
/// one that is received into again.
fn lasting(place: Bytes) -> Option<BufId> {
    match place.source {
        Source::Buf(buf) if place.len >= PAGE_BYTES => Some(buf),
        Source::Buf(_) | Source::Recv(_) => None,
    }
}

/// A row's number as an index.
fn row_index(row: u16) -> usize {
    usize_of(u32::from(row))
}
