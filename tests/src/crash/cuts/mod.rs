//! Power cuts on a real file system. A broker works on a disk that records every write and every
//! flush; then the disk is built as it may be after a cut: all that a flush covers, and of what was
//! written after the last flush any part. On each such image the file system is mounted, a broker
//! starts, and what it had acknowledged as durable before the cut is there. What it had only
//! acknowledged as written may be gone; what is there is the beginning of what each partition had.

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

/// What producers wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Every record is to be durable: little is in doubt at any time.
    Durable,
    /// One producer waits for what is written, and now and then another for what is durable.
    Mixed,
    /// Nobody waits for more than that a record is written.
    Written,
}

impl Load {
    /// All of them.
    pub const ALL: [Load; 3] = [Load::Durable, Load::Mixed, Load::Written];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Load::Durable => "durable",
            Load::Mixed => "mixed",
            Load::Written => "written",
        }
    }
}

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
    /// Writes that no flush covered, at all cuts together.
    pub in_doubt: u64,
    /// The most of them at one cut.
    pub in_doubt_max: u64,
    /// Those that a cut took away.
    pub lost: u64,
    /// Those of which it took some sectors.
    pub torn: u64,
    /// Records that had to be there, and were.
    pub verified: u64,
    /// Records acknowledged as written and no more: how many a cut left,
    pub written_there: u64,
    /// and how many it took.
    pub written_gone: u64,
}

impl Cuts {
    fn add(&mut self, cut: &Cut) {
        let in_doubt = cut.kept + cut.lost + cut.torn;
        self.points += 1;
        self.in_doubt += in_doubt;
        self.in_doubt_max = self.in_doubt_max.max(in_doubt);
        self.lost += cut.lost;
        self.torn += cut.torn;
    }

    /// In a sentence.
    pub fn told(&self) -> String {
        let tenths = 10 * self.in_doubt / self.points.max(1);
        let Cuts { points, writes, flushes, acked, in_doubt_max, lost, torn, .. } = self;
        let Cuts { verified, written_there, written_gone, .. } = self;
        format!(
            "{points} cuts of {writes} writes, {flushes} flushes and {acked} acknowledged records; \
             writes in doubt at a cut: {}.{} in the mean, {in_doubt_max} at most ({lost} lost, \
             {torn} torn in all); {verified} durable records there, of written ones \
             {written_there} there and {written_gone} gone",
            tenths / 10,
            tenths % 10,
        )
    }
}

/// Records a life on this file system and cuts the power at so many of its moments.
///
/// # Errors
/// A sentence, where there is no FUSE or nothing can be mounted.
///
/// # Panics
/// If a durable record is lost, or a broker does not start. The image is kept then.
pub fn cut_power(kind: FileSystem, load: Load, points: u64, seed: u64) -> Result<Cuts, String> {
    if !is_root() {
        return Err("mounting file systems needs root".to_owned());
    }
    let mut rng = Rng::new(seed);
    let life = live(kind, load, &mut rng)?;
    let mut cuts = Cuts { acked: life.acked.len(), ..Cuts::default() };
    (cuts.writes, cuts.flushes) = life.counts();
    let mut moments: Vec<usize> = (0..points).map(|_| life.moment(&mut rng)).collect();
    moments.sort_unstable();
    let mut images = Images::new(&life.events, life.bytes);
    for moment in moments {
        let cut = images.cut(moment, &mut rng);
        let (on, under) = (kind.name(), load.name());
        let told = format!("{on}, {under}, cut at event {moment} of seed {seed}: {cut:?}");
        images.kept_if_bad(&told, |image| judge(kind, image, &life, moment, &mut cuts));
        cuts.add(&cut);
        if cuts.points.is_multiple_of(50) {
            eprintln!("{on}, {under}: {}", cuts.told());
        }
    }
    Ok(cuts)
}

/// Starts a broker on an image and compares.
fn judge(kind: FileSystem, image: &Path, life: &Life, moment: usize, cuts: &mut Cuts) {
    let mounted = Mounted::of_image(kind, image);
    let broker = start(&mounted.data(), &FLAGS);
    let partitions = usize::try_from(PARTITIONS).expect("few");
    let found = read_all(broker.address(), TOPIC, partitions);
    for (partition, (found, log)) in found.iter().zip(&life.log).enumerate() {
        assert_eq!(found.failed, None, "partition {partition} can be read to its end");
        assert_eq!(found.start, 0, "nobody deleted records of partition {partition}");
        let count = found.numbers.len();
        let was = log.get(..count).expect("nothing is there that was not sent");
        assert!(found.numbers == was, "partition {partition} holds what it held, in its order");
    }
    for acked in life.acked.iter().filter(|acked| acked.at <= moment) {
        let is_there = acked.offset < found[acked.partition].numbers.len();
        match (acked.must_last(moment), is_there) {
            (true, true) => cuts.verified += 1,
            (true, false) => panic!("{acked:?} was durable before the cut, and is gone"),
            (false, true) => cuts.written_there += 1,
            (false, false) => cuts.written_gone += 1,
        }
    }
    broker.kill();
}
