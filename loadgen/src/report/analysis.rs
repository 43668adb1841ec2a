//! What a sweep says over all its runs: which cells nobody need regret, what each knob does, and
//! which setting to take for an objective.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::{Figure, Knob, Run, Set, Spread, Sweep, pareto_front};
use crate::integrity::IntegrityVerdict;
use crate::statistics::PairedRatio;
use crate::validity::ValidityVerdict;

/// Cells whose throughput is within this share of the best are as good: then CPU decides.
const AS_GOOD_PERCENT: u64 = 98;

/// What a sweep says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Analysis {
    /// Cells (indexes in [`Sweep::cells`]) that no other beats: none is as good in throughput,
    /// p99 and CPU per record, and better in one. Medians over their runs.
    pub pareto: Vec<usize>,
    /// What each value of each knob changes, all else equal.
    pub effects: Vec<Effect>,
    /// Which cell to take, where there was an objective.
    pub recommended: Option<Recommendation>,
}

/// What one value of a knob changes against the knob's first value, over all pairs of runs of the
/// same round that differ in nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Effect {
    /// The knob.
    pub knob: String,
    /// Its first value.
    pub from: String,
    /// The other.
    pub to: String,
    /// Changes, by the names of figures.
    pub changes: BTreeMap<String, Change>,
}

/// By how much a figure changed: geometric mean of the ratios, less one, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// 250,000 is a rise by a quarter.
    pub ppm: i64,
    /// Lower end of its 95 % interval; null of fewer than three pairs.
    pub low_ppm: Option<i64>,
    /// Upper end.
    pub high_ppm: Option<i64>,
    /// Pairs of runs.
    pub pairs: usize,
}

/// The cell to take for an objective.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Recommendation {
    /// The objective.
    pub slo: String,
    /// Cells all of whose runs met it and can be trusted not to be invalid, the best first: by
    /// throughput, and by CPU per record where that is as good within 2 %.
    pub cells: Vec<usize>,
    /// In a sentence.
    pub sentence: String,
}

impl Change {
    fn of(pairs: &[(f64, f64)]) -> Option<Self> {
        let found = PairedRatio::of(pairs)?;
        Some(Self {
            ppm: ppm(found.ratio),
            low_ppm: found.interval.map(|(low, _)| ppm(low)),
            high_ppm: found.interval.map(|(_, high)| ppm(high)),
            pairs: found.pairs,
        })
    }

    /// "+38 % [31, 44]"; the interval only where it is known.
    #[must_use]
    pub fn text(&self) -> String {
        let percent = |ppm: i64| (ppm + 5_000 * ppm.signum()) / 10_000;
        let middle = format!("{:+} %", percent(self.ppm));
        match self.low_ppm.zip(self.high_ppm) {
            Some((low, high)) => format!("{middle} [{}, {}]", percent(low), percent(high)),
            None => middle,
        }
    }

    /// Whether the interval leaves no change out.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.low_ppm.is_some_and(|low| low > 0) || self.high_ppm.is_some_and(|high| high < 0)
    }
}

impl Analysis {
    /// Of the runs of a sweep; none of another set.
    #[must_use]
    pub fn of(set: &Set) -> Option<Self> {
        let sweep = set.sweep.as_ref()?;
        let names = [throughput(set), Figure::named("response_p99_ns"), cpu()];
        Some(Self {
            pareto: pareto(set, sweep, names),
            effects: effects(set, sweep, names),
            recommended: recommended(set, sweep, names[0]),
        })
    }
}

/// What the runs are about: records that were acknowledged, or consumed where none were.
fn throughput(set: &Set) -> &'static Figure {
    let produced = Figure::named("records_per_s");
    match set.cells.iter().any(|run| (produced.of)(run).is_some()) {
        true => produced,
        false => Figure::named("consumed_records_per_s"),
    }
}

fn cpu() -> &'static Figure {
    Figure::named("broker_cpu_ns_per_record")
}

fn median(set: &Set, cell: usize, figure: &Figure) -> Option<u64> {
    Spread::of(set.runs_of(cell).filter_map(figure.of)).map(|spread| spread.median)
}

/// The unbeaten cells. A figure that no cell has does not count; a cell without one that others
/// have cannot be compared.
fn pareto(set: &Set, sweep: &Sweep, figures: [&Figure; 3]) -> Vec<usize> {
    let cells = 0..sweep.cells.len();
    let known = figures.map(|figure| set.cells.iter().any(|run| (figure.of)(run).is_some()));
    let point = |cell: usize| {
        let mut point = [0.0; 3];
        for (at, figure) in figures.iter().enumerate().filter(|(at, _)| known[*at]) {
            let value = double(median(set, cell, figure)?);
            // Throughput should be high, the others low.
            point[at] = if at == 0 { -value } else { value };
        }
        Some((cell, point))
    };
    let (cells, points): (Vec<usize>, Vec<[f64; 3]>) = cells.filter_map(point).unzip();
    pareto_front(&points).into_iter().map(|at| cells[at]).collect()
}

fn effects(set: &Set, sweep: &Sweep, figures: [&Figure; 3]) -> Vec<Effect> {
    let mut effects = Vec::new();
    for Knob { key, values } in &sweep.vary {
        let Some((first, others)) = values.split_first() else { continue };
        for other in others {
            let pairs = pairs(set, sweep, key, first, other);
            let change = |figure: &Figure| {
                let figures = |(a, b): &(&Run, &Run)| {
                    Some((double((figure.of)(a)?), double((figure.of)(b)?)))
                };
                Change::of(&pairs.iter().filter_map(figures).collect::<Vec<_>>())
            };
            let changes =
                figures.iter().filter_map(|figure| Some((figure.name.to_owned(), change(figure)?)));
            let changes: BTreeMap<String, Change> = changes.collect();
            if !changes.is_empty() {
                let (knob, from, to) = (key.clone(), first.clone(), other.clone());
                effects.push(Effect { knob, from, to, changes });
            }
        }
    }
    effects
}

/// Runs of the same round that differ in this knob alone.
fn pairs<'a>(
    set: &'a Set,
    sweep: &Sweep,
    key: &str,
    from: &str,
    to: &str,
) -> Vec<(&'a Run, &'a Run)> {
    let value = |cell: usize| sweep.cells.get(cell).and_then(|cell| cell.get(key));
    let run_of = |cell: usize, round: u32| {
        let mut attempts = sweep.attempts.iter();
        let found = attempts.find(|attempt| attempt.cell == cell && attempt.round == round);
        set.cells.get(found?.run?)
    };
    let firsts = sweep
        .attempts
        .iter()
        .filter(|attempt| value(attempt.cell).is_some_and(|value| value == from));
    let pair = |attempt: &super::Attempt| {
        let mut wanted = sweep.cells.get(attempt.cell)?.clone();
        wanted.insert(key.to_owned(), to.to_owned());
        let other = sweep.cells.iter().position(|cell| *cell == wanted)?;
        Some((set.cells.get(attempt.run?)?, run_of(other, attempt.round)?))
    };
    firsts.filter_map(pair).collect()
}

fn recommended(set: &Set, sweep: &Sweep, rate: &Figure) -> Option<Recommendation> {
    let slo = set.cells.iter().find(|run| !run.slo.is_empty()).map(|run| {
        let texts: Vec<&str> = run.slo.iter().map(|outcome| outcome.expression.as_str()).collect();
        texts.join(",")
    })?;
    let good = |run: &Run| {
        !run.slo.is_empty()
            && run.slo.iter().all(|outcome| outcome.met)
            && run.validity.verdict != ValidityVerdict::Invalid
            && run.integrity.verdict != IntegrityVerdict::Failed
    };
    let mut cells: Vec<(usize, u64, u64)> = (0..sweep.cells.len())
        .filter(|&cell| set.runs_of(cell).next().is_some() && set.runs_of(cell).all(good))
        .filter_map(|cell| {
            let cost = median(set, cell, cpu()).unwrap_or(u64::MAX);
            Some((cell, median(set, cell, rate)?, cost))
        })
        .collect();
    cells.sort_by_key(|&(_, rate, _)| std::cmp::Reverse(rate));
    let best = cells.first().map_or(0, |&(_, rate, _)| rate);
    let good_enough = best.saturating_mul(AS_GOOD_PERCENT) / 100;
    let equals = cells.iter().take_while(|&&(_, rate, _)| rate >= good_enough).count();
    cells[..equals].sort_by_key(|&(_, _, cost)| cost);
    let sentence = match cells.first() {
        None => format!("no cell met {slo} in all of its runs"),
        Some(&(cell, rate, _)) => {
            let settings = sweep.vary.iter().filter_map(|knob| {
                Some(format!("{}={}", knob.key, sweep.cells[cell].get(&knob.key)?))
            });
            format!(
                "for {slo} take {}: {} records/s{}",
                settings.collect::<Vec<_>>().join(" "),
                super::Unit::PerSecond.show(Some(rate)),
                match equals {
                    0 | 1 => String::new(),
                    _ => format!(" (of {equals} cells that are as fast, the least CPU)"),
                }
            )
        }
    };
    let cells = cells.into_iter().map(|(cell, ..)| cell).collect();
    Some(Recommendation { slo, cells, sentence })
}

#[allow(clippy::cast_precision_loss, reason = "figures of runs are far below 2^53")]
fn double(value: u64) -> f64 {
    value as f64
}

#[allow(clippy::cast_possible_truncation, reason = "float to integer casts saturate")]
fn ppm(ratio: f64) -> i64 {
    ((ratio - 1.0) * 1e6).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Attempt, fixture};
    use crate::slo::SloOutcome;

    /// acks (a slow, b fast) x batch (1, 2), three rounds. The rate doubles with the batch, p99
    /// depends on acks, CPU on the batch.
    fn sweep() -> Set {
        let knob = |key: &str, values: [&str; 2]| Knob {
            key: key.to_owned(),
            values: values.map(str::to_owned).into(),
        };
        let vary = vec![knob("acks", ["a", "b"]), knob("batch", ["1", "2"])];
        let mut set = Set::new(Vec::new());
        let (mut cells, mut attempts) = (Vec::new(), Vec::new());
        for (acks, p99) in [("a", 4_000_000u64), ("b", 1_000_000)] {
            for (batch, factor) in [("1", 1u64), ("2", 2)] {
                let pairs = [("acks", acks), ("batch", batch)];
                let settings = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
                cells.push(BTreeMap::from(settings));
                for round in 0..3u32 {
                    let mut run = fixture();
                    let noise = 1_000 + u64::from(round);
                    run.load.achieved_records_per_s = Some(100 * factor * noise);
                    run.efficiency.broker_cpu_ns_per_record = Some(1_000 / factor);
                    run.validity.verdict = ValidityVerdict::Valid;
                    if let Some(response) = &mut run.latency_ns.response {
                        response.p99 = Some(p99 + u64::from(round));
                    }
                    let met = p99 < 2_000_000;
                    let expression = "p99<2ms".to_owned();
                    run.slo = vec![SloOutcome { expression, met, actual: None, why: None }];
                    set.cells.push(run);
                    let run = Some(set.cells.len() - 1);
                    attempts.push(Attempt { cell: cells.len() - 1, round, run, error: None });
                }
            }
        }
        let (repeat, order_seed, interrupted) = (3, 1, false);
        set.sweep = Some(Sweep { vary, cells, repeat, order_seed, interrupted, attempts });
        set
    }

    #[test]
    fn effects_are_those_of_one_knob_alone() {
        let analysis = Analysis::of(&sweep()).expect("a sweep");
        let [acks, batch] = &analysis.effects[..] else { panic!("{analysis:#?}") };
        assert_eq!((acks.knob.as_str(), acks.from.as_str(), acks.to.as_str()), ("acks", "a", "b"));
        assert_eq!(acks.changes["records_per_s"].ppm, 0);
        let p99 = acks.changes["response_p99_ns"];
        assert!((p99.ppm + 750_000).abs() < 10 && p99.is_certain() && p99.pairs == 6, "{p99:?}");
        assert_eq!(p99.text(), "-75 % [-75, -75]");
        assert_eq!(batch.changes["records_per_s"].text(), "+100 % [100, 100]");
        assert_eq!(batch.changes["broker_cpu_ns_per_record"].ppm, -500_000);
        assert_eq!(batch.changes["response_p99_ns"].ppm, 0);
    }

    #[test]
    fn the_unbeaten_cell_is_recommended_if_all_its_runs_met_the_objective() {
        let mut set = sweep();
        let analysis = Analysis::of(&set).expect("a sweep");
        assert_eq!(analysis.pareto, [3]);
        let recommended = analysis.recommended.expect("there is an objective");
        assert_eq!(recommended.cells, [3, 2]);
        assert!(recommended.sentence.starts_with("for p99<2ms take acks=b batch=2: 200"));
        set.cells[10].validity.verdict = ValidityVerdict::Invalid;
        let analysis = Analysis::of(&set).expect("a sweep");
        assert_eq!(analysis.recommended.expect("an objective").cells, [2]);
        set.cells.iter_mut().for_each(|run| run.slo[0].met = false);
        let analysis = Analysis::of(&set).expect("a sweep");
        let recommended = analysis.recommended.expect("an objective");
        assert_eq!(recommended.sentence, "no cell met p99<2ms in all of its runs");
        set.cells.iter_mut().for_each(|run| run.slo.clear());
        assert_eq!(Analysis::of(&set).expect("a sweep").recommended, None);
        assert_eq!(Analysis::of(&Set::new(Vec::new())), None);
    }

    #[test]
    fn as_fast_cells_are_told_apart_by_what_they_cost() {
        let mut set = sweep();
        for run in &mut set.cells {
            run.load.achieved_records_per_s = Some(1_000);
            run.slo[0].met = true;
        }
        let recommended = Analysis::of(&set).expect("a sweep").recommended.expect("an objective");
        assert_eq!(recommended.cells[..2], [1, 3], "half the CPU");
        assert!(recommended.sentence.contains("of 4 cells"), "{}", recommended.sentence);
    }

    #[test]
    fn changes_are_rounded_to_per_cent() {
        let change = |ppm| Change { ppm, low_ppm: None, high_ppm: None, pairs: 2 };
        assert_eq!((change(14_999).text(), change(-15_000).text()), ("+1 %".into(), "-2 %".into()));
        assert!(!change(500_000).is_certain());
    }
}
