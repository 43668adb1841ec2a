//! Cases about waiting.

use engine::port::Done;
use pelton_broker::io::Wait;

use crate::rig::Rig;

pub fn a_wait_ends_at_its_deadline(rig: &mut Rig) {
    let mut dones: Vec<Done> = Vec::new();
    let start = rig.stage.io().wait(Wait { deadline: None, eager: true }, &mut dones);
    let deadline = start.expect("works").time.plus_ns(3_000_000);
    let until = Wait { deadline: Some(deadline), eager: false };
    for _ in 0..100 {
        let now = rig.stage.io().wait(until, &mut dones).expect("works");
        if now.time >= deadline {
            assert!(dones.is_empty(), "nothing was asked for: {dones:?}");
            return;
        }
    }
    panic!("a wait comes back early now and then, not always");
}

pub fn an_eager_wait_does_not_block(rig: &mut Rig) {
    let mut dones: Vec<Done> = Vec::new();
    // With nothing to come, only a wait that does not block comes back.
    for _ in 0..100 {
        rig.stage.io().wait(Wait { deadline: None, eager: true }, &mut dones).expect("works");
    }
    assert!(dones.is_empty());
}

pub fn dones_are_appended(rig: &mut Rig) {
    let mut dones = vec![Done::Stop];
    rig.stage.connect();
    let deadline = Some(rig.now.time.plus_ns(1_000_000));
    for _ in 0..1000 {
        rig.stage.io().wait(Wait { deadline, eager: false }, &mut dones).expect("works");
        if dones.len() > 1 {
            break;
        }
    }
    assert!(matches!(dones[..], [Done::Stop, Done::Accepted { .. }]), "{dones:?}");
}
