//! Nanosecond histograms, and summaries that print a percentile only when the sample supports it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use schemars::JsonSchema;
use serde::Serialize;
use std::fmt::{self, Write};
use std::time::Duration;

/// Above this (100 s) a latency is recorded as this.
const LATENCY_NS_MAX: u64 = 100_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;
/// A percentile stands on at least this many samples beyond it.
const SAMPLES_BEYOND_MIN: u64 = 10;

/// Latencies in nanoseconds, three significant digits, one count per record.
#[derive(Clone)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Latencies").field(&self.summary()).finish()
    }
}

impl Latencies {
    /// An empty histogram. Recording never allocates.
    #[must_use]
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, SIGNIFICANT_DIGITS)
            .expect("the bounds are constants that hdrhistogram accepts");
        Self(histogram)
    }

    /// Records one latency.
    #[inline]
    pub fn record(&mut self, latency_ns: u64) {
        self.0.saturating_record(latency_ns);
    }

    /// Records the same latency for `records` records.
    #[inline]
    pub fn record_n(&mut self, latency_ns: u64, records: u64) {
        self.0.saturating_record_n(latency_ns, records);
    }

    /// Adds the samples of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all latencies share their bounds");
    }

    /// Number of samples.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that `per_mille_mille / 1,000,000` of the samples do not exceed, if enough
    /// samples lie beyond it.
    #[must_use]
    pub fn percentile(&self, millionths: u32) -> Option<u64> {
        let beyond = u128::from(self.count()) * u128::from(1_000_000 - millionths.min(1_000_000));
        if beyond < u128::from(SAMPLES_BEYOND_MIN) * 1_000_000 {
            return None;
        }
        Some(self.0.value_at_quantile(f64::from(millionths) / 1e6))
    }

    /// The median, if there are enough samples.
    #[must_use]
    pub fn p50(&self) -> Option<u64> {
        self.percentile(500_000)
    }

    /// The 99th percentile, if there are enough samples.
    #[must_use]
    pub fn p99(&self) -> Option<u64> {
        self.percentile(990_000)
    }

    /// Samples per recorded value, in rising order: (latency in ns, samples).
    pub fn samples(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value()))
    }

    /// All of it, in HdrHistogram's compressed format (V2) and base64.
    #[must_use]
    pub fn encoded(&self) -> String {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(&self.0, &mut bytes)
            .expect("a histogram in memory is written to memory");
        STANDARD.encode(bytes)
    }

    /// What [`Self::encoded`] gave, or another program that writes this format with three digits.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text).ok()?;
        Deserializer::new().deserialize(&mut &bytes[..]).ok().map(Self)
    }

    /// (share, latency in ns) by rising share: that share of the samples does not exceed it. Finer
    /// towards the end, as far as ten samples lie beyond.
    #[must_use]
    pub fn quantiles(&self) -> Vec<(f64, u64)> {
        #[allow(clippy::cast_precision_loss, reason = "far fewer samples than 2^53")]
        let (count, beyond) = (self.count() as f64, SAMPLES_BEYOND_MIN as f64);
        let steps = self.0.iter_quantiles(5);
        let points = steps.map(|step| (step.quantile_iterated_to(), step.value_iterated_to()));
        points.take_while(|(share, _)| count * (1.0 - share) >= beyond).collect()
    }

    /// The text that HdrHistogram's plotters read (`.hgrm`), in milliseconds.
    #[must_use]
    pub fn hgrm(&self) -> String {
        let milliseconds = |ns: u64| Duration::from_nanos(ns).as_secs_f64() * 1e3;
        let mut text = format!(
            "{:>12} {:>14} {:>10} {:>14}\n\n",
            "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
        );
        let mut count = 0;
        for step in self.0.iter_quantiles(5) {
            let (value, share) =
                (milliseconds(step.value_iterated_to()), step.quantile_iterated_to());
            count += step.count_since_last_iteration();
            write!(text, "{value:12.6} {share:2.12} {count:10}").expect("strings take all");
            if share < 1.0 {
                write!(text, " {:14.2}", 1.0 / (1.0 - share)).expect("strings take all");
            }
            text.push('\n');
        }
        let (mean, deviation) = (self.0.mean() / 1e6, self.0.stdev() / 1e6);
        writeln!(
            text,
            "#[Mean    = {mean:12.6}, StdDeviation   = {deviation:12.6}]\n\
             #[Max     = {:12.6}, Total count    = {:12}]\n\
             #[Buckets = {:12}, SubBuckets     = {:12}]",
            milliseconds(self.0.max()),
            self.count(),
            self.0.buckets(),
            2_048,
        )
        .expect("strings take all");
        text
    }

    /// The histogram itself.
    pub(crate) fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }

    /// The summary that goes into results.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let some = |value: u64| (self.count() > 0).then_some(value);
        Summary {
            count: self.count(),
            min: some(self.0.min()),
            mean: some(whole(self.0.mean())),
            p50: self.p50(),
            p90: self.percentile(900_000),
            p99: self.p99(),
            p999: self.percentile(999_000),
            p9999: self.percentile(999_900),
            max: some(self.0.max()),
        }
    }
}

/// A latency distribution in nanoseconds; what the sample does not support is absent (null).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are named after what they hold")]
pub struct Summary {
    pub count: u64,
    pub min: Option<u64>,
    pub mean: Option<u64>,
    pub p50: Option<u64>,
    pub p90: Option<u64>,
    pub p99: Option<u64>,
    pub p999: Option<u64>,
    pub p9999: Option<u64>,
    pub max: Option<u64>,
}

/// Rounds a finite, non-negative figure to the nearest whole number.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "float to integer casts saturate, and negative input becomes 0 by intent"
)]
pub(crate) fn whole(figure: f64) -> u64 {
    figure.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_need_ten_samples_beyond_them() {
        let mut latencies = Latencies::new();
        for count in [(19, None, None), (20, Some(()), None), (1_000, Some(()), Some(()))] {
            while latencies.count() < count.0 {
                latencies.record(1_000 + latencies.count());
            }
            assert_eq!(latencies.p50().map(drop), count.1, "p50 of {}", count.0);
            assert_eq!(latencies.p99().map(drop), count.2, "p99 of {}", count.0);
        }
        assert_eq!(latencies.percentile(999_000), None);
        assert_eq!(latencies.percentile(1_000_000), None);
    }

    #[test]
    fn an_empty_summary_is_null_not_zero() {
        let json = serde_json::to_value(Latencies::new().summary()).expect("serialises");
        assert_eq!(json["count"], 0);
        assert!(json["min"].is_null() && json["p50"].is_null() && json["max"].is_null());
    }

    #[test]
    fn three_digits_are_kept_and_outliers_saturate() {
        let mut latencies = Latencies::new();
        latencies.record_n(123_456, 100);
        let p50 = latencies.p50().expect("100 samples");
        assert!(p50.abs_diff(123_456) <= 123, "{p50}");
        latencies.record(u64::MAX);
        let max = latencies.summary().max.expect("there are samples");
        assert!((LATENCY_NS_MAX..LATENCY_NS_MAX * 2).contains(&max));
    }

    #[test]
    fn encoding_keeps_every_sample() {
        let mut latencies = Latencies::new();
        (0..50_000u64).for_each(|at| latencies.record(1_000 + at * at % 9_000_000));
        let back = Latencies::decode(&latencies.encoded()).expect("what was encoded");
        assert_eq!(back.samples().collect::<Vec<_>>(), latencies.samples().collect::<Vec<_>>());
        assert_eq!(back.summary(), latencies.summary());
        assert!(Latencies::decode("AAAA").is_none() && Latencies::decode("!").is_none());
        let points = latencies.quantiles();
        assert!(points.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1));
        let (last, _) = points.last().expect("many samples");
        assert!((0.999..1.0).contains(last), "{last}");
        assert!(Latencies::new().quantiles().is_empty());
    }

    #[test]
    fn hgrm_is_what_plotters_read() {
        let mut latencies = Latencies::new();
        (1..=1_000u64).for_each(|at| latencies.record(at * 1_000_000));
        let text = latencies.hgrm();
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .take_while(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|f| f.parse().expect("numbers")).collect())
            .collect();
        let median = rows.iter().find(|row| (row[1] - 0.5).abs() < 1e-9).expect("a row");
        assert!((median[0] - 500.0).abs() < 1.0 && (median[3] - 2.0).abs() < 0.01, "{median:?}");
        let last = rows.last().expect("rows");
        assert!(last.len() == 3 && (last[2] - 1_000.0).abs() < 0.5, "{last:?}");
        assert!(text.contains("#[Max     =  1000."), "{text}");
    }

    #[test]
    fn merging_adds_counts() {
        let (mut one, mut two) = (Latencies::new(), Latencies::new());
        one.record_n(10, 5);
        two.record_n(20, 7);
        one.merge(&two);
        assert_eq!(one.samples().collect::<Vec<_>>(), [(10, 5), (20, 7)]);
    }
}
