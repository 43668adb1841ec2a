//! Bugs that were, each with its story and the life that showed it.

use broker::io::sim::Failure;
use engine::port::Fault;
use pelton_tests::check::{Bounds, Trial, live};
use pelton_tests::workload::Load;

fn assert_lawful(trial: &Trial) {
    let violations = live(trial).violations;
    assert!(violations.is_empty(), "{}\nagain: {}", violations.join("\n"), trial.command());
}

/// After a journal write had failed, a frame that was written and waited for its flush kept its
/// deadline, which lay in the past, but no flush was ever submitted again: the shard turned for
/// ever without anything to do, at 100 % of a core.
#[test]
fn a_shard_whose_device_failed_does_not_spin() {
    for at in [18, 19, 20, 27, 29, 30, 32, 38, 43, 44] {
        let failure = Some((at, Failure::Fault(Fault::EIO)));
        for seed in 1..=4 {
            let load = Load { clients: 4, actions: 60 };
            assert_lawful(&Trial { failure, rebirths: 1, ..Trial::new(seed, load) });
        }
    }
}

/// The world took a client that went away with unread replies for one that might still read:
/// the broker's send then waited for ever, and its buffers with it. The laws called that a leak
/// of the broker's. A kernel answers with a reset, and so does the simulator now.
#[test]
fn a_client_that_leaves_unread_replies_frees_them() {
    for seed in [1007, 1011, 1016, 1017] {
        let load = Load { clients: 4, actions: 250 };
        assert_lawful(&Trial { rebirths: 0, ..Trial::new(seed, load) });
    }
}

/// Runs of three segments were in flight when the power went; the first was lost, the others were
/// not. Recovery asked only whether the newest segment continued the one before it, and took all
/// of them: behind the hole it found the records there already, and left out those that the
/// journal held for it. Now it walks back until a watermark shows that nothing is missing.
#[test]
fn a_hole_three_segments_back_is_noticed() {
    for (seed, at) in [(20_009, 200), (6004, 60)] {
        let load = Load { clients: 5, actions: 150 };
        let trial = Trial { power_loss_at: Some(at), rebirths: 2, ..Trial::new(seed, load) };
        assert_lawful(&Trial { bounds: Bounds::Varied, ..trial });
    }
}
