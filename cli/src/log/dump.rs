//! `pelton log dump`.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::ops::{ControlFlow, Range};
use std::process::ExitCode;

use clap::Args;
use client::TopicId;
use engine::catalog::Change;
use engine::frame::{EntryHeader, EntryKind, FrameView, Unreadable};
use engine::inspect::{Directory, Piece, Slot, TopicEntry};
use engine::layout::FilePath;
use engine::port::{Disk, FileEntry};
use wire::batch::{Batch, Batches};

use super::line::{At, CATALOG, Line, hex, topic_name};
use super::{DirArgs, json, text};
use crate::failure::Failure;

/// Flags of `log dump`.
#[derive(Debug, Args)]
pub struct DumpArgs {
    #[command(flatten)]
    dir: DirArgs,
    /// Only this topic: its name, or its id in hex (of zeros: the catalog)
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Only this partition
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    /// Only what holds offsets from A up to, not with, B; either may be left out
    #[arg(long, value_name = "A..B", value_parser = offsets)]
    offsets: Option<Range<u64>>,
    /// Only the journals
    #[arg(long)]
    journal: bool,
    /// Only the segments
    #[arg(long)]
    segments: bool,
    /// Print every record of every batch
    #[arg(long)]
    records: bool,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &DumpArgs) -> Result<ExitCode, Failure> {
    let (_lock, mut disk) = args.dir.open()?;
    let failed = |error| super::failure(&args.dir.dir, &error);
    let mut directory = Directory::open(&mut disk).map_err(failed)?;
    let topics = directory.topics().clone();
    let topic = args.topic.as_deref().map(|name| find_topic(&topics, name)).transpose()?;
    let mut dump = Dump { args, topic, topics, out: BufWriter::new(io::stdout().lock()) };
    dump.all(&mut directory)?;
    Ok(ExitCode::SUCCESS)
}

/// What is wanted, and where it goes.
struct Dump<'a, W: Write> {
    args: &'a DumpArgs,
    topic: Option<TopicId>,
    topics: BTreeMap<TopicId, TopicEntry>,
    out: W,
}

type Printed = io::Result<()>;

impl<W: Write> Dump<'_, W> {
    fn all<D: Disk>(&mut self, directory: &mut Directory<'_, D>) -> Result<(), Failure> {
        for file in directory.files().to_vec() {
            if self.wants_file(&file.path) {
                self.file(directory, &file)?;
            }
        }
        self.out.flush().map_err(|error| Failure::output(&error))
    }

    fn file<D: Disk>(
        &mut self,
        directory: &mut Directory<'_, D>,
        file: &FileEntry,
    ) -> Result<(), Failure> {
        let output = |error: io::Error| Failure::output(&error);
        self.title(file).map_err(output)?;
        if file.path == FilePath::Superblock {
            self.superblock(directory).map_err(output)?;
        }
        let mut strays = None;
        let broken = directory.walk(file, |piece| {
            let printed = self.piece(&file.path, piece, &mut strays);
            printed.map_or_else(ControlFlow::Break, ControlFlow::Continue)
        });
        let broken = broken.map_err(|error| super::failure(&self.args.dir.dir, &error))?;
        broken.map_or_else(|| self.strays(&file.path, &mut strays), Err).map_err(output)
    }

    fn wants_file(&self, path: &FilePath) -> bool {
        let all = !self.args.journal && !self.args.segments;
        let is_filtered =
            self.topic.is_some() || self.args.partition.is_some() || self.args.offsets.is_some();
        match path {
            FilePath::Superblock => all && !is_filtered,
            FilePath::Journal { .. } => all || self.args.journal,
            FilePath::Segment { topic, partition, .. } => {
                (all || self.args.segments) && self.wants_stream(topic, *partition)
            }
            FilePath::Start { topic, partition } => {
                all && self.args.offsets.is_none() && self.wants_stream(topic, *partition)
            }
            FilePath::Lost { topic, partition } => {
                all && self.args.offsets.is_none() && self.wants_stream(topic, *partition)
            }
            FilePath::Spare { .. } | FilePath::StartSpare { .. } | FilePath::Aside { .. } => {
                all && !is_filtered
            }
        }
    }

    fn wants_stream(&self, topic: &TopicId, partition: u32) -> bool {
        self.topic.is_none_or(|wanted| wanted == *topic)
            && self.args.partition.is_none_or(|wanted| wanted == partition)
    }

    fn wants_offsets(&self, from: u64, to: u64) -> bool {
        let Some(wanted) = &self.args.offsets else { return true };
        from < wanted.end && to.max(from + 1) > wanted.start
    }

    fn wants_entry(&self, entry: &EntryHeader) -> bool {
        self.wants_stream(&entry.topic, entry.partition.get())
            && self.wants_offsets(entry.base_offset.get(), entry.next_offset())
    }

    fn print(&mut self, line: &Line<'_>) -> Printed {
        if self.args.json {
            writeln!(self.out, "{}", json::json(line))
        } else {
            writeln!(self.out, "{}", text::text(line))
        }
    }

    fn title(&mut self, file: &FileEntry) -> Printed {
        let title = match file.path {
            FilePath::Segment { topic, partition, .. } => {
                format!("  {}/{partition}", topic_name(&self.topics, &topic))
            }
            _ => String::new(),
        };
        self.print(&Line::File { file, title: &title })
    }

    fn superblock<D: Disk>(&mut self, directory: &Directory<'_, D>) -> Printed {
        for (number, slot) in directory.slots().iter().enumerate() {
            let counts = *slot == Slot::Whole(*directory.superblock());
            self.print(&Line::Slot { number, slot, counts })?;
        }
        Ok(())
    }

    fn piece(
        &mut self,
        path: &FilePath,
        piece: &Piece<'_>,
        strays: &mut Option<(u64, u64)>,
    ) -> Printed {
        match piece {
            Piece::Frame(position, view) => {
                self.strays(path, strays)?;
                self.frame(path, *position, view)
            }
            Piece::Spoiled(position, view) => {
                let (from, to) = (*position, *position + u64::from(view.header.frame_bytes.get()));
                let why = Unreadable::Damaged("an entry's checksum does not match");
                self.strays(path, strays)?;
                self.print(&Line::Gap { path, from, to, why })
            }
            Piece::Stray(position, _) => {
                strays.get_or_insert((*position, 0)).1 += 1;
                Ok(())
            }
            Piece::Gap { why: Unreadable::Foreign, .. } if strays.is_some() => Ok(()),
            Piece::Gap { from, to, why } => {
                self.strays(path, strays)?;
                let is_noise = *why == Unreadable::Blank && self.args.offsets.is_some();
                if is_noise {
                    return Ok(());
                }
                self.print(&Line::Gap { path, from: *from, to: *to, why: *why })
            }
        }
    }

    fn strays(&mut self, path: &FilePath, strays: &mut Option<(u64, u64)>) -> Printed {
        match strays.take() {
            Some((position, frames)) => self.print(&Line::Strays { path, position, frames }),
            None => Ok(()),
        }
    }

    fn frame(&mut self, path: &FilePath, position: u64, view: &FrameView<'_>) -> Printed {
        let is_wanted = view.entries.iter().any(|entry| self.wants_entry(entry));
        let is_filtered =
            self.topic.is_some() || self.args.partition.is_some() || self.args.offsets.is_some();
        if is_filtered && !is_wanted {
            return Ok(());
        }
        self.print(&Line::Frame { path, position, view })?;
        let is_journal = matches!(path, FilePath::Journal { .. });
        for (entry, data) in view.parts() {
            if !self.wants_entry(entry) {
                continue;
            }
            let (topic, partition) = (entry.topic, entry.partition.get());
            let at = At { path, position, topic, partition };
            // A segment's frame has one entry, which its own line tells of.
            if is_journal || self.args.json {
                let title = format!("{}/{partition}", topic_name(&self.topics, &topic));
                self.print(&Line::Entry { at, entry, title: &title })?;
            }
            match EntryKind::from_u16(entry.kind.get()) {
                Some(EntryKind::RecordBatch) => self.batches(at, data)?,
                Some(EntryKind::Catalog) => self.changes(at, entry, data)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn batches(&mut self, at: At<'_>, data: &[u8]) -> Printed {
        for batch in Batches::new(data) {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => return self.print(&Line::Unread { at, why: error.reason }),
            };
            if !self.wants_offsets(batch.base_offset(), batch.next_offset()) {
                continue;
            }
            let fault = Batch::validate(batch.bytes()).err().map(|error| error.reason);
            self.print(&Line::Batch { at, batch, fault })?;
            if self.args.records {
                self.records(at, &batch)?;
            }
        }
        Ok(())
    }

    fn records(&mut self, at: At<'_>, batch: &Batch<'_>) -> Printed {
        if batch.is_compressed() {
            let why = "its records are compressed, and are not decoded here";
            return self.print(&Line::Unread { at, why });
        }
        for record in batch.records() {
            match record {
                Ok(record) if self.wants_offsets(record.offset, record.offset + 1) => {
                    self.print(&Line::Record { at, record })?;
                }
                Ok(_) => {}
                Err(why) => return self.print(&Line::Unread { at, why }),
            }
        }
        Ok(())
    }

    fn changes(&mut self, at: At<'_>, entry: &EntryHeader, data: &[u8]) -> Printed {
        let mut rest = data;
        let mut offset = entry.base_offset.get();
        while !rest.is_empty() {
            let Some((change, tail)) = Change::decode(rest) else {
                let why = "a record of the catalog cannot be read";
                return self.print(&Line::Unread { at, why });
            };
            self.print(&Line::Change { at, offset, change: &change })?;
            offset += 1;
            rest = tail;
        }
        Ok(())
    }
}

/// A topic by its name, the one that exists first; else by its id.
fn find_topic(topics: &BTreeMap<TopicId, TopicEntry>, wanted: &str) -> Result<TopicId, Failure> {
    let named = |is_deleted: bool| {
        let matches = |(_, entry): &(&TopicId, &TopicEntry)| {
            entry.name == wanted && entry.is_deleted == is_deleted
        };
        topics.iter().find(matches).map(|(id, _)| *id)
    };
    let by_id = || {
        let id = u128::from_str_radix(wanted, 16).ok()?.to_be_bytes();
        (hex(&id) == wanted && (id == CATALOG || topics.contains_key(&id))).then_some(id)
    };
    named(false).or_else(|| named(true)).or_else(by_id).ok_or_else(|| {
        let live = topics.values().filter(|entry| !entry.is_deleted);
        let names: Vec<&str> = live.map(|entry| entry.name.as_str()).take(TOPICS_SHOWN).collect();
        Failure::Usage(format!(
            "there is no topic {wanted} in this data directory; it has: {}",
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        ))
    })
}

/// How many topics a refusal names at most.
const TOPICS_SHOWN: usize = 20;

/// `A..B`, `A..`, `..B`, or one offset.
fn offsets(text: &str) -> Result<Range<u64>, String> {
    let wrong = || String::from("expected A..B, A.., ..B or one offset, as in 100..200");
    let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
    let range = match text.split_once("..") {
        None => number(text).map(|at| at..at.saturating_add(1))?,
        Some((from, to)) => {
            let from = if from.is_empty() { 0 } else { number(from)? };
            from..if to.is_empty() { u64::MAX } else { number(to)? }
        }
    };
    if range.is_empty() { Err(String::from("A is below B in A..B")) } else { Ok(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_offsets_are_read() {
        assert_eq!(offsets("3..5"), Ok(3..5));
        assert_eq!(offsets("..5"), Ok(0..5));
        assert_eq!(offsets("3.."), Ok(3..u64::MAX));
        assert_eq!(offsets("7"), Ok(7..8));
        for wrong in ["5..3", "3..3", "a..b", "", "-1..2"] {
            assert!(offsets(wrong).is_err(), "{wrong}");
        }
    }
}
