//! `pelton bench soak`: a long load, and whether anything drifts.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::cell::{self, Label, Partial};
use super::options::RunArgs;
use super::result_file::ResultFile;
use super::site::Site;
use super::{EXIT_INTERRUPTED, EXIT_OK, EXIT_SLO, RunError, abort_on_signals, exit_code};
use crate::report::{Run, Unit, render_run};
use crate::statistics::{mean, slope_per_minute};

/// Name and version of the schema.
pub const SOAK_SCHEMA: &str = "pelton.bench.soak/1";
/// Shorter windows say nothing about drift.
const DURATION_MIN: Duration = Duration::from_secs(2);
/// With fewer readings nothing is said about a figure.
const READINGS_MIN: usize = 10;

/// What is looked at, and how much of a change over the window is too much, in per cent.
const FIGURES: [Watch; 5] = [
    Watch { name: "records_per_s", unit: Unit::PerSecond, most_percent: 5.0, of: rates },
    Watch {
        name: "response_p50_ns",
        unit: Unit::Nanoseconds,
        most_percent: 25.0,
        of: |run| {
            let series = run.series.as_ref()?;
            Some((known(&series.p50_ns), series.interval_s()))
        },
    },
    Watch {
        name: "response_p99_ns",
        unit: Unit::Nanoseconds,
        most_percent: 25.0,
        of: |run| {
            let series = run.series.as_ref()?;
            Some((known(&series.p99_ns), series.interval_s()))
        },
    },
    Watch {
        name: "broker_rss_bytes",
        unit: Unit::BytesPerSecond,
        most_percent: 5.0,
        // Memory that is bounded fills up at first: the second half tells.
        of: |run| {
            let series = run.broker.as_ref()?;
            let rss = &series.rss_bytes[series.rss_bytes.len() / 2..];
            Some((rss.iter().map(|&bytes| double(bytes)).collect(), seconds(series.interval_ns)))
        },
    },
    Watch {
        name: "broker_cpu_per_mille",
        unit: Unit::Thousandths,
        most_percent: 15.0,
        of: |run| {
            let series = run.broker.as_ref()?;
            let cpu = series.cpu_per_mille.iter().map(|&share| double(share)).collect();
            Some((cpu, seconds(series.interval_ns)))
        },
    },
];

/// One figure that should not drift.
struct Watch {
    name: &'static str,
    unit: Unit,
    most_percent: f64,
    of: fn(&Run) -> Option<Readings>,
}

/// Values over time, and the seconds between two.
type Readings = (Vec<f64>, f64);

/// Loads a broker for long, and says whether latencies, memory or CPU drift
#[derive(Args, Clone, Debug)]
pub struct SoakArgs {
    #[command(flatten)]
    run: RunArgs,
}

/// A long load.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Soak {
    /// [`SOAK_SCHEMA`].
    pub schema: String,
    /// The worst of all figures'.
    pub verdict: DriftVerdict,
    /// How each figure changed.
    pub drifts: Vec<Drift>,
    /// The load itself.
    pub run: Run,
}

/// Whether something drifts.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum DriftVerdict {
    /// The change is certainly small.
    Steady,
    /// The figure is too noisy, or the window too short, to say.
    Unknown,
    /// It certainly changes by more than it may.
    Drifts,
}

/// How a figure changed over the window, by least squares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Drift {
    /// The figure; memory over the second half of the window.
    pub name: String,
    /// Its mean.
    pub mean: u64,
    /// Change from the beginning to the end, in thousandths of the mean.
    pub change_per_mille: i64,
    /// Half of the 95 % interval of that.
    pub change_error_per_mille: i64,
    /// The same change for each hour, if it went on like that.
    pub per_hour_per_mille: i64,
    /// More than this is too much.
    pub most_per_mille: i64,
    /// What follows.
    pub verdict: DriftVerdict,
}

impl Watch {
    fn drift(&self, run: &Run) -> Option<Drift> {
        let (values, interval_s) = (self.of)(run)?;
        if values.len() < READINGS_MIN {
            return None;
        }
        let minutes = f64::from(u32::try_from(values.len()).ok()?) * interval_s / 60.0;
        let (slope, error) = slope_per_minute(&values, interval_s)?;
        let (change, error) = (slope * minutes, error * minutes);
        let most = self.most_percent / 100.0;
        let verdict = match change.abs() {
            size if size - error > most => DriftVerdict::Drifts,
            size if size + error <= most => DriftVerdict::Steady,
            _ => DriftVerdict::Unknown,
        };
        Some(Drift {
            name: self.name.to_owned(),
            mean: crate::latency::whole(mean(&values)?),
            change_per_mille: per_mille(change),
            change_error_per_mille: per_mille(error),
            per_hour_per_mille: per_mille(slope * 60.0),
            most_per_mille: per_mille(most),
            verdict,
        })
    }
}

impl Drift {
    /// Name, mean, change and verdict, as a person reads them.
    #[must_use]
    pub fn texts(&self) -> [String; 4] {
        let unit = FIGURES.iter().find(|figure| figure.name == self.name).map(|found| found.unit);
        let mean = match unit {
            Some(Unit::BytesPerSecond) => format!("{} MiB", self.mean >> 20),
            Some(unit) => unit.show(Some(self.mean)),
            None => self.mean.to_string(),
        };
        let percent = |per_mille: i64| {
            let sign = if per_mille < 0 { "-" } else { "" };
            let size = per_mille.unsigned_abs();
            format!("{sign}{}.{} %", size / 10, size % 10)
        };
        let (change, error) =
            (percent(self.change_per_mille), percent(self.change_error_per_mille));
        let verdict = match self.verdict {
            DriftVerdict::Steady => "steady".to_owned(),
            DriftVerdict::Unknown => "too noisy to say".to_owned(),
            DriftVerdict::Drifts => {
                format!("DRIFTS by more than {}", percent(self.most_per_mille))
            }
        };
        let hourly = percent(self.per_hour_per_mille);
        [self.name.clone(), mean, format!("{change} ± {error} ({hourly} an hour)"), verdict]
    }
}

impl SoakArgs {
    /// What is wrong with the flags, as a usage error.
    pub(super) fn invalid(&self) -> Option<String> {
        if self.run.duration < DURATION_MIN {
            return Some(format!(
                "bench soak needs a window of {} or more (an hour is usual): pass --duration",
                humantime::format_duration(DURATION_MIN)
            ));
        }
        self.run.invalid()
    }
}

impl Soak {
    /// Looks at a run.
    #[must_use]
    pub fn of(run: Run) -> Self {
        let drifts: Vec<Drift> = FIGURES.iter().filter_map(|figure| figure.drift(&run)).collect();
        let worst = drifts.iter().map(|drift| drift.verdict).max();
        let verdict = worst.unwrap_or(DriftVerdict::Unknown);
        Self { schema: SOAK_SCHEMA.to_owned(), verdict, drifts, run }
    }
}

/// Measures the load.
pub(super) fn run(args: &SoakArgs) -> Result<u8, RunError> {
    args.invalid().map_or(Ok(()), |reason| Err(RunError::Usage(reason)))?;
    let file = ResultFile::of(&args.run, "soak");
    let mut site = Site::open(&args.run, abort_on_signals()?)?;
    site.floor_slice(&super::site::FIRST_SLICE);
    let label = Label { partial: Partial::Keep, ..Label::default() };
    let mut run = cell::measure(&mut site, &args.run, &label)?;
    if !run.interrupted {
        site.floor_slice(&super::site::LAST_SLICE);
    }
    site.add_floor(&mut run);
    drop(site);
    let soak = Soak::of(run);
    file.finish(&soak, || render(&soak))?;
    if soak.run.interrupted {
        return Ok(EXIT_INTERRUPTED);
    }
    let missed = soak.run.slo.iter().any(|outcome| !outcome.met);
    Ok(match exit_code(&soak.run) {
        EXIT_OK if missed || soak.verdict == DriftVerdict::Drifts => EXIT_SLO,
        code => code,
    })
}

fn render(soak: &Soak) -> String {
    let mut text = render_run(&soak.run);
    for drift in &soak.drifts {
        let [name, mean, change, verdict] = drift.texts();
        text += &format!("{:<12} {name} {mean}: {change}: {verdict}\n", "drift");
    }
    let verdict = match soak.verdict {
        DriftVerdict::Steady => "steady: nothing drifts",
        DriftVerdict::Unknown => "unknown: nothing drifts for certain, but not all is steady",
        DriftVerdict::Drifts => "DRIFTS",
    };
    text + &format!("{:<12} {verdict}\n", "verdict")
}

fn rates(run: &Run) -> Option<Readings> {
    let series = run.series.as_ref()?;
    let rates = series.records().iter().map(|&records| double(records) / series.interval_s());
    Some((rates.collect(), series.interval_s()))
}

fn known(values: &[Option<u64>]) -> Vec<f64> {
    values.iter().flatten().map(|&value| double(value)).collect()
}

fn seconds(ns: u64) -> f64 {
    Duration::from_nanos(ns).as_secs_f64()
}

#[allow(clippy::cast_precision_loss, reason = "figures of runs are far below 2^53")]
fn double(value: u64) -> f64 {
    value as f64
}

#[allow(clippy::cast_possible_truncation, reason = "float to integer casts saturate")]
fn per_mille(share: f64) -> i64 {
    (share * 1_000.0).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::report::{BrokerSeries, fixture};
    use crate::timeline::Series;

    /// A run of 100 stretches of a minute; each value is that of the function, with 2 % of noise.
    fn long(p99: impl Fn(f64) -> f64, rss: impl Fn(f64) -> f64) -> Run {
        let mut random = Random::new(3);
        let mut noisy = |value: f64| crate::latency::whole(value * (1.0 + 0.02 * random.normal()));
        let mut run = fixture();
        run.series = Some(Series {
            interval_ns: 60_000_000_000,
            acked_records: (0..100).map(|_| noisy(6e7)).collect(),
            p99_ns: (0..100).map(|at| Some(noisy(p99(f64::from(at))))).collect(),
            ..Series::default()
        });
        run.broker = Some(BrokerSeries {
            interval_ns: 60_000_000_000,
            rss_bytes: (0..100).map(|at| noisy(rss(f64::from(at)))).collect(),
            cpu_per_mille: (0..100).map(|_| noisy(500.0)).collect(),
        });
        run
    }

    fn verdict_of(soak: &Soak, name: &str) -> DriftVerdict {
        let found = soak.drifts.iter().find(|drift| drift.name == name);
        found.expect(name).verdict
    }

    #[test]
    fn what_rises_drifts_and_what_fills_up_does_not() {
        // Memory fills to its bound in the first third.
        let filling = |at: f64| 1e8 * (at / 33.0).min(1.0) + 1e8;
        let soak = Soak::of(long(|_| 1e6, filling));
        assert_eq!(soak.verdict, DriftVerdict::Steady, "{:#?}", soak.drifts);
        assert_eq!(soak.drifts.len(), 4, "the median is not known");
        let soak = Soak::of(long(|at| 1e6 + 2e4 * at, |at| 1e8 + 1e6 * at));
        assert_eq!(verdict_of(&soak, "response_p99_ns"), DriftVerdict::Drifts);
        assert_eq!(verdict_of(&soak, "broker_rss_bytes"), DriftVerdict::Drifts);
        assert_eq!(verdict_of(&soak, "records_per_s"), DriftVerdict::Steady);
        assert_eq!(soak.verdict, DriftVerdict::Drifts);
        let text = render(&soak);
        assert!(text.contains("DRIFTS by more than 25.0 %"), "{text}");
        let p99 = soak.drifts.iter().find(|drift| drift.name == "response_p99_ns");
        let hourly = p99.expect("known").per_hour_per_mille;
        assert!((550..650).contains(&hourly), "{hourly}");
    }

    #[test]
    fn noise_is_not_called_steady() {
        let mut random = Random::new(8);
        let mut run = long(|_| 1e6, |_| 1e8);
        let series = run.series.as_mut().expect("given");
        series.p99_ns.truncate(12);
        let noisy = |_| Some(crate::latency::whole(1e6 * (0.8 * random.normal()).exp()));
        series.p99_ns = (0..12).map(noisy).collect();
        let soak = Soak::of(run);
        assert_eq!(verdict_of(&soak, "response_p99_ns"), DriftVerdict::Unknown);
        assert_eq!(soak.verdict, DriftVerdict::Unknown);
        assert_eq!(Soak::of(fixture()).verdict, DriftVerdict::Unknown, "nothing was measured");
    }
}
