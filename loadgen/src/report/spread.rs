//! Several measurements of one thing: their median, and how far they lie apart.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// With fewer repeats than this, nothing is said about their spread.
pub const SPREAD_REPEATS_MIN: usize = 3;

/// The median of some measurements, and the lowest and highest of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Spread {
    /// The middle one; of an even number, the mean of the two in the middle.
    pub median: u64,
    /// The lowest.
    pub min: u64,
    /// The highest.
    pub max: u64,
    /// How many there are.
    pub count: usize,
}

impl Spread {
    /// The spread of `figures`; none if there are none.
    #[must_use]
    pub fn of(figures: impl IntoIterator<Item = u64>) -> Option<Self> {
        let mut figures: Vec<u64> = figures.into_iter().collect();
        figures.sort_unstable();
        let (&min, &max) = figures.first().zip(figures.last())?;
        let (lower, upper) = (figures[(figures.len() - 1) / 2], figures[figures.len() / 2]);
        Some(Self { median: lower.midpoint(upper), min, max, count: figures.len() })
    }

    /// Whether there are enough measurements to say how far they lie apart.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.count >= SPREAD_REPEATS_MIN
    }

    /// Half of the range as per cent of the median; none with too few measurements.
    #[must_use]
    pub fn half_range_percent(&self) -> Option<u64> {
        let half = u128::from(self.max - self.min) * 50 / u128::from(self.median).max(1);
        self.is_known().then(|| u64::try_from(half).unwrap_or(u64::MAX))
    }

    /// Whether the ranges have a value in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.min <= other.max && other.min <= self.max
    }
}

/// `b / a` in hundredths.
#[must_use]
pub fn ratio_hundredths(a: u64, b: u64) -> Option<u64> {
    let ratio = (u128::from(b) * 100).checked_div(u128::from(a))?;
    u64::try_from(ratio).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ranges() {
        assert_eq!(Spread::of([]), None);
        let one = Spread::of([7]).expect("one");
        assert_eq!((one.median, one.half_range_percent()), (7, None));
        let even = Spread::of([40, 10, 20, 30]).expect("four");
        assert_eq!((even.median, even.min, even.max), (25, 10, 40));
        assert_eq!(even.half_range_percent(), Some(60));
        let two = Spread::of([u64::MAX, u64::MAX]).expect("two");
        assert_eq!((two.median, two.is_known()), (u64::MAX, false));
        assert!(one.overlaps(&Spread::of([3, 7]).expect("two")) && !one.overlaps(&even));
        assert_eq!((ratio_hundredths(200, 300), ratio_hundredths(0, 1)), (Some(150), None));
    }
}
