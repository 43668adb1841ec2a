//! For tests: a broker in memory behind the transport trait, built from wire's encoders, that
//! answers produce requests as a script says.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::Instant;

use wire::batch::{Batch, Batches};
use wire::frame::{self, Envelope, ErrorReply};
use wire::{Acks, ErrorCode, FrameHeader, Kind, fetch, hello, list_offsets, metadata, produce};

use crate::connection::{ConnectOptions, Connection};
use crate::transport::{Interest, Received, Transport};

pub(crate) const TOPIC: [u8; 16] = [9; 16];

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

#[derive(Debug)]
pub(crate) struct FakeBroker {
    pub(crate) script: VecDeque<Answer>,
    /// Batches of each partition, in order.
    pub(crate) logs: Vec<Vec<Vec<u8>>>,
    pub(crate) log_start: u64,
    /// Produce requests seen.
    pub(crate) produced: usize,
    inbox: Vec<u8>,
    outbox: VecDeque<u8>,
    held: Vec<u8>,
    closed: bool,
}

impl FakeBroker {
    pub(crate) fn connection(partitions: usize, script: &[Answer]) -> Connection<FakeBroker> {
        let broker = FakeBroker {
            script: script.iter().copied().collect(),
            logs: vec![Vec::new(); partitions],
            log_start: 0,
            produced: 0,
            inbox: Vec::new(),
            outbox: VecDeque::new(),
            held: Vec::new(),
            closed: false,
        };
        Connection::with_transport(broker, &ConnectOptions::default()).expect("hello is answered")
    }

    fn end(&self, partition: usize) -> u64 {
        let last = self.logs[partition].last();
        last.map_or(self.log_start, |bytes| Batch::validate(bytes).expect("valid").next_offset())
    }

    fn reply(&mut self, kind: Kind, id: u64, body: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, Envelope::reply(kind, id), 0, body);
        self.outbox.extend(bytes);
    }

    fn handle(&mut self, header: &FrameHeader, body: &[u8]) {
        if self.closed {
            return;
        }
        let id = header.correlation_id.get();
        match Kind::from_u16(header.kind.get()).expect("a known kind") {
            Kind::Hello => self.reply(Kind::Hello, id, |out| {
                hello::encode_reply(out, hello_head());
            }),
            Kind::Metadata => {
                let count = self.logs.len();
                self.reply(Kind::Metadata, id, |out| {
                    metadata::encode_endpoints(out, &[]);
                    metadata::encode_topic_count(out, 1);
                    let owner = metadata::PartitionOwner {
                        shard: 0.into(),
                        reserved: 0.into(),
                        leader_epoch: 1.into(),
                    };
                    metadata::encode_topic(out, "t", 0, &TOPIC, (0..count).map(|_| owner));
                });
            }
            Kind::Produce => self.produce(id, body),
            Kind::Fetch => self.fetch(id, body),
            Kind::ListOffsets => self.list_offsets(id, body),
            other => panic!("{other:?} is not faked"),
        }
    }

    fn produce(&mut self, id: u64, body: &[u8]) {
        self.produced += 1;
        let request = produce::Request::decode(body).expect("well-formed");
        let (entry, batch) = request.parts().next().expect("one partition");
        let mut refusal = Vec::new();
        match self.script.pop_front().unwrap_or(Answer::Ack) {
            Answer::Close => self.closed = true,
            Answer::Refuse(code) => {
                let error = ErrorReply { code: code.number(), retry_after_ms: 0, detail: "" };
                error.encode(&mut refusal, Kind::Produce.number(), id);
                self.outbox.extend(refusal);
            }
            Answer::RefuseLater(code) => {
                let error = ErrorReply { code: code.number(), retry_after_ms: 0, detail: "" };
                error.encode(&mut self.held, Kind::Produce.number(), id);
            }
            Answer::Ack => {
                let partition = usize::try_from(entry.partition.get()).expect("small");
                let base_offset = self.end(partition);
                let mut bytes = batch.to_vec();
                Batch::validate(&bytes).expect("a valid batch");
                Batch::stamp(&mut bytes, base_offset, 1);
                self.logs[partition].push(bytes);
                if request.head.acks == Acks::None as u8 {
                    return;
                }
                let entry = produce::ReplyEntry {
                    topic_id: entry.topic_id,
                    partition: entry.partition,
                    error: 0.into(),
                    reserved: 0.into(),
                    base_offset: base_offset.into(),
                    log_start_offset: 0.into(),
                };
                self.reply(Kind::Produce, id, |out| produce::encode_reply(out, &[entry], None));
            }
        }
    }

    fn fetch(&mut self, id: u64, body: &[u8]) {
        let request = fetch::Request::decode(body).expect("well-formed");
        let mut rows = Vec::new();
        let mut batches = Vec::new();
        for entry in request.entries {
            let partition = usize::try_from(entry.partition.get()).expect("small");
            let (from, end) = (entry.offset.get(), self.end(partition));
            let in_range = (self.log_start..=end).contains(&from);
            let before = batches.len();
            for bytes in &self.logs[partition] {
                // A damaged batch is sent as it lies there.
                let next = Batches::new(bytes).next().and_then(Result::ok);
                if in_range && next.is_none_or(|batch| batch.next_offset() > from) {
                    batches.extend_from_slice(bytes);
                }
                if batches.len() - before >= 200 {
                    break;
                }
            }
            let error = if in_range { ErrorCode::None } else { ErrorCode::OffsetOutOfRange };
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
        self.outbox.extend(bytes);
        self.outbox.extend(batches);
    }

    fn list_offsets(&mut self, id: u64, body: &[u8]) {
        let entries = list_offsets::decode_request(body).expect("well-formed");
        let answer = |entry: &list_offsets::RequestEntry| {
            let partition = usize::try_from(entry.partition.get()).expect("small");
            let offset = match entry.timestamp_ms.get() {
                list_offsets::TIMESTAMP_LATEST => self.end(partition),
                list_offsets::TIMESTAMP_EARLIEST => self.log_start,
                _ => 1,
            };
            list_offsets::ReplyEntry {
                topic_id: entry.topic_id,
                partition: entry.partition,
                error: 0.into(),
                reserved: 0.into(),
                offset: offset.into(),
                timestamp_ms: entry.timestamp_ms,
            }
        };
        let rows: Vec<_> = entries.iter().map(answer).collect();
        self.reply(Kind::ListOffsets, id, |out| list_offsets::encode(out, &rows));
    }
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

impl Transport for FakeBroker {
    fn send(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let count = parts.iter().map(|part| part.len()).sum();
        parts.iter().for_each(|part| self.inbox.extend_from_slice(part));
        while let Some(&header) = FrameHeader::peek(&self.inbox) {
            let Some(body) = self.inbox.get(32..header.frame_len()) else { break };
            header.verify(body).expect("a valid frame");
            let body = body.to_vec();
            self.inbox.drain(..header.frame_len());
            self.handle(&header, &body);
        }
        Ok(count)
    }

    fn receive(&mut self, space: &mut [u8]) -> io::Result<Received> {
        let count = space.len().min(self.outbox.len());
        if count == 0 {
            return Ok(if self.closed { Received::Closed } else { Received::Nothing });
        }
        for (slot, byte) in space.iter_mut().zip(self.outbox.drain(..count)) {
            *slot = byte;
        }
        Ok(Received::Bytes(count))
    }

    fn wait(&mut self, _: Interest, _: Instant) -> io::Result<()> {
        self.outbox.extend(self.held.drain(..));
        std::thread::yield_now();
        Ok(())
    }
}
