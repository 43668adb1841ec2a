//! As much of the engine as the mesh touches, over memory that the model checker watches: two
//! accesses to a byte of which neither is ordered before the other end the model.

/// Memory.
pub mod pool {
    use loom::cell::UnsafeCell;

    /// Bytes of an arena.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Slice {
        /// Where they begin.
        pub offset: u64,
        /// How many they are.
        pub len: u32,
    }

    /// Leave to fill bytes.
    #[derive(Debug)]
    pub struct FillBuf(pub Slice);

    impl FillBuf {
        /// The bytes.
        pub fn slice(&self) -> Slice {
            self.0
        }
    }

    /// One shard's memory.
    #[derive(Debug)]
    pub struct Arena(Vec<UnsafeCell<u8>>);

    // SAFETY: the model checker sees every access, and complains of those that race.
    unsafe impl Sync for Arena {}
    // SAFETY: as above.
    unsafe impl Send for Arena {}

    impl Arena {
        /// So many zeros.
        pub fn new(bytes: usize) -> Arena {
            Arena((0..bytes).map(|_| UnsafeCell::new(0)).collect())
        }

        /// Writes a byte.
        pub fn set(&self, at: usize, byte: u8) {
            // SAFETY: the model checker watches.
            self.0[at].with_mut(|place| unsafe { *place = byte });
        }

        /// Reads a byte.
        pub fn get(&self, at: usize) -> u8 {
            // SAFETY: the model checker watches.
            self.0[at].with(|place| unsafe { *place })
        }

        /// As the engine's own.
        pub fn copy_across(&self, from: &Arena, slice: Slice, buf: &mut FillBuf, at: u32) {
            for index in 0..slice.len {
                let byte = from.get(slice.offset as usize + index as usize);
                self.set(buf.0.offset as usize + (at + index) as usize, byte);
            }
        }
    }
}

/// What happens.
pub mod port {
    use super::pool::FillBuf;

    /// One slot for each link, so that every send uses it again.
    pub const SEND_SLICES_MAX: usize = 1;

    /// A connection's number.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct ConnId(pub u32);

    /// An errno.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Fault(pub i32);

    impl Fault {
        /// Cancelled.
        pub const ECANCELED: Fault = Fault(125);
    }

    /// Which end of a link a shard has.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum LinkEnd {
        /// This shard asks.
        Asking,
        /// This shard answers.
        Answering,
    }

    /// What happened.
    #[derive(Debug)]
    pub enum Done {
        /// There is a link.
        Linked {
            /// Its number.
            conn: ConnId,
            /// The other shard.
            shard: u16,
            /// This end.
            end: LinkEnd,
        },
        /// A send ended.
        Sent {
            /// Whose.
            conn: ConnId,
            /// Bytes.
            result: Result<u32, Fault>,
        },
        /// A receive ended.
        Filled {
            /// Whose.
            conn: ConnId,
            /// The bytes are there.
            buf: FillBuf,
            /// How many.
            result: Result<u32, Fault>,
        },
    }
}
