//! Lines for programs: one JSON object each, which says by itself where it comes from.

use engine::catalog::Change;
use engine::frame::{EntryHeader, EntryKind, FrameKind, FrameView};
use engine::inspect::Slot;
use serde_json::{Map, Value, json};

use super::line::{At, Line, codec, hex, why_words};

/// The line as JSON.
pub fn json(line: &Line<'_>) -> Value {
    match line {
        Line::Slot { number, slot, counts } => match slot {
            Slot::Whole(superblock) => json!({
                "type": "slot", "slot": number, "state": "whole", "counts": counts,
                "sequence": superblock.sequence.get(),
                "boot_epoch": superblock.boot_epoch.get(),
                "shards": superblock.shards.get(),
                "drained_lsn": superblock.drained_lsn.get(),
                "broker_id": hex(&superblock.broker_id),
            }),
            Slot::Blank => json!({ "type": "slot", "slot": number, "state": "blank" }),
            Slot::Damaged => json!({ "type": "slot", "slot": number, "state": "damaged" }),
        },
        Line::File { file, .. } => {
            json!({ "type": "file", "file": file.path.to_string(), "bytes": file.bytes })
        }
        Line::Frame { path, position, view } => frame(&path.to_string(), *position, view),
        Line::Entry { at, entry, .. } => self::entry(at, entry),
        Line::Change { at, offset, change } => self::change(at, *offset, change),
        Line::Batch { at, batch, fault } => {
            let header = batch.header();
            with(
                at,
                "batch",
                json!({
                    "base_offset": batch.base_offset(),
                    "next_offset": batch.next_offset(),
                    "records": batch.record_count(),
                    "bytes": batch.bytes().len(),
                    "base_timestamp_ms": header.base_timestamp.get(),
                    "max_timestamp_ms": header.max_timestamp.get(),
                    "leader_epoch": header.leader_epoch.get(),
                    "compression": codec(batch),
                    "fault": fault,
                }),
            )
        }
        Line::Record { at, record } => {
            let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let headers: Vec<Value> = record
                .headers
                .map(|header| json!([lossy(header.key), header.value.map(lossy)]))
                .collect();
            with(
                at,
                "record",
                json!({
                    "offset": record.offset,
                    "timestamp_ms": record.timestamp_ms,
                    "key": record.key.map(lossy),
                    "value": record.value.map(lossy),
                    "value_bytes": record.value.map(<[u8]>::len),
                    "headers": headers,
                }),
            )
        }
        Line::Unread { at, why } => with(at, "unread", json!({ "why": why })),
        Line::Gap { path, from, to, why } => json!({
            "type": "gap", "file": path.to_string(), "from": from, "to": to,
            "why": why_words(*why),
        }),
        Line::Strays { path, position, frames } => json!({
            "type": "strays", "file": path.to_string(), "position": position, "frames": frames,
        }),
    }
}

/// The fields, behind those that say where they come from.
fn with(at: &At<'_>, kind: &str, fields: Value) -> Value {
    let mut line = Map::new();
    line.insert("type".to_owned(), kind.into());
    line.insert("file".to_owned(), at.path.to_string().into());
    line.insert("position".to_owned(), at.position.into());
    line.insert("topic_id".to_owned(), hex(&at.topic).into());
    line.insert("partition".to_owned(), at.partition.into());
    if let Value::Object(fields) = fields {
        line.extend(fields);
    }
    Value::Object(line)
}

fn frame(file: &str, position: u64, view: &FrameView<'_>) -> Value {
    let header = view.header;
    let kind = if header.kind == FrameKind::Segment as u8 { "segment" } else { "journal" };
    json!({
        "type": "frame", "kind": kind, "file": file, "position": position,
        "bytes": view.frame_bytes(),
        "lsn": header.lsn.get(),
        "watermark": header.watermark.get(),
        "boot_epoch": header.boot_epoch.get(),
        "file_sequence": header.file_sequence.get(),
        "wall_ns": header.wall_ns.get(),
        "entries": view.entries.len(),
    })
}

fn entry(at: &At<'_>, entry: &EntryHeader) -> Value {
    let number = entry.kind.get();
    let kind = EntryKind::from_u16(number).map_or("unknown", EntryKind::name);
    with(
        at,
        "entry",
        json!({
            "kind": kind,
            "base_offset": entry.base_offset.get(),
            "next_offset": entry.next_offset(),
            "records": entry.count.get(),
            "bytes": entry.length.get(),
        }),
    )
}

fn change(at: &At<'_>, offset: u64, change: &Change) -> Value {
    match change {
        Change::Create { id, name, settings } => with(
            at,
            "change",
            json!({
                "offset": offset, "change": "create", "name": name, "id": hex(id),
                "partitions": settings.partitions.get(),
            }),
        ),
        Change::Alter { id, settings } => with(
            at,
            "change",
            json!({
                "offset": offset, "change": "alter", "id": hex(id),
                "retention_ms": settings.retention_ms.get(),
                "retention_bytes": settings.retention_bytes.get(),
            }),
        ),
        Change::Delete { id } => {
            with(at, "change", json!({ "offset": offset, "change": "delete", "id": hex(id) }))
        }
        Change::CreateQueue { id, entry } => with(
            at,
            "change",
            json!({
                "offset": offset, "change": "create_queue", "name": entry.name, "id": hex(id),
                "store": entry.store,
            }),
        ),
        Change::DeleteQueue { id } => {
            let change = "delete_queue";
            with(at, "change", json!({ "offset": offset, "change": change, "id": hex(id) }))
        }
    }
}
