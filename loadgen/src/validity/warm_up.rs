//! When a load has warmed up: its rate and its 99th percentile neither drift nor jump any more.

use super::steadiness::drift;
use crate::statistics::{mean, variance};

/// A load that warms up is looked at in stretches of this length.
pub const STRETCH_NS: u64 = 200_000_000;
/// Steady is what was steady over so many of them.
const STRETCHES: usize = 10;
/// Whoever is not steady after this long is measured nevertheless, and told.
pub const WARM_UP_NS_MAX: u64 = 30_000_000_000;
/// Most that the rate drifts over these stretches, as a share of its mean ..
const RATE_DRIFT_MAX: f64 = 0.05;
/// .. and the 99th percentile.
const P99_DRIFT_MAX: f64 = 0.25;
/// Most that the rate of a stretch deviates from the mean, as a share of it ..
const RATE_DEVIATION_MAX: f64 = 0.15;
/// .. or as a multiple of what counting so few records at random times deviates ..
const RANDOM_DEVIATIONS_MAX: f64 = 2.0;
/// .. and the 99th percentile.
const P99_DEVIATION_MAX: f64 = 0.5;

/// What is still not steady.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsettled {
    /// There were too few stretches.
    TooShort,
    /// Nothing was answered.
    Idle,
    /// The rate.
    Rate,
    /// The 99th percentile of the response time.
    P99,
}

impl Unsettled {
    /// In a sentence about what did not become steady.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TooShort => "load",
            Self::Idle => "load, of which nothing was answered,",
            Self::Rate => "rate",
            Self::P99 => "99th percentile",
        }
    }
}

/// A load while it warms up.
#[derive(Clone, Debug, Default)]
pub struct WarmUp {
    records: Vec<f64>,
    p99: Vec<Option<f64>>,
}

impl WarmUp {
    /// Another stretch: the records that were answered in it, and their 99th percentile if they
    /// were enough.
    pub fn push(&mut self, records: u64, p99_ns: Option<u64>) {
        self.records.push(double(records));
        self.p99.push(p99_ns.map(double));
    }

    /// From when on it is steady, since its beginning; or what is not.
    ///
    /// # Errors
    /// What is not steady.
    pub fn steady(&self) -> Result<u64, Unsettled> {
        let from = self.records.len().checked_sub(STRETCHES).ok_or(Unsettled::TooShort)?;
        let records = &self.records[from..];
        let average = mean(records).filter(|&mean| mean > 0.0).ok_or(Unsettled::Idle)?;
        let random = RANDOM_DEVIATIONS_MAX / average.sqrt();
        let (drift, deviation) = unrest(records).ok_or(Unsettled::Idle)?;
        if drift.0 > RATE_DRIFT_MAX.max(random) || deviation > RATE_DEVIATION_MAX.max(random) {
            return Err(Unsettled::Rate);
        }
        // Where too few records tell a percentile, the rate decides.
        let p99: Option<Vec<f64>> = self.p99[from..].iter().copied().collect();
        if let Some(((drift, error), deviation)) = p99.as_deref().and_then(unrest)
            && (drift > P99_DRIFT_MAX.max(error) || deviation > P99_DEVIATION_MAX)
        {
            return Err(Unsettled::P99);
        }
        Ok(from as u64 * STRETCH_NS)
    }
}

/// How far values drift, how uncertain that is, and how much they deviate, as shares of the mean.
fn unrest(values: &[f64]) -> Option<((f64, f64), f64)> {
    let interval_s = std::time::Duration::from_nanos(STRETCH_NS).as_secs_f64();
    let (share, error) = drift(values, interval_s)?;
    Some(((share.abs(), error), variance(values)?.sqrt() / mean(values)?))
}

#[allow(clippy::cast_precision_loss, reason = "counts and times of a stretch are below 2^53")]
fn double(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::whole;
    use crate::random::Random;

    /// Pushes a stretch after the other until the load is steady; gives how many that took, and
    /// since when it is.
    fn warm(records: impl Fn(f64) -> f64, p99: impl Fn(f64) -> f64) -> Option<(u32, u64)> {
        let mut random = Random::new(3);
        let mut warm_up = WarmUp::default();
        for at in 0..150 {
            let mut noisy = |value: f64| whole(value * (1.0 + 0.01 * random.normal()));
            warm_up.push(noisy(records(f64::from(at))), Some(noisy(p99(f64::from(at)))));
            if let Ok(since_ns) = warm_up.steady() {
                return Some((at + 1, since_ns / STRETCH_NS));
            }
        }
        None
    }

    #[test]
    fn a_steady_load_is_steady_at_once() {
        assert_eq!(warm(|_| 10_000.0, |_| 1e6), Some((10, 0)));
    }

    #[test]
    fn one_that_gets_faster_is_waited_for() {
        let rising = |at: f64| 10_000.0 * (1.0 - (-at / 8.0).exp());
        let (took, since) = warm(rising, |_| 1e6).expect("it settles");
        assert!((18..50).contains(&took) && since == u64::from(took) - 10, "{took}, {since}");
        let falling = |at: f64| 1e6 * (1.0 + 8.0 * (-at / 6.0).exp());
        let (took, _) = warm(|_| 10_000.0, falling).expect("it settles");
        assert!((18..50).contains(&took), "the 99th percentile fell: {took}");
    }

    #[test]
    fn what_never_settles_is_named() {
        assert_eq!(warm(|at| 1_000.0 * 1.05f64.powf(at), |_| 1e6), None);
        assert_eq!(warm(|at| if at % 4.0 < 1.0 { 10.0 } else { 10_000.0 }, |_| 1e6), None);
        let mut warm_up = WarmUp::default();
        assert_eq!(warm_up.steady(), Err(Unsettled::TooShort));
        (0..STRETCHES).for_each(|_| warm_up.push(0, None));
        assert_eq!(warm_up.steady(), Err(Unsettled::Idle));
        (0..STRETCHES as u64).for_each(|at| warm_up.push(1_000 + at * 100, None));
        assert_eq!(warm_up.steady(), Err(Unsettled::Rate));
        (0..STRETCHES as u64).for_each(|at| warm_up.push(1_000, Some(1_000 + at * 1_000)));
        assert_eq!(warm_up.steady(), Err(Unsettled::P99));
    }

    #[test]
    fn few_random_arrivals_are_no_unrest() {
        // Four records in each stretch on average.
        let mut warm_up = WarmUp::default();
        [4, 2, 6, 4, 5, 3, 1, 6, 4, 5].into_iter().for_each(|records| warm_up.push(records, None));
        assert_eq!(warm_up.steady(), Ok(0));
    }
}
