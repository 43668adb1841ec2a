//! Whole lives of a broker under simulated clients: the same seed is the same life, no seed
//! breaks a law, and bugs that are planted are noticed.

use std::panic::AssertUnwindSafe;

use engine::pool::Arenas;
use pelton_tests::canary::Canary;
use pelton_tests::check::{Bounds, Outcome, Trial, live};
use pelton_tests::history::{self, Plan};
use pelton_tests::workload::Load;

/// A planted bug is noticed within so many seeds.
const CANARY_SEEDS: u64 = 16;

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
fn the_same_seed_is_the_same_history_whatever_came_before_it() {
    let mut used = Arenas::default();
    let mut traces = std::collections::BTreeSet::new();
    for seed in 1..=6 {
        let plan = Plan::new(seed);
        let outcome = history::live(&mut Arenas::default(), &plan);
        assert_eq!(outcome, history::live(&mut used, &plan), "again: {}", plan.command());
        traces.insert(outcome.trace);
    }
    assert_eq!(traces.len(), 6, "another seed is another history");
}

#[test]
fn no_seed_breaks_a_law() {
    for seed in 100..110 {
        let trial = Trial { bounds: Bounds::Varied, ..trial(seed) };
        assert_lawful(&trial, &live(&trial));
    }
}

#[test]
fn no_history_breaks_a_law() {
    let mut arenas = Arenas::default();
    let mut sum = history::Outcome::default();
    for seed in 1..=24 {
        let plan = Plan::new(seed);
        let outcome = history::live(&mut arenas, &plan);
        let what = outcome.violations.join("\n  ");
        assert!(what.is_empty(), "{what}\nagain: {}", plan.command());
        sum.add(&outcome);
    }
    assert!(sum.recoveries > 50, "recoveries are what this is about: {sum:?}");
}

#[test]
fn planted_bugs_are_noticed() {
    for canary in Canary::ALL {
        // Laws of the simulated world itself panic.
        let is_noticed = |seed: u64| {
            let plan = Plan { canary: Some(canary), ..Plan::new(seed) };
            let lived = AssertUnwindSafe(|| history::live(&mut Arenas::default(), &plan));
            let outcome = std::panic::catch_unwind(lived);
            outcome.map_or(true, |outcome| !outcome.violations.is_empty())
        };
        assert!((1..=CANARY_SEEDS).any(is_noticed), "{} is not noticed", canary.name());
    }
}
