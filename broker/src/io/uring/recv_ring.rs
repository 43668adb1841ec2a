//! The provided receive buffers: a ring, shared with the kernel, of the buffers at the front of
//! the arena that a multishot receive may fill. We are its only producer, the kernel its only
//! consumer.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use engine::pool::{Arena, RecvRegion};
use engine::port::RecvBuf;
use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// The one group of provided buffers.
pub const GROUP: u16 = 0;
/// The most entries such a ring may have.
const ENTRIES_MAX: u16 = 1 << 15;
const PAGE_BYTES: usize = 4096;

/// The ring of free receive buffers.
#[derive(Debug)]
pub struct RecvRing {
    entries: NonNull<BufRingEntry>,
    layout: Layout,
    /// Entries less one; their number is a power of two.
    mask: u16,
    /// Where the next buffer goes; published by [`RecvRing::publish`].
    tail: u16,
    /// First byte of the receive region, and bytes of each buffer.
    base: NonNull<u8>,
    buffer_bytes: u32,
    count: u16,
    /// The kernel did not let go: the memory stays for as long as the process.
    is_leaked: bool,
}

impl RecvRing {
    /// A ring with all buffers of the region in it; the kernel does not know it yet.
    pub fn new(arena: &Arena, region: RecvRegion) -> RecvRing {
        assert!(region.count > 0 && region.count <= ENTRIES_MAX, "the ring's size has bounds");
        assert!(region.total_bytes() <= arena.len(), "the region lies in the arena");
        let count = region.count.next_power_of_two();
        let bytes = usize::from(count) * size_of::<BufRingEntry>();
        let layout = Layout::from_size_align(bytes, PAGE_BYTES).expect("at most 512 KiB");
        // SAFETY: the layout's size is not zero.
        let entries = unsafe { alloc_zeroed(layout) };
        let entries = NonNull::new(entries).unwrap_or_else(|| handle_alloc_error(layout)).cast();
        let mut ring = RecvRing {
            entries,
            layout,
            mask: count - 1,
            tail: 0,
            base: arena.base(),
            buffer_bytes: region.bytes,
            count: region.count,
            is_leaked: false,
        };
        for index in 0..region.count {
            ring.give(&RecvBuf(index));
        }
        ring.publish();
        ring
    }

    /// Makes it known to the kernel under [`GROUP`].
    ///
    /// # Safety
    /// The ring and the arena outlive the registration.
    pub unsafe fn register(&self, submitter: &Submitter<'_>) -> io::Result<()> {
        let address = self.entries.as_ptr().addr() as u64;
        // SAFETY: the address and the number of entries are those of the allocation, which by
        // the caller's promise lives long enough.
        unsafe { submitter.register_buf_ring_with_flags(address, self.mask + 1, GROUP, 0) }
    }

    /// Puts a buffer back; the kernel sees it after [`RecvRing::publish`].
    pub fn give(&mut self, buf: &RecvBuf) {
        assert!(buf.0 < self.count, "a receive buffer's number");
        let index = usize::from(self.tail & self.mask);
        let offset = usize::from(buf.0) * usize::try_from(self.buffer_bytes).expect("u32 fits");
        // SAFETY: the index is within the allocation by the mask, the offset within the arena by
        // the check in `new`. The kernel does not read an entry behind the published tail. The
        // tail shares bytes with the reserved field of entry 0, which these setters leave alone.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(index);
            entry.set_addr(self.base.as_ptr().add(offset).addr() as u64);
            entry.set_len(self.buffer_bytes);
            entry.set_bid(buf.0);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Keeps the memory for as long as the process: a receive that is still open may take a buffer
    /// from the ring.
    pub const fn leak(&mut self) {
        self.is_leaked = true;
    }

    /// Shows the kernel all buffers given since the last time.
    pub fn publish(&self) {
        // SAFETY: the tail lies in the first entry of the allocation and is aligned; the kernel
        // reads it with acquire order, and only we write it.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.as_ptr());
            AtomicU16::from_ptr(tail.cast_mut()).store(self.tail, Ordering::Release);
        }
    }
}

impl Drop for RecvRing {
    fn drop(&mut self) {
        if self.is_leaked {
            return;
        }
        // SAFETY: allocated in `new` with this layout; the ring that read it has no operation
        // left that could (`Uring`'s `Drop` waits for that, or leaks it).
        unsafe { dealloc(self.entries.as_ptr().cast(), self.layout) };
    }
}
