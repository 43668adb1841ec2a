//! What is known durable, told to the disk: so that recovery can tell damage from a torn tail.
//!
//! Every journal frame carries the watermark of the journal. What direct runs made durable has no
//! journal frame of its own, nor has what recovery wrote, and the frames of a journal file are gone
//! when the ring takes it up again: a frame of watermark entries names those partitions, each with
//! the offset up to which its segments are stored. Such a frame is written when nothing was
//! committed for a while, before a stop, and as the first block of a journal file.

use zerocopy::IntoBytes;

use super::gather::PreparedFrame;
use super::partition::PartitionId;
use super::store::Store;
use crate::frame::{BLOCK_BYTES, ENTRY_BYTES, EntryHeader, EntryKind, HEADER_BYTES};
use crate::pool::{BufId, Pool};
use crate::port::{Now, OpBatch, Sync, Time};
use crate::units::u64_of;

/// Most watermark entries of one frame: it stays one block long, which no power cut tears.
const ENTRIES_MAX: usize = (BLOCK_BYTES - HEADER_BYTES) / ENTRY_BYTES;

/// Partitions whose stored end no watermark on disk covers yet.
#[derive(Debug, Default)]
pub struct Unproven {
    partitions: Vec<PartitionId>,
    since: Time,
}

impl Store {
    /// The journals of earlier starts are written over: what they prove of a partition's end is
    /// said again.
    pub(crate) fn prove_again(&mut self, id: PartitionId) {
        let partition = self.partition_mut(id);
        partition.is_unproven = false;
        partition.proven_in = 0;
        if !partition.segments.is_empty() {
            self.note_unproven(id);
        }
    }

    /// A journal file was taken up again: what it proved of partitions that no later file names
    /// is said again.
    pub(super) fn forget_proofs(&mut self) {
        let journal = &mut self.journal;
        let file = &mut journal.files[journal.active];
        let before = std::mem::replace(&mut file.sequence, journal.file_sequence);
        let mut proves = std::mem::take(&mut file.proves);
        for id in proves.drain(..) {
            let partition = self.partitions.get(id.0);
            if partition.is_some_and(|partition| partition.proven_in == before) {
                self.note_unproven(id);
            }
        }
        let active = self.journal.active;
        self.journal.files[active].proves = proves;
    }

    /// The partition has a stored end that no watermark covers.
    pub(super) fn note_unproven(&mut self, id: PartitionId) {
        let partition = self.partition_mut(id);
        if !partition.is_unproven {
            partition.is_unproven = true;
            if self.unproven.partitions.is_empty() {
                self.unproven.since = self.journal.last_submit;
            }
            self.unproven.partitions.push(id);
        }
    }

    /// Whether everything durable is covered by a watermark on disk.
    pub fn is_proven(&self) -> bool {
        self.unproven.partitions.is_empty()
            && !(self.journal.frames.is_empty() && self.journal.is_unsealed())
    }

    /// Writes a frame of watermarks, if there is anything to tell.
    pub fn publish_watermark(&mut self, pool: &mut Pool, now: Now, batch: &mut OpBatch) {
        let quiet = self.journal.remedy.is_quiet();
        let blocked = self.failed.is_some() || self.journal.unopened > 0 || quiet;
        let crowded = self.journal.writes_in_flight >= self.settings.commits_in_flight;
        if self.is_proven() || blocked || crowded || self.journal.beginning.is_some() {
            return;
        }
        if self.journal_room(BLOCK_BYTES, now.time).is_none() {
            return;
        }
        let Some(buf) = self.journal.free_bufs.pop() else { return };
        self.submit_watermark(pool, now, batch, buf);
    }

    /// Submits a durable frame of watermarks: one block.
    pub(super) fn submit_watermark(
        &mut self,
        pool: &mut Pool,
        now: Now,
        batch: &mut OpBatch,
        buf: BufId,
    ) {
        let mut entries = 0;
        let mut commits = self.journal.free_commits.pop().unwrap_or_default();
        while entries < ENTRIES_MAX {
            let Some(id) = self.unproven.partitions.pop() else { break };
            let Some(partition) = self.partitions.get_mut(id.0) else { continue };
            partition.is_unproven = false;
            partition.users += 1;
            commits.push((id, 0));
            let entry = EntryHeader {
                topic: partition.topic,
                partition: partition.number.into(),
                kind: (EntryKind::Watermark as u16).into(),
                flags: 0.into(),
                base_offset: partition.runs_stored.into(),
                count: 0.into(),
                length: 0.into(),
                crc: 0.into(),
                reserved: 0.into(),
            };
            let row = HEADER_BYTES + entries * ENTRY_BYTES;
            pool.bytes_mut(buf)[row..row + ENTRY_BYTES].copy_from_slice(entry.as_bytes());
            entries += 1;
        }
        if self.unproven.partitions.is_empty() {
            // Else the rest is due at once.
            self.unproven.since = now.time;
        }
        self.counters.journal_entries += u64_of(entries);
        let (sync, flush_by) = (Sync::Durable, now.time);
        let frame = PreparedFrame { buf, waits: 0, entries, data_bytes: 0, sync, flush_by };
        self.submit_frame(pool, now, batch, frame, commits);
    }

    /// When a watermark is due to be published, if one is.
    pub fn seal_deadline(&self) -> Option<Time> {
        let blocked = self.failed.is_some() || self.journal.remedy.is_quiet();
        if blocked || self.is_journal_full || self.is_proven() {
            return None;
        }
        let crowded = self.journal.writes_in_flight >= self.settings.commits_in_flight;
        if crowded || self.is_journal_busy() {
            return None;
        }
        let from = match self.unproven.partitions.is_empty() {
            true => self.journal.last_submit,
            false => self.unproven.since,
        };
        Some(from.plus_ns(self.settings.seal_idle_ns))
    }
}

const _: () = assert!(ENTRIES_MAX >= 64);
