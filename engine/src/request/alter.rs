//! Alter a topic: other settings for what it has and gets.

use wire::topic::{self, Settings};
use wire::{ErrorCode, TopicId};

use super::topics::{UNKNOWN_TOPIC, invalid_settings};
use super::{Answer, Refusal, Request};
use crate::catalog::{Change, Owner};
use crate::port::Time;
use crate::shard::Shard;

impl Shard {
    pub(super) fn alter_topic(&mut self, now: Time, request: Request) -> Result<Answer, Refusal> {
        let alter = topic::AlterRequest::decode(self.pool.view(request.body))?;
        if alter.changes & !topic::CHANGES_ALL != 0 {
            let detail = "alter names a change that this broker does not know";
            return Err(Refusal::new(ErrorCode::InvalidRequest, detail));
        }
        let id = self.topic_id(alter.name)?;
        let old = self.settings_to_be(&id).ok_or(UNKNOWN_TOPIC)?;
        let settings = alter.applied_to(&old);
        if let Some(detail) = invalid_settings(&settings) {
            return Err(Refusal::new(ErrorCode::InvalidRequest, detail));
        }
        self.append_change(now, request, Change::Alter { id, settings })?;
        Ok(Answer::Later)
    }

    /// A topic's settings once every change on its way is made.
    fn settings_to_be(&self, id: &TopicId) -> Option<Settings> {
        let pending = self.catalog.pending.iter().rev().find_map(|pending| match &pending.change {
            Change::Alter { id: other, settings } if other == id => Some(*settings),
            _ => None,
        });
        pending.or_else(|| self.catalog.topics.get(id).map(|topic| topic.settings))
    }

    /// The topic has these settings from now on.
    pub(super) fn alter(&mut self, id: &TopicId, settings: &Settings) {
        let Some(topic) = self.catalog.topics.get_mut(id) else { return };
        topic.settings = *settings;
        for owner in &topic.partitions {
            if let Owner::Here(partition) = *owner {
                self.store.alter_partition(partition, settings);
            }
        }
    }
}
