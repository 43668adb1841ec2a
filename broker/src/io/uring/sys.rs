//! The two ring calls that the `io-uring` crate does not offer as we need them: entering by the
//! registered index of the ring, and the range from which the kernel takes accepted sockets'
//! places in the file table.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Duration;

const REGISTER_RING_FDS: libc::c_uint = 20;
const UNREGISTER_RING_FDS: libc::c_uint = 21;
const REGISTER_FILE_ALLOC_RANGE: libc::c_uint = 25;

const ENTER_GETEVENTS: libc::c_uint = 1;
const ENTER_EXT_ARG: libc::c_uint = 8;
const ENTER_REGISTERED_RING: libc::c_uint = 16;

/// `struct io_uring_getevents_arg`
#[repr(C)]
struct GeteventsArg {
    sigmask: u64,
    sigmask_bytes: u32,
    min_wait_us: u32,
    timespec: u64,
}

/// `struct io_uring_rsrc_update`
#[repr(C)]
struct RsrcUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// `struct io_uring_file_index_range`
#[repr(C)]
struct FileIndexRange {
    offset: u32,
    len: u32,
    reserved: u64,
}

/// How long an enter may wait for a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Not at all: submit, run what is ready, come back.
    None,
    /// At most this long.
    For(Duration),
    /// For ever.
    Forever,
}

/// The way into the kernel: the ring's descriptor or, cheaper, its registered index.
#[derive(Debug, Clone, Copy)]
pub struct Door {
    fd: i32,
    flags: libc::c_uint,
}

impl Door {
    /// Registers the ring with this thread; falls back to the plain descriptor.
    pub fn open(ring: BorrowedFd<'_>) -> Door {
        let raw = ring.as_raw_fd();
        let data = u64::try_from(raw).expect("descriptors are not negative");
        let mut update = RsrcUpdate { offset: u32::MAX, reserved: 0, data };
        // SAFETY: the kernel reads and writes one `io_uring_rsrc_update` at this address.
        let result = unsafe {
            let argument = ptr::from_mut(&mut update);
            libc::syscall(libc::SYS_io_uring_register, raw, REGISTER_RING_FDS, argument, 1)
        };
        match i32::try_from(update.offset) {
            Ok(index) if result == 1 => Door { fd: index, flags: ENTER_REGISTERED_RING },
            _ => Door { fd: raw, flags: 0 },
        }
    }

    /// Whether it is the registered index.
    pub const fn is_registered(self) -> bool {
        self.flags != 0
    }

    /// Gives the registered index back: without this the thread would keep the ring open.
    pub fn close(self, ring: BorrowedFd<'_>) {
        if let Ok(offset) = u32::try_from(self.fd)
            && self.is_registered()
        {
            let update = RsrcUpdate { offset, reserved: 0, data: 0 };
            // SAFETY: the kernel reads one `io_uring_rsrc_update` at this address. A failure
            // leaves the index taken until the thread ends, which harms nobody.
            unsafe {
                let argument = ptr::from_ref(&update);
                let ring = ring.as_raw_fd();
                libc::syscall(libc::SYS_io_uring_register, ring, UNREGISTER_RING_FDS, argument, 1);
            }
        }
    }

    /// Submits `to_submit` entries, runs completion work, and waits for one completion as long as
    /// `patience` says. Returns how many entries were taken.
    pub fn enter(self, to_submit: u32, patience: Patience) -> io::Result<u32> {
        let mut timespec = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let mut argument =
            GeteventsArg { sigmask: 0, sigmask_bytes: 0, min_wait_us: 0, timespec: 0 };
        let flags = self.flags | ENTER_GETEVENTS;
        let (min_complete, flags, bytes) = match patience {
            Patience::None => (0, flags, 0),
            Patience::Forever => (1, flags, 0),
            Patience::For(time) => {
                timespec.tv_sec = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
                timespec.tv_nsec = i64::from(time.subsec_nanos());
                argument.timespec = ptr::from_ref(&timespec).addr() as u64;
                (1, flags | ENTER_EXT_ARG, size_of::<GeteventsArg>())
            }
        };
        let pointer = if bytes == 0 { ptr::null() } else { ptr::from_ref(&argument) };
        // SAFETY: the argument and the time it points to live until the call returns. What the
        // submitted entries point to is the business of whoever made them.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.fd,
                to_submit,
                min_complete,
                flags,
                pointer,
                bytes,
            )
        };
        u32::try_from(result).map_err(|_| io::Error::last_os_error())
    }
}

/// Tells the kernel to take places for accepted sockets from `0..len` of the file table only.
pub fn register_file_alloc_range(ring: BorrowedFd<'_>, len: u32) -> io::Result<()> {
    let range = FileIndexRange { offset: 0, len, reserved: 0 };
    // SAFETY: the kernel reads one `io_uring_file_index_range` at this address.
    let result = unsafe {
        let argument = ptr::from_ref(&range);
        let ring = ring.as_raw_fd();
        libc::syscall(libc::SYS_io_uring_register, ring, REGISTER_FILE_ALLOC_RANGE, argument, 0)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
