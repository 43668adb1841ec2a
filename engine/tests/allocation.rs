//! Decoders of what lies on disk, fed with arbitrary bytes, never hold more memory than in
//! proportion to these: no number in them is taken for a length before it is checked.

#[path = "../../wire/tests/counting/mod.rs"]
mod counting;

use counting::peak_of;
use pelton_engine::catalog::Change;
use pelton_engine::frame::{ENTRY_BYTES, EntryHeader, EntryKind, FrameKey, FrameView};
use pelton_engine::inspect::check_entry;
use pelton_engine::layout::FilePath;
use pelton_engine::log::start_file::read_slots;
use pelton_engine::queue::record::{Record, invalid};
use pelton_engine::superblock::Superblock;
use proptest::prelude::*;
use zerocopy::FromBytes;

/// Bytes held for each byte of the input, and besides: a record of the catalog has 21 bytes at
/// least, and a few times as much in memory, in a list that doubles.
const PER_BYTE_MAX: usize = 32;
const BESIDES_MAX: usize = 4096;

/// Shows the bytes to every decoder, as they are and behind a head of the right kind.
fn decode(bytes: &[u8]) {
    let key = FrameKey(7);
    for read in [FrameView::read, FrameView::read_head] {
        if let Ok(view) = read(bytes, key) {
            view.parts().for_each(|(entry, data)| _ = check_entry(entry, data));
        }
    }
    let _ = FrameView::read_table(bytes, key);
    let _ = Superblock::read(bytes);
    let _ = read_slots(bytes, key, &[3; 16], ([7; 16], 1));
    let _ = std::str::from_utf8(bytes).ok().and_then(FilePath::parse);
    let mut rest = bytes;
    while let Some((_, tail)) = Change::decode(rest) {
        rest = tail;
    }
    rest = bytes;
    while let Some((record, tail)) = Record::split(rest) {
        let _ = (record.rows().len(), record.facts().len(), record.shared().is_some());
        rest = tail;
    }
    let _ = invalid(bytes, 3);
    let mut entry = EntryHeader::read_from_bytes(&[0xff; ENTRY_BYTES]).expect("as long");
    for kind in [EntryKind::RecordBatch, EntryKind::Catalog, EntryKind::QueueRecord] {
        entry.kind = (kind as u16).into();
        let _ = check_entry(&entry, bytes);
    }
}

fn assert_modest(bytes: &[u8]) {
    let most = bytes.len() * PER_BYTE_MAX + BESIDES_MAX;
    let peak = peak_of(|| decode(bytes));
    assert!(peak <= most, "{peak} bytes for {}", bytes.len());
}

#[test]
fn the_counter_counts() {
    let kept = peak_of(|| drop(std::hint::black_box(vec![1u8; 100_000])));
    assert_eq!(kept, 100_000);
}

#[test]
fn what_is_short_and_many_is_bounded() {
    let delete = Change::Delete { id: [7; 16] }.encode();
    assert_modest(&delete.repeat(2000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_bytes_are_bounded(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        assert_modest(&bytes);
    }

    #[test]
    fn small_numbers_are_bounded(bytes in prop::collection::vec(0..4u8, 0..512)) {
        assert_modest(&bytes);
    }

    /// Lengths and counts that say much more than there is.
    #[test]
    fn great_numbers_are_bounded(bytes in prop::collection::vec(0xf0..=u8::MAX, 0..512)) {
        assert_modest(&bytes);
    }

    /// The same within records of the catalog, whose kinds are right.
    #[test]
    fn records_of_the_catalog_are_bounded(
        kind in 0..8u8,
        length in 21..200u32,
        rest in prop::collection::vec(any::<u8>(), 16..200),
    ) {
        assert_modest(&[&length.to_le_bytes()[..], &[kind], &rest].concat());
    }
}
