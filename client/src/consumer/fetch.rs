//! One fetch in flight per connection.

use std::time::Instant;

use wire::fetch::{RequestEntry, RequestHead};
use wire::limits::REQUEST_PARTITIONS_MAX;

use super::Consumer;
use super::absorb::{self, Absorbed};
use super::cursor::Flow;
use crate::connection::refused;
use crate::error::ClientError;
use crate::network::Network;
use crate::session::{Event, RequestId, SendError};

/// What a consumer keeps per connection.
#[derive(Debug, Default)]
pub(super) struct Fetching {
    /// The slots of the partitions that are read over it, longest unserved first.
    order: Vec<usize>,
    /// The fetch in flight, and when it is overdue.
    in_flight: Option<(RequestId, Instant)>,
    /// It was refused, or some of its partitions were: it is not asked again before this.
    rests_until: Option<Instant>,
    /// Its entries and their slots.
    pub(super) asked: Vec<RequestEntry>,
    pub(super) asked_slots: Vec<usize>,
}

impl Fetching {
    /// Another request of its connection drops the reply that is on its way: ask again.
    pub(super) const fn forget(&mut self) {
        self.in_flight = None;
    }

    /// Does not ask before `until`.
    pub(super) const fn rest(&mut self, until: Option<Instant>) {
        self.rests_until = until;
    }
}

/// What came over one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A reply with records; [`Consumer::rows`] say which.
    Records,
    /// Nothing yet.
    Nothing,
}

impl<N: Network> Consumer<N> {
    /// Divides the assigned partitions among the connections. Replies on their way are dropped.
    pub(super) fn reroute(&mut self) {
        for link in self.router.routes.iter_mut().filter_map(|route| route.link.as_mut()) {
            link.state.order.clear();
            link.state.forget();
        }
        for (slot, cursor) in self.cursors.iter().enumerate() {
            let route = self.router.route_of(cursor.topic, cursor.partition);
            if let Some(link) = &mut self.router.routes[route].link {
                link.state.order.push(slot);
            }
        }
    }

    /// Makes sure that the next fetch for this partition does not wait for one that leaves it
    /// out, or that asks for what is no longer wanted.
    pub(super) fn ask_anew(&mut self, slot: usize) {
        let cursor = &self.cursors[slot];
        let route = self.router.route_of(cursor.topic, cursor.partition);
        if let Some(link) = &mut self.router.routes[route].link {
            let state = &mut link.state;
            let mut asked = state.asked_slots.iter().zip(&state.asked);
            if !asked.any(|(of, entry)| *of == slot && entry.offset.get() == cursor.offset) {
                state.forget();
            }
        }
    }

    /// Sends, receives and looks at what came over one connection, without waiting.
    pub(super) fn step(&mut self, route: usize, now: Instant) -> Result<Step, ClientError> {
        self.request(route, now)?;
        loop {
            let (Some(link), _) = self.router.parts(route) else { return Ok(Step::Nothing) };
            link.connection.send_now()?;
            if let Some(absorbed) = self.take_reply(route)? {
                return self.settle(route, absorbed, now);
            }
            let (Some(link), _) = self.router.parts(route) else { return Ok(Step::Nothing) };
            if link.connection.receive_now()? > 0 {
                continue;
            }
            return match link.state.in_flight {
                Some((_, overdue_at)) if now >= overdue_at => {
                    let after = self.options.max_wait + self.router.request_timeout();
                    Err(ClientError::TimedOut { what: "answer to fetch", after })
                }
                _ => Ok(Step::Nothing),
            };
        }
    }

    /// Asks for the next batches of a connection's partitions, unless that is done already.
    pub(super) fn request(&mut self, route: usize, now: Instant) -> Result<(), ClientError> {
        let timeout = self.router.request_timeout();
        let (Some(link), topics) = self.router.parts(route) else { return Ok(()) };
        let state = &mut link.state;
        let is_resting = state.rests_until.is_some_and(|until| now < until);
        if state.in_flight.is_some() || is_resting {
            return Ok(());
        }
        let cursors = &self.cursors;
        // The broker fills a reply in the order asked.
        state.order.sort_by_key(|slot| cursors[*slot].served_at);
        state.asked.clear();
        state.asked_slots.clear();
        let running = state.order.iter().filter(|slot| cursors[**slot].flow == Flow::Running);
        for &slot in running.take(REQUEST_PARTITIONS_MAX) {
            let cursor = &cursors[slot];
            state.asked_slots.push(slot);
            state.asked.push(RequestEntry {
                topic_id: topics[cursor.topic].topic_id,
                partition: cursor.partition.into(),
                leader_epoch: u32::MAX.into(),
                offset: cursor.offset.into(),
                partition_max_bytes: self.options.partition_max_bytes.into(),
                reserved: 0.into(),
            });
        }
        if state.asked.is_empty() {
            return Ok(());
        }
        // More partitions than one request may name take turns, and share the wait.
        let turns = state.order.len().div_ceil(REQUEST_PARTITIONS_MAX);
        let wait_ms = self.options.max_wait.as_millis() / u128::try_from(turns).expect("fits");
        let head = RequestHead {
            max_wait_ms: u32::try_from(wait_ms).unwrap_or(u32::MAX).into(),
            min_bytes: self.options.min_bytes.into(),
            max_bytes: self.options.max_bytes.into(),
            isolation: 0,
            flags: 0,
            partition_count: 0.into(),
        };
        match link.connection.session_mut().fetch(&head, &state.asked) {
            Ok(id) => state.in_flight = Some((id, now + self.options.max_wait + timeout)),
            // Replies that nobody waits for any more come first.
            Err(SendError::WindowFull) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Takes the awaited reply, if it has arrived whole, into the cursors and [`Consumer::rows`].
    fn take_reply(&mut self, route: usize) -> Result<Option<Absorbed>, ClientError> {
        let (Some(link), topics) = self.router.parts(route) else { return Ok(None) };
        loop {
            let Some(event) = link.connection.session_mut().next_event()? else { return Ok(None) };
            let awaited = link.state.in_flight.map(|(id, _)| id);
            if awaited.is_none() || event.request_id() != awaited {
                continue;
            }
            link.state.in_flight = None;
            let reply = match event {
                Event::Fetched(_, reply) => reply,
                Event::Refused(_, refusal) => return Err(refused(&refusal)),
                _ => continue,
            };
            self.replies += 1;
            let asked = (&link.state.asked[..], &link.state.asked_slots[..]);
            let cursors = &mut self.cursors;
            let mut absorbed =
                absorb::absorb(&reply, asked, topics, cursors, &self.options, &mut self.rows)?;
            let many = link.state.order.len() > REQUEST_PARTITIONS_MAX;
            for &slot in link.state.asked_slots.iter().filter(|_| many) {
                cursors[slot].served_at = self.replies;
            }
            for row in &self.rows {
                cursors[row.slot].served_at = self.replies;
            }
            absorbed.has_records = !self.rows.is_empty();
            return Ok(Some(absorbed));
        }
    }

    /// Lets a connection whose partitions are not served wait for the next try to mend that.
    pub(super) fn rest(&mut self, route: usize) {
        let until = self.router.retry_at();
        if let (Some(link), _) = self.router.parts(route) {
            link.state.rest(until);
        }
    }

    /// What a reply means for connections and events.
    fn settle(
        &mut self,
        route: usize,
        absorbed: Absorbed,
        now: Instant,
    ) -> Result<Step, ClientError> {
        absorbed.events.into_iter().for_each(|event| self.tell(event));
        match absorbed.stale {
            Some(error) => {
                // What came beside it is good: it is given first.
                let result = self.router.wait_out(error, now);
                self.rest(route);
                if !absorbed.has_records {
                    result?;
                }
            }
            None => self.router.served(),
        }
        Ok(if absorbed.has_records { Step::Records } else { Step::Nothing })
    }
}
