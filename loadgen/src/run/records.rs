//! What records look like: how large they are, how well they compress, and which keys they bear.

use std::fmt;
use std::str::FromStr;
use wire::limits::BATCH_BYTES_MAX;

use super::choices::bytes;
use crate::payload::HEADER_LEN;
use crate::random::{Random, Zipf, mix};

/// Most different keys.
const KEYS_MAX: u64 = 1 << 32;
/// A lognormal size is at most so many times the median.
const TAIL_MAX: u32 = 64;
/// The longest value that fits a batch.
const VALUE_BYTES_MAX: usize = BATCH_BYTES_MAX - 256;

/// `--sizes`: how the sizes of values are distributed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sizes {
    /// All sizes between two are as likely.
    Uniform {
        /// The smallest.
        from: u32,
        /// The largest.
        to: u32,
    },
    /// Many small ones, and a few large ones.
    Lognormal {
        /// Half of the values are smaller.
        median: u32,
        /// Deviation of the logarithm.
        sigma: f64,
    },
}

impl Sizes {
    /// The size of the next value.
    pub(super) fn draw(&self, random: &mut Random) -> u32 {
        match *self {
            Self::Uniform { from, to } => {
                let offset = random.below(u64::from(to - from) + 1);
                from + u32::try_from(offset).expect("at most the difference of two u32")
            }
            Self::Lognormal { median, sigma } => {
                let drawn = crate::latency::whole(random.lognormal(f64::from(median), sigma));
                let drawn = u32::try_from(drawn).unwrap_or(u32::MAX);
                drawn.clamp(HEADER_BYTES, self.largest())
            }
        }
    }

    /// The mean, before the largest are cut off.
    pub(super) fn mean(&self) -> u32 {
        match *self {
            Self::Uniform { from, to } => from.midpoint(to),
            Self::Lognormal { median, sigma } => {
                let mean = f64::from(median) * (sigma * sigma / 2.0).exp();
                u32::try_from(crate::latency::whole(mean)).unwrap_or(u32::MAX)
            }
        }
    }

    /// No value is larger.
    pub(super) fn largest(&self) -> u32 {
        match *self {
            Self::Uniform { to, .. } => to,
            Self::Lognormal { median, .. } => {
                let most = u32::try_from(VALUE_BYTES_MAX).expect("below 2^32");
                median.saturating_mul(TAIL_MAX).min(most)
            }
        }
    }
}

/// The header of a value, as a u32.
const HEADER_BYTES: u32 = 40;
const _: () = assert!(HEADER_BYTES as usize == HEADER_LEN);

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "expected uniform:FROM..TO or lognormal:MEDIAN,SIGMA, e.g. uniform:100..2KiB; a \
                 value has {HEADER_LEN} (its header) to {VALUE_BYTES_MAX} bytes"
            )
        };
        let size = |text: &str| -> Option<u32> {
            let size = u32::try_from(bytes(text.trim()).ok()?).ok()?;
            (HEADER_LEN..=VALUE_BYTES_MAX).contains(&(size as usize)).then_some(size)
        };
        let (kind, rest) = text.split_once(':').ok_or_else(expected)?;
        let parsed = match kind {
            "uniform" => rest.split_once("..").and_then(|(from, to)| {
                let (from, to) = (size(from)?, size(to)?);
                (from <= to).then_some(Self::Uniform { from, to })
            }),
            "lognormal" => rest.split_once(',').and_then(|(median, sigma)| {
                let (median, sigma) = (size(median)?, sigma.trim().parse::<f64>().ok()?);
                (0.0..=3.0).contains(&sigma).then_some(Self::Lognormal { median, sigma })
            }),
            _ => None,
        };
        parsed.ok_or_else(expected)
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform { from, to } => write!(f, "uniform:{from}..{to}"),
            Self::Lognormal { median, sigma } => write!(f, "lognormal:{median},{sigma}"),
        }
    }
}

/// `--keys`: which keys records bear.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Keys {
    /// All of so many keys are as likely.
    Uniform {
        /// How many there are.
        count: u32,
    },
    /// The key of rank `k` is as likely as `k^-exponent` says.
    Zipf {
        /// How many there are.
        count: u32,
        /// The higher, the more skewed.
        exponent: f64,
    },
    /// A share of the keys gets a share of the records.
    Hot {
        /// How many there are.
        count: u32,
        /// Share of the keys that are hot.
        keys: f64,
        /// Share of the records that bear them.
        records: f64,
    },
}

impl FromStr for Keys {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            "expected uniform:COUNT, zipf:COUNT,EXPONENT or hot:COUNT,KEYS%,RECORDS%, e.g. \
             zipf:1M,1.1 or hot:1M,10%,90%"
                .to_owned()
        };
        let (kind, rest) = text.split_once(':').ok_or_else(expected)?;
        let parts: Vec<&str> = rest.split(',').map(str::trim).collect();
        let parsed = match (kind, &parts[..]) {
            ("uniform", [count]) => number(count).map(|count| Self::Uniform { count }),
            ("zipf", [count, exponent]) => number(count).zip(exponent.parse().ok()).and_then(
                |(count, exponent): (u32, f64)| {
                    let good = exponent > 0.0 && exponent <= 10.0;
                    good.then_some(Self::Zipf { count, exponent })
                },
            ),
            ("hot", [count, keys, records]) => {
                let shares = share(keys).zip(share(records));
                number(count).zip(shares).map(|(count, (keys, records))| Self::Hot {
                    count,
                    keys,
                    records,
                })
            }
            _ => None,
        };
        parsed.ok_or_else(expected)
    }
}

fn number(text: &str) -> Option<u32> {
    let (digits, factor) = match text.strip_suffix('k') {
        Some(digits) => (digits, 1_000),
        None => text.strip_suffix('M').map_or((text, 1), |digits| (digits, 1_000_000)),
    };
    let number = digits.parse::<u64>().ok()?.checked_mul(factor)?;
    u32::try_from(number).ok().filter(|&number| number > 0 && u64::from(number) < KEYS_MAX)
}

fn share(text: &str) -> Option<f64> {
    let percent = text.strip_suffix('%')?.parse::<f64>().ok()?;
    (percent > 0.0 && percent < 100.0).then_some(percent / 100.0)
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform { count } => write!(f, "uniform:{count}"),
            Self::Zipf { count, exponent } => write!(f, "zipf:{count},{exponent}"),
            Self::Hot { count, keys, records } => {
                write!(f, "hot:{count},{}%,{}%", keys * 100.0, records * 100.0)
            }
        }
    }
}

/// Draws the keys of one producer.
#[derive(Clone, Debug)]
pub(super) struct KeyDraw {
    random: Random,
    law: Law,
}

#[derive(Clone, Debug)]
enum Law {
    Uniform { count: u32 },
    Zipf(Zipf),
    Hot { count: u32, hot: u32, records: f64 },
}

impl KeyDraw {
    pub(super) fn new(keys: &Keys, seed: u64, producer: u32) -> Self {
        let law = match *keys {
            Keys::Uniform { count } => Law::Uniform { count },
            Keys::Zipf { count, exponent } => Law::Zipf(Zipf::new(count, exponent)),
            Keys::Hot { count, keys, records } => {
                let hot = crate::latency::whole(f64::from(count) * keys);
                let hot = u32::try_from(hot).unwrap_or(count).clamp(1, count);
                Law::Hot { count, hot, records }
            }
        };
        Self { random: Random::stream(seed, 1 << 32 | u64::from(producer)), law }
    }

    /// The next key: a number that is spread over all of 64 bits.
    pub(super) fn next(&mut self) -> u64 {
        let random = &mut self.random;
        let rank = match &self.law {
            Law::Uniform { count } => random.below(u64::from(*count)),
            Law::Zipf(law) => u64::from(law.draw(random)),
            Law::Hot { count, hot, records } => match random.unit() < *records {
                true => random.below(u64::from(*hot)),
                false => {
                    u64::from(*hot) % u64::from(*count)
                        + random.below(u64::from((count - hot).max(1)))
                }
            },
        };
        mix(rank.wrapping_add(0x9E37_79B9_7F4A_7C15))
    }
}

/// `--entropy`: bytes of which each says so many eighths of a byte.
pub(super) fn entropy(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(entropy) if (0.0..=1.0).contains(&entropy) => Ok(entropy),
        _ => Err("expected a number from 0 (nothing but zeroes) to 1 (random bytes)".to_owned()),
    }
}

/// Fills `bytes` with that much entropy: drawn from an alphabet of 256 to the power of it.
pub(super) fn fill(bytes: &mut [u8], entropy: f64, random: &mut Random) {
    let letters = crate::latency::whole(256f64.powf(entropy)).clamp(1, 256);
    for byte in bytes {
        *byte = u8::try_from(random.below(letters)).expect("below 256");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn sizes_are_distributed_as_they_say() {
        let mut random = Random::new(1);
        let uniform: Sizes = "uniform:100..300".parse().expect("good");
        let drawn: Vec<u32> = (0..20_000).map(|_| uniform.draw(&mut random)).collect();
        let mean = drawn.iter().map(|&size| f64::from(size)).sum::<f64>() / 20_000.0;
        assert!(drawn.contains(&100) && drawn.contains(&300) && (mean - 200.0).abs() < 2.0);
        let lognormal: Sizes = "lognormal:1KiB,0.5".parse().expect("good");
        let mut drawn: Vec<u32> = (0..20_000).map(|_| lognormal.draw(&mut random)).collect();
        drawn.sort_unstable();
        // The 84th percentile of a normal distribution is one deviation above the median.
        assert!(drawn[10_000].abs_diff(1_024) < 25, "{}", drawn[10_000]);
        assert!(drawn[16_827].abs_diff(1_688) < 60, "{}", drawn[16_827]);
        assert!(drawn.last() <= Some(&lognormal.largest()));
        for text in ["", "uniform", "uniform:39..50", "uniform:60..50", "lognormal:1KiB,9", "x:1"] {
            assert!(text.parse::<Sizes>().expect_err(text).contains("uniform:FROM..TO"), "{text}");
        }
        assert_eq!(lognormal.to_string().parse(), Ok(lognormal));
    }

    #[test]
    fn keys_are_as_hot_as_they_say() {
        let share_of = |text: &str, hottest: usize| {
            let keys: Keys = text.parse().expect(text);
            assert_eq!(keys.to_string().parse(), Ok(keys));
            let mut draw = KeyDraw::new(&keys, 3, 0);
            let mut counts: HashMap<u64, u32> = HashMap::new();
            (0..50_000).for_each(|_| *counts.entry(draw.next()).or_default() += 1);
            let mut counts: Vec<u32> = counts.into_values().collect();
            counts.sort_unstable_by(|a, b| b.cmp(a));
            f64::from(counts.iter().take(hottest).sum::<u32>()) / 50_000.0
        };
        assert!((share_of("uniform:100", 10) - 0.1).abs() < 0.02);
        assert!((share_of("hot:100,10%,90%", 10) - 0.9).abs() < 0.02);
        // Of 1,000 keys at exponent 1 the first has 1 / H(1000).
        assert!((share_of("zipf:1k,1", 1) - 0.1336).abs() < 0.01);
        for text in ["", "uniform:0", "zipf:5", "zipf:5,0", "hot:5,1%", "hot:5,1,2"] {
            assert!(text.parse::<Keys>().expect_err(text).contains("expected uniform"), "{text}");
        }
        let first = |producer| KeyDraw::new(&Keys::Uniform { count: 1 << 30 }, 3, producer).next();
        assert_ne!(first(0), first(1));
    }

    #[test]
    fn bytes_have_the_entropy_that_was_asked_for() {
        for wanted in [0.0, 0.25, 0.5, 0.9, 1.0] {
            let mut bytes = vec![7; 1 << 18];
            fill(&mut bytes, wanted, &mut Random::new(4));
            let mut counts = [0u32; 256];
            bytes.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
            let total = f64::from(u32::try_from(bytes.len()).expect("small"));
            let bits: f64 = counts
                .iter()
                .filter(|&&count| count > 0)
                .map(|&count| f64::from(count) / total)
                .map(|share| -share * share.log2())
                .sum();
            assert!((bits / 8.0 - wanted).abs() < 0.02, "{wanted}: {bits} bits a byte");
        }
        assert!(entropy("0.5").is_ok() && entropy("1.1").is_err() && entropy("x").is_err());
    }
}
