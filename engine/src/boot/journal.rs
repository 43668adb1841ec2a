//! Step 3: where the journals end.

use std::collections::{BTreeMap, BTreeSet};

use wire::TopicId;

use super::scanner::Scanner;
use super::segments::changes;
use super::{Boot, BootError};
use crate::frame::{BLOCK_BYTES, EntryKind, FrameKind, FrameView, Unreadable};
use crate::layout::FilePath;
use crate::log::store::Store;
use crate::port::Disk;
use crate::units::u64_of;

/// What walking the journals found.
#[derive(Debug, Default)]
pub struct Journals {
    /// Files with frames to replay, in order, each with the position behind its last such frame.
    pub live: Vec<(FilePath, u64)>,
    /// Highest log sequence number seen, also of frames that do not count: no later frame may
    /// share it.
    pub highest_lsn: u64,
    /// Highest file sequence seen.
    pub last_sequence: u64,
    /// Files with a torn frame, or that ended by a failure: they are never written again.
    pub torn: BTreeSet<FilePath>,
}

/// A journal file with a whole first frame.
struct Begun {
    path: FilePath,
    bytes: u64,
    sequence: u64,
    /// Number of its first frame.
    first_lsn: u64,
    /// Its frames count below this number. A file that began after a failure goes on with the
    /// number of the first frame that was given up: what bears that number, or a higher one, in
    /// earlier files is void, whole or not.
    void_from: u64,
}

/// One shard's journal while it is walked.
struct Walk {
    expected: Option<u64>,
    /// Offset of the catalog's next record.
    catalog_next: u64,
    /// Highest watermark of frames that do not count.
    later_watermark: u64,
    /// Where the first frame is missing that later ones may prove was durable.
    broken_at: Option<(FilePath, u64)>,
}

impl Walk {
    /// A file has no frame where it should have one.
    fn broken(&mut self, file: &Begun, position: u64, journals: &mut Journals) {
        journals.torn.insert(file.path.clone());
        self.broken_at.get_or_insert((file.path.clone(), position));
    }
}

impl<D: Disk> Boot<'_, D> {
    /// Walks every shard's journal; applies catalog entries that their segments lack.
    pub(super) fn walk_journals(&mut self) -> Result<Journals, BootError> {
        let mut journals = Journals::default();
        let shards: BTreeSet<u16> = self
            .files
            .iter()
            .filter_map(|file| match file.path {
                FilePath::Journal { shard, .. } => Some(shard),
                _ => None,
            })
            .collect();
        for shard in shards {
            self.walk_journal(shard, &mut journals)?;
        }
        Ok(journals)
    }

    fn walk_journal(&mut self, shard: u16, journals: &mut Journals) -> Result<(), BootError> {
        let begun = self.begun_files(shard, journals)?;
        let catalog_next = self.store.partition(self.catalog_id()).progress.appended();
        let mut walk = Walk { expected: None, catalog_next, later_watermark: 0, broken_at: None };
        for file in &begun {
            journals.last_sequence = journals.last_sequence.max(file.sequence);
            self.walk_file(file, &mut walk, journals)?;
        }
        let last = walk.expected.map_or(0, |expected| expected - 1);
        match walk.broken_at {
            Some((path, position)) if walk.later_watermark > last => {
                let what = "a later frame shows that it had been acknowledged";
                Err(BootError::Corrupt(path, position, what))
            }
            broken => {
                self.report.is_journal_torn |= broken.is_some();
                Ok(())
            }
        }
    }

    /// The shard's journal files whose first frame is whole, oldest first.
    fn begun_files(
        &mut self,
        shard: u16,
        journals: &mut Journals,
    ) -> Result<Vec<Begun>, BootError> {
        let files: Vec<_> = self.files.iter().filter(|file| {
            matches!(file.path, FilePath::Journal { shard: other, .. } if other == shard)
        }).cloned().collect();
        let broker_id = self.store.identity.broker_id;
        let mut begun = Vec::new();
        for file in files {
            let path = file.path;
            let mut scanner = self.scanner(&path)?;
            let fault = |fault| BootError::Disk(path.clone(), fault);
            let first = scanner.frame(self.disk, &mut self.pool, 0).map_err(fault)?;
            match first {
                Ok(view) => {
                    let sequence = view.header.file_sequence.get();
                    if view.belongs(FrameKind::Journal, &broker_id, sequence, 0) {
                        let (bytes, void_from) = (file.bytes, u64::MAX);
                        let first_lsn = view.header.lsn.get();
                        begun.push(Begun { path, bytes, sequence, first_lsn, void_from });
                    }
                }
                Err(Unreadable::Newer(_)) => return Err(BootError::Newer(path)),
                Err(bad) => {
                    self.expect_nothing_live(&mut scanner, &path, file.bytes)?;
                    if bad != Unreadable::Blank {
                        journals.torn.insert(path);
                    }
                }
            }
            scanner.close(&mut self.pool);
        }
        begun.sort_by_key(|file| file.sequence);
        let mut lowest = u64::MAX;
        for file in begun.iter_mut().rev() {
            file.void_from = lowest;
            lowest = lowest.min(file.first_lsn);
        }
        Ok(begun)
    }

    /// A file's first block is written alone and its checksum covers less than a sector, so that
    /// no power cut tears it: where it is bad and frames of this start stand behind it, it was
    /// damaged later.
    fn expect_nothing_live(
        &mut self,
        scanner: &mut Scanner,
        path: &FilePath,
        bytes: u64,
    ) -> Result<(), BootError> {
        let drained = self.superblock.drained_lsn.get();
        let broker_id = self.store.identity.broker_id;
        let mut position = u64_of(BLOCK_BYTES);
        while position < bytes {
            let fault = |fault| BootError::Disk(path.clone(), fault);
            let frame = scanner.frame(self.disk, &mut self.pool, position).map_err(fault)?;
            let is_live = frame.is_ok_and(|view| {
                let sequence = view.header.file_sequence.get();
                view.belongs(FrameKind::Journal, &broker_id, sequence, position)
                    && view.header.lsn.get() > drained
            });
            if is_live {
                let what = "its first block is bad, and frames of the last run follow";
                return Err(BootError::Corrupt(path.clone(), 0, what));
            }
            position += u64_of(BLOCK_BYTES);
        }
        Ok(())
    }

    fn walk_file(
        &mut self,
        file: &Begun,
        walk: &mut Walk,
        journals: &mut Journals,
    ) -> Result<(), BootError> {
        let drained = self.superblock.drained_lsn.get();
        let broker_id = self.store.identity.broker_id;
        let mut scanner = self.scanner(&file.path)?;
        let mut position = 0;
        let mut live_end = 0;
        let mut blocked = false;
        let mut found = Vec::new();
        while position < file.bytes {
            let fault = |fault| BootError::Disk(file.path.clone(), fault);
            let frame = scanner.frame(self.disk, &mut self.pool, position).map_err(fault)?;
            let mine = |view: &FrameView<'_>| {
                view.belongs(FrameKind::Journal, &broker_id, file.sequence, position)
            };
            match frame {
                Ok(view) if mine(&view) => {
                    let lsn = view.header.lsn.get();
                    journals.highest_lsn = journals.highest_lsn.max(lsn);
                    note_proven(&mut self.proven, &view);
                    let counts = !blocked && walk.expected.is_none_or(|expected| lsn == expected);
                    if lsn <= drained {
                        // Of an earlier start: its records are in their segments.
                    } else if lsn >= file.void_from {
                        journals.torn.insert(file.path.clone());
                    } else if counts {
                        // Where an earlier file was broken it had ended by a failure.
                        walk.broken_at = None;
                        walk.expected = Some(lsn + 1);
                        live_end = position + u64_of(view.frame_bytes());
                        self.report.journal_frames += 1;
                        found.extend(catalog_entries(&view));
                    } else {
                        blocked = true;
                        walk.broken(file, position, journals);
                        let watermark = view.header.watermark.get();
                        walk.later_watermark = walk.later_watermark.max(watermark);
                    }
                    position += u64_of(view.frame_bytes());
                }
                Ok(_) | Err(Unreadable::Blank | Unreadable::Foreign) => {
                    // The file's earlier life, or nothing: its frames end here, unless the
                    // frame was lost and later ones were not.
                    blocked = true;
                    position += u64_of(BLOCK_BYTES);
                }
                // What only looks newer within the data of the file's earlier life is nothing.
                Err(Unreadable::Newer(_)) if !blocked => {
                    return Err(BootError::Newer(file.path.clone()));
                }
                Err(_) => {
                    if !blocked {
                        walk.broken(file, position, journals);
                    }
                    blocked = true;
                    position += u64_of(BLOCK_BYTES);
                }
            }
        }
        scanner.close(&mut self.pool);
        if live_end > 0 {
            journals.live.push((file.path.clone(), live_end));
        }
        self.apply_entries(found, walk)
    }

    /// Applies the catalog entries that its segments do not have.
    fn apply_entries(
        &mut self,
        found: Vec<(u64, Vec<u8>)>,
        walk: &mut Walk,
    ) -> Result<(), BootError> {
        for (base_offset, data) in found {
            // Below: in a segment already. Above: behind records that were lost, so it was never
            // acknowledged, and the replay leaves it out as well.
            if base_offset != walk.catalog_next {
                continue;
            }
            let path = FilePath::Journal { shard: self.store.settings.shard, index: 0 };
            let what = "a record of the catalog cannot be read";
            let list = changes(&data).ok_or(BootError::Corrupt(path, 0, what))?;
            walk.catalog_next += u64_of(list.len());
            for change in list {
                self.apply(change);
            }
        }
        Ok(())
    }
}

/// What a frame's watermark entries say stays true whatever became of the frames around it.
fn note_proven(proven: &mut BTreeMap<(TopicId, u32), u64>, view: &FrameView<'_>) {
    let marks = view.entries.iter().filter(|entry| entry.kind.get() == EntryKind::Watermark as u16);
    for entry in marks {
        let offset = proven.entry((entry.topic, entry.partition.get())).or_default();
        *offset = entry.base_offset.get().max(*offset);
    }
}

fn catalog_entries(view: &FrameView<'_>) -> Vec<(u64, Vec<u8>)> {
    let mine = view.parts().filter(|(entry, _)| {
        entry.topic == Store::CATALOG_TOPIC && entry.kind.get() == EntryKind::Catalog as u16
    });
    mine.map(|(entry, data)| (entry.base_offset.get(), data.to_vec())).collect()
}
