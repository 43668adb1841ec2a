//! Whether a run measured the broker, or something else.

mod host;
mod steadiness;
mod warm_up;

pub use host::{
    CpuShares, CpuTimes, Pressure, PressureShares, busy_host, noisy_host, pressed_host,
};
pub use steadiness::{Steadiness, steadiness};
pub use warm_up::{STRETCH_NS, Unsettled, WARM_UP_NS_MAX, WarmUp};

use crate::latency::Latencies;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A generator thread that used more of its core than this (per cent) may be what was measured.
const CLIENT_CPU_PERCENT_MAX: u64 = 95;
/// Below this share (per cent) of the offered rate the broker did not keep up.
const ACHIEVED_PERCENT_MIN: u64 = 99;
/// Half width of the band around a multiple of the tick, in per cent of the tick.
const TICK_BAND_PERCENT: u64 = 3;
/// This share (per cent) of the samples in those bands looks like a starved completion worker.
const QUANTISED_PERCENT_MIN: u64 = 20;
/// Multiples of the tick that are looked at.
const TICK_MULTIPLES: u64 = 16;
/// Fewer samples than this show nothing.
const QUANTISED_SAMPLES_MIN: u64 = 50;
/// A tick is only suspected when the floor lies this many times below it: otherwise honest
/// latencies of that size are likely.
const TICK_OVER_FLOOR_MIN: u64 = 4;
/// Where no floor was measured, ticks shorter than this are not suspected.
const TICK_NS_MIN_WITHOUT_FLOOR: u64 = 4_000_000;

/// One reason not to trust a run, or not to trust all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Durable commits finish at ticks of the scheduler: some thread spins without yielding.
    StarvedCompletionWorker {
        /// Length of the tick.
        tick_ns: u64,
        /// Share of the samples near its multiples.
        percent: u64,
    },
    /// A generator thread used all of its core in an open loop.
    ClientLimited {
        /// CPU share of the busiest generator thread.
        percent: u64,
    },
    /// The generator sent later than it could have, by more than the broker takes to answer.
    GeneratorLate {
        /// 99th percentile of its lateness.
        slip_p99_ns: u64,
        /// Median of the service time.
        service_p50_ns: u64,
    },
    /// The figures changed while they were measured.
    Unsteady {
        /// Which one.
        what: &'static str,
        /// Or falling.
        rising: bool,
        /// By how much over the window.
        percent: u64,
        /// From when on they did not, if they settled.
        settled_after_ns: Option<u64>,
    },
    /// The load had not become steady when warming up took too long.
    NeverSteady {
        /// What was not.
        what: Unsettled,
    },
    /// Records arrived before they were sent.
    Clock {
        /// How many.
        records: u64,
    },
    /// The offered rate was not achieved.
    Overloaded {
        /// Achieved share of the offered rate.
        percent: u64,
    },
    /// The hypervisor gave CPU time of this machine to others.
    NoisyHost {
        /// Stolen share of all CPU time, in hundredths of a per cent.
        steal_basis_points: u64,
    },
    /// Tasks waited for a resource of the machine, though not because of broker and generator.
    PressedHost {
        /// Which resource.
        what: &'static str,
        /// Share of the time in which some task waited.
        per_mille: u64,
    },
    /// Programs besides broker and generator used the CPUs.
    BusyHost {
        /// Their share of the CPU time of the whole machine.
        percent: u64,
    },
    /// No record was acknowledged or read within the window.
    NothingMeasured,
    /// Records were lost, duplicated, reordered or corrupted.
    IntegrityFailed,
    /// The broker ended, and nobody had wanted it to.
    BrokerEnded {
        /// When it was noticed, from the beginning of the window.
        after_ns: u64,
        /// How it ended.
        how: String,
    },
    /// The broker had no room for more.
    DiskFull {
        /// Requests that it refused for that.
        count: u64,
    },
    /// Requests were refused or connections failed.
    Errors {
        /// How many.
        count: u64,
    },
    /// A cold read came to its end and began again, with data that was not cold any more.
    NotCold {
        /// Times that a partition was read to its end.
        passes: u64,
    },
    /// A floor could not be measured.
    FloorMissing {
        /// Which one and why.
        what: String,
    },
}

const DISK_FULL: &str =
    " since its disk has no room for more; give its --data-dir a larger one, or offer less";
const NOTHING: &str = "nothing_measured: no record was acknowledged or read within the window; \
                       pass a longer --duration, or see which errors there were";
const NOT_COLD: &str = " and begun again; only the first reading was cold: preload more, or \
                        measure for less long";

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StarvedCompletionWorker { tick_ns, percent } => write!(
                f,
                "starved_completion_worker: {percent} % of the latencies lie at multiples of \
                 {} us (the scheduler's tick); a thread spins without yielding its core",
                tick_ns / 1_000
            ),
            Self::ClientLimited { percent } => write!(
                f,
                "client_limited: a generator thread used {percent} % of its core; the broker may \
                 be faster than shown"
            ),
            Self::GeneratorLate { slip_p99_ns, service_p50_ns } => write!(
                f,
                "client_limited: the generator was late by {} us (p99), longer than half of the \
                 answers took ({} us): latencies are its own",
                slip_p99_ns / 1_000,
                service_p50_ns / 1_000
            ),
            Self::Unsteady { what, rising, percent, settled_after_ns } => {
                // A line through a rate that breaks down may fall by more than all of it.
                let fell = format!("fell by {}", (*percent).min(100));
                let moved = if *rising { format!("rose by {percent}") } else { fell };
                write!(f, "unsteady: the {what} {moved} % within the window")?;
                settled(f, *settled_after_ns)
            }
            Self::NeverSteady { what } => write!(
                f,
                "unsteady: the {} was not steady after warming up for {} s",
                what.name(),
                WARM_UP_NS_MAX / 1_000_000_000
            ),
            Self::Clock { records } => {
                write!(f, "clock: {records} records arrived before they were sent")
            }
            Self::Overloaded { percent } => {
                write!(f, "overloaded: {percent} % of the offered rate was achieved")
            }
            Self::NoisyHost { steal_basis_points } => write!(
                f,
                "noisy_host: {}.{:02} % of the CPU time was stolen by the hypervisor",
                steal_basis_points / 100,
                steal_basis_points % 100
            ),
            Self::PressedHost { what, per_mille } => write!(
                f,
                "noisy_host: in {}.{} % of the time some task waited for {what}",
                per_mille / 10,
                per_mille % 10
            ),
            Self::BusyHost { percent } => {
                write!(f, "busy_host: other programs used {percent} % of this machine's CPU time")
            }
            Self::NothingMeasured => f.write_str(NOTHING),
            Self::IntegrityFailed => f.write_str(
                "integrity_failed: records were lost, duplicated, reordered or corrupted",
            ),
            Self::BrokerEnded { after_ns, how } => ended(f, *after_ns, how),
            Self::DiskFull { count } => {
                write!(f, "disk_full: the broker refused {count} requests{DISK_FULL}")
            }
            Self::Errors { count } => write!(f, "errors: {count} requests failed"),
            Self::NotCold { passes } => {
                write!(f, "not_cold: partitions were read to their end {passes} times{NOT_COLD}")
            }
            Self::FloorMissing { what } => write!(f, "floor_missing: {what}"),
        }
    }
}

fn ended(f: &mut fmt::Formatter<'_>, after_ns: u64, how: &str) -> fmt::Result {
    let (seconds, tenths) = (after_ns / 1_000_000_000, after_ns / 100_000_000 % 10);
    write!(
        f,
        "broker_ended: the broker ended {seconds}.{tenths} s after the window opened ({how}); all \
         figures are of the time before"
    )
}

/// When what moved came to rest, and so what to do.
fn settled(f: &mut fmt::Formatter<'_>, after_ns: Option<u64>) -> fmt::Result {
    match after_ns {
        Some(ns) => write!(
            f,
            "; it had settled after {}.{} s: pass a longer --warmup",
            ns / 1_000_000_000,
            ns / 100_000_000 % 10
        ),
        None => f.write_str(" and did not settle: measure for longer"),
    }
}

impl Reason {
    /// Whether the figures must not be used at all.
    fn verdict(&self) -> ValidityVerdict {
        match self {
            Self::StarvedCompletionWorker { .. }
            | Self::NothingMeasured
            | Self::IntegrityFailed
            | Self::BrokerEnded { .. }
            | Self::DiskFull { .. } => ValidityVerdict::Invalid,
            Self::ClientLimited { .. }
            | Self::GeneratorLate { .. }
            | Self::Unsteady { .. }
            | Self::NeverSteady { .. }
            | Self::Clock { .. }
            | Self::Overloaded { .. }
            | Self::NoisyHost { .. }
            | Self::BusyHost { .. }
            | Self::PressedHost { .. }
            | Self::Errors { .. }
            | Self::NotCold { .. }
            | Self::FloorMissing { .. } => ValidityVerdict::Doubtful,
        }
    }
}

impl Reason {
    /// The state of a run whose worst reason this is, in a word.
    #[must_use]
    pub fn status(&self) -> &'static str {
        match self {
            Self::StarvedCompletionWorker { .. } => "starved",
            Self::ClientLimited { .. } | Self::GeneratorLate { .. } => "client_limited",
            Self::Overloaded { .. } => "overloaded",
            Self::Unsteady { .. } | Self::NeverSteady { .. } => "unsteady",
            Self::NoisyHost { .. } | Self::BusyHost { .. } | Self::PressedHost { .. } => {
                "noisy_host"
            }
            Self::Clock { .. } => "clock",
            Self::NothingMeasured => "nothing_measured",
            Self::IntegrityFailed => "integrity_failed",
            Self::BrokerEnded { .. } => "broker_ended",
            Self::DiskFull { .. } => "disk_full",
            Self::Errors { .. } => "errors",
            Self::NotCold { .. } => "not_cold",
            Self::FloorMissing { .. } => "floor_missing",
        }
    }

    /// Which of several reasons names the run: the lowest.
    fn rank(&self) -> u8 {
        match self {
            Self::IntegrityFailed => 0,
            Self::BrokerEnded { .. } | Self::DiskFull { .. } => 1,
            Self::StarvedCompletionWorker { .. } | Self::Clock { .. } => 2,
            Self::NothingMeasured | Self::Errors { .. } => 3,
            // Whoever is too slow himself cannot say that the broker is.
            Self::ClientLimited { .. } | Self::GeneratorLate { .. } => 4,
            Self::Overloaded { .. } => 5,
            Self::NoisyHost { .. } | Self::BusyHost { .. } | Self::PressedHost { .. } => 6,
            Self::Unsteady { .. } | Self::NeverSteady { .. } => 7,
            Self::NotCold { .. } | Self::FloorMissing { .. } => 8,
        }
    }
}

/// The state of a run in a word: "ok", or its worst reason.
#[must_use]
pub fn status(reasons: &[Reason]) -> &'static str {
    reasons.iter().min_by_key(|reason| reason.rank()).map_or("ok", Reason::status)
}

/// How far a run's figures can be trusted.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ValidityVerdict {
    /// Nothing speaks against them.
    Valid,
    /// Read the reasons first.
    Doubtful,
    /// They do not show the broker.
    Invalid,
}

/// The worst verdict among `reasons`.
#[must_use]
pub fn verdict(reasons: &[Reason]) -> ValidityVerdict {
    reasons.iter().map(Reason::verdict).max().unwrap_or(ValidityVerdict::Valid)
}

/// Looks for a starved completion worker in the service latencies of a durable run.
///
/// `floor_p50_ns` is the raw durable write of the same machine, where it was measured.
#[must_use]
pub fn starved_completion_worker(
    service: &Latencies,
    tick_ns: u64,
    floor_p50_ns: Option<u64>,
) -> Option<Reason> {
    let suspicious = match floor_p50_ns {
        Some(floor) => tick_ns >= floor * TICK_OVER_FLOOR_MIN,
        None => tick_ns >= TICK_NS_MIN_WITHOUT_FLOOR,
    };
    if !suspicious || service.count() < QUANTISED_SAMPLES_MIN {
        return None;
    }
    let near: u64 = service
        .samples()
        .filter(|&(latency_ns, _)| near_multiple(latency_ns, tick_ns))
        .map(|(_, samples)| samples)
        .sum();
    let percent = near * 100 / service.count();
    (percent >= QUANTISED_PERCENT_MIN)
        .then_some(Reason::StarvedCompletionWorker { tick_ns, percent })
}

fn near_multiple(latency_ns: u64, tick_ns: u64) -> bool {
    // The band is a share of one tick, not of the multiple: smooth latencies of many ticks would
    // else fall into bands that cover everything.
    let band = tick_ns * TICK_BAND_PERCENT / 100;
    let multiple = (latency_ns + tick_ns / 2) / tick_ns;
    (1..=TICK_MULTIPLES).contains(&multiple) && latency_ns.abs_diff(multiple * tick_ns) <= band
}

/// Whether the busiest generator thread, `cpu_ns` of `wall_ns`, limited an open loop. Busy-polling
/// threads use their whole core by design: `busy_ns` is then the time not spent polling in vain.
#[must_use]
pub fn client_limited(busy_ns: u64, wall_ns: u64) -> Option<Reason> {
    let percent = busy_ns * 100 / wall_ns.max(1);
    (percent > CLIENT_CPU_PERCENT_MAX).then_some(Reason::ClientLimited { percent })
}

/// Whether the generator was later than the broker was slow.
#[must_use]
pub fn generator_late(slip: &Latencies, service: &Latencies) -> Option<Reason> {
    let (slip_p99_ns, service_p50_ns) = (slip.p99()?, service.p50()?);
    (slip_p99_ns > service_p50_ns).then_some(Reason::GeneratorLate { slip_p99_ns, service_p50_ns })
}

/// Whether more records than a stray few arrived before they were sent.
#[must_use]
pub fn clock(backwards: u64, records: u64) -> Option<Reason> {
    (backwards * 10_000 > records).then_some(Reason::Clock { records: backwards })
}

/// Whether the achieved rate fell short of the offered one.
#[must_use]
pub fn overloaded(achieved: u64, offered: u64) -> Option<Reason> {
    let percent = achieved * 100 / offered.max(1);
    (percent < ACHIEVED_PERCENT_MIN).then_some(Reason::Overloaded { percent })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK_NS: u64 = 4_000_000;

    fn latencies(samples: impl IntoIterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::new();
        samples.into_iter().for_each(|sample| latencies.record(sample));
        latencies
    }

    #[test]
    fn commits_at_ticks_are_noticed() {
        let starved = latencies(
            (0..1000).map(|i| if i % 3 == 0 { 3_990_000 + i * 10 } else { 120_000 + i * 50 }),
        );
        let reason = starved_completion_worker(&starved, TICK_NS, Some(110_000));
        assert_eq!(reason, Some(Reason::StarvedCompletionWorker { tick_ns: TICK_NS, percent: 33 }));
        assert_eq!(verdict(&[reason.expect("just seen")]), ValidityVerdict::Invalid);
        let second = latencies((0..1000).map(|i| 7_950_000 + i * 100));
        assert!(starved_completion_worker(&second, TICK_NS, None).is_some());
    }

    #[test]
    fn smooth_latencies_are_not() {
        let fast = latencies((0..1000).map(|i| 100_000 + i * 400));
        assert_eq!(starved_completion_worker(&fast, TICK_NS, Some(110_000)), None);
        let slow = latencies((0..100_000).map(|i| 100_000 + i * 600));
        assert_eq!(starved_completion_worker(&slow, TICK_NS, Some(110_000)), None);
        let few = latencies([TICK_NS; 10]);
        assert_eq!(starved_completion_worker(&few, TICK_NS, None), None);
    }

    #[test]
    fn a_tick_near_the_floor_is_not_suspected() {
        let millisecond = latencies([1_000_000; 1000]);
        assert_eq!(starved_completion_worker(&millisecond, 1_000_000, None), None);
        assert_eq!(starved_completion_worker(&millisecond, 1_000_000, Some(600_000)), None);
        assert!(starved_completion_worker(&millisecond, 1_000_000, Some(100_000)).is_some());
    }

    #[test]
    fn a_late_generator_is_told_from_a_slow_broker() {
        let (late, slow) = (latencies([50_000; 2_000]), latencies([200_000; 2_000]));
        assert_eq!(generator_late(&late, &slow), None);
        let reason = generator_late(&slow, &late).expect("late");
        assert!(reason.to_string().contains("late by 200 us"), "{reason}");
        assert_eq!(generator_late(&latencies([]), &slow), None);
        assert_eq!((clock(0, 0), clock(1, 20_000)), (None, None));
        assert_eq!(clock(3, 20_000), Some(Reason::Clock { records: 3 }));
    }

    #[test]
    fn the_worst_reason_names_the_run() {
        assert_eq!(status(&[]), "ok");
        let reasons = [Reason::Overloaded { percent: 50 }, Reason::ClientLimited { percent: 99 }];
        assert_eq!(status(&reasons), "client_limited");
        assert_eq!(status(&[reasons[0].clone(), Reason::IntegrityFailed]), "integrity_failed");
        let never = Reason::NeverSteady { what: Unsettled::P99 };
        assert_eq!(
            (never.status(), verdict(std::slice::from_ref(&never))),
            ("unsteady", ValidityVerdict::Doubtful)
        );
        assert!(never.to_string().contains("the 99th percentile was not steady after"), "{never}");
    }

    #[test]
    fn rates_and_shares() {
        assert_eq!(overloaded(990, 1000), None);
        assert_eq!(overloaded(980, 1000), Some(Reason::Overloaded { percent: 98 }));
        assert_eq!(client_limited(95, 100), None);
        assert_eq!(client_limited(97, 100), Some(Reason::ClientLimited { percent: 97 }));
        assert_eq!(verdict(&[]), ValidityVerdict::Valid);
    }
}
