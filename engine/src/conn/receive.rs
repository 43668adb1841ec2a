//! From received bytes to whole frames.
//!
//! Small frames are handled where they lie in a provided buffer. A frame that arrives in pieces
//! is assembled in a buffer of its own, placed so that the batch of a produce for one partition
//! begins where a run's batches do: it is then written to disk from there. A connection that
//! sends large frames receives each header by itself and the body straight into that buffer.

use wire::limits::{FRAME_HEADER_BYTES, HELLO_FRAME_BYTES_MAX};
use wire::{ErrorCode, FrameHeader};

use super::{Assembly, Conn, Held, Mode, Pause, Receiving};
use crate::frame::RUN_PREFIX_BYTES;
use crate::pool::{BufId, Bytes, FillBuf, PAGE_BYTES, Reserve, Source};
use crate::port::{ConnId, Fault, LinkEnd, Op, OpBatch, RecvBuf, RecvEnd, Time};
use crate::request::Request;
use crate::settings::{LARGE_FRAME_BYTES_MIN, OVERLOAD_WAIT_NS, PROBE_BYTES, SMALL_STREAK_MAX};
use crate::shard::{Shard, Timer};
use crate::units::{u32_of, usize_of};

/// Where a frame begins in its assembly buffer.
const ASSEMBLY_AT: usize = RUN_PREFIX_BYTES - PROBE_BYTES;

/// Parts of replies queued on a connection above which it is not read: who does not take answers
/// may not ask for more.
const REPLY_PARTS_MAX: usize = 512;

/// What a connection does after a frame.
enum Next {
    /// Looks at its next bytes.
    Go,
    /// Stops: it is paused or closing.
    Stop,
}

impl Shard {
    /// Bytes arrived in a provided buffer.
    pub(crate) fn received(&mut self, now: Time, id: ConnId, buf: RecvBuf, len: u32) {
        let place = Bytes { source: Source::Recv(buf.0), at: 0, len: usize_of(len) };
        match self.conns.get(id).filter(|conn| !conn.is_closing && !conn.is_ending) {
            None => self.returns.push(buf),
            Some(conn) => {
                conn.held.push_back(Held { place, arrived: now, recv: Some(buf), copy: None });
                self.look(now, id);
            }
        }
    }

    /// A `RecvInto` ended.
    pub(crate) fn filled(
        &mut self,
        now: Time,
        id: ConnId,
        buf: &FillBuf,
        result: Result<u32, Fault>,
    ) {
        let Some(conn) = self.conns.get(id) else { return };
        let receiving = std::mem::replace(&mut conn.receiving, Receiving::Idle);
        if conn.is_closing {
            return;
        }
        let got = match result {
            Ok(0) => return self.end_of_stream(id),
            Ok(got) => usize_of(got),
            Err(Fault::ECANCELED) => return self.touch(id),
            Err(_) => return self.close(id, ""),
        };
        match receiving {
            Receiving::Probe | Receiving::StoppingProbe => {
                let place = Bytes { source: Source::Buf(buf.id()), at: 0, len: got };
                conn.held.push_back(Held { place, arrived: now, recv: None, copy: None });
                self.look(now, id);
            }
            Receiving::Frame => {
                let assembly = conn.assembly.as_mut().expect("it was being received");
                assembly.have += got;
                conn.arrived = now;
                if Some(assembly.have) == assembly.need {
                    self.finish_assembly(now, id);
                    self.look(now, id);
                }
            }
            Receiving::Idle | Receiving::Provided | Receiving::Stopping => {
                unreachable!("only a probe or a frame is received into a buffer")
            }
        }
        self.touch(id);
    }

    /// A `Recv` ended.
    pub(crate) fn receive_ended(&mut self, id: ConnId, end: RecvEnd) {
        let Some(conn) = self.conns.get(id) else { return };
        conn.receiving = Receiving::Idle;
        if conn.is_closing {
            return;
        }
        match end {
            RecvEnd::Eof => self.end_of_stream(id),
            RecvEnd::NoBuffers | RecvEnd::Stopped => self.touch(id),
            RecvEnd::Failed(_) => self.close(id, ""),
        }
    }

    fn end_of_stream(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        conn.is_ending = true;
        self.touch(id);
    }

    /// Looks at the bytes a connection holds, frame by frame, as long as it is not paused.
    pub(crate) fn look(&mut self, now: Time, id: ConnId) {
        while let Some(conn) = self.conns.get(id) {
            if conn.is_closing || conn.pause != Pause::None {
                break;
            }
            let Some(held) = conn.held.front() else { break };
            let place = held.place;
            conn.arrived = held.arrived;
            if place.len == 0 {
                let held = conn.held.pop_front().expect("just seen");
                self.let_go(held);
                continue;
            }
            if conn.is_over_credit(&self.store.settings) {
                conn.pause = Pause::Credit;
                self.store.counters.receive_pauses += 1;
                self.touch(id);
                break;
            }
            let (used, next) = self.take_bytes(now, id, place);
            if let Some(held) = self.conns.get(id).and_then(|conn| conn.held.front_mut()) {
                held.place.at += used;
                held.place.len -= used;
            }
            if matches!(next, Next::Stop) {
                break;
            }
        }
        self.copy_held(id);
        self.touch(id);
    }

    /// A paused connection keeps no provided buffers: they are few, and everybody's.
    fn copy_held(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id).filter(|conn| conn.pause != Pause::None) else {
            return;
        };
        for held in conn.held.iter_mut().filter(|held| held.recv.is_some()) {
            let Some(buf) = self.store.alloc(&mut self.pool, held.place.len) else { return };
            self.pool.copy_from(held.place, buf, 0);
            held.place = Bytes { source: Source::Buf(buf), at: 0, len: held.place.len };
            held.copy = Some(buf);
            self.returns.extend(held.recv.take());
        }
    }

    /// When the last byte of the request came that is being handled.
    pub(crate) fn arrived(&mut self, now: Time, request: &Request) -> Time {
        self.conns.get(request.conn.0).map_or(now, |conn| conn.arrived)
    }

    /// Received bytes were looked at, or never will be.
    pub(super) fn let_go(&mut self, held: Held) {
        self.returns.extend(held.recv);
        if let Some(buf) = held.copy {
            self.pool.release(buf);
        }
    }

    /// Takes one frame, or part of one, off the front of `place`. Gives how many bytes it used.
    fn take_bytes(&mut self, now: Time, id: ConnId, place: Bytes) -> (usize, Next) {
        let conn = self.conns.get(id).expect("checked by the caller");
        if conn.assembly.is_some() {
            return self.feed_assembly(now, id, place);
        }
        let Some(&header) = FrameHeader::peek(self.pool.view(place)) else {
            return self.begin_assembly(now, id, place, None);
        };
        if let Some(refusal) = self.refused(id, &header) {
            self.refuse(id, refusal.0, refusal.1);
            return (place.len, Next::Stop);
        }
        let length = header.frame_len();
        if self.must_wait(id, &header) {
            return (0, Next::Stop);
        }
        if place.len < length {
            return self.begin_assembly(now, id, place, Some(length));
        }
        self.note_frame_size(id, length);
        let frame = place.part(0, length);
        self.frame(now, id, frame);
        (length, Next::Go)
    }

    /// Why a frame with this header is not read any further.
    fn refused(&mut self, id: ConnId, header: &FrameHeader) -> Option<(ErrorCode, &'static str)> {
        if let Some(refusal) = header.invalid() {
            return Some(refusal);
        }
        let greeted = self.conns.get(id).is_some_and(|conn| conn.is_greeted);
        if !greeted && header.frame_len() > HELLO_FRAME_BYTES_MAX {
            return Some((ErrorCode::TooLarge, "a hello frame is at most 4 KiB long"));
        }
        None
    }

    /// Whether a produce must wait because too much is unstored; pauses the connection then.
    fn must_wait(&mut self, id: ConnId, header: &FrameHeader) -> bool {
        let appends = [wire::Kind::Produce, wire::Kind::QueuePublish].map(wire::Kind::number);
        let produce = appends.contains(&header.kind.get());
        let link = self.conns.get(id).and_then(|conn| conn.link);
        if !produce || link == Some(LinkEnd::Asking) {
            return false;
        }
        // What comes by a link goes no further: were it to wait for links, two shards could wait
        // for each other.
        let full = if link.is_some() { self.is_store_full() } else { self.is_full() };
        if !full || self.refuses_records() {
            return false;
        }
        self.pause_for_memory(id);
        true
    }

    /// Whether records are refused, so that nobody need wait to be told.
    const fn refuses_records(&self) -> bool {
        self.store.failed.is_some() || self.store.space.is_short() || self.is_overloaded
    }

    /// Looks for how long producers have not been read.
    fn note_overload(&mut self, now: Time) {
        let nobody_waits = self.memory_waiters.is_empty() && self.link_waiters.is_empty();
        if nobody_waits && self.full_since.is_none() {
            return;
        }
        if !self.is_full() {
            (self.full_since, self.is_overloaded) = (None, false);
            return;
        }
        let since = *self.full_since.get_or_insert(now);
        self.is_overloaded = now >= since.plus_ns(OVERLOAD_WAIT_NS);
    }

    /// When those who are not read will have waited long enough.
    pub(crate) fn overload_deadline(&self) -> Option<Time> {
        let since = self.full_since.filter(|_| !self.is_overloaded);
        since.map(|since| since.plus_ns(OVERLOAD_WAIT_NS))
    }

    /// Whether producers are not read: too much is unstored, or waits for another shard.
    fn is_full(&self) -> bool {
        self.is_store_full() || self.are_links_full()
    }

    const fn is_store_full(&self) -> bool {
        self.store.unstored_bytes > self.store.settings.unstored_bytes_max
    }

    fn pause_for_memory(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        if conn.pause != Pause::Memory {
            conn.pause = Pause::Memory;
            self.store.counters.receive_pauses += 1;
            match conn.link {
                None => self.memory_waiters.push_back(id),
                Some(_) => self.link_waiters.push(id),
            }
        }
        self.touch(id);
    }

    fn note_frame_size(&mut self, id: ConnId, length: usize) {
        let Some(conn) = self.conns.get(id) else { return };
        if conn.link.is_some() {
            conn.small_streak = u8::from(length < LARGE_FRAME_BYTES_MIN);
        } else if length >= LARGE_FRAME_BYTES_MIN {
            conn.mode = Mode::Large;
            conn.small_streak = 0;
        } else if conn.mode == Mode::Large {
            conn.small_streak += 1;
            if conn.small_streak >= SMALL_STREAK_MAX {
                conn.mode = Mode::Small;
            }
        }
    }

    fn begin_assembly(
        &mut self,
        now: Time,
        id: ConnId,
        place: Bytes,
        need: Option<usize>,
    ) -> (usize, Next) {
        let room = ASSEMBLY_AT + need.unwrap_or(FRAME_HEADER_BYTES);
        let Some(buf) = self.alloc_assembly(id, room) else {
            self.pause_for_memory(id);
            return (0, Next::Stop);
        };
        self.pool.copy_from(place, buf, ASSEMBLY_AT);
        let due = now.plus_ns(self.store.settings.frame_arrival_ns);
        let conn = self.conns.get(id).expect("checked by the caller");
        if conn.link.is_none() {
            self.timers.insert((due, Timer::Arrival(id)));
        }
        conn.assembly = Some(Assembly { buf, have: place.len, need, due });
        if let Some(length) = need {
            self.note_frame_size(id, length);
        }
        (place.len, Next::Go)
    }

    fn feed_assembly(&mut self, now: Time, id: ConnId, place: Bytes) -> (usize, Next) {
        let conn = self.conns.get(id).expect("checked by the caller");
        let assembly = conn.assembly.as_mut().expect("checked by the caller");
        let goal = assembly.need.unwrap_or(FRAME_HEADER_BYTES);
        let take = place.len.min(goal - assembly.have);
        let (buf, at) = (assembly.buf, ASSEMBLY_AT + assembly.have);
        assembly.have += take;
        let have = assembly.have;
        self.pool.copy_from(place.part(0, take), buf, at);
        if have < goal {
            return (take, Next::Go);
        }
        let assembly = self.assembly(id);
        if assembly.need.is_some() {
            self.finish_assembly(now, id);
            return (take, Next::Go);
        }
        let header = &self.pool.bytes(buf)[ASSEMBLY_AT..];
        let header = *FrameHeader::peek(header).expect("a whole header has arrived");
        if let Some(refusal) = self.refused(id, &header) {
            self.drop_assembly(id);
            self.refuse(id, refusal.0, refusal.1);
            return (place.len, Next::Stop);
        }
        if self.must_wait(id, &header) || !self.grow_assembly(id, header.frame_len()) {
            // The header is looked at again once there is memory.
            self.assembly(id).have -= take;
            self.pause_for_memory(id);
            return (0, Next::Stop);
        }
        if self.assembly(id).have == header.frame_len() {
            self.finish_assembly(now, id);
        }
        (take, Next::Go)
    }

    /// Gives the assembly's buffer room for a frame of `length` bytes.
    fn grow_assembly(&mut self, id: ConnId, length: usize) -> bool {
        let (buf, have) = {
            let assembly = self.assembly(id);
            (assembly.buf, assembly.have)
        };
        if self.pool.capacity(buf) < ASSEMBLY_AT + length {
            let Some(bigger) = self.alloc_assembly(id, ASSEMBLY_AT + length) else {
                return false;
            };
            self.assembly_bytes -= self.pool.capacity(buf);
            self.pool.copy(buf, ASSEMBLY_AT, bigger, ASSEMBLY_AT, have);
            self.pool.release(buf);
            self.assembly(id).buf = bigger;
        }
        self.assembly(id).need = Some(length);
        self.note_frame_size(id, length);
        true
    }

    fn assembly(&mut self, id: ConnId) -> &mut Assembly {
        let conn = self.conns.get(id).expect("checked by the caller");
        conn.assembly.as_mut().expect("checked by the caller")
    }

    fn drop_assembly(&mut self, id: ConnId) {
        let Some(assembly) = self.conns.get(id).and_then(|conn| conn.assembly.take()) else {
            return;
        };
        self.timers.remove(&(assembly.due, Timer::Arrival(id)));
        self.assembly_bytes -= self.pool.capacity(assembly.buf);
        self.pool.release(assembly.buf);
    }

    /// Memory for a frame that has arrived in part. All such frames together have a bound: a
    /// crowd of slow senders may wait for one another, not keep memory from everybody else.
    /// Links are few, and what they bring was counted where it arrived. Where there is no memory,
    /// or none in one piece, the reserve takes one frame at a time.
    fn alloc_assembly(&mut self, id: ConnId, bytes: usize) -> Option<BufId> {
        let bound = self.store.settings.assembly_bytes_max;
        let is_link = self.conns.get(id).is_some_and(|conn| conn.link.is_some());
        if !is_link && self.assembly_bytes > 0 && self.assembly_bytes + bytes > bound {
            self.store.is_short = true;
            return None;
        }
        let reserve = if is_link { Reserve::Links } else { Reserve::Clients };
        let buf = self.store.alloc(&mut self.pool, bytes);
        let buf = buf.or_else(|| self.pool.alloc_reserved(reserve))?;
        self.assembly_bytes += self.pool.capacity(buf);
        Some(buf)
    }

    /// The frame in the assembly is whole: it is handled, and its buffer let go.
    fn finish_assembly(&mut self, now: Time, id: ConnId) {
        let assembly = self.conns.get(id).and_then(|conn| conn.assembly.take());
        let Some(Assembly { buf, have, due, .. }) = assembly else { return };
        self.timers.remove(&(due, Timer::Arrival(id)));
        self.assembly_bytes -= self.pool.capacity(buf);
        self.frame(now, id, Bytes { source: Source::Buf(buf), at: ASSEMBLY_AT, len: have });
        self.pool.release(buf);
    }

    /// Sees to it that the connection is being received from in the way that suits it.
    pub(crate) fn arm(&mut self, id: ConnId, batch: &mut OpBatch) {
        let Some(conn) = self.conns.get(id) else { return };
        let stop = conn.pause != Pause::None || conn.is_ending || conn.is_closing;
        let rest = conn.rest_of_frame();
        match conn.receiving {
            Receiving::Provided if stop || (conn.mode == Mode::Large && rest > 0) => {
                conn.receiving = Receiving::Stopping;
                batch.ops.push(Op::RecvCancel { conn: id });
            }
            Receiving::Probe if conn.mode == Mode::Small => {
                conn.receiving = Receiving::StoppingProbe;
                batch.ops.push(Op::RecvCancel { conn: id });
            }
            Receiving::Idle if !stop && conn.held.is_empty() => {
                if conn.mode == Mode::Small {
                    if let Some(probe) = conn.probe.take() {
                        self.pool.release(probe);
                    }
                    conn.receiving = Receiving::Provided;
                    batch.ops.push(Op::Recv { conn: id });
                } else if rest > 0 {
                    self.receive_frame(id, batch);
                } else {
                    self.receive_probe(id, batch);
                }
            }
            _ => {}
        }
    }

    fn receive_frame(&mut self, id: ConnId, batch: &mut OpBatch) {
        let conn = self.conns.get(id).expect("checked by the caller");
        let len = u32_of(conn.rest_of_frame());
        let assembly = conn.assembly.as_ref().expect("it has a rest");
        let (buf, at) = (assembly.buf, u32_of(ASSEMBLY_AT + assembly.have));
        conn.receiving = Receiving::Frame;
        batch.ops.push(Op::RecvInto { conn: id, buf: self.pool.fill(buf), at, len });
    }

    fn receive_probe(&mut self, id: ConnId, batch: &mut OpBatch) {
        let conn = self.conns.get(id).expect("checked by the caller");
        let buf = match conn.probe {
            Some(buf) => buf,
            None => match self.store.alloc(&mut self.pool, PAGE_BYTES) {
                Some(buf) => buf,
                None => return self.pause_for_memory(id),
            },
        };
        let conn = self.conns.get(id).expect("just seen");
        conn.probe = Some(buf);
        conn.receiving = Receiving::Probe;
        // Small frames among large ones are taken by the page, large ones' heads by themselves.
        let len = if conn.small_streak > 0 { PAGE_BYTES } else { PROBE_BYTES };
        let len = u32_of(len);
        batch.ops.push(Op::RecvInto { conn: id, buf: self.pool.fill(buf), at: 0, len });
    }

    /// Lets paused connections go on where the reason has passed.
    pub(crate) fn resume_connections(&mut self, now: Time) {
        for id in std::mem::take(&mut self.resume) {
            let settings = &self.store.settings;
            let Some(conn) = self.conns.get(id) else { continue };
            if conn.pause == Pause::Credit && !conn.is_over_credit(settings) {
                conn.pause = Pause::None;
                self.look(now, id);
            }
        }
        self.note_overload(now);
        self.resume_links(now);
        for _ in 0..self.memory_waiters.len() {
            if self.is_full() && !self.refuses_records() {
                break;
            }
            let Some(id) = self.memory_waiters.pop_front() else { break };
            let Some(conn) = self.conns.get(id) else { continue };
            if conn.pause != Pause::Memory || conn.is_closing {
                continue;
            }
            conn.pause = Pause::None;
            self.look(now, id);
            self.touch(id);
            let again = self.conns.get(id).is_some_and(|conn| conn.pause == Pause::Memory);
            if again {
                break;
            }
        }
    }
}

impl Shard {
    fn resume_links(&mut self, now: Time) {
        if self.is_store_full() && !self.refuses_records() {
            return;
        }
        for id in std::mem::take(&mut self.link_waiters) {
            let link = self.conns.get(id).expect("links stay");
            link.pause = Pause::None;
            self.look(now, id);
        }
    }

    /// Memory is short: connections that wait for a large frame's header give back the page for
    /// it. Few pages in bad places keep long frames from everybody.
    pub(crate) fn shed_probes(&mut self) {
        let ids: Vec<ConnId> = self.conns.ids().collect();
        for id in ids {
            let conn = self.conns.get(id).expect("just listed");
            if conn.receiving == Receiving::Probe && conn.assembly.is_none() {
                conn.mode = Mode::Small;
                self.touch(id);
            }
        }
    }
}

impl Conn {
    /// Bytes that the frame being assembled still lacks, 0 if none is or its length is unknown.
    fn rest_of_frame(&self) -> usize {
        let assembly = self.assembly.as_ref();
        assembly.and_then(|a| a.need.map(|need| need - a.have)).unwrap_or(0)
    }

    fn is_over_credit(&self, settings: &crate::settings::Settings) -> bool {
        match self.link {
            None => {
                self.requests >= settings.requests_in_flight_max
                    || self.request_bytes >= settings.credit_bytes
                    || self.replies.len() >= REPLY_PARTS_MAX
            }
            // Answers are always taken: two shards that wait for one another would never end.
            Some(LinkEnd::Asking) => false,
            Some(LinkEnd::Answering) => {
                self.request_bytes >= settings.link_credit_bytes || !self.late.is_empty()
            }
        }
    }
}
