//! Requests that need bodies of messages: peek and redrive.

use wire::Kind;
use wire::queue::{DeliveredRow, ROW_REDELIVERED};

use super::load::Hand;
use super::pump::push_row;
use super::queues::Ask;
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
}
