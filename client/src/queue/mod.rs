//! Queues: publish with confirms, consume by push and pull, and what keeps queues in shape.
//!
//! Publishers and consumers talk to the shard that owns their queue, if shards have ports of their
//! own. A connection that is lost is made again for as long as [`crate::ConnectOptions`] says. What
//! was not confirmed is published again then, and its confirm tells that it may be there twice;
//! what was not settled is delivered again.

mod admin;
mod consumer;
mod dial;
mod publisher;

pub use admin::QueueDescription;
pub use consumer::{PullOptions, PushOptions, QueueConsumer, QueueDelivery};
pub use dial::Target;
pub use publisher::{Confirm, PublisherOptions, QueuePublisher};
