//! `pelton queue create`.

use clap::{Args, ValueEnum};
use serde_json::json;
use wire::queue::{
    Overflow, QUEUE_AUTO_DELETE, QUEUE_DEAD_LETTER_TOPIC, QUEUE_SINGLE_ACTIVE, QUEUE_TRANSIENT,
    Settings,
};

use super::{hex, milliseconds, name};
use crate::failure::Failure;
use crate::output::{self, Format, FormatArgs};
use crate::server::ServerArgs;
use crate::size;

/// Flags of `queue create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Its name: letters, digits, `.`, `_` and `-`; without one the broker finds one
    #[arg(value_name = "QUEUE", value_parser = name)]
    queue: Option<String>,
    /// It is gone with all its messages when the broker ends
    #[arg(long)]
    transient: bool,
    /// It is deleted with the last consumer it has had
    #[arg(long)]
    auto_delete: bool,
    /// One consumer at a time gets everything
    #[arg(long)]
    single_active: bool,
    /// Most messages; 0 sets no bound
    #[arg(long, default_value_t = 0, value_name = "N")]
    max_messages: u64,
    /// Most bytes of messages; 0 sets no bound
    #[arg(long, default_value = "0", value_name = "BYTES", value_parser = size::bytes)]
    max_bytes: u64,
    /// What happens to messages beyond these
    #[arg(long, value_enum, default_value = "drop-head")]
    overflow: OverflowChoice,
    /// Messages expire after this long; 0s sets no time
    #[arg(long, default_value = "0s", value_name = "DUR", value_parser = milliseconds::<u64>)]
    message_ttl: u64,
    /// It is deleted once nobody has used it for this long; 0s keeps it
    #[arg(long, default_value = "0s", value_name = "DUR", value_parser = milliseconds::<u64>)]
    expires: u64,
    /// A message is delivered at most so often; 0 sets no limit
    #[arg(long, default_value_t = 0, value_name = "N")]
    delivery_limit: u32,
    /// How long a message is leased to who pulls it; 0s takes 30 s
    #[arg(long, default_value = "0s", value_name = "DUR", value_parser = milliseconds::<u32>)]
    lease: u32,
    /// How long a consumer may take to settle a message; 0s takes 30 min
    #[arg(long, default_value = "0s", value_name = "DUR", value_parser = milliseconds::<u32>)]
    consumer_timeout: u32,
    /// The queue that dead letters go to; it must exist
    #[arg(long, value_name = "QUEUE", value_parser = name)]
    dead_letter: Option<String>,
    /// The topic that dead letters go to, as records of one partition; it must exist
    #[arg(long, value_name = "TOPIC", value_parser = name, conflicts_with = "dead_letter")]
    dead_letter_topic: Option<String>,
    /// The partition of that topic
    #[arg(long, default_value_t = 0, value_name = "N", requires = "dead_letter_topic")]
    dead_letter_partition: u32,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OverflowChoice {
    /// The oldest make room
    DropHead,
    /// New ones are refused
    Reject,
    /// New ones are refused and become dead letters
    RejectDeadLetter,
}

impl From<OverflowChoice> for Overflow {
    fn from(choice: OverflowChoice) -> Self {
        match choice {
            OverflowChoice::DropHead => Overflow::DropHead,
            OverflowChoice::Reject => Overflow::Reject,
            OverflowChoice::RejectDeadLetter => Overflow::RejectDeadLetter,
        }
    }
}

/// Runs the command.
pub fn create(args: &CreateArgs) -> Result<(), Failure> {
    let flags = [
        (args.transient, QUEUE_TRANSIENT),
        (args.auto_delete, QUEUE_AUTO_DELETE),
        (args.single_active, QUEUE_SINGLE_ACTIVE),
        (args.dead_letter_topic.is_some(), QUEUE_DEAD_LETTER_TOPIC),
    ];
    let flags = flags.into_iter().filter(|(wanted, _)| *wanted).map(|(_, flag)| flag);
    let settings = Settings {
        flags: flags.fold(0, |all, flag| all | flag).into(),
        overflow: Overflow::from(args.overflow) as u8,
        max_messages: args.max_messages.into(),
        max_bytes: args.max_bytes.into(),
        message_ttl_ms: args.message_ttl.into(),
        expires_ms: args.expires.into(),
        delivery_limit: args.delivery_limit.into(),
        lease_ms: args.lease.into(),
        consumer_timeout_ms: args.consumer_timeout.into(),
        dead_letter_partition: args.dead_letter_partition.into(),
        ..Settings::new()
    };
    let dead_letter = args.dead_letter.as_deref().or(args.dead_letter_topic.as_deref());
    let queue = args.queue.as_deref();
    let mut connection = args.server.connect()?;
    let (id, name) = connection.create_queue(
        queue.unwrap_or_default(),
        &settings,
        dead_letter.unwrap_or_default(),
    )?;
    match args.format.format {
        Format::Table => {
            output::note(&format!("queue {name} is there"));
            // A name that the broker found is what was asked for.
            if args.queue.is_none() { output::print(&name) } else { Ok(()) }
        }
        Format::Json => output::print_json(&json!({ "name": name, "queue_id": hex(&id) })),
    }
}
