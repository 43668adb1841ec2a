//! What may be said of two arms: better, worse, the same, or nothing yet.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bootstrap::deviation;
use super::{Interval, Stretches, noise_floor, permutation_p, ratio_interval};

/// A difference counts if chance would show it less often than this.
pub const SIGNIFICANCE: f64 = 0.05;
/// More runs than this are not asked for.
const RUNS_MAX: f64 = 1_000.0;

/// Which way a figure should go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// A rate.
    Higher,
    /// A latency or a cost.
    Lower,
}

/// What may be said of B against A.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// B is better by more than the margin.
    Better,
    /// B is worse by more than the margin.
    Worse,
    /// They differ by less than the margin.
    Same,
    /// More runs are needed.
    Inconclusive,
}

/// The figures behind a verdict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// B / A.
    pub interval: Interval,
    /// Of the permutation test.
    pub p: f64,
    /// What two equal arms would show, as a share.
    pub noise_floor: f64,
}

impl Evidence {
    /// Of two arms of at least two runs each.
    #[must_use]
    pub fn of(a: &[Stretches], b: &[Stretches], seed: u64) -> Option<Self> {
        let floor = [noise_floor(a, seed)?, noise_floor(b, seed)?];
        Some(Self {
            interval: ratio_interval(a, b, seed)?,
            p: permutation_p(a, b, seed)?,
            noise_floor: floor[0].max(floor[1]),
        })
    }
}

/// The verdict, for a margin as a share (0.05 is 5 %) and a p-value that was corrected for the
/// number of figures looked at.
///
/// Better and worse need an interval that lies beyond the margin, a small p-value and a ratio
/// beyond the noise; the same needs an interval within the margin.
#[must_use]
pub fn judge(evidence: &Evidence, corrected_p: f64, better: Better, margin: f64) -> Verdict {
    let Interval { ratio, low, high } = evidence.interval;
    let (under, over) = (1.0 / (1.0 + margin), 1.0 + margin);
    if under <= low && high <= over {
        return Verdict::Same;
    }
    let shown = corrected_p < SIGNIFICANCE && ratio.ln().abs() > evidence.noise_floor.ln_1p();
    match (shown, low > over, high < under) {
        (true, true, _) if better == Better::Higher => Verdict::Better,
        (true, true, _) => Verdict::Worse,
        (true, _, true) if better == Better::Higher => Verdict::Worse,
        (true, _, true) => Verdict::Better,
        _ => Verdict::Inconclusive,
    }
}

/// With fewer runs of each arm not even the clearest difference in one of so many figures can be
/// told from chance.
#[must_use]
pub fn runs_decidable(figures: usize) -> u32 {
    #[allow(clippy::cast_precision_loss, reason = "there are few figures")]
    let figures = figures as f64;
    // Ways of dealing the runs out: the clearest one and its mirror speak for a difference.
    let (mut runs, mut ways) = (1, 2.0);
    while 2.0 / ways * figures >= SIGNIFICANCE {
        runs += 1;
        ways *= f64::from(2 * (2 * runs - 1)) / f64::from(runs);
    }
    runs
}

/// About how many runs of each arm would decide, if the ratio stays what it is: then the interval
/// is as narrow as the way from the ratio to the margin. At most a thousand.
#[must_use]
pub fn runs_needed(a: &[Stretches], b: &[Stretches], ratio: f64, margin: f64) -> Option<u32> {
    let spread = (deviation(a)?.powi(2) + deviation(b)?.powi(2)).sqrt();
    let way = (ratio.ln().abs() - margin.ln_1p()).abs();
    let needed = (1.96 * spread / way).powi(2) * 1.2 + 2.0;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 2 to RUNS_MAX"
    )]
    Some(needed.clamp(2.0, RUNS_MAX).ceil() as u32)
}
