//! What a reader wants, out of the frames that were read from disk for its stream.

use wire::batch::{BATCH_HEADER_BYTES, BATCH_MAGIC, BatchHeader, LENGTH_FROM};
use wire::crc::{crc32c, crc32c_append};
use zerocopy::FromBytes;

use super::read::{DiskPlace, Part, Want};
use super::run::First;
use super::segment::IndexEntry;
use super::store::Store;
use super::stream::{Covered, Frame, Piece, Stream};
use crate::frame::{BLOCK_BYTES, FrameView, RUN_PREFIX_BYTES};
use crate::pool::Pool;
use crate::port::{Fault, Time};
use crate::settings::INDEX_SPACING_BYTES;
use crate::units::{u64_of, usize_of};

/// What came of looking through a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// Parts were taken: so many bytes. The reader has left the stream.
    Taken(usize),
    /// What is needed next is being read.
    Wait,
    /// The bytes are not what was written.
    Corrupt,
    /// They could not be read.
    Failed(Fault),
    /// Only a part of a frame is wanted, which is read, not sent out of its file.
    Apart,
}

/// Batches of a frame: their first byte, the byte behind the last, and the offset behind that.
#[derive(Debug, Clone, Copy)]
struct Cut {
    from: usize,
    to: usize,
    next: u64,
}

impl Store {
    /// Takes what `want` says from the stream for the fetch that waits for it.
    pub fn serve_stream(
        &mut self,
        pool: &mut Pool,
        slot: u32,
        want: Want,
        now: Time,
        out: &mut Vec<Part>,
    ) -> Served {
        let (mut next, mut taken) = (want.offset, 0);
        while next < want.visible && (taken == 0 || taken < want.budget) {
            let place = self.streams.get(slot).expect("named by its reader").place;
            if self.is_end(&place, next) {
                break;
            }
            let frame = match self.frame_at(pool, slot) {
                Ok(frame) if frame.base <= next => frame,
                Ok(_) if taken > 0 => break,
                Ok(_) => return Served::Corrupt,
                Err(_) if taken > 0 => break,
                Err(served) => return served,
            };
            if frame.next > next {
                match self.check_data(pool, slot, &frame) {
                    Ok(()) => {}
                    Err(_) if taken > 0 => break,
                    Err(served) => return served,
                }
                let first = if taken == 0 { want.first } else { First::IfItFits };
                let budget = want.budget.saturating_sub(taken);
                let want = Want { offset: next, budget, first, ..want };
                let stream = self.streams.get(slot).expect("named by its reader");
                let Some(cut) = cut(pool, stream, &frame, want) else { break };
                let at = frame.data_at() + u64_of(cut.from);
                for (buf, at, len) in stream.pieces(at, cut.to - cut.from) {
                    pool.retain(buf);
                    out.push(Part { buf, at, len });
                }
                taken += cut.to - cut.from;
                next = cut.next;
                if cut.to < frame.data_bytes {
                    break;
                }
            }
            self.learn(place, frame.base, place.position);
            self.streams.advance(pool, slot, place.position + u64_of(frame.bytes));
        }
        if taken == 0 && want.first == First::Always {
            return Served::Corrupt;
        }
        let place = self.streams.get(slot).expect("named by its reader").place;
        self.remember(place, next);
        self.streams.leave(pool, slot, next, &self.settings, now);
        Served::Taken(taken)
    }

    /// Whether the segment holds nothing stored from `place` on.
    pub(super) fn is_end(&self, place: &DiskPlace, offset: u64) -> bool {
        let segments = &self.partition(place.partition).segments;
        let segment = segments.iter().find(|segment| segment.sequence == place.segment);
        segment.is_none_or(|segment| segment.next_offset == Some(offset))
            || place.position >= self.stored_end(place)
    }

    /// The frame that the stream stands at, once its header is there.
    fn frame_at(&mut self, pool: &Pool, slot: u32) -> Result<Frame, Served> {
        let stream = self.streams.get(slot).expect("named by its reader");
        let place = stream.place;
        self.wait_for(slot, BLOCK_BYTES, BLOCK_BYTES)?;
        let stream = self.streams.get(slot).expect("named by its reader");
        let block = stream.pieces(place.position, BLOCK_BYTES).next();
        let (buf, at, len) = block.ok_or(Served::Corrupt)?;
        self.frame_of(&place, &pool.bytes(buf)[at..at + len]).ok_or(Served::Corrupt)
    }

    /// What the first block of the frame at `place` says, if it is one.
    pub(super) fn frame_of(&self, place: &DiskPlace, block: &[u8]) -> Option<Frame> {
        let head = FrameView::read_head(block, self.identity.key).ok()?;
        let here = self.partition(place.partition).place(place.segment, place.position);
        let belongs = head.is_at(&self.identity.broker_id, &here);
        let [entry] = head.entries else { return None };
        let data_bytes = usize_of(entry.length.get());
        let bytes = head.frame_bytes();
        (belongs && RUN_PREFIX_BYTES + data_bytes <= bytes).then(|| Frame {
            position: place.position,
            base: entry.base_offset.get(),
            next: entry.next_offset(),
            bytes,
            data_bytes,
            crc: entry.crc.get(),
        })
    }

    /// Checks the data of the frame that the stream stands at, once they are there.
    fn check_data(&mut self, pool: &Pool, slot: u32, frame: &Frame) -> Result<(), Served> {
        self.wait_for(slot, RUN_PREFIX_BYTES + frame.data_bytes, frame.bytes)?;
        let stream = self.streams.get(slot).expect("named by its reader");
        if stream.checked == Some(stream.place.position) {
            return Ok(());
        }
        let add = |sum: Option<u32>, (buf, at, len): Piece| {
            let bytes = &pool.bytes(buf)[at..at + len];
            Some(sum.map_or_else(|| crc32c(bytes), |sum| crc32c_append(sum, bytes)))
        };
        let sum = stream.pieces(frame.data_at(), frame.data_bytes).fold(None, add);
        if sum.unwrap_or_else(|| crc32c(&[])) != frame.crc {
            return Err(Served::Corrupt);
        }
        self.streams.set_checked(slot);
        Ok(())
    }

    /// Whether the first `bytes` bytes of the stream are there. If they are not, `demand` bytes
    /// will be read.
    fn wait_for(&mut self, slot: u32, bytes: usize, demand: usize) -> Result<(), Served> {
        let stream = self.streams.get(slot).expect("named by its reader");
        let place = stream.place;
        match stream.covered(place.position, bytes) {
            Covered::Whole => Ok(()),
            Covered::Short => Err(Served::Corrupt),
            Covered::Failed(fault) => Err(Served::Failed(fault)),
            Covered::NotYet if place.position + u64_of(demand) > self.stored_end(&place) => {
                Err(Served::Corrupt)
            }
            Covered::NotYet => {
                self.streams.demand(slot, place.position, demand);
                Err(Served::Wait)
            }
        }
    }

    /// A frame of a segment that has no whole index was seen: the next search begins closer.
    pub(super) fn learn(&mut self, place: DiskPlace, base_offset: u64, position: u64) {
        let partition = self.partition_mut(place.partition);
        let Some(segment) = partition.segment_mut(place.segment) else { return };
        if segment.indexed {
            return;
        }
        let last = segment.index.last().map(|entry| entry.position);
        if last.is_none_or(|last| position >= last + INDEX_SPACING_BYTES) {
            // Its times are not known: a search by time may not skip it.
            let max_timestamp_ms = i64::MAX;
            segment.index.push(IndexEntry { base_offset, position, max_timestamp_ms });
        }
    }

    pub(super) fn remember(&mut self, place: DiskPlace, offset: u64) {
        let partition = self.partition_mut(place.partition);
        let slot = usize::from(partition.read_hint_next);
        partition.read_hints[slot] = (offset, place.segment, place.position);
        let next = (slot + 1) % partition.read_hints.len();
        partition.read_hint_next = u8::try_from(next).expect("there are few");
    }
}

/// The part of a frame's batches from the batch with the wanted offset to the last that is
/// visible and fits. `None` if there is none.
fn cut(pool: &Pool, stream: &Stream, frame: &Frame, want: Want) -> Option<Cut> {
    let Frame { base, next, data_bytes, .. } = *frame;
    if base == want.offset && next <= want.visible && data_bytes <= want.budget {
        return Some(Cut { from: 0, to: data_bytes, next });
    }
    let mut cut: Option<Cut> = None;
    let mut at = 0;
    while at < data_bytes {
        let header = batch_at(pool, stream, frame.data_at() + u64_of(at))?;
        let behind = at + LENGTH_FROM + usize::try_from(header.length.get()).ok()?;
        let last = header.base_offset.get() + i64::from(header.last_offset_delta.get());
        let next = u64::try_from(last).ok()? + 1;
        if behind > data_bytes || behind < at + BATCH_HEADER_BYTES {
            return None;
        }
        if next > want.visible {
            break;
        }
        if next > want.offset {
            let from = cut.map_or(at, |cut| cut.from);
            let forced = want.first == First::Always && from == at;
            if behind - from > want.budget && !forced {
                break;
            }
            cut = Some(Cut { from, to: behind, next });
        }
        at = behind;
    }
    cut
}

/// The header of the batch at `position`.
fn batch_at(pool: &Pool, stream: &Stream, position: u64) -> Option<BatchHeader> {
    let mut bytes = [0; BATCH_HEADER_BYTES];
    let mut have = 0;
    for (buf, at, len) in stream.pieces(position, BATCH_HEADER_BYTES) {
        bytes[have..have + len].copy_from_slice(&pool.bytes(buf)[at..at + len]);
        have += len;
    }
    let header = BatchHeader::read_from_bytes(&bytes).ok()?;
    (have == bytes.len() && header.magic == BATCH_MAGIC).then_some(header)
}
