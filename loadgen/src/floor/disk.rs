//! Sequential bandwidth of the disk through O_DIRECT, by size and depth.

use super::probe_file::ProbeFile;
use super::ring::ProbeRing;
use super::{Durability, IdleMode, ProbeError, Setting, Transfer, on_core};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

const FILE_MIB: u32 = 128;
const SIZES: [usize; 3] = [64 << 10, 256 << 10, 1 << 20];
const DEPTHS: [u16; 4] = [1, 2, 4, 8];
const DEPTH_MAX: u16 = 8;
const SIZE_MAX: usize = 1 << 20;
const CELLS: usize = SIZES.len() * DEPTHS.len();

/// What is done to the disk. Writes go into blocks that were written before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOperation {
    /// O_DIRECT write.
    Write,
    /// O_DIRECT write with `RWF_DSYNC`.
    DurableWrite,
    /// O_DIRECT read.
    Read,
}

impl DiskOperation {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Write, Self::DurableWrite, Self::Read];

    fn index(self) -> usize {
        match self {
            Self::Write => 0,
            Self::DurableWrite => 1,
            Self::Read => 2,
        }
    }
}

/// One way to drive the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Bytes of each operation.
    pub size: usize,
    /// Operations in flight.
    pub depth: u16,
}

impl Cell {
    fn number(index: usize) -> Self {
        Self { size: SIZES[index / DEPTHS.len()], depth: DEPTHS[index % DEPTHS.len()] }
    }
}

/// Which cells a slice measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellChoice {
    /// All sizes at all depths.
    All,
    /// Only so many that were best so far.
    Best(usize),
}

/// Sequential O_DIRECT operations from fixed buffers over {64 KiB, 256 KiB, 1 MiB} × depth
/// {1, 2, 4, 8}, on the shard's core.
pub struct DiskProbe {
    file: ProbeFile,
    offset: u64,
    transfers: [[Transfer; CELLS]; DiskOperation::ALL.len()],
}

impl DiskProbe {
    /// Creates and zeroes the scratch file in `dir`.
    pub fn create(dir: &Path) -> Result<Self, ProbeError> {
        let file = ProbeFile::create(dir, "disk", FILE_MIB)?;
        Ok(Self { file, offset: 0, transfers: Default::default() })
    }

    /// Measures each chosen cell of each operation for `time_per_cell`.
    pub fn slice(
        &mut self,
        setting: &Setting,
        choice: CellChoice,
        time_per_cell: Duration,
    ) -> Result<(), ProbeError> {
        on_core(setting.broker_core, || {
            let mut ring = ProbeRing::new(self.file.as_fd(), DEPTH_MAX, SIZE_MAX)?;
            for operation in DiskOperation::ALL {
                for cell in self.chosen(operation, choice) {
                    let transfer =
                        self.measure(&mut ring, operation, cell, setting.disk_idle, time_per_cell)?;
                    self.transfers[operation.index()][cell].add(transfer);
                }
            }
            Ok(())
        })
    }

    /// The best cell of `operation` so far, with its bytes per second.
    #[must_use]
    pub fn best(&self, operation: DiskOperation) -> Option<(Cell, u64)> {
        let best = *self.ranked(operation).first()?;
        let rate = self.transfers[operation.index()][best].bytes_per_s()?;
        Some((Cell::number(best), rate))
    }

    fn chosen(&self, operation: DiskOperation, choice: CellChoice) -> Vec<usize> {
        match choice {
            CellChoice::All => (0..CELLS).collect(),
            CellChoice::Best(count) => {
                let mut ranked = self.ranked(operation);
                ranked.truncate(count);
                ranked
            }
        }
    }

    /// Cells by falling bandwidth; those not measured yet come last.
    fn ranked(&self, operation: DiskOperation) -> Vec<usize> {
        let transfers = &self.transfers[operation.index()];
        let mut cells: Vec<usize> = (0..CELLS).collect();
        cells.sort_by_key(|&cell| std::cmp::Reverse(transfers[cell].bytes_per_s()));
        cells
    }

    fn measure(
        &mut self,
        ring: &mut ProbeRing,
        operation: DiskOperation,
        cell: usize,
        idle: IdleMode,
        time: Duration,
    ) -> Result<Transfer, ProbeError> {
        let Cell { size, depth } = Cell::number(cell);
        let begin = Instant::now();
        for slot in 0..usize::from(depth) {
            self.submit(ring, operation, slot, size);
        }
        let mut bytes = 0;
        while ring.in_flight() > 0 {
            let done = ring.wait(idle)?;
            if done.bytes != size {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
            bytes += done.bytes as u64;
            if begin.elapsed() < time {
                self.submit(ring, operation, done.slot, size);
            }
        }
        let elapsed_ns = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Ok(Transfer { bytes, elapsed_ns })
    }

    fn submit(&mut self, ring: &mut ProbeRing, operation: DiskOperation, slot: usize, size: usize) {
        if self.offset + size as u64 > self.file.len() {
            self.offset = 0;
        }
        let offset = self.offset;
        self.offset += size as u64;
        match operation {
            DiskOperation::Write => ring.write(slot, size, offset, Durability::Written),
            DiskOperation::DurableWrite => ring.write(slot, size, offset, Durability::Durable),
            DiskOperation::Read => ring.read(slot, size, offset),
        }
    }
}
