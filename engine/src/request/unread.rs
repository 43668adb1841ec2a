//! Offsets of a fetch that cannot be read: what the consumer is told, and the log.

use wire::ErrorCode;
use wire::fetch::{ReplyEntry, RequestEntry};

use crate::log::damage::END_UNKNOWN;
use crate::log::partition::PartitionId;
use crate::log::read::DiskPlace;
use crate::log::scan::Served;
use crate::port::{Fault, Level, Notice};
use crate::shard::Shard;

impl Shard {
    /// The row of an offset that is known to be damaged. Its last stable offset is where the
    /// damage ends, so that a reader can go on there.
    pub(super) fn damaged_row(
        &mut self,
        want: &RequestEntry,
        id: PartitionId,
    ) -> Option<ReplyEntry> {
        let partition = self.store.partition(id);
        if partition.damaged.is_empty() || self.store.is_in_memory(partition, want.offset.get()) {
            return None;
        }
        let behind = partition.damaged.at(want.offset.get())?.end;
        let mut row = self.unread_row(want, id);
        row.last_stable_offset = behind.into();
        Some(row)
    }

    /// The row of an offset that cannot be read though it should be there. Where the damage ends
    /// is not known.
    pub(super) fn unread_row(&mut self, want: &RequestEntry, id: PartitionId) -> ReplyEntry {
        self.store.counters.fetches_damaged += 1;
        let mut row = self.row(want, id, 0);
        row.error = ErrorCode::DataCorrupt.number().into();
        row.last_stable_offset = END_UNKNOWN.into();
        row
    }

    /// The row of an offset whose segment's file is not there.
    pub(super) fn missing_row(&mut self, want: &RequestEntry, id: PartitionId) -> ReplyEntry {
        let segments = &self.store.partition(id).segments;
        let behind = segments.partition_point(|it| it.base_offset <= want.offset.get());
        if let Some(segment) = behind.checked_sub(1).map(|index| &segments[index]) {
            let sequence = segment.sequence;
            self.store.scrub_soon(id, sequence);
        }
        self.unread_row(want, id)
    }

    /// Tells the log of an offset that is not served.
    pub(super) fn report_unread(&mut self, place: &DiskPlace, offset: u64, served: Served) {
        if served == Served::Corrupt {
            // Where the damage ends is known once the segment was read.
            self.store.scrub_soon(place.partition, place.segment);
        }
        let path = self.store.partition(place.partition).path(place.segment);
        let why = match served {
            Served::Failed(Fault(errno)) => format!("could not be read (errno {errno})"),
            _ => "is damaged or cut short".to_owned(),
        };
        let position = place.position;
        let text = format!("offset {offset} is not served: {path} {why} near byte {position}");
        let level = Level::Error;
        self.notices.push(Notice { level, conn: None, text });
    }
}
