//! Produce for partitions of other shards.

use wire::frame::FLAG_BATCHES;
use wire::produce::{self, ReplyEntry, RequestEntry};
use wire::{Acks, ErrorCode, FrameHeader, Kind};

use super::{Call, error_of, lasting, row_index};
use crate::log::read::Part;
use crate::pool::Bytes;
use crate::port::Time;
use crate::request::{Ask, Request};
use crate::shard::Shard;
use crate::units::usize_of;

impl Shard {
    /// Notes that a row of the request being handled is another shard's.
    pub(crate) fn set_aside(&mut self, shard: u16, row: usize) {
        let groups = &mut self.forward.groups;
        let index = usize::from(shard);
        if groups.len() <= index {
            groups.resize_with(index + 1, Vec::new);
        }
        groups[index].push(u16::try_from(row).expect("requests have few rows"));
    }

    /// Sends the rows that were set aside to their owners; gives how many answers will come.
    /// `entries` are the reply's rows, where an owner that cannot be asked leaves an error.
    pub(crate) fn forward_produce(
        &mut self,
        request: Request,
        ask: Ask,
        (slot, serial): (u32, u64),
        entries: &mut [ReplyEntry],
    ) -> usize {
        let mut calls = 0;
        for shard in 0..self.forward.groups.len() {
            if self.forward.groups[shard].is_empty() {
                continue;
            }
            let empty = self.forward.rows();
            let rows = std::mem::replace(&mut self.forward.groups[shard], empty);
            let found = self.rows_of(request, &rows);
            if self.are_links_full() || !self.make_room(copied_bytes(&found)) {
                for &row in &rows {
                    entries[row_index(row)].error = ErrorCode::Overloaded.number().into();
                }
                self.store.counters.requests_overloaded += 1;
                self.forward.keep_rows(rows);
                continue;
            }
            let shard = u16::try_from(shard).expect("shards are numbered with u16");
            let call = Call::Produce { slot, serial, rows };
            self.send_rows(shard, ask, call, found);
            calls += usize::from(ask.acks != Acks::None);
        }
        calls
    }

    /// Rows of the request with their batches.
    fn rows_of(&self, request: Request, rows: &[u16]) -> Vec<(RequestEntry, Bytes)> {
        let body = self.pool.view(request.body);
        let decoded = produce::Request::decode(body).expect("decoded before");
        let mut at = request.body.len - decoded.batches.len();
        let mut wanted = rows.iter().copied().peekable();
        let mut found = Vec::with_capacity(rows.len());
        for (row, entry) in (0u16..).zip(decoded.entries) {
            let len = usize_of(entry.batch_bytes.get());
            if wanted.next_if_eq(&row).is_some() {
                found.push((*entry, request.body.part(at, len)));
            }
            at += len;
        }
        found
    }

    fn send_rows(&mut self, shard: u16, ask: Ask, call: Call, found: Vec<(RequestEntry, Bytes)>) {
        let (mut entries, mut parts) = (Vec::with_capacity(found.len()), Vec::new());
        let mut copied = Vec::new();
        // The batches stand in one piece behind the control part: all are copied, or none.
        let is_copied = found.iter().any(|(_, place)| lasting(*place).is_none());
        for (entry, place) in found {
            entries.push(entry);
            match lasting(place) {
                Some(buf) if !is_copied => {
                    self.pool.retain(buf);
                    parts.push(Part { buf, at: place.at, len: place.len });
                }
                _ => copied.extend_from_slice(self.pool.view(place)),
            }
        }
        let body = |out: &mut Vec<u8>| {
            let flags = if ask.timing { produce::FLAG_TIMING } else { 0 };
            produce::encode_control(out, ask.acks, flags, ask.timeout_ms, &entries);
            out.extend_from_slice(&copied);
        };
        let kind = Kind::Produce.number();
        if ask.acks == Acks::None {
            let correlation_id = u64::MAX;
            let envelope = wire::frame::Envelope {
                flags: FLAG_BATCHES,
                kind,
                kind_version: 1,
                correlation_id,
            };
            return self.ask(shard, envelope, &parts, body);
        }
        self.call(shard, kind, FLAG_BATCHES, call, &parts, body);
    }

    /// An owner has answered rows of a produce request.
    pub(super) fn produce_answered(
        &mut self,
        now: Time,
        (slot, serial): (u32, u64),
        rows: &[u16],
        header: &FrameHeader,
        body: Bytes,
    ) {
        let Some(produce) = self.produces.get_mut(slot).filter(|found| found.serial == serial)
        else {
            // Its time ran out before.
            return;
        };
        let bytes = self.pool.view(body);
        if let Some(code) = error_of(bytes, header) {
            for &row in rows {
                produce.entries[row_index(row)].error = code.into();
            }
        } else {
            let reply = produce::Reply::decode(bytes).expect("shards speak the protocol");
            for (&row, entry) in rows.iter().zip(reply.entries) {
                produce.entries[row_index(row)] = *entry;
            }
            produce.owner_timing = reply.timing.copied();
        }
        produce.waiting -= 1;
        if produce.waiting == 0 {
            self.answer_produce(slot, now, Acks::Durable);
        }
    }
}

fn copied_bytes(rows: &[(RequestEntry, Bytes)]) -> usize {
    let is_copied = rows.iter().any(|(_, place)| lasting(*place).is_none());
    if is_copied { rows.iter().map(|(_, place)| place.len).sum() } else { 0 }
}
