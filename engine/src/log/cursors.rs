//! How far a partition has come. This file alone moves the cursors.

use std::collections::VecDeque;

use crate::port::Time;

/// Offsets behind the last record of each state: `appended >= written >= durable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursors {
    appended: u64,
    written: u64,
    durable: u64,
}

/// How a commit will be known to be safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// By a journal frame, or by its run being stored, whichever comes first.
    Journal,
    /// By its run, and every run before it, being stored in the segment.
    Run,
}

/// Records that become safe together.
#[derive(Debug, Clone, Copy)]
struct Commit {
    end: u64,
    via: Via,
    written: bool,
    durable: bool,
    submitted: Time,
}

/// What an advance reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advanced {
    /// When the newest commit that became safe was submitted.
    pub submitted: Time,
}

/// The cursors with the commits that will move them, in offset order.
#[derive(Debug, Default)]
pub struct Progress {
    cursors: Cursors,
    commits: VecDeque<Commit>,
}

impl Progress {
    /// All cursors at `offset`: everything before it is durable.
    pub fn at(offset: u64) -> Progress {
        let cursors = Cursors { appended: offset, written: offset, durable: offset };
        Progress { cursors, commits: VecDeque::new() }
    }

    /// Offset behind the newest record.
    pub const fn appended(&self) -> u64 {
        self.cursors.appended
    }

    /// Offset behind the newest written record.
    pub const fn written(&self) -> u64 {
        self.cursors.written
    }

    /// Offset behind the newest durable record.
    pub const fn durable(&self) -> u64 {
        self.cursors.durable
    }

    /// Whether every record is durable.
    pub const fn is_settled(&self) -> bool {
        self.cursors.durable == self.cursors.appended
    }

    /// Takes the next `count` offsets.
    pub fn append(&mut self, count: u32) {
        self.cursors.appended += u64::from(count);
    }

    /// Everything from the last commit's end to `end` will become safe together.
    pub fn submit(&mut self, end: u64, via: Via, now: Time) {
        let last = self.commits.back().map_or(self.cursors.durable, |commit| commit.end);
        assert!(last <= end && end <= self.cursors.appended, "commits are in offset order");
        self.commits.push_back(Commit { end, via, written: false, durable: false, submitted: now });
    }

    /// The journal frame with the commit that ends at `end` is written.
    pub fn journal_written(&mut self, end: u64) {
        if let Some(commit) = self.commits.iter_mut().find(|commit| commit.end == end) {
            commit.written = true;
        }
    }

    /// The journal frame with the commit that ends at `end` is durable, like all before it.
    pub fn journal_durable(&mut self, end: u64) {
        if let Some(commit) = self.commits.iter_mut().find(|commit| commit.end == end) {
            commit.written = true;
            commit.durable = true;
        }
    }

    /// Moves the cursors as far as the commits allow, given the offsets up to which all runs are
    /// written to, and stored in, the segment. `None` if nothing moved.
    pub fn advance(&mut self, runs_written: u64, runs_stored: u64) -> Option<Advanced> {
        let before = self.cursors;
        let mut submitted = None;
        while let Some(commit) = self.commits.front() {
            let journaled = commit.via == Via::Journal && commit.durable;
            if !journaled && commit.end > runs_stored {
                break;
            }
            self.cursors.durable = commit.end;
            submitted = Some(commit.submitted);
            self.commits.pop_front();
        }
        self.cursors.written = self.cursors.written.max(self.cursors.durable);
        for commit in &self.commits {
            let journaled = commit.via == Via::Journal && commit.written;
            if !journaled && commit.end > runs_written {
                break;
            }
            if commit.end > self.cursors.written {
                self.cursors.written = commit.end;
                submitted = Some(commit.submitted);
            }
        }
        let Cursors { appended, written, durable } = self.cursors;
        assert!(appended >= written && written >= durable, "cursors are ordered");
        assert!(durable >= before.durable && written >= before.written, "cursors never fall");
        let submitted = submitted.filter(|_| self.cursors != before)?;
        Some(Advanced { submitted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_move_in_offset_order_only() {
        let mut progress = Progress::at(10);
        progress.append(5);
        progress.submit(12, Via::Journal, Time(1));
        progress.submit(14, Via::Run, Time(2));
        progress.submit(15, Via::Journal, Time(3));
        progress.journal_durable(15);
        assert_eq!(progress.advance(10, 10), None);
        progress.journal_durable(12);
        assert_eq!(progress.advance(10, 10), Some(Advanced { submitted: Time(1) }));
        assert_eq!((progress.written(), progress.durable()), (12, 12));
        // The run is written but not flushed: later journal commits are written, not durable.
        assert!(progress.advance(14, 10).is_some());
        assert_eq!((progress.written(), progress.durable()), (15, 12));
        assert!(progress.advance(14, 14).is_some());
        assert!(progress.is_settled());
    }
}
