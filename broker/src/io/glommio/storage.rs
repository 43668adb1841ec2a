//! The files: each open twice, and a task for each operation on them.
//!
//! glommio has no durable write, so durability comes from the descriptor: writes that promise it
//! go through one that was opened with `O_DSYNC`, all else through one that was not. A file's
//! bytes pass through buffers of glommio's own, aligned and registered by it: one copy each way.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use engine::pool::{FillBuf, Slice};
use engine::port::{Done, Fault, FileSlot, Sync, Tag};
use glommio::GlommioError;
use glommio::io::{DmaFile, OpenOptions};

use super::world::World;
use crate::device::Scratch;
use crate::directory::{self, Opened, fault_of, io_fault};

/// What the scratch file holds.
const BLOCK: u64 = 4096;

/// An open file.
#[derive(Debug)]
pub struct File {
    /// For reads, flushes, and writes that promise nothing.
    plain: DmaFile,
    /// For durable writes.
    durable: DmaFile,
    /// For the maintenance thread, which is also the last to let go of the file.
    descriptor: Arc<OwnedFd>,
}

/// The open files by number.
#[derive(Debug)]
pub struct Storage {
    files: Vec<Option<Rc<File>>>,
    capacity: usize,
}

/// An operation on a file, on its way to the executor.
#[derive(Debug)]
pub enum FileOp {
    /// Writes a slice.
    Write { tag: Tag, slice: Slice, position: u64, sync: Sync },
    /// Reads into a buffer's first bytes.
    Read { tag: Tag, buf: FillBuf, position: u64, len: u32 },
    /// Makes completed writes durable.
    Flush { tag: Tag },
}

impl FileOp {
    /// Bytes of the buffer that it needs.
    pub fn bytes(&self) -> usize {
        usize::try_from(match self {
            FileOp::Write { slice, .. } => slice.len,
            FileOp::Read { len, .. } => *len,
            FileOp::Flush { .. } => 0,
        })
        .expect("u32 fits usize")
    }
}

impl Storage {
    /// A table for at most `capacity` files.
    pub const fn new(capacity: usize) -> Storage {
        Storage { files: Vec::new(), capacity }
    }

    /// The file with this number.
    pub fn get(&self, number: FileSlot) -> Rc<File> {
        let entry = self.files.get(usize::try_from(number.0).expect("u32 fits usize"));
        Rc::clone(entry.and_then(Option::as_ref).expect("an op names an open file"))
    }

    /// Gives a file its number.
    pub fn install(&mut self, number: FileSlot, file: File) {
        let index = usize::try_from(number.0).expect("u32 fits usize");
        assert!(index < self.capacity, "file numbers are below files_max");
        if index >= self.files.len() {
            self.files.resize_with(index + 1, || None);
        }
        let previous = self.files[index].replace(Rc::new(file));
        assert!(previous.is_none(), "the number was free");
    }

    /// Takes the file with this number away.
    pub fn remove(&mut self, number: FileSlot) -> Rc<File> {
        let entry = self.files.get_mut(usize::try_from(number.0).expect("u32 fits usize"));
        entry.and_then(Option::take).expect("an op names an open file")
    }

    /// Takes all of them away.
    pub fn remove_all(&mut self) -> Vec<Rc<File>> {
        self.files.drain(..).flatten().collect()
    }
}

impl File {
    /// Opens what the maintenance thread opened, for glommio.
    pub async fn open(opened: Opened) -> Result<File, Fault> {
        let plain = open(&opened.fd, 0).await?;
        let durable = open(&opened.fd, libc::O_DSYNC).await?;
        // Acknowledgements will rest on this flag, so it is not taken on trust.
        if flags(&durable).map_err(|error| io_fault(&error))? & libc::O_DSYNC == 0 {
            return Err(Fault(libc::EOPNOTSUPP));
        }
        Ok(File { plain, durable, descriptor: Arc::new(opened.fd) })
    }

    /// The descriptor, for the maintenance thread.
    pub fn descriptor(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.descriptor)
    }

    /// Closes glommio's descriptors; what is left is for the maintenance thread to close, which
    /// may have to free the blocks of a deleted file.
    pub async fn close(self) -> Arc<OwnedFd> {
        for file in [self.plain, self.durable] {
            // A failure to close loses nothing: what was promised was written before.
            let _ = file.close().await;
        }
        self.descriptor
    }

    /// Does one operation to its end.
    pub async fn perform(&self, world: &World, op: FileOp) -> Done {
        match op {
            FileOp::Write { tag, slice, position, sync } => {
                let result = self.write(world, slice, position, sync).await;
                Done::Wrote { tag, result }
            }
            FileOp::Read { tag, mut buf, position, len } => {
                let result = self.read(world, &mut buf, position, len).await;
                Done::Read { tag, buf, result }
            }
            FileOp::Flush { tag } => {
                let result = self.plain.fdatasync().await.map_err(|error| fault(&error));
                Done::Flushed { tag, result }
            }
        }
    }

    async fn write(
        &self,
        world: &World,
        slice: Slice,
        position: u64,
        sync: Sync,
    ) -> Result<u32, Fault> {
        let file = match sync {
            Sync::Written => &self.plain,
            Sync::Durable => &self.durable,
        };
        let len = usize::try_from(slice.len).expect("u32 fits usize");
        assert!(len > 0, "a write has bytes");
        let mut buffer = file.alloc_dma_buffer(len);
        world.copy_out(slice, buffer.as_bytes_mut());
        let count = file.write_at(buffer, position).await.map_err(|error| fault(&error))?;
        Ok(u32::try_from(count).expect("at most as many as asked"))
    }

    async fn read(
        &self,
        world: &World,
        buf: &mut FillBuf,
        position: u64,
        len: u32,
    ) -> Result<u32, Fault> {
        assert!(len > 0 && len <= buf.slice().len, "inside the buffer");
        let len = usize::try_from(len).expect("u32 fits usize");
        let read = self.plain.read_at_aligned(position, len).await;
        let bytes = read.map_err(|error| fault(&error))?;
        world.arena().copy_in(buf, 0, &bytes);
        world.count_copied(bytes.len());
        Ok(u32::try_from(bytes.len()).expect("at most as many as asked"))
    }
}

/// Makes glommio find out whether the device of this directory can be polled. Left alone it would
/// find that out by reading the first file that is opened; from an empty one that read succeeds
/// on any device, and all others would fail from then on.
pub async fn acquaint(directory: &Path) -> Result<(), Fault> {
    let scratch = Scratch::create(directory).map_err(directory::fault)?;
    directory::zero(&scratch.fd, 0, BLOCK).map_err(directory::fault)?;
    let file = open(&scratch.fd, 0).await?;
    file.close().await.map_err(|error| fault(&error))
}

/// Opens the file behind a descriptor once more. glommio opens by name only, and the name may
/// have changed by now, so the name is that of the descriptor.
async fn open(descriptor: &OwnedFd, flags: i32) -> Result<DmaFile, Fault> {
    let name = proc("fd", descriptor.as_raw_fd());
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(flags);
    match options.dma_open(&name).await.map_err(|error| fault(&error)) {
        Err(Fault::EROFS) => options.write(false).dma_open(name).await,
        opened => return opened,
    }
    .map_err(|error| fault(&error))
}

/// The flags that a file was opened with.
fn flags(file: &DmaFile) -> io::Result<i32> {
    let text = std::fs::read_to_string(proc("fdinfo", file.as_raw_fd()))?;
    let octal = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = octal.and_then(|octal| i32::from_str_radix(octal.trim(), 8).ok());
    flags.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

fn proc(what: &str, descriptor: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{}/{what}/{descriptor}", std::process::id()))
}

fn fault(error: &GlommioError<()>) -> Fault {
    match error {
        GlommioError::IoError(error) | GlommioError::EnhancedIoError { source: error, .. } => {
            error.raw_os_error().map_or(Fault::EIO, fault_of)
        }
        _ => Fault::EIO,
    }
}
