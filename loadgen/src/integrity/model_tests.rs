//! The interval sets and the audit against the obvious models.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn set_of(ranges: &[(u64, u64)]) -> (IntervalSet, BTreeSet<u64>) {
    let (mut set, mut model) = (IntervalSet::default(), BTreeSet::new());
    for &(start, len) in ranges {
        set.insert_range(start..start + len);
        model.extend(start..start + len);
    }
    (set, model)
}

fn ranges() -> impl Strategy<Value = Vec<(u64, u64)>> {
    proptest::collection::vec((0u64..60, 0u64..6), 0..20)
}

proptest! {
    #[test]
    fn intervals_equal_a_plain_set(
        ranges in ranges(), values in proptest::collection::vec(0u64..70, 0..30),
    ) {
        let (mut set, mut model) = set_of(&ranges);
        for value in values {
            if set.append(value) {
                prop_assert!(model.insert(value));
            } else {
                prop_assert_eq!(set.insert(value), model.insert(value));
            }
            prop_assert_eq!(set.len(), model.len() as u64);
            prop_assert_eq!(set.end(), model.last().map_or(0, |last| last + 1));
        }
        prop_assert!((0..80).all(|value| set.contains(value) == model.contains(&value)));
        let flat: Vec<u64> = set.ranges().flatten().collect();
        prop_assert!(flat.iter().eq(model.iter()));
        let parts: Vec<_> = set.ranges().collect();
        prop_assert!(parts.windows(2).all(|pair| pair[0].end < pair[1].start));
    }

    #[test]
    fn counts_equal_set_algebra(a in ranges(), b in ranges(), c in ranges(), horizon in 0u64..70) {
        let ((a, model_a), (b, model_b), (c, model_c)) = (set_of(&a), set_of(&b), set_of(&c));
        let both: BTreeSet<u64> = model_a.intersection(&model_b).copied().collect();
        prop_assert_eq!(a.count_common(&b), both.len() as u64);
        let all = both.intersection(&model_c).count() as u64;
        prop_assert_eq!(a.count_common_of_three(&b, &c), all);
        let missing = model_a.difference(&model_b).filter(|&&value| value < horizon).count();
        prop_assert_eq!(a.count_missing_from(&b, horizon), missing as u64);
    }

    #[test]
    fn audit_equals_the_obvious_one(
        acked in ranges(), doubtful in ranges(), log in proptest::collection::vec(0u64..70, 0..90),
    ) {
        let mut ledger = Ledger::new(1, 1);
        let (mut model_acked, mut model_doubtful) = (BTreeSet::new(), BTreeSet::new());
        for (start, len) in acked {
            ledger.acked(0, 0, start..start + len);
            model_acked.extend(start..start + len);
        }
        for (start, len) in doubtful {
            ledger.in_doubt(0, 0, start..start + len);
            model_doubtful.extend(start..start + len);
        }
        let mut pass = Pass::new(0, 1);
        let (mut seen, mut expected) = (BTreeSet::new(), Counts::default());
        for &sequence in &log {
            let highest = seen.last().copied();
            pass.record(0, sequence);
            if !seen.insert(sequence) {
                expected.duplicated += 1;
            } else if highest.is_some_and(|highest| sequence < highest) {
                expected.reordered += 1;
            }
        }
        expected.lost = model_acked.difference(&seen).count() as u64;
        for sequence in seen.difference(&model_acked) {
            if model_doubtful.contains(sequence) {
                expected.in_doubt_found += 1;
            } else {
                expected.unexpected += 1;
            }
        }
        prop_assert_eq!(ledger.audit(&pass, Coverage::Whole), expected.clone());
        let end = seen.last().map_or(0, |last| last + 1);
        let missing = model_acked.range(..end).filter(|value| !seen.contains(value));
        expected.lost = missing.count() as u64;
        prop_assert_eq!(ledger.audit(&pass, Coverage::Prefix), expected);
    }
}

fn pass_of(sequences: impl IntoIterator<Item = u64>) -> Pass {
    let mut pass = Pass::new(0, 1);
    sequences.into_iter().for_each(|sequence| pass.record(0, sequence));
    pass
}

fn ledger_of(acked: Range<u64>) -> Ledger {
    let mut ledger = Ledger::new(1, 1);
    ledger.acked(0, 0, acked);
    ledger
}

#[test]
fn an_intact_log_is_ok() {
    let counts = ledger_of(0..1000).audit(&pass_of(0..1000), Coverage::Whole);
    assert_eq!(counts, Counts::default());
    assert_eq!(counts.verdict(), IntegrityVerdict::Ok);
}

#[test]
fn each_harm_is_named() {
    let ledger = ledger_of(0..10);
    let audit = |log: &[u64]| ledger.audit(&pass_of(log.iter().copied()), Coverage::Whole);
    assert_eq!(audit(&[0, 1, 2, 3, 4, 5, 6, 7, 8]).lost, 1);
    assert_eq!(audit(&[0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9]).duplicated, 1);
    assert_eq!(audit(&[0, 2, 1, 3, 4, 5, 6, 7, 8, 9]).reordered, 1);
    assert_eq!(audit(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]).unexpected, 1);
    let mut pass = pass_of(0..10);
    pass.corrupt();
    pass.record(1, 0);
    pass.offsets(0..10);
    pass.offsets(5..6);
    let counts = ledger.audit(&pass, Coverage::Whole);
    assert_eq!((counts.corrupted, counts.unexpected, counts.offsets_back), (1, 1, 1));
    assert_eq!(counts.verdict(), IntegrityVerdict::Failed);
}

#[test]
fn records_in_doubt_may_be_there_once_or_not_at_all() {
    let mut ledger = ledger_of(0..10);
    ledger.in_doubt(0, 0, 10..20);
    for log in [0..10, 0..15, 0..20] {
        let found = log.end - 10;
        let counts = ledger.audit(&pass_of(log), Coverage::Whole);
        assert_eq!((counts.verdict(), counts.in_doubt_found), (IntegrityVerdict::Ok, found));
    }
    let twice = ledger.audit(&pass_of((0..12).chain([11])), Coverage::Whole);
    assert_eq!(twice.verdict(), IntegrityVerdict::Failed);
}

#[test]
fn ledgers_of_several_threads_join() {
    let mut ledger = ledger_of(0..10);
    let mut other = Ledger::new(1, 1);
    other.acked(0, 0, 10..20);
    other.in_doubt(0, 0, 20..22);
    ledger.merge(&other);
    assert_eq!(ledger.in_doubt_records(), 2);
    let counts = ledger.audit(&pass_of(0..21), Coverage::Whole);
    assert_eq!((counts.verdict(), counts.in_doubt_found), (IntegrityVerdict::Ok, 1));
}
