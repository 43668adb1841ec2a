//! The data directory: how its files are opened, created, adopted and deleted so that the result
//! survives a power cut. Plain blocking calls, for recovery and for the maintenance thread.
//! Files are opened for direct I/O, so that their bytes never enter the page cache; except those
//! that nothing writes to any more and that are sent out of it.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;

use engine::layout::FilePath;
use engine::port::{Fault, FileEntry};
use rustix::fs::{Advice, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::blocks::{Blocks, HUGE_PAGE_BYTES};

/// What one zeroing write covers.
const ZERO_BYTES: usize = HUGE_PAGE_BYTES;
/// `rw-r--r--`
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);

/// The directory that holds everything that must last. Its clones are one directory: shards share
/// those of topics.
#[derive(Debug, Clone)]
pub struct DataDir {
    root: PathBuf,
    /// Held shared from making a file's directories until the file is in them, alone by those who
    /// remove empty ones.
    pruning: Arc<RwLock<()>>,
}

/// An open file and its length in bytes.
#[derive(Debug)]
pub struct Opened {
    /// The file.
    pub fd: OwnedFd,
    /// Its length.
    pub bytes: u64,
}

/// Directories with entries that are not durable yet. Many changes that are made durable together
/// cost one journal commit of the file system, not one each.
#[derive(Debug, Default)]
pub struct Unsynced {
    directories: BTreeSet<PathBuf>,
}

impl Unsynced {
    /// Makes the entries durable, and these files. Gives what became of the first, and of each of
    /// the second.
    pub fn sync(&self, files: &[BorrowedFd<'_>]) -> (Result<(), Errno>, Vec<Result<(), Errno>>) {
        let directories = self.directories.iter().map(|path| Target::Directory(path));
        let targets: Vec<_> =
            directories.chain(files.iter().map(|&file| Target::File(file))).collect();
        let mut results = sync_together(&targets);
        let files = results.split_off(self.directories.len());
        (results.into_iter().collect(), files)
    }
}

#[derive(Debug, Clone, Copy)]
enum Target<'a> {
    Directory(&'a Path),
    File(BorrowedFd<'a>),
}

impl Target<'_> {
    fn sync(&self) -> Result<(), Errno> {
        match self {
            // One that was left empty and removed since has no entry left to lose.
            Target::Directory(path) => match sync_directory(path) {
                Err(Errno::NOENT) => Ok(()),
                synced => synced,
            },
            Target::File(file) => rustix::fs::fsync(file),
        }
    }
}

/// Syncs in flight at once. File systems serve those that come together by one journal commit and
/// one flush of the device, where one after the other each would wait for its own.
const SYNCS_AT_ONCE_MAX: usize = 16;

fn sync_together(targets: &[Target<'_>]) -> Vec<Result<(), Errno>> {
    let sync = |share: &[Target<'_>]| share.iter().map(Target::sync).collect::<Vec<_>>();
    if targets.len() <= 1 {
        return sync(targets);
    }
    thread::scope(|scope| {
        let shares = targets.chunks(targets.len().div_ceil(SYNCS_AT_ONCE_MAX));
        let begin =
            |share| (share, thread::Builder::new().spawn_scoped(scope, move || sync(share)));
        let threads: Vec<_> = shares.map(begin).collect();
        let results = threads.into_iter().map(|(share, thread)| match thread {
            Ok(thread) => thread.join().expect("a sync ends"),
            // The machine has no thread left: nothing fails for that.
            Err(_) => sync(share),
        });
        results.flatten().collect()
    })
}

/// The fault of a failed system call.
pub fn fault(errno: Errno) -> Fault {
    fault_of(errno.raw_os_error())
}

/// The fault of a failed call of the standard library.
pub fn io_fault(error: &std::io::Error) -> Fault {
    error.raw_os_error().map_or(Fault::EIO, Fault)
}

/// The fault behind an error's number of what was done to a file. Files are open as long as they
/// are used: one that does not take writes was opened for reading alone, since its file system was
/// read-only.
pub const fn fault_of(errno: i32) -> Fault {
    match Fault(errno) {
        EBADF => Fault::EROFS,
        fault => fault,
    }
}

const EBADF: Fault = Fault(Errno::BADF.raw_os_error());

impl DataDir {
    /// The directory at `root`, which exists.
    pub fn new(root: PathBuf) -> DataDir {
        DataDir { root, pruning: Arc::default() }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the file is.
    pub fn locate(&self, path: &FilePath) -> PathBuf {
        self.root.join(path.to_string())
    }

    /// Opens a file that exists; for reading alone where the file system is read-only.
    pub fn open(&self, path: &FilePath) -> Result<Opened, Errno> {
        let place = self.locate(path);
        match open_at(&place, OFlags::RDWR) {
            Err(Errno::ROFS) => open_at(&place, OFlags::RDONLY),
            opened => opened,
        }
    }

    /// Opens a file that exists to be sent: its bytes come from the page cache.
    pub fn open_buffered(&self, path: &FilePath) -> Result<Opened, Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(self.locate(path), flags, Mode::empty())?;
        // Advice only: without it the kernel reads ahead less.
        let _ = rustix::fs::fadvise(&fd, 0, None, Advice::Sequential);
        let stat = rustix::fs::fstat(&fd)?;
        let bytes = u64::try_from(stat.st_size).map_err(|_| Errno::OVERFLOW)?;
        Ok(Opened { fd, bytes })
    }

    /// Creates a file with its directories, or empties it; durable when this returns.
    pub fn create(&self, path: &FilePath) -> Result<Opened, Errno> {
        let mut unsynced = Unsynced::default();
        let opened = self.begin_create(path, &mut unsynced)?;
        let (directories, files) = unsynced.sync(&[opened.fd.as_fd()]);
        directories.and(files[0])?;
        Ok(opened)
    }

    /// The same; durable when the file and `unsynced` are.
    pub fn begin_create(&self, path: &FilePath, unsynced: &mut Unsynced) -> Result<Opened, Errno> {
        let place = self.locate(path);
        self.in_parent(&place, unsynced, || {
            open_at(&place, OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC)
        })
    }

    /// Renames `from` to `path`, making its directories; durable when `unsynced` is.
    pub fn begin_adopt(
        &self,
        from: &FilePath,
        path: &FilePath,
        unsynced: &mut Unsynced,
    ) -> Result<Opened, Errno> {
        let (source, place) = (self.locate(from), self.locate(path));
        self.in_parent(&place, unsynced, || rustix::fs::rename(&source, &place))?;
        unsynced.directories.extend(source.parent().map(Path::to_path_buf));
        open_at(&place, OFlags::RDWR)
    }

    /// Deletes the files that exist among `paths`, and directories of streams that this leaves
    /// empty; durable when this returns.
    pub fn delete(&self, paths: &[FilePath]) -> Result<(), Errno> {
        let mut parents = BTreeSet::new();
        for path in paths {
            let place = self.locate(path);
            match rustix::fs::unlink(&place) {
                // One that was renamed meanwhile may have left an empty directory too.
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => return Err(errno),
            }
            parents.extend(place.parent().map(Path::to_path_buf));
        }
        for parent in parents {
            match sync_directory(&parent) {
                Ok(()) => self.remove_if_empty(&parent),
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Makes everything below it durable, in the device too: one call, however many files there
    /// are.
    ///
    /// # Errors
    /// The errno of the first call that failed.
    pub fn settle(&self) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::syncfs(rustix::fs::open(&self.root, flags, Mode::empty())?)
    }

    /// Bytes that files here may still take: none if there is no number left for a new one.
    ///
    /// # Errors
    /// The errno of the call that failed.
    pub fn free_bytes(&self) -> Result<u64, Errno> {
        let stat = rustix::fs::statvfs(&self.root)?;
        // Some file systems have no fixed number of files.
        let is_out_of_numbers = stat.f_files > 0 && stat.f_favail == 0;
        Ok(if is_out_of_numbers { 0 } else { stat.f_bavail.saturating_mul(stat.f_frsize) })
    }

    /// Every file that a [`FilePath`] can name.
    pub fn list(&self) -> std::io::Result<Vec<FileEntry>> {
        let mut found = Vec::new();
        let mut open = vec![self.root.clone()];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(&directory)? {
                let entry = entry?;
                let place = entry.path();
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    open.push(place);
                } else if kind.is_file()
                    && let Some(path) = self.name(&place)
                {
                    found.push(FileEntry { path, bytes: entry.metadata()?.len() });
                }
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    fn name(&self, place: &Path) -> Option<FilePath> {
        FilePath::parse(place.strip_prefix(&self.root).ok()?.to_str()?)
    }

    /// Does something in the directory of `place`, and makes that before.
    fn in_parent<T>(
        &self,
        place: &Path,
        unsynced: &mut Unsynced,
        change: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        // Another shard, whose partition of the same topic has lost its last file, would remove
        // the topic's directory before it has an entry.
        let _kept = self.pruning.read().unwrap_or_else(PoisonError::into_inner);
        self.make_parent(place, unsynced)?;
        change()
    }

    /// Makes the directories above `place`, which is about to get an entry in the last of them.
    fn make_parent(&self, place: &Path, unsynced: &mut Unsynced) -> Result<(), Errno> {
        let parent = place.parent().expect("a file of the data directory is in a directory");
        let inside = parent.strip_prefix(&self.root).expect("it is under the root");
        let mut directory = self.root.clone();
        for part in inside {
            let above = directory.clone();
            directory.push(part);
            match rustix::fs::mkdir(&directory, Mode::from_raw_mode(0o755)) {
                Ok(()) => {
                    unsynced.directories.insert(above);
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        unsynced.directories.insert(directory);
        Ok(())
    }

    /// A partition's and a topic's directory go with their last file. That they are gone need
    /// not be durable: an empty directory means nothing.
    fn remove_if_empty(&self, directory: &Path) {
        let _alone = self.pruning.write().unwrap_or_else(PoisonError::into_inner);
        let streams = self.root.join("streams");
        let mut directory = directory;
        while directory != streams && directory.starts_with(&streams) {
            let Some(parent) = directory.parent() else { return };
            if rustix::fs::rmdir(directory).is_err() {
                return;
            }
            directory = parent;
        }
    }
}

fn open_at(place: &Path, flags: OFlags) -> Result<Opened, Errno> {
    let flags = flags | OFlags::DIRECT | OFlags::CLOEXEC;
    let fd = rustix::fs::open(place, flags, FILE_MODE)?;
    let bytes = rustix::fs::fstat(&fd)?.st_size;
    Ok(Opened { fd, bytes: u64::try_from(bytes).expect("lengths are not negative") })
}

/// Makes the entries of a directory durable.
pub fn sync_directory(path: &Path) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::fsync(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Allocates blocks for `from..to`, extending the file; durable when the file is.
pub fn begin_reserve(fd: impl AsFd, from: u64, to: u64) -> Result<(), Errno> {
    rustix::fs::fallocate(&fd, FallocateFlags::empty(), from, to - from)
}

/// Writes zeros over `from..to`, whole blocks; durable when this returns.
pub fn zero(fd: impl AsFd, from: u64, to: u64) -> Result<(), Errno> {
    if from >= to {
        return rustix::fs::fsync(&fd);
    }
    // One allocation for the whole range keeps it in one extent where the file system can.
    match rustix::fs::fallocate(&fd, FallocateFlags::empty(), from, to - from) {
        Ok(()) | Err(Errno::OPNOTSUPP) => {}
        Err(errno) => return Err(errno),
    }
    let zeros = Blocks::zeroed(ZERO_BYTES);
    let mut at = from;
    while at < to {
        let left = usize::try_from(to - at).unwrap_or(usize::MAX).min(ZERO_BYTES);
        write_all(&fd, &zeros.bytes()[..left], at)?;
        at += u64::try_from(left).expect("usize fits u64");
    }
    rustix::fs::fsync(&fd)
}

/// Writes all of `bytes` at `position`.
pub fn write_all(fd: impl AsFd, bytes: &[u8], position: u64) -> Result<(), Errno> {
    let mut written = 0;
    while written < bytes.len() {
        let at = position + u64::try_from(written).expect("usize fits u64");
        match rustix::io::pwrite(&fd, &bytes[written..], at) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => written += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Reads into all of `into` from `position`; fewer bytes only at the end of the file.
pub fn read_all(fd: impl AsFd, into: &mut [u8], position: u64) -> Result<usize, Errno> {
    let mut read = 0;
    while read < into.len() {
        let at = position + u64::try_from(read).expect("usize fits u64");
        match rustix::io::pread(&fd, &mut into[read..], at) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        // A short read that is not whole blocks ends at the end of the file; going on from
        // there would not be aligned.
        if read % engine::frame::BLOCK_BYTES != 0 {
            break;
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_created_adopted_listed_and_deleted() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let dir = DataDir::new(root.path().to_path_buf());
        let spare = FilePath::Spare { number: 3 };
        let segment = FilePath::Segment { topic: [7; 16], partition: 2, sequence: 1 };
        let file = dir.create(&spare).expect("created");
        zero(&file.fd, 0, 8192).expect("zeroed");
        let mut unsynced = Unsynced::default();
        let adopted = dir.begin_adopt(&spare, &segment, &mut unsynced).expect("adopted");
        unsynced.sync(&[]).0.expect("durable");
        assert_eq!(adopted.bytes, 8192);
        assert_eq!(dir.open(&spare).expect_err("renamed"), Errno::NOENT);
        let mut block = Blocks::zeroed(4096);
        block.bytes_mut().fill(9);
        write_all(&adopted.fd, block.bytes(), 4096).expect("written");
        let mut all = Blocks::zeroed(3 * 4096);
        assert_eq!(read_all(&adopted.fd, all.bytes_mut(), 0), Ok(8192));
        assert_eq!((all.bytes()[4095], all.bytes()[4096]), (0, 9));
        fs::write(root.path().join("stranger"), "x").expect("written");
        let listed = dir.list().expect("listed");
        assert_eq!(listed, [FileEntry { path: segment.clone(), bytes: 8192 }]);
        dir.delete(&[segment, spare]).expect("deleted");
        assert_eq!(dir.list().expect("listed"), []);
        let streams = root.path().join("streams");
        assert_eq!(fs::read_dir(streams).expect("it stays").count(), 0);
    }

    /// Two shards with partitions of one topic: one removed the topic's directory, which its
    /// partition had left empty, while the other was about to make its own in it. That failed, and
    /// counted as a failure of the device. Trying again was no mend: two shards in step fail any
    /// number of times.
    #[test]
    fn nobody_removes_a_directory_that_another_is_about_to_use() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let dir = DataDir::new(root.path().to_path_buf());
        let come_and_go = |partition| {
            let path = FilePath::Segment { topic: [7; 16], partition, sequence: 0 };
            let place = dir.locate(&path);
            for _ in 0..2000 {
                let created = dir.begin_create(&path, &mut Unsynced::default());
                created.expect("nobody removes what is not empty");
                fs::remove_file(&place).expect("it is there");
                dir.remove_if_empty(place.parent().expect("a partition's"));
            }
        };
        thread::scope(|scope| {
            for partition in 0..4 {
                scope.spawn(move || come_and_go(partition));
            }
        });
    }

    /// As files are opened once their file system has turned read-only.
    #[test]
    fn what_is_opened_for_reading_alone_says_that_it_cannot_be_written() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let dir = DataDir::new(root.path().to_path_buf());
        dir.create(&FilePath::Superblock).expect("created");
        let place = dir.locate(&FilePath::Superblock);
        let file = open_at(&place, OFlags::RDONLY).expect("it is there");
        let block = Blocks::zeroed(4096);
        let written = write_all(&file.fd, block.bytes(), 0).map_err(fault);
        assert_eq!(written, Err(Fault::EROFS));
        assert_eq!(begin_reserve(&file.fd, 0, 4096).map_err(fault), Err(Fault::EROFS));
        assert_eq!(zero(&file.fd, 0, 4096).map_err(fault), Err(Fault::EROFS));
    }

    #[test]
    fn reserved_space_reads_as_zeros() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let dir = DataDir::new(root.path().to_path_buf());
        let file = dir.create(&FilePath::Superblock).expect("created");
        begin_reserve(&file.fd, 0, 4096).expect("reserved");
        let mut block = Blocks::zeroed(4096);
        block.bytes_mut().fill(1);
        assert_eq!(read_all(&file.fd, block.bytes_mut(), 0), Ok(4096));
        assert!(block.bytes().iter().all(|byte| *byte == 0));
    }
}
