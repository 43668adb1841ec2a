//! A connection that sends whatever bytes it is told to.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};

use wire::frame::{self, Envelope, ErrorReply};
use wire::limits::FRAME_HEADER_BYTES;
use wire::{FrameHeader, Kind, TopicId, fetch, hello};
use zerocopy::FromBytes;

use crate::program::PATIENCE;

/// A frame as it arrived; its checksum was right.
#[derive(Debug)]
pub struct Frame {
    /// Its header.
    pub header: FrameHeader,
    /// Its body.
    pub body: Vec<u8>,
}

impl Frame {
    /// The error code that it answers with, if it is an error.
    pub fn error(&self) -> Option<u16> {
        let is_error = self.header.flags & frame::FLAG_ERROR != 0;
        is_error.then(|| ErrorReply::decode(&self.body).expect("a well-formed error").code)
    }
}

/// A fetch of one partition from an offset on, which waits for nothing.
pub fn fetch_one(
    topic_id: TopicId,
    partition: u32,
    offset: u64,
    bytes_max: u32,
) -> (fetch::RequestHead, fetch::RequestEntry) {
    let head = fetch::RequestHead {
        max_wait_ms: 0.into(),
        min_bytes: 1.into(),
        max_bytes: bytes_max.into(),
        isolation: 0,
        flags: 0,
        partition_count: 1.into(),
    };
    let entry = fetch::RequestEntry {
        topic_id,
        partition: partition.into(),
        leader_epoch: u32::MAX.into(),
        offset: offset.into(),
        partition_max_bytes: bytes_max.into(),
        reserved: 0.into(),
    };
    (head, entry)
}

/// The bytes of a request frame.
pub fn request(kind: Kind, correlation_id: u64, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let envelope = Envelope::request(kind, correlation_id);
    frame::encode(&mut out, envelope, 0, |out| out.extend_from_slice(body));
    out
}

/// The bytes of a hello frame.
pub fn hello() -> Vec<u8> {
    let mut body = Vec::new();
    let hello = hello::Request { version_min: 1, version_max: 1, features: 0, client: "raw" };
    hello.encode(&mut body);
    request(Kind::Hello, 0, &body)
}

/// The connection.
#[derive(Debug)]
pub struct Raw(TcpStream);

impl Raw {
    /// Connects and says nothing.
    pub fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the broker listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        stream.set_nodelay(true).expect("a socket option");
        Raw(stream)
    }

    /// Connects and says hello properly.
    pub fn greeted(address: &str) -> Self {
        let mut raw = Raw::connect(address);
        raw.send(&hello());
        let reply = raw.receive().expect("a reply to hello");
        assert_eq!(reply.error(), None, "hello is welcome");
        raw
    }

    /// Sends all bytes; a broker that has closed the connection meanwhile is no failure.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    /// Says that nothing more will be sent.
    pub fn finish_sending(&mut self) {
        let _ = self.0.shutdown(Shutdown::Write);
    }

    /// Sends the same bytes again and again until the broker takes no more. Gives how many went.
    pub fn send_until_full(&mut self, bytes: &[u8], bytes_max: usize) -> usize {
        self.0.set_nonblocking(true).expect("a socket option");
        let mut total = 0;
        let mut rest = bytes;
        while total < bytes_max {
            match self.0.write(rest) {
                Ok(count) => {
                    total += count;
                    rest = if count == rest.len() { bytes } else { &rest[count..] };
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => break,
            }
        }
        self.0.set_nonblocking(false).expect("a socket option");
        total
    }

    /// The next frame; none if the broker has closed the connection.
    ///
    /// # Panics
    /// If nothing comes in time, or not a frame.
    pub fn receive(&mut self) -> Option<Frame> {
        let mut header = [0; FRAME_HEADER_BYTES];
        match self.0.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if is_closed(&error) => return None,
            Err(error) => panic!("no frame came: {error}"),
        }
        let header = FrameHeader::read_from_bytes(&header).expect("its size");
        assert_eq!(header.invalid(), None, "the broker sends valid headers");
        let mut body = vec![0; header.body_len()];
        self.0.read_exact(&mut body).expect("the body follows");
        header.verify(&body).expect("its checksum matches");
        Some(Frame { header, body })
    }

    /// Reads to the end of the connection, and gives the error codes that came before it.
    pub fn errors_until_closed(&mut self) -> Vec<u16> {
        std::iter::from_fn(|| self.receive()).filter_map(|frame| frame.error()).collect()
    }
}

/// A broker that closes with unread bytes resets the connection: that is closed, too.
fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}
