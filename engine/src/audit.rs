//! What a shard says of itself to those who check it: that it keeps its bounds, and that it holds
//! nothing once it has nothing to do.

use crate::pool::BUFFER_BYTES_MAX;
use crate::port::Time;
use crate::shard::Shard;

impl Shard {
    /// Buffers in use by runs, frames and connections: for checks that nothing leaks.
    pub fn live_buffers(&self) -> usize {
        self.pool.live_buffers()
    }

    /// Buffers with bytes that were read for fetches and not sent yet.
    pub fn buffers_read_ahead(&self) -> usize {
        self.store.streams.buffers()
    }

    /// Runs in memory, the journal's own buffers and what was read ahead: what a quiet shard
    /// without connections holds.
    pub fn buffers_accounted(&self) -> usize {
        let runs = self.store.partitions.iter().map(|(_, partition)| partition.runs.len());
        let frames = self.store.journal.frames.iter().filter(|frame| frame.buf.is_some()).count();
        let read = self.buffers_read_ahead();
        let committing = frames + self.store.journal.free_bufs.len();
        let read = read + self.store.failures.buffers() + self.store.scrub_buffers();
        runs.sum::<usize>() + committing + read + self.link_buffers()
    }

    /// What is still there although the shard is quiet, no connection is open and every timer
    /// has had its time.
    pub fn leftovers(&self) -> Option<String> {
        let store = &self.store;
        let counts = [
            ("produces", self.produces.len()),
            ("lists of waiting deletions", self.deletion_waits.len()),
            ("routes", self.queues.routes.len()),
            ("fetches", self.fetches.len()),
            ("fetches of other shards", self.link_fetches.len()),
            ("fetches to look at", self.ready.len()),
            ("timers", self.timers.len()),
            ("connections to close", self.closes.len()),
            ("connections to resume", self.resume.len()),
            ("connections that wait for memory", self.memory_waiters.len()),
            ("links that wait for memory", self.link_waiters.len()),
            ("bytes of frames in part", self.assembly_bytes),
            ("receive buffers to return", self.returns.len()),
            ("runs being written", store.run_writes.len()),
            ("segments being flushed", store.segment_flushes.len()),
        ];
        let (what, count) = counts.into_iter().find(|&(_, count)| count > 0)?;
        Some(format!("{count} {what} are left over"))
    }

    /// What [`Shard::deadline`] is the earliest of, by name.
    pub fn deadlines(&self) -> Vec<(&'static str, Time)> {
        let store = &self.store;
        let all = [
            ("commit", store.lazy_deadline()),
            ("watermark", store.seal_deadline()),
            ("flush", store.flush_deadline()),
            ("stall", store.stall_deadline()),
            ("overload", self.overload_deadline()),
            ("space", store.space_deadline()),
            ("retention", store.retention_deadline()),
            ("sweep of streams", store.streams.sweep_at),
            ("queues", self.queues.deadline()),
            ("timer", self.timers.first().map(|(time, _)| *time)),
        ];
        all.into_iter().filter_map(|(what, time)| Some((what, time?))).collect()
    }

    /// Which bound of memory does not hold.
    pub fn beyond_bounds(&self) -> Option<String> {
        let settings = &self.store.settings;
        // One frame may pass while nothing is there.
        let assembly_max = settings.assembly_bytes_max + BUFFER_BYTES_MAX;
        // Each connection's request in hand may pass the bound.
        let unstored_max = settings.unstored_bytes_max
            + settings.connections_max * wire::limits::FRAME_BODY_BYTES_MAX;
        let bounds = [
            ("bytes of frames in part", self.assembly_bytes, assembly_max),
            ("bytes that are not stored", self.store.unstored_bytes, unstored_max),
            ("connections", self.conns.len(), settings.connections_max + 1),
        ];
        let (what, is, max) = bounds.into_iter().find(|&(_, is, max)| is > max)?;
        Some(format!("{is} {what} are more than {max}"))
    }
}
