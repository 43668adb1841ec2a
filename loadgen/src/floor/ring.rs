//! The smallest io_uring that the probes need: one file, fixed slots of one arena.
#![allow(unsafe_code, reason = "submitting to io_uring hands buffers to the kernel")]

use super::aligned::AlignedBytes;
use super::{IdleMode, ProbeError};
use io_uring::{IoUring, opcode, squeue, types};
use std::io::{self, IoSliceMut};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd};

const ENTER_GETEVENTS: u32 = 1;
/// The only registered file.
const FILE: types::Fixed = types::Fixed(0);
/// `MSG_WAITALL`: a receive completes when all its bytes have come.
const MSG_WAITALL: i32 = 0x100;
/// `RWF_DSYNC`: a write completes when it is durable.
const RWF_DSYNC: u32 = 2;

/// Whether a write completes when the device has it, or when it is durable there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// In the device, perhaps in its cache.
    Written,
    /// Survives loss of power.
    Durable,
}

/// A finished operation.
pub(super) struct Completion {
    /// The slot of the arena it used.
    pub(super) slot: usize,
    /// Bytes moved.
    pub(super) bytes: usize,
}

/// A ring that belongs to the thread that made it, for one file or socket.
pub(super) struct ProbeRing {
    /// Dropped before the arena that its operations point into.
    ring: ManuallyDrop<IoUring>,
    arena: ManuallyDrop<AlignedBytes>,
    slot_len: usize,
    slots: usize,
    in_flight: usize,
    buffers: Buffers,
}

/// Whether the arena's slots could be registered (the locked-memory limit may forbid it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Buffers {
    Registered,
    Plain,
}

impl ProbeRing {
    /// A ring with `slots` buffers of `slot_len` bytes.
    pub(super) fn new(
        file: BorrowedFd<'_>,
        slots: u16,
        slot_len: usize,
    ) -> Result<Self, ProbeError> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .build(u32::from(slots).next_power_of_two().max(8))
            .map_err(ProbeError::NoUring)?;
        ring.submitter().register_files(&[file.as_raw_fd()])?;
        let slots = usize::from(slots);
        let mut arena = AlignedBytes::new(slots * slot_len, 0xA5);
        let buffers = register(&ring, &mut arena, slot_len)?;
        Ok(Self {
            ring: ManuallyDrop::new(ring),
            arena: ManuallyDrop::new(arena),
            slot_len,
            slots,
            in_flight: 0,
            buffers,
        })
    }

    /// Writes the first `len` bytes of `slot` at `offset` of the file.
    pub(super) fn write(&mut self, slot: usize, len: usize, offset: u64, how: Durability) {
        let (pointer, length, index) = self.buffer(slot, len);
        let entry = match (self.buffers, how) {
            (Buffers::Registered, Durability::Written) => {
                opcode::WriteFixed::new(FILE, pointer, length, index).offset(offset).build()
            }
            (Buffers::Registered, Durability::Durable) => {
                let write = opcode::WriteFixed::new(FILE, pointer, length, index);
                write.offset(offset).rw_flags(RWF_DSYNC.cast_signed()).build()
            }
            (Buffers::Plain, Durability::Written) => {
                opcode::Write::new(FILE, pointer, length).offset(offset).build()
            }
            (Buffers::Plain, Durability::Durable) => {
                let write = opcode::Write::new(FILE, pointer, length);
                write.offset(offset).rw_flags(RWF_DSYNC.cast_signed()).build()
            }
        };
        self.push(slot, &entry);
    }

    /// Reads `len` bytes at `offset` of the file into `slot`.
    pub(super) fn read(&mut self, slot: usize, len: usize, offset: u64) {
        let (pointer, length, index) = self.buffer(slot, len);
        let entry = match self.buffers {
            Buffers::Registered => {
                opcode::ReadFixed::new(FILE, pointer, length, index).offset(offset).build()
            }
            Buffers::Plain => opcode::Read::new(FILE, pointer, length).offset(offset).build(),
        };
        self.push(slot, &entry);
    }

    /// Sends the first `len` bytes of `slot`.
    pub(super) fn send(&mut self, slot: usize, len: usize) {
        let (pointer, length, _) = self.buffer(slot, len);
        self.push(slot, &opcode::Send::new(FILE, pointer, length).build());
    }

    /// Receives exactly `len` bytes into `slot` (fewer only at the end of the stream).
    pub(super) fn receive(&mut self, slot: usize, len: usize) {
        let (pointer, length, _) = self.buffer(slot, len);
        self.push(slot, &opcode::Recv::new(FILE, pointer, length).flags(MSG_WAITALL).build());
    }

    /// Submits what was queued and returns the next completion.
    pub(super) fn wait(&mut self, idle: IdleMode) -> io::Result<Completion> {
        loop {
            if let Some(entry) = self.ring.completion().next() {
                self.in_flight -= 1;
                let bytes = usize::try_from(entry.result())
                    .map_err(|_| io::Error::from_raw_os_error(-entry.result()))?;
                let slot = usize::try_from(entry.user_data()).expect("we set it to a slot");
                return Ok(Completion { slot, bytes });
            }
            assert!(self.in_flight > 0, "waiting for nothing");
            let entered = match idle {
                IdleMode::Park => self.ring.submit_and_wait(1),
                IdleMode::Spin => {
                    let entered = self.enter();
                    rustix::thread::sched_yield();
                    entered
                }
            };
            match entered {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => other.map(drop)?,
            }
        }
    }

    /// Operations that have not completed.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Enters the kernel without sleeping: submits, and lets deferred completions run.
    fn enter(&mut self) -> io::Result<usize> {
        let queued = u32::try_from(self.ring.submission().len()).expect("a small queue");
        // SAFETY: no argument struct is passed, and `queued` entries lie in the submission queue,
        // each of which points into the arena.
        unsafe { self.ring.submitter().enter::<()>(queued, 0, ENTER_GETEVENTS, None) }
    }

    /// Pointer, length and index of the first `len` bytes of a slot.
    fn buffer(&mut self, slot: usize, len: usize) -> (*mut u8, u32, u16) {
        assert!(slot < self.slots && len <= self.slot_len, "slot {slot} of {len} bytes");
        let bytes = &mut self.arena.as_mut_slice()[slot * self.slot_len..][..len];
        let length = u32::try_from(len).expect("slots are far below 4 GiB");
        let index = u16::try_from(slot).expect("the number of slots is a u16");
        (bytes.as_mut_ptr(), length, index)
    }

    fn push(&mut self, slot: usize, entry: &squeue::Entry) {
        let entry = entry.clone().user_data(slot as u64);
        // SAFETY: the entry points into the arena, which lives until all operations have completed
        // (`drop` leaks it otherwise). Nobody reads or writes its bytes meanwhile: `buffer` borrows
        // them for the address alone, and nothing else looks at them after `new`.
        unsafe { self.ring.submission().push(&entry) }.expect("the ring has room for every slot");
        self.in_flight += 1;
    }
}

/// Registers the slots of `arena`, or goes on without where the locked-memory limit forbids it.
fn register(
    ring: &IoUring,
    arena: &mut AlignedBytes,
    slot_len: usize,
) -> Result<Buffers, ProbeError> {
    let slots: Vec<IoSliceMut<'_>> =
        arena.as_mut_slice().chunks_exact_mut(slot_len).map(IoSliceMut::new).collect();
    // SAFETY: `IoSliceMut` is guaranteed to have the layout of `iovec` on Unix.
    let vectors = unsafe { std::slice::from_raw_parts(slots.as_ptr().cast(), slots.len()) };
    // SAFETY: the memory is owned by the same `ProbeRing` as the ring and outlives it.
    match unsafe { ring.submitter().register_buffers(vectors) } {
        Ok(()) => Ok(Buffers::Registered),
        Err(error) if error.kind() == io::ErrorKind::OutOfMemory => Ok(Buffers::Plain),
        Err(error) => Err(error.into()),
    }
}

impl Drop for ProbeRing {
    fn drop(&mut self) {
        // SAFETY: neither field is used again.
        unsafe {
            ManuallyDrop::drop(&mut self.ring);
            if self.in_flight == 0 {
                // Otherwise the kernel may still write to it: leaking is the safe choice.
                ManuallyDrop::drop(&mut self.arena);
            }
        }
    }
}
