//! What only runs over queues have.

use crate::latency::Summary;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The knobs of a load of queues.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are named after the flags, with units")]
pub struct QueueOptions {
    /// 0 where messages are settled by being sent.
    pub prefetch: u32,
    pub ack_mode: String,
    pub nack_share_millionths: u32,
    pub persistent_share_millionths: u32,
    /// 0: none.
    pub delivery_limit: u32,
    pub backlog_messages: Option<u64>,
}

/// What became of the messages of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueueFigures {
    /// From the intended time of a message to its confirm.
    pub confirm_ns: Option<Summary>,
    /// From the intended time of a message to its first delivery, verified.
    pub deliver_ns: Option<Summary>,
    /// Deliveries that bore the redelivered mark.
    pub redelivered: u64,
    /// Messages that were found among the dead letters.
    pub dead_lettered: u64,
    /// Deliveries of messages that had been acknowledged: each breaks a promise.
    pub delivered_after_ack: u64,
    /// Marked deliveries of messages whose acknowledgement a fault may have taken with it.
    #[serde(default)]
    pub came_again: u64,
    /// Messages in the queues before the load began.
    pub messages_at_start: Option<u64>,
    /// Messages in the queues when the window closed.
    pub messages_at_close: Option<u64>,
}
