//! Messages out of a queue: pushed as long as there is credit, or pulled one batch at a time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use wire::queue::{
    CONSUME_AUTO_ACK, ConsumeRequest, DeathNote, Deliver, DeliveredRow, Message, PullRequest,
    QUEUE_EXCLUSIVE, QueueId, ROW_REDELIVERED, Settings, SettleRow, SettledRow, Verb,
};
use wire::{Kind, Malformed};

use super::dial::{connect_again, connect_to_owner};
use crate::connection::{ConnectOptions, Connection, refused};
use crate::error::ClientError;
use crate::session::{Event, QueueEvent, RequestId, Violation};

/// How messages are pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PushOptions {
    /// Messages that may be unsettled; 0: they are settled by being sent. Default: 100.
    pub prefetch: u32,
    /// Consumers with a higher one get messages first. Default: 0.
    pub priority: i16,
}

impl Default for PushOptions {
    fn default() -> Self {
        PushOptions { prefetch: 100, priority: 0 }
    }
}

/// How messages are pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PullOptions {
    /// Most messages. Default: 10.
    pub max_messages: u32,
    /// If there are none, wait this long for one. Default: not at all.
    pub wait: Duration,
    /// How long they are leased; zero (the default): as the queue says.
    pub lease: Duration,
}

impl Default for PullOptions {
    fn default() -> Self {
        PullOptions { max_messages: 10, wait: Duration::ZERO, lease: Duration::ZERO }
    }
}

/// A message that was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueDelivery {
    /// Its number in its queue.
    pub sequence: u64,
    /// The lease it came with; 0 without one.
    pub lease: u64,
    /// How often it has been delivered, this time included.
    pub deliveries: u32,
    /// It may have been delivered before.
    pub redelivered: bool,
    /// When it was published, in ms since 1970.
    pub published_ms: u64,
    /// How it died, if it is a dead letter.
    pub death: Option<DeathNote>,
    /// Its properties.
    pub properties: Vec<u8>,
    /// Its body.
    pub body: Vec<u8>,
}

impl QueueDelivery {
    /// The messages of a reply.
    pub(super) fn all(deliver: &Deliver<'_>) -> Result<Vec<QueueDelivery>, ClientError> {
        let own = |found| {
            let found: Result<(u64, &DeliveredRow, Message<'_>), Malformed> = found;
            let (sequence, row, message) = found.map_err(|malformed| {
                let kind = Kind::QueueDeliver.number();
                ClientError::Protocol(Violation::Body { kind, malformed })
            })?;
            Ok(QueueDelivery {
                sequence,
                lease: deliver.head.lease.get(),
                deliveries: row.deliveries.get(),
                redelivered: row.flags.get() & ROW_REDELIVERED != 0,
                published_ms: message.head.published_ms.get(),
                death: message.death.copied(),
                properties: message.properties.to_vec(),
                body: message.body.to_vec(),
            })
        };
        deliver.messages().map(own).collect()
    }
}

/// Takes messages from one queue, by push or by pull, and settles them.
///
/// ```no_run
/// use std::time::Duration;
/// use pelton_client::{ConnectOptions, PushOptions, QueueConsumer};
///
/// let connect = ConnectOptions::default();
/// let mut consumer = QueueConsumer::connect("127.0.0.1:9600", "jobs", &connect)?;
/// consumer.subscribe(PushOptions::default())?;
/// while let Some(message) = consumer.next(Duration::from_secs(1))? {
///     println!("{}", String::from_utf8_lossy(&message.body));
///     consumer.accept(message.sequence)?;
/// }
/// consumer.flush()?;
/// # Ok::<(), pelton_client::ClientError>(())
/// ```
#[derive(Debug)]
pub struct QueueConsumer {
    address: String,
    name: String,
    connect: ConnectOptions,
    connection: Connection,
    queue: QueueId,
    /// How it subscribed.
    push: Option<PushOptions>,
    reconnects: u64,
    /// The subscription and the consumer's number.
    subscription: Option<(RequestId, u32)>,
    arrived: VecDeque<QueueDelivery>,
    /// Messages that are to be accepted.
    rows: Vec<SettleRow>,
    accepted: u32,
    batch: u32,
}

impl QueueConsumer {
    /// Connects to the shard that owns the queue.
    ///
    /// # Errors
    /// Nothing answers there, or the queue does not exist.
    pub fn connect(
        address: &str,
        queue: &str,
        options: &ConnectOptions,
    ) -> Result<Self, ClientError> {
        let (connection, id) = connect_to_owner(address, queue, options)?;
        Ok(QueueConsumer::over(connection, id, address, queue, options))
    }

    /// Creates a queue of which only this consumer takes messages, while anybody may publish to it.
    /// It goes with the connection: if that is lost the consumer ends.
    ///
    /// # Errors
    /// Nothing answers there, or there is a queue of this name.
    pub fn exclusive(
        address: &str,
        queue: &str,
        settings: &Settings,
        options: &ConnectOptions,
    ) -> Result<Self, ClientError> {
        let mut connection = Connection::connect(address, options)?;
        let flags = settings.flags.get() | QUEUE_EXCLUSIVE;
        let settings = Settings { flags: flags.into(), ..*settings };
        let (id, name) = connection.create_queue(queue, &settings, "")?;
        Ok(QueueConsumer::over(connection, id, address, &name, options))
    }

    fn over(
        connection: Connection,
        queue: QueueId,
        address: &str,
        name: &str,
        options: &ConnectOptions,
    ) -> Self {
        QueueConsumer {
            address: address.to_owned(),
            name: name.to_owned(),
            connect: options.clone(),
            connection,
            queue,
            push: None,
            reconnects: 0,
            subscription: None,
            arrived: VecDeque::new(),
            rows: Vec::new(),
            accepted: 0,
            batch: 1,
        }
    }

    /// The queue's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks for messages to be pushed from now on: [`QueueConsumer::next`] gives them.
    ///
    /// # Errors
    /// The queue has too many consumers, or is another's; the connection is lost or times out.
    pub fn subscribe(&mut self, options: PushOptions) -> Result<(), ClientError> {
        let flags = if options.prefetch == 0 { CONSUME_AUTO_ACK } else { 0 };
        let request = ConsumeRequest {
            queue: self.queue,
            prefetch: options.prefetch.into(),
            priority: options.priority.into(),
            flags,
            reserved: 0,
        };
        let id = self.connection.session_mut().consume(&request)?;
        let consumer = self.connection.answer(id, "answer to consume", |event| match event {
            Event::Queue(_, QueueEvent::Consuming(reply)) => Some(reply.consumer.get()),
            _ => None,
        })?;
        self.subscription = Some((id, consumer));
        self.push = Some(options);
        // Half of what may be unsettled is told at once, so that credit never runs dry.
        self.batch = (options.prefetch / 2).clamp(1, 500);
        Ok(())
    }

    /// How often the connection was lost and made again. What was not settled by then is delivered
    /// again, marked so.
    pub const fn reconnects(&self) -> u64 {
        self.reconnects
    }

    /// If the connection was lost it is made again, with its subscription.
    fn survive<R>(&mut self, result: Result<R, ClientError>) -> Result<Option<R>, ClientError> {
        let mut error = match result {
            Err(error) if error.is_passing() => error,
            other => return other.map(Some),
        };
        loop {
            let (address, name, options) = (&self.address, &self.name, &self.connect);
            let connect = || connect_to_owner(address, name, options);
            (self.connection, self.queue) = connect_again(options, error, connect)?;
            self.reconnects += 1;
            self.subscription = None;
            // It all comes again.
            self.arrived.clear();
            self.rows.clear();
            self.accepted = 0;
            match self.push.map_or(Ok(()), |push| self.subscribe(push)) {
                Err(again) if again.is_passing() => error = again,
                other => return other.map(|()| None),
            }
        }
    }

    /// The next message that was pushed, waiting for it at most so long. What was accepted before
    /// is told to the broker first, if there is to be a wait.
    ///
    /// # Errors
    /// The broker has ended the consumer; the connection is lost.
    pub fn next(&mut self, wait: Duration) -> Result<Option<QueueDelivery>, ClientError> {
        let deadline = Instant::now() + wait;
        loop {
            if let Some(delivery) = self.arrived.pop_front() {
                return Ok(Some(delivery));
            }
            let told = self.tell_accepted().and_then(|()| self.take_events());
            self.survive(told)?;
            if self.arrived.is_empty() {
                if Instant::now() >= deadline {
                    return Ok(None);
                }
                let exchanged = self.connection.exchange(deadline).map(|_| ());
                let exchanged = exchanged.and_then(|()| self.take_events());
                self.survive(exchanged)?;
            }
        }
    }

    /// Messages, if there are any or come while it waits.
    ///
    /// # Errors
    /// The connection is lost or times out.
    pub fn pull(&mut self, options: PullOptions) -> Result<Vec<QueueDelivery>, ClientError> {
        let ms = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        // A wait is cut into pieces, each answered in time.
        let piece = self.connection.request_timeout() / 2;
        let deadline = Instant::now() + options.wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let request = PullRequest {
                queue: self.queue,
                max_messages: options.max_messages.into(),
                max_bytes: u32::MAX.into(),
                wait_ms: ms(left.min(piece)).into(),
                lease_ms: ms(options.lease).into(),
            };
            let pulled = self.pull_once(&request);
            match self.survive(pulled)? {
                Some(found) if !found.is_empty() || Instant::now() >= deadline => {
                    return Ok(found);
                }
                _ => {}
            }
        }
    }

    fn pull_once(&mut self, request: &PullRequest) -> Result<Vec<QueueDelivery>, ClientError> {
        let request = PullRequest { queue: self.queue, ..*request };
        let id = self.connection.session_mut().pull(&request)?;
        self.connection.answer(id, "answer to pull", |event| match event {
            Event::Queue(_, QueueEvent::Pulled(reply)) => Some(QueueDelivery::all(reply)),
            _ => None,
        })?
    }

    /// A message that was pushed is done: told to the broker with others, without an answer.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn accept(&mut self, sequence: u64) -> Result<(), ClientError> {
        match self.rows.last_mut() {
            Some(row) if row.last.get() + 1 == sequence => row.last = sequence.into(),
            _ => self.rows.push(row(sequence..=sequence, 0, Verb::Accept, Duration::ZERO)),
        }
        self.accepted += 1;
        let is_full = self.rows.len() == wire::limits::SETTLE_ROWS_MAX;
        if self.accepted < self.batch && !is_full {
            return Ok(());
        }
        let told = self.tell_accepted();
        self.survive(told).map(|_| ())
    }

    /// Says what becomes of messages, and waits for the answer: one row per range.
    ///
    /// # Errors
    /// The connection is lost, so that nobody knows, or times out; the next call makes it again.
    pub fn settle(
        &mut self,
        messages: std::ops::RangeInclusive<u64>,
        lease: u64,
        verb: Verb,
        delay: Duration,
    ) -> Result<SettledRow, ClientError> {
        let consumer = self.subscription.map_or(0, |(_, consumer)| consumer);
        let rows = [row(messages, lease, verb, delay)];
        let id = self.connection.session_mut().settle(&self.queue, consumer, &rows)?;
        self.settled(id)
    }

    /// The answer to a settle. Deliveries may come meanwhile.
    fn settled(&mut self, id: RequestId) -> Result<SettledRow, ClientError> {
        let deadline = Instant::now() + self.connection.request_timeout();
        loop {
            if let Some(settled) = self.take_until(id)? {
                return Ok(settled);
            }
            if Instant::now() >= deadline {
                let after = self.connection.request_timeout();
                return Err(ClientError::TimedOut { what: "answer to settle", after });
            }
            self.connection.exchange(deadline)?;
        }
    }

    /// Tells the broker what was accepted, and waits until that is durable: none of it is
    /// delivered again, whatever happens. What was accepted too late, when others had it already,
    /// is theirs.
    ///
    /// # Errors
    /// The connection is lost, so that some of it may come again, or times out.
    pub fn flush(&mut self) -> Result<(), ClientError> {
        self.tell_accepted()?;
        // Answered once everything that was settled before it is durable.
        let id = self.connection.session_mut().settle(&self.queue, 0, &[])?;
        self.settled(id).map(|_| ())
    }

    fn tell_accepted(&mut self) -> Result<(), ClientError> {
        if !self.rows.is_empty() {
            let consumer = self.subscription.map_or(0, |(_, consumer)| consumer);
            self.connection.session_mut().settle_quietly(&self.queue, consumer, &self.rows)?;
            self.rows.clear();
            self.accepted = 0;
        }
        self.connection.send_now()
    }

    fn take_events(&mut self) -> Result<(), ClientError> {
        self.take_until(RequestId::default()).map(|_| ())
    }

    /// Takes in deliveries; gives the answer to a settle if it is there.
    fn take_until(&mut self, wanted: RequestId) -> Result<Option<SettledRow>, ClientError> {
        while let Some(event) = self.connection.session_mut().next_event()? {
            match event {
                Event::Queue(_, QueueEvent::Delivered(deliver)) => {
                    self.arrived.extend(QueueDelivery::all(&deliver)?);
                }
                Event::Queue(id, QueueEvent::Settled(reply)) if id == wanted => {
                    return Ok(Some(reply.rows.first().copied().unwrap_or(NOTHING_SETTLED)));
                }
                Event::Refused(id, refusal)
                    if id == wanted || refusal.kind == Kind::QueueDeliver =>
                {
                    return Err(refused(&refusal));
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

/// The answer to a settle without rows.
const NOTHING_SETTLED: SettledRow = SettledRow {
    error: zerocopy::little_endian::U16::ZERO,
    reserved: zerocopy::little_endian::U16::ZERO,
    settled: zerocopy::little_endian::U32::ZERO,
};

fn row(
    messages: std::ops::RangeInclusive<u64>,
    lease: u64,
    verb: Verb,
    delay: Duration,
) -> SettleRow {
    SettleRow {
        first: (*messages.start()).into(),
        last: (*messages.end()).into(),
        lease: lease.into(),
        verb: verb as u8,
        flags: 0,
        reserved: 0.into(),
        delay_ms: u32::try_from(delay.as_millis()).unwrap_or(u32::MAX).into(),
    }
}
