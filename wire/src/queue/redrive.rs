//! A job of the broker that sends dead letters back to the queues they died in.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::QueueId;

/// What is asked of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RedriveVerb {
    /// To begin.
    Start = 1,
    /// To tell how far it is.
    Show = 2,
    /// To end before it is done.
    Stop = 3,
}

impl RedriveVerb {
    /// The verb with this number.
    pub fn from_u8(value: u8) -> Option<RedriveVerb> {
        let all = [RedriveVerb::Start, RedriveVerb::Show, RedriveVerb::Stop];
        all.into_iter().find(|verb| *verb as u8 == value)
    }
}

/// How the job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum RedriveState {
    /// There has been none since the broker's start.
    None = 0,
    /// It goes on.
    Running = 1,
    /// It is done, durably.
    Done = 2,
    /// Somebody stopped it.
    Stopped = 3,
}

impl RedriveState {
    /// The state with this number.
    pub fn from_u32(value: u32) -> Option<RedriveState> {
        let all =
            [RedriveState::None, RedriveState::Running, RedriveState::Done, RedriveState::Stopped];
        all.into_iter().find(|state| *state as u32 == value)
    }
}

/// Starts, shows or stops the job of a queue of dead letters.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RedriveJobRequest {
    /// The queue of dead letters.
    pub queue: QueueId,
    /// [`RedriveVerb`].
    pub verb: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// Most messages per second; 0: as fast as it goes.
    pub rate: U32,
    /// Most messages; 0: all that are there when it begins.
    pub max_messages: U64,
}

/// How far the job is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RedriveJobReply {
    /// [`RedriveState`].
    pub state: U32,
    /// Its rate.
    pub rate: U32,
    /// Messages that went back.
    pub moved: U64,
    /// Messages that stay, since their queue is gone or they never died.
    pub kept: U64,
    /// Messages that are ready in the queue.
    pub left: U64,
}
