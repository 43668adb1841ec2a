//! Create, delete, describe and list queues.

use wire::frame::FLAG_ERROR;
use wire::queue::{
    CreateReply, CreateRequest, DELETE_IF_EMPTY, DELETE_IF_UNUSED, DeleteRequest, DescribeReply,
    LIST_NAMES_MAX, ListRequest, Overflow, QUEUE_AUTO_DELETE, QUEUE_DEAD_LETTER_TOPIC,
    QUEUE_EXCLUSIVE, QUEUE_FLAGS_ALL, QueueCounts, QueueId, Settings, encode_create_reply,
    encode_describe_reply, encode_list_row,
};
use wire::{ErrorCode, FrameHeader, Kind, topic};

use super::{Answer, Refusal, Request};
use crate::catalog::{Change, PendingChange, QueueEntry};
use crate::forward::{Call, KIND_DROP_QUEUE};
use crate::placement::{CATALOG_SHARD, store_of, store_owner};
use crate::pool::Bytes;
use crate::port::{ConnId, Time};
use crate::queue::queues::{Ask, Queue, QueueStore};
use crate::shard::Shard;
use crate::units::u32_of;

/// Who has a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    /// This shard, in this slot.
    Here(u32),
    /// The shard with this number.
    There(u16),
}

/// A request that nobody made.
pub(super) const NOBODY: (ConnId, u64) = (ConnId(u32::MAX), 0);

impl Shard {
    pub(super) fn create_queue(&mut self, now: Time, request: Request) -> Result<Answer, Refusal> {
        let create = CreateRequest::decode(self.pool.view(request.body))?;
        let (name, dead_letter) = (create.name.to_owned(), create.dead_letter.to_owned());
        let mut settings = *create.settings;
        settings.dead_letter = [0; 16];
        let mut store = None;
        let to_topic = settings.has(QUEUE_DEAD_LETTER_TOPIC);
        if to_topic {
            settings.dead_letter = self.dead_letter_topic(&settings, &dead_letter)?;
        } else if !dead_letter.is_empty() {
            let found = self.queue_named(&dead_letter).map_err(|_| NO_DEAD_LETTER_QUEUE)?;
            settings.dead_letter = found;
            // Together, so that a dead letter and its removal are one record.
            store = self.catalog.queues.get(&found).map(|entry| entry.store);
        }
        if let Some(detail) = invalid_settings(&settings) {
            return Err(Refusal::new(ErrorCode::InvalidRequest, detail));
        }
        if let Some(&id) = self.catalog.queue_names.get(&name) {
            return self.find_queue_again(&request, &id, &settings);
        }
        let id = self.new_topic_id();
        let name = match name.as_str() {
            "" => format!("queue-{:032x}", u128::from_be_bytes(id)),
            _ => name,
        };
        if let Some(detail) = topic::invalid_name(&name) {
            return Err(Refusal::new(ErrorCode::InvalidTopicName, detail));
        }
        if self.catalog.queue_names.len() >= self.store.settings.queues_max {
            let detail = "the broker has as many queues as its limit allows";
            return Err(Refusal::new(ErrorCode::LimitReached, detail));
        }
        let store = store.unwrap_or_else(|| store_of(&id, self.store.settings.shards));
        let entry = QueueEntry { name: name.clone(), settings, store };
        self.append_change(now, request, Change::CreateQueue { id, entry })?;
        self.catalog.queue_names.insert(name, id);
        Ok(Answer::Later)
    }

    /// The topic that dead letters are to go to.
    fn dead_letter_topic(&self, settings: &Settings, name: &str) -> Result<QueueId, Refusal> {
        let id = self.topic_id(name)?;
        let topic = self.catalog.topics.get(&id).ok_or(NO_DEAD_LETTER_TOPIC)?;
        let partition = crate::units::usize_of(settings.dead_letter_partition.get());
        match partition < topic.partitions.len() {
            true => Ok(id),
            false => Err(NO_DEAD_LETTER_TOPIC),
        }
    }

    /// A queue of this name is there already: it must be the same.
    fn find_queue_again(
        &mut self,
        request: &Request,
        id: &QueueId,
        settings: &Settings,
    ) -> Result<Answer, Refusal> {
        let Some(entry) = self.catalog.queues.get(id) else {
            let detail = "the queue is being created or deleted";
            return Err(Refusal::new(ErrorCode::Overloaded, detail));
        };
        if entry.settings != *settings {
            let detail = "a queue of this name exists with other settings: describe tells which";
            return Err(Refusal::new(ErrorCode::QueueMismatch, detail));
        }
        let mut body = Vec::new();
        encode_create_reply(&mut body, id, &entry.name);
        self.answer_queue(request, Kind::QueueCreate, &body);
        Ok(Answer::Later)
    }

    pub(super) fn delete_queue(&mut self, now: Time, request: Request) -> Result<Answer, Refusal> {
        let delete = DeleteRequest::decode(self.pool.view(request.body))?;
        let conditions = delete.conditions;
        if conditions & !(DELETE_IF_EMPTY | DELETE_IF_UNUSED) != 0 {
            let detail = "delete has a condition that this broker does not know";
            return Err(Refusal::new(ErrorCode::InvalidRequest, detail));
        }
        let id = self.queue_named(delete.name)?;
        self.check_lock(&request, &id)?;
        let slot = match self.home(&id)? {
            Home::Here(slot) => slot,
            Home::There(shard) => return Ok(self.hand_on(shard, Kind::QueueDelete, request)),
        };
        let is_target =
            self.catalog.queues.values().any(|entry| entry.settings.dead_letter() == Some(id));
        let queue = self.queues.queue(slot);
        if is_target || conditions & DELETE_IF_UNUSED != 0 && queue.is_consumed() {
            let detail = match is_target {
                true => "another queue's dead letters go there: delete that one first",
                false => "the queue has consumers",
            };
            return Err(Refusal::new(ErrorCode::QueueInUse, detail));
        }
        if conditions & DELETE_IF_EMPTY != 0 && queue.state.messages() > 0 {
            return Err(Refusal::new(ErrorCode::QueueNotEmpty, "the queue has messages"));
        }
        if std::mem::replace(&mut queue.is_doomed, true) {
            return Err(UNKNOWN_QUEUE);
        }
        if self.catalog_stream.is_some() {
            let appended = self.append_change(now, request, Change::DeleteQueue { id });
            self.queues.queue(slot).is_doomed = appended.is_ok();
            appended?;
        } else {
            let call = Call::Relay(request);
            self.call(CATALOG_SHARD, KIND_DROP_QUEUE, 0, call, &[], |out| {
                out.extend_from_slice(&id);
            });
        }
        Ok(Answer::Later)
    }

    /// Another shard asks for one of its queues to be deleted.
    pub(crate) fn drop_queue_asked(
        &mut self,
        now: Time,
        link: ConnId,
        correlation_id: u64,
        body: Bytes,
    ) {
        let id = QueueId::try_from(self.pool.view(body)).expect("shards speak the protocol");
        let serial = self.conns.peek(link).map_or(0, |conn| conn.serial);
        let request = Request { conn: (link, serial), correlation_id, body, frame_bytes: 0 };
        if let Err(Refusal { code, detail }) =
            self.append_change(now, request, Change::DeleteQueue { id })
        {
            self.reply_error(link, Kind::QueueDelete.number(), correlation_id, code, detail);
        }
    }

    /// A queue has served its purpose: it is deleted.
    pub(crate) fn doom_queue(&mut self, now: Time, id: &QueueId) {
        let Ok(Home::Here(slot)) = self.home(id) else { return };
        if std::mem::replace(&mut self.queues.queue(slot).is_doomed, true) {
            return;
        }
        if self.catalog_stream.is_none() {
            self.call(CATALOG_SHARD, KIND_DROP_QUEUE, 0, Call::Nothing, &[], |out| {
                out.extend_from_slice(id);
            });
            return;
        }
        let body = Bytes { source: crate::pool::Source::Recv(0), at: 0, len: 0 };
        let request = Request { conn: NOBODY, correlation_id: 0, body, frame_bytes: 0 };
        if self.append_change(now, request, Change::DeleteQueue { id: *id }).is_err() {
            self.queues.queue(slot).is_doomed = false;
            if self.store.failed.is_none() {
                self.queues.again.push(slot);
            }
        }
    }

    pub(super) fn describe_queue(&mut self, request: Request) -> Result<Answer, Refusal> {
        let name = topic::NameRequest::decode(self.pool.view(request.body))?.name;
        let id = self.queue_named(name)?;
        let slot = match self.home(&id)? {
            Home::Here(slot) => slot,
            Home::There(shard) => return Ok(self.hand_on(shard, Kind::QueueDescribe, request)),
        };
        let queue = self.queues.slots.get(slot).expect("just found");
        let state = &queue.state;
        let counts = QueueCounts {
            ready: state.ready().into(),
            leased: state.leased().into(),
            dying: state.dying().into(),
            bytes: state.bytes().into(),
            next_sequence: state.next().into(),
            consumers: u32_of(state.consumers.len()).into(),
            pulls: u32_of(queue.pullers.len()).into(),
            accepted: state.tally.accepted.into(),
            redelivered: state.tally.redelivered.into(),
            dead_lettered: state.tally.dead_lettered.into(),
            dropped: state.tally.dropped.into(),
            unreadable: state.unreadable().into(),
        };
        let entry = &self.catalog.queues[&id];
        let target = entry.settings.dead_letter();
        let topic = target.filter(|_| entry.settings.has(QUEUE_DEAD_LETTER_TOPIC));
        let topic = topic.and_then(|topic| self.catalog.topics.get(&topic));
        let target = target.and_then(|target| self.catalog.queues.get(&target));
        let target = target.map(|target| target.name.as_str());
        let target = target.or(topic.map(|topic| topic.name.as_str()));
        let reply = DescribeReply {
            queue: id,
            shard: self.store.settings.shard,
            settings: &entry.settings,
            counts: &counts,
            name: &entry.name,
            dead_letter: target.unwrap_or_default(),
        };
        let mut body = Vec::new();
        encode_describe_reply(&mut body, &reply);
        self.answer_queue(&request, Kind::QueueDescribe, &body);
        Ok(Answer::Later)
    }

    pub(super) fn list_queues(&mut self, request: Request) -> Result<Answer, Refusal> {
        let after = ListRequest::decode(self.pool.view(request.body))?.after.to_owned();
        let mut body = Vec::new();
        let behind = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        let entries = self.catalog.queue_names.range::<String, _>(behind);
        let entries = entries.filter_map(|(_, id)| self.catalog.queues.get(id));
        for entry in entries.take(LIST_NAMES_MAX) {
            let shard = store_owner(entry.store, self.store.settings.shards);
            encode_list_row(&mut body, shard, &entry.name);
        }
        self.answer_queue(&request, Kind::QueueList, &body);
        Ok(Answer::Later)
    }

    /// The id of the queue with this name.
    pub(crate) fn queue_named(&self, name: &str) -> Result<QueueId, Refusal> {
        let id = self.catalog.queue_names.get(name).copied();
        id.filter(|id| self.catalog.queues.contains_key(id)).ok_or(UNKNOWN_QUEUE)
    }

    /// Who has the queue.
    pub(crate) fn home(&self, id: &QueueId) -> Result<Home, Refusal> {
        if let Some(slot) = self.queues.slot(id) {
            return Ok(Home::Here(slot));
        }
        let entry = self.catalog.queues.get(id).ok_or(UNKNOWN_QUEUE)?;
        match store_owner(entry.store, self.store.settings.shards) {
            shard if shard == self.store.settings.shard => Err(UNKNOWN_QUEUE),
            shard => Ok(Home::There(shard)),
        }
    }

    /// Another shard answers the request.
    pub(crate) fn hand_on(&mut self, shard: u16, kind: Kind, request: Request) -> Answer {
        let call = match kind {
            Kind::QueuePull => Call::Pull(request),
            _ => Call::Relay(request),
        };
        self.relay_as(shard, kind.number(), request, call);
        Answer::Later
    }

    /// An exclusive queue answers its own connection only, wherever that is connected.
    pub(crate) fn check_lock(&mut self, request: &Request, id: &QueueId) -> Result<(), Refusal> {
        let is_exclusive = |entry: &QueueEntry| entry.settings.has(QUEUE_EXCLUSIVE);
        if !self.catalog.queues.get(id).is_some_and(is_exclusive) || self.is_asked_by_shard(request)
        {
            return Ok(());
        }
        let own = self.queues.exclusive.get(&request.conn);
        if own.is_some_and(|own| own.contains(id)) {
            return Ok(());
        }
        let detail = "the queue is exclusive to the connection that created it";
        Err(Refusal::new(ErrorCode::QueueLocked, detail))
    }

    /// Before a create is answered, wherever that is done: the queue may be somebody's own.
    pub(super) fn check_create_lock(&mut self, request: &Request) -> Result<(), Refusal> {
        let create = CreateRequest::decode(self.pool.view(request.body))?;
        match self.catalog.queue_names.get(create.name).copied() {
            Some(id) => self.check_lock(request, &id),
            None => Ok(()),
        }
    }

    /// A connection has created a queue: if it is exclusive it goes with the connection, at once
    /// if that has gone meanwhile.
    pub(crate) fn note_exclusive(
        &mut self,
        conn: (ConnId, u64),
        id: &QueueId,
        settings: &Settings,
    ) {
        let is_link = self.conns.peek(conn.0).is_some_and(|conn| conn.link.is_some());
        if settings.has(QUEUE_EXCLUSIVE) && !is_link {
            match self.conns.live(conn).is_some() {
                true => self.queues.exclusive.entry(conn).or_default().push(*id),
                false => self.drop_exclusive(id),
            }
        }
    }

    /// Another shard has answered a request of a connection here.
    pub(crate) fn note_relayed(&mut self, request: &Request, header: &FrameHeader, body: Bytes) {
        let is_create = header.kind.get() == Kind::QueueCreate.number();
        if !is_create || header.flags & FLAG_ERROR != 0 {
            return;
        }
        let created = CreateReply::decode(self.pool.view(body)).map(|reply| reply.queue);
        let Ok(id) = created else { return };
        if let Some(settings) = self.catalog.queues.get(&id).map(|entry| entry.settings) {
            self.note_exclusive(request.conn, &id, &settings);
        }
    }

    /// Makes a new queue take effect on this shard.
    pub(crate) fn add_queue(&mut self, id: QueueId, entry: QueueEntry) {
        let (store, settings) = (entry.store, entry.settings);
        self.catalog.queues.insert(id, entry);
        if store_owner(store, self.store.settings.shards) != self.store.settings.shard {
            return;
        }
        if !self.queues.stores.contains_key(&store) {
            let stream = self.store.new_queue_stream(store);
            let stream = self.store.add_partition(stream);
            self.queues.stores.insert(store, QueueStore::new(stream));
            self.queues.streams.insert(stream, store);
        }
        let mut queue = Queue::new(id, settings, store, self.queues.now);
        queue.state.begin_leases(self.store.identity.boot_epoch);
        let slot = self.queues.insert(queue);
        self.queues.touch(slot);
    }

    /// A queue is gone: whoever waits for it is told so.
    pub(crate) fn drop_queue(&mut self, id: &QueueId) {
        let Some(entry) = self.catalog.queues.remove(id) else { return };
        self.catalog.queue_names.remove(&entry.name);
        let Some((_, queue)) = self.queues.remove(id) else { return };
        let (code, detail) = (ErrorCode::UnknownQueue, "the queue was deleted");
        for consumer in queue.state.consumers.iter() {
            self.forget_consumer(consumer.conn, id, consumer.id);
            if self.conns.live(consumer.conn).is_some() {
                let kind = Kind::QueueCancel.number();
                self.reply_error(consumer.conn.0, kind, consumer.correlation_id, code, detail);
            }
        }
        for puller in &queue.pullers {
            if self.conns.live(puller.conn).is_some() {
                let kind = Kind::QueuePull.number();
                self.reply_error(puller.conn.0, kind, puller.correlation_id, code, detail);
            }
            self.request_ended(puller.conn, puller.frame_bytes);
        }
        for ask in queue.asks {
            let (request, kind) = match ask {
                Ask::Peek { request, .. } => (request, Kind::QueuePeek),
                Ask::Redrive { request, .. } => (request, Kind::QueueRedrive),
            };
            self.refuse_queue(&request, kind, code, detail);
        }
    }

    /// A connection is gone, with its consumers, its pulls and its own queues.
    pub(crate) fn drop_queue_conn(&mut self, conn: (ConnId, u64)) {
        for (id, consumer) in self.queues.by_conn.remove(&conn).unwrap_or_default() {
            let Some(slot) = self.queues.slot(&id) else { continue };
            let queue = self.queues.queue(slot);
            queue.state.drop_consumer(consumer, &mut queue.changes);
            self.consumer_has_gone(slot);
        }
        self.leave_consuming(conn);
        self.queues.credits_asked.remove(&conn);
        self.credit_lost(conn);
        for id in self.queues.exclusive.remove(&conn).unwrap_or_default() {
            self.drop_exclusive(&id);
        }
    }

    /// Deletes a queue whose connection has gone.
    fn drop_exclusive(&mut self, id: &QueueId) {
        match self.home(id) {
            Ok(Home::Here(_)) => self.doom_queue(self.queues.now, id),
            Ok(Home::There(_)) => self.drop_elsewhere(id),
            Err(_) => {}
        }
    }

    /// An exclusive queue of another shard has lost its connection here.
    fn drop_elsewhere(&mut self, id: &QueueId) {
        if self.catalog_stream.is_none() {
            self.call(CATALOG_SHARD, KIND_DROP_QUEUE, 0, Call::Nothing, &[], |out| {
                out.extend_from_slice(id);
            });
            return;
        }
        let stream = self.catalog_stream.expect("just seen");
        let change = Change::DeleteQueue { id: *id };
        let record = change.encode();
        let now = self.queues.now;
        if let Ok(base) = self.store.append_catalog(&mut self.pool, now, stream, &record) {
            self.catalog.pending.push_back(PendingChange {
                end: base + 1,
                change,
                conn: NOBODY,
                correlation_id: 0,
                frame_bytes: 0,
            });
        }
    }

    /// A queue that goes with its last consumer may have lost it.
    pub(crate) fn consumer_has_gone(&mut self, slot: u32) {
        let now = self.queues.now;
        let queue = self.queues.queue(slot);
        queue.used = now;
        let id = queue.id;
        let is_last = queue.had_consumer && queue.state.consumers.is_empty();
        let goes = is_last && queue.state.settings.has(QUEUE_AUTO_DELETE);
        self.queues.touch(slot);
        if goes {
            self.doom_queue(now, &id);
        }
    }
}

const UNKNOWN_QUEUE: Refusal =
    Refusal::new(ErrorCode::UnknownQueue, "no queue has this name or id");
const NO_DEAD_LETTER_TOPIC: Refusal =
    Refusal::new(ErrorCode::UnknownPartition, "the topic for dead letters has no such partition");
const NO_DEAD_LETTER_QUEUE: Refusal = Refusal::new(
    ErrorCode::UnknownQueue,
    "the queue for dead letters does not exist: create it first",
);

fn invalid_settings(settings: &Settings) -> Option<&'static str> {
    if settings.flags.get() & !QUEUE_FLAGS_ALL != 0 {
        return Some("a flag of the queue is not known here");
    }
    let Some(overflow) = Overflow::from_u8(settings.overflow) else {
        return Some("overflow is drop-head, reject or reject-dead-letter");
    };
    let to_topic = settings.has(QUEUE_DEAD_LETTER_TOPIC);
    let is_partition_odd = !to_topic && settings.dead_letter_partition.get() != 0;
    if settings.reserved != [0; 3] || is_partition_odd {
        return Some("reserved bytes of the queue's settings are not zero");
    }
    let is_bounded = settings.max_messages.get() > 0 || settings.max_bytes.get() > 0;
    if overflow != Overflow::DropHead && !is_bounded {
        return Some(
            "overflow says what to do beyond max messages or bytes: the queue has neither",
        );
    }
    if overflow == Overflow::RejectDeadLetter && settings.dead_letter().is_none() {
        return Some("overflow reject-dead-letter needs a queue or a topic for dead letters");
    }
    None
}
