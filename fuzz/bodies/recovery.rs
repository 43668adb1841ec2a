//! Recovery of a directory whose files hold frames of the input's choice, sealed with the right
//! key, and damage: it serves or refuses, looking on and recovering agree to the end, and what was
//! recovered once is recovered again.

use std::cell::RefCell;
use std::collections::BTreeMap;

use pelton_engine::Settings;
use pelton_engine::boot::{BootError, boot_within};
use pelton_engine::catalog::Change;
use pelton_engine::frame::{
    BLOCK_BYTES, ENTRY_BYTES, EntryHeader, EntryKind, FrameKey, FrameKind, FrameMeta, HEADER_BYTES,
    seal_frame,
};
use pelton_engine::inspect::{Directory, verify};
use pelton_engine::layout::FilePath;
use pelton_engine::pool::Arenas;
use pelton_engine::port::{Disk, Fault, FileEntry, Now, Time};
use pelton_engine::superblock::{Found, Superblock};
use pelton_wire::batch::BatchBuilder;
use pelton_wire::crc::crc32c;
use pelton_wire::topic;
use zerocopy::IntoBytes;

/// Bytes of the input that make one change.
const STEP_BYTES: usize = 12;
/// Changes of one input.
const STEPS_MAX: usize = 24;
/// The topic that catalog records create.
const TOPIC: [u8; 16] = [7; 16];
/// Blocks that a file may have.
const BLOCKS_MAX: usize = 12;

/// Looking at a directory takes much memory, and that time.
const LOOKED_AT_ONE_OF: u32 = 32;

thread_local! {
    static ARENAS: RefCell<Arenas> = RefCell::new(Arenas::default());
}

/// Feeds it.
pub fn run(input: &[u8]) {
    let mut disk = Memory::default();
    start(&mut disk, 1).expect("an empty directory");
    let Found::Whole(superblock) = Superblock::read(&disk.files[&FilePath::Superblock]) else {
        panic!("the first start writes a superblock");
    };
    for step in input.as_chunks::<STEP_BYTES>().0.iter().take(STEPS_MAX) {
        change(&mut disk, &superblock, step);
    }
    if crc32c(input).is_multiple_of(LOOKED_AT_ONE_OF) {
        look(&disk);
    }
    if start(&mut disk, 2).is_ok() {
        let again = start(&mut disk, 3);
        assert!(again.is_ok(), "recovered once, and then: {again:?}");
    }
}

fn look(disk: &Memory) {
    let mut looked = disk.clone();
    if let Ok(mut directory) = Directory::open(&mut looked) {
        let _ = verify(&mut directory, &mut |_| {});
    }
    assert!(looked == *disk, "looking changes nothing");
}

fn start(disk: &mut Memory, seed: u128) -> Result<(), BootError> {
    let settings = Settings { journal_files: 2, journal_file_bytes: 32 * 1024, ..Settings::tiny() };
    let now = Now { time: Time(1), wall_ns: 1_672_531_800_000_000_000 };
    ARENAS.with_borrow_mut(|arenas| boot_within(arenas, &settings, disk, now, seed)).map(drop)
}

/// One change: a frame somewhere, a flipped byte, or a file cut off.
fn change(disk: &mut Memory, superblock: &Superblock, step: &[u8; STEP_BYTES]) {
    let [what, which, block, lsn, watermark, sequence, entries, rest @ ..] = *step;
    let path = path(which);
    let at = usize::from(block) % BLOCKS_MAX * BLOCK_BYTES;
    match what % 8 {
        0..=5 => {
            let frame = frame(superblock, &path, at, (lsn, watermark, sequence, entries), &rest);
            let bytes = disk.files.entry(path).or_default();
            bytes.resize(bytes.len().max(at + frame.len()), 0);
            bytes[at..at + frame.len()].copy_from_slice(&frame);
        }
        6 => {
            let byte = at + usize::from(rest[0]) * 16 + usize::from(rest[1] % 16);
            if let Some(byte) = disk.files.get_mut(&path).and_then(|file| file.get_mut(byte)) {
                *byte ^= rest[2];
            }
        }
        _ => {
            if let Some(bytes) = disk.files.get_mut(&path) {
                bytes.truncate(at);
            }
        }
    }
}

fn path(which: u8) -> FilePath {
    let sequence = u32::from(which >> 4) % 4;
    match which % 8 {
        0..=2 => FilePath::Journal { shard: u16::from(which >> 7), index: u32::from(which % 2) },
        3 => FilePath::Segment { topic: [0; 16], partition: 0, sequence },
        4 => FilePath::Start { topic: TOPIC, partition: u32::from(which >> 4) % 2 },
        5 => FilePath::Superblock,
        more => FilePath::Segment { topic: TOPIC, partition: u32::from(more % 2), sequence },
    }
}

/// A sealed frame for a place, with entries of the input's choice.
fn frame(
    superblock: &Superblock,
    path: &FilePath,
    at: usize,
    (lsn, watermark, sequence, entries): (u8, u8, u8, u8),
    rest: &[u8],
) -> Vec<u8> {
    let (kind, file_sequence, stream) = match *path {
        FilePath::Segment { topic, partition, sequence } => {
            (FrameKind::Segment, u64::from(sequence), Some((topic, partition)))
        }
        FilePath::Start { topic, partition } => {
            (FrameKind::Start, u64::from(sequence), Some((topic, partition)))
        }
        _ => (FrameKind::Journal, u64::from(sequence % 8), None),
    };
    let count = if stream.is_some() { 1 } else { usize::from(entries % 4) };
    let mut table = Vec::new();
    let mut data = Vec::new();
    for index in 0..count {
        let byte = rest[index % rest.len()];
        let (entry, bytes) = entry(byte, rest[rest.len() - 1], kind, stream);
        table.extend_from_slice(entry.as_bytes());
        data.extend_from_slice(&bytes);
    }
    let mut bytes = vec![0; HEADER_BYTES + count * ENTRY_BYTES + data.len()];
    bytes[HEADER_BYTES..HEADER_BYTES + table.len()].copy_from_slice(&table);
    bytes[HEADER_BYTES + table.len()..].copy_from_slice(&data);
    let length = data.len();
    bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
    let drained = superblock.drained_lsn.get();
    let meta = FrameMeta {
        kind,
        key: FrameKey(superblock.frame_key.get()),
        boot_epoch: 1,
        broker_id: superblock.broker_id,
        lsn: if kind == FrameKind::Journal { drained + u64::from(lsn % 16) } else { 0 },
        watermark: match kind {
            FrameKind::Journal => drained + u64::from(watermark % 16),
            _ => u64::from(watermark),
        },
        file_sequence,
        position: u64::try_from(at).expect("small"),
        wall_ns: 1,
    };
    seal_frame(&mut bytes, &meta, count, length);
    bytes
}

/// An entry of a kind that belongs into such a frame, or not.
fn entry(
    byte: u8,
    base: u8,
    frame: FrameKind,
    stream: Option<([u8; 16], u32)>,
) -> (EntryHeader, Vec<u8>) {
    let (topic, partition) = stream
        .unwrap_or((if byte.is_multiple_of(4) { [0; 16] } else { TOPIC }, u32::from(byte >> 7)));
    let base_offset = u64::from(base % 16);
    let count = u32::from(byte >> 5) + 1;
    let (kind, count, data) = match (frame, topic == [0; 16], byte % 8) {
        (FrameKind::Start, ..) => {
            let numbers = [u64::from(byte % 4), base_offset / 2];
            (EntryKind::LogStart, 0, numbers.as_bytes().to_vec())
        }
        (_, true, 7) => (EntryKind::Catalog, 1, Change::Delete { id: TOPIC }.encode()),
        (_, true, _) => {
            let settings = topic::Settings::new(2);
            let name = "topic".to_owned();
            (EntryKind::Catalog, 1, Change::Create { id: TOPIC, name, settings }.encode())
        }
        (FrameKind::Journal, _, 1) => (EntryKind::Watermark, 0, Vec::new()),
        _ => {
            let mut batch = BatchBuilder::with_capacity(256);
            (0..count).for_each(|_| batch.push(1, None, Some(b"value")));
            let mut bytes = batch.finish().to_vec();
            bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
            (EntryKind::RecordBatch, count, bytes)
        }
    };
    let entry = EntryHeader {
        topic,
        partition: partition.into(),
        kind: (kind as u16).into(),
        flags: 0.into(),
        base_offset: base_offset.into(),
        count: count.into(),
        length: u32::try_from(data.len()).expect("small").into(),
        crc: crc32c(&data).into(),
        reserved: 0.into(),
    };
    (entry, data)
}

/// A disk in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Memory {
    files: BTreeMap<FilePath, Vec<u8>>,
}

impl Disk for Memory {
    fn settle(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    fn list(&mut self) -> Result<Vec<FileEntry>, Fault> {
        let entry = |(path, bytes): (&FilePath, &Vec<u8>)| FileEntry {
            path: path.clone(),
            bytes: bytes.len().try_into().expect("small"),
        };
        Ok(self.files.iter().map(entry).collect())
    }

    fn read(&mut self, path: &FilePath, position: u64, into: &mut [u8]) -> Result<usize, Fault> {
        let bytes = self.files.get(path).ok_or(Fault::ENOENT)?;
        let position = usize::try_from(position).expect("small").min(bytes.len());
        let count = into.len().min(bytes.len() - position);
        into[..count].copy_from_slice(&bytes[position..position + count]);
        Ok(count)
    }

    fn write(&mut self, path: &FilePath, position: u64, bytes: &[u8]) -> Result<(), Fault> {
        let file = self.files.get_mut(path).ok_or(Fault::ENOENT)?;
        let position = usize::try_from(position).expect("small");
        file.resize(file.len().max(position + bytes.len()), 0);
        file[position..position + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn create(&mut self, path: &FilePath, bytes: u64) -> Result<(), Fault> {
        self.files.insert(path.clone(), vec![0; usize::try_from(bytes).expect("small")]);
        Ok(())
    }

    fn delete(&mut self, path: &FilePath) -> Result<(), Fault> {
        self.files.remove(path);
        Ok(())
    }
}
