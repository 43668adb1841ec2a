//! What tests need that drive the real binary over real sockets and files: [`program`] runs
//! `pelton`, [`broker`] keeps one serving, [`raw`] speaks to it without manners.

pub mod broker;
pub mod program;
pub mod raw;
