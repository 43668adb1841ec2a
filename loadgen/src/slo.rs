//! `--slo`: what latencies and errors a load may have at most.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

use crate::latency::Summary;
use crate::report::{Run, Unit};

/// Conditions that all have to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slo(Vec<Condition>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    text: String,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// This percentile is below so many nanoseconds.
    Latency { of: Latency, percentile: Percentile, below_ns: u64 },
    /// Nothing failed.
    NoErrors,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Latency {
    Response,
    Service,
    EndToEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Percentile {
    P50,
    P90,
    P99,
    P999,
    P9999,
    Max,
    Mean,
}

/// What became of one condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SloOutcome {
    /// As it was asked for.
    pub expression: String,
    /// Whether it held; what was not measured does not hold.
    pub met: bool,
    /// What was measured: nanoseconds, or a count of errors. Null with too few samples.
    pub actual: Option<u64>,
    /// What was wrong, as a sentence; null where it held.
    pub why: Option<String>,
}

impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let conditions = text.split(',').map(str::trim).map(|text| {
            let what = what(text).ok_or_else(|| {
                format!(
                    "{text}: expected e.g. p99<5ms, service.p50<200us, e2e.p99.9<20ms, max<1s, \
                     mean<1ms or errors=0"
                )
            })?;
            Ok(Condition { text: text.to_owned(), what })
        });
        conditions.collect::<Result<_, String>>().map(Self)
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<&str> = self.0.iter().map(|condition| condition.text.as_str()).collect();
        f.write_str(&texts.join(","))
    }
}

fn what(text: &str) -> Option<What> {
    if text == "errors=0" {
        return Some(What::NoErrors);
    }
    let (name, limit) = text.split_once('<')?;
    let (of, percentile) = match name.trim().split_once('.') {
        Some(("service", percentile)) => (Latency::Service, percentile),
        Some(("e2e", percentile)) => (Latency::EndToEnd, percentile),
        Some(("response", percentile)) => (Latency::Response, percentile),
        _ => (Latency::Response, name.trim()),
    };
    let percentile = match percentile {
        "p50" => Percentile::P50,
        "p90" => Percentile::P90,
        "p99" => Percentile::P99,
        "p99.9" => Percentile::P999,
        "p99.99" => Percentile::P9999,
        "max" => Percentile::Max,
        "mean" => Percentile::Mean,
        _ => return None,
    };
    let below_ns = u64::try_from(humantime::parse_duration(limit.trim()).ok()?.as_nanos()).ok()?;
    Some(What::Latency { of, percentile, below_ns })
}

impl Slo {
    /// What became of each condition in `run`.
    #[must_use]
    pub fn outcomes(&self, run: &Run) -> Vec<SloOutcome> {
        self.0.iter().map(|condition| condition.outcome(run)).collect()
    }
}

impl Condition {
    fn outcome(&self, run: &Run) -> SloOutcome {
        let (actual, most) = match self.what {
            What::NoErrors => (Some(run.load.errors.values().sum()), 1),
            What::Latency { of, percentile, below_ns } => {
                let latencies = &run.latency_ns;
                let summary = match of {
                    Latency::Response => &latencies.response,
                    Latency::Service => &latencies.service,
                    Latency::EndToEnd => &latencies.e2e,
                };
                (summary.as_ref().and_then(|summary| percentile.of(summary)), below_ns)
            }
        };
        let met = actual.is_some_and(|actual| actual < most);
        let why = match (met, actual, self.what) {
            (true, ..) => None,
            (false, None, _) => Some(format!("{}: too few samples to tell", self.text)),
            (false, Some(count), What::NoErrors) => Some(format!("{count} errors")),
            (false, _, What::Latency { .. }) => {
                Some(format!("{}: it is {}", self.text, Unit::Nanoseconds.show(actual)))
            }
        };
        SloOutcome { expression: self.text.clone(), met, actual, why }
    }
}

impl Percentile {
    fn of(self, summary: &Summary) -> Option<u64> {
        match self {
            Self::P50 => summary.p50,
            Self::P90 => summary.p90,
            Self::P99 => summary.p99,
            Self::P999 => summary.p999,
            Self::P9999 => summary.p9999,
            Self::Max => summary.max,
            Self::Mean => summary.mean,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn conditions_are_read_and_held_against_a_run() {
        let slo: Slo = "p99<5ms,p50 < 120us,errors=0,e2e.p99<1s,p99.99<1s".parse().expect("good");
        // Response times from 100 to 150 microseconds, 5,000 of them.
        let mut run = fixture();
        let met = |run: &Run| slo.outcomes(run).iter().map(|row| row.met).collect::<Vec<_>>();
        assert_eq!(met(&run), [true, false, true, false, false]);
        run.load.errors.insert("overloaded".to_owned(), 3);
        let outcomes = slo.outcomes(&run);
        assert_eq!(outcomes[2].why.as_deref(), Some("3 errors"));
        assert!(outcomes[1].why.as_ref().expect("missed").contains("it is 12"), "{outcomes:?}");
        assert!(outcomes[4].why.as_ref().expect("unknown").contains("too few samples"));
        assert_eq!(slo.to_string(), "p99<5ms,p50 < 120us,errors=0,e2e.p99<1s,p99.99<1s");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "p99", "p98<1ms", "p99<5", "p99>5ms", "disk.p99<1ms", "errors=1"] {
            let error = text.parse::<Slo>().expect_err(text);
            assert!(error.contains("expected e.g. p99<5ms"), "{text}: {error}");
        }
    }
}
