//! One bit of a data directory is flipped after a clean stop. Either the broker says so, by
//! refusing to start or to serve some offsets, or nothing changes for its clients; never is a
//! wrong record accepted by the client, and never is one missing without a word.

use std::fs;
use std::path::{Path, PathBuf};

use broker::io::sim::Rng;

use super::ledger::Ledger;
use super::load::produce_until;
use super::{PARTITIONS, TOPIC, create_topic, start, stop};
use crate::broker::Broker;

/// Records in the directory.
const RECORDS: u64 = 3_000;
/// One flip in so many may hit a byte that is 0, which mostly means nothing; the others hit
/// bytes in use.
const ANYWHERE_ONE_OF: u64 = 8;
/// Tries to find a byte in use, before any will do.
const TRIES_MAX: u32 = 1_000;

/// What the flips did.
#[derive(Debug, Default)]
pub struct Flips {
    /// The broker refused to start.
    pub refused: u64,
    /// The broker or the client refused some offsets.
    pub reported: u64,
    /// Nothing that was written had changed.
    pub harmless: u64,
}

/// Flips so many bits, each in a fresh copy of one directory.
///
/// # Panics
/// If a flip is neither noticed nor harmless.
pub fn flip_bits(seed: u64, count: u64) -> Flips {
    let place = tempfile::tempdir().expect("a folder");
    let (good, bad) = (place.path().join("good"), place.path().join("bad"));
    let ledger = fill(&good);
    let mut rng = Rng::new(seed);
    let mut flips = Flips::default();
    for index in 0..count {
        copy(&good, &bad);
        let flip = Flip::choose(&bad, &mut rng);
        flip.apply();
        let told = |error: &str| format!("flip {index} of seed {seed}, {flip:?}: {error}");
        match Broker::try_start(&bad, &[]) {
            Err(ended) => {
                assert!(ended.code.is_some_and(|code| code != 0), "{}", told(&ended.stderr));
                flips.refused += 1;
                // Nothing was removed: with the bit as it was, all is there.
                flip.apply();
                let broker = start(&bad, &[]);
                assert_eq!(ledger.check_damaged(broker.address(), TOPIC), 0, "{}", told(""));
                stop(broker);
            }
            Ok(broker) => {
                eprintln!("{}", told("served"));
                let damaged = ledger.check_damaged(broker.address(), TOPIC);
                if damaged > 0 {
                    flips.reported += 1;
                } else {
                    flips.harmless += 1;
                }
                stop(broker);
            }
        }
        fs::remove_dir_all(&bad).expect("a copy");
    }
    flips
}

/// A directory with records in journal and segments, after a clean stop.
fn fill(dir: &Path) -> Ledger {
    let mut ledger = Ledger::new(PARTITIONS);
    let broker = start(dir, &[]);
    create_topic(&broker, &[]);
    produce_until(RECORDS, broker, &mut ledger);
    let broker = start(dir, &[]);
    ledger.check_all(broker.address(), TOPIC);
    stop(broker);
    // What stood in the journals is in segments now, and what comes stands in both.
    let broker = start(dir, &[]);
    produce_until(RECORDS / 4, broker, &mut ledger);
    let broker = start(dir, &[]);
    ledger.check_all(broker.address(), TOPIC);
    stop(broker);
    ledger
}

/// A bit of a file.
#[derive(Debug)]
struct Flip {
    file: PathBuf,
    byte: usize,
    bit: u8,
}

impl Flip {
    fn choose(dir: &Path, rng: &mut Rng) -> Flip {
        let files = files(dir);
        // A small file is as likely as a large one: there are few superblocks.
        let file = files[rng.index(files.len())].clone();
        let bytes = fs::read(&file).expect("a file");
        let is_anywhere = rng.one_in(ANYWHERE_ONE_OF);
        let mut byte = rng.index(bytes.len());
        for _ in 0..TRIES_MAX {
            if is_anywhere || bytes[byte] != 0 {
                break;
            }
            byte = rng.index(bytes.len());
        }
        Flip { file, byte, bit: u8::try_from(rng.below(8)).expect("a bit") }
    }

    fn apply(&self) {
        let mut bytes = fs::read(&self.file).expect("a file");
        bytes[self.byte] ^= 1 << self.bit;
        fs::write(&self.file, bytes).expect("a file");
    }
}

/// The files of a directory that have bytes, but for the lock.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let metadata = fs::metadata(&path).expect("it is there");
            if metadata.is_dir() {
                open.push(path);
            } else if metadata.len() > 0 && path.file_name().is_some_and(|name| name != "LOCK") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    super::volume::tool(
        std::process::Command::new("cp").arg("-a").arg("--sparse=always").arg(from).arg(to),
    );
}
