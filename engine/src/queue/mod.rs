//! Work queues. `docs/decisions/0010-queues.md` says why they are as they are.

mod asks;
pub mod checkpoint;
pub mod consumers;
pub(crate) mod credit;
pub(crate) mod ferry;
pub(crate) mod journal;
pub mod load;
mod pump;
pub mod queues;
pub mod ranges;
pub mod record;
pub mod recover;
pub(crate) mod redrive;
pub mod state;
#[cfg(test)]
mod state_tests;
pub mod window;
