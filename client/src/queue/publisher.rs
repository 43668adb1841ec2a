//! Messages into a queue: many in one frame, many frames under way, a confirm for each.

use std::collections::VecDeque;
use std::time::Instant;

use wire::Acks;
use wire::limits::{MESSAGE_BYTES_MAX, PUBLISH_MESSAGES_MAX};
use wire::queue::{MESSAGE_TRANSIENT, QueueId, put_message};

use super::connect_to_owner;
use crate::connection::{ConnectOptions, Connection, refused};
use crate::error::ClientError;
use crate::session::{Event, QueueEvent, RequestId};

/// How a publisher publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublisherOptions {
    /// When a message is confirmed. Default: durable.
    pub acks: Acks,
    /// A frame leaves once it has this many bytes of messages. Default: 32 KiB.
    pub frame_bytes: usize,
    /// Messages that may be without a confirm. Default: 10,000.
    pub unconfirmed_max: usize,
}

impl Default for PublisherOptions {
    fn default() -> Self {
        let (frame_bytes, unconfirmed_max) = (32 * 1024, 10_000);
        PublisherOptions { acks: Acks::Durable, frame_bytes, unconfirmed_max }
    }
}

/// What became of messages that were published one after the other.
#[derive(Debug)]
pub struct Confirm {
    /// The number that [`QueuePublisher::publish`] gave for the first.
    pub first: u64,
    /// How many.
    pub count: u32,
    /// The sequence number of the first in its queue, or why they were refused.
    pub outcome: Result<u64, ClientError>,
}

/// Publishes messages to one queue.
///
/// ```no_run
/// use pelton_client::{ConnectOptions, PublisherOptions, QueuePublisher};
///
/// let connect = ConnectOptions::default();
/// let options = PublisherOptions::default();
/// let mut publisher = QueuePublisher::connect("127.0.0.1:9600", "jobs", &connect, options)?;
/// for job in ["sweep", "paint"] {
///     publisher.publish(b"", job.as_bytes(), 0)?;
/// }
/// for confirm in publisher.flush()? {
///     confirm.outcome?;
/// }
/// # Ok::<(), pelton_client::ClientError>(())
/// ```
#[derive(Debug)]
pub struct QueuePublisher {
    connection: Connection,
    queue: QueueId,
    options: PublisherOptions,
    /// Messages of the next frame.
    messages: Vec<u8>,
    count: u32,
    published: u64,
    unconfirmed: usize,
    /// Frames under way: id, first number, count.
    frames: VecDeque<(RequestId, u64, u32)>,
    confirms: Vec<Confirm>,
    flags: u8,
}

impl QueuePublisher {
    /// Connects to the shard that owns the queue.
    ///
    /// # Errors
    /// Nothing answers there, or the queue does not exist.
    pub fn connect(
        address: &str,
        queue: &str,
        connect: &ConnectOptions,
        options: PublisherOptions,
    ) -> Result<Self, ClientError> {
        let (connection, queue) = connect_to_owner(address, queue, connect)?;
        Ok(QueuePublisher {
            connection,
            queue,
            options,
            messages: Vec::new(),
            count: 0,
            published: 0,
            unconfirmed: 0,
            frames: VecDeque::new(),
            confirms: Vec::new(),
            flags: 0,
        })
    }

    /// From now on messages may be gone after a crash of the broker, and are confirmed at once.
    pub const fn transient(&mut self) {
        self.flags |= MESSAGE_TRANSIENT;
    }

    /// Publishes a message that expires after `ttl_ms`, if that is not 0. Gives its number, by
    /// which its confirm is known. Waits for confirms while too many are missing.
    ///
    /// # Errors
    /// It is too long; the connection is lost.
    pub fn publish(
        &mut self,
        properties: &[u8],
        body: &[u8],
        ttl_ms: u32,
    ) -> Result<u64, ClientError> {
        let bytes = properties.len() + body.len();
        if bytes > MESSAGE_BYTES_MAX || properties.len() > usize::from(u16::MAX) {
            return Err(ClientError::RecordTooLarge { bytes, bytes_max: MESSAGE_BYTES_MAX });
        }
        if self.count > 0 && self.messages.len() + bytes > self.options.frame_bytes {
            self.send_frame()?;
        }
        put_message(&mut self.messages, self.flags, ttl_ms, properties, body);
        self.count += 1;
        self.published += 1;
        self.unconfirmed += 1;
        let is_full = self.messages.len() >= self.options.frame_bytes;
        if is_full || self.count == PUBLISH_MESSAGES_MAX {
            self.send_frame()?;
        }
        while self.unconfirmed > self.options.unconfirmed_max {
            self.send_frame()?;
            self.await_some()?;
        }
        Ok(self.published - 1)
    }

    /// Sends what waits to be sent and takes in the confirms that are there, without waiting.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn poll(&mut self) -> Result<Vec<Confirm>, ClientError> {
        self.send_frame()?;
        self.connection.receive_now()?;
        self.take_events()?;
        Ok(std::mem::take(&mut self.confirms))
    }

    /// Waits until everything is confirmed; gives every confirm that was not taken.
    ///
    /// # Errors
    /// The connection is lost, or times out.
    pub fn flush(&mut self) -> Result<Vec<Confirm>, ClientError> {
        self.send_frame()?;
        while self.unconfirmed > 0 {
            self.await_some()?;
        }
        Ok(std::mem::take(&mut self.confirms))
    }

    fn send_frame(&mut self) -> Result<(), ClientError> {
        if self.count == 0 {
            return Ok(());
        }
        let bytes = self.messages.len() + 64;
        while !self.connection.session().has_room(bytes) {
            self.await_some()?;
        }
        let session = self.connection.session_mut();
        let id = session.publish(&self.queue, self.options.acks, self.count, &self.messages)?;
        let first = self.published - u64::from(self.count);
        self.frames.push_back((id, first, self.count));
        self.messages.clear();
        self.count = 0;
        self.connection.send_now()
    }

    /// Waits until a confirm has come.
    fn await_some(&mut self) -> Result<(), ClientError> {
        let after = self.connection.request_timeout();
        let deadline = Instant::now() + after;
        let before = self.unconfirmed;
        while self.unconfirmed == before {
            if Instant::now() >= deadline {
                return Err(ClientError::TimedOut { what: "confirms", after });
            }
            self.connection.exchange(deadline)?;
            self.take_events()?;
        }
        Ok(())
    }

    fn take_events(&mut self) -> Result<(), ClientError> {
        while let Some(event) = self.connection.session_mut().next_event()? {
            let (id, outcome) = match event {
                Event::Queue(id, QueueEvent::Published(reply)) => (id, Ok(reply.first.get())),
                Event::Refused(id, refusal) => (id, Err(refused(&refusal))),
                _ => continue,
            };
            let Some(at) = self.frames.iter().position(|(other, _, _)| *other == id) else {
                continue;
            };
            let (_, first, count) = self.frames.remove(at).expect("just found");
            self.unconfirmed -= usize::try_from(count).expect("u32 fits usize");
            self.confirms.push(Confirm { first, count, outcome });
        }
        Ok(())
    }
}
