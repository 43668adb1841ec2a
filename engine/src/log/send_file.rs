//! Frames that are sent out of their file, without passing through this process: of segments that
//! nobody writes to any more. Their checksums are the consumer's to check; what is checked here is
//! each frame's header, which says where its batches lie.

use super::partition::PartitionId;
use super::read::{DiskPlace, Place, Want};
use super::run::First;
use super::scan::Served;
use super::segment::SegmentFile;
use super::store::Store;
use crate::frame::BLOCK_BYTES;
use crate::pool::Pool;
use crate::port::{Fault, FileSlot, Level, Notice, Op, OpBatch, Open, Time};
use crate::settings::FetchPath;

/// Bytes of a file that a reply will send; counts as a user of its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilePart {
    /// Bytes of the reply in front of it, behind the file part before it.
    pub after: usize,
    /// Which file, and where.
    pub place: DiskPlace,
    /// How many bytes.
    pub len: usize,
}

impl Store {
    /// Where to send `offset` from, if by a file. Opens the file if it must.
    pub fn file_place(
        &mut self,
        batch: &mut OpBatch,
        id: PartitionId,
        offset: u64,
    ) -> Option<Place> {
        if self.settings.fetch_path != FetchPath::SendFile || self.has_no_send_file {
            return None;
        }
        let partition = self.partition(id);
        let behind = partition.segments.partition_point(|s| s.base_offset <= offset);
        let segment = &partition.segments[behind.checked_sub(1)?];
        let sequence = segment.sequence;
        // A segment has an end once nothing more is written to it.
        segment.next_offset.filter(|&next| offset < next)?;
        let is_last = behind == partition.segments.len() && partition.writable;
        let mut place =
            DiskPlace { partition: id, segment: sequence, file: FileSlot(0), position: 0 };
        if is_last || segment.extending || self.stored_end(&place) < segment.end {
            return None;
        }
        match segment.buffered {
            SegmentFile::Open(file) => place.file = file,
            SegmentFile::Opening(_) => return Some(Place::Opening),
            SegmentFile::Missing => return None,
            SegmentFile::Closed => {
                self.open_buffered(batch, id, sequence);
                return Some(Place::Opening);
            }
        }
        let hints = partition.read_hints.iter();
        let hinted = hints.filter(|&&(at, in_segment, _)| in_segment == sequence && at <= offset);
        let hinted = hinted.map(|&(_, _, position)| position).max();
        place.position = segment.seek(offset).max(hinted.unwrap_or(0));
        Some(Place::Disk(place))
    }

    fn open_buffered(&mut self, batch: &mut OpBatch, id: PartitionId, sequence: u32) {
        let Some(slot) = self.take_file_slot(batch) else { return };
        let partition = self.partition_mut(id);
        partition.users += 1;
        let path = partition.path(sequence);
        if let Some(segment) = partition.segment_mut(sequence) {
            segment.buffered = SegmentFile::Opening(slot);
            segment.was_buffered = true;
        }
        self.buffered_files.insert(slot, (id, sequence));
        batch.ops.push(Op::FileOpen { file: slot, path, open: Open::Buffered });
    }

    /// Whether it was such a file that was opened, or not.
    pub(super) fn buffered_opened(
        &mut self,
        slot: FileSlot,
        result: Result<u64, Fault>,
    ) -> Option<()> {
        let &(id, sequence) = self.buffered_files.get(&slot)?;
        let partition = self.partitions.get_mut(id.0).expect("kept by its users");
        partition.users -= 1;
        let path = partition.path(sequence);
        let segment = partition.segment_mut(sequence);
        if let (Ok(_), Some(segment)) = (result, segment) {
            segment.buffered = SegmentFile::Open(slot);
            return Some(());
        }
        self.buffered_files.remove(&slot);
        self.files.give(slot);
        let Err(Fault(errno)) = result else { return Some(()) };
        if let Some(segment) = self.partition_mut(id).segment_mut(sequence) {
            segment.buffered = SegmentFile::Missing;
        }
        let text =
            format!("{path} could not be opened to be sent (errno {errno}): it is read instead");
        self.notices.push(Notice { level: Level::Warn, conn: None, text });
        Some(())
    }

    /// Closes the file of a segment that was opened to be sent, if it is open.
    pub(super) fn close_buffered(&mut self, batch: &mut OpBatch, id: PartitionId, sequence: u32) {
        let Some(segment) = self.partition_mut(id).segment_mut(sequence) else { return };
        let SegmentFile::Open(slot) = segment.buffered else { return };
        segment.buffered = SegmentFile::Closed;
        self.buffered_files.remove(&slot);
        self.files.give(slot);
        batch.ops.push(Op::FileClose { file: slot });
    }

    /// A file opened to be sent that nobody uses.
    pub(super) fn idle_buffered(&self) -> Option<(PartitionId, u32)> {
        self.buffered_files.iter().find_map(|(&slot, &(id, sequence))| {
            let partition = self.partitions.get(id.0)?;
            let segment = partition.segments.iter().find(|s| s.sequence == sequence)?;
            let is_open = segment.buffered == SegmentFile::Open(slot);
            let is_idle = segment.users == 0 && !self.files.is_fresh(slot);
            (is_open && is_idle).then_some((id, sequence))
        })
    }

    /// A header was read for a stream of them.
    pub(super) fn head_read(&mut self, pool: &mut Pool, slot: u32) {
        let Some((position, buf, got)) = self.streams.take_head(slot) else { return };
        let place = self.streams.get(slot).map(|stream| DiskPlace { position, ..stream.place });
        let frame = place.filter(|_| got >= BLOCK_BYTES);
        let frame = frame.and_then(|place| self.frame_of(&place, &pool.bytes(buf)[..BLOCK_BYTES]));
        pool.release(buf);
        match frame {
            Some(frame) => self.streams.push_frame(slot, frame),
            None => self.streams.set_broken(slot),
        }
    }

    /// Takes the whole frames that `want` names from the stream of headers, for the fetch that
    /// waits for it.
    pub fn serve_frames(
        &mut self,
        pool: &mut Pool,
        slot: u32,
        want: Want,
        now: Time,
        out: &mut Vec<FilePart>,
    ) -> Served {
        let place = self.streams.get(slot).expect("named by its reader").place;
        let mut segments = self.partition(place.partition).segments.iter();
        let segment = segments.find(|segment| segment.sequence == place.segment);
        let open = SegmentFile::Open(place.file);
        if segment.is_none_or(|segment| segment.buffered != open) {
            // Its file was closed meanwhile, and its number may be another's, be it the same
            // segment's that is open to be read: the reader, which
            // this wakes, opens it again.
            self.streams.remove(pool, slot);
            return Served::Wait;
        }
        let (mut next, mut taken) = (want.offset, 0);
        while next < want.visible && (taken == 0 || taken < want.budget) {
            let stream = self.streams.get(slot).expect("named by its reader");
            let place = stream.place;
            if self.is_end(&place, next) {
                break;
            }
            let Some(&frame) = stream.frames.front() else {
                if taken > 0 {
                    break;
                }
                if let Some(served) = stream.trouble() {
                    return served;
                }
                self.streams.demand(slot, place.position, BLOCK_BYTES);
                return Served::Wait;
            };
            if frame.next > next {
                let fits = taken + frame.data_bytes <= want.budget;
                if frame.base != next || frame.next > want.visible || !fits {
                    break;
                }
                let data = DiskPlace { position: frame.data_at(), ..place };
                out.push(FilePart { after: 0, place: data, len: frame.data_bytes });
                let partition = self.partition_mut(place.partition);
                partition.users += 1;
                if let Some(segment) = partition.segment_mut(place.segment) {
                    segment.users += 1;
                }
                taken += frame.data_bytes;
                next = frame.next;
            }
            self.learn(place, frame.base, place.position);
            self.streams.advance(pool, slot, frame.end());
        }
        if taken == 0 && want.first == First::Always {
            return Served::Apart;
        }
        let place = self.streams.get(slot).expect("named by its reader").place;
        self.remember(place, next);
        self.streams.leave(pool, slot, next, &self.settings, now);
        Served::Taken(taken)
    }

    /// A reply has no more use for a part of a file.
    pub fn file_part_ended(&mut self, part: &FilePart) {
        let partition = self.partition_mut(part.place.partition);
        partition.users -= 1;
        if let Some(segment) = partition.segment_mut(part.place.segment) {
            segment.users -= 1;
        }
    }

    /// A part of a file could not be sent.
    pub fn file_part_failed(&mut self, part: &FilePart, fault: Fault) {
        let DiskPlace { partition, segment, position, .. } = part.place;
        let path = self.partition(partition).path(segment);
        let (level, text) = match fault {
            Fault::EINVAL | Fault::ENOSYS => {
                self.has_no_send_file = true;
                let text = "this kernel or file system has no sendfile: files are read instead; \
                            give --fetch-path direct or memory";
                (Level::Warn, text.to_owned())
            }
            Fault(errno) => {
                let text = format!(
                    "{path} could not be sent near byte {position} (errno {errno}), or is cut \
                     short: the connection that asked for it is closed"
                );
                (Level::Error, text)
            }
        };
        self.notices.push(Notice { level, conn: None, text });
    }
}
