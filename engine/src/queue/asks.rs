//! Requests that need bodies of messages: peek and redrive.

use wire::Kind;
use wire::queue::{DeathNote, DeliveredRow, Message, ROW_REDELIVERED, RedriveReply};
use zerocopy::IntoBytes;

use super::journal::Passage;
use super::load::Hand;
use super::pump::push_row;
use super::queues::{Ask, Pending};
use super::state::Doubt;
use crate::port::{Now, OpBatch};
use crate::request::Request;
use crate::shard::Shard;
use crate::units::u32_of;

impl Shard {
    pub(super) fn answer_asks(&mut self, slot: u32, now: Now, batch: &mut OpBatch) {
        while let Some(ask) = self.queues.queue(slot).asks.pop_front() {
            let left = match ask {
                Ask::Peek { request, from, max_messages, max_bytes } => {
                    self.peek(slot, request, (from, max_messages, max_bytes), batch).then_some(ask)
                }
                Ask::Redrive { .. } => self.redrive(slot, ask, now, batch),
            };
            if let Some(left) = left {
                return self.queues.queue(slot).asks.push_front(left);
            }
        }
    }

    /// Shows messages. True if it must go on later.
    fn peek(
        &mut self,
        slot: u32,
        request: Request,
        (mut from, max_messages, max_bytes): (u64, u64, usize),
        batch: &mut OpBatch,
    ) -> bool {
        self.queues.rows.clear();
        self.queues.body.clear();
        let mut taken = 0;
        while taken < max_messages {
            let Some((ready, deliveries, doubt)) = self.queues.queue(slot).state.next_ready(from)
            else {
                break;
            };
            match self.bring(slot, ready.start, batch) {
                Hand::Here => {}
                Hand::Unreadable => continue,
                // What is at hand is enough for now.
                Hand::Later if taken > 0 => break,
                Hand::Later => return true,
            }
            let queues = &mut self.queues;
            let queue = queues.slots.get_mut(slot).expect("it is there");
            let range = ready.start..ready.end.min(ready.start + (max_messages - taken));
            let left = max_bytes.saturating_sub(queues.body.len());
            let (count, bytes) = queue.window.take(range, left).expect("just brought");
            if !queues.body.is_empty() && bytes.len() > left {
                break;
            }
            queues.body.extend_from_slice(bytes);
            let is_again = deliveries > 0 || doubt == Doubt::Suspect;
            let row = DeliveredRow {
                first: ready.start.into(),
                count: u32::try_from(count).expect("bounded").into(),
                deliveries: deliveries.into(),
                flags: if is_again { ROW_REDELIVERED } else { 0 }.into(),
                bytes: u32_of(bytes.len()).into(),
            };
            push_row(&mut queues.rows, row);
            taken += count;
            from = ready.start + count;
        }
        self.send_gathered(slot, (request.conn.0, Kind::QueuePeek, request.correlation_id), 0, 0);
        self.request_ended(request.conn, request.frame_bytes);
        false
    }

    /// Sends dead letters back to where they died. Gives what is left to do.
    fn redrive(&mut self, slot: u32, ask: Ask, now: Now, batch: &mut OpBatch) -> Option<Ask> {
        let Ask::Redrive { request, mut from, mut left, mut moved, mut kept } = ask else {
            return Some(ask);
        };
        let mut end = None;
        while left > 0 {
            let Some(at) = self.queues.queue(slot).state.first_ready(from) else { break };
            match self.bring(slot, at, batch) {
                Hand::Here => {}
                Hand::Unreadable => continue,
                Hand::Later => return Some(Ask::Redrive { request, from, left, moved, kept }),
            }
            let bytes = self.queues.queue(slot).window.message(at).expect("just brought");
            let (message, _) = Message::split(bytes).expect("checked once");
            let origin = message.death.map(|note: &DeathNote| note.origin);
            let target = origin.and_then(|origin| self.queues.slot(&origin));
            let store = self.queues.queue(slot).store;
            let target = target.filter(|&to| self.queues.queue(to).store == store && to != slot);
            from = at + 1;
            left -= 1;
            let Some(to) = target else {
                kept += 1;
                continue;
            };
            if let Err(code) = self.record_move(now.time, slot, at, to, Passage::Return) {
                let kind = Kind::QueueRedrive.number();
                let detail = "the dead letters cannot be moved now";
                self.reply_error(request.conn.0, kind, request.correlation_id, code, detail);
                self.request_ended(request.conn, request.frame_bytes);
                return None;
            }
            end = Some(());
            moved += 1;
        }
        let queue = self.queues.queue(slot);
        let left = queue.state.ready().into();
        let reply = RedriveReply { moved: moved.into(), kept: kept.into(), left };
        let stream = self.stream_of(slot);
        let offset = self.store.partition(stream).progress.appended();
        let body = reply.as_bytes().to_vec();
        if end.is_some() {
            self.answer_at(slot, offset, Pending::Answer(request, Kind::QueueRedrive, body));
        } else {
            self.answer_queue(&request, Kind::QueueRedrive, &body);
        }
        None
    }
}
