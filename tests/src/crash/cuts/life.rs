//! The life that is recorded: a broker under load, killed once and stopped once in between.

use std::time::{Duration, Instant};

use broker::io::sim::Rng;
use client::{Delivery, Outcome, Record};

use super::FLAGS;
use super::recorder::{Event, Recorder, SharedRecord, locked};
use crate::broker::Broker;
use crate::crash::load::connect;
use crate::crash::reading::bytes_of;
use crate::crash::volume::{FileSystem, Mounted, make};
use crate::crash::{PARTITIONS, create_topic, start, stop};

/// Records of each of the broker's processes.
const RECORDS: u64 = 2_000;
/// Records that are waited for together, at most.
const TOGETHER_MAX: u64 = 40;
/// Between two of them the broker is left alone for so long, at times: what it does then is
/// recorded as well.
const PAUSE_MS_MAX: u64 = 120;

/// A record that a producer was told is durable.
#[derive(Debug)]
pub struct Acked {
    /// As many events were recorded when that was known.
    pub at: usize,
    /// Where it is.
    pub partition: u32,
    /// Where it is.
    pub offset: u64,
    /// Which it is.
    pub number: u64,
}

/// What was recorded.
#[derive(Debug)]
pub struct Life {
    /// Everything that was done to the disk.
    pub events: Vec<Event>,
    /// How large that is.
    pub bytes: usize,
    /// In the order in which it was known.
    pub acked: Vec<Acked>,
    /// Where the broker's life begins: the topic is there.
    begun: usize,
    sent: u64,
}

impl Life {
    /// Writes and flushes.
    pub fn counts(&self) -> (usize, usize) {
        let flushes = self.events.iter().filter(|event| **event == Event::Flush).count();
        (self.events.len() - flushes, flushes)
    }

    /// Some moment of it.
    pub fn moment(&self, rng: &mut Rng) -> usize {
        self.begun + rng.index(self.events.len() - self.begun + 1)
    }

    /// Whether this number was sent to this partition.
    pub fn is_of(&self, number: u64, partition: usize) -> bool {
        let partition = u32::try_from(partition).expect("few");
        number < self.sent && partition_of(number) == partition
    }
}

fn partition_of(number: u64) -> u32 {
    u32::try_from(number % u64::from(PARTITIONS)).expect("few")
}

/// Lives it.
///
/// # Errors
/// A sentence, where there is no FUSE.
pub fn live(kind: FileSystem, rng: &mut Rng) -> Result<Life, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("no folder: {error}"))?;
    let bytes = usize::try_from(kind.bytes()).expect("some 300 MiB");
    let recorder = Recorder::mount(folder.path(), bytes)
        .map_err(|error| format!("no FUSE file system can be mounted here: {error}"))?;
    let disk = folder.path().join(super::recorder::DISK);
    make(kind, &disk);
    let mounted = Mounted::of_image(kind, &disk);
    let record = recorder.record();
    let mut load = Load { record: &record, rng, acked: Vec::new(), sent: 0, pending: Vec::new() };
    let broker = start(&mounted.data(), &FLAGS);
    create_topic(&broker);
    let begun = load.events();
    load.produce(&broker);
    broker.kill();
    let broker = start(&mounted.data(), &FLAGS);
    load.produce(&broker);
    stop(broker);
    let broker = start(&mounted.data(), &FLAGS);
    load.produce(&broker);
    let Load { acked, sent, .. } = load;
    let events = std::mem::take(&mut locked(&record).events);
    broker.kill();
    Ok(Life { events, bytes, acked, begun, sent })
}

struct Load<'a> {
    record: &'a SharedRecord,
    rng: &'a mut Rng,
    acked: Vec<Acked>,
    sent: u64,
    /// By partition: numbers that the present producer was given.
    pending: Vec<Vec<u64>>,
}

impl Load<'_> {
    fn events(&self) -> usize {
        locked(self.record).events.len()
    }

    /// Sends some records together and waits for them, again and again.
    fn produce(&mut self, broker: &Broker) {
        let mut producer = connect(broker.address());
        self.pending = (0..PARTITIONS).map(|_| Vec::new()).collect();
        let end = self.sent + RECORDS;
        while self.sent < end {
            for _ in 0..self.rng.between(1, TOGETHER_MAX) {
                let (number, partition) = (self.sent, partition_of(self.sent));
                let value = bytes_of(number);
                let record = Record { partition: Some(partition), ..Record::value(&value) };
                let sent = producer.send(&record).expect("it takes it");
                let pending = &mut self.pending[usize::try_from(partition).expect("few")];
                assert_eq!(usize::try_from(sent.index), Ok(pending.len()), "indexes are dense");
                pending.push(number);
                self.sent += 1;
            }
            producer.flush().expect("it answers");
            let at = self.events();
            while let Some(delivery) = producer.next_delivery() {
                self.delivered(&delivery, at);
            }
            if self.rng.one_in(16) {
                self.pause(&mut producer);
            }
        }
    }

    /// Leaves the broker alone.
    fn pause(&mut self, producer: &mut client::Producer) {
        let end = Instant::now() + Duration::from_millis(self.rng.below(PAUSE_MS_MAX));
        while Instant::now() < end {
            producer.poll().expect("it is still there");
            rustix::thread::sched_yield();
        }
    }

    fn delivered(&mut self, delivery: &Delivery, at: usize) {
        let Outcome::Acked { base_offset } = delivery.outcome else {
            panic!("nothing is wrong with the disk: {delivery:?}");
        };
        let pending = &self.pending[usize::try_from(delivery.partition).expect("few")];
        for step in 0..delivery.record_count {
            let index = usize::try_from(delivery.first_index + step).expect("few");
            let (partition, offset) = (delivery.partition, base_offset + step);
            self.acked.push(Acked { at, partition, offset, number: pending[index] });
        }
    }
}
