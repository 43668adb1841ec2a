//! The statistics against runs whose truth is known.

use super::*;
use crate::random::Random;

/// Runs of one value each, with this relative deviation.
fn runs(count: u32, mean: f64, deviation: f64, random: &mut Random) -> Vec<Stretches> {
    (0..count).map(|_| vec![mean * (1.0 + deviation * random.normal())]).collect()
}

#[test]
fn stretches_of_a_run_share_its_luck() {
    // A hundred equal stretches do not make two lucky runs surer.
    let steady = |level: f64| vec![level; 100];
    let (a, b) = (vec![steady(95.0), steady(105.0)], vec![steady(100.0), steady(110.0)]);
    let Interval { low, high, .. } = ratio_interval(&a, &b, 1).expect("two runs each");
    assert!(low < 1.0 && high > 1.1, "{low} {high}");
    assert_eq!(ratio_interval(&a[..1], &b, 1), None);
}

#[test]
fn permutations_count_what_they_should() {
    let one = |values: &[f64]| values.iter().map(|&value| vec![value]).collect::<Vec<_>>();
    // Of the 20 ways to deal six runs out, two are as extreme as this one.
    let p = permutation_p(&one(&[1.0, 2.0, 3.0]), &one(&[4.0, 5.0, 6.0]), 0).expect("three each");
    assert!((p - 0.1).abs() < 1e-9, "{p}");
    let p = permutation_p(&one(&[5.0; 4]), &one(&[5.0; 4]), 0).expect("four each");
    assert!((p - 1.0).abs() < 1e-9, "{p}");
    let low: Vec<f64> = (0..15).map(f64::from).collect();
    let high: Vec<f64> = (100..115).map(f64::from).collect();
    let p = permutation_p(&one(&low), &one(&high), 0).expect("too many ways: at random");
    assert!(p < 0.001, "{p}");
    assert_eq!(permutation_p(&[], &one(&[1.0]), 0), None);
    let corrected = holm(&[0.04, 0.01, 0.03]);
    assert!((corrected[1] - 0.03).abs() < 1e-9 && (corrected[2] - 0.06).abs() < 1e-9);
    assert!((corrected[0] - 0.06).abs() < 1e-9, "{corrected:?}");
}

#[test]
fn neighbours_that_are_alike_count_for_less() {
    let mut random = Random::new(2);
    let free: Vec<f64> = (0..400).map(|_| 10.0 + random.normal()).collect();
    let mut level = 0.0;
    let alike: Vec<f64> = (0..400)
        .map(|_| {
            level = 0.9 * level + random.normal();
            10.0 + level
        })
        .collect();
    let (free, alike) =
        (BatchMeans::of(&free).expect("many"), BatchMeans::of(&alike).expect("many"));
    assert!(free.effective > 150.0 && alike.effective < 80.0, "{free:?} {alike:?}");
    assert!((free.mean - 10.0).abs() < free.half_width * 1.5, "{free:?}");
    assert_eq!(BatchMeans::of(&[1.0, 2.0, 3.0]), None);
}

#[test]
fn slopes_are_found_with_their_uncertainty() {
    let mut random = Random::new(4);
    let rising: Vec<f64> =
        (0..100).map(|at| 1_000.0 * (1.0 + f64::from(at) * 0.001) + random.normal()).collect();
    let (slope, error) = slope_per_minute(&rising, 0.1).expect("enough");
    // 0.1 % per tenth of a second, of a mean 5 % above the beginning.
    assert!((slope - 0.6 / 1.0495).abs() < 0.01 && error < 0.01, "{slope} {error}");
    let flat: Vec<f64> = (0..100).map(|_| 1_000.0 + 50.0 * random.normal()).collect();
    let (slope, error) = slope_per_minute(&flat, 0.1).expect("enough");
    assert!(slope.abs() < error * 1.5, "{slope} {error}");
    assert_eq!(slope_per_minute(&[1.0; 3], 1.0), None);
}

#[test]
fn more_runs_are_asked_for_where_noise_hides_the_answer() {
    let mut random = Random::new(8);
    let quiet = runs(5, 100.0, 0.01, &mut random);
    let noisy = runs(5, 100.0, 0.2, &mut random);
    assert_eq!([1, 8].map(verdict::runs_decidable), [4, 6], "2 of 70, and of 924, ways");
    let few = verdict::runs_needed(&quiet, &quiet, 1.1, 0.05).expect("enough runs");
    let many = verdict::runs_needed(&noisy, &noisy, 1.1, 0.05).expect("enough runs");
    assert!(few <= 5 && many > 50, "{few} {many}");
    let edge = verdict::runs_needed(&quiet, &quiet, 1.05, 0.05).expect("enough runs");
    assert_eq!(edge, 1_000);
}
