//! What befell the broker on purpose, and how it came back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Unit;
use crate::timeline::Series;

/// Latencies have settled when so many stretches in a row are as they were before ..
const SETTLED_STRETCHES: usize = 3;
/// .. that is, not above so many times their median.
const SETTLED_TIMES: u64 = 2;

/// The faults of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Faults {
    /// Each, in order of time.
    pub faults: Vec<FaultOutcome>,
    /// Connections of producers and consumers that were lost.
    pub connections_lost: u64,
    /// Connections that were made again.
    pub reconnected: u64,
    /// Records that were sent and never answered: they may be there once, or not at all.
    pub unacknowledged_records: Option<u64>,
    /// Of these, those that are there.
    pub unacknowledged_found: Option<u64>,
}

/// The end of a broker that nobody wanted to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BrokerEnd {
    /// When it was noticed, from the beginning of the window.
    pub after_ns: u64,
    /// How it ended, as far as that is known.
    pub how: String,
}

/// One fault. Times are in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FaultOutcome {
    /// As `--fault` has it.
    pub fault: String,
    /// From the beginning of the window to the moment when it struck.
    pub struck_ns: u64,
    /// From there until the broker served again.
    pub down_ns: u64,
    /// Of that, the broker's own start with its recovery; null where it was not killed.
    pub recovery_ns: Option<u64>,
    /// From the broker being ready to the first acknowledgement; null if none came before the
    /// window closed.
    pub first_ack_after_ns: Option<u64>,
    /// From the strike to the first acknowledgement behind it.
    pub outage_ns: Option<u64>,
    /// From the strike until the 99th percentile of response times was no more than twice its
    /// median of before, for three stretches of `series`; null if it never was, or is not known.
    pub p99_settled_after_ns: Option<u64>,
}

impl Faults {
    /// Looks into the run's series for when latencies had settled again.
    pub fn look_into(&mut self, series: &Series) {
        for fault in &mut self.faults {
            fault.p99_settled_after_ns = p99_settled(series, fault.struck_ns);
        }
    }
}

impl FaultOutcome {
    /// In a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let show = |ns| Unit::Nanoseconds.show(ns);
        let recovery = self.recovery_ns.map_or_else(String::new, |recovery_ns| {
            format!(", {} of it to start and recover", show(Some(recovery_ns)))
        });
        let first = match self.first_ack_after_ns {
            Some(ns) => format!("first acknowledgement {} later", show(Some(ns))),
            None => "NO acknowledgement came before the window closed".to_owned(),
        };
        format!("{}: down for {}{recovery}; {first}", self.fault, show(Some(self.down_ns)))
    }
}

fn p99_settled(series: &Series, struck_ns: u64) -> Option<u64> {
    let stretch_ns = series.interval_ns.max(1);
    let struck = usize::try_from(struck_ns / stretch_ns).ok()?;
    let before = series.p99_ns.get(..struck)?.iter().flatten().copied();
    let usual = super::Spread::of(before)?.median.saturating_mul(SETTLED_TIMES);
    let calm = |at: usize| {
        let end = (at + SETTLED_STRETCHES).min(series.p99_ns.len());
        series.p99_ns[at..end].iter().all(|p99| p99.is_some_and(|p99| p99 <= usual))
    };
    let at = (struck + 1..series.p99_ns.len()).find(|&at| calm(at))?;
    Some((at as u64).saturating_mul(stretch_ns).saturating_sub(struck_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(p99_ns: &[u64]) -> Series {
        // Zero stands for a stretch without an answer.
        let p99_ns = p99_ns.iter().map(|&ns| (ns > 0).then_some(ns)).collect();
        Series { interval_ns: 100, p99_ns, ..Series::default() }
    }

    #[test]
    fn latencies_have_settled_when_they_are_as_before_for_a_while() {
        let found = |p99: &[u64], struck| p99_settled(&series(p99), struck);
        // Struck within the fourth stretch; calm from the eighth on.
        assert_eq!(found(&[5, 6, 7, 90, 0, 80, 9, 30, 8, 8, 12, 9], 350), Some(450));
        assert_eq!(found(&[5, 6, 7, 90, 80, 70], 350), None, "it never was");
        assert_eq!(found(&[90, 5, 5, 5], 50), None, "nothing is known of before");
        assert_eq!(found(&[5, 5, 5, 90, 6], 320), Some(80), "up to the end");
    }

    #[test]
    fn a_fault_in_a_sentence() {
        let mut outcome = FaultOutcome {
            fault: "@1s kill-broker,restart=1s".to_owned(),
            struck_ns: 1,
            down_ns: 1_040_000_000,
            recovery_ns: Some(40_000_000),
            first_ack_after_ns: Some(2_000_000),
            outage_ns: None,
            p99_settled_after_ns: None,
        };
        let sentence = outcome.sentence();
        assert!(sentence.ends_with("first acknowledgement 2.00 ms later"), "{sentence}");
        assert!(sentence.contains("40.0 ms of it to start and recover"), "{sentence}");
        outcome.first_ack_after_ns = None;
        assert!(outcome.sentence().contains("NO acknowledgement"));
    }
}
