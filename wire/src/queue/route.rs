//! Route: messages for several queues and partitions of topics at once.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::limits::{PUBLISH_MESSAGES_MAX, ROUTE_TARGETS_MAX};
use crate::{Malformed, Reader};

/// The fixed start of a route; targets and then messages follow.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RouteHead {
    /// Messages that follow the targets.
    pub count: U32,
    /// [`crate::Acks`]: when the reply leaves.
    pub acks: u8,
    /// Zero.
    pub reserved: u8,
    /// Targets that follow.
    pub target_count: U16,
}

/// What a target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum TargetKind {
    /// A queue.
    Queue = 1,
    /// A partition of a topic: each message becomes a record.
    Partition = 2,
}

impl TargetKind {
    /// The kind with this number.
    pub const fn from_u32(value: u32) -> Option<TargetKind> {
        match value {
            1 => Some(TargetKind::Queue),
            2 => Some(TargetKind::Partition),
            _ => None,
        }
    }
}

/// Where messages go.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RouteTarget {
    /// Id of the queue, or of the topic.
    pub id: [u8; 16],
    /// [`TargetKind`].
    pub kind: U32,
    /// The partition of a topic; 0 for a queue.
    pub partition: U32,
}

impl RouteTarget {
    /// A queue.
    pub fn queue(id: [u8; 16]) -> RouteTarget {
        RouteTarget { id, kind: (TargetKind::Queue as u32).into(), partition: 0.into() }
    }

    /// A partition of a topic.
    pub fn partition(id: [u8; 16], partition: u32) -> RouteTarget {
        let kind = TargetKind::Partition as u32;
        RouteTarget { id, kind: kind.into(), partition: partition.into() }
    }
}

/// What became of a target.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RoutedRow {
    /// [`crate::ErrorCode`].
    pub error: U16,
    /// Zero.
    pub reserved: U16,
    /// Zero.
    pub reserved_end: U32,
    /// Sequence number, or offset, of the first message; the others follow it.
    pub first: U64,
}

/// A route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteRequest<'a> {
    /// Counts and acks.
    pub head: &'a RouteHead,
    /// Where the messages go.
    pub targets: &'a [RouteTarget],
    /// The messages, back to back; not looked into.
    pub messages: &'a [u8],
}

impl<'a> RouteRequest<'a> {
    /// Decodes the body. Messages are not looked into.
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let head = reader.get::<RouteHead>("route head")?;
        if !(1..=PUBLISH_MESSAGES_MAX).contains(&head.count.get()) {
            return Err(Malformed("a route has 1 to 65,536 messages"));
        }
        if head.reserved != 0 {
            return Err(Malformed("the reserved byte of route is not zero"));
        }
        let count = usize::from(head.target_count.get());
        if !(1..=ROUTE_TARGETS_MAX).contains(&count) {
            return Err(Malformed("a route names no target, or more than the limit"));
        }
        let targets = reader.slice::<RouteTarget>(count, "route targets")?;
        for (at, target) in targets.iter().enumerate() {
            let Some(kind) = TargetKind::from_u32(target.kind.get()) else {
                return Err(Malformed("a target of a route is of an unknown kind"));
            };
            if kind == TargetKind::Queue && target.partition.get() != 0 {
                return Err(Malformed("a queue among the targets of a route names a partition"));
            }
            if targets[..at].contains(target) {
                return Err(Malformed("a route names a target twice"));
            }
        }
        Ok(RouteRequest { head, targets, messages: reader.rest() })
    }
}

/// Appends the body of a route up to its messages.
pub fn encode_route(out: &mut Vec<u8>, acks: crate::Acks, count: u32, targets: &[RouteTarget]) {
    let target_count = u16::try_from(targets.len()).expect("targets are bounded").into();
    let head = RouteHead { count: count.into(), acks: acks as u8, reserved: 0, target_count };
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(targets.as_bytes());
}

/// The reply: one row for each target, in the request's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteReply<'a> {
    /// What became of each.
    pub rows: &'a [RoutedRow],
}

impl<'a> RouteReply<'a> {
    /// Decodes the body.
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        Ok(RouteReply { rows: crate::rows::decode(body)? })
    }

    /// Appends the body.
    pub fn encode(out: &mut Vec<u8>, rows: &[RoutedRow]) {
        crate::rows::encode(out, rows);
    }
}
