//! Power cuts on a real file system. A broker works on a disk that records every write and every
//! flush; then the disk is built as it may be after a cut: all that a flush covers, and of what was
//! written after the last flush any part. On each such image the file system is mounted, a broker
//! starts, and what it had acknowledged before the cut is there.

mod images;
mod life;
mod recorder;

use std::path::Path;

use broker::io::sim::Rng;

use self::images::{Cut, Images};
use self::life::{Life, live};
use super::reading::read_all;
use super::volume::{FileSystem, Mounted, is_root};
use super::{PARTITIONS, TOPIC, start};

/// The file systems are small: little of them is kept back.
const FLAGS: [&str; 1] = ["--free-bytes-min=12MiB"];

/// What the cuts were.
#[derive(Debug, Default)]
pub struct Cuts {
    /// Images that were mounted, and on which a broker recovered.
    pub points: u64,
    /// Writes of the recorded life.
    pub writes: usize,
    /// Its flushes.
    pub flushes: usize,
    /// Records acknowledged in it.
    pub acked: usize,
    /// Writes that no flush covered and that a cut took away.
    pub lost: u64,
    /// Those of which it took some sectors.
    pub torn: u64,
    /// Acknowledged records that were looked for, and found.
    pub verified: u64,
}

/// Records a life on this file system and cuts the power at so many of its moments.
///
/// # Errors
/// A sentence, where there is no FUSE or nothing can be mounted.
///
/// # Panics
/// If an acknowledged record is lost, or a broker does not start. The image is kept then.
pub fn cut_power(kind: FileSystem, points: u64, seed: u64) -> Result<Cuts, String> {
    if !is_root() {
        return Err("mounting file systems needs root".to_owned());
    }
    let mut rng = Rng::new(seed);
    let life = live(kind, &mut rng)?;
    let mut cuts = Cuts { acked: life.acked.len(), ..Cuts::default() };
    (cuts.writes, cuts.flushes) = life.counts();
    let mut moments: Vec<usize> = (0..points).map(|_| life.moment(&mut rng)).collect();
    moments.sort_unstable();
    let mut images = Images::new(&life.events, life.bytes);
    for moment in moments {
        let cut = images.cut(moment, &mut rng);
        let Cut { lost, torn, .. } = cut;
        cuts.lost += lost;
        cuts.torn += torn;
        let told = format!("{} cut at event {moment} of seed {seed}: {cut:?}", kind.name());
        cuts.verified += images.kept_if_bad(&told, |image| judge(kind, image, &life, moment));
        cuts.points += 1;
        if cuts.points.is_multiple_of(50) {
            eprintln!("{}: {cuts:?}", kind.name());
        }
    }
    Ok(cuts)
}

/// Starts a broker on an image and compares. Gives how many acknowledged records were found.
fn judge(kind: FileSystem, image: &Path, life: &Life, moment: usize) -> u64 {
    let mounted = Mounted::of_image(kind, image);
    let broker = start(&mounted.data(), &FLAGS);
    let partitions = usize::try_from(PARTITIONS).expect("few");
    let found = read_all(broker.address(), TOPIC, partitions);
    let mut verified = 0;
    for acked in life.acked.iter().take_while(|acked| acked.at <= moment) {
        let partition = usize::try_from(acked.partition).expect("few");
        let there = usize::try_from(acked.offset).expect("fits");
        let there = found[partition].numbers.get(there);
        assert_eq!(there, Some(&acked.number), "{acked:?} was acknowledged before the cut");
        verified += 1;
    }
    for (partition, found) in found.iter().enumerate() {
        assert_eq!(found.failed, None, "partition {partition} can be read to its end");
        assert_eq!(found.start, 0, "nobody deleted records of partition {partition}");
        assert!(found.numbers.is_sorted_by(|a, b| a < b), "partition {partition} keeps the order");
        let is_sent = |number: &u64| life.is_of(*number, partition);
        assert!(found.numbers.iter().all(is_sent), "nothing is there that was not sent");
    }
    broker.kill();
    verified
}
