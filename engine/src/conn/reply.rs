//! Replies: queued per connection, one send in flight each, sent once per turn.

use wire::frame::ErrorReply;
use wire::{ErrorCode, Kind};

use crate::conn::Pause;
use crate::log::read::Part;
use crate::pool::PAGE_BYTES;
use crate::port::{ConnId, Fault, Level, Notice, Op, OpBatch, SEND_SLICES_MAX, Time};
use crate::settings::SEND_BYTES_BESIDE_COMMITS;
use crate::shard::Shard;
use crate::units::usize_of;

impl Shard {
    /// Queues what `encode` writes as (part of) a reply. A connection for whose reply there is
    /// no memory is closed: its peer must not wait for an answer that never comes.
    pub(crate) fn reply(&mut self, id: ConnId, encode: impl FnOnce(&mut Vec<u8>)) {
        self.reply_with(id, &[], encode);
    }

    /// Queues what `encode` writes, and behind it parts of buffers, whose references it takes
    /// over.
    pub(crate) fn reply_with(
        &mut self,
        id: ConnId,
        parts: &[Part],
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        encode(&mut scratch);
        self.queue_whole_or_late(id, &scratch, parts);
        self.scratch = scratch;
    }

    fn queue_whole_or_late(&mut self, id: ConnId, bytes: &[u8], parts: &[Part]) {
        let link = self.conns.get(id).filter(|conn| conn.link.is_some());
        if let Some(link) = link {
            let is_behind = !link.late.is_empty();
            if is_behind || !self.make_room(bytes.len()) {
                // A link is never closed: it waits until there is memory.
                let conn = self.conns.get(id).expect("links stay");
                conn.late.push_back((bytes.to_vec(), parts.to_vec()));
                return self.touch(id);
            }
        }
        if !self.queue_bytes(id, bytes) {
            self.close(id, "there is no memory for its reply");
        }
        self.reply_parts(id, parts);
    }

    /// Queues bytes for which [`Shard::make_room`] has found room.
    pub(crate) fn queue_whole(&mut self, id: ConnId, bytes: &[u8]) {
        let queued = self.queue_bytes(id, bytes);
        assert!(queued, "there was room for it");
    }

    /// Whether `bytes` more can be queued for another shard, dropping stored runs if it must.
    /// Leaves the replies' reserve alone.
    pub(crate) fn make_room(&mut self, bytes: usize) -> bool {
        let wanted = bytes + 2 * PAGE_BYTES + self.store.settings.reply_reserve_bytes;
        while self.pool.free_bytes() < wanted {
            if !self.store.evict_one(&mut self.pool) {
                self.store.out_of_memory();
                return false;
            }
        }
        true
    }

    fn queue_bytes(&mut self, id: ConnId, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some(conn) = self.conns.get(id) else { return true };
            if conn.is_closing {
                return true;
            }
            // The last page may have room: what is behind its last part is unused.
            let tail = conn.replies.back().copied().filter(|part| {
                Some(part.buf) == conn.reply_page && part.at + part.len < PAGE_BYTES
            });
            let Some(part) = tail else {
                let Some(buf) = self.store.alloc_reply(&mut self.pool, PAGE_BYTES) else {
                    return false;
                };
                let conn = self.conns.get(id).expect("just seen");
                conn.reply_page = Some(buf);
                conn.replies.push_back(Part { buf, at: 0, len: 0 });
                continue;
            };
            let end = part.at + part.len;
            let take = rest.len().min(PAGE_BYTES - end);
            self.pool.part_mut(part.buf, end, take).copy_from_slice(&rest[..take]);
            let conn = self.conns.get(id).expect("just seen");
            conn.replies.back_mut().expect("just seen").len += take;
            conn.reply_bytes += take;
            rest = &rest[take..];
        }
        self.touch(id);
        true
    }

    /// Queues parts of buffers, whose references it takes over.
    pub(crate) fn reply_parts(&mut self, id: ConnId, parts: &[Part]) {
        if parts.is_empty() {
            return;
        }
        let conn = self.conns.get(id).filter(|conn| !conn.is_closing);
        let Some(conn) = conn else {
            for part in parts {
                self.pool.release(part.buf);
            }
            return;
        };
        for &part in parts {
            conn.reply_bytes += part.len;
            conn.replies.push_back(part);
        }
        conn.reply_page = None;
        self.touch(id);
    }

    /// Answers a request with an error.
    pub(crate) fn reply_error(
        &mut self,
        id: ConnId,
        kind: u16,
        correlation_id: u64,
        code: ErrorCode,
        detail: &str,
    ) {
        self.store.counters.errors_replied += 1;
        let mut retry_after_ms = 0;
        if code == ErrorCode::Overloaded {
            self.store.counters.requests_overloaded += 1;
            retry_after_ms = 10;
        }
        let error = ErrorReply { code: code.number(), retry_after_ms, detail };
        self.reply(id, |out| error.encode(out, kind, correlation_id));
    }

    /// A request of `kind` has been answered: its credit returns.
    pub(crate) fn request_ended(&mut self, conn: (ConnId, u64), bytes: usize) {
        let Some(open) = self.conns.live(conn) else { return };
        open.requests = open.requests.saturating_sub(1);
        open.request_bytes = open.request_bytes.saturating_sub(bytes);
        if open.pause == crate::conn::Pause::Credit {
            self.resume.push(conn.0);
        }
        self.touch(conn.0);
    }

    /// Puts the connection on the list of those to look at.
    pub(crate) fn touch(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        if !conn.is_dirty {
            conn.is_dirty = true;
            self.dirty_conns.push(id);
        }
    }

    /// Emits the sends, closes and receives of the connections that need any.
    pub(crate) fn serve_connections(&mut self, now: Time, batch: &mut OpBatch) {
        let mut dirty = std::mem::take(&mut self.dirty_conns);
        for id in dirty.drain(..) {
            let Some(conn) = self.conns.get(id) else { continue };
            conn.is_dirty = false;
            if conn.is_closing {
                continue;
            }
            self.send(id, now, batch);
            self.arm(id, batch);
            self.end_if_idle(id);
        }
        // Some were touched again meanwhile.
        dirty.append(&mut self.dirty_conns);
        self.dirty_conns = dirty;
        for id in std::mem::take(&mut self.closes) {
            batch.ops.push(Op::Close { conn: id });
        }
    }

    fn send(&mut self, id: ConnId, now: Time, batch: &mut OpBatch) {
        let Some(conn) = self.conns.get(id) else { return };
        let in_front = conn.files.front().map(|part| part.after);
        if conn.is_sending || conn.reply_bytes == 0 && in_front.is_none() {
            return;
        }
        if in_front == Some(0) {
            return self.send_files(id, now, batch);
        }
        let first = batch.slices.len();
        let is_committing = self.store.is_committing(now);
        let most = if is_committing { SEND_BYTES_BESIDE_COMMITS } else { usize::MAX };
        let mut room = in_front.unwrap_or(usize::MAX).min(most);
        for part in conn.replies.iter().filter(|part| part.len > 0).take(SEND_SLICES_MAX) {
            let len = part.len.min(room);
            room -= len;
            if len > 0 {
                batch.slices.push(self.pool.slice(part.buf, part.at, len));
            }
        }
        let count = crate::units::u32_of(batch.slices.len() - first);
        let first = crate::units::u32_of(first);
        conn.is_sending = true;
        conn.progress = now;
        batch.ops.push(Op::Send { conn: id, first, count });
    }

    /// A send ended.
    pub(crate) fn sent(&mut self, id: ConnId, now: Time, result: Result<u32, Fault>) {
        let Some(conn) = self.conns.get(id) else { return };
        conn.is_sending = false;
        let was_file = std::mem::take(&mut conn.sends_file);
        if conn.is_closing {
            return self.release_replies(id);
        }
        if was_file {
            return self.sent_file(id, now, result);
        }
        let bytes = match result {
            Ok(bytes) => usize_of(bytes),
            Err(Fault(_)) => return self.close(id, ""),
        };
        conn.progress = now;
        conn.reply_bytes -= bytes;
        if let Some(part) = conn.files.front_mut() {
            part.after -= bytes;
        }
        let mut left = bytes;
        while let Some(part) = conn.replies.front_mut() {
            let take = left.min(part.len);
            part.at += take;
            part.len -= take;
            left -= take;
            if part.len > 0 {
                break;
            }
            let part = conn.replies.pop_front().expect("just seen");
            if conn.reply_page == Some(part.buf) {
                conn.reply_page = None;
            }
            self.pool.release(part.buf);
        }
        self.has_sent(id);
    }

    /// What waited for the queue to become shorter goes on.
    pub(super) fn has_sent(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        let room = conn.reply_bytes + conn.file_bytes < self.store.settings.reply_bytes_queued_max;
        if room {
            self.ready.extend(conn.fetches.drain(..));
        }
        if conn.pause == crate::conn::Pause::Credit {
            self.resume.push(id);
        }
        let serial = conn.serial;
        self.touch(id);
        if room {
            self.unblock_consumers((id, serial));
            self.release_held((id, serial));
        }
    }

    fn end_if_idle(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        let is_sent = conn.reply_bytes == 0 && conn.files.is_empty();
        let idle = conn.requests == 0 && is_sent && conn.held.is_empty();
        if conn.is_ending && idle && !conn.is_closing {
            self.close(id, "");
        }
    }

    /// Closes the connection, with a reason for the log unless it is empty. What it holds is
    /// given back when the backend has let go of it.
    pub(crate) fn close(&mut self, id: ConnId, reason: &str) {
        let Some(conn) = self.conns.get(id) else { return };
        assert!(conn.link.is_none(), "a link is never closed: {reason}");
        if conn.is_closing {
            return;
        }
        conn.is_closing = true;
        self.closes.push(id);
        if !reason.is_empty() {
            let text = format!("connection closed: {reason}");
            self.notices.push(Notice { level: Level::Warn, conn: Some(id), text });
        }
    }

    fn release_replies(&mut self, id: ConnId) {
        self.release_files(id);
        let Some(conn) = self.conns.get(id) else { return };
        for part in conn.replies.drain(..) {
            self.pool.release(part.buf);
        }
        conn.reply_bytes = 0;
    }

    /// The backend has let go of the connection: everything it held is free.
    pub(crate) fn closed(&mut self, id: ConnId) {
        self.release_replies(id);
        let Some(conn) = self.conns.remove(id) else { return };
        for held in conn.held {
            self.let_go(held);
        }
        if let Some(assembly) = conn.assembly {
            self.timers.remove(&(assembly.due, crate::shard::Timer::Arrival(id)));
            self.assembly_bytes -= self.pool.capacity(assembly.buf);
            self.pool.release(assembly.buf);
        }
        if let Some(probe) = conn.probe {
            self.pool.release(probe);
        }
        self.store.counters.connections_closed += 1;
        self.drop_fetches((id, conn.serial));
        self.drop_spreads((id, conn.serial));
        self.drop_queue_conn((id, conn.serial));
    }

    /// When memory is short, the connections that have not taken a byte for too long are closed:
    /// what they hold would keep others waiting.
    pub(crate) fn close_stalled(&mut self, now: Time) {
        let stall_ns = self.store.settings.stall_ns;
        let arrival_ns = self.store.settings.frame_arrival_ns;
        let ids: Vec<ConnId> = self.conns.ids().collect();
        for id in ids {
            let Some(conn) = self.conns.get(id) else { continue };
            let begun = conn.assembly.as_ref().filter(|_| conn.pause == Pause::None);
            let left = begun.map(|assembly| assembly.due.since(now));
            let slow = left.is_some_and(|left| left + 2 * stall_ns < arrival_ns);
            let stalled = conn.is_sending && now.since(conn.progress) > stall_ns;
            if conn.is_closing || !(slow || stalled) {
                continue;
            }
            self.store.counters.connections_stalled += 1;
            let reason = if stalled {
                "it did not take its replies while memory was short"
            } else {
                "its frame came too slowly while memory was short"
            };
            self.close(id, reason);
        }
    }

    /// Tells a peer that broke the protocol why, and closes the connection once it was sent.
    pub(crate) fn refuse(&mut self, id: ConnId, code: ErrorCode, reason: &'static str) {
        self.store.counters.connections_malformed += 1;
        let text = format!("connection refused: {reason}");
        self.notices.push(Notice { level: Level::Warn, conn: Some(id), text });
        self.reply_error(id, Kind::Hello.number(), 0, code, reason);
        let Some(conn) = self.conns.get(id) else { return };
        // Nothing more is read: what follows in the stream cannot be trusted.
        conn.is_ending = true;
        conn.requests = 0;
        let held = std::mem::take(&mut conn.held);
        for held in held {
            self.let_go(held);
        }
        self.touch(id);
    }
}
