//! Two cells side by side: their figures, the limits beside them, and what may be concluded.

use serde::Serialize;
use std::collections::BTreeMap;

use super::arms::{Weighed, weigh};
use super::cell::Cell;
use crate::report::{
    FIGURES, Figure, Limit, Run, SPREAD_REPEATS_MIN, Spread, Unit, ratio_hundredths,
};

/// Limits that differ by more than this (per cent) say that the machine was not the same.
const DRIFT_PERCENT_MAX: u64 = 20;
/// Limits that differ by more than this (per cent) leave not even ratios to them.
const DRIFT_PERCENT_VOID: u64 = 100;

/// Differences up to this share do not matter.
const MARGIN: f64 = 0.05;
/// The same files give the same intervals.
const WEIGH_SEED: u64 = 1;

/// What may be said of two figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    /// All repeats of B lie above all of A.
    Higher,
    /// All repeats of B lie below all of A.
    Lower,
    /// The repeats of A and B overlap.
    WithinSpread,
    /// There are too few repeats to tell a difference from chance.
    SpreadUnknown,
    /// The machine was not the same.
    Void,
    /// It is not in both.
    Missing,
}

/// One figure of both cells.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// Its name.
    pub name: String,
    /// Its unit.
    pub unit: Unit,
    /// Over the repeats of A.
    pub a: Option<Spread>,
    /// Over the repeats of B.
    pub b: Option<Spread>,
    /// B / A, of the medians, in hundredths.
    pub ratio_hundredths: Option<u64>,
    /// What may be said.
    pub judgement: Judgement,
}

/// Two cells.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    /// What tells this pair from the others.
    pub cell: BTreeMap<String, String>,
    /// Runs of A and B that count.
    pub repeats: [usize; 2],
    /// Runs of A and B that are invalid and left out.
    pub invalid: [usize; 2],
    /// Why figures cannot be compared as they are; null if they can.
    pub absolute_void: Option<String>,
    /// Why not even ratios to the limit can be compared; null if they can.
    pub relative_void: Option<String>,
    /// What must be known besides.
    pub notes: Vec<String>,
    /// The figures.
    pub figures: Vec<Compared>,
    /// What chance leaves of the differences of the most important ones, for a margin of 5 %; empty
    /// with fewer than two runs of either, or where the machine was not the same.
    pub weighed: Vec<Weighed>,
}

/// How much the machine has changed between two cells.
enum Drift {
    None,
    Unknown(String),
    Some { percent: u64, sentence: String },
}

impl Pair {
    pub(super) fn new(key: BTreeMap<String, String>, a: &Cell<'_>, b: &Cell<'_>) -> Self {
        let mut notes = Vec::new();
        let (mut absolute_void, mut relative_void) = (None, None);
        match drift(a, b) {
            Drift::None => {}
            Drift::Unknown(sentence) => {
                notes.push(sentence.clone());
                relative_void = Some(sentence);
            }
            Drift::Some { percent, sentence } => {
                if percent > DRIFT_PERCENT_VOID {
                    relative_void = Some(sentence.clone());
                }
                absolute_void = Some(sentence);
            }
        }
        let repeats = [a.runs.len(), b.runs.len()];
        if repeats.iter().any(|&count| count < SPREAD_REPEATS_MIN) {
            notes.push(format!(
                "spread unknown: {} and {} run(s), but at least {SPREAD_REPEATS_MIN} of each are \
                 needed to tell a difference from chance",
                repeats[0], repeats[1]
            ));
        }
        let is_void = |figure: &Figure| match figure.name {
            "limit_hundredths" => relative_void.is_some(),
            _ => absolute_void.is_some() && !figure.is_floor() && depends_on_machine(figure),
        };
        let figures = FIGURES.iter().filter_map(|figure| {
            let compared = compared(figure, a, b)?;
            let void = is_void(figure) && compared.judgement != Judgement::Missing;
            Some(match void {
                true => Compared { judgement: Judgement::Void, ..compared },
                false => compared,
            })
        });
        let figures = figures.collect();
        let invalid = [a.invalid, b.invalid];
        let weighed = match absolute_void {
            None if repeats.iter().all(|&count| count >= 2) => {
                weigh(&a.runs, &b.runs, MARGIN, WEIGH_SEED)
            }
            _ => Vec::new(),
        };
        Self { cell: key, repeats, invalid, absolute_void, relative_void, notes, figures, weighed }
    }
}

/// Counts of writes and system calls per record are the same on any machine.
fn depends_on_machine(figure: &Figure) -> bool {
    !matches!(figure.unit, Unit::Thousandths | Unit::Millionths)
}

fn compared(figure: &Figure, a: &Cell<'_>, b: &Cell<'_>) -> Option<Compared> {
    let spread = |runs: &[&Run]| Spread::of(runs.iter().filter_map(|run| (figure.of)(run)));
    let (a, b) = (spread(&a.runs), spread(&b.runs));
    a.or(b)?;
    let judgement = match (a, b) {
        (None, _) | (_, None) => Judgement::Missing,
        (Some(a), Some(b)) if !a.is_known() || !b.is_known() => Judgement::SpreadUnknown,
        (Some(a), Some(b)) if a.overlaps(&b) => Judgement::WithinSpread,
        (Some(a), Some(b)) if b.median > a.median => Judgement::Higher,
        (Some(_), Some(_)) => Judgement::Lower,
    };
    Some(Compared {
        name: figure.name.to_owned(),
        unit: figure.unit,
        ratio_hundredths: a.zip(b).and_then(|(a, b)| ratio_hundredths(a.median, b.median)),
        a,
        b,
        judgement,
    })
}

/// Compares the limits that bind the two cells.
fn drift(a: &Cell<'_>, b: &Cell<'_>) -> Drift {
    let limits = |cell: &Cell<'_>| {
        let limits: Vec<Limit> = cell.runs.iter().filter_map(|run| Limit::of(run)).collect();
        let unit = limits.first().map(|limit| match limit {
            Limit::P50Ns(_) => Unit::Nanoseconds,
            Limit::BytesPerS(_) => Unit::BytesPerSecond,
        });
        unit.zip(Spread::of(limits.into_iter().map(Limit::figure)))
    };
    let (unit, a, b) = match (limits(a), limits(b)) {
        (Some((unit_a, a)), Some((unit_b, b))) if unit_a == unit_b => (unit_a, a, b),
        (Some(_), Some(_)) => {
            return Drift::Unknown(
                "the two are bound by different limits, one by latency, one by bandwidth: their \
                 ratios to it cannot be compared"
                    .to_owned(),
            );
        }
        _ => {
            return Drift::Unknown(
                "the limits of the machine were not measured beside both (see --floor): nothing \
                 shows that it was as fast for A as for B"
                    .to_owned(),
            );
        }
    };
    let (low, high) = (a.median.min(b.median), a.median.max(b.median));
    let percent = ratio_hundredths(low, high).map_or(u64::MAX, |ratio| ratio.saturating_sub(100));
    if percent <= DRIFT_PERCENT_MAX {
        return Drift::None;
    }
    let sentence = format!(
        "the limit itself was {} beside A and {} beside B, {percent} % apart: the machine was not \
         the same",
        unit.show(Some(a.median)),
        unit.show(Some(b.median)),
    );
    Drift::Some { percent, sentence }
}
