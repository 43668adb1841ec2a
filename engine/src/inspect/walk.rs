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
    /// The journal file that this sequence began; not known before its first frame.
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
        let mut owner = match file.path {
            FilePath::Journal { .. } => Owner::Journal(None),
            FilePath::Segment { sequence, .. } => Owner::Segment(u64::from(sequence)),
            FilePath::Superblock | FilePath::Start { .. } | FilePath::Spare { .. } => {
                return Ok(None);
            }
        };
        let key = self.key();
        let opened = Scanner::open(&mut self.pool, file.path.clone(), key);
        let mut scanner = opened.expect("one window at a time, and the pool holds it");
        let walked = self.pieces(file, &mut scanner, &mut owner, &mut visit);
        scanner.close(&mut self.pool);
        walked.map_err(|fault| InspectError::Read(file.path.clone(), fault))
    }

    fn pieces<B>(
        &mut self,
        file: &FileEntry,
        scanner: &mut Scanner,
        owner: &mut Owner,
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
    owner: &mut Owner,
    path: &FilePath,
    view: &FrameView<'_>,
    broker_id: &[u8; 16],
    position: u64,
) -> bool {
    match *owner {
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
        Owner::Journal(None) => {
            let sequence = view.header.file_sequence.get();
            let is_first =
                position == 0 && view.belongs(FrameKind::Journal, broker_id, sequence, 0);
            if is_first {
                *owner = Owner::Journal(Some(sequence));
            }
            // Where the first frame is bad, the others are of a life that nobody can name.
            is_first
        }
        Owner::Journal(Some(sequence)) => {
            view.belongs(FrameKind::Journal, broker_id, sequence, position)
        }
    }
}
