//! Whether a run kept its pace from the beginning of its window to the end.

use super::Reason;
use crate::latency::whole;
use crate::statistics::{mean, slope_per_minute, variance};
use crate::timeline::Series;

/// A drift over the window (per cent of the mean) that is certainly more than this is too much ..
const RATE_DRIFT_MAX: f64 = 0.05;
/// .. and of a latency.
const LATENCY_DRIFT_MAX: f64 = 0.25;
/// With fewer stretches nothing is said.
const STRETCHES_MIN: usize = 10;

/// How the figures of a window drifted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Steadiness {
    /// Change of the rate from the beginning to the end, as a share of its mean.
    pub rate_drift: Option<f64>,
    /// The same of the median latency.
    pub p50_drift: Option<f64>,
    /// The same of the 99th percentile.
    pub p99_drift: Option<f64>,
    /// The window was steady from here on, where it was not from its beginning.
    pub settled_after_ns: Option<u64>,
}

/// Looks at the stretches of a window, and says what was not steady.
#[must_use]
pub fn steadiness(series: &Series) -> (Steadiness, Option<Reason>) {
    let rates: Vec<f64> = series.records().iter().map(|&records| double(records)).collect();
    let known = |values: &[Option<u64>]| -> Vec<f64> {
        values.iter().flatten().map(|&value| double(value)).collect()
    };
    let (p50, p99) = (known(&series.p50_ns), known(&series.p99_ns));
    let drift = |values: &[f64]| drift(values, series.interval_s());
    let (rate, p50_drift, p99_drift) = (drift(&rates), drift(&p50), drift(&p99));
    let beyond = |drift: Option<(f64, f64)>, most: f64| {
        drift.filter(|(share, error)| share.abs() - error > most).map(|(share, _)| share)
    };
    let found = [
        ("rate", beyond(rate, RATE_DRIFT_MAX)),
        ("median latency", beyond(p50_drift, LATENCY_DRIFT_MAX)),
        ("99th percentile", beyond(p99_drift, LATENCY_DRIFT_MAX)),
    ];
    let worst = found.iter().find_map(|&(what, share)| share.map(|share| (what, share)));
    let settled_after_ns = worst.and_then(|(what, _)| {
        let values = match what {
            "rate" => &rates,
            "median latency" => &p50,
            _ => &p99,
        };
        let stretches = settled_after(values)?;
        Some(series.interval_ns.saturating_mul(stretches as u64))
    });
    let reason = worst.map(|(what, share)| Reason::Unsteady {
        what,
        rising: share > 0.0,
        percent: whole(share.abs() * 100.0),
        settled_after_ns,
    });
    let share = |drift: Option<(f64, f64)>| drift.map(|(share, _)| share);
    let steadiness = Steadiness {
        rate_drift: share(rate),
        p50_drift: share(p50_drift),
        p99_drift: share(p99_drift),
        settled_after_ns,
    };
    (steadiness, reason)
}

/// The change over all values as a share of their mean, and its uncertainty.
pub(super) fn drift(values: &[f64], interval_s: f64) -> Option<(f64, f64)> {
    if values.len() < STRETCHES_MIN {
        return None;
    }
    let minutes = f64::from(u32::try_from(values.len()).ok()?) * interval_s / 60.0;
    let (slope, error) = slope_per_minute(values, interval_s)?;
    Some((slope * minutes, error * minutes))
}

/// How many values to leave out at the beginning so that the mean of the rest is surest (White's
/// MSER); none if that is more than half of them, that is, if they never settle.
fn settled_after(values: &[f64]) -> Option<usize> {
    let score = |from: usize| {
        let rest = &values[from..];
        let count = f64::from(u32::try_from(rest.len()).ok()?);
        Some(variance(rest)? / count / mean(rest)?.powi(2).max(f64::MIN_POSITIVE))
    };
    let places = 0..=values.len() * 3 / 4;
    let best = places.filter_map(|from| Some((from, score(from)?)));
    let (from, _) = best.min_by(|(_, a), (_, b)| a.total_cmp(b))?;
    (from <= values.len() / 2).then_some(from)
}

#[allow(clippy::cast_precision_loss, reason = "counts and times of a stretch are below 2^53")]
fn double(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// A series whose rate is this function of the stretch, with noise.
    fn series(count: u32, rate: impl Fn(f64) -> f64) -> Series {
        let mut random = Random::new(6);
        let value = |at: u32| whole(rate(f64::from(at)) * (1.0 + 0.02 * random.normal()));
        let rates: Vec<u64> = (0..count).map(value).collect();
        let none = vec![None; rates.len()];
        Series {
            interval_ns: 100_000_000,
            consumed_records: vec![0; rates.len()],
            p50_ns: none.clone(),
            p99_ns: none.clone(),
            max_ns: none,
            heatmap: vec![Vec::new(); rates.len()],
            acked_records: rates,
        }
    }

    #[test]
    fn a_steady_rate_is_steady_and_a_falling_one_is_not() {
        let (steady, reason) = steadiness(&series(100, |_| 10_000.0));
        assert!(reason.is_none() && steady.rate_drift.expect("enough").abs() < 0.05, "{steady:?}");
        let (falling, reason) = steadiness(&series(100, |at| 10_000.0 - 20.0 * at));
        assert!((falling.rate_drift.expect("enough") + 0.22).abs() < 0.03, "{falling:?}");
        let sentence = reason.expect("it falls").to_string();
        assert!(sentence.starts_with("unsteady: the rate fell by 2"), "{sentence}");
        assert!(steadiness(&series(5, |at| 1_000.0 * at)).1.is_none(), "too few");
    }

    #[test]
    fn it_says_when_a_run_had_settled() {
        let late = series(100, |at| if at < 30.0 { 4_000.0 + 200.0 * at } else { 10_000.0 });
        let (steadiness, reason) = steadiness(&late);
        let settled = steadiness.settled_after_ns.expect("it settles");
        assert!((2_500_000_000..=3_300_000_000).contains(&settled), "{settled}");
        assert!(reason.expect("it rises").to_string().contains("pass a longer --warmup"));
        let (never, _) = super::steadiness(&series(100, |at| 1_000.0 + 100.0 * at));
        assert_eq!(never.settled_after_ns, None);
    }

    #[test]
    fn latencies_drift_too() {
        let mut slower = series(40, |_| 10_000.0);
        slower.p99_ns = (0..40).map(|at| Some(1_000_000 + at * 20_000)).collect();
        let reason = steadiness(&slower).1.expect("it rises").to_string();
        assert!(reason.contains("the 99th percentile rose by"), "{reason}");
    }
}
