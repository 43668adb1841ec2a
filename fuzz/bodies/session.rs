//! A client's session that is answered with arbitrary bytes, in arbitrary pieces, and with frames
//! whose checksums are right: it gives events or ends, and never panics.

use pelton_client::session::{Event, ProduceOptions, Session};
use pelton_wire::batch::Batches;
use pelton_wire::crc::crc32c;
use pelton_wire::frame::Envelope;
use pelton_wire::{FrameHeader, Kind, fetch, hello, list_offsets};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Bytes of a frame's header that its checksum covers.
const CRC_HEADER_BYTES: usize = 28;

/// Feeds it.
pub fn run(input: &[u8]) {
    let Some((&way, bytes)) = input.split_first() else { return };
    let mut session = Session::new("fuzz");
    if way & 1 == 0 {
        greet(&mut session);
        ask(&mut session);
    }
    let mut stream = Vec::new();
    if way & 2 == 0 {
        stream.extend_from_slice(bytes);
    } else {
        frames(bytes, &mut stream);
    }
    let piece = usize::from(way >> 2).max(1) * 7;
    for piece in stream.chunks(piece) {
        session.receive(piece);
        loop {
            match session.next_event() {
                Ok(Some(event)) => look(&event),
                Ok(None) => break,
                Err(violation) => {
                    assert_eq!(session.next_event().err(), Some(violation), "it stays ended");
                    return;
                }
            }
        }
    }
}

/// Bodies out of the input, each in a frame that answers some request.
fn frames(mut bytes: &[u8], stream: &mut Vec<u8>) {
    while let Some((head, rest)) = bytes.split_first_chunk::<4>() {
        let [kind, id, low, high] = *head;
        let length = usize::from(u16::from_le_bytes([low, high % 4])).min(rest.len());
        let (body, rest) = rest.split_at(length);
        let Some(kind) = Kind::from_u16(u16::from(kind)) else { return };
        // Framed as something without batches first: its encoder believes no length.
        let mut frame = Vec::new();
        let envelope = Envelope::reply(Kind::Ping, u64::from(id));
        pelton_wire::frame::encode(&mut frame, envelope, 0, |out| out.extend_from_slice(body));
        let (header, _) = FrameHeader::mut_from_prefix(&mut frame).expect("a whole frame");
        let envelope = Envelope::reply(kind, u64::from(id));
        (header.kind, header.flags) = (envelope.kind.into(), envelope.flags);
        let covered = header.covered(body).unwrap_or(body);
        header.crc = crc32c(&[&header.as_bytes()[..CRC_HEADER_BYTES], covered].concat()).into();
        stream.extend_from_slice(&frame);
        bytes = rest;
    }
}

fn greet(session: &mut Session) {
    let mut head = hello::ReplyHead::new_zeroed();
    head.frame_body_bytes_max = (1 << 20).into();
    head.batch_bytes_max = (1 << 20).into();
    head.requests_in_flight_max = 64.into();
    head.credit_bytes = (1 << 20).into();
    let mut out = Vec::new();
    let envelope = Envelope::reply(Kind::Hello, 1);
    pelton_wire::frame::encode(&mut out, envelope, 0, |out| {
        hello::encode_reply(out, head);
    });
    session.receive(&out);
    let _ = session.next_event();
}

/// One request of each kind, so that each kind of answer is decoded.
fn ask(session: &mut Session) {
    let _ = session.ping();
    let _ = session.metadata(&[]);
    let _ = session.stats();
    let _ = session.describe_topic("topic");
    let _ = session.delete_topic("topic");
    let _ = session.create_topic("topic", &pelton_wire::topic::Settings::new(1));
    let _ = session.produce(&ProduceOptions::default(), &[7; 16], 0, b"batch");
    let _ = session.fetch(&fetch::RequestHead::new_zeroed(), &[fetch::RequestEntry::new_zeroed()]);
    let _ = session.list_offsets(&[list_offsets::RequestEntry::new_zeroed()]);
}

fn look(event: &Event<'_>) {
    match event {
        Event::Fetched(_, reply) => {
            for (_, bytes) in reply.parts() {
                for batch in Batches::new(bytes).flatten() {
                    let _ = batch.verify_crc();
                    let _ = batch.records().take_while(Result::is_ok).count();
                }
            }
        }
        Event::Metadata(_, reply) => {
            let _ = (reply.topics().count(), reply.endpoints().count());
        }
        Event::Stats(_, reply) => drop(reply.counters().count()),
        _ => {}
    }
}
