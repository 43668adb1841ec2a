//! Were the labels A and B exchangeable? Then any dealing out of the runs would do as well.

use super::{Stretches, mean, run_means};
use crate::random::Random;

/// Up to so many ways of dealing the runs out, all are tried; else as many at random.
const DEALS_MAX: u64 = 20_000;

/// The probability that runs which do not differ would, dealt out at random, have means at least
/// this far apart. None where an arm is empty.
#[must_use]
pub fn permutation_p(a: &[Stretches], b: &[Stretches], seed: u64) -> Option<f64> {
    let (a, b) = (run_means(a), run_means(b));
    // Rounding must not make the real deal less extreme than itself.
    let seen = (mean(&b)? - mean(&a)?).abs() * (1.0 - 1e-12);
    let all: Vec<f64> = a.iter().chain(&b).copied().collect();
    let total: f64 = all.iter().sum();
    let (first, rest) = (size(a.len()), size(b.len()));
    let apart = |sum: f64| ((total - sum) / rest - sum / first).abs();
    let (mut deals, mut extreme) = (0u64, 0u64);
    let mut count = |sum: f64| {
        deals += 1;
        extreme += u64::from(apart(sum) >= seen);
    };
    match ways(all.len(), a.len()) {
        Some(_) => each_choice(&all, a.len(), 0.0, &mut count),
        None => {
            let (mut random, mut dealt) = (Random::stream(seed, 3), all.clone());
            count(a.iter().sum());
            for _ in 1..DEALS_MAX {
                random.shuffle(&mut dealt);
                count(dealt[..a.len()].iter().sum());
            }
        }
    }
    Some(share(extreme, deals))
}

/// The sums of all choices of `left` values.
fn each_choice(values: &[f64], left: usize, sum: f64, count: &mut dyn FnMut(f64)) {
    if left == 0 {
        return count(sum);
    }
    for at in 0..=values.len() - left {
        each_choice(&values[at + 1..], left - 1, sum + values[at], count);
    }
}

/// How many ways there are to choose `some` of `all`; none if they are too many to try.
fn ways(all: usize, some: usize) -> Option<u64> {
    let mut ways = 1u64;
    for step in 0..some {
        ways = ways * (all - step) as u64 / (step as u64 + 1);
        if ways > DEALS_MAX {
            return None;
        }
    }
    Some(ways)
}

/// Holm's correction: each of several p-values, raised so that one false alarm among all of them
/// is as unlikely as it says.
#[must_use]
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut corrected = vec![0.0; p.len()];
    let mut least = 0.0_f64;
    for (rank, &at) in order.iter().enumerate() {
        least = least.max((p[at] * size(p.len() - rank)).min(1.0));
        corrected[at] = least;
    }
    corrected
}

fn size(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("runs are few"))
}

fn share(part: u64, whole: u64) -> f64 {
    let number = |count: u64| f64::from(u32::try_from(count).expect("at most DEALS_MAX"));
    number(part) / number(whole)
}
