//! Seeded randomness that never changes: a seed gives the same load with every later version.
//!
//! The generator is xoshiro256++, seeded by splitmix64. Everything drawn from it uses only
//! operations whose results IEEE 754 fixes to the last bit (no logarithm of the system's library),
//! and golden tests hold the values.

mod elementary;
mod zipf;

pub use zipf::Zipf;

use elementary::{exp, ln};

/// 2^-53: the distance of the doubles that [`Random::unit`] gives.
const UNIT_STEP: f64 = 1.0 / 9_007_199_254_740_992.0;

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// The stream of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut word = seed;
        let state = [(); 4].map(|()| {
            word = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
            mix(word)
        });
        Self { state }
    }

    /// Stream `index` of a seed; streams of one seed have nothing to do with each other.
    #[must_use]
    pub fn stream(seed: u64, index: u64) -> Self {
        Self::new(mix(seed).wrapping_add(mix(index ^ 0x5851_F42D_4C95_7F2D)))
    }

    /// 64 random bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let word = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        word
    }

    /// A number below `bound`, which is above zero; all are equally likely (to one part in
    /// 2^64 / `bound`).
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the upper half of 128 bits")
    }

    /// A number from 0 up to but not 1.
    #[inline]
    #[allow(clippy::cast_precision_loss, reason = "53 bits fit a double")]
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * UNIT_STEP
    }

    /// An exponentially distributed number with mean 1: the gap between independent events.
    #[inline]
    pub fn exponential(&mut self) -> f64 {
        // Never the logarithm of zero.
        -ln(1.0 - self.unit())
    }

    /// A normally distributed number with mean 0 and deviation 1 (Marsaglia's polar method).
    pub fn normal(&mut self) -> f64 {
        loop {
            let (x, y) = (2.0 * self.unit() - 1.0, 2.0 * self.unit() - 1.0);
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                return x * (-2.0 * ln(square) / square).sqrt();
            }
        }
    }

    /// A lognormally distributed number with this median, whose logarithm deviates by `sigma`.
    pub fn lognormal(&mut self, median: f64, sigma: f64) -> f64 {
        median * exp(sigma * self.normal())
    }

    /// Puts `items` in random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last as u64 + 1);
            items.swap(last, usize::try_from(other).expect("at most an index"));
        }
    }
}

/// The output function of splitmix64: a good hash of a word.
#[inline]
#[must_use]
pub fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_published_one() {
        // The first outputs of the authors' xoshiro256++ from the state 1, 2, 3, 4.
        let mut random = Random { state: [1, 2, 3, 4] };
        let words = [(); 5].map(|()| random.next_u64());
        let published = [
            41_943_041,
            58_720_359,
            3_588_806_011_781_223,
            3_591_011_842_654_386,
            9_228_616_714_210_784_205,
        ];
        assert_eq!(words, published);
    }

    #[test]
    fn a_seed_gives_these_numbers_for_ever() {
        let mut random = Random::stream(42, 7);
        let words = [(); 2].map(|()| random.next_u64());
        let bits = [random.unit(), random.exponential(), random.normal()].map(f64::to_bits);
        let size = random.lognormal(1_000.0, 0.5).to_bits();
        let mut order = [0, 1, 2, 3, 4, 5];
        random.shuffle(&mut order);
        let golden = format!("{words:x?} {bits:x?} {size:x} {order:?}");
        assert_eq!(golden, GOLDEN);
    }
    const GOLDEN: &str = "[49224921b6766a90, 4e32e4b0c6f87ceb] [3fdf2079c36f69b6, \
                          3fcffb3981c90645, 3fe5cea6fb86fc99] 407f817f662186c2 [2, 5, 1, 0, 4, 3]";

    #[test]
    fn moments_are_those_of_the_distributions() {
        const DRAWS: u32 = 200_000;
        let mut random = Random::new(3);
        let mut mean = |mut draw: Box<dyn FnMut(&mut Random) -> f64>| {
            (0..DRAWS).map(|_| draw(&mut random)).sum::<f64>() / f64::from(DRAWS)
        };
        let near = |found: f64, wanted: f64| assert!((found - wanted).abs() < 0.02, "{found}");
        near(mean(Box::new(Random::unit)), 0.5);
        near(mean(Box::new(Random::exponential)), 1.0);
        near(mean(Box::new(|random| random.exponential().powi(2))), 2.0);
        near(mean(Box::new(Random::normal)), 0.0);
        near(mean(Box::new(|random| random.normal().powi(2))), 1.0);
        near(mean(Box::new(|random| random.lognormal(1.0, 0.5))), (0.125_f64).exp());
        near(mean(Box::new(|random| if random.below(10) == 3 { 1.0 } else { 0.0 })), 0.1);
    }

    #[test]
    fn streams_differ() {
        let first = |seed, index| Random::stream(seed, index).next_u64();
        assert_ne!(first(1, 0), first(1, 1));
        assert_ne!(first(1, 0), first(2, 0));
        assert_ne!(first(1, 2), first(2, 1));
    }
}
