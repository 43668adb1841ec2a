//! The shard's maintenance thread: opening, creating, extending and deleting files, which block
//! for milliseconds (directory syncs, allocation, zeroing) and so have no place on the shard.
//! Results come back through a channel; an eventfd, which the backend waits for, says that there
//! are some, so neither side polls.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError, TrySendError};
use std::thread::{self, JoinHandle};

use engine::layout::FilePath;
use engine::port::{Fault, FileSlot, Fill, Open, Tag};
use rustix::event::EventfdFlags;
use rustix::io::Errno;

use crate::directory::{self, DataDir, Opened, Unsynced, fault};

/// Jobs on their way to the thread; more wait on the shard's side.
const JOBS_MAX: usize = 64;

/// What the thread is asked to do.
#[derive(Debug)]
pub enum Job {
    /// Open a file.
    Open {
        /// The number it will have.
        file: FileSlot,
        /// Which file.
        path: FilePath,
        /// How.
        open: Open,
    },
    /// Allocate space.
    Extend {
        /// The file's number.
        file: FileSlot,
        /// The file.
        fd: Arc<OwnedFd>,
        /// First byte.
        from: u64,
        /// Byte behind the last.
        to: u64,
        /// How.
        fill: Fill,
    },
    /// Look how much space is free.
    Space,
    /// Delete files.
    Delete {
        /// The op's name.
        tag: Tag,
        /// Which.
        paths: Vec<FilePath>,
    },
    /// Close a file: if it was deleted meanwhile, this frees its blocks. Nothing comes of it.
    Close {
        /// The file.
        fd: Arc<OwnedFd>,
    },
}

/// What came of a [`Job`].
#[derive(Debug)]
pub enum Finished {
    /// Of `Open`.
    Opened {
        /// As asked.
        file: FileSlot,
        /// The file.
        result: Result<Opened, Fault>,
    },
    /// Of `Extend`.
    Extended {
        /// As asked.
        file: FileSlot,
        /// As asked.
        from: u64,
        /// As asked.
        to: u64,
        /// As asked.
        fill: Fill,
        /// Whether it held.
        result: Result<(), Fault>,
    },
    /// Of `Space`.
    Space {
        /// Bytes that files may still take.
        free: Result<u64, Fault>,
    },
    /// Of `Delete`.
    Deleted {
        /// As asked.
        tag: Tag,
        /// Whether it held.
        result: Result<(), Fault>,
    },
}

/// The shard's end.
#[derive(Debug)]
pub struct Maintenance {
    /// `None` only while it is dropped: closing the channel ends the thread.
    jobs: Option<SyncSender<Job>>,
    waiting: VecDeque<Job>,
    finished: Receiver<Finished>,
    bell: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Maintenance {
    /// Starts the thread.
    pub fn start(dir: DataDir) -> io::Result<Maintenance> {
        let bell = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?);
        let (jobs, inbox) = mpsc::sync_channel(JOBS_MAX);
        // The shard drains this channel at every bell, and what it holds is bounded by the jobs.
        let (outbox, finished) = mpsc::sync_channel(2 * JOBS_MAX);
        let ring_bell = Arc::clone(&bell);
        let thread = thread::Builder::new()
            .name("maintenance".to_owned())
            .spawn(move || work(&dir, &inbox, &outbox, &ring_bell))?;
        let (jobs, thread) = (Some(jobs), Some(thread));
        Ok(Maintenance { jobs, waiting: VecDeque::new(), finished, bell, thread })
    }

    /// The eventfd that is readable when something is finished.
    pub fn bell(&self) -> &OwnedFd {
        &self.bell
    }

    /// The same, for others who finish something for the shard.
    pub fn shared_bell(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.bell)
    }

    /// Hands a job over, never blocking.
    pub fn push(&mut self, job: Job) {
        self.waiting.push_back(job);
        self.hand_over();
    }

    /// The next finished job.
    pub fn pop(&mut self) -> Option<Finished> {
        match self.finished.try_recv() {
            Ok(finished) => {
                self.hand_over();
                Some(finished)
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => unreachable!("the thread lives until the drop"),
        }
    }

    fn hand_over(&mut self) {
        let jobs = self.jobs.as_ref().expect("only the drop takes it");
        while let Some(job) = self.waiting.pop_front() {
            match jobs.try_send(job) {
                Ok(()) => {}
                Err(TrySendError::Full(job)) => {
                    self.waiting.push_front(job);
                    return;
                }
                Err(TrySendError::Disconnected(_)) => unreachable!("the thread outlives this"),
            }
        }
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        self.jobs = None;
        // Takes what is finished so that a full outbox cannot hold the thread up; ends when the
        // thread has gone through its jobs.
        while self.finished.recv().is_ok() {}
        if let Some(thread) = self.thread.take() {
            // A panic there was reported on stderr by its own thread.
            let _ = thread.join();
        }
    }
}

/// Takes what waits, does it all, and then makes it durable together: many new files of small
/// partitions would otherwise cost several journal commits of the file system each.
fn work(dir: &DataDir, inbox: &Receiver<Job>, outbox: &SyncSender<Finished>, bell: &OwnedFd) {
    while let Ok(job) = inbox.recv() {
        let jobs = std::iter::once(job).chain(inbox.try_iter().take(JOBS_MAX - 1));
        for finished in perform(dir, jobs) {
            if outbox.send(finished).is_err() {
                return;
            }
            // An eventfd's counter cannot overflow in steps of one, so this does not block.
            let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
        }
    }
}

fn perform(dir: &DataDir, jobs: impl Iterator<Item = Job>) -> Vec<Finished> {
    let mut unsynced = Unsynced::default();
    let begun: Vec<Begun> = jobs.filter_map(|job| begin(dir, job, &mut unsynced)).collect();
    let files: Vec<BorrowedFd<'_>> = begun.iter().filter_map(Begun::unsynced).collect();
    let (directories, files) = unsynced.sync(&files);
    let mut files = files.into_iter();
    let finish = |begun: Begun| {
        let synced = begun.unsynced().map_or(Ok(()), |_| files.next().expect("one for each"));
        begun.finish(directories, synced)
    };
    begun.into_iter().map(finish).collect()
}

/// A job that is done, but may not be durable yet.
#[derive(Debug)]
enum Begun {
    /// Nothing is missing.
    Whole(Finished),
    /// The file's entry is in a directory.
    Entered { file: FileSlot, result: Result<Opened, Errno> },
    /// A new file's entry is in a directory.
    Created { file: FileSlot, result: Result<Opened, Errno> },
    /// Space was reserved.
    Reserved { fd: Arc<OwnedFd>, file: FileSlot, from: u64, to: u64, result: Result<(), Errno> },
}

fn begin(dir: &DataDir, job: Job, unsynced: &mut Unsynced) -> Option<Begun> {
    Some(match job {
        Job::Open { file, path, open } => match open {
            Open::Existing => Begun::Whole(opened(file, dir.open(&path))),
            Open::Buffered => Begun::Whole(opened(file, dir.open_buffered(&path))),
            Open::Create => Begun::Created { file, result: dir.begin_create(&path, unsynced) },
            Open::Adopt { from } => {
                Begun::Entered { file, result: dir.begin_adopt(&from, &path, unsynced) }
            }
        },
        Job::Extend { file, fd, from, to, fill: Fill::Reserve } => {
            let result = directory::begin_reserve(&*fd, from, to);
            Begun::Reserved { fd, file, from, to, result }
        }
        Job::Extend { file, fd, from, to, fill: Fill::Zero } => {
            let result = directory::zero(&*fd, from, to).map_err(fault);
            Begun::Whole(Finished::Extended { file, from, to, fill: Fill::Zero, result })
        }
        Job::Space => Begun::Whole(Finished::Space { free: dir.free_bytes().map_err(fault) }),
        Job::Delete { tag, paths } => {
            let result = dir.delete(&paths).map_err(fault);
            Begun::Whole(Finished::Deleted { tag, result })
        }
        Job::Close { fd } => {
            drop(fd);
            return None;
        }
    })
}

fn opened(file: FileSlot, result: Result<Opened, Errno>) -> Finished {
    Finished::Opened { file, result: result.map_err(fault) }
}

impl Begun {
    /// The file that is yet to be made durable.
    fn unsynced(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Begun::Created { result: Ok(found), .. } => Some(found.fd.as_fd()),
            Begun::Reserved { fd, result: Ok(()), .. } => Some(fd.as_fd()),
            _ => None,
        }
    }

    /// How it ended, given what became of the directories' entries and of its file. One job may
    /// rest on a directory that another made: a failure there is everybody's.
    fn finish(self, directories: Result<(), Errno>, synced: Result<(), Errno>) -> Finished {
        match self {
            Begun::Whole(finished) => finished,
            Begun::Entered { file, result } => {
                opened(file, result.and_then(|found| directories.map(|()| found)))
            }
            Begun::Created { file, result } => {
                let synced = directories.and(synced);
                opened(file, result.and_then(|found| synced.map(|()| found)))
            }
            Begun::Reserved { file, from, to, result, .. } => {
                let result = result.and(synced).map_err(fault);
                Finished::Extended { file, from, to, fill: Fill::Reserve, result }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Jobs of one batch share their syncs. One batch once renamed the file of a deleted topic to
    /// a spare and then removed the directory that this left empty: syncing it failed, and with
    /// it everything else that was being created.
    #[test]
    fn a_directory_that_goes_with_its_last_file_fails_nobody() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let dir = DataDir::new(root.path().to_path_buf());
        let segment = |topic| FilePath::Segment { topic: [topic; 16], partition: 0, sequence: 0 };
        let spare = FilePath::Spare { number: 0 };
        dir.create(&segment(1)).expect("created");
        let open = |number, path, open| Job::Open { file: FileSlot(number), path, open };
        let batch = [
            open(0, spare.clone(), Open::Adopt { from: segment(1) }),
            Job::Delete { tag: Tag(7), paths: vec![segment(1)] },
            open(1, segment(2), Open::Create),
            Job::Space,
        ];
        let finished = perform(&dir, batch.into_iter());
        let is_done = |finished: &Finished| match finished {
            Finished::Opened { result, .. } => result.is_ok(),
            Finished::Space { free } => free.is_ok_and(|free| free > 0),
            Finished::Deleted { result, .. } | Finished::Extended { result, .. } => result.is_ok(),
        };
        assert!(finished.iter().all(is_done), "{finished:?}");
        let left = dir.list().expect("listed");
        let paths: Vec<&FilePath> = left.iter().map(|entry| &entry.path).collect();
        assert_eq!(paths, [&segment(2), &spare]);
    }
}
