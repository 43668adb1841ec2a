//! The phases of a run.

use crate::latency::Summary;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Name of the phase before the window.
pub const WARM_UP: &str = "warmup";
/// Name of the window as a whole.
pub const MEASURE: &str = "measure";

/// A part of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Phase {
    /// warmup, measure, or within that step1, step2 and so on.
    pub name: String,
    /// Its beginning, since the load began.
    pub from_ns: u64,
    /// Its end.
    pub to_ns: u64,
    /// Null in a closed loop.
    pub offered_records_per_s: Option<u64>,
    /// Acknowledged; of a step, those that were due in it, whenever that was. Null while warming
    /// up, and where nothing was produced.
    pub achieved_records_per_s: Option<u64>,
    /// Response times of what was due in it; null while warming up.
    pub response_ns: Option<Summary>,
    /// Of a warm-up that lasts until the load is steady: since when it was. Null where it never
    /// was, and of other phases.
    pub steady_after_ns: Option<u64>,
}
