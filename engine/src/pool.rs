//! One shard's memory: an arena of 4 KiB pages, a buddy allocator over it, and counted
//! references to the buffers cut from it. This is the one file of the crate with `unsafe`.
//!
//! A buffer may be read by the kernel (a [`Slice`] in a send or write) while the engine reads it
//! as well; it is only ever filled by one side at a time: a [`FillBuf`] is a token that moves to
//! the backend with the op and back with its done.
#![allow(unsafe_code, reason = "the arena is shared with the kernel, so it is raw memory")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Arc;

use wire::limits::{FRAME_BODY_BYTES_MAX, FRAME_HEADER_BYTES};

use crate::buddy::{Buddy, PAGES_MAX};
use crate::frame::RUN_PREFIX_BYTES;
use crate::port::RecvBuf;

/// Bytes of a page, the unit of allocation and of alignment.
pub const PAGE_BYTES: usize = 4096;
/// Longest buffer that can be allocated.
pub const BUFFER_BYTES_MAX: usize = PAGES_MAX * PAGE_BYTES;
/// Bytes of a reserve: the longest frame, with room for what stands in front of a run's batches.
pub const RESERVE_BYTES: usize =
    (RUN_PREFIX_BYTES + FRAME_HEADER_BYTES + FRAME_BODY_BYTES_MAX).next_multiple_of(PAGE_BYTES);
/// Alignment of the arena: a huge page.
const ARENA_ALIGN: usize = 2 * 1024 * 1024;

/// The memory itself, given back when it is dropped. Whoever lets a kernel write into it keeps
/// it alive until the kernel is done (see [`Arena::base`]).
#[derive(Debug)]
pub struct Arena {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the arena is plain memory with one owner; moving the owner to its shard's thread moves
// the right to access it.
unsafe impl Send for Arena {}
// SAFETY: a shared arena gives no references to its bytes, only an address and copies; that no
// two copies race is the contract of `port`: a slice is unchanged until its done, and a buffer is
// filled only by the holder of its token, which cannot be copied.
unsafe impl Sync for Arena {}

impl Arena {
    fn new(bytes: usize) -> Arena {
        let layout = Layout::from_size_align(bytes, ARENA_ALIGN).expect("arena size is bounded");
        assert!(bytes > 0, "an arena has pages");
        // SAFETY: the layout's size is not zero.
        let base = unsafe { alloc_zeroed(layout) };
        let base = NonNull::new(base).unwrap_or_else(|| handle_alloc_error(layout));
        Arena { base, layout }
    }

    /// Start of the arena, aligned to 2 MiB. For backends, which hand addresses to the kernel.
    pub const fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Its length in bytes.
    pub const fn len(&self) -> usize {
        self.layout.size()
    }

    /// Copies the bytes of `slice`, which an open op names, to `into`, which is as long. For
    /// backends that are not a kernel.
    pub fn copy_out(&self, slice: Slice, into: &mut [u8]) {
        assert_eq!(to_usize(slice.len), into.len(), "the target is as long as the slice");
        self.look_at(slice, |bytes| into.copy_from_slice(bytes));
    }

    /// What `look` makes of the slice's bytes. For backends that are not a kernel.
    pub fn look_at<T>(&self, slice: Slice, look: impl FnOnce(&[u8]) -> T) -> T {
        let len = to_usize(slice.len);
        let offset = self.checked(slice.offset, len);
        // SAFETY: `checked` holds the range inside the arena, which was zeroed when it was made;
        // the op that names the slice is open, so by the contract of `port` nobody writes these
        // bytes meanwhile, and what `look` gets does not outlive this call.
        look(unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(offset), len) })
    }

    /// Fills `buf` with `bytes` from its byte `at`. For backends that are not a kernel.
    pub fn copy_in(&self, buf: &mut FillBuf, at: u32, bytes: &[u8]) {
        let slice = buf.slice;
        assert!(to_usize(at) + bytes.len() <= to_usize(slice.len), "inside the buffer");
        self.write(slice.offset + u64::from(at), bytes);
    }

    /// Fills the provided buffer `buf` with `bytes` from its first byte.
    pub fn copy_in_recv(&self, region: RecvRegion, buf: &mut RecvBuf, bytes: &[u8]) {
        assert!(buf.0 < region.count, "it is one of the region's");
        assert!(bytes.len() <= region.buffer_bytes(), "inside the buffer");
        self.write(u64::from(buf.0) * u64::from(region.bytes), bytes);
    }

    /// Fills `buf` from its byte `at` with the bytes of `slice` in another shard's arena, which
    /// an open op of that shard names.
    pub fn copy_across(&self, from: &Arena, slice: Slice, buf: &mut FillBuf, at: u32) {
        assert_ne!(self.base, from.base, "from another arena");
        let (len, whole) = (to_usize(slice.len), buf.slice);
        assert!(to_usize(at) + len <= to_usize(whole.len), "inside the buffer");
        let source = from.checked(slice.offset, len);
        let target = self.checked(whole.offset + u64::from(at), len);
        // SAFETY: `checked` holds each range inside its arena, and the arenas are different
        // allocations. The op that names the slice is open, so by the contract of `port` nobody
        // writes its bytes meanwhile; the caller has the token of the buffer, so nobody else
        // reads or writes that.
        unsafe {
            let source = from.base.as_ptr().add(source);
            let target = self.base.as_ptr().add(target);
            std::ptr::copy_nonoverlapping(source, target, len);
        }
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        let offset = self.checked(offset, bytes.len());
        // SAFETY: `checked` holds the range inside the arena; the caller has the token of the
        // buffer that the range lies in, so nobody else reads or writes it; `bytes` is memory of
        // its own, so they do not overlap.
        unsafe {
            let target = self.base.as_ptr().add(offset);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len());
        }
    }

    fn checked(&self, offset: u64, len: usize) -> usize {
        let offset = usize::try_from(offset).expect("u64 fits usize on 64-bit Linux");
        let end = offset.checked_add(len).expect("no slice wraps");
        assert!(end <= self.len(), "inside the arena");
        offset
    }

    /// Never true.
    pub const fn is_empty(&self) -> bool {
        self.layout.size() == 0
    }
}

/// Arenas that outlast the shards that used them, for whoever starts many shards one after the
/// other: the pages of a large arena cost more than the shards of a test.
#[derive(Debug, Default)]
pub struct Arenas {
    all: Vec<Arc<Arena>>,
    /// Those that were made ahead.
    ahead: Vec<Arc<Arena>>,
}

impl Arenas {
    /// Makes the arena that a pool of this size takes later: its pages can be had meanwhile.
    pub fn make_ahead(&mut self, recv: RecvRegion, data_bytes: usize) -> Arc<Arena> {
        let arena = Arc::new(Arena::new(arena_bytes(recv, data_bytes)));
        self.ahead.push(Arc::clone(&arena));
        arena
    }

    /// An arena that nobody has, or a new one. It holds whatever it held.
    fn take(&mut self, bytes: usize) -> Arc<Arena> {
        let is_free = |arena: &&Arc<Arena>| Arc::strong_count(arena) == 1 && arena.len() == bytes;
        if let Some(arena) = self.all.iter().find(is_free) {
            return Arc::clone(arena);
        }
        let ahead = self.ahead.iter().position(|arena| arena.len() == bytes);
        let arena = ahead.map_or_else(|| Arc::new(Arena::new(bytes)), |at| self.ahead.remove(at));
        self.all.push(Arc::clone(&arena));
        arena
    }

    /// Makes those that nobody has look new.
    pub fn wipe(&mut self) {
        for arena in self.all.iter_mut().filter_map(Arc::get_mut) {
            let len = arena.len();
            // SAFETY: the allocation is `len` bytes long, and this is its only holder.
            unsafe { std::ptr::write_bytes(arena.base.as_ptr(), 0, len) };
        }
    }
}

fn arena_bytes(recv: RecvRegion, data_bytes: usize) -> usize {
    let data_offset = recv.total_bytes().next_multiple_of(ARENA_ALIGN);
    data_offset + data_bytes.next_multiple_of(BUFFER_BYTES_MAX)
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout. Whoever gave a kernel or another shard an
        // address in it holds an `Arc` until they are done (`Uring` leaks one if they are not).
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

/// Bytes of the arena: where they begin and how many they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slice {
    /// Offset from the arena's base in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub len: u32,
}

/// A buffer's number. Copyable: lifetime is by [`Pool::retain`] and [`Pool::release`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BufId(u32);

/// Where received bytes lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// In the provided receive buffer with this number.
    Recv(u16),
    /// In a buffer of the pool.
    Buf(BufId),
}

/// Bytes somewhere in the pool: named by place, so that they can be looked at again after the
/// pool was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes {
    /// Which buffer.
    pub source: Source,
    /// First byte within it.
    pub at: usize,
    /// How many.
    pub len: usize,
}

impl Bytes {
    /// Its part from byte `from` on, `len` bytes long.
    #[must_use]
    pub fn part(self, from: usize, len: usize) -> Bytes {
        assert!(from + len <= self.len, "a part lies inside the whole");
        Bytes { at: self.at + from, len, ..self }
    }
}

/// A buffer that a backend may fill. Not copyable: whoever has it may write.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct FillBuf {
    id: BufId,
    slice: Slice,
}

impl FillBuf {
    /// The buffer's number.
    pub const fn id(&self) -> BufId {
        self.id
    }

    /// Its bytes in the arena.
    pub const fn slice(&self) -> Slice {
        self.slice
    }
}

/// Where the provided receive buffers lie: at the front of the arena, back to back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecvRegion {
    /// How many.
    pub count: u16,
    /// Bytes of each.
    pub bytes: u32,
}

impl RecvRegion {
    /// Bytes of all of them.
    pub fn total_bytes(self) -> usize {
        usize::from(self.count) * self.buffer_bytes()
    }

    fn buffer_bytes(self) -> usize {
        usize::try_from(self.bytes).expect("u32 fits usize")
    }
}

/// Memory for one frame of any length, for when there is no other: however short memory is, and in
/// however many pieces, one more frame can be taken. What waits for links must not keep memory
/// from what came by one, so each has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserve {
    /// For a frame of a client.
    Clients,
    /// For a frame of another shard.
    Links,
}

/// Where a buffer's pages go when it is freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Home {
    Shared,
    Reserve(Reserve),
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    page: u32,
    pages: u32,
    /// 0 when the entry is free.
    refs: u32,
    home: Home,
}

/// The allocator and all access to the arena's bytes.
#[derive(Debug)]
pub struct Pool {
    arena: Arc<Arena>,
    recv: RecvRegion,
    /// Offset of the first allocatable page.
    data_offset: usize,
    buddy: Buddy,
    /// First page of each reserve that is there and free, by [`Reserve`].
    reserves: [Option<u32>; 2],
    entries: Vec<Entry>,
    free_entries: Vec<u32>,
}

impl Pool {
    /// A pool with at least `data_bytes` allocatable bytes, rounded up to 2 MiB, beside the
    /// receive buffers.
    pub fn new(recv: RecvRegion, data_bytes: usize) -> Pool {
        Pool::within(&mut Arenas::default(), recv, data_bytes)
    }

    /// The same, in one of these arenas if one is free.
    pub fn within(arenas: &mut Arenas, recv: RecvRegion, data_bytes: usize) -> Pool {
        let bytes = arena_bytes(recv, data_bytes);
        let data_bytes = data_bytes.next_multiple_of(BUFFER_BYTES_MAX);
        Pool {
            arena: arenas.take(bytes),
            recv,
            data_offset: bytes - data_bytes,
            buddy: Buddy::new(data_bytes / PAGE_BYTES),
            reserves: [None; 2],
            entries: Vec::new(),
            free_entries: Vec::new(),
        }
    }

    /// The arena, for the backend's registrations.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// The arena, for a backend that must keep it alive as long as a kernel may write into it.
    pub fn shared_arena(&self) -> Arc<Arena> {
        Arc::clone(&self.arena)
    }

    /// The receive buffers' place.
    pub const fn recv_region(&self) -> RecvRegion {
        self.recv
    }

    /// Bytes that could be allocated, were they in one piece.
    pub const fn free_bytes(&self) -> usize {
        self.buddy.free_pages() * PAGE_BYTES
    }

    /// A buffer of at least `bytes` bytes (whole pages) with one reference; its content is
    /// whatever was there. `None` when there is no room; `bytes` beyond [`BUFFER_BYTES_MAX`] is
    /// a programmer's error.
    pub fn alloc(&mut self, bytes: usize) -> Option<BufId> {
        assert!(bytes <= BUFFER_BYTES_MAX, "no buffer is longer than BUFFER_BYTES_MAX");
        let pages = bytes.div_ceil(PAGE_BYTES).max(1);
        let page = self.buddy.alloc(pages)?;
        Some(self.enter(page, pages, Home::Shared))
    }

    /// Keeps memory apart for a reserve. Once for each, while there is room.
    pub fn set_aside(&mut self, reserve: Reserve) {
        let page = self.buddy.alloc(RESERVE_BYTES / PAGE_BYTES);
        self.reserves[reserve as usize] = Some(page.expect("a pool begins empty"));
    }

    /// A buffer of [`RESERVE_BYTES`] with one reference, unless the reserve is in use. It is the
    /// reserve's again when it is released.
    pub fn alloc_reserved(&mut self, reserve: Reserve) -> Option<BufId> {
        let page = self.reserves[reserve as usize].take()?;
        Some(self.enter(page, RESERVE_BYTES / PAGE_BYTES, Home::Reserve(reserve)))
    }

    /// Whether the buffer is the links' reserve, which nothing may keep that waits for a client.
    pub fn is_of_links(&self, id: BufId) -> bool {
        self.live(id).home == Home::Reserve(Reserve::Links)
    }

    fn enter(&mut self, page: u32, pages: usize, home: Home) -> BufId {
        let pages = u32::try_from(pages).expect("bounded by PAGES_MAX");
        let entry = Entry { page, pages, refs: 1, home };
        if let Some(index) = self.free_entries.pop() {
            self.entries[to_usize(index)] = entry;
            return BufId(index);
        }
        let index = u32::try_from(self.entries.len()).expect("bounded by the page count");
        self.entries.push(entry);
        BufId(index)
    }

    /// One more holder of the buffer.
    pub fn retain(&mut self, id: BufId) {
        let entry = self.live_mut(id);
        entry.refs += 1;
    }

    /// One holder less; the last one frees it.
    pub fn release(&mut self, id: BufId) {
        let entry = self.live_mut(id);
        entry.refs -= 1;
        if entry.refs == 0 {
            let Entry { page, pages, home, .. } = *entry;
            match home {
                Home::Shared => self.buddy.free(page, to_usize(pages)),
                Home::Reserve(reserve) => self.reserves[reserve as usize] = Some(page),
            }
            self.free_entries.push(id.0);
        }
    }

    /// How many hold the buffer.
    pub fn refs(&self, id: BufId) -> u32 {
        self.live(id).refs
    }

    /// Number of buffers in use.
    pub fn live_buffers(&self) -> usize {
        self.entries.len() - self.free_entries.len()
    }

    /// Bytes of the buffer.
    pub fn capacity(&self, id: BufId) -> usize {
        to_usize(self.live(id).pages) * PAGE_BYTES
    }

    /// The bytes of the buffer.
    pub fn bytes(&self, id: BufId) -> &[u8] {
        let (offset, len) = self.range(id);
        // SAFETY: `range` holds the pages inside the arena, and while the entry is live (asserted)
        // the allocator gives them to nobody else. Nobody writes them meanwhile: the engine
        // would need `&mut self`, and a backend that fills the buffer holds its `FillBuf`, until
        // whose return the engine does not look (it keeps such buffers as being received into or
        // read into; the simulator fills them with other bytes at once, so that a look is seen).
        unsafe { std::slice::from_raw_parts(self.arena.base.as_ptr().add(offset), len) }
    }

    /// The bytes of the buffer, to write. A kernel may be reading other parts of it.
    pub fn bytes_mut(&mut self, id: BufId) -> &mut [u8] {
        let len = self.capacity(id);
        self.part_mut(id, 0, len)
    }

    /// `len` bytes of the buffer from byte `at`, to write. Other shards may be reading other parts
    /// of it: they are threads of this program, so those parts must not be borrowed here.
    pub fn part_mut(&mut self, id: BufId, at: usize, len: usize) -> &mut [u8] {
        let (offset, capacity) = self.range(id);
        assert!(at <= capacity && len <= capacity - at, "a part lies inside its buffer");
        // SAFETY: as in `bytes`, and `&mut self` makes this the only reference into the arena.
        // That these bytes are in no open op is the engine's to keep: it writes what it has not
        // sent yet, behind what it has (the simulator compares what an op names when it ends).
        unsafe { std::slice::from_raw_parts_mut(self.arena.base.as_ptr().add(offset + at), len) }
    }

    /// Copies `len` bytes between two different buffers.
    pub fn copy(&mut self, from: BufId, from_at: usize, to: BufId, to_at: usize, len: usize) {
        assert_ne!(from, to, "buffers differ");
        let (from_offset, from_len) = self.range(from);
        let (to_offset, to_len) = self.range(to);
        assert!(from_at + len <= from_len && to_at + len <= to_len, "inside both buffers");
        let base = self.arena.base.as_ptr();
        // SAFETY: both ranges are inside the arena, belong to different live buffers and were
        // checked against their lengths, so they do not overlap.
        unsafe {
            let source = base.add(from_offset + from_at);
            let target = base.add(to_offset + to_at);
            std::ptr::copy_nonoverlapping(source, target, len);
        }
    }

    /// The first `len` bytes of a provided receive buffer.
    pub fn recv_bytes(&self, buf: &RecvBuf, len: u32) -> &[u8] {
        assert!(buf.0 < self.recv.count && len <= self.recv.bytes, "inside a receive buffer");
        let offset = usize::from(buf.0) * self.recv.buffer_bytes();
        // SAFETY: inside the receive region by the assertion. The kernel gave this buffer up with
        // the completion that named it, and the engine gives the token back (`RecvReturn`) when
        // it has let go of the bytes; `&self` keeps them from being written by `copy_in_recv`'s
        // callers, who have the token.
        unsafe { std::slice::from_raw_parts(self.arena.base.as_ptr().add(offset), to_usize(len)) }
    }

    /// The bytes at a place.
    pub fn view(&self, place: Bytes) -> &[u8] {
        let bytes = match place.source {
            Source::Recv(index) => self.recv_bytes(&RecvBuf(index), self.recv.bytes),
            Source::Buf(id) => self.bytes(id),
        };
        &bytes[place.at..place.at + place.len]
    }

    /// Copies the bytes at a place into another buffer.
    pub fn copy_from(&mut self, from: Bytes, to: BufId, to_at: usize) {
        match from.source {
            Source::Buf(id) => self.copy(id, from.at, to, to_at, from.len),
            Source::Recv(index) => {
                let source = self.recv_bytes(&RecvBuf(index), self.recv.bytes);
                let source = std::ptr::from_ref(&source[from.at..from.at + from.len]);
                let target = &mut self.bytes_mut(to)[to_at..to_at + from.len];
                // SAFETY: the receive region lies in front of every allocatable page, so the
                // ranges do not overlap, and both were bounds-checked just now.
                unsafe { target.copy_from_slice(&*source) };
            }
        }
    }

    /// `len` bytes of the buffer from byte `at`, as the kernel is told them.
    pub fn slice(&self, id: BufId, at: usize, len: usize) -> Slice {
        let (offset, capacity) = self.range(id);
        assert!(at + len <= capacity, "a slice lies inside its buffer");
        Slice {
            offset: u64::try_from(offset + at).expect("usize fits u64"),
            len: u32::try_from(len).expect("bounded by BUFFER_BYTES_MAX"),
        }
    }

    /// The token with which a backend fills the buffer. The engine keeps its reference and does
    /// not touch the bytes until the token is back.
    pub fn fill(&self, id: BufId) -> FillBuf {
        FillBuf { id, slice: self.slice(id, 0, self.capacity(id)) }
    }

    fn live(&self, id: BufId) -> &Entry {
        let entry = &self.entries[to_usize(id.0)];
        assert!(entry.refs > 0, "the buffer is live");
        entry
    }

    fn live_mut(&mut self, id: BufId) -> &mut Entry {
        let entry = &mut self.entries[to_usize(id.0)];
        assert!(entry.refs > 0, "the buffer is live");
        entry
    }

    fn range(&self, id: BufId) -> (usize, usize) {
        let entry = self.live(id);
        let offset = self.data_offset + to_usize(entry.page) * PAGE_BYTES;
        (offset, to_usize(entry.pages) * PAGE_BYTES)
    }
}

fn to_usize(value: u32) -> usize {
    usize::try_from(value).expect("u32 fits usize")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_cross_from_one_arena_to_another() {
        let region = RecvRegion { count: 1, bytes: 4096 };
        let (mut one, mut other) = (Pool::new(region, 1), Pool::new(region, 1));
        let (from, to) = (one.alloc(4096).expect("room"), other.alloc(4096).expect("room"));
        one.bytes_mut(from)[10..14].copy_from_slice(b"word");
        let mut buf = other.fill(to);
        let slice = one.slice(from, 10, 4);
        other.arena().copy_across(one.arena(), slice, &mut buf, 4092);
        assert_eq!((&other.bytes(to)[4092..], other.bytes(to)[4091]), (&b"word"[..], 0));
    }

    #[test]
    fn buffers_are_counted_and_freed() {
        let mut pool = Pool::new(RecvRegion { count: 4, bytes: 4096 }, 1);
        let all = pool.free_bytes();
        let a = pool.alloc(5000).expect("room");
        let b = pool.alloc(1).expect("room");
        assert_eq!((pool.capacity(a), pool.capacity(b)), (8192, 4096));
        pool.bytes_mut(a)[4999] = 7;
        pool.copy(a, 4999, b, 3, 1);
        assert_eq!(pool.bytes(b)[3], 7);
        pool.retain(a);
        pool.release(a);
        assert_eq!(pool.bytes(a)[4999], 7);
        assert_eq!(pool.free_bytes(), all - 12_288);
        pool.release(a);
        pool.release(b);
        assert_eq!((pool.free_bytes(), pool.live_buffers()), (all, 0));
        assert_eq!(pool.alloc(BUFFER_BYTES_MAX).map(|id| pool.capacity(id)), Some(all));
        assert_eq!(pool.alloc(1), None);
    }

    #[test]
    fn a_reserve_is_there_when_nothing_else_is() {
        let mut pool = Pool::new(RecvRegion { count: 1, bytes: 4096 }, 1);
        pool.set_aside(Reserve::Links);
        while pool.alloc(1).is_some() {}
        assert_eq!(pool.alloc_reserved(Reserve::Clients), None, "it has none");
        for _ in 0..2 {
            let buf = pool.alloc_reserved(Reserve::Links).expect("it is free");
            assert!(pool.capacity(buf) == RESERVE_BYTES && pool.is_of_links(buf));
            assert_eq!(pool.alloc_reserved(Reserve::Links), None, "there is one");
            pool.release(buf);
            assert_eq!(pool.alloc(1), None, "its pages are nobody else's");
        }
    }
}
