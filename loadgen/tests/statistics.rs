//! The statistics against hundreds of experiments whose truth is known. They have a process of
//! their own: what takes times must not run beside so much arithmetic.

use pelton_loadgen::random::Random;
use pelton_loadgen::statistics::{
    Better, Evidence, Interval, Stretches, Verdict, judge, ratio_interval,
};

/// Runs of one value each, with this relative deviation.
fn runs(count: u32, mean: f64, deviation: f64, random: &mut Random) -> Vec<Stretches> {
    (0..count).map(|_| vec![mean * (1.0 + deviation * random.normal())]).collect()
}

/// How often each verdict is given, of 400 experiments.
fn verdicts(ratio: f64, better: Better) -> [u32; 4] {
    let mut random = Random::new(11);
    let mut counts = [0; 4];
    for seed in 0..400 {
        let a = runs(10, 100.0, 0.02, &mut random);
        let b = runs(10, 100.0 * ratio, 0.02, &mut random);
        let evidence = Evidence::of(&a, &b, seed).expect("enough runs");
        counts[match judge(&evidence, evidence.p, better, 0.05) {
            Verdict::Same => 0,
            Verdict::Worse => 1,
            Verdict::Better => 2,
            Verdict::Inconclusive => 3,
        }] += 1;
    }
    counts
}

#[test]
fn equal_arms_are_the_same_and_a_tenth_slower_is_worse() {
    let [same, worse, better, _] = verdicts(1.0, Better::Lower);
    assert!(same >= 380 && worse == 0 && better == 0, "{same} {worse} {better} of 400");
    let [same, worse, ..] = verdicts(1.1, Better::Lower);
    assert!(worse >= 380 && same == 0, "{worse} {same} of 400");
    let [_, worse, ..] = verdicts(1.0 / 1.1, Better::Higher);
    assert!(worse >= 380, "{worse} of 400");
    let [_, _, better, _] = verdicts(1.1, Better::Higher);
    assert!(better >= 380, "{better} of 400");
    // On the edge of the margin nobody can tell.
    let [same, worse, _, open] = verdicts(1.05, Better::Lower);
    assert!(open >= 340 && same + worse <= 60, "{open} {same} {worse} of 400");
}

#[test]
fn intervals_hold_the_truth_as_often_as_they_say() {
    let mut random = Random::new(5);
    let mut held = 0;
    for seed in 0..400 {
        let (a, b) = (runs(5, 50.0, 0.03, &mut random), runs(5, 60.0, 0.03, &mut random));
        let Interval { low, high, .. } = ratio_interval(&a, &b, seed).expect("enough runs");
        held += u32::from(low <= 1.2 && 1.2 <= high);
    }
    assert!((368..=398).contains(&held), "{held} of 400");
}
