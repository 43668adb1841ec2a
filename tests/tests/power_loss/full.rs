//! A device without space refuses new records up front, keeps what it acknowledged, and takes
//! records again once there is space.

use engine::Settings;
use engine::settings::PROBE_SPACE_NS;
use pelton_tests::model::Fate;
use pelton_tests::reader::records_of;

use crate::life::Life;

/// Long enough to go straight to the segment.
const RECORD_BYTES: usize = 9_000;

#[test]
fn a_full_device_refuses_and_goes_on_when_there_is_space() {
    let mut life = Life::begin(Settings::tiny());
    let used: usize = life.world.disk().files().map(|(_, bytes)| bytes.len()).sum();
    life.world.disk().plan().space_bytes = Some(used + 800 * 1024);
    let mut acked = 0;
    let mut refused = 0;
    for _ in 0..200 {
        let asked = life.world.now();
        match life.produce(RECORD_BYTES) {
            Some(Fate::Acked(_)) => acked += 1,
            // The model takes every storage error for an open end. The first was taken in before
            // the device said no.
            Some(Fate::InDoubt) => {
                refused += 1;
                let at_once = life.world.now().since(asked) < 10_000_000;
                assert!(at_once || refused == 1, "refused at once");
            }
            other => panic!("neither taken nor refused: {other:?}"),
        }
        if refused > 3 {
            break;
        }
    }
    assert!(acked > 10 && refused > 3, "{acked} taken, {refused} refused");
    // Reading and deleting go on.
    let records = records_of(&mut life.world, life.place).len();
    assert!(records >= acked, "{records} are there of {acked}");
    let (now, places) = (life.world.now(), [life.place]);
    life.client.delete_records(now, &mut life.model, &places, 2);
    life.until(|life| life.client.in_flight() == 0);
    assert_eq!(life.model.start(life.place), 2, "records were deleted");
    life.world.disk().plan().space_bytes = None;
    let asked_again = life.world.now().plus_ns(2 * PROBE_SPACE_NS);
    let mut goes_on = false;
    while !goes_on && life.world.now() < asked_again {
        goes_on = matches!(life.produce(RECORD_BYTES), Some(Fate::Acked(_)));
    }
    assert!(goes_on, "there is space, and nothing is taken");
    assert!(life.model.violations().is_empty(), "{:?}", life.model.violations());
}
