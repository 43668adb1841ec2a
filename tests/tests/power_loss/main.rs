//! Death at every moment, simulated: the power goes, or the device fails, at each operation in
//! turn; and what recovery makes of damaged files.

mod failing;
mod full;
mod life;
mod looked_into;
mod overload;
mod tails;

use broker::io::sim::{Failure, Honesty};
use engine::port::Fault;
use pelton_tests::check::{Outcome, Trial, live};
use pelton_tests::workload::Load;

/// A small workload: few operations, each of which is a moment to die at.
const SMALL: Load = Load { clients: 3, actions: 50 };

fn small(seed: u64) -> Trial {
    Trial { rebirths: 1, ..Trial::new(seed, SMALL) }
}

fn lawful(trial: &Trial) -> Outcome {
    let outcome = live(trial);
    let what = outcome.violations.join("\n  ");
    assert!(what.is_empty(), "{what}\nagain: {}", trial.command());
    outcome
}

#[test]
fn power_loss_at_every_operation_loses_nothing_acknowledged() {
    let (mut replayed, mut torn) = (0, 0);
    for seed in [1, 3] {
        let all = lawful(&small(seed)).mutations;
        assert!(all > 60, "the workload does something: {all}");
        for at in 1..=all {
            let outcome = lawful(&Trial { power_loss_at: Some(at), ..small(seed) });
            replayed += outcome.replayed;
            torn += outcome.torn;
        }
    }
    assert!(replayed > 500, "records were in journals only: {replayed}");
    assert!(torn > 4, "frames were torn: {torn}");
}

#[test]
fn a_failure_of_any_operation_breaks_no_promise() {
    let failures = [Failure::Fault(Fault::EIO), Failure::Fault(Fault::ENOSPC), Failure::Short];
    for (seed, failure) in (11..).zip(failures) {
        let all = lawful(&small(seed)).mutations;
        for at in 1..=all {
            lawful(&Trial { failure: Some((at, failure)), ..small(seed) });
        }
    }
}

#[test]
fn power_loss_anywhere_in_longer_lives_loses_nothing_acknowledged() {
    for seed in 1000..1040 {
        let trial = Trial::new(seed, Load { clients: 4, actions: 120 });
        // Another moment for each seed, spread over the whole life.
        let at = 20 + (seed * 7919) % 300;
        lawful(&Trial { power_loss_at: Some(at), ..trial });
    }
}

/// The canary: on a device that lies about durability the laws must be seen to break.
#[test]
fn a_lying_device_is_noticed() {
    let broken = |seed: &u64| {
        let trial = Trial { honesty: Honesty::Lying, ..small(*seed) };
        !live(&trial).violations.is_empty()
    };
    let count = (1..=10).filter(broken).count();
    assert!(count >= 7, "only {count} of 10 lives showed it");
}
