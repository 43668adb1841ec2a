//! Frames as they lie on a simulated disk.

use broker::io::sim::SimDisk;
use engine::frame::{BLOCK_BYTES, FrameKey, FrameView};
use engine::layout::FilePath;
use engine::superblock::{Found, Superblock};

/// One whole frame on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameAt {
    pub path: FilePath,
    pub position: usize,
    /// Header, table and data: what checksums cover.
    pub used: usize,
    pub bytes: usize,
    pub epoch: u32,
    pub file_sequence: u64,
    /// Topic and offsets of its first entry.
    pub topic: wire::TopicId,
    pub offsets: std::ops::Range<u64>,
}

/// The whole frames of the files that are wanted, by file and position.
pub fn frames(disk: &SimDisk, is_wanted: impl Fn(&FilePath) -> bool) -> Vec<FrameAt> {
    let mut found = Vec::new();
    let key = frame_key(disk);
    for (path, bytes) in disk.files().filter(|(path, _)| is_wanted(path)) {
        let mut position = 0;
        while position < bytes.len() {
            let Ok(view) = FrameView::read(&bytes[position..], key) else {
                position += BLOCK_BYTES;
                continue;
            };
            let data: usize = view.parts().map(|(_, data)| data.len()).sum();
            let first = view.entries.first();
            found.push(FrameAt {
                path: path.clone(),
                position,
                used: 96 + 48 * view.entries.len() + data,
                bytes: view.frame_bytes(),
                epoch: view.header.boot_epoch.get(),
                file_sequence: view.header.file_sequence.get(),
                topic: first.map_or([0; 16], |entry| entry.topic),
                offsets: first.map_or(0..0, |entry| entry.base_offset.get()..entry.next_offset()),
            });
            position += view.frame_bytes();
        }
    }
    found.sort_by(|a, b| (&a.path, a.position).cmp(&(&b.path, b.position)));
    found
}

/// What every frame's checksum begins with.
pub fn frame_key(disk: &SimDisk) -> FrameKey {
    let superblock = disk.files().find(|(path, _)| **path == FilePath::Superblock);
    let (_, bytes) = superblock.expect("every data directory has one");
    match Superblock::read(bytes) {
        Found::Whole(superblock) => FrameKey(superblock.frame_key.get()),
        other => panic!("the superblock is {other:?}"),
    }
}
