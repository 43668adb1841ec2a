//! The client library of Pelton.
//!
//! [`Producer`] sends records and tells what became of each, [`Consumer`] reads them; both go
//! straight to the shard that owns a partition. [`Connection`] asks a broker about topics,
//! [`session`] is the protocol without a socket.

mod connection;
pub mod consumer;
mod error;
#[cfg(test)]
mod fake_broker;
pub mod limits;
pub mod network;
pub mod partitioner;
pub mod producer;
pub mod queue;
mod router;
pub mod session;
pub mod transport;
mod upkeep;

pub use connection::TopicMetadata;
pub use connection::{ConnectOptions, Connection, Endpoint, Metadata, TopicDescription};
pub use consumer::{Consumer, ConsumerEvent, ConsumerOptions, ConsumerRecord, Damaged, OutOfRange};
pub use consumer::{PartitionPosition, Position};
pub use error::ClientError;
pub use producer::{Delivery, Outcome, Producer, ProducerOptions, Record, Totals};
pub use queue::{PublisherOptions, QueuePublisher};
pub use queue::{PullOptions, PushOptions, QueueConsumer, QueueDelivery, Target};
pub use wire::topic::Settings as TopicSettings;
pub use wire::{Acks, ErrorCode, TopicId};

/// Settings for a topic with `partitions` partitions and everything else at its default.
pub fn topic_settings(partitions: u32) -> TopicSettings {
    TopicSettings::new(partitions)
}
