//! What ends a session: the peer does not speak the protocol, or says that we do not.

use wire::{ErrorCode, Malformed};

/// Why a session cannot go on. The connection must be closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// A frame header that no Pelton broker sends.
    Frame {
        /// The class of the fault.
        code: ErrorCode,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A frame whose body or checksum is wrong.
    Body {
        /// Number of the frame's kind.
        kind: u16,
        /// What is wrong with it.
        malformed: Malformed,
    },
    /// A request came where only replies may come.
    NotAReply {
        /// Number of the frame's kind.
        kind: u16,
    },
    /// A reply to a request that is not in flight, or of another kind than its request.
    Unasked {
        /// Number of the frame's kind.
        kind: u16,
        /// The correlation id it bears.
        correlation_id: u64,
    },
    /// The broker gives up this connection, and says why.
    Refused {
        /// An [`ErrorCode`] number.
        code: u16,
        /// The broker's sentence.
        detail: String,
    },
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Violation::Frame { code, reason } => write!(f, "{reason} ({code})"),
            Violation::Body { kind, malformed } => write!(f, "{malformed} (frame kind {kind})"),
            Violation::NotAReply { kind } => write!(f, "a frame of kind {kind} is not a reply"),
            Violation::Unasked { kind, correlation_id } => {
                write!(f, "nothing in flight fits a reply of kind {kind}, id {correlation_id}")
            }
            Violation::Refused { code, detail } => {
                let name = ErrorCode::from_u16(*code).map_or("unknown", ErrorCode::name);
                write!(f, "the broker gave the connection up: {name}: {detail}")
            }
        }
    }
}

impl std::error::Error for Violation {}
