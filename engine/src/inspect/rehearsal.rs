//! Recovery itself, on a disk that keeps nothing of what it writes: would a start succeed?

use crate::boot::{BootError, BootReport, boot};
use crate::layout::FilePath;
use crate::pool::BUFFER_BYTES_MAX;
use crate::port::{Disk, Fault, FileEntry, Now};
use crate::settings::Settings;

/// Memory of the rehearsal: recovery stores what it replays whenever that is used up.
const POOL_BYTES: usize = 8 * BUFFER_BYTES_MAX;

/// Runs the recovery of a start with one shard, which replays the journals of all, as every start
/// does. Nothing is written.
pub fn rehearse(disk: &mut impl Disk) -> Result<BootReport, BootError> {
    let settings = Settings { pool_bytes: POOL_BYTES, ..Settings::production() };
    let mut stage = Stage(disk);
    boot(&settings, &mut stage, Now::default(), 0).map(|(_, report)| report)
}

/// Reads what is there, and forgets what is written: recovery never reads what it wrote.
struct Stage<'d, D>(&'d mut D);

impl<D: Disk> Disk for Stage<'_, D> {
    fn settle(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    fn list(&mut self) -> Result<Vec<FileEntry>, Fault> {
        self.0.list()
    }

    fn read(&mut self, path: &FilePath, position: u64, into: &mut [u8]) -> Result<usize, Fault> {
        self.0.read(path, position, into)
    }

    fn write(&mut self, _path: &FilePath, _position: u64, _bytes: &[u8]) -> Result<(), Fault> {
        Ok(())
    }

    fn create(&mut self, _path: &FilePath, _bytes: u64) -> Result<(), Fault> {
        Ok(())
    }

    fn delete(&mut self, _path: &FilePath) -> Result<(), Fault> {
        Ok(())
    }
}
