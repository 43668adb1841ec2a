//! The production backend: one io_uring per shard.
