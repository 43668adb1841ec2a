//! What moves a producer on: sealing, sending, reading replies, and the end of it all.

use std::time::{Duration, Instant};

use wire::ErrorCode;
use wire::batch::BatchBuilder;

use super::delivery::{Deliveries, Delivery, Outcome};
use super::queue::Sealed;
use super::reply::{BatchReply, next_reply};
use super::{Producer, index};
use crate::error::ClientError;
use crate::limits::{OVERLOADED_PAUSE, PRODUCER_PUMP_INTERVAL, REPLY_GRACE};
use crate::session::{ProduceOptions, SendError, ServerTiming};
use crate::transport::Transport;

impl<T: Transport> Producer<T> {
    /// What every send does after its record is in: sends what is due, looks for replies.
    pub(super) fn drive(&mut self, now: Instant) -> Result<(), ClientError> {
        if now - self.pumped_at >= PRODUCER_PUMP_INTERVAL {
            self.pump(now)?;
        }
        self.seal_due(now)
    }

    /// Seals the batches that have lingered enough or are full, as far as the window has room.
    pub(super) fn seal_due(&mut self, now: Instant) -> Result<(), ClientError> {
        for position in (0..self.active.len()).rev() {
            if self.sealed_count >= self.options.in_flight_max {
                break;
            }
            let Some(&partition) = self.active.get(position) else { continue };
            let lingered = self.queues[index(partition)]
                .opened_at()
                .is_some_and(|at| now.saturating_duration_since(at) >= self.options.linger);
            if lingered || self.is_full(partition, 0) {
                self.seal(partition)?;
            }
        }
        Ok(())
    }

    /// Seals a partition's open batch, waiting until the window has room, and sends it.
    pub(super) fn seal(&mut self, partition: u32) -> Result<(), ClientError> {
        // Batches that nobody answers are bounded by what the socket has not taken yet.
        let bytes_max = self.options.in_flight_max * self.options.batch_bytes;
        while self.sealed_count >= self.options.in_flight_max
            || self.connection.session_mut().outgoing().len() > bytes_max
        {
            self.wait()?;
        }
        let capacity = self.options.batch_bytes;
        let spare = self.spares.pop().unwrap_or_else(|| BatchBuilder::with_capacity(capacity));
        let now = Instant::now();
        self.queues[index(partition)].seal(now, spare);
        self.sealed_count += 1;
        self.sticky.batch_sent(partition);
        let result = self.transmit(partition, now);
        self.close_on_error(result)
    }

    /// Sends and receives without waiting.
    pub(super) fn pump(&mut self, now: Instant) -> Result<(), ClientError> {
        self.exchange(now, now)
    }

    /// Sends and receives, waiting for progress.
    pub(super) fn wait(&mut self) -> Result<(), ClientError> {
        let now = Instant::now();
        let limit = self.options.delivery_timeout + REPLY_GRACE;
        let resume = |&partition: &u32| self.queues[index(partition)].resume_at();
        let resume_at = self.active.iter().filter_map(resume).min();
        let deadline = resume_at.unwrap_or(now + limit).min(now + limit);
        self.exchange(now, deadline)
    }

    fn exchange(&mut self, now: Instant, deadline: Instant) -> Result<(), ClientError> {
        if self.closed {
            return Err(ClientError::ProducerClosed);
        }
        self.pumped_at = now;
        let result = self.try_exchange(deadline);
        self.close_on_error(result)
    }

    fn try_exchange(&mut self, deadline: Instant) -> Result<(), ClientError> {
        let unsent_before = self.connection.session_mut().outgoing().len();
        let count = if deadline > self.pumped_at {
            self.connection.exchange(deadline)?
        } else {
            self.connection.send_now()?;
            self.connection.receive_now()?
        };
        let now = Instant::now();
        let unsent = self.connection.session_mut().outgoing().len();
        if count > 0 || unsent < unsent_before {
            self.progress_at = now;
            while let Some(reply) = next_reply(&mut self.connection)? {
                self.settle(now, &reply);
            }
        }
        let limit = self.options.delivery_timeout + REPLY_GRACE;
        let awaited = self.connection.session_mut().requests_in_flight() > 0 || unsent > 0;
        if awaited && now.saturating_duration_since(self.progress_at) > limit {
            return Err(ClientError::TimedOut { what: "answer to produce", after: limit });
        }
        for position in (0..self.active.len()).rev() {
            let partition = self.active[position];
            self.transmit(partition, now)?;
            if self.queues[index(partition)].unlist_if_idle() {
                self.active.swap_remove(position);
            }
        }
        Ok(())
    }

    /// Sends what may be sent of one partition.
    fn transmit(&mut self, partition: u32, now: Instant) -> Result<(), ClientError> {
        let timeout_ms = self.options.delivery_timeout.as_millis();
        let options = ProduceOptions {
            acks: self.options.acks,
            timeout_ms: u32::try_from(timeout_ms).unwrap_or(u32::MAX),
            timing: ServerTiming::Omit,
        };
        let (session, transport) = self.connection.parts_mut();
        let queue = &mut self.queues[index(partition)];
        while let Some(sealed) = queue.next_to_send(now) {
            if session.requests_in_flight() == 0 && session.outgoing().is_empty() {
                self.progress_at = now;
            }
            let batch = sealed.batch.finish();
            let write =
                match session.produce_borrowed(&options, &self.topic.topic_id, partition, batch) {
                    Err(SendError::WindowFull) => break,
                    result => result?,
                };
            let count = transport
                .send(&write.slices())
                .map_err(|source| ClientError::Lost { source: Some(source) });
            match write.sent(*count.as_ref().unwrap_or(&0)) {
                Some(id) => {
                    self.partitions_by_slot[id.slot()] = partition;
                    queue.sent(id);
                }
                None => {
                    let sealed = queue.take_sent();
                    self.sealed_count -= 1;
                    let outcome = Outcome::Unacknowledged;
                    finish(&mut self.deliveries, &mut self.spares, partition, sealed, outcome);
                }
            }
            count?;
        }
        Ok(())
    }

    /// Notes what the broker answered to one batch.
    fn settle(&mut self, now: Instant, reply: &BatchReply) {
        let partition = self.partitions_by_slot[reply.id.slot()];
        let queue = &mut self.queues[index(partition)];
        let outcome = match ErrorCode::from_u16(reply.code) {
            Some(ErrorCode::None) => Outcome::Acked { base_offset: reply.base_offset },
            Some(ErrorCode::StorageFailed | ErrorCode::TimedOut) => {
                Outcome::InDoubt { detail: reply.sentence() }
            }
            Some(ErrorCode::Overloaded) => {
                let pause = Duration::from_millis(u64::from(reply.retry_after_ms));
                if queue.refused(reply.id, now + pause.max(OVERLOADED_PAUSE)) {
                    return self.fail_overdue(partition, now);
                }
                let detail = String::from("overloaded, and a later batch went in before it");
                Outcome::Failed { code: reply.code, detail }
            }
            _ => Outcome::Failed { code: reply.code, detail: reply.sentence() },
        };
        let sealed = queue.take(reply.id).expect("the session knows what is in flight");
        let overtaken = match outcome {
            Outcome::Acked { .. } => queue.acked(&sealed),
            _ => Vec::new(),
        };
        self.sealed_count -= 1 + overtaken.len();
        let (deliveries, spares) = (&mut self.deliveries, &mut self.spares);
        for sealed in overtaken {
            let detail = String::from("overloaded, and a later batch went in before it");
            let outcome = Outcome::Failed { code: ErrorCode::Overloaded.number(), detail };
            finish(deliveries, spares, partition, sealed, outcome);
        }
        finish(deliveries, spares, partition, sealed, outcome);
    }

    /// Gives up refused batches that have been on their way for too long.
    fn fail_overdue(&mut self, partition: u32, now: Instant) {
        let queue = &mut self.queues[index(partition)];
        while let Some(sealed) = queue.take_overdue(now, self.options.delivery_timeout) {
            self.sealed_count -= 1;
            let detail = String::from("the broker stayed overloaded");
            let outcome = Outcome::Failed { code: ErrorCode::Overloaded.number(), detail };
            finish(&mut self.deliveries, &mut self.spares, partition, sealed, outcome);
        }
    }

    /// Closes the producer if `result` is an error: what was sent is in doubt, the rest failed.
    fn close_on_error(&mut self, result: Result<(), ClientError>) -> Result<(), ClientError> {
        let Err(error) = result else { return Ok(()) };
        self.closed = true;
        let now = Instant::now();
        for partition in std::mem::take(&mut self.active) {
            let queue = &mut self.queues[index(partition)];
            if !queue.open().is_empty() {
                queue.seal(now, BatchBuilder::with_capacity(0));
            }
            while let Some((sealed, was_sent)) = queue.take_any() {
                let outcome = if was_sent {
                    Outcome::InDoubt { detail: error.to_string() }
                } else {
                    Outcome::Failed { code: 0, detail: format!("never sent: {error}") }
                };
                finish(&mut self.deliveries, &mut self.spares, partition, sealed, outcome);
            }
        }
        self.sealed_count = 0;
        Err(error)
    }
}

fn finish(
    deliveries: &mut Deliveries,
    spares: &mut Vec<BatchBuilder>,
    partition: u32,
    sealed: Sealed,
    outcome: Outcome,
) {
    let Sealed { mut batch, first_index, .. } = sealed;
    let record_count = u64::from(batch.record_count());
    deliveries.push(Delivery { partition, first_index, record_count, outcome });
    batch.clear();
    spares.push(batch);
}
