//! Bounds that both ends of a connection know. Every one has a name; hello tells the peer those
//! that a deployment may set lower.

/// The first four bytes of every frame: "PLTN" read as a little-endian number.
pub const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"PLTN");
/// Version of the frame header itself.
pub const FRAME_VERSION: u8 = 1;
/// Bytes of a frame header.
pub const FRAME_HEADER_BYTES: usize = 32;
/// A hello frame, header and body, may not be longer: nothing larger is read from a stranger.
pub const HELLO_FRAME_BYTES_MAX: usize = 4096;
/// Longest body of any frame.
pub const FRAME_BODY_BYTES_MAX: usize = BATCH_BYTES_MAX + CONTROL_BYTES_MAX;
/// Longest control part of a frame that carries record batches.
pub const CONTROL_BYTES_MAX: usize = 64 * 1024;
/// Longest record batch.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Most records in one batch.
pub const BATCH_RECORDS_MAX: u32 = 65_536;
/// Most partitions that one produce or fetch request may name.
pub const REQUEST_PARTITIONS_MAX: usize = 1024;
/// Longest topic name in bytes.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;
/// Most partitions of one topic.
pub const TOPIC_PARTITIONS_MAX: u32 = 10_000;
/// Longest client name in hello.
pub const CLIENT_NAME_BYTES_MAX: usize = 255;
/// Longest detail sentence of an error reply.
pub const ERROR_DETAIL_BYTES_MAX: usize = 512;
/// What a record and its batch add to a message that becomes one, with all that is told of its
/// death.
pub const DEAD_LETTER_BYTES_MAX: usize = 1024;
/// Longest message of a queue, properties and body: every message fits a topic as a dead letter.
pub const MESSAGE_BYTES_MAX: usize = BATCH_BYTES_MAX - DEAD_LETTER_BYTES_MAX;
/// Most messages in one publish.
pub const PUBLISH_MESSAGES_MAX: u32 = 65_536;
/// Most targets of one route.
pub const ROUTE_TARGETS_MAX: usize = 256;
/// Most rows in one settle.
pub const SETTLE_ROWS_MAX: usize = 1024;

const _: () = assert!(CONTROL_BYTES_MAX > REQUEST_PARTITIONS_MAX * 56 + 64);
