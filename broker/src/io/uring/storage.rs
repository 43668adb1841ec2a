//! The files: their places in the ring's file table, and the writes, reads and flushes open on
//! them.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use engine::pool::{FillBuf, Slice};
use engine::port::{Done, Extent, Fault, FileSlot, Sync, Tag};
use io_uring::types::{Fixed, FsyncFlags};
use io_uring::{Submitter, opcode, squeue};

use super::arena::Memory;
use super::conns::Completion;
use super::setup::SyncMethod;
use super::token::{Kind, Token};
use crate::directory::fault_of;

#[derive(Debug)]
enum Pending {
    Write {
        tag: Tag,
    },
    /// It is to be durable, but is not yet when it is written: its file is flushed then.
    WriteThenFlush {
        tag: Tag,
        file: FileSlot,
        len: u32,
    },
    /// It is written, so many bytes, and being flushed.
    Written {
        tag: Tag,
        len: u32,
    },
    Read {
        tag: Tag,
        buf: FillBuf,
    },
    Flush {
        tag: Tag,
    },
}

/// The open files and what is under way on them.
#[derive(Debug)]
pub struct Storage {
    /// Place of file 0 in the ring's file table.
    base: u32,
    capacity: usize,
    sync: SyncMethod,
    files: Vec<Option<Arc<OwnedFd>>>,
    pending: Vec<Option<Pending>>,
    free: Vec<u32>,
}

/// A write as the engine asked for it.
#[derive(Debug, Clone, Copy)]
pub struct Write {
    /// File.
    pub file: FileSlot,
    /// The op's name.
    pub tag: Tag,
    /// What.
    pub slice: Slice,
    /// Where.
    pub position: u64,
    /// What its completion promises.
    pub sync: Sync,
    /// What lies there now.
    pub extent: Extent,
}

impl Storage {
    /// A table for at most `capacity` files at `base` of the ring's file table.
    pub const fn new(base: u32, capacity: usize, sync: SyncMethod) -> Storage {
        Storage { base, capacity, sync, files: Vec::new(), pending: Vec::new(), free: Vec::new() }
    }

    /// Writes.
    pub fn write(&mut self, memory: &Memory, write: Write) -> squeue::Entry {
        let fd = self.fixed(write.file);
        let Write { file, tag, slice, .. } = write;
        let (flags, pending) = match (write.sync, self.sync) {
            (Sync::Written, _) => (0, Pending::Write { tag }),
            (Sync::Durable, SyncMethod::Dsync) => (libc::RWF_DSYNC, Pending::Write { tag }),
            (Sync::Durable, SyncMethod::Fsync) => {
                (0, Pending::WriteThenFlush { tag, file, len: slice.len })
            }
        };
        let token = self.track(pending);
        let span = memory.span(slice);
        let entry = match span.buffer {
            Some(buffer) => opcode::WriteFixed::new(fd, span.address, span.len, buffer)
                .offset(write.position)
                .rw_flags(flags)
                .build(),
            None => opcode::Write::new(fd, span.address, span.len)
                .offset(write.position)
                .rw_flags(flags)
                .build(),
        };
        let entry = match write.extent {
            Extent::Written => entry,
            Extent::Fresh => entry.flags(squeue::Flags::ASYNC),
        };
        entry.user_data(token)
    }

    /// Reads into the first `len` bytes of a buffer.
    pub fn read(
        &mut self,
        memory: &Memory,
        file: FileSlot,
        tag: Tag,
        buf: FillBuf,
        position: u64,
        len: u32,
    ) -> squeue::Entry {
        let whole = buf.slice();
        assert!(len <= whole.len, "inside the buffer");
        let span = memory.span(Slice { offset: whole.offset, len });
        let fd = self.fixed(file);
        let token = self.track(Pending::Read { tag, buf });
        let entry = match span.buffer {
            Some(buffer) => {
                opcode::ReadFixed::new(fd, span.address, span.len, buffer).offset(position).build()
            }
            None => opcode::Read::new(fd, span.address, span.len).offset(position).build(),
        };
        entry.user_data(token)
    }

    /// Makes completed writes durable.
    pub fn flush(&mut self, file: FileSlot, tag: Tag) -> squeue::Entry {
        self.flush_for(file, Pending::Flush { tag })
    }

    fn flush_for(&mut self, file: FileSlot, pending: Pending) -> squeue::Entry {
        let fd = self.fixed(file);
        let token = self.track(pending);
        opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build().user_data(token)
    }

    /// One of these completed. May give an entry to submit.
    pub fn completed(
        &mut self,
        completion: Completion,
        dones: &mut Vec<Done>,
    ) -> Option<squeue::Entry> {
        let index = completion.token.index;
        let pending = self.pending[usize::try_from(index).expect("u32 fits usize")].take();
        self.free.push(index);
        let result = completion.count().map_err(|Fault(errno)| fault_of(errno));
        dones.push(match pending.expect("each completes once") {
            Pending::Write { tag } => Done::Wrote { tag, result },
            Pending::Read { tag, buf } => Done::Read { tag, buf, result },
            Pending::Flush { tag } => Done::Flushed { tag, result: result.map(drop) },
            Pending::WriteThenFlush { tag, file, len } if result == Ok(len) => {
                return Some(self.flush_for(file, Pending::Written { tag, len }));
            }
            // Short, or failed: that is final.
            Pending::WriteThenFlush { tag, .. } => Done::Wrote { tag, result },
            Pending::Written { tag, len } => Done::Wrote { tag, result: result.map(|_| len) },
        });
        None
    }

    /// Puts an opened file into the ring's file table.
    pub fn install(
        &mut self,
        submitter: &Submitter<'_>,
        file: FileSlot,
        fd: OwnedFd,
    ) -> io::Result<()> {
        let index = usize::try_from(file.0).expect("u32 fits usize");
        assert!(index < self.capacity, "file numbers are below files_max");
        submitter.register_files_update(self.base + file.0, &[fd.as_raw_fd()])?;
        if index >= self.files.len() {
            self.files.resize_with(index + 1, || None);
        }
        let previous = self.files[index].replace(Arc::new(fd));
        assert!(previous.is_none(), "the number was free");
        Ok(())
    }

    /// Takes a file out of the ring's file table. Whoever drops the descriptor that is returned
    /// may have to free the blocks of a deleted file.
    pub fn remove(
        &mut self,
        submitter: &Submitter<'_>,
        file: FileSlot,
    ) -> io::Result<Arc<OwnedFd>> {
        let index = usize::try_from(file.0).expect("u32 fits usize");
        let fd = self.files[index].take().expect("the file is open");
        submitter.register_files_update(self.base + file.0, &[-1])?;
        Ok(fd)
    }

    /// The descriptor, for the maintenance thread.
    pub fn descriptor(&self, file: FileSlot) -> Arc<OwnedFd> {
        let index = usize::try_from(file.0).expect("u32 fits usize");
        Arc::clone(self.files[index].as_ref().expect("the file is open"))
    }

    fn fixed(&self, file: FileSlot) -> Fixed {
        let index = usize::try_from(file.0).expect("u32 fits usize");
        assert!(self.files.get(index).is_some_and(Option::is_some), "an op names an open file");
        Fixed(self.base + file.0)
    }

    fn track(&mut self, pending: Pending) -> u64 {
        let index = match self.free.pop() {
            Some(index) => {
                self.pending[usize::try_from(index).expect("u32 fits usize")] = Some(pending);
                index
            }
            None => {
                self.pending.push(Some(pending));
                u32::try_from(self.pending.len() - 1).expect("few operations are open at once")
            }
        };
        Token { kind: Kind::Storage, generation: 0, index }.user_data()
    }
}
