//! A well-formed body of every kind, as a starting point for mutations.

use pelton_wire::batch::BatchBuilder;
use pelton_wire::frame::{self, Envelope, ErrorReply};
use pelton_wire::metadata::{Endpoint, PartitionOwner};
use pelton_wire::{Acks, Kind, delete_records, fetch, hello};
use pelton_wire::{list_offsets, metadata, produce, queue, stats, topic};
use zerocopy::{FromZeros, IntoBytes};

/// One body each, and some whole frames.
pub fn samples() -> Vec<Vec<u8>> {
    let mut all = vec![batch(), batch().repeat(2)];
    all.extend(connection().map(bytes));
    all.extend(topics().map(bytes));
    all.extend(data().map(bytes));
    all.extend(queues().map(bytes));
    let bodies = all.clone();
    all.extend(bodies.iter().map(|body| framed(Kind::Stats, body)));
    all.push(framed(Kind::Produce, &bytes(Box::new(produce_request))));
    all
}

type Encode = Box<dyn FnOnce(&mut Vec<u8>)>;

fn bytes(encode: Encode) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

fn framed(kind: Kind, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::encode(&mut out, Envelope::request(kind, 7), 0, |out| out.extend_from_slice(body));
    out
}

/// A batch with keys, tombstones and headers.
pub fn batch() -> Vec<u8> {
    let mut builder = BatchBuilder::with_capacity(256);
    builder.push(1000, Some(b"key"), Some(b"value"));
    builder.push(990, None, None);
    builder.push_with_headers(1300, None, Some(b"v"), &[(b"h", Some(b"x")), (b"i", None)]);
    builder.finish().to_vec()
}

fn connection() -> [Encode; 5] {
    let request = hello::Request { version_min: 1, version_max: 2, features: 3, client: "demo" };
    let error = ErrorReply { code: 9, retry_after_ms: 1, detail: "why" };
    [
        Box::new(move |out| request.encode(out)),
        Box::new(|out| hello::encode_reply(out, hello::ReplyHead::new_zeroed())),
        Box::new(move |out| error.encode(out, 7, 8)),
        Box::new(|out| metadata::encode_request(out, &["a", "bc"])),
        Box::new(|out| stats::encode_reply(out, [("appends", 3), ("fetches", 4)].into_iter())),
    ]
}

fn topics() -> [Encode; 6] {
    let owner = PartitionOwner { shard: 1.into(), reserved: 0.into(), leader_epoch: 4.into() };
    [
        Box::new(move |out| {
            metadata::encode_endpoints(out, &[Endpoint { shard: 0, port: 96, host: "here" }]);
            metadata::encode_topic_count(out, 1);
            metadata::encode_topic(out, "orders", 0, &[3; 16], [owner; 3].into_iter());
        }),
        Box::new(|out| {
            let settings = topic::Settings::new(4);
            topic::CreateRequest { settings: &settings, name: "orders" }.encode(out);
        }),
        Box::new(|out| {
            let (changes, settings) = (topic::CHANGE_RETENTION, topic::Settings::new(4));
            let name = "orders";
            topic::AlterRequest { changes, settings: &settings, name }.encode(out);
        }),
        Box::new(|out| topic::NameRequest { name: "orders" }.encode(out)),
        Box::new(|out| out.extend_from_slice(&[7; 16])),
        Box::new(|out| {
            let settings = topic::Settings::new(2);
            let head = topic::DescribeHead { topic_id: [1; 16], settings };
            out.extend_from_slice(head.as_bytes());
            let row = topic::PartitionState::new_zeroed();
            out.extend_from_slice([row; 2].as_bytes());
        }),
    ]
}

fn queues() -> [Encode; 6] {
    [
        Box::new(|out| queue::encode_create(out, &queue::Settings::new(), "jobs", "dead")),
        Box::new(|out| {
            let counts = queue::QueueCounts::new_zeroed();
            let (settings, name, dead_letter) = (&queue::Settings::new(), "jobs", "dead");
            let (queue, shard, counts) = ([5; 16], 1, &counts);
            let reply = queue::DescribeReply { queue, shard, settings, counts, name, dead_letter };
            queue::encode_describe_reply(out, &reply);
        }),
        Box::new(|out| {
            let mut head = queue::PublishHead::new_zeroed();
            head.count = 2.into();
            out.extend_from_slice(head.as_bytes());
            queue::put_message(out, queue::MESSAGE_TRANSIENT, 9, b"properties", b"body");
            queue::put_message(out, 0, 0, b"", b"");
        }),
        Box::new(|out| queue::encode_publish_reply(out, 3, 2, Some(&timing()))),
        Box::new(|out| {
            let mut head = queue::DeliverHead::new_zeroed();
            head.row_count = 1.into();
            let mut row = queue::DeliveredRow::new_zeroed();
            row.count = 1.into();
            out.extend_from_slice(head.as_bytes());
            out.extend_from_slice(row.as_bytes());
            queue::put_message(out, 0, 0, b"p", b"body");
        }),
        Box::new(|out| {
            let mut row = queue::SettleRow::new_zeroed();
            row.verb = queue::Verb::Accept as u8;
            queue::encode_settle(out, &[5; 16], 3, queue::SETTLE_QUIET, &[row; 2]);
        }),
    ]
}

fn produce_request(out: &mut Vec<u8>) {
    let batch = batch();
    let batch_bytes = u32::try_from(batch.len()).expect("small").into();
    let entry = produce::RequestEntry { topic_id: [1; 16], partition: 2.into(), batch_bytes };
    produce::encode_control(out, Acks::Durable, 0, 100, &[entry; 2]);
    out.extend_from_slice(&batch.repeat(2));
}

fn timing() -> produce::Timing {
    produce::Timing { queue_ns: 1.into(), append_ns: 2.into(), commit_ns: 3.into() }
}

fn data() -> [Encode; 8] {
    [
        Box::new(produce_request),
        Box::new(|out| {
            let row = produce::ReplyEntry::new_zeroed();
            produce::encode_reply(out, &[row; 2], Some(&timing()));
        }),
        Box::new(|out| {
            let mut head = fetch::RequestHead::new_zeroed();
            head.partition_count = 2.into();
            let entries = &[fetch::RequestEntry::new_zeroed(); 2];
            fetch::Request { head: &head, entries }.encode(out);
        }),
        Box::new(|out| {
            let batch = batch();
            let mut row = fetch::ReplyEntry::new_zeroed();
            row.batches_bytes = u32::try_from(batch.len()).expect("small").into();
            fetch::encode_reply_control(out, &[row; 2]);
            out.extend_from_slice(&batch.repeat(2));
        }),
        Box::new(|out| {
            delete_records::encode(out, &[delete_records::RequestEntry::new_zeroed(); 2]);
        }),
        Box::new(|out| {
            delete_records::encode(out, &[delete_records::ReplyEntry::new_zeroed(); 2]);
        }),
        Box::new(|out| list_offsets::encode(out, &[list_offsets::RequestEntry::new_zeroed(); 2])),
        Box::new(|out| list_offsets::encode(out, &[list_offsets::ReplyEntry::new_zeroed(); 2])),
    ]
}
