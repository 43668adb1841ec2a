//! How records arrive: evenly, at random, in bursts, ever more often, or as they once did.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::{Member, Span};
use crate::random::Random;

const SECOND_NS: f64 = 1e9;
/// Most records per second.
const RATE_MAX: u64 = 1_000_000_000;
/// Most steps; each has a histogram.
const STEPS_MAX: usize = 16;
/// Most records of a trace: eight bytes each.
const TRACE_RECORDS_MAX: usize = 1 << 27;

/// How the records of a load arrive, over all producers.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrivals {
    /// At even distances.
    Constant {
        /// Records per second.
        rate: u64,
    },
    /// Independently of each other: as many users arrive.
    Poisson {
        /// Records per second on average.
        rate: u64,
    },
    /// Many at the same time.
    Burst {
        /// Records of each burst.
        records: u64,
        /// From burst to burst.
        period_ns: u64,
    },
    /// At one rate until measuring begins, then steadily changing to another at its end.
    Ramp {
        /// Records per second at first.
        from: u64,
        /// Records per second at the end.
        to: u64,
    },
    /// At these rates one after the other, each for an equal part of the measured time; at the
    /// first also before.
    Steps(Arc<[u64]>),
    /// At these times since the beginning of the load, in rising order.
    Trace(Arc<[u64]>),
}

impl Arrivals {
    /// Records per second that are expected on average while measuring.
    #[must_use]
    pub fn rate(&self, measured_ns: u64) -> u64 {
        let per_s = |records: u64, ns: u64| {
            let rate = u128::from(records) * 1_000_000_000 / u128::from(ns.max(1));
            u64::try_from(rate).unwrap_or(u64::MAX)
        };
        match self {
            Self::Constant { rate } | Self::Poisson { rate } => *rate,
            Self::Burst { records, period_ns } => per_s(*records, *period_ns),
            Self::Ramp { from, to } => from.midpoint(*to),
            Self::Steps(rates) => rates.iter().sum::<u64>() / rates.len().max(1) as u64,
            Self::Trace(times) => per_s(times.len() as u64, measured_ns),
        }
    }

    /// Parts of the measured time whose rates differ.
    #[must_use]
    pub fn steps(&self) -> u32 {
        match self {
            Self::Steps(rates) => u32::try_from(rates.len()).expect("at most STEPS_MAX"),
            _ => 1,
        }
    }

    /// Records per second before measuring begins, where that is one rate.
    #[must_use]
    pub fn first_rate(&self) -> Option<u64> {
        match self {
            Self::Constant { rate } | Self::Poisson { rate } => Some(*rate),
            Self::Ramp { from, .. } => Some(*from),
            Self::Steps(rates) => rates.first().copied(),
            Self::Burst { .. } | Self::Trace(_) => None,
        }
    }

    /// Whether every moment sees the same rate, so that a change of figures is the broker's.
    #[must_use]
    pub fn is_steady(&self) -> bool {
        matches!(self, Self::Constant { .. } | Self::Poisson { .. })
    }
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant { rate } => write!(f, "{rate}"),
            Self::Poisson { rate } => write!(f, "poisson:{rate}"),
            Self::Burst { records, period_ns } => {
                let period = humantime::format_duration(Duration::from_nanos(*period_ns));
                write!(f, "burst:{records}@{}", period.to_string().replace(' ', ""))
            }
            Self::Ramp { from, to } => write!(f, "ramp:{from}..{to}"),
            Self::Steps(rates) => {
                let rates: Vec<String> = rates.iter().map(u64::to_string).collect();
                write!(f, "steps:{}", rates.join(","))
            }
            Self::Trace(times) => write!(f, "trace of {} records", times.len()),
        }
    }
}

/// Why a text names no arrivals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseArrivalsError(String);

impl fmt::Display for ParseArrivalsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ParseArrivalsError {}

impl FromStr for Arrivals {
    type Err = ParseArrivalsError;

    fn from_str(text: &str) -> Result<Self, ParseArrivalsError> {
        let (kind, rest) = text.split_once(':').unwrap_or(("constant", text));
        match kind {
            "constant" => Ok(Self::Constant { rate: rate(rest)? }),
            "poisson" => Ok(Self::Poisson { rate: rate(rest)? }),
            "burst" => {
                let (records, period) = rest
                    .split_once('@')
                    .ok_or_else(|| wrong("expected burst:RECORDS@PERIOD, e.g. burst:1000@100ms"))?;
                let period = humantime::parse_duration(period)
                    .map_err(|error| wrong(format!("the period of bursts: {error}")))?;
                let period_ns = u64::try_from(period.as_nanos()).unwrap_or(0);
                if period_ns == 0 {
                    return Err(wrong("the period of bursts is above zero, e.g. 100ms"));
                }
                Ok(Self::Burst { records: rate(records)?, period_ns })
            }
            "ramp" => {
                let (from, to) = rest
                    .split_once("..")
                    .ok_or_else(|| wrong("expected ramp:FROM..TO, e.g. ramp:10k..500k"))?;
                Ok(Self::Ramp { from: rate(from)?, to: rate(to)? })
            }
            "steps" => {
                let rates: Result<Arc<[u64]>, _> = rest.split(',').map(rate).collect();
                let rates = rates?;
                match (2..=STEPS_MAX).contains(&rates.len()) {
                    true => Ok(Self::Steps(rates)),
                    false => Err(wrong(format!(
                        "expected from 2 to {STEPS_MAX} rates, e.g. steps:10k,50k,100k"
                    ))),
                }
            }
            "trace" => {
                let text = std::fs::read_to_string(rest)
                    .map_err(|error| wrong(format!("the trace {rest} cannot be read: {error}")))?;
                parse_trace(&text).map(Self::Trace)
            }
            _ => Err(wrong(format!(
                "there are no {kind} arrivals; there are N, poisson:N, burst:N@PERIOD, \
                 ramp:FROM..TO, steps:N,N,.. and trace:FILE"
            ))),
        }
    }
}

fn wrong(sentence: impl Into<String>) -> ParseArrivalsError {
    ParseArrivalsError(sentence.into())
}

/// Records per second: digits, `_` between them, and k or M behind them.
fn rate(text: &str) -> Result<u64, ParseArrivalsError> {
    let digits = text.replace('_', "");
    let (digits, factor) = match digits.strip_suffix('k') {
        Some(digits) => (digits, 1_000),
        None => digits.strip_suffix('M').map_or((&*digits, 1), |digits| (digits, 1_000_000)),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    number.filter(|number| (1..=RATE_MAX).contains(number)).ok_or_else(|| {
        wrong(format!("expected records from 1 to {RATE_MAX}, e.g. 200000, 200k or 2M"))
    })
}

/// The times of a trace: a line each, in seconds since the beginning of the load, as decimal
/// numbers in rising order. Empty lines and those that begin with `#` are skipped.
///
/// # Errors
/// A line is no such number, comes before the one above it, or there are none.
pub fn parse_trace(text: &str) -> Result<Arc<[u64]>, ParseArrivalsError> {
    let mut times: Vec<u64> = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let time_ns = nanoseconds(line).ok_or_else(|| {
            wrong(format!("line {number} of the trace is {line:?}, no seconds such as 0.000125"))
        })?;
        if times.last().is_some_and(|&last| last > time_ns) {
            return Err(wrong(format!("line {number} of the trace is before the one above it")));
        }
        if times.len() == TRACE_RECORDS_MAX {
            return Err(wrong(format!("a trace has at most {TRACE_RECORDS_MAX} records")));
        }
        times.push(time_ns);
    }
    match times.is_empty() {
        true => Err(wrong("the trace holds no record")),
        false => Ok(times.into()),
    }
}

/// Decimal seconds, exactly.
fn nanoseconds(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 9 || !part.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let part = format!("{part:0<9}").parse::<u64>().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(part)
}

/// The send times of one producer that no short formula gives.
#[derive(Clone, Debug)]
pub(super) struct Drawn {
    next_ns: u64,
    how: How,
}

#[derive(Clone, Debug)]
enum How {
    Poisson { random: Random, mean_ns: f64, fraction: f64 },
    Burst { share: u64, left: u64, period_ns: u64 },
    Ramp { span: Span, from: f64, to: f64, number: f64, step: f64 },
    Steps { span: Span, rates: Arc<[u64]>, number: f64, step: f64 },
    Trace { times: Arc<[u64]>, next: usize, step: usize, start_ns: u64 },
}

impl Drawn {
    pub(super) fn new(arrivals: &Arrivals, span: Span, member: Member, seed: u64) -> Self {
        let Member { index, of } = member;
        let how = match arrivals {
            // Independent arrivals, dealt out at random, are independent arrivals.
            Arrivals::Poisson { rate } => How::Poisson {
                random: Random::stream(seed, u64::from(index)),
                mean_ns: SECOND_NS * f64::from(of) / double(*rate),
                fraction: 0.0,
            },
            Arrivals::Burst { records, period_ns } => {
                let more = u64::from(u64::from(index) < records % u64::from(of));
                let share = records / u64::from(of) + more;
                How::Burst { share, left: share, period_ns: *period_ns }
            }
            Arrivals::Ramp { from, to } => How::Ramp {
                span,
                from: double(*from),
                to: double(*to),
                number: f64::from(index),
                step: f64::from(of),
            },
            Arrivals::Steps(rates) => How::Steps {
                span,
                rates: Arc::clone(rates),
                number: f64::from(index),
                step: f64::from(of),
            },
            Arrivals::Trace(times) => How::Trace {
                times: Arc::clone(times),
                next: index as usize,
                step: of as usize,
                start_ns: span.start_ns,
            },
            Arrivals::Constant { .. } => unreachable!("even distances have a formula of their own"),
        };
        let mut drawn = Self { next_ns: span.start_ns, how };
        drawn.begin();
        drawn
    }

    #[inline]
    pub(super) fn next_ns(&self) -> u64 {
        self.next_ns
    }

    /// Goes to the first record.
    fn begin(&mut self) {
        match &mut self.how {
            How::Poisson { .. } => self.advance(),
            How::Burst { share: 0, .. } => self.next_ns = u64::MAX,
            How::Burst { .. } => {}
            How::Ramp { span, from, to, number, .. } => {
                self.next_ns = on_ramp(span, *from, *to, *number);
            }
            How::Steps { span, rates, number, .. } => self.next_ns = on_steps(span, rates, *number),
            How::Trace { times, next, start_ns, .. } => {
                self.next_ns = of_trace(times, *next, *start_ns);
            }
        }
    }

    pub(super) fn advance(&mut self) {
        match &mut self.how {
            How::Poisson { random, mean_ns, fraction } => {
                let gap = random.exponential() * *mean_ns + *fraction;
                *fraction = gap - gap.floor();
                self.next_ns = self.next_ns.saturating_add(whole(gap));
            }
            How::Burst { share, left, period_ns } => {
                *left -= 1;
                if *left == 0 {
                    *left = *share;
                    self.next_ns = self.next_ns.saturating_add(*period_ns);
                }
            }
            How::Ramp { span, from, to, number, step } => {
                *number += *step;
                self.next_ns = on_ramp(span, *from, *to, *number);
            }
            How::Steps { span, rates, number, step } => {
                *number += *step;
                self.next_ns = on_steps(span, rates, *number);
            }
            How::Trace { times, next, step, start_ns } => {
                *next = next.saturating_add(*step);
                self.next_ns = of_trace(times, *next, *start_ns);
            }
        }
    }
}

/// When record `number` is due: `from` records/s until the span opens; after `t` seconds of the
/// ramp, `from * t + (to - from) * t * t / (2 * T)` records more.
fn on_ramp(span: &Span, from: f64, to: f64, number: f64) -> u64 {
    let flat_s = double(span.open_ns - span.start_ns) / SECOND_NS;
    let before = from * flat_s;
    if number < before {
        return span.start_ns + whole(number / from * SECOND_NS);
    }
    let ramp_s = double(span.close_ns - span.open_ns) / SECOND_NS;
    let (records, slope) = (number - before, (to - from) / ramp_s);
    let square = from * from + 2.0 * slope * records;
    // A falling ramp, carried on beyond its end, comes to a stop.
    if square <= 0.0 {
        return u64::MAX;
    }
    span.open_ns.saturating_add(whole(2.0 * records / (from + square.sqrt()) * SECOND_NS))
}

/// When record `number` is due: at the first rate until the span opens, then at each for an equal
/// part of it, and beyond it at the last.
fn on_steps(span: &Span, rates: &[u64], number: f64) -> u64 {
    let step_s = double(span.close_ns - span.open_ns) / double(rates.len() as u64) / SECOND_NS;
    let mut left = number;
    let mut from_ns = double(0);
    let before =
        rates.first().map(|&rate| (rate, double(span.open_ns - span.start_ns) / SECOND_NS));
    let parts = before.into_iter().chain(rates.iter().map(|&rate| (rate, step_s)));
    let last = rates.len();
    for (index, (rate, part_s)) in parts.enumerate() {
        let records = double(rate) * part_s;
        if left < records || index == last {
            return span.start_ns.saturating_add(whole(from_ns + left / double(rate) * SECOND_NS));
        }
        left -= records;
        from_ns += part_s * SECOND_NS;
    }
    u64::MAX
}

fn of_trace(times: &[u64], index: usize, start_ns: u64) -> u64 {
    times.get(index).map_or(u64::MAX, |&time_ns| start_ns.saturating_add(time_ns))
}

#[allow(clippy::cast_precision_loss, reason = "rates and times of a run are far below 2^53")]
fn double(number: u64) -> f64 {
    number as f64
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "float to integer casts saturate, and no time is negative"
)]
fn whole(number: f64) -> u64 {
    number.floor() as u64
}
