//! The end of a life: everything is taken out and accepted, and judged.

use std::collections::BTreeSet;

use wire::queue::{ConsumeRequest, SettleRow, Verb};

use super::{Asked, DRAIN_TURNS_MAX, Dead, QueueLife};
use crate::world::World;

impl QueueLife {
    /// Takes everything out of all queues and accepts it.
    pub(super) fn drain(&mut self, world: &mut World) -> Result<(), Dead> {
        for _ in 0..3 {
            self.join(world);
        }
        self.turns(world, 400)?;
        for which in 0..3 {
            let Some(queue) = self.queues[which] else { return Ok(()) };
            let request = ConsumeRequest {
                queue,
                prefetch: 50.into(),
                priority: 0.into(),
                flags: 0,
                reserved: 0,
            };
            let one = &mut self.clients[which];
            let id = one.session.consume(&request).map_err(|_| Dead)?;
            one.consumers[which] = Some((id, 0));
            one.asked.insert(id, Asked::Other);
        }
        let mut quiet = 0;
        for _ in 0..DRAIN_TURNS_MAX {
            self.turns(world, 10)?;
            let before = self.seen;
            for client in 0..3 {
                self.accept_all(client);
            }
            self.turns(world, 10)?;
            let waits = self.clients.iter().any(|client| !client.asked.is_empty());
            quiet = if before == self.seen && !waits { quiet + 1 } else { 0 };
            if quiet > 100 {
                self.read_topic(world)?;
                return if self.kinds.owns { self.census(world) } else { Ok(()) };
            }
        }
        self.wrong.push("the drain does not end".to_owned());
        Ok(())
    }

    fn accept_all(&mut self, client: usize) {
        while let Some(&(token, which, sequence, lease)) = self.clients[client].held.last() {
            let Some(queue) = self.queues[which] else { return };
            let one = &mut self.clients[client];
            let row = SettleRow {
                first: sequence.into(),
                last: sequence.into(),
                lease: lease.into(),
                verb: Verb::Accept as u8,
                flags: 0,
                reserved: 0.into(),
                delay_ms: 0.into(),
            };
            let consumer = one.pushed(which, lease);
            match one.session.settle(&queue, consumer, &[row]) {
                Ok(id) => {
                    one.held.pop();
                    one.asked.insert(id, Asked::Settle(which, vec![token], Verb::Accept));
                    self.note_buried(which, Verb::Accept, &[token]);
                    let mail = self.mail.get_mut(&token).filter(|_| which == 0);
                    if let Some(mail) = mail {
                        (mail.asked, mail.holder) = (Some(Verb::Accept), None);
                    }
                }
                // The window is full: it stays for the next time.
                Err(_) => return,
            }
        }
    }

    pub(super) fn stop(&mut self, world: &mut World) -> Result<(), Dead> {
        world.stop();
        for _ in 0..20_000 {
            if world.is_stopped() {
                return Ok(());
            }
            self.turns(world, 1)?;
        }
        self.wrong.push("the broker does not stop".to_owned());
        Ok(())
    }

    pub(super) fn count(&mut self, world: &World) {
        let shards = 0..usize::from(self.settings.shards);
        for (name, value) in shards.flat_map(|shard| world.shard(shard).counters().rows()) {
            match name {
                "queue_checkpoints" => self.seen.checkpoints += value,
                "queue_messages_moved" => self.seen.moved += value,
                "queue_disk_reads" => self.seen.disk_reads += value,
                "segments_retired" => self.seen.retired += value,
                _ => {}
            }
        }
    }

    /// After the drain nothing is left anywhere, and nothing was lost.
    pub(super) fn judge(&mut self) {
        let mut last = 0;
        let mut numbers = BTreeSet::new();
        for (token, mail) in &self.mail {
            let is_asked = mail.asked.is_some() || mail.is_bury_asked;
            let is_letter = self.is_letter(*token);
            let is_out = mail.is_settled || is_asked || mail.may_be_purged || is_letter;
            if mail.is_confirmed && !is_out {
                self.wrong.push(format!("{token} was confirmed and is lost: {mail:?}"));
            }
            let was_rejected = mail.is_settled && mail.asked == Some(Verb::Reject);
            // Among those that went back, a purge may have removed it.
            let may_be_purged = self.has_redriven && mail.may_be_purged;
            let is_buried = mail.is_bury_asked || is_letter || may_be_purged;
            if (was_rejected || mail.is_turned_away) && !is_buried {
                self.wrong.push(format!("{token} was rejected and is no dead letter: {mail:?}"));
            }
            // A dead letter that went back is behind those that came later.
            if let Some(sequence) = mail.sequence.filter(|_| !mail.is_reborn) {
                if sequence < last || !numbers.insert(sequence) {
                    self.wrong.push(format!("{token} is out of order: {sequence} after {last}"));
                }
                last = sequence;
            }
        }
        self.judge_topic();
        for (token, copy) in &self.copies {
            if copy.is_confirmed && !copy.is_asked {
                self.wrong.push(format!("copy {token} was confirmed and is lost: {copy:?}"));
            }
        }
    }
}
