//! What `pelton log dump` prints, before it has a form.

use std::collections::BTreeMap;

use client::TopicId;
use engine::catalog::Change;
use engine::frame::{EntryHeader, FrameView, Unreadable};
use engine::inspect::{Slot, TopicEntry};
use engine::layout::FilePath;
use engine::port::FileEntry;
use jiff::Timestamp;
use wire::batch::{Batch, Record};

/// One line.
#[derive(Debug)]
pub enum Line<'a> {
    /// A slot of the superblock, and whether it is the one that counts.
    Slot { number: usize, slot: &'a Slot, counts: bool },
    /// A file begins.
    File { file: &'a FileEntry, title: &'a str },
    /// A whole frame.
    Frame { path: &'a FilePath, position: u64, view: &'a FrameView<'a> },
    /// One of its entries.
    Entry { at: At<'a>, entry: &'a EntryHeader, title: &'a str },
    /// A change of the catalog.
    Change { at: At<'a>, offset: u64, change: &'a Change },
    /// A batch of an entry, and what is wrong with it.
    Batch { at: At<'a>, batch: Batch<'a>, fault: Option<&'static str> },
    /// A record of a batch.
    Record { at: At<'a>, record: Record<'a> },
    /// Data that cannot be read further.
    Unread { at: At<'a>, why: &'static str },
    /// No frame is here.
    Gap { path: &'a FilePath, from: u64, to: u64, why: Unreadable },
    /// Frames of the file's earlier life, from this position on.
    Strays { path: &'a FilePath, position: u64, frames: u64 },
}

/// Where an entry and what is in it come from.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    /// The file.
    pub path: &'a FilePath,
    /// Position of the frame.
    pub position: u64,
    /// Topic of the entry.
    pub topic: TopicId,
    /// Its partition.
    pub partition: u32,
}

/// What to call a topic.
pub fn topic_name(topics: &BTreeMap<TopicId, TopicEntry>, topic: &TopicId) -> String {
    if *topic == CATALOG {
        return "(catalog)".to_owned();
    }
    match topics.get(topic) {
        Some(entry) if entry.is_deleted => format!("{} (deleted)", entry.name),
        Some(entry) => entry.name.clone(),
        None => hex(topic),
    }
}

/// The catalog's stream.
pub const CATALOG: TopicId = [0; 16];

/// An id as paths spell it.
pub fn hex(id: &[u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(*id))
}

/// Why there is no frame, in words.
pub const fn why_words(why: Unreadable) -> &'static str {
    match why {
        Unreadable::Blank => "blank",
        Unreadable::Foreign => "not a frame",
        Unreadable::Damaged(what) | Unreadable::Newer(what) => what,
        Unreadable::Short(_) => "the frame is longer than the file",
    }
}

/// What a batch's attributes call its compression.
pub fn codec(batch: &Batch<'_>) -> &'static str {
    match batch.header().attributes.get() & wire::batch::ATTRIBUTES_CODEC_MASK {
        0 => "none",
        1 => "gzip",
        2 => "snappy",
        3 => "lz4",
        4 => "zstd",
        _ => "unknown",
    }
}

/// RFC 3339 in UTC; the plain number where that cannot say it.
pub fn time(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| format!("{time:.3}"))
}

/// The wall clock of a frame.
pub fn wall_time(ns: u64) -> String {
    time(i64::try_from(ns / 1_000_000).unwrap_or(i64::MAX))
}
