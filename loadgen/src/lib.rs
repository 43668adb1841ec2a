//! The load generator: what it sends, how it measures, and what this machine could do at best.
//!
//! The measuring core (`payload`, `integrity`, `schedule`, `latency`, `validity`) never touches a
//! socket; `floor` probes the machine with raw code of its own; `report` is the JSON contract.

pub mod clock;
pub mod compare;
pub mod cores;
pub mod floor;
pub mod integrity;
pub mod latency;
pub mod live;
pub mod page;
pub mod payload;
pub mod port;
pub mod random;
pub mod report;
pub mod run;
pub mod sampler;
pub mod schedule;
pub mod slo;
pub mod statistics;
pub mod timeline;
pub mod validity;
