//! Walks the frames of one file through a window in memory.

use zerocopy::FromBytes;

use crate::frame::{BLOCK_BYTES, FRAME_MAGIC, FrameHeader, FrameKey, FrameView};
use crate::frame::{SegmentPlace, Unreadable};
use crate::layout::FilePath;
use crate::pool::{BUFFER_BYTES_MAX, BufId, Pool};
use crate::port::{Disk, Fault};
use crate::units::{u64_of, usize_of_u64};

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
    /// The window reaches the end of the file.
    is_last: bool,
}

impl Scanner {
    /// A scanner over a file. `None` if there is no memory.
    pub fn open(pool: &mut Pool, path: FilePath, key: FrameKey) -> Option<Scanner> {
        let buf = pool.alloc(BUFFER_BYTES_MAX)?;
        Some(Scanner { path, key, buf, start: 0, len: 0, is_last: false })
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
            self.load(disk, pool, position)?;
        }
        let at = usize_of_u64(position - self.start);
        let first = FrameView::read(&pool.bytes(self.buf)[at..self.len], self.key);
        let is_cut = matches!(first, Err(Unreadable::Short(_)));
        if is_cut && at > 0 && !self.is_last {
            self.load(disk, pool, position)?;
        }
        let at = usize_of_u64(position - self.start);
        Ok(FrameView::read(&pool.bytes(self.buf)[at..self.len], self.key))
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

    fn load(&mut self, disk: &mut impl Disk, pool: &mut Pool, position: u64) -> Result<(), Fault> {
        self.len = disk.read(&self.path, position, pool.bytes_mut(self.buf))?;
        self.start = position;
        self.is_last = self.len < BUFFER_BYTES_MAX;
        Ok(())
    }
}
