//! What the broker's process used while a load ran.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Readings at equal distances. Each list has an element per reading.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BrokerSeries {
    /// Between two readings; the first is that long behind the window's beginning.
    pub interval_ns: u64,
    /// Resident set.
    pub rss_bytes: Vec<u64>,
    /// CPU time since the reading before, in thousandths of one core; empty spin rounds included.
    pub cpu_per_mille: Vec<u64>,
}
