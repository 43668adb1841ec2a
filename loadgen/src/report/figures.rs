//! The figures of a run that tables, CSV files and comparisons show, each under one name.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::limit::{Limit, ratio_text};
use super::terminal::{bandwidth, count, duration};
use super::{Percentile, Run};

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Things per second.
    PerSecond,
    /// Bytes per second.
    BytesPerSecond,
    /// Nanoseconds.
    Nanoseconds,
    /// Picoseconds.
    Picoseconds,
    /// Hundredths of a ratio.
    Hundredths,
    /// Thousandths of a ratio.
    Thousandths,
    /// Millionths of a ratio.
    Millionths,
}

impl Unit {
    /// A value as a person reads it.
    #[must_use]
    pub fn show(self, value: Option<u64>) -> String {
        let Some(figure) = value else { return "--".to_owned() };
        match self {
            Self::PerSecond => count(value),
            Self::BytesPerSecond => bandwidth(value),
            Self::Nanoseconds => duration(value),
            Self::Picoseconds => format!("{}.{:03} ns", figure / 1000, figure % 1000),
            Self::Hundredths => ratio_text(figure),
            Self::Thousandths => format!("{}.{:03}", figure / 1000, figure % 1000),
            Self::Millionths => format!("{}.{:06}", figure / 1_000_000, figure % 1_000_000),
        }
    }
}

/// One figure of a run.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// Its name in CSV files and comparisons; the unit comes last.
    pub name: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// Takes it out of a result; none where it was not measured.
    pub of: fn(&Run) -> Option<u64>,
}

/// All of them, in the order of columns and rows.
pub const FIGURES: [Figure; 24] = [
    figure("records_per_s", Unit::PerSecond, |run| run.load.achieved_records_per_s),
    figure("consumed_records_per_s", Unit::PerSecond, |run| run.load.consumed_records_per_s),
    figure("bytes_per_s", Unit::BytesPerSecond, |run| run.load.bytes_per_s),
    figure("beside_bytes_per_s", Unit::BytesPerSecond, |run| {
        run.beside.as_ref().and_then(|beside| beside.bytes_per_s)
    }),
    figure("limit_hundredths", Unit::Hundredths, |run| Limit::of(run)?.hundredths(run)),
    figure("response_p50_ns", Unit::Nanoseconds, |run| run.response(Percentile::P50)),
    figure("response_p99_ns", Unit::Nanoseconds, |run| run.response(Percentile::P99)),
    figure("response_p999_ns", Unit::Nanoseconds, |run| run.response(Percentile::P999)),
    figure("service_p50_ns", Unit::Nanoseconds, |run| run.service(Percentile::P50)),
    figure("service_p99_ns", Unit::Nanoseconds, |run| run.service(Percentile::P99)),
    figure("service_p999_ns", Unit::Nanoseconds, |run| run.service(Percentile::P999)),
    figure("e2e_p50_ns", Unit::Nanoseconds, |run| run.e2e(Percentile::P50)),
    figure("e2e_p99_ns", Unit::Nanoseconds, |run| run.e2e(Percentile::P99)),
    figure("e2e_p999_ns", Unit::Nanoseconds, |run| run.e2e(Percentile::P999)),
    figure("broker_cpu_ns_per_record", Unit::Nanoseconds, |run| {
        run.efficiency.broker_cpu_ns_per_record
    }),
    figure("broker_cpu_ns_per_record_total", Unit::Nanoseconds, |run| {
        run.efficiency.broker_cpu_ns_per_record_total
    }),
    figure("broker_cpu_ps_per_consumed_byte", Unit::Picoseconds, |run| {
        run.efficiency.broker_cpu_ps_per_consumed_byte
    }),
    figure("kernel_entries_per_million_records", Unit::Millionths, |run| {
        run.efficiency.kernel_entries_per_million_records
    }),
    figure("durable_writes_per_s", Unit::PerSecond, |run| run.efficiency.durable_writes_per_s),
    figure("write_amplification_thousandths", Unit::Thousandths, |run| {
        run.efficiency.write_amplification_thousandths
    }),
    figure("floor_durable_write_p50_ns", Unit::Nanoseconds, |run| run.floor.durable_write_p50_ns()),
    figure("floor_echo_p50_ns", Unit::Nanoseconds, |run| run.floor.echo_p50_ns()),
    figure("floor_disk_durable_write_bytes_per_s", Unit::BytesPerSecond, |run| {
        run.floor.disk_durable_write_bytes_per_s
    }),
    figure("floor_loopback_bytes_per_s", Unit::BytesPerSecond, |run| {
        run.floor.loopback_bytes_per_s
    }),
];

const fn figure(name: &'static str, unit: Unit, of: fn(&Run) -> Option<u64>) -> Figure {
    Figure { name, unit, of }
}

impl Figure {
    /// Whether it describes the machine, not the broker.
    #[must_use]
    pub fn is_floor(&self) -> bool {
        self.name.starts_with("floor_")
    }

    /// The figure of a name in [`FIGURES`].
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn named(name: &str) -> &'static Self {
        FIGURES.iter().find(|figure| figure.name == name).expect("a name of the list above")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_ratios_are_readable() {
        assert_eq!(Unit::Thousandths.show(Some(1_050)), "1.050");
        assert_eq!(Unit::Hundredths.show(Some(95)), "0.95");
        assert_eq!(Unit::Picoseconds.show(Some(340)), "0.340 ns");
        assert_eq!(Unit::Millionths.show(Some(2_500_000)), "2.500000");
        assert_eq!(Unit::PerSecond.show(None), "--");
    }

    #[test]
    fn names_differ() {
        for (index, figure) in FIGURES.iter().enumerate() {
            assert!(FIGURES[..index].iter().all(|other| other.name != figure.name));
        }
    }
}
