//! What changing one thing does, from runs that are alike in everything else.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::{mean, variance};

/// With fewer pairs there is no interval.
const PAIRS_MIN: usize = 3;

/// A ratio over pairs of runs: the geometric mean of theirs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairedRatio {
    /// After by before.
    pub ratio: f64,
    /// Its 95 % interval by Student's distribution over the logarithms; none of too few pairs.
    pub interval: Option<(f64, f64)>,
    /// How many there were.
    pub pairs: usize,
}

impl PairedRatio {
    /// Of pairs (before, after); those with a figure that is not above zero are left out.
    #[must_use]
    pub fn of(pairs: &[(f64, f64)]) -> Option<Self> {
        let logs: Vec<f64> = pairs
            .iter()
            .filter(|(before, after)| *before > 0.0 && *after > 0.0)
            .map(|(before, after)| (after / before).ln())
            .collect();
        let middle = mean(&logs)?;
        let interval = half_width(&logs).map(|half| ((middle - half).exp(), (middle + half).exp()));
        Some(Self { ratio: middle.exp(), interval, pairs: logs.len() })
    }
}

fn half_width(logs: &[f64]) -> Option<f64> {
    let count = f64::from(u32::try_from(logs.len()).ok()?);
    if logs.len() < PAIRS_MIN {
        return None;
    }
    let t = StudentsT::new(0.0, 1.0, count - 1.0).ok()?.inverse_cdf(0.975);
    Some(t * (variance(logs)? / count).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn what_holds_for_all_pairs_is_found_and_two_pairs_have_no_interval() {
        // Whatever else differs, the second is twice the first.
        let pairs = [(1.0, 2.0), (50.0, 100.0), (7.0, 14.0), (0.0, 5.0)];
        let found = PairedRatio::of(&pairs).expect("three pairs");
        assert!((found.ratio - 2.0).abs() < 1e-9 && found.pairs == 3, "{found:?}");
        let (low, high) = found.interval.expect("three pairs");
        assert!((low - 2.0).abs() < 1e-9 && (high - 2.0).abs() < 1e-9);
        assert_eq!(PairedRatio::of(&pairs[..2]).expect("two").interval, None);
        assert_eq!(PairedRatio::of(&[(0.0, 1.0)]), None);
    }

    #[test]
    fn intervals_hold_the_truth_nineteen_times_of_twenty() {
        let mut random = Random::new(11);
        let held = (0..1_000).filter(|_| {
            let pair = |_| (100.0, 130.0 * (0.1 * random.normal()).exp());
            let pairs: Vec<(f64, f64)> = (0..5).map(pair).collect();
            let (low, high) =
                PairedRatio::of(&pairs).and_then(|found| found.interval).expect("five pairs");
            (low..=high).contains(&1.3)
        });
        let held = held.count();
        assert!((925..=975).contains(&held), "{held} of 1,000");
    }
}
