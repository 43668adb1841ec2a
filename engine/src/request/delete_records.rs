//! Delete records: a partition begins later from now on, durably.

use wire::delete_records::{self, BEFORE_END, ReplyEntry, RequestEntry};
use wire::frame::{Envelope, encode};
use wire::{Acks, ErrorCode, Kind};

use super::{Answer, Refusal, Request};
use crate::catalog::Owner;
use crate::forward::What;
use crate::log::partition::PartitionId;
use crate::shard::Shard;

/// A row that waits for its partition.
#[derive(Debug, Clone, Copy)]
pub struct DeletionWait {
    gather: u32,
    row: usize,
    offset: u64,
}

/// What a row asks for.
enum Deletable {
    /// It is so: the partition begins here.
    Already(u64),
    /// The partition shall begin here.
    Wanted(PartitionId, u64),
    /// It is another shard's.
    Elsewhere(u16),
}

impl Shard {
    pub(super) fn delete_records(&mut self, request: Request) -> Result<Answer, Refusal> {
        let entries = delete_records::decode_request(self.pool.view(request.body))?.to_vec();
        let mut rows = Vec::with_capacity(entries.len());
        let mut wants = Vec::new();
        let mut elsewhere = 0;
        for (row, entry) in entries.iter().enumerate() {
            let (error, log_start_offset) = match self.deletable(entry) {
                Ok(Deletable::Already(log_start)) => (ErrorCode::None, log_start),
                Ok(Deletable::Wanted(id, offset)) => {
                    wants.push((id, row, offset));
                    (ErrorCode::None, 0)
                }
                Ok(Deletable::Elsewhere(shard)) => {
                    self.set_aside(shard, row);
                    elsewhere += 1;
                    (ErrorCode::None, 0)
                }
                Err(code) => (code, self.log_start_of(entry)),
            };
            rows.push(ReplyEntry {
                topic_id: entry.topic_id,
                partition: entry.partition,
                error: error.number().into(),
                reserved: 0.into(),
                log_start_offset: log_start_offset.into(),
            });
        }
        if wants.is_empty() && elsewhere == 0 {
            let envelope = Envelope::reply(Kind::DeleteRecords, request.correlation_id);
            self.reply(request.conn.0, |out| {
                encode(out, envelope, 0, |out| delete_records::encode(out, &rows));
            });
            return Ok(Answer::Now);
        }
        let gather = self.gather_deletions(request, &entries, rows, wants.len());
        for (id, row, offset) in wants {
            self.store.begin_at(id, offset);
            let waits = self.deletion_waits.entry(id).or_default();
            waits.push(DeletionWait { gather, row, offset });
        }
        Ok(Answer::Later)
    }

    fn deletable(&self, entry: &RequestEntry) -> Result<Deletable, ErrorCode> {
        if entry.reserved.get() != 0 {
            return Err(ErrorCode::InvalidRequest);
        }
        let owner = self.catalog.owner(&entry.topic_id, entry.partition.get());
        let id = match owner.map_err(|unknown| unknown.code())? {
            Owner::Here(id) => id,
            Owner::There(shard) => return Ok(Deletable::Elsewhere(shard)),
        };
        self.store.refuse()?;
        let durable = self.store.visible(id, Acks::Durable);
        let visible = self.store.visible(id, self.visibility(id)).min(durable);
        let offset = match entry.before_offset.get() {
            BEFORE_END => visible,
            offset if offset > visible => return Err(ErrorCode::OffsetOutOfRange),
            offset => offset,
        };
        let log_start = self.store.partition(id).log_start;
        Ok(match offset > log_start {
            true => Deletable::Wanted(id, offset),
            false => Deletable::Already(log_start),
        })
    }

    fn log_start_of(&self, entry: &RequestEntry) -> u64 {
        let found = self.catalog.partition(&entry.topic_id, entry.partition.get());
        found.map_or(0, |id| self.store.partition(id).log_start)
    }

    /// Answers what the log starts that moved, or could not, have settled.
    pub(crate) fn answer_deletions(&mut self) {
        for (id, result) in std::mem::take(&mut self.store.starts.ended) {
            if self.store.partitions.get(id.0).is_none() {
                continue;
            }
            match result {
                Ok(()) => self.deleted_records(id),
                Err(code) => self.fail_deletions(id, code),
            }
            self.wake_fetches(id);
        }
    }

    fn deleted_records(&mut self, id: PartitionId) {
        let Some(mut waits) = self.deletion_waits.remove(&id) else { return };
        let log_start = self.store.partition(id).log_start;
        waits.retain(|wait| {
            let is_done = wait.offset <= log_start;
            if is_done {
                self.settle_deletion(*wait, ErrorCode::None, log_start);
            }
            !is_done
        });
        if !waits.is_empty() {
            self.deletion_waits.insert(id, waits);
        }
    }

    /// No record of the partition will be deleted for those who wait for it.
    pub(crate) fn fail_deletions(&mut self, id: PartitionId, code: ErrorCode) {
        let log_start = self.store.partitions.get(id.0).map_or(0, |partition| partition.log_start);
        for wait in self.deletion_waits.remove(&id).unwrap_or_default() {
            self.settle_deletion(wait, code, log_start);
        }
    }

    fn settle_deletion(&mut self, wait: DeletionWait, code: ErrorCode, log_start: u64) {
        self.settle_row(wait.gather, |what| {
            let What::Deletions(rows) = what else { unreachable!("it was made for deletions") };
            let row = &mut rows[wait.row];
            row.error = code.number().into();
            row.log_start_offset = log_start.into();
        });
    }
}
