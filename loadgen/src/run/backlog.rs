//! `pelton bench backlog`: what a backlog does to those who publish, and how fast it is drained.

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::cell::Label;
use super::choices::WarmUp;
use super::options::RunArgs;
use super::queue::Mode;
use super::result_file::{ResultFile, was_interrupted};
use super::sweep::measure_apart;
use super::{EXIT_ERROR, EXIT_INTEGRITY, EXIT_INTERRUPTED, EXIT_OK, RunError, abort_on_signals};
use crate::integrity::IntegrityVerdict;
use crate::report::{Run, Spread, Unit, ratio_hundredths};
use crate::timeline::Series;

/// Name and version of the schema.
pub const BACKLOG_SCHEMA: &str = "pelton.bench.backlog/1";
/// Records that are there before anybody consumes, unless the flag says otherwise.
const BACKLOG: u64 = 1_000_000;
/// Most rounds.
const REPEAT_MAX: i64 = 1_000;
/// Reading back may take this long for each run.
const READ_BACK_MAX: Duration = Duration::from_secs(20);
/// A backlog is drained when less than this share of it is left, in per cent ..
const LEFT_PERCENT: u64 = 1;
/// .. or what is acknowledged in so many stretches.
const LEFT_STRETCHES: u64 = 2;

/// Builds up a backlog, then drains it beside publishing, and the same without one
#[derive(Args, Clone, Debug)]
pub struct BacklogArgs {
    /// Rounds; each measures once without a backlog and once with one, in turn
    #[arg(
        long,
        default_value_t = 3,
        value_name = "N",
        value_parser = clap::value_parser!(i64).range(1..=REPEAT_MAX)
    )]
    repeat: i64,
    #[command(flatten)]
    run: RunArgs,
}

/// What a backlog does.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Backlog {
    /// [`BACKLOG_SCHEMA`].
    pub schema: String,
    /// Whether it ended before all rounds were made.
    pub interrupted: bool,
    /// Records or messages that were there before anybody consumed.
    pub backlog: u64,
    /// What all rounds say; null before the first is over.
    pub figures: Option<BacklogFigures>,
    /// Runs without a backlog.
    pub runs_without: Vec<Run>,
    /// Runs with one.
    pub runs_with: Vec<Run>,
}

/// Medians over the rounds. Rates are per second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BacklogFigures {
    /// Published and acknowledged without a backlog.
    pub published_without: u64,
    /// The same, as long as the backlog was there.
    pub published_with: u64,
    /// The latter by the former: below 100, a backlog slows publishing down.
    pub publish_ratio_hundredths: Option<u64>,
    /// Consumed without a backlog: as fast as was published, at most.
    pub consumed_without: u64,
    /// Consumed as long as the backlog was there.
    pub drained: u64,
    /// The latter by the former.
    pub drain_ratio_hundredths: Option<u64>,
    /// Drained by published meanwhile: above 100 the backlog shrinks.
    pub drained_by_published_hundredths: Option<u64>,
    /// From the beginning until it was drained; null if a round did not see that.
    pub drained_after_ns: Option<u64>,
}

impl BacklogArgs {
    /// The load without a backlog, as far as it differs: there must be someone who drains, and a
    /// backlog that shrinks while nothing is measured would not be what it is said to be.
    fn base(&self) -> RunArgs {
        let mut run = self.run.clone();
        run.queue.backlog = None;
        RunArgs { consumers: run.consumers.max(1), warmup: WarmUp::For(Duration::ZERO), ..run }
    }

    /// What is wrong with the flags, as a usage error.
    pub(super) fn invalid(&self) -> Option<String> {
        if self.run.producers == 0 || self.run.preload.is_some() {
            return Some(
                "bench backlog publishes and consumes: not with --preload or --producers 0"
                    .to_owned(),
            );
        }
        if self.run.topic.is_some() {
            let own = "bench backlog makes topics and queues of its own: leave --topic out";
            return Some(own.to_owned());
        }
        if self.run.queue.backlog == Some(0) {
            return Some("--backlog is above zero".to_owned());
        }
        self.base().invalid()
    }
}

/// Measures all rounds.
pub(super) fn run(args: &BacklogArgs) -> Result<u8, RunError> {
    args.invalid().map_or(Ok(()), |reason| Err(RunError::Usage(reason)))?;
    let file = ResultFile::of(&args.run, "backlog");
    let mut result = Backlog {
        schema: BACKLOG_SCHEMA.to_owned(),
        interrupted: true,
        backlog: args.run.queue.backlog.unwrap_or(BACKLOG),
        figures: None,
        runs_without: Vec::new(),
        runs_with: Vec::new(),
    };
    result.interrupted = was_interrupted(measure(args, &mut result, &file))?;
    file.finish(&result, || render(&result))?;
    Ok(result.exit_code())
}

fn measure(args: &BacklogArgs, result: &mut Backlog, file: &ResultFile) -> Result<(), RunError> {
    let abort = abort_on_signals()?;
    for round in 0..args.repeat {
        // Forth and back, so that a machine that gets slower does not speak against one of them.
        let first = if round % 2 == 0 { Arm::Without } else { Arm::With };
        for arm in [first, first.other()] {
            let run = one(args, arm, round, result.backlog, &abort)?;
            match arm {
                Arm::Without => result.runs_without.push(run),
                Arm::With => result.runs_with.push(run),
            }
        }
        result.figures = result.figures();
        file.keep(result)?;
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arm {
    Without,
    With,
}

impl Arm {
    fn other(self) -> Self {
        match self {
            Self::Without => Self::With,
            Self::With => Self::Without,
        }
    }
}

fn one(
    args: &BacklogArgs,
    arm: Arm,
    round: i64,
    backlog: u64,
    abort: &Arc<AtomicBool>,
) -> Result<Run, RunError> {
    if abort.load(Ordering::Relaxed) {
        return Err(RunError::Interrupted);
    }
    let mut load = args.base();
    let name = match arm {
        Arm::Without => "without a backlog",
        Arm::With => "with a backlog",
    };
    let mut label = Label {
        text: format!("[round {}/{}] {name}:", round + 1, args.repeat),
        read_back_max: Some(READ_BACK_MAX),
        ..Label::default()
    };
    match (arm, load.queue.mode) {
        (Arm::Without, _) => {}
        (Arm::With, Mode::Queue) => load.queue.backlog = Some(backlog),
        (Arm::With, Mode::Topic) => label.backlog_records = Some(backlog),
    }
    let mut run = measure_apart(&load, &label, abort)?;
    run.histograms.clear();
    if !args.run.quiet {
        let rate = |rate| Unit::PerSecond.show(rate);
        let (published, consumed) =
            (rate(run.load.achieved_records_per_s), rate(run.load.consumed_records_per_s));
        eprintln!("{} {published} records/s in, {consumed} out", label.text);
    }
    Ok(run)
}

/// What happened while a backlog was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Drain {
    published_per_s: u64,
    consumed_per_s: u64,
    after_ns: Option<u64>,
}

impl Drain {
    /// Of a run that began with so many records to consume.
    fn of(run: &Run, backlog: u64) -> Self {
        let load = &run.load;
        let whole = Self {
            published_per_s: load.achieved_records_per_s.unwrap_or(0),
            consumed_per_s: load.consumed_records_per_s.unwrap_or(0),
            after_ns: None,
        };
        run.series.as_ref().map_or(whole, |series| Self::in_series(series, backlog))
    }

    fn in_series(series: &Series, backlog: u64) -> Self {
        let (mut published, mut consumed, mut stretches) = (0u64, 0u64, 0u64);
        let mut after_ns = None;
        for (&acked, &taken) in series.acked_records.iter().zip(&series.consumed_records) {
            published += acked;
            consumed += taken;
            stretches += 1;
            let left = (backlog + published).saturating_sub(consumed);
            if left <= (backlog * LEFT_PERCENT / 100).max(acked * LEFT_STRETCHES) {
                after_ns = Some(series.interval_ns.saturating_mul(stretches));
                break;
            }
        }
        let elapsed_ns = u128::from(series.interval_ns) * u128::from(stretches.max(1));
        let per_s = |count: u64| {
            let rate = u128::from(count) * 1_000_000_000 / elapsed_ns.max(1);
            u64::try_from(rate).unwrap_or(u64::MAX)
        };
        Self { published_per_s: per_s(published), consumed_per_s: per_s(consumed), after_ns }
    }
}

impl Backlog {
    /// Medians over the rounds so far.
    fn figures(&self) -> Option<BacklogFigures> {
        let drains: Vec<Drain> =
            self.runs_with.iter().map(|run| Drain::of(run, self.backlog)).collect();
        let median =
            |values: &mut dyn Iterator<Item = u64>| Spread::of(values).map(|spread| spread.median);
        let mut without = self.runs_without.iter();
        let published_without =
            median(&mut without.by_ref().filter_map(|run| run.load.achieved_records_per_s))?;
        let mut without = self.runs_without.iter();
        let consumed_without =
            median(&mut without.by_ref().filter_map(|run| run.load.consumed_records_per_s))?;
        let published_with = median(&mut drains.iter().map(|drain| drain.published_per_s))?;
        let drained = median(&mut drains.iter().map(|drain| drain.consumed_per_s))?;
        let all_drained: Option<Vec<u64>> = drains.iter().map(|drain| drain.after_ns).collect();
        Some(BacklogFigures {
            published_without,
            published_with,
            publish_ratio_hundredths: ratio_hundredths(published_without, published_with),
            consumed_without,
            drained,
            drain_ratio_hundredths: ratio_hundredths(consumed_without, drained),
            drained_by_published_hundredths: ratio_hundredths(published_with, drained),
            drained_after_ns: all_drained.and_then(|all| median(&mut all.into_iter())),
        })
    }

    fn exit_code(&self) -> u8 {
        let mut runs = self.runs_without.iter().chain(&self.runs_with);
        if runs.any(|run| run.integrity.verdict == IntegrityVerdict::Failed) {
            EXIT_INTEGRITY
        } else if self.interrupted {
            EXIT_INTERRUPTED
        } else if self.figures.is_none() {
            EXIT_ERROR
        } else {
            EXIT_OK
        }
    }
}

impl BacklogFigures {
    /// Name, without a backlog, with one, and their ratio.
    #[must_use]
    pub fn rows(&self) -> [[String; 4]; 2] {
        let rate = |rate: u64| Unit::PerSecond.show(Some(rate)) + "/s";
        let ratio = |hundredths| Unit::Hundredths.show(hundredths);
        [
            [
                "published".to_owned(),
                rate(self.published_without),
                rate(self.published_with),
                ratio(self.publish_ratio_hundredths),
            ],
            [
                "consumed".to_owned(),
                rate(self.consumed_without),
                rate(self.drained),
                ratio(self.drain_ratio_hundredths),
            ],
        ]
    }

    /// How the draining went, in a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let ratio = Unit::Hundredths.show(self.drained_by_published_hundredths);
        let ended = match self.drained_after_ns {
            Some(ns) => format!("drained after {}", Unit::Nanoseconds.show(Some(ns))),
            None => "not drained within the window: a smaller --backlog, a lower --rate or a \
                     longer --duration would show its end"
                .to_owned(),
        };
        format!("{ratio} times as fast out as in while it was there; {ended}")
    }
}

fn render(result: &Backlog) -> String {
    let mut text = format!("backlog: {}\n", Unit::PerSecond.show(Some(result.backlog)));
    if let Some(figures) = &result.figures {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY);
        table.set_header(["", "without a backlog", "with it", "ratio"]);
        for row in figures.rows() {
            table.add_row(row);
        }
        for column in 1..4 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        text += &format!("{table}\n{}\n", figures.sentence());
    }
    for run in result.runs_without.iter().chain(&result.runs_with) {
        for reason in &run.validity.reasons {
            text += &format!("note: {reason}\n");
        }
    }
    if result.interrupted {
        text += "interrupted: not all rounds were made\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn series(rows: &[(u64, u64)]) -> Series {
        Series {
            interval_ns: 100_000_000,
            acked_records: rows.iter().map(|row| row.0).collect(),
            consumed_records: rows.iter().map(|row| row.1).collect(),
            ..Series::default()
        }
    }

    #[test]
    fn rates_count_while_the_backlog_is_there() {
        // 1,000 to drain: 300 more out than in each tenth of a second, then as fast as they come.
        let rows = [(100, 400), (100, 400), (100, 400), (100, 200), (100, 100), (900, 900)];
        let drain = Drain::in_series(&series(&rows), 1_000);
        assert_eq!(drain.after_ns, Some(300_000_000), "200 may be left: two stretches' worth");
        assert_eq!((drain.published_per_s, drain.consumed_per_s), (1_000, 4_000));
        let never = Drain::in_series(&series(&[(100, 50); 5]), 1_000);
        assert_eq!((never.after_ns, never.consumed_per_s), (None, 500));
    }

    #[test]
    fn figures_are_medians_of_all_rounds() {
        let mut result = Backlog {
            schema: BACKLOG_SCHEMA.to_owned(),
            interrupted: false,
            backlog: 1_000,
            figures: None,
            runs_without: vec![fixture()],
            runs_with: vec![fixture()],
        };
        result.runs_without[0].load.achieved_records_per_s = Some(2_000);
        result.runs_without[0].load.consumed_records_per_s = Some(2_000);
        result.runs_with[0].series = Some(series(&[(100, 600), (100, 600)]));
        let figures = result.figures().expect("a round");
        assert_eq!(figures.publish_ratio_hundredths, Some(50));
        assert_eq!(figures.drain_ratio_hundredths, Some(300));
        assert_eq!(figures.drained_by_published_hundredths, Some(600));
        assert_eq!(figures.drained_after_ns, Some(200_000_000));
        result.figures = Some(figures);
        let text = render(&result);
        assert!(text.contains("drained after 200 ms") && text.contains("0.50"), "{text}");
    }
}
