//! Schedules against their definitions.

use super::*;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
const SPAN: Span = Span { start_ns: 1_000, open_ns: SECOND, close_ns: 11 * SECOND };

fn schedule(text: &str, index: u32, of: u32) -> Schedule {
    let arrivals = text.parse().expect("well-formed");
    Schedule::new(&arrivals, SPAN, Member { index, of }, 5)
}

/// The times of all producers together, up to the end of the span.
fn all(text: &str, of: u32) -> Vec<u64> {
    let mut times: Vec<u64> = (0..of)
        .flat_map(|index| {
            let mut schedule = schedule(text, index, of);
            std::iter::from_fn(move || schedule.take_due(SPAN.close_ns - 1))
        })
        .collect();
    times.sort_unstable();
    times
}

proptest! {
    #[test]
    fn constant_times_are_those_of_the_formula(
        start in 0u64..1 << 50, rate in 1u64..10_000_000, producers in 1u32..200, pick: u32,
    ) {
        let index = pick % producers;
        let span = Span { start_ns: start, ..SPAN };
        let arrivals = Arrivals::Constant { rate };
        let mut schedule = Schedule::new(&arrivals, span, Member { index, of: producers }, 0);
        let ahead = schedule.clone();
        for k in 0..500u128 {
            let global = k * u128::from(producers) + u128::from(index);
            let due = u128::from(start) + global * u128::from(SECOND) / u128::from(rate);
            prop_assert_eq!(u128::from(ahead.due_ns(u64::try_from(k).expect("small"))), due);
            prop_assert_eq!(schedule.take_due(u64::MAX).map(u128::from), Some(due));
        }
    }

    #[test]
    fn looking_ahead_is_taking(index in 0u32..3, ahead in 0u64..300, which in 0usize..4) {
        let text = ["poisson:9000", "burst:10@1ms", "steps:100,10k", "constant:70"][which];
        let mut schedule = schedule(text, index, 3);
        let due = schedule.due_ns(ahead);
        (0..ahead).for_each(|_| assert!(schedule.take_due(u64::MAX).is_some()));
        prop_assert_eq!(schedule.next_ns(), due);
    }
}

#[test]
fn nothing_is_due_early_and_nothing_is_skipped_late() {
    let mut schedule = schedule("1M", 0, 1);
    assert_eq!(schedule.take_due(999), None);
    assert_eq!(schedule.take_due(1_000), Some(1_000));
    assert_eq!(schedule.take_due(1_999), None);
    // A stall of five records' time leaves five records due at their own times.
    let late: Vec<_> = std::iter::from_fn(|| schedule.take_due(6_500)).collect();
    assert_eq!(late, [2_000, 3_000, 4_000, 5_000, 6_000]);
}

#[test]
fn poisson_arrivals_are_independent_and_as_many_as_asked_for() {
    for producers in [1, 7] {
        let times = all("poisson:10k", producers);
        let count = times.len() as f64;
        // 110,000 expected, with a deviation of 332.
        assert!((count - 110_000.0).abs() < 1_500.0, "{count}");
        let gaps: Vec<f64> =
            times.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 100_000.0).collect();
        let mean = gaps.iter().sum::<f64>() / count;
        let square = gaps.iter().map(|gap| gap * gap).sum::<f64>() / count;
        // Of exponential gaps the mean square is twice the square of the mean.
        assert!((mean - 1.0).abs() < 0.02 && (square - 2.0).abs() < 0.08, "{mean} {square}");
    }
    assert_eq!(all("poisson:1k", 2), all("poisson:1k", 2));
}

#[test]
fn a_seed_gives_these_times_for_ever() {
    let mut schedule = schedule("poisson:10k", 1, 2);
    let times: Vec<_> = std::iter::from_fn(|| schedule.take_due(u64::MAX)).take(4).collect();
    assert_eq!(times, [119_558, 665_515, 795_423, 1_386_142]);
}

#[test]
fn bursts_come_whole_and_are_dealt_out() {
    let times = all("burst:10@500ms", 4);
    assert_eq!(times.len(), 10 * 22);
    assert!(times[..10].iter().all(|&time| time == SPAN.start_ns), "{times:?}");
    assert!(times[10..20].iter().all(|&time| time == SPAN.start_ns + SECOND / 2));
    // More producers than records: some have nothing to do.
    assert_eq!(all("burst:2@1s", 3).len(), 2 * 11);
    assert_eq!(schedule("burst:2@1s", 2, 3).take_due(u64::MAX), None);
}

#[test]
fn steps_follow_each_other_within_the_measured_time() {
    for producers in [1, 3] {
        let times = all("steps:1k,3k,500,2k", producers);
        let between =
            |from: u64, to: u64| times.iter().filter(|&&time| (from..to).contains(&time)).count();
        let near = |found: usize, wanted: usize| {
            assert!(found.abs_diff(wanted) <= 2, "{found}, not {wanted}");
        };
        near(between(0, SECOND), 1_000);
        for (index, wanted) in (0..).zip([2_500, 7_500, 1_250, 5_000]) {
            let from = SECOND + index * 2_500_000_000;
            near(between(from, from + 2_500_000_000), wanted);
        }
    }
}

#[test]
fn ramps_hold_then_rise_or_fall_evenly() {
    for (text, flat, first_half, second_half) in
        [("ramp:1k..3k", 1_000, 7_500, 12_500), ("ramp:3k..1k", 3_000, 12_500, 7_500)]
    {
        for producers in [1, 3] {
            let times = all(text, producers);
            let between = |from: u64, to: u64| {
                times.iter().filter(|&&time| (from..to).contains(&time)).count()
            };
            let near = |found: usize, wanted: usize| {
                assert!(found.abs_diff(wanted) <= 2, "{text}: {found}, not {wanted}");
            };
            near(between(0, SECOND), flat);
            near(between(SECOND, 6 * SECOND), first_half);
            near(between(6 * SECOND, 11 * SECOND), second_half);
        }
    }
    // Carried on beyond its end, a fall comes to a stop.
    let mut falling = schedule("ramp:100..1", 0, 1);
    assert!(std::iter::from_fn(|| falling.take_due(u64::MAX)).count() < 700);
}

#[test]
fn traces_are_played_once_and_exactly() {
    let times = parse_trace("# three\n0\n0.000125\n\n0.000125\n2.5\n").expect("good");
    assert_eq!(*times, [0, 125_000, 125_000, 2_500_000_000]);
    let arrivals = Arrivals::Trace(times);
    let mut first = Schedule::new(&arrivals, SPAN, Member { index: 0, of: 2 }, 0);
    let taken: Vec<_> = std::iter::from_fn(|| first.take_due(u64::MAX)).collect();
    assert_eq!(taken, [1_000, 126_000]);
    assert_eq!(first.next_ns(), u64::MAX);
    for (text, says) in [
        ("", "holds no record"),
        ("1\nx", "line 2 of the trace is \"x\""),
        ("2\n1", "line 2 of the trace is before"),
        ("0.0000000001", "no seconds"),
        ("-1", "no seconds"),
    ] {
        let error = parse_trace(text).expect_err(text).to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
}

#[test]
fn arrivals_are_read_and_told() {
    for (text, told, rate) in [
        ("200k", "200000", 200_000),
        ("1_000", "1000", 1_000),
        ("constant:2M", "2000000", 2_000_000),
        ("poisson:5", "poisson:5", 5),
        ("burst:1k@100ms", "burst:1000@100ms", 10_000),
        ("ramp:10k..20k", "ramp:10000..20000", 15_000),
        ("steps:10k,20k,60k", "steps:10000,20000,60000", 30_000),
    ] {
        let arrivals: Arrivals = text.parse().expect(text);
        assert_eq!((arrivals.to_string().as_str(), arrivals.rate(SECOND)), (told, rate));
        assert_eq!(told.parse::<Arrivals>(), Ok(arrivals));
    }
    for (text, says) in [
        ("0", "from 1 to"),
        ("fast", "from 1 to"),
        ("2000M", "from 1 to"),
        ("stairs:5", "there are no stairs arrivals"),
        ("burst:5", "burst:RECORDS@PERIOD"),
        ("burst:5@soon", "the period of bursts"),
        ("burst:5@0s", "above zero"),
        ("ramp:5", "ramp:FROM..TO"),
        ("steps:5", "from 2 to 16 rates"),
        ("trace:/no/such/file", "cannot be read"),
    ] {
        let error = text.parse::<Arrivals>().expect_err(text).to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
}
