//! A journal file that ended by a failure.
//!
//! Frames count in the order of their numbers, so the first one that is not durable makes all
//! behind it void, in whatever file they are. Once nothing is in flight their records leave by
//! their runs, each to its segment, and are read back there. The next file goes on with the
//! number of the first void frame: that tells recovery where the failed one ended. When its turn
//! in the ring comes, and nothing in it is needed, the failed file is deleted, and a new one
//! takes its place, off the acknowledge path. One that failed with its first block still holds
//! its earlier life, and is deleted before the next file, which may be older, is written over.
//!
//! Of what is void some may have been acknowledged as written. It is in the failed file until the
//! next one begins, for whoever starts after a kill; so that waits until all of it is elsewhere.
//!
//! ```text
//!  failed ──► deleted ──► gone ──► created ──► zeroed ──► ready
//! ```

use std::collections::BTreeMap;

use super::super::cursors::Via;
use super::super::journal::FileState;
use super::super::partition::PartitionId;
use super::super::run::{Proof, RunState};
use super::super::store::{Store, StoreTag};
use crate::layout::FilePath;
use crate::port::{Fault, FileSlot, Fill, Level, Notice, Op, OpBatch, Open, Sync, Time};
use crate::units::u32_of;

/// What is being done about a journal file that failed.
#[derive(Debug, Default)]
pub enum Remedy {
    /// Nothing has to be.
    #[default]
    None,
    /// Until nothing is in flight to the journal.
    Quiet,
    /// What was void is being made good, before the next file begins: some of it was acknowledged
    /// as written.
    Held {
        /// Number of the frame that begins the next file.
        first: u64,
        /// Void records: partition, and the offset behind the last of them.
        void: Vec<(PartitionId, u64)>,
    },
    /// What was void is being made good.
    Rewriting {
        /// Number of the frame that begins the next file.
        first: u64,
        /// Void records: partition, and the offset behind the last of them.
        void: Vec<(PartitionId, u64)>,
    },
}

impl Remedy {
    /// Whether nothing has to be done.
    pub const fn is_none(&self) -> bool {
        matches!(self, Remedy::None)
    }

    /// Whether nothing may be submitted to the journal.
    pub const fn is_quiet(&self) -> bool {
        matches!(self, Remedy::Quiet | Remedy::Held { .. })
    }

    /// Forgets a partition that is deleted.
    pub(in super::super) fn forget(&mut self, id: PartitionId) {
        if let Remedy::Rewriting { void, .. } | Remedy::Held { void, .. } = self {
            void.retain(|&(other, _)| other != id);
        }
    }
}

impl Store {
    /// A write to a journal file, or a flush of it, failed.
    pub(in super::super) fn journal_failed(&mut self, place: usize, fault: Fault, what: &str) {
        self.counters.storage_failures += 1;
        if self.failed.is_some() {
            return;
        }
        let what = format!("{}: {what}", self.journal_path(place));
        if fault == Fault::EROFS {
            return self.fail(fault, &what);
        }
        match self.journal.remedy {
            Remedy::Rewriting { .. } | Remedy::Held { .. } => return self.fail(fault, &what),
            Remedy::None => self.journal.remedy = Remedy::Quiet,
            Remedy::Quiet => {}
        }
        if self.journal.files[place].state == FileState::Ready {
            self.journal.files[place].state = FileState::Failed;
            let then = "what it did not take is written to segments and read back";
            self.note_failure(&what, fault, then);
        }
    }

    fn journal_path(&self, place: usize) -> FilePath {
        FilePath::Journal { shard: self.settings.shard, index: u32_of(place) }
    }

    /// Goes on with what failed of the journal.
    pub fn mend_journal(&mut self, now: Time, batch: &mut OpBatch) {
        if self.failed.is_some() {
            return;
        }
        if matches!(self.journal.remedy, Remedy::Quiet) {
            let is_flushing = self.journal.files.iter().any(|file| file.flushing);
            if self.journal.writes_in_flight == 0 && !is_flushing {
                self.void_frames(now);
            }
        }
        self.end_remedy();
        if self.journal.files.iter().any(|file| file.state != FileState::Ready) {
            self.replace_journal_files(batch);
        }
    }

    /// All frames that are not durable are void: what they held goes to its segments.
    fn void_frames(&mut self, now: Time) {
        let journal = &mut self.journal;
        let first = journal.frames.front().map_or(journal.next_lsn, |frame| frame.lsn);
        journal.next_lsn = first;
        let is_acknowledged = std::mem::take(&mut journal.written_front) > 0;
        if journal.beginning.take().is_some() {
            journal.files[journal.active].state = FileState::NotBegun;
        }
        // What the watermarks of void frames said nobody may ever read.
        journal.published_lsn = 0;
        journal.position = journal.file_bytes;
        let mut void = BTreeMap::new();
        for mut frame in std::mem::take(&mut self.journal.frames) {
            for (id, end) in frame.commits.drain(..) {
                let partition = self.partitions.get_mut(id.0).expect("kept by its users");
                partition.users -= 1;
                if partition.is_deleted {
                    continue;
                }
                if end == 0 {
                    self.note_unproven(id);
                } else {
                    // Frames are in order, so the last end is the highest.
                    void.insert(id, end);
                }
            }
            self.journal.free_commits.push(frame.commits);
        }
        let void: Vec<(PartitionId, u64)> = void.into_iter().collect();
        for &(id, _) in &void {
            self.redirect(id, now);
        }
        self.journal.remedy = match is_acknowledged {
            true => Remedy::Held { first, void },
            false => Remedy::Rewriting { first, void },
        };
    }

    /// What a partition has that is not durable leaves by its runs, and is read back.
    fn redirect(&mut self, id: PartitionId, now: Time) {
        self.seal_open(id, Via::Run, now);
        let partition = self.partitions.get_mut(id.0).expect("named by the caller");
        let reached = partition.progress.durable().max(partition.runs_stored);
        let from = partition.runs.partition_point(|run| run.next_offset <= reached);
        for run in partition.runs.range_mut(from..) {
            run.direct = true;
            if run.proof == Proof::None {
                run.proof = Proof::Owed;
            }
            if run.state == RunState::Sealed {
                run.sync = Sync::Durable;
            } else if run.state == RunState::Stored {
                run.state = RunState::Proving;
                self.failures.prove(id, run.base_offset);
            }
        }
        let partition = self.partition_mut(id);
        if !std::mem::replace(&mut partition.is_placing, true) {
            self.placing.push_back(id);
        }
    }

    /// Once all that was void is safe elsewhere the failure is over.
    fn end_remedy(&mut self) {
        let is_safe = |&(id, end): &(PartitionId, u64)| {
            self.partitions.get(id.0).is_none_or(|partition| partition.progress.durable() >= end)
        };
        let first = match &mut self.journal.remedy {
            Remedy::Held { first, void } if void.iter().all(is_safe) => {
                let (first, void) = (*first, std::mem::take(void));
                self.journal.remedy = Remedy::Rewriting { first, void };
                first
            }
            Remedy::Rewriting { first, void } if void.iter().all(is_safe) => *first,
            _ => return,
        };
        if self.journal.durable_lsn < first {
            return;
        }
        self.journal.remedy = Remedy::None;
        let text = "what a journal file that failed did not take is safe in others".to_owned();
        self.notices.push(Notice { level: Level::Info, conn: None, text });
    }

    /// Files that failed are replaced; each in its turn, when it is the oldest: recovery reads the
    /// journal from its oldest file on, and none may be missing in between.
    fn replace_journal_files(&mut self, batch: &mut OpBatch) {
        // A file holds its earlier life until its first block is durable, and is the oldest then.
        let has_begun = self.journal.position > 0 && self.journal.beginning.is_none();
        let next = self.journal.next_place().filter(|_| has_begun);
        for place in 0..self.journal.files.len() {
            let (slot, path) = (self.journal.files[place].slot, self.journal_path(place));
            let is_free = next == Some(place) && self.journal.is_free(place);
            let state = match self.journal.files[place].state {
                FileState::Failed | FileState::NotOpened if !is_free => continue,
                state @ (FileState::Failed | FileState::NotOpened | FileState::NotBegun) => {
                    if state != FileState::NotOpened {
                        batch.ops.push(Op::FileClose { file: slot });
                    }
                    let tag = StoreTag::Journal(u32_of(place)).tag();
                    batch.ops.push(Op::FilesDelete { tag, paths: vec![path] });
                    FileState::Deleting
                }
                FileState::Gone if self.space.may_take() => {
                    batch.ops.push(Op::FileOpen { file: slot, path, open: Open::Create });
                    FileState::Creating
                }
                FileState::Created => {
                    let (from, to) = (0, self.journal.file_bytes);
                    batch.ops.push(Op::FileExtend { file: slot, from, to, fill: Fill::Zero });
                    FileState::Zeroing
                }
                FileState::Ready
                | FileState::Deleting
                | FileState::Gone
                | FileState::Creating
                | FileState::Zeroing => continue,
            };
            self.journal.files[place].state = state;
        }
    }

    /// A journal file that had failed was deleted, or not.
    pub fn journal_deleted(&mut self, place: u32, result: Result<(), Fault>) {
        match result {
            Ok(()) => {
                let place = crate::units::usize_of(place);
                self.journal.files[place].state = FileState::Gone;
            }
            Err(fault) => self.fail(fault, "a journal file that failed could not be deleted"),
        }
    }

    /// A journal file was opened or created, or not.
    pub(in super::super) fn journal_opened(&mut self, slot: FileSlot, result: Result<u64, Fault>) {
        let place = self.journal.files.iter().position(|file| file.slot == slot);
        let place = place.expect("every other file is known");
        let file = &mut self.journal.files[place];
        let is_new = file.state == FileState::Creating;
        match result {
            Ok(_) if is_new => file.state = FileState::Created,
            Ok(_) => self.journal.unopened -= 1,
            Err(Fault::ENOSPC) if is_new => {
                file.state = FileState::Gone;
                self.ran_out();
            }
            Err(fault) if is_new || fault == Fault::EROFS => {
                self.fail(fault, "a journal file could not be opened");
            }
            Err(fault) => {
                file.state = FileState::NotOpened;
                self.journal.unopened -= 1;
                if place == self.journal.active {
                    self.journal.position = self.journal.file_bytes;
                }
                let what = format!("{} could not be opened", self.journal_path(place));
                self.note_failure(&what, fault, "another file takes its place");
            }
        }
    }

    /// Whether it is a journal file; then it was zeroed, or not.
    pub(in super::super) fn journal_extended(
        &mut self,
        slot: FileSlot,
        result: Result<(), Fault>,
    ) -> bool {
        let Some(file) = self.journal.files.iter_mut().find(|file| file.slot == slot) else {
            return false;
        };
        match result {
            Ok(()) => {
                file.state = FileState::Ready;
                self.found_space();
            }
            Err(Fault::ENOSPC) => {
                file.state = FileState::Failed;
                self.ran_out();
            }
            Err(fault) => self.fail(fault, "a journal file could not be zeroed"),
        }
        true
    }
}
