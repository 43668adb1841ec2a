//! Where the entries of a journal's frames begin, kept from the first walk: which frames hold
//! something that segments lack is then known without reading them once again.

use wire::TopicId;

/// Entries of which that is kept, of all journals together: 48 MiB at most. Frames beyond them are
/// read once again.
pub const ENTRIES_KEPT_MAX: usize = 1 << 20;

/// An entry with records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryBegin {
    /// Its stream.
    pub stream: (TopicId, u32),
    /// Offset of its first record.
    pub base: u64,
}

/// The entries of a ring's frames.
#[derive(Debug, Default)]
pub struct Begins {
    /// By file and position of their frame, which grow.
    rows: Vec<((usize, u64), EntryBegin)>,
}

impl Begins {
    /// Keeps the entries of the frame at this file and position, which is behind all others, if
    /// there is room for all of them in `left`.
    pub fn keep(
        &mut self,
        at: (usize, u64),
        entries: impl Iterator<Item = EntryBegin>,
        left: &mut usize,
    ) {
        let before = self.rows.len();
        self.rows.extend(entries.take(*left + 1).map(|entry| (at, entry)));
        let added = self.rows.len() - before;
        match left.checked_sub(added) {
            Some(rest) => *left = rest,
            None => self.rows.truncate(before),
        }
    }

    /// Whether an entry of this frame may be one that `is_wanted`: also if nothing is kept of it.
    pub fn any(&self, at: (usize, u64), is_wanted: impl Fn(&EntryBegin) -> bool) -> bool {
        let from = self.rows.partition_point(|(other, _)| *other < at);
        let mut own = self.rows[from..].iter().take_while(|(other, _)| *other == at).peekable();
        own.peek().is_none() || own.any(|(_, entry)| is_wanted(entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(base: u64) -> EntryBegin {
        EntryBegin { stream: ([1; 16], 0), base }
    }

    #[test]
    fn frames_are_wanted_by_their_entries_or_if_those_were_not_kept() {
        let mut begins = Begins::default();
        let mut left = 4;
        begins.keep((0, 4096), [entry(5), entry(6)].into_iter(), &mut left);
        begins.keep((1, 0), [entry(7), entry(8), entry(9)].into_iter(), &mut left);
        begins.keep((1, 4096), [entry(7), entry(8)].into_iter(), &mut left);
        assert_eq!(left, 0);
        let above = |least| move |entry: &EntryBegin| entry.base >= least;
        assert!(begins.any((0, 4096), above(6)) && !begins.any((0, 4096), above(7)));
        assert!(begins.any((1, 4096), above(8)) && !begins.any((1, 4096), above(9)));
        // There was no room for all of it, or there was nothing: nobody knows.
        assert!(begins.any((1, 0), above(99)) && begins.any((0, 0), above(99)));
        assert!(begins.any((1, 8192), above(99)));
    }
}
