//! Frames as they lie on a simulated disk.

use broker::io::sim::SimDisk;
use engine::layout::FilePath;
use pelton_tests::inspection::{used_bytes, whole_frames};

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
    let mut found = whole_frames(disk, is_wanted, |path, position, view| {
        let first = view.entries.first();
        FrameAt {
            path: path.clone(),
            position,
            used: used_bytes(view),
            bytes: view.frame_bytes(),
            epoch: view.header.boot_epoch.get(),
            file_sequence: view.header.file_sequence.get(),
            topic: first.map_or([0; 16], |entry| entry.topic),
            offsets: first.map_or(0..0, |entry| entry.base_offset.get()..entry.next_offset()),
        }
    });
    found.sort_by(|a, b| (&a.path, a.position).cmp(&(&b.path, b.position)));
    found
}
