//! What can be read off a simulated disk: what `pelton log verify` says of it, with nothing left
//! on it changed, and the frames that lie there.

use broker::io::sim::{FaultPlan, SimDisk};
use engine::frame::{BLOCK_BYTES, ENTRY_BYTES, FrameKey, FrameView, HEADER_BYTES};
use engine::inspect::{Directory, Event, Finding, InspectError, Lost, Summary, verify};
use engine::layout::FilePath;
use engine::superblock::{Found, Superblock};

/// All that was told.
#[derive(Debug)]
pub struct Inspection {
    /// Of each file.
    pub findings: Vec<Finding>,
    /// What is in no file.
    pub lost: Vec<Lost>,
    /// The sum.
    pub summary: Summary,
}

/// Reads the whole disk.
///
/// # Errors
/// As [`Directory::open`].
///
/// # Panics
/// If a byte of the disk is changed by it.
pub fn inspect(disk: &SimDisk) -> Result<Inspection, InspectError> {
    // Faults are planned for the broker, not for whoever looks on.
    let mut copy = disk.clone();
    *copy.plan() = FaultPlan::default();
    let (mut findings, mut lost) = (Vec::new(), Vec::new());
    let mut directory = Directory::open(&mut copy)?;
    let summary = verify(&mut directory, &mut |event| match event {
        Event::File(finding) => findings.push(finding.clone()),
        Event::Lost(missing) => lost.push(missing.clone()),
    })?;
    assert!(copy.files().eq(disk.files()), "looking changes nothing");
    assert_eq!(copy.mutations(), disk.mutations(), "nothing is written");
    Ok(Inspection { findings, lost, summary })
}

/// What every frame's checksum on this disk begins with.
///
/// # Panics
/// If the superblock is not whole.
pub fn frame_key(disk: &SimDisk) -> FrameKey {
    let superblock = disk.files().find(|(path, _)| **path == FilePath::Superblock);
    match Superblock::read(superblock.expect("every data directory has one").1) {
        Found::Whole(superblock) => FrameKey(superblock.frame_key.get()),
        other => panic!("the superblock is {other:?}"),
    }
}

/// Looks at the whole frames of the files that are wanted: at file, position and frame.
pub fn whole_frames<T>(
    disk: &SimDisk,
    is_wanted: impl Fn(&FilePath) -> bool,
    look: impl Fn(&FilePath, usize, &FrameView<'_>) -> T,
) -> Vec<T> {
    let mut found = Vec::new();
    let key = frame_key(disk);
    for (path, bytes) in disk.files().filter(|(path, _)| is_wanted(path)) {
        let mut position = 0;
        while position < bytes.len() {
            let Ok(view) = FrameView::read(&bytes[position..], key) else {
                position += BLOCK_BYTES;
                continue;
            };
            found.push(look(path, position, &view));
            position += view.frame_bytes();
        }
    }
    found
}

/// Header, table and data of a frame, in bytes: what its checksums cover.
pub fn used_bytes(view: &FrameView<'_>) -> usize {
    let data: usize = view.parts().map(|(_, data)| data.len()).sum();
    HEADER_BYTES + ENTRY_BYTES * view.entries.len() + data
}
