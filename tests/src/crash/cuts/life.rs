//! The life that is recorded: a broker under load, killed once and stopped once in between.

use std::time::{Duration, Instant};

use broker::io::sim::Rng;
use client::{Delivery, Outcome, Producer, Record};
use wire::Acks;

use super::recorder::{Event, Recorder, SharedRecord, locked};
use super::{FLAGS, Load};
use crate::broker::Broker;
use crate::crash::load::connect;
use crate::crash::reading::bytes_of;
use crate::crash::volume::{FileSystem, Mounted, make};
use crate::crash::{PARTITIONS, create_topic, start, stop};

/// Records of each of the broker's processes.
const RECORDS: u64 = 2_000;
/// Records that a producer is given together, at most.
const TOGETHER_MAX: u64 = 40;
/// Between two of them the broker is left alone for so long, at times: what it does then is
/// recorded as well.
const PAUSE_MS_MAX: u64 = 120;
/// How long the topic leaves what nobody waits for unflushed.
const FLUSH_MS: [u64; 3] = [0, 50, 1000];

/// A record that a producer was told of. Times are numbers of events that had been recorded.
#[derive(Debug)]
pub struct Acked {
    /// When that was known.
    pub at: usize,
    /// Since when no power cut may take it away, if that was so before the life ended.
    pub durable_at: Option<usize>,
    /// Where it is.
    pub partition: usize,
    /// Where it is.
    pub offset: usize,
}

impl Acked {
    /// Whether it must be there if the power goes at this moment.
    pub fn must_last(&self, moment: usize) -> bool {
        self.durable_at.is_some_and(|at| at <= moment)
    }
}

/// What was recorded.
#[derive(Debug)]
pub struct Life {
    /// Everything that was done to the disk.
    pub events: Vec<Event>,
    /// How large that is.
    pub bytes: usize,
    /// In the order in which it was known, of each producer.
    pub acked: Vec<Acked>,
    /// By partition: the number of the record at each offset.
    pub log: Vec<Vec<u64>>,
    /// Where the broker's life begins: the topic is there.
    begun: usize,
}

impl Life {
    /// Writes and flushes.
    pub fn counts(&self) -> (usize, usize) {
        let flushes = self.events.iter().filter(|event| **event == Event::Flush).count();
        (self.events.len() - flushes, flushes)
    }

    /// Some moment of it: every other one in front of a flush, where most is in doubt.
    pub fn moment(&self, rng: &mut Rng) -> usize {
        let moment = self.begun + rng.index(self.events.len() - self.begun + 1);
        if rng.one_in(2) {
            return moment;
        }
        let is_flush = |event: &Event| *event == Event::Flush;
        self.events[moment..].iter().position(is_flush).map_or(moment, |ahead| moment + ahead)
    }
}

fn partition_of(number: u64) -> u32 {
    u32::try_from(number % u64::from(PARTITIONS)).expect("few")
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("fits")
}

/// Lives it.
///
/// # Errors
/// A sentence, where there is no FUSE.
///
/// # Panics
/// If the broker gives no offset, or the same to two records, or any out of a producer's order.
pub fn live(kind: FileSystem, load: Load, rng: &mut Rng) -> Result<Life, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("no folder: {error}"))?;
    let bytes = usize::try_from(kind.bytes()).expect("some 300 MiB");
    let recorder = Recorder::mount(folder.path(), bytes)
        .map_err(|error| format!("no FUSE file system can be mounted here: {error}"))?;
    let disk = folder.path().join(super::recorder::DISK);
    make(kind, &disk);
    let mounted = Mounted::of_image(kind, &disk);
    let record = recorder.record();
    let flush = format!("{}ms", FLUSH_MS[rng.index(FLUSH_MS.len())]);
    let mut work =
        Work { record: &record, rng, load, acked: Vec::new(), sent: 0, log: empty_log() };
    let broker = start(&mounted.data(), &FLAGS);
    create_topic(&broker, &["--flush", &flush]);
    let begun = work.events();
    work.produce(&broker);
    broker.kill();
    // What was written survives the process, and who comes next shows it to consumers.
    let broker = start(&mounted.data(), &FLAGS);
    work.all_is_durable();
    work.produce(&broker);
    stop(broker);
    work.all_is_durable();
    let broker = start(&mounted.data(), &FLAGS);
    work.produce(&broker);
    let Work { acked, log, .. } = work;
    let events = std::mem::take(&mut locked(&record).events);
    broker.kill();
    let log = log.into_iter().map(|partition| {
        partition.into_iter().map(|number| number.expect("offsets are dense")).collect()
    });
    Ok(Life { events, bytes, acked, log: log.collect(), begun })
}

fn empty_log<T>() -> Vec<Vec<T>> {
    (0..PARTITIONS).map(|_| Vec::new()).collect()
}

/// A producer, and the numbers that it was given, by partition.
struct Hand {
    acks: Acks,
    /// It is given records in one of so many rounds.
    busy_one_in: u64,
    /// And is waited for in one of so many.
    awaited_one_in: u64,
    producer: Producer,
    pending: Vec<Vec<u64>>,
    /// By partition: the offset behind the last that it was told.
    end: Vec<usize>,
}

impl Load {
    /// Its producers. Those who are content with what is written run ahead of the disk.
    fn hands(self, broker: &Broker) -> Vec<Hand> {
        let hand = |acks, busy_one_in, awaited_one_in| Hand {
            acks,
            busy_one_in,
            awaited_one_in,
            producer: connect(broker.address(), acks),
            pending: empty_log(),
            end: vec![0; empty_log::<u64>().len()],
        };
        match self {
            Load::Durable => vec![hand(Acks::Durable, 1, 1)],
            Load::Written => vec![hand(Acks::Written, 1, 4)],
            Load::Mixed => vec![hand(Acks::Written, 1, 4), hand(Acks::Durable, 4, 2)],
        }
    }
}

struct Work<'a> {
    record: &'a SharedRecord,
    rng: &'a mut Rng,
    load: Load,
    acked: Vec<Acked>,
    sent: u64,
    log: Vec<Vec<Option<u64>>>,
}

impl Work<'_> {
    fn events(&self) -> usize {
        locked(self.record).events.len()
    }

    /// From now on no power cut may take anything away.
    fn all_is_durable(&mut self) {
        let now = self.events();
        for acked in &mut self.acked {
            acked.durable_at.get_or_insert(now);
        }
    }

    /// Gives each producer some records together, again and again.
    fn produce(&mut self, broker: &Broker) {
        let mut hands = self.load.hands(broker);
        let end = self.sent + RECORDS;
        while self.sent < end {
            for hand in &mut hands {
                if self.rng.one_in(hand.busy_one_in) {
                    self.send(hand);
                }
            }
            for hand in &mut hands {
                if self.rng.one_in(hand.awaited_one_in) {
                    hand.producer.flush().expect("it answers");
                }
                self.take(hand);
            }
            if self.rng.one_in(16) {
                self.pause(&mut hands);
            }
        }
        for hand in &mut hands {
            hand.producer.flush().expect("it answers");
            self.take(hand);
        }
    }

    fn send(&mut self, hand: &mut Hand) {
        for _ in 0..self.rng.between(1, TOGETHER_MAX) {
            let (number, partition) = (self.sent, partition_of(self.sent));
            let value = bytes_of(number);
            let record = Record { partition: Some(partition), ..Record::value(&value) };
            let sent = hand.producer.send(&record).expect("it takes it");
            let pending = &mut hand.pending[index(partition.into())];
            assert_eq!(index(sent.index), pending.len(), "indexes are dense");
            pending.push(number);
            self.sent += 1;
        }
    }

    /// Leaves the broker alone.
    fn pause(&mut self, hands: &mut [Hand]) {
        let end = Instant::now() + Duration::from_millis(self.rng.below(PAUSE_MS_MAX));
        while Instant::now() < end {
            hands.iter_mut().for_each(|hand| self.take(hand));
            rustix::thread::sched_yield();
        }
    }

    /// Notes what a producer was told.
    fn take(&mut self, hand: &mut Hand) {
        hand.producer.poll().expect("it is still there");
        let at = self.events();
        while let Some(delivery) = hand.producer.next_delivery() {
            self.delivered(hand, &delivery, at);
        }
    }

    fn delivered(&mut self, hand: &mut Hand, delivery: &Delivery, at: usize) {
        let Outcome::Acked { base_offset } = delivery.outcome else {
            panic!("nothing is wrong with the disk: {delivery:?}");
        };
        let partition = index(delivery.partition.into());
        let durable_at = (hand.acks == Acks::Durable).then_some(at);
        assert!(hand.end[partition] <= index(base_offset), "in the producer's order: {delivery:?}");
        for step in 0..delivery.record_count {
            let number = hand.pending[partition][index(delivery.first_index + step)];
            let offset = index(base_offset + step);
            let log = &mut self.log[partition];
            log.resize(log.len().max(offset + 1), None);
            assert_eq!(log[offset].replace(number), None, "no offset is given twice: {delivery:?}");
            self.acked.push(Acked { at, durable_at, partition, offset });
            hand.end[partition] = offset + 1;
        }
    }
}
