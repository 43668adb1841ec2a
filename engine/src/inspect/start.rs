//! Where streams begin, as their start files say.

use super::verify::{Desk, Kept, Verdict};
use super::{Directory, InspectError, Stream};
use crate::log::start_file::{LogStart, START_FILE_BYTES, read_slots};
use crate::port::{Disk, FileEntry};

/// Reads a start file and gives it its verdict.
pub(super) fn judge<D: Disk>(
    directory: &mut Directory<'_, D>,
    file: &FileEntry,
    stream: Stream,
    desk: &mut Desk<'_>,
) -> Result<Option<LogStart>, InspectError> {
    let buf = directory.pool.alloc(START_FILE_BYTES).expect("one window at a time");
    let got = directory.disk.read(&file.path, 0, directory.pool.bytes_mut(buf));
    let slots = got.map(|got| {
        let bytes = &directory.pool.bytes(buf)[..got];
        read_slots(bytes, directory.key(), &directory.superblock.broker_id, stream)
    });
    directory.pool.release(buf);
    let slots = slots.map_err(|fault| InspectError::Read(file.path.clone(), fault))?;
    let slots = slots.ok_or_else(|| InspectError::Newer(file.path.clone()))?;
    let start = slots.found.map(|(start, _)| start);
    let verdict = match (start, slots.damaged) {
        (None, None) => Verdict::Unused,
        (Some(_), None) => Verdict::Whole,
        (Some(_), Some(position)) => {
            let what = "a slot is damaged; the other one is whole";
            Verdict::Harmless { position, what }
        }
        (None, Some(position)) => {
            let what = "no slot of the start file is whole";
            Verdict::Corrupt { position, offsets: None, what }
        }
    };
    desk.file(file, Kept::default(), verdict);
    Ok(start)
}
