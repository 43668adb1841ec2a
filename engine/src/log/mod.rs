//! Partitions and how they reach the disk.
//!
//! A partition's newest records lie in memory as *runs*: buffers that hold batches back to back,
//! laid out so that each can be written to its segment as one frame. A record becomes durable
//! either in a journal frame (small ones, gathered over all partitions) or with its run (large
//! ones, written straight to the segment). [`cursors`] is the one file that moves
//! `appended >= written >= durable`.
//!
//! ```text
//!  append ──► open run ──┬─ small: journal frame ──► durable ──► (later, in background) segment
//!                        └─ large: sealed run ─────► segment ──► durable
//! ```

pub mod cursors;
pub mod damage;
pub mod failure;
pub mod files;
pub mod gather;
pub mod journal;
pub mod lost_file;
pub mod partition;
pub mod placement;
pub mod read;
pub mod read_ahead;
pub mod records;
pub mod recycle;
pub mod retention;
pub mod run;
pub mod scan;
pub mod scrub;
pub mod segment;
pub mod segment_files;
pub mod send_file;
pub mod slab;
pub mod slots;
pub mod space;
pub mod start;
pub mod start_file;
pub mod start_spares;
pub mod store;
pub mod stream;
pub mod tag;
pub mod time_search;
pub mod watermark;
