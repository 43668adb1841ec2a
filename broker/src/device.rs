//! What the data directory stands on: whether it may be used at all, how it is aligned, and
//! which way of making a write durable is the fastest there.

use std::fmt;
use std::fs;
use std::io::IoSlice;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use engine::frame::BLOCK_BYTES;
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::io::{Errno, ReadWriteFlags};

use crate::blocks::Blocks;
use crate::directory;
use crate::io::uring::SyncMethod;
use crate::lock::Refusal;

/// Rounds of the calibration, for each method.
const CALIBRATION_ROUNDS: usize = 21;
const SCRATCH_BYTES: u64 = 256 * 1024;
/// What no device needs less than for a durable write.
const DEVICE_MIN: Duration = Duration::from_micros(3);
/// What a durable write takes when its completion has to wait for the next tick of 4 ms.
const TICK: RangeInclusive<Duration> = Duration::from_micros(3700)..=Duration::from_micros(4200);

/// What was found out about the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Name of the file system.
    pub file_system: &'static str,
    /// Alignment that direct I/O needs in the file, in bytes; 0: there is none, and what is read
    /// and written goes through the page cache; `None`: the kernel does not say.
    pub alignment: Option<u32>,
}

impl Device {
    /// Looks at a data directory and refuses it if direct I/O is not possible or not honest.
    pub fn probe(root: &Path) -> Result<Device, Refusal> {
        let shown = root.display();
        let refused = |errno: Errno| {
            Refusal(format!("the data directory {shown} cannot be examined ({errno}): check it"))
        };
        let file_system = file_system(rustix::fs::statfs(root).map_err(refused)?.f_type);
        if ["tmpfs", "ramfs"].contains(&file_system) {
            return Err(Refusal(format!(
                "the data directory {shown} is in memory ({file_system}), where nothing is \
                 durable: choose one on a disk"
            )));
        }
        let scratch = Scratch::create(root).map_err(|errno| match errno {
            Errno::INVAL | Errno::OPNOTSUPP => Refusal(format!(
                "the file system of {shown} ({file_system}) does not support O_DIRECT: choose a \
                 data directory on ext4 or xfs"
            )),
            errno => Refusal(format!(
                "a file in {shown} cannot be made ({errno}): check its rights and space"
            )),
        })?;
        let alignment = scratch.alignment();
        if let Some(bytes) = alignment
            && usize::try_from(bytes).is_ok_and(|bytes| bytes > BLOCK_BYTES)
        {
            return Err(Refusal(format!(
                "the device of {shown} needs writes aligned to {bytes} bytes, more than the \
                 {BLOCK_BYTES} that are written: choose another disk"
            )));
        }
        Ok(Device { file_system, alignment })
    }
}

/// How long one durable write takes by each method, in the median.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calibration {
    /// One write with `RWF_DSYNC`.
    pub dsync: Duration,
    /// A plain write and then an `fdatasync`.
    pub flush: Duration,
}

impl Calibration {
    /// Measures 4 KiB writes into written blocks of a scratch file.
    pub fn measure(root: &Path) -> Result<Calibration, Refusal> {
        measure(root).map_err(|errno| {
            Refusal(format!(
                "durable writes to {} fail ({errno}): check the disk and its free space",
                root.display()
            ))
        })
    }

    /// Something to tell the user: something is wrong.
    pub fn hint(&self) -> Option<&'static str> {
        if self.dsync.max(self.flush) < DEVICE_MIN {
            return Some(
                "NOT DURABLE: no device is that fast, so this is memory (an overlay above tmpfs?) \
                 or a disk that ignores flushes, and a loss of power loses records that were \
                 acknowledged",
            );
        }
        if TICK.contains(&self.dsync) && TICK.contains(&self.flush) {
            return Some(
                "both take one scheduler tick: a thread spins without yielding on the CPU that \
                 finishes durable writes; stop it, or commits will be as slow",
            );
        }
        None
    }

    /// The method that is faster here. Near each other, one operation is better than two.
    pub const fn faster(&self) -> SyncMethod {
        if self.dsync.as_nanos() * 2 > self.flush.as_nanos() * 3 {
            SyncMethod::Fsync
        } else {
            SyncMethod::Dsync
        }
    }
}

impl fmt::Display for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (dsync, flush) = (self.dsync.as_micros(), self.flush.as_micros());
        write!(f, "4 KiB, median: RWF_DSYNC {dsync} µs; write and flush {flush} µs")
    }
}

fn measure(root: &Path) -> Result<Calibration, Errno> {
    let scratch = Scratch::create(root)?;
    directory::zero(&scratch.fd, 0, SCRATCH_BYTES)?;
    let block = Blocks::zeroed(BLOCK_BYTES);
    let write = |position: u64, flags| -> Result<(), Errno> {
        let count =
            rustix::io::pwritev2(&scratch.fd, &[IoSlice::new(block.bytes())], position, flags)?;
        if count == BLOCK_BYTES { Ok(()) } else { Err(Errno::IO) }
    };
    let (mut dsync, mut flush) = (Vec::new(), Vec::new());
    let step = u64::try_from(BLOCK_BYTES).expect("4096");
    let mut position = 0;
    for _ in 0..CALIBRATION_ROUNDS {
        let begin = Instant::now();
        write(position, ReadWriteFlags::DSYNC)?;
        dsync.push(begin.elapsed());
        let begin = Instant::now();
        write(position + step, ReadWriteFlags::empty())?;
        rustix::fs::fdatasync(&scratch.fd)?;
        flush.push(begin.elapsed());
        position += 2 * step;
    }
    Ok(Calibration { dsync: median(dsync), flush: median(flush) })
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

const _: () = assert!(SCRATCH_BYTES >= 2 * 4096 * CALIBRATION_ROUNDS as u64);

/// A file that is gone when this value is.
#[derive(Debug)]
pub(crate) struct Scratch {
    place: PathBuf,
    /// The file, open for direct I/O.
    pub(crate) fd: OwnedFd,
}

impl Scratch {
    /// Makes it, empty, in this directory.
    pub(crate) fn create(root: &Path) -> Result<Scratch, Errno> {
        let place = root.join("scratch");
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::DIRECT | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&place, flags, Mode::from_raw_mode(0o644))?;
        Ok(Scratch { place, fd })
    }

    fn alignment(&self) -> Option<u32> {
        let found =
            rustix::fs::statx(&self.fd, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
        let is_known = found.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
        is_known.then(|| found.stx_dio_offset_align.max(found.stx_dio_mem_align))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // If it stays, the next start empties it.
        let _ = fs::remove_file(&self.place);
    }
}

/// The name of a file system by its magic number (`statfs(2)`).
const fn file_system(magic: rustix::fs::FsWord) -> &'static str {
    match magic {
        0xEF53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683E => "btrfs",
        0x0102_1994 => "tmpfs",
        0x8584_58F6 => "ramfs",
        0x794C_7630 => "overlayfs",
        0x2FC1_2FC1 => "zfs",
        0xF2F5_2010 => "f2fs",
        0x6969 => "nfs",
        0x6573_5546 => "fuse",
        _ => "unknown file system",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_is_examined_and_measured() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let device = Device::probe(root.path()).expect("tests run on a disk");
        assert!(device.alignment.is_none_or(|bytes| bytes <= 4096));
        let calibration = Calibration::measure(root.path()).expect("it can write");
        assert!(calibration.dsync > Duration::ZERO);
        assert_eq!(fs::read_dir(root.path()).expect("listed").count(), 0);
    }

    #[test]
    fn memory_is_no_disk() {
        let shm = Path::new("/dev/shm");
        if rustix::fs::statfs(shm).is_ok_and(|found| file_system(found.f_type) == "tmpfs") {
            let sentence = Device::probe(shm).expect_err("refused").to_string();
            assert!(sentence.contains("in memory"), "{sentence}");
        }
    }

    #[test]
    fn a_bad_method_is_told() {
        let us = Duration::from_micros;
        assert_eq!(Calibration { dsync: us(150), flush: us(100) }.hint(), None);
        assert_eq!(Calibration { dsync: us(150), flush: us(100) }.faster(), SyncMethod::Dsync);
        assert_eq!(Calibration { dsync: us(151), flush: us(100) }.faster(), SyncMethod::Fsync);
        let memory = Calibration { dsync: us(0), flush: us(1) }.hint();
        assert!(memory.expect("told").contains("NOT DURABLE"));
        let starved = Calibration { dsync: us(3998), flush: us(4001) }.hint();
        assert!(starved.expect("told").contains("without yielding"));
    }
}
