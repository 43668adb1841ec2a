//! What an entry holds, checked as it was when it arrived.

use wire::batch::{Batch, Batches};

use crate::catalog::Change;
use crate::frame::{EntryHeader, EntryKind, FrameView};

/// How much an entry holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Content {
    /// Record batches.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
}

/// Checks an entry's data beyond its own checksum: every batch as when it came from its producer,
/// offsets without a hole, and as many records as the entry says.
pub fn check_entry(entry: &EntryHeader, data: &[u8]) -> Result<Content, &'static str> {
    match EntryKind::from_u16(entry.kind.get()) {
        Some(EntryKind::RecordBatch) => check_batches(entry, data),
        Some(EntryKind::Catalog) => {
            let changes = changes(data).ok_or("a record of the catalog cannot be read")?;
            let is_whole = u32::try_from(changes.len()) == Ok(entry.count.get());
            if !is_whole {
                return Err("an entry has another number of catalog records than it says");
            }
            Ok(Content::default())
        }
        Some(EntryKind::QueueRecord) => {
            let reason = crate::queue::record::invalid(data, entry.count.get());
            reason.map_or(Ok(Content::default()), Err)
        }
        Some(_) | None => Ok(Content::default()),
    }
}

fn check_batches(entry: &EntryHeader, data: &[u8]) -> Result<Content, &'static str> {
    let mut content = Content::default();
    let mut next = entry.base_offset.get();
    for batch in Batches::new(data) {
        let batch = batch.map_err(|error| error.reason)?;
        if batch.base_offset() != next {
            return Err("a batch has another offset than the one before it leads to");
        }
        Batch::validate(batch.bytes()).map_err(|error| error.reason)?;
        content.batches += 1;
        content.records += u64::from(batch.record_count());
        next = batch.next_offset();
    }
    if next != entry.next_offset() {
        return Err("an entry has another number of records than it says");
    }
    Ok(content)
}

/// The catalog's changes in a frame that can be read, each by its offset.
pub(super) fn changes_of(view: &FrameView<'_>) -> impl Iterator<Item = (u64, Change)> {
    let is_change = |entry: &EntryHeader| entry.kind.get() == EntryKind::Catalog as u16;
    let entries = view.parts().filter(move |(entry, _)| is_change(entry));
    entries.flat_map(|(entry, data)| {
        (entry.base_offset.get()..).zip(changes(data).unwrap_or_default())
    })
}

/// The changes in an entry of the catalog.
fn changes(data: &[u8]) -> Option<Vec<Change>> {
    let mut changes = Vec::new();
    let mut rest = data;
    while !rest.is_empty() {
        let (change, tail) = Change::decode(rest)?;
        changes.push(change);
        rest = tail;
    }
    Some(changes)
}
