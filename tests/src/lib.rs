//! What tests need that drive the real binary over real sockets and files: [`program`] runs
//! `pelton`, [`broker`] keeps one serving, [`raw`] speaks to it without manners, [`crowd`] are
//! many who do, [`crash`] kills it.
//!
//! And the simulator: [`world`] is a broker of production shards on the simulated backend,
//! [`workload`] what clients do to it, [`model`] what must be true of it, [`reader`] reads all
//! of it, [`check`] lives through one planned accident, [`history`] through many that a
//! [`swarm`] of settings makes likely, [`canary`] plants bugs that the laws must notice,
//! [`inspection`] is what one who looks on says of a disk, [`life`] is one broker with one
//! client, [`queue_life`] whole lives of queues, [`queue_scene`] one thing after the other that
//! queues do. [`images`] are all states that a power cut can leave of short workloads.

pub mod broker;
pub mod canary;
pub mod check;
pub mod crash;
pub mod crowd;
pub mod history;
pub mod images;
pub mod inspection;
pub mod life;
pub mod model;
pub mod program;
pub mod queue_life;
pub mod queue_scene;
pub mod raw;
pub mod reader;
pub mod sim_client;
pub mod swarm;
pub mod workload;
pub mod world;
