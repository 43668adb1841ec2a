//! A small file system of its own, on a loop device over an image. Needs root.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use tempfile::TempDir;

use crate::program::PATIENCE;

/// A file system that can be made here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// ext4.
    Ext4,
    /// xfs, which is never smaller than 300 MiB.
    Xfs,
}

impl FileSystem {
    /// All of them.
    pub const ALL: [FileSystem; 2] = [FileSystem::Ext4, FileSystem::Xfs];

    /// Its name, as `mount` has it.
    pub const fn name(self) -> &'static str {
        match self {
            FileSystem::Ext4 => "ext4",
            FileSystem::Xfs => "xfs",
        }
    }

    /// How large its image is, in bytes.
    pub const fn bytes(self) -> u64 {
        match self {
            FileSystem::Ext4 => 96 << 20,
            FileSystem::Xfs => 300 << 20,
        }
    }
}

/// A mounted file system. Dropping it unmounts it and removes its image.
#[derive(Debug)]
pub struct Mounted {
    /// Holds the folder it is mounted on, and perhaps its image.
    place: TempDir,
}

impl Mounted {
    /// Makes and mounts one.
    ///
    /// # Panics
    /// If that does not work: the message shows what the tool said.
    pub fn new(kind: FileSystem) -> Mounted {
        Mounted::sized(kind, kind.bytes())
    }

    /// The same on an image of this many bytes.
    ///
    /// # Panics
    /// As [`Mounted::new`].
    pub fn sized(kind: FileSystem, bytes: u64) -> Mounted {
        let place = tempfile::tempdir().expect("a folder");
        let image = place.path().join("image");
        make_image(kind, &image, bytes);
        Mounted::within(place, kind, &image)
    }

    /// Mounts the one in an image.
    ///
    /// # Panics
    /// As [`Mounted::new`].
    pub fn of_image(kind: FileSystem, image: &Path) -> Mounted {
        Mounted::within(tempfile::tempdir().expect("a folder"), kind, image)
    }

    fn within(place: TempDir, kind: FileSystem, image: &Path) -> Mounted {
        let root = place.path().join("mounted");
        std::fs::create_dir(&root).expect("a mount point");
        let mount = ["-o", "loop", "-t", kind.name()];
        tool(Command::new("mount").args(mount).arg(image).arg(&root));
        Mounted { place }
    }

    /// Where it is mounted.
    pub fn root(&self) -> PathBuf {
        self.place.path().join("mounted")
    }

    /// The name of the device that it is on.
    ///
    /// # Panics
    /// If that cannot be told.
    pub fn device(&self) -> String {
        let told = Command::new("findmnt").args(["-no", "SOURCE"]).arg(self.root()).output();
        let told = String::from_utf8(told.expect("findmnt runs").stdout).expect("a path");
        told.trim().rsplit('/').next().expect("rsplit gives something").to_owned()
    }

    /// A folder on it for a broker.
    pub fn data(&self) -> PathBuf {
        self.root().join("data")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // The loop device goes with the last user of it. The kernel holds the files of a killed
        // process a little longer than the process.
        let end = Instant::now() + PATIENCE;
        loop {
            let unmounted = Command::new("umount").arg(self.root()).output();
            match unmounted {
                Ok(output) if output.status.success() => return,
                told if Instant::now() > end => {
                    eprintln!("unmount {} by hand: {told:?}", self.root().display());
                    return;
                }
                _ => rustix::thread::sched_yield(),
            }
        }
    }
}

/// Makes a file system in a new, sparse file of this many bytes.
///
/// # Panics
/// If that does not work.
pub fn make_image(kind: FileSystem, image: &Path, bytes: u64) {
    File::create(image).and_then(|file| file.set_len(bytes)).expect("a sparse file");
    make(kind, image);
}

/// Makes a file system in a file.
///
/// # Panics
/// If that does not work.
pub fn make(kind: FileSystem, image: &Path) {
    let quiet = if kind == FileSystem::Ext4 { "-qF" } else { "-qf" };
    tool(Command::new(format!("mkfs.{}", kind.name())).arg(quiet).arg(image));
}

/// Runs a tool that must succeed.
#[track_caller]
pub fn tool(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {told}");
}

/// Whether file systems can be mounted here.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Free bytes of the file system that a folder is on.
pub fn free_bytes(folder: &Path) -> u64 {
    let stat = rustix::fs::statvfs(folder).expect("it is mounted");
    stat.f_bavail * stat.f_frsize
}
