//! What the machine did while a load ran: ten readings a second of the kernel's tables and of the
//! broker's counters, with buffers that are used again, so that looking costs little.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::clock::thread_cpu_ns;

/// Between two readings.
pub const INTERVAL_NS: u64 = 100_000_000;
/// Most readings of a window; of longer ones, every second (third, ..) is taken.
const READINGS_MAX: u64 = 600;
/// `USER_HZ`: the unit of `/proc/stat`, 100 on every Linux.
const USER_TICK_NS: u64 = 10_000_000;
/// Bytes of a sector in `/proc/diskstats`, whatever the device has.
const SECTOR_BYTES: u64 = 512;
/// The broker's counters that are followed.
const COUNTERS: [&str; 9] = [
    "kernel_entries",
    "operations_submitted",
    "durable_writes",
    "flushes",
    "journal_bytes",
    "direct_bytes",
    "background_bytes",
    "spin_empty_ns",
    "parks",
];

/// One reading; differences of two are rates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Reading {
    at_ns: u64,
    /// Per core: busy and stolen ticks.
    cores: Vec<(u64, u64)>,
    context_switches: u64,
    /// Stalled microseconds: cpu, io, memory.
    pressure: [Option<u64>; 3],
    disk_read_bytes: u64,
    disk_written_bytes: u64,
    network_bytes: u64,
    dirty_bytes: u64,
    available_bytes: u64,
    counters: Option<[u64; COUNTERS.len()]>,
}

/// Takes readings.
#[derive(Debug)]
pub struct Sampler {
    tables: [Option<File>; 7],
    text: Vec<u8>,
    readings: Vec<Reading>,
    step_ns: u64,
    cpu_ns: u64,
}

/// Where the tables are, in the order of [`Sampler::tables`].
const TABLES: [&str; 7] = [
    "/proc/stat",
    "/proc/pressure/cpu",
    "/proc/pressure/io",
    "/proc/pressure/memory",
    "/proc/diskstats",
    "/proc/net/dev",
    "/proc/meminfo",
];

impl Sampler {
    /// A sampler of a window that long. Tables that cannot be read are left out.
    #[must_use]
    pub fn new(window_ns: u64) -> Self {
        let step_ns = INTERVAL_NS * (window_ns / INTERVAL_NS).div_ceil(READINGS_MAX).max(1);
        let readings = usize::try_from(window_ns / step_ns + 2).expect("about READINGS_MAX");
        Self {
            tables: TABLES.map(|path| File::open(path).ok()),
            text: vec![0; 64 << 10],
            readings: Vec::with_capacity(readings),
            step_ns,
            cpu_ns: 0,
        }
    }

    /// Between two readings.
    #[must_use]
    pub fn step_ns(&self) -> u64 {
        self.step_ns
    }

    /// Takes a reading; `counters` are the broker's, where they are known.
    pub fn read(&mut self, at_ns: u64, counters: Option<&BTreeMap<String, u64>>) {
        let before_ns = thread_cpu_ns();
        let mut reading = Reading { at_ns, ..Reading::default() };
        for (index, table) in self.tables.iter().enumerate() {
            let Some(table) = table else { continue };
            // One call gives a whole table, of a moment.
            let Ok(count) = table.read_at(&mut self.text, 0) else { continue };
            let text = std::str::from_utf8(&self.text[..count]).unwrap_or_default();
            match index {
                0 => reading.take_stat(text),
                1..=3 => reading.pressure[index - 1] = stalled_us(text),
                4 => reading.take_disks(text),
                5 => reading.network_bytes = received_bytes(text),
                _ => reading.take_memory(text),
            }
            // This thread may share its core with one that takes times: it waits for one table at
            // most, not for all.
            rustix::thread::sched_yield();
        }
        let value = |name: &&str| counters.and_then(|all| all.get(*name).copied()).unwrap_or(0);
        reading.counters = counters.map(|_| COUNTERS.each_ref().map(value));
        self.readings.push(reading);
        self.cpu_ns += thread_cpu_ns() - before_ns;
    }

    /// Adds what asking for the broker's counters cost this thread.
    pub fn charge(&mut self, cpu_ns: u64) {
        self.cpu_ns += cpu_ns;
    }

    /// What was read since `open_ns`; none of fewer than two readings.
    #[must_use]
    pub fn series(&self, open_ns: u64) -> Option<HostSeries> {
        let (first, last) = (self.readings.first()?, self.readings.last()?);
        let elapsed_ns = last.at_ns.checked_sub(first.at_ns).filter(|&ns| ns > 0)?;
        let mut series = HostSeries {
            sampler_cpu_ppm: ratio(self.cpu_ns, 1_000_000, elapsed_ns),
            ..HostSeries::default()
        };
        for pair in self.readings.windows(2) {
            if let [before, after] = pair {
                series.push(before, after, open_ns);
            }
        }
        Some(series)
    }
}

impl Reading {
    /// `cpu0 user nice system idle iowait irq softirq steal ..`, and `ctxt`.
    fn take_stat(&mut self, text: &str) {
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("ctxt ") {
                self.context_switches = rest.trim().parse().unwrap_or(0);
            } else if line.starts_with("cpu") && !line.starts_with("cpu ") {
                let mut fields = [0u64; 8];
                let found = line.split_ascii_whitespace().skip(1);
                for (field, text) in fields.iter_mut().zip(found) {
                    *field = text.parse().unwrap_or(0);
                }
                let [user, nice, system, _, _, interrupt, soft, steal] = fields;
                self.cores.push((user + nice + system + interrupt + soft, steal));
            }
        }
    }

    /// Whole devices only: what a partition or a stacked device does, its disk does too.
    fn take_disks(&mut self, text: &str) {
        for line in text.lines() {
            let mut fields = line.split_ascii_whitespace();
            if !fields.nth(2).is_some_and(is_disk) {
                continue;
            }
            let mut numbers = fields.map(|field| field.parse::<u64>().unwrap_or(0));
            self.disk_read_bytes += numbers.nth(2).unwrap_or(0) * SECTOR_BYTES;
            self.disk_written_bytes += numbers.nth(3).unwrap_or(0) * SECTOR_BYTES;
        }
    }

    fn take_memory(&mut self, text: &str) {
        for line in text.lines() {
            let Some((name, rest)) = line.split_once(':') else { continue };
            let bytes = || {
                let number = rest.trim().strip_suffix(" kB").unwrap_or(rest).trim();
                number.parse::<u64>().unwrap_or(0) * 1024
            };
            match name {
                "MemAvailable" => self.available_bytes = bytes(),
                "Dirty" | "Writeback" => self.dirty_bytes += bytes(),
                _ => {}
            }
        }
    }
}

/// Whether a name is that of a disk, not of a part of one or of a file.
fn is_disk(name: &str) -> bool {
    let ends_in_letter = name.ends_with(|last: char| last.is_ascii_alphabetic());
    match name {
        _ if name.starts_with("vd") || name.starts_with("sd") || name.starts_with("xvd") => {
            ends_in_letter
        }
        _ => name.starts_with("nvme") && !name.contains('p'),
    }
}

/// `some avg10=.. avg60=.. avg300=.. total=N`.
pub(crate) fn stalled_us(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("some "))?;
    line.rsplit_once("total=")?.1.trim().parse().ok()
}

/// Bytes that all interfaces have received, loopback too.
fn received_bytes(text: &str) -> u64 {
    let rows = text.lines().filter_map(|line| line.split_once(':'));
    rows.filter_map(|(_, rest)| rest.split_ascii_whitespace().next()?.parse::<u64>().ok()).sum()
}

/// `figure * factor / divisor`.
fn ratio(figure: u64, factor: u64, divisor: u64) -> u64 {
    let wide = u128::from(figure) * u128::from(factor) / u128::from(divisor.max(1));
    u64::try_from(wide).unwrap_or(u64::MAX)
}

/// What the machine did, in lists with an element for each time between two readings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostSeries {
    /// End of each time, since the window opened.
    pub at_ns: Vec<u64>,
    /// Per core: its busy share.
    pub cpu_busy_percent: Vec<Vec<u64>>,
    /// Share of all cores that the hypervisor stole.
    pub steal_percent: Vec<u64>,
    /// Of the whole machine.
    pub context_switches_per_s: Vec<u64>,
    /// Share of the time in which some task waited for a CPU; null where the kernel does not tell.
    pub cpu_pressure_per_mille: Vec<Option<u64>>,
    /// The same for input and output.
    pub io_pressure_per_mille: Vec<Option<u64>>,
    /// The same for memory.
    pub memory_pressure_per_mille: Vec<Option<u64>>,
    /// All disks.
    pub disk_read_bytes_per_s: Vec<u64>,
    /// All disks.
    pub disk_written_bytes_per_s: Vec<u64>,
    /// Received by all interfaces, loopback too.
    pub network_bytes_per_s: Vec<u64>,
    /// Pages that wait to be written.
    pub dirty_bytes: Vec<u64>,
    /// Memory that programs could still have.
    pub available_bytes: Vec<u64>,
    /// The broker's counters, by name, per second.
    pub broker_per_s: BTreeMap<String, Vec<u64>>,
    /// CPU time of taking the readings, asking the broker included, of one core.
    pub sampler_cpu_ppm: u64,
}

impl HostSeries {
    fn push(&mut self, before: &Reading, after: &Reading, open_ns: u64) {
        let elapsed_ns = after.at_ns.saturating_sub(before.at_ns).max(1);
        let per_s = |before: u64, after: u64| {
            ratio(after.saturating_sub(before), 1_000_000_000, elapsed_ns)
        };
        let percent = |ticks: u64, of_ns: u64| ratio(ticks * USER_TICK_NS, 100, of_ns).min(100);
        self.at_ns.push(after.at_ns.saturating_sub(open_ns));
        let cores = before.cores.iter().zip(&after.cores);
        self.cpu_busy_percent.resize(after.cores.len(), Vec::new());
        for (busy, (before, after)) in self.cpu_busy_percent.iter_mut().zip(cores) {
            busy.push(percent(after.0.saturating_sub(before.0), elapsed_ns));
        }
        let stolen = |reading: &Reading| reading.cores.iter().map(|core| core.1).sum::<u64>();
        let all_ns = elapsed_ns.saturating_mul(after.cores.len().max(1) as u64);
        self.steal_percent.push(percent(stolen(after).saturating_sub(stolen(before)), all_ns));
        self.context_switches_per_s.push(per_s(before.context_switches, after.context_switches));
        let pressures = [
            &mut self.cpu_pressure_per_mille,
            &mut self.io_pressure_per_mille,
            &mut self.memory_pressure_per_mille,
        ];
        for (index, pressure) in pressures.into_iter().enumerate() {
            let stalled = before.pressure[index].zip(after.pressure[index]);
            pressure.push(stalled.map(|(before, after)| {
                ratio(after.saturating_sub(before) * 1_000, 1_000, elapsed_ns).min(1_000)
            }));
        }
        self.disk_read_bytes_per_s.push(per_s(before.disk_read_bytes, after.disk_read_bytes));
        let written = per_s(before.disk_written_bytes, after.disk_written_bytes);
        self.disk_written_bytes_per_s.push(written);
        self.network_bytes_per_s.push(per_s(before.network_bytes, after.network_bytes));
        self.dirty_bytes.push(after.dirty_bytes);
        self.available_bytes.push(after.available_bytes);
        if let Some((before, after)) = before.counters.zip(after.counters) {
            for (name, (before, after)) in COUNTERS.iter().zip(before.iter().zip(after)) {
                let rates = self.broker_per_s.entry((*name).to_owned()).or_default();
                rates.push(per_s(*before, after));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_read() {
        let mut sampler = Sampler::new(1_000_000_000);
        let counters = BTreeMap::from([("durable_writes".to_owned(), 5)]);
        sampler.read(1_000_000_000, Some(&counters));
        let counters = BTreeMap::from([("durable_writes".to_owned(), 25)]);
        sampler.read(1_100_000_000, Some(&counters));
        let series = sampler.series(1_000_000_000).expect("two readings");
        assert_eq!((series.at_ns.as_slice(), series.dirty_bytes.len()), (&[100_000_000][..], 1));
        assert!(!series.cpu_busy_percent.is_empty() && series.available_bytes[0] > 1 << 20);
        assert_eq!(series.broker_per_s["durable_writes"], [200]);
        assert_eq!(sampler.step_ns(), INTERVAL_NS);
        assert_eq!(Sampler::new(3_600_000_000_000).step_ns(), 60 * INTERVAL_NS);
        assert!(Sampler::new(1).series(0).is_none());
    }

    #[test]
    fn tables_are_read_as_the_kernel_writes_them() {
        let mut reading = Reading::default();
        reading.take_stat("cpu  1 1 1 1 1 1 1 1\ncpu0 100 5 20 900 7 1 2 30 0 0\nctxt 77\n");
        assert_eq!((reading.cores.as_slice(), reading.context_switches), (&[(128, 30)][..], 77));
        reading.take_disks(
            " 254 0 vda 9 0 16 1 8 0 32 1 0 0 0\n 254 1 vda1 9 0 16 1 8 0 32 1 0 0 0\n \
             7 0 loop0 1 1 99 1 1 1 99 1 1 1 1\n",
        );
        assert_eq!((reading.disk_read_bytes, reading.disk_written_bytes), (16 * 512, 32 * 512));
        reading.take_memory("MemAvailable:   10 kB\nDirty:  3 kB\nWriteback: 1 kB\nHugePages: 4\n");
        assert_eq!((reading.available_bytes, reading.dirty_bytes), (10_240, 4_096));
        assert_eq!(stalled_us("some avg10=1.0 avg60=0 avg300=0 total=42\nfull total=9"), Some(42));
        assert_eq!(received_bytes("a|b\n face |x\n lo: 5 1 2\n eth0:7 1\n"), 12);
        assert!(is_disk("nvme0n1") && !is_disk("nvme0n1p2") && is_disk("sda") && !is_disk("dm-0"));
    }

    #[test]
    fn differences_are_rates() {
        let before = Reading {
            at_ns: 1_000_000_000,
            cores: vec![(100, 0), (0, 0)],
            pressure: [Some(1_000), None, Some(0)],
            disk_written_bytes: 1_000,
            ..Reading::default()
        };
        let after = Reading {
            at_ns: 2_000_000_000,
            cores: vec![(150, 0), (100, 20)],
            pressure: [Some(251_000), None, Some(0)],
            disk_written_bytes: 5_000,
            ..Reading::default()
        };
        let mut series = HostSeries::default();
        series.push(&before, &after, 0);
        assert_eq!(series.cpu_busy_percent, [[50], [100]]);
        assert_eq!((series.steal_percent[0], series.disk_written_bytes_per_s[0]), (10, 4_000));
        assert_eq!(
            (series.cpu_pressure_per_mille[0], series.io_pressure_per_mille[0]),
            (Some(250), None)
        );
        assert!(series.broker_per_s.is_empty());
    }
}
