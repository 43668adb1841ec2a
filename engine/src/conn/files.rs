//! Parts of replies that are sent out of files, between those that are sent from memory.

use crate::log::send_file::FilePart;
use crate::port::{ConnId, Fault, FileRange, Op, OpBatch, SEND_RANGES_MAX, Time};
use crate::shard::Shard;
use crate::units::{u32_of, u64_of, usize_of};

/// The peer has closed its end: what it asked for is of no more use.
const EPIPE: Fault = Fault(32);

impl Shard {
    /// Queues parts of files that belong to the reply that was queued last, of which `held`
    /// bytes of memory had been queued before.
    pub(crate) fn reply_files(
        &mut self,
        id: ConnId,
        before: usize,
        files: &[FilePart],
        parts: usize,
    ) {
        let conn = self.conns.get(id).filter(|conn| !conn.is_closing);
        let Some(conn) = conn else {
            return files.iter().for_each(|part| self.store.file_part_ended(part));
        };
        // What is counted on the first part: all in front of it but what stands before others.
        let placed: usize = conn.files.iter().map(|part| part.after).sum();
        let head = conn.reply_bytes - before - parts;
        for (index, &part) in files.iter().enumerate() {
            let in_front = if index == 0 { before - placed + head } else { 0 };
            conn.file_bytes += part.len;
            conn.files.push_back(FilePart { after: part.after + in_front, ..part });
        }
    }

    /// Emits the send of the parts of a file that come next; they stand in front.
    pub(super) fn send_files(&mut self, id: ConnId, now: Time, batch: &mut OpBatch) {
        let Some(conn) = self.conns.get(id) else { return };
        let Some(front) = conn.files.front() else { return };
        let file = front.place.file;
        let first = batch.ranges.len();
        let follows = |(index, part): &(usize, &FilePart)| {
            part.place.file == file && (*index == 0 || part.after == 0)
        };
        let parts = conn.files.iter().enumerate().take_while(follows).take(SEND_RANGES_MAX);
        batch.ranges.extend(
            parts.map(|(_, part)| FileRange {
                position: part.place.position,
                len: u32_of(part.len),
            }),
        );
        let count = u32_of(batch.ranges.len() - first);
        conn.is_sending = true;
        conn.sends_file = true;
        conn.progress = now;
        batch.ops.push(Op::SendFile { conn: id, file, first: u32_of(first), count });
    }

    /// A send out of a file ended.
    pub(super) fn sent_file(&mut self, id: ConnId, now: Time, result: Result<u32, Fault>) {
        let Some(conn) = self.conns.get(id) else { return };
        let mut left = match result {
            Ok(bytes) => usize_of(bytes),
            Err(fault) => {
                let is_peers = [Fault::ECONNRESET, Fault::ECANCELED, EPIPE].contains(&fault);
                if let Some(part) = conn.files.front().copied().filter(|_| !is_peers) {
                    self.store.file_part_failed(&part, fault);
                }
                return self.close(id, "");
            }
        };
        conn.progress = now;
        conn.file_bytes -= left;
        self.store.counters.fetch_file_bytes += u64_of(left);
        while let Some(part) = conn.files.front_mut() {
            let sent = left.min(part.len);
            part.place.position += u64_of(sent);
            part.len -= sent;
            left -= sent;
            if part.len > 0 {
                break;
            }
            let part = conn.files.pop_front().expect("just seen");
            self.store.file_part_ended(&part);
        }
        self.has_sent(id);
    }

    /// Gives up the parts of files that are queued.
    pub(super) fn release_files(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        conn.file_bytes = 0;
        for part in conn.files.drain(..) {
            self.store.file_part_ended(&part);
        }
    }
}
