//! Messages on their way to the dead letters.

use wire::queue::Reason;

use super::{Changes, State};

impl State {
    /// Whether messages at the head must make room. Those that die already do; while it is not
    /// known how much that is, nobody else does.
    pub fn is_head_over(&self) -> bool {
        let (count, bytes) = self.dying_sized;
        let over = |limit: u64, have: u64| limit > 0 && have > limit;
        count == self.dying.len()
            && (over(self.settings.max_messages.get(), self.messages() - count)
                || over(self.settings.max_bytes.get(), self.bytes.saturating_sub(bytes)))
    }

    /// The first message that is dying, and why.
    pub fn first_dying(&self) -> Option<(u64, Reason)> {
        self.dying.first().map(|(range, reason)| (range.start, reason))
    }

    /// The first message from `from` on that is dying, and why.
    pub fn next_dying(&self, from: u64) -> Option<(u64, Reason)> {
        self.dying.from(from).map(|(range, reason)| (range.start, reason))
    }

    /// A dying message of `bytes` bytes is gone: its dead letter is on its way.
    pub fn bury(&mut self, at: u64, bytes: u32) {
        if self.leave_dying(at) {
            self.tally.dead_lettered += 1;
            self.sizes.remove(at..at + 1);
            self.deliveries.remove(at..at + 1);
            self.bytes = self.bytes.saturating_sub(u64::from(bytes));
        }
    }

    /// A dying message of `bytes` bytes is gone: its dead letter is where it goes.
    pub fn ferry_over(&mut self, at: u64, bytes: u32, changes: &mut Changes) {
        let before = self.dying.len();
        self.bury(at, bytes);
        if self.dying.len() < before {
            changes.removed.push(at..at + 1);
            changes.removed_bytes += u64::from(bytes);
        }
    }

    /// A dying message is gone, since there is no place for dead letters any more.
    pub fn drop_dying(&mut self, at: u64, changes: &mut Changes) {
        if self.leave_dying(at) {
            self.tally.dropped += 1;
            self.forget(at..at + 1, changes);
        }
    }

    /// A message is dying no more. True if it was.
    pub(super) fn leave_dying(&mut self, at: u64) -> bool {
        let was = self.dying.remove(at..at + 1) == 1;
        if let Some(size) = self.sizes.get(at).filter(|_| was) {
            let (count, bytes) = &mut self.dying_sized;
            *count -= 1;
            *bytes -= u64::from(size);
        }
        was
    }
}
