//! A running hash over all that crosses the boundary. Two runs with the same hash were the same.

use std::fmt::{self, Debug, Write};

use engine::port::{Done, Now, Op};

/// FNV-1a, 64 bits: what matters is that it is the same for ever, not that it is strong.
#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
}

impl Trace {
    pub(super) const fn new() -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325 }
    }

    pub(super) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn waited(&mut self, now: &Now, dones: &[Done]) {
        self.add(&now.time.0);
        for done in dones {
            self.add(done);
        }
    }

    pub(super) fn submitted(&mut self, op: &Op) {
        self.add(op);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn add(&mut self, what: &impl Debug) {
        write!(self, "{what:?}").expect("a trace takes everything");
    }
}

impl Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes(text.as_bytes());
        Ok(())
    }
}
