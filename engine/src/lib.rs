//! Every decision of the broker, as a deterministic value: no clock, file, socket, thread or
//! randomness of its own. Time, seed and memory are arguments.

pub mod buddy;
pub mod frame;
pub mod layout;
pub mod pool;
pub mod port;
