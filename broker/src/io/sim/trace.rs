//! A running hash over all that crosses the boundary. Two runs with the same hash were the same.
//! And, for people who look for a cause, the same as lines of text.

use std::hash::{Hash, Hasher};

use engine::port::{Done, Now, Op};

/// Where the lines of a trace go, each as it comes: also those before a panic.
pub type TraceLines = fn(&str);

/// What one shard asked for and was told.
#[derive(Debug)]
pub(super) struct Trace {
    hash: WordHash,
    /// Whose name stands in them, and where they go.
    lines: Option<(u16, TraceLines)>,
}

impl Trace {
    pub(super) const fn new() -> Trace {
        Trace { hash: WordHash(0xcbf2_9ce4_8422_2325), lines: None }
    }

    pub(super) fn tell(&mut self, shard: u16, lines: TraceLines) {
        self.lines = Some((shard, lines));
    }

    pub(super) const fn hash(&self) -> u64 {
        self.hash.0
    }

    pub(super) fn waited(&mut self, now: &Now, dones: &[Done]) {
        now.time.hash(&mut self.hash);
        for done in dones {
            done.hash(&mut self.hash);
            self.line(now, || format!("done {done:?}"));
        }
    }

    pub(super) fn submitted(&mut self, now: &Now, op: &Op) {
        op.hash(&mut self.hash);
        self.line(now, || format!("  op {op:?}"));
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        // Recoveries read much: the checksum is several times as quick as the words' hash.
        self.hash.write_u32(wire::crc::crc32c(bytes));
        self.hash.write_usize(bytes.len());
    }

    fn line(&self, now: &Now, text: impl FnOnce() -> String) {
        if let Some((shard, tell)) = &self.lines {
            let ms = now.time.0 / 1_000_000;
            let ns = now.time.0 % 1_000_000;
            tell(&format!("{ms:>6}.{ns:06} shard {shard} {}", text()));
        }
    }
}

/// FNV-1a in words of 64 bits: what matters is that it is the same for ever, and quick, not that
/// it is strong.
#[derive(Debug)]
struct WordHash(u64);

impl WordHash {
    fn word(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    }
}

impl Hasher for WordHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        // The length keeps apart what only zeros tell apart.
        self.word(u64::from_le_bytes(last) ^ u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    }
}
