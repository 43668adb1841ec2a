//! The records of one fetch, where they lie in the receive buffer.

use std::iter::Zip;
use std::slice::Iter;

use wire::batch::{Batches, Headers};
use wire::fetch::{Reply, ReplyEntry, RequestEntry};

use crate::error::ClientError;

/// One record as a consumer gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerRecord<'a> {
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// Its time in ms since 1970.
    pub timestamp_ms: i64,
    /// Its key, if it has one.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Headers<'a>,
}

/// The records that one [`super::Consumer::poll`] brought, partition by partition. Checksums
/// and offsets were checked before it was made.
#[derive(Debug)]
pub struct Records<'a> {
    entries: Zip<Iter<'a, ReplyEntry>, Iter<'a, RequestEntry>>,
    rest: &'a [u8],
    partition: u32,
    from: u64,
    batches: Batches<'a>,
    records: Option<wire::batch::Records<'a>>,
}

impl<'a> Records<'a> {
    /// `asked` are the entries of the request, their offsets the first wanted.
    pub(super) fn new(reply: &Reply<'a>, asked: &'a [RequestEntry]) -> Self {
        Records {
            entries: reply.entries.iter().zip(asked),
            rest: reply.batches,
            partition: 0,
            from: 0,
            batches: Batches::new(&[]),
            records: None,
        }
    }

    /// Goes on to the next batch; `None` at the end.
    fn next_batch(&mut self) -> Option<Result<(), ClientError>> {
        loop {
            match self.batches.next() {
                Some(Ok(batch)) if batch.is_compressed() => {
                    let reason = "its batch is compressed, which this client cannot read yet";
                    self.stop();
                    return Some(Err(ClientError::Corrupt { partition: self.partition, reason }));
                }
                Some(Ok(batch)) => {
                    self.records = Some(batch.records());
                    return Some(Ok(()));
                }
                Some(Err(error)) => {
                    self.stop();
                    return Some(Err(ClientError::corrupt(self.partition, error)));
                }
                None => {
                    let (entry, asked) = self.entries.next()?;
                    let bytes = usize::try_from(entry.batches_bytes.get()).unwrap_or(usize::MAX);
                    let (batches, rest) = self.rest.split_at(bytes.min(self.rest.len()));
                    self.rest = rest;
                    self.partition = entry.partition.get();
                    self.from = asked.offset.get();
                    self.batches = Batches::new(batches);
                }
            }
        }
    }

    fn stop(&mut self) {
        self.records = None;
        self.batches = Batches::new(&[]);
        self.entries = [].iter().zip(&[]);
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<ConsumerRecord<'a>, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.records.as_mut().and_then(Iterator::next) {
                // The first batch may begin before the offset that was asked for.
                Some(Ok(record)) if record.offset < self.from => {}
                Some(Ok(record)) => {
                    return Some(Ok(ConsumerRecord {
                        partition: self.partition,
                        offset: record.offset,
                        timestamp_ms: record.timestamp_ms,
                        key: record.key,
                        value: record.value,
                        headers: record.headers,
                    }));
                }
                Some(Err(reason)) => {
                    self.stop();
                    return Some(Err(ClientError::Corrupt { partition: self.partition, reason }));
                }
                None => {
                    self.records = None;
                    if let Err(error) = self.next_batch()? {
                        return Some(Err(error));
                    }
                }
            }
        }
    }
}
