//! `pelton queue`.

mod create;
mod redrive;
mod show;
mod transfer;

use std::fmt::Write;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;
use wire::queue::{DELETE_IF_EMPTY, DELETE_IF_UNUSED, QueueId};

use crate::failure::Failure;
use crate::output::{self, Format, FormatArgs};
use crate::server::ServerArgs;

/// Flags of `queue`.
#[derive(Debug, Args)]
pub struct QueueArgs {
    #[command(subcommand)]
    command: QueueCommand,
}

#[derive(Debug, Subcommand)]
enum QueueCommand {
    /// Create a queue; one that is there already must be the same
    Create(create::CreateArgs),
    /// List all queues
    List(show::ListArgs),
    /// Show a queue's settings and what is in it
    Describe(NameArgs),
    /// Publish a message per line of stdin
    Publish(transfer::PublishArgs),
    /// Take messages once, and accept them
    Get(transfer::GetArgs),
    /// Take messages as they come
    Consume(transfer::ConsumeArgs),
    /// Show messages without taking them
    Peek(show::PeekArgs),
    /// Remove every message that is ready
    Purge(NameArgs),
    /// Delete a queue and all its messages
    Delete(DeleteArgs),
    /// Send dead letters back to the queues they died in
    Redrive(redrive::RedriveArgs),
}

#[derive(Debug, Args)]
pub(super) struct NameArgs {
    /// Its name
    #[arg(value_name = "QUEUE", value_parser = name)]
    queue: String,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
struct DeleteArgs {
    #[command(flatten)]
    name: NameArgs,
    /// Only if nobody consumes from it
    #[arg(long)]
    if_unused: bool,
    /// Only if there is nothing in it
    #[arg(long)]
    if_empty: bool,
}

/// Runs the command.
pub fn run(args: &QueueArgs) -> Result<ExitCode, Failure> {
    match &args.command {
        QueueCommand::Create(args) => create::create(args)?,
        QueueCommand::List(args) => show::list(args)?,
        QueueCommand::Describe(args) => show::describe(args)?,
        QueueCommand::Publish(args) => return transfer::publish(args),
        QueueCommand::Get(args) => transfer::get(args)?,
        QueueCommand::Consume(args) => transfer::consume(args)?,
        QueueCommand::Peek(args) => show::peek(args)?,
        QueueCommand::Purge(args) => purge(args)?,
        QueueCommand::Delete(args) => delete(args)?,
        QueueCommand::Redrive(args) => redrive::redrive(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn purge(args: &NameArgs) -> Result<(), Failure> {
    let removed = args.server.connect()?.purge_queue(&args.queue)?;
    match args.format.format {
        Format::Table => {
            output::note(&format!("removed {removed} messages from {}", args.queue));
            Ok(())
        }
        Format::Json => output::print_json(&json!({ "name": args.queue, "removed": removed })),
    }
}

fn delete(args: &DeleteArgs) -> Result<(), Failure> {
    let name = &args.name;
    let mut conditions = if args.if_unused { DELETE_IF_UNUSED } else { 0 };
    conditions |= if args.if_empty { DELETE_IF_EMPTY } else { 0 };
    name.server.connect()?.delete_queue(&name.queue, conditions)?;
    match name.format.format {
        Format::Table => {
            output::note(&format!("deleted {}", name.queue));
            Ok(())
        }
        Format::Json => output::print_json(&json!({ "name": name.queue, "deleted": true })),
    }
}

fn name(text: &str) -> Result<String, String> {
    wire::topic::invalid_name(text).map_or_else(|| Ok(text.to_owned()), |why| Err(why.to_owned()))
}

fn hex(queue: &QueueId) -> String {
    queue.iter().fold(String::with_capacity(32), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A time in ms, as a number that a queue's settings have room for.
fn milliseconds<N: TryFrom<u128>>(text: &str) -> Result<N, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let longest = "that is too long: 49 days are the longest";
    N::try_from(duration.as_millis()).map_err(|_| String::from(longest))
}
