//! A broker in memory that speaks the protocol, and lies once if it is told to.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use wire::batch::Batch;
use wire::frame::{self, Envelope, ErrorReply};
use wire::{
    ErrorCode, FrameHeader, Kind, fetch, hello, list_offsets, metadata, produce, stats, topic,
};

const TOPIC_ID: wire::TopicId = [7; 16];
const FRAME_HEADER_BYTES: usize = wire::limits::FRAME_HEADER_BYTES;
/// The batch that meets the lie, counted from 1 over all partitions.
pub const VICTIM: u64 = 3;

/// What happens to the victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Nothing: the broker is honest.
    None,
    /// It is acknowledged, but not kept.
    Lose,
    /// It is kept twice.
    Duplicate,
    /// It is kept behind the one that came after it.
    Reorder,
    /// A bit of its last value is flipped.
    Corrupt,
    /// It is refused with OVERLOADED, which is no lie.
    Refuse,
    /// It is kept, and the connection closed without an answer, which is no lie either.
    HangUp,
}

/// The partitions' batches, as they would be sent.
#[derive(Default)]
struct Logs {
    partitions: Vec<Partition>,
    batches_seen: u64,
    deleted: bool,
}

#[derive(Default)]
struct Partition {
    batches: Vec<Vec<u8>>,
    next_offset: u64,
    held_back: Option<Vec<u8>>,
}

impl Partition {
    fn append(&mut self, batch: &[u8]) -> u64 {
        let mut bytes = batch.to_vec();
        let base_offset = self.next_offset;
        Batch::stamp(&mut bytes, base_offset, 1);
        let (batch, _) = Batch::split(&bytes).expect("validated before");
        self.next_offset = batch.next_offset();
        self.batches.push(bytes);
        base_offset
    }
}

/// A listening broker; its threads end with their connections.
pub struct LyingBroker {
    pub address: String,
    shared: Arc<Shared>,
}

struct Shared {
    lie: Lie,
    logs: Mutex<Logs>,
    appended: Condvar,
}

impl LyingBroker {
    pub fn start(lie: Lie) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let logs = Mutex::new(Logs::default());
        let shared = Arc::new(Shared { lie, logs, appended: Condvar::new() });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&accepting);
                std::thread::spawn(move || serve(&shared, stream));
            }
        });
        Self { address, shared }
    }

    /// Batches that came, over all partitions.
    pub fn batches_seen(&self) -> u64 {
        self.shared.logs.lock().expect("no panic").batches_seen
    }

    /// Whether the run has removed its topic.
    pub fn topic_deleted(&self) -> bool {
        self.shared.logs.lock().expect("no panic").deleted
    }
}

fn serve(shared: &Shared, mut stream: TcpStream) {
    stream.set_nodelay(true).expect("a TCP socket");
    let mut header = [0; FRAME_HEADER_BYTES];
    while stream.read_exact(&mut header).is_ok() {
        let header = *FrameHeader::peek(&header).expect("a whole header");
        let mut body = vec![0; header.body_len()];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        header.verify(&body).expect("clients send valid frames");
        let Some(reply) = shared.answer(&header, &body) else { return };
        if stream.write_all(&reply).is_err() {
            return;
        }
    }
}

impl Shared {
    /// The reply's frame (empty where none is asked for), or `None` to hang up.
    fn answer(&self, header: &FrameHeader, body: &[u8]) -> Option<Vec<u8>> {
        let kind = Kind::from_u16(header.kind.get()).expect("a known kind");
        let id = header.correlation_id.get();
        let mut out = Vec::new();
        match kind {
            Kind::Produce => return self.produce(id, body),
            Kind::Fetch => self.fetch(&mut out, id, body),
            _ => frame::encode(&mut out, Envelope::reply(kind, id), 0, |out| {
                self.control(out, kind, body);
            }),
        }
        Some(out)
    }

    fn control(&self, out: &mut Vec<u8>, kind: Kind, body: &[u8]) {
        let mut logs = self.logs.lock().expect("no panic");
        match kind {
            Kind::Hello => hello::encode_reply(out, hello_reply()),
            Kind::CreateTopic => {
                let request = topic::CreateRequest::decode(body).expect("valid");
                let count = request.settings.partitions.get();
                logs.partitions = (0..count).map(|_| Partition::default()).collect();
                out.extend_from_slice(&TOPIC_ID);
            }
            Kind::DeleteTopic => logs.deleted = true,
            Kind::Metadata => {
                let request = metadata::Request::decode(body).expect("valid");
                let owner = metadata::PartitionOwner {
                    shard: 0.into(),
                    reserved: 0.into(),
                    leader_epoch: 0.into(),
                };
                let names: Vec<&str> = request.names().collect();
                metadata::encode_endpoints(out, &[]);
                metadata::encode_topic_count(out, names.len());
                for name in names {
                    let owners = logs.partitions.iter().map(|_| owner);
                    metadata::encode_topic(out, name, 0, &TOPIC_ID, owners);
                }
            }
            Kind::Stats => {
                let rows = [("batches_seen", logs.batches_seen)];
                stats::encode_reply(out, rows.into_iter());
            }
            Kind::ListOffsets => {
                let entries = list_offsets::decode_request(body).expect("valid");
                let rows: Vec<_> = entries
                    .iter()
                    .map(|entry| list_offsets::ReplyEntry {
                        topic_id: TOPIC_ID,
                        partition: entry.partition,
                        error: 0.into(),
                        reserved: 0.into(),
                        offset: logs.partitions[entry.partition.get() as usize].next_offset.into(),
                        timestamp_ms: (-1).into(),
                    })
                    .collect();
                list_offsets::encode(out, &rows);
            }
            other => panic!("a run does not send {other:?}"),
        }
    }

    fn produce(&self, id: u64, body: &[u8]) -> Option<Vec<u8>> {
        let request = produce::Request::decode(body).expect("valid");
        let mut logs = self.logs.lock().expect("no panic");
        let mut rows = Vec::new();
        let mut told = Lie::None;
        for (entry, batch) in request.parts() {
            let (lie, base_offset) = self.keep(&mut logs, entry.partition.get(), batch);
            if lie != Lie::None {
                told = lie;
            }
            rows.push(produce::ReplyEntry {
                topic_id: TOPIC_ID,
                partition: entry.partition,
                error: 0.into(),
                reserved: 0.into(),
                base_offset: base_offset.into(),
                log_start_offset: 0.into(),
            });
        }
        self.appended.notify_all();
        if told == Lie::HangUp {
            return None;
        }
        let mut out = Vec::new();
        if told == Lie::Refuse {
            let code = ErrorCode::Overloaded.number();
            let error = ErrorReply { code, retry_after_ms: 0, detail: "" };
            error.encode(&mut out, Kind::Produce.number(), id);
        } else if request.head.acks != 0 {
            frame::encode(&mut out, Envelope::reply(Kind::Produce, id), 0, |out| {
                produce::encode_reply(out, &rows, None);
            });
        }
        Some(out)
    }

    /// Keeps a batch, or does not; gives what was done, and the offset that will be told.
    fn keep(&self, logs: &mut Logs, partition: u32, batch: &[u8]) -> (Lie, u64) {
        Batch::validate(batch).expect("valid");
        logs.batches_seen += 1;
        let lie = if logs.batches_seen == VICTIM { self.lie } else { Lie::None };
        let partition = &mut logs.partitions[partition as usize];
        let held_back = partition.held_back.take();
        let base_offset = match lie {
            Lie::Lose | Lie::Refuse => partition.next_offset,
            Lie::Reorder => {
                partition.held_back = Some(batch.to_vec());
                partition.next_offset
            }
            Lie::Duplicate => {
                partition.append(batch);
                partition.append(batch)
            }
            Lie::Corrupt => {
                let mut bytes = batch.to_vec();
                let last = bytes.len() - 2;
                bytes[last] ^= 4;
                partition.append(&bytes)
            }
            Lie::None | Lie::HangUp => partition.append(batch),
        };
        if let Some(held_back) = held_back {
            partition.append(&held_back);
        }
        (lie, base_offset)
    }

    fn fetch(&self, out: &mut Vec<u8>, id: u64, body: &[u8]) {
        let request = fetch::Request::decode(body).expect("valid");
        let wait = Duration::from_millis(u64::from(request.head.max_wait_ms.get()));
        let logs = self.logs.lock().expect("no panic");
        let is_empty = |logs: &mut Logs| {
            request.entries.iter().all(|entry| {
                let partition = &logs.partitions[entry.partition.get() as usize];
                entry.offset.get() >= partition.next_offset
            })
        };
        let waited = self.appended.wait_timeout_while(logs, wait, is_empty);
        let (logs, _) = waited.expect("no panic");
        let mut left = request.head.max_bytes.get() as usize;
        let mut rows = Vec::new();
        let mut batches = Vec::new();
        for entry in request.entries {
            let partition = &logs.partitions[entry.partition.get() as usize];
            let before = batches.len();
            let behind = |batch: &&Vec<u8>| {
                let (batch, _) = Batch::split(batch).expect("appended whole");
                batch.next_offset() > entry.offset.get()
            };
            for batch in partition.batches.iter().filter(behind) {
                if batch.len() > left && !batches.is_empty() {
                    break;
                }
                left = left.saturating_sub(batch.len());
                batches.extend_from_slice(batch);
            }
            let bytes = u32::try_from(batches.len() - before).expect("bounded");
            rows.push(fetch_row(entry, partition.next_offset, bytes));
        }
        frame::encode(out, Envelope::reply(Kind::Fetch, id), batches.len(), |out| {
            fetch::encode_reply_control(out, &rows);
        });
        out.extend_from_slice(&batches);
    }
}

fn fetch_row(entry: &fetch::RequestEntry, end: u64, bytes: u32) -> fetch::ReplyEntry {
    fetch::ReplyEntry {
        topic_id: TOPIC_ID,
        partition: entry.partition,
        error: 0.into(),
        aborted_count: 0.into(),
        high_watermark: end.into(),
        last_stable_offset: end.into(),
        log_start_offset: 0.into(),
        batches_bytes: bytes.into(),
        leader_epoch: 1.into(),
    }
}

fn hello_reply() -> hello::ReplyHead {
    hello::ReplyHead {
        broker_id: [1; 16],
        boot_epoch: 1.into(),
        frame_body_bytes_max: 1_114_112.into(),
        batch_bytes_max: 1_048_576.into(),
        requests_in_flight_max: 64.into(),
        credit_bytes: 8_000_000.into(),
        version: 1,
        reserved: 0,
        kind_count: 0.into(),
        features: 0.into(),
    }
}
