//! Create, delete and describe topics.

use wire::frame::{Envelope, encode};
use wire::topic::{self, CreateReply, PartitionState, Settings, Visibility};
use wire::{ErrorCode, Kind, TopicId, limits};
use zerocopy::IntoBytes;

use super::{Answer, Refusal, Request};
use crate::catalog::{Change, Owner, PendingChange, QueueEntry, Topic};
use crate::forward::What;
use crate::frame::EntryKind;
use crate::log::partition::{Partition, PartitionId};
use crate::log::store::Store;
use crate::placement;
use crate::port::Time;
use crate::shard::Shard;
use crate::units::{u32_of, usize_of};
use wire::queue::QUEUE_DEAD_LETTER_TOPIC;

impl Shard {
    pub(super) fn create_topic(&mut self, now: Time, request: Request) -> Result<Answer, Refusal> {
        let create = topic::CreateRequest::decode(self.pool.view(request.body))?;
        if let Some(detail) = topic::invalid_name(create.name) {
            return Err(Refusal::new(ErrorCode::InvalidTopicName, detail));
        }
        if let Some(detail) = invalid_settings(create.settings) {
            return Err(Refusal::new(ErrorCode::InvalidRequest, detail));
        }
        let (name, settings) = (create.name.to_owned(), *create.settings);
        if self.catalog.names.contains_key(&name) {
            let detail = "a topic of this name exists already";
            return Err(Refusal::new(ErrorCode::TopicExists, detail));
        }
        if self.store.space.is_short() {
            // Deleting goes on: its record fits into the journal, which has its space.
            let detail = "there is no space for a new topic's records";
            return Err(Refusal::new(ErrorCode::StorageFull, detail));
        }
        let partitions = usize_of(settings.partitions.get());
        let limits = &self.store.settings;
        if self.catalog.names.len() >= limits.topics_max
            || self.catalog.partitions + partitions > limits.partitions_max
        {
            let detail = "the broker has as many topics or partitions as its limits allow";
            return Err(Refusal::new(ErrorCode::LimitReached, detail));
        }
        let id = self.new_topic_id();
        let change = Change::Create { id, name: name.clone(), settings };
        self.append_change(now, request, change)?;
        self.catalog.names.insert(name, id);
        self.catalog.partitions += partitions;
        Ok(Answer::Later)
    }

    pub(super) fn delete_topic(&mut self, now: Time, request: Request) -> Result<Answer, Refusal> {
        let name = topic::NameRequest::decode(self.pool.view(request.body))?.name;
        let id = self.topic_id(name)?;
        let again = self.catalog.pending.iter().any(|pending| match &pending.change {
            Change::Delete { id: other } => *other == id,
            _ => false,
        });
        if again {
            return Err(UNKNOWN_TOPIC);
        }
        let is_target = |queue: &QueueEntry| {
            queue.settings.has(QUEUE_DEAD_LETTER_TOPIC) && queue.settings.dead_letter == id
        };
        if self.catalog.queues.values().any(is_target) {
            let detail = "a queue's dead letters go there: delete that one first";
            return Err(Refusal::new(ErrorCode::QueueInUse, detail));
        }
        self.append_change(now, request, Change::Delete { id })?;
        Ok(Answer::Later)
    }

    pub(super) fn describe_topic(&mut self, request: Request) -> Result<Answer, Refusal> {
        let name = topic::NameRequest::decode(self.pool.view(request.body))?.name;
        let id = self.topic_id(name)?;
        let topic = self.catalog.topics.get(&id).ok_or(UNKNOWN_TOPIC)?;
        let head = topic::DescribeHead { topic_id: id, settings: topic.settings };
        let owners = topic.partitions.iter().enumerate();
        let rows: Vec<_> = owners
            .filter_map(|(number, owner)| match owner {
                Owner::Here(id) => Some(self.partition_state(number, *id)),
                Owner::There(_) => None,
            })
            .collect();
        if rows.len() < topic.partitions.len() && !self.is_asked_by_shard(&request) {
            self.gather_from_all(request, Kind::DescribeTopic, What::Topic(head, rows));
            return Ok(Answer::Later);
        }
        let envelope = Envelope::reply(Kind::DescribeTopic, request.correlation_id);
        self.reply(request.conn.0, |out| {
            encode(out, envelope, 0, |out| {
                out.extend_from_slice(head.as_bytes());
                out.extend_from_slice(rows.as_bytes());
            });
        });
        Ok(Answer::Now)
    }

    fn partition_state(&self, number: usize, id: PartitionId) -> PartitionState {
        let visible = self.store.visible(id, self.visibility(id));
        let partition = self.store.partition(id);
        let damaged = partition.damaged.ranges();
        let bytes: u64 = partition.segments.iter().map(|segment| segment.end).sum();
        PartitionState {
            partition: u32_of(number).into(),
            shard: self.store.settings.shard.into(),
            damaged_ranges: u16::try_from(damaged.len()).unwrap_or(u16::MAX).into(),
            log_start_offset: partition.log_start.into(),
            high_watermark: visible.into(),
            log_end_offset: partition.progress.appended().into(),
            segment_bytes: bytes.into(),
            segments: u32_of(partition.segments.len()).into(),
            leader_epoch: self.store.identity.boot_epoch.into(),
            damaged_from: damaged.first().map_or(0, |range| range.start).into(),
            damaged_to: damaged.first().map_or(0, |range| range.end).into(),
        }
    }

    pub(super) fn topic_id(&self, name: &str) -> Result<TopicId, Refusal> {
        let id = self.catalog.names.get(name).copied();
        id.filter(|id| self.catalog.topics.contains_key(id)).ok_or(UNKNOWN_TOPIC)
    }

    pub(super) fn append_change(
        &mut self,
        now: Time,
        request: Request,
        change: Change,
    ) -> Result<(), Refusal> {
        let record = change.encode();
        let stream = self.catalog_stream.expect("asked of the shard that writes the catalog");
        let appended = self.store.append_catalog(&mut self.pool, now, stream, &record);
        let base = appended.map_err(|code| Refusal::new(code, "the catalog cannot be written"))?;
        self.catalog.pending.push_back(PendingChange {
            end: base + 1,
            change,
            conn: request.conn,
            correlation_id: request.correlation_id,
            frame_bytes: request.frame_bytes,
        });
        Ok(())
    }

    /// Applies the changes that have become durable, and tells the other shards. A change is
    /// answered once all know it.
    pub(crate) fn apply_changes(&mut self) {
        let stream = self.catalog_stream.expect("its records became durable here");
        let durable = self.store.partition(stream).progress.durable();
        while self.catalog.pending.front().is_some_and(|pending| pending.end <= durable) {
            let pending = self.catalog.pending.pop_front().expect("just seen");
            self.apply_change(pending.change.clone());
            if self.store.settings.shards > 1 {
                self.announce(pending);
            } else {
                self.answer_change(&pending);
            }
        }
    }

    /// Makes a durable change take effect on this shard.
    pub(crate) fn apply_change(&mut self, change: Change) {
        match change {
            Change::Create { id, name, settings } => self.add_topic(id, name, settings),
            Change::Alter { id, settings } => self.alter(&id, &settings),
            Change::Delete { id } => self.drop_topic(&id),
            Change::CreateQueue { id, entry } => self.add_queue(id, entry),
            Change::DeleteQueue { id } => self.drop_queue(&id),
        }
    }

    /// Answers who asked for a change that every shard has applied.
    pub(crate) fn answer_change(&mut self, pending: &PendingChange) {
        if let Change::CreateQueue { id, entry } = &pending.change {
            self.note_exclusive(pending.conn, id, &entry.settings);
        }
        if self.conns.live(pending.conn).is_some() {
            let kind = match &pending.change {
                Change::Create { .. } => Kind::CreateTopic,
                Change::Alter { .. } => Kind::AlterTopic,
                Change::Delete { .. } => Kind::DeleteTopic,
                Change::CreateQueue { .. } => Kind::QueueCreate,
                Change::DeleteQueue { .. } => Kind::QueueDelete,
            };
            let envelope = Envelope::reply(kind, pending.correlation_id);
            self.reply(pending.conn.0, |out| {
                encode(out, envelope, 0, |out| match &pending.change {
                    Change::Create { id, .. } => {
                        out.extend_from_slice(CreateReply { topic_id: *id }.as_bytes());
                    }
                    Change::Alter { settings, .. } => out.extend_from_slice(settings.as_bytes()),
                    Change::Delete { .. } | Change::DeleteQueue { .. } => {}
                    Change::CreateQueue { id, entry } => {
                        wire::queue::encode_create_reply(out, id, &entry.name);
                    }
                });
            });
        }
        self.request_ended(pending.conn, pending.frame_bytes);
    }

    fn add_topic(&mut self, id: TopicId, name: String, settings: Settings) {
        let (here, shards) = (self.store.settings.shard, self.store.settings.shards);
        let partitions = (0..settings.partitions.get())
            .map(|number| match placement::owner(&id, number, shards) {
                owner if owner == here => {
                    let partition = new_partition(&self.store, id, number, &settings, 0);
                    Owner::Here(self.store.add_partition(partition))
                }
                owner => Owner::There(owner),
            })
            .collect();
        self.catalog.topics.insert(id, Topic { name, settings, partitions });
    }

    fn drop_topic(&mut self, id: &TopicId) {
        let Some(topic) = self.catalog.topics.remove(id) else { return };
        self.catalog.names.remove(&topic.name);
        self.catalog.partitions -= topic.partitions.len();
        for owner in topic.partitions {
            let Owner::Here(id) = owner else { continue };
            self.fail_waiters(id, 0, ErrorCode::UnknownTopic);
            self.wake_fetches(id);
            self.store.delete_partition(&mut self.pool, id);
            self.deleted.push(id);
        }
    }
}

/// A partition of a topic, empty, beginning at `offset`.
pub fn new_partition(
    store: &Store,
    id: TopicId,
    number: u32,
    settings: &Settings,
    offset: u64,
) -> Partition {
    let mut partition = Partition::new(id, number, EntryKind::RecordBatch, offset);
    partition.take_settings(settings, store.settings.segment_bytes);
    partition
}

pub(super) const UNKNOWN_TOPIC: Refusal =
    Refusal::new(ErrorCode::UnknownTopic, "no topic has this name");

/// Shortest segment that a topic may ask for.
const SEGMENT_BYTES_MIN: u32 = 128 * 1024;

pub(super) fn invalid_settings(settings: &Settings) -> Option<&'static str> {
    if !(1..=limits::TOPIC_PARTITIONS_MAX).contains(&settings.partitions.get()) {
        return Some("a topic has 1 to 10,000 partitions");
    }
    if Visibility::from_u8(settings.visibility).is_none() {
        return Some("visibility is durable, written or memory");
    }
    if settings.reserved != [0; 3] {
        return Some("reserved bytes of the topic's settings are not zero");
    }
    let segment_bytes = settings.segment_bytes.get();
    if segment_bytes != 0 && segment_bytes < SEGMENT_BYTES_MIN {
        return Some("a segment is at least 128 KiB long");
    }
    None
}
