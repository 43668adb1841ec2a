//! The faults of a window, as the watching thread lets them happen.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::RunError;
use super::super::site::Site;
use super::super::tally::Window;
use super::super::work::Progress;
use super::{Fault, FaultKind};
use crate::clock::monotonic_ns;
use crate::report::FaultOutcome;

/// How often it is looked whether connections, or the first acknowledgement, have come.
const POLL: Duration = Duration::from_micros(200);

/// Faults that are still to come, and what became of the others.
pub(in crate::run) struct Strikes {
    open_ns: u64,
    close_ns: u64,
    faults: Vec<Fault>,
    state: State,
    outcomes: Vec<FaultOutcome>,
    killed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It serves.
    Up,
    /// It does not, since this time.
    Down { since_ns: u64 },
}

impl Strikes {
    /// Those of one window.
    pub(in crate::run) fn new(faults: &[Fault], window: &Window) -> Self {
        Self {
            open_ns: window.open_ns,
            close_ns: window.close_ns,
            faults: faults.to_vec(),
            state: State::Up,
            outcomes: Vec::new(),
            killed: false,
        }
    }

    /// When something is to be done; never, if that is all.
    pub(in crate::run) fn next_ns(&self) -> u64 {
        let Some(fault) = self.faults.get(self.outcomes.len()) else { return u64::MAX };
        let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        match self.state {
            State::Up => self.open_ns.saturating_add(ns(fault.at)),
            // It lasts as long as was asked for, however late it struck; but nothing outlasts the
            // window, since what the window has seen is read back from the broker after it.
            State::Down { since_ns } => since_ns.saturating_add(ns(fault.lasts)).min(self.close_ns),
        }
    }

    /// Whether the broker answers nobody now.
    pub(in crate::run) fn is_down(&self) -> bool {
        self.state != State::Up
    }

    /// Whether it is not the process any more that the run began with.
    pub(in crate::run) fn has_killed(&self) -> bool {
        self.killed
    }

    /// What became of the faults.
    pub(in crate::run) fn into_outcomes(self) -> Vec<FaultOutcome> {
        self.outcomes
    }

    /// Does what is due: strikes, or ends what was struck and waits for the first acknowledgement.
    pub(in crate::run) fn step(
        &mut self,
        site: &mut Site,
        window: &Window,
        progress: &Progress,
    ) -> Result<(), RunError> {
        let Some(&fault) = self.faults.get(self.outcomes.len()) else { return Ok(()) };
        match self.state {
            State::Up => {
                match fault.kind {
                    FaultKind::Kill => site.kill_broker()?,
                    FaultKind::Stop => site.pause_broker()?,
                    FaultKind::Drop => {
                        self.drop_connections(fault, site, window, progress);
                        return Ok(());
                    }
                }
                self.killed |= fault.kind == FaultKind::Kill;
                self.state = State::Down { since_ns: monotonic_ns() };
                Ok(())
            }
            State::Down { since_ns } => {
                // Whatever was on its way when it went down has long come.
                let (acked, _) = progress.read();
                let begun_ns = monotonic_ns();
                match fault.kind {
                    FaultKind::Kill => match site.restart_broker() {
                        // It stays down; what was measured until then is told.
                        Err(RunError::Interrupted) => return Ok(()),
                        restarted => restarted?,
                    },
                    FaultKind::Stop => site.resume_broker()?,
                    FaultKind::Drop => {}
                }
                let back_ns = monotonic_ns();
                self.state = State::Up;
                let first_ns = await_more(|| progress.read().0, acked, site, window);
                let recovery_ns = (fault.kind == FaultKind::Kill).then(|| back_ns - begun_ns);
                self.outcomes.push(FaultOutcome {
                    recovery_ns,
                    ..self.outcome(fault, [since_ns, back_ns], first_ns)
                });
                Ok(())
            }
        }
    }

    /// Has all threads drop their connections, and waits until one is there again.
    fn drop_connections(
        &mut self,
        fault: Fault,
        site: &Site,
        window: &Window,
        progress: &Progress,
    ) {
        let (since_ns, before) = (monotonic_ns(), progress.reconnections());
        progress.drop_connections();
        let back_ns = await_more(|| progress.reconnections(), before, site, window);
        let acked = progress.read().0;
        let first_ns = back_ns.and_then(|_| await_more(|| progress.read().0, acked, site, window));
        let back_ns = back_ns.unwrap_or_else(monotonic_ns);
        self.outcomes.push(self.outcome(fault, [since_ns, back_ns], first_ns));
    }

    /// What became of a fault that lasted from one time to another.
    fn outcome(
        &self,
        fault: Fault,
        [since_ns, back_ns]: [u64; 2],
        first_ns: Option<u64>,
    ) -> FaultOutcome {
        FaultOutcome {
            fault: fault.to_string(),
            struck_ns: since_ns.saturating_sub(self.open_ns),
            down_ns: back_ns - since_ns,
            recovery_ns: None,
            // It may have come while the watching thread still heard that it is ready.
            first_ack_after_ns: first_ns.map(|ns| ns.saturating_sub(back_ns)),
            outage_ns: first_ns.map(|ns| ns - since_ns),
            p99_settled_after_ns: None,
        }
    }

    /// At the end of the load, also of one that was interrupted: nothing stays stopped.
    pub(in crate::run) fn end(&mut self, site: &mut Site) -> Result<(), RunError> {
        if let (State::Down { since_ns }, Some(&fault)) =
            (self.state, self.faults.get(self.outcomes.len()))
        {
            if fault.kind == FaultKind::Stop {
                site.resume_broker()?;
            }
            // Only a signal ends a load before its faults: what was killed stays so.
            self.outcomes.push(self.outcome(fault, [since_ns, monotonic_ns()], None));
            self.state = State::Up;
        }
        Ok(())
    }
}

/// Waits until `count` is above `before`; gives the time at which that was seen.
fn await_more(count: impl Fn() -> u64, before: u64, site: &Site, window: &Window) -> Option<u64> {
    loop {
        let (now, now_ns) = (count(), monotonic_ns());
        if now > before {
            return Some(now_ns);
        }
        if now_ns >= window.close_ns || site.abort.load(Ordering::Relaxed) {
            return None;
        }
        std::thread::sleep(POLL);
    }
}
