//! Where each partition ends for this command: `--exit-at-end` and `--until`.

use client::{Consumer, ConsumerRecord};
use jiff::Timestamp;

use super::start::Until;
use crate::failure::Failure;

/// What is to be done with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Print it.
    Print,
    /// It lies behind the end, and so does all of its partition that follows.
    Behind,
}

/// The end of each partition, by slot.
#[derive(Debug)]
pub struct Bounds {
    /// Offsets; `None` goes on for ever.
    ends: Option<Vec<u64>>,
    until_ms: Option<i64>,
    /// Partitions that have come to a record behind their end.
    is_passed: Vec<bool>,
}

impl Bounds {
    /// `until`, and the present ends if this stops at them. A time that has passed stops at them,
    /// too: what is produced from now on is later.
    pub fn new(
        until: Option<Until>,
        exit_at_end: ExitAtEnd,
        consumer: &mut Consumer,
    ) -> Result<Bounds, Failure> {
        let until_ms = if let Some(Until::Time(ms)) = until { Some(ms) } else { None };
        let is_past = until_ms.is_some_and(|ms| ms <= Timestamp::now().as_millisecond());
        let at_end = exit_at_end == ExitAtEnd::Yes || until == Some(Until::End) || is_past;
        let mut ends = if at_end { Some(consumer.end_offsets()?) } else { None };
        let slots = consumer.positions().len();
        if let Some(Until::Offset(offset)) = until {
            let ends = ends.get_or_insert_with(|| vec![u64::MAX; slots]);
            ends.iter_mut().for_each(|end| *end = offset.min(*end));
        }
        Ok(Bounds { ends, until_ms, is_passed: vec![false; slots] })
    }

    /// Whether a record is printed.
    pub fn judge(&mut self, record: &ConsumerRecord<'_>) -> Verdict {
        let slot = record.slot;
        let is_behind = self.ends.as_ref().is_some_and(|ends| record.offset >= ends[slot])
            || self.until_ms.is_some_and(|ms| record.timestamp_ms >= ms);
        self.is_passed[slot] |= is_behind;
        if self.is_passed[slot] { Verdict::Behind } else { Verdict::Print }
    }

    /// Whether nothing of a partition that is read up to `offset` is wanted any more.
    pub fn is_done(&self, slot: usize, offset: u64) -> bool {
        self.is_passed[slot] || self.ends.as_ref().is_some_and(|ends| offset >= ends[slot])
    }

    /// Whether nothing at all is wanted any more.
    pub fn are_done(&self, consumer: &Consumer) -> bool {
        let has_end = self.ends.is_some() || self.until_ms.is_some();
        has_end && consumer.positions().enumerate().all(|(slot, at)| self.is_done(slot, at.offset))
    }
}

/// `--exit-at-end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitAtEnd {
    Yes,
    No,
}
