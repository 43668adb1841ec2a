//! What a power cut may or may not keep, and every combination of it.

use std::ops::ControlFlow;
use std::rc::Rc;

use engine::frame::BLOCK_BYTES;
use engine::layout::FilePath;

use super::image::{Image, Page};

/// Every subset is tried of so many blocks; where more are at risk, neighbours share their fate
/// and each is lost, and kept, alone besides.
pub const UNITS_MAX: usize = 8;
/// Where blocks are torn then, in sectors; else at each.
const TEARS: [usize; 3] = [1, 4, 7];
/// What a power cut does not tear.
const SECTOR_BYTES: usize = 512;

/// One thing that may be there after a power cut, or not.
#[derive(Debug, Clone)]
pub enum Risk {
    /// A block has its old content or one of the newer ones, oldest first.
    Block {
        /// Its file.
        path: FilePath,
        /// Which.
        block: usize,
        /// What is stable.
        old: Page,
        /// What is not.
        pages: Vec<Page>,
    },
    /// A file has its old length or one of the longer ones, in blocks.
    Length {
        /// Which file.
        path: FilePath,
        /// The longer ones.
        blocks: Vec<usize>,
    },
    /// A file is there, empty.
    Created(FilePath),
    /// The first name has become the second.
    Renamed(FilePath, FilePath),
    /// A name is gone.
    Deleted(FilePath),
}

/// What became of one thing at risk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It has not happened.
    Lost,
    /// Its version with this number has.
    Kept(usize),
    /// So many sectors of the newest version at the block's front, the rest is old.
    TornFront(usize),
    /// So many old sectors at the block's front, the rest is of the newest version.
    TornBack(usize),
}

impl Risk {
    /// How many outcomes it has, without torn ones.
    fn outcomes(&self) -> usize {
        match self {
            Risk::Block { pages, .. } => 1 + pages.len(),
            Risk::Length { blocks, .. } => 1 + blocks.len(),
            Risk::Created(_) | Risk::Renamed(..) | Risk::Deleted(_) => 2,
        }
    }

    fn newest(&self) -> Fate {
        Fate::Kept(self.outcomes() - 2)
    }

    const fn is_block(&self) -> bool {
        matches!(self, Risk::Block { .. })
    }
}

impl std::fmt::Display for Risk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Risk::Block { path, block, .. } => write!(f, "{path} block {block}"),
            Risk::Length { path, .. } => write!(f, "{path} length"),
            Risk::Created(path) => write!(f, "{path} created"),
            Risk::Renamed(from, path) => write!(f, "{from} renamed to {path}"),
            Risk::Deleted(path) => write!(f, "{path} deleted"),
        }
    }
}

/// Gives every combination of fates to `visit`, until it breaks off.
pub fn combinations<B>(
    risks: &[Risk],
    mut visit: impl FnMut(&[Fate]) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let units = units(risks);
    let mut fates = vec![Fate::Lost; risks.len()];
    // Counts in the units' own radices.
    let mut digits = vec![0; units.len()];
    loop {
        visit(&fates)?;
        let mut at = 0;
        while at < units.len() {
            digits[at] += 1;
            let is_over = digits[at] == units[at].outcomes;
            digits[at] = if is_over { 0 } else { digits[at] };
            for &member in &units[at].members {
                fates[member] = match (digits[at], units[at].members.len()) {
                    (0, _) => Fate::Lost,
                    (digit, 1) => Fate::Kept(digit - 1),
                    _ => risks[member].newest(),
                };
            }
            if !is_over {
                break;
            }
            at += 1;
        }
        if at == units.len() {
            break;
        }
    }
    if units.len() < risks.len() {
        alone(risks, &mut visit)?;
    }
    torn(risks, &mut visit)
}

/// Things at risk that share their fate.
struct Unit {
    members: Vec<usize>,
    outcomes: usize,
}

/// At most [`UNITS_MAX`] units: where there are more things at risk, neighbours are one.
fn units(risks: &[Risk]) -> Vec<Unit> {
    let size = risks.len().div_ceil(UNITS_MAX).max(1);
    let indexes: Vec<usize> = (0..risks.len()).collect();
    let unit = |members: &[usize]| {
        let outcomes = if let [one] = members { risks[*one].outcomes() } else { 2 };
        Unit { members: members.to_vec(), outcomes }
    };
    indexes.chunks(size).map(unit).collect()
}

/// Each thing is lost alone, and kept alone.
fn alone<B>(risks: &[Risk], visit: &mut impl FnMut(&[Fate]) -> ControlFlow<B>) -> ControlFlow<B> {
    let kept: Vec<Fate> = risks.iter().map(Risk::newest).collect();
    for index in 0..risks.len() {
        let mut fates = kept.clone();
        fates[index] = Fate::Lost;
        visit(&fates)?;
        fates.fill(Fate::Lost);
        fates[index] = kept[index];
        visit(&fates)?;
    }
    ControlFlow::Continue(())
}

/// Each block is torn, from either side, while all others are kept, and while all others are lost.
fn torn<B>(risks: &[Risk], visit: &mut impl FnMut(&[Fate]) -> ControlFlow<B>) -> ControlFlow<B> {
    let kept: Vec<Fate> = risks.iter().map(Risk::newest).collect();
    // A block behind the end of its file cannot be there in part.
    let length = |risk: &Risk| if risk.is_block() { Fate::Lost } else { risk.newest() };
    let lost: Vec<Fate> = risks.iter().map(length).collect();
    let all: Vec<usize> = (1..BLOCK_BYTES / SECTOR_BYTES).collect();
    let tears = if risks.len() > UNITS_MAX { TEARS.as_slice() } else { &all };
    for index in (0..risks.len()).filter(|&index| risks[index].is_block()) {
        for others in [&kept, &lost] {
            for &sectors in tears {
                for fate in [Fate::TornFront(sectors), Fate::TornBack(sectors)] {
                    let mut fates = others.clone();
                    fates[index] = fate;
                    visit(&fates)?;
                }
            }
        }
    }
    ControlFlow::Continue(())
}

/// The image that these fates leave of a disk that has `stable`.
pub fn image(stable: &Image, risks: &[Risk], fates: &[Fate]) -> Image {
    let mut image = stable.clone();
    // Lengths first: what lies behind the end of a file is lost with it.
    for (risk, fate) in risks.iter().zip(fates) {
        if let (Risk::Length { path, blocks }, Fate::Kept(which)) = (risk, fate) {
            image.content(path).grow(blocks[*which]);
        }
    }
    for (risk, &fate) in risks.iter().zip(fates) {
        let Risk::Block { path, block, old, pages } = risk else { continue };
        let Some(newest) = pages.last() else { continue };
        let page = match fate {
            Fate::Lost => continue,
            Fate::Kept(which) => pages[which].clone(),
            Fate::TornFront(sectors) => newest.spliced(sectors * SECTOR_BYTES, old),
            Fate::TornBack(sectors) => old.spliced(sectors * SECTOR_BYTES, newest),
        };
        let length = image.files.get(path).map_or(0, |content| content.blocks());
        if *block < length {
            image.content(path).put(*block, &[page]);
        }
    }
    for (risk, fate) in risks.iter().zip(fates) {
        if *fate == Fate::Lost {
            continue;
        }
        match risk {
            Risk::Created(path) => drop(image.files.insert(path.clone(), Rc::default())),
            Risk::Renamed(from, path) => {
                if let Some(content) = image.files.remove(from) {
                    image.files.insert(path.clone(), content);
                }
            }
            Risk::Deleted(path) => drop(image.files.remove(path)),
            Risk::Block { .. } | Risk::Length { .. } => {}
        }
    }
    image
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const PATH: FilePath = FilePath::Superblock;

    fn block(block: usize, bytes: u8) -> Risk {
        let pages = vec![Page::new(&[bytes; BLOCK_BYTES])];
        Risk::Block { path: PATH, block, old: Page::zero(), pages }
    }

    fn images(stable: &Image, risks: &[Risk]) -> BTreeSet<u64> {
        let mut found = BTreeSet::new();
        let ended: ControlFlow<()> = combinations(risks, |fates| {
            found.insert(image(stable, risks, fates).hash());
            ControlFlow::Continue(())
        });
        assert_eq!(ended, ControlFlow::Continue(()));
        found
    }

    fn of_blocks(count: usize) -> Image {
        let mut image = Image::default();
        image.content(&PATH).grow(count);
        image
    }

    #[test]
    fn every_subset_and_every_tear_comes_about_once() {
        let risks = [block(0, 1), block(1, 2)];
        // 4 subsets; each block torn at 7 sectors from 2 sides beside a kept and a lost one.
        assert_eq!(images(&of_blocks(2), &risks).len(), 4 + 2 * 7 * 2 * 2);
    }

    #[test]
    fn what_lies_behind_a_lost_length_is_lost() {
        let length = Risk::Length { path: PATH, blocks: vec![1, 2] };
        let found = images(&Image::default(), &[length, block(1, 1)]);
        // No file, one block, two blocks with the second zero or whole, and its tears.
        assert_eq!(found.len(), 4 + 14);
    }

    #[test]
    fn names_change_or_do_not() {
        let (one, two) = (FilePath::Spare { number: 1 }, FilePath::Spare { number: 2 });
        let mut stable = Image::default();
        stable.content(&one).grow(1);
        let risks = [
            Risk::Renamed(one, two),
            Risk::Deleted(FilePath::Spare { number: 3 }),
            Risk::Created(PATH),
        ];
        assert_eq!(images(&stable, &risks).len(), 4);
    }

    #[test]
    fn many_blocks_share_fates_and_are_lost_alone() {
        let risks: Vec<Risk> = (0..20).map(|at| block(at, 1)).collect();
        let found = images(&of_blocks(20), &risks);
        // 7 units of three blocks or fewer, each block alone and all but it, and tears.
        let (subsets, alone, tears) = (128, 20 * 2, 20 * TEARS.len() * 2 * 2);
        assert_eq!(found.len(), subsets + alone + tears);
    }
}
