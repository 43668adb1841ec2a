//! For tests: a broker in memory behind the network trait, built from wire's encoders. It has
//! topics, shards with ports of their own, and answers produce requests as a script says.

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::rc::Rc;
use std::time::Instant;

use wire::batch::{Batch, Batches};
use wire::frame::{self, Envelope, ErrorReply};
use wire::{Acks, ErrorCode, FrameHeader, Kind, fetch, hello, list_offsets, metadata, produce};
use wire::{TopicId, metadata::Endpoint};

use crate::network::Network;
use crate::transport::{Interest, Received, Transport};

/// Where the broker listens for everyone; whoever comes there is served whatever it asks.
pub(crate) const ADDRESS: &str = "fake:1";
const PORT: u16 = 1;

/// What the script says about one produce request; without one it is acknowledged.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    Ack,
    Refuse(ErrorCode),
    /// Its refusal leaves only when the client waits.
    RefuseLater(ErrorCode),
    /// The connection closes instead.
    Close,
}

/// A way to one fake broker.
#[derive(Debug, Clone)]
pub(crate) struct FakeNetwork {
    broker: Rc<RefCell<FakeBroker>>,
}

/// A connection to it.
#[derive(Debug)]
pub(crate) struct FakeLink {
    broker: Rc<RefCell<FakeBroker>>,
    conn: usize,
}

#[derive(Debug)]
pub(crate) struct FakeTopic {
    pub(crate) name: String,
    id: TopicId,
    /// Batches of each partition, in order.
    pub(crate) logs: Vec<Vec<Vec<u8>>>,
}

#[derive(Debug)]
struct Conn {
    port: u16,
    inbox: Vec<u8>,
    outbox: VecDeque<u8>,
    held: Vec<u8>,
    closed: bool,
}

#[derive(Debug)]
pub(crate) struct FakeBroker {
    pub(crate) script: VecDeque<Answer>,
    pub(crate) topics: Vec<FakeTopic>,
    pub(crate) log_start: u64,
    /// Damaged offsets, whole batches, of this partition.
    pub(crate) damaged: Option<(u32, Range<u64>)>,
    /// So many answers about them do not know yet where they end.
    pub(crate) ends_unknown: usize,
    /// Produce requests seen.
    pub(crate) produced: usize,
    /// Partitions of each fetch request seen, with the port that it came to.
    pub(crate) fetched: Vec<(u16, Vec<u32>)>,
    /// The port of each shard: partition `p` belongs to shard `p % ports.len()`.
    pub(crate) ports: Vec<u16>,
    /// Whether connections are taken.
    pub(crate) listens: bool,
    /// Most bytes of one partition in a fetch reply, but at least one batch.
    pub(crate) partition_bytes_max: usize,
    /// Most bytes of a fetch reply.
    pub(crate) reply_bytes_max: usize,
    /// So many fetch requests are refused as overloaded.
    pub(crate) fetches_refused: usize,
    conns: Vec<Conn>,
}

impl FakeNetwork {
    /// To a broker with topic `t` of so many partitions.
    pub(crate) fn new(partitions: usize, script: &[Answer]) -> Self {
        let broker = FakeBroker {
            script: script.iter().copied().collect(),
            topics: Vec::new(),
            log_start: 0,
            damaged: None,
            ends_unknown: 0,
            produced: 0,
            fetched: Vec::new(),
            ports: vec![PORT],
            listens: true,
            partition_bytes_max: 200,
            reply_bytes_max: usize::MAX,
            fetches_refused: 0,
            conns: Vec::new(),
        };
        let network = FakeNetwork { broker: Rc::new(RefCell::new(broker)) };
        network.broker().create("t", partitions);
        network
    }

    pub(crate) fn broker(&self) -> RefMut<'_, FakeBroker> {
        self.broker.borrow_mut()
    }
}

impl FakeBroker {
    /// Creates a topic with an id that no other has had.
    pub(crate) fn create(&mut self, name: &str, partitions: usize) {
        let number = self.topics.iter().map(|topic| topic.id[0]).max().unwrap_or(8) + 1;
        let logs = vec![Vec::new(); partitions];
        self.topics.push(FakeTopic { name: name.to_owned(), id: [number; 16], logs });
    }

    /// Closes all connections and comes back with these ports.
    pub(crate) fn restart(&mut self, ports: &[u16]) {
        self.conns.iter_mut().for_each(|conn| conn.closed = true);
        self.ports = ports.to_vec();
    }

    /// The ports of the connections that are open.
    pub(crate) fn open_ports(&self) -> Vec<u16> {
        self.conns.iter().filter(|conn| !conn.closed).map(|conn| conn.port).collect()
    }

    /// How many connections to shards were ever made.
    pub(crate) fn connections(&self) -> usize {
        self.conns.iter().filter(|conn| conn.port != PORT).count()
    }

    fn owner(&self, partition: usize) -> usize {
        partition % self.ports.len()
    }

    /// The topic with this id, if the partition is served on the port.
    fn served(&self, port: u16, id: &TopicId, partition: u32) -> Result<usize, ErrorCode> {
        let found = self.topics.iter().position(|topic| topic.id == *id);
        let topic = found.ok_or(ErrorCode::UnknownTopic)?;
        let owner = self.ports[self.owner(at(partition))];
        if port == PORT || port == owner { Ok(topic) } else { Err(ErrorCode::NotOwner) }
    }

    fn end(&self, topic: usize, partition: u32) -> u64 {
        let last = self.topics[topic].logs[at(partition)].last();
        last.map_or(self.log_start, |bytes| Batch::validate(bytes).expect("valid").next_offset())
    }

    fn damaged_of(&self, partition: u32) -> Range<u64> {
        let damaged = self.damaged.as_ref().filter(|(of, _)| *of == partition);
        damaged.map_or(u64::MAX..u64::MAX, |(_, range)| range.clone())
    }

    fn reply(&mut self, conn: usize, kind: Kind, id: u64, body: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, Envelope::reply(kind, id), 0, body);
        self.conns[conn].outbox.extend(bytes);
    }

    fn handle(&mut self, conn: usize, header: &FrameHeader, body: &[u8]) {
        if self.conns[conn].closed {
            return;
        }
        let id = header.correlation_id.get();
        match Kind::from_u16(header.kind.get()).expect("a known kind") {
            Kind::Hello => self.reply(conn, Kind::Hello, id, |out| {
                hello::encode_reply(out, hello_head());
            }),
            Kind::Metadata => self.metadata(conn, id, body),
            Kind::Produce => self.produce(conn, id, body),
            Kind::Fetch => self.fetch(conn, id, body),
            Kind::ListOffsets => self.list_offsets(conn, id, body),
            other => panic!("{other:?} is not faked"),
        }
    }

    fn metadata(&mut self, conn: usize, id: u64, body: &[u8]) {
        let request = metadata::Request::decode(body).expect("well-formed");
        let mut out = Vec::new();
        let endpoints: Vec<Endpoint<'_>> = (0u16..)
            .zip(&self.ports)
            .map(|(shard, &port)| Endpoint { shard, port, host: "" })
            .collect();
        metadata::encode_endpoints(&mut out, &endpoints);
        metadata::encode_topic_count(&mut out, request.names().count());
        for name in request.names() {
            let topic = self.topics.iter().find(|topic| topic.name == name);
            let (error, id, count) = topic.map_or((ErrorCode::UnknownTopic, [0; 16], 0), |topic| {
                (ErrorCode::None, topic.id, topic.logs.len())
            });
            let owner = |partition| metadata::PartitionOwner {
                shard: u16::try_from(self.owner(partition)).expect("few").into(),
                reserved: 0.into(),
                leader_epoch: 1.into(),
            };
            metadata::encode_topic(&mut out, name, error.number(), &id, (0..count).map(owner));
        }
        self.reply(conn, Kind::Metadata, id, |body| body.extend_from_slice(&out));
    }

    fn produce(&mut self, conn: usize, id: u64, body: &[u8]) {
        self.produced += 1;
        let request = produce::Request::decode(body).expect("well-formed");
        let (entry, batch) = request.parts().next().expect("one partition");
        let mut answer = self.script.pop_front().unwrap_or(Answer::Ack);
        let served = self.served(self.conns[conn].port, &entry.topic_id, entry.partition.get());
        if let Err(code) = served {
            answer = Answer::Refuse(code);
        }
        let refusal = |out: &mut Vec<u8>, code: ErrorCode| {
            let error = ErrorReply { code: code.number(), retry_after_ms: 0, detail: "" };
            error.encode(out, Kind::Produce.number(), id);
        };
        match (answer, served) {
            (Answer::Close, _) => self.conns[conn].closed = true,
            (Answer::Refuse(code), _) => {
                let mut out = Vec::new();
                refusal(&mut out, code);
                self.conns[conn].outbox.extend(out);
            }
            (Answer::RefuseLater(code), _) => refusal(&mut self.conns[conn].held, code),
            (Answer::Ack, topic) => {
                let topic = topic.expect("others are refused");
                let base_offset = self.end(topic, entry.partition.get());
                let mut bytes = batch.to_vec();
                Batch::validate(&bytes).expect("a valid batch");
                Batch::stamp(&mut bytes, base_offset, 1);
                self.topics[topic].logs[at(entry.partition.get())].push(bytes);
                if request.head.acks == Acks::None as u8 {
                    return;
                }
                let entry = produce::ReplyEntry::appended(entry, base_offset);
                self.reply(conn, Kind::Produce, id, |out| {
                    produce::encode_reply(out, &[entry], None);
                });
            }
        }
    }

    fn fetch(&mut self, conn: usize, id: u64, body: &[u8]) {
        let request = fetch::Request::decode(body).expect("well-formed");
        let port = self.conns[conn].port;
        if self.fetches_refused > 0 {
            self.fetches_refused -= 1;
            let code = ErrorCode::Overloaded.number();
            let mut out = Vec::new();
            let error = ErrorReply { code, retry_after_ms: 0, detail: "" };
            error.encode(&mut out, Kind::Fetch.number(), id);
            self.conns[conn].outbox.extend(out);
            return;
        }
        let partitions = request.entries.iter().map(|entry| entry.partition.get()).collect();
        self.fetched.push((port, partitions));
        let mut rows = Vec::new();
        let mut batches = Vec::new();
        for entry in request.entries {
            let served = self.served(port, &entry.topic_id, entry.partition.get());
            let (from, before) = (entry.offset.get(), batches.len());
            let mut end = 0;
            let mut error = ErrorCode::None;
            match served {
                Err(code) => error = code,
                Ok(topic) => {
                    end = self.end(topic, entry.partition.get());
                    let damaged = self.damaged_of(entry.partition.get());
                    if !(self.log_start..=end).contains(&from) {
                        error = ErrorCode::OffsetOutOfRange;
                    } else if damaged.contains(&from) {
                        error = ErrorCode::DataCorrupt;
                        end = damaged.end;
                        if let Some(left) = self.ends_unknown.checked_sub(1) {
                            self.ends_unknown = left;
                            end = u64::MAX;
                        }
                    } else {
                        self.read(topic, entry, &mut batches);
                    }
                }
            }
            rows.push(fetch::ReplyEntry {
                topic_id: entry.topic_id,
                partition: entry.partition,
                error: error.number().into(),
                aborted_count: 0.into(),
                high_watermark: end.into(),
                last_stable_offset: end.into(),
                log_start_offset: self.log_start.into(),
                batches_bytes: u32::try_from(batches.len() - before).expect("small").into(),
                leader_epoch: 1.into(),
            });
        }
        let mut bytes = Vec::new();
        let envelope = Envelope::reply(Kind::Fetch, id);
        frame::encode(&mut bytes, envelope, batches.len(), |out| {
            fetch::encode_reply_control(out, &rows);
        });
        self.conns[conn].outbox.extend(bytes);
        self.conns[conn].outbox.extend(batches);
    }

    fn read(&self, topic: usize, entry: &fetch::RequestEntry, out: &mut Vec<u8>) {
        let before = out.len();
        let damaged = self.damaged_of(entry.partition.get());
        for bytes in &self.topics[topic].logs[at(entry.partition.get())] {
            if out.len() - before >= self.partition_bytes_max || out.len() >= self.reply_bytes_max {
                break;
            }
            // A damaged batch is sent as it lies there.
            let next = Batches::new(bytes).next().and_then(Result::ok);
            let is_lost = |batch: &Batch<'_>| damaged.contains(&batch.base_offset());
            if next.as_ref().is_some_and(is_lost) {
                if out.len() > before || entry.offset.get() < damaged.start {
                    break;
                }
                continue;
            }
            if next.is_none_or(|batch| batch.next_offset() > entry.offset.get()) {
                out.extend_from_slice(bytes);
            }
        }
    }

    fn list_offsets(&mut self, conn: usize, id: u64, body: &[u8]) {
        let entries = list_offsets::decode_request(body).expect("well-formed");
        let port = self.conns[conn].port;
        let answer = |entry: &list_offsets::RequestEntry| {
            let served = self.served(port, &entry.topic_id, entry.partition.get());
            let offset = match (entry.timestamp_ms.get(), served) {
                (_, Err(_)) => 0,
                (list_offsets::TIMESTAMP_LATEST, Ok(topic)) => {
                    self.end(topic, entry.partition.get())
                }
                (list_offsets::TIMESTAMP_EARLIEST, _) => self.log_start,
                _ => 1,
            };
            list_offsets::ReplyEntry {
                topic_id: entry.topic_id,
                partition: entry.partition,
                error: served.err().map_or(0, ErrorCode::number).into(),
                reserved: 0.into(),
                offset: offset.into(),
                timestamp_ms: entry.timestamp_ms,
            }
        };
        let rows: Vec<_> = entries.iter().map(answer).collect();
        self.reply(conn, Kind::ListOffsets, id, |out| list_offsets::encode(out, &rows));
    }

    fn receive_from(&mut self, conn: usize, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.conns[conn].closed && self.conns[conn].outbox.is_empty() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = parts.iter().map(|part| part.len()).sum();
        parts.iter().for_each(|part| self.conns[conn].inbox.extend_from_slice(part));
        while let Some(&header) = FrameHeader::peek(&self.conns[conn].inbox) {
            let inbox = &mut self.conns[conn].inbox;
            let Some(body) = inbox.get(32..header.frame_len()) else { break };
            header.verify(body).expect("a valid frame");
            let body = body.to_vec();
            inbox.drain(..header.frame_len());
            self.handle(conn, &header, &body);
        }
        Ok(count)
    }

    /// What was held back until somebody waits leaves.
    fn release(&mut self, conn: usize) {
        let conn = &mut self.conns[conn];
        conn.outbox.extend(conn.held.drain(..));
    }
}

fn at(partition: u32) -> usize {
    usize::try_from(partition).expect("small")
}

fn hello_head() -> hello::ReplyHead {
    hello::ReplyHead {
        broker_id: [1; 16],
        boot_epoch: 1.into(),
        frame_body_bytes_max: 100_000.into(),
        batch_bytes_max: 65_536.into(),
        requests_in_flight_max: 32.into(),
        credit_bytes: 1_000_000.into(),
        version: 1,
        reserved: 0,
        kind_count: 0.into(),
        features: 0.into(),
    }
}

impl Network for FakeNetwork {
    type Transport = FakeLink;

    fn connect(&mut self, address: &str) -> io::Result<FakeLink> {
        let mut broker = self.broker.borrow_mut();
        let port = address.strip_prefix("fake:").and_then(|port| port.parse().ok());
        let port = port.expect("clients are told no other addresses");
        if !broker.listens || (port != PORT && !broker.ports.contains(&port)) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (inbox, outbox, held) = (Vec::new(), VecDeque::new(), Vec::new());
        broker.conns.push(Conn { port, inbox, outbox, held, closed: false });
        let conn = broker.conns.len() - 1;
        Ok(FakeLink { broker: Rc::clone(&self.broker), conn })
    }

    fn wait(&mut self, waits: &[(&FakeLink, Interest)], _: Instant) -> io::Result<()> {
        waits.iter().for_each(|(link, _)| self.broker.borrow_mut().release(link.conn));
        std::thread::yield_now();
        Ok(())
    }
}

impl Transport for FakeLink {
    fn send(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.broker.borrow_mut().receive_from(self.conn, parts)
    }

    fn receive(&mut self, space: &mut [u8]) -> io::Result<Received> {
        let conn = &mut self.broker.borrow_mut().conns[self.conn];
        let count = space.len().min(conn.outbox.len());
        if count == 0 {
            return Ok(if conn.closed { Received::Closed } else { Received::Nothing });
        }
        for (slot, byte) in space.iter_mut().zip(conn.outbox.drain(..count)) {
            *slot = byte;
        }
        Ok(Received::Bytes(count))
    }

    fn wait(&mut self, _: Interest, _: Instant) -> io::Result<()> {
        self.broker.borrow_mut().release(self.conn);
        std::thread::yield_now();
        Ok(())
    }
}

impl Drop for FakeLink {
    fn drop(&mut self) {
        self.broker.borrow_mut().conns[self.conn].closed = true;
    }
}
