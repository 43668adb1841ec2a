//! Cases about files.

use engine::frame::BLOCK_BYTES;
use engine::layout::FilePath;
use engine::port::{Extent, Fault, FileSlot, Fill, Op, Open, Sync, Tag};

use crate::rig::{Rig, pattern};

const FILE: FileSlot = FileSlot(3);
const OTHER: FileSlot = FileSlot(0);
const BLOCK: u64 = BLOCK_BYTES as u64;

const fn segment(sequence: u32) -> FilePath {
    FilePath::Segment { topic: [9; 16], partition: 1, sequence }
}

const fn spare(number: u32) -> FilePath {
    FilePath::Spare { number }
}

fn write(rig: &mut Rig, file: FileSlot, position: u64, bytes: &[u8], sync: Sync) -> Tag {
    let id = rig.buffer(bytes);
    let slice = rig.pool.slice(id, 0, bytes.len());
    let tag = Tag(0x1_0000_0000 | position);
    rig.submit(Op::Write { file, tag, slice, position, sync, extent: Extent::Fresh });
    tag
}

fn create(rig: &mut Rig, file: FileSlot, path: FilePath, blocks: u8) {
    assert_eq!(rig.open(file, path, Open::Create), Ok(0));
    for block in 0..blocks {
        let bytes = pattern(BLOCK_BYTES, block);
        let tag = write(rig, file, u64::from(block) * BLOCK, &bytes, Sync::Durable);
        assert_eq!(rig.wrote(tag), Ok(4096));
    }
}

pub fn a_write_reads_back(rig: &mut Rig) {
    for (path, sync) in [(segment(1), Sync::Durable), (segment(2), Sync::Written)] {
        assert_eq!(rig.open(FILE, path, Open::Create), Ok(0));
        let bytes = pattern(64 * 1024, 1);
        let tag = write(rig, FILE, 4 * BLOCK, &bytes, sync);
        assert_eq!(rig.wrote(tag), Ok(64 * 1024));
        assert_eq!(rig.read(FILE, 4 * BLOCK, 64 * 1024), Ok(bytes));
        assert_eq!(rig.read(FILE, 0, BLOCK_BYTES), Ok(vec![0; BLOCK_BYTES]), "a hole is zeros");
        assert_eq!(rig.flush(FILE), Ok(()));
        rig.submit(Op::FileClose { file: FILE });
    }
    rig.assert_nothing_else();
}

pub fn writes_in_flight_together_all_happen(rig: &mut Rig) {
    create(rig, FILE, segment(1), 0);
    let runs: Vec<Vec<u8>> = (0..8).map(|run| pattern(2 * BLOCK_BYTES, run)).collect();
    let positions = [0, 2, 4, 6, 8, 10, 12, 14];
    let mut tags = Vec::new();
    for (run, position) in runs.iter().zip(positions).rev() {
        tags.push(write(rig, FILE, position * BLOCK, run, Sync::Durable));
    }
    for tag in tags {
        assert_eq!(rig.wrote(tag), Ok(8192));
    }
    assert_eq!(rig.read(FILE, 0, 16 * BLOCK_BYTES), Ok(runs.concat()));
    rig.assert_nothing_else();
}

pub fn a_read_ends_at_the_end_of_the_file(rig: &mut Rig) {
    create(rig, FILE, segment(1), 2);
    let second = pattern(BLOCK_BYTES, 1);
    assert_eq!(rig.read(FILE, BLOCK, 4 * BLOCK_BYTES), Ok(second));
    assert_eq!(rig.read(FILE, 2 * BLOCK, BLOCK_BYTES), Ok(Vec::new()));
    assert_eq!(rig.read(FILE, 200 * BLOCK, BLOCK_BYTES), Ok(Vec::new()));
}

pub fn files_are_created_found_and_emptied(rig: &mut Rig) {
    assert_eq!(rig.open(FILE, segment(1), Open::Existing), Err(Fault::ENOENT));
    create(rig, FILE, segment(1), 2);
    assert_eq!(rig.open(OTHER, segment(1), Open::Existing), Ok(2 * BLOCK));
    assert_eq!(rig.read(OTHER, 0, BLOCK_BYTES), Ok(pattern(BLOCK_BYTES, 0)));
    rig.submit(Op::FileClose { file: OTHER });
    rig.submit(Op::FileClose { file: FILE });
    assert_eq!(rig.open(FILE, segment(1), Open::Create), Ok(0), "creating empties");
}

pub fn a_spare_is_adopted(rig: &mut Rig) {
    create(rig, FILE, spare(1), 3);
    rig.submit(Op::FileClose { file: FILE });
    let adopt = Open::Adopt { from: spare(1) };
    assert_eq!(rig.open(FILE, segment(4), adopt.clone()), Ok(3 * BLOCK));
    assert_eq!(rig.read(FILE, BLOCK, BLOCK_BYTES), Ok(pattern(BLOCK_BYTES, 1)));
    assert_eq!(rig.open(OTHER, spare(1), Open::Existing), Err(Fault::ENOENT), "it moved");
    assert_eq!(rig.open(OTHER, segment(5), adopt), Err(Fault::ENOENT), "there is no such spare");
    assert_eq!(rig.open(OTHER, segment(4), Open::Existing), Ok(3 * BLOCK));
}

pub fn extending_gives_zeros_and_length(rig: &mut Rig) {
    for (sequence, fill) in [(1, Fill::Reserve), (2, Fill::Zero)] {
        create(rig, FILE, segment(sequence), 1);
        let (from, to) = (BLOCK, 64 * BLOCK);
        rig.submit(Op::FileExtend { file: FILE, from, to, fill });
        assert_eq!(rig.extended(FILE), Ok(()));
        assert_eq!(rig.open(OTHER, segment(sequence), Open::Existing), Ok(to));
        assert_eq!(rig.read(FILE, 0, BLOCK_BYTES), Ok(pattern(BLOCK_BYTES, 0)), "as it was");
        assert_eq!(rig.read(FILE, BLOCK, 8 * BLOCK_BYTES), Ok(vec![0; 8 * BLOCK_BYTES]));
        rig.submit(Op::FileClose { file: FILE });
        rig.submit(Op::FileClose { file: OTHER });
    }
    rig.assert_nothing_else();
}

pub fn deleting_takes_what_is_there(rig: &mut Rig) {
    create(rig, FILE, segment(1), 1);
    create(rig, OTHER, spare(8), 1);
    rig.submit(Op::FileClose { file: FILE });
    rig.submit(Op::FileClose { file: OTHER });
    assert_eq!(rig.delete(vec![segment(1), segment(77), spare(8)]), Ok(()));
    assert_eq!(rig.open(FILE, segment(1), Open::Existing), Err(Fault::ENOENT));
    assert_eq!(rig.open(FILE, spare(8), Open::Existing), Err(Fault::ENOENT));
    assert_eq!(rig.delete(Vec::new()), Ok(()));
    rig.assert_nothing_else();
}

pub fn what_is_not_aligned_is_refused(rig: &mut Rig) {
    create(rig, FILE, segment(1), 1);
    let id = rig.buffer(&[1; BLOCK_BYTES]);
    let slice = rig.pool.slice(id, 0, BLOCK_BYTES);
    let (tag, position, sync) = (Tag(9), 100, Sync::Durable);
    rig.submit(Op::Write { file: FILE, tag, slice, position, sync, extent: Extent::Fresh });
    assert_eq!(rig.wrote(tag), Err(Fault(22)));
    assert_eq!(rig.read(FILE, 100, BLOCK_BYTES), Err(Fault(22)));
    assert_eq!(rig.read(FILE, 0, BLOCK_BYTES), Ok(pattern(BLOCK_BYTES, 0)), "nothing was written");
}

/// No fault but a bug of the engine: it must not go on.
pub fn an_op_on_a_closed_number_panics(rig: &mut Rig) {
    create(rig, FILE, segment(1), 1);
    rig.submit(Op::FileClose { file: FILE });
    let op = Op::Flush { file: FILE, tag: Tag(1) };
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| rig.submit(op)));
    assert!(outcome.is_err());
}

pub fn a_number_leads_to_its_newest_file(rig: &mut Rig) {
    for sequence in 0..6 {
        create(rig, FILE, segment(sequence), 1);
        let bytes = pattern(BLOCK_BYTES, 100 + u8::try_from(sequence).expect("small"));
        let tag = write(rig, FILE, BLOCK, &bytes, Sync::Durable);
        assert_eq!(rig.wrote(tag), Ok(4096));
        rig.submit(Op::FileClose { file: FILE });
    }
    for sequence in 0..6 {
        assert_eq!(rig.open(FILE, segment(sequence), Open::Existing), Ok(2 * BLOCK));
        let bytes = pattern(BLOCK_BYTES, 100 + u8::try_from(sequence).expect("small"));
        assert_eq!(rig.read(FILE, BLOCK, BLOCK_BYTES), Ok(bytes));
        rig.submit(Op::FileClose { file: FILE });
    }
}
