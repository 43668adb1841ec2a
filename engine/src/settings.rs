//! Every bound of a shard. Two presets: what a broker runs with, and a tiny one with which
//! tests meet every edge all the time.

use crate::frame::{BLOCK_BYTES, RUN_PREFIX_BYTES};
use crate::pool::{BUFFER_BYTES_MAX, RecvRegion};
use wire::limits::BATCH_BYTES_MAX;

/// Bounds and knobs of one shard. Sizes in bytes, times in ns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Which shard this is.
    pub shard: u16,
    /// How many shards there are.
    pub shards: u16,
    /// Memory for buffers: cached runs, gather buffers, bodies being received, replies.
    pub pool_bytes: usize,
    /// Provided receive buffers.
    pub recv: RecvRegion,
    /// Files of the journal ring.
    pub journal_files: u32,
    /// Length of each journal file.
    pub journal_file_bytes: u64,
    /// Longest journal frame.
    pub journal_frame_bytes_max: usize,
    /// Journal frames that may be in flight at once.
    pub commits_in_flight: usize,
    /// A partition's pending bytes from which they skip the journal.
    pub direct_run_bytes_min: usize,
    /// First size of a gather buffer.
    pub gather_bytes_min: usize,
    /// Largest size of a gather buffer.
    pub gather_bytes_max: usize,
    /// Memory that all gather buffers together aim to stay below.
    pub gather_budget_bytes: usize,
    /// Segment length at which a new one begins, unless the topic says otherwise.
    pub segment_bytes: u64,
    /// Background segment writes in flight at once.
    pub background_writes_max: usize,
    /// Bytes appended and not yet stored in their segments, above which producers are not read.
    pub unstored_bytes_max: usize,
    /// Memory for frames that have arrived in part, of all connections together.
    pub assembly_bytes_max: usize,
    /// Memory that only replies may use, so that what was done can always be answered.
    pub reply_reserve_bytes: usize,
    /// Connections.
    pub connections_max: usize,
    /// Open files.
    pub files_max: usize,
    /// Requests of one connection that may wait for replies.
    pub requests_in_flight_max: u32,
    /// Request bytes of one connection that may wait for replies.
    pub credit_bytes: usize,
    /// Reply bytes queued on one connection above which its fetches wait.
    pub reply_bytes_queued_max: usize,
    /// Bytes queued for other shards, all together, above which producers are not read.
    pub link_bytes_max: usize,
    /// Bytes of another shard's requests that may wait for replies.
    pub link_credit_bytes: usize,
    /// Where fetches get what they ask for.
    pub fetch_path: FetchPath,
    /// Bytes read from disk at once for a fetch.
    pub read_bytes: usize,
    /// Bytes read ahead of a sequential reader; 0: none.
    pub read_ahead_bytes: usize,
    /// Bytes read ahead of all readers together.
    pub read_ahead_bytes_total_max: usize,
    /// What was read ahead of a reader that does not come back is dropped after this long.
    pub read_ahead_idle_ns: u64,
    /// Disk reads for fetches that may be under way at once.
    pub reads_in_flight_max: usize,
    /// Topics.
    pub topics_max: usize,
    /// Partitions of all topics together.
    pub partitions_max: usize,
    /// Queues.
    pub queues_max: usize,
    /// Consumers of one queue.
    pub queue_consumers_max: usize,
    /// Bytes that a queue store takes between two checkpoints.
    pub queue_checkpoint_bytes: u64,
    /// Memory for messages that are about to be delivered, of all queues together.
    pub queue_windows_bytes_max: usize,
    /// How long records that nobody waits for may gather before they are committed.
    pub lazy_commit_ns: u64,
    /// Idle time after which an empty frame publishes the durable watermark.
    pub seal_idle_ns: u64,
    /// A connection that takes no byte for this long is closed when memory is short.
    pub stall_ns: u64,
    /// A frame must arrive whole within this time of its first byte.
    pub frame_arrival_ns: u64,
    /// A stop waits at most this long for replies to be taken.
    pub stop_grace_ns: u64,
    /// Partitions with a limit of time or size are looked at this often.
    pub retention_check_ns: u64,
    /// Most bytes of files that wait to become segments again: what is retired beyond them is
    /// deleted. 0 recycles nothing.
    pub recycle_bytes: u64,
    /// Bytes of sealed segments that are read per second to see that they are whole; 0 reads only
    /// where a reader found something bad.
    pub scrub_bytes_per_s: u64,
    /// While fewer bytes are free on the device, new records are refused; what was taken in, and
    /// what it takes to delete records, may use them.
    pub free_bytes_min: u64,
}

/// Where fetches get what they ask for: see `docs/TUNING.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FetchPath {
    /// What is in memory from there, the rest from the device, by the way that measures best.
    #[default]
    Auto,
    /// What is in memory from there, the rest by direct reads.
    Memory,
    /// What is stored is always read from the device; memory has only what is not stored yet.
    Direct,
    /// Segments that are no longer written to are sent out of the page cache; the rest is read as
    /// by `Memory`.
    SendFile,
}

impl FetchPath {
    /// Every path.
    pub const ALL: [FetchPath; 4] =
        [FetchPath::Auto, FetchPath::Memory, FetchPath::Direct, FetchPath::SendFile];

    /// Its name, as flags have it.
    pub const fn name(self) -> &'static str {
        match self {
            FetchPath::Auto => "auto",
            FetchPath::Memory => "memory",
            FetchPath::Direct => "direct",
            FetchPath::SendFile => "sendfile",
        }
    }
}

const MIB: usize = 1024 * 1024;

impl Settings {
    /// What a broker runs with: 256 MiB of memory in all.
    pub fn production() -> Settings {
        Settings {
            shard: 0,
            shards: 1,
            pool_bytes: 208 * MIB,
            recv: RecvRegion { count: 512, bytes: 16 * 1024 },
            journal_files: 4,
            journal_file_bytes: 32 * 1024 * 1024,
            journal_frame_bytes_max: 512 * 1024,
            commits_in_flight: 4,
            direct_run_bytes_min: 192 * 1024,
            gather_bytes_min: 4096,
            gather_bytes_max: MIB,
            gather_budget_bytes: 48 * MIB,
            segment_bytes: 256 * 1024 * 1024,
            background_writes_max: 8,
            unstored_bytes_max: 112 * MIB,
            assembly_bytes_max: 64 * MIB,
            reply_reserve_bytes: 4 * MIB,
            connections_max: 16_384,
            files_max: 12_288,
            requests_in_flight_max: 1024,
            credit_bytes: 8 * MIB,
            reply_bytes_queued_max: MIB,
            link_bytes_max: 16 * MIB,
            link_credit_bytes: 32 * MIB,
            fetch_path: FetchPath::Auto,
            read_bytes: 256 * 1024,
            read_ahead_bytes: 2 * MIB,
            read_ahead_bytes_total_max: 32 * MIB,
            read_ahead_idle_ns: 200_000_000,
            reads_in_flight_max: 16,
            topics_max: 10_000,
            partitions_max: 20_000,
            queues_max: 20_000,
            queue_consumers_max: 1000,
            queue_checkpoint_bytes: 64 * 1024 * 1024,
            queue_windows_bytes_max: 16 * MIB,
            lazy_commit_ns: 1_000_000,
            seal_idle_ns: 100_000_000,
            stall_ns: 1_000_000_000,
            frame_arrival_ns: 30_000_000_000,
            stop_grace_ns: 3_000_000_000,
            retention_check_ns: 10_000_000_000,
            recycle_bytes: 1024 * 1024 * 1024,
            scrub_bytes_per_s: 4 * 1024 * 1024,
            free_bytes_min: 256 * 1024 * 1024,
        }
    }

    /// Bounds so small that tests reach them all the time.
    pub fn tiny() -> Settings {
        Settings {
            pool_bytes: 8 * MIB,
            recv: RecvRegion { count: 8, bytes: 4096 },
            journal_files: 3,
            journal_file_bytes: 64 * 1024,
            journal_frame_bytes_max: 16 * 1024,
            commits_in_flight: 2,
            direct_run_bytes_min: 8 * 1024,
            gather_bytes_max: 16 * 1024,
            gather_budget_bytes: 64 * 1024,
            segment_bytes: 128 * 1024,
            background_writes_max: 2,
            unstored_bytes_max: 2 * MIB,
            assembly_bytes_max: 4 * MIB,
            reply_reserve_bytes: 256 * 1024,
            connections_max: 32,
            files_max: 64,
            requests_in_flight_max: 16,
            credit_bytes: 4 * MIB,
            reply_bytes_queued_max: 64 * 1024,
            link_bytes_max: 256 * 1024,
            link_credit_bytes: MIB,
            read_bytes: 16 * 1024,
            read_ahead_bytes: 64 * 1024,
            read_ahead_bytes_total_max: 256 * 1024,
            reads_in_flight_max: 3,
            topics_max: 16,
            partitions_max: 64,
            queues_max: 16,
            queue_consumers_max: 8,
            queue_checkpoint_bytes: 96 * 1024,
            queue_windows_bytes_max: 64 * 1024,
            retention_check_ns: 3_000_000_000,
            scrub_bytes_per_s: 0,
            free_bytes_min: 128 * 1024,
            ..Settings::production()
        }
    }

    /// Why a shard cannot run with these.
    pub fn invalid(&self) -> Option<&'static str> {
        let block = u64::try_from(BLOCK_BYTES).expect("4096");
        let frame = u64::try_from(self.journal_frame_bytes_max).unwrap_or(u64::MAX);
        if self.journal_files < 2 || self.journal_files > 64 {
            return Some("a journal has 2 to 64 files");
        }
        if !self.journal_file_bytes.is_multiple_of(block) || self.journal_file_bytes < 2 * frame {
            return Some("a journal file holds at least two frames, in whole blocks");
        }
        if self.journal_frame_bytes_max > BUFFER_BYTES_MAX
            || self.journal_frame_bytes_max < 2 * BLOCK_BYTES
        {
            return Some("a journal frame is 8 KiB to 2 MiB long");
        }
        if self.gather_bytes_max > BUFFER_BYTES_MAX || self.gather_bytes_min < BLOCK_BYTES {
            return Some("a gather buffer is 4 KiB to 2 MiB long");
        }
        if self.direct_run_bytes_min + BLOCK_BYTES > self.journal_frame_bytes_max {
            return Some("what is shorter than a direct run fits into one journal frame");
        }
        if self.direct_run_bytes_min + RUN_PREFIX_BYTES > self.gather_bytes_max {
            return Some("what is shorter than a direct run fits into one gather buffer");
        }
        if self.commits_in_flight == 0 || self.commits_in_flight > 64 {
            return Some("1 to 64 commits are in flight");
        }
        if self.segment_bytes < 2 * u64::try_from(BATCH_BYTES_MAX).expect("1 MiB")
            && self.segment_bytes < 128 * 1024
        {
            return Some("a segment is at least 128 KiB long");
        }
        if self.segment_bytes > 1 << 40 {
            return Some("a segment is at most 1 TiB long");
        }
        if self.shards == 0 || self.shards > SHARDS_MAX || self.shard >= self.shards {
            return Some("there are 1 to 64 shards");
        }
        if !self.read_bytes.is_multiple_of(BLOCK_BYTES)
            || !(BLOCK_BYTES..=BUFFER_BYTES_MAX).contains(&self.read_bytes)
        {
            return Some("a read is 4 KiB to 2 MiB long, in whole blocks of 4 KiB");
        }
        if !self.read_ahead_bytes.is_multiple_of(BLOCK_BYTES) {
            return Some("what is read ahead is a multiple of 4 KiB");
        }
        if self.reads_in_flight_max == 0 || self.reads_in_flight_max > 1024 {
            return Some("1 to 1024 reads are in flight");
        }
        if self.pool_bytes < 4 * BUFFER_BYTES_MAX {
            return Some("a shard needs at least 8 MiB of buffer memory");
        }
        None
    }
}

/// Most shards of one broker.
pub const SHARDS_MAX: u16 = 64;
/// A body longer than this is received straight into its own buffer.
pub const LARGE_FRAME_BYTES_MIN: usize = 32 * 1024;
/// Bytes probed for the next frame of a connection that sends large ones: its header and the
/// control part of a produce for one partition, so that the batch lands where it will be
/// written from.
pub const PROBE_BYTES: usize = wire::limits::FRAME_HEADER_BYTES + wire::produce::CONTROL_BYTES_ONE;
/// Small frames in a row after which a connection goes back to provided buffers.
pub const SMALL_STREAK_MAX: u8 = 4;
/// Spacing of a segment's offset index.
pub const INDEX_SPACING_BYTES: u64 = 1024 * 1024;
/// Spacing of the marks within a run in memory.
pub const MARK_SPACING_BYTES: usize = 4096;
/// First reservation of a growing segment; doubled up to the maximum.
pub const RESERVE_BYTES_MIN: u64 = 256 * 1024;
/// Largest reservation ahead of a growing segment.
pub const RESERVE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// While a device has too little space it is asked this often whether there is more.
pub const PROBE_SPACE_NS: u64 = 200_000_000;
/// Files of a shard that wait to become start files on a full device.
pub const START_SPARES: usize = 2;
/// A device that has something to do and completes nothing for this long has stalled.
pub const DEVICE_STALL_NS: u64 = 10_000_000_000;
/// Producers that are not read for want of room wait this long for any to come free; then they are
/// answered OVERLOADED until there is.
pub const OVERLOAD_WAIT_NS: u64 = 1_000_000_000;
/// Reads of fetches that are under way at once while commits are: a commit waits behind them.
pub const READS_BESIDE_COMMITS: usize = 1;
/// Bytes of one send while commits are under way: the copy into the socket holds up the shard.
pub const SEND_BYTES_BESIDE_COMMITS: usize = 128 * 1024;
/// For so long after a commit began there are few reads, since another one may come.
pub const READS_YIELD_NS: u64 = 2_000_000;
/// So far ahead of a reader the frames of a segment are known that is sent out of its file.
pub const FRAMES_AHEAD_BYTES: usize = 4 * 1024 * 1024;
/// Most entries of one journal frame.
pub const FRAME_ENTRIES_MAX: usize = 1024;

// A large frame is received so that its batch begins where a run's batches do.
const _: () = assert!(PROBE_BYTES <= RUN_PREFIX_BYTES);
const _: () = assert!(RUN_PREFIX_BYTES + wire::limits::FRAME_BODY_BYTES_MAX <= BUFFER_BYTES_MAX);
