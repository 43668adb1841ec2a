//! The process: threads, rings, files, sockets and configuration, with as little thought as
//! possible. Every decision is the engine's.

pub mod backend;
pub mod banner;
pub mod blocks;
pub mod clock;
pub mod config;
pub mod device;
pub mod directory;
pub mod disk;
pub mod io;
pub mod listen;
pub mod lock;
pub mod mesh;
pub mod notices;
pub mod parent;
mod read_ahead;
pub mod read_only;
pub mod run;
pub mod serve;
pub mod spares;
pub mod threads;
pub mod tuning;
