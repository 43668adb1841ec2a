//! Superblock, start file, catalog records and the names of files: arbitrary bytes are refused or
//! read, and what was read is written back as it was.

use pelton_engine::catalog::Change;
use pelton_engine::frame::FrameKey;
use pelton_engine::layout::FilePath;
use pelton_engine::log::start_file::read_slots;
use pelton_engine::superblock::{Found, Superblock};
use pelton_wire::crc::crc32c;

/// Bytes of a slot that its checksum covers.
const SUMMED_BYTES: usize = 60;

/// Feeds it.
pub fn run(input: &[u8]) {
    let Some((&which, bytes)) = input.split_first() else { return };
    match which % 4 {
        0 => superblock(bytes),
        1 => drop(read_slots(&padded(bytes), FrameKey(7), &[3; 16], ([7; 16], 1))),
        2 => catalog(bytes),
        _ => {
            let Ok(name) = std::str::from_utf8(bytes) else { return };
            let parsed = FilePath::parse(name);
            assert!(parsed.is_none_or(|path| path.to_string() == name), "one spelling only");
        }
    }
}

fn superblock(bytes: &[u8]) {
    let mut file = padded(bytes);
    let _ = Superblock::read(&file);
    // Behind a right checksum.
    let sum = crc32c(&file[..SUMMED_BYTES]);
    file[SUMMED_BYTES..SUMMED_BYTES + 4].copy_from_slice(&sum.to_le_bytes());
    if let Found::Whole(superblock) = Superblock::read(&file) {
        let (block, position) = superblock.block();
        assert!(position == 0 || position == 4096);
        assert!(matches!(Superblock::read(&block), Found::Whole(again) if again == superblock));
    }
}

fn catalog(bytes: &[u8]) {
    let mut rest = bytes;
    while let Some((change, tail)) = Change::decode(rest) {
        assert!(tail.len() < rest.len(), "each record takes some bytes");
        let again = change.encode();
        let (same, left) = Change::decode(&again).expect("what was encoded is decoded");
        assert!(left.is_empty() && same == change);
        rest = tail;
    }
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut file = bytes.to_vec();
    file.resize(8192, 0);
    file
}
