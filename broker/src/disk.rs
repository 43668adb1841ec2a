//! The disk as recovery sees it: plain blocking calls on the data directory, before the shard's
//! thread exists.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use engine::layout::FilePath;
use engine::port::{Disk, Fault, FileEntry};
use rustix::io::Errno;

use crate::directory::{self, DataDir, fault, io_fault};
use crate::read_ahead::{CHUNK_BYTES, ReadAhead};

/// `port::Disk` over real files. Remembers the file of the last call: recovery reads one file
/// after the other.
#[derive(Debug)]
pub struct FileDisk {
    dir: DataDir,
    last: Option<(FilePath, Arc<OwnedFd>)>,
    /// The file that is walked through, and what lies ahead in it.
    walked: Option<(FilePath, Arc<OwnedFd>)>,
    ahead: ReadAhead,
    bytes_zeroed: u64,
}

impl FileDisk {
    /// The disk below a data directory.
    pub fn new(dir: DataDir) -> FileDisk {
        FileDisk { dir, last: None, walked: None, ahead: ReadAhead::default(), bytes_zeroed: 0 }
    }

    /// Bytes of zeros that `create` has written.
    pub const fn bytes_zeroed(&self) -> u64 {
        self.bytes_zeroed
    }

    fn file(&mut self, path: &FilePath) -> Result<&OwnedFd, Errno> {
        let is_last = self.last.as_ref().is_some_and(|(last, _)| last == path);
        if !is_last {
            self.last = Some((path.clone(), Arc::new(self.dir.open(path)?.fd)));
        }
        self.last.as_ref().map(|(_, fd)| &**fd).ok_or(Errno::BADF)
    }

    /// A part of a long walk through a file. Others may be written in between.
    fn read_on(&mut self, path: &FilePath, at: u64, into: &mut [u8]) -> Result<usize, Errno> {
        if self.walked.as_ref().is_none_or(|(walked, _)| walked != path) {
            self.file(path)?;
            self.ahead.forget();
            self.walked.clone_from(&self.last);
        }
        let (_, fd) = self.walked.as_ref().ok_or(Errno::BADF)?;
        self.ahead.read(fd, into, at)
    }

    /// What was read ahead of a file does not hold any more.
    fn changes(&mut self, path: &FilePath) {
        if self.walked.as_ref().is_some_and(|(walked, _)| walked == path) {
            self.ahead.forget();
            self.walked = None;
        }
    }
}

impl Disk for FileDisk {
    fn settle(&mut self) -> Result<(), Fault> {
        self.dir.settle().map_err(fault)
    }

    fn list(&mut self) -> Result<Vec<FileEntry>, Fault> {
        self.dir.list().map_err(|error| io_fault(&error))
    }

    fn read(&mut self, path: &FilePath, position: u64, into: &mut [u8]) -> Result<usize, Fault> {
        if into.len() >= CHUNK_BYTES {
            return self.read_on(path, position, into).map_err(fault);
        }
        let fd = self.file(path).map_err(fault)?;
        directory::read_all(fd, into, position).map_err(fault)
    }

    fn write(&mut self, path: &FilePath, position: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.changes(path);
        let fd = self.file(path).map_err(fault)?;
        directory::write_all(fd, bytes, position).map_err(fault)?;
        rustix::fs::fdatasync(fd).map_err(fault)
    }

    fn create(&mut self, path: &FilePath, bytes: u64) -> Result<(), Fault> {
        self.changes(path);
        let opened = self.dir.create(path).map_err(fault)?;
        directory::zero(&opened.fd, 0, bytes).map_err(fault)?;
        self.bytes_zeroed += bytes;
        self.last = Some((path.clone(), Arc::new(opened.fd)));
        Ok(())
    }

    fn delete(&mut self, path: &FilePath) -> Result<(), Fault> {
        self.last = None;
        self.changes(path);
        self.dir.delete(std::slice::from_ref(path)).map_err(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::Blocks;

    #[test]
    fn what_is_written_is_read_after_other_files_came_and_went() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let mut disk = FileDisk::new(DataDir::new(root.path().to_path_buf()));
        let (one, two) = (FilePath::Superblock, FilePath::Journal { shard: 0, index: 1 });
        let mut block = Blocks::zeroed(4096);
        assert_eq!(disk.settle(), Ok(()));
        assert_eq!(disk.read(&one, 0, block.bytes_mut()), Err(Fault::ENOENT));
        disk.create(&one, 8192).expect("created");
        disk.create(&two, 4096).expect("created");
        block.bytes_mut().fill(5);
        disk.write(&one, 4096, block.bytes()).expect("written");
        let mut all = Blocks::zeroed(12_288);
        assert_eq!(disk.read(&two, 0, all.bytes_mut()), Ok(4096));
        assert_eq!(disk.read(&one, 0, all.bytes_mut()), Ok(8192));
        assert_eq!((all.bytes()[4095], all.bytes()[8191]), (0, 5));
        disk.delete(&two).expect("deleted");
        let left = disk.list().expect("listed");
        assert_eq!(left, [FileEntry { path: one, bytes: 8192 }]);
        assert_eq!(disk.bytes_zeroed(), 12_288);
    }
}
