//! What the machine around a run was busy with.

use super::Reason;
use crate::sampler::stalled_us;

/// Above this share (per cent) of stolen CPU time the host was busy with others.
const STEAL_PERCENT_MAX: u64 = 1;
/// Above this share (per cent) of the CPU time used by other programs, latencies are theirs too.
const OTHERS_PERCENT_MAX: u64 = 5;
/// `USER_HZ`: the unit of `/proc/stat`, 100 on every Linux.
const USER_TICK_NS: u64 = 10_000_000;
/// Above this share of the time (per mille) in which some task waited for memory, latencies are
/// those of reclaiming pages.
const MEMORY_PRESSURE_PER_MILLE_MAX: u64 = 10;
/// Above this share of the time in which some task waited for a CPU ..
const CPU_PRESSURE_PER_MILLE_MAX: u64 = 100;
/// .. others are to blame if they used more than this share of all CPU time.
const OTHERS_UNDER_PRESSURE_PER_MILLE_MAX: u64 = 20;

/// CPU time of the whole machine, from the first line of `/proc/stat`, in clock ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTimes {
    total: u64,
    /// What programs used: user, nice and system time.
    programs: u64,
    steal: u64,
}

impl CpuTimes {
    /// Reads them; `None` where `/proc/stat` is absent or odd.
    #[must_use]
    pub fn read() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/stat").ok()?)
    }

    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().find(|line| line.starts_with("cpu "))?;
        // user nice system idle iowait irq softirq steal; guest times are part of user already.
        let fields: Vec<u64> =
            line.split_whitespace().skip(1).take(8).map_while(|field| field.parse().ok()).collect();
        let steal = *fields.get(7)?;
        Some(Self { total: fields.iter().sum(), programs: fields.iter().take(3).sum(), steal })
    }
}

/// What CPU time went to between two readings, of all that there was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuShares {
    /// Stolen by the hypervisor.
    pub steal_basis_points: u64,
    /// Used by programs.
    pub programs_basis_points: u64,
}

impl CpuTimes {
    /// The shares since this reading.
    #[must_use]
    pub fn shares_until(self, after: Self) -> CpuShares {
        let total = after.total.saturating_sub(self.total).max(1);
        let share = |before: u64, after: u64| after.saturating_sub(before) * 10_000 / total;
        CpuShares {
            steal_basis_points: share(self.steal, after.steal),
            programs_basis_points: share(self.programs, after.programs),
        }
    }
}

/// Whether the hypervisor stole more than a little between two readings.
#[must_use]
pub fn noisy_host(before: CpuTimes, after: CpuTimes) -> Option<Reason> {
    let total = after.total.saturating_sub(before.total).max(1);
    let steal = after.steal.saturating_sub(before.steal);
    (steal * 100 > total * STEAL_PERCENT_MAX)
        .then(|| Reason::NoisyHost { steal_basis_points: steal * 10_000 / total })
}

/// Whether others used the CPUs between two readings; `own_ns` is what broker and generator used.
#[must_use]
pub fn busy_host(before: CpuTimes, after: CpuTimes, own_ns: u64) -> Option<Reason> {
    let percent = others_per_mille(before, after, own_ns) / 10;
    (percent > OTHERS_PERCENT_MAX).then_some(Reason::BusyHost { percent })
}

/// Share of the CPU time of the whole machine that others used between two readings.
fn others_per_mille(before: CpuTimes, after: CpuTimes, own_ns: u64) -> u64 {
    let total = after.total.saturating_sub(before.total).max(1);
    let programs = after.programs.saturating_sub(before.programs);
    programs.saturating_sub(own_ns / USER_TICK_NS) * 1_000 / total
}

/// For how long some task has waited so far, in microseconds: for a CPU, for input and output, for
/// memory. None where the kernel does not tell (`CONFIG_PSI`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Runnable, but not running.
    pub cpu_us: Option<u64>,
    /// Waiting for a device.
    pub io_us: Option<u64>,
    /// Waiting for pages.
    pub memory_us: Option<u64>,
}

/// Shares of the time between two readings, in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PressureShares {
    /// For a CPU.
    pub cpu: Option<u64>,
    /// For a device. A load on a disk makes it itself: it is told, and no reason for doubt.
    pub io: Option<u64>,
    /// For memory.
    pub memory: Option<u64>,
}

impl Pressure {
    /// Reads it.
    #[must_use]
    pub fn read() -> Self {
        let stalled = |name: &str| {
            let text = std::fs::read_to_string(format!("/proc/pressure/{name}")).ok()?;
            stalled_us(&text)
        };
        Self { cpu_us: stalled("cpu"), io_us: stalled("io"), memory_us: stalled("memory") }
    }

    /// The shares of `elapsed_ns` since this reading.
    #[must_use]
    pub fn shares_until(self, after: Self, elapsed_ns: u64) -> PressureShares {
        let share = |before: Option<u64>, after: Option<u64>| {
            let stalled_ns = after?.saturating_sub(before?).saturating_mul(1_000);
            let wide = u128::from(stalled_ns) * 1_000 / u128::from(elapsed_ns.max(1));
            Some(u64::try_from(wide).unwrap_or(u64::MAX).min(1_000))
        };
        PressureShares {
            cpu: share(self.cpu_us, after.cpu_us),
            io: share(self.io_us, after.io_us),
            memory: share(self.memory_us, after.memory_us),
        }
    }
}

/// Whether tasks waited for memory, or for a CPU that others used. Broker and generator have more
/// threads than cores, and wait for each other: alone that is no noise.
#[must_use]
pub fn pressed_host(
    shares: &PressureShares,
    [before, after]: [CpuTimes; 2],
    own_ns: u64,
) -> Option<Reason> {
    let beyond = |share: Option<u64>, most: u64| share.filter(|&share| share > most);
    if let Some(per_mille) = beyond(shares.memory, MEMORY_PRESSURE_PER_MILLE_MAX) {
        return Some(Reason::PressedHost { what: "memory", per_mille });
    }
    let per_mille = beyond(shares.cpu, CPU_PRESSURE_PER_MILLE_MAX)?;
    let others = others_per_mille(before, after, own_ns);
    (others > OTHERS_UNDER_PRESSURE_PER_MILLE_MAX)
        .then_some(Reason::PressedHost { what: "a CPU that others used too", per_mille })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_is_read_from_the_kernel_s_table() {
        let read = |steal: u64| {
            CpuTimes::parse(&format!("cpu  100 0 100 800 0 0 0 {steal} 0 0\ncpu0 1 2 3"))
                .expect("8")
        };
        assert_eq!(noisy_host(read(0), read(0)), None);
        assert!(noisy_host(read(0), read(30)).is_some());
        let quiet = read(0);
        let busy = CpuTimes { total: 2000, programs: 700, steal: 0 };
        assert_eq!(busy_host(quiet, busy, 5_000_000_000), None);
        let reason = busy_host(quiet, busy, 1_000_000_000);
        assert_eq!(reason, Some(Reason::BusyHost { percent: 40 }));
        assert_eq!(CpuTimes::parse("cpu  1 2 3"), None);
        assert!(CpuTimes::read().is_some());
    }

    #[test]
    fn pressure_is_noise_where_others_made_it() {
        let before = Pressure { cpu_us: Some(5), io_us: None, memory_us: Some(7) };
        let after = Pressure { cpu_us: Some(300_005), io_us: None, memory_us: Some(7) };
        let shares = before.shares_until(after, 1_000_000_000);
        assert_eq!((shares.cpu, shares.io, shares.memory), (Some(300), None, Some(0)));
        let quiet = CpuTimes { total: 0, programs: 0, steal: 0 };
        let busy = CpuTimes { total: 1_000, programs: 600, steal: 0 };
        // Broker and generator used all of it, or 3 % less.
        assert_eq!(pressed_host(&shares, [quiet, busy], 6_000_000_000), None);
        let reason = pressed_host(&shares, [quiet, busy], 5_700_000_000).expect("others");
        assert_eq!((reason.status(), reason.to_string().contains("30.0 %")), ("noisy_host", true));
        let calm = PressureShares { cpu: Some(90), ..shares };
        assert_eq!(pressed_host(&calm, [quiet, busy], 0), None);
        let short = PressureShares { memory: Some(11), ..calm };
        let reason = pressed_host(&short, [quiet, busy], 6_000_000_000).expect("no memory");
        assert!(reason.to_string().contains("waited for memory"), "{reason}");
    }
}
