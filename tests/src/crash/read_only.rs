//! A file system that turns read-only under a broker: everything is still served.

use std::path::Path;
use std::process::Command;

use client::Outcome;
use wire::Acks;

use super::load::connect;
use super::reading::{bytes_of, read_all};
use super::volume::{FileSystem, Mounted, is_root, tool};
use super::{PARTITIONS, TOPIC, create_topic, start, stop};
use crate::broker::Broker;

/// The file system is small; what is read comes from the disk.
const FLAGS: [&str; 2] = ["--free-bytes-min=12MiB", "--fetch-path=direct"];
/// Some ten segments.
const RECORDS: u64 = 6_000;

/// What happened.
#[derive(Debug)]
pub struct Served {
    /// Records that were read.
    pub records: usize,
    /// Segments that they were in.
    pub segments: usize,
    /// What a broker says that is to start there.
    pub refusal: String,
}

/// Produces, lets an ext4 turn read-only, and reads.
///
/// # Errors
/// A sentence, where none can be mounted.
///
/// # Panics
/// If a record is missing, or one is acknowledged that cannot be written.
pub fn turn_read_only() -> Result<Served, String> {
    if !is_root() {
        return Err("mounting a file system on a loop device needs root".to_owned());
    }
    let mounted = Mounted::new(FileSystem::Ext4);
    let data = mounted.data();
    let broker = start(&data, &FLAGS);
    create_topic(&broker, &["--segment-bytes", "1MiB"]);
    produce(&broker);
    stop(broker);
    // Nothing is in memory, and most files are closed.
    let broker = start(&data, &FLAGS);
    let veiled = Veiled::new(&mounted, &data);
    let records = read(&broker);
    let (mut producer, value) = (connect(broker.address(), Acks::Durable), bytes_of(0));
    let sent = producer.send(&client::Record::value(&value));
    let told = sent.and_then(|_| producer.flush()).map(|_| producer.next_delivery());
    let is_acked = |outcome| matches!(outcome, Outcome::Acked { .. });
    let is_acked = told.is_ok_and(|told| told.is_some_and(|told| is_acked(told.outcome)));
    assert!(!is_acked, "nothing can be written");
    assert_eq!(read(&broker), records, "the broker knows it by now, and reading goes on");
    broker.kill();
    let refusal = match Broker::try_start(&data, &FLAGS) {
        Ok(_) => panic!("a broker starts on a read-only file system"),
        Err(ended) => ended.stderr,
    };
    drop(veiled);
    let segments = segments_below(&data);
    Ok(Served { records, segments, refusal })
}

fn produce(broker: &Broker) {
    let mut producer = connect(broker.address(), Acks::Durable);
    for number in 0..RECORDS {
        let partition = u32::try_from(number % u64::from(PARTITIONS)).expect("few");
        let value = bytes_of(number);
        let record = client::Record { partition: Some(partition), ..client::Record::value(&value) };
        producer.send(&record).expect("it takes it");
    }
    let totals = producer.flush().expect("it answers");
    assert_eq!(totals.acked, RECORDS, "nothing is wrong yet");
}

/// All records are there; gives how many.
fn read(broker: &Broker) -> usize {
    let found = read_all(broker.address(), TOPIC, usize::try_from(PARTITIONS).expect("few"));
    for found in &found {
        assert_eq!(found.failed, None, "everything is served");
    }
    let records = found.iter().map(|found| found.numbers.len()).sum();
    assert_eq!(u64::try_from(records), Ok(RECORDS));
    records
}

fn segments_below(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).expect("it can be listed");
    entries
        .map(|entry| entry.expect("it can be listed").path())
        .map(|path| match path.is_dir() {
            true => segments_below(&path),
            false => usize::from(path.extension().is_some_and(|end| end == "seg")),
        })
        .sum()
}

/// A file system that has turned read-only. It was told that it is damaged, so that it takes no
/// more; newer kernels then still let files be opened for writing, so that names lead to a mount
/// of it that is read-only. What was open stays open. Dropping it takes that mount away.
struct Veiled<'a>(&'a Path);

impl Veiled<'_> {
    fn new<'a>(mounted: &Mounted, data: &'a Path) -> Veiled<'a> {
        tool(Command::new("mount").args(["-o", "remount,errors=remount-ro"]).arg(mounted.root()));
        tool(Command::new("mount").arg("--bind").args([data, data]));
        let veiled = Veiled(data);
        tool(Command::new("mount").args(["-o", "remount,bind,ro"]).arg(data));
        let device = mounted.device();
        let trigger = format!("/sys/fs/ext4/{device}/trigger_fs_error");
        std::fs::write(&trigger, "told to turn read-only").expect("ext4 has it");
        veiled
    }
}

impl Drop for Veiled<'_> {
    fn drop(&mut self) {
        // At once, though the kernel still holds files of a broker that was killed.
        tool(Command::new("umount").arg("-l").arg(self.0));
    }
}
