//! The send buffer, and batches that are sent from where the caller has them.

use std::io::IoSlice;

use super::{RequestId, Session};
use crate::limits::SENT_BYTES_KEPT_MAX;

/// Encoded frames; the first `head` bytes have been sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    head: usize,
}

impl Outgoing {
    pub(super) const fn new() -> Self {
        Outgoing { bytes: Vec::new(), head: 0 }
    }

    /// Where encoders append.
    pub(super) const fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.head..]
    }

    pub(super) fn sent(&mut self, count: usize) {
        assert!(count <= self.bytes.len() - self.head, "no more was sent than was to be sent");
        self.head += count;
        if self.head == self.bytes.len() {
            self.bytes.clear();
            self.head = 0;
        } else if self.head >= SENT_BYTES_KEPT_MAX {
            self.bytes.drain(..self.head);
            self.head = 0;
        }
    }
}

/// A produce request whose header is in the send buffer and whose batch still lies with the
/// caller: write both with one vectored write, then say how far it went. What was not sent by
/// then, or when this is dropped, is copied into the send buffer; so nothing else can come
/// between header and batch.
///
/// ```no_run
/// # use pelton_client::session::{ProduceOptions, SendError, Session};
/// # fn example(session: &mut Session, socket: &mut std::net::TcpStream, batch: &[u8])
/// # -> Result<(), Box<dyn std::error::Error>> {
/// use std::io::Write;
/// let write = session.produce_borrowed(&ProduceOptions::default(), &[0; 16], 0, batch)?;
/// let count = socket.write_vectored(&write.slices())?;
/// let request_id = write.sent(count);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct BatchWrite<'s, 'b> {
    session: &'s mut Session,
    batch: &'b [u8],
    id: Option<RequestId>,
}

impl<'s, 'b> BatchWrite<'s, 'b> {
    pub(super) const fn new(
        session: &'s mut Session,
        batch: &'b [u8],
        id: Option<RequestId>,
    ) -> Self {
        BatchWrite { session, batch, id }
    }

    /// All that is to be sent: what was queued before and this request's head, then its batch.
    pub fn slices(&self) -> [IoSlice<'_>; 2] {
        [IoSlice::new(self.session.outgoing()), IoSlice::new(self.batch)]
    }

    /// The request's id; none with `Acks::None`, which is never answered.
    pub const fn id(&self) -> Option<RequestId> {
        self.id
    }

    /// The first `count` bytes of [`BatchWrite::slices`] were sent. Gives the request's id.
    ///
    /// # Panics
    /// If `count` is more than was to be sent.
    pub fn sent(mut self, count: usize) -> Option<RequestId> {
        let queued = count.min(self.session.outgoing().len());
        self.session.sent(queued);
        self.batch = &self.batch[count - queued..];
        self.id
    }
}

impl Drop for BatchWrite<'_, '_> {
    fn drop(&mut self) {
        self.session.outgoing.buffer().extend_from_slice(self.batch);
    }
}
