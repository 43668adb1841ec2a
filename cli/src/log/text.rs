//! Lines for people: one per frame, aligned, with what is in it below.

use engine::catalog::Change;
use engine::frame::{EntryHeader, EntryKind, FrameKind, FrameView, Unreadable};
use engine::inspect::Slot;

use super::line::{Line, codec, hex, time, wall_time, why_words};

/// The line as text.
pub fn text(line: &Line<'_>) -> String {
    match line {
        Line::Slot { number, slot, counts } => {
            let mark = if *counts { "  <- counts" } else { "" };
            self::slot(*number, slot, mark)
        }
        Line::File { file, title } => format!("{}  {} B{title}", file.path, file.bytes),
        Line::Frame { position, view, .. } => frame(*position, view),
        Line::Entry { entry, title, .. } => self::entry(entry, title),
        Line::Change { offset, change, .. } => self::change(*offset, change),
        Line::Batch { batch, fault, .. } => {
            let header = batch.header();
            format!(
                "{:14}  batch {:>10}..{:<10} {:>6} records {:>8} B  {} to {}  {}  {}",
                "",
                batch.base_offset(),
                batch.next_offset(),
                batch.record_count(),
                batch.bytes().len(),
                time(header.base_timestamp.get()),
                time(header.max_timestamp.get()),
                codec(batch),
                fault.unwrap_or("crc ok"),
            )
        }
        Line::Record { record, .. } => {
            let mut text = format!("{:20}{:>12}  {}", "", record.offset, time(record.timestamp_ms));
            for (name, bytes) in [("key", record.key), ("value", record.value)] {
                if let Some(bytes) = bytes {
                    text.push_str(&format!("  {name} {:?}", String::from_utf8_lossy(bytes)));
                }
            }
            for header in record.headers {
                let (key, value) = (header.key, header.value.unwrap_or_default());
                let (key, value) = (String::from_utf8_lossy(key), String::from_utf8_lossy(value));
                text.push_str(&format!("  header {key:?} {value:?}"));
            }
            text
        }
        Line::Unread { why, .. } => format!("{:14}  {why}", ""),
        Line::Gap { from, to, why: Unreadable::Blank, .. } => {
            format!("{from:>14}  blank, {} B to {to}", to - from)
        }
        Line::Gap { from, to, why, .. } => {
            format!("{from:>14}  NO FRAME, {} B to {to}: {}", to - from, why_words(*why))
        }
        Line::Strays { position, frames, .. } => {
            format!("{position:>14}  {frames} frames of the file's earlier life")
        }
    }
}

fn slot(number: usize, slot: &Slot, mark: &str) -> String {
    match slot {
        Slot::Blank => format!("  slot {number}  blank"),
        Slot::Damaged => format!("  slot {number}  NOT WHOLE"),
        Slot::Whole(superblock) => {
            format!(
                "  slot {number}  sequence {:>6}  epoch {:>5}  shards {:>3}  drained lsn {:>12}  \
                 broker {}{mark}",
                superblock.sequence.get(),
                superblock.boot_epoch.get(),
                superblock.shards.get(),
                superblock.drained_lsn.get(),
                hex(&superblock.broker_id),
            )
        }
    }
}

fn frame(position: u64, view: &FrameView<'_>) -> String {
    let header = view.header;
    let common = format!(
        "watermark {:>10}  epoch {:>5} {:>8} B  {}",
        header.watermark.get(),
        header.boot_epoch.get(),
        view.frame_bytes(),
        wall_time(header.wall_ns.get()),
    );
    match view.entries.first() {
        Some(entry) if header.kind == FrameKind::Segment as u8 => format!(
            "{position:>14}  {:>10}..{:<10} {:>6} records  {common}",
            entry.base_offset.get(),
            entry.next_offset(),
            entry.count.get(),
        ),
        _ => format!(
            "{position:>14}  lsn {:>10}  {:>4} entries  {common}",
            header.lsn.get(),
            view.entries.len(),
        ),
    }
}

fn entry(entry: &EntryHeader, title: &str) -> String {
    let kind = EntryKind::from_u16(entry.kind.get()).map_or("unknown kind", EntryKind::name);
    format!(
        "{:14}  {title:<24} {kind:<12} {:>10}..{:<10} {:>6} records {:>8} B",
        "",
        entry.base_offset.get(),
        entry.next_offset(),
        entry.count.get(),
        entry.length.get(),
    )
}

fn change(offset: u64, change: &Change) -> String {
    match change {
        Change::Create { id, name, settings } => format!(
            "{:14}  change {offset:>6}  create {name}  id {}  partitions {}",
            "",
            hex(id),
            settings.partitions.get(),
        ),
        Change::Alter { id, .. } => format!("{:14}  change {offset:>6}  alter id {}", "", hex(id)),
        Change::Delete { id } => format!("{:14}  change {offset:>6}  delete id {}", "", hex(id)),
        Change::CreateQueue { id, entry } => format!(
            "{:14}  change {offset:>6}  create queue {}  id {}  store {}",
            "",
            entry.name,
            hex(id),
            entry.store,
        ),
        Change::DeleteQueue { id } => {
            format!("{:14}  change {offset:>6}  delete queue id {}", "", hex(id))
        }
    }
}
