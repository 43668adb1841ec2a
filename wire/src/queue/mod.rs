//! Queues: messages that are leased to one consumer each until they are settled.
//!
//! Names are resolved once, by create or describe; everything else names a queue by its id. A
//! queue's messages have sequence numbers from 0, and whoever settles them names ranges of these.

mod message;
mod redrive;
mod route;
mod settings;
mod settle;
mod transfer;

pub use message::{
    DEATH_NOTE_BYTES, DeathNote, MESSAGE_DEAD, MESSAGE_HEAD_BYTES, MESSAGE_TRANSIENT, Message,
    MessageHead, Messages, Reason, put_message,
};
pub use redrive::{RedriveJobReply, RedriveJobRequest, RedriveState, RedriveVerb};
pub use route::{
    RouteHead, RouteReply, RouteRequest, RouteTarget, RoutedRow, TargetKind, encode_route,
};
pub use settings::{
    CreateReply, CreateRequest, DELETE_IF_EMPTY, DELETE_IF_UNUSED, DeleteRequest, DescribeReply,
    LIST_NAMES_MAX, ListReply, ListRequest, Overflow, QUEUE_AUTO_DELETE, QUEUE_DEAD_LETTER_TOPIC,
    QUEUE_EXCLUSIVE, QUEUE_FLAGS_ALL, QUEUE_SINGLE_ACTIVE, QUEUE_TRANSIENT, QueueCounts, Settings,
    encode_create, encode_create_reply, encode_delete, encode_describe_reply, encode_list_row,
};
pub use settle::{
    SETTLE_QUIET, SETTLE_UP_TO, SettleHead, SettleReply, SettleRequest, SettleRow, SettledRow,
    Verb, encode_settle,
};
pub use transfer::{
    CONSUME_AUTO_ACK, CancelRequest, ConsumeReply, ConsumeRequest, CreditRequest, Deliver,
    DeliverHead, DeliveredRow, PUBLISH_TIMING, PeekRequest, PublishHead, PublishReply,
    PublishReplyHead, PublishRequest, PullRequest, PurgeReply, ROW_REDELIVERED, RedriveReply,
    RedriveRequest, encode_publish_reply,
};

/// 128-bit id of a queue; never reused.
pub type QueueId = [u8; 16];
