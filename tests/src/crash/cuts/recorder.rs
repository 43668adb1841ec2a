//! A file that remembers: a file system of this process serves one file, in memory, and keeps
//! every write and every flush of it in their order. A loop device on it is a disk with a record.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    Generation, INodeNo, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry,
    ReplyWrite, Request, TimeOrNow, WriteFlags,
};

/// What the one file is called.
pub const DISK: &str = "disk";
/// Its number.
const DISK_INODE: INodeNo = INodeNo(2);
/// Attributes never change.
const FOR_EVER: Duration = Duration::from_secs(1 << 30);

/// What was done to the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Bytes were written there.
    Write(usize, Vec<u8>),
    /// Everything written before is to last.
    Flush,
}

/// A disk's bytes and how they came about.
#[derive(Debug)]
pub struct Record {
    bytes: Vec<u8>,
    /// In their order.
    pub events: Vec<Event>,
}

/// A record that the file system writes and others read.
pub type SharedRecord = Arc<Mutex<Record>>;

/// The mounted file system. Dropping it unmounts it.
#[derive(Debug)]
pub struct Recorder {
    record: SharedRecord,
    _session: BackgroundSession,
}

impl Recorder {
    /// Serves a disk of so many zeros as the file [`DISK`] in `folder`.
    ///
    /// # Errors
    /// FUSE is not there, or not for us.
    pub fn mount(folder: &Path, bytes: usize) -> std::io::Result<Recorder> {
        let record = Record { bytes: vec![0; bytes], events: Vec::new() };
        let record = Arc::new(Mutex::new(record));
        let served = Served(Arc::clone(&record));
        let session = fuser::spawn_mount(served, folder, &Config::default())?;
        Ok(Recorder { record, _session: session })
    }

    /// What has been recorded so far, for whoever goes on recording it.
    pub fn record(&self) -> SharedRecord {
        Arc::clone(&self.record)
    }
}

/// Locks a record.
///
/// # Panics
/// If a holder panicked.
pub fn locked(record: &SharedRecord) -> MutexGuard<'_, Record> {
    record.lock().expect("no holder panics")
}

struct Served(SharedRecord);

impl Served {
    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let size = u64::try_from(locked(&self.0).bytes.len()).expect("usize fits u64");
        let (kind, perm, size) = match inode {
            INodeNo::ROOT => (FileType::Directory, 0o700, 0),
            DISK_INODE => (FileType::RegularFile, 0o600, size),
            _ => return None,
        };
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            flags: 0,
            blksize: 4096,
        })
    }

    fn answer(&self, inode: INodeNo, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&FOR_EVER, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let is_disk = parent == INodeNo::ROOT && name == DISK;
        match self.attributes(DISK_INODE).filter(|_| is_disk) {
            Some(attributes) => reply.entry(&FOR_EVER, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.answer(inode, reply);
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        // Nothing but the times, which nobody asks for, is ever set.
        self.answer(inode, reply);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let record = locked(&self.0);
        let end = record.bytes.len();
        let at = usize::try_from(offset).map_or(end, |at| at.min(end));
        let len = usize::try_from(size).map_or(0, |len| len.min(end - at));
        reply.data(&record.bytes[at..at + len]);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut record = locked(&self.0);
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = at.saturating_add(data.len());
        let Some(place) = record.bytes.get_mut(at..end) else {
            return reply.error(Errno::ENOSPC);
        };
        place.copy_from_slice(data);
        record.events.push(Event::Write(at, data.to_vec()));
        reply.written(u32::try_from(data.len()).expect("requests are short"));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // A descriptor was closed, which makes nothing last.
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        locked(&self.0).events.push(Event::Flush);
        reply.ok();
    }
}
