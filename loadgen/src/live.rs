//! Latencies so far, for whoever watches a load while it runs.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::timeline::{BUCKETS, bucket_of, percentile_of};

/// Counts by latency (within 4 %) that generator threads add to and the watching thread reads.
#[derive(Debug)]
pub struct Live(Box<[AtomicU64]>);

impl Default for Live {
    fn default() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Live {
    /// `records` had this latency.
    #[inline]
    pub fn record_n(&self, latency_ns: u64, records: u64) {
        self.0[bucket_of(latency_ns)].fetch_add(records, Ordering::Relaxed);
    }

    /// Takes latencies one after the other, and adds those that are alike at once.
    #[must_use]
    pub fn streak(&self) -> Streak<'_> {
        Streak { live: self, bucket: 0, records: 0 }
    }

    /// What was counted by now.
    #[must_use]
    pub fn read(&self) -> Reading {
        Reading(self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect())
    }
}

/// Latencies in a row. Dropping it adds the last.
#[derive(Debug)]
pub struct Streak<'a> {
    live: &'a Live,
    bucket: usize,
    records: u64,
}

impl Streak<'_> {
    /// One more.
    #[inline]
    pub fn record(&mut self, latency_ns: u64) {
        let bucket = bucket_of(latency_ns);
        if bucket != self.bucket {
            self.flush();
            self.bucket = bucket;
        }
        self.records += 1;
    }

    fn flush(&mut self) {
        if self.records > 0 {
            self.live.0[self.bucket].fetch_add(self.records, Ordering::Relaxed);
            self.records = 0;
        }
    }
}

impl Drop for Streak<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Counts of a moment.
#[derive(Clone, Debug)]
pub struct Reading(Box<[u64]>);

impl Reading {
    /// What came between an earlier reading and this one.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let pairs = self.0.iter().zip(&earlier.0);
        Self(pairs.map(|(now, then)| now.saturating_sub(*then)).collect())
    }

    /// The latency that `per_mille` do not exceed, within 4 %; none without ten samples beyond it.
    #[must_use]
    pub fn percentile(&self, per_mille: u64) -> Option<u64> {
        percentile_of(self.0.iter().copied(), per_mille)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_tell_what_came_between_them() {
        let live = Live::default();
        live.record_n(1_000_000, 5_000);
        let before = live.read();
        let mut streak = live.streak();
        (0..2_000u64).for_each(|at| streak.record(2_000_000 + at * 1_000));
        drop(streak);
        let between = live.read().since(&before);
        let median = between.percentile(500).expect("2,000 samples");
        assert!(median.abs_diff(3_000_000) < 120_000, "{median}");
        let all = live.read().percentile(500).expect("7,000 samples");
        assert!(all.abs_diff(1_000_000) < 40_000, "{all}");
        assert_eq!(before.since(&before).percentile(500), None);
    }
}
