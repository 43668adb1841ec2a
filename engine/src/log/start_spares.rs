//! Files that wait to become start files: written with zeros while there is space, so that on a
//! full device a partition's start can still be moved, and the segments before it go.
//!
//! A spare is written whole before it gets its name, so what it held before does not matter.

use super::start_file::START_FILE_BYTES;
use super::store::{Store, StoreTag};
use crate::layout::FilePath;
use crate::port::{Fault, FileSlot, Fill, Op, OpBatch, Open};
use crate::settings::{START_SPARES, Settings};
use crate::units::u64_of;

/// What a shard has of them.
#[derive(Debug)]
pub struct StartSpares {
    ready: Vec<u32>,
    making: Option<Making>,
    /// There was no space for another one when it was last tried.
    is_refused: bool,
    /// A number that no file has; the next one of this shard is `step` higher.
    next_number: u32,
    step: u32,
}

/// One that is being made.
#[derive(Debug)]
struct Making {
    number: u32,
    file: FileSlot,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    Opened(Result<(), Fault>),
    Zeroing,
    Zeroed(Result<(), Fault>),
}

impl Default for StartSpares {
    fn default() -> StartSpares {
        StartSpares::of_shard(&[], &Settings::tiny())
    }
}

impl StartSpares {
    /// A shard's share of those that recovery found.
    pub fn of_shard(found: &[u32], settings: &Settings) -> StartSpares {
        let (shard, step) = (u32::from(settings.shard), u32::from(settings.shards));
        let ready = found.iter().copied().filter(|number| number % step == shard).collect();
        let above = found.iter().max().map_or(0, |last| (last / step + 1) * step);
        StartSpares { ready, making: None, is_refused: false, next_number: above + shard, step }
    }

    /// Whether none is being made.
    pub const fn is_idle(&self) -> bool {
        self.making.is_none()
    }

    /// The next one, if more than so many are there.
    pub(super) fn first(&self, kept: usize) -> Option<u32> {
        self.ready.last().copied().filter(|_| self.ready.len() > kept)
    }

    /// It is taken.
    pub(super) fn take(&mut self) {
        self.ready.pop();
    }

    /// There may be space for more.
    pub(super) const fn retry(&mut self) {
        self.is_refused = false;
    }
}

impl Store {
    /// Whether it is a spare that is being made; then it was opened, or not.
    pub(super) fn start_spare_opened(
        &mut self,
        file: FileSlot,
        result: Result<u64, Fault>,
    ) -> bool {
        let making = self.starts.spares.making.as_mut().filter(|making| making.file == file);
        let Some(making) = making else { return false };
        making.phase = Phase::Opened(result.map(drop));
        true
    }

    /// Whether it is a spare that is being made; then it was zeroed, or not.
    pub(super) fn start_spare_zeroed(&mut self, file: FileSlot, result: Result<(), Fault>) -> bool {
        let making = self.starts.spares.making.as_mut().filter(|making| making.file == file);
        let Some(making) = making else { return false };
        making.phase = Phase::Zeroed(result);
        true
    }

    /// Makes spares until there are enough, one after the other.
    pub(super) fn keep_start_spares(&mut self, batch: &mut OpBatch) {
        let spares = &mut self.starts.spares;
        let Some(making) = &mut spares.making else { return self.begin_start_spare(batch) };
        let (file, number) = (making.file, making.number);
        match making.phase {
            Phase::Opening | Phase::Zeroing => {}
            Phase::Opened(Ok(())) => {
                making.phase = Phase::Zeroing;
                let to = u64_of(START_FILE_BYTES);
                batch.ops.push(Op::FileExtend { file, from: 0, to, fill: Fill::Zero });
            }
            Phase::Zeroed(Ok(())) => {
                spares.making = None;
                spares.ready.push(number);
                batch.ops.push(Op::FileClose { file });
                self.files.give(file);
            }
            Phase::Opened(Err(_)) | Phase::Zeroed(Err(_)) => {
                if matches!(making.phase, Phase::Zeroed(_)) {
                    batch.ops.push(Op::FileClose { file });
                }
                spares.making = None;
                spares.is_refused = true;
                self.files.give(file);
                self.drop_start_spare(batch, number);
            }
        }
    }

    fn begin_start_spare(&mut self, batch: &mut OpBatch) {
        let spares = &self.starts.spares;
        let is_enough = spares.ready.len() >= START_SPARES;
        if is_enough || spares.is_refused || self.failed.is_some() {
            return;
        }
        // Nothing is closed for it: whoever needs numbers goes first.
        let Some(file) = self.files.take() else { return };
        let spares = &mut self.starts.spares;
        let number = spares.next_number;
        spares.next_number += spares.step;
        spares.making = Some(Making { number, file, phase: Phase::Opening });
        let path = FilePath::StartSpare { number };
        batch.ops.push(Op::FileOpen { file, path, open: Open::Create });
    }

    /// A spare could not be made or used: its number is not taken again.
    pub(super) fn drop_start_spare(&mut self, batch: &mut OpBatch, number: u32) {
        let paths = vec![FilePath::StartSpare { number }];
        batch.ops.push(Op::FilesDelete { tag: StoreTag::Delete.tag(), paths });
    }
}
