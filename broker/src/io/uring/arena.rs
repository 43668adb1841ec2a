//! Addresses in the shard's arena, and which registered buffer they lie in.

use std::io;
use std::sync::Arc;

use engine::pool::{Arena, Slice};
use io_uring::Submitter;

use super::setup::Buffers;

/// The kernel registers at most 1 GiB as one buffer.
const PART_BYTES: usize = 1 << 30;

/// Whether the kernel has the arena's pages pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// Yes: reads and writes skip the mapping of pages.
    Registered,
    /// No; the errno says why.
    Refused(i32),
    /// No: it was not asked to.
    Off,
}

/// Asks for huge pages: a buffer of many small pages is many segments to the block layer, which
/// cuts large writes into several requests. A kernel that refuses costs speed only. Making the
/// pages takes long where memory was not in use for a while; what is there already takes no time.
pub fn gather_pages(arena: &Arena) {
    let (base, len) = (arena.base().as_ptr().cast(), arena.len());
    // SAFETY: the range is the arena, and neither advice changes what the memory holds.
    unsafe {
        libc::madvise(base, len, libc::MADV_HUGEPAGE);
        libc::madvise(base, len, libc::MADV_COLLAPSE);
    }
}

/// The arena as the kernel knows it.
#[derive(Debug)]
pub struct Memory {
    arena: Arc<Arena>,
    registration: Registration,
}

/// Where an operation reads or writes.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Address of the first byte.
    pub address: *mut u8,
    /// Number of bytes.
    pub len: u32,
    /// The registered buffer it lies in, if they are registered.
    pub buffer: Option<u16>,
}

impl Memory {
    /// Registers the arena as fixed buffers, and goes on without if the kernel refuses (most
    /// often for the limit on locked memory).
    ///
    /// # Safety
    /// The `Memory` outlives the ring, or at least all that the ring does with these buffers.
    pub unsafe fn register(
        arena: Arc<Arena>,
        submitter: &Submitter<'_>,
        buffers: Buffers,
    ) -> io::Result<Memory> {
        let base = arena.base().as_ptr();
        gather_pages(&arena);
        if buffers == Buffers::Plain {
            return Ok(Memory { arena, registration: Registration::Off });
        }
        let mut parts = Vec::new();
        let mut at = 0;
        while at < arena.len() {
            let iov_len = PART_BYTES.min(arena.len() - at);
            parts.push(libc::iovec { iov_base: base.wrapping_add(at).cast(), iov_len });
            at += iov_len;
        }
        // SAFETY: the parts cover the arena exactly, and it lives as the caller promises.
        let registration = match unsafe { submitter.register_buffers(&parts) } {
            Ok(()) => Registration::Registered,
            Err(error) => match error.raw_os_error() {
                Some(errno @ (libc::ENOMEM | libc::EPERM)) => Registration::Refused(errno),
                _ => return Err(error),
            },
        };
        Ok(Memory { arena, registration })
    }

    /// Whether the buffers are registered.
    pub const fn registration(&self) -> Registration {
        self.registration
    }

    /// Where a slice lies.
    pub fn span(&self, slice: Slice) -> Span {
        let offset = usize::try_from(slice.offset).expect("u64 fits usize");
        let len = usize::try_from(slice.len).expect("u32 fits usize");
        assert!(offset + len <= self.arena.len(), "a slice lies in the arena");
        let buffer = match self.registration {
            Registration::Registered => {
                let part = offset / PART_BYTES;
                assert!(len == 0 || (offset + len - 1) / PART_BYTES == part, "inside one part");
                Some(u16::try_from(part).expect("an arena is smaller than 64 TiB"))
            }
            Registration::Refused(_) | Registration::Off => None,
        };
        let address = self.arena.base().as_ptr().wrapping_add(offset);
        Span { address, len: slice.len, buffer }
    }

    /// Leaks the arena: for when the kernel could not be brought to let go of it.
    pub fn leak(&self) {
        std::mem::forget(Arc::clone(&self.arena));
    }
}
