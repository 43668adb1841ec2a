//! What a simulated disk and network do to their users, and when.

use std::collections::BTreeMap;

use engine::port::Fault;

use super::disk::Mutation;

/// Whether the device keeps its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Honesty {
    /// What is done as durable survives.
    #[default]
    Honest,
    /// Durable writes and flushes may be lost. No broker can be right on such a device: the
    /// laws must notice.
    Lying,
}

/// How an op goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It fails; any part of a write may have happened.
    Fault(Fault),
    /// A write writes only its front.
    Short,
}

/// Which mutations a lasting failure is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victims {
    /// All of them: the device is gone, or has become read-only.
    All,
    /// Writes.
    Writes,
    /// Flushes.
    Flushes,
    /// Everything about names and space.
    Files,
}

impl Victims {
    pub(super) const fn has(self, mutation: &Mutation) -> bool {
        match self {
            Victims::All => true,
            Victims::Writes => matches!(mutation, Mutation::Write { .. }),
            Victims::Flushes => {
                matches!(mutation, Mutation::Flush { .. } | Mutation::Settle)
            }
            Victims::Files => !Victims::Writes.has(mutation) && !Victims::Flushes.has(mutation),
        }
    }
}

/// A failure that stays until the plan is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lasting {
    /// The first mutation that fails.
    pub from: u64,
    /// Which of them.
    pub victims: Victims,
    /// With what.
    pub fault: Fault,
}

/// What goes wrong, and when.
#[derive(Debug, Clone, Default)]
pub struct FaultPlan {
    /// The power goes, or the process dies, as this mutation is submitted.
    pub power_loss_at: Option<u64>,
    /// These mutations go wrong.
    pub mutations: BTreeMap<u64, Failure>,
    /// Mutations go wrong from here on.
    pub lasting: Option<Lasting>,
    /// These reads fail.
    pub reads: BTreeMap<u64, Fault>,
    /// One in so many reads of a running broker has a bit flipped; 0: none.
    pub flipped_reads_one_in: u64,
    /// One in so many reads of a running broker brings what lies elsewhere; 0: none.
    pub foreign_reads_one_in: u64,
    /// One in so many writes is done as durable and never happens; 0: none.
    pub lost_writes_one_in: u64,
    /// One in so many writes lands somewhere else; 0: none.
    pub misdirected_writes_one_in: u64,
    /// Whether durable means durable.
    pub honesty: Honesty,
    /// Bytes that all files together may have: a reservation beyond them finds no space.
    pub space_bytes: Option<usize>,
}

impl FaultPlan {
    /// How this mutation goes wrong, if it does. A single failure is used up.
    pub(super) fn failure(&mut self, number: u64, mutation: &Mutation) -> Option<Failure> {
        let lasting = self.lasting.filter(|lasting| lasting.from <= number);
        let lasting = lasting.filter(|lasting| {
            let is_possible = lasting.fault != Fault::ENOSPC || mutation.takes_space();
            is_possible && lasting.victims.has(mutation)
        });
        let single = self.mutations.remove(&number);
        single.or(lasting.map(|lasting| Failure::Fault(lasting.fault)))
    }
}

/// How long things take. Times are at most these; 0 in place of a frequency means never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    /// A piece between client and broker is so long under way.
    pub transit_ns: u64,
    /// One in so many pieces is late.
    pub lag_one_in: u64,
    /// And arrives so much later.
    pub lag_ns: u64,
    /// One in so many file ops takes twenty times as long as others.
    pub slow_one_in: u64,
    /// One in so many file ops stalls.
    pub stall_one_in: u64,
    /// For so long.
    pub stall_ns: u64,
    /// One in so many writes never ends.
    pub endless_one_in: u64,
}

impl Default for Weather {
    fn default() -> Weather {
        Weather {
            transit_ns: 100_000,
            lag_one_in: 0,
            lag_ns: 0,
            slow_one_in: 32,
            stall_one_in: 0,
            stall_ns: 0,
            endless_one_in: 0,
        }
    }
}
