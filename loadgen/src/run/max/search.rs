//! The search for the highest rate that holds: doubling, then bisection, then a long confirmation.
//!
//! No rate changes while it is measured. The search is a value that is told what became of each
//! probe; it measures nothing itself.

/// Bisection ends when the rates that hold and that do not are this close (`high / low`).
const CLOSE_ENOUGH: f64 = 1.05;
/// A rate that does not hold for long is lowered by this much.
const STEP_DOWN: f64 = 0.95;
/// Holds that are tried.
const HOLDS_MAX: u32 = 5;
/// Probes before the search gives up.
const PROBES_MAX: u32 = 40;
/// Between the lowest and the highest rate that is tried.
const RATE_MIN: f64 = 1.0;
const RATE_MAX: f64 = 1e9;

/// What to measure next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// This rate, briefly.
    Probe(u64),
    /// This rate, for long.
    Hold(u64),
    /// Nothing more.
    End,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It met the objective.
    Passed,
    /// It did not.
    Failed,
}

/// The state of a search.
#[derive(Clone, Debug)]
pub(super) struct Search {
    /// Highest rate that passed a probe, and is not known to fail for long.
    passed: Option<f64>,
    /// Lowest rate that failed.
    failed: Option<f64>,
    next: f64,
    probes: u32,
    holds: u32,
    held: Option<f64>,
}

impl Search {
    /// A search that begins with this rate.
    pub(super) fn new(first: u64) -> Self {
        let next = double(first).clamp(RATE_MIN, RATE_MAX);
        Self { passed: None, failed: None, next, probes: 0, holds: 0, held: None }
    }

    /// What to measure next.
    pub(super) fn step(&self) -> Step {
        if self.held.is_some() || self.holds == HOLDS_MAX || self.is_hopeless() {
            return Step::End;
        }
        match (self.passed, self.failed) {
            (Some(passed), Some(failed))
                if failed / passed <= CLOSE_ENOUGH || self.holds > 0 || self.is_tired() =>
            {
                Step::Hold(whole(self.next_hold(passed)))
            }
            // Even the highest rate holds.
            (Some(passed), None) if passed >= RATE_MAX || self.is_tired() => {
                Step::Hold(whole(passed))
            }
            _ => Step::Probe(whole(self.next)),
        }
    }

    /// The step's rate held, or did not.
    pub(super) fn note(&mut self, step: Step, outcome: Outcome) {
        match (step, outcome) {
            (Step::Probe(rate), Outcome::Passed) => {
                self.probes += 1;
                self.passed = Some(self.passed.map_or(double(rate), |most| most.max(double(rate))));
            }
            (Step::Probe(rate), Outcome::Failed) => {
                self.probes += 1;
                let rate = double(rate);
                self.failed = Some(self.failed.map_or(rate, |least| least.min(rate)));
            }
            (Step::Hold(rate), Outcome::Passed) => self.held = Some(double(rate)),
            (Step::Hold(rate), Outcome::Failed) => {
                self.holds += 1;
                self.failed =
                    Some(self.failed.map_or(double(rate), |least| least.min(double(rate))));
                self.passed = Some(double(rate) * STEP_DOWN);
            }
            (Step::End, _) => {}
        }
        self.next = match (self.passed, self.failed) {
            (Some(passed), Some(failed)) => (passed * failed).sqrt(),
            (Some(passed), None) => passed * 2.0,
            (None, Some(failed)) => failed / 4.0,
            (None, None) => self.next,
        }
        .clamp(RATE_MIN, RATE_MAX);
    }

    /// The rate that was confirmed, and the lowest that failed.
    pub(super) fn answer(&self) -> (Option<u64>, Option<u64>) {
        (self.held.map(whole), self.failed.map(whole))
    }

    fn next_hold(&self, passed: f64) -> f64 {
        passed.max(RATE_MIN)
    }

    fn is_tired(&self) -> bool {
        self.probes >= PROBES_MAX
    }

    /// Not even the lowest rate passes.
    fn is_hopeless(&self) -> bool {
        self.passed.is_none() && (self.failed.is_some_and(|f| f <= RATE_MIN) || self.is_tired())
    }
}

#[allow(clippy::cast_precision_loss, reason = "at most RATE_MAX")]
fn double(rate: u64) -> f64 {
    rate as f64
}

fn whole(rate: f64) -> u64 {
    crate::latency::whole(rate).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches where probes pass up to `probe` and holds up to `hold`; gives the answer and the
    /// steps.
    fn search(first: u64, probe: u64, hold: u64) -> ((Option<u64>, Option<u64>), Vec<Step>) {
        let (mut search, mut steps) = (Search::new(first), Vec::new());
        loop {
            let step = search.step();
            let passed = match step {
                Step::Probe(rate) => rate <= probe,
                Step::Hold(rate) => rate <= hold,
                Step::End => return (search.answer(), steps),
            };
            search.note(step, if passed { Outcome::Passed } else { Outcome::Failed });
            steps.push(step);
            assert!(steps.len() < 60, "{steps:?}");
        }
    }

    #[test]
    fn the_answer_is_an_interval_around_the_truth() {
        for first in [1, 1_000, 400_000, 500_000_000] {
            for truth in [50, 12_345, 420_000, 3_000_000] {
                let ((held, failed), steps) = search(first, truth, truth);
                let (held, failed) = (held.expect("it holds"), failed.expect("more does not"));
                assert!(held <= truth && truth <= failed, "{held} {truth} {failed}");
                // At such low rates whole numbers are far apart.
                assert!(failed * 100 <= held * 105 + 200, "{held} {failed}: {steps:?}");
                assert!(matches!(steps.last(), Some(Step::Hold(_))));
            }
        }
    }

    #[test]
    fn a_rate_that_does_not_last_is_lowered() {
        let ((held, failed), steps) = search(1_000, 100_000, 88_000);
        let held = held.expect("after some steps down");
        assert!((80_000..=88_000).contains(&held), "{held}");
        assert!(failed.expect("the hold above it") < 97_000);
        let holds = steps.iter().filter(|step| matches!(step, Step::Hold(_))).count();
        assert!((2..=4).contains(&holds), "{steps:?}");
        let ((held, _), _) = search(1_000, 100_000, 10);
        assert_eq!(held, None, "nothing near it holds");
    }

    #[test]
    fn hopeless_and_endless_searches_end() {
        assert_eq!(search(1_000, 0, 0).0, (None, Some(1)));
        let ((held, failed), _) = search(1_000, u64::MAX, u64::MAX);
        assert_eq!((held, failed), (Some(1_000_000_000), None));
    }
}
