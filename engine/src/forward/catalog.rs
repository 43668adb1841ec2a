//! Changes of the catalog: one shard writes them, all know them before they are answered.

use wire::frame::{Envelope, FLAG_REPLY, encode};

use super::{Call, KIND_APPLY};
use crate::catalog::{Change, PendingChange};
use crate::pool::Bytes;
use crate::port::ConnId;
use crate::shard::Shard;

/// A durable change that the other shards are told of.
#[derive(Debug)]
pub struct Announcement {
    /// The change, and who asked for it.
    pub pending: PendingChange,
    /// Shards that have not applied it.
    waiting: usize,
}

impl Shard {
    /// Tells the other shards of a change that is durable and applied here. It is answered when
    /// all have applied it: whoever asked may go to any of them at once.
    pub(crate) fn announce(&mut self, pending: PendingChange) {
        let record = pending.change.encode();
        let waiting = self.other_shards().count();
        let slot = self.forward.announcements.insert(Announcement { pending, waiting });
        for shard in self.other_shards() {
            self.call(shard, KIND_APPLY, 0, Call::Apply(slot), &[], |out| {
                out.extend_from_slice(&record);
            });
        }
    }

    /// A change that another shard has made durable.
    pub(super) fn apply_announced(&mut self, link: ConnId, correlation_id: u64, body: Bytes) {
        let (change, rest) =
            Change::decode(self.pool.view(body)).expect("shards speak the protocol");
        assert!(rest.is_empty(), "one change at a time");
        if let Change::Create { id, name, settings } = &change {
            self.catalog.names.insert(name.clone(), *id);
            self.catalog.partitions += crate::units::usize_of(settings.partitions.get());
        }
        if let Change::CreateQueue { id, entry } = &change {
            self.catalog.queue_names.insert(entry.name.clone(), *id);
        }
        self.apply_change(change);
        let flags = FLAG_REPLY;
        let envelope = Envelope { flags, kind: KIND_APPLY, kind_version: 1, correlation_id };
        self.reply(link, |out| encode(out, envelope, 0, |_| {}));
    }

    /// Another shard has applied a change.
    pub(super) fn change_applied(&mut self, slot: u32) {
        let announcement = self.forward.announcements.get_mut(slot).expect("it waits");
        announcement.waiting -= 1;
        if announcement.waiting == 0 {
            let Announcement { pending, .. } =
                self.forward.announcements.remove(slot).expect("just seen");
            self.answer_change(&pending);
        }
    }
}
