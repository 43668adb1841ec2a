//! The engine's notices on their way to the log, with a limit on how many: a misbehaving peer
//! must not be able to fill a disk with sentences about itself.

use engine::boot::BootReport;
use engine::port::{Level, Notice, Time};

/// Notices that may come at once.
const BURST: u64 = 100;
/// Time in which one more may come.
const REFILL_NS: u64 = 100_000_000;

/// Damaged ranges of a recovery that are told one by one.
const RANGES_TOLD_MAX: usize = 100;

/// Tells what recovery found damaged.
pub fn of_recovery(report: &BootReport) {
    for (path, position, what) in &report.harmless {
        tracing::warn!("recovery: {path} at byte {position}: {what}");
    }
    for range in report.damaged.iter().take(RANGES_TOLD_MAX) {
        tracing::error!("recovery: {range}");
    }
    let more = report.damaged.len().saturating_sub(RANGES_TOLD_MAX);
    if more > 0 {
        tracing::error!("recovery: {more} more ranges are damaged: `pelton log verify` names all");
    }
}

/// A token bucket in front of the log.
#[derive(Debug)]
pub struct NoticeLog {
    tokens: u64,
    filled: Time,
    suppressed: u64,
}

impl NoticeLog {
    /// A full bucket.
    pub const fn new(now: Time) -> NoticeLog {
        NoticeLog { tokens: BURST, filled: now, suppressed: 0 }
    }

    /// Logs a turn's notices and empties the list.
    pub fn log(&mut self, now: Time, notices: &mut Vec<Notice>) {
        if notices.is_empty() {
            return;
        }
        for notice in notices.drain(..) {
            if let Some(suppressed) = self.admit(now) {
                emit(&notice, suppressed);
            }
        }
    }

    /// Whether one more may be logged; if so, how many were left out before it.
    fn admit(&mut self, now: Time) -> Option<u64> {
        let refill = now.since(self.filled) / REFILL_NS;
        if refill > 0 {
            self.tokens = BURST.min(self.tokens.saturating_add(refill));
            self.filled = self.filled.plus_ns(refill.saturating_mul(REFILL_NS));
        }
        if self.tokens == 0 {
            self.suppressed += 1;
            return None;
        }
        self.tokens -= 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

fn emit(notice: &Notice, suppressed: u64) {
    if suppressed > 0 {
        tracing::warn!(suppressed, "notices were left out: there were too many");
    }
    let conn = notice.conn.map(|conn| conn.0);
    match notice.level {
        Level::Info => tracing::info!(conn, "{}", notice.text),
        Level::Warn => tracing::warn!(conn, "{}", notice.text),
        Level::Error => tracing::error!(conn, "{}", notice.text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let start = Time(5);
        let mut log = NoticeLog::new(start);
        for _ in 0..BURST {
            assert_eq!(log.admit(start), Some(0));
        }
        assert_eq!((log.admit(start), log.admit(start)), (None, None));
        assert_eq!(log.admit(start.plus_ns(REFILL_NS)), Some(2));
        assert_eq!(log.admit(start.plus_ns(REFILL_NS)), None);
        let later = start.plus_ns(REFILL_NS * 1_000_000);
        assert_eq!(log.admit(later), Some(1));
        assert_eq!(log.tokens, BURST - 1);
    }
}
