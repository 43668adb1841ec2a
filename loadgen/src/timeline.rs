//! What happened when: records and latencies by stretches of the measured window.
//!
//! A run's percentiles hide whether it got slower, stalled once, or had two kinds of answers. The
//! timeline keeps a coarse histogram per stretch (16 buckets for each doubling: 4 %), in memory
//! that is taken before the window opens.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Most stretches of a window.
const STRETCHES_MAX: u64 = 120;
/// Shorter ones hold too little.
const STRETCH_NS_MIN: u64 = 100_000_000;
/// Buckets for each doubling of the latency, in the histograms and in results.
const FINE: u32 = 16;
const COARSE: u32 = 4;
/// Latencies below 2^10 ns share the first buckets; those above 2^37 ns the last.
const EXPONENT_MIN: u32 = 10;
const EXPONENT_MAX: u32 = 36;
pub(crate) const BUCKETS: usize = ((EXPONENT_MAX - EXPONENT_MIN + 1) * FINE) as usize;

/// Counts by stretches of one window.
#[derive(Clone, Debug)]
pub struct Timeline {
    open_ns: u64,
    stretch_ns: u64,
    stretches: Vec<Stretch>,
}

/// One stretch.
#[derive(Clone, Debug)]
pub struct Stretch {
    acked: u64,
    consumed: u64,
    max_ns: u64,
    buckets: Box<[u32; BUCKETS]>,
}

impl Timeline {
    /// Of the window from `open_ns` to `close_ns`; empty if that is none.
    #[must_use]
    pub fn new(open_ns: u64, close_ns: u64) -> Self {
        let window_ns = close_ns.saturating_sub(open_ns);
        let count = (window_ns / STRETCH_NS_MIN).clamp(1, STRETCHES_MAX);
        let count = if window_ns == 0 { 0 } else { count };
        let empty = Stretch { acked: 0, consumed: 0, max_ns: 0, buckets: Box::new([0; BUCKETS]) };
        let stretches = vec![empty; usize::try_from(count).expect("at most STRETCHES_MAX")];
        Self { open_ns, stretch_ns: window_ns.div_ceil(count.max(1)).max(1), stretches }
    }

    /// The stretch that a time lies in, if it lies in the window.
    #[inline]
    pub fn at(&mut self, time_ns: u64) -> Option<&mut Stretch> {
        let place = time_ns.checked_sub(self.open_ns)? / self.stretch_ns;
        self.stretches.get_mut(usize::try_from(place).ok()?)
    }

    /// Adds what another thread counted in the same window.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.stretches.iter_mut().zip(&other.stretches) {
            mine.add(theirs);
        }
    }

    /// Adds some stretches of another thread.
    pub fn join(&mut self, other: &Self, stretches: Range<usize>) {
        let mine = self.stretches.get_mut(stretches.clone());
        let theirs = other.stretches.get(stretches);
        for (mine, theirs) in mine.into_iter().flatten().zip(theirs.into_iter().flatten()) {
            mine.add(theirs);
        }
    }

    /// How many stretches are over at a time.
    #[must_use]
    pub fn over(&self, now_ns: u64) -> usize {
        let count = now_ns.saturating_sub(self.open_ns) / self.stretch_ns;
        usize::try_from(count).map_or(self.stretches.len(), |count| count.min(self.stretches.len()))
    }

    /// When a stretch ends; never, if there is none.
    #[must_use]
    pub fn end_ns(&self, stretch: usize) -> u64 {
        match stretch < self.stretches.len() {
            true => {
                let ends = (stretch as u64 + 1).saturating_mul(self.stretch_ns);
                self.open_ns.saturating_add(ends)
            }
            false => u64::MAX,
        }
    }

    /// What the last stretches that are over say, as many as make up this time, at least one.
    #[must_use]
    pub fn recent(&self, now_ns: u64, length_ns: u64) -> Option<Recent> {
        let over = self.over(now_ns);
        let count = usize::try_from((length_ns / self.stretch_ns).max(1)).ok()?.min(over);
        let (first, others) = self.stretches[over - count..over].split_first()?;
        let mut all = first.clone();
        others.iter().for_each(|stretch| all.add(stretch));
        Some(Recent {
            length_ns: self.stretch_ns.saturating_mul(count as u64),
            acked: all.acked,
            consumed: all.consumed,
            p50_ns: all.percentile(500),
            p99_ns: all.percentile(990),
            p999_ns: all.percentile(999),
        })
    }

    /// As results have it; none of a window in which nothing was noted.
    #[must_use]
    pub fn series(&self) -> Option<Series> {
        if self.stretches.iter().all(|stretch| stretch.acked + stretch.consumed == 0) {
            return None;
        }
        let each = |of: fn(&Stretch) -> Option<u64>| self.stretches.iter().map(of).collect();
        Some(Series {
            interval_ns: self.stretch_ns,
            acked_records: self.stretches.iter().map(|stretch| stretch.acked).collect(),
            consumed_records: self.stretches.iter().map(|stretch| stretch.consumed).collect(),
            p50_ns: each(|stretch| stretch.percentile(500)),
            p99_ns: each(|stretch| stretch.percentile(990)),
            max_ns: each(|stretch| (stretch.max_ns > 0).then_some(stretch.max_ns)),
            heatmap: self.stretches.iter().map(Stretch::coarse).collect(),
        })
    }
}

/// What happened lately, while a load runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recent {
    /// How long a time it is.
    pub length_ns: u64,
    /// Acknowledged within it.
    pub acked: u64,
    /// Consumed within it.
    pub consumed: u64,
    /// Median response time, within 4 %; none with few samples.
    pub p50_ns: Option<u64>,
    /// The 99th percentile.
    pub p99_ns: Option<u64>,
    /// The 99.9th.
    pub p999_ns: Option<u64>,
}

impl Stretch {
    fn add(&mut self, other: &Self) {
        self.acked += other.acked;
        self.consumed += other.consumed;
        self.max_ns = self.max_ns.max(other.max_ns);
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets.iter()) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    /// `records` were acknowledged.
    #[inline]
    pub fn acked(&mut self, records: u64) {
        self.acked += records;
    }

    /// `records` were consumed.
    #[inline]
    pub fn consumed(&mut self, records: u64) {
        self.consumed += records;
    }

    /// `records` had this response time.
    #[inline]
    pub fn response(&mut self, latency_ns: u64, records: u32) {
        let bucket = &mut self.buckets[bucket_of(latency_ns)];
        *bucket = bucket.saturating_add(records);
        self.max_ns = self.max_ns.max(latency_ns);
    }

    /// The middle of the bucket that `per_mille` of the latencies do not exceed; none without ten
    /// samples beyond it.
    fn percentile(&self, per_mille: u64) -> Option<u64> {
        percentile_of(self.buckets.iter().map(|&count| u64::from(count)), per_mille)
    }

    /// (bucket, records), for buckets that are not empty.
    fn coarse(&self) -> Vec<(u32, u64)> {
        let groups = self.buckets.chunks_exact((FINE / COARSE) as usize);
        let counts = groups.map(|group| group.iter().map(|&count| u64::from(count)).sum());
        (0..).zip(counts).filter(|&(_, count): &(u32, u64)| count > 0).collect()
    }
}

/// The middle of the bucket that `per_mille` of the counts do not exceed; none without ten beyond.
pub(crate) fn percentile_of(
    counts: impl Iterator<Item = u64> + Clone,
    per_mille: u64,
) -> Option<u64> {
    let count: u64 = counts.clone().sum();
    let beyond = count * (1_000 - per_mille);
    if beyond < 10_000 {
        return None;
    }
    let rank = count - beyond / 1_000;
    let mut below = 0;
    for (index, count) in (0..).zip(counts) {
        below += count;
        if below >= rank {
            let (low, high) = (lower_end(index, FINE), lower_end(index + 1, FINE));
            return Some(low.midpoint(high));
        }
    }
    None
}

/// The fine bucket of a latency.
#[inline]
pub(crate) fn bucket_of(latency_ns: u64) -> usize {
    let exponent = latency_ns.max(1).ilog2();
    if exponent < EXPONENT_MIN {
        return 0;
    }
    if exponent > EXPONENT_MAX {
        return BUCKETS - 1;
    }
    let part = latency_ns >> (exponent - FINE.ilog2()) & u64::from(FINE - 1);
    let part = usize::try_from(part).expect("below FINE");
    ((exponent - EXPONENT_MIN) * FINE) as usize + part
}

/// Where a bucket begins, of `per_doubling` buckets each.
fn lower_end(bucket: u32, per_doubling: u32) -> u64 {
    let exponent = EXPONENT_MIN + bucket / per_doubling;
    let part = u64::from(per_doubling + bucket % per_doubling);
    part << exponent >> per_doubling.ilog2()
}

/// The stretches of a run, in order. Each list has an element per stretch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Series {
    /// Length of each stretch; the first begins with the window.
    pub interval_ns: u64,
    /// Acknowledged within it.
    pub acked_records: Vec<u64>,
    /// Consumed within it.
    pub consumed_records: Vec<u64>,
    /// Median response time of what was acknowledged in it, within 4 %; null with few samples.
    pub p50_ns: Vec<Option<u64>>,
    /// The 99th percentile.
    pub p99_ns: Vec<Option<u64>>,
    /// The longest.
    pub max_ns: Vec<Option<u64>>,
    /// Response times: bucket and records; see [`Series::bucket_ns`].
    pub heatmap: Vec<Vec<(u32, u64)>>,
}

impl Series {
    /// Where bucket `n` of the heat map begins: 1,024 ns times 2 to the power of `n` / 4, evened
    /// out between doublings; the first bucket also holds all below.
    #[must_use]
    pub fn bucket_ns(bucket: u32) -> u64 {
        lower_end(bucket, COARSE)
    }

    /// Length of a stretch in seconds.
    #[must_use]
    pub fn interval_s(&self) -> f64 {
        std::time::Duration::from_nanos(self.interval_ns).as_secs_f64()
    }

    /// Records in each stretch: acknowledged ones, or consumed ones where nothing was produced.
    #[must_use]
    pub fn records(&self) -> &[u64] {
        match self.acked_records.iter().any(|&records| records > 0) {
            true => &self.acked_records,
            false => &self.consumed_records,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn buckets_hold_what_lies_between_their_ends(latency_ns in 1_024u64..1 << 36) {
            let bucket = u32::try_from(bucket_of(latency_ns)).expect("few");
            prop_assert!(lower_end(bucket, FINE) <= latency_ns);
            prop_assert!(latency_ns < lower_end(bucket + 1, FINE));
            let coarse = bucket / (FINE / COARSE);
            prop_assert!(Series::bucket_ns(coarse) <= latency_ns);
            prop_assert!(latency_ns < Series::bucket_ns(coarse + 1));
        }
    }

    #[test]
    fn records_go_to_their_stretch() {
        const SECOND: u64 = 1_000_000_000;
        let mut timeline = Timeline::new(SECOND, 3 * SECOND);
        assert!(timeline.at(SECOND - 1).is_none() && timeline.at(3 * SECOND).is_none());
        for time_ns in [SECOND, SECOND + 99_999_999, SECOND + 100_000_000, 3 * SECOND - 1] {
            timeline.at(time_ns).expect("in the window").acked(1);
        }
        let last = timeline.at(3 * SECOND - 1).expect("in the window");
        (0..1_000).for_each(|at| last.response(1_000_000 + at * 1_000, 2));
        let mut twice = timeline.clone();
        twice.merge(&timeline);
        let series = twice.series().expect("a window");
        assert_eq!((series.interval_ns, series.acked_records.len()), (100_000_000, 20));
        assert_eq!(series.acked_records[..3], [4, 2, 0]);
        let (p50, p99) = (series.p50_ns[19].expect("4,000"), series.p99_ns[19].expect("4,000"));
        assert!(p50.abs_diff(1_500_000) < 60_000 && p99.abs_diff(1_990_000) < 80_000);
        assert_eq!((series.max_ns[19], series.p50_ns[0]), (Some(1_999_000), None));
        let total: u64 = series.heatmap[19].iter().map(|(_, records)| records).sum();
        assert_eq!((total, series.heatmap[0].len()), (4_000, 0));
        assert!(Timeline::new(5, 5).series().is_none());
        assert!(Timeline::new(0, SECOND).series().is_none(), "nothing was noted");
        let mut long = Timeline::new(0, 3_600 * SECOND);
        long.at(0).expect("in the window").consumed(1);
        let long = long.series().expect("a window");
        assert_eq!((long.interval_ns, long.max_ns.len()), (30 * SECOND, 120));
    }
}
