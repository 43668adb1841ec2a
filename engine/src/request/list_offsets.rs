//! List offsets: earliest and latest at once, by time as soon as the record is found.

use std::collections::VecDeque;

use wire::frame::{Envelope, encode};
use wire::list_offsets::{self, ReplyEntry, RequestEntry};
use wire::{ErrorCode, Kind};

use super::{Answer, Refusal, Request};
use crate::catalog::Owner;
use crate::forward::What;
use crate::log::partition::PartitionId;
use crate::log::slab::Slab;
use crate::log::time_search::{Found, TimeSearch};
use crate::pool::FillBuf;
use crate::port::{Fault, OpBatch};
use crate::shard::Shard;
use crate::units::usize_of;

/// Searches that may wait for their turn; a row beyond them is answered OVERLOADED.
const SEARCHES_MAX: usize = 4096;
/// Searches that go on side by side: each may wait for a read.
const SEARCHES_AT_WORK_MAX: usize = 4;

/// A row that is searched for.
#[derive(Debug)]
struct RowSearch {
    gather: u32,
    row: usize,
    search: TimeSearch,
}

/// Rows that are searched for by time.
#[derive(Debug, Default)]
pub struct Searches {
    rows: Slab<RowSearch>,
    /// Those that go on, or would.
    at_work: Vec<u32>,
    waiting: VecDeque<u32>,
}

/// What a row is answered.
enum Row {
    /// This offset and time.
    Told(u64, i64),
    /// It is searched for.
    Search(PartitionId),
    /// It is another shard's.
    Elsewhere(u16),
}

impl Shard {
    pub(super) fn list_offsets(&mut self, request: Request) -> Result<Answer, Refusal> {
        let entries = list_offsets::decode_request(self.pool.view(request.body))?.to_vec();
        let mut rows = Vec::with_capacity(entries.len());
        let mut wants = Vec::new();
        let mut elsewhere = 0;
        for (row, entry) in entries.iter().enumerate() {
            let (error, (offset, timestamp_ms)) = match self.offset_row(entry) {
                Ok(Row::Told(offset, time)) => (ErrorCode::None, (offset, time)),
                Ok(Row::Search(_)) if self.searches.rows.len() + wants.len() >= SEARCHES_MAX => {
                    (ErrorCode::Overloaded, (0, -1))
                }
                Ok(Row::Search(id)) => {
                    wants.push((id, row, entry.timestamp_ms.get()));
                    (ErrorCode::None, (0, -1))
                }
                Ok(Row::Elsewhere(shard)) => {
                    self.set_aside(shard, row);
                    elsewhere += 1;
                    (ErrorCode::None, (0, -1))
                }
                Err(code) => (code, (0, -1)),
            };
            rows.push(ReplyEntry {
                topic_id: entry.topic_id,
                partition: entry.partition,
                error: error.number().into(),
                reserved: 0.into(),
                offset: offset.into(),
                timestamp_ms: timestamp_ms.into(),
            });
        }
        if wants.is_empty() && elsewhere == 0 {
            let envelope = Envelope::reply(Kind::ListOffsets, request.correlation_id);
            self.reply(request.conn.0, |out| {
                encode(out, envelope, 0, |out| list_offsets::encode(out, &rows));
            });
            return Ok(Answer::Now);
        }
        let gather = self.gather_offsets(request, &entries, rows, wants.len());
        for (id, row, timestamp_ms) in wants {
            let search = self.store.begin_search(id, timestamp_ms, self.visibility(id));
            let slot = self.searches.rows.insert(RowSearch { gather, row, search });
            self.searches.waiting.push_back(slot);
        }
        Ok(Answer::Later)
    }

    fn offset_row(&self, entry: &RequestEntry) -> Result<Row, ErrorCode> {
        let owner = self.catalog.owner(&entry.topic_id, entry.partition.get());
        let id = match owner.map_err(|unknown| unknown.code())? {
            Owner::Here(id) => id,
            Owner::There(shard) => return Ok(Row::Elsewhere(shard)),
        };
        match entry.timestamp_ms.get() {
            list_offsets::TIMESTAMP_LATEST => {
                Ok(Row::Told(self.store.visible(id, self.visibility(id)), -1))
            }
            list_offsets::TIMESTAMP_EARLIEST => {
                Ok(Row::Told(self.store.partition(id).log_start, -1))
            }
            time if time < 0 => Err(ErrorCode::InvalidRequest),
            _ => Ok(Row::Search(id)),
        }
    }

    /// Goes on with searches by time.
    pub(crate) fn serve_searches(&mut self, batch: &mut OpBatch) {
        let mut at_work = std::mem::take(&mut self.searches.at_work);
        at_work.retain(|&slot| self.go_on(batch, slot) == Found::Wait);
        while at_work.len() < SEARCHES_AT_WORK_MAX {
            let Some(slot) = self.searches.waiting.pop_front() else { break };
            if self.go_on(batch, slot) == Found::Wait {
                at_work.push(slot);
            }
        }
        self.searches.at_work = at_work;
    }

    /// Goes on with one search, and answers its row once it has ended.
    fn go_on(&mut self, batch: &mut OpBatch, slot: u32) -> Found {
        let Some(RowSearch { search, .. }) = self.searches.rows.get_mut(slot) else {
            return Found::End(0);
        };
        let found = match self.store.partition(search.partition).is_deleted {
            true if search.is_reading() => Found::Wait,
            true => Found::Failed(ErrorCode::UnknownTopic),
            false => self.store.search(&mut self.pool, batch, search, slot),
        };
        if found != Found::Wait {
            self.end_row(slot, found);
        }
        found
    }

    /// The read of a search ended.
    pub(crate) fn search_read_done(&mut self, slot: u32, fill: &FillBuf, got: Result<u32, Fault>) {
        let buf = fill.id();
        if let Some(RowSearch { search, .. }) = self.searches.rows.get_mut(slot) {
            let got = got.map(usize_of).map_err(|_| ErrorCode::StorageFailed);
            let found = self.store.search_read(&self.pool, search, buf, got);
            if let Some(found) = found {
                self.end_row(slot, found);
            }
        }
        self.pool.release(buf);
    }

    fn end_row(&mut self, slot: u32, found: Found) {
        let Some(RowSearch { gather, row, search }) = self.searches.rows.remove(slot) else {
            return;
        };
        self.searches.at_work.retain(|&other| other != slot);
        self.store.end_search(search);
        self.settle_row(gather, |what| {
            let What::Offsets(rows) = what else { unreachable!("it was made for offsets") };
            let row = &mut rows[row];
            let (error, offset, time) = match found {
                Found::Record(offset, time) => (ErrorCode::None, offset, time),
                Found::End(end) => (ErrorCode::None, end, -1),
                Found::Failed(code) => (code, 0, -1),
                Found::Wait => unreachable!("it has ended"),
            };
            row.error = error.number().into();
            row.offset = offset.into();
            row.timestamp_ms = time.into();
        });
    }
}
