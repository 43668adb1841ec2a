//! Hello, ping, metadata, stats: requests that are answered at once.

use wire::frame::{Envelope, encode};
use wire::metadata::{self, PartitionOwner};
use wire::{Acks, ErrorCode, Kind, hello, limits, stats};

use super::{Answer, Refusal, Request};
use crate::forward::What;
use crate::log::partition::PartitionId;
use crate::placement;
use crate::shard::Shard;
use crate::units::{u32_of, u64_of};

impl Shard {
    pub(super) fn hello(&mut self, request: Request) -> Result<Answer, Refusal> {
        let hello = hello::Request::decode(self.pool.view(request.body))?;
        if hello.version_min > limits::FRAME_VERSION || hello.version_max < limits::FRAME_VERSION {
            let detail = "only version 1 of the protocol is spoken here";
            return Err(Refusal::new(ErrorCode::UnsupportedVersion, detail));
        }
        let settings = &self.store.settings;
        let head = hello::ReplyHead {
            broker_id: self.store.identity.broker_id,
            boot_epoch: self.store.identity.boot_epoch.into(),
            frame_body_bytes_max: u32_of(limits::FRAME_BODY_BYTES_MAX).into(),
            batch_bytes_max: u32_of(limits::BATCH_BYTES_MAX).into(),
            requests_in_flight_max: settings.requests_in_flight_max.into(),
            credit_bytes: u32_of(settings.credit_bytes).into(),
            version: limits::FRAME_VERSION,
            reserved: 0,
            kind_count: 0.into(),
            features: 0.into(),
        };
        if let Some(conn) = self.conns.get(request.conn.0) {
            conn.is_greeted = true;
        }
        let envelope = Envelope::reply(Kind::Hello, request.correlation_id);
        self.reply(request.conn.0, |out| {
            encode(out, envelope, 0, |out| hello::encode_reply(out, head));
        });
        Ok(Answer::Now)
    }

    pub(super) fn ping(&mut self, request: Request) -> Result<Answer, Refusal> {
        let envelope = Envelope::reply(Kind::Ping, request.correlation_id);
        self.reply(request.conn.0, |out| encode(out, envelope, 0, |_| {}));
        Ok(Answer::Now)
    }

    pub(super) fn metadata(&mut self, request: Request) -> Result<Answer, Refusal> {
        let wanted = metadata::Request::decode(self.pool.view(request.body))?;
        let names: Vec<String> = if wanted.asks_all() {
            self.catalog.topics.values().map(|topic| topic.name.clone()).collect()
        } else {
            wanted.names().map(str::to_owned).collect()
        };
        let (shards, epoch) = (self.store.settings.shards, self.store.identity.boot_epoch);
        let endpoints = self.endpoints.clone();
        let catalog = std::mem::take(&mut self.catalog);
        let envelope = Envelope::reply(Kind::Metadata, request.correlation_id);
        self.reply(request.conn.0, |out| {
            encode(out, envelope, 0, |out| {
                let endpoints = (0..).zip(&endpoints);
                let endpoints: Vec<_> = endpoints
                    .map(|(shard, (host, port))| metadata::Endpoint { shard, port: *port, host })
                    .collect();
                metadata::encode_endpoints(out, &endpoints);
                metadata::encode_topic_count(out, names.len());
                for name in &names {
                    let id = catalog.names.get(name.as_str());
                    let known = id.and_then(|id| Some((id, catalog.topics.get(id)?)));
                    let (error, id, count) = match known {
                        Some((id, topic)) => (ErrorCode::None, *id, topic.partitions.len()),
                        None => (ErrorCode::UnknownTopic, [0; 16], 0),
                    };
                    let owners = (0..count).map(|number| PartitionOwner {
                        shard: placement::owner(&id, u32_of(number), shards).into(),
                        reserved: 0.into(),
                        leader_epoch: epoch.into(),
                    });
                    metadata::encode_topic(out, name, error.number(), &id, owners);
                }
            });
        });
        self.catalog = catalog;
        Ok(Answer::Now)
    }

    /// The level at which consumers of a partition see records.
    pub(crate) fn visibility(&self, id: PartitionId) -> Acks {
        let topic = self.store.partition(id).topic;
        match self.catalog.topics.get(&topic).map(|topic| topic.settings.visibility) {
            Some(1) => Acks::Written,
            Some(2) => Acks::Memory,
            _ => Acks::Durable,
        }
    }

    pub(super) fn stats(&mut self, request: Request) -> Result<Answer, Refusal> {
        let mut counters = self.store.counters;
        counters.connections_open = u64_of(self.conns.len());
        counters.pool_free_bytes = u64_of(self.pool.free_bytes());
        counters.pool_bytes = u64_of(self.store.settings.pool_bytes);
        counters.unstored_bytes = u64_of(self.store.unstored_bytes);
        counters.topics = u64_of(self.catalog.topics.len());
        counters.partitions = u64_of(self.catalog.partitions);
        counters.boot_epoch = u64::from(self.store.identity.boot_epoch);
        let rows = counters.rows();
        if self.store.settings.shards > 1 && !self.is_asked_by_shard(&request) {
            self.gather_from_all(request, Kind::Stats, What::Counters(rows));
            return Ok(Answer::Later);
        }
        let envelope = Envelope::reply(Kind::Stats, request.correlation_id);
        self.reply(request.conn.0, |out| {
            encode(out, envelope, 0, |out| stats::encode_reply(out, rows.into_iter()));
        });
        Ok(Answer::Now)
    }
}
