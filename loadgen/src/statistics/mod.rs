//! What a few runs allow one to say.
//!
//! The unit is the run: records of one run share its luck, so their number proves nothing. A ratio
//! of two arms comes with an interval from a bootstrap over runs (and over stretches of each run,
//! where they are known), a permutation test, and the noise that two equal arms would show.

mod batch_means;
mod bootstrap;
mod paired;
mod permutation;
mod verdict;

pub use batch_means::{BatchMeans, slope_per_minute};
pub use bootstrap::{Interval, noise_floor, ratio_interval};
pub use paired::PairedRatio;
pub use permutation::{holm, permutation_p};
pub use verdict::{Better, Evidence, SIGNIFICANCE, Verdict, judge, runs_decidable, runs_needed};

/// One run's values of one figure: one for each stretch of the run, at least one.
pub type Stretches = Vec<f64>;

/// The mean; none of nothing.
#[must_use]
pub fn mean(values: &[f64]) -> Option<f64> {
    let count = u32::try_from(values.len()).ok().filter(|&count| count > 0)?;
    Some(values.iter().sum::<f64>() / f64::from(count))
}

/// The variance of the population that `values` are drawn from; none of fewer than two.
#[must_use]
pub fn variance(values: &[f64]) -> Option<f64> {
    let mean = mean(values)?;
    let free = u32::try_from(values.len() - 1).ok().filter(|&free| free > 0)?;
    Some(values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / f64::from(free))
}

/// The mean of each run.
fn run_means(runs: &[Stretches]) -> Vec<f64> {
    runs.iter().filter_map(|stretches| mean(stretches)).collect()
}

/// The value that this share of the sorted values does not exceed.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    assert!(!sorted.is_empty(), "a quantile of nothing");
    let last = u32::try_from(sorted.len() - 1).expect("thousands at most");
    let place = share * f64::from(last);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of an index is an index"
    )]
    let (below, part) = (place.floor() as usize, place.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * part
}

#[cfg(test)]
mod tests;
