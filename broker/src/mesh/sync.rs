//! The atomic words of the mesh: the processor's, or those of the model checker (`loom/`), which
//! builds the same sources.

#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub use crate::words::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
