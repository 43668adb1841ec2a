//! Answers that are put together from several shards: offsets, a topic's partitions, counters.

use wire::frame::{Envelope, encode};
use wire::topic::{DescribeHead, PartitionState};
use wire::{ErrorCode, FrameHeader, Kind, delete_records, list_offsets, stats};
use zerocopy::{FromBytes, IntoBytes};

use super::{Call, error_of, row_index};
use crate::counters::merged;
use crate::pool::Bytes;
use crate::request::Request;
use crate::shard::Shard;

/// An answer that is being put together.
#[derive(Debug)]
pub struct Gather {
    request: Request,
    /// Answers that are still to come.
    waiting: usize,
    what: What,
}

/// What is put together so far.
#[derive(Debug)]
pub enum What {
    /// Rows of list offsets, in the request's order.
    Offsets(Vec<list_offsets::ReplyEntry>),
    /// Rows of delete records, in the request's order.
    Deletions(Vec<delete_records::ReplyEntry>),
    /// A topic's partitions.
    Topic(DescribeHead, Vec<PartitionState>),
    /// Counters: name and value.
    Counters(Vec<(&'static str, u64)>),
}

impl Shard {
    /// Asks the owners of the rows that were set aside, and answers once they have, and `here`
    /// rows of this shard are settled too. Gives the number of what is put together.
    pub(crate) fn gather_offsets(
        &mut self,
        request: Request,
        wants: &[list_offsets::RequestEntry],
        rows: Vec<list_offsets::ReplyEntry>,
        here: usize,
    ) -> u32 {
        let kind = Kind::ListOffsets;
        self.gather_rows(request, kind, What::Offsets(rows), here, |out, rows| {
            let asked: Vec<_> = rows.iter().map(|&row| wants[row_index(row)]).collect();
            list_offsets::encode(out, &asked);
        })
    }

    /// The same for records to be deleted.
    pub(crate) fn gather_deletions(
        &mut self,
        request: Request,
        wants: &[delete_records::RequestEntry],
        rows: Vec<delete_records::ReplyEntry>,
        here: usize,
    ) -> u32 {
        let kind = Kind::DeleteRecords;
        self.gather_rows(request, kind, What::Deletions(rows), here, |out, rows| {
            let asked: Vec<_> = rows.iter().map(|&row| wants[row_index(row)]).collect();
            delete_records::encode(out, &asked);
        })
    }

    fn gather_rows(
        &mut self,
        request: Request,
        kind: Kind,
        what: What,
        here: usize,
        encode: impl Fn(&mut Vec<u8>, &[u16]),
    ) -> u32 {
        let mut groups = std::mem::take(&mut self.forward.groups);
        let waiting = here + groups.iter().filter(|rows| !rows.is_empty()).count();
        let slot = self.forward.gathers.insert(Gather { request, waiting, what });
        for (shard, rows) in groups.iter_mut().enumerate().filter(|(_, rows)| !rows.is_empty()) {
            let shard = u16::try_from(shard).expect("shards are numbered with u16");
            let rows = std::mem::take(rows);
            let asked = rows.clone();
            let call = Call::Gather { slot, rows };
            self.call(shard, kind.number(), 0, call, &[], |out| encode(out, &asked));
        }
        self.forward.groups = groups;
        slot
    }

    /// A row of this shard is settled.
    pub(crate) fn settle_row(&mut self, slot: u32, settle: impl FnOnce(&mut What)) {
        let gather = self.forward.gathers.get_mut(slot).expect("it waits for this row");
        settle(&mut gather.what);
        self.settle_part(slot);
    }

    fn settle_part(&mut self, slot: u32) {
        let gather = self.forward.gathers.get_mut(slot).expect("it waits");
        gather.waiting -= 1;
        if gather.waiting == 0 {
            let gather = self.forward.gathers.remove(slot).expect("just seen");
            self.answer_gathered(gather);
        }
    }

    /// Asks every other shard the same, and answers once all have.
    pub(crate) fn gather_from_all(&mut self, request: Request, kind: Kind, what: What) {
        let gather = Gather { request, waiting: self.other_shards().count(), what };
        let slot = self.forward.gathers.insert(gather);
        let body = self.pool.view(request.body).to_vec();
        for shard in self.other_shards() {
            let call = Call::Gather { slot, rows: Vec::new() };
            self.call(shard, kind.number(), 0, call, &[], |out| out.extend_from_slice(&body));
        }
    }

    /// Whether the request came from another shard, which gathers by itself.
    pub(crate) fn is_asked_by_shard(&mut self, request: &Request) -> bool {
        self.conns.get(request.conn.0).is_some_and(|conn| conn.link.is_some())
    }

    /// A part of an answer has come.
    pub(super) fn gathered(&mut self, slot: u32, rows: &[u16], header: &FrameHeader, body: Bytes) {
        let bytes = self.pool.view(body);
        let gather = self.forward.gathers.get_mut(slot).expect("it waits for this answer");
        let error = error_of(bytes, header);
        match &mut gather.what {
            What::Offsets(found) => {
                let replies = error.is_none().then(|| list_offsets::decode_reply(bytes));
                let replies = replies.map(|replies| replies.expect("shards speak the protocol"));
                for (index, &row) in rows.iter().enumerate() {
                    match (error, replies) {
                        (Some(code), _) => found[row_index(row)].error = code.into(),
                        (None, Some(replies)) => found[row_index(row)] = replies[index],
                        (None, None) => unreachable!("either is there"),
                    }
                }
            }
            What::Deletions(found) => {
                let replies = error.is_none().then(|| delete_records::decode_reply(bytes));
                let replies = replies.map(|replies| replies.expect("shards speak the protocol"));
                for (index, &row) in rows.iter().enumerate() {
                    match (error, replies) {
                        (Some(code), _) => found[row_index(row)].error = code.into(),
                        (None, Some(replies)) => found[row_index(row)] = replies[index],
                        (None, None) => unreachable!("either is there"),
                    }
                }
            }
            What::Topic(_, found) if error.is_none() => {
                let rows = bytes.get(size_of::<DescribeHead>()..).unwrap_or_default();
                let rows = <[PartitionState]>::ref_from_bytes(rows);
                found.extend_from_slice(rows.expect("shards speak the protocol"));
            }
            What::Counters(rows) if error.is_none() => {
                let reply = stats::Reply::decode(bytes).expect("shards speak the protocol");
                for (row, (name, value)) in rows.iter_mut().zip(reply.counters()) {
                    assert_eq!(row.0, name, "every shard has the same counters");
                    row.1 = merged(row.0, row.1, value);
                }
            }
            What::Topic(..) | What::Counters(_) => {}
        }
        self.settle_part(slot);
    }

    fn answer_gathered(&mut self, Gather { request, what, .. }: Gather) {
        let id = request.conn.0;
        let reply = |kind| Envelope::reply(kind, request.correlation_id);
        let is_live = self.conns.live(request.conn).is_some();
        match what {
            _ if !is_live => {}
            What::Offsets(rows) => self.reply(id, |out| {
                encode(out, reply(Kind::ListOffsets), 0, |out| list_offsets::encode(out, &rows));
            }),
            What::Deletions(rows) => self.reply(id, |out| {
                encode(out, reply(Kind::DeleteRecords), 0, |out| {
                    delete_records::encode(out, &rows);
                });
            }),
            What::Topic(head, mut rows) => {
                rows.sort_unstable_by_key(|row| row.partition.get());
                if u32::try_from(rows.len()) == Ok(head.settings.partitions.get()) {
                    self.reply(id, |out| {
                        encode(out, reply(Kind::DescribeTopic), 0, |out| {
                            out.extend_from_slice(head.as_bytes());
                            out.extend_from_slice(rows.as_bytes());
                        });
                    });
                } else {
                    // It was deleted while the shards were asked.
                    let code = ErrorCode::UnknownTopic;
                    let kind = Kind::DescribeTopic.number();
                    let detail = "no topic has this name";
                    self.reply_error(id, kind, request.correlation_id, code, detail);
                }
            }
            What::Counters(rows) => self.reply(id, |out| {
                encode(out, reply(Kind::Stats), 0, |out| {
                    stats::encode_reply(out, rows.into_iter());
                });
            }),
        }
        self.request_ended(request.conn, request.frame_bytes);
    }
}
