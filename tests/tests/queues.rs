//! Queues in the simulator: no seed breaks a law, and what the laws are about does happen.

use pelton_tests::canary::Canary;
use pelton_tests::queue_life::{QueueLife, Seen};

#[test]
fn no_seed_breaks_a_law_of_queues() {
    let mut all = Seen::default();
    for seed in 1..=12 {
        let (wrong, seen) = QueueLife::live(seed, &[1], 250, 4);
        assert!(wrong.is_empty(), "seed {seed}: {}", wrong.join("\n  "));
        all.confirmed += seen.confirmed;
        all.redelivered += seen.redelivered;
        all.accepted += seen.accepted;
        all.buried += seen.buried;
        all.checkpoints += seen.checkpoints;
        all.disk_reads += seen.disk_reads;
        all.retired += seen.retired;
        all.routed += seen.routed;
        all.letters += seen.letters;
        all.turned_away += seen.turned_away;
        all.owns = [all.owns[0] + seen.owns[0], all.owns[1] + seen.owns[1]];
    }
    let happened = [all.confirmed, all.redelivered, all.accepted, all.buried, all.checkpoints];
    assert!(happened.iter().all(|&count| count > 20), "{all:?}");
    let happened = [all.routed, all.letters, all.turned_away, all.owns[0], all.owns[1]];
    assert!(happened.iter().all(|&count| count > 20), "{all:?}");
    assert!(all.disk_reads > 0 && all.retired > 0, "{all:?}");
}

#[test]
fn nor_where_shards_come_and_go_and_requests_arrive_anywhere() {
    for seed in 1..=8 {
        let (wrong, seen) = QueueLife::live(seed, &[1, 2, 3], 150, 4);
        assert!(wrong.is_empty(), "seed {seed}: {}", wrong.join("\n  "));
        assert!(seen.confirmed > 100 && seen.accepted > 50, "seed {seed}: {seen:?}");
    }
}

/// The canary: on a device that says durable of what is not, a message comes back before the record
/// of its delivery lasts, and after the power went it was delivered less often than before. The
/// laws must be seen to break, that one among them.
#[test]
fn a_redelivery_before_its_record_is_durable_is_noticed() {
    let fell = |wrong: &String| wrong.contains("was delivered") && wrong.contains(" times, then ");
    let is_noticed = |seed: u64| {
        let wrong = QueueLife::live_with(seed, Canary::EarlyAcknowledgement, 250, 4);
        wrong.iter().any(fell)
    };
    assert!((1..=40).any(is_noticed), "no count of deliveries was seen to fall");
}
