//! `pelton topic`.

mod upkeep;

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use client::{TopicDescription, TopicId, TopicSettings};
use serde_json::{Value, json};
use wire::limits::TOPIC_PARTITIONS_MAX;
use wire::topic::{PartitionState, Visibility};

use crate::failure::Failure;
use crate::output::{self, Format, FormatArgs};
use crate::server::ServerArgs;
use crate::size;

/// Flags of `topic`.
#[derive(Debug, Args)]
pub struct TopicArgs {
    #[command(subcommand)]
    command: TopicCommand,
}

#[derive(Debug, Subcommand)]
enum TopicCommand {
    /// Create a topic
    Create(CreateArgs),
    /// List all topics
    List(ListArgs),
    /// Show a topic's settings and its partitions' offsets
    Describe(NameArgs),
    /// Change a topic's settings
    Alter(upkeep::AlterArgs),
    /// Delete the oldest records of a topic
    DeleteRecords(upkeep::DeleteRecordsArgs),
    /// Delete a topic and all its records
    Delete(NameArgs),
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Its name: letters, digits, `.`, `_` and `-`
    #[arg(value_name = "TOPIC", value_parser = name)]
    topic: String,
    /// How many partitions
    #[arg(
        long,
        default_value_t = 1,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(TOPIC_PARTITIONS_MAX))
    )]
    partitions: u32,
    /// When consumers may see a record
    #[arg(long, value_enum, default_value = "durable")]
    visibility: VisibilityChoice,
    /// How long records that nobody waits for may stay unflushed; 0 flushes each
    #[arg(long, default_value = "0s", value_name = "DUR", value_parser = milliseconds)]
    flush: u32,
    /// Segment size at which a new one is begun; 0 takes the broker's
    #[arg(long, default_value = "0", value_name = "BYTES", value_parser = segment_bytes)]
    segment_bytes: u32,
    /// How long records are kept, by their own time; 0 keeps them for ever
    #[arg(long, default_value = "0s", value_name = "DUR", value_parser = retention)]
    retention: u64,
    /// Bytes of segments that each partition keeps; 0 keeps all
    #[arg(long, default_value = "0", value_name = "BYTES", value_parser = size::bytes)]
    retention_bytes: u64,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
struct NameArgs {
    /// Its name
    #[arg(value_name = "TOPIC", value_parser = name)]
    topic: String,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum VisibilityChoice {
    /// Once it is durable
    Durable,
    /// Once it is written
    Written,
    /// Once it is ordered in memory
    Memory,
}

impl From<VisibilityChoice> for Visibility {
    fn from(choice: VisibilityChoice) -> Self {
        match choice {
            VisibilityChoice::Durable => Visibility::Durable,
            VisibilityChoice::Written => Visibility::Written,
            VisibilityChoice::Memory => Visibility::Memory,
        }
    }
}

/// Runs the command.
pub fn run(args: &TopicArgs) -> Result<ExitCode, Failure> {
    match &args.command {
        TopicCommand::Create(args) => create(args)?,
        TopicCommand::List(args) => list(args)?,
        TopicCommand::Describe(args) => describe(args)?,
        TopicCommand::Alter(args) => upkeep::alter(args)?,
        TopicCommand::DeleteRecords(args) => return upkeep::delete_records(args),
        TopicCommand::Delete(args) => delete(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn create(args: &CreateArgs) -> Result<(), Failure> {
    let mut settings = TopicSettings::new(args.partitions);
    settings.visibility = Visibility::from(args.visibility) as u8;
    settings.flush_ms = args.flush.into();
    settings.segment_bytes = args.segment_bytes.into();
    settings.retention_ms = args.retention.into();
    settings.retention_bytes = args.retention_bytes.into();
    let topic_id = args.server.connect()?.create_topic(&args.topic, &settings)?;
    match args.format.format {
        Format::Table => {
            let (topic, count) = (&args.topic, args.partitions);
            let plural = if count == 1 { "" } else { "s" };
            output::note(&format!("created {topic} with {count} partition{plural}"));
            Ok(())
        }
        Format::Json => output::print_json(&json!({
            "name": args.topic, "topic_id": hex(&topic_id), "partitions": args.partitions,
        })),
    }
}

fn list(args: &ListArgs) -> Result<(), Failure> {
    let mut topics = args.server.connect()?.metadata(&[])?.topics;
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    match args.format.format {
        Format::Table => {
            let row = |topic: &client::TopicMetadata| {
                vec![topic.name.clone(), topic.partitions.len().to_string(), hex(&topic.topic_id)]
            };
            output::print(&output::table(&["TOPIC", "PARTITIONS", "ID"], topics.iter().map(row)))
        }
        Format::Json => {
            let row = |topic: &client::TopicMetadata| {
                json!({
                    "name": topic.name,
                    "topic_id": hex(&topic.topic_id),
                    "partitions": topic.partitions.len(),
                })
            };
            output::print_json(&topics.iter().map(row).collect::<Value>())
        }
    }
}

fn describe(args: &NameArgs) -> Result<(), Failure> {
    let description = args.server.connect()?.describe_topic(&args.topic)?;
    let settings = &description.head.settings;
    let visibility = Visibility::from_u8(settings.visibility).map_or("unknown", Visibility::name);
    match args.format.format {
        Format::Table => {
            let mut text = format!(
                "topic {} id {} visibility {visibility} {}\n\n",
                args.topic,
                hex(&description.head.topic_id),
                upkeep::told(settings)
            );
            text.push_str(&partition_table(&description));
            output::print(&text)
        }
        Format::Json => output::print_json(&json!({
            "name": args.topic,
            "topic_id": hex(&description.head.topic_id),
            "visibility": visibility,
            "flush_ms": settings.flush_ms.get(),
            "segment_bytes": settings.segment_bytes.get(),
            "retention_ms": settings.retention_ms.get(),
            "retention_bytes": settings.retention_bytes.get(),
            "partitions": partition_rows(&description),
        })),
    }
}

fn partition_table(description: &TopicDescription) -> String {
    let header = [
        "PARTITION",
        "START",
        "VISIBLE END",
        "END",
        "SEGMENTS",
        "BYTES",
        "SHARD",
        "EPOCH",
        "DAMAGED",
    ];
    let rows = description.partitions.iter().map(|partition| {
        vec![
            partition.partition.to_string(),
            partition.log_start_offset.to_string(),
            partition.high_watermark.to_string(),
            partition.log_end_offset.to_string(),
            partition.segments.to_string(),
            partition.segment_bytes.to_string(),
            partition.shard.to_string(),
            partition.leader_epoch.to_string(),
            damaged(partition),
        ]
    });
    output::table(&header, rows)
}

/// The damaged offsets of a partition: the first range, and how many more there are.
fn damaged(partition: &PartitionState) -> String {
    let (from, to) = (partition.damaged_from.get(), partition.damaged_to.get());
    let first = match partition.damaged_ranges.get() {
        0 => return String::from("-"),
        _ if to == u64::MAX => format!("{from}.."),
        _ => format!("{from}..{to}"),
    };
    match partition.damaged_ranges.get() - 1 {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

fn partition_rows(description: &TopicDescription) -> Value {
    let row = |partition: &PartitionState| {
        json!({
            "partition": partition.partition.get(),
            "shard": partition.shard.get(),
            "log_start_offset": partition.log_start_offset.get(),
            "high_watermark": partition.high_watermark.get(),
            "log_end_offset": partition.log_end_offset.get(),
            "segments": partition.segments.get(),
            "segment_bytes": partition.segment_bytes.get(),
            "leader_epoch": partition.leader_epoch.get(),
            "damaged_ranges": partition.damaged_ranges.get(),
            "damaged_from": partition.damaged_from.get(),
            "damaged_to": partition.damaged_to.get(),
        })
    };
    description.partitions.iter().map(row).collect()
}

fn delete(args: &NameArgs) -> Result<(), Failure> {
    args.server.connect()?.delete_topic(&args.topic)?;
    match args.format.format {
        Format::Table => {
            output::note(&format!("deleted {}", args.topic));
            Ok(())
        }
        Format::Json => output::print_json(&json!({ "name": args.topic, "deleted": true })),
    }
}

fn name(text: &str) -> Result<String, String> {
    wire::topic::invalid_name(text).map_or_else(|| Ok(text.to_owned()), |why| Err(why.to_owned()))
}

fn milliseconds(text: &str) -> Result<u32, String> {
    let duration: Duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    u32::try_from(duration.as_millis()).map_err(|_| String::from("at most 49 days"))
}

/// A time to keep records, in ms.
fn retention(text: &str) -> Result<u64, String> {
    let duration: Duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    u64::try_from(duration.as_millis()).map_err(|_| String::from("that is too long"))
}

fn segment_bytes(text: &str) -> Result<u32, String> {
    u32::try_from(size::bytes(text)?).map_err(|_| String::from("a segment is below 4 GiB"))
}

fn hex(topic_id: &TopicId) -> String {
    topic_id.iter().fold(String::with_capacity(32), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
