//! `pelton queue list`, `describe` and `peek`.

use clap::Args;
use client::queue::QueueDescription;
use client::{Connection, QueueDelivery};
use serde_json::{Value, json};
use wire::queue::{
    Overflow, QUEUE_AUTO_DELETE, QUEUE_DEAD_LETTER_TOPIC, QUEUE_EXCLUSIVE, QUEUE_SINGLE_ACTIVE,
    QUEUE_TRANSIENT, Reason,
};

use super::{NameArgs, hex, name};
use crate::failure::Failure;
use crate::output::{self, Format, FormatArgs};
use crate::server::ServerArgs;

/// Flags of `queue list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    server: ServerArgs,
}

/// Flags of `queue peek`.
#[derive(Debug, Args)]
pub struct PeekArgs {
    /// Its name
    #[arg(value_name = "QUEUE", value_parser = name)]
    queue: String,
    /// Most messages
    #[arg(short = 'c', long, default_value_t = 10, value_name = "N")]
    count: u32,
    /// From this sequence number on
    #[arg(long, default_value_t = 0, value_name = "N")]
    from: u64,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs `queue list`.
pub fn list(args: &ListArgs) -> Result<(), Failure> {
    let mut connection = args.server.connect()?;
    let mut queues = Vec::new();
    for name in connection.list_queues()? {
        queues.extend(described(&mut connection, &name)?);
    }
    match args.format.format {
        Format::Table => {
            let row = |queue: &QueueDescription| {
                let counts = &queue.counts;
                let numbers =
                    [counts.ready, counts.leased, counts.dying, counts.bytes].map(|n| n.get());
                let mut row = vec![queue.name.clone()];
                row.extend(numbers.map(|number| number.to_string()));
                row.push(counts.consumers.get().to_string());
                row.push(queue.shard.to_string());
                row
            };
            let header = ["QUEUE", "READY", "LEASED", "DYING", "BYTES", "CONSUMERS", "SHARD"];
            output::print(&output::table(&header, queues.iter().map(row)))
        }
        Format::Json => output::print_json(&queues.iter().map(json_of).collect::<Value>()),
    }
}

/// A queue, unless it has been deleted since it was named.
fn described(connection: &mut Connection, name: &str) -> Result<Option<QueueDescription>, Failure> {
    match connection.describe_queue(name) {
        Ok(queue) => Ok(Some(queue)),
        Err(client::ClientError::Refused { code, .. })
            if code == client::ErrorCode::UnknownQueue.number() =>
        {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Runs `queue describe`.
pub fn describe(args: &NameArgs) -> Result<(), Failure> {
    let queue = args.server.connect()?.describe_queue(&args.queue)?;
    match args.format.format {
        Format::Json => output::print_json(&json_of(&queue)),
        Format::Table => {
            let Value::Object(fields) = json_of(&queue) else { unreachable!("it is an object") };
            let row = |(field, value): (&String, &Value)| {
                let value = match value {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                vec![field.clone(), value]
            };
            output::print(&output::table(&["FIELD", "VALUE"], fields.iter().map(row)))
        }
    }
}

fn json_of(queue: &QueueDescription) -> Value {
    let (settings, counts) = (&queue.settings, &queue.counts);
    let partition = settings.has(QUEUE_DEAD_LETTER_TOPIC);
    let partition = partition.then(|| settings.dead_letter_partition.get());
    let overflow = Overflow::from_u8(settings.overflow).map_or("unknown", Overflow::name);
    json!({
        "name": queue.name,
        "queue_id": hex(&queue.queue),
        "shard": queue.shard,
        "ready": counts.ready.get(),
        "leased": counts.leased.get(),
        "dying": counts.dying.get(),
        "bytes": counts.bytes.get(),
        "next_sequence": counts.next_sequence.get(),
        "consumers": counts.consumers.get(),
        "pulls": counts.pulls.get(),
        "accepted": counts.accepted.get(),
        "redelivered": counts.redelivered.get(),
        "dead_lettered": counts.dead_lettered.get(),
        "dropped": counts.dropped.get(),
        "unreadable": counts.unreadable.get(),
        "transient": settings.has(QUEUE_TRANSIENT),
        "exclusive": settings.has(QUEUE_EXCLUSIVE),
        "auto_delete": settings.has(QUEUE_AUTO_DELETE),
        "single_active": settings.has(QUEUE_SINGLE_ACTIVE),
        "max_messages": settings.max_messages.get(),
        "max_bytes": settings.max_bytes.get(),
        "overflow": overflow,
        "message_ttl_ms": settings.message_ttl_ms.get(),
        "expires_ms": settings.expires_ms.get(),
        "delivery_limit": settings.delivery_limit.get(),
        "lease_ms": settings.lease_ms.get(),
        "consumer_timeout_ms": settings.consumer_timeout_ms.get(),
        "dead_letter": queue.dead_letter,
        "dead_letter_partition": partition,
    })
}

/// Runs `queue peek`.
pub fn peek(args: &PeekArgs) -> Result<(), Failure> {
    let mut connection = args.server.connect()?;
    let queue = connection.describe_queue(&args.queue)?.queue;
    let (mut from, mut left) = (args.from, args.count);
    let mut messages = Vec::new();
    while left > 0 {
        let some = connection.peek_queue(&queue, from, left)?;
        let Some(last) = some.last() else { break };
        from = last.sequence + 1;
        left = left.saturating_sub(u32::try_from(some.len()).unwrap_or(u32::MAX));
        messages.extend(some);
    }
    match args.format.format {
        Format::Table => {
            let row = |message: &QueueDelivery| {
                vec![
                    message.sequence.to_string(),
                    message.deliveries.to_string(),
                    message.body.len().to_string(),
                    cause(message).unwrap_or_default().to_owned(),
                    String::from_utf8_lossy(&message.body).into_owned(),
                ]
            };
            let header = ["SEQUENCE", "DELIVERIES", "BYTES", "DIED", "BODY"];
            output::print(&output::table(&header, messages.iter().map(row)))
        }
        Format::Json => output::print_json(&messages.iter().map(message_json).collect::<Value>()),
    }
}

fn cause(message: &QueueDelivery) -> Option<&'static str> {
    let note = message.death.as_ref()?;
    Reason::from_u8(note.reason).map(Reason::name)
}

/// A message for programs.
pub fn message_json(message: &QueueDelivery) -> Value {
    let death = message.death.as_ref().map(|note| {
        json!({
            "reason": cause(message),
            "origin": hex(&note.origin),
            "origin_sequence": note.origin_sequence.get(),
            "died_ms": note.died_ms.get(),
            "first_published_ms": note.first_published_ms.get(),
            "deaths": note.deaths.get(),
            "deliveries": note.deliveries.get(),
        })
    });
    json!({
        "sequence": message.sequence,
        "deliveries": message.deliveries,
        "redelivered": message.redelivered,
        "published_ms": message.published_ms,
        "death": death,
        "properties": String::from_utf8_lossy(&message.properties),
        "body": String::from_utf8_lossy(&message.body),
    })
}
