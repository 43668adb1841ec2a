//! What moves a producer on: sealing, sending, reading replies.

use std::time::{Duration, Instant};

use wire::ErrorCode;
use wire::batch::BatchBuilder;

use super::delivery::Outcome;
use super::reply::{BatchReply, next_reply};
use super::{Producer, index};
use crate::error::ClientError;
use crate::limits::{OVERLOADED_PAUSE, PRODUCER_PUMP_INTERVAL, REPLY_GRACE};
use crate::network::Network;
use crate::session::{ProduceOptions, RequestId, SendError, ServerTiming};
use crate::transport::Transport;

/// What a producer keeps per connection.
#[derive(Debug, Default)]
pub(super) struct Sending {
    /// The partition of each request in flight, by its slot.
    partitions: Vec<u32>,
    /// When bytes last came or went, or the first batch was sent after none was on its way.
    progress_at: Option<Instant>,
}

impl Sending {
    fn sent(&mut self, id: RequestId, partition: u32) {
        let slot = id.slot();
        if slot >= self.partitions.len() {
            self.partitions.resize(slot + 1, 0);
        }
        self.partitions[slot] = partition;
    }
}

/// Whether a connection moved bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moved {
    Bytes,
    Nothing,
}

impl<N: Network> Producer<N> {
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
            || self.unsent_bytes(self.router.route_of(0, partition)) > bytes_max
        {
            self.wait()?;
        }
        let capacity = self.options.batch_bytes;
        let spare = self.spares.pop().unwrap_or_else(|| BatchBuilder::with_capacity(capacity));
        let now = Instant::now();
        self.queues[index(partition)].seal(now, spare);
        self.sealed_count += 1;
        self.sticky.batch_sent(partition);
        let route = self.router.route_of(0, partition);
        let result = self.transmit(partition, now);
        let result = result.or_else(|error| self.link_failed(route, error, now));
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

    /// Whether bytes wait for a socket to take them.
    pub(super) fn has_unsent(&self) -> bool {
        (0..self.router.routes.len()).any(|route| self.unsent_bytes(route) > 0)
    }

    fn unsent_bytes(&self, route: usize) -> usize {
        let link = self.router.routes[route].link.as_ref();
        link.map_or(0, |link| link.connection.session().outgoing().len())
    }

    fn exchange(&mut self, now: Instant, deadline: Instant) -> Result<(), ClientError> {
        if self.closed {
            return Err(ClientError::ProducerClosed);
        }
        self.pumped_at = now;
        let result = self.try_exchange(now, deadline);
        self.close_on_error(result)
    }

    fn try_exchange(&mut self, now: Instant, deadline: Instant) -> Result<(), ClientError> {
        self.mend(now)?;
        let moved = self.exchange_all(now)?;
        if moved == Moved::Nothing && deadline > now {
            self.router.wait(deadline)?;
            self.exchange_all(Instant::now())?;
        }
        let now = Instant::now();
        for position in (0..self.active.len()).rev() {
            let Some(&partition) = self.active.get(position) else { continue };
            if let Err(error) = self.transmit(partition, now) {
                self.link_failed(self.router.route_of(0, partition), error, now)?;
            }
            if self.queues[index(partition)].unlist_if_idle() {
                self.active.swap_remove(position);
            }
        }
        Ok(())
    }

    fn exchange_all(&mut self, now: Instant) -> Result<Moved, ClientError> {
        let mut moved = Moved::Nothing;
        for route in 0..self.router.routes.len() {
            match self.exchange_one(route, now) {
                Ok(Moved::Bytes) => moved = Moved::Bytes,
                Ok(Moved::Nothing) => {}
                Err(error) => {
                    // What became of it is known now: nothing to wait for.
                    moved = Moved::Bytes;
                    self.link_failed(route, error, now)?;
                }
            }
        }
        Ok(moved)
    }

    /// Sends and receives over one connection, without waiting, and settles what was answered.
    fn exchange_one(&mut self, route: usize, now: Instant) -> Result<Moved, ClientError> {
        let limit = self.options.delivery_timeout + REPLY_GRACE;
        let (Some(link), _) = self.router.parts(route) else { return Ok(Moved::Nothing) };
        let unsent_before = link.connection.session().outgoing().len();
        link.connection.send_now()?;
        let count = link.connection.receive_now()?;
        let unsent = link.connection.session().outgoing().len();
        let moved = count > 0 || unsent < unsent_before;
        if moved {
            link.state.progress_at = Some(now);
        }
        let awaited = link.connection.session().requests_in_flight() > 0 || unsent > 0;
        let progress_at = *link.state.progress_at.get_or_insert(now);
        if awaited && now.saturating_duration_since(progress_at) > limit {
            return Err(ClientError::TimedOut { what: "answer to produce", after: limit });
        }
        if count > 0 {
            self.settle_all(route, now)?;
        }
        Ok(if moved { Moved::Bytes } else { Moved::Nothing })
    }

    fn settle_all(&mut self, route: usize, now: Instant) -> Result<(), ClientError> {
        loop {
            let (Some(link), _) = self.router.parts(route) else { return Ok(()) };
            let Some(reply) = next_reply(&mut link.connection)? else { return Ok(()) };
            let partition = link.state.partitions[reply.id.slot()];
            self.settle(partition, now, &reply)?;
        }
    }

    /// Sends what may be sent of one partition, to its owner.
    fn transmit(&mut self, partition: u32, now: Instant) -> Result<(), ClientError> {
        let timeout_ms = self.options.delivery_timeout.as_millis();
        let options = ProduceOptions {
            acks: self.options.acks,
            timeout_ms: u32::try_from(timeout_ms).unwrap_or(u32::MAX),
            timing: ServerTiming::Omit,
        };
        let route = self.router.route_of(0, partition);
        let (Some(link), topics) = self.router.parts(route) else { return Ok(()) };
        let topic = topics.first().expect("it was looked up by name");
        let (session, transport) = link.connection.parts_mut();
        let queue = &mut self.queues[index(partition)];
        while let Some(sealed) = queue.next_to_send(now, link.serial) {
            if session.requests_in_flight() == 0 && session.outgoing().is_empty() {
                link.state.progress_at = Some(now);
            }
            let batch = sealed.batch.finish();
            let write = match session.produce_borrowed(&options, &topic.topic_id, partition, batch)
            {
                Err(SendError::WindowFull) => break,
                result => result?,
            };
            // A send that fails has taken nothing: the batch waits for another connection.
            let count = transport
                .send(&write.slices())
                .map_err(|source| ClientError::Lost { source: Some(source) })?;
            match write.sent(count) {
                Some(id) => {
                    link.state.sent(id, partition);
                    queue.sent(id, link.serial);
                }
                None => {
                    let sealed = queue.take_sent();
                    self.sealed_count -= 1;
                    let outcome = Outcome::Unacknowledged;
                    self.deliveries.finish(&mut self.spares, partition, sealed, outcome);
                }
            }
        }
        Ok(())
    }

    /// Notes what the broker answered to one batch.
    fn settle(
        &mut self,
        partition: u32,
        now: Instant,
        reply: &BatchReply,
    ) -> Result<(), ClientError> {
        let queue = &mut self.queues[index(partition)];
        let code = ErrorCode::from_u16(reply.code);
        let outcome = match code {
            Some(ErrorCode::None) => Outcome::Acked { base_offset: reply.base_offset },
            Some(ErrorCode::StorageFailed | ErrorCode::TimedOut) => {
                Outcome::InDoubt { detail: reply.sentence() }
            }
            Some(
                ErrorCode::Overloaded
                | ErrorCode::NotOwner
                | ErrorCode::UnknownTopic
                | ErrorCode::UnknownPartition,
            ) => {
                let pause = Duration::from_millis(u64::from(reply.retry_after_ms));
                let stays = queue.refused(reply.id, now + pause.max(OVERLOADED_PAUSE));
                if stays {
                    self.fail_overdue(partition, now, reply);
                    // Another shard may own it by now, or the topic is gone.
                    return match code {
                        Some(ErrorCode::Overloaded) => Ok(()),
                        _ => self.stale(reply.error(), now),
                    };
                }
                let name = code.map_or("refused", ErrorCode::name);
                let detail = format!("{name}, and a later batch went in before it");
                Outcome::Failed { code: reply.code, detail }
            }
            _ => Outcome::Failed { code: reply.code, detail: reply.sentence() },
        };
        if matches!(outcome, Outcome::Acked { .. }) {
            self.router.served();
        }
        let sealed = queue.take(reply.id).expect("the session knows what is in flight");
        let overtaken = match outcome {
            Outcome::Acked { .. } => queue.acked(&sealed),
            _ => Vec::new(),
        };
        self.sealed_count -= 1 + overtaken.len();
        for sealed in overtaken {
            let detail = String::from("overloaded, and a later batch went in before it");
            let outcome = Outcome::Failed { code: ErrorCode::Overloaded.number(), detail };
            self.deliveries.finish(&mut self.spares, partition, sealed, outcome);
        }
        self.deliveries.finish(&mut self.spares, partition, sealed, outcome);
        Ok(())
    }

    /// Gives up refused batches that have been on their way for too long.
    fn fail_overdue(&mut self, partition: u32, now: Instant, reply: &BatchReply) {
        let queue = &mut self.queues[index(partition)];
        while let Some(sealed) = queue.take_overdue(now, self.options.delivery_timeout) {
            self.sealed_count -= 1;
            let detail = match ErrorCode::from_u16(reply.code) {
                Some(ErrorCode::Overloaded) => String::from("the broker stayed overloaded"),
                _ => reply.sentence(),
            };
            let outcome = Outcome::Failed { code: reply.code, detail };
            self.deliveries.finish(&mut self.spares, partition, sealed, outcome);
        }
    }
}
