//! How a simulated disk gets through the death of its user: the power goes, or the process.

use engine::port::{Fill, Sync};

use super::disk::{Mutation, SimDisk};
use super::file::{SECTOR_BYTES, SimFile, Survival};

impl SimDisk {
    /// Cuts the power, if it is not gone already, and turns it on again: everything that was in
    /// flight has happened, or not, or in part, and all that was not synced is at risk. The
    /// plan's power loss is used up.
    pub fn power_on(&mut self) {
        self.is_off = false;
        self.plan.power_loss_at = None;
        for mutation in std::mem::take(&mut self.in_flight).into_values() {
            self.interrupt(mutation);
        }
        let survival = match self.rng.below(5) {
            0 => Survival::Nothing,
            1 => Survival::Everything,
            2 => Survival::UpTo(self.effects.saturating_sub(self.rng.below(16))),
            _ => Survival::Mixed,
        };
        self.forget_nameless();
        for file in self.files.values_mut() {
            file.power_loss(survival, &mut self.rng);
        }
    }

    /// The process is killed, if it is not dead already, and another one starts. The device has
    /// had power all the time: what was done is there, as durable as it was before; what was in
    /// flight has happened, or not, or in part. The plan's power loss is used up.
    pub fn restart(&mut self) {
        self.is_off = false;
        self.plan.power_loss_at = None;
        for mutation in std::mem::take(&mut self.in_flight).into_values() {
            self.outlive(mutation);
        }
        self.forget_nameless();
        self.files.values_mut().for_each(SimFile::opened_anew);
    }

    /// As [`SimDisk::power_on`] does it in the worst case for what is not durable: all of it is
    /// lost.
    pub fn forget_unsynced(&mut self) {
        self.is_off = false;
        self.plan.power_loss_at = None;
        self.in_flight.clear();
        self.forget_nameless();
        for file in self.files.values_mut() {
            file.power_loss(Survival::Nothing, &mut self.rng);
        }
    }

    fn forget_nameless(&mut self) {
        let names = &self.names;
        self.files.retain(|inode, _| names.values().any(|named| named == inode));
        self.settled.clear();
    }

    /// The process was killed while this was on its way.
    fn outlive(&mut self, mutation: Mutation) {
        match (self.rng.below(4), mutation) {
            // It never reached the device.
            (0, _) => {}
            (1, Mutation::Write { inode, position, bytes, .. }) => {
                self.effects += 1;
                let effect = self.effects;
                let keep = self.rng.index(bytes.len() / SECTOR_BYTES + 1) * SECTOR_BYTES;
                self.file(inode).write_cached(effect, position, &bytes[..keep]);
            }
            (2, Mutation::Write { inode, position, bytes, .. }) => {
                let sync = Sync::Written;
                let _ = self.perform(Mutation::Write { inode, position, bytes, sync });
            }
            (_, mutation) => {
                let _ = self.perform(mutation);
            }
        }
    }

    /// The power went while this was on its way. What a write left behind is at risk like any
    /// unsynced bytes; a change of names has happened or not.
    pub(super) fn interrupt(&mut self, mutation: Mutation) {
        self.effects += 1;
        let effect = self.effects;
        match mutation {
            Mutation::Write { inode, position, bytes, .. } => {
                self.file(inode).write_cached(effect, position, &bytes);
            }
            Mutation::Extend { inode, from, to, fill: Fill::Zero } => {
                self.file(inode).write_cached(effect, from, &vec![0; to - from]);
            }
            Mutation::Extend { inode, to, fill: Fill::Reserve, .. } => {
                self.file(inode).extend_cached(effect, to);
            }
            Mutation::Flush { .. } | Mutation::Settle => {}
            Mutation::Open { path, open } => {
                if self.rng.one_in(2) {
                    let _ = self.open(&path, &open);
                }
            }
            Mutation::Delete { paths } => {
                for path in paths {
                    if self.rng.one_in(2) {
                        self.names.remove(&path);
                    }
                }
            }
        }
    }
}
