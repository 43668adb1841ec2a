//! Producers that bring more than the device takes: told so, not left in silence.

use engine::Settings;
use pelton_tests::model::Fate;
use pelton_tests::sim_client::{SimClient, State};
use wire::{Acks, ErrorCode};

use crate::life::Life;

/// More than fits into memory beside each other, each within its own credit.
const CROWD: usize = 12;
/// Straight to the segment.
const RECORD_BYTES: usize = 60_000;

#[test]
fn producers_without_room_are_told_that_the_broker_is_overloaded_and_go_on_later() {
    let mut life = Life::begin(Settings::tiny());
    let mut crowd: Vec<SimClient> =
        (0..CROWD).map(|_| SimClient::connect(&mut life.world, &mut life.model)).collect();
    settle(&mut life, &mut crowd, |_, crowd| crowd.iter().all(SimClient::is_ready));
    let begins = life.world.now();
    let ends = begins.plus_ns(20_000_000_000);
    life.world.io(0).hold_files(ends);
    // What fits waits for the device; what does not is answered.
    for _ in 0..16 {
        for client in &mut crowd {
            let now = life.world.now();
            let (place, model) = ([life.place], &mut life.model);
            client.produce(now, model, &place, Acks::Durable, &[RECORD_BYTES]);
        }
    }
    let overloaded = Fate::Refused(ErrorCode::Overloaded.number());
    settle(&mut life, &mut crowd, |life, _| count(life, overloaded) > 16);
    let waited = life.world.now().since(begins);
    assert!((1_000_000_000..4_000_000_000).contains(&waited), "after {waited} ns");
    assert_eq!(life.fated(|fate| matches!(fate, Fate::Acked(_))), 0, "the device has stalled");
    assert!(life.count("requests_overloaded") > 16);
    settle(&mut life, &mut crowd, |_, crowd| crowd.iter().all(|c| c.in_flight() == 0));
    assert!(life.world.now() >= ends, "what was taken in waited for the device");
    assert!(crowd.iter().all(|client| client.state == State::Open), "nobody was thrown out");
    let acked = life.fated(|fate| matches!(fate, Fate::Acked(_)));
    let all = CROWD * 16;
    assert_eq!(acked + count(&life, overloaded), all, "each was answered");
    assert!(acked > 16, "{acked} of {all} were taken in");
    assert!(matches!(life.produce(RECORD_BYTES), Some(Fate::Acked(_))), "all is well again");
    crowd.into_iter().for_each(|mut client| client.give_up(&mut life.model));
    let violations = life.judge();
    assert!(violations.is_empty(), "{violations:?}");
}

fn count(life: &Life, wanted: Fate) -> usize {
    life.fated(|fate| fate == wanted)
}

fn settle(life: &mut Life, crowd: &mut [SimClient], is_done: impl Fn(&Life, &[SimClient]) -> bool) {
    for _ in 0..60_000 {
        for client in crowd.iter_mut() {
            client.pump(&mut life.world, &mut life.model);
        }
        if is_done(life, crowd) {
            return;
        }
        let soon = life.world.now().plus_ns(1_000_000);
        life.world.turn(Some(soon)).expect("no power loss is planned");
    }
    panic!("it never came about");
}
