//! `pelton topic alter` and `pelton topic delete-records`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use client::{ErrorCode, TopicSettings};
use serde_json::{Value, json};
use wire::delete_records::{BEFORE_END, ReplyEntry, RequestEntry};
use wire::topic;

use super::{milliseconds, name, retention, segment_bytes};
use crate::failure::Failure;
use crate::output::{self, Format, FormatArgs};
use crate::server::ServerArgs;
use crate::size;

/// Flags of `topic alter`.
#[derive(Debug, Args)]
pub struct AlterArgs {
    /// Its name
    #[arg(value_name = "TOPIC", value_parser = name)]
    topic: String,
    #[command(flatten)]
    changes: ChangeArgs,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct ChangeArgs {
    /// How long records are kept, by their own time; 0 keeps them for ever
    #[arg(long, value_name = "DUR", value_parser = retention)]
    retention: Option<u64>,
    /// Bytes of segments that each partition keeps; 0 keeps all
    #[arg(long, value_name = "BYTES", value_parser = size::bytes)]
    retention_bytes: Option<u64>,
    /// Segment size at which a new one is begun; 0 takes the broker's
    #[arg(long, value_name = "BYTES", value_parser = segment_bytes)]
    segment_bytes: Option<u32>,
    /// How long records that nobody waits for may stay unflushed; 0 flushes each
    #[arg(long, value_name = "DUR", value_parser = milliseconds)]
    flush: Option<u32>,
}

/// Flags of `topic delete-records`.
#[derive(Debug, Args)]
pub struct DeleteRecordsArgs {
    /// Its name
    #[arg(value_name = "TOPIC", value_parser = name)]
    topic: String,
    /// Only this partition; without it, all of them
    #[arg(long, value_name = "P")]
    partition: Option<u32>,
    /// Offset of the first record that stays; `end` deletes all that consumers may see
    #[arg(long, value_name = "OFFSET", value_parser = before)]
    before: u64,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    server: ServerArgs,
}

/// Changes a topic's settings.
pub fn alter(args: &AlterArgs) -> Result<(), Failure> {
    let ChangeArgs { retention, retention_bytes, segment_bytes, flush } = &args.changes;
    let mut settings = TopicSettings::new(0);
    let mut changes = 0;
    if let Some(ms) = *retention {
        settings.retention_ms = ms.into();
        changes |= topic::CHANGE_RETENTION;
    }
    if let Some(bytes) = *retention_bytes {
        settings.retention_bytes = bytes.into();
        changes |= topic::CHANGE_RETENTION_BYTES;
    }
    if let Some(bytes) = *segment_bytes {
        settings.segment_bytes = bytes.into();
        changes |= topic::CHANGE_SEGMENT_BYTES;
    }
    if let Some(ms) = *flush {
        settings.flush_ms = ms.into();
        changes |= topic::CHANGE_FLUSH;
    }
    let settings = args.server.connect()?.alter_topic(&args.topic, changes, &settings)?;
    match args.format.format {
        Format::Table => {
            output::note(&format!("altered {}: {}", args.topic, told(&settings)));
            Ok(())
        }
        Format::Json => output::print_json(&json!({
            "name": args.topic,
            "flush_ms": settings.flush_ms.get(),
            "segment_bytes": settings.segment_bytes.get(),
            "retention_ms": settings.retention_ms.get(),
            "retention_bytes": settings.retention_bytes.get(),
        })),
    }
}

/// Settings that can be changed, for people.
pub fn told(settings: &TopicSettings) -> String {
    let retention = match settings.retention_ms.get() {
        0 => "for ever".to_owned(),
        ms => humantime::format_duration(Duration::from_millis(ms)).to_string(),
    };
    let retention_bytes = match settings.retention_bytes.get() {
        0 => "all".to_owned(),
        bytes => format!("{bytes} bytes"),
    };
    let segments = match settings.segment_bytes.get() {
        0 => "of the broker's size".to_owned(),
        bytes => format!("of {bytes} bytes"),
    };
    format!(
        "flush {} ms, segments {segments}, retention {retention}, {retention_bytes}",
        settings.flush_ms
    )
}

/// Deletes the oldest records; the exit code says whether all partitions did.
pub fn delete_records(args: &DeleteRecordsArgs) -> Result<ExitCode, Failure> {
    let mut connection = args.server.connect()?;
    let topic = connection.topic(&args.topic)?;
    let count = u32::try_from(topic.partitions.len()).expect("bounded by the protocol");
    let partitions: Vec<u32> = match args.partition {
        Some(partition) => vec![partition],
        None => (0..count).collect(),
    };
    let mut rows = Vec::new();
    for some in partitions.chunks(wire::limits::REQUEST_PARTITIONS_MAX) {
        let entry = |&partition: &u32| RequestEntry {
            topic_id: topic.topic_id,
            partition: partition.into(),
            reserved: 0.into(),
            before_offset: args.before.into(),
        };
        let entries: Vec<RequestEntry> = some.iter().map(entry).collect();
        rows.extend(connection.delete_records(&entries)?);
    }
    match args.format.format {
        Format::Table => {
            let row = |row: &ReplyEntry| {
                vec![row.partition.to_string(), row.log_start_offset.to_string(), outcome(row)]
            };
            let table = output::table(&["PARTITION", "START", "OUTCOME"], rows.iter().map(row));
            output::print(&table)?;
        }
        Format::Json => {
            let row = |row: &ReplyEntry| {
                json!({
                    "partition": row.partition.get(),
                    "log_start_offset": row.log_start_offset.get(),
                    "error": error_name(row),
                })
            };
            let partitions: Value = rows.iter().map(row).collect();
            output::print_json(&json!({ "name": args.topic, "partitions": partitions }))?;
        }
    }
    let is_done = rows.iter().all(|row| row.error.get() == 0);
    Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn error_name(row: &ReplyEntry) -> &'static str {
    ErrorCode::from_u16(row.error.get()).map_or("unknown", ErrorCode::name)
}

fn outcome(row: &ReplyEntry) -> String {
    match ErrorCode::from_u16(row.error.get()) {
        Some(ErrorCode::None) => "deleted".to_owned(),
        Some(ErrorCode::OffsetOutOfRange) => "refused: it ends before that offset".to_owned(),
        _ => format!("failed: {}", error_name(row)),
    }
}

fn before(text: &str) -> Result<u64, String> {
    match text {
        "end" => Ok(BEFORE_END),
        _ => text.parse().map_err(|_| format!("{text:?} is no offset: a number, or `end`")),
    }
}
