//! The consumer: fetches partitions of one topic, checks what comes, and gives the records.

mod records;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use wire::batch::Batches;
use wire::fetch::{REPLY_BATCHES_BYTES_MAX, Reply, ReplyEntry, RequestEntry, RequestHead};
use wire::limits::REQUEST_PARTITIONS_MAX;
use wire::list_offsets::{self, TIMESTAMP_EARLIEST, TIMESTAMP_LATEST};
use wire::{ErrorCode, Kind};

pub use records::{ConsumerRecord, Records};

use crate::connection::{ConnectOptions, Connection, TopicMetadata, refused};
use crate::error::ClientError;
use crate::session::{Event, RequestId};
use crate::transport::{TcpTransport, Transport};

/// A consumer's knobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerOptions {
    /// How long the broker may wait for `min_bytes`. Default: 500 ms.
    pub max_wait: Duration,
    /// The broker answers once it has this many bytes. Default: 1.
    pub min_bytes: u32,
    /// Most bytes of one fetch, but at least one batch. Default: 1 MiB.
    pub max_bytes: u32,
    /// Most bytes of one partition in one fetch, but at least one batch. Default: 1 MiB.
    pub partition_max_bytes: u32,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        let most = u32::try_from(REPLY_BATCHES_BYTES_MAX).expect("a few MiB");
        ConsumerOptions {
            max_wait: Duration::from_millis(500),
            min_bytes: 1,
            max_bytes: most,
            partition_max_bytes: most,
        }
    }
}

/// Where to read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// The oldest record.
    Beginning,
    /// Behind the newest visible record.
    End,
    /// This offset.
    Offset(u64),
    /// The first record whose time is at or after this, in ms since 1970.
    Time(i64),
}

#[derive(Debug, Clone, Copy)]
struct Cursor {
    partition: u32,
    /// The next offset to ask for.
    offset: u64,
    high_watermark: u64,
    /// Records before the first one of this time are passed over.
    time_from_ms: Option<i64>,
}

/// Reads one topic, from one thread. It asks for more before it gives what came, so broker and
/// caller work side by side.
///
/// ```no_run
/// use pelton_client::{ConnectOptions, Consumer, ConsumerOptions, Position};
///
/// let connect = ConnectOptions::default();
/// let options = ConsumerOptions::default();
/// let mut consumer = Consumer::connect("127.0.0.1:9600", "greetings", &connect, options)?;
/// consumer.assign_all(Position::Beginning)?;
/// loop {
///     for record in consumer.poll()? {
///         let record = record?;
///         println!("{} {}: {:?}", record.partition, record.offset, record.value);
///     }
/// }
/// # #[allow(unreachable_code, reason = "the example loops for ever")]
/// # Ok::<(), pelton_client::ClientError>(())
/// ```
#[derive(Debug)]
pub struct Consumer<T: Transport = TcpTransport> {
    connection: Connection<T>,
    topic: TopicMetadata,
    options: ConsumerOptions,
    cursors: Vec<Cursor>,
    /// The fetch in flight, and its entries: `asked[i]` is for `cursors[i]`.
    in_flight: Option<RequestId>,
    asked: Vec<RequestEntry>,
    /// The entries of the fetch that was answered last.
    served: Vec<RequestEntry>,
}

impl Consumer<TcpTransport> {
    /// Connects to `HOST:PORT` and looks the topic up. Assign partitions next.
    ///
    /// # Errors
    /// No broker answers there, or it has no such topic.
    pub fn connect(
        address: &str,
        topic: &str,
        connect: &ConnectOptions,
        options: ConsumerOptions,
    ) -> Result<Self, ClientError> {
        Consumer::new(Connection::connect(address, connect)?, topic, options)
    }
}

impl<T: Transport> Consumer<T> {
    /// A consumer on a connection of its own. Assign partitions next.
    ///
    /// # Errors
    /// The broker has no such topic.
    pub fn new(
        mut connection: Connection<T>,
        topic: &str,
        options: ConsumerOptions,
    ) -> Result<Self, ClientError> {
        let topic = connection.topic(topic)?;
        Ok(Consumer {
            connection,
            topic,
            options,
            cursors: Vec::new(),
            in_flight: None,
            asked: Vec::new(),
            served: Vec::new(),
        })
    }

    /// The topic.
    pub const fn topic(&self) -> &TopicMetadata {
        &self.topic
    }

    /// Reads all partitions, from `position`.
    ///
    /// # Errors
    /// As [`Consumer::assign`].
    pub fn assign_all(&mut self, position: Position) -> Result<(), ClientError> {
        let partitions: Vec<u32> = (0..self.partition_count()).collect();
        self.assign(&partitions, position)
    }

    /// Reads these partitions and no others, from `position`.
    ///
    /// # Errors
    /// A partition does not exist; the connection is lost or times out.
    pub fn assign(&mut self, partitions: &[u32], position: Position) -> Result<(), ClientError> {
        self.cursors = self.resolve(partitions, position)?;
        self.in_flight = None;
        Ok(())
    }

    /// Reads an assigned partition from `position` on. Whether an offset exists shows when it
    /// is polled.
    ///
    /// # Errors
    /// The partition is not assigned; the connection is lost or times out.
    pub fn seek(&mut self, partition: u32, position: Position) -> Result<(), ClientError> {
        let count = self.partition_count();
        let found = self.resolve(&[partition], position)?;
        let cursor = self.cursors.iter_mut().find(|cursor| cursor.partition == partition);
        let cursor = cursor.ok_or(ClientError::NoSuchPartition { partition, count })?;
        *cursor = *found.first().ok_or(ClientError::NoSuchPartition { partition, count })?;
        self.in_flight = None;
        Ok(())
    }

    /// The offset behind the last record given, for each assigned partition, in no order.
    pub fn positions(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.cursors.iter().map(|cursor| (cursor.partition, cursor.offset))
    }

    /// The offset behind the newest visible record, for each assigned partition, as the broker
    /// told last; 0 before the first poll.
    pub fn high_watermarks(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.cursors.iter().map(|cursor| (cursor.partition, cursor.high_watermark))
    }

    /// Asks the broker for the offset behind the newest visible record of each assigned
    /// partition.
    ///
    /// # Errors
    /// The connection is lost or times out.
    pub fn end_offsets(&mut self) -> Result<Vec<(u32, u64)>, ClientError> {
        // Its reply would be dropped while this one is awaited: it is asked for again.
        self.in_flight = None;
        let partitions: Vec<u32> = self.cursors.iter().map(|cursor| cursor.partition).collect();
        let found = self.look_up(&partitions, TIMESTAMP_LATEST)?;
        Ok(partitions.into_iter().zip(found).collect())
    }

    /// The next records: waits up to `max_wait` for `min_bytes`, and gives none if there are
    /// none by then.
    ///
    /// # Errors
    /// An offset is out of range, records are damaged or missing, the broker refuses, or the
    /// connection is lost or times out. Positions stay where they were.
    pub fn poll(&mut self) -> Result<Records<'_>, ClientError> {
        if self.cursors.is_empty() {
            return Ok(Records::new(&Reply { entries: &[], batches: &[] }, &[]));
        }
        let id = match self.in_flight.take() {
            Some(id) => id,
            None => self.request()?,
        };
        self.await_reply(id)?;
        std::mem::swap(&mut self.asked, &mut self.served);
        // If asking for more fails now, what came is still good: the next poll tells.
        self.in_flight = self.request().ok();
        let _ = self.connection.send_now();
        let body = self.connection.session_mut().event_body();
        let reply = Reply::decode(body).map_err(|_| ClientError::Lost { source: None })?;
        Ok(Records::new(&reply, &self.served))
    }

    fn partition_count(&self) -> u32 {
        u32::try_from(self.topic.partitions.len()).expect("partitions are 32 bits")
    }

    fn resolve(
        &mut self,
        partitions: &[u32],
        position: Position,
    ) -> Result<Vec<Cursor>, ClientError> {
        let count = self.partition_count();
        if let Some(&partition) = partitions.iter().find(|&&partition| partition >= count) {
            return Err(ClientError::NoSuchPartition { partition, count });
        }
        let (offsets, time_from_ms) = match position {
            Position::Offset(offset) => (vec![offset; partitions.len()], None),
            Position::Beginning => (self.look_up(partitions, TIMESTAMP_EARLIEST)?, None),
            Position::End => (self.look_up(partitions, TIMESTAMP_LATEST)?, None),
            Position::Time(ms) => (self.look_up(partitions, ms.max(0))?, Some(ms)),
        };
        let cursor = |(&partition, offset): (&u32, u64)| Cursor {
            partition,
            offset,
            high_watermark: 0,
            time_from_ms,
        };
        Ok(partitions.iter().zip(offsets).map(cursor).collect())
    }

    fn look_up(&mut self, partitions: &[u32], timestamp_ms: i64) -> Result<Vec<u64>, ClientError> {
        let mut offsets = Vec::with_capacity(partitions.len());
        for some in partitions.chunks(REQUEST_PARTITIONS_MAX) {
            let entry = |&partition: &u32| list_offsets::RequestEntry {
                topic_id: self.topic.topic_id,
                partition: partition.into(),
                timestamp_ms: timestamp_ms.into(),
            };
            let entries: Vec<_> = some.iter().map(entry).collect();
            for row in self.connection.list_offsets(&entries)? {
                if row.error.get() != ErrorCode::None.number() {
                    return Err(partition_refused(
                        Kind::ListOffsets,
                        row.error.get(),
                        row.partition.get(),
                    ));
                }
                offsets.push(row.offset.get());
            }
        }
        Ok(offsets)
    }

    /// Asks for the next batches of the partitions whose turn it is.
    fn request(&mut self) -> Result<RequestId, ClientError> {
        // The broker fills a reply in the order asked: each partition comes first in its turn.
        let many = self.cursors.len() > REQUEST_PARTITIONS_MAX;
        self.cursors.rotate_left(if many { REQUEST_PARTITIONS_MAX } else { 1 });
        let entry = |cursor: &Cursor| RequestEntry {
            topic_id: self.topic.topic_id,
            partition: cursor.partition.into(),
            leader_epoch: u32::MAX.into(),
            offset: cursor.offset.into(),
            partition_max_bytes: self.options.partition_max_bytes.into(),
            reserved: 0.into(),
        };
        self.asked.clear();
        self.asked.extend(self.cursors.iter().take(REQUEST_PARTITIONS_MAX).map(entry));
        let max_wait_ms = u32::try_from(self.options.max_wait.as_millis()).unwrap_or(u32::MAX);
        let head = RequestHead {
            max_wait_ms: max_wait_ms.into(),
            min_bytes: self.options.min_bytes.into(),
            max_bytes: self.options.max_bytes.into(),
            isolation: 0,
            flags: 0,
            partition_count: 0.into(),
        };
        Ok(self.connection.session_mut().fetch(&head, &self.asked)?)
    }

    /// Waits for the answer to a fetch, checks it and advances the cursors.
    fn await_reply(&mut self, id: RequestId) -> Result<(), ClientError> {
        let limit = self.options.max_wait + self.connection.request_timeout();
        let deadline = Instant::now() + limit;
        loop {
            while let Some(event) = self.connection.session_mut().next_event()? {
                match event {
                    event if event.request_id() != Some(id) => {}
                    Event::Fetched(_, reply) => {
                        return absorb(&reply, &mut self.asked, &mut self.cursors);
                    }
                    Event::Refused(_, refusal) => return Err(refused(&refusal)),
                    _ => {}
                }
            }
            if Instant::now() >= deadline {
                return Err(ClientError::TimedOut { what: "answer to fetch", after: limit });
            }
            self.connection.exchange(deadline)?;
        }
    }
}

/// Checks a whole reply before any cursor moves.
fn absorb(
    reply: &Reply<'_>,
    asked: &mut [RequestEntry],
    cursors: &mut [Cursor],
) -> Result<(), ClientError> {
    for ((entry, batches), asked) in reply.parts().zip(asked.iter()) {
        verify(entry, batches, asked)?;
    }
    for (((entry, batches), asked), cursor) in reply.parts().zip(asked).zip(cursors) {
        cursor.high_watermark = entry.high_watermark.get();
        let Some(last) = Batches::new(batches).filter_map(Result::ok).last() else { continue };
        cursor.offset = last.next_offset();
        if let Some(time_ms) = cursor.time_from_ms {
            let records = Batches::new(batches)
                .filter_map(Result::ok)
                .filter(|batch| !batch.is_compressed())
                .flat_map(|batch| batch.records().filter_map(Result::ok));
            let first = records
                .filter(|record| record.offset >= asked.offset.get())
                .find(|record| record.timestamp_ms >= time_ms);
            if first.is_some() {
                cursor.time_from_ms = None;
            }
            asked.offset = first.map_or(cursor.offset, |record| record.offset).into();
        }
    }
    Ok(())
}

/// Checks one partition's part of a reply: checksums, and that offsets continue.
fn verify(entry: &ReplyEntry, batches: &[u8], asked: &RequestEntry) -> Result<(), ClientError> {
    let partition = asked.partition.get();
    if entry.partition != asked.partition || entry.topic_id != asked.topic_id {
        let reason = "the reply is about another partition";
        return Err(ClientError::Corrupt { partition, reason });
    }
    match ErrorCode::from_u16(entry.error.get()) {
        Some(ErrorCode::None) => {}
        Some(ErrorCode::OffsetOutOfRange) => {
            return Err(ClientError::OffsetOutOfRange {
                partition,
                offset: asked.offset.get(),
                log_start_offset: entry.log_start_offset.get(),
                high_watermark: entry.high_watermark.get(),
            });
        }
        _ => return Err(partition_refused(Kind::Fetch, entry.error.get(), partition)),
    }
    let mut expected = asked.offset.get();
    for (index, batch) in Batches::new(batches).enumerate() {
        let batch = batch.map_err(|error| ClientError::corrupt(partition, error))?;
        batch.verify_crc().map_err(|error| ClientError::corrupt(partition, error))?;
        let found = batch.base_offset();
        // Only the first batch may begin before what was asked for, and must reach it.
        let continues = match index {
            0 => found <= expected && expected < batch.next_offset(),
            _ => found == expected,
        };
        if !continues {
            return Err(ClientError::Gap { partition, expected, found });
        }
        expected = batch.next_offset();
    }
    Ok(())
}

fn partition_refused(kind: Kind, code: u16, partition: u32) -> ClientError {
    ClientError::Refused { kind, code, detail: format!("partition {partition}") }
}
