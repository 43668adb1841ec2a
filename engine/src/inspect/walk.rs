//! One file, piece by piece.

use std::ops::ControlFlow;

use super::{Directory, InspectError};
use crate::boot::scanner::Scanner;
use crate::frame::{BLOCK_BYTES, FrameKind, FrameView, Unreadable};
use crate::layout::FilePath;
use crate::port::{Disk, Fault, FileEntry};
use crate::units::u64_of;

/// A stretch of a file.
#[derive(Debug, Clone, Copy)]
pub enum Piece<'a> {
    /// A whole frame where it belongs, with its position.
    Frame(u64, FrameView<'a>),
    /// A frame where it belongs, with its position: header and table are whole, and the data of
    /// some entry is not.
    Spoiled(u64, FrameView<'a>),
    /// A whole frame of the file's earlier life, or of another place, with its position.
    Stray(u64, FrameView<'a>),
    /// No frame is here.
    Gap {
        /// First byte.
        from: u64,
        /// Byte behind the last.
        to: u64,
        /// Why its first block is no frame.
        why: Unreadable,
    },
}

/// What the frames of a file must say to belong there.
#[derive(Debug, Clone, Copy)]
enum Owner {
    /// The journal file that this sequence began; not known if it has no whole frame.
    Journal(Option<u64>),
    /// The segment with this sequence.
    Segment(u64),
}

impl<D: Disk> Directory<'_, D> {
    /// Walks a journal file or a segment from its front to its end, or until `visit` breaks off
    /// with what is given back. Other files have no pieces.
    pub fn walk<B>(
        &mut self,
        file: &FileEntry,
        mut visit: impl FnMut(&Piece<'_>) -> ControlFlow<B>,
    ) -> Result<Option<B>, InspectError> {
        let owner = match file.path {
            FilePath::Journal { .. } => Owner::Journal(self.begun_as(file)?),
            FilePath::Segment { sequence, .. } => Owner::Segment(u64::from(sequence)),
            FilePath::Superblock
            | FilePath::Start { .. }
            | FilePath::Lost { .. }
            | FilePath::Aside { .. }
            | FilePath::StartSpare { .. }
            | FilePath::Spare { .. } => {
                return Ok(None);
            }
        };
        let key = self.key();
        let opened = Scanner::open(&mut self.pool, file.path.clone(), key);
        let mut scanner = opened.expect("one window at a time, and the pool holds it");
        let walked = self.pieces(file, &mut scanner, owner, &mut visit);
        scanner.close(&mut self.pool);
        walked.map_err(|fault| InspectError::Read(file.path.clone(), fault))
    }

    /// The sequence of a journal file: its first frame's, or, if that is bad, of the newest life
    /// that follows it.
    pub(super) fn begun_as(&mut self, file: &FileEntry) -> Result<Option<u64>, InspectError> {
        if let Some(known) = self.begun.get(&file.path) {
            return Ok(*known);
        }
        let broker_id = self.superblock.broker_id;
        let key = self.key();
        let opened = Scanner::open(&mut self.pool, file.path.clone(), key);
        let mut scanner = opened.expect("one window at a time, and the pool holds it");
        let mut newest = None;
        let mut position = 0;
        while position < file.bytes {
            let frame = scanner.frame(self.disk, &mut self.pool, position);
            let found = frame.map_err(|fault| InspectError::Read(file.path.clone(), fault))?;
            let own = found.ok().map(|view| (view.header.file_sequence.get(), view));
            let own = own.filter(|(sequence, view)| {
                view.belongs(FrameKind::Journal, &broker_id, *sequence, position)
            });
            newest = newest.max(own.map(|(sequence, _)| sequence));
            if position == 0 && newest.is_some() {
                break;
            }
            position += u64_of(BLOCK_BYTES);
        }
        scanner.close(&mut self.pool);
        self.begun.insert(file.path.clone(), newest);
        Ok(newest)
    }

    fn pieces<B>(
        &mut self,
        file: &FileEntry,
        scanner: &mut Scanner,
        owner: Owner,
        visit: &mut impl FnMut(&Piece<'_>) -> ControlFlow<B>,
    ) -> Result<Option<B>, Fault> {
        let broker_id = self.superblock.broker_id;
        let mut gap: Option<(u64, Unreadable)> = None;
        let mut position = 0;
        while position < file.bytes {
            match scanner.frame(self.disk, &mut self.pool, position)? {
                Ok(view) => {
                    if let Some((from, why)) = gap.take() {
                        let piece = Piece::Gap { from, to: position, why };
                        if let ControlFlow::Break(value) = visit(&piece) {
                            return Ok(Some(value));
                        }
                    }
                    let bytes = u64_of(view.frame_bytes());
                    let piece = match belongs(owner, &file.path, &view, &broker_id, position) {
                        true => Piece::Frame(position, view),
                        false => Piece::Stray(position, view),
                    };
                    if let ControlFlow::Break(value) = visit(&piece) {
                        return Ok(Some(value));
                    }
                    position += bytes;
                }
                Err(why) => {
                    let spoiled = scanner.table(&self.pool, position).filter(|view| {
                        matches!(why, Unreadable::Damaged(_))
                            && belongs(owner, &file.path, view, &broker_id, position)
                    });
                    if let Some(view) = spoiled {
                        let before =
                            gap.take().map(|(from, why)| Piece::Gap { from, to: position, why });
                        for piece in before.into_iter().chain([Piece::Spoiled(position, view)]) {
                            if let ControlFlow::Break(value) = visit(&piece) {
                                return Ok(Some(value));
                            }
                        }
                        position += u64_of(view.frame_bytes());
                        continue;
                    }
                    let blank = |why: &Unreadable| *why == Unreadable::Blank;
                    let ends = gap.filter(|(_, before)| blank(before) != blank(&why));
                    if let Some((from, before)) = ends {
                        let piece = Piece::Gap { from, to: position, why: before };
                        if let ControlFlow::Break(value) = visit(&piece) {
                            return Ok(Some(value));
                        }
                        gap = None;
                    }
                    gap.get_or_insert((position, why));
                    position += u64_of(BLOCK_BYTES);
                }
            }
        }
        let last = gap.map(|(from, why)| Piece::Gap { from, to: file.bytes, why });
        Ok(last.and_then(|piece| visit(&piece).break_value()))
    }
}

fn belongs(
    owner: Owner,
    path: &FilePath,
    view: &FrameView<'_>,
    broker_id: &[u8; 16],
    position: u64,
) -> bool {
    match owner {
        Owner::Segment(sequence) => {
            let entry = view.entries.first();
            let is_streams = entry.is_some_and(|entry| match path {
                FilePath::Segment { topic, partition, .. } => {
                    entry.topic == *topic && entry.partition.get() == *partition
                }
                _ => false,
            });
            is_streams && view.belongs(FrameKind::Segment, broker_id, sequence, position)
        }
        Owner::Journal(None) => false,
        Owner::Journal(Some(sequence)) => {
            view.belongs(FrameKind::Journal, broker_id, sequence, position)
        }
    }
}
