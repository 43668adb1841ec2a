//! The disk format's structures, numbers, paths and the table of recovery.

use engine::boot::truth;
use engine::frame::{self, EntryKind, FrameKind};
use engine::layout::FilePath;
use engine::queue::record::{self, RecordKind};
use engine::superblock;

use crate::document::{self, FORMAT};
use crate::drawing::{self, layout};

#[test]
fn every_layout_is_drawn_as_it_is() {
    let layouts = [
        layout!(superblock::Superblock {
            magic,
            version,
            shards,
            features_incompatible,
            boot_epoch,
            sequence,
            broker_id,
            drained_lsn,
            frame_key,
            reserved,
            crc,
        }),
        layout!(frame::FrameHeader {
            magic,
            version,
            kind,
            block_log2,
            features_compatible,
            features_read_only,
            features_incompatible,
            entry_count,
            reserved,
            frame_bytes,
            boot_epoch,
            broker_id,
            lsn,
            watermark,
            file_sequence,
            position,
            wall_ns,
            crc,
            reserved_end,
        }),
        layout!(frame::EntryHeader {
            topic,
            partition,
            kind,
            flags,
            base_offset,
            count,
            length,
            crc,
            reserved,
        }),
        layout!(record::RecordHead {
            length,
            kind,
            flags,
            reason,
            queue,
            first,
            count,
            reserved,
            bytes
        }),
        layout!(record::RangeRow { from, to }),
        layout!(record::MovedHead { source, source_sequence, source_bytes }),
        layout!(record::SharedRow { queue, first }),
        layout!(record::StateRow { tag, value, a, b }),
    ];
    drawing::compare(&FORMAT, &layouts);
}

#[test]
fn numbers_are_the_ones_told() {
    let meaning = |heading: &str, field: &str| {
        let rows = FORMAT.columns(heading, 5);
        let row = rows.into_iter().find_map(|row| {
            let (_, meaning) = row.split_once(&format!(" | {field} | "))?;
            Some(meaning.to_owned())
        });
        row.unwrap_or_else(|| panic!("no field {field}"))
    };
    let magic = |number: u32| {
        let bytes = number.to_le_bytes();
        format!("the bytes {:?}", std::str::from_utf8(&bytes).expect("letters"))
    };
    assert_eq!(meaning("`superblock::Superblock", "magic"), magic(superblock::SUPERBLOCK_MAGIC));
    assert_eq!(meaning("`frame::FrameHeader", "magic"), magic(frame::FRAME_MAGIC));
    let version = format!("{}; a newer one is refused", frame::FORMAT_VERSION);
    assert_eq!(meaning("`superblock::Superblock", "version"), version);
    assert_eq!(meaning("`frame::FrameHeader", "version"), version);
    let log2 = frame::BLOCK_BYTES.ilog2().to_string();
    assert_eq!(meaning("`frame::FrameHeader", "block_log2"), log2);
    let kinds = format!(
        "{} journal, {} segment, {} start, {} lost",
        FrameKind::Journal as u8,
        FrameKind::Segment as u8,
        FrameKind::Start as u8,
        FrameKind::Lost as u8
    );
    assert_eq!(meaning("`frame::FrameHeader", "kind"), kinds);
    let known: Vec<u16> = (0..=u16::MAX).filter(|n| EntryKind::from_u16(*n).is_some()).collect();
    assert_eq!(known, [1, 2, 5, 7, 8, 9], "the table of entry kinds names them");
}

#[test]
fn queue_records_are_the_ones_listed() {
    let code = RecordKind::ALL.map(|kind| format!("{} | {}", kind as u8, kind.name()));
    document::assert_lines("queue records", &FORMAT.columns("Kinds of queue records", 2), &code);
}

#[test]
fn paths_are_the_ones_listed() {
    let zeroed = |path: FilePath| path.to_string();
    let [topic, partition, sequence] = ["0".repeat(32), "0".to_owned(), "0".repeat(8)];
    let told = |path: &str| {
        path.trim_matches('`')
            .replace("TOPIC", &topic)
            .replace("PARTITION", &partition)
            .replace("SEQUENCE", &sequence)
            .replace("SHARD", "0")
            .replace("INDEX", "0000")
            .replace("NUMBER", "000000")
            .replace("EPOCH", "0")
    };
    let listed: Vec<String> = FORMAT.columns("Files", 1).iter().map(|path| told(path)).collect();
    let code = [
        "LOCK".to_owned(),
        zeroed(FilePath::Superblock),
        zeroed(FilePath::Journal { shard: 0, index: 0 }),
        zeroed(FilePath::Segment { topic: [0; 16], partition: 0, sequence: 0 }),
        zeroed(FilePath::Start { topic: [0; 16], partition: 0 }),
        zeroed(FilePath::Lost { topic: [0; 16], partition: 0 }),
        zeroed(FilePath::Aside { epoch: 0, shard: 0, index: 0 }),
        zeroed(FilePath::Spare { number: 0 }),
        zeroed(FilePath::StartSpare { number: 0 }),
    ];
    document::assert_lines("paths", &listed, &code);
}

#[test]
fn recovery_decides_by_the_table_of_the_document() {
    let rows = truth::ROWS.iter().map(|&(place, evidence)| {
        format!("{place} | {evidence} | {}", truth::verdict(place, evidence))
    });
    document::assert_lines("recovery", &FORMAT.columns("Recovery", 3), &rows.collect::<Vec<_>>());
}
