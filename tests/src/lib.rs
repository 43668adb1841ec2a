//! What tests need that drive the real binary over real sockets and files: [`program`] runs
//! `pelton`, [`broker`] keeps one serving, [`raw`] speaks to it without manners.
//!
//! And the simulator: [`world`] is one production shard on the simulated backend, [`workload`]
//! what clients do to it, [`model`] what must be true of it, [`check`] whole lives of it,
//! [`inspection`] what one who looks on says of its disk. [`images`] are all states that a power
//! cut can leave of short workloads.

pub mod broker;
pub mod check;
pub mod images;
pub mod inspection;
pub mod model;
pub mod program;
pub mod queue_life;
pub mod raw;
pub mod sim_client;
pub mod workload;
pub mod world;
