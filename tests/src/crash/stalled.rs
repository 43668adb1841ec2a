//! A device that stands still: nobody is killed by it, and who kills the broker does not get the
//! directory before what is under way has ended.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Instant;

use client::{Producer, Record};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::thread::sched_yield;
use wire::Acks;

use super::load::connect;
use super::reading::{bytes_of, read_all};
use super::volume::{FileSystem, Mounted, is_root, make_image, tool};
use super::{PARTITIONS, TOPIC, create_topic, start};
use crate::program::PATIENCE;

/// The file system is small.
const FLAGS: [&str; 1] = ["--free-bytes-min=12MiB"];
/// The device is an image on another file system; that one is stopped.
const OUTER_BYTES: u64 = 160 << 20;
/// How often it is looked at whether the directory can be had while writes are under way.
const LOOKS: u32 = 1000;

/// What happened.
#[derive(Debug)]
pub struct Stood {
    /// What the broker said of the device.
    pub told: String,
    /// Writes that were under way when the broker had been killed and was gone.
    pub left_under_way: u64,
    /// Records that were read at the end, and those of them that had been acknowledged.
    pub records: (usize, u64),
}

/// Stops a device below a broker until the broker says so; once more, and kills the broker.
///
/// # Errors
/// A sentence, where no file system can be mounted.
///
/// # Panics
/// If something acknowledged is lost, or the directory can be had too early.
pub fn stand_still() -> Result<Stood, String> {
    if !is_root() {
        return Err("mounting a file system on a loop device needs root".to_owned());
    }
    let outer = Mounted::sized(FileSystem::Ext4, OUTER_BYTES);
    let image = outer.root().join("image");
    make_image(FileSystem::Ext4, &image, FileSystem::Ext4.bytes());
    let inner = Mounted::of_image(FileSystem::Ext4, &image);
    let device = Device { writes: format!("/sys/block/{}/inflight", inner.device()) };
    let broker = start(&inner.data(), &FLAGS);
    create_topic(&broker, &[]);
    let mut producer = connect(broker.address(), Acks::Durable);
    send(&mut producer, 0);
    producer.flush().expect("nothing is wrong yet");

    let frozen = Frozen::new(&outer);
    send(&mut producer, 1);
    let told = thread::scope(|scope| {
        let flushed = scope.spawn(|| producer.flush().expect("it is only late"));
        let told = until(|| {
            broker.log().lines().find(|line| line.contains("the device has")).map(str::to_owned)
        });
        assert!(!flushed.is_finished(), "nothing is acknowledged that is not durable");
        drop(frozen);
        assert_eq!(flushed.join().expect("no panic").acked, 2);
        told
    });

    let frozen = Frozen::new(&outer);
    send(&mut producer, 2);
    let left = thread::scope(|scope| {
        // It has an end when the broker has.
        scope.spawn(|| producer.flush().is_err());
        until(|| (device.writes() > 0).then_some(()));
        broker.kill();
        device.writes()
    });
    let lock = File::open(inner.data().join("LOCK")).expect("it is there");
    for _ in 0..LOOKS {
        let taken = flock(&lock, FlockOperation::NonBlockingLockShared);
        assert_eq!(taken, Err(Errno::WOULDBLOCK), "{left} writes are under way");
        assert!(device.writes() > 0, "it stands still");
        sched_yield();
    }
    drop(lock);
    let broker = thread::scope(|scope| {
        let started = scope.spawn(|| start(&inner.data(), &FLAGS));
        drop(frozen);
        started.join().expect("it starts when the device goes on")
    });
    let found = read_all(broker.address(), TOPIC, usize::try_from(PARTITIONS).expect("few"));
    let mut numbers: Vec<u64> = found.iter().flat_map(|found| found.numbers.clone()).collect();
    numbers.sort_unstable();
    assert!(numbers == [0, 1] || numbers == [0, 1, 2], "{numbers:?}");
    broker.kill();
    Ok(Stood { told, left_under_way: left, records: (numbers.len(), 2) })
}

fn send(producer: &mut Producer, number: u64) {
    let value = bytes_of(number);
    producer.send(&Record { partition: Some(0), ..Record::value(&value) }).expect("it has room");
}

/// Looks until there is something.
fn until<T>(look: impl Fn() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < end, "it does not come");
        sched_yield();
    }
}

/// A block device, as the kernel counts what is under way there.
struct Device {
    writes: String,
}

impl Device {
    fn writes(&self) -> u64 {
        let counts = std::fs::read_to_string(&self.writes).expect("the kernel counts");
        let writes = counts.split_whitespace().nth(1);
        writes.and_then(|count| count.parse().ok()).expect("reads, then writes")
    }
}

/// A file system that lets no write through. Dropping it lets all through again.
struct Frozen(PathBuf);

impl Frozen {
    fn new(mounted: &Mounted) -> Frozen {
        tool(Command::new("fsfreeze").arg("--freeze").arg(mounted.root()));
        Frozen(mounted.root())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        tool(Command::new("fsfreeze").arg("--unfreeze").arg(&self.0));
    }
}
