//! What keeps topics in shape: changed settings, deleted records.

use wire::{delete_records, topic};

use crate::connection::Connection;
use crate::error::ClientError;
use crate::session::Event;
use crate::transport::Transport;

impl<T: Transport> Connection<T> {
    /// Changes settings of a topic: those that `changes` names by its `topic::CHANGE_*` bits.
    /// Gives the topic's settings as they are now, durably.
    ///
    /// # Errors
    /// It does not exist, or the settings are not valid; the connection is lost or times out.
    pub fn alter_topic(
        &mut self,
        name: &str,
        changes: u32,
        settings: &topic::Settings,
    ) -> Result<topic::Settings, ClientError> {
        let id = self.session_mut().alter_topic(name, changes, settings)?;
        self.answer(id, "answer to alter topic", |event| match event {
            Event::TopicAltered(_, settings) => Some(**settings),
            _ => None,
        })
    }

    /// Deletes the oldest records of partitions, durably. One row per entry in their order, each
    /// with an error code of its own and the partition's new start.
    ///
    /// # Errors
    /// The connection is lost or times out.
    pub fn delete_records(
        &mut self,
        entries: &[delete_records::RequestEntry],
    ) -> Result<Vec<delete_records::ReplyEntry>, ClientError> {
        let id = self.session_mut().delete_records(entries)?;
        self.answer(id, "answer to delete records", |event| match event {
            Event::RecordsDeleted(_, reply) => Some(reply.to_vec()),
            _ => None,
        })
    }
}
