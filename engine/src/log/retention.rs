//! Which segments have served their time: by age, by size, or because their records were deleted.
//!
//! Partitions with limits are looked at once per interval, a few per turn; any partition when it
//! begins a segment.

use std::collections::BTreeSet;

use wire::topic::Settings;

use super::partition::{Partition, PartitionId};
use super::segment::Segment;
use super::store::Store;
use crate::port::{Now, Time};

/// Partitions looked at in one turn.
const CHECKS_PER_TURN: usize = 64;
const NS_PER_MS: u64 = 1_000_000;

/// Who is to be looked at, and when.
#[derive(Debug, Default)]
pub struct Retention {
    /// Partitions with a limit of time or size.
    limited: BTreeSet<PartitionId>,
    /// Partitions that have begun a segment.
    rolled: Vec<PartitionId>,
    /// When the next round begins.
    due: Time,
    /// Where the round goes on.
    cursor: Option<PartitionId>,
}

impl Retention {
    /// Forgets a partition that is deleted.
    pub fn forget(&mut self, id: PartitionId) {
        self.limited.remove(&id);
        self.rolled.retain(|&other| other != id);
    }

    /// The partition has begun a segment.
    pub fn rolled(&mut self, id: PartitionId) {
        self.rolled.push(id);
    }
}

impl Store {
    /// The topic's settings are these from now on.
    pub fn alter_partition(&mut self, id: PartitionId, settings: &Settings) {
        let segment_bytes = self.settings.segment_bytes;
        self.partition_mut(id).take_settings(settings, segment_bytes);
        self.note_limits(id);
        // What is too much now goes now.
        self.retention.rolled.push(id);
    }

    /// Keeps the list of partitions with limits.
    pub(super) fn note_limits(&mut self, id: PartitionId) {
        let partition = self.partition(id);
        if partition.retention_ms > 0 || partition.retention_bytes > 0 {
            self.retention.limited.insert(id);
        } else {
            self.retention.limited.remove(&id);
        }
    }

    /// When partitions are to be looked at, if any have limits.
    pub fn retention_deadline(&self) -> Option<Time> {
        let retention = &self.retention;
        if retention.limited.is_empty() || self.failed.is_some() {
            return None;
        }
        Some(if retention.cursor.is_some() { Time(0) } else { retention.due })
    }

    /// Looks at partitions that are due, a few of them.
    pub fn check_retention(&mut self, now: Now) {
        if self.failed.is_some() {
            return;
        }
        for id in std::mem::take(&mut self.retention.rolled) {
            let Some(partition) = self.partitions.get(id.0) else { continue };
            // The end of what was rolled is on its way to the disk: it goes once it is there.
            let settled = partition.segments.iter().rev().find_map(|segment| segment.next_offset);
            if settled.is_some_and(|end| end > partition.runs_stored) {
                self.retention.rolled.push(id);
            }
            self.check_partition(id, now.wall_ns);
        }
        if self.retention_deadline().is_none_or(|due| due > now.time) {
            return;
        }
        let from = self.retention.cursor.take().unwrap_or(PartitionId(0));
        let ids: Vec<PartitionId> =
            self.retention.limited.range(from..).take(CHECKS_PER_TURN + 1).copied().collect();
        if let Some(&next) = ids.get(CHECKS_PER_TURN) {
            self.retention.cursor = Some(next);
        } else {
            self.retention.due = now.time.plus_ns(self.settings.retention_check_ns);
        }
        for &id in ids.iter().take(CHECKS_PER_TURN) {
            self.check_partition(id, now.wall_ns);
        }
    }

    fn check_partition(&mut self, id: PartitionId, wall_ns: u64) {
        let Some(partition) = self.partitions.get_mut(id.0) else { return };
        let wall_ms = i64::try_from(wall_ns / NS_PER_MS).unwrap_or(i64::MAX);
        let oldest_ms = match i64::try_from(partition.retention_ms) {
            Ok(keep @ 1..) => wall_ms.saturating_sub(keep),
            _ => i64::MIN,
        };
        partition.end_if_old(oldest_ms);
        let offset = partition.kept_from(oldest_ms);
        if offset > partition.log_start || partition.has_waste() {
            self.begin_at(id, offset);
        }
    }
}

impl Partition {
    /// The offset from which records are kept: behind the leading segments that are too old, or
    /// too much.
    fn kept_from(&self, oldest_ms: i64) -> u64 {
        let mut left: u64 = self.segments.iter().map(|segment| segment.end).sum();
        let mut offset = self.log_start;
        for segment in &self.segments {
            let end = segment.next_offset.filter(|&end| end <= self.runs_stored);
            let Some(end) = end.filter(|_| !self.is_written(segment)) else { break };
            left -= segment.end;
            let is_much = self.retention_bytes > 0 && left >= self.retention_bytes;
            if !is_old(segment, oldest_ms) && !is_much {
                break;
            }
            offset = offset.max(end);
        }
        offset
    }

    /// A quiet partition begins a new segment with its next record if all its records are too
    /// old: so it becomes empty.
    fn end_if_old(&mut self, oldest_ms: i64) {
        if self.segments.back().is_some_and(|last| is_old(last, oldest_ms)) {
            self.end_last_if_quiet();
        }
    }
}

fn is_old(segment: &Segment, oldest_ms: i64) -> bool {
    segment.newest.at_most() < oldest_ms
}
