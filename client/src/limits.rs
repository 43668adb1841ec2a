//! Bounds of a client's own memory. What the broker bounds stands in `wire::limits` and in hello.

use wire::limits::{FRAME_BODY_BYTES_MAX, FRAME_HEADER_BYTES};

/// Receive buffer of a fresh session; it grows to the longest frame that arrives.
pub const RECEIVE_BYTES_INITIAL: usize = 64 * 1024;
/// How far a read may reach past the end of a frame that is still arriving. What it catches of
/// the next frame is moved to the front of the buffer later, so it stays small.
pub const READ_AHEAD_BYTES_MAX: usize = 16 * 1024;
/// Longest frame that a peer may make a session hold.
pub const FRAME_BYTES_MAX: usize = FRAME_HEADER_BYTES + FRAME_BODY_BYTES_MAX;
/// Sent bytes that may stay in front of the outgoing buffer before it is moved up.
pub const SENT_BYTES_KEPT_MAX: usize = 256 * 1024;
/// Largest window a session takes from hello, so that a broker cannot make it grow for ever.
pub const REQUESTS_IN_FLIGHT_MAX: u32 = 65_536;

const _: () = assert!(RECEIVE_BYTES_INITIAL >= FRAME_HEADER_BYTES + READ_AHEAD_BYTES_MAX);

/// Deliveries a producer keeps for a caller that does not read them; the oldest are dropped.
pub const DELIVERIES_KEPT_MAX: usize = 16_384;
/// How often a producer that is only ever sent to looks for replies, at most.
pub const PRODUCER_PUMP_INTERVAL: std::time::Duration = std::time::Duration::from_micros(100);
/// Pause before a batch refused as overloaded is sent again, if the broker names none.
pub const OVERLOADED_PAUSE: std::time::Duration = std::time::Duration::from_millis(5);
/// How much longer than a request's own timeout a producer waits for the broker to say so.
pub const REPLY_GRACE: std::time::Duration = std::time::Duration::from_secs(5);
/// First pause before a lost connection is made again; each further one is twice as long.
pub const RECONNECT_PAUSE_MIN: std::time::Duration = std::time::Duration::from_millis(10);
/// Longest pause between two tries to make a lost connection again.
pub const RECONNECT_PAUSE_MAX: std::time::Duration = std::time::Duration::from_secs(1);
/// Events a consumer keeps for a caller that does not read them; the oldest are dropped.
pub const CONSUMER_EVENTS_KEPT_MAX: usize = 1024;
/// What a consumer holds of records: per endpoint one fetch reply, from which records are given,
/// while the next one is on its way. The kernel's socket buffers bound what waits behind it.
pub const CONSUMER_BYTES_PER_ENDPOINT_MAX: usize = FRAME_BYTES_MAX + READ_AHEAD_BYTES_MAX;
