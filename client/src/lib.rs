//! The client library of Pelton.
//!
//! [`Connection`] asks a broker about topics; [`session`] is the protocol without a socket.

mod connection;
mod error;
pub mod limits;
pub mod partitioner;
pub mod session;
pub mod transport;

pub use connection::TopicMetadata;
pub use connection::{ConnectOptions, Connection, Endpoint, Metadata, TopicDescription};
pub use error::ClientError;
pub use wire::topic::Settings as TopicSettings;
pub use wire::{Acks, ErrorCode, TopicId};

/// Settings for a topic with `partitions` partitions and everything else at its default.
pub fn topic_settings(partitions: u32) -> TopicSettings {
    TopicSettings::new(partitions)
}
