//! Zipf's law: the item of rank `k` is drawn in proportion to `k^-s`.

use super::Random;
use super::elementary::{exp, ln};

/// Draws ranks by rejection-inversion (Hörmann and Derflinger, 1996): constant time, no table.
#[derive(Clone, Debug)]
pub struct Zipf {
    items: f64,
    exponent: f64,
    /// The integral at 3/2 less 1, and at `items` + 1/2.
    low: f64,
    high: f64,
    /// Within this distance of a whole number nothing is rejected.
    sure: f64,
}

impl Zipf {
    /// Ranks 1 to `items`, skewed by `exponent`.
    ///
    /// # Panics
    /// If `items` is zero, or `exponent` is not above 0 and at most 10.
    #[must_use]
    pub fn new(items: u32, exponent: f64) -> Self {
        assert!(items > 0 && exponent > 0.0 && exponent <= 10.0, "zipf of {items}, {exponent}");
        let items = f64::from(items);
        let law = Self { items, exponent, low: 0.0, high: 0.0, sure: 0.0 };
        let low = law.integral(1.5) - 1.0;
        let high = law.integral(items + 0.5);
        let sure = 2.0 - law.inverse(law.integral(2.5) - law.density(2.0));
        Self { low, high, sure, ..law }
    }

    /// A rank, from 0.
    pub fn draw(&self, random: &mut Random) -> u32 {
        loop {
            let area = self.high + random.unit() * (self.low - self.high);
            let x = self.inverse(area);
            let rank = x.round().clamp(1.0, self.items);
            if rank - x <= self.sure || area >= self.integral(rank + 0.5) - self.density(rank) {
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a whole number from 1 to a u32"
                )]
                return rank as u32 - 1;
            }
        }
    }

    fn density(&self, x: f64) -> f64 {
        exp(-self.exponent * ln(x))
    }

    /// The integral of the density from 1 to `x`, as an expression that also holds at exponent 1.
    fn integral(&self, x: f64) -> f64 {
        let log = ln(x);
        log * growth((1.0 - self.exponent) * log)
    }

    fn inverse(&self, area: f64) -> f64 {
        let t = (area * (1.0 - self.exponent)).max(-1.0 + f64::EPSILON);
        exp(area * shrink(t))
    }
}

/// `(e^x - 1) / x`, also near zero.
fn growth(x: f64) -> f64 {
    if x.abs() > 1e-6 { (exp(x) - 1.0) / x } else { 1.0 + x / 2.0 * (1.0 + x / 3.0) }
}

/// `ln(1 + x) / x`, also near zero.
fn shrink(x: f64) -> f64 {
    if x.abs() > 1e-6 { ln(1.0 + x) / x } else { 1.0 - x * (0.5 - x / 3.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_follow_the_law() {
        for exponent in [0.5, 0.99, 1.0, 1.1, 2.0] {
            let (law, mut random) = (Zipf::new(100, exponent), Random::new(1));
            let mut counts = [0u32; 100];
            (0..400_000).for_each(|_| counts[law.draw(&mut random) as usize] += 1);
            let total: f64 = (1..=100).map(|rank| f64::from(rank).powf(-exponent)).sum();
            for rank in [1u32, 2, 3, 10, 50, 100] {
                let wanted = 400_000.0 * f64::from(rank).powf(-exponent) / total;
                let found = f64::from(counts[rank as usize - 1]);
                let error = 5.0 * wanted.sqrt() + 1.0;
                assert!((found - wanted).abs() < error, "{exponent}, {rank}: {found}, {wanted}");
            }
        }
    }

    #[test]
    fn a_seed_gives_these_ranks_for_ever() {
        let (law, mut random) = (Zipf::new(1_000_000, 1.1), Random::new(9));
        let ranks: Vec<u32> = (0..8).map(|_| law.draw(&mut random)).collect();
        assert_eq!(ranks, GOLDEN);
        assert_eq!(Zipf::new(1, 1.0).draw(&mut random), 0);
    }
    const GOLDEN: [u32; 8] = [20, 168, 7111, 0, 134471, 27696, 191, 5120];
}
