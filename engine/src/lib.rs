//! Every decision of the broker, as a deterministic value: no clock, file, socket, thread or
//! randomness of its own. Time, seed and memory are arguments.

pub mod audit;
pub mod boot;
pub mod buddy;
pub mod catalog;
pub mod conn;
pub mod counters;
pub mod forward;
pub mod frame;
pub mod inspect;
pub mod layout;
pub mod log;
pub mod placement;
pub mod pool;
pub mod port;
pub mod queue;
pub mod request;
pub mod settings;
pub mod shard;
pub mod superblock;
pub mod units;

pub use settings::Settings;
pub use shard::Shard;
