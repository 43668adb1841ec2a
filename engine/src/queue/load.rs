//! Bodies of messages that are not at hand: found in the store's runs, or read from its segments.

use super::queues::Queues;
use super::record::Record;
use crate::frame::{BLOCK_BYTES, Unreadable, block_ceil};
use crate::log::partition::PartitionId;
use crate::log::read::Place;
use crate::log::store::StoreTag;
use crate::pool::{BUFFER_BYTES_MAX, BufId, FillBuf};
use crate::port::{Fault, Level, Notice, Op, OpBatch};
use crate::shard::Shard;
use crate::units::{u32_of, u64_of, usize_of};

/// Messages of a queue that are being read.
#[derive(Debug)]
pub struct Load {
    /// Slot of the queue; it may be gone.
    pub slot: u32,
    /// Its id.
    pub queue: wire::queue::QueueId,
    stream: PartitionId,
    /// The message that is wanted.
    want: u64,
    /// Records before this offset were looked at.
    next: u64,
    /// It lies before this offset.
    until: u64,
    /// Where the frame with `next` begins, if the last read told: segment, position.
    at: Option<(u32, u64)>,
    /// Bytes to read next.
    bytes: usize,
    /// What is being read.
    reading: Option<(u32, u64)>,
}

/// Whether a message's body is at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hand {
    /// It is in the window.
    Here,
    /// It will be: the queue is looked at again then.
    Later,
    /// It cannot be read, and was set aside.
    Unreadable,
}

impl Shard {
    /// Brings the message's body into the queue's window.
    pub(crate) fn bring(&mut self, slot: u32, at: u64, batch: &mut OpBatch) -> Hand {
        let queue = self.queues.queue(slot);
        if queue.window.contains(at) {
            return Hand::Here;
        }
        if queue.load.is_some() {
            return Hand::Later;
        }
        let Some(offset) = queue.place_of(at) else { return self.set_aside_unreadable(slot, at) };
        let (id, until) = (queue.id, queue.place_behind(at).unwrap_or(u64::MAX));
        let stream = self.stream_of(slot);
        self.make_window_room(slot, at);
        let load = Load {
            slot,
            queue: id,
            stream,
            want: at,
            next: offset,
            until,
            at: None,
            bytes: self.store.settings.read_bytes,
            reading: None,
        };
        self.go_on_loading(load, batch)
    }

    fn go_on_loading(&mut self, mut load: Load, batch: &mut OpBatch) -> Hand {
        let (slot, want) = (load.slot, load.want);
        let end = self.store.partition(load.stream).progress.appended().min(load.until);
        load.next = load.next.max(self.store.partition(load.stream).log_start);
        if load.next >= end {
            return self.set_aside_unreadable(slot, want);
        }
        match self.store.place_of(batch, load.stream, load.next) {
            Place::Memory => self.load_from_memory(&load),
            Place::Opening => {
                self.queues.again.push(slot);
                Hand::Later
            }
            Place::Missing => self.set_aside_unreadable(slot, want),
            Place::Disk(place) => {
                let Some(buf) = self.store.alloc(&mut self.pool, load.bytes) else {
                    self.queues.again.push(slot);
                    return Hand::Later;
                };
                let known = load.at.filter(|&(segment, _)| segment == place.segment);
                let position = known.map_or(place.position, |(_, at)| at.max(place.position));
                load.reading = Some((place.segment, position));
                let stream = self.store.partition_mut(load.stream);
                stream.users += 1;
                if let Some(segment) = stream.segment_mut(place.segment) {
                    segment.users += 1;
                }
                self.store.counters.queue_disk_reads += 1;
                let len = u32_of(load.bytes);
                let number = self.queues.loads.insert(load);
                self.queues.queue(slot).load = Some(number);
                let tag = StoreTag::Queue(number).tag();
                let buf = self.pool.fill(buf);
                batch.ops.push(Op::Read { file: place.file, tag, buf, position, len });
                Hand::Later
            }
        }
    }

    /// Looks through the store's runs, up to where enough was found.
    fn load_from_memory(&mut self, load: &Load) -> Hand {
        let budget = self.store.settings.read_bytes;
        let mut found = 0;
        let mut next = load.next;
        while let Some((first, bytes)) = self.store.records_in_memory(&self.pool, load.stream, next)
        {
            next = first;
            let mut rest = bytes;
            while let Some((record, tail)) = Record::split(rest) {
                found += take_in(&mut self.queues, load.slot, &record);
                next += 1;
                rest = tail;
                if found >= budget && self.queues.queue(load.slot).window.contains(load.want) {
                    return Hand::Here;
                }
            }
        }
        match self.queues.queue(load.slot).window.contains(load.want) {
            true => Hand::Here,
            false => self.set_aside_unreadable(load.slot, load.want),
        }
    }

    /// The read of a load ended.
    pub(crate) fn queue_read_done(&mut self, number: u32, fill: &FillBuf, got: Result<u32, Fault>) {
        let buf = fill.id();
        let mut load = self.queues.loads.remove(number).expect("a load in flight is kept");
        let (segment, position) = load.reading.take().expect("it was reading");
        let stream = self.store.partition_mut(load.stream);
        stream.users -= 1;
        if let Some(segment) = stream.segment_mut(segment) {
            segment.users -= 1;
        }
        let is_there = self.queues.slot(&load.queue) == Some(load.slot);
        if is_there {
            self.queues.queue(load.slot).load = None;
            self.queues.touch(load.slot);
            let outcome = match got {
                Ok(got) => self.look_through(&mut load, buf, usize_of(got), (segment, position)),
                Err(_) => Err(()),
            };
            let has = self.queues.queue(load.slot).window.contains(load.want);
            match outcome {
                Ok(()) if has => {}
                Ok(()) => self.queues.continued.push(load),
                Err(()) => {
                    self.set_aside_unreadable(load.slot, load.want);
                }
            }
        }
        self.pool.release(buf);
    }

    /// Goes on with loads that have not found their message yet.
    pub(crate) fn serve_loads(&mut self, batch: &mut OpBatch) {
        for load in std::mem::take(&mut self.queues.continued) {
            let is_there = self.queues.slot(&load.queue) == Some(load.slot);
            if is_there && self.queues.queue(load.slot).load.is_none() {
                self.go_on_loading(load, batch);
            }
        }
    }

    /// Takes in the records of the frames that were read. Passes by what is damaged: the message
    /// may lie behind it.
    fn look_through(
        &mut self,
        load: &mut Load,
        buf: BufId,
        got: usize,
        (segment, position): (u32, u64),
    ) -> Result<(), ()> {
        let bytes = &self.pool.bytes(buf)[..got];
        let mut segments = self.store.partition(load.stream).segments.iter();
        let this = segments.find(|other| other.sequence == segment);
        let (end, last) = this.map_or((0, None), |this| (this.end, this.next_offset));
        // Behind its last record a segment may have frames that were never acknowledged.
        let is_over = |offset: u64| last.is_some_and(|last| offset >= last);
        let mut at = 0;
        while at < got && !is_over(load.next) {
            let here = position + u64_of(at);
            load.at = Some((segment, here));
            let place = (segment, here);
            let frame = self.store.records_of_frame(load.stream, place, &bytes[at..]);
            let (first, records, length) = match frame {
                Ok(frame) => frame,
                Err(Unreadable::Short(need)) if at > 0 || need > got => {
                    // The rest of it comes with the next read.
                    let is_hopeless = at == 0 && load.bytes >= block_ceil(need);
                    load.bytes = block_ceil(need.max(self.store.settings.read_bytes));
                    load.bytes = load.bytes.min(BUFFER_BYTES_MAX);
                    return if is_hopeless { Err(()) } else { Ok(()) };
                }
                Err(_) => {
                    at += BLOCK_BYTES;
                    load.at = Some((segment, position + u64_of(at)));
                    continue;
                }
            };
            if is_over(first) {
                break;
            }
            let (mut offset, mut rest) = (first, records);
            while let Some((record, tail)) = Record::split(rest) {
                if offset >= load.next {
                    take_in(&mut self.queues, load.slot, &record);
                }
                offset += 1;
                rest = tail;
            }
            load.next = load.next.max(offset);
            at += length;
            load.at = Some((segment, position + u64_of(at)));
        }
        if at > 0 && at >= got && position + u64_of(at) < end && !is_over(load.next) {
            return Ok(());
        }
        // Nothing more is in this segment: what follows is in the next one, or in memory.
        let stream = self.store.partition(load.stream);
        let segments = stream.segments.iter().filter(|other| other.sequence > segment);
        let runs = stream.runs.iter().filter(|run| run.next_offset > load.next);
        let mut bases = segments.map(|segment| segment.base_offset);
        let base = bases.next().or(runs.map(|run| run.base_offset).next());
        load.next = base.map_or(u64::MAX, |base| base.max(load.next));
        load.at = None;
        Ok(())
    }

    /// The message cannot be found: what is left of the queue goes on without it.
    fn set_aside_unreadable(&mut self, slot: u32, at: u64) -> Hand {
        let queue = self.queues.queue(slot);
        if !queue.state.is_living(at) {
            // It was settled while it was looked for.
            self.queues.touch(slot);
            return Hand::Unreadable;
        }
        queue.moving.remove(at..at + 1);
        queue.state.set_aside(at);
        self.store.counters.queue_messages_unreadable += 1;
        let text = format!(
            "message {at} of queue {:032x} cannot be read; it stays where it is, and the next \
             start tries again",
            u128::from_be_bytes(queue.id)
        );
        self.notices.push(Notice { level: Level::Error, conn: None, text });
        self.queues.touch(slot);
        Hand::Unreadable
    }

    /// Windows have a bound, each and together: what others hold they can load again.
    fn make_window_room(&mut self, slot: u32, at: u64) {
        let read_bytes = self.store.settings.read_bytes;
        let total_max = self.store.settings.queue_windows_bytes_max;
        let queues = &mut self.queues;
        let queue = queues.queue(slot);
        if queue.window.bytes() > 2 * read_bytes {
            queue.window.prune(|range| !range.contains(&at));
            queues.account_window(slot);
        }
        if queues.window_bytes > total_max {
            let others: Vec<u32> = queues.slots.iter().map(|(other, _)| other).collect();
            for other in others.into_iter().filter(|&other| other != slot) {
                queues.queue(other).window.clear();
                queues.account_window(other);
            }
        }
    }
}

/// Takes what a record has of the queue's messages into its window. Gives how many bytes.
fn take_in(queues: &mut Queues, slot: u32, record: &Record<'_>) -> usize {
    let queue = queues.queue(slot);
    let Some((range, bytes)) = record.messages_of(&queue.id) else { return 0 };
    if queue.is_idle(range.clone()) {
        return 0;
    }
    let before = queue.window.bytes();
    queue.window.insert(range, bytes);
    let more = queue.window.bytes().saturating_sub(before);
    queues.account_window(slot);
    more
}
