//! Readers that go through a segment from front to back: what was read from disk for each and
//! not yet sent, and which reads come next.
//!
//! A stream is a row of chunks of one segment, in order and without gaps, from the frame that its
//! reader needs next. A reader that comes back where its stream stands finds its bytes read
//! already. A stream belongs to nobody between two fetches: whoever asks for its offset gets it.

use std::collections::{BTreeSet, VecDeque};

use super::partition::PartitionId;
use super::read::DiskPlace;
use super::scan::Served;
use super::slab::Slab;
use crate::frame::RUN_PREFIX_BYTES;
use crate::pool::{BufId, Pool};
use crate::port::{Fault, Time};
use crate::settings::{FRAMES_AHEAD_BYTES, Settings};
use crate::units::u64_of;

/// Streams that are kept for readers who may come back.
const STREAMS_IDLE_MAX: usize = 4096;

/// One read of a stream.
#[derive(Debug)]
struct Chunk {
    position: u64,
    /// Bytes asked for.
    bytes: usize,
    state: ChunkState,
}

#[derive(Debug, Clone, Copy)]
enum ChunkState {
    Reading,
    /// Read: the buffer, held by the stream, and how many bytes of it are the file's.
    Ready(BufId, usize),
    Failed(Fault),
}

impl Chunk {
    fn end(&self) -> u64 {
        self.position + u64_of(self.bytes)
    }
}

/// A part of a stream's bytes: a buffer, its first byte, and how many.
pub type Piece = (BufId, usize, usize);

/// What a stream has of a stretch of its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Covered {
    /// All of it.
    Whole,
    /// It will be read.
    NotYet,
    /// The file ends inside it.
    Short,
    /// It could not be read.
    Failed(Fault),
}

/// What is read for a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// All bytes.
    Data,
    /// The first block of each frame: the rest is sent out of the file.
    Heads,
}

/// A frame as its header tells.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// Position in the file.
    pub position: u64,
    /// Offset of its first record.
    pub base: u64,
    /// Offset behind its last record.
    pub next: u64,
    /// Length with padding.
    pub bytes: usize,
    /// Bytes of its batches, which follow header and table.
    pub data_bytes: usize,
    /// CRC32C of its batches.
    pub crc: u32,
}

impl Frame {
    /// Position in the file behind it.
    pub fn end(&self) -> u64 {
        self.position + u64_of(self.bytes)
    }

    /// Position in the file of its batches.
    pub fn data_at(&self) -> u64 {
        self.position + u64_of(RUN_PREFIX_BYTES)
    }
}

/// A reader's place in a segment, and what was read from there on.
#[derive(Debug)]
pub struct Stream {
    /// The frame that is needed next.
    pub place: DiskPlace,
    /// The offset that is asked for next.
    pub next_offset: u64,
    /// Position of the frame whose data were found whole last.
    pub checked: Option<u64>,
    /// The fetch that waits for it.
    pub reader: Option<u64>,
    chunks: VecDeque<Chunk>,
    /// What is read for it.
    pub kind: StreamKind,
    /// Of [`StreamKind::Heads`]: the frames from `place` on whose headers were read.
    pub frames: VecDeque<Frame>,
    /// Bytes behind `place` to be read though nobody waits for them yet.
    ahead_bytes: usize,
    /// Position up to which its reader waits for bytes.
    need_to: u64,
    /// What was read last was no frame.
    is_broken: bool,
    /// Sets it apart from streams that had its number before.
    generation: u64,
    used: Time,
    is_queued: bool,
}

impl Stream {
    /// Where the next read begins.
    pub fn next_read(&self) -> u64 {
        let known = self.frames.back().map_or(self.place.position, Frame::end);
        self.chunks.back().map_or(known, Chunk::end)
    }

    /// Position up to which it is to be read by now.
    pub fn wanted_to(&self) -> u64 {
        match self.kind {
            StreamKind::Data => self.need_to.max(self.place.position + u64_of(self.ahead_bytes)),
            // Where the next header lies is known once the one before it is there.
            StreamKind::Heads if self.is_broken || !self.chunks.is_empty() => 0,
            StreamKind::Heads => self.place.position + u64_of(FRAMES_AHEAD_BYTES),
        }
    }

    /// Why there will be no further frame in a stream of headers, if there will be none.
    pub fn trouble(&self) -> Option<Served> {
        let failed = self.chunks.iter().find_map(|chunk| match chunk.state {
            ChunkState::Failed(fault) => Some(Served::Failed(fault)),
            ChunkState::Reading | ChunkState::Ready(..) => None,
        });
        failed.or(self.is_broken.then_some(Served::Corrupt))
    }

    /// Whether its reader waits for bytes.
    pub const fn is_demanded(&self) -> bool {
        self.reader.is_some() && self.need_to > 0
    }

    /// Whether `bytes` bytes from `position`, which is not before the stream's place, are there.
    pub fn covered(&self, position: u64, bytes: usize) -> Covered {
        let end = position + u64_of(bytes);
        for chunk in self.chunks.iter().filter(|chunk| chunk.end() > position) {
            if chunk.position >= end {
                break;
            }
            match chunk.state {
                ChunkState::Reading => return Covered::NotYet,
                ChunkState::Failed(fault) => return Covered::Failed(fault),
                ChunkState::Ready(_, got) => {
                    if chunk.position + u64_of(got) < end.min(chunk.end()) {
                        return Covered::Short;
                    }
                }
            }
        }
        if self.next_read() < end { Covered::NotYet } else { Covered::Whole }
    }

    /// The pieces that `bytes` bytes from `position` lie in; they are there.
    pub fn pieces(&self, position: u64, bytes: usize) -> impl Iterator<Item = Piece> + '_ {
        let end = position + u64_of(bytes);
        let inside = move |chunk: &&Chunk| chunk.end() > position && chunk.position < end;
        self.chunks.iter().filter(inside).filter_map(move |chunk| {
            let ChunkState::Ready(buf, _) = chunk.state else { return None };
            let from = position.max(chunk.position);
            let len = within(end.min(chunk.end()) - from);
            Some((buf, within(from - chunk.position), len))
        })
    }
}

fn within(bytes: u64) -> usize {
    usize::try_from(bytes).expect("inside a chunk")
}

/// A read that is under way.
#[derive(Debug)]
pub struct StreamRead {
    /// The segment that is read.
    pub place: DiskPlace,
    /// The buffer.
    pub buf: BufId,
    /// The stream's number.
    pub stream: u32,
    generation: u64,
}

/// All streams of a shard.
#[derive(Debug, Default)]
pub struct Streams {
    streams: Slab<Stream>,
    by_offset: BTreeSet<(PartitionId, u64, u32)>,
    /// Reads under way.
    pub reads: Slab<StreamRead>,
    /// Streams whose readers wait for bytes that nobody reads yet, and streams to be read ahead.
    demanded: VecDeque<u32>,
    eager: VecDeque<u32>,
    /// Bytes of all chunks.
    bytes: usize,
    generations: u64,
    /// Fetches whose streams are gone: they look for their place again.
    pub woken: Vec<u64>,
    /// When streams that nobody used are dropped.
    pub sweep_at: Option<Time>,
}

impl Streams {
    /// The stream with this number.
    pub fn get(&self, slot: u32) -> Option<&Stream> {
        self.streams.get(slot)
    }

    /// The stream that the fetch waits for, unless it is gone.
    pub fn of_reader(&self, slot: u32, serial: u64) -> Option<&Stream> {
        self.streams.get(slot).filter(|stream| stream.reader == Some(serial))
    }

    /// Bytes of all that was read and not sent yet, or is being read.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Buffers that streams hold.
    pub fn buffers(&self) -> usize {
        let ready = |chunk: &&Chunk| matches!(chunk.state, ChunkState::Ready(..));
        let held = self.streams.iter().map(|(_, s)| s.chunks.iter().filter(ready).count());
        held.sum::<usize>() + self.reads.len()
    }

    /// A stream for a reader at `offset`, which lies at or behind `place`: the one that stands
    /// there, or a new one.
    pub fn enter(
        &mut self,
        pool: &mut Pool,
        (place, kind): (DiskPlace, StreamKind),
        offset: u64,
        serial: u64,
    ) -> u32 {
        let id = place.partition;
        let here = (id, offset, 0)..=(id, offset, u32::MAX);
        let free = |slot: &u32| self.streams.get(*slot).is_some_and(|s| s.reader.is_none());
        let found = self.by_offset.range(here).map(|&(_, _, slot)| slot).find(free);
        if let Some(slot) = found {
            let stream = self.streams.get_mut(slot).expect("just seen");
            let is_same = stream.place.segment == place.segment && stream.kind == kind;
            if is_same && stream.place.file == place.file {
                stream.reader = Some(serial);
                return slot;
            }
            self.remove(pool, slot);
        }
        self.generations += 1;
        let slot = self.streams.insert(Stream {
            place,
            next_offset: offset,
            checked: None,
            reader: Some(serial),
            chunks: VecDeque::new(),
            kind,
            frames: VecDeque::new(),
            ahead_bytes: 0,
            need_to: 0,
            is_broken: false,
            generation: self.generations,
            used: Time::default(),
            is_queued: false,
        });
        self.by_offset.insert((id, offset, slot));
        slot
    }

    /// The stream's reader waits for `bytes` bytes from `position`.
    pub fn demand(&mut self, slot: u32, position: u64, bytes: usize) {
        let Some(stream) = self.streams.get_mut(slot) else { return };
        stream.need_to = position + u64_of(bytes);
        if stream.is_queued {
            // It stands among those that read ahead, if it does not wait already.
            if !self.demanded.contains(&slot) {
                self.eager.retain(|&other| other != slot);
                self.demanded.push_back(slot);
            }
        } else if stream.next_read() < stream.need_to {
            stream.is_queued = true;
            self.demanded.push_back(slot);
        }
    }

    /// The frame that the stream stands at is not needed any more: the next one lies at
    /// `position`. Gives back the chunks in front of it.
    pub fn advance(&mut self, pool: &mut Pool, slot: u32, position: u64) {
        let Some(stream) = self.streams.get_mut(slot) else { return };
        stream.place.position = position;
        while stream.frames.front().is_some_and(|frame| frame.position < position) {
            stream.frames.pop_front();
        }
        while let Some(chunk) = stream.chunks.front().filter(|chunk| chunk.end() <= position) {
            match chunk.state {
                ChunkState::Ready(buf, _) => pool.release(buf),
                // Its read ends some time, and its buffer goes with it.
                ChunkState::Reading | ChunkState::Failed(_) => {}
            }
            self.bytes -= chunk.bytes;
            stream.chunks.pop_front();
        }
    }

    /// Remembers that the frame the stream stands at is whole.
    pub fn set_checked(&mut self, slot: u32) {
        if let Some(stream) = self.streams.get_mut(slot) {
            stream.checked = Some(stream.place.position);
        }
    }

    /// The reader has got what it asked for and is expected back at `offset`: the more often it
    /// came back, the further is read ahead.
    pub fn leave(
        &mut self,
        pool: &mut Pool,
        slot: u32,
        offset: u64,
        settings: &Settings,
        now: Time,
    ) {
        let count = self.streams.len();
        let Some(stream) = self.streams.get_mut(slot) else { return };
        self.by_offset.remove(&(stream.place.partition, stream.next_offset, slot));
        self.by_offset.insert((stream.place.partition, offset, slot));
        let is_new = stream.ahead_bytes == 0;
        stream.next_offset = offset;
        stream.reader = None;
        stream.need_to = 0;
        stream.used = now;
        let most = settings.read_ahead_bytes;
        stream.ahead_bytes = (stream.ahead_bytes * 2).clamp(settings.read_bytes.min(most), most);
        // Readers that come once leave the memory to those that come back.
        let share = if is_new { 2 } else { 1 };
        let bytes_max = settings.read_ahead_bytes_total_max / share;
        if self.bytes > bytes_max || count > STREAMS_IDLE_MAX || most == 0 {
            return self.remove(pool, slot);
        }
        if !stream.is_queued {
            stream.is_queued = true;
            self.eager.push_back(slot);
        }
        self.sweep_at.get_or_insert(now.plus_ns(settings.read_ahead_idle_ns));
    }

    /// The fetch gave up waiting.
    pub fn abandon(&mut self, slot: u32, serial: u64) {
        let stream = self.streams.get_mut(slot).filter(|stream| stream.reader == Some(serial));
        if let Some(stream) = stream {
            stream.reader = None;
            stream.need_to = 0;
            self.sweep_at.get_or_insert(Time::default());
        }
    }

    /// The stream cannot be read: its reader leaves it, and it is forgotten.
    pub fn abandon_and_remove(&mut self, pool: &mut Pool, slot: u32) {
        if let Some(stream) = self.streams.get_mut(slot) {
            stream.reader = None;
        }
        self.remove(pool, slot);
    }

    /// Forgets the stream and what was read for it. Its reader, if one waits, is woken.
    pub fn remove(&mut self, pool: &mut Pool, slot: u32) {
        self.clear(pool, slot);
        let Some(stream) = self.streams.remove(slot) else { return };
        self.by_offset.remove(&(stream.place.partition, stream.next_offset, slot));
        if stream.is_queued {
            self.demanded.retain(|&other| other != slot);
            self.eager.retain(|&other| other != slot);
        }
        self.woken.extend(stream.reader);
    }

    /// Gives back what was read for the stream; what is being read for it is nobody's.
    fn clear(&mut self, pool: &mut Pool, slot: u32) {
        let Some(stream) = self.streams.get_mut(slot) else { return };
        for chunk in stream.chunks.drain(..) {
            self.bytes -= chunk.bytes;
            if let ChunkState::Ready(buf, _) = chunk.state {
                pool.release(buf);
            }
        }
        self.generations += 1;
        stream.generation = self.generations;
    }

    /// Forgets the partition's streams.
    pub fn remove_partition(&mut self, pool: &mut Pool, id: PartitionId) {
        let all = self.by_offset.range((id, 0, 0)..=(id, u64::MAX, u32::MAX));
        let slots: Vec<u32> = all.map(|&(_, _, slot)| slot).collect();
        for slot in slots {
            self.remove(pool, slot);
        }
    }

    /// Forgets the streams of one of the partition's segments.
    pub fn remove_segment(&mut self, pool: &mut Pool, id: PartitionId, sequence: u32) {
        let all = self.by_offset.range((id, 0, 0)..=(id, u64::MAX, u32::MAX));
        let mine = |slot: &u32| {
            self.streams.get(*slot).is_some_and(|stream| stream.place.segment == sequence)
        };
        let slots: Vec<u32> = all.map(|&(_, _, slot)| slot).filter(mine).collect();
        for slot in slots {
            self.remove(pool, slot);
        }
    }

    /// Drops the streams that nobody came back to.
    pub fn sweep(&mut self, pool: &mut Pool, now: Time, settings: &Settings) {
        if self.sweep_at.is_none_or(|due| now < due) {
            return;
        }
        let idle_ns = settings.read_ahead_idle_ns;
        let idle = |(_, stream): &(u32, &Stream)| stream.reader.is_none();
        let due = |stream: &Stream| stream.used.plus_ns(idle_ns);
        let late = self.streams.iter().filter(idle).filter(|(_, stream)| due(stream) <= now);
        let late: Vec<u32> = late.map(|(slot, _)| slot).collect();
        for slot in late {
            self.remove(pool, slot);
        }
        let idle = |(_, stream): &(u32, &Stream)| stream.reader.is_none();
        self.sweep_at = self.streams.iter().filter(idle).map(|(_, stream)| due(stream)).min();
    }

    /// Memory is short: what was read for streams is given back, except for the reader that
    /// waits longest. The others read it again in their turn.
    pub fn relieve(&mut self, pool: &mut Pool) {
        let first = self.demanded.front().copied();
        let slots: Vec<u32> = self.streams.iter().map(|(slot, _)| slot).collect();
        for slot in slots.into_iter().filter(|&slot| Some(slot) != first) {
            let stream = self.streams.get_mut(slot).expect("just listed");
            if !stream.is_demanded() {
                self.remove(pool, slot);
                continue;
            }
            self.clear(pool, slot);
            let stream = self.streams.get_mut(slot).expect("just listed");
            if !stream.is_queued {
                stream.is_queued = true;
                self.demanded.push_back(slot);
            }
        }
    }

    /// The block that was read for the stream at the front, taken out of it: its position, the
    /// buffer, which is now the caller's, and how much of it is the file's.
    pub fn take_head(&mut self, slot: u32) -> Option<(u64, BufId, usize)> {
        let stream = self.streams.get_mut(slot)?;
        let chunk = stream.chunks.front().filter(|_| stream.kind == StreamKind::Heads)?;
        let ChunkState::Ready(buf, got) = chunk.state else { return None };
        let chunk = stream.chunks.pop_front().expect("just seen");
        self.bytes -= chunk.bytes;
        Some((chunk.position, buf, got))
    }

    /// What was read for the stream was no frame.
    pub fn set_broken(&mut self, slot: u32) {
        if let Some(stream) = self.streams.get_mut(slot) {
            stream.is_broken = true;
        }
    }

    /// The next frame of the stream is known.
    pub fn push_frame(&mut self, slot: u32, frame: Frame) {
        let Some(stream) = self.streams.get_mut(slot) else { return };
        stream.frames.push_back(frame);
        if !stream.is_queued {
            stream.is_queued = true;
            self.eager.push_back(slot);
        }
    }

    /// The next stream to read for, taken out of its queue.
    pub fn next_queued(&mut self) -> Option<u32> {
        let slot = self.demanded.pop_front().or_else(|| self.eager.pop_front())?;
        if let Some(stream) = self.streams.get_mut(slot) {
            stream.is_queued = false;
        }
        Some(slot)
    }

    /// The stream wants more: it comes again after the others; or, if nothing could be read for
    /// it now, before them.
    pub fn queue_again(&mut self, slot: u32, turn: Turn) {
        let Some(stream) = self.streams.get_mut(slot) else { return };
        stream.is_queued = true;
        match (stream.is_demanded(), turn) {
            (true, Turn::Last) => self.demanded.push_back(slot),
            (true, Turn::First) => self.demanded.push_front(slot),
            (false, _) => self.eager.push_back(slot),
        }
    }

    /// A read of `bytes` bytes into `buf` begins where the stream's chunks end. Gives its number.
    pub fn reading(&mut self, slot: u32, buf: BufId, bytes: usize) -> u32 {
        let stream = self.streams.get_mut(slot).expect("queued streams exist");
        let position = stream.next_read();
        stream.chunks.push_back(Chunk { position, bytes, state: ChunkState::Reading });
        self.bytes += bytes;
        let place = DiskPlace { position, ..stream.place };
        let generation = stream.generation;
        self.reads.insert(StreamRead { place, buf, stream: slot, generation })
    }

    /// A read ended. Gives the fetch that waits for the stream.
    pub fn read_ended(
        &mut self,
        pool: &mut Pool,
        read: &StreamRead,
        result: Result<usize, Fault>,
    ) -> Option<u64> {
        let stream = self.streams.get_mut(read.stream);
        let stream = stream.filter(|stream| stream.generation == read.generation);
        let chunk = stream.and_then(|stream| {
            let position = read.place.position;
            let chunk = stream.chunks.iter_mut().find(|chunk| chunk.position == position)?;
            Some((chunk, stream.reader))
        });
        let Some((chunk, reader)) = chunk else {
            pool.release(read.buf);
            return None;
        };
        chunk.state = match result {
            Ok(got) => ChunkState::Ready(read.buf, got),
            Err(fault) => {
                pool.release(read.buf);
                ChunkState::Failed(fault)
            }
        };
        reader
    }
}

/// Whose turn comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It waits behind the others.
    Last,
    /// It goes on as soon as it can.
    First,
}
