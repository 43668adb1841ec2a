//! The stream of a queue store: records are appended as they are, and found again by offset, in
//! memory or on disk.

use wire::queue::MessageHead;
use wire::{Acks, ErrorCode, TopicId};
use zerocopy::{FromBytes, IntoBytes};

use super::partition::{Partition, PartitionId};
use super::store::{BatchFacts, Store};
use crate::frame::{EntryKind, FrameView, Unreadable};
use crate::pool::{Bytes, Pool};
use crate::port::Time;
use crate::queue::record::{RECORD_HEAD_BYTES, RecordHead};
use crate::queue::window::message_bytes;

/// What every record adds.
const ONE: BatchFacts = BatchFacts { count: 1, max_timestamp_ms: i64::MIN };

impl Store {
    /// The topic of queue stores: each is one of its partitions.
    pub const QUEUE_TOPIC: TopicId = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

    /// A queue store's stream, empty.
    pub fn new_queue_stream(&self, number: u32) -> Partition {
        let mut stream = Partition::new(Store::QUEUE_TOPIC, number, EntryKind::QueueRecord, 0);
        stream.segment_bytes = self.settings.segment_bytes;
        stream
    }

    /// Makes sure that a record of `len` bytes can be appended next.
    pub fn reserve_record(
        &mut self,
        pool: &mut Pool,
        now: Time,
        id: PartitionId,
        len: usize,
    ) -> Result<(), ErrorCode> {
        self.refuse()?;
        if self.partition(id).damaged.is_end_unknown() {
            return Err(ErrorCode::EndUnknown);
        }
        self.open_run_with_room(pool, now, id, len)
    }

    /// Appends one record, which `parts` are together. Gives the offset behind it.
    pub fn append_record(
        &mut self,
        pool: &mut Pool,
        now: Time,
        id: PartitionId,
        parts: &[&[u8]],
        acks: Acks,
    ) -> Result<u64, ErrorCode> {
        let len = parts.iter().map(|part| part.len()).sum();
        self.reserve_record(pool, now, id, len)?;
        let (buf, end) = self.open_end(id);
        let mut at = end;
        for part in parts {
            pool.bytes_mut(buf)[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        Ok(self.record_appended(pool, id, len, acks))
    }

    /// Appends a record of messages that lie in the pool, behind its head and rows, and writes into
    /// each of them when it was published. Gives the offset behind it.
    pub fn append_messages(
        &mut self,
        pool: &mut Pool,
        now: Time,
        id: PartitionId,
        head: (&RecordHead, &[u8]),
        messages: (Bytes, u64),
        acks: Acks,
    ) -> Result<u64, ErrorCode> {
        let (at, published_ms) = messages;
        if self.space.is_short() {
            return Err(ErrorCode::StorageFull);
        }
        let (head, rows) = head;
        let front = RECORD_HEAD_BYTES + rows.len();
        let len = front + at.len;
        self.reserve_record(pool, now, id, len)?;
        let (buf, end) = self.open_end(id);
        pool.copy_from(at, buf, end + front);
        let bytes = &mut pool.bytes_mut(buf)[end..end + len];
        bytes[..RECORD_HEAD_BYTES].copy_from_slice(head.as_bytes());
        bytes[RECORD_HEAD_BYTES..front].copy_from_slice(rows);
        stamp(&mut bytes[front..], published_ms);
        Ok(self.record_appended(pool, id, len, acks))
    }

    fn record_appended(&mut self, pool: &Pool, id: PartitionId, len: usize, acks: Acks) -> u64 {
        let (buf, end) = self.open_end(id);
        self.push(id, &pool.bytes(buf)[end..end + len], ONE, None);
        let stream = self.partition_mut(id);
        stream.wants_durable |= acks == Acks::Durable;
        stream.wants_written |= acks == Acks::Written;
        let offset = stream.progress.appended();
        if acks >= Acks::Written {
            stream.waits += 1;
            self.waits += 1;
            self.is_urgent = true;
        }
        offset
    }

    /// The records in memory from `offset` on, as many as lie in one piece, with their offset.
    pub fn records_in_memory<'p>(
        &self,
        pool: &'p Pool,
        id: PartitionId,
        offset: u64,
    ) -> Option<(u64, &'p [u8])> {
        let stream = self.partition(id);
        let index = stream.runs.partition_point(|run| run.next_offset <= offset);
        let run = stream.runs.get(index).filter(|run| run.base_offset <= offset)?;
        let (mut next, mut at) = run.mark_before(offset);
        let bytes = &pool.bytes(run.buf)[..run.end];
        while next < offset {
            let (head, _) = RecordHead::ref_from_prefix(&bytes[at..]).expect("runs hold records");
            at += crate::units::usize_of(head.length.get());
            next += 1;
        }
        Some((next, &bytes[at..]))
    }

    /// The records of the frame at the front of `bytes`, which were read from this place of a
    /// queue store's segment: their first offset, the records, and the frame's length.
    pub fn records_of_frame<'b>(
        &self,
        id: PartitionId,
        (segment, position): (u32, u64),
        bytes: &'b [u8],
    ) -> Result<(u64, &'b [u8], usize), Unreadable> {
        let view = FrameView::read(bytes, self.identity.key)?;
        let place = self.partition(id).place(segment, position);
        if !view.is_at(&self.identity.broker_id, &place) {
            return Err(Unreadable::Damaged("a frame of another file or place"));
        }
        let (entry, data) = view.parts().next().expect("a segment's frame has one entry");
        Ok((entry.base_offset.get(), data, view.frame_bytes()))
    }
}

/// Writes into messages that lie back to back when they were published.
pub fn stamp(mut messages: &mut [u8], published_ms: u64) {
    while !messages.is_empty() {
        let len = message_bytes(messages);
        let (message, rest) = messages.split_at_mut(len);
        let (head, _) = MessageHead::mut_from_prefix(message).expect("messages are checked once");
        head.published_ms = published_ms.into();
        messages = rest;
    }
}
