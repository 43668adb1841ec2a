//! The topic of a run: made before, removed after.

use client::{Connection, ErrorCode, TopicId, TopicSettings};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use wire::limits::REQUEST_PARTITIONS_MAX;
use wire::list_offsets::{RequestEntry, TIMESTAMP_EARLIEST, TIMESTAMP_LATEST};

use super::RunError;

const POLL: Duration = Duration::from_millis(5);

/// A topic, and where its records of before end.
pub(super) struct RunTopic {
    pub(super) name: String,
    pub(super) id: TopicId,
    /// Per partition: where this run's records begin.
    pub(super) starts: Vec<u64>,
    origin: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Ours,
    WasThere,
}

/// Which end of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Oldest,
    Newest,
}

impl RunTopic {
    /// Creates the topic, or takes it as it is if it is there already; consumers then begin at
    /// `from`.
    pub(super) fn open(
        control: &mut Connection,
        name: &str,
        partitions: u32,
        from: End,
    ) -> Result<Self, RunError> {
        match control.create_topic(name, &TopicSettings::new(partitions)) {
            Ok(id) => {
                let starts = vec![0; partitions as usize];
                Ok(Self { name: name.to_owned(), id, starts, origin: Origin::Ours })
            }
            Err(error) if error.error_code() == Some(ErrorCode::TopicExists) => {
                let topic = control.topic(name)?;
                let count = topic.partitions.len();
                if count != partitions as usize {
                    return Err(RunError::Setup(format!(
                        "topic {name} has {count} partitions: pass --partitions {count}"
                    )));
                }
                let id = topic.topic_id;
                let starts = offsets(control, id, partitions, from)?;
                Ok(Self { name: name.to_owned(), id, starts, origin: Origin::WasThere })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Takes a topic whose records of another run begin at `starts`.
    pub(super) fn find(
        control: &mut Connection,
        name: &str,
        starts: &[u64],
    ) -> Result<Self, RunError> {
        let found = control.topic(name).map_err(|error| match error.error_code() {
            Some(ErrorCode::UnknownTopic) => RunError::Setup(format!(
                "there is no topic {name}: it was deleted since, or this is another broker"
            )),
            _ => error.into(),
        })?;
        let (partitions, known) = (found.partitions.len(), starts.len());
        if partitions != known {
            return Err(RunError::Setup(format!(
                "topic {name} has {partitions} partitions, that of the run had {known}: it is \
                 another one"
            )));
        }
        let count = u32::try_from(known).expect("partitions are a u32");
        let oldest = offsets(control, found.topic_id, count, End::Oldest)?;
        if let Some(at) = oldest.iter().zip(starts).position(|(oldest, start)| oldest > start) {
            return Err(RunError::Setup(format!(
                "partition {at} of topic {name} begins at offset {} now, the run's records at {}: \
                 they were deleted since, by retention or on purpose",
                oldest[at], starts[at]
            )));
        }
        let (name, id, starts) = (name.to_owned(), found.topic_id, starts.to_vec());
        Ok(Self { name, id, starts, origin: Origin::WasThere })
    }

    /// Removes the topic if this run made it.
    pub(super) fn remove(&self, control: &mut Connection) -> Result<(), RunError> {
        match self.origin {
            Origin::Ours => Ok(control.delete_topic(&self.name)?),
            Origin::WasThere => Ok(()),
        }
    }

    /// Waits until consumers may see everything below `ends`; gives what they see by then.
    pub(super) fn await_visible(
        &self,
        control: &mut Connection,
        ends: &[u64],
        wait_max: Duration,
        abort: &AtomicBool,
    ) -> Result<Vec<u64>, RunError> {
        let partitions = u32::try_from(ends.len()).expect("partitions are a u32");
        let until = Instant::now() + wait_max;
        loop {
            let newest = offsets(control, self.id, partitions, End::Newest)?;
            let visible = newest.iter().zip(ends).all(|(newest, end)| newest >= end);
            if visible || Instant::now() >= until || abort.load(Ordering::Relaxed) {
                return Ok(newest);
            }
            std::thread::sleep(POLL);
        }
    }
}

/// One end of each partition.
pub(super) fn offsets(
    control: &mut Connection,
    topic_id: TopicId,
    partitions: u32,
    end: End,
) -> Result<Vec<u64>, RunError> {
    let timestamp_ms = match end {
        End::Oldest => TIMESTAMP_EARLIEST,
        End::Newest => TIMESTAMP_LATEST,
    };
    let entries: Vec<RequestEntry> = (0..partitions)
        .map(|partition| RequestEntry {
            topic_id,
            partition: partition.into(),
            timestamp_ms: timestamp_ms.into(),
        })
        .collect();
    let mut rows = Vec::with_capacity(entries.len());
    for some in entries.chunks(REQUEST_PARTITIONS_MAX) {
        rows.extend(control.list_offsets(some)?);
    }
    match rows.iter().find(|row| row.error.get() != 0) {
        Some(row) => Err(RunError::Setup(format!(
            "the broker does not tell the end of partition {} (code {})",
            row.partition.get(),
            row.error.get()
        ))),
        None => Ok(rows.iter().map(|row| row.offset.get()).collect()),
    }
}
