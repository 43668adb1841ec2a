//! Two arms of runs: what chance leaves of their differences.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::report::{Figure, Run, Spread, Unit};
use crate::statistics::{
    Better, Evidence, SIGNIFICANCE, Stretches, Verdict, holm, judge, runs_decidable, runs_needed,
};

/// The figures that are weighed. The more there are, the surer each has to be.
const HEADLINES: [(&str, Better); 8] = [
    ("records_per_s", Better::Higher),
    ("consumed_records_per_s", Better::Higher),
    ("response_p50_ns", Better::Lower),
    ("response_p99_ns", Better::Lower),
    ("response_p999_ns", Better::Lower),
    ("e2e_p50_ns", Better::Lower),
    ("e2e_p99_ns", Better::Lower),
    ("broker_cpu_ns_per_record", Better::Lower),
];

/// One figure of both arms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Weighed {
    /// Its name.
    pub name: String,
    /// Its unit.
    pub unit: Unit,
    /// Over the runs of A.
    pub a: Option<Spread>,
    /// Over the runs of B.
    pub b: Option<Spread>,
    /// B / A, of the means over runs; null (as all below) with fewer than two runs of an arm.
    pub ratio_ppm: Option<u64>,
    /// Lower end of its 95 % interval.
    pub ratio_low_ppm: Option<u64>,
    /// Upper end.
    pub ratio_high_ppm: Option<u64>,
    /// Of the permutation test, corrected for the number of figures.
    pub p_ppm: Option<u64>,
    /// By how much two equal arms would seem to differ, 19 times of 20.
    pub noise_floor_ppm: Option<u64>,
    /// What may be said of B.
    pub verdict: Verdict,
    /// Runs of each arm that would about decide; null where it is decided.
    pub runs_needed: Option<u32>,
}

/// Weighs the headline figures that both arms have. `margin` is the share that does not matter.
#[must_use]
pub fn weigh(a: &[&Run], b: &[&Run], margin: f64, seed: u64) -> Vec<Weighed> {
    let found: Vec<_> = HEADLINES
        .iter()
        .map(|&(name, better)| (Figure::named(name), better))
        .map(|(figure, better)| (figure, better, arm(figure, a), arm(figure, b)))
        .filter(|(_, _, a, b)| !a.is_empty() && !b.is_empty())
        .collect();
    let evidence: Vec<Option<Evidence>> =
        found.iter().map(|(_, _, a, b)| Evidence::of(a, b, seed)).collect();
    let corrected = holm(&evidence.iter().flatten().map(|known| known.p).collect::<Vec<_>>());
    let decidable = runs_decidable(corrected.len());
    let mut corrected = corrected.into_iter();
    let mut weighed = Vec::with_capacity(found.len());
    for ((figure, better, a_runs, b_runs), evidence) in found.iter().zip(evidence) {
        let mut row = bare(figure, a, b);
        if let Some((known, p)) = evidence.and_then(|known| Some((known, corrected.next()?))) {
            row.verdict = judge(&known, p, *better, margin);
            row.ratio_ppm = ppm(known.interval.ratio);
            row.ratio_low_ppm = ppm(known.interval.low);
            row.ratio_high_ppm = ppm(known.interval.high);
            row.p_ppm = ppm(p);
            row.noise_floor_ppm = ppm(known.noise_floor);
            if row.verdict == Verdict::Inconclusive {
                row.runs_needed = runs_needed(a_runs, b_runs, known.interval.ratio, margin)
                    .map(|runs| runs.max(decidable));
            }
        }
        weighed.push(row);
    }
    weighed
}

impl Weighed {
    /// Whether B / A is certainly below this ratio.
    #[must_use]
    pub fn is_below(&self, ratio: f64) -> bool {
        self.is_shown() && self.ratio_high_ppm.zip(ppm(ratio)).is_some_and(|(high, at)| high < at)
    }

    /// Whether B / A is certainly above this ratio.
    #[must_use]
    pub fn is_above(&self, ratio: f64) -> bool {
        self.is_shown() && self.ratio_low_ppm.zip(ppm(ratio)).is_some_and(|(low, at)| low > at)
    }

    fn is_shown(&self) -> bool {
        self.p_ppm.zip(ppm(SIGNIFICANCE)).is_some_and(|(p, most)| p < most)
    }
}

fn bare(figure: &Figure, a: &[&Run], b: &[&Run]) -> Weighed {
    let spread = |runs: &[&Run]| Spread::of(runs.iter().filter_map(|run| (figure.of)(run)));
    Weighed {
        name: figure.name.to_owned(),
        unit: figure.unit,
        a: spread(a),
        b: spread(b),
        ratio_ppm: None,
        ratio_low_ppm: None,
        ratio_high_ppm: None,
        p_ppm: None,
        noise_floor_ppm: None,
        verdict: Verdict::Inconclusive,
        runs_needed: None,
    }
}

/// The figure of each run that has it; of the rate, by stretches.
fn arm(figure: &Figure, runs: &[&Run]) -> Vec<Stretches> {
    let known = runs.iter().filter_map(|run| Some((run, (figure.of)(run)?)));
    known
        .map(|(run, value)| stretches(figure, run).unwrap_or_else(|| vec![double(value)]))
        .collect()
}

fn stretches(figure: &Figure, run: &Run) -> Option<Stretches> {
    let series = run.series.as_ref().filter(|_| figure.name == "records_per_s")?;
    let rates = series.acked_records.iter().map(|&records| double(records) / series.interval_s());
    Some(rates.collect()).filter(|rates: &Stretches| rates.iter().any(|&rate| rate > 0.0))
}

#[allow(clippy::cast_precision_loss, reason = "figures are measured to far fewer digits")]
fn double(figure: u64) -> f64 {
    figure as f64
}

fn ppm(share: f64) -> Option<u64> {
    share.is_finite().then(|| crate::latency::whole(share * 1e6))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::report::fixture;

    /// Runs of this rate, with 2 % deviation.
    fn arm_of(rate: u64, count: u32, random: &mut Random) -> Vec<Run> {
        (0..count)
            .map(|_| {
                let mut run = fixture();
                let noisy = crate::latency::whole(double(rate) * (1.0 + 0.02 * random.normal()));
                run.load.achieved_records_per_s = Some(noisy);
                run
            })
            .collect()
    }

    #[test]
    fn a_slower_arm_is_worse_and_a_missing_figure_is_left_out() {
        let mut random = Random::new(3);
        let (a, b) = (arm_of(100_000, 8, &mut random), arm_of(80_000, 8, &mut random));
        let (a, b): (Vec<&Run>, Vec<&Run>) = (a.iter().collect(), b.iter().collect());
        let weighed = weigh(&a, &b, 0.05, 1);
        let names: Vec<&str> = weighed.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["records_per_s", "response_p50_ns", "response_p99_ns"]);
        let (rate, p50) = (&weighed[0], &weighed[1]);
        assert_eq!((rate.verdict, p50.verdict), (Verdict::Worse, Verdict::Same), "{weighed:#?}");
        assert!(rate.is_below(0.9) && !rate.is_below(0.7) && !rate.is_above(0.9));
        assert!(!p50.is_above(1.01), "equal to the last digit");
        let single = weigh(&a[..1], &b, 0.05, 1);
        assert_eq!((single[0].verdict, single[0].ratio_ppm), (Verdict::Inconclusive, None));
    }
}
