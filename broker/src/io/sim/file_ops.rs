//! File ops of the simulated backend: each takes its time, in no particular order.

use engine::layout::FilePath;
use engine::pool::{FillBuf, Slice};
use engine::port::{Done, Fault, FileRange, FileSlot, Fill, Op, Open, Tag};

use super::disk::{Access, EINVAL, Inode, Mutation, aligned};
use super::{Event, SimIo, Weather};

/// A file op on its way. Those that change the disk carry their number there.
#[derive(Debug)]
pub(super) enum FileOp {
    Write {
        tag: Tag,
        number: u64,
        slice: Slice,
    },
    Read {
        tag: Tag,
        inode: Inode,
        buf: FillBuf,
        position: usize,
        len: usize,
    },
    Flush {
        tag: Tag,
        number: u64,
    },
    Open {
        file: FileSlot,
        path: FilePath,
        number: u64,
    },
    Extend {
        file: FileSlot,
        to: u64,
        fill: Fill,
        number: u64,
    },
    Delete {
        tag: Tag,
        number: u64,
    },
    Space,
    /// It never got to the disk.
    Refused(Done),
}

impl SimIo {
    pub(super) fn submit_file(&mut self, op: Op) {
        let (ns, op) = match op {
            Op::Write { file, tag, slice, position, sync, .. } => {
                let bytes = self.slice_bytes(slice);
                self.trace.bytes(&bytes);
                self.assert_not_sent(file);
                match self.writable_place(file, position, bytes.len()) {
                    Ok((inode, position)) => {
                        let write = Mutation::Write { inode, position, bytes, sync };
                        let number = self.disk.get().begin(write);
                        (200_000, FileOp::Write { tag, number, slice })
                    }
                    Err(fault) => (10_000, refused(Done::Wrote { tag, result: Err(fault) })),
                }
            }
            Op::Read { file, tag, buf, position, len } => {
                let len = usize::try_from(len).expect("u32 fits usize");
                match self.place(file, position, len) {
                    Ok((inode, position)) => {
                        (100_000, FileOp::Read { tag, inode, buf, position, len })
                    }
                    Err(fault) => (10_000, refused(Done::Read { tag, buf, result: Err(fault) })),
                }
            }
            Op::Flush { file, tag } => {
                let (inode, upto) = (self.inode(file), self.disk.get().effects());
                let number = self.disk.get().begin(Mutation::Flush { inode, upto });
                (300_000, FileOp::Flush { tag, number })
            }
            Op::FileOpen { file, path, open } => {
                assert!(!self.slots.contains_key(&file), "{file:?} is open already");
                if open == Open::Buffered {
                    self.buffered.insert(file);
                }
                let number = self.disk.get().begin(Mutation::Open { path: path.clone(), open });
                (500_000, FileOp::Open { file, path, number })
            }
            Op::FileExtend { file, from, to, fill } => self.submit_extend(file, from, to, fill),
            Op::FileClose { file } => {
                assert!(self.slots.remove(&file).is_some(), "{file:?} is not open");
                self.buffered.remove(&file);
                self.read_only.remove(&file);
                return;
            }
            Op::SpaceAsk => (100_000, FileOp::Space),
            Op::FilesDelete { tag, paths } => {
                let number = self.disk.get().begin(Mutation::Delete { paths });
                (500_000, FileOp::Delete { tag, number })
            }
            other => unreachable!("not a file op: {other:?}"),
        };
        // Now and then a device takes its time.
        let Weather { slow_one_in, stall_one_in, stall_ns, endless_one_in, .. } = self.weather;
        let is_write = matches!(op, FileOp::Write { .. });
        if is_write && endless_one_in > 0 && self.rng.one_in(endless_one_in) {
            return;
        }
        let mut ns = if self.rng.one_in(slow_one_in) { ns * 20 } else { ns };
        if stall_one_in > 0 && self.rng.one_in(stall_one_in) {
            ns += stall_ns;
        }
        let held_ns = self.files_held_until.since(self.clock);
        self.schedule(ns + 2 * held_ns, Event::File(op));
    }

    fn submit_extend(&mut self, file: FileSlot, from: u64, to: u64, fill: Fill) -> (u64, FileOp) {
        let refused = |fault| {
            let done = Done::FileExtended { file, to, fill, result: Err(fault) };
            (10_000, FileOp::Refused(done))
        };
        let inode = match self.writable_place(file, from, 0) {
            Ok((inode, _)) => inode,
            Err(fault) => return refused(fault),
        };
        match (usize::try_from(from), usize::try_from(to)) {
            (Ok(start), Ok(end)) if start <= end && end.is_multiple_of(super::SECTOR_BYTES) => {
                let extend = Mutation::Extend { inode, from: start, to: end, fill };
                let number = self.disk.get().begin(extend);
                (1_000_000, FileOp::Extend { file, to, fill, number })
            }
            _ => refused(EINVAL),
        }
    }

    /// The open file behind a number, and the position if it is aligned.
    fn place(&self, file: FileSlot, position: u64, len: usize) -> Result<(Inode, usize), Fault> {
        Ok((self.inode(file), aligned(position, len)?))
    }

    /// The same, for those who change it.
    fn writable_place(
        &self,
        file: FileSlot,
        position: u64,
        len: usize,
    ) -> Result<(Inode, usize), Fault> {
        if self.read_only.contains(&file) {
            return Err(Fault::EROFS);
        }
        self.place(file, position, len)
    }

    fn inode(&self, file: FileSlot) -> Inode {
        *self.slots.get(&file).unwrap_or_else(|| panic!("{file:?} is not open"))
    }

    /// The file that is sent under this number.
    pub(super) fn buffered_inode(&self, file: FileSlot) -> Inode {
        assert!(self.buffered.contains(&file), "{file:?} was not opened to be sent");
        let inode = self.inode(file);
        assert!(!self.disk.get().is_written(inode), "{file:?} is sent while it is written to");
        inode
    }

    /// Direct writes and pages that a socket holds do not go together.
    fn assert_not_sent(&self, file: FileSlot) {
        let inode = self.inode(file);
        let mut sent = self.buffered.iter().filter_map(|slot| self.slots.get(slot));
        assert!(sent.all(|&other| other != inode), "{file:?} is written to while it may be sent");
    }

    /// The bytes of the ranges, as many as `room`, up to the end of the file.
    pub(super) fn file_bytes(
        &mut self,
        inode: Inode,
        ranges: &[FileRange],
        room: usize,
    ) -> Result<Vec<u8>, Fault> {
        let mut bytes: Vec<u8> = Vec::new();
        for range in ranges {
            let len = usize::try_from(range.len).expect("u32 fits usize");
            let len = len.min(room - bytes.len().min(room));
            if len == 0 {
                break;
            }
            let position = usize::try_from(range.position).map_err(|_| EINVAL)?;
            match self.disk.get().read_at(inode, position, len) {
                Ok(found) if found.len() == len => bytes.extend(found),
                Ok(found) => {
                    bytes.extend(found);
                    break;
                }
                Err(_) if !bytes.is_empty() => break,
                Err(fault) => return Err(fault),
            }
        }
        if bytes.is_empty() { Err(Fault::EIO) } else { Ok(bytes) }
    }

    pub(super) fn file_op_ended(&mut self, op: FileOp, dones: &mut Vec<Done>) {
        let done = match op {
            FileOp::Write { tag, number, slice } => {
                let disk = self.disk.get();
                let is_same = self.arena.look_at(slice, |bytes| disk.is_writing(number, bytes));
                drop(disk);
                assert!(is_same, "{slice:?} was changed while {tag:?} wrote it");
                let written = |bytes| u32::try_from(bytes).expect("no longer than the slice");
                Done::Wrote { tag, result: self.disk.get().complete(number).map(written) }
            }
            FileOp::Read { tag, inode, mut buf, position, len } => {
                let result = self.read_into(&mut buf, inode, position, len);
                Done::Read { tag, buf, result }
            }
            FileOp::Flush { tag, number } => {
                Done::Flushed { tag, result: self.disk.get().complete(number).map(drop) }
            }
            FileOp::Open { file, path, number } => {
                let (access, result) = self.disk.get().complete_open(number);
                if access == Access::Reads {
                    self.read_only.insert(file);
                }
                if result.is_ok() {
                    let inode = self.disk.get().inode(&path).expect("it was just opened");
                    self.slots.insert(file, inode);
                } else {
                    self.buffered.remove(&file);
                    self.read_only.remove(&file);
                }
                Done::FileOpened { file, result }
            }
            FileOp::Extend { file, to, fill, number } => {
                let result = self.disk.get().complete(number).map(drop);
                Done::FileExtended { file, to, fill, result }
            }
            FileOp::Delete { tag, number } => {
                Done::FilesDeleted { tag, result: self.disk.get().complete(number).map(drop) }
            }
            FileOp::Space => Done::SpaceTold { free: Ok(self.disk.get().free_bytes()) },
            FileOp::Refused(done) => done,
        };
        dones.push(done);
    }

    /// Fills a buffer from a file; gives how many bytes came. The trace has no need of them: they
    /// follow from what was written.
    fn read_into(
        &self,
        buf: &mut FillBuf,
        inode: Inode,
        position: usize,
        len: usize,
    ) -> Result<u32, Fault> {
        let mut disk = self.disk.get();
        let (inode, position) = disk.source(inode, position);
        let found = disk.read_at(inode, position, len).map(|bytes| {
            self.arena.copy_in(buf, 0, bytes);
            bytes.len()
        });
        let count = found.unwrap_or(0);
        if let Some((byte, mask)) = disk.flipped_bit(count) {
            let wrong = disk.file(inode).bytes()[position + byte] ^ mask;
            self.arena.copy_in(buf, u32::try_from(byte).expect("inside the buffer"), &[wrong]);
        }
        drop(disk);
        let at = u32::try_from(count).expect("no longer than the buffer");
        self.poison(buf, at, len - count);
        found.map(|_| at)
    }

    pub(super) fn slice_bytes(&self, slice: Slice) -> Vec<u8> {
        self.arena.look_at(slice, <[u8]>::to_vec)
    }

    pub(super) fn slices_bytes(&self, slices: &[Slice]) -> Vec<u8> {
        let len = |slice: &Slice| usize::try_from(slice.len).expect("u32 fits usize");
        let mut bytes = Vec::with_capacity(slices.iter().map(len).sum());
        for &slice in slices {
            self.arena.look_at(slice, |part| bytes.extend_from_slice(part));
        }
        bytes
    }

    /// Whether the slices still hold these bytes.
    pub(super) fn holds(&self, slices: &[Slice], bytes: &[u8]) -> bool {
        let mut rest = bytes;
        slices.iter().all(|&slice| {
            let len = usize::try_from(slice.len).expect("u32 fits usize");
            let (part, tail) = rest.split_at(len);
            rest = tail;
            self.arena.look_at(slice, |bytes| bytes == part)
        })
    }

    /// What a buffer held before it was given away is nobody's business any more.
    pub(super) fn poison(&self, buf: &mut FillBuf, at: u32, len: usize) {
        let (mut at, mut left) = (at, len);
        while left > 0 {
            let count = left.min(POISON.len());
            self.arena.copy_in(buf, at, &POISON[..count]);
            at += u32::try_from(count).expect("short");
            left -= count;
        }
    }
}

/// What is in a buffer before it is filled.
pub(super) const POISON: [u8; 4096] = [0xa5; 4096];

const fn refused(done: Done) -> FileOp {
    FileOp::Refused(done)
}
