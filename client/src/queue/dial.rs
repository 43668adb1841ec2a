//! Connections of publishers and consumers: to the shard that owns their queue, and again after
//! they were lost.

use std::time::Instant;

use wire::queue::{QueueId, RouteTarget};

use crate::connection::{ConnectOptions, Connection};
use crate::error::ClientError;
use crate::limits::{RECONNECT_PAUSE_MAX, RECONNECT_PAUSE_MIN};

/// Where messages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The queue of this name.
    Queue(String),
    /// A partition of the topic of this name: each message becomes a record.
    Partition(String, u32),
}

/// A connection to the shard that owns a queue, and the queue's id.
pub(super) fn connect_to_owner(
    address: &str,
    queue: &str,
    options: &ConnectOptions,
) -> Result<(Connection, QueueId), ClientError> {
    let mut connection = Connection::connect(address, options)?;
    let found = connection.describe_queue(queue)?;
    let endpoints = connection.endpoints()?;
    let own = endpoints.iter().find(|endpoint| endpoint.shard == found.shard);
    match own.map(|endpoint| endpoint.address(address)) {
        Some(other) if other != address && endpoints.len() > 1 => {
            Ok((Connection::connect(&other, options)?, found.queue))
        }
        _ => Ok((connection, found.queue)),
    }
}

/// A connection from which all targets are reached, and their ids: to the owner of a single queue,
/// else to whichever shard answers.
pub(super) fn connect_to_targets(
    address: &str,
    targets: &[Target],
    options: &ConnectOptions,
) -> Result<(Connection, Vec<RouteTarget>), ClientError> {
    if let [Target::Queue(queue)] = targets {
        let (connection, queue) = connect_to_owner(address, queue, options)?;
        return Ok((connection, vec![RouteTarget::queue(queue)]));
    }
    let mut connection = Connection::connect(address, options)?;
    let mut found = Vec::new();
    for target in targets {
        found.push(match target {
            Target::Queue(name) => RouteTarget::queue(connection.describe_queue(name)?.queue),
            Target::Partition(name, partition) => {
                let topics = connection.metadata(&[name])?.topics;
                let topic = topics.first().expect("metadata names what it was asked for");
                RouteTarget::partition(topic.topic_id, *partition)
            }
        });
    }
    Ok((connection, found))
}

/// Connects as `connect` does, again and again with pauses that grow, for as long as the options
/// say.
pub(super) fn connect_again<T>(
    options: &ConnectOptions,
    lost: ClientError,
    connect: impl Fn() -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let since = Instant::now();
    let (mut pause, mut last) = (RECONNECT_PAUSE_MIN, lost);
    while since.elapsed() + pause <= options.reconnect_for {
        std::thread::sleep(pause);
        pause = (pause * 2).min(RECONNECT_PAUSE_MAX);
        match connect() {
            Ok(connected) => return Ok(connected),
            Err(error) if error.is_passing() => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}
