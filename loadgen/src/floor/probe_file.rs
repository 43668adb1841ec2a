//! A scratch file of written blocks, opened for direct I/O and removed on drop.

use super::ProbeError;
use super::aligned::AlignedBytes;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

const CHUNK_LEN: usize = 1 << 20;
/// `f_type` of file systems that live in memory: tmpfs and ramfs.
const MEMORY_FILE_SYSTEMS: [u64; 2] = [0x0102_1994, 0x8584_58F6];

pub(super) struct ProbeFile {
    path: PathBuf,
    file: File,
    len: u64,
}

impl ProbeFile {
    /// Creates a file of `chunks` MiB in `dir`, zeroed and made durable.
    pub(super) fn create(dir: &Path, name: &str, chunks: u32) -> Result<Self, ProbeError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let statistics = rustix::fs::statfs(dir).map_err(std::io::Error::from)?;
        let kind = u64::try_from(statistics.f_type).unwrap_or_default();
        if MEMORY_FILE_SYSTEMS.contains(&kind) {
            return Err(ProbeError::MemoryFileSystem);
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("pelton-probe-{name}-{}-{number}", std::process::id()));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::DIRECT | OFlags::CLOEXEC;
        let file = match rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::INVAL) => {
                // The kernel may have created the file before it refused the flag.
                let _ = std::fs::remove_file(&path);
                return Err(ProbeError::NoDirectIo);
            }
            Err(error) => return Err(ProbeError::Io(error.into())),
        };
        let created = Self { path, file, len: u64::from(chunks) * CHUNK_LEN as u64 };
        let zeroes = AlignedBytes::new(CHUNK_LEN, 0);
        for chunk in 0..u64::from(chunks) {
            created.file.write_all_at(zeroes.as_slice(), chunk * CHUNK_LEN as u64)?;
        }
        created.file.sync_all()?;
        Ok(created)
    }

    /// Bytes of the file, a multiple of 1 MiB.
    pub(super) fn len(&self) -> u64 {
        self.len
    }
}

impl AsFd for ProbeFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for ProbeFile {
    fn drop(&mut self) {
        // Nothing can be done about a failure here, and the name says whose file it is.
        let _ = std::fs::remove_file(&self.path);
    }
}
