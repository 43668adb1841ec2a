//! Which frames of a shard's journal count, and which are lost: the journal's rows of the truth
//! table, applied to notes of the frames that were found. Reads nothing itself.

use super::truth::{self, Evidence, Place, Verdict};
use crate::frame::BLOCK_BYTES;
use crate::units::u64_of;

/// A frame of this epoch whose header and table are whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Note {
    /// Which of the shard's files.
    pub file: usize,
    /// Position in it.
    pub position: u64,
    /// Length.
    pub bytes: u64,
    /// Log sequence number.
    pub lsn: u64,
    /// Every frame up to this number was durable when it was written.
    pub watermark: u64,
    /// Whether its data are whole as well.
    pub data: Data,
}

/// The data of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// As they were written.
    Whole,
    /// The checksum of some entry does not match.
    Damaged,
}

/// Frames that were durable and are not there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// The number of the frame behind them: they had lower ones.
    pub before: u64,
    /// The file that they should be in, as far as is known.
    pub file: usize,
    /// Where they begin.
    pub position: u64,
}

/// What came of a shard's journal.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// How many of the notes count, from the first on.
    pub counting: usize,
    /// Frames whose contents nobody knows.
    pub lost: Vec<Lost>,
    /// Files whose first block is bad, though frames that count follow: file numbers.
    pub beheaded: Vec<usize>,
    /// Where the first frame is missing or bad that nothing proves: file, position.
    pub torn_at: Option<(usize, u64)>,
}

/// A file of the ring that has begun: its sequence, and the number of its first frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// Which file.
    pub file: usize,
    /// Counts the files that the ring has begun.
    pub sequence: u64,
    /// Number of its first frame.
    pub first_lsn: u64,
}

impl Begun {
    /// Of a file by its first note; a first block that is lost had the number before.
    pub fn by(first: &Note, sequence: u64) -> Begun {
        let is_beheaded = u64::from(first.position > 0);
        Begun { file: first.file, sequence, first_lsn: first.lsn - is_beheaded }
    }
}

/// Sets void frames apart. A file that begins after a failure goes on with the number of the first
/// frame that was given up: what bears that number, or a higher one, in earlier files is void.
/// Gives the files with such frames.
pub fn set_void_apart(notes: &mut Vec<Note>, begun: &[Begun]) -> Vec<usize> {
    let verdict = truth::verdict(Place::Journal, Evidence::Void);
    assert_eq!(verdict, Verdict::Void, "by the table");
    let mut files = Vec::new();
    notes.retain(|note| {
        let own = begun.iter().find(|begun| begun.file == note.file);
        let later =
            begun.iter().filter(|begun| own.is_some_and(|own| own.sequence < begun.sequence));
        let is_void = later.map(|begun| begun.first_lsn).min().is_some_and(|from| from <= note.lsn);
        if is_void {
            files.push(note.file);
        }
        !is_void
    });
    files
}

/// Judges the notes of a shard's journal, which are in order of their numbers.
pub fn judge(notes: &[Note]) -> Judged {
    let proven = notes.iter().map(|note| note.watermark).max().unwrap_or(0);
    let mut judged = Judged::default();
    let mut before: Option<Note> = None;
    for (index, note) in notes.iter().enumerate() {
        let follows = before.is_some_and(|before| before.lsn + 1 == note.lsn);
        let begins = before.is_none() && note.position == 0;
        if !follows && !begins && judged.gap(before, *note, proven) == Verdict::TornTail {
            return judged;
        }
        let evidence = match (note.data, note.lsn <= proven) {
            (Data::Whole, _) => None,
            (Data::Damaged, true) => Some(Evidence::ProvenAndNamed),
            (Data::Damaged, false) => Some(Evidence::None),
        };
        let verdict = evidence.map(|evidence| truth::verdict(Place::Journal, evidence));
        if verdict == Some(Verdict::TornTail) {
            judged.torn_at = Some((note.file, note.position));
            return judged;
        }
        judged.counting = index + 1;
        before = Some(*note);
    }
    judged
}

impl Judged {
    /// A block that begins a frame and is not whole, the first in its file: if nothing that counts
    /// follows it, it is the journal's torn tail.
    pub fn ends_at(&mut self, notes: &[Note], (file, position): (usize, u64)) {
        let last = self.counting.checked_sub(1).map(|last| notes[last]);
        let is_behind = last.is_some_and(|last| last.file == file && last.position < position);
        if is_behind && self.torn_at.is_none() {
            self.torn_at = Some((file, position));
        }
    }

    /// Frames are missing in front of `note`.
    fn gap(&mut self, before: Option<Note>, note: Note, proven: u64) -> Verdict {
        let block = u64_of(BLOCK_BYTES);
        let is_new_file = before.is_none_or(|before| before.file != note.file);
        let is_one = before.is_none_or(|before| before.lsn + 2 == note.lsn);
        if is_new_file && is_one && note.position == block {
            self.beheaded.push(note.file);
            return truth::verdict(Place::JournalBegin, Evidence::Proven);
        }
        let at = match before {
            Some(before) if before.file == note.file => (note.file, before.position + before.bytes),
            // Of a file of which nothing is left, or at the end of the one before.
            _ => (note.file, 0),
        };
        let first = before.map_or(note.lsn - 1, |before| before.lsn + 1);
        let evidence = if first <= proven { Evidence::Proven } else { Evidence::None };
        let verdict = truth::verdict(Place::Journal, evidence);
        if verdict == Verdict::QuarantineGap {
            self.lost.push(Lost { before: note.lsn, file: at.0, position: at.1 });
        }
        if note.lsn - 1 <= proven {
            return verdict;
        }
        // Some of them no watermark covers: they may have been torn, and end the journal.
        self.torn_at = Some(at);
        Verdict::TornTail
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of one block: file, position in blocks, number, watermark.
    fn notes(rows: &[(usize, u64, u64, u64)]) -> Vec<Note> {
        let note = |&(file, at, lsn, watermark): &(usize, u64, u64, u64)| {
            let position = at * 4096;
            Note { file, position, bytes: 4096, lsn, watermark, data: Data::Whole }
        };
        rows.iter().map(note).collect()
    }

    fn judged(rows: &[(usize, u64, u64, u64)]) -> Judged {
        judge(&notes(rows))
    }

    #[test]
    fn a_whole_ring_counts() {
        let found = judged(&[(1, 0, 7, 6), (1, 1, 8, 7), (0, 0, 9, 7), (0, 1, 10, 9)]);
        assert_eq!(found, Judged { counting: 4, ..Judged::default() });
        assert_eq!(judge(&[]), Judged::default());
    }

    #[test]
    fn what_no_watermark_covers_ends_it() {
        let found = judged(&[(0, 0, 1, 0), (0, 1, 2, 1), (0, 3, 4, 2)]);
        assert_eq!((found.counting, found.torn_at), (2, Some((0, 2 * 4096))));
        assert_eq!(found.lost, []);
        let mut damaged = notes(&[(0, 0, 1, 0), (0, 1, 2, 1), (0, 2, 3, 1)]);
        damaged[1].data = Data::Damaged;
        assert_eq!((judge(&damaged).counting, judge(&damaged).torn_at), (1, Some((0, 4096))));
    }

    #[test]
    fn what_a_watermark_covers_is_lost_and_the_rest_counts() {
        let found = judged(&[(0, 0, 1, 0), (0, 1, 2, 1), (0, 3, 4, 3), (0, 4, 5, 4)]);
        assert_eq!(found.lost, [Lost { before: 4, file: 0, position: 2 * 4096 }]);
        assert_eq!((found.counting, found.torn_at), (4, None));
        let mut damaged = notes(&[(0, 0, 1, 0), (0, 1, 2, 1), (0, 2, 3, 2)]);
        damaged[1].data = Data::Damaged;
        assert_eq!(judge(&damaged), Judged { counting: 3, ..Judged::default() });
        // Two are missing, and only the first of them is covered.
        let found = judged(&[(0, 0, 1, 0), (0, 1, 2, 1), (0, 4, 5, 3)]);
        assert_eq!((found.counting, found.lost.len()), (2, 1));
        assert_eq!(found.torn_at, Some((0, 2 * 4096)));
        // The front of the oldest file.
        let found = judged(&[(0, 3, 4, 3)]);
        assert_eq!((found.counting, found.lost.len()), (1, 1));
    }

    #[test]
    fn what_a_later_file_begins_with_is_void_before() {
        // The second file's write of number 3 failed; the third one goes on with it.
        let mut found =
            notes(&[(0, 0, 1, 0), (0, 1, 2, 1), (0, 3, 4, 2), (1, 0, 3, 2), (1, 1, 4, 3)]);
        let begun = [
            Begun { file: 0, sequence: 7, first_lsn: 1 },
            Begun { file: 1, sequence: 8, first_lsn: 3 },
        ];
        assert_eq!(set_void_apart(&mut found, &begun), [0]);
        assert_eq!(judge(&found), Judged { counting: 4, ..Judged::default() });
        assert_eq!(Begun::by(&found[2], 8), begun[1]);
    }

    #[test]
    fn the_first_block_of_a_file_held_no_records() {
        let found = judged(&[(0, 0, 1, 0), (0, 1, 2, 1), (1, 1, 4, 2)]);
        assert_eq!((found.counting, found.beheaded), (3, vec![1]));
        assert_eq!(found.lost, []);
        let found = judged(&[(1, 1, 4, 2), (1, 2, 5, 2)]);
        assert_eq!((found.counting, found.beheaded), (2, vec![1]));
    }
}
