//! Spare segments: files of zeros that wait to become segments. A durable write into blocks that
//! were written before does not touch the file system's own journal.

use std::fmt;
use std::ops::Range;

use engine::layout::FilePath;
use engine::port::Fault;

use crate::directory::{self, DataDir, fault, io_fault};

/// The spares there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spares {
    /// Their numbers.
    pub numbers: Range<u32>,
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

/// Makes spares until they hold `bytes` bytes; those left by an earlier run count, and are
/// deleted if they have another length.
pub fn prepare(dir: &DataDir, bytes: u64, segment_bytes: u64) -> Result<Spares, PrepareError> {
    let failed = |fault| PrepareError { wanted_bytes: bytes, fault };
    let wanted = u32::try_from(bytes.div_ceil(segment_bytes)).unwrap_or(u32::MAX);
    let mut numbers = usable(dir, segment_bytes).map_err(failed)?;
    let mut bytes_zeroed = 0;
    while numbers.end - numbers.start < wanted {
        let path = FilePath::Spare { number: numbers.end };
        let made = dir.create(&path).and_then(|file| directory::zero(&file.fd, 0, segment_bytes));
        if let Err(errno) = made {
            // A part of a spare is none. If it cannot be deleted, the next start does.
            let _ = dir.delete(&[path]);
            return Err(failed(fault(errno)));
        }
        bytes_zeroed += segment_bytes;
        numbers.end += 1;
    }
    Ok(Spares { numbers, bytes_zeroed })
}

/// The last unbroken run of spares of the right length; deletes the others.
fn usable(dir: &DataDir, segment_bytes: u64) -> Result<Range<u32>, Fault> {
    let mut run = 0..0;
    let mut useless = Vec::new();
    for entry in dir.list().map_err(|error| io_fault(&error))? {
        let FilePath::Spare { number } = entry.path else { continue };
        if entry.bytes != segment_bytes {
            useless.push(entry.path);
        } else if run.end == number && !run.is_empty() {
            run.end = number + 1;
        } else {
            useless.extend(run.map(|number| FilePath::Spare { number }));
            run = number..number + 1;
        }
    }
    if !useless.is_empty() {
        dir.delete(&useless).map_err(fault)?;
    }
    Ok(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spare(number: u32) -> FilePath {
        FilePath::Spare { number }
    }

    #[test]
    fn spares_are_made_kept_and_cleaned_up() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let dir = DataDir::new(root.path().to_path_buf());
        assert_eq!(prepare(&dir, 0, 8192).expect("nothing to do").numbers, 0..0);
        let made = prepare(&dir, 8192 * 2 + 1, 8192).expect("there is room");
        assert_eq!(made, Spares { numbers: 0..3, bytes_zeroed: 3 * 8192 });
        dir.delete(&[spare(0)]).expect("as if adopted");
        let again = prepare(&dir, 3 * 8192, 8192).expect("there is room");
        assert_eq!(again, Spares { numbers: 1..4, bytes_zeroed: 8192 });
        dir.delete(&[spare(2)]).expect("a gap");
        assert_eq!(prepare(&dir, 0, 8192).expect("nothing to do").numbers, 3..4);
        assert_eq!(dir.open(&spare(1)).expect_err("deleted"), rustix::io::Errno::NOENT);
        let other = prepare(&dir, 4096, 4096).expect("there is room");
        assert_eq!(other, Spares { numbers: 0..1, bytes_zeroed: 4096 });
        assert_eq!(dir.list().expect("listed").len(), 1);
    }
}
