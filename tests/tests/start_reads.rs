//! What a start reads: of a sealed segment its first block, of a journal every block once, and
//! again only what segments lack. Counted in bytes, which no load of the machine changes.

use std::collections::BTreeMap;

use broker::io::sim::SimDisk;
use engine::Settings;
use engine::boot::{BootReport, boot};
use engine::frame::BLOCK_BYTES;
use engine::layout::FilePath;
use engine::port::{Disk, Fault, FileEntry, Now};
use pelton_tests::life::Life;
use pelton_tests::model::{Model, Place};

/// A disk that counts what is read of each file.
struct Counted {
    disk: SimDisk,
    read: BTreeMap<FilePath, usize>,
}

impl Disk for Counted {
    fn settle(&mut self) -> Result<(), Fault> {
        self.disk.settle()
    }

    fn list(&mut self) -> Result<Vec<FileEntry>, Fault> {
        Disk::list(&mut self.disk)
    }

    fn read(&mut self, path: &FilePath, position: u64, into: &mut [u8]) -> Result<usize, Fault> {
        let got = self.disk.read(path, position, into)?;
        *self.read.entry(path.clone()).or_default() += got;
        Ok(got)
    }

    fn write(&mut self, path: &FilePath, position: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.disk.write(path, position, bytes)
    }

    fn create(&mut self, path: &FilePath, bytes: u64) -> Result<(), Fault> {
        self.disk.create(path, bytes)
    }

    fn delete(&mut self, path: &FilePath) -> Result<(), Fault> {
        self.disk.delete(path)
    }
}

/// Starts on it; gives what was read of each file, and what recovery found.
fn start(disk: SimDisk) -> (BTreeMap<FilePath, usize>, BootReport) {
    let mut counted = Counted { disk, read: BTreeMap::new() };
    let booted = boot(&Settings::tiny(), &mut counted, Now::default(), 7);
    let (_, report) = booted.expect("nothing is damaged");
    (counted.read, report)
}

fn begun() -> (Life, Place) {
    let mut life = Life::begin(&Settings::tiny(), SimDisk::new(3), Model::default());
    let place = life.create("t", 1)[0];
    (life, place)
}

fn of_journal(read: &BTreeMap<FilePath, usize>) -> usize {
    let journal = read.iter().filter(|(path, _)| matches!(path, FilePath::Journal { .. }));
    journal.map(|(_, bytes)| bytes).sum()
}

fn ring_bytes() -> usize {
    let settings = Settings::tiny();
    let file = usize::try_from(settings.journal_file_bytes).expect("small");
    file * usize::try_from(settings.journal_files).expect("small")
}

/// A start with 2,000 segments read 2 MiB of each, and took five seconds for it.
#[test]
fn of_a_sealed_segment_it_reads_the_first_block() {
    let (mut life, place) = begun();
    (0..200).for_each(|_| life.produce(place, &[10_000]));
    let (read, _) = start(life.end());
    let of_topic = |path: &FilePath| match *path {
        FilePath::Segment { topic, sequence, .. } if topic == place.0 => Some(sequence),
        _ => None,
    };
    let segments: BTreeMap<u32, usize> =
        read.iter().filter_map(|(path, &bytes)| Some((of_topic(path)?, bytes))).collect();
    assert!(segments.len() > 15, "{segments:?}");
    let newest = *segments.keys().last().expect("some");
    for (sequence, bytes) in segments {
        // The newest is walked to its end, and the one before it if nothing proves it.
        assert!(sequence + 2 > newest || bytes == BLOCK_BYTES, "{sequence}: {bytes}");
    }
}

/// All of it was read twice, whatever segments had of it.
#[test]
fn of_a_journal_only_what_segments_lack_is_read_again() {
    let (mut life, place) = begun();
    (0..300).for_each(|_| life.produce(place, &[300]));
    let (read, report) = start(life.end());
    let replayed = report.records_replayed;
    assert!((1..30).contains(&replayed), "the last ones are in the journal only: {replayed}");
    // A window begins and ends somewhere.
    let (bytes, once) = (of_journal(&read), ring_bytes());
    assert!((once + BLOCK_BYTES..once + once / 2).contains(&bytes), "{bytes} of {once}");
}
