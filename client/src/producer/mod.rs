//! The producer: gathers records into batches, sends them, and tells what became of each.

mod delivery;
mod drive;
mod outage;
mod queue;
mod record;
mod reply;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use wire::Acks;
use wire::batch::BatchBuilder;
use wire::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};

pub use delivery::{Delivery, Outcome, Totals};
pub use record::{Record, SentRecord};

use crate::connection::{ConnectOptions, TopicMetadata};
use crate::error::ClientError;
use crate::network::{Network, TcpNetwork};
use crate::partitioner::{StickyPartitioner, partition_of_key};
use crate::router::Router;
use delivery::Deliveries;
use drive::Sending;
use queue::{Listed, PartitionQueue};

/// A producer's knobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerOptions {
    /// When the broker answers. Default: durable.
    pub acks: Acks,
    /// How long a batch waits for more records before it is sent. Default: 0, which sends at
    /// once while the window has room and gathers while it has none.
    pub linger: Duration,
    /// A batch is full at this many bytes. Default: 64 KiB.
    pub batch_bytes: usize,
    /// A batch is full at this many records. Default: no bound but the broker's.
    pub batch_records: u32,
    /// How many batches may be on their way. Default: 8. A batch that the broker refuses as
    /// overloaded is sent again only if that keeps the order: it fails if a later batch of its
    /// partition got in. With 1 it never does.
    pub in_flight_max: usize,
    /// How long a batch may be on its way, tries included. Default: 30 s.
    pub delivery_timeout: Duration,
    /// Where keyless records begin; give producers of one topic different numbers.
    pub first_partition: u32,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        ProducerOptions {
            acks: Acks::Durable,
            linger: Duration::ZERO,
            batch_bytes: 64 * 1024,
            batch_records: BATCH_RECORDS_MAX,
            in_flight_max: 8,
            delivery_timeout: Duration::from_secs(30),
            first_partition: 0,
        }
    }
}

/// Sends records to one topic, from one thread, each to the shard that owns its partition. It has
/// no thread of its own: batches leave, and replies are read, during [`Producer::send`],
/// [`Producer::poll`] and [`Producer::flush`].
///
/// When a connection is lost, what was sent over it and not answered is in doubt, and is never
/// sent again; the rest waits and is sent over a new one. The producer fails, for good, when
/// there is none within [`ConnectOptions::reconnect_for`].
///
/// ```no_run
/// use pelton_client::{ConnectOptions, Producer, ProducerOptions, Record};
///
/// let connect = ConnectOptions::default();
/// let options = ProducerOptions::default();
/// let mut producer = Producer::connect("127.0.0.1:9600", "greetings", &connect, options)?;
/// producer.send(&Record::value(b"hello"))?;
/// producer.send(&Record::keyed(b"anna", b"hello again"))?;
/// let totals = producer.flush()?;
/// assert!(totals.all_well());
/// # Ok::<(), pelton_client::ClientError>(())
/// ```
#[derive(Debug)]
pub struct Producer<N: Network = TcpNetwork> {
    router: Router<N, Sending>,
    options: ProducerOptions,
    sticky: StickyPartitioner,
    queues: Vec<PartitionQueue>,
    /// Partitions whose queue holds something.
    active: Vec<u32>,
    sealed_count: usize,
    spares: Vec<BatchBuilder>,
    deliveries: Deliveries,
    pumped_at: Instant,
    closed: bool,
}

impl Producer<TcpNetwork> {
    /// Connects to `HOST:PORT` and looks the topic up.
    ///
    /// # Errors
    /// No broker answers there, or it has no such topic.
    pub fn connect(
        address: &str,
        topic: &str,
        connect: &ConnectOptions,
        options: ProducerOptions,
    ) -> Result<Self, ClientError> {
        let network = TcpNetwork::new(connect.connect_timeout, connect.idle);
        Producer::with_network(network, address, topic, connect, options)
    }
}

impl<N: Network> Producer<N> {
    /// The same over another network.
    ///
    /// # Errors
    /// As [`Producer::connect`].
    pub fn with_network(
        network: N,
        address: &str,
        topic: &str,
        connect: &ConnectOptions,
        mut options: ProducerOptions,
    ) -> Result<Self, ClientError> {
        let mut router = Router::new(network, address, &[topic], connect)?;
        let count = partition_count(&router);
        router.connect_wanted((0..count).map(|partition| (0, partition)))?;
        let limits = *router.limits();
        options.batch_bytes = options.batch_bytes.min(limits.batch_bytes_max);
        options.batch_records = options.batch_records.clamp(1, BATCH_RECORDS_MAX);
        options.in_flight_max = options.in_flight_max.clamp(1, limits.requests_in_flight_max);
        Ok(Producer {
            router,
            sticky: StickyPartitioner::new(count.max(1), options.first_partition),
            queues: (0..count).map(|_| PartitionQueue::new()).collect(),
            active: Vec::new(),
            sealed_count: 0,
            spares: Vec::new(),
            deliveries: Deliveries::default(),
            pumped_at: Instant::now(),
            closed: false,
            options,
        })
    }

    /// The topic.
    pub fn topic(&self) -> &TopicMetadata {
        self.router.topics().first().expect("it was looked up by name")
    }

    /// Takes a record: gives its partition and its index there. Waits while the window is full.
    /// That it was taken does not say that it was sent: see [`Producer::flush`].
    ///
    /// # Errors
    /// The record is too large or its partition does not exist: the producer goes on. The
    /// connection is lost for good: the producer is closed and all its deliveries are told.
    pub fn send(&mut self, record: &Record<'_>) -> Result<SentRecord, ClientError> {
        if self.closed {
            return Err(ClientError::ProducerClosed);
        }
        let now = Instant::now();
        let timestamp_ms = record.timestamp_ms.unwrap_or_else(wall_clock_ms);
        let mut partition = self.partition_of(record)?;
        let bytes_max = self.router.limits().batch_bytes_max.min(BATCH_BYTES_MAX);
        let bytes = record.batch_bytes_alone();
        if bytes > bytes_max {
            return Err(ClientError::RecordTooLarge { bytes, bytes_max });
        }
        if self.is_full(partition, record.record_bytes_max()) {
            self.seal(partition)?;
            partition = self.partition_of(record)?;
            if self.is_full(partition, record.record_bytes_max()) {
                self.seal(partition)?;
            }
        }
        let queue = &mut self.queues[index(partition)];
        if queue.list() == Listed::Newly {
            self.active.push(partition);
        }
        queue.open_mut().push_with_headers(timestamp_ms, record.key, record.value, record.headers);
        let index = queue.pushed(now);
        self.drive(now)?;
        Ok(SentRecord { partition, index })
    }

    /// Sends what is due and reads replies, without waiting.
    ///
    /// # Errors
    /// The connection is lost for good: the producer is closed and all its deliveries are told.
    pub fn poll(&mut self) -> Result<(), ClientError> {
        let now = Instant::now();
        self.pump(now)?;
        self.seal_due(now)
    }

    /// Sends everything and waits until nothing is on its way. Gives the totals since the
    /// producer was made: look at [`Totals::all_well`], and at the deliveries for the rest.
    ///
    /// # Errors
    /// The connection is lost for good: the producer is closed and all its deliveries are told.
    pub fn flush(&mut self) -> Result<Totals, ClientError> {
        if self.closed {
            return Err(ClientError::ProducerClosed);
        }
        let is_open = |&&partition: &&u32| self.queues[index(partition)].opened_at().is_some();
        let open: Vec<u32> = self.active.iter().filter(is_open).copied().collect();
        for partition in open {
            self.seal(partition)?;
        }
        while self.sealed_count > 0 || self.has_unsent() {
            self.wait()?;
        }
        Ok(self.deliveries.totals())
    }

    /// What became of records, oldest first; each delivery is given once. A caller that does not
    /// read them loses the oldest beyond a bound; the totals stay exact.
    pub fn next_delivery(&mut self) -> Option<Delivery> {
        self.deliveries.pop()
    }

    /// Records by what became of them, since the producer was made.
    pub const fn totals(&self) -> Totals {
        self.deliveries.totals()
    }

    fn partition_of(&self, record: &Record<'_>) -> Result<u32, ClientError> {
        let count = u32::try_from(self.queues.len()).expect("partitions are 32 bits");
        match (record.partition, record.key) {
            (Some(partition), _) if partition < count => Ok(partition),
            (Some(partition), _) => Err(ClientError::NoSuchPartition { partition, count }),
            (None, _) if count == 0 => Err(ClientError::NoSuchPartition { partition: 0, count }),
            (None, Some(key)) => Ok(partition_of_key(key, count)),
            (None, None) => Ok(self.sticky.current()),
        }
    }

    fn is_full(&self, partition: u32, more_bytes: usize) -> bool {
        let open = self.queues[index(partition)].open();
        let bytes_full = open.len() + more_bytes > self.options.batch_bytes;
        !open.is_empty() && (bytes_full || open.record_count() >= self.options.batch_records)
    }
}

fn partition_count<N: Network>(router: &Router<N, Sending>) -> u32 {
    let topic = router.topics().first().expect("it was looked up by name");
    u32::try_from(topic.partitions.len()).expect("partitions are 32 bits")
}

fn index(partition: u32) -> usize {
    usize::try_from(partition).expect("32 bits fit usize")
}

fn wall_clock_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
