//! Bits flipped in what a broker left that was stopped in good order: each is said, or harmless.

use super::image::{Image, Page};
use super::stage::Machine;
use super::verdict::{Reading, Word};
use super::workload::Origin;
use crate::model::Model;

/// Bytes of each block that are hit: in the header of a frame, in its table, and in its data.
const BYTES: [usize; 5] = [0, 20, 90, 120, 200];

/// What the flips did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flips {
    /// The broker refused to start, or to serve or append something.
    pub said: u64,
    /// All was there.
    pub harmless: u64,
}

/// Flips a bit of each block in use, one after the other, of what a broker left that was started
/// and stopped so many times since anything was written. Gives what was missing without a word.
pub fn flip_each(rests: u64) -> (Flips, Vec<String>) {
    let mut machine = Machine::default();
    let origin = Origin::new(&mut machine);
    let (good, model) = origin.rested(&mut machine, rests);
    let mut flips = Flips::default();
    let mut silent = Vec::new();
    for (path, content) in &good.files {
        for block in 0..content.blocks() {
            for byte in BYTES.into_iter().filter(|byte| content.page(block).bytes()[*byte] != 0) {
                let mut bytes = *content.page(block).bytes();
                bytes[byte] ^= 1;
                let mut bad = good.clone();
                bad.content(path).put(block, &[Page::new(&bytes)]);
                let what = judge(&mut machine, &bad, &model, &mut flips);
                silent.extend(what.map(|what| format!("{path} block {block} byte {byte}: {what}")));
            }
        }
    }
    (flips, silent)
}

fn judge(machine: &mut Machine, bad: &Image, model: &Model, flips: &mut Flips) -> Option<String> {
    let (word, wrong) = Reading::of(machine, bad).judge_damaged(model);
    match word {
        Word::Said => flips.said += 1,
        Word::Unsaid => flips.harmless += 1,
    }
    (!wrong.is_empty()).then(|| wrong.join("; "))
}
