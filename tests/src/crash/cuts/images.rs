//! What a power cut leaves of a recorded disk.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use broker::io::sim::Rng;
use tempfile::TempDir;

use super::recorder::Event;

/// What a device writes whole, or not at all.
const SECTOR_BYTES: usize = 512;
/// Images are written in chunks of this size, those that were never written to left out.
const CHUNK_BYTES: usize = 64 * 1024;
/// Images are in memory, where there is a file system for that.
const MEMORY: &str = "/dev/shm";

/// One image: what became of the writes that no flush covers.
#[derive(Debug, Default)]
pub struct Cut {
    /// Writes behind it that are there.
    pub kept: u64,
    /// Those that are not.
    pub lost: u64,
    /// Those of which some sectors are.
    pub torn: u64,
}

/// Images of one record, each later than the one before.
#[derive(Debug)]
pub struct Images<'a> {
    events: &'a [Event],
    /// The disk with all events in front of `flushed`.
    base: Vec<u8>,
    flushed: usize,
    /// Chunks that any event writes to.
    touched: BTreeSet<usize>,
    /// Holds the file.
    folder: TempDir,
}

impl<'a> Images<'a> {
    /// Of a disk of so many bytes.
    ///
    /// # Panics
    /// If there is no folder for an image.
    pub fn new(events: &'a [Event], bytes: usize) -> Images<'a> {
        let chunks = |event: &Event| match event {
            Event::Write(at, data) => at / CHUNK_BYTES..(at + data.len()).div_ceil(CHUNK_BYTES),
            Event::Flush => 0..0,
        };
        let folder = if Path::new(MEMORY).is_dir() {
            tempfile::tempdir_in(MEMORY)
        } else {
            tempfile::tempdir()
        };
        Images {
            touched: events.iter().flat_map(chunks).collect(),
            events,
            base: vec![0; bytes],
            flushed: 0,
            folder: folder.expect("a folder"),
        }
    }

    /// Builds an image of the power going in front of this event.
    ///
    /// # Panics
    /// If events before that were asked for already, or the image cannot be written.
    pub fn cut(&mut self, moment: usize, rng: &mut Rng) -> Cut {
        let is_flush = |event: &Event| *event == Event::Flush;
        let last = self.events[..moment].iter().rposition(is_flush).unwrap_or(0);
        assert!(last >= self.flushed, "moments come in their order");
        for event in &self.events[self.flushed..last] {
            apply(&mut self.base, event, |_| true);
        }
        self.flushed = last;
        let mut cut = Cut::default();
        let mut disk = self.base.clone();
        // All lost, all there, or each as it comes.
        let fate = rng.index(6);
        for event in &self.events[last..moment] {
            if is_flush(event) {
                continue;
            }
            match if fate < 2 { fate } else { rng.index(5) } {
                0 | 2 => cut.lost += 1,
                1 | 3 => {
                    apply(&mut disk, event, |_| true);
                    cut.kept += 1;
                }
                _ => {
                    apply(&mut disk, event, |_| rng.one_in(2));
                    cut.torn += 1;
                }
            }
        }
        self.write(&disk);
        cut
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn write(&self, disk: &[u8]) {
        let file = File::create(self.path()).expect("an image");
        file.set_len(u64::try_from(disk.len()).expect("usize fits u64")).expect("a sparse file");
        for chunk in &self.touched {
            let at = chunk * CHUNK_BYTES;
            let end = disk.len().min(at + CHUNK_BYTES);
            let place = u64::try_from(at).expect("usize fits u64");
            file.write_all_at(&disk[at..end], place).expect("there is room for an image");
        }
    }

    /// Judges the image that was built last, which is kept if that fails.
    ///
    /// # Panics
    /// If the judgement does.
    pub fn kept_if_bad<T>(&self, told: &str, judge: impl FnOnce(&Path) -> T) -> T {
        // The judgement changes it, as mounting does.
        let original = self.folder.path().join("original");
        std::fs::copy(self.path(), &original).expect("there is room for a copy");
        match catch_unwind(AssertUnwindSafe(|| judge(&self.path()))) {
            Ok(result) => result,
            Err(panic) => {
                let kept = std::env::temp_dir().join("pelton-power-cut.image");
                let copied = std::fs::copy(&original, &kept);
                eprintln!("{told}: the image is kept as {} ({copied:?} bytes)", kept.display());
                resume_unwind(panic)
            }
        }
    }
}

/// Does an event to a disk, as far as each sector is kept.
fn apply(disk: &mut [u8], event: &Event, mut is_kept: impl FnMut(usize) -> bool) {
    let Event::Write(at, data) = event else { return };
    for (index, sector) in data.chunks(SECTOR_BYTES).enumerate() {
        if is_kept(index) {
            let at = at + index * SECTOR_BYTES;
            disk[at..at + sector.len()].copy_from_slice(sector);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_covers_what_is_in_front_of_it_and_nothing_else() {
        let write = |at: usize, byte| Event::Write(at * SECTOR_BYTES, vec![byte; SECTOR_BYTES]);
        let events = [write(0, 1), Event::Flush, write(1, 2), write(2, 3), Event::Flush];
        let mut rng = Rng::new(7);
        let mut seen = BTreeSet::new();
        for _ in 0..200 {
            let mut images = Images::new(&events, CHUNK_BYTES);
            images.cut(4, &mut rng);
            let disk = std::fs::read(images.path()).expect("it was written");
            assert_eq!(disk.len(), CHUNK_BYTES);
            seen.insert([disk[0], disk[SECTOR_BYTES], disk[2 * SECTOR_BYTES]]);
            images.cut(5, &mut rng);
            let disk = std::fs::read(images.path()).expect("it was written");
            seen.insert([disk[0], disk[SECTOR_BYTES], disk[2 * SECTOR_BYTES]]);
        }
        let all = [[1, 0, 0], [1, 0, 3], [1, 2, 0], [1, 2, 3]];
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), all);
    }
}
