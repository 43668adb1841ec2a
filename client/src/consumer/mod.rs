//! The consumer: fetches partitions of topics from their owners, checks what comes, and gives
//! the records.

mod absorb;
mod cursor;
mod event;
mod fetch;
mod offsets;
mod options;
mod records;
#[cfg(test)]
mod routing_tests;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub use cursor::PartitionPosition;
pub use event::ConsumerEvent;
pub use options::{ConsumerOptions, Damaged, OutOfRange, Position};
pub use records::{ConsumerRecord, Records};

use crate::connection::{ConnectOptions, TopicMetadata};
use crate::error::ClientError;
use crate::limits::CONSUMER_EVENTS_KEPT_MAX;
use crate::network::{Network, TcpNetwork};
use crate::router::{Mended, Router};
use crate::session::SendError;
use absorb::Row;
use cursor::{Cursor, Flow};
use fetch::{Fetching, Step};
use wire::fetch::Reply;

/// Reads partitions of one or several topics, from one thread, each from the shard that owns it.
/// It asks for more before it gives what came, so broker and caller work side by side: per
/// endpoint one reply is read from while the next one is on its way, so it holds at most
/// [`crate::limits::CONSUMER_BYTES_PER_ENDPOINT_MAX`] for each.
///
/// Partitions take turns: those that gave records last come last in the next fetch. A lost
/// connection is made again, for as long as [`ConnectOptions::reconnect_for`] says.
///
/// ```no_run
/// use pelton_client::{ConnectOptions, Consumer, ConsumerOptions, Position};
///
/// let connect = ConnectOptions::default();
/// let options = ConsumerOptions::default();
/// let mut consumer = Consumer::connect("127.0.0.1:9600", &["greetings"], &connect, options)?;
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
pub struct Consumer<N: Network = TcpNetwork> {
    router: Router<N, Fetching>,
    options: ConsumerOptions,
    cursors: Vec<Cursor>,
    events: VecDeque<ConsumerEvent>,
    /// What the reply looked at last holds for the caller.
    rows: Vec<Row>,
    /// The route that is looked at first: the one behind the last that gave records.
    turn: usize,
    /// Counts replies: partitions are asked for in the order of their last one with records.
    replies: u64,
}

impl Consumer<TcpNetwork> {
    /// Connects to `HOST:PORT` and looks the topics up. Assign partitions next.
    ///
    /// # Errors
    /// No broker answers there, it has no such topic, or a topic is named twice or none is.
    pub fn connect(
        address: &str,
        topics: &[&str],
        connect: &ConnectOptions,
        options: ConsumerOptions,
    ) -> Result<Self, ClientError> {
        let network = TcpNetwork::new(connect.connect_timeout, connect.idle);
        Consumer::with_network(network, address, topics, connect, options)
    }
}

impl<N: Network> Consumer<N> {
    /// The same over another network.
    ///
    /// # Errors
    /// As [`Consumer::connect`].
    pub fn with_network(
        network: N,
        address: &str,
        topics: &[&str],
        connect: &ConnectOptions,
        options: ConsumerOptions,
    ) -> Result<Self, ClientError> {
        Ok(Consumer {
            router: Router::new(network, address, topics, connect)?,
            options,
            cursors: Vec::new(),
            events: VecDeque::new(),
            rows: Vec::new(),
            turn: 0,
            replies: 0,
        })
    }

    /// The topics, in the order in which they were named.
    pub fn topics(&self) -> &[TopicMetadata] {
        self.router.topics()
    }

    /// Reads all partitions of all its topics, from `position`.
    ///
    /// # Errors
    /// As [`Consumer::assign`].
    pub fn assign_all(&mut self, position: Position) -> Result<(), ClientError> {
        let topics = self.router.topics().iter().enumerate();
        let all = topics.flat_map(|(index, topic)| {
            (0..count_of(topic)).map(move |partition| Cursor::new(index, partition))
        });
        self.cursors = all.collect();
        self.begin(position)
    }

    /// Reads these partitions and no others, from `position`. Their order is the order of their
    /// slots: see [`ConsumerRecord::slot`].
    ///
    /// # Errors
    /// A topic or partition does not exist or stands twice; the connection is lost or times out.
    /// Nothing is assigned then.
    pub fn assign(
        &mut self,
        partitions: &[(&str, u32)],
        position: Position,
    ) -> Result<(), ClientError> {
        self.cursors.clear();
        let mut cursors = Vec::with_capacity(partitions.len());
        for &(name, partition) in partitions {
            let not_assigned = || ClientError::NotAssigned { topic: name.to_owned(), partition };
            let topics = self.router.topics();
            let topic = topics.iter().position(|topic| topic.name == name);
            let topic = topic.ok_or_else(not_assigned)?;
            let count = count_of(&topics[topic]);
            if partition >= count {
                return Err(ClientError::NoSuchPartition { partition, count });
            }
            cursors.push(Cursor::new(topic, partition));
        }
        let mut places: Vec<_> = cursors.iter().map(Cursor::place).collect();
        places.sort_unstable();
        if places.windows(2).any(|pair| pair[0] == pair[1]) {
            let error = SendError::Invalid("a partition is assigned twice: name each once");
            return Err(ClientError::Request(error));
        }
        self.cursors = cursors;
        self.begin(position)
    }

    /// Reads an assigned partition from `position` on. Whether an offset exists shows when it
    /// is polled.
    ///
    /// # Errors
    /// The partition is not assigned; the connection is lost or times out.
    pub fn seek(
        &mut self,
        topic: &str,
        partition: u32,
        position: Position,
    ) -> Result<(), ClientError> {
        let slot = self.slot_of(topic, partition)?;
        self.place(&[slot], position)?;
        self.ask_anew(slot);
        Ok(())
    }

    /// Stops asking for a partition. Records that were asked for before still come.
    ///
    /// # Errors
    /// The partition is not assigned.
    pub fn pause(&mut self, topic: &str, partition: u32) -> Result<(), ClientError> {
        let slot = self.slot_of(topic, partition)?;
        self.pause_slot(slot);
        Ok(())
    }

    /// The same by slot.
    ///
    /// # Panics
    /// If the assignment has no such slot.
    pub fn pause_slot(&mut self, slot: usize) {
        self.cursors[slot].flow = Flow::Paused;
    }

    /// Asks for a paused partition again.
    ///
    /// # Errors
    /// The partition is not assigned.
    pub fn resume(&mut self, topic: &str, partition: u32) -> Result<(), ClientError> {
        let slot = self.slot_of(topic, partition)?;
        self.resume_slot(slot);
        Ok(())
    }

    /// The same by slot.
    ///
    /// # Panics
    /// If the assignment has no such slot.
    pub fn resume_slot(&mut self, slot: usize) {
        self.cursors[slot].flow = Flow::Running;
        self.ask_anew(slot);
    }

    /// Where each assigned partition is, by slot.
    pub fn positions(&self) -> impl ExactSizeIterator<Item = PartitionPosition<'_>> {
        let topics = self.router.topics();
        self.cursors.iter().map(|cursor| cursor.position(&topics[cursor.topic].name))
    }

    /// Asks the owners for the offset behind the newest visible record of each assigned
    /// partition, by slot.
    ///
    /// # Errors
    /// The connection is lost or times out.
    pub fn end_offsets(&mut self) -> Result<Vec<u64>, ClientError> {
        self.look_up_all(wire::list_offsets::TIMESTAMP_LATEST)
    }

    /// What happened besides records, oldest first; each event is given once. A caller that does
    /// not read them loses the oldest beyond a bound.
    pub fn next_event(&mut self) -> Option<ConsumerEvent> {
        self.events.pop_front()
    }

    /// The next records of one endpoint: waits up to `max_wait` for some, and gives none if there
    /// are none by then.
    ///
    /// # Errors
    /// An offset is out of range, or records are damaged on the broker's disk, and the options say
    /// that this is an error; what came is damaged,
    /// missing or compressed, a topic is gone, the broker refuses, or the connection is lost for
    /// too long or times out. Positions stay where they were: another poll tries the same again.
    pub fn poll(&mut self) -> Result<Records<'_>, ClientError> {
        self.poll_for(self.options.max_wait)
    }

    /// The same with another wait; zero gives what is there.
    ///
    /// # Errors
    /// As [`Consumer::poll`].
    pub fn poll_for(&mut self, wait: Duration) -> Result<Records<'_>, ClientError> {
        let deadline = Instant::now() + wait;
        let Some(route) = self.await_records(deadline)? else {
            return Ok(Records::none());
        };
        self.turn = route + 1;
        // If asking for more fails now, what came is still good: the next poll tells.
        let _ = self.request(route, Instant::now());
        let (Some(link), topics) = self.router.parts(route) else { return Ok(Records::none()) };
        let _ = link.connection.send_now();
        let body = link.connection.session().event_body();
        let reply = Reply::decode(body).map_err(|_| ClientError::Lost { source: None })?;
        Ok(Records::new(reply.batches, &self.rows, &self.cursors, topics))
    }

    /// Exchanges bytes until a reply has records; gives its route.
    fn await_records(&mut self, deadline: Instant) -> Result<Option<usize>, ClientError> {
        loop {
            let now = Instant::now();
            self.mend(now)?;
            let count = self.router.routes.len();
            let turn = self.turn;
            for route in (0..count).map(|step| (turn + step) % count) {
                match self.step(route, now) {
                    Ok(Step::Records) => return Ok(Some(route)),
                    Ok(Step::Nothing) => {}
                    Err(error) => self.link_failed(route, error, now)?,
                }
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            // A broker that answers nothing at all is noticed, too, however long the wait.
            let overdue = self.options.max_wait + self.router.request_timeout();
            self.router.wait(deadline.min(now + overdue))?;
        }
    }

    /// Drops a connection that failed; tries to mend it if that may help.
    fn link_failed(
        &mut self,
        route: usize,
        error: ClientError,
        now: Instant,
    ) -> Result<(), ClientError> {
        let reason = error.to_string();
        if error.is_of_connection() {
            self.router.cut(route);
        }
        self.router.failed(error, now)?;
        self.rest(route);
        let address = self.router.routes[route].address.clone();
        self.tell(ConsumerEvent::Reconnecting { address, reason });
        Ok(())
    }

    fn mend(&mut self, now: Instant) -> Result<(), ClientError> {
        let wanted = self.cursors.iter().map(Cursor::place);
        if self.router.mend(now, wanted)? == Mended::Rerouted {
            self.reroute();
        }
        Ok(())
    }

    /// Connects what the assignment needs and places it.
    fn begin(&mut self, position: Position) -> Result<(), ClientError> {
        let slots: Vec<usize> = (0..self.cursors.len()).collect();
        let placed = self.place(&slots, position);
        if placed.is_err() {
            self.cursors.clear();
        }
        self.reroute();
        placed
    }

    fn slot_of(&self, topic: &str, partition: u32) -> Result<usize, ClientError> {
        let topics = self.router.topics();
        let is_it =
            |cursor: &Cursor| cursor.partition == partition && topics[cursor.topic].name == topic;
        let found = self.cursors.iter().position(is_it);
        found.ok_or_else(|| ClientError::NotAssigned { topic: topic.to_owned(), partition })
    }

    fn tell(&mut self, event: ConsumerEvent) {
        if self.events.len() == CONSUMER_EVENTS_KEPT_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

fn count_of(topic: &TopicMetadata) -> u32 {
    u32::try_from(topic.partitions.len()).expect("partitions are 32 bits")
}
