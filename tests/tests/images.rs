//! Every state that a power cut can leave of one operation, recovered and judged; workloads of
//! two are for `scripts/check`, of three for `scripts/images`.

use pelton_tests::images::{Device, Examiner, Order, Tempo, Workload, flip_each};

#[test]
fn no_image_of_one_operation_loses_or_invents_anything() {
    let mut examiner = Examiner::default();
    for workload in Workload::all(1) {
        assert_eq!(examiner.examine(&workload), None);
    }
    let counts = examiner.counts;
    assert!(counts.moments > 100 && counts.images > 10_000, "{counts:?}");
    assert!(counts.recovered > 3_000 && counts.cut_off > 300, "{counts:?}");
    // The same again: nothing is random.
    let mut again = Examiner::default();
    let few = |workload: &&Workload| workload.tempo == Tempo::Step;
    for workload in Workload::all(1).iter().filter(few).take(2) {
        assert_eq!(again.examine(workload), None);
    }
    let first = again.counts;
    let mut third = Examiner::default();
    for workload in Workload::all(1).iter().filter(few).take(2) {
        assert_eq!(third.examine(workload), None);
    }
    assert_eq!(third.counts, first);
}

/// The canary: on a device that lies about durability each operation that acknowledges something
/// must be seen to break its word.
#[test]
fn a_lying_device_is_noticed() {
    let mut examiner = Examiner::new(Device::Lying);
    let is_plain = |workload: &Workload| workload.tempo == Tempo::Step;
    let mut noticed = Vec::new();
    for workload in Workload::all(1).into_iter().filter(is_plain) {
        assert_eq!(workload.order, Order::Oldest);
        if let Some(violation) = examiner.examine(&workload) {
            assert!(!violation.broken.is_empty() && !violation.fates.is_empty());
            noticed.push(workload.operations[0].name());
        }
    }
    for name in ["append", "commit", "roll", "recycle", "trim", "create", "delete"] {
        assert!(noticed.contains(&name), "only {noticed:?}");
    }
}

/// What recovery itself had written to segments was proven by no watermark, and what watermarks
/// and journal frames prove is forgotten when the ring comes round: after a clean stop, one
/// flipped bit in a partition's last frame then passed for a torn tail, and its records were gone
/// without a word. In the catalog's it was all topics, whose files recovery then deleted.
#[test]
fn a_flipped_bit_after_a_clean_stop_is_said_or_harmless() {
    for rests in [0, 2] {
        let (flips, silent) = flip_each(rests);
        assert_eq!(silent, [""; 0], "{} rests", rests);
        assert!(flips.said > 20 && flips.harmless > 20, "{flips:?}");
    }
}
