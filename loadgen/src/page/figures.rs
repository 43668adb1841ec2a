//! Tables that several pages share: costs, and what a run rests on.

use maud::{Markup, html};
use serde_json::Value;
use std::collections::BTreeMap;

use crate::report::{FIGURES, Run};

/// The run in a sentence.
pub(super) fn sentence(run: &Run) -> String {
    let options = &run.options;
    let rate = match &options.arrivals {
        Some(even) if even.parse::<f64>().is_ok() => format!("{even} records/s"),
        Some(schedule) => schedule.clone(),
        None => "closed loop".to_owned(),
    };
    let batch = match (options.batch_records, options.batch_bytes) {
        (Some(records), _) => format!("{records} records"),
        (None, Some(bytes)) => format!("{bytes} bytes"),
        (None, None) => "?".to_owned(),
    };
    format!(
        "{rate}, acks {}, batches of {batch}, {} B records, {} producer(s) with {} in flight, {} \
         consumer(s), {} partition(s); {} {}, {}",
        run.durability.acks,
        options.record_bytes,
        options.producers,
        options.inflight,
        options.consumers,
        options.partitions,
        run.tool.name,
        run.tool.version,
        run.started_utc.as_deref().unwrap_or("at an unknown time"),
    )
}

/// What it cost, and the machine's limits.
pub(super) fn efficiency(run: &Run) -> Markup {
    let latency = |name: &str| ["response", "service", "e2e"].iter().any(|l| name.starts_with(l));
    let rows: Vec<(&str, String)> = FIGURES
        .iter()
        .filter(|figure| !latency(figure.name))
        .filter_map(|figure| Some((figure.name, figure.unit.show(Some((figure.of)(run)?)))))
        .collect();
    html! {
        h2 { "Rates, costs and limits" }
        table {
            @for (name, value) in rows { tr { td { (name) } td { (value) } } }
        }
    }
}

/// Everything that is needed to judge and to repeat the run.
pub(super) fn disclosure(run: &Run) -> Markup {
    let mut parts = vec![
        ("Command", run.command.join(" ")),
        ("An acknowledgement meant", run.durability.acknowledged_when.clone()),
        ("An acknowledged record can be lost by", run.durability.lost_by.clone()),
    ];
    parts.retain(|(_, text)| !text.is_empty());
    html! {
        h2 { "Full disclosure" }
        @for (name, text) in parts { p { small { (name) } } pre { (text) } }
        (table_of("Settings", &run.options))
        (table_of("Target", &run.target))
        (table_of("Machine", &run.env))
        (table_of("Integrity", &run.integrity))
        (table_of("Evidence of validity", &run.validity.evidence))
        (table_of("Broker's counters over the window", &run.efficiency.broker_counters))
    }
}

fn table_of(name: &str, value: &impl serde::Serialize) -> Markup {
    let mut rows = BTreeMap::new();
    let value = serde_json::to_value(value).unwrap_or_default();
    crate::compare::flatten("", &value, &mut rows);
    html! {
        @if !rows.is_empty() && value != Value::Null {
            details {
                summary { (name) }
                table { @for (key, value) in rows { tr { td { (key) } td.text { (value) } } } }
            }
        }
    }
}
