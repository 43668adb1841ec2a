//! Bodies of messages that are about to be delivered, in memory. All others lie in the store's
//! runs and segments, and are looked up there when their turn comes.

use std::collections::VecDeque;
use std::ops::Range;

use wire::queue::MessageHead;
use zerocopy::FromBytes;

use crate::log::records::stamp;

/// Messages grow together up to this length.
const CHUNK_BYTES: usize = 64 * 1024;

/// Messages with consecutive sequence numbers.
#[derive(Debug, Default)]
struct Chunk {
    first: u64,
    next: u64,
    bytes: Vec<u8>,
    /// Where some message of it begins: number and position. Readers go on from there.
    cursor: (u64, usize),
}

/// Messages in memory, by sequence number.
#[derive(Debug, Default)]
pub struct Window {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    free: Option<Vec<u8>>,
}

impl Window {
    /// Bytes that it holds.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of memory that it keeps, what is free among them included.
    pub fn held(&self) -> usize {
        self.bytes + self.free.as_ref().map_or(0, Vec::capacity)
    }

    /// Whether the message is here.
    pub fn contains(&self, at: u64) -> bool {
        self.find(at).is_some()
    }

    /// Takes in those of these messages, with consecutive numbers, that are not here already.
    pub fn insert(&mut self, range: Range<u64>, bytes: &[u8]) {
        let at = self.chunks.partition_point(|chunk| chunk.next <= range.start);
        if self.chunks.get(at).is_none_or(|chunk| range.end <= chunk.first) {
            return self.insert_piece(at, range, bytes);
        }
        let (mut next, mut rest) = (range.start, bytes);
        while next < range.end {
            let at = self.chunks.partition_point(|chunk| chunk.next <= next);
            let chunk = self.chunks.get(at).map(|chunk| (chunk.first, chunk.next));
            let is_here = chunk.filter(|&(first, _)| first <= next);
            let end = is_here.map(|(_, end)| end).or(chunk.map(|(first, _)| first));
            let end = end.unwrap_or(range.end).min(range.end);
            let (piece, tail) = rest.split_at(length_of(rest, end - next));
            if is_here.is_none() {
                self.insert_piece(at, next..end, piece);
            }
            (next, rest) = (end, tail);
        }
    }

    /// Takes in messages none of which is here, in front of the chunk at `at`.
    fn insert_piece(&mut self, at: usize, range: Range<u64>, bytes: &[u8]) {
        if range.is_empty() {
            return;
        }
        self.bytes += bytes.len();
        if let Some(before) = at.checked_sub(1).map(|before| &mut self.chunks[before])
            && before.next == range.start
            && before.bytes.len() + bytes.len() <= CHUNK_BYTES
        {
            before.next = range.end;
            before.bytes.extend_from_slice(bytes);
            return;
        }
        let mut own = self.free.take().unwrap_or_default();
        own.clear();
        own.extend_from_slice(bytes);
        let cursor = (range.start, 0);
        let chunk = Chunk { first: range.start, next: range.end, bytes: own, cursor };
        self.chunks.insert(at, chunk);
    }

    /// The same, of messages that a publisher made: notes when they were published.
    pub fn insert_stamped(&mut self, range: Range<u64>, bytes: &[u8], published_ms: u64) {
        let first = range.start;
        self.insert(range, bytes);
        if let Some(index) = self.find(first) {
            let chunk = &mut self.chunks[index];
            let from = chunk.seek(first);
            stamp(&mut chunk.bytes[from..from + bytes.len()], published_ms);
        }
    }

    /// The front of `range`, as far as it is here in one piece: messages of at most `bytes_max`
    /// bytes together, but at least one. Gives how many, and their bytes.
    pub fn take(&mut self, range: Range<u64>, bytes_max: usize) -> Option<(u64, &[u8])> {
        let index = self.find(range.start)?;
        let chunk = &mut self.chunks[index];
        let from = chunk.seek(range.start);
        let (mut to, mut next) = (from, range.start);
        while next < range.end.min(chunk.next) {
            let len = message_bytes(&chunk.bytes[to..]);
            if next > range.start && to - from + len > bytes_max {
                break;
            }
            to += len;
            next += 1;
        }
        chunk.cursor = if next < chunk.next { (next, to) } else { (range.start, from) };
        Some((next - range.start, &chunk.bytes[from..to]))
    }

    /// One message.
    pub fn message(&mut self, at: u64) -> Option<&[u8]> {
        self.take(at..at + 1, 0).map(|(_, bytes)| bytes)
    }

    /// Forgets the pieces that `is_idle` says nobody wants.
    pub fn prune(&mut self, is_idle: impl Fn(Range<u64>) -> bool) {
        let Window { chunks, bytes, free } = self;
        chunks.retain_mut(|chunk| {
            let keep = !is_idle(chunk.first..chunk.next);
            if !keep {
                *bytes -= chunk.bytes.len();
                *free = Some(std::mem::take(&mut chunk.bytes));
            }
            keep
        });
    }

    /// Whether a piece in front is one that nobody wants: cheap, and enough most of the time.
    pub fn front(&self) -> Option<Range<u64>> {
        self.chunks.front().map(|chunk| chunk.first..chunk.next)
    }

    /// Number behind the last message that is here.
    pub fn end(&self) -> Option<u64> {
        self.chunks.back().map(|chunk| chunk.next)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Window::default();
    }

    fn find(&self, at: u64) -> Option<usize> {
        let index = self.chunks.partition_point(|chunk| chunk.next <= at);
        self.chunks.get(index).filter(|chunk| chunk.first <= at).map(|_| index)
    }
}

impl Chunk {
    /// Position of a message of it.
    fn seek(&self, at: u64) -> usize {
        let (mut next, mut position) =
            if self.cursor.0 <= at { self.cursor } else { (self.first, 0) };
        while next < at {
            position += message_bytes(&self.bytes[position..]);
            next += 1;
        }
        position
    }
}

/// Bytes of the first `count` messages.
fn length_of(bytes: &[u8], count: u64) -> usize {
    (0..count).fold(0, |at, _| at + message_bytes(&bytes[at..]))
}

/// Bytes of the message at the front of `bytes`, which was checked when it was published.
pub fn message_bytes(bytes: &[u8]) -> usize {
    let (head, _) = MessageHead::ref_from_prefix(bytes).expect("messages are checked once");
    head.message_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::queue::put_message;

    fn messages(range: Range<u64>) -> Vec<u8> {
        let mut out = Vec::new();
        for at in range {
            put_message(&mut out, 0, 0, b"p", &vec![7; usize::try_from(at % 5).expect("small")]);
        }
        out
    }

    #[test]
    fn messages_are_found_wherever_a_reader_goes() {
        let mut window = Window::default();
        for range in [10..14, 14..20, 30..33] {
            window.insert(range.clone(), &messages(range));
        }
        window.insert(12..14, &messages(12..14));
        assert_eq!(window.bytes(), messages(10..20).len() + messages(30..33).len());
        for at in [19, 10, 15, 11, 32, 30] {
            assert_eq!(window.message(at), Some(messages(at..at + 1).as_slice()), "{at}");
        }
        assert_eq!(window.message(20), None);
        let all = messages(10..20);
        assert_eq!(window.take(10..40, usize::MAX), Some((10, all.as_slice())));
        let some = messages(16..18);
        assert_eq!(window.take(16..20, some.len()), Some((2, some.as_slice())));
        window.prune(|range| range.end <= 20);
        assert_eq!((window.contains(15), window.contains(31)), (false, true));
        assert_eq!(window.bytes(), messages(30..33).len());
    }

    #[test]
    fn a_piece_that_overlaps_with_others_fills_the_gaps_and_drops_nothing() {
        let mut window = Window::default();
        for range in [10..14, 20..23, 12..21, 5..30, 8..9] {
            window.insert(range.clone(), &messages(range));
        }
        assert_eq!(window.bytes(), messages(5..30).len());
        for at in 5..30 {
            assert_eq!(window.message(at), Some(messages(at..at + 1).as_slice()), "{at}");
        }
    }
}
