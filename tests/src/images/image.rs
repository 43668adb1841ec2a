//! What a power cut left: files of blocks, most of them shared with other images.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use engine::frame::BLOCK_BYTES;
use engine::layout::FilePath;

/// A block, and a hash of it. A block of zeros takes no memory.
#[derive(Debug, Clone)]
pub struct Page {
    bytes: Option<Rc<[u8; BLOCK_BYTES]>>,
    hash: u64,
}

impl Page {
    /// A block of zeros.
    pub const fn zero() -> Page {
        Page { bytes: None, hash: 0 }
    }

    /// A block with these bytes.
    pub fn new(bytes: &[u8; BLOCK_BYTES]) -> Page {
        if bytes.iter().all(|&byte| byte == 0) {
            return Page::zero();
        }
        let mut hasher = DefaultHasher::new();
        hasher.write(bytes);
        Page { bytes: Some(Rc::new(*bytes)), hash: hasher.finish() }
    }

    /// The blocks of these bytes.
    ///
    /// # Panics
    /// If they are not whole blocks.
    pub fn all_of(bytes: &[u8]) -> Vec<Page> {
        let (blocks, rest) = bytes.as_chunks::<BLOCK_BYTES>();
        assert!(rest.is_empty(), "whole blocks");
        blocks.iter().map(Page::new).collect()
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8; BLOCK_BYTES] {
        self.bytes.as_deref().unwrap_or(&[0; BLOCK_BYTES])
    }

    /// This block up to byte `at`, the other one from there on.
    pub fn spliced(&self, at: usize, rest: &Page) -> Page {
        let mut bytes = *self.bytes();
        bytes[at..].copy_from_slice(&rest.bytes()[at..]);
        Page::new(&bytes)
    }
}

/// The blocks of a file.
#[derive(Debug, Clone, Default)]
pub struct Content {
    pages: Vec<Page>,
}

impl Content {
    /// How many there are.
    pub const fn blocks(&self) -> usize {
        self.pages.len()
    }

    /// One of them; behind the end it is zeros.
    pub fn page(&self, block: usize) -> Page {
        self.pages.get(block).cloned().unwrap_or_else(Page::zero)
    }

    /// Makes the file at least so long.
    pub fn grow(&mut self, blocks: usize) {
        let blocks = blocks.max(self.pages.len());
        self.pages.resize(blocks, Page::zero());
    }

    /// Puts blocks in their place, which may be behind the end.
    pub fn put(&mut self, block: usize, pages: &[Page]) {
        self.grow(block + pages.len());
        self.pages[block..block + pages.len()].clone_from_slice(pages);
    }

    /// Reads whole blocks; fewer at the end of the file.
    pub fn read(&self, block: usize, into: &mut [u8]) -> usize {
        let pages = self.pages.get(block..).unwrap_or_default();
        let (targets, _) = into.as_chunks_mut::<BLOCK_BYTES>();
        let mut count = 0;
        for (target, page) in targets.iter_mut().zip(pages) {
            target.copy_from_slice(page.bytes());
            count += BLOCK_BYTES;
        }
        count
    }
}

/// Files by their names.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// What is in them.
    pub files: BTreeMap<FilePath, Rc<Content>>,
}

impl Image {
    /// A number that no other image of a run has, but by an accident that is not to be expected
    /// in 64 bits.
    pub fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (path, content) in &self.files {
            path.hash(&mut hasher);
            hasher.write_usize(content.blocks());
            let mut mixed = 0u64;
            for page in &content.pages {
                mixed = (mixed ^ page.hash).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
            }
            hasher.write_u64(mixed);
        }
        hasher.finish()
    }

    /// The file of this name, to change it; made if there is none.
    pub fn content(&mut self, path: &FilePath) -> &mut Content {
        Rc::make_mut(self.files.entry(path.clone()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_the_same_when_their_bytes_are() {
        let one = Page::new(&[1; BLOCK_BYTES]);
        let (path, other) = (FilePath::Superblock, FilePath::Spare { number: 1 });
        let mut image = Image::default();
        image.content(&path).put(1, std::slice::from_ref(&one));
        let mut same = Image::default();
        same.content(&path).put(0, &[Page::zero(), Page::new(&[1; BLOCK_BYTES])]);
        assert_eq!(image.hash(), same.hash());
        let base = image.hash();
        let mut changed = image.clone();
        changed.content(&path).grow(3);
        assert_ne!(changed.hash(), base, "longer");
        let mut changed = image.clone();
        changed.content(&path).put(0, &[one.spliced(512, &Page::zero())]);
        assert_ne!(changed.hash(), base, "another block");
        changed.content(&other);
        image.content(&other);
        assert_ne!(image.hash(), base, "another file");
    }
}
