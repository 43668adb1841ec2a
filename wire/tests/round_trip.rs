//! What one side encodes, the other decodes: for every kind, decode(encode(x)) is x.

use pelton_wire::batch::{Batch, BatchBuilder, put_varint, read_varint, varint_len};
use pelton_wire::frame::{self, Envelope, ErrorReply};
use pelton_wire::limits::FRAME_HEADER_BYTES;
use pelton_wire::metadata::{Endpoint, PartitionOwner};
use pelton_wire::{Acks, FrameHeader, fetch, hello, list_offsets, metadata, produce};
use pelton_wire::{queue, stats, topic};
use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

/// Any value of a structure of plain bytes.
fn plain<T: FromBytes + std::fmt::Debug>() -> impl Strategy<Value = T> {
    let bytes = prop::collection::vec(any::<u8>(), size_of::<T>());
    bytes.prop_map(|bytes| T::read_from_bytes(&bytes).expect("exactly its size"))
}

fn rows<T: FromBytes + std::fmt::Debug>(most: usize) -> impl Strategy<Value = Vec<T>> {
    prop::collection::vec(plain(), 1..=most)
}

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9._-]{0,40}"
}

fn bytes(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

type Blob = Option<Vec<u8>>;
type Made = (i64, Blob, Blob, Vec<(Vec<u8>, Blob)>);

fn blob() -> impl Strategy<Value = Blob> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..200))
}

fn record() -> impl Strategy<Value = Made> {
    let headers = prop::collection::vec((prop::collection::vec(any::<u8>(), 0..9), blob()), 0..3);
    (0..4_000_000_000_000_i64, blob(), blob(), headers)
}

fn build(records: &[Made]) -> Vec<u8> {
    let mut builder = BatchBuilder::with_capacity(64);
    for (time, key, value, headers) in records {
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            headers.iter().map(|(name, value)| (name.as_slice(), value.as_deref())).collect();
        builder.push_with_headers(*time, key.as_deref(), value.as_deref(), &headers);
    }
    builder.finish().to_vec()
}

proptest! {
    #[test]
    fn frames(flags in 0..4u8, kind: u16, kind_version: u16, correlation_id: u64,
              body in prop::collection::vec(any::<u8>(), 0..600)) {
        let envelope = Envelope { flags, kind, kind_version, correlation_id };
        let out = bytes(|out| frame::encode(out, envelope, 0, |out| out.extend(&body)));
        let header = FrameHeader::peek(&out).expect("a header");
        prop_assert_eq!(header.invalid(), None);
        prop_assert_eq!(header.verify(&out[FRAME_HEADER_BYTES..]), Ok(()));
        prop_assert_eq!(header.frame_len(), out.len());
        let read = (header.flags, header.kind.get(), header.correlation_id.get());
        prop_assert_eq!(read, (flags, kind, correlation_id));
        prop_assert_eq!(header.kind_version.get(), kind_version);
    }

    #[test]
    fn error_replies(code: u16, retry_after_ms: u32, detail in "\\PC{0,100}") {
        let reply = ErrorReply { code, retry_after_ms, detail: &detail };
        let out = bytes(|out| reply.encode(out, 3, 4));
        prop_assert_eq!(ErrorReply::decode(&out[FRAME_HEADER_BYTES..]), Ok(reply));
    }

    #[test]
    fn hello_both_ways(versions: (u8, u8), features: u64, client in "\\PC{0,60}",
                       head in plain::<hello::ReplyHead>()) {
        let (version_min, version_max) = versions;
        let request = hello::Request { version_min, version_max, features, client: &client };
        let out = bytes(|out| request.encode(out));
        prop_assert_eq!(hello::Request::decode(&out), Ok(request));
        let out = bytes(|out| hello::encode_reply(out, head));
        let reply = hello::Reply::decode(&out).expect("well-formed");
        prop_assert_eq!(reply.kinds.len(), pelton_wire::kind::SERVED.len());
        let expected = hello::ReplyHead { kind_count: reply.head.kind_count, ..head };
        prop_assert_eq!(*reply.head, expected);
    }

    #[test]
    fn metadata_both_ways(names in prop::collection::vec(name(), 0..5), error: u16, port: u16,
                          owners in rows::<PartitionOwner>(5)) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let out = bytes(|out| metadata::encode_request(out, &names));
        let request = metadata::Request::decode(&out).expect("well-formed");
        prop_assert_eq!(request.asks_all(), names.is_empty());
        prop_assert_eq!(request.names().collect::<Vec<_>>(), names.clone());

        let endpoint = Endpoint { shard: 3, port, host: "localhost" };
        let out = bytes(|out| {
            metadata::encode_endpoints(out, &[endpoint; 2]);
            metadata::encode_topic_count(out, names.len());
            for name in &names {
                metadata::encode_topic(out, name, error, &[9; 16], owners.iter().copied());
            }
        });
        let reply = metadata::Reply::decode(&out).expect("well-formed");
        prop_assert_eq!(reply.endpoints().collect::<Vec<_>>(), [endpoint; 2]);
        let topic = |name| metadata::Topic { name, error, topic_id: &[9; 16], partitions: &owners };
        let expected: Vec<_> = names.iter().map(|name| topic(*name)).collect();
        prop_assert_eq!(reply.topics().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn topics_both_ways(settings in plain::<topic::Settings>(), name in name(),
                        states in rows::<topic::PartitionState>(6)) {
        let create = topic::CreateRequest { settings: &settings, name: &name };
        let out = bytes(|out| create.encode(out));
        prop_assert_eq!(topic::CreateRequest::decode(&out), Ok(create));
        let alter = topic::AlterRequest { changes: 5, settings: &settings, name: &name };
        let out = bytes(|out| alter.encode(out));
        prop_assert_eq!(topic::AlterRequest::decode(&out), Ok(alter));
        let named = topic::NameRequest { name: &name };
        let out = bytes(|out| named.encode(out));
        prop_assert_eq!(topic::NameRequest::decode(&out), Ok(named));

        let mut head = topic::DescribeHead { topic_id: [5; 16], settings };
        head.settings.partitions = u32::try_from(states.len()).expect("few").into();
        let out = [head.as_bytes(), states.as_bytes()].concat();
        let expected = topic::DescribeReply { head: &head, partitions: &states };
        prop_assert_eq!(topic::DescribeReply::decode(&out), Ok(expected));
    }

    #[test]
    fn produce_both_ways(records in prop::collection::vec(record(), 1..5), flags in 0..2u8,
                         entries in rows::<produce::ReplyEntry>(5), timeout_ms: u32,
                         timing in prop::option::of(plain::<produce::Timing>())) {
        let batch = build(&records);
        let batch_bytes = u32::try_from(batch.len()).expect("small").into();
        let entry = produce::RequestEntry { topic_id: [1; 16], partition: 2.into(), batch_bytes };
        let mut out = bytes(|out| {
            produce::encode_control(out, Acks::Written, flags, timeout_ms, &[entry; 2]);
        });
        out.extend_from_slice(&batch.repeat(2));
        let request = produce::Request::decode(&out).expect("well-formed");
        prop_assert_eq!(Acks::from_u8(request.head.acks), Some(Acks::Written));
        prop_assert_eq!((request.head.flags, request.head.timeout_ms.get()), (flags, timeout_ms));
        let parts: Vec<_> = request.parts().collect();
        prop_assert_eq!(parts, [(&entry, &batch[..]); 2]);

        let out = bytes(|out| produce::encode_reply(out, &entries, timing.as_ref()));
        let expected = produce::Reply { entries: &entries, timing: timing.as_ref() };
        prop_assert_eq!(produce::Reply::decode(&out), Ok(expected));
    }

    #[test]
    fn publish_both_ways(head in plain::<queue::PublishHead>(), count in 1..9u32, first: u64,
                         messages in blob(),
                         timing in prop::option::of(plain::<produce::Timing>())) {
        let head = queue::PublishHead { count: count.into(), reserved: 0.into(), ..head };
        let messages = messages.unwrap_or_default();
        let out = [head.as_bytes(), &messages].concat();
        let expected = queue::PublishRequest { head: &head, messages: &messages };
        prop_assert_eq!(queue::PublishRequest::decode(&out), Ok(expected));

        let out = bytes(|out| queue::encode_publish_reply(out, first, count, timing.as_ref()));
        let reply = queue::PublishReply::decode(&out).expect("well-formed");
        prop_assert_eq!((reply.head.first.get(), reply.head.count.get()), (first, count));
        prop_assert_eq!(reply.timing, timing.as_ref());
        // Who did not ask gets the bytes there always were.
        let unasked = [&first.to_le_bytes()[..], &count.to_le_bytes(), &[0; 4]].concat();
        prop_assert_eq!(timing.is_none(), out == unasked);
        let longer = [&out[..], &[0]].concat();
        prop_assert!(queue::PublishReply::decode(&longer).is_err());
    }

    #[test]
    fn fetch_both_ways(head in plain::<fetch::RequestHead>(),
                       entries in rows::<fetch::RequestEntry>(5),
                       rows in rows::<fetch::ReplyEntry>(5), batches in blob()) {
        let partition_count = u16::try_from(entries.len()).expect("few").into();
        let head = fetch::RequestHead { isolation: 0, flags: 0, partition_count, ..head };
        let request = fetch::Request { head: &head, entries: &entries };
        let out = bytes(|out| request.encode(out));
        prop_assert_eq!(fetch::Request::decode(&out), Ok(request));

        let batches = batches.unwrap_or_default();
        let mut rows = rows;
        for row in &mut rows {
            row.batches_bytes = u32::try_from(batches.len()).expect("small").into();
        }
        let mut out = bytes(|out| fetch::encode_reply_control(out, &rows));
        out.extend(batches.repeat(rows.len()));
        let reply = fetch::Reply::decode(&out).expect("well-formed");
        prop_assert_eq!(reply.entries, &rows[..]);
        prop_assert!(reply.parts().all(|(_, part)| part == batches));
    }

    #[test]
    fn list_offsets_both_ways(asked in rows::<list_offsets::RequestEntry>(9),
                              found in rows::<list_offsets::ReplyEntry>(9)) {
        let out = bytes(|out| list_offsets::encode(out, &asked));
        prop_assert_eq!(list_offsets::decode_request(&out), Ok(&asked[..]));
        let out = bytes(|out| list_offsets::encode(out, &found));
        prop_assert_eq!(list_offsets::decode_reply(&out), Ok(&found[..]));
    }

    #[test]
    fn stats_replies(counters in prop::collection::vec((name(), any::<u64>()), 0..20)) {
        let counters: Vec<(&str, u64)> = counters.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        let out = bytes(|out| stats::encode_reply(out, counters.iter().copied()));
        let reply = stats::Reply::decode(&out).expect("well-formed");
        prop_assert_eq!(reply.counters().collect::<Vec<_>>(), counters);
    }

    #[test]
    fn batches(records in prop::collection::vec(record(), 1..20), base_offset in 0..1u64 << 62) {
        let mut bytes = build(&records);
        Batch::stamp(&mut bytes, base_offset, 3);
        let batch = Batch::validate(&bytes).expect("valid after stamping");
        prop_assert_eq!(batch.base_offset(), base_offset);
        prop_assert_eq!(batch.next_offset(), base_offset + u64::from(batch.record_count()));
        let mut offset = base_offset;
        for (record, (time, key, value, headers)) in batch.records().zip(&records) {
            let record = record.map_err(TestCaseError::fail)?;
            prop_assert_eq!((record.offset, record.timestamp_ms), (offset, *time));
            prop_assert_eq!((record.key, record.value), (key.as_deref(), value.as_deref()));
            let read: Vec<_> = record.headers.map(|h| (h.key, h.value)).collect();
            let made: Vec<_> = headers.iter().map(|(n, v)| (n.as_slice(), v.as_deref())).collect();
            prop_assert_eq!(read, made);
            offset += 1;
        }
        prop_assert_eq!(offset, batch.next_offset(), "every record was read");
    }

    #[test]
    fn varints(value: i64, tail in prop::collection::vec(any::<u8>(), 0..4)) {
        let mut out = bytes(|out| put_varint(out, value));
        prop_assert_eq!(out.len(), varint_len(value));
        out.extend(tail);
        prop_assert_eq!(read_varint(&out), Some((value, varint_len(value))));
    }
}
