//! What a fetch reply means: it is checked as a whole before any cursor moves.

use wire::batch::{ATTRIBUTES_CODEC_MASK, Batch, Batches};
use wire::fetch::{Reply, ReplyEntry, RequestEntry};
use wire::{ErrorCode, Kind};

use super::cursor::Cursor;
use super::event::ConsumerEvent;
use super::options::{ConsumerOptions, Damaged, OutOfRange};
use crate::connection::TopicMetadata;
use crate::error::ClientError;

/// Batches of one partition that are given to the caller.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) slot: usize,
    /// The first record wanted: the first batch may begin before it.
    pub(super) from: u64,
    /// Where its batches lie among those of the reply.
    pub(super) start: usize,
    pub(super) end: usize,
    /// The offset behind them.
    next_offset: u64,
}

/// What a reply brought besides rows.
#[derive(Debug, Default)]
pub(super) struct Absorbed {
    pub(super) has_records: bool,
    pub(super) events: Vec<ConsumerEvent>,
    /// A partition is not served there: metadata must be asked for anew.
    pub(super) stale: Option<ClientError>,
}

/// The partition a row is about, for what is told of it.
#[derive(Clone, Copy)]
struct Place<'a> {
    topic: &'a str,
    partition: u32,
}

/// Checks a reply; moves the cursors behind it, and fills `rows`. `asked` are the entries of the
/// request and their slots.
pub(super) fn absorb(
    reply: &Reply<'_>,
    asked: (&[RequestEntry], &[usize]),
    topics: &[TopicMetadata],
    cursors: &mut [Cursor],
    options: &ConsumerOptions,
    rows: &mut Vec<Row>,
) -> Result<Absorbed, ClientError> {
    let (entries, slots) = asked;
    rows.clear();
    let mut absorbed = Absorbed::default();
    let mut start = 0;
    let mut resets = Vec::new();
    for ((entry, batches), (asked, &slot)) in reply.parts().zip(entries.iter().zip(slots)) {
        let cursor = &cursors[slot];
        let topic = &topics[cursor.topic].name;
        let place = Place { topic, partition: asked.partition.get() };
        let at = start;
        start += batches.len();
        if cursor.offset != asked.offset.get() {
            // It was moved since: what came is no longer wanted.
            continue;
        }
        match judge(entry, asked, place, options)? {
            Verdict::Good => {
                let (bytes, next_offset) = verify(batches, asked.offset.get(), place)?;
                let from = asked.offset.get();
                rows.push(Row { slot, from, start: at, end: at + bytes, next_offset });
            }
            Verdict::Reset(to) => resets.push((slot, to, place.reset(entry, asked, to))),
            Verdict::Skip(to) => resets.push((slot, to, place.skipped(asked, to))),
            Verdict::Stale(error) => absorbed.stale = Some(error),
        }
    }
    let good = reply.entries.iter().zip(entries.iter().zip(slots));
    for (entry, (asked, &slot)) in good {
        if entry.error.get() == 0 && cursors[slot].offset == asked.offset.get() {
            cursors[slot].high_watermark = Some(entry.high_watermark.get());
        }
    }
    rows.retain_mut(|row| row.end > row.start && advance(row, &mut cursors[row.slot], reply));
    for (slot, to, event) in resets {
        cursors[slot].offset = to;
        absorbed.events.push(event);
    }
    Ok(absorbed)
}

/// Moves the cursor behind a row; whether the row has records that are wanted.
fn advance(row: &mut Row, cursor: &mut Cursor, reply: &Reply<'_>) -> bool {
    cursor.offset = row.next_offset;
    let Some(time_ms) = cursor.time_from_ms else { return true };
    let batches = Batches::new(&reply.batches[row.start..row.end]).filter_map(Result::ok);
    let mut records = batches
        .flat_map(|batch| batch.records().filter_map(Result::ok))
        .filter(|record| record.offset >= row.from);
    let Some(first) = records.find(|record| record.timestamp_ms >= time_ms) else { return false };
    cursor.time_from_ms = None;
    row.from = first.offset;
    true
}

/// What one row of a reply says.
enum Verdict {
    /// It has batches, or none yet.
    Good,
    /// Read on at this offset.
    Reset(u64),
    /// The same, behind records that are damaged.
    Skip(u64),
    /// It is served elsewhere, or not yet.
    Stale(ClientError),
}

fn judge(
    entry: &ReplyEntry,
    asked: &RequestEntry,
    place: Place<'_>,
    options: &ConsumerOptions,
) -> Result<Verdict, ClientError> {
    let offset = asked.offset.get();
    if entry.partition != asked.partition || entry.topic_id != asked.topic_id {
        return Err(place.corrupt(offset, "the reply is about another partition"));
    }
    match ErrorCode::from_u16(entry.error.get()) {
        Some(ErrorCode::None) => Ok(Verdict::Good),
        Some(ErrorCode::OffsetOutOfRange) => {
            let (log_start_offset, high_watermark) =
                (entry.log_start_offset.get(), entry.high_watermark.get());
            match options.out_of_range {
                OutOfRange::Earliest => Ok(Verdict::Reset(log_start_offset)),
                OutOfRange::Latest => Ok(Verdict::Reset(high_watermark)),
                OutOfRange::Error => Err(ClientError::OffsetOutOfRange {
                    topic: place.topic.to_owned(),
                    partition: place.partition,
                    offset,
                    log_start_offset,
                    high_watermark,
                }),
            }
        }
        Some(ErrorCode::DataCorrupt) => match (options.damaged, entry.last_stable_offset.get()) {
            (Damaged::Error, _) => Err(place.damaged(entry, offset)),
            (Damaged::Skip, u64::MAX) => Ok(Verdict::Stale(place.damaged(entry, offset))),
            (Damaged::Skip, behind) if behind > offset => Ok(Verdict::Skip(behind)),
            (Damaged::Skip, _) => Err(place.corrupt(offset, "the damage ends before it begins")),
        },
        _ => {
            let error = partition_refused(
                Kind::Fetch,
                entry.error.get(),
                place.topic,
                place.partition,
                offset,
            );
            if error.is_passing() { Ok(Verdict::Stale(error)) } else { Err(error) }
        }
    }
}

/// Checks batches that begin at or before `from`: checksums, and that offsets continue. Gives the
/// bytes that can be read and the offset behind them; what is compressed ends them.
fn verify(batches: &[u8], from: u64, place: Place<'_>) -> Result<(usize, u64), ClientError> {
    let mut expected = from;
    let mut bytes = 0;
    for batch in Batches::new(batches) {
        let batch = batch.map_err(|error| place.corrupt(expected, error.reason))?;
        batch.verify_crc().map_err(|error| place.corrupt(expected, error.reason))?;
        let found = batch.base_offset();
        // Only the first batch may begin before what was asked for, and must reach it.
        let continues = match bytes {
            0 => found <= expected && expected < batch.next_offset(),
            _ => found == expected,
        };
        if !continues {
            let (topic, partition) = (place.topic.to_owned(), place.partition);
            return Err(ClientError::Gap { topic, partition, expected, found });
        }
        if batch.is_compressed() {
            if bytes == 0 {
                return Err(place.compressed(&batch));
            }
            break;
        }
        expected = batch.next_offset();
        bytes += batch.bytes().len();
    }
    Ok((bytes, expected))
}

impl Place<'_> {
    fn corrupt(self, offset: u64, reason: &'static str) -> ClientError {
        let topic = self.topic.to_owned();
        ClientError::Corrupt { topic, partition: self.partition, offset, reason }
    }

    /// What the broker's disk has of an offset is not what was written.
    fn damaged(self, entry: &ReplyEntry, offset: u64) -> ClientError {
        let (topic, partition) = (self.topic, self.partition);
        let mut detail = format!("topic {topic}, partition {partition}, offset {offset}");
        match entry.last_stable_offset.get() {
            // The broker does not know where the damage ends, or not yet.
            u64::MAX => {}
            behind => detail.push_str(&format!(": the damage ends before offset {behind}")),
        }
        let code = ErrorCode::DataCorrupt.number();
        ClientError::Refused { kind: Kind::Fetch, code, detail }
    }

    fn compressed(self, batch: &Batch<'_>) -> ClientError {
        ClientError::Compressed {
            topic: self.topic.to_owned(),
            partition: self.partition,
            offset: batch.base_offset(),
            next_offset: batch.next_offset(),
            // Kafka's numbers, which the batch format is from.
            codec: match batch.header().attributes.get() & ATTRIBUTES_CODEC_MASK {
                1 => "gzip",
                2 => "snappy",
                3 => "lz4",
                4 => "zstd",
                _ => "an unknown codec",
            },
        }
    }

    fn skipped(self, asked: &RequestEntry, to: u64) -> ConsumerEvent {
        let (topic, partition) = (self.topic.to_owned(), self.partition);
        ConsumerEvent::Skipped { topic, partition, from: asked.offset.get(), to }
    }

    fn reset(self, entry: &ReplyEntry, asked: &RequestEntry, to: u64) -> ConsumerEvent {
        ConsumerEvent::Reset {
            topic: self.topic.to_owned(),
            partition: self.partition,
            from: asked.offset.get(),
            to,
            log_start_offset: entry.log_start_offset.get(),
            high_watermark: entry.high_watermark.get(),
        }
    }
}

/// One partition's part of a request was refused.
pub(super) fn partition_refused(
    kind: Kind,
    code: u16,
    topic: &str,
    partition: u32,
    offset: u64,
) -> ClientError {
    let detail = format!("topic {topic}, partition {partition}, offset {offset}");
    ClientError::Refused { kind, code, detail }
}
