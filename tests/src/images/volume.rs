//! A disk whose every possible state after a power cut can be made: what is stable, what may yet
//! happen to it, and nothing random.
//!
//! It promises what `docs/FORMAT.md` asks of a device. What was not flushed is at risk block by
//! block, and a block may be torn at any of its sectors.

use std::collections::BTreeMap;
use std::rc::Rc;

use engine::frame::BLOCK_BYTES;
use engine::layout::FilePath;
use engine::port::{Disk, Fault, FileEntry, Fill, Open, Sync};

use super::image::{Content, Image, Page};
use super::risk::Risk;

/// Whether the device keeps its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// What is done as durable survives.
    #[default]
    Honest,
    /// It may be lost like anything else: the laws must notice.
    Lying,
}

/// A file, whatever its name.
pub type Inode = u64;

/// A change on its way to the disk.
#[derive(Debug, Clone)]
pub enum Mutation {
    /// Bytes into a file.
    Write {
        /// Which.
        inode: Inode,
        /// First block.
        block: usize,
        /// The blocks.
        pages: Vec<Page>,
        /// What its end promises.
        sync: Sync,
    },
    /// What was done to a file before this effect becomes stable.
    Flush {
        /// Which.
        inode: Inode,
        /// The last effect that it covers.
        upto: u64,
    },
    /// A name is made, moved or only looked up.
    Open {
        /// The name.
        path: FilePath,
        /// How.
        open: Open,
    },
    /// A file becomes longer: reserved, the rest is a write of zeros.
    Reserve {
        /// Which.
        inode: Inode,
        /// Its length then, in blocks.
        blocks: usize,
    },
    /// Names go.
    Delete {
        /// Which.
        paths: Vec<FilePath>,
    },
}

/// A newer content of a block that no flush covers yet.
#[derive(Debug, Clone)]
struct Version {
    effect: u64,
    page: Page,
}

/// A file: what reads see, what survives, and what may survive.
#[derive(Debug, Clone, Default)]
struct Node {
    current: Rc<Content>,
    stable: Rc<Content>,
    versions: BTreeMap<usize, Vec<Version>>,
    /// Lengths in blocks, with the effect that made them.
    lengths: Vec<(u64, usize)>,
}

/// The disk.
#[derive(Debug, Default)]
pub struct Volume {
    names: BTreeMap<FilePath, Inode>,
    nodes: BTreeMap<Inode, Node>,
    inodes: Inode,
    in_flight: BTreeMap<u64, Mutation>,
    mutations: u64,
    effects: u64,
    /// Whether durable means durable.
    pub device: Device,
    /// The power goes as the change behind this one is submitted.
    pub power_until: Option<u64>,
}

impl Volume {
    /// The disk as a power cut left it.
    pub fn of(image: &Image) -> Volume {
        let mut volume = Volume::default();
        for (path, content) in &image.files {
            volume.inodes += 1;
            volume.names.insert(path.clone(), volume.inodes);
            let (current, stable) = (Rc::clone(content), Rc::clone(content));
            let node = Node { current, stable, ..Node::default() };
            volume.nodes.insert(volume.inodes, node);
        }
        volume
    }

    /// What is certain to survive: one image of many.
    pub fn stable(&self) -> Image {
        let file = |(path, inode): (&FilePath, &Inode)| {
            (path.clone(), Rc::clone(&self.nodes[inode].stable))
        };
        Image { files: self.names.iter().map(file).collect() }
    }

    /// Which file a name leads to.
    pub fn inode(&self, path: &FilePath) -> Option<Inode> {
        self.names.get(path).copied()
    }

    /// A flush that is submitted now covers all effects up to this one.
    pub const fn effects(&self) -> u64 {
        self.effects
    }

    /// What reads see of a file, in blocks.
    pub fn current(&self, inode: Inode) -> &Content {
        &self.nodes[&inode].current
    }

    /// Submits a change; its number is for [`Volume::complete`].
    pub fn begin(&mut self, mutation: Mutation) -> u64 {
        self.mutations += 1;
        self.in_flight.insert(self.mutations, mutation);
        self.mutations
    }

    /// Ends a change: its effect is there. Gives the length of the file opened, else 0.
    ///
    /// # Errors
    /// There is no such file.
    pub fn complete(&mut self, number: u64) -> Result<u64, Fault> {
        let mutation = self.in_flight.remove(&number).expect("every change ends once");
        self.effects += 1;
        let effect = self.effects;
        match mutation {
            Mutation::Write { inode, block, pages, sync } => {
                let is_kept = self.device == Device::Honest;
                let sync = if is_kept { sync } else { Sync::Written };
                self.node(inode).write(effect, block, &pages, sync);
            }
            Mutation::Flush { inode, upto } => {
                if self.device == Device::Honest {
                    self.node(inode).flush(upto);
                }
            }
            Mutation::Open { path, open } => return self.open(&path, &open),
            Mutation::Reserve { inode, blocks } => {
                let node = self.node(inode);
                if blocks > node.current.blocks() {
                    Rc::make_mut(&mut node.current).grow(blocks);
                    node.lengths.push((effect, blocks));
                }
            }
            Mutation::Delete { paths } => {
                for path in paths {
                    self.names.remove(&path);
                }
            }
        }
        Ok(0)
    }

    fn open(&mut self, path: &FilePath, open: &Open) -> Result<u64, Fault> {
        match open {
            Open::Existing | Open::Buffered => {}
            Open::Create => {
                self.inodes += 1;
                self.names.insert(path.clone(), self.inodes);
                self.nodes.insert(self.inodes, Node::default());
            }
            Open::Adopt { from } => {
                let inode = self.names.remove(from).ok_or(Fault::ENOENT)?;
                self.names.insert(path.clone(), inode);
            }
        }
        let inode = self.names.get(path).ok_or(Fault::ENOENT)?;
        Ok(bytes_of(self.nodes[inode].current.blocks()))
    }

    fn node(&mut self, inode: Inode) -> &mut Node {
        self.nodes.get_mut(&inode).expect("open and named files are kept")
    }

    /// Everything that a power cut now may or may not keep, in the order of submission.
    pub fn risks(&self) -> Vec<Risk> {
        let mut risks = Vec::new();
        for (path, inode) in &self.names {
            self.node_risks(path, *inode, &mut risks);
        }
        for mutation in self.in_flight.values() {
            match mutation {
                Mutation::Open { path, open: Open::Create } => {
                    risks.push(Risk::Created(path.clone()));
                }
                Mutation::Open { path, open: Open::Adopt { from } }
                    if self.inode(from).is_some() =>
                {
                    risks.push(Risk::Renamed(from.clone(), path.clone()));
                }
                Mutation::Delete { paths } => {
                    let here = paths.iter().filter(|path| self.inode(path).is_some());
                    risks.extend(here.cloned().map(Risk::Deleted));
                }
                _ => {}
            }
        }
        risks
    }

    fn node_risks(&self, path: &FilePath, inode: Inode, risks: &mut Vec<Risk>) {
        let node = &self.nodes[&inode];
        let stable = node.stable.blocks();
        let mut lengths: Vec<usize> = node.lengths.iter().map(|&(_, blocks)| blocks).collect();
        let mut versions: BTreeMap<usize, Vec<Page>> = BTreeMap::new();
        for (&block, newer) in &node.versions {
            let pages = newer.iter().map(|version| version.page.clone());
            versions.entry(block).or_default().extend(pages);
        }
        for mutation in self.in_flight.values() {
            match mutation {
                Mutation::Write { inode: written, block, pages, .. } if *written == inode => {
                    lengths.push(block + pages.len());
                    for (block, page) in (*block..).zip(pages) {
                        versions.entry(block).or_default().push(page.clone());
                    }
                }
                Mutation::Reserve { inode: grown, blocks } if *grown == inode => {
                    lengths.push(*blocks);
                }
                _ => {}
            }
        }
        lengths.retain(|blocks| *blocks > stable);
        lengths.sort_unstable();
        lengths.dedup();
        if !lengths.is_empty() {
            risks.push(Risk::Length { path: path.clone(), blocks: lengths });
        }
        risks.extend(versions.into_iter().map(|(block, pages)| {
            let old = node.stable.page(block);
            Risk::Block { path: path.clone(), block, old, pages }
        }));
    }

    /// A whole change as recovery makes it: submitted and waited for.
    fn plain(&mut self, mutation: Mutation) -> Result<u64, Fault> {
        if self.power_until.is_some_and(|last| self.mutations >= last) {
            return Err(Fault::EIO);
        }
        let number = self.begin(mutation);
        self.complete(number)
    }

    fn named(&self, path: &FilePath) -> Result<Inode, Fault> {
        self.inode(path).ok_or(Fault::ENOENT)
    }

    /// Writes zeros, or whatever else, durably.
    fn write_now(&mut self, inode: Inode, block: usize, pages: Vec<Page>) -> Result<(), Fault> {
        self.plain(Mutation::Write { inode, block, pages, sync: Sync::Durable })?;
        Ok(())
    }

    /// What an extension of a file is: reserved, or written with zeros.
    pub fn extension(inode: Inode, from: u64, to: u64, fill: Fill) -> Mutation {
        let (from, to) = (block_of(from), block_of(to));
        match fill {
            Fill::Reserve => Mutation::Reserve { inode, blocks: to },
            Fill::Zero => {
                let pages = vec![Page::zero(); to.saturating_sub(from)];
                Mutation::Write { inode, block: from, pages, sync: Sync::Durable }
            }
        }
    }
}

impl Node {
    fn write(&mut self, effect: u64, block: usize, pages: &[Page], sync: Sync) {
        Rc::make_mut(&mut self.current).put(block, pages);
        match sync {
            Sync::Durable => {
                Rc::make_mut(&mut self.stable).put(block, pages);
                for written in block..block + pages.len() {
                    self.versions.remove(&written);
                }
            }
            Sync::Written => {
                if block + pages.len() > self.stable.blocks() {
                    self.lengths.push((effect, block + pages.len()));
                }
                for (block, page) in (block..).zip(pages) {
                    let version = Version { effect, page: page.clone() };
                    self.versions.entry(block).or_default().push(version);
                }
            }
        }
    }

    fn flush(&mut self, upto: u64) {
        let stable = Rc::make_mut(&mut self.stable);
        for &(effect, blocks) in &self.lengths {
            if effect <= upto && blocks > stable.blocks() {
                stable.grow(blocks);
            }
        }
        self.lengths.retain(|&(effect, _)| effect > upto);
        self.versions.retain(|&block, versions| {
            let covered = versions.partition_point(|version| version.effect <= upto);
            if let Some(version) = versions[..covered].last() {
                stable.put(block, std::slice::from_ref(&version.page));
            }
            versions.drain(..covered);
            !versions.is_empty()
        });
    }
}

impl Disk for Volume {
    fn settle(&mut self) -> Result<(), Fault> {
        self.nodes.values_mut().for_each(|node| node.flush(u64::MAX));
        Ok(())
    }

    fn list(&mut self) -> Result<Vec<FileEntry>, Fault> {
        let entry = |(path, inode): (&FilePath, &Inode)| FileEntry {
            path: path.clone(),
            bytes: bytes_of(self.nodes[inode].current.blocks()),
        };
        Ok(self.names.iter().map(entry).collect())
    }

    fn read(&mut self, path: &FilePath, position: u64, into: &mut [u8]) -> Result<usize, Fault> {
        let inode = self.named(path)?;
        Ok(self.current(inode).read(block_of(position), into))
    }

    fn write(&mut self, path: &FilePath, position: u64, bytes: &[u8]) -> Result<(), Fault> {
        let inode = self.named(path)?;
        self.write_now(inode, block_of(position), Page::all_of(bytes))
    }

    fn create(&mut self, path: &FilePath, bytes: u64) -> Result<(), Fault> {
        self.plain(Mutation::Open { path: path.clone(), open: Open::Create })?;
        let inode = self.named(path)?;
        self.write_now(inode, 0, vec![Page::zero(); block_of(bytes)])
    }

    fn delete(&mut self, path: &FilePath) -> Result<(), Fault> {
        self.plain(Mutation::Delete { paths: vec![path.clone()] })?;
        Ok(())
    }
}

/// The block that begins at a position.
///
/// # Panics
/// If none does: everything the engine asks for is whole blocks.
pub fn block_of(position: u64) -> usize {
    let position = usize::try_from(position).expect("small disks");
    assert!(position.is_multiple_of(BLOCK_BYTES), "whole blocks");
    position / BLOCK_BYTES
}

fn bytes_of(blocks: usize) -> u64 {
    u64::try_from(blocks * BLOCK_BYTES).expect("small disks")
}
