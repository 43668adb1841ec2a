//! Walks the frames of one file through a window in memory. The window begins small, since of most
//! files only the first frame is looked at, and doubles as long as the walk goes on.

use zerocopy::FromBytes;

use crate::frame::{BLOCK_BYTES, FRAME_MAGIC, FrameHeader, FrameKey, FrameView};
use crate::frame::{SegmentPlace, Unreadable, block_ceil};
use crate::layout::FilePath;
use crate::pool::{BUFFER_BYTES_MAX, BufId, Pool};
use crate::port::{Disk, Fault};
use crate::units::{u64_of, usize_of_u64};

/// Bytes that are read at a place where no walk goes on.
const WINDOW_BYTES_MIN: usize = 4 * BLOCK_BYTES;

const _: () = assert!(WINDOW_BYTES_MIN <= BUFFER_BYTES_MAX);

/// A window over one file. Its buffer is given back by [`Scanner::close`].
#[derive(Debug)]
pub struct Scanner {
    path: FilePath,
    key: FrameKey,
    buf: BufId,
    /// Position of the window's first byte.
    start: u64,
    /// Bytes in the window.
    len: usize,
    /// Bytes that the window was to have.
    asked: usize,
    /// The window reaches the end of the file.
    is_last: bool,
}

impl Scanner {
    /// A scanner over a file. `None` if there is no memory.
    pub fn open(pool: &mut Pool, path: FilePath, key: FrameKey) -> Option<Scanner> {
        let buf = pool.alloc(BUFFER_BYTES_MAX)?;
        Some(Scanner { path, key, buf, start: 0, len: 0, asked: 0, is_last: false })
    }

    /// Gives the window's memory back.
    pub fn close(self, pool: &mut Pool) {
        pool.release(self.buf);
    }

    /// The frame at `position`; the inner error says why there is none.
    pub fn frame<'p>(
        &mut self,
        disk: &mut impl Disk,
        pool: &'p mut Pool,
        position: u64,
    ) -> Result<Result<FrameView<'p>, Unreadable>, Fault> {
        if !self.covers(position, BLOCK_BYTES) {
            self.load(disk, pool, position, BLOCK_BYTES)?;
        }
        let at = usize_of_u64(position - self.start);
        let first = FrameView::read(&pool.bytes(self.buf)[at..self.len], self.key);
        if let Err(Unreadable::Short(needed)) = first
            && !self.is_last
        {
            self.load(disk, pool, position, needed)?;
        }
        let at = usize_of_u64(position - self.start);
        Ok(FrameView::read(&pool.bytes(self.buf)[at..self.len], self.key))
    }

    /// Header and table of the frame of a segment at `position`; the data are not read.
    pub fn head<'p>(
        &mut self,
        disk: &mut impl Disk,
        pool: &'p mut Pool,
        position: u64,
    ) -> Result<Result<FrameView<'p>, Unreadable>, Fault> {
        self.asked = BLOCK_BYTES;
        self.fill(disk, pool, position)?;
        Ok(FrameView::read_head(&pool.bytes(self.buf)[..self.len], self.key))
    }

    /// The frame at a position that was looked at last, if its header and table are whole,
    /// whatever its data are.
    pub fn table<'p>(&self, pool: &'p Pool, position: u64) -> Option<FrameView<'p>> {
        let at = position.checked_sub(self.start).map(usize_of_u64)?;
        let bytes = pool.bytes(self.buf)[..self.len].get(at..)?;
        FrameView::read_table(bytes, self.key).ok().map(|(view, _)| view)
    }

    /// Whether the block at a place, which was looked at last, says that it begins the frame that
    /// belongs there, whole or not.
    pub fn claims(&self, pool: &Pool, place: &SegmentPlace, broker_id: &[u8; 16]) -> bool {
        let Some(at) = place.position.checked_sub(self.start).map(usize_of_u64) else {
            return false;
        };
        let bytes = pool.bytes(self.buf)[..self.len].get(at..).unwrap_or_default();
        let header = FrameHeader::ref_from_prefix(bytes).map(|(header, _)| header);
        header.is_ok_and(|header| {
            header.magic.get() == FRAME_MAGIC
                && header.broker_id == *broker_id
                && header.file_sequence.get() == u64::from(place.sequence)
                && header.position.get() == place.position
        })
    }

    fn covers(&self, position: u64, bytes: usize) -> bool {
        let end = self.start + u64_of(self.len);
        position >= self.start && position + u64_of(bytes) <= end
    }

    /// Moves the window to `position`, for at least so many bytes if the file has them.
    fn load(
        &mut self,
        disk: &mut impl Disk,
        pool: &mut Pool,
        position: u64,
        needed: usize,
    ) -> Result<(), Fault> {
        let end = self.start + u64_of(self.len);
        let goes_on = self.len > 0 && (self.start..=end).contains(&position);
        let wanted = if goes_on { 2 * self.asked } else { WINDOW_BYTES_MIN };
        self.asked = wanted.max(block_ceil(needed)).min(BUFFER_BYTES_MAX);
        self.fill(disk, pool, position)
    }

    fn fill(&mut self, disk: &mut impl Disk, pool: &mut Pool, position: u64) -> Result<(), Fault> {
        let window = &mut pool.bytes_mut(self.buf)[..self.asked];
        self.len = disk.read(&self.path, position, window)?;
        self.start = position;
        self.is_last = self.len < self.asked;
        Ok(())
    }
}
