//! One simulated file: what reads see, and what a power loss may leave of it.
//!
//! Every 512-byte sector has its stable content and the newer versions that no flush covers yet.
//! A power loss picks one of them, sector by sector: so writes are lost, torn and reordered, but
//! never mixed within a sector.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::rng::Rng;

/// The unit that a power loss does not tear.
pub const SECTOR_BYTES: usize = 512;

type Sector = [u8; SECTOR_BYTES];

/// How a power loss picks among the versions of unsynced sectors.
#[derive(Debug, Clone, Copy)]
pub(super) enum Survival {
    /// Nothing that was not synced.
    Nothing,
    /// Everything.
    Everything,
    /// All writes up to this number, none after.
    UpTo(u64),
    /// Each sector by itself.
    Mixed,
}

#[derive(Debug, Clone)]
struct Version {
    write: u64,
    bytes: Arc<Sector>,
}

/// A file's content. Writes are numbered by the disk, in the order of their effect. Histories
/// fork at every acknowledgement: copies of a disk share the bytes that neither has changed.
#[derive(Debug, Clone, Default)]
pub(super) struct SimFile {
    /// What reads see.
    current: Arc<Vec<u8>>,
    /// What survives whatever happens.
    stable: Arc<Vec<u8>>,
    /// Newer contents of sectors that may survive, oldest first.
    versions: BTreeMap<usize, Vec<Version>>,
    /// Newer contents of sectors that a failed flush left behind: no flush covers them any more.
    refused: BTreeMap<usize, Vec<Version>>,
    /// Lengths that may survive, with the write that made them.
    lengths: Vec<(u64, usize)>,
}

impl SimFile {
    /// A file with this stable content.
    pub(super) fn stable(bytes: Vec<u8>) -> SimFile {
        SimFile::settled(Arc::new(bytes))
    }

    fn settled(bytes: Arc<Vec<u8>>) -> SimFile {
        SimFile { current: Arc::clone(&bytes), stable: bytes, ..SimFile::default() }
    }

    /// What reads see.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.current
    }

    /// What survives whatever happens.
    pub(super) fn stable_bytes(&self) -> &[u8] {
        &self.stable
    }

    /// Writes into cache: a power loss may forget it.
    pub(super) fn write_cached(&mut self, write: u64, position: usize, bytes: &[u8]) {
        put(&mut self.current, position, bytes);
        let end = position + bytes.len();
        if end > self.stable.len() {
            self.lengths.push((write, end));
        }
        for (sector, bytes) in sectors(position, bytes) {
            let version = Version { write, bytes: Arc::new(*bytes) };
            self.versions.entry(sector).or_default().push(version);
        }
    }

    /// Writes to stable storage.
    pub(super) fn write_stable(&mut self, position: usize, bytes: &[u8]) {
        put(&mut self.current, position, bytes);
        put(&mut self.stable, position, bytes);
        for (sector, _) in sectors(position, bytes) {
            self.versions.remove(&sector);
            self.refused.remove(&sector);
        }
    }

    /// Makes the file at least `len` bytes long; the length is cached.
    pub(super) fn extend_cached(&mut self, write: u64, len: usize) {
        if len > self.current.len() {
            Arc::make_mut(&mut self.current).resize(len, 0);
            self.lengths.push((write, len));
        }
    }

    /// Makes everything up to write number `upto` stable.
    pub(super) fn flush(&mut self, upto: u64) {
        self.settle_length(|write| write <= upto);
        self.lengths.retain(|&(write, _)| write > upto);
        if self.versions.is_empty() {
            return;
        }
        let stable = Arc::make_mut(&mut self.stable);
        self.versions.retain(|&sector, versions| {
            let covered = versions.partition_point(|version| version.write <= upto);
            if let Some(version) = versions[..covered].last() {
                put_sector(stable, sector, &version.bytes);
            }
            versions.drain(..covered);
            !versions.is_empty()
        });
    }

    /// A flush failed: the cache forgets that these writes are dirty, so that no later flush
    /// covers them.
    pub(super) fn flush_failed(&mut self, upto: u64) {
        let refused = &mut self.refused;
        self.versions.retain(|&sector, versions| {
            let covered = versions.partition_point(|version| version.write <= upto);
            refused.entry(sector).or_default().extend(versions.drain(..covered));
            !versions.is_empty()
        });
    }

    /// Another process finds the device's cache as it is: a flush may take all of it.
    pub(super) fn opened_anew(&mut self) {
        for (sector, older) in std::mem::take(&mut self.refused) {
            let newer = std::mem::take(self.versions.entry(sector).or_default());
            let all = older.into_iter().chain(newer).collect();
            self.versions.insert(sector, all);
        }
        self.versions.retain(|_, versions| !versions.is_empty());
    }

    /// The power goes: what survives is all there is.
    pub(super) fn power_loss(&mut self, survival: Survival, rng: &mut Rng) {
        match survival {
            Survival::Nothing => {}
            Survival::Everything => self.flush(u64::MAX),
            Survival::UpTo(write) => self.flush(write),
            Survival::Mixed => {
                let cut = match self.lengths.len() {
                    0 => 0,
                    count => self.lengths[rng.index(count)].0 - rng.below(2),
                };
                self.settle_length(|write| write <= cut);
                let stable = &mut self.stable;
                for (&sector, versions) in &self.versions {
                    let pick = rng.index(versions.len() + 1);
                    if let Some(version) = versions.get(pick) {
                        let stable: &mut Vec<u8> = Arc::make_mut(stable);
                        put_sector(stable, sector, &version.bytes);
                    }
                }
            }
        }
        *self = SimFile::settled(std::mem::take(&mut self.stable));
    }

    fn settle_length(&mut self, covers: impl Fn(u64) -> bool) {
        let lengths = self.lengths.iter().filter(|&&(write, _)| covers(write));
        let len = lengths.map(|&(_, len)| len).max().unwrap_or(0);
        if len > self.stable.len() {
            Arc::make_mut(&mut self.stable).resize(len, 0);
        }
    }
}

/// Writes into bytes that others may share, and lengthens them where needed.
fn put(content: &mut Arc<Vec<u8>>, position: usize, bytes: &[u8]) {
    let content = Arc::make_mut(content);
    let end = position + bytes.len();
    if end > content.len() {
        content.resize(end, 0);
    }
    content[position..end].copy_from_slice(bytes);
}

/// The sectors of a write, which is aligned.
fn sectors(position: usize, bytes: &[u8]) -> impl Iterator<Item = (usize, &Sector)> {
    assert!(position.is_multiple_of(SECTOR_BYTES), "writes are aligned");
    let (sectors, rest) = bytes.as_chunks::<SECTOR_BYTES>();
    assert!(rest.is_empty(), "writes are whole sectors");
    (position / SECTOR_BYTES..).zip(sectors)
}

/// A sector beyond the length that survived is lost with it.
fn put_sector(stable: &mut [u8], sector: usize, bytes: &Sector) {
    let position = sector * SECTOR_BYTES;
    if let Some(target) = stable.get_mut(position..position + SECTOR_BYTES) {
        target.copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Sector = [1; SECTOR_BYTES];
    const B: Sector = [2; SECTOR_BYTES];

    #[test]
    fn a_flush_covers_what_was_written_before_it_and_no_more() {
        let mut file = SimFile::stable(vec![0; 1024]);
        file.write_cached(1, 0, &A);
        file.write_cached(2, 512, &B);
        file.write_cached(3, 0, &B);
        file.flush(2);
        file.power_loss(Survival::Nothing, &mut Rng::new(1));
        assert_eq!(file.bytes(), [A, B].concat());
    }

    #[test]
    fn unsynced_lengths_and_bytes_may_be_lost_and_stable_ones_not() {
        let outcomes: std::collections::BTreeSet<Vec<u8>> = (0..64)
            .map(|seed| {
                let mut file = SimFile::stable(vec![0; 512]);
                file.write_stable(0, &A);
                file.write_cached(1, 0, &B);
                file.write_cached(2, 512, &B);
                file.power_loss(Survival::Mixed, &mut Rng::new(seed));
                file.bytes().to_vec()
            })
            .collect();
        let zero = [0; SECTOR_BYTES];
        for expected in [A.to_vec(), B.to_vec(), [A, zero].concat(), [A, B].concat()] {
            assert!(outcomes.contains(&expected), "every outcome comes about");
        }
        assert!(outcomes.iter().all(|bytes| bytes[0] != 0), "what was stable stays");
    }

    #[test]
    fn a_failed_flush_is_never_made_good_by_a_later_one() {
        let mut file = SimFile::stable(vec![0; 512]);
        file.write_cached(1, 0, &A);
        file.flush_failed(1);
        file.flush(1);
        assert_eq!(file.bytes(), A, "reads still see it");
        file.power_loss(Survival::Everything, &mut Rng::new(1));
        assert_eq!(file.bytes(), [0; SECTOR_BYTES]);
    }

    #[test]
    fn what_a_failed_flush_left_in_the_device_another_process_may_flush() {
        let mut file = SimFile::stable(vec![0; 512]);
        file.write_cached(1, 0, &A);
        file.flush_failed(1);
        file.write_cached(2, 0, &B);
        file.opened_anew();
        file.flush(1);
        file.power_loss(Survival::Nothing, &mut Rng::new(1));
        assert_eq!(file.bytes(), A);
    }
}
