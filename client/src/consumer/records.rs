//! The records of one fetch, where they lie in the receive buffer.

use std::slice::Iter;

use wire::batch::{Batches, Headers};

use super::absorb::Row;
use super::cursor::Cursor;
use crate::connection::TopicMetadata;
use crate::error::ClientError;

/// One record as a consumer gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerRecord<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its partition.
    pub partition: u32,
    /// Its partition's place in the consumer's assignment, from 0: an index into whatever the
    /// caller keeps per partition.
    pub slot: usize,
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

/// The records that one [`super::Consumer::poll`] brought, partition by partition, each in the
/// order of offsets. Checksums and offsets were checked before it was made. It gives an error,
/// and ends, at a record that is malformed inside a batch whose checksum is right: what follows
/// is not given again, unless its partition is sought.
#[derive(Debug)]
pub struct Records<'a> {
    batches: &'a [u8],
    rows: Iter<'a, Row>,
    cursors: &'a [Cursor],
    topics: &'a [TopicMetadata],
    row: Option<(&'a Row, &'a str, u32)>,
    row_batches: Batches<'a>,
    records: Option<wire::batch::Records<'a>>,
}

impl<'a> Records<'a> {
    pub(super) fn new(
        batches: &'a [u8],
        rows: &'a [Row],
        cursors: &'a [Cursor],
        topics: &'a [TopicMetadata],
    ) -> Self {
        Records {
            batches,
            rows: rows.iter(),
            cursors,
            topics,
            row: None,
            row_batches: Batches::new(&[]),
            records: None,
        }
    }

    pub(super) fn none() -> Self {
        Records::new(&[], &[], &[], &[])
    }

    /// Goes on to the next batch; `None` at the end.
    fn next_batch(&mut self) -> Option<Result<(), ClientError>> {
        loop {
            match self.row_batches.next() {
                Some(Ok(batch)) => {
                    self.records = Some(batch.records());
                    return Some(Ok(()));
                }
                Some(Err(error)) => return Some(Err(self.damaged(error.reason))),
                None => {
                    let row = self.rows.next()?;
                    let cursor = &self.cursors[row.slot];
                    let topic = self.topics[cursor.topic].name.as_str();
                    self.row = Some((row, topic, cursor.partition));
                    self.row_batches = Batches::new(&self.batches[row.start..row.end]);
                }
            }
        }
    }

    /// Ends it.
    fn damaged(&mut self, reason: &'static str) -> ClientError {
        self.records = None;
        self.row_batches = Batches::new(&[]);
        self.rows = [].iter();
        let (topic, partition, offset) =
            self.row.map_or(("", 0, 0), |(row, topic, partition)| (topic, partition, row.from));
        ClientError::Corrupt { topic: topic.to_owned(), partition, offset, reason }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<ConsumerRecord<'a>, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match (self.records.as_mut().and_then(Iterator::next), self.row) {
                (Some(Ok(record)), Some((row, topic, partition))) => {
                    // The first batch may begin before the offset that was asked for.
                    if record.offset < row.from {
                        continue;
                    }
                    return Some(Ok(ConsumerRecord {
                        topic,
                        partition,
                        slot: row.slot,
                        offset: record.offset,
                        timestamp_ms: record.timestamp_ms,
                        key: record.key,
                        value: record.value,
                        headers: record.headers,
                    }));
                }
                (Some(Err(reason)), _) => return Some(Err(self.damaged(reason))),
                (_, _) => {
                    self.records = None;
                    if let Err(error) = self.next_batch()? {
                        return Some(Err(error));
                    }
                }
            }
        }
    }
}
