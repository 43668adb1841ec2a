//! What an operation is called inside the ring: 64 bits that come back with its completion.
//!
//! ```text
//! 63      56 55              32 31               0
//! ┌─────────┬──────────────────┬──────────────────┐
//! │  kind   │    generation    │      index       │
//! └─────────┴──────────────────┴──────────────────┘
//! ```
//! The index is a connection's number, a place in the table of storage operations or in the list
//! of listeners, or another shard's number. The
//! generation counts the reuses of a connection's number: a completion of an earlier use is a
//! programmer's error, since a number is free only after all its operations have completed.

/// What kind of operation completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A listener's multishot accept.
    Accept = 1,
    /// A connection's multishot receive.
    Recv = 2,
    /// A connection's receive into a buffer.
    RecvInto = 3,
    /// A connection's send.
    Send = 4,
    /// The cancelling of operations; its result does not matter, theirs do.
    Cancel = 5,
    /// The closing of a connection's descriptor.
    Close = 6,
    /// A write, read or flush.
    Storage = 7,
    /// The maintenance thread's bell.
    Bell = 8,
    /// The stop signal.
    Stop = 9,
    /// A message to another shard's ring, which could not be delivered.
    Doorbell = 10,
    /// A message from another shard's ring.
    Rung = 11,
    /// A connection's socket is given a descriptor of the process.
    Install = 12,
}

const GENERATION_BITS: u64 = 24;

/// The name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// What completed.
    pub kind: Kind,
    /// Which use of the index, modulo 2^24.
    pub generation: u32,
    /// Whose.
    pub index: u32,
}

impl Token {
    /// The name of an operation that there is only one of.
    pub const fn sole(kind: Kind) -> Token {
        Token { kind, generation: 0, index: 0 }
    }

    /// As the ring carries it.
    pub fn user_data(self) -> u64 {
        let generation = u64::from(self.generation) & ((1 << GENERATION_BITS) - 1);
        (u64::from(self.kind as u8) << 56) | (generation << 32) | u64::from(self.index)
    }

    /// Reads what [`Token::user_data`] wrote.
    pub fn from_user_data(user_data: u64) -> Token {
        let [kind, a, b, c, index @ ..] = user_data.to_be_bytes();
        let kind = match kind {
            1 => Kind::Accept,
            2 => Kind::Recv,
            3 => Kind::RecvInto,
            4 => Kind::Send,
            5 => Kind::Cancel,
            6 => Kind::Close,
            7 => Kind::Storage,
            8 => Kind::Bell,
            9 => Kind::Stop,
            10 => Kind::Doorbell,
            11 => Kind::Rung,
            12 => Kind::Install,
            _ => unreachable!("the ring returns only names it was given"),
        };
        let generation = u32::from_be_bytes([0, a, b, c]);
        Token { kind, generation, index: u32::from_be_bytes(index) }
    }
}

/// The generation after this one.
pub const fn next_generation(generation: u32) -> u32 {
    (generation + 1) & ((1 << GENERATION_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_went() {
        for kind in [Kind::Accept, Kind::Recv, Kind::Stop, Kind::Doorbell, Kind::Rung] {
            for (generation, index) in [(0, 0), ((1 << 24) - 1, u32::MAX), (77, 12)] {
                let token = Token { kind, generation, index };
                assert_eq!(Token::from_user_data(token.user_data()), token);
            }
        }
        assert_eq!(next_generation((1 << 24) - 1), 0);
    }
}
