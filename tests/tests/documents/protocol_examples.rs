//! The protocol's bodies of variable layout, shown as bytes.

use wire::batch::BatchBuilder;
use wire::frame::{self, Envelope, ErrorReply};
use wire::metadata::{Endpoint, PartitionOwner};
use wire::{ErrorCode, FrameHeader, Kind, hello, metadata, stats, topic};

use crate::document::PROTOCOL;

/// What the code makes of each example.
fn encoded() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("ping", bytes(|out| frame::encode(out, Envelope::request(Kind::Ping, 42), 0, |_| {}))),
        ("error-reply", error_reply()),
        ("hello-request", hello_request()),
        ("metadata-request", bytes(|out| metadata::encode_request(out, &["a", "bc"]))),
        ("metadata-reply", bytes(metadata_reply)),
        ("alter-request", bytes(alter_request)),
        ("name-request", bytes(|out| topic::NameRequest { name: "a" }.encode(out))),
        ("stats-reply", bytes(|out| stats::encode_reply(out, [("a_ns", 5)].into_iter()))),
        ("record", record()),
    ]
}

fn bytes(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

fn error_reply() -> Vec<u8> {
    let code = ErrorCode::Overloaded.number();
    let reply = ErrorReply { code, retry_after_ms: 100, detail: "full" };
    let frame = bytes(|out| reply.encode(out, Kind::Produce.number(), 1));
    frame[size_of::<FrameHeader>()..].to_vec()
}

fn hello_request() -> Vec<u8> {
    let request = hello::Request { version_min: 1, version_max: 1, features: 0, client: "demo" };
    bytes(|out| request.encode(out))
}

fn metadata_reply(out: &mut Vec<u8>) {
    metadata::encode_endpoints(out, &[Endpoint { shard: 0, port: 9600, host: "" }]);
    metadata::encode_topic_count(out, 1);
    let owner = PartitionOwner { shard: 0.into(), reserved: 0.into(), leader_epoch: 5.into() };
    metadata::encode_topic(out, "a", 0, &[7; 16], [owner].into_iter());
}

fn alter_request(out: &mut Vec<u8>) {
    let mut settings = topic::Settings::new(0);
    settings.retention_ms = 1000.into();
    let changes = topic::CHANGE_RETENTION;
    topic::AlterRequest { changes, settings: &settings, name: "a" }.encode(out);
}

fn record() -> Vec<u8> {
    let mut builder = BatchBuilder::with_capacity(128);
    builder.push_with_headers(1000, Some(b"k"), Some(b"one"), &[(b"h", None)]);
    builder.finish()[wire::batch::BATCH_HEADER_BYTES..].to_vec()
}

#[test]
fn every_example_is_what_the_code_writes() {
    let encoded = encoded();
    for (name, bytes) in &encoded {
        assert_eq!(hex(&PROTOCOL.example(name)), hex(bytes), "{name}: document, then code");
    }
    let names: Vec<&str> = encoded.iter().map(|(name, _)| *name).collect();
    assert_eq!(PROTOCOL.example_names(), names, "every example is compared");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}
