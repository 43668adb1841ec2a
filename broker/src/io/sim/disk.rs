//! The simulated disk: named files, mutations in flight, and what a power loss leaves. The same
//! state serves a running shard (through [`super::SimIo`]) and recovery (through
//! [`engine::port::Disk`]).
//!
//! Mutations are numbered from 1 over the disk's whole life, so that a plan can cut the power at
//! any of them, or make it fail. Reads are numbered by themselves.

use std::collections::{BTreeMap, VecDeque};

use engine::frame::BLOCK_BYTES;
use engine::layout::FilePath;
use engine::port::{Disk, Fault, FileEntry, Fill, Open, Sync};

use super::file::SimFile;
use super::plan::{Failure, FaultPlan, Honesty};
use super::rng::Rng;

/// What an op that is not aligned gets.
pub const EINVAL: Fault = Fault(22);

/// How many of the newest stable places are remembered.
const SETTLED_MAX: usize = 32;

/// The number of an open file within the disk; a name may move on to another.
pub(super) type Inode = u64;

/// A mutation on its way.
#[derive(Debug, Clone)]
pub(super) enum Mutation {
    Write {
        inode: Inode,
        position: usize,
        bytes: Vec<u8>,
        sync: Sync,
    },
    Flush {
        inode: Inode,
        upto: u64,
    },
    Open {
        path: FilePath,
        open: Open,
    },
    Extend {
        inode: Inode,
        from: usize,
        to: usize,
        fill: Fill,
    },
    Delete {
        paths: Vec<FilePath>,
    },
    /// A flush of all files.
    Settle,
}

/// What may be done with an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    All,
    Reads,
}

impl Mutation {
    /// Whether a file system may be too full for it.
    pub(super) const fn takes_space(&self) -> bool {
        match self {
            Mutation::Write { .. } | Mutation::Extend { .. } => true,
            Mutation::Open { open, .. } => matches!(open, Open::Create | Open::Adopt { .. }),
            Mutation::Flush { .. } | Mutation::Delete { .. } | Mutation::Settle => false,
        }
    }
}

/// Files, and everything that may yet happen to them.
#[derive(Debug, Clone)]
pub struct SimDisk {
    pub(super) rng: Rng,
    pub(super) plan: FaultPlan,
    pub(super) names: BTreeMap<FilePath, Inode>,
    pub(super) files: BTreeMap<Inode, SimFile>,
    inodes: u64,
    pub(super) in_flight: BTreeMap<u64, Mutation>,
    mutations: u64,
    /// Counts effects in their own order, which need not be that of submission.
    pub(super) effects: u64,
    reads: u64,
    bytes_read: u64,
    pub(super) is_off: bool,
    /// Where bytes became stable of late, newest last.
    pub(super) settled: VecDeque<(Inode, usize, usize)>,
}

impl SimDisk {
    /// An empty disk whose accidents are those of this seed.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk {
            rng: Rng::new(seed),
            plan: FaultPlan::default(),
            names: BTreeMap::new(),
            files: BTreeMap::new(),
            inodes: 0,
            in_flight: BTreeMap::new(),
            mutations: 0,
            effects: 0,
            reads: 0,
            bytes_read: 0,
            is_off: false,
            settled: VecDeque::new(),
        }
    }

    /// What goes wrong from now on.
    pub const fn plan(&mut self) -> &mut FaultPlan {
        &mut self.plan
    }

    /// How many mutations have been submitted so far.
    pub const fn mutations(&self) -> u64 {
        self.mutations
    }

    /// How many reads have been submitted so far.
    pub const fn reads(&self) -> u64 {
        self.reads
    }

    /// How many bytes reads have brought so far.
    pub const fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Whether the power is gone: nothing works until [`SimDisk::power_on`].
    pub const fn is_off(&self) -> bool {
        self.is_off
    }

    /// The files that names lead to, with what reads see of them.
    pub fn files(&self) -> impl Iterator<Item = (&FilePath, &[u8])> {
        self.names.iter().map(|(path, inode)| (path, self.files[inode].bytes()))
    }

    /// Changes a file's stable content behind everybody's back. Only after [`SimDisk::power_on`]
    /// and before the next mutation.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn edit(&mut self, path: &FilePath, change: impl FnOnce(&mut Vec<u8>)) {
        let file = self.files.get_mut(&self.names[path]).expect("a name leads to a file");
        let mut bytes = file.bytes().to_vec();
        change(&mut bytes);
        *file = SimFile::stable(bytes);
    }

    /// Whether these bytes are on stable storage anywhere.
    pub fn is_stable(&self, needle: [u8; 8]) -> bool {
        let needle = u64::from_le_bytes(needle);
        let has = |bytes: &[u8]| {
            let mut windows = bytes.windows(8).filter_map(<[u8]>::first_chunk);
            windows.any(|window| u64::from_le_bytes(*window) == needle)
        };
        let recent = self.settled.iter().rev().filter_map(|&(inode, from, to)| {
            let stable = self.files.get(&inode)?.stable_bytes();
            stable.get(from..to.min(stable.len()))
        });
        recent.into_iter().any(has) || self.files.values().any(|file| has(file.stable_bytes()))
    }

    /// Submits a mutation; its number is for [`SimDisk::complete`].
    pub(super) fn begin(&mut self, mutation: Mutation) -> u64 {
        self.assert_alone(&mutation);
        self.mutations += 1;
        self.is_off |= self.plan.power_loss_at == Some(self.mutations);
        self.in_flight.insert(self.mutations, mutation);
        self.mutations
    }

    /// Whether the mutation is a write of these bytes.
    pub(super) fn is_writing(&self, number: u64, written: &[u8]) -> bool {
        let mutation = self.in_flight.get(&number);
        matches!(mutation, Some(Mutation::Write { bytes, .. }) if bytes == written)
    }

    /// A flush submitted now covers all effects up to this one: those of what is done.
    pub(super) const fn effects(&self) -> u64 {
        self.effects
    }

    /// Ends a mutation: its effect is there. Gives the bytes written, the length of the file
    /// opened, or nothing of interest.
    pub(super) fn complete(&mut self, number: u64) -> Result<u64, Fault> {
        let mutation = self.in_flight.remove(&number).expect("every mutation ends once");
        let failure = self.plan.failure(number, &mutation);
        self.end(mutation, failure)
    }

    /// The same for the opening of a file, and what may be done with it. On a file system that is
    /// read-only, files that exist can be read.
    pub(super) fn complete_open(&mut self, number: u64) -> (Access, Result<u64, Fault>) {
        let mutation = self.in_flight.remove(&number).expect("every mutation ends once");
        let failure = self.plan.failure(number, &mutation);
        let exists = |open: &Open| matches!(open, Open::Existing | Open::Buffered);
        match (&mutation, failure) {
            (Mutation::Open { open, .. }, Some(Failure::Fault(Fault::EROFS))) if exists(open) => {
                (Access::Reads, self.perform(mutation))
            }
            _ => (Access::All, self.end(mutation, failure)),
        }
    }

    fn end(&mut self, mutation: Mutation, failure: Option<Failure>) -> Result<u64, Fault> {
        match failure {
            None => self.perform(mutation),
            Some(Failure::Fault(fault)) => {
                match mutation {
                    Mutation::Flush { inode, upto } => self.file(inode).flush_failed(upto),
                    // Names are changed or not, as after a power loss.
                    mutation => self.interrupt(mutation),
                }
                Err(fault)
            }
            Some(Failure::Short) => {
                let Mutation::Write { inode, position, mut bytes, sync } = mutation else {
                    return self.perform(mutation);
                };
                bytes.truncate(self.rng.index(bytes.len() / BLOCK_BYTES) * BLOCK_BYTES);
                self.perform(Mutation::Write { inode, position, bytes, sync })
            }
        }
    }

    pub(super) fn perform(&mut self, mutation: Mutation) -> Result<u64, Fault> {
        self.effects += 1;
        let effect = self.effects;
        let is_honest = self.plan.honesty == Honesty::Honest;
        match mutation {
            Mutation::Write { inode, position, bytes, sync } => {
                self.take_space(inode, position + bytes.len())?;
                let Some((inode, position)) = self.landing(inode, position, bytes.len()) else {
                    return Ok(as_u64(bytes.len()));
                };
                match sync {
                    Sync::Durable if is_honest => {
                        self.settled(inode, position, position + bytes.len());
                        self.file(inode).write_stable(position, &bytes);
                    }
                    _ => self.file(inode).write_cached(effect, position, &bytes),
                }
                Ok(as_u64(bytes.len()))
            }
            Mutation::Flush { inode, upto } => {
                if is_honest {
                    self.settled(inode, 0, usize::MAX);
                    self.file(inode).flush(upto);
                }
                Ok(0)
            }
            Mutation::Settle => {
                if is_honest {
                    self.files.values_mut().for_each(|file| file.flush(u64::MAX));
                }
                Ok(0)
            }
            Mutation::Open { path, open } => self.open(&path, &open),
            Mutation::Extend { inode, from, to, fill } => {
                self.take_space(inode, to)?;
                match fill {
                    Fill::Reserve => self.file(inode).extend_cached(effect, to),
                    Fill::Zero => self.file(inode).write_stable(from, &vec![0; to - from]),
                }
                Ok(0)
            }
            Mutation::Delete { paths } => {
                for path in paths {
                    self.names.remove(&path);
                }
                Ok(0)
            }
        }
    }

    /// Bytes that files may still take.
    pub(super) fn free_bytes(&self) -> u64 {
        let Some(space) = self.plan.space_bytes else { return u64::MAX };
        let used: usize = self.names.values().map(|inode| self.files[inode].bytes().len()).sum();
        as_u64(space.saturating_sub(used))
    }

    /// Whether a file may become so long.
    fn take_space(&mut self, inode: Inode, len: usize) -> Result<(), Fault> {
        let growth = len.saturating_sub(self.file(inode).bytes().len());
        let is_there = growth == 0 || as_u64(growth) <= self.free_bytes();
        if is_there { Ok(()) } else { Err(Fault::ENOSPC) }
    }

    /// Where a write really goes; nowhere if it gets lost.
    fn landing(&mut self, inode: Inode, position: usize, len: usize) -> Option<(Inode, usize)> {
        let happens = |one_in: u64, rng: &mut Rng| one_in > 0 && rng.one_in(one_in);
        if happens(self.plan.lost_writes_one_in, &mut self.rng) {
            return None;
        }
        if happens(self.plan.misdirected_writes_one_in, &mut self.rng) {
            let other = self.rng.index(self.files.len());
            let (&other, file) = self.files.iter().nth(other).expect("there are so many");
            let blocks = file.bytes().len().checked_sub(len)? / BLOCK_BYTES + 1;
            return Some((other, self.rng.index(blocks) * BLOCK_BYTES));
        }
        Some((inode, position))
    }

    fn settled(&mut self, inode: Inode, from: usize, to: usize) {
        if self.settled.len() == SETTLED_MAX {
            self.settled.pop_front();
        }
        self.settled.push_back((inode, from, to));
    }

    pub(super) fn open(&mut self, path: &FilePath, open: &Open) -> Result<u64, Fault> {
        match open {
            Open::Existing | Open::Buffered => {}
            Open::Create => {
                // A full device may have room for a name, and none for what it leads to.
                if self.free_bytes() < as_u64(BLOCK_BYTES) && self.rng.one_in(2) {
                    return Err(Fault::ENOSPC);
                }
                self.name_new(path, Vec::new());
            }
            Open::Adopt { from } => {
                let inode = self.names.remove(from).ok_or(Fault::ENOENT)?;
                self.names.insert(path.clone(), inode);
            }
        }
        let inode = self.names.get(path).ok_or(Fault::ENOENT)?;
        Ok(as_u64(self.files[inode].bytes().len()))
    }

    fn name_new(&mut self, path: &FilePath, bytes: Vec<u8>) {
        self.inodes += 1;
        self.names.insert(path.clone(), self.inodes);
        self.files.insert(self.inodes, SimFile::stable(bytes));
    }

    /// Whether a write to the file is on its way.
    pub(super) fn is_written(&self, inode: Inode) -> bool {
        self.in_flight.values().filter_map(target).any(|(written, ..)| written == inode)
    }

    /// The file that a name leads to.
    pub(super) fn inode(&self, path: &FilePath) -> Option<Inode> {
        self.names.get(path).copied()
    }

    /// A read as an op: numbered, and it may fail.
    pub(super) fn read_at(
        &mut self,
        inode: Inode,
        position: usize,
        len: usize,
    ) -> Result<&[u8], Fault> {
        self.reads += 1;
        if let Some(fault) = self.plan.reads.remove(&self.reads) {
            return Err(fault);
        }
        let bytes = self.files[&inode].bytes();
        let start = position.min(bytes.len());
        let found = &bytes[start..bytes.len().min(position + len)];
        self.bytes_read += as_u64(found.len());
        Ok(found)
    }

    /// Where a read really comes from.
    pub(super) fn source(&mut self, inode: Inode, position: usize) -> (Inode, usize) {
        let one_in = self.plan.foreign_reads_one_in;
        if one_in == 0 || !self.rng.one_in(one_in) {
            return (inode, position);
        }
        let other = self.rng.index(self.files.len());
        let other = self.files.keys().nth(other).expect("there are so many");
        (*other, 0)
    }

    /// A bit of a read of so many bytes that comes back wrong: its byte, and the bit's mask.
    pub(super) fn flipped_bit(&mut self, len: usize) -> Option<(usize, u8)> {
        let one_in = self.plan.flipped_reads_one_in;
        let is_flipped = one_in > 0 && len > 0 && self.rng.one_in(one_in);
        is_flipped.then(|| (self.rng.index(len), 1 << self.rng.below(8)))
    }

    pub(super) fn file(&mut self, inode: Inode) -> &mut SimFile {
        self.files.get_mut(&inode).expect("open and named files are kept")
    }

    /// Two writes in flight to the same bytes have no defined outcome on any device.
    fn assert_alone(&self, mutation: &Mutation) {
        let Some(new) = target(mutation) else { return };
        for other in self.in_flight.values().filter_map(target) {
            let apart = new.0 != other.0 || new.2 <= other.1 || other.2 <= new.1;
            assert!(apart, "two writes in flight overlap: {new:?} and {other:?}");
        }
    }

    /// A whole mutation as recovery makes it: submitted and waited for.
    fn plain(&mut self, mutation: Mutation) -> Result<u64, Fault> {
        let number = self.begin(mutation);
        if self.is_off { Err(Fault::EIO) } else { self.complete(number) }
    }

    fn named(&self, path: &FilePath) -> Result<Inode, Fault> {
        if self.is_off { Err(Fault::EIO) } else { self.inode(path).ok_or(Fault::ENOENT) }
    }
}

impl Disk for SimDisk {
    fn settle(&mut self) -> Result<(), Fault> {
        if self.is_off {
            return Err(Fault::EIO);
        }
        self.plain(Mutation::Settle).map(drop)
    }

    fn list(&mut self) -> Result<Vec<FileEntry>, Fault> {
        if self.is_off {
            return Err(Fault::EIO);
        }
        let entry = |(path, bytes): (&FilePath, &[u8])| FileEntry {
            path: path.clone(),
            bytes: as_u64(bytes.len()),
        };
        Ok(self.files().map(entry).collect())
    }

    fn read(&mut self, path: &FilePath, position: u64, into: &mut [u8]) -> Result<usize, Fault> {
        let inode = self.named(path)?;
        let position = aligned(position, into.len())?;
        let bytes = self.read_at(inode, position, into.len())?;
        into[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    fn write(&mut self, path: &FilePath, position: u64, bytes: &[u8]) -> Result<(), Fault> {
        let inode = self.named(path)?;
        let position = aligned(position, bytes.len())?;
        let (bytes, sync) = (bytes.to_vec(), Sync::Durable);
        let want = as_u64(bytes.len());
        let written = self.plain(Mutation::Write { inode, position, bytes, sync })?;
        if written == want { Ok(()) } else { Err(Fault::EIO) }
    }

    fn create(&mut self, path: &FilePath, bytes: u64) -> Result<(), Fault> {
        let to = aligned(bytes, 0)?;
        if self.is_off {
            return Err(Fault::EIO);
        }
        self.plain(Mutation::Open { path: path.clone(), open: Open::Create })?;
        let inode = self.named(path)?;
        self.plain(Mutation::Extend { inode, from: 0, to, fill: Fill::Zero })?;
        Ok(())
    }

    fn delete(&mut self, path: &FilePath) -> Result<(), Fault> {
        if self.is_off {
            return Err(Fault::EIO);
        }
        self.plain(Mutation::Delete { paths: vec![path.clone()] })?;
        Ok(())
    }
}

/// The position, if it and the length are whole blocks.
pub(super) fn aligned(position: u64, len: usize) -> Result<usize, Fault> {
    let position = usize::try_from(position).map_err(|_| EINVAL)?;
    let is_aligned = position.is_multiple_of(BLOCK_BYTES) && len.is_multiple_of(BLOCK_BYTES);
    if is_aligned { Ok(position) } else { Err(EINVAL) }
}

/// What a mutation writes to: file, first byte, byte behind the last.
const fn target(mutation: &Mutation) -> Option<(Inode, usize, usize)> {
    match mutation {
        Mutation::Write { inode, position, bytes, .. } => {
            Some((*inode, *position, *position + bytes.len()))
        }
        Mutation::Extend { inode, from, to, fill: Fill::Zero } => Some((*inode, *from, *to)),
        _ => None,
    }
}

pub(super) fn as_u64(len: usize) -> u64 {
    u64::try_from(len).expect("lengths in memory fit 64 bits")
}
