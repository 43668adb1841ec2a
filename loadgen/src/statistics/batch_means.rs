//! How sure one run is of its own mean: neighbouring seconds are alike, so that a hundred of them
//! say less than a hundred independent ones.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::{mean, variance};

/// Stretches are joined into this many batches, whose means are about independent.
const BATCHES: usize = 20;
/// With fewer batches nothing is said.
const BATCHES_MIN: usize = 4;

/// The mean of a series, and its 95 % interval by batch means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchMeans {
    /// Over all values.
    pub mean: f64,
    /// Half of the 95 % interval.
    pub half_width: f64,
    /// As many independent values would be as sure.
    pub effective: f64,
}

impl BatchMeans {
    /// Of `values` in the order of time; none of too few.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let size = values.len().div_ceil(BATCHES).max(1);
        let batches: Vec<f64> = values.chunks_exact(size).filter_map(mean).collect();
        if batches.len() < BATCHES_MIN {
            return None;
        }
        let count = f64::from(u32::try_from(batches.len()).ok()?);
        let error = (variance(&batches)? / count).sqrt();
        let t = StudentsT::new(0.0, 1.0, count - 1.0).ok()?.inverse_cdf(0.975);
        let effective = match error > 0.0 {
            true => variance(values)? / (error * error),
            false => f64::from(u32::try_from(values.len()).ok()?),
        };
        Some(Self { mean: mean(values)?, half_width: t * error, effective })
    }
}

/// By how much of its mean a series rises or falls each minute (least squares), with the 95 %
/// interval of that; none of fewer than four values or a mean of zero.
#[must_use]
pub fn slope_per_minute(values: &[f64], interval_s: f64) -> Option<(f64, f64)> {
    let count = f64::from(u32::try_from(values.len()).ok()?);
    let (value_mean, free) = (mean(values)?, count - 2.0);
    if free < 2.0 || value_mean == 0.0 {
        return None;
    }
    let place = |index: usize| f64::from(u32::try_from(index).expect("counted above"));
    let middle = (count - 1.0) / 2.0;
    let spread: f64 = (0..values.len()).map(|index| (place(index) - middle).powi(2)).sum();
    let joint: f64 = values
        .iter()
        .enumerate()
        .map(|(index, value)| (place(index) - middle) * (value - value_mean))
        .sum();
    let slope = joint / spread;
    let left: f64 = values
        .iter()
        .enumerate()
        .map(|(index, value)| (value - value_mean - slope * (place(index) - middle)).powi(2))
        .sum();
    let t = StudentsT::new(0.0, 1.0, free).ok()?.inverse_cdf(0.975);
    let error = t * (left / free / spread).sqrt();
    let per_minute = 60.0 / interval_s / value_mean;
    Some((slope * per_minute, (error * per_minute).abs()))
}
