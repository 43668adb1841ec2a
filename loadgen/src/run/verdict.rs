//! How far a run can be trusted, and what speaks for that.

use wire::ErrorCode;

use super::choices::{AcksChoice, Rate, TargetChoice};
use super::result::Measured;
use super::tally::{CONNECTION_LOST, Tally};
use super::timing::WarmedUp;
use crate::integrity::IntegrityVerdict;
use crate::report::{BrokerEnd, Efficiency, Evidence, FloorFigures, Load, Validity};
use crate::schedule::Arrivals;
use crate::timeline::Series;
use crate::validity::{
    PressureShares, Reason, Steadiness, busy_host, client_limited, clock, generator_late,
    noisy_host, overloaded, pressed_host, starved_completion_worker, steadiness,
};

/// What a broker says whose disk is full.
const STORAGE_FULL: ErrorCode = ErrorCode::StorageFull;
/// Without a measured limit, a run that moves more than this is not starved of completions.
const STARVED_BYTES_PER_S_MAX: u64 = 100_000_000;

/// A run and its figures.
pub(super) struct Judged<'a> {
    pub(super) measured: &'a Measured<'a>,
    pub(super) load: &'a Load,
    pub(super) efficiency: &'a Efficiency,
    pub(super) integrity: IntegrityVerdict,
    pub(super) floor: &'a FloorFigures,
    pub(super) series: Option<&'a Series>,
}

impl Judged<'_> {
    /// The verdict with its evidence.
    pub(super) fn validity(&self) -> Validity {
        let (steady, unsteady) = self.steadiness();
        let mut reasons = self.broken_promises();
        reasons.extend(self.starved());
        reasons.extend(self.too_slow());
        reasons.extend(self.host());
        reasons.extend(unsteady);
        if let Some(WarmedUp::Never(what)) = self.measured.warmed_up {
            reasons.push(Reason::NeverSteady { what });
        }
        let mut validity = Validity::of(&reasons);
        validity.evidence = Some(self.evidence(&steady));
        validity
    }

    fn broken_promises(&self) -> Vec<Reason> {
        let Measured { args, tally, .. } = self.measured;
        let mut reasons = Vec::new();
        if self.integrity == IntegrityVerdict::Failed {
            reasons.push(Reason::IntegrityFailed);
        }
        // What faults do to connections is what they are for; an end has a reason of its own, and
        // so has a full disk.
        let end = self.measured.end.as_ref();
        let wanted = |code: &str| match code {
            CONNECTION_LOST => !args.faults.is_empty() || end.is_some(),
            other => other == STORAGE_FULL.name(),
        };
        let refused = |tally: &Tally| tally.errors.get(STORAGE_FULL.name()).copied();
        let count = refused(tally).unwrap_or(0);
        reasons.extend(end.map(|BrokerEnd { after_ns, how }| Reason::BrokerEnded {
            after_ns: *after_ns,
            how: how.clone(),
        }));
        if count > 0 {
            reasons.push(Reason::DiskFull { count });
        }
        let errors = |tally: &Tally| {
            let errors = tally.errors.iter().filter(|(code, _)| !wanted(code));
            errors.map(|(_, count)| count).sum::<u64>()
        };
        let beside = self.measured.beside;
        let failures = errors(tally) + beside.map_or(0, errors) + self.measured.checked.read_errors;
        let again = beside.unwrap_or(tally).passes_finished;
        if args.cold && again > 0 {
            reasons.push(Reason::NotCold { passes: again });
        }
        if failures > 0 {
            reasons.push(Reason::Errors { count: failures });
        }
        if self.load.is_empty() {
            reasons.push(Reason::NothingMeasured);
        }
        reasons.extend(clock(tally.clock_backwards, tally.e2e.count()));
        reasons
    }

    fn starved(&self) -> Option<Reason> {
        let waits_for_disk = matches!(self.measured.args.acks, AcksChoice::Durable)
            && self.measured.args.target.keeps_records();
        let limit = self.floor.disk_durable_write_bytes_per_s;
        let fast_enough = limit.map_or(STARVED_BYTES_PER_S_MAX, |limit| limit / 4);
        // Large batches in a deep window honestly take as long as a tick.
        if !waits_for_disk || self.load.bytes_per_s.unwrap_or(0) >= fast_enough {
            return None;
        }
        let floor_p50_ns = self.floor.durable_write_p50_ns();
        starved_completion_worker(
            &self.measured.tally.service,
            crate::clock::tick_ns(),
            floor_p50_ns,
        )
    }

    /// Of an open loop: the broker, or the generator.
    fn too_slow(&self) -> Vec<Reason> {
        let tally = self.measured.tally;
        let Some((offered, achieved)) =
            self.load.offered_records_per_s.zip(self.load.achieved_records_per_s)
        else {
            return Vec::new();
        };
        // All latencies of `null` are the generator's own.
        let late = match self.measured.args.target {
            TargetChoice::Null => None,
            _ => generator_late(&tally.slip, &tally.service),
        };
        let reasons = [
            overloaded(achieved, offered),
            client_limited(self.generator_busy_ns(), self.measured.window_ns),
            late,
        ];
        reasons.into_iter().flatten().collect()
    }

    /// Time that the busiest generator thread worked.
    fn generator_busy_ns(&self) -> u64 {
        let effort = &self.measured.tally.effort;
        match self.measured.args.busy_poll {
            true => effort.busy_ns_max,
            false => effort.cpu_ns_max,
        }
    }

    fn host(&self) -> Vec<Reason> {
        let [Some(before), Some(after)] = self.measured.cpu else { return Vec::new() };
        let mut reasons: Vec<Reason> = noisy_host(before, after).into_iter().collect();
        if let Some(own_ns) = self.own_cpu_ns() {
            reasons.extend(busy_host(before, after, own_ns));
            reasons.extend(pressed_host(&self.pressure(), [before, after], own_ns));
        }
        reasons
    }

    fn pressure(&self) -> PressureShares {
        let [before, after] = self.measured.pressure;
        before.shares_until(after, self.measured.window.len_ns())
    }

    /// What broker and generator used; unknown of a broker that runs elsewhere.
    fn own_cpu_ns(&self) -> Option<u64> {
        let generator_ns = self.efficiency.generator_cpu_ns_total.unwrap_or(0);
        self.efficiency.broker_cpu_ns_total.map(|broker_ns| broker_ns + generator_ns)
    }

    /// Only a load that is the same at every moment can be said to drift.
    fn steadiness(&self) -> (Steadiness, Option<Reason>) {
        let steady_load = match &self.measured.args.rate {
            Rate::Max => true,
            Rate::Open(arrivals) => arrivals.is_steady(),
        };
        let steady_load = steady_load && self.measured.args.faults.is_empty();
        match self.series.filter(|_| steady_load) {
            Some(series) => steadiness(series),
            None => (Steadiness::default(), None),
        }
    }

    fn evidence(&self, steady: &Steadiness) -> Evidence {
        let Measured { args, tally, window_ns, cpu, .. } = self.measured;
        let per_mille = |share: Option<f64>| share.map(thousandths);
        let shares = match cpu {
            [Some(before), Some(after)] => Some(before.shares_until(*after)),
            _ => None,
        };
        let pressure = self.pressure();
        let achieved = self.load.achieved_records_per_s;
        let steady_rate = matches!(&args.rate, Rate::Open(Arrivals::Constant { .. }));
        Evidence {
            achieved_of_offered_basis_points: achieved
                .zip(self.load.offered_records_per_s.filter(|&offered| offered > 0))
                .and_then(|(achieved, offered)| achieved.checked_mul(10_000)?.checked_div(offered)),
            unsent_records: steady_rate.then_some(tally.unsent_records),
            generator_busy_percent: Some(self.generator_busy_ns() * 100 / (*window_ns).max(1)),
            generator_slip_p99_ns: tally.slip.p99(),
            rate_drift_per_mille: per_mille(steady.rate_drift),
            p50_drift_per_mille: per_mille(steady.p50_drift),
            p99_drift_per_mille: per_mille(steady.p99_drift),
            settled_after_ns: steady.settled_after_ns,
            steal_basis_points: shares.map(|shares| shares.steal_basis_points),
            programs_cpu_basis_points: shares.map(|shares| shares.programs_basis_points),
            cpu_pressure_per_mille: pressure.cpu,
            io_pressure_per_mille: pressure.io,
            memory_pressure_per_mille: pressure.memory,
            clock_backwards_records: tally.clock_backwards,
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "float to integer casts saturate")]
fn thousandths(share: f64) -> i64 {
    (share * 1_000.0).round() as i64
}
