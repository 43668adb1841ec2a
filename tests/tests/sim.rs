//! Whole lives of a broker under simulated clients: the same seed is the same life, and no seed
//! breaks a law.

use pelton_tests::check::{Bounds, Outcome, Trial, live};
use pelton_tests::workload::Load;

fn trial(seed: u64) -> Trial {
    Trial::new(seed, Load { clients: 4, actions: 250 })
}

fn assert_lawful(trial: &Trial, outcome: &Outcome) {
    let what = outcome.violations.join("\n  ");
    assert!(what.is_empty(), "{what}\nagain: {}", trial.command());
}

#[test]
fn the_same_seed_is_the_same_life() {
    for seed in 1..=2 {
        let (one, other) = (trial(seed), trial(seed));
        assert_eq!(live(&one), live(&other));
    }
    let traces = [1, 2].map(|seed| live(&trial(seed)).trace);
    assert_ne!(traces[0], traces[1], "another seed is another life");
}

#[test]
fn no_seed_breaks_a_law() {
    for seed in 100..110 {
        let trial = Trial { bounds: Bounds::Varied, ..trial(seed) };
        assert_lawful(&trial, &live(&trial));
    }
}
