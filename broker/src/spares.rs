//! Spare segments: files of zeros that wait to become segments. A durable write into blocks that
//! were written before does not touch the file system's own journal.

use std::fmt;

use engine::layout::FilePath;
use engine::port::Fault;

use crate::directory::{self, DataDir, fault, io_fault};

/// The spares there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spares {
    /// How many.
    pub count: usize,
    /// Bytes of zeros written for them now.
    pub bytes_zeroed: u64,
}

/// The files could not be made.
#[derive(Debug)]
pub struct PrepareError {
    wanted_bytes: u64,
    fault: Fault,
}

impl fmt::Display for PrepareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PrepareError { wanted_bytes, fault } = self;
        if *fault == Fault::ENOSPC {
            return write!(
                f,
                "there is no room for the {wanted_bytes} bytes that prepare asks for: free some \
                 space or ask for less"
            );
        }
        write!(f, "spare segments cannot be made (errno {}): check the disk", fault.0)
    }
}

impl std::error::Error for PrepareError {}

/// Makes spares until they hold `bytes` bytes; those left by an earlier run count. Deletes those
/// of another length, and those beyond `keep_bytes`.
pub fn prepare(
    dir: &DataDir,
    bytes: u64,
    keep_bytes: u64,
    segment_bytes: u64,
) -> Result<Spares, PrepareError> {
    let failed = |fault| PrepareError { wanted_bytes: bytes, fault };
    let count = |bytes: u64| usize::try_from(bytes.div_ceil(segment_bytes)).unwrap_or(usize::MAX);
    let wanted = count(bytes);
    let numbers = usable(dir, wanted.max(count(keep_bytes)), segment_bytes).map_err(failed)?;
    let mut next = numbers.last().map_or(0, |last| last + 1);
    let mut spares = Spares { count: numbers.len(), bytes_zeroed: 0 };
    while spares.count < wanted {
        let path = FilePath::Spare { number: next };
        let made = dir.create(&path).and_then(|file| directory::zero(&file.fd, 0, segment_bytes));
        if let Err(errno) = made {
            // A part of a spare is none. If it cannot be deleted, the next start does.
            let _ = dir.delete(&[path]);
            return Err(failed(fault(errno)));
        }
        spares.bytes_zeroed += segment_bytes;
        spares.count += 1;
        next += 1;
    }
    Ok(spares)
}

/// Numbers of at most `most` spares of the right length, in order; deletes the others.
fn usable(dir: &DataDir, most: usize, segment_bytes: u64) -> Result<Vec<u32>, Fault> {
    let mut numbers = Vec::new();
    let mut useless = Vec::new();
    for entry in dir.list().map_err(|error| io_fault(&error))? {
        let FilePath::Spare { number } = entry.path else { continue };
        if entry.bytes == segment_bytes && numbers.len() < most {
            numbers.push(number);
        } else {
            useless.push(entry.path);
        }
    }
    if !useless.is_empty() {
        dir.delete(&useless).map_err(fault)?;
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    fn spare(number: u32) -> FilePath {
        FilePath::Spare { number }
    }

    #[test]
    fn spares_are_made_kept_and_cleaned_up() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let dir = DataDir::new(root.path().to_path_buf());
        let prepare = |bytes, keep, segment| {
            let spares = prepare(&dir, bytes, keep, segment).expect("there is room");
            (spares.count, spares.bytes_zeroed)
        };
        assert_eq!(prepare(0, 0, 8192), (0, 0));
        assert_eq!(prepare(8192 * 2 + 1, 0, 8192), (3, 3 * 8192));
        dir.delete(&[spare(1)]).expect("as if adopted");
        assert_eq!(prepare(3 * 8192, 0, 8192), (3, 8192), "a gap does no harm");
        assert_eq!(dir.open(&spare(1)).expect_err("numbers only rise"), Errno::NOENT);
        assert_eq!(prepare(0, 2 * 8192, 8192), (2, 0), "as many as may be kept");
        assert_eq!(dir.open(&spare(3)).expect_err("deleted"), Errno::NOENT);
        assert_eq!(prepare(4096, 0, 4096), (1, 4096), "another length is of no use");
        assert_eq!(dir.list().expect("listed").len(), 1);
    }
}
