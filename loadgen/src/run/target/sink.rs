//! A broker that keeps nothing: it proves what it is sent, and answers at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use wire::batch::Batch;
use wire::frame::{self, Envelope, ErrorReply};
use wire::limits::{BATCH_BYTES_MAX, FRAME_BODY_BYTES_MAX, FRAME_HEADER_BYTES};
use wire::{ErrorCode, FrameHeader, Kind, hello, list_offsets, metadata, produce, stats, topic};

use crate::payload;

/// As many as a producer may have unanswered.
const REQUESTS_IN_FLIGHT_MAX: u16 = 4096;
/// The one topic.
const TOPIC_ID: wire::TopicId = *b"pelton-sinkhole!";

/// How far records are looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::run) enum Proof {
    /// The checksum of each batch, as a broker checks it.
    Batches,
    /// The header and the checksum of each record too, as a consumer checks them.
    Records,
}

/// What all connections to a sink have taken together.
#[derive(Debug, Default)]
pub(in crate::run) struct SinkCounters {
    records: AtomicU64,
    corrupted: AtomicU64,
    reordered: AtomicU64,
    /// Partitions of the topic, once it was created.
    partitions: AtomicU64,
}

impl SinkCounters {
    /// Records taken, those that were damaged, and those that came out of order.
    pub(in crate::run) fn read(&self) -> [u64; 3] {
        [&self.records, &self.corrupted, &self.reordered].map(|count| count.load(Ordering::Relaxed))
    }
}

/// One connection to the sink.
#[derive(Debug)]
pub(in crate::run) struct Sink {
    counters: Arc<SinkCounters>,
    proof: Proof,
    /// Bytes of a frame that is not whole yet.
    incoming: Vec<u8>,
    /// Per partition: the next sequence, which is also the offset that is told.
    next: Vec<u64>,
    rows: Vec<produce::ReplyEntry>,
}

/// The peer did not keep to the protocol.
#[derive(Debug)]
pub(in crate::run) struct BadFrame;

impl Sink {
    pub(in crate::run) fn new(counters: &Arc<SinkCounters>, proof: Proof) -> Self {
        Self {
            counters: Arc::clone(counters),
            proof,
            incoming: Vec::new(),
            next: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Takes bytes and puts the answers to all frames that are whole by then into `out`.
    pub(in crate::run) fn take<'b>(
        &mut self,
        parts: impl Iterator<Item = &'b [u8]>,
        out: &mut Vec<u8>,
    ) -> Result<(), BadFrame> {
        let mut incoming = std::mem::take(&mut self.incoming);
        parts.for_each(|part| incoming.extend_from_slice(part));
        let mut rest = &incoming[..];
        while let Some(header) = FrameHeader::peek(rest) {
            if header.invalid().is_some() {
                return Err(BadFrame);
            }
            let Some((whole, behind)) = rest.split_at_checked(header.frame_len()) else { break };
            let body = &whole[FRAME_HEADER_BYTES..];
            header.verify(body).map_err(|_| BadFrame)?;
            self.answer(header, body, out)?;
            rest = behind;
        }
        let taken = incoming.len() - rest.len();
        // Frames usually come whole: then this moves nothing.
        incoming.drain(..taken);
        self.incoming = incoming;
        Ok(())
    }

    fn answer(
        &mut self,
        header: &FrameHeader,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), BadFrame> {
        let id = header.correlation_id.get();
        let kind = Kind::from_u16(header.kind.get()).ok_or(BadFrame)?;
        let envelope = Envelope::reply(kind, id);
        match kind {
            Kind::Produce => return self.produce(id, body, out),
            Kind::Hello => {
                frame::encode(out, envelope, 0, |out| hello::encode_reply(out, hello_reply()));
            }
            Kind::CreateTopic => {
                let request = topic::CreateRequest::decode(body).map_err(|_| BadFrame)?;
                let partitions = request.settings.partitions.get();
                self.counters.partitions.store(u64::from(partitions), Ordering::Relaxed);
                frame::encode(out, envelope, 0, |out| out.extend_from_slice(&TOPIC_ID));
            }
            Kind::DeleteTopic => frame::encode(out, envelope, 0, |_| ()),
            Kind::Metadata => self.metadata(envelope, body, out)?,
            Kind::Stats => {
                let [records, corrupted, reordered] = self.counters.read();
                let rows = [
                    ("sink_records", records),
                    ("sink_records_corrupted", corrupted),
                    ("sink_records_reordered", reordered),
                ];
                frame::encode(out, envelope, 0, |out| stats::encode_reply(out, rows.into_iter()));
            }
            Kind::ListOffsets => {
                let entries = list_offsets::decode_request(body).map_err(|_| BadFrame)?;
                let rows: Vec<_> = entries.iter().map(nothing_there).collect();
                frame::encode(out, envelope, 0, |out| list_offsets::encode(out, &rows));
            }
            other => {
                let code = ErrorCode::UnknownKind.number();
                let detail = "this target keeps nothing";
                ErrorReply { code, retry_after_ms: 0, detail }.encode(out, other.number(), id);
            }
        }
        Ok(())
    }

    fn metadata(&self, envelope: Envelope, body: &[u8], out: &mut Vec<u8>) -> Result<(), BadFrame> {
        let request = metadata::Request::decode(body).map_err(|_| BadFrame)?;
        let names: Vec<&str> = request.names().collect();
        let count = self.counters.partitions.load(Ordering::Relaxed);
        let owner = metadata::PartitionOwner {
            shard: 0.into(),
            reserved: 0.into(),
            leader_epoch: 0.into(),
        };
        frame::encode(out, envelope, 0, |out| {
            metadata::encode_endpoints(out, &[]);
            metadata::encode_topic_count(out, names.len());
            for name in names {
                let count = usize::try_from(count).expect("a u32 before");
                metadata::encode_topic(out, name, 0, &TOPIC_ID, std::iter::repeat_n(owner, count));
            }
        });
        Ok(())
    }

    fn produce(&mut self, id: u64, body: &[u8], out: &mut Vec<u8>) -> Result<(), BadFrame> {
        let request = produce::Request::decode(body).map_err(|_| BadFrame)?;
        self.rows.clear();
        for (entry, bytes) in request.parts() {
            let partition = entry.partition.get() as usize;
            if self.next.len() <= partition {
                self.next.resize(partition + 1, 0);
            }
            let base_offset = self.next[partition];
            self.prove(partition, bytes);
            self.rows.push(produce::ReplyEntry::appended(entry, base_offset));
        }
        if request.head.acks != 0 {
            frame::encode(out, Envelope::reply(Kind::Produce, id), 0, |out| {
                produce::encode_reply(out, &self.rows, None);
            });
        }
        Ok(())
    }

    /// Looks into one batch, and counts what it finds.
    fn prove(&mut self, partition: usize, bytes: &[u8]) {
        let counters = &self.counters;
        let Ok(batch) = Batch::validate(bytes) else {
            counters.corrupted.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let next = &mut self.next[partition];
        counters.records.fetch_add(u64::from(batch.record_count()), Ordering::Relaxed);
        if self.proof == Proof::Batches {
            *next += u64::from(batch.record_count());
            return;
        }
        for record in batch.records() {
            let value = record.ok().and_then(|record| record.value);
            match value.map(payload::verify) {
                Some(Ok(header)) if header.partition as usize == partition => {
                    if header.sequence != *next {
                        counters.reordered.fetch_add(1, Ordering::Relaxed);
                    }
                    *next = header.sequence + 1;
                }
                _ => {
                    counters.corrupted.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Every partition is empty.
fn nothing_there(entry: &list_offsets::RequestEntry) -> list_offsets::ReplyEntry {
    list_offsets::ReplyEntry {
        topic_id: entry.topic_id,
        partition: entry.partition,
        error: 0.into(),
        reserved: 0.into(),
        offset: 0.into(),
        timestamp_ms: (-1).into(),
    }
}

fn hello_reply() -> hello::ReplyHead {
    let bytes = |count: usize| u32::try_from(count).expect("a limit of the protocol");
    hello::ReplyHead {
        broker_id: TOPIC_ID,
        boot_epoch: 1.into(),
        frame_body_bytes_max: bytes(FRAME_BODY_BYTES_MAX).into(),
        batch_bytes_max: bytes(BATCH_BYTES_MAX).into(),
        requests_in_flight_max: u32::from(REQUESTS_IN_FLIGHT_MAX).into(),
        credit_bytes: u32::MAX.into(),
        version: wire::limits::FRAME_VERSION,
        reserved: 0,
        kind_count: 0.into(),
        features: 0.into(),
    }
}
