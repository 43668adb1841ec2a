//! What a run cost the broker: its counters and its use of the machine, per record and byte.

use std::collections::BTreeMap;

use super::result::Measured;
use crate::report::{Efficiency, Load};

/// Counters by name.
pub(super) type Counters = BTreeMap<String, u64>;

/// Counters of the broker that are no sums: their last value tells, a difference would not.
const LEVELS: [&str; 8] = [
    "boot_epoch",
    "buffers_registered",
    "connections_open",
    "partitions",
    "pool_bytes",
    "pool_free_bytes",
    "topics",
    "unstored_bytes",
];

/// What went to disk for appended records. Zeroing is apart.
const WRITTEN: [&str; 3] = ["journal_bytes", "direct_bytes", "background_bytes"];

/// The costs of a run.
pub(super) fn of(measured: &Measured<'_>, load: &Load) -> Efficiency {
    let [before, after] = &measured.usage;
    let difference = |before: Option<u64>, after: Option<u64>| after?.checked_sub(before?);
    let cpu_ns = difference(before.cpu_ns, after.cpu_ns);
    // Beside a reader of other records, costs per record would mix the two.
    let alone = measured.beside.is_none();
    let records = load.acked_records.or(load.consumed_records);
    let records = records.filter(|&records| records > 0 && alone);
    let counters = grown(&measured.counters);
    let spun = counters.get("spin_empty_ns").copied().unwrap_or(0);
    let worked_ns = cpu_ns.map(|cpu| cpu.saturating_sub(spun));
    let per_record = |ns: Option<u64>| ns.zip(records).map(|(ns, records)| ns / records);
    let consumed_bytes = match (load.acked_records, load.consumed_records) {
        (None, Some(records)) => {
            Some(measured.value_bytes(records, measured.tally.consumed_value_bytes))
        }
        _ => None,
    };
    let entries = counters.get("kernel_entries").copied();
    let per_million = |figure: Option<u64>| {
        figure.zip(records).and_then(|(figure, records)| scaled(figure, 1_000_000, records))
    };
    let switches = difference(before.context_switches, after.context_switches);
    let durable = counters.get("durable_writes").zip(counters.get("flushes"));
    let amplification = measured.settled.as_ref().and_then(write_amplification);
    let last = measured.settled.as_ref().map(|[_, after]| after);
    Efficiency {
        broker_cpu_ns_per_record: per_record(worked_ns),
        broker_cpu_ns_per_record_total: per_record(cpu_ns),
        broker_cpu_ps_per_consumed_byte: worked_ns
            .zip(consumed_bytes)
            .and_then(|(ns, bytes)| scaled(ns, 1_000, bytes)),
        broker_cpu_ns_total: cpu_ns,
        kernel_entries_per_million_records: per_million(entries),
        context_switches_per_million_records: per_million(switches),
        durable_writes_per_million_records: per_million(
            durable.map(|(writes, flushes)| writes + flushes),
        ),
        durable_writes_per_s: durable.and_then(|(writes, flushes)| {
            scaled(writes + flushes, 1_000_000_000, measured.window_ns)
        }),
        write_amplification_thousandths: amplification,
        unstored_bytes: last.and_then(|last| last.get("unstored_bytes").copied()),
        broker_rss_bytes_max: after.rss_bytes_max,
        disk_bytes_written: difference(before.disk_bytes_written, after.disk_bytes_written),
        disk_bytes_zeroed: counters
            .iter()
            .find(|(name, _)| name.contains("zeroed"))
            .map(|(_, &bytes)| bytes),
        broker_buffers_registered: measured.counters[1]
            .get("buffers_registered")
            .map(|&registered| registered > 0),
        generator_cpu_ns_total: Some(measured.generator_cpu_ns()),
        broker_counters: (!counters.is_empty()).then_some(counters),
    }
}

/// What was counted between two readings; of levels, the last one.
fn grown([before, after]: &[Counters; 2]) -> Counters {
    let grown = after.iter().map(|(name, &after)| {
        let before = before.get(name).copied().unwrap_or(0);
        let level = LEVELS.contains(&name.as_str());
        (name.clone(), if level { after } else { after.saturating_sub(before) })
    });
    grown.collect()
}

/// Bytes written per byte appended, in thousandths. Each byte goes to the journal, to a segment or
/// to both; the segments' share is that of the bytes which have reached them.
fn write_amplification(readings: &[Counters; 2]) -> Option<u64> {
    let counters = grown(readings);
    let get = |name: &str| counters.get(name).copied();
    let appended = get("bytes_appended")?;
    let [journal, direct, background] = WRITTEN.map(get);
    let before = readings[0].get("unstored_bytes").copied().unwrap_or(0);
    let unstored = get("unstored_bytes").unwrap_or(0).saturating_sub(before);
    let stored = appended.checked_sub(unstored).filter(|&stored| stored > 0)?;
    let journal = scaled(journal?, 1_000, appended)?;
    let segments = scaled(direct?.checked_add(background?)?, 1_000, stored)?;
    Some(journal + segments)
}

/// `figure * factor / divisor`; none if that is not a number.
fn scaled(figure: u64, factor: u64, divisor: u64) -> Option<u64> {
    let scaled = u128::from(figure) * u128::from(factor);
    u64::try_from(scaled.checked_div(u128::from(divisor))?).ok()
}

/// Bytes that were written for records so far: once this rests, all is where it belongs.
pub(super) fn written_bytes(counters: &Counters) -> u64 {
    WRITTEN.iter().filter_map(|name| counters.get(*name)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(rows: &[(&str, u64)]) -> Counters {
        rows.iter().map(|&(name, value)| (name.to_owned(), value)).collect()
    }

    #[test]
    fn amplification_extrapolates_what_only_the_journal_holds() {
        let before = counters(&[("bytes_appended", 100), ("journal_bytes", 50)]);
        let after = counters(&[
            ("bytes_appended", 1_100),
            ("journal_bytes", 1_150),
            ("direct_bytes", 0),
            ("background_bytes", 500),
            ("unstored_bytes", 500),
        ]);
        // 1.1 bytes in the journal; half of the bytes have reached segments, at 1.0 each.
        let readings = [before.clone(), after];
        assert_eq!(write_amplification(&readings), Some(2_100));
        assert_eq!(write_amplification(&[before.clone(), before]), None, "nothing was appended");
    }

    #[test]
    fn levels_are_not_subtracted() {
        let grown = grown(&[
            counters(&[("topics", 3), ("turns", 10)]),
            counters(&[("topics", 2), ("turns", 15), ("new", 4)]),
        ]);
        assert_eq!(grown, counters(&[("topics", 2), ("turns", 5), ("new", 4)]));
    }
}
