//! Repair of a data directory without its broker: what is damaged is marked as lost, so that the
//! next start answers it with an error at once, and ends that nobody knows are settled. Nothing is
//! deleted or overwritten: a partition's lost file is all that is written, and only its older slot.

use std::collections::BTreeMap;
use std::ops::Range;

use super::verify::{Event, Verdict, verify};
use super::{Directory, InspectError, Stream};
use crate::boot::BootError;
use crate::frame::BLOCK_BYTES;
use crate::layout::FilePath;
use crate::log::damage::{Damaged, END_UNKNOWN};
use crate::log::lost_file::{LOST_FILE_BYTES, LostSlots, fill_lost, read_lost};
use crate::log::store::{Identity, Store};
use crate::port::{Disk, Fault};
use crate::units::u64_of;

/// Offsets that are left out where nobody knows how many records were lost: more than the longest
/// journal can have held, at 65,536 records in each batch of 61 bytes.
pub const OFFSETS_LEFT_OUT: u64 = 1 << 47;

/// Damaged offsets, and what repair does about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mend {
    /// Whose they are.
    pub stream: Stream,
    /// The damaged offsets, up to [`END_UNKNOWN`] if nobody knows how many there are.
    pub damaged: Range<u64>,
    /// The offsets that are marked as lost.
    pub lost: Range<u64>,
    /// Where the damage is, and what is known of it.
    pub what: String,
}

/// What repair would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// By stream and offset.
    pub mends: Vec<Mend>,
    /// What it cannot mend: the next start would be refused.
    pub refusal: Option<BootError>,
}

/// Reads everything, and says what is damaged and what repair would do.
pub fn plan<D: Disk>(directory: &mut Directory<'_, D>) -> Result<Plan, InspectError> {
    let mut found: Vec<(Stream, Range<u64>, String)> = Vec::new();
    let summary = verify(directory, &mut |event| match event {
        Event::File(finding) => {
            let FilePath::Segment { topic, partition, .. } = finding.path else { return };
            if let Verdict::Corrupt { position, offsets: Some(offsets), what } = &finding.verdict {
                let what = format!("{} at byte {position}: {what}", finding.path);
                found.push(((topic, partition), offsets.clone(), what));
            }
        }
        Event::Lost(lost) => {
            found.push((lost.stream, lost.offsets.clone(), lost.what.to_owned()));
        }
    })?;
    for range in &summary.quarantined {
        let what = format!("{} at byte {}: {}", range.path, range.position, range.what);
        found.push(((range.topic, range.partition), range.offsets.clone(), what));
    }
    let mut mends = BTreeMap::new();
    for (stream, damaged, what) in found {
        // A catalog or queue store without some of its records means nothing.
        let is_whole_or_not = [Store::CATALOG_TOPIC, Store::QUEUE_TOPIC].contains(&stream.0);
        if is_whole_or_not && damaged.end != END_UNKNOWN {
            continue;
        }
        let end = match damaged.end {
            END_UNKNOWN => damaged.start.saturating_add(OFFSETS_LEFT_OUT),
            end => end,
        };
        let lost = damaged.start..end;
        mends.entry((stream, damaged.start)).or_insert(Mend { stream, damaged, lost, what });
    }
    Ok(Plan { mends: mends.into_values().collect(), refusal: summary.refusal })
}

impl<D: Disk> Directory<'_, D> {
    /// Marks as lost what the plan says. `wall_ns` is the time.
    pub fn apply(&mut self, plan: &Plan, wall_ns: u64) -> Result<(), InspectError> {
        let mut by_stream: BTreeMap<Stream, Vec<&Mend>> = BTreeMap::new();
        for mend in &plan.mends {
            by_stream.entry(mend.stream).or_default().push(mend);
        }
        for (stream, mends) in by_stream {
            let path = FilePath::Lost { topic: stream.0, partition: stream.1 };
            let marked = self.mark_lost(&path, stream, &mends, wall_ns);
            marked.map_err(|fault| InspectError::Write(path, fault))?;
        }
        Ok(())
    }

    fn mark_lost(
        &mut self,
        path: &FilePath,
        stream: Stream,
        mends: &[&Mend],
        wall_ns: u64,
    ) -> Result<(), Fault> {
        let identity = Identity {
            broker_id: self.superblock.broker_id,
            key: self.key(),
            boot_epoch: self.superblock.boot_epoch.get(),
        };
        let buf = self.pool.alloc(LOST_FILE_BYTES).expect("one window at a time");
        let exists = self.files.iter().any(|file| file.path == *path);
        let mut slots = LostSlots::default();
        if exists {
            let got = self.disk.read(path, 0, self.pool.bytes_mut(buf))?;
            let bytes = &self.pool.bytes(buf)[..got];
            let read = read_lost(bytes, identity.key, &identity.broker_id, stream);
            slots = read.ok_or(Fault::EINVAL)?;
        } else {
            self.disk.create(path, u64_of(LOST_FILE_BYTES))?;
        }
        let (before, writes) = slots.found.unwrap_or_default();
        let mut lost = Damaged::default();
        // An end that was unknown is known from now on.
        before.into_iter().filter(|range| range.end != END_UNKNOWN).for_each(|range| {
            lost.add(range);
        });
        for mend in mends {
            lost.add(mend.lost.clone());
        }
        let block = &mut self.pool.bytes_mut(buf)[..BLOCK_BYTES];
        let position = fill_lost(block, &lost, stream, &identity, writes, wall_ns);
        let written = self.disk.write(path, position, &self.pool.bytes(buf)[..BLOCK_BYTES]);
        self.pool.release(buf);
        written
    }
}
