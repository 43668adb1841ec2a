//! Every decoder of the crate in one call, for the tests and the fuzz targets.

use pelton_wire::batch::{Batch, Batches, read_varint};
use pelton_wire::frame::ErrorReply;
use pelton_wire::limits::FRAME_HEADER_BYTES;
use pelton_wire::{FrameHeader, delete_records, fetch, hello};
use pelton_wire::{list_offsets, metadata, produce, queue, stats, topic};
use zerocopy::FromBytes;

/// Runs every decoder over the same bytes and walks all that it accepts. Gives how many accepted.
pub fn decode_as_everything(bytes: &[u8]) -> usize {
    let accepted = [
        frame(bytes),
        ErrorReply::decode(bytes).is_ok(),
        hello::Request::decode(bytes).is_ok(),
        hello::Reply::decode(bytes).is_ok(),
        metadata_request(bytes),
        metadata_reply(bytes),
        topic_bodies(bytes),
        produce_request(bytes),
        produce::Reply::decode(bytes).is_ok(),
        fetch::Request::decode(bytes).is_ok(),
        fetch_reply(bytes),
        list_offsets::decode_request(bytes).is_ok(),
        list_offsets::decode_reply(bytes).is_ok(),
        delete_records::decode_request(bytes).is_ok(),
        delete_records::decode_reply(bytes).is_ok(),
        stats_reply(bytes),
        queue_bodies(bytes),
        queue_messages(bytes),
        batches(bytes),
        read_varint(bytes).is_some_and(|(_, length)| length <= bytes.len()),
    ];
    accepted.into_iter().filter(|accepted| *accepted).count()
}

fn frame(bytes: &[u8]) -> bool {
    let Some(header) = FrameHeader::peek(bytes) else { return false };
    let body = &bytes[FRAME_HEADER_BYTES..];
    let body = &body[..body.len().min(header.body_len())];
    header.invalid().is_none() && header.verify(body).is_ok()
}

fn metadata_request(bytes: &[u8]) -> bool {
    let Ok(request) = metadata::Request::decode(bytes) else { return false };
    request.names().count() > 0 || request.asks_all()
}

fn metadata_reply(bytes: &[u8]) -> bool {
    let Ok(reply) = metadata::Reply::decode(bytes) else { return false };
    let hosts = reply.endpoints().map(|endpoint| endpoint.host.len()).sum::<usize>();
    let owners = reply.topics().map(|topic| topic.partitions.len()).sum::<usize>();
    hosts + owners <= bytes.len()
}

fn topic_bodies(bytes: &[u8]) -> bool {
    let create = topic::CreateRequest::decode(bytes).map(|create| create.name);
    let name = topic::NameRequest::decode(bytes).map(|request| request.name);
    let describe = topic::DescribeReply::decode(bytes).is_ok();
    let id = topic::CreateReply::ref_from_bytes(bytes).is_ok();
    let alter = topic::AlterRequest::decode(bytes).map(|alter| alter.name);
    let named = create.or(alter).or(name).map(topic::invalid_name);
    named.is_ok() || describe || id
}

fn produce_request(bytes: &[u8]) -> bool {
    let Ok(request) = produce::Request::decode(bytes) else { return false };
    let parts = request.parts().map(|(_, batch)| batch.len()).sum::<usize>();
    assert_eq!(parts, request.batches.len(), "the parts are the whole");
    request.parts().all(|(_, batch)| Batch::validate(batch).is_ok())
}

fn fetch_reply(bytes: &[u8]) -> bool {
    let Ok(reply) = fetch::Reply::decode(bytes) else { return false };
    reply.parts().all(|(_, bytes)| batches(bytes))
}

fn queue_bodies(bytes: &[u8]) -> bool {
    let create = queue::CreateRequest::decode(bytes).is_ok();
    let created = queue::CreateReply::decode(bytes).is_ok();
    let delete = queue::DeleteRequest::decode(bytes).is_ok();
    let describe = queue::DescribeReply::decode(bytes).is_ok();
    let list = queue::ListRequest::decode(bytes).is_ok();
    let listed = queue::ListReply::decode(bytes).all(|row| row.is_ok()) && !bytes.is_empty();
    let settle = queue::SettleRequest::decode(bytes).is_ok();
    let settled = queue::SettleReply::decode(bytes).is_ok();
    [create, created, delete, describe, list, listed, settle, settled].contains(&true)
}

fn queue_messages(bytes: &[u8]) -> bool {
    let whole = |messages| queue::Messages::new(messages).all(|message| message.is_ok());
    let publish = queue::PublishRequest::decode(bytes).is_ok_and(|one| whole(one.messages));
    let deliver = queue::Deliver::decode(bytes);
    let deliver = deliver.is_ok_and(|deliver| deliver.messages().all(|message| message.is_ok()));
    let published = queue::PublishReply::decode(bytes).is_ok();
    publish || published || deliver || (whole(bytes) && !bytes.is_empty())
}

fn stats_reply(bytes: &[u8]) -> bool {
    let Ok(reply) = stats::Reply::decode(bytes) else { return false };
    reply.counters().map(|(name, _)| name.len()).sum::<usize>() <= bytes.len()
}

/// Walks the records even where validation refuses: a reader may meet them, too.
fn batches(bytes: &[u8]) -> bool {
    let mut all_valid = Batch::validate(bytes).is_ok();
    for batch in Batches::new(bytes) {
        let Ok(batch) = batch else { return false };
        let _ = (batch.next_offset(), batch.is_compressed(), batch.verify_crc());
        // A lying count is cut off by the bytes: each record takes at least one.
        for record in batch.records() {
            let Ok(record) = record else {
                all_valid = false;
                break;
            };
            let headers = record.headers.map(|header| header.key.len()).sum::<usize>();
            assert!(headers <= bytes.len(), "headers lie inside the input");
        }
    }
    all_valid
}
