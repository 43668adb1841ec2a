//! What a shard counts. One plain u64 each; stats sends them all with their names.

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// One shard's counters.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Counters { $($(#[doc = $doc])* pub $name: u64,)* }

        impl Counters {
            /// Every counter with its name.
            pub fn rows(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

counters! {
    /// Connections accepted.
    connections_accepted,
    /// Connections closed.
    connections_closed,
    /// Connections open now.
    connections_open,
    /// Connections refused because the table was full.
    connections_refused,
    /// Connections closed for breaking the protocol.
    connections_malformed,
    /// Connections closed for not taking their replies while memory was short.
    connections_stalled,
    /// Frames received.
    frames_received,
    /// Requests, or parts of one, sent on to the shard that owns their partitions.
    requests_forwarded,
    /// Error replies sent.
    errors_replied,
    /// Requests answered OVERLOADED.
    requests_overloaded,
    /// Times a connection was not read because a limit was reached.
    receive_pauses,
    /// Record batches appended.
    batches_appended,
    /// Records appended.
    records_appended,
    /// Bytes of record batches appended.
    bytes_appended,
    /// Record batches refused.
    batches_refused,
    /// Large batches written from the buffer they were received into.
    batches_adopted,
    /// Journal frames written.
    journal_frames,
    /// Bytes of journal frames written.
    journal_bytes,
    /// Entries in journal frames.
    journal_entries,
    /// Times a commit waited because the journal had no free file.
    journal_stalls,
    /// Direct runs written.
    direct_runs,
    /// Bytes of direct runs written.
    direct_bytes,
    /// Background segment writes.
    background_runs,
    /// Bytes of background segment writes.
    background_bytes,
    /// Writes that were durable by themselves.
    durable_writes,
    /// Flushes.
    flushes,
    /// Writes, flushes or extensions that failed.
    storage_failures,
    /// Files that ended by a failure and were left for others.
    files_failed,
    /// Runs that were written again after a failure, and read back.
    runs_proven,
    /// Times the device completed nothing for 10 seconds.
    device_stalls,
    /// 1 if the device failed for good: nothing is taken until the next start.
    read_only,
    /// Ranges of offsets that were found damaged: they are answered with an error.
    damaged_ranges,
    /// Reads of fetches that were answered so.
    fetches_damaged,
    /// Bytes that the scrubber has read.
    scrub_bytes,
    /// Segments that it has read to their ends.
    scrub_segments,
    /// Times it has read all there are.
    scrub_rounds,
    /// Fetch requests.
    fetches,
    /// Fetches that had to wait for data.
    fetches_parked,
    /// Partition reads of fetches served from memory.
    fetch_memory_hits,
    /// Partition reads of fetches that went to the disk.
    fetch_disk_reads,
    /// Bytes of record batches sent to consumers.
    fetch_bytes,
    /// Those of them that were sent out of files.
    fetch_file_bytes,
    /// Reads of searches by time.
    search_disk_reads,
    /// Messages taken into queues.
    queue_messages_published,
    /// Messages delivered out of queues, each time.
    queue_messages_delivered,
    /// Messages settled.
    queue_messages_settled,
    /// Messages appended again so that space behind them is freed.
    queue_messages_moved,
    /// Messages that could not be read.
    queue_messages_unreadable,
    /// Disk reads for messages of queues.
    queue_disk_reads,
    /// Checkpoints of queue stores.
    queue_checkpoints,
    /// Bytes read from the disk for fetches.
    disk_read_bytes,
    /// Runs dropped from memory to make room.
    runs_evicted,
    /// Times a partition's log start was moved, durably.
    log_starts_moved,
    /// Segments whose records were deleted or had served their time.
    segments_retired,
    /// Files of segments that became spares.
    segments_recycled,
    /// Turns of the loop.
    turns,
    /// Completions handled.
    dones,
    /// Entries into the kernel by the loop.
    kernel_entries,
    /// Operations submitted to the kernel.
    operations_submitted,
    /// Rounds that spun without finding anything.
    spin_rounds_empty,
    /// CPU time in empty spin rounds, in ns.
    spin_empty_ns,
    /// Times the loop parked.
    parks,
    /// Times another shard was rung awake.
    doorbells_rung,
    /// Bytes that came from other shards.
    mesh_bytes_received,
    /// Bytes zeroed for journals and prepared segments.
    bytes_zeroed,
    /// Bytes that a backend with buffers of its own copied between them and the shard's memory.
    bytes_copied,
    /// 1 if the kernel let the buffer memory be registered.
    buffers_registered,
    /// Bytes free in the buffer pool now.
    pool_free_bytes,
    /// Bytes of the buffer pool.
    pool_bytes,
    /// Bytes of record batches that are not stored in a segment yet.
    unstored_bytes,
    /// Topics now.
    topics,
    /// Partitions now.
    partitions,
    /// Starts of this data directory, this one included.
    boot_epoch,
}

/// One counter of two shards, as one: a sum, but for what all shards have in common.
pub fn merged(name: &str, one: u64, other: u64) -> u64 {
    match name {
        "topics" | "partitions" | "boot_epoch" => one.max(other),
        "buffers_registered" => one.min(other),
        _ => one + other,
    }
}

/// What the process counts about its own input and output, handed in each turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IoCounters {
    /// Entries into the kernel.
    pub kernel_entries: u64,
    /// Operations submitted.
    pub operations_submitted: u64,
    /// Empty spin rounds.
    pub spin_rounds_empty: u64,
    /// CPU time in empty spin rounds, in ns.
    pub spin_empty_ns: u64,
    /// Parks.
    pub parks: u64,
    /// Times another shard was rung awake.
    pub doorbells_rung: u64,
    /// Bytes that came from other shards.
    pub mesh_bytes_received: u64,
    /// Bytes zeroed.
    pub bytes_zeroed: u64,
    /// Bytes copied to and from buffers of the backend's own.
    pub bytes_copied: u64,
    /// Whether the buffer memory is registered: 1 or 0.
    pub buffers_registered: u64,
}
