//! Queues as a whole: create, delete, describe, list, purge, peek, redrive.

use wire::queue::{
    PeekRequest, QueueCounts, QueueId, RedriveJobReply, RedriveJobRequest, RedriveReply, Settings,
};

use super::consumer::QueueDelivery;
use crate::connection::Connection;
use crate::error::ClientError;
use crate::session::{Event, QueueEvent};
use crate::transport::Transport;

/// A queue: what it is like, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueDescription {
    /// Its name.
    pub name: String,
    /// Its id.
    pub queue: QueueId,
    /// The shard that owns it.
    pub shard: u16,
    /// What it is like.
    pub settings: Settings,
    /// What is in it.
    pub counts: QueueCounts,
    /// The name of the queue that its dead letters go to; empty: there is none.
    pub dead_letter: String,
}

impl<T: Transport> Connection<T> {
    /// Asks for a queue to be there, durably, and to be like this; it may be there already. An
    /// empty name lets the broker find one. Gives its id and its name.
    ///
    /// # Errors
    /// A queue of this name is different, or the queue for its dead letters does not exist; the
    /// connection is lost or times out.
    pub fn create_queue(
        &mut self,
        name: &str,
        settings: &Settings,
        dead_letter: &str,
    ) -> Result<(QueueId, String), ClientError> {
        let id = self.session_mut().create_queue(name, settings, dead_letter)?;
        self.answer(id, "answer to create queue", |event| match event {
            Event::Queue(_, QueueEvent::Created(reply)) => {
                Some((reply.queue, reply.name.to_owned()))
            }
            _ => None,
        })
    }

    /// Deletes a queue and all its messages, under the conditions that the `DELETE_*` bits name.
    ///
    /// # Errors
    /// It does not exist, or a condition does not hold; the connection is lost or times out.
    pub fn delete_queue(&mut self, name: &str, conditions: u32) -> Result<(), ClientError> {
        let id = self.session_mut().delete_queue(name, conditions)?;
        self.answer(id, "answer to delete queue", |event| match event {
            Event::Queue(_, QueueEvent::Deleted) => Some(()),
            _ => None,
        })
    }

    /// What a queue is like, and what is in it.
    ///
    /// # Errors
    /// It does not exist; the connection is lost or times out.
    pub fn describe_queue(&mut self, name: &str) -> Result<QueueDescription, ClientError> {
        let id = self.session_mut().describe_queue(name)?;
        self.answer(id, "answer to describe queue", |event| match event {
            Event::Queue(_, QueueEvent::Described(reply)) => Some(QueueDescription {
                name: reply.name.to_owned(),
                queue: reply.queue,
                shard: reply.shard,
                settings: *reply.settings,
                counts: *reply.counts,
                dead_letter: reply.dead_letter.to_owned(),
            }),
            _ => None,
        })
    }

    /// The names of all queues, in order.
    ///
    /// # Errors
    /// The connection is lost or times out.
    pub fn list_queues(&mut self) -> Result<Vec<String>, ClientError> {
        let mut names: Vec<String> = Vec::new();
        loop {
            let id = self.session_mut().list_queues(names.last().map_or("", String::as_str))?;
            let page = self.answer(id, "answer to list queues", |event| match event {
                Event::Queue(_, QueueEvent::Listed(reply)) => {
                    let names = reply.map(|row| row.map(|(_, name)| name.to_owned()));
                    Some(names.collect::<Result<Vec<String>, _>>())
                }
                _ => None,
            })?;
            let page = page.map_err(|malformed| {
                let kind = wire::Kind::QueueList.number();
                ClientError::Protocol(crate::session::Violation::Body { kind, malformed })
            })?;
            let is_last = page.len() < wire::queue::LIST_NAMES_MAX;
            names.extend(page);
            if is_last {
                return Ok(names);
            }
        }
    }

    /// Removes every message that is ready, durably. Gives how many.
    ///
    /// # Errors
    /// It does not exist; the connection is lost or times out.
    pub fn purge_queue(&mut self, name: &str) -> Result<u64, ClientError> {
        let id = self.session_mut().purge_queue(name)?;
        self.answer(id, "answer to purge", |event| match event {
            Event::Queue(_, QueueEvent::Purged(reply)) => Some(reply.removed.get()),
            _ => None,
        })
    }

    /// Shows messages that are ready, from a sequence number on, as many as one reply holds.
    ///
    /// # Errors
    /// It does not exist; the connection is lost or times out.
    pub fn peek_queue(
        &mut self,
        queue: &QueueId,
        from: u64,
        max_messages: u32,
    ) -> Result<Vec<QueueDelivery>, ClientError> {
        let request = PeekRequest {
            queue: *queue,
            from: from.into(),
            max_messages: max_messages.into(),
            max_bytes: u32::MAX.into(),
        };
        let id = self.session_mut().peek(&request)?;
        self.answer(id, "answer to peek", |event| match event {
            Event::Queue(_, QueueEvent::Peeked(reply)) => Some(QueueDelivery::all(reply)),
            _ => None,
        })?
    }

    /// Starts, shows or stops the job of a queue that sends its dead letters back, and tells how
    /// far it is.
    ///
    /// # Errors
    /// It does not exist, or a job is started while one runs; the connection is lost or times out.
    pub fn redrive_job(
        &mut self,
        request: &RedriveJobRequest,
    ) -> Result<RedriveJobReply, ClientError> {
        let id = self.session_mut().redrive_job(request)?;
        self.answer(id, "answer to redrive", |event| match event {
            Event::Queue(_, QueueEvent::RedriveJob(reply)) => Some(**reply),
            _ => None,
        })
    }

    /// Sends at most so many dead letters back to the queues they died in, durably.
    ///
    /// # Errors
    /// It does not exist; the connection is lost or times out.
    pub fn redrive_queue(
        &mut self,
        queue: &QueueId,
        max_messages: u32,
    ) -> Result<RedriveReply, ClientError> {
        let id = self.session_mut().redrive(queue, max_messages)?;
        self.answer(id, "answer to redrive", |event| match event {
            Event::Queue(_, QueueEvent::Redriven(reply)) => Some(**reply),
            _ => None,
        })
    }
}
