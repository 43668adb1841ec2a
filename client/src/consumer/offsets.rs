//! Positions made of offsets, and the questions to the owners that this takes.

use std::time::{Duration, Instant};

use wire::limits::REQUEST_PARTITIONS_MAX;
use wire::list_offsets::{RequestEntry, TIMESTAMP_EARLIEST, TIMESTAMP_LATEST};
use wire::{ErrorCode, Kind};

use super::Consumer;
use super::cursor::Cursor;
use super::options::Position;
use crate::error::ClientError;
use crate::network::Network;

/// How long a wait for the next try to reconnect may last; it ends at that try.
const RETRY_WAIT_MAX: Duration = Duration::from_secs(3600);

impl<N: Network> Consumer<N> {
    /// Moves these slots' cursors to a position; all or none.
    pub(super) fn place(&mut self, slots: &[usize], position: Position) -> Result<(), ClientError> {
        let (offsets, time_from_ms) = match position {
            Position::Offset(offset) => {
                self.reach()?;
                (vec![offset; slots.len()], None)
            }
            Position::Beginning => (self.look_up(slots, TIMESTAMP_EARLIEST)?, None),
            Position::End => (self.look_up(slots, TIMESTAMP_LATEST)?, None),
            Position::Time(ms) => (self.look_up(slots, ms.max(0))?, Some(ms)),
            Position::FromEnd(count) => {
                let starts = self.look_up(slots, TIMESTAMP_EARLIEST)?;
                let ends = self.look_up(slots, TIMESTAMP_LATEST)?;
                let back = |(start, end): (u64, u64)| end.saturating_sub(count).max(start);
                (starts.into_iter().zip(ends).map(back).collect(), None)
            }
        };
        for (&slot, offset) in slots.iter().zip(offsets) {
            let cursor = &mut self.cursors[slot];
            cursor.offset = offset;
            cursor.high_watermark = None;
            cursor.time_from_ms = time_from_ms;
        }
        Ok(())
    }

    /// Asks about all assigned partitions.
    pub(super) fn look_up_all(&mut self, timestamp_ms: i64) -> Result<Vec<u64>, ClientError> {
        let slots: Vec<usize> = (0..self.cursors.len()).collect();
        self.look_up(&slots, timestamp_ms)
    }

    /// Connects what the assignment needs, trying again while that may help.
    fn reach(&mut self) -> Result<(), ClientError> {
        self.persist(|consumer| {
            let wanted = consumer.cursors.iter().map(Cursor::place);
            consumer.router.connect_wanted(wanted)
        })
    }

    fn look_up(&mut self, slots: &[usize], timestamp_ms: i64) -> Result<Vec<u64>, ClientError> {
        self.reach()?;
        self.persist(|consumer| consumer.try_look_up(slots, timestamp_ms))
    }

    /// Does something until it succeeds or there is no hope.
    fn persist<R>(
        &mut self,
        mut act: impl FnMut(&mut Self) -> Result<R, ClientError>,
    ) -> Result<R, ClientError> {
        loop {
            match act(self) {
                Ok(result) => {
                    self.router.served();
                    return Ok(result);
                }
                Err(error) => self.router.failed(error, Instant::now())?,
            }
            while self.router.retry_at().is_some() {
                self.router.wait(Instant::now() + RETRY_WAIT_MAX)?;
                self.mend(Instant::now())?;
            }
        }
    }

    fn try_look_up(&mut self, slots: &[usize], timestamp_ms: i64) -> Result<Vec<u64>, ClientError> {
        let mut by_route: Vec<(usize, usize)> = Vec::with_capacity(slots.len());
        for (index, &slot) in slots.iter().enumerate() {
            let cursor = &self.cursors[slot];
            by_route.push((self.router.route_of(cursor.topic, cursor.partition), index));
        }
        by_route.sort_unstable();
        let mut offsets = vec![0; slots.len()];
        for of_route in by_route.chunk_by(|a, b| a.0 == b.0) {
            let route = of_route[0].0;
            for some in of_route.chunks(REQUEST_PARTITIONS_MAX) {
                let asked = self.ask(route, slots, some, timestamp_ms, &mut offsets);
                if asked.as_ref().is_err_and(ClientError::is_of_connection) {
                    self.router.cut(route);
                }
                asked?;
            }
        }
        Ok(offsets)
    }

    /// Asks one endpoint about some of the slots; fills their offsets in.
    fn ask(
        &mut self,
        route: usize,
        slots: &[usize],
        some: &[(usize, usize)],
        timestamp_ms: i64,
        offsets: &mut [u64],
    ) -> Result<(), ClientError> {
        let cursors = &self.cursors;
        let (Some(link), topics) = self.router.parts(route) else {
            return Err(ClientError::Lost { source: None });
        };
        let entry = |&(_, index): &(usize, usize)| {
            let cursor = &cursors[slots[index]];
            RequestEntry {
                topic_id: topics[cursor.topic].topic_id,
                partition: cursor.partition.into(),
                timestamp_ms: timestamp_ms.into(),
            }
        };
        let entries: Vec<RequestEntry> = some.iter().map(entry).collect();
        // Its reply would be dropped while this one is awaited: it is asked for again.
        link.state.forget();
        let rows = link.connection.list_offsets(&entries)?;
        for (row, &(_, index)) in rows.iter().zip(some) {
            if row.error.get() != ErrorCode::None.number() {
                let cursor = &cursors[slots[index]];
                let topic = &topics[cursor.topic].name;
                let detail = format!("topic {topic}, partition {}", cursor.partition);
                let code = row.error.get();
                return Err(ClientError::Refused { kind: Kind::ListOffsets, code, detail });
            }
            offsets[index] = row.offset.get();
        }
        Ok(())
    }
}
