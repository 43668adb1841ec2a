//! What a sweep will do, decided and checked before anything runs.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::ServeFlags;
use super::super::choices::TargetChoice;
use super::super::options::RunArgs;
use super::knob;
use crate::report::Knob;

/// Most cells of a sweep.
pub(super) const CELLS_MAX: usize = 256;
/// Most runs of a sweep: cells times repeats.
pub(super) const RUNS_MAX: usize = 2048;
/// Starting and stopping a broker, measuring the limits, and reading back take about this long.
const RUN_OVERHEAD: Duration = Duration::from_millis(3_500);
/// About how fast preloading is.
const PRELOAD_BYTES_PER_S: u64 = 300_000_000;

/// `--vary KEY=a,b,c`. Values that hold commas are separated by semicolons.
pub(super) fn parse_vary(text: &str) -> Result<Knob, String> {
    let expected = "expected KEY=A,B,.. (or KEY=A;B;.. where values hold commas)";
    let (key, list) = text.split_once('=').ok_or(expected)?;
    let separator = if list.contains(';') { ';' } else { ',' };
    let values: Vec<String> = list.split(separator).map(|value| value.trim().to_owned()).collect();
    if key.is_empty() || values.iter().any(String::is_empty) {
        return Err(expected.to_owned());
    }
    if let Some(twice) = twice(&values) {
        return Err(format!("{twice} is there twice"));
    }
    Ok(Knob { key: key.to_owned(), values })
}

fn twice(names: &[String]) -> Option<&String> {
    (1..names.len()).find(|&at| names[..at].contains(&names[at])).map(|at| &names[at])
}

/// One combination of values.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    /// Knob -> value.
    pub(super) settings: BTreeMap<String, String>,
    /// The values in the order of the knobs.
    pub(super) values: Vec<String>,
    /// The whole run.
    pub(super) args: RunArgs,
}

/// All runs, and their order.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) knobs: Vec<Knob>,
    pub(super) cells: Vec<Cell>,
    pub(super) repeat: u32,
    pub(super) order_seed: u64,
}

impl Plan {
    /// The grid over `base`, or why it cannot be run.
    pub(super) fn new(
        knobs: Vec<Knob>,
        repeat: u32,
        order_seed: u64,
        base: &RunArgs,
        serve: &ServeFlags,
    ) -> Result<Self, String> {
        let keys: Vec<String> = knobs.iter().map(|knob| knob.key.clone()).collect();
        if let Some(twice) = twice(&keys) {
            return Err(format!("--vary names {twice} twice"));
        }
        let count =
            knobs.iter().try_fold(1usize, |count, knob| count.checked_mul(knob.values.len()));
        let count = count
            .filter(|&count| count <= CELLS_MAX)
            .ok_or_else(|| format!("that is more than {CELLS_MAX} cells: vary less at a time"))?;
        if count * repeat as usize > RUNS_MAX {
            return Err(format!(
                "{count} cells x {repeat} repeats are more than {RUNS_MAX} runs: repeat less often"
            ));
        }
        let cells = (0..count).map(|number| cell(&knobs, number, base, serve));
        let cells = cells.collect::<Result<_, _>>()?;
        Ok(Self { knobs, cells, repeat, order_seed })
    }

    /// The order of the cells in a round.
    pub(super) fn order(&self, round: u32) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.cells.len()).collect();
        let mut random = Random(self.order_seed.wrapping_add(u64::from(round) << 32));
        for last in (1..order.len()).rev() {
            order.swap(last, random.below(last + 1));
        }
        order
    }

    /// About how long all runs take.
    pub(super) fn estimate(&self) -> Duration {
        let once = self.cells.iter().map(|cell| {
            let args = &cell.args;
            let before = args.preload.unwrap_or(0) + args.beside_reader.unwrap_or(0);
            let before = Duration::from_millis(before * 1_000 / PRELOAD_BYTES_PER_S);
            args.warmup.usual() + args.duration + before + RUN_OVERHEAD
        });
        once.sum::<Duration>() * self.repeat
    }

    /// The plan in a line.
    pub(super) fn sentence(&self) -> String {
        let grid: Vec<String> = self
            .knobs
            .iter()
            .map(|knob| format!("{} ({})", knob.key, knob.values.join(", ")))
            .collect();
        let seconds = Duration::from_secs(self.estimate().as_secs().max(1));
        format!(
            "plan: {} = {} cell(s) x {} repeat(s) = {} run(s), about {}; order from seed {}",
            grid.join(" x "),
            self.cells.len(),
            self.repeat,
            self.cells.len() * self.repeat as usize,
            humantime::format_duration(seconds),
            self.order_seed,
        )
    }
}

/// Cell `number` of the grid; the last knob changes fastest.
fn cell(knobs: &[Knob], number: usize, base: &RunArgs, serve: &ServeFlags) -> Result<Cell, String> {
    let mut args = base.clone();
    let mut values = vec![String::new(); knobs.len()];
    let mut rest = number;
    for (knob, value) in knobs.iter().zip(&mut values).rev() {
        value.clone_from(&knob.values[rest % knob.values.len()]);
        rest /= knob.values.len();
    }
    for (knob, value) in knobs.iter().zip(&values) {
        knob::set(&mut args, &knob.key, value, serve)?;
    }
    let settings: BTreeMap<String, String> =
        knobs.iter().map(|knob| knob.key.clone()).zip(values.iter().cloned()).collect();
    let here = |reason: String| format!("with {}: {reason}", text(knobs, &values));
    if let Some(reason) = args.invalid() {
        return Err(here(reason));
    }
    if args.target == TargetChoice::Spawn {
        (serve.check)(&args.serve_flags()).map_err(here)?;
    }
    Ok(Cell { settings, values, args })
}

fn text(knobs: &[Knob], values: &[String]) -> String {
    let pairs = knobs.iter().zip(values).map(|(knob, value)| format!("{}={value}", knob.key));
    pairs.collect::<Vec<_>>().join(" ")
}

impl Cell {
    /// `KEY=VALUE ..`.
    pub(super) fn name(&self, knobs: &[Knob]) -> String {
        text(knobs, &self.values)
    }
}

/// Seeded numbers (splitmix64): the same order for the same seed, for ever.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((word ^ (word >> 31)) % bound as u64).expect("below a usize")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve() -> ServeFlags {
        ServeFlags {
            names: vec!["spin-us".to_owned(), "cores".to_owned()],
            check: |flags| match flags.iter().find(|flag| flag.ends_with("=bad")) {
                Some(flag) => Err(format!("{flag} is refused")),
                None => Ok(()),
            },
        }
    }

    fn plan(vary: &[&str], repeat: u32) -> Result<Plan, String> {
        let knobs = vary.iter().map(|text| parse_vary(text)).collect::<Result<_, _>>()?;
        Plan::new(knobs, repeat, 7, &RunArgs::defaults(), &serve())
    }

    #[test]
    fn the_grid_is_the_cross_product() {
        let plan =
            plan(&["batch=1rec,64KiB", "broker.cores=0;0,1", "inflight=1,8,64"], 2).expect("good");
        assert_eq!(plan.cells.len(), 12);
        assert_eq!(plan.cells[0].values, ["1rec", "0", "1"]);
        assert_eq!(plan.cells[5].values, ["1rec", "0,1", "64"]);
        assert_eq!(plan.cells[5].args.broker_flags, ["cores=0,1"]);
        assert_eq!(plan.cells[11].args.inflight, 64);
        assert!(plan.estimate() >= Duration::from_secs(24 * 12));
        let line = plan.sentence();
        assert!(line.contains("12 cell(s) x 2 repeat(s) = 24 run(s)"), "{line}");
        assert!(line.contains("seed 7"), "{line}");
    }

    #[test]
    fn each_round_has_an_order_of_its_own_and_a_seed_fixes_them() {
        let plan = plan(&["inflight=1,2,3,4,5,6,7,8,9"], 3).expect("good");
        let orders: Vec<Vec<usize>> = (0..3).map(|round| plan.order(round)).collect();
        assert!(orders[0] != orders[1] && orders[1] != orders[2], "{orders:?}");
        for order in &orders {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..9).collect::<Vec<_>>());
        }
        assert_eq!(plan.order(1), plan.clone().order(1));
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_its_cell() {
        let error = |vary: &[&str], repeat| plan(vary, repeat).expect_err("wrong");
        assert!(error(&["inflight=1,2", "inflight=3"], 1).contains("twice"));
        assert!(error(&["inflight=1,1"], 1).contains("twice"));
        assert!(error(&["inflight"], 1).contains("KEY=A,B"));
        assert!(error(&["inflight=1,,2"], 1).contains("KEY=A,B"));
        assert!(error(&["inflight=0,1"], 1).contains("inflight"));
        let many = (1..=17).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        let (first, second) = (format!("inflight={many}"), format!("producers={many}"));
        assert!(error(&[&first, &second], 1).contains("256 cells"));
        assert!(error(&[&first], 200).contains("2048 runs"));
        let error = error(&["broker.spin-us=5,bad", "inflight=1,2"], 1);
        assert!(
            error.contains("with broker.spin-us=bad inflight=1: spin-us=bad is refused"),
            "{error}"
        );
        let error = plan(&["producers=1,0"], 1).expect_err("wrong");
        assert!(error.contains("with producers=0: a run has producers"), "{error}");
    }
}
