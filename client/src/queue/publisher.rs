//! Messages into a queue: many in one frame, many frames under way, a confirm for each.

use std::collections::VecDeque;
use std::time::Instant;

use wire::limits::{MESSAGE_BYTES_MAX, PUBLISH_MESSAGES_MAX};
use wire::queue::{MESSAGE_TRANSIENT, RouteTarget, RoutedRow, TargetKind, put_message};
use wire::{Acks, ErrorCode, Kind};

use super::dial::{Target, connect_again, connect_to_targets};
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
    /// The sequence number of the first in its queue, or why they were refused. Of several targets,
    /// the first one's; or the first refusal, though others may have taken them.
    pub outcome: Result<u64, ClientError>,
    /// The connection was lost in between, so they may be there twice.
    pub is_repeated: bool,
}

/// Publishes messages to one queue, or to several queues and partitions.
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
    address: String,
    connect: ConnectOptions,
    targets: Vec<Target>,
    connection: Connection,
    /// The targets by their ids.
    found: Vec<RouteTarget>,
    options: PublisherOptions,
    /// Messages of the next frame.
    messages: Vec<u8>,
    count: u32,
    published: u64,
    unconfirmed: usize,
    frames: VecDeque<Frame>,
    /// Buffers of frames that are confirmed.
    free: Vec<Vec<u8>>,
    confirms: Vec<Confirm>,
    flags: u8,
    reconnects: u64,
    /// The broker stops: what it refused is sent again to the next one.
    is_leaving: bool,
}

/// A frame that is not confirmed.
#[derive(Debug)]
struct Frame {
    /// None if it is to be sent.
    id: Option<RequestId>,
    first: u64,
    count: u32,
    messages: Vec<u8>,
    is_repeated: bool,
}

/// Buffers that are kept for the next frames.
const FREE_BUFFERS_MAX: usize = 64;

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
        QueuePublisher::connect_to(address, &[Target::Queue(queue.to_owned())], connect, options)
    }

    /// Connects for publishing each message to all of these targets.
    ///
    /// # Errors
    /// Nothing answers there, or one of them does not exist.
    pub fn connect_to(
        address: &str,
        targets: &[Target],
        connect: &ConnectOptions,
        options: PublisherOptions,
    ) -> Result<Self, ClientError> {
        let (connection, found) = connect_to_targets(address, targets, connect)?;
        Ok(QueuePublisher {
            address: address.to_owned(),
            connect: connect.clone(),
            targets: targets.to_vec(),
            connection,
            found,
            options,
            messages: Vec::new(),
            count: 0,
            published: 0,
            unconfirmed: 0,
            frames: VecDeque::new(),
            free: Vec::new(),
            confirms: Vec::new(),
            flags: 0,
            reconnects: 0,
            is_leaving: false,
        })
    }

    /// How often the connection was lost and made again.
    pub const fn reconnects(&self) -> u64 {
        self.reconnects
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
        let limits = [
            ("a message", bytes, MESSAGE_BYTES_MAX),
            ("the list of a message's properties", properties.len(), usize::from(u16::MAX)),
        ];
        if let Some((what, bytes, bytes_max)) = limits.into_iter().find(|&(_, n, max)| n > max) {
            return Err(ClientError::MessageTooLarge { what, bytes, bytes_max });
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
        let received = self.connection.receive_now().map(|_| ());
        let taken = received.and_then(|()| self.take_events());
        self.survive(taken)?;
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

    /// Closes the frame that is being filled, and sends what there is room for.
    fn send_frame(&mut self) -> Result<(), ClientError> {
        if self.count > 0 {
            let empty = self.free.pop().unwrap_or_default();
            let messages = std::mem::replace(&mut self.messages, empty);
            self.messages.clear();
            let first = self.published - u64::from(self.count);
            let (id, count, is_repeated) = (None, self.count, false);
            self.frames.push_back(Frame { id, first, count, messages, is_repeated });
            self.count = 0;
        }
        while self.frames.back().is_some_and(|frame| frame.id.is_none()) {
            let sent = self.send_waiting();
            self.survive(sent)?;
            if self.frames.back().is_some_and(|frame| frame.id.is_none()) {
                self.await_some()?;
            }
        }
        Ok(())
    }

    /// Sends frames that wait, as far as the session has room.
    fn send_waiting(&mut self) -> Result<(), ClientError> {
        let waiting = self.frames.partition_point(|frame| frame.id.is_some());
        for frame in self.frames.range_mut(waiting..) {
            let bytes = frame.messages.len() + 64 + size_of_val(self.found.as_slice());
            let session = self.connection.session_mut();
            if !session.has_room(bytes) {
                break;
            }
            let (acks, count) = (self.options.acks, frame.count);
            frame.id = Some(match self.found[..] {
                [one] if one.kind.get() == TargetKind::Queue as u32 => {
                    session.publish(&one.id, acks, count, &frame.messages)?
                }
                _ => session.route(&self.found, acks, count, &frame.messages)?,
            });
        }
        self.connection.send_now()
    }

    /// If the connection was lost it is made again, and what was under way is to be sent again.
    fn survive(&mut self, result: Result<(), ClientError>) -> Result<(), ClientError> {
        let error = match result {
            Err(error) if error.is_passing() => error,
            other => return other,
        };
        let (address, targets, options) = (&self.address, &self.targets, &self.connect);
        let connect = || connect_to_targets(address, targets, options);
        (self.connection, self.found) = connect_again(options, error, connect)?;
        self.reconnects += 1;
        self.is_leaving = false;
        for frame in &mut self.frames {
            frame.is_repeated |= frame.id.take().is_some();
        }
        let sent = self.send_waiting();
        // It is lost again: the next call notices that, too.
        if sent.as_ref().is_err_and(ClientError::is_passing) { Ok(()) } else { sent }
    }

    /// Waits until a confirm has come.
    fn await_some(&mut self) -> Result<(), ClientError> {
        let after = self.connection.request_timeout();
        let mut deadline = Instant::now() + after;
        let (before, reconnects) = (self.unconfirmed, self.reconnects);
        while self.unconfirmed == before {
            if Instant::now() >= deadline {
                return Err(ClientError::TimedOut { what: "confirms", after });
            }
            let exchanged = self.connection.exchange(deadline).map(|_| ());
            let exchanged = exchanged.and_then(|()| self.take_events());
            let exchanged = exchanged.and_then(|()| self.send_waiting());
            self.survive(exchanged)?;
            if self.reconnects > reconnects {
                deadline = deadline.max(Instant::now() + after);
            }
        }
        Ok(())
    }

    fn take_events(&mut self) -> Result<(), ClientError> {
        while let Some(event) = self.connection.session_mut().next_event()? {
            let (id, outcome) = match event {
                Event::Queue(id, QueueEvent::Published(reply)) => (id, Ok(reply.head.first.get())),
                Event::Queue(id, QueueEvent::Routed(reply)) => (id, routed(reply.rows)),
                Event::Refused(id, refusal) => (id, Err(refused(&refusal))),
                _ => continue,
            };
            let is_own = |frame: &Frame| frame.id == Some(id);
            let Some(at) = self.frames.iter().position(is_own) else { continue };
            let code = outcome.as_ref().err().and_then(ClientError::error_code);
            if code == Some(ErrorCode::ShuttingDown) {
                // It was not taken, and the next broker gets it.
                self.is_leaving = true;
                continue;
            }
            let Frame { first, count, messages, is_repeated, .. } =
                self.frames.remove(at).expect("just found");
            if self.free.len() < FREE_BUFFERS_MAX {
                self.free.push(messages);
            }
            self.unconfirmed -= usize::try_from(count).expect("u32 fits usize");
            self.confirms.push(Confirm { first, count, outcome, is_repeated });
        }
        match self.is_leaving {
            true => Err(ClientError::Lost { source: None }),
            false => Ok(()),
        }
    }
}

/// What became of messages that went to several targets.
fn routed(rows: &[RoutedRow]) -> Result<u64, ClientError> {
    match rows.iter().find(|row| row.error.get() != 0) {
        None => Ok(rows.first().map_or(0, |row| row.first.get())),
        Some(row) => {
            let at = rows.iter().position(|other| other == row).expect("just found");
            let detail = format!("target {} of the route did not take them", at + 1);
            let (kind, code) = (Kind::QueueRoute, row.error.get());
            Err(ClientError::Refused { kind, code, detail })
        }
    }
}
