//! Writing and reading whole frames.

use wire::crc::{crc32c, crc32c_append};
use zerocopy::{FromBytes, IntoBytes};

use super::{BLOCK_BYTES, ENTRY_BYTES, FORMAT_VERSION, FRAME_MAGIC, HEADER_BYTES};
use super::{EntryHeader, FrameHeader, FrameKind, block_ceil};
use crate::units::{u32_of, usize_of};

/// A number that only the data directory's owner knows. Every frame's checksum begins with it, so
/// that no record's bytes can pose as a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameKey(pub u64);

impl FrameKey {
    fn begin(self, header: &FrameHeader) -> u32 {
        crc32c_append(crc32c(&self.0.to_le_bytes()), header.as_bytes())
    }
}

/// What a frame says about itself, apart from its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameMeta {
    /// Where it lives.
    pub kind: FrameKind,
    /// The directory's key.
    pub key: FrameKey,
    /// Boot epoch of the writer.
    pub boot_epoch: u32,
    /// The broker's id.
    pub broker_id: [u8; 16],
    /// Log sequence number; 0 in segments.
    pub lsn: u64,
    /// Durable watermark.
    pub watermark: u64,
    /// Sequence of its file.
    pub file_sequence: u64,
    /// Position in its file.
    pub position: u64,
    /// Wall clock in ns.
    pub wall_ns: u64,
}

/// Fills in the header of a frame whose table of `entries` rows and `data_bytes` of data already
/// lie in `bytes`, zeroes the padding, and gives the frame's length.
///
/// # Panics
/// If `bytes` are too short for the frame.
pub fn seal_frame(bytes: &mut [u8], meta: &FrameMeta, entries: usize, data_bytes: usize) -> usize {
    let table_end = HEADER_BYTES + entries * ENTRY_BYTES;
    let used = table_end + data_bytes;
    let frame_bytes = block_ceil(used);
    bytes[used..frame_bytes].fill(0);
    let mut header = FrameHeader {
        magic: FRAME_MAGIC.into(),
        version: FORMAT_VERSION.into(),
        kind: meta.kind as u8,
        block_log2: 12,
        features_compatible: 0.into(),
        features_read_only: 0.into(),
        features_incompatible: 0.into(),
        entry_count: u16::try_from(entries).expect("bounded by FRAME_ENTRIES_MAX").into(),
        reserved: 0.into(),
        frame_bytes: u32_of(frame_bytes).into(),
        boot_epoch: meta.boot_epoch.into(),
        broker_id: meta.broker_id,
        lsn: meta.lsn.into(),
        watermark: meta.watermark.into(),
        file_sequence: meta.file_sequence.into(),
        position: meta.position.into(),
        wall_ns: meta.wall_ns.into(),
        crc: 0.into(),
        reserved_end: 0.into(),
    };
    let sum = meta.key.begin(&header);
    header.crc = crc32c_append(sum, &bytes[HEADER_BYTES..table_end]).into();
    bytes[..HEADER_BYTES].copy_from_slice(header.as_bytes());
    frame_bytes
}

/// The one place of a frame in a segment. Topic ids and a partition's sequences are never used
/// twice, so no frame of a file's earlier life has the place of a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentPlace {
    /// Topic of the segment.
    pub topic: wire::TopicId,
    /// Partition of the segment.
    pub partition: u32,
    /// The segment's sequence.
    pub sequence: u32,
    /// Position in the segment's file.
    pub position: u64,
}

impl SegmentPlace {
    /// The segment's file.
    pub const fn path(&self) -> crate::layout::FilePath {
        crate::layout::FilePath::Segment {
            topic: self.topic,
            partition: self.partition,
            sequence: self.sequence,
        }
    }
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// Nothing was ever written here: the header is all zeros.
    Blank,
    /// Not a frame.
    Foreign,
    /// A damaged frame.
    Damaged(&'static str),
    /// The header is whole, but the frame needs this many bytes.
    Short(usize),
    /// A whole frame that uses a format or feature unknown here.
    Newer(&'static str),
}

/// A frame whose header, table and data have all been checked.
#[derive(Debug, Clone, Copy)]
pub struct FrameView<'a> {
    /// Its header.
    pub header: &'a FrameHeader,
    /// Its table.
    pub entries: &'a [EntryHeader],
    data: &'a [u8],
}

impl<'a> FrameView<'a> {
    /// Reads the frame at the front of `bytes`.
    pub fn read(bytes: &'a [u8], key: FrameKey) -> Result<FrameView<'a>, Unreadable> {
        let (view, _) = Self::read_table(bytes, key)?;
        let mut rest = view.data;
        for entry in view.entries {
            let length = usize_of(entry.length.get());
            let Some((data, tail)) = rest.split_at_checked(length) else {
                return Err(Unreadable::Damaged("entries are longer than their frame"));
            };
            if crc32c(data) != entry.crc.get() {
                return Err(Unreadable::Damaged("an entry's checksum does not match"));
            }
            rest = tail;
        }
        Ok(view)
    }

    /// Reads header and table only; the data may be unread, but must lie within `bytes`.
    /// Gives the frame's length as well.
    pub fn read_table(
        bytes: &'a [u8],
        key: FrameKey,
    ) -> Result<(FrameView<'a>, usize), Unreadable> {
        let view = Self::read_head(bytes, key)?;
        let frame_bytes = view.frame_bytes();
        if bytes.len() < frame_bytes {
            return Err(Unreadable::Short(frame_bytes));
        }
        let data = &bytes[view.table_end()..frame_bytes];
        Ok((FrameView { data, ..view }, frame_bytes))
    }

    /// Reads header and table only; the data may lie elsewhere, and the view has none.
    pub fn read_head(bytes: &'a [u8], key: FrameKey) -> Result<FrameView<'a>, Unreadable> {
        let Ok((header, after)) = FrameHeader::ref_from_prefix(bytes) else {
            return Err(Unreadable::Short(HEADER_BYTES));
        };
        if header.as_bytes().iter().all(|&byte| byte == 0) {
            return Err(Unreadable::Blank);
        }
        if header.magic.get() != FRAME_MAGIC {
            return Err(Unreadable::Foreign);
        }
        let frame_bytes = usize_of(header.frame_bytes.get());
        let count = usize::from(header.entry_count.get());
        let table_end = HEADER_BYTES + count * ENTRY_BYTES;
        let longest = crate::pool::BUFFER_BYTES_MAX;
        let possible = (table_end..=longest).contains(&frame_bytes);
        if !frame_bytes.is_multiple_of(BLOCK_BYTES) || !possible {
            return Err(Unreadable::Damaged("an impossible frame length"));
        }
        if bytes.len() < table_end {
            return Err(Unreadable::Short(frame_bytes));
        }
        let (entries, _) = <[EntryHeader]>::ref_from_prefix_with_elems(after, count)
            .map_err(|_| Unreadable::Short(frame_bytes))?;
        let mut blank = *header;
        blank.crc = 0.into();
        let sum = crc32c_append(key.begin(&blank), entries.as_bytes());
        if sum != header.crc.get() {
            return Err(Unreadable::Damaged("the header's checksum does not match"));
        }
        if header.version.get() != FORMAT_VERSION || header.features_incompatible.get() != 0 {
            return Err(Unreadable::Newer("written by a newer format"));
        }
        Ok(FrameView { header, entries, data: &[] })
    }

    /// Where the data begin.
    const fn table_end(&self) -> usize {
        HEADER_BYTES + self.entries.len() * ENTRY_BYTES
    }

    /// Length of the frame, padding included.
    pub fn frame_bytes(&self) -> usize {
        usize_of(self.header.frame_bytes.get())
    }

    /// Every entry with its data.
    pub fn parts(&self) -> impl Iterator<Item = (&'a EntryHeader, &'a [u8])> + use<'a> {
        let mut rest = self.data;
        self.entries.iter().map(move |entry| {
            let length = usize_of(entry.length.get()).min(rest.len());
            let (data, tail) = rest.split_at(length);
            rest = tail;
            (entry, data)
        })
    }

    /// Whether this is the frame at this place of a segment by this broker.
    pub fn is_at(&self, broker_id: &[u8; 16], place: &SegmentPlace) -> bool {
        let mine = |entry: &EntryHeader| {
            entry.topic == place.topic && entry.partition.get() == place.partition
        };
        self.belongs(FrameKind::Segment, broker_id, u64::from(place.sequence), place.position)
            && matches!(self.entries, [entry] if mine(entry))
    }

    /// Whether this is the frame of this kind, file and position by this broker; what file it
    /// is says the caller.
    pub fn belongs(
        &self,
        kind: FrameKind,
        broker_id: &[u8; 16],
        sequence: u64,
        position: u64,
    ) -> bool {
        self.header.kind == kind as u8
            && self.header.broker_id == *broker_id
            && self.header.file_sequence.get() == sequence
            && self.header.position.get() == position
    }
}

#[cfg(test)]
mod tests {
    use super::super::EntryKind;
    use super::*;

    const KEY: FrameKey = FrameKey(7);

    fn sample() -> Vec<u8> {
        let mut bytes = vec![0xee; 2 * BLOCK_BYTES];
        let data = [b"first".as_slice(), b"second"];
        let mut at = HEADER_BYTES + 2 * ENTRY_BYTES;
        for (index, data) in data.into_iter().enumerate() {
            let entry = EntryHeader {
                topic: [7; 16],
                partition: u32_of(index).into(),
                kind: (EntryKind::Catalog as u16).into(),
                flags: 0.into(),
                base_offset: 9.into(),
                count: 1.into(),
                length: u32_of(data.len()).into(),
                crc: crc32c(data).into(),
                reserved: 0.into(),
            };
            let row = HEADER_BYTES + index * ENTRY_BYTES;
            bytes[row..row + ENTRY_BYTES].copy_from_slice(entry.as_bytes());
            bytes[at..at + data.len()].copy_from_slice(data);
            at += data.len();
        }
        let meta = FrameMeta {
            kind: FrameKind::Journal,
            key: KEY,
            boot_epoch: 1,
            broker_id: [3; 16],
            lsn: 5,
            watermark: 4,
            file_sequence: 2,
            position: 8192,
            wall_ns: 1,
        };
        let length = seal_frame(&mut bytes, &meta, 2, 11);
        bytes.truncate(length);
        bytes
    }

    #[test]
    fn a_frame_reads_back() {
        let bytes = sample();
        assert_eq!(bytes.len(), BLOCK_BYTES);
        assert!(FrameView::read(&bytes, FrameKey(8)).is_err());
        let view = FrameView::read(&bytes, KEY).expect("whole");
        assert!(view.belongs(FrameKind::Journal, &[3; 16], 2, 8192));
        assert!(!view.belongs(FrameKind::Journal, &[3; 16], 2, 4096));
        let parts: Vec<&[u8]> = view.parts().map(|(_, data)| data).collect();
        assert_eq!(parts, [b"first".as_slice(), b"second"]);
    }

    #[test]
    fn a_frame_of_a_files_earlier_life_is_not_at_a_later_ones_place() {
        let data = b"batch";
        let mut bytes = vec![0; BLOCK_BYTES];
        let entry = EntryHeader {
            topic: [7; 16],
            partition: 2.into(),
            kind: (EntryKind::RecordBatch as u16).into(),
            flags: 0.into(),
            base_offset: 9.into(),
            count: 1.into(),
            length: u32_of(data.len()).into(),
            crc: crc32c(data).into(),
            reserved: 0.into(),
        };
        let table_end = HEADER_BYTES + ENTRY_BYTES;
        bytes[HEADER_BYTES..table_end].copy_from_slice(entry.as_bytes());
        bytes[table_end..table_end + data.len()].copy_from_slice(data);
        let meta = FrameMeta {
            kind: FrameKind::Segment,
            key: KEY,
            boot_epoch: 1,
            broker_id: [3; 16],
            lsn: 0,
            watermark: 0,
            file_sequence: 5,
            position: 0,
            wall_ns: 1,
        };
        seal_frame(&mut bytes, &meta, 1, data.len());
        let view = FrameView::read(&bytes, KEY).expect("whole");
        let place = SegmentPlace { topic: [7; 16], partition: 2, sequence: 5, position: 0 };
        assert!(view.is_at(&[3; 16], &place));
        for other in [
            SegmentPlace { topic: [8; 16], ..place },
            SegmentPlace { partition: 3, ..place },
            SegmentPlace { sequence: 6, ..place },
            SegmentPlace { position: 4096, ..place },
        ] {
            assert!(!view.is_at(&[3; 16], &other), "{other:?}");
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed_or_padding() {
        let good = sample();
        let used = HEADER_BYTES + 2 * ENTRY_BYTES + 11;
        for bit in 0..used * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(FrameView::read(&bad, KEY).is_err(), "bit {bit}");
        }
        assert_eq!(FrameView::read(&[0; 4096], KEY).err(), Some(Unreadable::Blank));
    }
}
