//! One run as a person reads it.

use super::{Anatomy, FaultOutcome, Faults, FloorFigures, LatencySet, Run};
use crate::integrity::IntegrityVerdict;
use crate::latency::Summary;
use crate::validity::ValidityVerdict;
use std::fmt::Write;

/// The run in about twenty aligned lines.
#[must_use]
pub fn render_run(run: &Run) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        writeln!(text, "{name:<12} {value}").expect("writing to a string does not fail");
    };
    line("target", format!("{} ({})", run.target.address, run.target.kind));
    line("load", load_line(run));
    line("throughput", throughput_line(run));
    if run.load.consumed_records.is_some() {
        let rate = count(run.load.consumed_records_per_s);
        line("consumed", format!("{rate} records/s"));
    }
    latency_lines(&run.latency_ns, &mut line);
    phase_lines(run, &mut line);
    if let Some(text) = queue_line(run) {
        line("queue", text);
    }
    if let Some(anatomy) = &run.anatomy_ns {
        line("where", anatomy_line(anatomy));
    }
    floor_lines(&run.floor, &mut line);
    line("broker", broker_line(run));
    for text in run.faults.iter().flat_map(fault_lines) {
        line("fault", text);
    }
    line("integrity", integrity_line(run));
    let verdict = match run.validity.verdict {
        ValidityVerdict::Valid => "valid",
        ValidityVerdict::Doubtful => "doubtful",
        ValidityVerdict::Invalid => "INVALID",
    };
    for outcome in &run.slo {
        let missed = outcome.why.as_deref().map(|why| format!("MISSED {why}"));
        line("objective", missed.unwrap_or_else(|| format!("met {}", outcome.expression)));
    }
    line("validity", verdict.to_owned());
    for reason in &run.validity.reasons {
        line("", format!("- {reason}"));
    }
    text
}

fn latency_lines(latencies: &LatencySet, line: &mut impl FnMut(&str, String)) {
    if latencies.response.is_none() && latencies.e2e.is_none() {
        return;
    }
    let header = ["p50", "p90", "p99", "p99.9", "p99.99", "max"];
    line("", header.iter().map(|name| format!("{name:>10}")).collect());
    let response_name = if latencies.closed_loop { "response*" } else { "response" };
    for (name, summary) in [
        (response_name, &latencies.response),
        ("service", &latencies.service),
        ("delay", &latencies.schedule_delay),
        ("end-to-end", &latencies.e2e),
    ] {
        if let Some(summary) = summary {
            line(name, percentiles_line(summary));
        }
    }
    if latencies.closed_loop {
        line("", "* closed loop: waiting for a free slot does not count".to_owned());
    }
}

/// Since when it was steady, and each step, where there are such.
fn phase_lines(run: &Run, line: &mut impl FnMut(&str, String)) {
    let [warm_up, _, steps @ ..] = &run.phases[..] else { return };
    if run.options.warmup_auto {
        let since = match warm_up.steady_after_ns {
            Some(ns) => format!("steady after {}", duration(Some(ns))),
            None => "never steady".to_owned(),
        };
        line("warm-up", format!("{}, {since}", duration(Some(warm_up.to_ns))));
    }
    for step in steps {
        let response = step.response_ns.clone().unwrap_or_default();
        let rates = [step.offered_records_per_s, step.achieved_records_per_s].map(count);
        let (p50, p99) = (duration(response.p50), duration(response.p99));
        let [offered, achieved] = rates;
        line(&step.name, format!("{offered} offered, {achieved} achieved, p50 {p50}, p99 {p99}"));
    }
}

/// Medians and 99th percentiles of the parts.
fn anatomy_line(anatomy: &Anatomy) -> String {
    let parts = [
        ("client", &anatomy.client_queue),
        ("network", &anatomy.network),
        ("shard queue", &anatomy.shard_queue),
        ("append", &anatomy.append),
        ("commit", &anatomy.commit),
    ];
    let known = parts.iter().filter_map(|(name, summary)| Some((name, summary.as_ref()?)));
    let texts = known.map(|(name, s)| format!("{name} {} / {}", duration(s.p50), duration(s.p99)));
    texts.collect::<Vec<_>>().join(", ") + " (p50 / p99)"
}

/// The machine's limits in two lines.
#[must_use]
pub fn render_floor(floor: &FloorFigures) -> String {
    let mut text = String::new();
    floor_lines(floor, &mut |name, value| {
        if !text.is_empty() {
            text.push('\n');
        }
        write!(text, "{name:<12} {value}").expect("writing to a string does not fail");
    });
    text
}

fn load_line(run: &Run) -> String {
    let options = &run.options;
    let rate = match run.load.offered_records_per_s {
        Some(rate) => format!("{} records/s", grouped(rate)),
        None => "closed loop".to_owned(),
    };
    let batch = match (options.batch_records, options.batch_bytes) {
        (Some(records), _) => format!("{records}rec"),
        (None, Some(bytes)) => format!("{bytes} B"),
        (None, None) => "--".to_owned(),
    };
    format!(
        "{rate}, acks {}, batch {batch}, linger {}, {} B records, {} producer(s) x {} in flight, \
         {} consumer(s), {} partition(s)",
        run.durability.acks,
        duration(Some(options.linger_ns)),
        options.record_bytes,
        options.producers,
        options.inflight,
        options.consumers,
        options.partitions,
    )
}

fn throughput_line(run: &Run) -> String {
    let mut text = format!(
        "{} records/s, {}",
        count(run.load.achieved_records_per_s),
        bandwidth(run.load.bytes_per_s)
    );
    for (code, number) in &run.load.errors {
        write!(text, ", {number} x {code}").expect("writing to a string does not fail");
    }
    text
}

fn percentiles_line(summary: &Summary) -> String {
    [summary.p50, summary.p90, summary.p99, summary.p999, summary.p9999, summary.max]
        .iter()
        .map(|&value| format!("{:>10}", duration(value)))
        .collect()
}

fn floor_lines(floor: &FloorFigures, line: &mut impl FnMut(&str, String)) {
    if floor.echo_rtt_ns.is_none() && floor.loopback_bytes_per_s.is_none() {
        return;
    }
    line(
        "limits",
        format!(
            "durable write p50 {}, plain write p50 {}, echo p50 {}",
            duration(floor.durable_write_p50_ns()),
            duration(floor.write_p50_ns()),
            duration(floor.echo_p50_ns())
        ),
    );
    line(
        "",
        format!(
            "disk write {}, durable {}, read {}, loopback {}",
            bandwidth(floor.disk_write_bytes_per_s),
            bandwidth(floor.disk_durable_write_bytes_per_s),
            bandwidth(floor.disk_read_bytes_per_s),
            bandwidth(floor.loopback_bytes_per_s)
        ),
    );
    if let Some(late) = &floor.clock_lateness_ns {
        let (p50, p99) = (duration(late.p50), duration(late.p99));
        line("", format!("a thread that only looks at the clock is late by p50 {p50}, p99 {p99}"));
    }
}

fn broker_line(run: &Run) -> String {
    let efficiency = &run.efficiency;
    format!(
        "{} CPU per record, {} resident, {} written to disk{}",
        duration(efficiency.broker_cpu_ns_per_record),
        bytes(efficiency.broker_rss_bytes_max),
        bytes(efficiency.disk_bytes_written),
        match efficiency.broker_buffers_registered {
            Some(false) => ", memory not registered (see ulimit -l)",
            Some(true) | None => "",
        }
    )
}

fn queue_line(run: &Run) -> Option<String> {
    let (queue, options) = (run.queue.as_ref()?, run.options.queue.as_ref()?);
    Some(format!(
        "prefetch {}, acks {}, {} redelivered, {} dead letters, {} messages at the start, {} at \
         the end",
        grouped(options.prefetch.into()),
        options.ack_mode,
        grouped(queue.redelivered),
        grouped(queue.dead_lettered),
        count(queue.messages_at_start),
        count(queue.messages_at_close),
    ))
}

fn fault_lines(faults: &Faults) -> Vec<String> {
    let mut lines: Vec<String> = faults.faults.iter().map(FaultOutcome::sentence).collect();
    lines.push(format!(
        "{} connections lost and {} made again; {} records never acknowledged, {} of them there",
        grouped(faults.connections_lost),
        grouped(faults.reconnected),
        count(faults.unacknowledged_records),
        count(faults.unacknowledged_found),
    ));
    lines
}

fn integrity_line(run: &Run) -> String {
    let integrity = &run.integrity;
    match integrity.verdict {
        IntegrityVerdict::NotChecked => format!(
            "not checked: {}",
            integrity.not_checked_because.as_deref().unwrap_or("nothing was read back")
        ),
        IntegrityVerdict::Ok => format!(
            "ok: {} records read{}, the acknowledged ones there once and in order ({} in doubt)",
            count(integrity.checked_records),
            match integrity.passes_cut_short {
                Some(1..) => " (not all: time was up)",
                Some(0) | None => "",
            },
            count(integrity.in_doubt)
        ),
        IntegrityVerdict::Failed => format!(
            "FAILED: {} lost, {} duplicated, {} reordered, {} corrupted, {} unexpected{}",
            count(integrity.lost),
            count(integrity.duplicated),
            count(integrity.reordered),
            count(integrity.corrupted),
            count(integrity.unexpected),
            match &run.queue {
                Some(queue) => format!(", {} after their ack", queue.delivered_after_ack),
                None => String::new(),
            }
        ),
    }
}

/// A count with groups of three digits, or `--`.
pub(super) fn count(value: Option<u64>) -> String {
    value.map_or_else(|| "--".to_owned(), grouped)
}

/// Nanoseconds in the unit that fits, or `--`.
pub(super) fn duration(ns: Option<u64>) -> String {
    match ns {
        None => "--".to_owned(),
        Some(ns @ ..1_000) => format!("{ns} ns"),
        Some(ns @ ..1_000_000) => scaled(ns, 1_000, "us"),
        Some(ns @ ..1_000_000_000) => scaled(ns, 1_000_000, "ms"),
        Some(ns) => scaled(ns, 1_000_000_000, "s"),
    }
}

/// Bytes per second in the unit that fits, or `--`.
pub(super) fn bandwidth(bytes_per_s: Option<u64>) -> String {
    match bytes_per_s {
        None => "--".to_owned(),
        Some(rate @ ..1_000_000) => scaled(rate, 1_000, "KB/s"),
        Some(rate @ ..1_000_000_000) => scaled(rate, 1_000_000, "MB/s"),
        Some(rate) => scaled(rate, 1_000_000_000, "GB/s"),
    }
}

fn bytes(value: Option<u64>) -> String {
    match value {
        None => "--".to_owned(),
        Some(0) => "0 B".to_owned(),
        Some(value @ ..1_048_576) => scaled(value, 1_024, "KiB"),
        Some(value @ ..1_073_741_824) => scaled(value, 1_048_576, "MiB"),
        Some(value) => scaled(value, 1_073_741_824, "GiB"),
    }
}

/// Three significant digits or so: two decimals below 10, one below 100, none above.
fn scaled(value: u64, unit: u64, name: &str) -> String {
    let hundredths = u128::from(value) * 100 / u128::from(unit);
    if hundredths < 1_000 {
        format!("{}.{:02} {name}", hundredths / 100, hundredths % 100)
    } else if hundredths < 10_000 {
        format!("{}.{} {name}", hundredths / 100, hundredths / 10 % 10)
    } else {
        format!("{} {name}", hundredths / 100)
    }
}

fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_readable() {
        assert_eq!(count(Some(1_234_567)), "1,234,567");
        assert_eq!((count(Some(999)), count(None)), ("999".to_owned(), "--".to_owned()));
        assert_eq!(duration(Some(7_012)), "7.01 us");
        assert_eq!(duration(Some(118_400)), "118 us");
        assert_eq!(duration(Some(3_999_000)), "3.99 ms");
        assert_eq!(bandwidth(Some(1_310_000_000)), "1.31 GB/s");
        assert_eq!(bytes(Some(262_144)), "256 KiB");
    }
}
