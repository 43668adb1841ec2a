//! A device that completes nothing: its users wait, and people are told once, and once more when
//! it goes on.

use super::super::store::Store;
use crate::port::{Level, Notice, Time};
use crate::settings::DEVICE_STALL_NS;

/// The device's last sign of life.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Since when something has been in flight and nothing has come back.
    since: Option<Time>,
    /// It was told that the device has stalled.
    is_told: bool,
}

impl Store {
    /// A write, a flush or a read ended, however it did.
    pub fn device_answered(&mut self, now: Time) {
        let silent_since = self.pulse.since.replace(now);
        if !std::mem::replace(&mut self.pulse.is_told, false) {
            return;
        }
        let seconds = now.since(silent_since.unwrap_or(now)) / 1_000_000_000;
        let text = format!("the device completes again, after {seconds} s without a sign of life");
        self.notices.push(Notice { level: Level::Info, conn: None, text });
    }

    /// Looks whether the device has stalled, once all of a turn was submitted.
    pub fn watch_device(&mut self, now: Time) {
        let is_in_use = self.journal.writes_in_flight > 0
            || !self.run_writes.is_empty()
            || !self.segment_flushes.is_empty()
            || !self.streams.reads.is_empty()
            || self.journal.files.iter().any(|file| file.flushing);
        if !is_in_use {
            self.pulse.since = None;
            return;
        }
        let since = *self.pulse.since.get_or_insert(now);
        if self.pulse.is_told || now < since.plus_ns(DEVICE_STALL_NS) {
            return;
        }
        self.pulse.is_told = true;
        self.counters.device_stalls += 1;
        let seconds = now.since(since) / 1_000_000_000;
        let text = format!(
            "the device has completed nothing for {seconds} s: whoever waits for it goes on \
             waiting, or is answered TIMED_OUT when its time is up"
        );
        self.notices.push(Notice { level: Level::Error, conn: None, text });
    }

    /// When the device will have stalled, if nothing comes back until then.
    pub fn stall_deadline(&self) -> Option<Time> {
        let since = self.pulse.since.filter(|_| !self.pulse.is_told);
        since.map(|since| since.plus_ns(DEVICE_STALL_NS))
    }
}
