//! Queues: publish with confirms, consume by push or pull, and what keeps queues in shape.
//!
//! Publishers and consumers talk to the shard that owns their queue, if shards have ports of their
//! own. A lost connection is not made again: what was not confirmed may or may not be there, and
//! what was not settled is delivered again.

mod admin;
mod consumer;
mod publisher;

pub use admin::QueueDescription;
pub use consumer::{PullOptions, PushOptions, QueueConsumer, QueueDelivery};
pub use publisher::{Confirm, PublisherOptions, QueuePublisher};

use wire::queue::QueueId;

use crate::connection::{ConnectOptions, Connection};
use crate::error::ClientError;

/// A connection to the shard that owns a queue, and the queue's id.
fn connect_to_owner(
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
