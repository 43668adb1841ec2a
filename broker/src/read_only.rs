//! A data directory that is only looked into: every file is opened for reading, and nothing is
//! ever written.

use std::os::fd::OwnedFd;

use engine::layout::FilePath;
use engine::port::{Disk, Fault, FileEntry};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::directory::{self, DataDir, fault, io_fault};

/// `port::Disk` over real files that refuses to change them. Remembers the file of the last call.
#[derive(Debug)]
pub struct ReadOnlyDisk {
    dir: DataDir,
    last: Option<(FilePath, OwnedFd)>,
}

impl ReadOnlyDisk {
    /// The files below a data directory.
    pub const fn new(dir: DataDir) -> ReadOnlyDisk {
        ReadOnlyDisk { dir, last: None }
    }

    fn file(&mut self, path: &FilePath) -> Result<&OwnedFd, Errno> {
        let is_last = self.last.as_ref().is_some_and(|(last, _)| last == path);
        if !is_last {
            let place = self.dir.locate(path);
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            // The page cache stays as it is, where the file system can: a copy may lie anywhere.
            let opened = match rustix::fs::open(&place, flags | OFlags::DIRECT, Mode::empty()) {
                Err(Errno::INVAL) => rustix::fs::open(&place, flags, Mode::empty()),
                opened => opened,
            };
            self.last = Some((path.clone(), opened?));
        }
        self.last.as_ref().map(|(_, fd)| fd).ok_or(Errno::BADF)
    }
}

/// The fault of every change.
const READ_ONLY: Fault = Fault(Errno::ROFS.raw_os_error());

impl Disk for ReadOnlyDisk {
    fn settle(&mut self) -> Result<(), Fault> {
        Err(READ_ONLY)
    }

    fn list(&mut self) -> Result<Vec<FileEntry>, Fault> {
        self.dir.list().map_err(|error| io_fault(&error))
    }

    fn read(&mut self, path: &FilePath, position: u64, into: &mut [u8]) -> Result<usize, Fault> {
        let fd = self.file(path).map_err(fault)?;
        directory::read_all(fd, into, position).map_err(fault)
    }

    fn write(&mut self, _path: &FilePath, _position: u64, _bytes: &[u8]) -> Result<(), Fault> {
        Err(READ_ONLY)
    }

    fn create(&mut self, _path: &FilePath, _bytes: u64) -> Result<(), Fault> {
        Err(READ_ONLY)
    }

    fn delete(&mut self, _path: &FilePath) -> Result<(), Fault> {
        Err(READ_ONLY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::Blocks;

    #[test]
    fn it_reads_also_a_file_that_was_cut_and_changes_nothing() {
        let root = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(root.path().join("superblock"), [7; 5000]).expect("written");
        let mut disk = ReadOnlyDisk::new(DataDir::new(root.path().to_path_buf()));
        let path = FilePath::Superblock;
        assert_eq!(disk.list().expect("listed"), [FileEntry { path: path.clone(), bytes: 5000 }]);
        let mut blocks = Blocks::zeroed(8192);
        assert_eq!(disk.read(&path, 0, blocks.bytes_mut()), Ok(5000));
        assert_eq!((blocks.bytes()[4999], blocks.bytes()[5000]), (7, 0));
        assert_eq!(disk.write(&path, 0, blocks.bytes()), Err(READ_ONLY));
        assert_eq!(disk.create(&path, 0), Err(READ_ONLY));
        assert_eq!(disk.delete(&path), Err(READ_ONLY));
        assert_eq!(std::fs::read(root.path().join("superblock")).expect("read"), [7; 5000]);
    }
}
