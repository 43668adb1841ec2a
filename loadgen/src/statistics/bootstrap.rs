//! Intervals without assuming a distribution: draw runs again and again from those that were made.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::{Stretches, mean, quantile, run_means, variance};
use crate::random::Random;

/// Resamples.
const DRAWS: usize = 2_000;
/// Two-sided 95 % of a normal distribution.
const NORMAL_975: f64 = 1.959_964;

/// An estimate of B / A and its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The ratio of the means over runs.
    pub ratio: f64,
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// The ratio of the means of `b` and `a`, by a hierarchical bootstrap: runs are drawn, and within
/// each run its stretches. None where an arm has fewer than two runs or a mean that is not above 0.
#[must_use]
pub fn ratio_interval(a: &[Stretches], b: &[Stretches], seed: u64) -> Option<Interval> {
    let ratio = mean(&run_means(b))? / mean(&run_means(a))?;
    let mut random = Random::stream(seed, 1);
    let mut ratios = Vec::with_capacity(DRAWS);
    for _ in 0..DRAWS {
        ratios.push((resampled(b, &mut random)? / resampled(a, &mut random)?).ln());
    }
    ratios.sort_unstable_by(f64::total_cmp);
    let widen = widening(a.len(), b.len())?;
    let middle = ratio.ln();
    let end = |share: f64| (middle + (quantile(&ratios, share) - middle) * widen).exp();
    let interval = Interval { ratio, low: end(0.025), high: end(0.975) };
    (ratio.is_finite() && ratio > 0.0).then_some(interval)
}

/// By how much two arms of equal runs would seem to differ, 19 times of 20, as a share: the runs of
/// `a` are dealt out to two arms of so many runs each. None of fewer than two runs.
#[must_use]
pub fn noise_floor(a: &[Stretches], seed: u64) -> Option<f64> {
    let means = run_means(a);
    let widen = widening(a.len(), a.len())?;
    let mut random = Random::stream(seed, 2);
    let mut draw = || mean(&means.iter().map(|_| pick(&means, &mut random)).collect::<Vec<_>>());
    let mut apart = Vec::with_capacity(DRAWS);
    for _ in 0..DRAWS {
        apart.push((draw()? / draw()?).ln().abs());
    }
    apart.sort_unstable_by(f64::total_cmp);
    let floor = (quantile(&apart, 0.95) * widen).exp() - 1.0;
    floor.is_finite().then_some(floor)
}

/// The bootstrap of a few runs is too narrow: it misses the n / (n - 1) of the variance, and the
/// difference between Student's distribution and the normal one.
fn widening(a: usize, b: usize) -> Option<f64> {
    let fewest = f64::from(u32::try_from(a.min(b)).ok()?);
    if fewest < 2.0 {
        return None;
    }
    let free = f64::from(u32::try_from(a + b - 2).ok()?);
    let t = StudentsT::new(0.0, 1.0, free).ok()?.inverse_cdf(0.975);
    Some((fewest / (fewest - 1.0)).sqrt() * t / NORMAL_975)
}

fn resampled(runs: &[Stretches], random: &mut Random) -> Option<f64> {
    let mut sum = 0.0;
    for _ in runs {
        let at = random.below(runs.len() as u64);
        let stretches = &runs[usize::try_from(at).ok()?];
        sum += match stretches.len() {
            // Of a single stretch nothing can be drawn but itself.
            1 => stretches[0],
            _ => {
                let drawn = stretches.iter().map(|_| pick(stretches, random)).sum::<f64>();
                drawn / f64::from(u32::try_from(stretches.len()).ok()?)
            }
        };
    }
    Some(sum / f64::from(u32::try_from(runs.len()).ok()?))
}

fn pick(values: &[f64], random: &mut Random) -> f64 {
    let at = random.below(values.len() as u64);
    values[usize::try_from(at).expect("an index")]
}

/// The relative standard deviation of the means of runs.
pub(super) fn deviation(runs: &[Stretches]) -> Option<f64> {
    let means = run_means(runs);
    Some(variance(&means)?.sqrt() / mean(&means)?)
}
