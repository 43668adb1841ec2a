//! The real `pelton` binary over real sockets and files: what a user sees.

mod bad_input;
mod by_time;
mod crossing;
mod files;
mod glommio;
mod memory;
mod overload;
mod requests;
mod retention;
mod round_trip;
mod shards;
mod start_and_stop;
